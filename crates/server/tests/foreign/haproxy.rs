//! HAProxy, with its own JWT functions and with Lua.

use std::{collections::HashSet, fs, path::Path, process::Command};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{
    checks::{self, Can},
    gateway::{Files, Gateway},
    house::House,
};

const CAN: Can = Can {
    type_of_token: true,
    unsuitable: StatusCode::UNAUTHORIZED,
    unasked: StatusCode::SERVICE_UNAVAILABLE,
    without_keys: Some(StatusCode::OK),
};

/// What Debian's haproxy.cfg says that matters here.
const MAIN: &str = "
defaults
    mode http
    timeout connect 5000
    timeout client 50000
    timeout server 50000
";

/// Runs the script that fetches the keys, with a command that reloads, and gives how it ended.
fn fetch_keys(issuer: &str, folder: &Path, house: Option<&House>, reload: &[&str]) -> i32 {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../dev/gateways/haproxy/portcullis-keys");
    let mut command = Command::new("/usr/bin/python3");
    command.arg(script).arg(issuer).arg(folder).args(reload).current_dir(folder);
    if let Some(house) = house {
        command.env("SSL_CERT_FILE", &house.trusted);
    }
    command.status().unwrap().code().unwrap()
}

async fn start(house: &House, way: &str) -> Gateway {
    let files = Files::new(house);
    files.put("main.cfg", MAIN);
    files.recipe(&format!("haproxy/{way}.cfg"));
    files.recipe("haproxy/introspect.lua");
    files.recipe("haproxy/key");
    assert_eq!(fetch_keys(&house.url, files.path(), Some(house), &[]), 0);
    let mut command = files.command("haproxy");
    command.args(["-db", "-f", "main.cfg", "-f", &format!("{way}.cfg")]);
    files.start(command).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn haproxy_checks_tokens_offline() {
    let mut house = House::build().await;
    let gateway = start(&house, "offline").await;
    checks::offline(&mut house, &gateway, &CAN).await;
    let folder = gateway.files.path();
    let first_key = || fs::read(folder.join("key-1.pem")).unwrap();
    let before = first_key();
    let ended = fetch_keys(&house.url, folder, Some(&house), &[]);
    assert_eq!((ended, first_key()), (1, before), "nothing is lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn haproxy_asks_about_tokens() {
    let mut house = House::build().await;
    let gateway = start(&house, "introspection").await;
    checks::introspection(&mut house, &gateway, &CAN).await;
}

/// Publishes keys in a folder, which the script may be told as an issuer.
fn publish(folder: &Path, keys: impl Iterator<Item = u8>) -> String {
    let half = |n: u8| BASE64URL.encode([n; 32]);
    let key = |n: u8| json!({ "kty": "EC", "crv": "P-256", "x": half(n), "y": half(n) });
    let keys: Vec<Value> = keys.map(key).collect();
    fs::create_dir_all(folder.join(".well-known")).unwrap();
    fs::write(folder.join(".well-known/jwks.json"), json!({ "keys": keys }).to_string()).unwrap();
    format!("file://{}", folder.display())
}

/// What stands in the files that the recipe reads.
fn in_the_files(folder: &Path) -> HashSet<String> {
    let recipe = include_str!("../../../../dev/gateways/haproxy/offline.cfg");
    let named = recipe.split("/etc/haproxy/portcullis/").skip(1).map(|rest| rest.split('"').next().unwrap());
    let found: Vec<String> = named.map(|name| fs::read_to_string(folder.join(name)).unwrap()).collect();
    assert_eq!(found.len(), 16);
    found.into_iter().collect()
}

#[test]
fn there_is_room_for_sixteen_keys_and_one_more_is_said_aloud() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let fetch = |issuer: &str| fetch_keys(issuer, folder, None, &[]);
    assert_eq!((fetch(&publish(folder, 1..=16)), in_the_files(folder).len()), (0, 16));
    let all = in_the_files(folder);
    assert_eq!((fetch(&publish(folder, 1..=17)), in_the_files(folder)), (1, all), "not a part of them");
    assert_eq!(fetch(&publish(folder, std::iter::empty())), 1, "nor none");
    assert_eq!((fetch(&publish(folder, 2..=6)), in_the_files(folder).len()), (0, 5), "the others are gone");
}

#[test]
fn a_reload_is_tried_again_until_it_succeeds() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let issuer = publish(folder, 1..=2);
    let fetch = |issuer: &str, reload: &[&str]| fetch_keys(issuer, folder, None, reload);
    let reloaded = || fs::remove_file(folder.join("reloaded")).is_ok();
    let reload = ["touch", "reloaded"];
    assert_eq!(fetch(&issuer, &["false"]), 1);
    assert_eq!((fetch(&issuer, &["false"]), in_the_files(folder).len()), (1, 2), "the files are new already");
    assert_eq!((fetch(&issuer, &reload), reloaded()), (0, true));
    assert_eq!((fetch(&issuer, &reload), reloaded()), (0, false), "and not again");

    // Nor does it wait for keys that cannot be had; and a run without a command leaves it to the next.
    publish(folder, 2..=2);
    assert_eq!((fetch(&issuer, &[]), in_the_files(folder).len()), (0, 1));
    assert_eq!((fetch("file:///nowhere", &reload), reloaded()), (1, true));
    assert_eq!((fetch(&issuer, &reload), reloaded()), (0, false));
}
