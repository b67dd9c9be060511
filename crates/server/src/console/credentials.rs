//! My Account Settings, **Credentials**: generate, look, revoke (C-1 to C-13).

use std::sync::Arc;

use axum::{
    Extension,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use portcullis_domain::{
    client_keys::{ClientKeyRefused, KeyAct},
    credentials::{GenerateRefused, RevokeRefused, Standing},
    secret::SecretText,
    tokens::IssuedToken,
};
use serde::Deserialize;
use uuid::Uuid;

use crate::{
    api::cursor,
    app::{
        App, Caller,
        client_keys::kind_of,
        credentials::{Generated, Held as HeldCredential, Tab as Facts},
    },
    console::{
        Answer, Asked, Refusal, Typed, cookie, dates, failed, page as page_with, see_other, sign_in,
        view::{
            AccountCredentials, BoundKey, CredentialState, CredentialUse, Dates, Frame, Generate, Held, LastUsed,
            Nav, Notice, Tab, TokenState, UseRow, lasts,
        },
    },
    error::Failure,
};

/// Rows of **Recent use** on a page.
const USE_ROWS: u32 = 50;

/// What to say.
#[derive(Deserialize)]
pub struct Arriving {
    revoked: Option<String>,
    done: Option<String>,
    cursor: Option<String>,
}

/// The password, when it is asked for again (C-12).
#[derive(Deserialize)]
pub struct Generating {
    password: Option<SecretText>,
}

/// The Client ID that the person saw in the confirmation.
#[derive(Deserialize)]
pub struct Revoking {
    client_id: String,
}

pub(super) fn frame(app: &App, caller: &Caller) -> Frame {
    Frame::new(&caller.user, &app.config.organization, Nav::Account, "My Account Settings")
}

fn tab(app: &App, caller: &Caller, state: CredentialState) -> AccountCredentials {
    AccountCredentials {
        frame: frame(app, caller),
        tab: Tab::Credentials,
        notice: None,
        state,
        confirm_revoke: false,
    }
}

/// Whether the tab offers to generate. A password that is not recent is asked for in place.
fn offer(facts: &Facts, has_password: bool, password_error: Option<String>) -> Generate {
    match facts.may_generate {
        Err(GenerateRefused::FederatedLogin) => {
            let provider = facts.through.clone().unwrap_or_else(|| "a sign-in provider".to_owned());
            Generate::Federated { provider, has_password }
        }
        Err(GenerateRefused::NoLocalPassword) => Generate::NoLocalPassword,
        Err(GenerateRefused::MfaOn) => Generate::MfaOn,
        Err(GenerateRefused::PasswordNeeded) => Generate::Allowed { password_needed: true, password_error },
        // The others do not occur where there is no credential and the page was allowed.
        _ => Generate::Allowed { password_needed: false, password_error },
    }
}

fn state(
    app: &App,
    caller: &Caller,
    facts: Facts,
    dates: &Dates,
    password_error: Option<String>,
) -> CredentialState {
    let generate = offer(&facts, caller.user.standing.has_password, password_error);
    let token_lasts = lasts(app.config.token_lifespan_seconds);
    let fixed = fixed(caller, &facts);
    let Some(held) = facts.held else { return CredentialState::Empty { token_lasts, generate } };
    let standing = held.standing;
    match standing {
        Standing::Active => CredentialState::Active(view(held, fixed, dates)),
        Standing::Suspended(why, since) => {
            CredentialState::Suspended { held: view(held, fixed, dates), why, since: dates.when(since) }
        }
        Standing::Expired(at) => CredentialState::Expired {
            client_id: held.credential.client_id.as_str().to_owned(),
            generated: dates.when(held.credential.generated_at),
            expired: dates.when(at),
            generate,
        },
        Standing::Revoked(..) => CredentialState::Empty { token_lasts, generate },
    }
}

/// Why the ways in cannot be changed here, if they cannot (C-14). A password can be given.
fn fixed(caller: &Caller, facts: &Facts) -> Option<String> {
    let why = facts.may(caller, KeyAct::Bind).err()?;
    (why != ClientKeyRefused::PasswordNeeded).then(|| why.to_string())
}

fn view(held: HeldCredential, key_fixed: Option<String>, dates: &Dates) -> Held {
    let tokens_valid = held.valid_tokens();
    Held {
        client_id: held.credential.client_id.as_str().to_owned(),
        generated: dates.when(held.credential.generated_at),
        expires: dates.when(held.credential.expires_at),
        last_used: held.tokens.last.map(|t| LastUsed {
            at: dates.when(t.issued_at),
            ip: t.ip,
            user_agent: t.user_agent,
            method: t.method.label(),
        }),
        tokens_valid,
        tokens_more: held.tokens.more && tokens_valid > 0,
        key: held.credential.key.as_ref().map(|key| BoundKey {
            thumbprint: key.thumbprint.clone(),
            kind: kind_of(key),
            bound: dates.when(key.bound_at),
        }),
        key_fixed,
        secret_off: held.credential.secret_off_at.map(|at| dates.when(at)),
        last_token_ends: held.tokens.open_until.filter(|_| tokens_valid > 0).map(|at| dates.when(at)),
    }
}

/// The tab as it is now, with a notice.
pub(super) async fn now(
    app: &App,
    caller: &Caller,
    notice: Option<Notice>,
) -> Result<AccountCredentials, Failure> {
    let facts = app.credential_tab(caller).await?;
    let dates = dates(&caller.user, facts.now);
    Ok(AccountCredentials { notice, ..tab(app, caller, state(app, caller, facts, &dates, None)) })
}

/// `GET /account/credentials`.
///
/// # Errors
/// The database's.
pub async fn page(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Asked(arriving): Asked<Arriving>,
) -> Answer {
    let mut content = now(&app, &caller, None).await?;
    // What the address says is believed only if it is so: anybody can make a link.
    if let Some(id) = arriving.revoked.filter(|_| matches!(content.state, CredentialState::Empty { .. }))
        && app.has_revoked(&caller, &id).await?
    {
        content.notice = Some(
            Notice::done(format!(
                "Programs that used {id} have stopped: no new tokens, and none of its tokens works."
            ))
            .led_by("Credentials revoked."),
        );
    }
    if let (Some(done), CredentialState::Active(held)) = (&arriving.done, &content.state) {
        content.notice = changed(done, held);
    }
    page_with(StatusCode::OK, &content)
}

/// What was changed, if it is so.
fn changed(done: &str, held: &Held) -> Option<Notice> {
    let (key, off) = (held.key.is_some(), held.secret_off.is_some());
    let words = match done {
        "key-bound" if key => "The public key is bound. Programs get tokens with its private key.",
        "key-removed" if !key => "The public key is removed. Programs get tokens with the Client Secret alone.",
        "secret-off" if off => "The Client Secret is off. Programs get tokens with the private key alone.",
        "secret-on" if !off => "The Client Secret is on. Programs get tokens with it again.",
        _ => return None,
    };
    Some(Notice::done(words))
}

/// `POST /account/credentials/generate`. The answer is the one page that shows the secret; it is
/// not stored, not redirected to, and not there when it is asked for again (C-5, protocol 32).
///
/// # Errors
/// The database's, and refusals that a page of this console does not lead to.
pub async fn generate(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Typed(typed): Typed<Generating>,
) -> Answer {
    // The password is looked at only when it is what is missing: other refusals come first (C-4, C-9).
    let tab = app.credential_tab(&caller).await;
    let wanted = tab.is_ok_and(|t| t.may_generate == Err(GenerateRefused::PasswordNeeded));
    let Some(password) = sign_in::filled(typed.password).filter(|_| wanted) else {
        return answer(&app, &caller).await;
    };
    match app.confirm_password(&caller, password).await {
        Ok((session, caller)) => {
            // The old session id is dead, so the new one goes out whatever comes of the rest.
            let answer = answer(&app, &caller).await.into_response();
            Ok(([cookie::set(&session)], answer).into_response())
        }
        Err(failure @ (Failure::WrongPassword | Failure::Locked(_) | Failure::Busy)) => {
            ask_again(&app, &caller, &failure).await
        }
        Err(failure) => Err(failure.into()),
    }
}

async fn answer(app: &App, caller: &Caller) -> Answer {
    match app.generate_credential(caller).await {
        Ok(generated) => shown(app, caller, generated),
        Err(Failure::Generate(why)) => refused(app, caller, why).await,
        Err(failure) => Err(failure.into()),
    }
}

fn shown(app: &App, caller: &Caller, generated: Generated) -> Answer {
    let credential = generated.credential;
    let dates = dates(&caller.user, credential.generated_at);
    let state = CredentialState::Shown {
        client_id: credential.client_id.as_str().to_owned(),
        client_secret: generated.secret,
        token_url: format!("{}/oauth/token", app.config.public_url),
        expires: dates.when(credential.expires_at),
    };
    page_with(StatusCode::CREATED, &tab(app, caller, state))
}

/// The tab with the reason, wherever the person can do something about it.
async fn refused(app: &App, caller: &Caller, why: GenerateRefused) -> Result<Response, Refusal> {
    if why == GenerateRefused::NotSuperAdmin {
        return Err(Failure::Generate(why).into());
    }
    if why == GenerateRefused::PasswordNeeded {
        return ask_again(app, caller, &Failure::Generate(why)).await;
    }
    let notice = match why {
        GenerateRefused::AlreadyActive => Some(
            Notice::warn(
                "Nothing was generated. If its Client Secret was not stored when it was shown, revoke it and \
                 generate another.",
            )
            .led_by("You already have an active credential."),
        ),
        // The tab itself gives these reasons.
        _ => None,
    };
    page_with(Failure::Generate(why).status(), &now(app, caller, notice).await?)
}

/// The tab with what is wrong at its password field.
async fn ask_again(app: &App, caller: &Caller, failure: &Failure) -> Answer {
    let facts = app.credential_tab(caller).await?;
    let dates = dates(&caller.user, facts.now);
    let words = match failure {
        Failure::WrongPassword => "This is not your password.".to_owned(),
        // Why it is asked for stands at the field.
        Failure::Generate(GenerateRefused::PasswordNeeded) => "Enter your password.".to_owned(),
        other => other.to_string(),
    };
    let state = state(app, caller, facts, &dates, Some(words));
    failed(failure, &tab(app, caller, state))
}

/// `GET /account/credentials/revoke`: the tab with the confirmation open.
///
/// # Errors
/// The database's.
pub async fn confirm_revoke(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>) -> Answer {
    let content = AccountCredentials { confirm_revoke: true, ..now(&app, &caller, None).await? };
    page_with(StatusCode::OK, &content)
}

/// `POST /account/credentials/revoke`: **Remove** (C-7).
///
/// # Errors
/// Refusals (C-8) and the database's.
pub async fn revoke(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Typed(typed): Typed<Revoking>,
) -> Answer {
    match app.revoke_credential(&caller, caller.user.id, Some(&typed.client_id)).await {
        Ok(gone) => Ok(see_other(&format!("/account/credentials?revoked={}", gone.client_id.as_str()))),
        Err(Failure::Revoke(RevokeRefused::NothingToRevoke)) => {
            let notice = Notice::info("The credential you wanted to revoke had been revoked already.");
            page_with(StatusCode::NOT_FOUND, &now(&app, &caller, Some(notice)).await?)
        }
        Err(failure) => Err(failure.into()),
    }
}

/// `GET /account/credentials/use`: **Recent use**.
///
/// # Errors
/// A forged cursor, or the database's.
pub async fn recent_use(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Asked(arriving): Asked<Arriving>,
) -> Answer {
    let before = match &arriving.cursor {
        Some(text) => Some(read_cursor(&app, text)?),
        None => None,
    };
    let (held, mut tokens) = match app.recent_use(&caller, before, USE_ROWS + 1).await {
        Err(Failure::NoCredential) => return Ok(see_other("/account/credentials")),
        other => other?,
    };
    let now = app.clock.now();
    let dates = dates(&caller.user, now);
    let more = tokens.len() > USE_ROWS as usize;
    tokens.truncate(USE_ROWS as usize);
    let older = tokens.last().filter(|_| more).map(|t| {
        let mut place = t.issued_at.as_microsecond().to_be_bytes().to_vec();
        place.extend_from_slice(t.terms.jti.as_bytes());
        format!("/account/credentials/use?cursor={}", cursor::seal(&app, "use", &place))
    });
    let rows = tokens.into_iter().map(|t| use_row(t, held.standing, &dates, now)).collect();
    page_with(
        StatusCode::OK,
        &CredentialUse {
            frame: frame(&app, &caller),
            tab: Tab::Credentials,
            notice: None,
            client_id: held.credential.client_id.as_str().to_owned(),
            rows,
            newer: before.map(|_| "/account/credentials/use".to_owned()),
            older,
        },
    )
}

fn read_cursor(app: &App, text: &str) -> Result<(Timestamp, Uuid), Failure> {
    let place: [u8; 24] = cursor::open(app, "use", text)?;
    let (micros, jti) = place.split_at(8);
    let micros = micros.try_into().map(i64::from_be_bytes).unwrap_or_default();
    let at = Timestamp::from_microsecond(micros).map_err(|_| Failure::NotFound)?;
    Ok((at, Uuid::from_slice(jti).map_err(|_| Failure::NotFound)?))
}

fn use_row(token: IssuedToken, standing: Standing, dates: &Dates, now: Timestamp) -> UseRow {
    let terms = token.terms;
    let state = if terms.expires_at <= now {
        TokenState::Ended
    } else if terms.is_active(standing, now) {
        TokenState::Valid
    } else if !terms.audience.is_registered {
        TokenState::ApiRemoved
    } else if matches!(standing, Standing::Suspended(..)) && terms.revoked_at.is_none() {
        TokenState::Suspended
    } else {
        TokenState::Revoked
    };
    UseRow {
        issued: dates.when(token.issued_at),
        ends: dates.when(terms.expires_at),
        ip: token.ip,
        user_agent: token.user_agent,
        method: token.method.label(),
        audience: terms.audience.identifier,
        state,
    }
}
