//! What is told to those who check tokens without asking: the status list and the feed.

mod lasting;
mod list;
mod reading;
mod storm;

use std::time::Duration;

use portcullis_domain::accounts::Role;
use reqwest::{Method, Response, StatusCode};
use serde_json::Value;
use tokio::time::timeout;

use crate::support::{Person, Program, World, json};

/// Longer than anything takes that is going to come.
const SOON: Duration = Duration::from_secs(20);

/// An event of the stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    pub name: String,
    pub id: Option<i64>,
    pub data: Value,
}

/// A stream that is read.
pub struct Following {
    response: Response,
    text: String,
    pub comments: usize,
}

/// Asks for the feed.
pub async fn ask(key: &Program, last_id: Option<&str>) -> Response {
    let mut request = key.client.get(format!("{}/oauth/revocations", key.url));
    request = request.basic_auth(&key.client_id, Some(&key.client_secret));
    if let Some(id) = last_id {
        request = request.header("last-event-id", id);
    }
    request.send().await.unwrap()
}

/// Follows the feed.
pub async fn follow(key: &Program, last_id: Option<i64>) -> Following {
    Following::of(ask(key, last_id.map(|id| id.to_string()).as_deref()).await)
}

impl Following {
    pub fn of(response: Response) -> Self {
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-store");
        Self { response, text: String::new(), comments: 0 }
    }

    /// The next event; `None` when the stream has ended.
    pub async fn next(&mut self) -> Option<Told> {
        timeout(SOON, self.next_whenever()).await.expect("an event, or the end, comes soon")
    }

    /// Reads to the end, which has to come in order within that time, with nothing before it but
    /// comments. Gives how many.
    pub async fn ends(mut self, within: Duration) -> usize {
        let read = async {
            while let Some(part) = self.response.chunk().await.expect("the stream is not cut off") {
                self.text += std::str::from_utf8(&part).unwrap();
            }
        };
        timeout(within, read).await.expect("the stream ends");
        assert_eq!(self.text.replace(": \n\n", ""), "");
        self.text.matches(": \n\n").count()
    }

    pub async fn next_whenever(&mut self) -> Option<Told> {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                if block.starts_with(':') {
                    assert_eq!(block, ": ");
                    self.comments += 1;
                    continue;
                }
                return Some(parsed(&block));
            }
            let part = self.response.chunk().await.ok()??;
            self.text += std::str::from_utf8(&part).unwrap();
        }
    }

    /// All events up to the one that says that this is all.
    pub async fn until_hello(&mut self) -> (Vec<Told>, i64) {
        let mut told = Vec::new();
        loop {
            let event = self.next().await.expect("it goes on");
            if event.name == "hello" {
                return (told, event.id.unwrap());
            }
            told.push(event);
        }
    }

    /// Waits until a comment comes.
    pub async fn kept_alive(&mut self) {
        let before = self.comments;
        let read = async {
            while self.comments == before {
                let part = self.response.chunk().await.unwrap().expect("it goes on");
                self.text += std::str::from_utf8(&part).unwrap();
                while let Some(rest) = self.text.strip_prefix(": \n\n") {
                    self.text = rest.to_owned();
                    self.comments += 1;
                }
            }
        };
        timeout(Duration::from_secs(5), read).await.expect("a comment comes at least every 5 s");
    }
}

fn parsed(block: &str) -> Told {
    let (mut name, mut id, mut data) = (None, None, None);
    for line in block.lines() {
        match line.split_once(": ").unwrap() {
            ("event", text) => assert!(name.replace(text.to_owned()).is_none()),
            ("id", text) => assert!(id.replace(text.parse().unwrap()).is_none()),
            ("data", text) => assert!(data.replace(serde_json::from_str(text).unwrap()).is_none()),
            other => panic!("{other:?}"),
        }
    }
    Told { name: name.unwrap(), id, data: data.unwrap() }
}

/// A user with a credential.
pub struct Owner {
    pub person: Person,
    pub program: Program,
    pub id: String,
    pub index: u64,
}

/// Somebody with a credential.
pub async fn owner(world: &World, email: &str) -> Owner {
    let person = world.person(email, Role::SuperAdmin).await;
    let program = person.generate().await;
    let id = world.user_of(email).await.id.to_string();
    let claims = claims(&program.token().await);
    let index = claims["status"]["status_list"]["idx"].as_u64().unwrap();
    Owner { person, program, id, index }
}

pub fn claims(token: &str) -> Value {
    jsonwebtoken::dangerous::insecure_decode(token).unwrap().claims
}

/// What a Super Admin does to somebody.
pub async fn manage(maria: &Person, owner: &Owner, act: &str) {
    let path = format!("/api/v1/users/{}/{act}", owner.id);
    let ask = || maria.request(Method::POST, &path).send();
    let mut answer = ask().await.unwrap();
    // Behind very many others it may have to come again.
    while answer.status() == StatusCode::SERVICE_UNAVAILABLE {
        tokio::time::sleep(Duration::from_millis(50)).await;
        answer = ask().await.unwrap();
    }
    assert!(answer.status().is_success(), "{act}: {}", json(answer).await);
}
