//! How a page looks: pictures, axe-core, sideways scrolling, the browser's log.

use std::path::PathBuf;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::browser::{Browser, variable};

/// The widths that are photographed; the others are only checked.
const PICTURES: [u32; 3] = [320, 1180, 1920];
const WIDTHS: [u32; 8] = [320, 375, 461, 600, 760, 900, 1280, 1920];

impl Browser {
    /// Looks at the page in all ways.
    pub async fn look(&self, name: &str) {
        self.is_quiet(name).await;
        self.does_not_scroll_sideways(name).await;
        for scheme in ["light", "dark"] {
            let wanted = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
            self.cdp("Emulation.setEmulatedMedia", wanted).await;
            for width in PICTURES {
                self.size(width).await;
                self.photograph(&format!("{name}-{scheme}-{width}")).await;
                if self.scripted && (width == 1180 || (width == 320 && scheme == "light")) {
                    self.passes_axe(&format!("{name}, {scheme}, {width} px")).await;
                }
            }
        }
        let light = json!({ "features": [{ "name": "prefers-color-scheme", "value": "light" }] });
        self.cdp("Emulation.setEmulatedMedia", light).await;
        self.size(1180).await;
    }

    /// Nothing in the log of the browser, and nothing that the Content-Security-Policy stopped.
    pub async fn is_quiet(&self, name: &str) {
        // That a page came with 4xx is logged too, but is meant.
        let known = |line: &String| line.contains("the server responded with a status of 4");
        let log: Vec<String> = self.log().await.into_iter().filter(|l| !known(l)).collect();
        assert!(log.is_empty(), "{name}: {log:#?}");
        if self.scripted {
            let wrong = self.js("return window.__wrong ?? []").await;
            assert_eq!(wrong, json!([]), "{name}");
        }
    }

    async fn does_not_scroll_sideways(&self, name: &str) {
        for width in WIDTHS {
            self.size(width).await;
            let wide = self.js("return document.scrollingElement.scrollWidth").await;
            assert!(wide.as_u64().unwrap() <= u64::from(width), "{name} is {wide} px wide at {width} px");
        }
    }

    async fn photograph(&self, name: &str) {
        let height = self.js("return document.scrollingElement.scrollHeight").await.as_u64().unwrap().min(3000);
        let width = self.js("return innerWidth").await;
        let clip = json!({ "x": 0, "y": 0, "width": width, "height": height, "scale": 1 });
        let wanted = json!({ "format": "png", "captureBeyondViewport": height > 900, "clip": clip });
        let picture = self.cdp("Page.captureScreenshot", wanted).await;
        let bytes = BASE64_STANDARD.decode(picture["data"].as_str().unwrap()).unwrap();
        let folder = PathBuf::from(variable("PORTCULLIS_TEST_ARTIFACTS"));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{name}.png")), bytes).unwrap();
    }

    async fn passes_axe(&self, name: &str) {
        if self.js("return typeof axe").await == "undefined" {
            self.js(&std::fs::read_to_string(variable("PORTCULLIS_TEST_AXE")).unwrap()).await;
        }
        let found = self
            .js("return axe.run(document, { resultTypes: ['violations'] }).then((r) => r.passes.length > 7 && r.violations
                 .filter((v) => ['serious', 'critical'].includes(v.impact))
                 .map((v) => ({ rule: v.id, help: v.help, at: v.nodes.map((n) => n.html + ' ' + n.failureSummary) })))")
            .await;
        assert_eq!(found, Value::Array(Vec::new()), "{name}: {found:#}");
    }
}
