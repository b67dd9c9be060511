//! `POST /oauth/introspect` (RFC 7662): whether a token is active now.
//!
//! An API asks with a key of its own about the tokens for it; a program asks with its credential
//! about its own tokens. To everybody else a token is as if it were not there (§4). An API may have
//! the answer signed (RFC 9701).

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use portcullis_domain::tokens::{Claims, Confirmation};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    app::{App, introspection::Asker},
    oauth::{
        client,
        error::{self, OAuthError, never_stored},
        form::Asked,
    },
};

/// The media type of a signed response (RFC 9701 §5).
const SIGNED: &str = "application/token-introspection+jwt";

/// The type in its header (RFC 9701 §5).
const SIGNED_TYPE: &str = "token-introspection+jwt";

/// The response (§2.2). Of a token that is not active there is nothing but that.
#[derive(Serialize)]
struct Said {
    active: bool,
    #[serde(flatten)]
    token: Option<Described>,
}

/// An active token.
#[derive(Serialize)]
struct Described {
    #[serde(skip_serializing_if = "String::is_empty")]
    scope: String,
    client_id: String,
    token_type: &'static str,
    exp: i64,
    iat: i64,
    sub: String,
    aud: String,
    iss: String,
    jti: Uuid,
    /// What it is bound to (RFC 9449 §6.2).
    #[serde(skip_serializing_if = "Option::is_none")]
    cnf: Option<Confirmation>,
}

impl From<Claims> for Described {
    fn from(claims: Claims) -> Self {
        Self {
            token_type: claims.token_type(),
            scope: claims.scope,
            client_id: claims.client_id,
            exp: claims.exp,
            iat: claims.iat,
            sub: claims.sub,
            aud: claims.aud,
            iss: claims.iss,
            jti: claims.jti,
            cnf: claims.cnf,
        }
    }
}

/// What is signed (RFC 9701 §5): what is said, by whom, to whom. Neither `sub` nor `exp` stands beside
/// it, so that nobody takes it for a token.
#[derive(Serialize)]
struct Signed<'a> {
    iss: &'a str,
    aud: &'a str,
    iat: i64,
    token_introspection: Said,
}

/// Answers an introspection request.
///
/// # Errors
/// As RFC 7662 §2.3 has them; in doubt 503, never a false answer (I6).
pub async fn post(
    State(app): State<Arc<App>>,
    Asked { origin, headers, form }: Asked,
) -> Result<Response, OAuthError> {
    let proof = client::proof(&app, &headers, &form, origin)?;
    let token = form.get("token");
    // Who asks, and what about, are read in one turn, and nothing is told before the caller is authenticated
    // (§2.1). Who is refused waits for no more than that; a look-up for too long a proof is not worth it.
    let about = token.filter(|_| !proof.is_too_long());
    let looking_up = async {
        Ok(match about {
            Some(token) => app.look_up(token).await,
            None => Ok(None),
        })
    };
    let (found, asker) = tokio::try_join!(looking_up, app.authenticate_asker(proof))?;
    if token.is_none() {
        return Err(OAuthError::invalid_request("token is missing."));
    }
    // §4: liveness, audience and standing, all of one instant.
    let token = app.introspect(&asker, found?).await?.map(Described::from);
    let said = Said { active: token.is_some(), token };
    match &asker {
        // RFC 9701 §4: for an API that asks for it. A program is nobody's audience, so it gets JSON.
        Asker::Api(presented) if wants_signed(&headers) => {
            let signed = Signed {
                iss: app.signer.issuer(),
                aud: &presented.api.settings.identifier,
                iat: app.clock.now().as_second(),
                token_introspection: said,
            };
            let kind = [(header::CONTENT_TYPE, HeaderValue::from_static(SIGNED))];
            let (keys, algorithm) = (app.signer.current().await?, presented.api.settings.algorithm);
            let mut response = (kind, keys.sign_as(SIGNED_TYPE, algorithm, &signed)?).into_response();
            never_stored(&mut response);
            Ok(response)
        }
        _ => Ok(error::json(&said)?),
    }
}

/// Whether the signed form is asked for by name, and not less than plain JSON (RFC 9110 §12.5.1).
fn wants_signed(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok());
    let ranges: Vec<(&str, f32)> = accepted.flat_map(|v| v.split(',')).map(range).collect();
    let weight = |wanted: &str| {
        let found = ranges.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.map(|(_, weight)| *weight).fold(0.0, f32::max)
    };
    weight(SIGNED) > 0.0 && weight(SIGNED) >= weight("application/json")
}

/// A media range and its weight.
fn range(text: &str) -> (&str, f32) {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let weight = parts.find_map(|p| p.strip_prefix("q=").or_else(|| p.strip_prefix("Q=")));
    (name, weight.map_or(1.0, |w| w.parse().unwrap_or(0.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signed_form_is_for_who_asks_for_it() {
        let wants = |lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::ACCEPT, HeaderValue::from_static(line));
            }
            wants_signed(&headers)
        };
        for yes in [
            &["application/token-introspection+jwt"][..],
            &["Application/Token-Introspection+JWT; q=0.2"],
            &["application/json;q=0.5, application/token-introspection+jwt"],
            &["application/json", "application/token-introspection+jwt"],
        ] {
            assert!(wants(yes), "{yes:?}");
        }
        for no in [
            &[][..],
            &["*/*"],
            &["application/*"],
            &["application/json"],
            &["application/jwt"],
            &["application/token-introspection+jwt;q=0"],
            &["application/token-introspection+jwt;q=x"],
            &["application/json, application/token-introspection+jwt;q=0.9"],
        ] {
            assert!(!wants(no), "{no:?}");
        }
    }
}
