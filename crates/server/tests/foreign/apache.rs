//! Apache, with each of its two modules.

use std::sync::Arc;

use reqwest::StatusCode;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsConnector;

use crate::{
    checks::{self, Can},
    gateway::{Files, Gateway},
    house::House,
};

/// Neither module looks at `typ`, nor tells why claims do not suit.
const CAN: Can = Can {
    type_of_token: false,
    unsuitable: StatusCode::FORBIDDEN,
    unasked: StatusCode::UNAUTHORIZED,
    without_keys: Some(StatusCode::UNAUTHORIZED),
};

/// This one keeps keys for 300 s at least.
const OPENIDC: Can = Can { without_keys: None, ..CAN };

/// What Debian's apache2.conf and a2enmod say, for a process without rights.
const MAIN: &str = "
ServerName localhost
PidFile apache.pid
DefaultRuntimeDir .
Mutex file:.
LoadModule mpm_event_module MODULES/mod_mpm_event.so
LoadModule authn_core_module MODULES/mod_authn_core.so
LoadModule authz_core_module MODULES/mod_authz_core.so
LoadModule authz_user_module MODULES/mod_authz_user.so
LoadModule headers_module MODULES/mod_headers.so
LoadModule proxy_module MODULES/mod_proxy.so
LoadModule proxy_http_module MODULES/mod_proxy_http.so
LoadModule MODULE_module MODULES/mod_MODULE.so
ErrorLog log
LogLevel info
";

async fn start(mut files: Files, module: &str, way: &str) -> Gateway {
    files.name("jwks_uri.expiry=60", "jwks_uri.expiry=1".to_owned());
    let here = files.path().display().to_string();
    let main = MAIN.replace("MODULES", "/usr/lib/apache2/modules").replace("MODULE", module);
    let recipe = format!("apache-{}/{way}.conf", module.trim_start_matches("auth_"));
    files.put("apache.conf", &format!("ServerRoot {here}\n{main}\nInclude {way}.conf\n"));
    files.recipe(&recipe);
    files.recipe(&recipe.replace(way, "key"));
    let mut command = files.command("apache2");
    command.arg("-f").arg(files.path().join("apache.conf")).arg("-DFOREGROUND");
    files.start(command).await
}

/// A way to the server in clear text: mod_oauth2 trusts whom the machine trusts, and cannot be told
/// of the server's certificate of a test.
async fn in_clear(house: &House) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here = format!("http://{}", listener.local_addr().unwrap());
    let connector = connector(house);
    let port = house.port;
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let connector = connector.clone();
            tokio::spawn(async move {
                let far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let name = "localhost".try_into().unwrap();
                let mut far = connector.connect(name, far).await.unwrap();
                let _ = copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    here
}

fn connector(house: &House) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&house.trusted).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

async fn oauth2(house: &House, way: &str) -> Gateway {
    let mut files = Files::new(house);
    let clear = in_clear(house).await;
    files.name("https://access.acme.example/oauth", format!("{clear}/oauth"));
    files.name("https://access.acme.example/.well-known", format!("{clear}/.well-known"));
    start(files, "oauth2", way).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apache_with_mod_oauth2_checks_tokens_offline() {
    let mut house = House::build().await;
    let gateway = oauth2(&house, "offline").await;
    checks::offline(&mut house, &gateway, &CAN).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apache_with_mod_oauth2_asks_about_tokens() {
    let mut house = House::build().await;
    let gateway = oauth2(&house, "introspection").await;
    checks::introspection(&mut house, &gateway, &CAN).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apache_with_mod_auth_openidc_checks_tokens_offline() {
    let mut house = House::build().await;
    let gateway = start(Files::new(&house), "auth_openidc", "offline").await;
    checks::offline(&mut house, &gateway, &OPENIDC).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apache_with_mod_auth_openidc_asks_about_tokens() {
    let mut house = House::build().await;
    let gateway = start(Files::new(&house), "auth_openidc", "introspection").await;
    checks::introspection(&mut house, &gateway, &OPENIDC).await;
}
