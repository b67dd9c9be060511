//! A browser that goes to a provider and back, with the cookies it was given.

use std::collections::BTreeMap;

use portcullis_domain::{
    accounts::{Role, UserId},
    federation::{Identity, LinkedIdentity},
};
use reqwest::{Method, Response, StatusCode, header};
use uuid::Uuid;

use super::hostile::{CLIENT_SECRET, Hostile};
use crate::{
    mfa::tab::{Page, Tab},
    support::{Person, World},
};

/// A browser with its cookies.
#[derive(Clone)]
pub struct Visitor {
    pub url: String,
    pub client: reqwest::Client,
    pub cookies: BTreeMap<String, String>,
}

impl Visitor {
    pub fn new(world: &World) -> Self {
        Self { url: world.url.clone(), client: world.stranger().client, cookies: BTreeMap::new() }
    }

    /// The browser of somebody who is signed in.
    pub fn of(person: &Person) -> Self {
        let (name, value) = person.cookie.split_once('=').unwrap();
        let cookies = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        Self { url: person.url.clone(), client: person.client.clone(), cookies }
    }

    pub fn person(&self) -> Person {
        let cookie = self.cookies.get("__Host-portcullis").cloned().unwrap_or_default();
        Person {
            client: self.client.clone(),
            url: self.url.clone(),
            cookie: format!("__Host-portcullis={cookie}"),
        }
    }

    pub fn has_session(&self) -> bool {
        self.cookies.contains_key("__Host-portcullis")
    }

    async fn sent(&mut self, request: reqwest::RequestBuilder) -> Response {
        let cookies: Vec<String> = self.cookies.iter().map(|(n, v)| format!("{n}={v}")).collect();
        let request = request.header(header::COOKIE, cookies.join("; "));
        let response = request.send().await.unwrap();
        for line in response.headers().get_all(header::SET_COOKIE) {
            let pair = line.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            if value.is_empty() {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        response
    }

    pub async fn get(&mut self, address: &str) -> Response {
        let address = if address.starts_with('/') { format!("{}{address}", self.url) } else { address.to_owned() };
        let request = self.client.get(address).header("sec-fetch-site", "cross-site");
        self.sent(request).await
    }

    pub async fn post(&mut self, path: &str, form: &[(&str, &str)]) -> Response {
        let request = self.client.request(Method::POST, format!("{}{path}", self.url));
        let request = request.header("sec-fetch-site", "same-origin").form(form);
        self.sent(request).await
    }

    /// Presses a button that leads to a provider, and gives the address there.
    pub async fn leave(&mut self, path: &str, form: &[(&str, &str)]) -> String {
        let response = self.post(path, form).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}: {:?}", response.headers().get("location"));
        assert_eq!(response.headers()["cache-control"], "no-store");
        let page = response.text().await.unwrap();
        let (_, rest) = page.split_once("<meta http-equiv=\"refresh\" content=\"0;url=").unwrap();
        let url = rest.split('"').next().unwrap().replace("&#38;", "&");
        assert!(page.contains("rel=\"noreferrer\""), "and a link for whoever does not move by itself");
        url
    }

    /// Walks a whole sign-in with somebody who says yes, and gives the answer to the callback.
    pub async fn sign_in(&mut self, hostile: &Hostile, provider: Uuid) -> Response {
        let there = self.leave(&format!("/sign-in/provider/{provider}"), &[]).await;
        let back = hostile.approve(&there);
        self.get(back.as_str()).await
    }
}

impl Tab {
    /// Goes to a provider and comes back as somebody who says yes there. Gives the address of the
    /// answer too, which is the same in this tab again.
    pub async fn through(&mut self, hostile: &Hostile, provider: Uuid) -> (Page, String) {
        let page = self.post(&format!("/sign-in/provider/{provider}"), &[]).await;
        let on_the_way = page.text.split_once("content=\"0;url=");
        let (_, rest) =
            on_the_way.unwrap_or_else(|| panic!("not on the way: {} {} {}", page.status, page.to, page.text));
        let there = rest.split('"').next().unwrap().replace("&#38;", "&");
        let back = hostile.approve(&there);
        let callback = format!("{}?{}", back.path(), back.query().unwrap());
        (self.get(&callback).await, callback)
    }
}

/// Where an answer leads.
pub fn location(response: &Response) -> String {
    assert_eq!(response.status(), StatusCode::SEE_OTHER);
    response.headers()[header::LOCATION].to_str().unwrap().to_owned()
}

/// What is typed to set a provider up.
pub fn typed<'a>(hostile: &'a Hostile, id: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("id", id),
        ("name", "Acme ID"),
        ("issuer", hostile.url()),
        ("client_id", "portcullis"),
        ("client_secret", CLIENT_SECRET),
        ("scopes", "openid email profile"),
        ("domains", ""),
        ("role", "user"),
    ]
}

/// Sets a provider up in the console, as a Super Admin does.
pub async fn set_up(world: &World, admin: &Person, hostile: &Hostile, makes_users: bool) -> Uuid {
    let id = world.clock.id();
    let text = id.to_string();
    let mut form = typed(hostile, &text);
    if makes_users {
        form.push(("makes_users", "yes"));
    }
    let response = admin.post("/providers/new", &form).await;
    assert_eq!(location(&response), format!("/providers/{id}?done=made"));
    id
}

/// Maria, a Super Admin, a provider of hers that makes users, and its id.
pub async fn scene(world: &World) -> (Person, Hostile, Uuid) {
    let maria = world.person("maria@acme.example", Role::SuperAdmin).await;
    let hostile = Hostile::start(&world.clock).await;
    let id = set_up(world, &maria, &hostile, true).await;
    (maria, hostile, id)
}

/// Links the identity that a hostile provider tells to a user, as that user's local session does.
pub async fn link(world: &World, hostile: &Hostile, user: UserId) -> Identity {
    let identity = Identity::new(hostile.url(), "ana-7").unwrap();
    let linked = LinkedIdentity {
        identity: identity.clone(),
        user,
        email: String::new(),
        linked_at: world.clock.now(),
        signed_in_at: None,
    };
    let mut tx = world.app.store.write().await.unwrap();
    assert!(tx.link_identity(&linked, None).await.unwrap());
    tx.commit().await.unwrap();
    identity
}
