//! Configuration: one table of settings, read from a TOML file, the environment and flags, in
//! that rising order. The same table makes the flags, the `config print` output and the errors.

mod mail;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::IpNet;
use jiff::SignedDuration;
use portcullis_domain::{accounts::PasswordPolicy, keys::Schedule, sessions::SessionLimits, tokens::LIFESPANS};
use portcullis_store::Database;

pub use mail::{Mail, MailWay};

/// One setting, as people write it.
pub struct Setting {
    /// The key in TOML; upper-cased behind `PORTCULLIS_` in the environment, with dashes as a flag.
    pub key: &'static str,
    /// The default, as it would be written.
    pub default: &'static str,
    /// One sentence for `--help`.
    pub help: &'static str,
}

const fn setting(key: &'static str, default: &'static str, help: &'static str) -> Setting {
    Setting { key, default, help }
}

/// Every setting there is.
pub const SETTINGS: &[Setting] = &[
    setting("listen", "127.0.0.1:8080", "Address and port to listen on"),
    setting(
        "public_url",
        "",
        "What users and programs call this server: the issuer. Default: http://<listen>, for loopback only",
    ),
    setting("data_dir", "./portcullis-data", "Folder of the embedded database and the master key file"),
    setting("database_url", "", "postgres://… to use PostgreSQL instead of the embedded SQLite"),
    setting("database_connections", "8", "Connections to PostgreSQL, or readers of SQLite (2 to 500)"),
    setting("master_key_file", "", "File with the master keys. Default: <data_dir>/master.key"),
    setting("organization", "", "The name of your organization, shown in the console"),
    setting("tls_certificate", "", "PEM file with the certificate chain, to serve HTTPS directly"),
    setting("tls_key", "", "PEM file with the private key of the certificate"),
    setting(
        "trusted_proxies",
        "",
        "Networks whose X-Forwarded-For and X-Forwarded-Proto are believed, like 10.0.0.0/8, comma separated",
    ),
    setting("cors_origins", "", "Web origins that may call the OAuth and API endpoints, comma separated"),
    setting("token_lifespan_seconds", "86400", "How long a token for Portcullis lives (60 to 2592000)"),
    setting(
        "key_rotation_seconds",
        "7776000",
        "A signing key signs for so long before the next one takes over (0: until somebody rotates; 1 to 315360000)",
    ),
    setting(
        "key_publish_ahead_seconds",
        "3600",
        "A signing key is in the key set for so long before it signs. Verifiers may keep the set for half of it, at most 300 seconds (1 to 2592000)",
    ),
    setting("rsa_key_bits", "2048", "Bits of new signing keys for RS256 (2048 or 3072)"),
    setting("password_min_chars", "15", "Fewest characters of a new password (8 to 64)"),
    setting("session_idle_minutes", "30", "A console session ends when unused for so long (1 to 1440)"),
    setting("session_absolute_hours", "12", "A console session ends after so long in any case (1 to 168)"),
    setting("audit_retention_days", "365", "Audit records older than this are dropped (1 to 36500)"),
    setting("token_record_days", "30", "Records of ended tokens are kept so long (0 to 3650)"),
    setting(
        "smtp_url",
        "",
        "smtp://user:password@host:587 (STARTTLS) or smtps://user:password@host to send mails. Default: they are put into mail_folder",
    ),
    setting(
        "mail_from",
        "",
        "Who mails are from, like Portcullis <portcullis@acme.example>; needed with smtp_url",
    ),
    setting("mail_folder", "", "Folder for mails while smtp_url is not set. Default: <data_dir>/mail"),
    setting(
        "deactivate_after_days",
        "0",
        "Deactivates accounts that have not signed in for so long (0: never; 1 to 3650)",
    ),
    setting("max_connections", "10000", "Connections served at the same time (1 to 1000000)"),
    setting("header_timeout_seconds", "10", "Time for a client to send the head of a request (1 to 600)"),
    setting("request_timeout_seconds", "30", "Time for a whole request, body included (1 to 3600)"),
    setting("shutdown_seconds", "20", "Time for requests under way to finish after SIGTERM (0 to 600)"),
    setting("log_format", "text", "text or json"),
    setting("log", "info,sqlx=warn", "What is logged: error, warn, info, debug, or a tracing filter"),
];

