//! The feed of revocations: followed for ever, resumed where it ended.

use std::time::{Duration, Instant};

use reqwest::{Response, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::time::timeout;
use url::{Url, form_urlencoded};

use crate::{
    clock,
    knowledge::{SILENCE, Standing, Told},
    sse::{Event, Parser},
    state::State,
};

/// How long to wait before the feed is asked for again: from the first to the last, doubling.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// After being live for so long it ended for a new reason.
const STEADY: Duration = Duration::from_secs(5);

/// The longest id of an event, in bytes.
const MAX_ID: usize = 128;

/// The API's key that the feed is asked for with.
pub(crate) struct ApiKey {
    pub(crate) id: String,
    pub(crate) secret: SecretString,
}

/// Why the feed ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{0}")]
    Http(reqwest::Error),
    #[error("the server answered {0}")]
    Status(StatusCode),
    #[error("the server refuses the API's key")]
    Key,
    #[error("it is not a stream of events")]
    NotEvents,
    #[error("an event is not understood")]
    Event,
    #[error("nothing came for too long")]
    Silence,
    #[error("the server ended it")]
    End,
}

/// Follows the feed for ever.
pub(crate) async fn follow(state: &State, url: &Url, key: &ApiKey) {
    let mut feed = Feed { last_id: None, is_whole: false, live_since: None, failures: 0 };
    loop {
        let ended = feed.once(state, url, key).await;
        state.lose_feed();
        if feed.live_since.take().is_some_and(|since| clock::instant() - since > STEADY) {
            feed.failures = 0;
        }
        if matches!(ended, Ended::Event | Ended::NotEvents) {
            // What came cannot be relied on: begin anew.
            feed.last_id = None;
        }
        let wait = clock::jitter(LONGEST_WAIT.min(FIRST_WAIT * 2_u32.saturating_pow(feed.failures)));
        feed.failures = feed.failures.saturating_add(1);
        tracing::warn!(reason = %ended, ?wait, "the feed of revocations ended; the status list is asked meanwhile");
        tokio::time::sleep(wait).await;
    }
}

struct Feed {
    /// The id to resume after: that of an event up to which everything is known.
    last_id: Option<String>,
    /// Whether everything was told that goes before what is told now.
    is_whole: bool,
    /// When the hello came.
    live_since: Option<Instant>,
    /// How often it ended since it was last live for a while.
    failures: u32,
}

impl Feed {
    /// Follows the feed until it ends.
    async fn once(&mut self, state: &State, url: &Url, key: &ApiKey) -> Ended {
        let mut response = match timeout(SILENCE, self.ask(state, url, key)).await {
            Ok(Ok(response)) => response,
            Ok(Err(ended)) => return ended,
            Err(_) => return Ended::Silence,
        };
        self.is_whole = self.last_id.is_some();
        if !self.is_whole {
            state.know(|knowledge| knowledge.begin_anew());
        }
        let mut parser = Parser::default();
        loop {
            let piece = match timeout(SILENCE, response.chunk()).await {
                Ok(Ok(Some(piece))) => piece,
                Ok(Ok(None)) => return Ended::End,
                Ok(Err(error)) => return Ended::Http(error.without_url()),
                Err(_) => return Ended::Silence,
            };
            state.know(|knowledge| knowledge.hear(clock::instant()));
            let Ok(events) = parser.take(&piece) else { return Ended::NotEvents };
            for event in events {
                if let Err(ended) = self.take(state, &event) {
                    return ended;
                }
            }
        }
    }

