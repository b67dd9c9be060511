//! HAProxy, with its own JWT functions and with Lua.

use std::process::Command;

use reqwest::StatusCode;

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

/// Runs the script that fetches the keys, and gives how it ended.
fn fetch_keys(house: &House, files: &Files) -> i32 {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../dev/gateways/haproxy/portcullis-keys");
    let mut command = Command::new("/usr/bin/python3");
    command.arg(script).arg(&house.url).arg(files.path()).env("SSL_CERT_FILE", &house.trusted);
    command.status().unwrap().code().unwrap()
}

async fn start(house: &House, way: &str) -> Gateway {
    let files = Files::new(house);
    files.put("main.cfg", MAIN);
    files.recipe(&format!("haproxy/{way}.cfg"));
    files.recipe("haproxy/introspect.lua");
    files.recipe("haproxy/key");
    assert_eq!((fetch_keys(house, &files), fetch_keys(house, &files)), (0, 3), "changed, and then not");
    let mut command = files.command("haproxy");
    command.args(["-db", "-f", "main.cfg", "-f", &format!("{way}.cfg")]);
    files.start(command).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn haproxy_checks_tokens_offline() {
    let mut house = House::build().await;
    let gateway = start(&house, "offline").await;
    checks::offline(&mut house, &gateway, &CAN).await;
    let first_key = || std::fs::read(gateway.files.path().join("key-1.pem")).unwrap();
    let before = first_key();
    assert_eq!((fetch_keys(&house, &gateway.files), first_key()), (1, before), "nothing is lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn haproxy_asks_about_tokens() {
    let mut house = House::build().await;
    let gateway = start(&house, "introspection").await;
    checks::introspection(&mut house, &gateway, &CAN).await;
}
