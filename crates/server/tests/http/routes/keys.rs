//! How the walk does the acts of signing keys.

use reqwest::{Method, RequestBuilder};
use serde_json::json;

use crate::{keys::in_state, support::World};

pub(super) fn is_of_keys(path: &str) -> bool {
    path.starts_with("/signing-keys") || path.starts_with("/api/v1/keys")
}

/// The request that does the act, by who may.
pub(super) async fn request(world: &World, path: &str) -> RequestBuilder {
    let maria = world.maria().await;
    let active = in_state(&maria, "active").await;
    let request = maria.request(Method::POST, &path.replace("{kid}", &active).replace("{algorithm}", "ES256"));
    match (path.starts_with("/api/"), path.ends_with("/withdraw")) {
        (true, true) => request.json(&json!({ "reason": "Lost" })),
        (true, false) => request.json(&json!({ "algorithm": "ES256", "at_once": true })),
        (false, true) => request.form(&[("reason", "Lost")]),
        (false, false) => request.form(&[("seen", active.as_str()), ("at_once", "yes")]),
    }
}
