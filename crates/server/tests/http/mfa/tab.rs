//! A browser's tab: it keeps cookies as a browser does, and reads what pages offer.

use std::collections::BTreeMap;

use aws_lc_rs::hmac;
use jiff::SignedDuration;
use reqwest::{Client, Method, Response, StatusCode, header, redirect};

use crate::support::{PASSWORD, Person, World};

pub const SESSION: &str = "__Host-portcullis";
pub const STEP: &str = "__Host-portcullis-step";

pub struct Tab {
    client: Client,
    pub url: String,
    pub cookies: BTreeMap<String, String>,
}

/// What a page answered.
pub struct Page {
    pub status: StatusCode,
    pub to: String,
    pub stored: bool,
    pub text: String,
}

impl Page {
    /// What stands in an attribute, as the browser reads it.
    pub fn attribute(&self, name: &str) -> Option<String> {
        let (_, rest) = self.text.split_once(&format!("{name}=\""))?;
        let (value, _) = rest.split_once('"')?;
        Some(
            value
                .replace("&#34;", "\"")
                .replace("&#39;", "'")
                .replace("&#60;", "<")
                .replace("&#62;", ">")
                .replace("&#38;", "&"),
        )
    }

    /// What stands in the element with an id.
    pub fn element(&self, id: &str) -> Option<String> {
        let (_, rest) = self.text.split_once(&format!(" id=\"{id}\""))?;
        let (_, rest) = rest.split_once('>')?;
        rest.split_once("</").map(|(text, _)| text.trim().to_owned())
    }

    /// The recovery codes of a page that shows them.
    pub fn codes(&self) -> Vec<String> {
        self.element("codes").map(|t| t.lines().map(str::to_owned).collect()).unwrap_or_default()
    }

    pub fn says(&self, words: &str) -> bool {
        self.text.contains(words)
    }
}

impl Tab {
    pub fn new(world: &World) -> Self {
        let client = Client::builder().redirect(redirect::Policy::none()).user_agent("test/1").build().unwrap();
        Self { client, url: world.url.clone(), cookies: BTreeMap::new() }
    }

    pub fn of(world: &World, person: &Person) -> Self {
        let mut tab = Self::new(world);
        tab.keep(&person.cookie);
        tab
    }

    fn keep(&mut self, line: &str) {
        let (pair, attributes) = line.split_once(';').unwrap_or((line, ""));
        let (name, value) = pair.split_once('=').unwrap();
        if value.is_empty() || attributes.contains("Max-Age=0") {
            self.cookies.remove(name);
        } else {
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
    }

    /// The same cookies in another tab.
    pub fn copied(&self) -> Self {
        Self { client: self.client.clone(), url: self.url.clone(), cookies: self.cookies.clone() }
    }

    pub async fn send(&mut self, method: Method, path: &str, form: Option<&[(&str, &str)]>) -> Page {
        let cookies: Vec<String> = self.cookies.iter().map(|(n, v)| format!("{n}={v}")).collect();
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        request = request.header(header::COOKIE, cookies.join("; ")).header("sec-fetch-site", "same-origin");
        if let Some(form) = form {
            request = request.form(form);
        }
        let response: Response = request.send().await.unwrap();
        let lines: Vec<String> = response
            .headers()
            .get_all(header::SET_COOKIE)
            .iter()
            .map(|v| v.to_str().unwrap().to_owned())
            .collect();
        for line in &lines {
            self.keep(line);
        }
        let text_of = |name| response.headers().get(name).map_or("", |v| v.to_str().unwrap()).to_owned();
        let (to, cache) = (text_of(header::LOCATION), text_of(header::CACHE_CONTROL));
        let status = response.status();
        Page { status, to, stored: cache != "no-store", text: response.text().await.unwrap() }
    }

    pub async fn get(&mut self, path: &str) -> Page {
        self.send(Method::GET, path, None).await
    }

    pub async fn post(&mut self, path: &str, form: &[(&str, &str)]) -> Page {
        self.send(Method::POST, path, Some(form)).await
    }

    pub fn session(&self) -> Option<&String> {
        self.cookies.get(SESSION)
    }

    pub async fn is_signed_in(&mut self) -> bool {
        self.get("/").await.status == StatusCode::OK
    }

    /// Gives the password, which is all that is asked for or the first step of two.
    pub async fn password(&mut self, email: &str) -> Page {
        self.post("/sign-in", &[("email", email), ("password", PASSWORD)]).await
    }

    /// Gives a code at the second step.
    pub async fn code(&mut self, code: &str) -> Page {
        self.post("/sign-in/second-factor", &[("code", code)]).await
    }

    /// Sets an authenticator app up, which turns MFA on, and gives it with the recovery codes.
    pub async fn set_up_app(&mut self, world: &World) -> (Phone, Vec<String>) {
        let page = self.get("/account/mfa/app").await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.text);
        let phone = Phone::scan(&page.element("key").unwrap());
        let agreed = page.attribute("name=\"agreed\" value").unwrap_or_default();
        let done = self.post("/account/mfa/app", &[("code", &phone.code(world)), ("agreed", &agreed)]).await;
        assert_eq!(done.status, StatusCode::CREATED, "{}", done.text);
        let codes = done.codes();
        assert_eq!(codes.len(), 10);
        // The code that was just given counted.
        world.pass(SignedDuration::from_secs(30));
        (phone, codes)
    }
}

/// A phone with an authenticator app: RFC 6238 as it is written, over HMAC-SHA-1.
pub struct Phone {
    secret: Vec<u8>,
}

impl Phone {
    /// Reads the manual key: RFC 4648 base 32.
    pub fn scan(key: &str) -> Self {
        let mut bits = String::new();
        for c in key.chars().filter(|c| *c != ' ') {
            let value = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".find(c).unwrap();
            bits.push_str(&format!("{value:05b}"));
        }
        let secret: Vec<u8> =
            (0..bits.len() / 8).map(|n| u8::from_str_radix(&bits[8 * n..8 * n + 8], 2).unwrap()).collect();
        assert_eq!(secret.len(), 20, "160 bits");
        Self { secret }
    }

    /// The code of now.
    pub fn code(&self, world: &World) -> String {
        self.code_at(world.clock.now().as_second())
    }

    pub fn code_at(&self, second: i64) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &self.secret);
        let counter = u64::try_from(second / 30).unwrap();
        let mac = hmac::sign(&key, &counter.to_be_bytes());
        let mac = mac.as_ref();
        let at = usize::from(mac[19] & 0xf);
        let number = u32::from_be_bytes(mac[at..at + 4].try_into().unwrap()) & 0x7fff_ffff;
        format!("{:06}", number % 1_000_000)
    }

    /// A code that is wrong now.
    pub fn wrong(&self, world: &World) -> String {
        let now = world.clock.now().as_second();
        let near: Vec<String> = [-30, 0, 30].iter().map(|by| self.code_at(now + by)).collect();
        (0..).map(|n| format!("{n:06}")).find(|c| !near.contains(c)).unwrap()
    }
}

#[test]
fn the_phone_of_this_suite_keeps_to_rfc_6238_appendix_b() {
    let phone = Phone::scan("GEZD GNBV GY3T QOJQ GEZD GNBV GY3T QOJQ");
    for (second, code) in [(59, "287082"), (1_111_111_109, "081804"), (20_000_000_000, "353130")] {
        assert_eq!(phone.code_at(second), code);
    }
}
