//! My Account Settings, **Credentials**: the public key of a credential is bound, replaced and removed,
//! and its Client Secret switched off and on (C-14, C-15).

use std::sync::Arc;

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use portcullis_domain::{
    client_keys::{KeyAct, KeyRefused},
    secret::SecretText,
};
use portcullis_verify::jwk::{JwkError, PublicJwk};
use serde::Deserialize;

use crate::{
    app::{App, Caller, client_keys::KeyChange, credentials::Tab as Facts},
    console::{
        Answer, cookie,
        credentials::{frame, now},
        failed, page as page_with, see_other, sign_in,
        view::{CredentialChange, Field, Notice, Tab},
    },
    error::Failure,
};

/// What was typed: the Client ID that the person saw, the key, and the password, when it is asked for.
#[derive(Deserialize)]
pub struct Changing {
    client_id: String,
    key: Option<String>,
    password: Option<SecretText>,
}

/// Where the page of an act is.
#[must_use]
pub fn address(act: KeyAct) -> &'static str {
    match act {
        KeyAct::Bind => "/account/credentials/key",
        KeyAct::Remove => "/account/credentials/key/remove",
        KeyAct::SecretOff => "/account/credentials/secret/off",
        KeyAct::SecretOn => "/account/credentials/secret/on",
    }
}

