//! The OpenAPI document, made of the code. The copy in `docs/openapi.json` is compared with it by
//! a test.

use std::sync::LazyLock;

use axum::{
    http::{HeaderMap, HeaderValue},
    response::Response,
};
use utoipa::{
    Modify, OpenApi,
    openapi::security::{ApiKey, ApiKeyValue, ClientCredentials, Flow, OAuth2, Scopes, SecurityScheme},
};

use crate::{access::SESSION_COOKIE, api, assets};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Portcullis API",
        description = "What access tokens open. Errors are problem details (RFC 9457). A token acts as the owner of \
                       its credential, with the owner's present rights; it cannot generate or revoke credentials.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    paths(
        api::sessions::sign_in,
        api::sessions::sign_out,
        api::accounts::me,
        api::accounts::users,
        api::accounts::user,
        api::people::invite,
        api::people::invite_again,
        api::people::activate,
        api::people::deactivate,
        api::people::delete,
        api::people::give_super_admin,
        api::people::take_super_admin,
        api::people::turn_mfa_off,
        api::credentials::show,
        api::credentials::generate,
        api::credentials::revoke,
        api::audit::page,
        api::apis::list,
        api::apis::show,
        api::apis::register,
        api::apis::change,
        api::apis::remove,
        api::apis::make_key,
        api::apis::remove_key,
        api::keys::list,
        api::keys::rotate,
        api::keys::withdraw,
    ),
    modifiers(&Security)
)]
struct Document;

struct Security;

impl Modify for Security {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let cookie = SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::new(SESSION_COOKIE)));
        let scopes = Scopes::from_iter(portcullis_domain::tokens::SCOPES);
        let flow = Flow::ClientCredentials(ClientCredentials::new("/oauth/token", scopes));
        let components = document.components.get_or_insert_with(Default::default);
        components.add_security_scheme("session", cookie);
        components.add_security_scheme("access_token", SecurityScheme::OAuth2(OAuth2::new([flow])));
    }
}

/// The document as JSON.
///
/// # Panics
/// Never: the document is made of plain values.
#[must_use]
#[expect(clippy::expect_used, reason = "a document of plain values always serialises")]
pub fn json() -> String {
    let mut text = Document::openapi().to_pretty_json().expect("plain values");
    text.push('\n');
    text
}

/// `GET /api/v1/openapi.json`.
pub async fn document(headers: HeaderMap) -> Response {
    static DOCUMENT: LazyLock<assets::Document> = LazyLock::new(|| assets::Document::new(json().into()));
    DOCUMENT.answer(&headers, "application/json", HeaderValue::from_static("public, max-age=300"))
}
