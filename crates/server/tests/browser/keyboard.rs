//! With the keyboard alone, as somebody does who has no pointer.

use thirtyfour::prelude::*;

use crate::{
    browser::Browser,
    support::{PASSWORD, World},
};
use portcullis_domain::accounts::Role;

/// Everything on the page that somebody can use, in the order of the page.
const CONTROLS: &str = "
    const dialog = document.querySelector('dialog:modal');
    window.__controls = [...(dialog ?? document).querySelectorAll(
        'a[href], button, input:not([type=hidden]), select, summary, [tabindex=\"0\"], pre')]
        .filter((e) => e.checkVisibility() && !e.disabled && !e.closest('[inert]'));
    return window.__controls.map((e) => e.id || e.textContent.trim());";

/// The number of the control that has the focus, and whether it shows.
const FOCUS: &str = "
    const e = document.activeElement, style = getComputedStyle(e), box = e.getBoundingClientRect();
    const shows = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2
        && box.width > 1 && box.bottom > 0 && box.top < innerHeight;
    return [window.__controls.indexOf(e), shows, [e.outerHTML.slice(0, 120), style.outline, e.matches(':focus'), box.top, box.bottom].join(' | ')];";

impl Browser {
    /// Walks through the page with Tab: every control is reached, in order, and shows that it has
    /// the focus.
    async fn walk(&self, name: &str) {
        self.js("document.activeElement.blur(); getSelection().removeAllRanges(); scrollTo(0, 0);").await;
        let controls = self.js(CONTROLS).await;
        let names: Vec<String> = serde_json::from_value(controls).unwrap();
        let mut reached = Vec::new();
        for _ in 0..names.len() * 3 + 8 {
            self.keys(Key::Tab).await;
            let found = self.js(FOCUS).await;
            let Some(number) = found[0].as_u64() else { continue };
            assert_eq!(found[1], true, "{name}: no focus to see at {}", found[2]);
            // A date has several places to stand.
            if reached.last() != Some(&number) {
                if reached.contains(&number) {
                    break;
                }
                reached.push(number);
            }
        }
        let mut sorted = reached.clone();
        sorted.sort_unstable();
        let missed: Vec<_> =
            (0..names.len()).filter(|n| !reached.contains(&(*n as u64))).map(|n| &names[n]).collect();
        assert!(missed.is_empty(), "{name}: not reached {missed:?} of {names:?}");
        // Focus may begin anywhere in the circle.
        let start = reached.iter().position(|n| *n == 0).unwrap();
        reached.rotate_left(start);
        assert_eq!(reached, sorted, "{name}: in the order of the page");
    }

    /// Goes with Tab until this has the focus.
    async fn tab_to(&self, words: &str) {
        let mut seen = Vec::new();
        while seen.len() < 60 {
            self.keys(Key::Tab).await;
            let now = self.focused().await;
            if now == words {
                return;
            }
            seen.push(now);
        }
        panic!("{words:?} is not reached: {seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_can_be_done_without_a_pointer() {
    let world = World::sqlite(&[("organization", "Acme Logistics")]).await;
    world.user("maria@acme.example", Role::SuperAdmin).await;
    let browser = Browser::open(&world.url).await;
    browser.go("/sign-in").await;
    assert_eq!(browser.focused().await, "email", "ready to type");
    browser.keys("maria@acme.example").await;
    browser.keys(Key::Tab).await;
    browser.keys(PASSWORD).await;
    browser.keys(Key::Enter).await;
    browser.at("/account/credentials").await;

    browser.walk("empty").await;
    browser.tab_to("Generate Credentials").await;
    browser.keys(Key::Space).await;
    browser.says("Copy the Client Secret now.").await;
    browser.walk("shown").await;
    browser.tab_to("Copy Client Secret").await;
    browser.look("keyboard-focus").await;
    browser.keys(Key::Space).await;
    browser.says("Copied").await;
    browser.tab_to("I have stored it").await;
    browser.keys(Key::Enter).await;
    browser.says("Shown once, when it was generated").await;
    browser.walk("active").await;

    browser.tab_to("Revoke Credentials").await;
    browser.keys(Key::Enter).await;
    browser.walk("the confirmation").await;
    browser.tab_to("Remove").await;
    browser.keys(Key::Space).await;
    browser.says("Credentials revoked.").await;

    settings(&browser).await;
    search_and_sign_out(&browser).await;
    browser.close().await;
}

async fn settings(browser: &Browser) {
    // Past the navigation, in one step.
    browser.go("/account").await;
    browser.keys(Key::Tab).await;
    assert_eq!(browser.focused().await, "Skip to the content");
    browser.is_quiet("skip").await;
    browser.keys(Key::Enter).await;
    browser.keys(Key::Tab).await;
    assert_eq!(browser.focused().await, "General Settings");
    browser.walk("account").await;
    browser.tab_to("language").await;
    browser.keys("English (United States)").await;
    browser.tab_to("Save profile").await;
    browser.keys(Key::Enter).await;
    browser.says("Your profile has been saved.").await;
}

async fn search_and_sign_out(browser: &Browser) {
    for page in ["/", "/help", "/audit", "/nothing/here"] {
        browser.go(page).await;
        browser.walk(page).await;
    }
    browser.go("/audit").await;
    browser.tab_to("outcome").await;
    browser.keys("Refused").await;
    browser.tab_to("Search").await;
    browser.keys(Key::Enter).await;
    browser.says("No record matches.").await;

    browser.tab_to("MR Your account").await;
    browser.keys(Key::Space).await;
    browser.tab_to("Sign out").await;
    browser.keys(Key::Enter).await;
    browser.says("You have signed out.").await;
    browser.walk("sign-in").await;
}
