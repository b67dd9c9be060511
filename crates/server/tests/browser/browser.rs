//! A browser with a profile of its own, and what a person does with it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use reqwest::Method;
use serde_json::{Value, json};
use thirtyfour::{
    common::command::{Command, ExtensionCommand},
    prelude::*,
};

/// How long anything may take to appear.
const WAIT: Duration = Duration::from_secs(15);

/// Runs before the scripts of each page: remembers what a page must not do.
const WATCH: &str = "
    window.__wrong = [];
    addEventListener('securitypolicyviolation', (e) =>
        window.__wrong.push(`${e.violatedDirective} ${e.blockedURI} ${e.sample}`));
    for (const f of ['alert', 'confirm', 'prompt']) window[f] = () => { window.__wrong.push(f); };";

pub struct Browser {
    driver: WebDriver,
    pub url: String,
    pub scripted: bool,
    folder: tempfile::TempDir,
}

#[derive(Debug)]
struct Cdp(Value);

impl ExtensionCommand for Cdp {
    fn parameters_json(&self) -> Option<Value> {
        Some(self.0.clone())
    }
    fn method(&self) -> Method {
        Method::POST
    }
    fn endpoint(&self) -> Arc<str> {
        "/goog/cdp/execute".into()
    }
}

pub fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run ./dev/test"))
}

impl Browser {
    /// A browser at a server, with an empty profile.
    pub async fn open(url: &str) -> Self {
        Self::start(url, true).await
    }

    /// The same with JavaScript turned off.
    pub async fn open_without_script(url: &str) -> Self {
        Self::start(url, false).await
    }

    async fn start(url: &str, scripted: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut caps = DesiredCapabilities::chrome();
        for flag in [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--lang=en-US",
            "--window-size=1180,900",
        ] {
            caps.add_arg(flag).unwrap();
        }
        caps.add_arg(&format!("--user-data-dir={}", folder.path().join("profile").display())).unwrap();
        let preferences = json!({
            "download.default_directory": folder.path(),
            "download.prompt_for_download": false,
            "profile.managed_default_content_settings.javascript": if scripted { 1 } else { 2 },
        });
        caps.add_experimental_option("prefs", preferences).unwrap();
        caps.set("goog:loggingPrefs", json!({ "browser": "ALL" })).unwrap();
        let driver = WebDriver::new(variable("PORTCULLIS_TEST_CHROMEDRIVER"), caps).await.unwrap();
        let browser = Self { driver, url: url.to_owned(), scripted, folder };
        browser.prepare_tab().await;
        browser
    }

    async fn prepare_tab(&self) {
        self.cdp("Page.enable", json!({})).await;
        self.cdp("Page.addScriptToEvaluateOnNewDocument", json!({ "source": WATCH })).await;
        self.size(1180).await;
    }

    /// Ends the browser. A test that fails leaves that to `Drop`.
    pub async fn close(self) {
        self.driver.quit().await.unwrap();
    }

    /// Where downloads arrive.
    pub fn downloads(&self) -> &Path {
        self.folder.path()
    }

    pub async fn cdp(&self, command: &str, params: Value) -> Value {
        let call = Cdp(json!({ "cmd": command, "params": params }));
        let answer = self.driver.cmd(Command::ExtensionCommand(Box::new(call))).await;
        answer.unwrap_or_else(|e| panic!("{command}: {e}")).value().unwrap()
    }