/// Environment names that begin with `PORTCULLIS_` but are not settings: the master key itself, the
/// path of the file, and what **Download as .env** writes for programs. (`PORTCULLIS_TEST_…` is the
/// test suite's.)
const NOT_SETTINGS: [&str; 5] = ["MASTER_KEY", "CONFIG", "CLIENT_ID", "CLIENT_SECRET", "TOKEN_URL"];

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// Nobody set it.
    Default,
    /// The TOML file.
    File,
    /// The environment.
    Environment,
    /// A flag.
    Flag,
}

impl std::fmt::Display for From {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::File => "file",
            Self::Environment => "environment",
            Self::Flag => "flag",
        })
    }
}

/// A configuration that cannot be used. The text says which setting, from where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A key or variable nobody reads.
    #[error("unknown setting {name} in the {from}{}", hint(.name))]
    Unknown {
        /// As it was written.
        name: String,
        /// Where.
        from: From,
    },
    /// A value that does not fit.
    #[error("{key} = {value:?} (from the {from}): {what}")]
    Value {
        /// The key.
        key: &'static str,
        /// What was given.
        value: String,
        /// Where.
        from: From,
        /// What is wrong and what to do.
        what: String,
    },
    /// The file.
    #[error("{0}: {1}")]
    File(PathBuf, String),
    /// Settings that do not go together.
    #[error("{0}")]
    Together(String),
}

/// Names the setting that was probably meant.
fn hint(name: &str) -> String {
    let plain = name.trim_start_matches("PORTCULLIS_").to_lowercase();
    let near =
        SETTINGS.iter().find(|s| s.key.starts_with(&plain) || plain.starts_with(s.key) || s.key.contains(&plain));
    near.map_or_else(
        || "; `portcullis config print` lists all there are".to_owned(),
        |s| format!("; did you mean {}?", s.key),
    )
}

