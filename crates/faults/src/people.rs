//! The people and programs of an arena: owners of credentials, the Super Admin who manages them, programs
//! that have a secret, an API that asks about tokens. Secrets and tokens stay in memory.

use std::sync::{Mutex, PoisonError};

use anyhow::{Context, bail};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use reqwest::{Client, Method, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    history::Outcome,
    outside,
    wire::{Reply, Wrong, client, request, send},
};

const CREDENTIAL: &str = "/api/v1/users/me/credential";

/// A Client ID, or the id of a key, with its secret.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The id.
    pub id: String,
    /// The secret.
    pub secret: SecretString,
}

/// A token and the Client ID that it was issued to.
#[derive(Debug, Clone)]
pub struct Token {
    /// The Client ID.
    pub client_id: String,
    /// The token.
    pub text: SecretString,
}

/// Somebody with an account, and what their programs know.
#[derive(Debug)]
pub struct Person {
    /// The e-mail address.
    pub email: String,
    password: SecretString,
    client: Client,
    wrong: Wrong,
    state: Mutex<State>,
    signing_in: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    id: String,
    cookie: String,
    pairs: Vec<Pair>,
    tokens: Vec<Token>,
}

fn text(body: &Value, name: &str) -> Option<String> {
    body[name].as_str().map(str::to_owned)
}

/// A password nobody knows.
///
/// # Errors
/// When the machine gives no randomness.
pub fn password() -> anyhow::Result<SecretString> {
    Ok(format!("{:016x}-{:016x}", outside::random()?, outside::random()?).into())
}

