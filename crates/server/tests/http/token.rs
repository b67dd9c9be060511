//! The token endpoint: `POST /oauth/token`.

mod claims;
mod clients;
mod races;
mod requests;
mod transport;

use crate::support::Program;

/// The body of a token request.
const GRANT: &str = "grant_type=client_credentials";

/// The Client ID and the Client Secret as body parameters.
fn in_body(program: &Program) -> String {
    form_urlencoded::Serializer::new(String::new())
        .append_pair("client_id", &program.client_id)
        .append_pair("client_secret", &program.client_secret)
        .finish()
}

/// The Client ID and the Client Secret as the value of an Authorization header.
fn basic(client_id: &str, secret: &str) -> String {
    use base64::{Engine, prelude::BASE64_STANDARD};
    format!("Basic {}", BASE64_STANDARD.encode(format!("{client_id}:{secret}")))
}
