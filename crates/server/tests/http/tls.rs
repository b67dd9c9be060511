//! TLS by the server itself: certificate files, HTTPS only, and deadlines before the handshake too.

use reqwest::{Certificate, Client, StatusCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    limits::within,
    support::{FORM, World, header_of},
};

/// A server with a certificate for `localhost` of its own making, and a client that trusts it.
async fn world() -> (World, Client) {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let certificate = file("certificate.pem", made.cert.pem());
    let key = file("key.pem", made.signing_key.serialize_pem());
    let settings = [
        ("tls_certificate", certificate.as_str()),
        ("tls_key", key.as_str()),
        ("public_url", "https://localhost"),
        ("header_timeout_seconds", "1"),
    ];
    let world = World::sqlite(&settings).await;
    let root = Certificate::from_pem(made.cert.pem().as_bytes()).unwrap();
    let client = Client::builder().tls_certs_only([root]).resolve("localhost", world.address).build().unwrap();
    (world, client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protocol15_with_a_certificate_everything_is_https_and_nothing_else_is_answered() {
    let (world, client) = world().await;
    let url = format!("https://localhost:{}", world.address.port());
    let ready = client.get(format!("{url}/health/ready")).send().await.unwrap();
    assert_eq!(ready.status(), StatusCode::OK);
    assert_eq!(header_of(&ready, "strict-transport-security"), "max-age=31536000");
    let token = client.post(format!("{url}/oauth/token")).header("content-type", FORM);
    let token = token.body("grant_type=client_credentials").send().await.unwrap();
    assert_eq!(token.status(), StatusCode::UNAUTHORIZED, "the endpoint itself answers, not `use HTTPS`");

    let stranger = Client::builder().resolve("localhost", world.address).build().unwrap();
    assert!(stranger.get(format!("{url}/health/ready")).send().await.is_err(), "who does not trust it goes away");
    let plain = Client::new().get(format!("http://{}/health/ready", world.address)).send().await;
    assert!(plain.is_err(), "clear text gets no answer: {plain:?}");
    let again = client.get(format!("{url}/health/ready")).send().await.unwrap();
    assert_eq!(again.status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protocol43_a_handshake_that_does_not_come_is_given_up() {
    let (world, _client) = world().await;
    for begun in [&b""[..], b"\x16\x03\x01\x02\x00"] {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(begun).await.unwrap();
        let mut rest = Vec::new();
        // It ends because the server ends it, and not after the ten seconds of the default.
        let _ = within(8, "it is given up", stream.read_to_end(&mut rest)).await;
    }
}
