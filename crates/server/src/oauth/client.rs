//! Client authentication with the Client Secret (RFC 6749 §2.3.1): HTTP Basic or body parameters.

use axum::http::{HeaderMap, header};
use base64::{Engine, prelude::BASE64_STANDARD};
use portcullis_domain::{audit::Origin, secret::SecretText};

use crate::{
    app::tokens::ClientProof,
    oauth::{error::OAuthError, form::Form},
};

/// Reads who the client says it is.
///
/// # Errors
/// `invalid_request` when it says so in two ways, `invalid_client` when it says nothing that can
/// be read.
pub fn proof(headers: &HeaderMap, form: &Form, origin: Origin) -> Result<ClientProof, OAuthError> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let basic = match (given.next(), given.next()) {
        (None, _) => None,
        (Some(value), None) => Some(value),
        (Some(_), Some(_)) => {
            return Err(OAuthError::invalid_request("There is more than one Authorization header."));
        }
    };
    match (basic, form.get("client_id"), form.get("client_secret")) {
        (Some(_), _, Some(_)) => Err(two_ways()),
        (Some(value), id, None) => {
            let (client_id, secret) = value.to_str().ok().and_then(parse_basic).ok_or_else(|| {
                OAuthError::invalid_client(
                    "The Authorization header is not Basic with a Client ID and a Client Secret.",
                )
            })?;
            if id.is_some_and(|id| id != client_id) {
                return Err(two_ways());
            }
            Ok(ClientProof { client_id, secret, origin })
        }
        (None, Some(id), Some(secret)) => {
            Ok(ClientProof { client_id: id.to_owned(), secret: SecretText::from(secret.to_owned()), origin })
        }
        (None, ..) => Err(OAuthError::invalid_client(
            "Send the Client ID and the Client Secret with HTTP Basic, or as client_id and client_secret in the body.",
        )),
    }
}

/// Reads who the client says it is where there is no body to say it in: HTTP Basic alone.
///
/// # Errors
/// `invalid_client` when there is none that can be read, or more than one.
pub fn basic(headers: &HeaderMap, origin: Origin) -> Result<ClientProof, OAuthError> {
    proof(headers, &Form::default(), origin)
}

fn two_ways() -> OAuthError {
    OAuthError::invalid_request("The client is named in two ways. Use HTTP Basic or body parameters, not both.")
}

/// `Basic base64(form-encoded id ":" form-encoded secret)` (RFC 6749 §2.3.1, RFC 7617 §2).
fn parse_basic(value: &str) -> Option<(String, SecretText)> {
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    Some((form_decode(id), form_decode(secret).into()))
}

/// Undoes the form encoding of one value: `+` is a space, `%` begins a byte.
fn form_decode(text: &str) -> String {
    // As the only value of a form; `&` and `=` may stand in it unescaped, as some clients send it.
    let escaped = text.replace('&', "%26").replace('=', "%3D");
    form_urlencoded::parse(format!("v={escaped}").as_bytes())
        .next()
        .map(|(_, v)| v.into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_domain::secret::ExposeSecret;

    fn basic(plain: &str) -> Option<(String, String)> {
        let value = format!("Basic {}", BASE64_STANDARD.encode(plain));
        parse_basic(&value).map(|(id, secret)| (id, secret.expose_secret().to_owned()))
    }

    #[test]
    fn protocol7_both_parts_of_basic_are_form_decoded() {
        let pair = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(basic("id:secret"), pair("id", "secret"));
        assert_eq!(basic("a%3Ab:c%25d"), pair("a:b", "c%d"));
        assert_eq!(basic("a+b:c%2Bd"), pair("a b", "c+d"));
        assert_eq!(basic("id:a:b&c=d"), pair("id", "a:b&c=d"));
        assert_eq!(basic("no colon"), None);
        assert_eq!(parse_basic("Bearer x").map(|p| p.0), None);
        assert_eq!(parse_basic("Basic %%%").map(|p| p.0), None);
    }
}
