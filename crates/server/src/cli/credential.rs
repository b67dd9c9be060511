//! `portcullis credential generate|show|revoke|bind-key`: the **Credentials** tab from a terminal,
//! through the API and so under the same rules. Neither the password nor the secret is kept.

use std::io::Write;

use clap::{Args, Subcommand};
use portcullis_domain::secret::{ExposeSecret, SecretText};
use reqwest::{Client, Method, StatusCode, header, redirect};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    api::problem::Problem,
    cli::{bind_key::BindKey, code, password},
    config::is_loopback_url,
};

/// What to do with your credential.
#[derive(Subcommand)]
pub enum Command {
    /// Generate a Client ID and a Client Secret, and print both once
    Generate {
        /// Who and where
        #[command(flatten)]
        who: Who,
        /// Print KEY=value lines for an .env file
        #[arg(long, conflicts_with = "json")]
        env: bool,
    },
    /// Show the Client ID, where it stands and when it was last used; never the secret
    Show {
        /// Who and where
        #[command(flatten)]
        who: Who,
    },
    /// Make a key pair here, and bind the public key to a credential with its Client Secret, once
    BindKey(BindKey),
    /// Revoke the credential: its programs stop at once, and that is final
    Revoke {
        /// Who and where
        #[command(flatten)]
        who: Who,
    },
}

