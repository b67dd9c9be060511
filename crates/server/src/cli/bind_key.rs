//! `portcullis credential bind-key`: makes a key pair on this machine and binds the public key to a
//! credential, with the Client Secret, once (C-14). The private key goes into a file and nowhere else.

use std::{
    fs::{self, OpenOptions},
    io::{BufRead, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair},
};
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD as BASE64URL},
};
use clap::{Args, ValueEnum};
use portcullis_domain::secret::{ExposeSecret, SecretText};
use portcullis_verify::jwk::PublicJwk;
use reqwest::header;
use serde::Deserialize;
use serde_json::json;

use crate::{
    cli::{
        credential::{client, plain},
        secret,
    },
    clock::Clock,
    config::is_loopback_url,
};

/// How long the proof lasts, in seconds.
const PROOF_LASTS: i64 = 60;

/// The kind of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// P-256, for ES256
    P256,
    /// Ed25519, for EdDSA
    Ed25519,
}

/// A key pair made here, bound to a credential.
#[derive(Args)]
pub struct BindKey {
    /// The public URL of the server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    server: String,
    /// The Client ID of the credential
    #[arg(long, env = "PORTCULLIS_CLIENT_ID")]
    client_id: String,
    /// The file for the private key (PEM, PKCS #8, mode 0600); one that is there is not overwritten
    #[arg(long, value_name = "FILE")]
    key_file: PathBuf,
    /// The kind of key
    #[arg(long, value_enum, default_value_t = Kind::P256)]
    kind: Kind,
    /// Read the Client Secret from the first line of standard input instead of asking for it; without
    /// either, the environment variable PORTCULLIS_CLIENT_SECRET is used if it is set
    #[arg(long, conflicts_with = "secret_file")]
    secret_stdin: bool,
    /// Read the Client Secret from the first line of a file
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
struct Bound {
    client_id: String,
    thumbprint: String,
    bound_at: String,
}

#[derive(Deserialize)]
struct Refused {
    error_description: String,
}

/// A pair of either kind.
enum Pair {
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// The library makes keys and signatures with its own source; they never leave it.
#[expect(clippy::disallowed_methods, reason = "keys and nonces of signatures are the library's business")]
fn random() -> SystemRandom {
    SystemRandom::new()
}

impl Pair {
    /// A new pair, and its private key as a PEM.
    fn make(kind: Kind) -> Result<(Self, SecretText), String> {
        let failed = |_| "the key pair could not be made".to_owned();
        let unread = |_| "the key pair could not be read back".to_owned();
        let (pair, document) = match kind {
            Kind::P256 => {
                let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random());
                let document = SecretText::from(pem(document.map_err(failed)?.as_ref()));
                let der = der(&document)?;
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der).map_err(unread)?;
                (Self::P256(pair), document)
            }
            Kind::Ed25519 => {
                let pair = Ed25519KeyPair::generate().map_err(failed)?;
                // Without the public key in it (RFC 8410 §7, version 1), as OpenSSL reads it.
                let document = pair.to_pkcs8v1().map_err(failed)?;
                (Self::Ed25519(pair), SecretText::from(pem(document.as_ref())))
            }
        };
        Ok((pair, document))
    }

    fn public(&self) -> Result<PublicJwk, String> {
        let enc = |bytes: &[u8]| BASE64URL.encode(bytes);
        let jwk = match self {
            Self::P256(pair) => {
                let point = pair.public_key().as_ref();
                json!({ "kty": "EC", "crv": "P-256", "x": enc(&point[1..33]), "y": enc(&point[33..65]) })
            }
            Self::Ed25519(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": enc(pair.public_key().as_ref()) })
            }
        };
        PublicJwk::from_json(&jwk.to_string()).map_err(|e| e.to_string())
    }

    /// A client assertion (RFC 7523 §3) for the server `issuer`.
    fn assertion(&self, client_id: &str, issuer: &str, clock: &Clock) -> Result<String, String> {
        let algorithm = match self {
            Self::P256(_) => "ES256",
            Self::Ed25519(_) => "EdDSA",
        };
        let now = clock.now().as_second();
        let header = json!({ "alg": algorithm, "typ": "client-authentication+jwt" });
        let claims = json!({
            "iss": client_id, "sub": client_id, "aud": issuer, "iat": now, "exp": now + PROOF_LASTS,
            "jti": clock.id(),
        });
        let signed = format!("{}.{}", BASE64URL.encode(header.to_string()), BASE64URL.encode(claims.to_string()));
        let signature = match self {
            Self::P256(pair) => {
                let signature = pair.sign(&random(), signed.as_bytes());
                BASE64URL.encode(signature.map_err(|_| "the key does not sign".to_owned())?)
            }
            Self::Ed25519(pair) => BASE64URL.encode(pair.sign(signed.as_bytes())),
        };
        Ok(format!("{signed}.{signature}"))
    }
}

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----\n";
const END: &str = "-----END PRIVATE KEY-----\n";

