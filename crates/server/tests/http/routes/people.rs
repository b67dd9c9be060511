//! How the walk does the acts of users, invitations and forgotten passwords.

use portcullis_domain::{
    accounts::{Role, Status},
    audit::Record,
};
use reqwest::{Method, RequestBuilder};
use serde_json::json;

use crate::support::{PASSWORD, World, json as json_of};

const ANA: &str = "ana@acme.example";
const MANAGING: [&str; 7] =
    ["invite-again", "activate", "deactivate", "delete", "give-super-admin", "take-super-admin", "turn-mfa-off"];

fn managing(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("/api/v1").unwrap_or(path).strip_prefix("/users/{user}/")?;
    MANAGING.contains(&rest).then_some(rest)
}

pub(super) fn is_for_super_admins(path: &str) -> bool {
    managing(path).is_some() || matches!(path, "/users/invite" | "/api/v1/users")
}

pub(super) fn has_fields(path: &str) -> bool {
    let ours =
        ["/users/invite", "/api/v1/users", "/activate/{token}", "/forgot-password", "/reset-password/{token}"];
    ours.contains(&path)
}

pub(super) fn is_act(path: &str) -> bool {
    managing(path).is_some() || has_fields(path)
}

pub(super) fn is_button(path: &str) -> bool {
    managing(path).is_some() || path == "/mail/{mail}/try-again"
}

pub(super) fn body(request: RequestBuilder, path: &str) -> RequestBuilder {
    match path {
        "/users/invite" => request.form(&[("email", "new@acme.example")]),
        "/api/v1/users" => request.json(&json!({ "email": "new@acme.example" })),
        "/activate/{token}" => request.form(&[("name", "Ana"), ("password", PASSWORD)]),
        "/forgot-password" => request.form(&[("email", "maria@acme.example")]),
        _ => request.form(&[("password", "violet harbor mosaic thunder")]),
    }
}

/// The request that does the act, by who may, to who stands so.
pub(super) async fn request(world: &World, path: &str) -> RequestBuilder {
    let maria = world.maria().await;
    let stranger = world.stranger();
    match (path, managing(path)) {
        ("/activate/{token}", _) => {
            let asked = maria.request(Method::POST, "/api/v1/users").json(&json!({ "email": ANA }));
            let link = json_of(asked.send().await.unwrap()).await["activation_link"].as_str().unwrap().to_owned();
            body(stranger.request(Method::POST, &link[link.find("/activate/").unwrap()..]), path)
        }
        ("/reset-password/{token}", _) => {
            let asked = body(stranger.request(Method::POST, "/forgot-password"), "/forgot-password");
            asked.send().await.unwrap();
            let link = world.mail_to("maria@acme.example", 1).await.link("/reset-password/");
            body(stranger.request(Method::POST, &link), path)
        }
        ("/forgot-password", _) => body(stranger.request(Method::POST, path), path),
        (_, None) => body(maria.request(Method::POST, path), path),
        (_, Some(act)) => {
            let role = if act == "take-super-admin" { Role::SuperAdmin } else { Role::User };
            let ana = world.user(ANA, role).await;
            world
                .change(&ana, |s| match act {
                    "invite-again" => s.status.0 = Status::Pending,
                    "activate" => s.status.0 = Status::Inactive,
                    "turn-mfa-off" => s.mfa_since = Some(world.clock.now()),
                    _ => {}
                })
                .await;
            let request = maria.request(Method::POST, &path.replace("{user}", &ana.id.to_string()));
            if path.starts_with("/api/") { request } else { request.form::<[(&str, &str); 0]>(&[]) }
        }
    }
}

/// The records after a number, when there are some: what an answer must not depend on is done after
/// it.
pub(super) async fn records_after(world: &World, mark: i64) -> Vec<Record> {
    for _ in 0..200 {
        let records = world.records_after(mark).await;
        if !records.is_empty() {
            return records;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    Vec::new()
}
