//! Client authentication: the Client Secret in HTTP Basic or in the body (RFC 6749 §2.3.1), or an
//! assertion signed with the private key (RFC 7523 §2.2).

use axum::http::{HeaderMap, header};
use base64::{Engine, prelude::BASE64_STANDARD};
use memchr::memchr2;
use portcullis_domain::{audit::Origin, client_keys::ASSERTION_TYPE, secret::SecretText};

use crate::{
    app::{
        App,
        client_keys::SignedAssertion,
        tokens::{ClientProof, Given},
    },
    oauth::{error::OAuthError, form::Form},
};

/// Reads who the client says it is.
///
/// # Errors
/// `invalid_request` when it says so in two ways, `invalid_client` when it says nothing that can
/// be read.
pub fn proof(app: &App, headers: &HeaderMap, form: &Form, origin: Origin) -> Result<ClientProof, OAuthError> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let basic = match (given.next(), given.next()) {
        (None, _) => None,
        (Some(value), None) => Some(value),
        (Some(_), Some(_)) => {
            return Err(OAuthError::invalid_request("There is more than one Authorization header."));
        }
    };
    if form.get("client_assertion").is_some() || form.get("client_assertion_type").is_some() {
        // RFC 7521 §4.2, RFC 6749 §2.3: one method only.
        if basic.is_some() || form.get("client_secret").is_some() {
            return Err(two_ways());
        }
        return assertion(app, form, origin);
    }
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
            Ok(ClientProof { client_id, given: Given::Secret(secret), origin })
        }
        (None, Some(id), Some(secret)) => {
            let given = Given::Secret(SecretText::from(secret.to_owned()));
            Ok(ClientProof { client_id: id.to_owned(), given, origin })
        }
        (None, ..) => Err(OAuthError::invalid_client(
            "Send the Client ID and the Client Secret with HTTP Basic, or as client_id and client_secret in the body, \
             or send a client_assertion.",
        )),
    }
}

/// Reads who the client says it is where there is no body to say it in: HTTP Basic alone.
///
/// # Errors
/// `invalid_client` when there is none that can be read, or more than one.
pub fn basic(app: &App, headers: &HeaderMap, origin: Origin) -> Result<ClientProof, OAuthError> {
    proof(app, headers, &Form::default(), origin)
}

fn two_ways() -> OAuthError {
    OAuthError::invalid_request(
        "The client is named in two ways. Use one: HTTP Basic, body parameters, or a client assertion.",
    )
}

/// RFC 7523 §2.2. What is wrong with the assertion itself is told: it depends on no client.
fn assertion(app: &App, form: &Form, origin: Origin) -> Result<ClientProof, OAuthError> {
    let (Some(text), Some(kind)) = (form.get("client_assertion"), form.get("client_assertion_type")) else {
        return Err(OAuthError::invalid_request("Send client_assertion and client_assertion_type together."));
    };
    if kind != ASSERTION_TYPE {
        return Err(OAuthError::invalid_request(format!("The client_assertion_type is to be {ASSERTION_TYPE}.")));
    }
    let assertion = SignedAssertion::read(text, app.signer.issuer(), app.clock.now())
        .map_err(|why| OAuthError::invalid_client(why.to_string()))?;
    let client_id = assertion.client_id().to_owned();
    // RFC 7521 §4.2: a client_id that is sent as well is the same.
    if form.get("client_id").is_some_and(|id| id != client_id) {
        return Err(two_ways());
    }
    Ok(ClientProof { client_id, given: Given::Assertion(assertion), origin })
}

/// The two parts of `Basic base64(form-encoded id ":" form-encoded secret)` (RFC 6749 §2.3.1, RFC 7617
/// §2); `None` when it is not that.
#[must_use]
pub fn parse_basic(value: &str) -> Option<(String, SecretText)> {
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
    if memchr2(b'+', b'%', text.as_bytes()).is_none() {
        return text.to_owned();
    }
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
