//! The overview and the help page.

use std::sync::Arc;

use axum::{Extension, extract::State};
use portcullis_domain::credentials::Standing;

use crate::{
    app::{App, Caller, credentials::Tab},
    console::{
        Answer, dates, ok,
        view::{Addresses, CredentialSummary, Dates, Frame, Help, Nav, Overview, lasts},
    },
};

fn summary(tab: Tab, dates: &Dates) -> CredentialSummary {
    let Some(held) = tab.held else { return CredentialSummary::None };
    let client_id = held.credential.client_id.as_str().to_owned();
    match held.standing {
        Standing::Active => CredentialSummary::Active {
            client_id,
            expires: dates.when(held.credential.expires_at),
            last_used: held.tokens.last.map(|t| dates.when(t.issued_at)),
        },
        Standing::Suspended(why, since) => {
            CredentialSummary::Suspended { client_id, why, since: dates.when(since) }
        }
        Standing::Expired(at) => CredentialSummary::Expired { client_id, expired: dates.when(at) },
        Standing::Revoked(..) => CredentialSummary::None,
    }
}

/// `GET /`.
///
/// # Errors
/// The database's.
pub async fn overview(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>) -> Answer {
    let credential = if caller.user.standing.is_super_admin() {
        let tab = app.credential_tab(&caller).await?;
        let dates = dates(&caller.user, tab.now);
        Some(summary(tab, &dates))
    } else {
        None
    };
    let issuer = app.config.public_url.clone();
    ok(&Overview {
        frame: Frame::new(&caller.user, &app.config.organization, Nav::Overview, "Overview"),
        notice: None,
        credential,
        addresses: Addresses {
            token: format!("{issuer}/oauth/token"),
            introspection: format!("{issuer}/oauth/introspect"),
            jwks: format!("{issuer}/.well-known/jwks.json"),
            api: app.signer.audience().to_owned(),
            issuer,
        },
    })
}

/// `GET /help`.
///
/// # Errors
/// None of its own.
pub async fn help(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>) -> Answer {
    ok(&Help {
        frame: Frame::new(&caller.user, &app.config.organization, Nav::Help, "Help"),
        token_url: format!("{}/oauth/token", app.config.public_url),
        token_lasts: lasts(app.config.token_lifespan_seconds),
    })
}