    async fn ask(&self, state: &State, url: &Url, key: &ApiKey) -> Result<Response, Ended> {
        // RFC 6749 §2.3.1: the two parts are form-encoded before they are put together.
        let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let mut request = state
            .http
            .client()
            .get(url.clone())
            .basic_auth(encoded(&key.id), Some(encoded(key.secret.expose_secret())))
            .header(header::ACCEPT, "text/event-stream");
        if let Some(id) = &self.last_id {
            request = request.header("Last-Event-ID", id);
        }
        let response = request.send().await.map_err(|error| Ended::Http(error.without_url()))?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED => return Err(Ended::Key),
            status => return Err(Ended::Status(status)),
        }
        let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        if kind.eq_ignore_ascii_case("text/event-stream") { Ok(response) } else { Err(Ended::NotEvents) }
    }

    fn take(&mut self, state: &State, event: &Event) -> Result<(), Ended> {
        let told = told(event).ok_or(Ended::Event)?;
        state.know(|knowledge| knowledge.take(&told, clock::instant(), clock::unix()));
        match told {
            Told::Reset => {
                self.last_id = None;
                self.is_whole = false;
            }
            Told::Hello => {
                self.is_whole = true;
                self.live_since.get_or_insert_with(clock::instant);
                // What changed before the hello need not have been told.
                state.keys.want();
                state.hello.notify_one();
                tracing::info!("the feed of revocations is live");
            }
            Told::Other if event.kind == "keys" => state.keys.change(),
            _ => {}
        }
        if let Some(id) = &event.id {
            if id.len() > MAX_ID || !id.bytes().all(|b| b.is_ascii_graphic()) {
                return Err(Ended::Event);
            }
            if self.is_whole {
                self.last_id = Some(id.clone()).filter(|id| !id.is_empty());
            }
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct CredentialData {
    idx: u64,
    state: String,
}

#[derive(Deserialize)]
struct TokenData {
    jti: String,
    exp: i64,
}

/// What an event says; `None` for one of a kind that is known and that is not understood.
fn told(event: &Event) -> Option<Told> {
    match event.kind.as_str() {
        "credential" => {
            let data: CredentialData = serde_json::from_str(&event.data).ok()?;
            let standing = match data.state.as_str() {
                "active" => None,
                "suspended" => Some(Standing::Suspended),
                "revoked" => Some(Standing::Revoked),
                _ => return None,
            };
            Some(Told::Credential { idx: data.idx, standing })
        }
        "token" => {
            let data: TokenData = serde_json::from_str(&event.data).ok()?;
            Some(Told::Token { jti: data.jti, exp: data.exp })
        }
        "hello" => Some(Told::Hello),
        "reset" => Some(Told::Reset),
        // `keys`, and whatever a later server adds.
        _ => Some(Told::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(kind: &str, data: &str) -> Option<Told> {
        told(&Event { kind: kind.into(), data: data.into(), id: None })
    }

    #[test]
    fn events_say_what_changed() {
        for (state, standing) in
            [("active", None), ("suspended", Some(Standing::Suspended)), ("revoked", Some(Standing::Revoked))]
        {
            let data = format!(r#"{{"client_id":"pc_1","idx":3,"state":"{state}","at":1}}"#);
            assert_eq!(say("credential", &data), Some(Told::Credential { idx: 3, standing }));
        }
        let token = Told::Token { jti: "j".into(), exp: 9 };
        assert_eq!(say("token", r#"{"jti":"j","exp":9,"at":1}"#), Some(token));
        assert_eq!(say("hello", r#"{"at":1}"#), Some(Told::Hello));
        assert_eq!(say("reset", "{}"), Some(Told::Reset));
        assert_eq!(say("keys", r#"{"at":1}"#), Some(Told::Other));
        assert_eq!(say("something-new", "?"), Some(Told::Other));
    }

    #[test]
    fn an_event_that_is_not_understood_is_not_passed_over() {
        assert_eq!(say("credential", r#"{"idx":3,"state":"asleep"}"#), None);
        assert_eq!(say("credential", r#"{"idx":-3,"state":"active"}"#), None);
        assert_eq!(say("credential", ""), None);
        assert_eq!(say("token", r#"{"jti":1,"exp":9}"#), None);
    }
}
