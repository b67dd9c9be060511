//! HTTP as a client outside sees it: an answer, or no connection, or no answer.

use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, StatusCode, header, redirect};
use serde_json::Value;

use crate::history::Outcome;

/// How long a client waits for an answer. It is longer than a server takes for anything.
pub const PATIENCE: Duration = Duration::from_secs(40);
/// What an unanswered call says when the server may still be at it.
pub const GAVE_UP: &str = "no answer in time";

/// A client that follows nothing.
///
/// # Errors
/// When it cannot be made.
pub fn client() -> anyhow::Result<Client> {
    let client = Client::builder().redirect(redirect::Policy::none()).user_agent("portcullis-faults");
    Ok(client.timeout(PATIENCE).connect_timeout(Duration::from_secs(5)).build()?)
}

/// What came back.
#[derive(Debug)]
pub enum Reply {
    /// An answer.
    Answer {
        /// The status.
        status: StatusCode,
        /// The cookies that were set.
        cookies: Vec<String>,
        /// Whether it says when to try again.
        retry_after: bool,
        /// The body.
        body: String,
    },
    /// The server was not there: nothing was sent.
    NotSent,
    /// It was sent, and there is no answer.
    Lost(String),
}

/// Sends a request.
pub async fn send(request: RequestBuilder) -> Reply {
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) if error.is_connect() => return Reply::NotSent,
        Err(error) if error.is_timeout() => return Reply::Lost(GAVE_UP.to_owned()),
        Err(_) => return Reply::Lost("the connection was lost".to_owned()),
    };
    let status = response.status();
    let retry_after = response.headers().contains_key(header::RETRY_AFTER);
    let cookies = response.headers().get_all(header::SET_COOKIE).iter();
    let cookies = cookies.filter_map(|v| v.to_str().ok()).map(str::to_owned).collect();
    match response.text().await {
        Ok(body) => Reply::Answer { status, cookies, retry_after, body },
        Err(error) if error.is_timeout() => Reply::Lost(GAVE_UP.to_owned()),
        Err(_) => Reply::Lost("the connection was lost".to_owned()),
    }
}

impl Reply {
    /// The body as JSON, if it is some.
    #[must_use]
    pub fn json(&self) -> Value {
        match self {
            Self::Answer { body, .. } => serde_json::from_str(body).unwrap_or_default(),
            _ => Value::Null,
        }
    }

    /// The status, if there is an answer.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Answer { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// What an act came to. `done` reads the answer of one that was done; an answer that the house does
    /// not give is told to `wrong`.
    pub fn outcome(&self, done: impl FnOnce(&Value) -> Option<Outcome>, wrong: &Wrong) -> Outcome {
        let status = match self {
            Self::NotSent => return Outcome::NotDone("not sent".to_owned()),
            Self::Lost(why) => return Outcome::Unanswered(why.clone()),
            Self::Answer { status, .. } => *status,
        };
        let body = self.json();
        let code = body["code"].as_str().unwrap_or_default().to_owned();
        match status {
            s if s.is_success() => done(&body).unwrap_or_else(|| {
                wrong.tell(format!("{status} with a body that says nothing"));
                Outcome::Unanswered("an answer that says nothing".to_owned())
            }),
            StatusCode::SERVICE_UNAVAILABLE => self.unavailable(code, wrong),
            StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS => Outcome::NotDone(code),
            StatusCode::CONFLICT if code == "conflict" => Outcome::NotDone(code),
            StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::CONFLICT => Outcome::Refused(code),
            StatusCode::REQUEST_TIMEOUT => Outcome::Unanswered("the server gave up".to_owned()),
            _ => {
                wrong.tell(format!("{status} {code}, which is neither done nor try again (I6)"));
                Outcome::Unanswered(status.to_string())
            }
        }
    }

    fn unavailable(&self, code: String, wrong: &Wrong) -> Outcome {
        if !matches!(self, Self::Answer { retry_after: true, .. }) {
            wrong.tell("503 without Retry-After (I6)".to_owned());
        }
        match code.as_str() {
            "busy" | "unavailable" => Outcome::NotDone(code),
            _ => Outcome::Unanswered(code),
        }
    }
}

/// Where clients tell of answers that must not be given.
#[derive(Debug, Clone)]
pub struct Wrong(tokio::sync::mpsc::UnboundedSender<String>);

impl Wrong {
    /// Where to tell, and where to hear.
    #[must_use]
    pub fn channel() -> (Self, tokio::sync::mpsc::UnboundedReceiver<String>) {
        let (tell, hear) = tokio::sync::mpsc::unbounded_channel();
        (Self(tell), hear)
    }

    /// Tells of one.
    pub fn tell(&self, what: String) {
        // Nobody hears only when the run is over.
        let _ = self.0.send(what);
    }
}

/// A request to a path of a server.
pub fn request(client: &Client, method: Method, url: &str, path: &str) -> RequestBuilder {
    client.request(method, format!("{url}{path}"))
}