/// RFC 7468 §10.
fn pem(der: &[u8]) -> String {
    let encoded = BASE64_STANDARD.encode(der);
    let lines: String =
        encoded.as_bytes().chunks(64).map(|l| String::from_utf8_lossy(l).into_owned() + "\n").collect();
    format!("{BEGIN}{lines}{END}")
}

fn der(pem: &SecretText) -> Result<Vec<u8>, String> {
    let inside = pem.expose_secret().strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END));
    let encoded: String = inside.unwrap_or_default().split_whitespace().collect();
    BASE64_STANDARD.decode(encoded).map_err(|e| e.to_string())
}

/// Writes the private key where there is nothing yet, for the owner of the file alone, to the disk.
fn write_new(path: &Path, pem: &SecretText) -> Result<(), String> {
    let failed = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::AlreadyExists => {
            format!("{} is there already, and is not overwritten; name another file", path.display())
        }
        _ => format!("{}: {e}", path.display()),
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(pem.expose_secret().as_bytes()).and_then(|()| file.sync_all()).map_err(|e| {
        // Half a key is of no use to anybody.
        let _ = fs::remove_file(path);
        format!("{}: {e}", path.display())
    })
}

impl BindKey {
    fn secret(&self) -> Result<SecretText, String> {
        if let Some(path) = &self.secret_file {
            let file = fs::File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
            let mut line = String::new();
            let read = std::io::BufReader::new(file).read_line(&mut line);
            read.map_err(|e| format!("{}: {e}", path.display()))?;
            return Ok(line.trim_end_matches(['\n', '\r']).to_owned().into());
        }
        match std::env::var("PORTCULLIS_CLIENT_SECRET") {
            Ok(value) if !self.secret_stdin => Ok(value.into()),
            _ => secret(self.secret_stdin, "Client Secret: ", "the Client Secret", "--secret-stdin"),
        }
    }

    /// Runs the command.
    ///
    /// # Errors
    /// What the server refused, in its words; the key file is gone again then. If the answer was lost,
    /// it stays.
    pub async fn run(self) -> Result<(), String> {
        let server = self.server.trim_end_matches('/');
        if !server.starts_with("https://") && !is_loopback_url(server) {
            return Err(format!("{server} is not https://, so the Client Secret would go in clear. Use https://"));
        }
        let client_secret = self.secret()?;
        let (pair, pem) = Pair::make(self.kind)?;
        let key = pair.public()?;
        let proof = pair.assertion(&self.client_id, server, &Clock::system())?;
        // First the key, so that none is bound that nobody has.
        write_new(&self.key_file, &pem)?;
        let mut form = form_urlencoded::Serializer::new(String::new());
        let form = form.append_pair("jwk", &key.to_json()).append_pair("proof", &proof).finish();
        let request = client(server)?.post(format!("{server}/oauth/bind-key"));
        let request = request.basic_auth(&self.client_id, Some(client_secret.expose_secret()));
        let request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(form);
        let file = self.key_file.display();
        let lost = |e| {
            format!(
                "the answer was lost: {}. The key may be bound: look for the thumbprint {} in the console, under \
                 Credentials. If it is not there, remove {file} and bind another",
                plain(e),
                key.thumbprint()
            )
        };
        let response = match request.send().await {
            Ok(response) => response,
            Err(e) if e.is_connect() => {
                let gone = self.take_back();
                return Err(format!("{server} does not answer: {}{gone}", plain(e)));
            }
            Err(e) => return Err(lost(e)),
        };
        let status = response.status();
        // Who was too slow (408) does not know what was done, like the server's own failures.
        if status.is_client_error() && status != reqwest::StatusCode::REQUEST_TIMEOUT {
            let refused = response.json::<Refused>().await;
            let gone = self.take_back();
            let words = refused.map_or_else(|_| format!("the server answered {status}"), |r| r.error_description);
            return Err(format!("{words}{gone}"));
        }
        if !status.is_success() {
            return Err(format!(
                "the server answered {status}. The key may be bound: look for the thumbprint {} in the console, under \
                 Credentials. If it is not there, remove {file} and bind another",
                key.thumbprint()
            ));
        }
        let bound: Bound = response.json().await.map_err(lost)?;
        self.print(&bound);
        Ok(())
    }

    /// Removes the file of a key that nothing was done with.
    fn take_back(&self) -> String {
        match fs::remove_file(&self.key_file) {
            Ok(()) => String::new(),
            Err(e) => format!(" (the file {} could not be removed: {e})", self.key_file.display()),
        }
    }

    fn print(&self, bound: &Bound) {
        let file = self.key_file.display().to_string();
        if self.json {
            let view = json!({
                "client_id": bound.client_id, "thumbprint": bound.thumbprint, "bound_at": bound.bound_at,
                "key_file": file,
            });
            println!("{view}");
            return;
        }
        println!("Client ID      {}", bound.client_id);
        println!("Thumbprint     {}", bound.thumbprint);
        println!("Private key    {file}");
        eprintln!(
            "Keep the private key where it is. The owner can switch the Client Secret off now, under Credentials."
        );
    }
}
