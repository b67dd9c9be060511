//! How the walk does the acts of keys.

use reqwest::{Method, RequestBuilder};

use crate::{
    client_keys::{Key, change},
    support::World,
};

pub(super) fn is_of_keys(path: &str) -> bool {
    path.starts_with("/account/credentials/key")
        || path.starts_with("/account/credentials/secret")
        || path == "/oauth/bind-key"
}

/// The fields of the forms in the console.
pub(super) fn form(client_id: &str) -> [(&'static str, String); 2] {
    [("client_id", client_id.to_owned()), ("key", Key::p256(1).jwk())]
}

/// The request that does the act, by who may.
pub(super) async fn request(world: &World, path: &str) -> RequestBuilder {
    let maria = world.maria().await;
    let program = maria.generate().await;
    if path == "/oauth/bind-key" {
        let key = Key::p256(1);
        let request = world.stranger().request(Method::POST, path);
        let request = request.basic_auth(&program.client_id, Some(&program.client_secret));
        return request.form(&[("jwk", key.jwk()), ("proof", key.assertion(world, &program.client_id))]);
    }
    let before: &[&str] = match path {
        "/account/credentials/key" => &[],
        "/account/credentials/secret/on" => &["key", "secret/off"],
        _ => &["key"],
    };
    for act in before {
        change(&maria, &program, act, &Key::p256(1).jwk()).await;
    }
    maria.request(Method::POST, path).form(&form(&program.client_id))
}