/// What an act is called, what it does, and the word on its button.
fn words(act: KeyAct, has_key: bool) -> (&'static str, &'static [&'static str], &'static str) {
    match act {
        KeyAct::Bind if has_key => (
            "Replace the public key",
            &[
                "The key that is bound stops at once: programs that use it get no new tokens.",
                "Tokens that were issued stay valid until they end. To stop them too, revoke the credential.",
            ],
            "Replace key",
        ),
        KeyAct::Bind => (
            "Bind a public key",
            &[
                "Programs can then prove themselves with the private key, which never leaves their machine.",
                "The Client Secret goes on working until you switch it off.",
            ],
            "Bind key",
        ),
        KeyAct::Remove => (
            "Remove the public key?",
            &[
                "Programs that use it get no new tokens. They need the Client Secret again.",
                "Tokens that were issued stay valid until they end. To stop them too, revoke the credential.",
            ],
            "Remove",
        ),
        KeyAct::SecretOff => (
            "Switch the Client Secret off?",
            &[
                "Programs that use it get no new tokens. Those that have the private key go on.",
                "The key cannot be removed then, but replaced. You can switch the secret on again.",
            ],
            "Switch off",
        ),
        KeyAct::SecretOn => (
            "Switch the Client Secret on?",
            &["Programs that have it get tokens again, beside those that have the private key."],
            "Switch on",
        ),
    }
}

/// What is wrong with a pasted text. A private key is named as what it is.
fn key_words(why: JwkError) -> String {
    match why {
        JwkError::Private => "This is a private key. Paste the public key that belongs to it; the private one stays \
                              where it is used. It was not kept here, but it has been sent: make a new pair if you \
                              are not sure who saw it."
            .to_owned(),
        JwkError::Symmetric => "This is a shared secret. Paste a public key.".to_owned(),
        JwkError::Malformed(what) => {
            format!("This is not a public key as a JWK or as a PEM that begins with BEGIN PUBLIC KEY ({what}).")
        }
        JwkError::Unsupported(what) => {
            format!("A key of this kind is not taken ({what}). Use P-256, Ed25519, or RSA of 2048 to 4096 bits.")
        }
        JwkError::OtherUse(what) => format!("This key is meant for something else ({what}). Use one that signs."),
    }
}

/// The page of an act, with what was typed and what is wrong with it.
fn content(app: &App, caller: &Caller, act: KeyAct, facts: &Facts) -> CredentialChange {
    let credential = facts.held.as_ref().map(|held| &held.credential);
    let (title, what, button) = words(act, credential.is_some_and(|c| c.key.is_some()));
    CredentialChange {
        frame: frame(app, caller),
        tab: Tab::Credentials,
        notice: None,
        title,
        what,
        button,
        action: address(act),
        harsh: matches!(act, KeyAct::Remove | KeyAct::SecretOff),
        client_id: credential.map(|c| c.client_id.as_str().to_owned()).unwrap_or_default(),
        key: (act == KeyAct::Bind).then(|| Field::new("")),
        password_needed: facts.may(caller, act) == Err(KeyRefused::PasswordNeeded),
        password_error: None,
    }
}

/// `GET` of [`address`].
///
/// # Errors
/// The database's; why it cannot be done is said in the tab.
pub async fn page(act: KeyAct, app: Arc<App>, caller: Caller) -> Answer {
    let facts = app.credential_tab(&caller).await?;
    match facts.may(&caller, act) {
        Ok(()) | Err(KeyRefused::PasswordNeeded) => {
            page_with(StatusCode::OK, &content(&app, &caller, act, &facts))
        }
        Err(why) => refused(&app, &caller, why).await,
    }
}

/// The tab with the reason.
async fn refused(app: &App, caller: &Caller, why: KeyRefused) -> Answer {
    let failure = Failure::Key(why);
    if why == KeyRefused::NotSuperAdmin {
        return Err(failure.into());
    }
    let notice = Notice::bad(why.to_string()).led_by("Nothing was changed.");
    page_with(failure.status(), &now(app, caller, Some(notice)).await?)
}

/// `POST` of [`address`].
///
/// # Errors
/// The database's, and what no page of this console leads to; what can be mended is said at the fields.
pub async fn change(act: KeyAct, app: Arc<App>, caller: Caller, typed: Changing) -> Answer {
    let key = typed.key.unwrap_or_default();
    let change = match act {
        KeyAct::Bind => match PublicJwk::parse(&key) {
            Ok(key) => KeyChange::Bind(key),
            Err(why) => return not_a_key(&app, &caller, why).await,
        },
        KeyAct::Remove => KeyChange::Remove,
        KeyAct::SecretOff => KeyChange::SecretOff,
        KeyAct::SecretOn => KeyChange::SecretOn,
    };
    // The password is looked at only when it is what is missing: other refusals come first.
    let wanted = app.credential_tab(&caller).await;
    let wanted = wanted.is_ok_and(|facts| facts.may(&caller, act) == Err(KeyRefused::PasswordNeeded));
    let Some(password) = sign_in::filled(typed.password).filter(|_| wanted) else {
        return answer(act, &app, &caller, &change, &typed.client_id, &key).await;
    };
    match app.confirm_password(&caller, password).await {
        Ok((session, caller)) => {
            // The old session id is dead, so the new one goes out whatever comes of the rest.
            let answer = answer(act, &app, &caller, &change, &typed.client_id, &key).await.into_response();
            Ok(([cookie::set(&session)], answer).into_response())
        }
        Err(failure @ (Failure::WrongPassword | Failure::Locked(_) | Failure::Busy)) => {
            ask_again(act, &app, &caller, &failure, &key).await
        }
        Err(failure) => Err(failure.into()),
    }
}

async fn answer(act: KeyAct, app: &App, caller: &Caller, change: &KeyChange, seen: &str, key: &str) -> Answer {
    let done = match act {
        KeyAct::Bind => "key-bound",
        KeyAct::Remove => "key-removed",
        KeyAct::SecretOff => "secret-off",
        KeyAct::SecretOn => "secret-on",
    };
    match app.change_ways_in(caller, change, seen).await {
        Ok(()) => Ok(see_other(&format!("/account/credentials?done={done}"))),
        Err(failure @ Failure::Key(KeyRefused::PasswordNeeded)) => {
            ask_again(act, app, caller, &failure, key).await
        }
        Err(Failure::Key(why)) => refused(app, caller, why).await,
        Err(failure) => Err(failure.into()),
    }
}

/// The page with what is wrong with the key. What is not a public key is not shown again: it may be a
/// private one (L-2).
async fn not_a_key(app: &App, caller: &Caller, why: JwkError) -> Answer {
    let facts = app.credential_tab(caller).await?;
    let mut content = content(app, caller, KeyAct::Bind, &facts);
    if let Some(field) = &mut content.key {
        field.error = Some(key_words(why));
    }
    page_with(Failure::Invalid(Vec::new()).status(), &content)
}

/// The page with what is wrong at its password field. The key was read, so it is a public one.
async fn ask_again(
    act: KeyAct,
    app: &App,
    caller: &Caller,
    failure: &Failure,
    key: &str,
) -> Result<Response, super::Refusal> {
    let facts = app.credential_tab(caller).await?;
    let mut content = content(app, caller, act, &facts);
    if let Some(field) = &mut content.key {
        key.clone_into(&mut field.value);
    }
    content.password_needed = true;
    content.password_error = Some(match failure {
        Failure::WrongPassword => "This is not your password.".to_owned(),
        // Why it is asked for stands at the field.
        Failure::Key(KeyRefused::PasswordNeeded) => "Enter your password.".to_owned(),
        other => other.to_string(),
    });
    failed(failure, &content)
}