    /// As wide as this.
    pub async fn size(&self, width: u32) {
        let metrics = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.cdp("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// What a script in the page returns.
    pub async fn js(&self, script: &str) -> Value {
        let done = self.driver.execute(script, Vec::new()).await;
        done.unwrap_or_else(|e| panic!("{script:.200}: {e}")).json().clone()
    }

    /// Waits until a script in the page returns true.
    pub async fn until_js(&self, script: &str) {
        self.until(&format!("never true: {script}"), async || (self.js(script).await == true).then_some(())).await;
    }

    pub async fn log(&self) -> Vec<String> {
        let entries = self.driver.browser_log().await.unwrap();
        entries.into_iter().map(|e| format!("{} {:?} {}", e.level, e.source, e.message)).collect()
    }

    /// Opens a page of the server.
    pub async fn go(&self, path: &str) {
        self.driver.goto(format!("{}{path}", self.url)).await.unwrap();
    }

    pub async fn reload(&self) {
        self.driver.refresh().await.unwrap();
    }

    pub async fn back(&self) {
        self.driver.back().await.unwrap();
    }

    pub async fn forward(&self) {
        self.driver.forward().await.unwrap();
    }

    /// The address, without the server.
    pub async fn place(&self) -> String {
        let url = self.driver.current_url().await.unwrap();
        url.as_str().strip_prefix(&self.url).unwrap_or(url.as_str()).to_owned()
    }

    /// Waits until something is so.
    async fn until<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        let end = tokio::time::Instant::now() + WAIT;
        loop {
            if let Some(found) = look().await {
                return found;
            }
            if tokio::time::Instant::now() > end {
                let text = self.text().await;
                panic!("{what}, at {}, which says:\n{text}", self.place().await);
            }
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
    }

    /// Waits for a page.
    pub async fn at(&self, path: &str) {
        self.until(&format!("not at {path}"), async || (self.place().await == path).then_some(())).await;
    }

    /// All visible text.
    pub async fn text(&self) -> String {
        let Ok(body) = self.driver.find(By::Tag("body")).await else { return String::new() };
        body.text().await.unwrap_or_default()
    }

    /// Waits for these words.
    pub async fn says(&self, words: &str) {
        self.until(&format!("nothing says {words:?}"), async || self.text().await.contains(words).then_some(()))
            .await;
    }

    /// The one element, when it is there.
    pub async fn find(&self, css: &str) -> WebElement {
        self.until(&format!("no {css}"), async || self.driver.find(By::Css(css)).await.ok()).await
    }

    pub async fn count(&self, css: &str) -> usize {
        self.driver.find_all(By::Css(css)).await.unwrap().len()
    }

    pub async fn shows(&self, css: &str) -> bool {
        match self.driver.find(By::Css(css)).await {
            Ok(element) => element.is_displayed().await.unwrap(),
            Err(_) => false,
        }
    }

    pub async fn text_of(&self, css: &str) -> String {
        self.find(css).await.text().await.unwrap()
    }

    pub async fn value_of(&self, css: &str) -> String {
        self.find(css).await.prop("value").await.unwrap().unwrap_or_default()
    }

    pub async fn click(&self, css: &str) {
        self.find(css).await.click().await.unwrap();
    }

    pub async fn double_click(&self, css: &str) {
        let element = self.find(css).await;
        self.driver.action_chain().double_click_element(&element).perform().await.unwrap();
    }

    /// Clicks the link or button with these words.
    pub async fn press(&self, words: &str) {
        let path = format!(
            "//*[self::a or self::button or self::summary][normalize-space() = {words:?} and not(@hidden)]"
        );
        let find = async || self.driver.find(By::XPath(path.clone())).await.ok();
        self.until(&format!("no button {words:?}"), find).await.click().await.unwrap();
    }

    /// Types into a field in place of what it held.
    pub async fn type_in(&self, css: &str, text: &str) {
        let field = self.find(css).await;
        field.clear().await.unwrap();
        field.send_keys(text).await.unwrap();
    }

    pub async fn keys(&self, keys: impl Into<TypingData>) {
        self.driver.action_chain().send_keys(keys).perform().await.unwrap();
    }

    /// What has the focus: its id, or else its words.
    pub async fn focused(&self) -> String {
        let script = "const e = document.activeElement; return e.id || e.innerText.replace(/\\s+/g, ' ').trim() || e.tagName;";
        self.js(script).await.as_str().unwrap().to_owned()
    }

    /// Fills in the sign-in form and sends it.
    pub async fn sign_in(&self, email: &str, password: &str) {
        self.go("/sign-in").await;
        self.type_in("#email", email).await;
        self.type_in("#password", password).await;
        self.press("Sign in").await;
    }

    /// Puts a session into the browser.
    pub async fn give_cookie(&self, pair: &str) {
        let (name, value) = pair.split_once('=').unwrap();
        let cookie = json!({
            "name": name, "value": value, "url": self.url, "path": "/", "secure": true, "httpOnly": true,
            "sameSite": "Lax",
        });
        self.cdp("Network.setCookie", cookie).await;
    }

    /// Opens another tab and goes there; returns the one before.
    pub async fn new_tab(&self) -> WindowHandle {
        let before = self.driver.window().await.unwrap();
        let tab = self.driver.new_tab().await.unwrap();
        self.switch(&tab).await;
        self.prepare_tab().await;
        before
    }

    pub async fn switch(&self, tab: &WindowHandle) {
        self.driver.switch_to_window(tab.clone()).await.unwrap();
    }

    /// A file that was downloaded, when it is there.
    pub async fn downloaded(&self, name: &str) -> String {
        let path: PathBuf = self.downloads().join(name);
        self.until(&format!("no {name}"), async || std::fs::read_to_string(&path).ok().filter(|t| !t.is_empty()))
            .await
    }
}
