//! Somebody who speaks to the real program from outside, signed in with a password.

use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

use super::{cookie_of, process::Process};

pub const MARIA: &str = "maria@acme.example";
pub const PASSWORD: &str = "tide lantern walnut orbit";
/// Where the own credential is.
const CREDENTIAL: &str = "/api/v1/users/me/credential";

/// Somebody with a session.
#[derive(Clone)]
pub struct Person {
    pub client: Client,
    url: String,
    cookie: String,
}

/// The status and the JSON of an answer; `None` when there was none, or it broke off.
pub async fn answered(sent: reqwest::Result<Response>) -> Option<(StatusCode, Value)> {
    let response = sent.ok()?;
    let status = response.status();
    Some((status, response.json().await.ok()?))
}

impl Person {
    pub async fn sign_in(process: &Process, email: &str) -> Self {
        let client = Client::new();
        let body = json!({ "email": email, "password": PASSWORD });
        let sent = client.post(format!("{}/api/v1/session", process.url())).json(&body).send().await.unwrap();
        assert_eq!(sent.status(), StatusCode::CREATED);
        Self { url: process.url(), cookie: cookie_of(&sent).unwrap(), client }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url)).header("cookie", &self.cookie)
    }

    /// Generates or revokes the own credential.
    pub async fn act(&self, act: &str) -> reqwest::Result<Response> {
        self.request(Method::POST, &format!("{CREDENTIAL}/{act}")).send().await
    }

    /// A new credential: Client ID and Client Secret.
    pub async fn generate(&self) -> (String, String) {
        let (status, made) = answered(self.act("generate").await).await.unwrap();
        assert_eq!(status, StatusCode::CREATED, "{made}");
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        (text("client_id"), text("client_secret"))
    }

    /// The Client ID in the own place, if there is one.
    pub async fn held(&self) -> Option<String> {
        let response = self.request(Method::GET, CREDENTIAL).send().await.unwrap();
        match response.status() {
            StatusCode::NOT_FOUND => None,
            StatusCode::OK => {
                let view: Value = response.json().await.unwrap();
                assert_eq!(view["standing"], "active");
                Some(view["client_id"].as_str().unwrap().to_owned())
            }
            other => panic!("{other}"),
        }
    }

    /// Asks for a token with a credential.
    pub async fn ask(&self, id: &str, secret: &str) -> reqwest::Result<Response> {
        let request = self.client.post(format!("{}/oauth/token", self.url)).basic_auth(id, Some(secret));
        request.form(&[("grant_type", "client_credentials")]).send().await
    }
}
