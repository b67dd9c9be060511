//! My Account Settings, **Multi-factor authentication**: setting factors up, and the one page that
//! shows recovery codes (A-5, C-9).

pub mod changes;

use std::sync::Arc;

use axum::{
    Extension,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use portcullis_domain::{
    mfa::{MfaRefused, recovery::RecoveryCode, totp::AuthenticatorApp},
    secret::SecretText,
};
use qrcode::{QrCode, render::svg};
use serde::Deserialize;

use crate::{
    access::ceremony_cookie,
    app::{
        App, Caller,
        mfa::{Addition, Change, Changed, MfaSettings},
    },
    console::{
        Answer, Refusal, Typed, cookie, failed, page as page_with, see_other,
        sign_in::local,
        view::{
            Dates, Field, Frame, MfaApp, MfaCodes, MfaOn, MfaPasskey, MfaPassword, MfaSection, Nav, Notice,
            PasskeyRow, Tab,
        },
    },
    error::Failure,
};

const APP: &str = "/account/mfa/app";
const PASSKEY: &str = "/account/mfa/passkey";

/// The first code of an app.
#[derive(Deserialize)]
pub struct FirstCode {
    code: String,
    agreed: Option<String>,
}

/// A new passkey.
#[derive(Deserialize)]
pub struct NewPasskey {
    name: String,
    credential: String,
    agreed: Option<String>,
}

/// The password, and the page it was asked for.
#[derive(Deserialize)]
pub struct Password {
    password: SecretText,
    to: String,
}

fn frame(app: &App, caller: &Caller) -> Frame {
    Frame::new(&caller.user, &app.config.organization, Nav::Account, "My Account Settings")
}

/// The section of General Settings.
///
/// # Errors
/// The database's.
pub(crate) async fn section(app: &App, caller: &Caller, dates: &Dates) -> Result<MfaSection, Failure> {
    let settings = app.mfa_settings(caller).await?;
    // A password is asked for on the next page; it is no reason to hide the way there.
    let refused = settings.may_change.err().filter(|why| *why != MfaRefused::PasswordNeeded);
    let passkeys = settings.passkeys.into_iter().map(|p| PasskeyRow {
        id: p.id.to_string(),
        name: p.name,
        added: dates.when(p.made_at),
        used: p.used_at.map(|at| dates.when(at)),
    });
    let passkeys: Vec<PasskeyRow> = passkeys.collect();
    Ok(MfaSection {
        on: settings.since.map(|since| MfaOn {
            since: dates.when(since),
            app: settings.app_since.map(|at| dates.when(at)),
            passkeys,
            codes_left: settings.codes_left,
            passkey_alone: settings.passkey_alone,
        }),
        refused,
        suspends: settings.suspends,
        no_passkeys_at: (!app.passkeys.are_possible()).then(|| app.config.public_url.clone()),
    })
}

/// What General Settings says after a change.
pub(crate) fn notice(done: &str) -> Option<Notice> {
    let text = match done {
        "mfa-app" => "The authenticator app has been set up.",
        "mfa-passkey" => "The passkey has been added.",
        "mfa-removed" => "It has been removed.",
        "mfa-alone" => "How passkeys sign in has been changed.",
        "mfa-off" => {
            return Some(
                Notice::done("Signing in takes your password alone now.")
                    .led_by("Multi-factor authentication is off."),
            );
        }
        "mfa-app-already" => return Some(Notice::info(MfaRefused::AppAlready.to_string())),
        "mfa-not-on" => return Some(Notice::info(MfaRefused::NotOn.to_string())),
        "mfa-gone" => return Some(Notice::info(MfaRefused::Gone.to_string())),
        "mfa-no-passkey" => return Some(Notice::info(MfaRefused::NoPasskey.to_string())),
        "mfa-many" => return Some(Notice::info(MfaRefused::TooManyPasskeys.to_string())),
        _ => return None,
    };
    Some(Notice::done(text))
}

/// The password, in place of the page `to` that needs it.
fn ask_password(app: &App, caller: &Caller, to: &str, failure: Option<&Failure>) -> Answer {
    let error = failure.map(|f| match f {
        Failure::WrongPassword => "This is not your password.".to_owned(),
        other => other.to_string(),
    });
    let content =
        MfaPassword { frame: frame(app, caller), tab: Tab::General, notice: None, to: to.to_owned(), error };
    match failure {
        Some(failure) => failed(failure, &content),
        None => page_with(StatusCode::OK, &content),
    }
}

/// What a refusal leads to: the password, General Settings with a word, or a page that says no.
fn refused(app: &App, caller: &Caller, to: &str, failure: Failure) -> Answer {
    let done = match &failure {
        Failure::Mfa(MfaRefused::PasswordNeeded) => return ask_password(app, caller, to, None),
        Failure::Mfa(MfaRefused::AppAlready) => "mfa-app-already",
        Failure::Mfa(MfaRefused::NotOn) => "mfa-not-on",
        Failure::Mfa(MfaRefused::Gone) => "mfa-gone",
        Failure::Mfa(MfaRefused::TooManyPasskeys) => "mfa-many",
        Failure::Mfa(MfaRefused::NoPasskey) => "mfa-no-passkey",
        _ => return Err(failure.into()),
    };
    Ok(see_other(&format!("/account?done={done}")))
}

/// The same for what adds a factor: it leads to the page that asks for another, where that is what is
/// missing. `failure` is what a form that was sent is refused for.
async fn not_added(app: &App, caller: &Caller, addition: Addition, failure: Failure, is_sent: bool) -> Answer {
    match failure {
        Failure::Mfa(MfaRefused::FactorNeeded) => {
            changes::ask(app, caller, Change::Add(addition), Some(&failure).filter(|_| is_sent)).await
        }
        _ => refused(app, caller, changes::page_of(addition), failure),
    }
}

/// The answer to a change that was made. The old session id is dead, so the new one goes out; codes
/// are shown in this answer and in no other (they are not stored, and not redirected to).
fn changed(app: &App, caller: &Caller, changed: &Changed, done: &str) -> Answer {
    let answer = match &changed.codes {
        Some(codes) => codes_page(app, caller, codes, done)?,
        None => see_other(&format!("/account?done={}", if changed.on { done } else { "mfa-off" })),
    };
    Ok(([cookie::set(&changed.session)], answer).into_response())
}

fn codes_page(app: &App, caller: &Caller, codes: &[RecoveryCode], done: &str) -> Result<Response, Refusal> {
    let notice = match done {
        "mfa-codes" => Notice::done("The recovery codes you had do not work any more."),
        _ => {
            Notice::done("Your other sessions have been signed out.").led_by("Multi-factor authentication is on.")
        }
    };
    let content = MfaCodes {
        frame: frame(app, caller),
        tab: Tab::General,
        notice: Some(notice),
        codes: codes.iter().map(RecoveryCode::shown).collect(),
    };
    page_with(StatusCode::CREATED, &content)
}

/// `POST /account/mfa/password`: the password again, and on to the page that needed it.
///
/// # Errors
/// The database's; what can be mended is said at the field.
pub async fn confirm_password(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Typed(typed): Typed<Password>,
) -> Answer {
    let to = local(Some(typed.to)).filter(|to| to.starts_with("/account/mfa/"));
    let to = to.unwrap_or_else(|| "/account".to_owned());
    match app.confirm_password(&caller, typed.password).await {
        Ok((session, _)) => Ok(([cookie::set(&session)], see_other(&to)).into_response()),
        Err(failure @ (Failure::WrongPassword | Failure::Locked(_) | Failure::Busy)) => {
            ask_password(&app, &caller, &to, Some(&failure))
        }
        Err(failure) => Err(failure.into()),
    }
}

fn qr(app: &App, caller: &Caller, authenticator: &AuthenticatorApp) -> Result<String, Failure> {
    let issuer = &app.config.organization;
    let issuer = if issuer.is_empty() { "Portcullis" } else { issuer };
    let code = QrCode::new(authenticator.address(issuer, caller.user.email.as_str()))
        .map_err(|e| Failure::Internal(format!("QR code: {e}")))?;
    let drawn = code.render::<svg::Color<'_>>().min_dimensions(220, 220).build();
    // The prolog of a file has no place inside a page.
    Ok(drawn.split_once("?>").map_or_else(|| drawn.clone(), |(_, element)| element.to_owned()))
}

async fn app_content(
    app: &App,
    caller: &Caller,
    settings: MfaSettings,
    headers: &HeaderMap,
) -> Result<MfaApp, Failure> {
    let authenticator = app.propose_app(caller, ceremony_cookie(headers).as_deref()).await?;
    Ok(MfaApp {
        frame: frame(app, caller),
        tab: Tab::General,
        notice: None,
        qr: qr(app, caller, &authenticator)?,
        key: authenticator.manual_key(),
        code_error: None,
        turns_on: settings.since.is_none(),
        suspends: settings.suspends,
    })
}

/// `GET /account/mfa/app`.
///
/// # Errors
/// The database's.
pub async fn app_page(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Answer {
    let settings = app.mfa_settings(&caller).await?;
    match app_content(&app, &caller, settings, &headers).await {
        Ok(content) => page_with(StatusCode::OK, &content),
        Err(failure) => not_added(&app, &caller, Addition::App, failure, false).await,
    }
}

/// `POST /account/mfa/app`.
///
/// # Errors
/// The database's; what can be mended is said at the field.
pub async fn confirm_app(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Typed(typed): Typed<FirstCode>,
) -> Answer {
    let secret = ceremony_cookie(&headers);
    let confirmed = app.confirm_app(&caller, secret.as_deref(), &typed.code, typed.agreed.as_deref()).await;
    let failure = match confirmed {
        Ok(done) => return changed(&app, &caller, &done, "mfa-app"),
        Err(failure) => failure,
    };
    let words = match &failure {
        Failure::WrongCode => "This is not the code that the app shows now. Check the time on your phone.",
        // The page that comes has the warning now.
        Failure::Mfa(MfaRefused::SuspendsCredential) => {
            "Read what it does to your credential, then enter a new code."
        }
        Failure::StepOver => "This took too long. Scan the new code.",
        _ => return not_added(&app, &caller, Addition::App, failure, true).await,
    };
    let settings = app.mfa_settings(&caller).await?;
    match app_content(&app, &caller, settings, &headers).await {
        Ok(content) => failed(&failure, &MfaApp { code_error: Some(words.to_owned()), ..content }),
        Err(failure) => not_added(&app, &caller, Addition::App, failure, true).await,
    }
}

/// The page that adds a passkey, with a new question each time.
async fn new_passkey(
    app: &App,
    caller: &Caller,
    secret: Option<&str>,
    name: Field,
    failure: Option<&Failure>,
) -> Answer {
    let settings = app.mfa_settings(caller).await?;
    let (secret, options) = match app.ask_for_passkey(caller, secret).await {
        Ok(asked) => asked,
        Err(why) => return not_added(app, caller, Addition::Passkey, why, failure.is_some()).await,
    };
    let content = MfaPasskey {
        frame: frame(app, caller),
        tab: Tab::General,
        notice: None,
        options,
        name,
        turns_on: settings.since.is_none(),
        suspends: settings.suspends,
    };
    let answer = match failure {
        Some(failure) => failed(failure, &content)?,
        None => page_with(StatusCode::OK, &content)?,
    };
    Ok(([cookie::set_ceremony(&secret)], answer).into_response())
}

/// `GET /account/mfa/passkey`.
///
/// # Errors
/// The database's, and 404 where there can be no passkeys.
pub async fn passkey_page(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Answer {
    new_passkey(&app, &caller, ceremony_cookie(&headers).as_deref(), Field::default(), None).await
}

/// `POST /account/mfa/passkey`.
///
/// # Errors
/// The database's; what can be mended is said at the field, which keeps the name.
pub async fn add_passkey(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Typed(typed): Typed<NewPasskey>,
) -> Answer {
    let secret = ceremony_cookie(&headers);
    let agreed = typed.agreed.as_deref();
    let added = app.add_passkey(&caller, secret.as_deref(), &typed.credential, &typed.name, agreed).await;
    let failure = match added {
        Ok(done) => return changed(&app, &caller, &done, "mfa-passkey"),
        Err(failure) => failure,
    };
    let words = match &failure {
        Failure::Invalid(_) | Failure::StepOver => failure.to_string(),
        Failure::WrongPasskey => "This passkey cannot be added. Try again, or use another device.".to_owned(),
        Failure::Mfa(MfaRefused::SuspendsCredential) => "Read what it does to your credential first.".to_owned(),
        _ => return not_added(&app, &caller, Addition::Passkey, failure, true).await,
    };
    let name = Field::new(typed.name).wrong(words);
    new_passkey(&app, &caller, secret.as_deref(), name, Some(&failure)).await
}
