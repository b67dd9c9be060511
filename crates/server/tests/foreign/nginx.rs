//! nginx with njs.

use reqwest::StatusCode;

use crate::{
    checks::{self, Can},
    gateway::{Files, Gateway},
    house::House,
};

const CAN: Can = Can {
    type_of_token: true,
    unsuitable: StatusCode::UNAUTHORIZED,
    unasked: StatusCode::INTERNAL_SERVER_ERROR,
    without_keys: Some(StatusCode::OK),
};

/// What Debian's nginx.conf says, for a process without rights.
const MAIN: &str = "
load_module /usr/lib/nginx/modules/ngx_http_js_module.so;
daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr info;
events {}
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include orders.conf;
}
";

async fn start(house: &House, way: &str) -> Gateway {
    let mut files = Files::new(house);
    files.name("proxy_cache_valid 200 1m", "proxy_cache_valid 200 1s".to_owned());
    let main = MAIN.replace("orders.conf", &format!("{way}.conf"));
    files.put("nginx.conf", &main);
    files.recipe(&format!("nginx/{way}.conf"));
    files.recipe("nginx/token.js");
    files.recipe("nginx/key.conf");
    let mut command = files.command("nginx");
    command.arg("-p").arg(files.path()).args(["-c", "nginx.conf", "-e", "stderr"]);
    files.start(command).await
}

/// What nginx asks itself is nobody else's to ask.
async fn is_not_there(house: &House, gateway: &Gateway, paths: [&str; 2]) {
    let token = house.token("").await;
    for path in paths {
        let url = format!("http://127.0.0.1:{}/_portcullis/{path}", gateway.files.port);
        let answer = gateway.client.post(url).bearer_auth(&token).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_checks_tokens_offline() {
    let mut house = House::build().await;
    let gateway = start(&house, "offline").await;
    is_not_there(&house, &gateway, ["token", "keys"]).await;
    checks::offline(&mut house, &gateway, &CAN).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_asks_about_tokens() {
    let mut house = House::build().await;
    let gateway = start(&house, "introspection").await;
    is_not_there(&house, &gateway, ["token", "introspect"]).await;
    checks::introspection(&mut house, &gateway, &CAN).await;
}