/// The id of a token, which stands in it.
fn jti(token: &str) -> Option<Uuid> {
    let claims = BASE64URL.decode(token.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    claims["jti"].as_str()?.parse().ok()
}

impl Person {
    /// Somebody who is not signed in yet.
    ///
    /// # Errors
    /// When there is no HTTP client to be had.
    pub fn new(email: &str, password: SecretString, wrong: Wrong) -> anyhow::Result<Self> {
        let (state, signing_in) = (Mutex::default(), tokio::sync::Mutex::default());
        Ok(Self { email: email.to_owned(), password, client: client()?, wrong, state, signing_in })
    }

    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The user's id.
    #[must_use]
    pub fn id(&self) -> String {
        self.with(|s| s.id.clone())
    }

    /// The session's cookie, as a browser would send it.
    #[must_use]
    pub fn cookie(&self) -> String {
        self.with(|s| s.cookie.clone())
    }

    fn keep(&self, cookies: &[String]) {
        let mut session = cookies.iter().filter_map(|line| line.split(';').next());
        if let Some(cookie) = session.rfind(|pair| pair.starts_with("__Host-portcullis=")) {
            self.with(|s| cookie.clone_into(&mut s.cookie));
        }
    }

    /// Signs in with the password, and with a code if one is given: the answer's status, if there is one.
    pub async fn sign_in(&self, url: &str, code: Option<&str>) -> Option<StatusCode> {
        let _turn = self.signing_in.lock().await;
        let mut body = json!({ "email": self.email, "password": self.password.expose_secret() });
        if let Some(code) = code {
            body["code"] = code.into();
        }
        let reply = send(request(&self.client, Method::POST, url, "/api/v1/session").json(&body)).await;
        if let Reply::Answer { status: StatusCode::CREATED, cookies, .. } = &reply {
            self.keep(cookies);
            let id = text(&reply.json()["user"], "id").unwrap_or_default();
            self.with(|s| s.id = id);
        }
        reply.status()
    }

    async fn act(&self, url: &str, path: &str, done: impl FnOnce(&Value) -> Option<Outcome>) -> Outcome {
        let request = request(&self.client, Method::POST, url, path).header(header::COOKIE, self.cookie());
        send(request).await.outcome(done, &self.wrong)
    }

    /// Generates a credential, and remembers it.
    pub async fn generate(&self, url: &str) -> Outcome {
        let path = format!("{CREDENTIAL}/generate");
        self.act(url, &path, |body| {
            let (id, secret) = (text(body, "client_id")?, text(body, "client_secret")?.into());
            self.with(|s| s.pairs.push(Pair { id: id.clone(), secret }));
            Some(Outcome::Generated(id))
        })
        .await
    }

    /// Revokes the credential.
    pub async fn revoke(&self, url: &str) -> Outcome {
        let path = format!("{CREDENTIAL}/revoke");
        self.act(url, &path, |body| text(body, "client_id").map(Outcome::Revoked)).await
    }

    /// Looks at the tab.
    pub async fn look(&self, url: &str) -> Outcome {
        let request = request(&self.client, Method::GET, url, CREDENTIAL).header(header::COOKIE, self.cookie());
        let read = |body: &Value| Some(Outcome::Looked(Some((text(body, "client_id")?, text(body, "standing")?))));
        match send(request).await.outcome(read, &self.wrong) {
            Outcome::Refused(why) if why == "no_credential" => Outcome::Looked(None),
            other => other,
        }
    }

    /// Does one of the acts of a Super Admin to a user: `take-super-admin`, for example.
    pub async fn manage(&self, url: &str, user: &Self, act: &str) -> Outcome {
        self.act(url, &format!("/api/v1/users/{}/{act}", user.id()), |_| Some(Outcome::Done)).await
    }

    /// Turns MFA on with an authenticator app, as the page asks for it; `second` is the time (UTC, Unix)
    /// on the phone. The app's key comes back with what came of it.
    pub async fn mfa_on(&self, url: &str, second: i64) -> (Outcome, Option<Phone>) {
        const PATH: &str = "/account/mfa/app";
        let not_done = |why: &str| (Outcome::NotDone(why.to_owned()), None);
        let page = send(request(&self.client, Method::GET, url, PATH).header(header::COOKIE, self.cookie())).await;
        let Reply::Answer { status: StatusCode::OK, body, .. } = page else { return not_done("no page") };
        let key = between(&body, " id=\"key\"", "</").and_then(|rest| rest.split_once('>')).map(|(_, key)| key);
        let Some(phone) = key.and_then(Phone::scan) else { return not_done("a page without a key") };
        let agreed = between(&body, "name=\"agreed\" value=\"", "\"").unwrap_or_default();
        let form = [("code", &*phone.code_at(second)), ("agreed", agreed)];
        let request = request(&self.client, Method::POST, url, PATH).header(header::COOKIE, self.cookie());
        match send(request.header("sec-fetch-site", "same-origin").form(&form)).await {
            Reply::Answer { status: StatusCode::CREATED, cookies, .. } => {
                self.keep(&cookies);
                (Outcome::Done, Some(phone))
            }
            Reply::NotSent => not_done("not sent"),
            Reply::Lost(why) => (Outcome::Unanswered(why), None),
            // What a page says of a database that is gone is for people.
            Reply::Answer { status, .. } if status.is_server_error() => {
                (Outcome::Unanswered(status.to_string()), None)
            }
            Reply::Answer { .. } => (Outcome::Refused("refused".to_owned()), None),
        }
    }

    /// Asks for a token with a Client ID and its secret, and remembers it.
    pub async fn issue(&self, url: &str, pair: &Pair) -> Outcome {
        let asked = request(&self.client, Method::POST, url, "/oauth/token")
            .basic_auth(&pair.id, Some(pair.secret.expose_secret()))
            .form(&[("grant_type", "client_credentials")]);
        let reply = send(asked).await;
        let body = reply.json();
        match reply.status() {
            Some(StatusCode::OK) => {
                let token = body["access_token"].as_str().unwrap_or_default();
                let Some(id) = jti(token) else {
                    self.wrong.tell("a token without an id".to_owned());
                    return Outcome::NotDone("no token".to_owned());
                };
                let token = Token { client_id: pair.id.clone(), text: token.into() };
                self.with(|s| s.tokens.push(token));
                Outcome::Issued(id)
            }
            Some(StatusCode::UNAUTHORIZED) => {
                let said = body["error_description"].as_str().unwrap_or_default();
                let standing = ["suspended", "revoked", "expired"].into_iter().find(|word| said.contains(word));
                Outcome::Refused(standing.unwrap_or("unproven").to_owned())
            }
            _ => self.not_told(&reply),
        }
    }

    /// Asks, with the key of an API, whether a token is active.
    pub async fn introspect(&self, url: &str, key: &Pair, token: &Token) -> Outcome {
        let asked = request(&self.client, Method::POST, url, "/oauth/introspect")
            .basic_auth(&key.id, Some(key.secret.expose_secret()))
            .form(&[("token", token.text.expose_secret())]);
        let reply = send(asked).await;
        match (reply.status(), reply.json()["active"].as_bool()) {
            (Some(StatusCode::OK), Some(true)) => Outcome::Active,
            (Some(StatusCode::OK), Some(false)) => Outcome::Inactive,
            _ => self.not_told(&reply),
        }
    }

    /// What somebody is told who asked at an OAuth endpoint and got neither yes nor no.
    fn not_told(&self, reply: &Reply) -> Outcome {
        match reply {
            Reply::NotSent => Outcome::NotDone("not sent".to_owned()),
            Reply::Lost(why) => Outcome::Unanswered(why.clone()),
            Reply::Answer { status, retry_after, .. } => {
                let known = *status == StatusCode::SERVICE_UNAVAILABLE && *retry_after;
                if !known && *status != StatusCode::REQUEST_TIMEOUT {
                    self.wrong.tell(format!("{status} at an OAuth endpoint, which is no answer there (I6)"));
                }
                Outcome::NotDone(status.to_string())
            }
        }
    }

    /// Makes a key of the product's own API, as a Super Admin.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn make_key(&self, url: &str) -> anyhow::Result<Pair> {
        let path = format!("/api/v1/apis/{}/keys", Uuid::nil());
        let asked = request(&self.client, Method::POST, url, &path).header(header::COOKIE, self.cookie());
        let reply = send(asked.json(&json!({}))).await;
        if reply.status() != Some(StatusCode::CREATED) {
            bail!("no key for the API: {:?}", reply.status());
        }
        let body = reply.json();
        let id = text(&body, "id").context("a key without an id")?;
        Ok(Pair { id, secret: text(&body, "secret").context("a key without a secret")?.into() })
    }

    /// One of the credentials that were made for this owner: the latest mostly.
    pub fn a_pair(&self, rng: &mut fastrand::Rng) -> Option<Pair> {
        self.with(|s| pick(&s.pairs, rng))
    }

    /// One of the tokens that were issued to this owner's credentials: a late one mostly.
    pub fn a_token(&self, rng: &mut fastrand::Rng) -> Option<Token> {
        self.with(|s| pick(&s.tokens, rng))
    }

    /// Forgets every token, and every credential that is not among `there`: a database that lost them
    /// knows nothing of them either.
    pub fn forget(&self, there: impl Fn(&str) -> bool) {
        self.with(|s| {
            s.tokens.clear();
            s.pairs.retain(|pair| there(&pair.id));
        });
    }

    /// The tokens that were issued to one credential.
    #[must_use]
    pub fn tokens_of(&self, client_id: &str) -> Vec<Token> {
        self.with(|s| s.tokens.iter().filter(|t| t.client_id == client_id).cloned().collect())
    }

    /// The secret of a Client ID, if its owner was told it.
    #[must_use]
    pub fn pair_of(&self, client_id: &str) -> Option<Pair> {
        self.with(|s| s.pairs.iter().find(|p| p.id == client_id).cloned())
    }
}

