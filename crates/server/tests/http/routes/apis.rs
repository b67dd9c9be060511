//! How the walk does the acts of APIs and their keys.

use reqwest::{Method, RequestBuilder};
use serde_json::json;

use crate::{
    apis::{Orders, key_of, registered},
    support::World,
};

pub(super) fn is_of_apis(path: &str) -> bool {
    path.starts_with("/apis") || path.starts_with("/api/v1/apis")
}

pub(super) fn is_button(path: &str) -> bool {
    is_of_apis(path) && path.ends_with("/remove")
}

/// The request that does the act, by who may.
pub(super) async fn request(world: &World, path: &str) -> RequestBuilder {
    let maria = world.maria().await;
    let id = registered(&maria, &Orders::default()).await;
    let key = key_of(&maria, &id, "day").await.client_id;
    let orders = Orders { name: "Other", identifier: "urn:other", ..Orders::default() };
    let request = maria.request(Method::POST, &path.replace("{api}", &id).replace("{key}", &key));
    match (path.starts_with("/api/"), path.rsplit('/').next()) {
        (true, Some("remove")) => request,
        (true, Some("apis")) => request.json(&orders.json()),
        (true, Some("keys")) => request.json(&json!({})),
        (true, _) => {
            let mut json = orders.json();
            json.as_object_mut().unwrap().remove("identifier");
            request.json(&json)
        }
        (false, Some("remove")) => request.form::<[(&str, &str); 0]>(&[]),
        (false, Some("keys")) => request.form(&[("older_key", "at_once")]),
        (false, _) => request.form(&orders.form()),
    }
}