/// Who you are, and where.
#[derive(Args)]
pub struct Who {
    /// The public URL of the server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    server: String,
    /// The e-mail address you sign in with
    #[arg(long)]
    email: String,
    /// Read the password from the first line of standard input instead of asking for it
    #[arg(long)]
    password_stdin: bool,
    /// Read the code of the second factor from the next line of standard input instead of asking for it
    #[arg(long)]
    code_stdin: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
struct Generated {
    client_id: String,
    client_secret: SecretText,
    token_url: String,
    generated_at: String,
    expires_at: String,
}

/// Who speaks to a server.
///
/// # Errors
/// The library's.
pub(crate) fn client(server: &str) -> Result<Client, String> {
    let client = Client::builder();
    // Only an https:// server may be behind a proxy: to others a secret would go in clear.
    let client = if server.starts_with("https://") { client } else { client.no_proxy() };
    client
        .redirect(redirect::Policy::none())
        .timeout(std::time::Duration::from_secs(30))
        .user_agent(concat!("portcullis/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|e| e.to_string())
}

/// A session at the server, for the length of one command.
struct Signed {
    client: Client,
    server: String,
    cookie: SecretText,
}

impl Signed {
    async fn open(who: &Who) -> Result<Self, String> {
        let server = who.server.trim_end_matches('/').to_owned();
        if !server.starts_with("https://") && !is_loopback_url(&server) {
            return Err(format!("{server} is not https://, so the password would go in clear. Use https://"));
        }
        let password = password(who.password_stdin)?;
        let client = client(&server)?;
        let post = async |code: Option<&SecretText>| {
            let mut body = json!({ "email": who.email, "password": password.expose_secret() });
            if let Some(code) = code {
                body["code"] = code.expose_secret().into();
            }
            let sent = client.post(format!("{server}/api/v1/session")).json(&body).send().await;
            sent.map_err(|e| format!("{server} does not answer: {}", plain(e)))
        };
        let mut response = post(None).await?;
        if response.status() == StatusCode::FORBIDDEN {
            let problem = problem(response).await;
            if problem.code != "second_factor_needed" {
                return Err(problem.detail);
            }
            response = post(Some(&code(who.code_stdin)?)).await?;
        }
        let cookie = response
            .headers()
            .get(header::SET_COOKIE)
            .and_then(|v| v.to_str().ok())
            .and_then(|v| v.split(';').next())
            .map(|pair| SecretText::from(pair.to_owned()));
        match (response.status(), cookie) {
            (StatusCode::CREATED, Some(cookie)) => Ok(Self { client, server, cookie }),
            _ => Err(problem(response).await.detail),
        }
    }

    async fn call(&self, method: Method, path: &str) -> Result<reqwest::Response, String> {
        let request = self.client.request(method, format!("{}{path}", self.server));
        let sent = request.header(header::COOKIE, self.cookie.expose_secret()).send().await;
        let response = sent.map_err(|e| {
            format!(
                "the answer was lost: {}. It may have been done: look with `portcullis credential show`, and if there \
                 is a credential whose secret you do not have, revoke it and generate another",
                plain(e)
            )
        })?;
        if response.status().is_success() { Ok(response) } else { Err(problem(response).await.detail) }
    }

    async fn close(self) {
        // If it fails the session ends by itself when idle.
        let _ = self.call(Method::POST, "/api/v1/session/end").await;
    }
}

/// An error of the client without the URL, and with its cause.
pub(crate) fn plain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

async fn problem(response: reqwest::Response) -> Problem {
    let status = response.status();
    response.json::<Problem>().await.unwrap_or_else(|_| {
        let detail = format!("the server answered {status}, and not as a Portcullis server does");
        Problem::new(status, "unreadable", detail)
    })
}

impl Command {
    /// Runs the command.
    ///
    /// # Errors
    /// What the server refused, in its words.
    pub async fn run(self) -> Result<(), String> {
        match self {
            Self::Generate { who, env } => {
                let response = once(&who, Method::POST, "/api/v1/users/me/credential/generate").await?;
                let lost = |e| {
                    format!(
                        "the answer could not be read ({}): revoke the credential and generate another",
                        plain(e)
                    )
                };
                let made = response.json().await.map_err(lost)?;
                print_generated(&made, env, who.json).map_err(|e| {
                    format!(
                        "{} was generated, but could not be printed ({e}): revoke it and generate another",
                        made.client_id
                    )
                })?;
            }
            Self::Show { who } => {
                let view: Value = read(once(&who, Method::GET, "/api/v1/users/me/credential").await?).await?;
                print_view(&view, who.json);
            }
            Self::BindKey(bind) => bind.run().await?,
            Self::Revoke { who } => {
                let view: Value =
                    read(once(&who, Method::POST, "/api/v1/users/me/credential/revoke").await?).await?;
                if who.json {
                    println!("{view}");
                } else {
                    println!("{} is revoked. Its programs have stopped.", text(&view, "client_id"));
                }
            }
        }
        Ok(())
    }
}

/// Signs in, makes one call, signs out.
async fn once(who: &Who, method: Method, path: &str) -> Result<reqwest::Response, String> {
    let signed = Signed::open(who).await?;
    let outcome = signed.call(method, path).await;
    signed.close().await;
    outcome
}

async fn read(response: reqwest::Response) -> Result<Value, String> {
    response.json().await.map_err(|e| format!("the answer could not be read: {}", plain(e)))
}

fn text<'a>(view: &'a Value, name: &str) -> &'a str {
    view.get(name).and_then(Value::as_str).unwrap_or("-")
}

/// Prints the credential, and sees that it was taken: the secret is in nobody's hands otherwise.
fn print_generated(made: &Generated, env: bool, as_json: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let secret = made.client_secret.expose_secret();
    if env {
        writeln!(out, "PORTCULLIS_CLIENT_ID={}", made.client_id)?;
        writeln!(out, "PORTCULLIS_CLIENT_SECRET={secret}")?;
        writeln!(out, "PORTCULLIS_TOKEN_URL={}", made.token_url)?;
    } else if as_json {
        let view = json!({
            "client_id": made.client_id, "client_secret": secret, "token_url": made.token_url,
            "generated_at": made.generated_at, "expires_at": made.expires_at,
        });
        writeln!(out, "{view}")?;
    } else {
        writeln!(out, "Client ID      {}", made.client_id)?;
        writeln!(out, "Client Secret  {secret}")?;
        writeln!(out, "Token URL      {}", made.token_url)?;
        writeln!(out, "Expires        {}", made.expires_at)?;
        eprintln!("Store the Client Secret now: it is shown this once and cannot be displayed again.");
    }
    out.flush()
}

fn print_view(view: &Value, as_json: bool) {
    if as_json {
        println!("{view}");
        return;
    }
    println!("Client ID      {}", text(view, "client_id"));
    match view.get("reason").and_then(Value::as_str) {
        Some(reason) => println!("Standing       {} ({reason})", text(view, "standing")),
        None => println!("Standing       {}", text(view, "standing")),
    }
    println!("Generated      {}", text(view, "generated_at"));
    println!("Expires        {}", text(view, "expires_at"));
    if view.get("last_used_at").is_some() {
        let (at, from, by) =
            (text(view, "last_used_at"), text(view, "last_used_from"), text(view, "last_used_by"));
        println!("Last used      {at} from {from} by {by} ({})", text(view, "last_used_method"));
    } else {
        println!("Last used      never");
    }
    let works = view.get("secret_works").and_then(Value::as_bool) != Some(false);
    println!("Client Secret  {}", if works { "works" } else { "switched off" });
    match view.get("key") {
        Some(key) => println!("Public key     {} bound {}", text(key, "thumbprint"), text(key, "bound_at")),
        None => println!("Public key     none"),
    }
    println!("Valid tokens   {}", view.get("valid_tokens").and_then(Value::as_u64).unwrap_or(0));
}
