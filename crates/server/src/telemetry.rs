//! The log: lines on standard error, as text or as JSON. What goes in never holds a secret (L-2):
//! requests are logged by route, not by URL, and without headers and bodies.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, filter::filter_fn, fmt, prelude::*};

use crate::config::Config;

/// Libraries that log whole URLs at some level: a URL may hold the token of a link, or a secret
/// that somebody put there.
const LOGS_URLS: [&str; 1] = ["tower_http::csrf"];

/// The filter of the setting `log`.
///
/// # Errors
/// When it cannot be read.
pub fn filter(config: &Config) -> Result<EnvFilter, String> {
    EnvFilter::try_new(&config.log).map_err(|e| format!("log = {:?}: {e}", config.log))
}

/// Starts the log.
///
/// # Errors
/// When the filter in the setting `log` cannot be read.
pub fn start(config: &Config) -> Result<(), String> {
    // A panic's message may hold anything, a secret too: only where it happened is told (L-2).
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "panicked");
    }));
    let filter = filter(config)?;
    let without_urls = filter_fn(|event| !LOGS_URLS.iter().any(|library| event.target().starts_with(library)));
    let registry = tracing_subscriber::registry().with(filter).with(without_urls);
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let started = if config.log_json {
        registry.with(lines.json()).try_init()
    } else {
        registry.with(lines.with_target(false)).try_init()
    };
    started.map_err(|e| e.to_string())
}