/// The settings as text, each with where it came from.
pub struct Settings(BTreeMap<&'static str, (String, From)>);

impl Settings {
    /// Gathers the settings. `file` is the path of a TOML file, if one is given; `environment`
    /// all variables; `flags` what the command line gave, by key.
    ///
    /// # Errors
    /// When a name is unknown or the file cannot be read.
    pub fn gather(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
        flags: &BTreeMap<String, String>,
    ) -> Result<Self, ConfigError> {
        let mut all = BTreeMap::new();
        for setting in SETTINGS {
            all.insert(setting.key, (setting.default.to_owned(), From::Default));
        }
        let mut settings = Self(all);
        if let Some(path) = file {
            let text =
                std::fs::read_to_string(path).map_err(|e| ConfigError::File(path.to_owned(), e.to_string()))?;
            let table: toml::Table =
                text.parse().map_err(|e: toml::de::Error| ConfigError::File(path.to_owned(), place(&text, &e)))?;
            for (key, value) in &table {
                settings.put(key, key, as_text(value), From::File)?;
            }
        }
        for (name, value) in environment {
            let Some(rest) = name.strip_prefix("PORTCULLIS_") else { continue };
            if NOT_SETTINGS.contains(&rest) || rest.starts_with("TEST_") {
                continue;
            }
            settings.put(&rest.to_lowercase(), &name, value, From::Environment)?;
        }
        for (key, value) in flags {
            settings.put(key, key, value.clone(), From::Flag)?;
        }
        Ok(settings)
    }

    fn put(&mut self, key: &str, written: &str, value: String, from: From) -> Result<(), ConfigError> {
        let unknown = || ConfigError::Unknown { name: written.to_owned(), from };
        let slot = self.0.iter_mut().find(|(known, _)| **known == key).ok_or_else(unknown)?;
        *slot.1 = (value, from);
        Ok(())
    }

    fn text(&self, key: &'static str) -> &str {
        self.0.get(key).map_or("", |(value, _)| value.as_str())
    }

    fn wrong(&self, key: &'static str, what: impl Into<String>) -> ConfigError {
        let (value, from) = self.0.get(key).cloned().unwrap_or((String::new(), From::Default));
        let value = mask(key, &value);
        ConfigError::Value { key, value, from, what: what.into() }
    }

    fn parse<T: std::str::FromStr>(&self, key: &'static str, what: &str) -> Result<T, ConfigError> {
        self.text(key).trim().parse().map_err(|_| self.wrong(key, what))
    }

    fn number<T>(&self, key: &'static str, low: T, high: T) -> Result<T, ConfigError>
    where
        T: std::str::FromStr + PartialOrd + std::fmt::Display,
    {
        let what = format!("give a whole number from {low} to {high}");
        let number: T = self.parse(key, &what)?;
        if (low..=high).contains(&number) { Ok(number) } else { Err(self.wrong(key, what)) }
    }

    fn seconds(&self, key: &'static str, low: u64, high: u64) -> Result<Duration, ConfigError> {
        self.number(key, low, high).map(Duration::from_secs)
    }

    fn days(&self, key: &'static str, low: i64, high: i64) -> Result<SignedDuration, ConfigError> {
        self.number(key, low, high).map(|days| SignedDuration::from_hours(days * 24))
    }

    fn list<T: std::str::FromStr>(&self, key: &'static str, what: &str) -> Result<Vec<T>, ConfigError> {
        self.text(key)
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(|item| item.parse().map_err(|_| self.wrong(key, what)))
            .collect()
    }

    fn path(&self, key: &'static str) -> Option<PathBuf> {
        Some(self.text(key).trim()).filter(|t| !t.is_empty()).map(PathBuf::from)
    }

    /// The settings as TOML, secrets masked, each with where it came from.
    #[must_use]
    pub fn print(&self) -> String {
        let mut out = String::new();
        for setting in SETTINGS {
            let (value, from) = &self.0[setting.key];
            let shown = toml::Value::String(mask(setting.key, value));
            out.push_str(&format!("# {} ({from})\n{} = {shown}\n", setting.help, setting.key));
        }
        out
    }
}

/// Where a TOML file cannot be read, without the text there: it may be a password.
fn place(text: &str, error: &toml::de::Error) -> String {
    let at = error.span().map_or(0, |span| span.start).min(text.len());
    let line = text.as_bytes()[..at].iter().filter(|b| **b == b'\n').count() + 1;
    format!("line {line} is not TOML as it should be: one `key = \"value\"` a line")
}

/// A URL that may hold a password, without it.
fn mask(key: &str, value: &str) -> String {
    if !["database_url", "smtp_url"].contains(&key) || value.is_empty() {
        return value.to_owned();
    }
    let Some((scheme, rest)) = value.split_once("://") else { return "***".to_owned() };
    // A password may also be a parameter; none of them is needed to recognise the database.
    let (place, parameters) = match rest.split_once('?') {
        Some((place, _)) => (place, "?***"),
        None => (rest, ""),
    };
    let place = match place.rsplit_once('@') {
        Some((user, host)) if user.contains(':') => {
            format!("{}:***@{host}", user.split(':').next().unwrap_or_default())
        }
        _ => place.to_owned(),
    };
    format!("{scheme}://{place}{parameters}")
}

fn as_text(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Array(items) => items.iter().map(as_text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// The configuration, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address and port to listen on.
    pub listen: SocketAddr,
    /// The issuer: scheme, host and port, without a slash at the end.
    pub public_url: String,
    /// The folder of the embedded database and the key file.
    pub data_dir: PathBuf,
    /// Which database.
    pub database: Database,
    /// How many connections to it.
    pub database_connections: u32,
    /// The file with the master keys.
    pub master_key_file: PathBuf,
    /// The name shown in the console; may be empty.
    pub organization: String,
    /// Certificate chain and private key, when this server does TLS itself.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Who may say where a request really came from.
    pub trusted_proxies: Vec<IpNet>,
    /// Web origins that may call the OAuth and API endpoints.
    pub cors_origins: Vec<String>,
    /// T-1, in seconds.
    pub token_lifespan_seconds: u32,
    /// When signing keys take over from each other.
    pub keys: Schedule,
    /// The size of new RSA signing keys.
    pub rsa_key_bits: u32,
    ///
    pub passwords: PasswordPolicy,
    /// When console sessions end.
    pub sessions: SessionLimits,
    /// How long audit records are kept (L-1).
    pub audit_retention: SignedDuration,
    /// How long records of ended tokens are kept.
    pub token_records: SignedDuration,
    /// How mails leave, and from whom they are.
    pub mail: Mail,
    /// accounts that have not signed in for so long are deactivated; `None` when never.
    pub deactivate_after: Option<SignedDuration>,
    /// Limits on connections and requests.
    pub limits: Limits,
    /// `text` or `json`.
    pub log_json: bool,
    /// The tracing filter.
    pub log: String,
}

/// Limits that keep a slow or greedy client from harming others (protocol 43).
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at the same time.
    pub connections: usize,
    /// For the head of a request.
    pub header: Duration,
    /// For a whole request.
    pub request: Duration,
    /// For requests under way after SIGTERM.
    pub shutdown: Duration,
}

/// The most bytes a request body may have (protocol 43).
pub const MAX_BODY_BYTES: usize = 64 * 1024;

impl Config {
    /// Checks the settings.
    ///
    /// # Errors
    /// The first setting that does not fit.
    pub fn check(settings: &Settings) -> Result<Self, ConfigError> {
        let listen: SocketAddr = settings.parse("listen", "give an address and a port, like 127.0.0.1:8080")?;
        if listen.port() == 0 {
            return Err(settings.wrong("listen", "give a port: it is part of what this server is called"));
        }
        let (shortest, longest) = LIFESPANS.into_inner();
        let data_dir = settings.path("data_dir").ok_or_else(|| settings.wrong("data_dir", "give a folder"))?;
        let tls = tls(settings)?;
        let mail_folder = settings.path("mail_folder").unwrap_or_else(|| data_dir.join("mail"));
        let config = Self {
            listen,
            public_url: public_url(settings, listen, tls.is_some())?,
            database: database(settings, &data_dir)?,
            database_connections: settings.number("database_connections", 2, 500)?,
            master_key_file: settings.path("master_key_file").unwrap_or_else(|| data_dir.join("master.key")),
            data_dir,
            organization: settings.text("organization").trim().to_owned(),
            tls,
            trusted_proxies: settings
                .list("trusted_proxies", "give networks like 10.0.0.0/8 or 192.0.2.1/32, comma separated")?,
            cors_origins: settings
                .list("cors_origins", "give origins like https://app.example, comma separated")?,
            token_lifespan_seconds: settings.number("token_lifespan_seconds", shortest, longest)?,
            keys: schedule(settings)?,
            rsa_key_bits: match settings.number("rsa_key_bits", 2048, 3072)? {
                bits @ (2048 | 3072) => bits,
                _ => return Err(settings.wrong("rsa_key_bits", "give 2048 or 3072")),
            },
            passwords: PasswordPolicy { min_chars: settings.number("password_min_chars", 8, 64)? },
            sessions: SessionLimits {
                idle: SignedDuration::from_mins(settings.number("session_idle_minutes", 1, 1440)?),
                absolute: SignedDuration::from_hours(settings.number("session_absolute_hours", 1, 168)?),
            },
            audit_retention: settings.days("audit_retention_days", 1, 36500)?,
            token_records: settings.days("token_record_days", 0, 3650)?,
            mail: Mail::check(settings, &mail_folder)?,
            deactivate_after: Some(settings.days("deactivate_after_days", 0, 3650)?).filter(|d| !d.is_zero()),
            limits: Limits {
                connections: settings.number("max_connections", 1, 1_000_000)?,
                header: settings.seconds("header_timeout_seconds", 1, 600)?,
                request: settings.seconds("request_timeout_seconds", 1, 3600)?,
                shutdown: settings.seconds("shutdown_seconds", 0, 600)?,
            },
            log_json: match settings.text("log_format") {
                "text" => false,
                "json" => true,
                _ => return Err(settings.wrong("log_format", "give text or json")),
            },
            log: settings.text("log").to_owned(),
        };
        for origin in &config.cors_origins {
            if !is_origin(origin) {
                return Err(settings.wrong(
                    "cors_origins",
                    "give origins like https://app.example: no path, no slash at the end",
                ));
            }
        }
        config.transport()?;
        Ok(config)
    }

    /// Whether users reach this server by HTTPS, so that plain HTTP is refused (protocol 15).
    #[must_use]
    pub fn wants_tls(&self) -> bool {
        self.public_url.starts_with("https://")
    }

    /// Loopback HTTP is for trying; anything else wants TLS, own or a trusted proxy's.
    fn transport(&self) -> Result<(), ConfigError> {
        let fault = if self.wants_tls() {
            (self.tls.is_none() && self.trusted_proxies.is_empty()).then_some(
                "public_url is https, but nothing here does TLS: give tls_certificate and tls_key, \
                 or name the proxy that does in trusted_proxies",
            )
        } else if self.tls.is_some() {
            Some("tls_certificate is given, but public_url is http: make it https")
        } else if !self.listen.ip().is_loopback() || !is_loopback_url(&self.public_url) {
            Some(
                "plain HTTP is only for trying on this machine (127.0.0.1 or localhost). For anything else set \
                 public_url to https://… and give tls_certificate and tls_key, or name a proxy in trusted_proxies",
            )
        } else {
            None
        };
        fault.map_or(Ok(()), |what| Err(ConfigError::Together(what.to_owned())))
    }
}

/// Whether a text is an origin exactly as a browser would write it: scheme, host, port unless it is
/// the scheme's own, and nothing behind.
fn is_origin(text: &str) -> bool {
    let Ok(url) = url::Url::parse(text) else { return false };
    let host = url.host_str().unwrap_or_default();
    let plain = host.starts_with('[')
        || host.split('.').all(|l| !l.is_empty() && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
    matches!(url.scheme(), "http" | "https") && plain && url.origin().ascii_serialization() == text
}

pub(crate) fn is_loopback_url(url: &str) -> bool {
    let host = url.parse::<axum::http::Uri>().ok().and_then(|u| u.host().map(str::to_owned)).unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn database(settings: &Settings, data_dir: &Path) -> Result<Database, ConfigError> {
    match settings.text("database_url").trim() {
        "" => Ok(Database::Sqlite(data_dir.join("portcullis.db"))),
        url if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
            Ok(Database::Postgres(url.to_owned()))
        }
        _ => Err(settings.wrong("database_url", "give a postgres:// URL, or nothing for the embedded database")),
    }
}

/// A key that takes over must have been published for long enough by then.
fn schedule(settings: &Settings) -> Result<Schedule, ConfigError> {
    let publish_ahead = SignedDuration::from_secs(settings.number("key_publish_ahead_seconds", 1, 2_592_000)?);
    let rotation = SignedDuration::from_secs(settings.number("key_rotation_seconds", 0, 315_360_000)?);
    let rotation = Some(rotation).filter(|r| !r.is_zero());
    if rotation.is_some_and(|rotation| rotation < publish_ahead) {
        return Err(ConfigError::Together(
            "key_rotation_seconds is less than key_publish_ahead_seconds: the next key would not be published for \
             long enough when it is to take over. Make the one longer or the other shorter"
                .to_owned(),
        ));
    }
    Ok(Schedule { rotation, publish_ahead })
}

fn tls(settings: &Settings) -> Result<Option<(PathBuf, PathBuf)>, ConfigError> {
    match (settings.path("tls_certificate"), settings.path("tls_key")) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
        _ => {
            Err(ConfigError::Together("tls_certificate and tls_key go together: give both or neither".to_owned()))
        }
    }
}

fn public_url(settings: &Settings, listen: SocketAddr, tls: bool) -> Result<String, ConfigError> {
    match settings.text("public_url").trim() {
        "" if tls => Err(ConfigError::Together(
            "public_url is needed with TLS: the https:// name that users and programs call this server by".to_owned(),
        )),
        "" => Ok(format!("http://{listen}")),
        url if is_origin(url) => Ok(url.to_owned()),
        _ => Err(settings.wrong(
            "public_url",
            "give scheme, host and port only, in lower case, like https://access.acme.example (no path, no slash at the end)",
        )),
    }
}

#[cfg(test)]
mod tests;