fn pick<T: Clone>(from: &[T], rng: &mut fastrand::Rng) -> Option<T> {
    let late = from.len().saturating_sub(3);
    match from {
        [] => None,
        all if rng.u8(..8) == 0 => rng.choice(all).cloned(),
        all => rng.choice(&all[late..]).cloned(),
    }
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(after).map(|(found, _)| found)
}

/// A phone with an authenticator app (RFC 6238 over HMAC-SHA-1, 30 seconds, six digits).
#[derive(Debug, Clone)]
pub struct Phone(Vec<u8>);

impl Phone {
    /// Reads the key that a page shows: RFC 4648 base 32.
    fn scan(key: &str) -> Option<Self> {
        let (mut bits, mut held, mut bytes) = (0_u32, 0_u32, Vec::new());
        for digit in key.trim().chars().filter(|c| *c != ' ') {
            let value = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".find(digit)?;
            held = held << 5 | u32::try_from(value).ok()?;
            bits += 5;
            if bits >= 8 {
                bits -= 8;
                bytes.push(u8::try_from(held >> bits & 0xff).ok()?);
            }
        }
        (bytes.len() == 20).then_some(Self(bytes))
    }

    /// The code at a time (UTC, Unix seconds).
    #[must_use]
    pub fn code_at(&self, second: i64) -> String {
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &self.0);
        let mac = aws_lc_rs::hmac::sign(&key, &(second / 30).to_be_bytes());
        let mac = mac.as_ref();
        let at = usize::from(mac[19] & 0xf);
        let number = mac[at..at + 4].iter().fold(0_u32, |n, byte| n << 8 | u32::from(*byte)) & 0x7fff_ffff;
        format!("{:06}", number % 1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_phone_keeps_to_rfc_6238_appendix_b() {
        let phone = Phone::scan("GEZD GNBV GY3T QOJQ GEZD GNBV GY3T QOJQ").unwrap();
        for (second, code) in [(59, "287082"), (1_111_111_109, "081804"), (20_000_000_000, "353130")] {
            assert_eq!(phone.code_at(second), code);
        }
    }
}
