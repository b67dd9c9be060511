//! My Account Settings, **Multi-factor authentication**: setting factors up, taking them away, and
//! the one page that shows recovery codes (A-5, C-9).

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use portcullis_domain::{
    mfa::{MfaRefused, recovery::RecoveryCode, totp::AuthenticatorApp},
    secret::SecretText,
};
use qrcode::{QrCode, render::svg};
use serde::Deserialize;
use uuid::Uuid;

use crate::{
    access::ceremony_cookie,
    app::{
        App, Caller,
        mfa::{Change, Changed, MfaSettings},
    },
    console::{
        Answer, Refusal, Typed, cookie, failed, page as page_with, second_factor, see_other,
        sign_in::local,
        view::{
            Dates, Field, Frame, MfaApp, MfaChange, MfaCodes, MfaOn, MfaPasskey, MfaPassword, MfaSection, Nav,
            Notice, PasskeyRow, Tab,
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

/// The second factor that a change asks for.
#[derive(Deserialize)]
pub struct Given {
    code: Option<SecretText>,
    credential: Option<String>,
    allow: Option<String>,
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
        _ => return Err(failure.into()),
    };
    Ok(see_other(&format!("/account?done={done}")))
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

async fn app_content(app: &App, caller: &Caller, settings: MfaSettings) -> Result<MfaApp, Failure> {
    let authenticator = app.propose_app(caller).await?;
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
pub async fn app_page(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>) -> Answer {
    let settings = app.mfa_settings(&caller).await?;
    match app_content(&app, &caller, settings).await {
        Ok(content) => page_with(StatusCode::OK, &content),
        Err(failure) => refused(&app, &caller, APP, failure),
    }
}

/// `POST /account/mfa/app`.
///
/// # Errors
/// The database's; what can be mended is said at the field.
pub async fn confirm_app(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Typed(typed): Typed<FirstCode>,
) -> Answer {
    let failure = match app.confirm_app(&caller, &typed.code, typed.agreed.as_deref()).await {
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
        _ => return refused(&app, &caller, APP, failure),
    };
    let settings = app.mfa_settings(&caller).await?;
    match app_content(&app, &caller, settings).await {
        Ok(content) => failed(&failure, &MfaApp { code_error: Some(words.to_owned()), ..content }),
        Err(failure) => refused(&app, &caller, APP, failure),
    }
}

/// The page that adds a passkey, with a new question each time.
async fn new_passkey(app: &App, caller: &Caller, name: Field, failure: Option<&Failure>) -> Answer {
    let settings = app.mfa_settings(caller).await?;
    let (secret, options) = match app.ask_for_passkey(caller).await {
        Ok(asked) => asked,
        Err(failure) => return refused(app, caller, PASSKEY, failure),
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
pub async fn passkey_page(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>) -> Answer {
    new_passkey(&app, &caller, Field::default(), None).await
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
        _ => return refused(&app, &caller, PASSKEY, failure),
    };
    new_passkey(&app, &caller, Field::new(typed.name).wrong(words), Some(&failure)).await
}

/// Where the form of a change is.
fn address(change: Change) -> String {
    match change {
        Change::TurnOff => "/account/mfa/off".to_owned(),
        Change::RemoveApp => "/account/mfa/app/remove".to_owned(),
        Change::RemovePasskey(id) => format!("/account/mfa/passkeys/{id}/remove"),
        Change::NewCodes => "/account/mfa/recovery-codes".to_owned(),
        Change::PasskeyAlone(_) => "/account/mfa/passkey-alone".to_owned(),
    }
}

/// What a change is called, what it does, and the word on its button.
fn words(change: Change, settings: &MfaSettings) -> (&'static str, String, &'static str) {
    let factors = settings.passkeys.len() + usize::from(settings.app_since.is_some());
    let last = "It is your only second factor, so this turns multi-factor authentication off: signing in takes \
                your password alone then.";
    let rest = |text: &str| if factors == 1 { last.to_owned() } else { text.to_owned() };
    match change {
        Change::TurnOff => (
            "Turn multi-factor authentication off?",
            "Signing in takes your password alone then. Your authenticator app, passkeys and recovery codes for \
             it are removed, and a credential that is suspended because of it works again."
                .to_owned(),
            "Turn off",
        ),
        Change::RemoveApp => (
            "Remove the authenticator app?",
            rest("Its codes do not sign you in any more. Your passkeys stay."),
            "Remove",
        ),
        Change::RemovePasskey(id) => {
            let name = settings.passkeys.iter().find(|p| p.id == id).map_or("", |p| p.name.as_str());
            let text = format!("{name} does not sign you in any more.");
            ("Remove the passkey?", rest(&text), "Remove")
        }
        Change::NewCodes => (
            "Make new recovery codes?",
            "You get ten new codes. Those that you had do not work any more.".to_owned(),
            "Make new codes",
        ),
        Change::PasskeyAlone(true) => (
            "Sign in with a passkey alone?",
            "Your passkeys sign you in without the password then. A passkey asks for your fingerprint, face or \
             PIN, so it counts as both factors."
                .to_owned(),
            "Allow",
        ),
        Change::PasskeyAlone(false) => (
            "Ask for the password again?",
            "A passkey alone does not sign you in any more: the password comes first.".to_owned(),
            "Do not allow",
        ),
    }
}

/// The page of a change, with a new question for a passkey each time.
async fn ask(app: &App, caller: &Caller, change: Change, failure: Option<&Failure>) -> Answer {
    let settings = app.mfa_settings(caller).await?;
    let action = address(change);
    let possible = match change {
        _ if settings.may_change.is_err() => settings.may_change,
        _ if settings.since.is_none() => Err(MfaRefused::NotOn),
        Change::RemoveApp if settings.app_since.is_none() => Err(MfaRefused::Gone),
        Change::RemovePasskey(id) if !settings.passkeys.iter().any(|p| p.id == id) => Err(MfaRefused::Gone),
        _ => Ok(()),
    };
    if let Err(why) = possible {
        return refused(app, caller, &action, why.into());
    }
    let asked = app.ask_before_change(caller).await?;
    let (title, text, button) = words(change, &settings);
    let (secret, passkey) = asked.unzip();
    let content = MfaChange {
        frame: frame(app, caller),
        tab: Tab::General,
        notice: None,
        action,
        title,
        text,
        button,
        removes: matches!(change, Change::TurnOff | Change::RemoveApp | Change::RemovePasskey(_)),
        allow: match change {
            Change::PasskeyAlone(true) => Some("yes"),
            Change::PasskeyAlone(false) => Some("no"),
            _ => None,
        },
        app: settings.app_since.is_some(),
        passkey,
        error: failure.map(ToString::to_string),
    };
    let answer = match failure {
        Some(failure) => failed(failure, &content)?,
        None => page_with(StatusCode::OK, &content)?,
    };
    Ok(match secret {
        Some(secret) => ([cookie::set_ceremony(&secret)], answer).into_response(),
        None => answer,
    })
}

/// Makes a change with the second factor that was given.
async fn make(app: &App, caller: &Caller, headers: &HeaderMap, change: Change, given: Given) -> Answer {
    let proof = second_factor::proof(given.code, given.credential);
    let secret = ceremony_cookie(headers);
    let done = match change {
        Change::NewCodes => "mfa-codes",
        Change::PasskeyAlone(_) => "mfa-alone",
        _ => "mfa-removed",
    };
    match app.change_factors(caller, change, &proof, secret.as_deref()).await {
        Ok(made) => changed(app, caller, &made, done),
        Err(failure @ (Failure::WrongCode | Failure::Locked(_))) => ask(app, caller, change, Some(&failure)).await,
        Err(failure) => refused(app, caller, &address(change), failure),
    }
}

/// `GET /account/mfa/off`.
///
/// # Errors
/// The database's.
pub async fn turn_off_page(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>) -> Answer {
    ask(&app, &caller, Change::TurnOff, None).await
}

/// `POST /account/mfa/off`.
///
/// # Errors
/// The database's.
pub async fn turn_off(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Typed(given): Typed<Given>,
) -> Answer {
    make(&app, &caller, &headers, Change::TurnOff, given).await
}

/// `GET /account/mfa/app/remove`.
///
/// # Errors
/// The database's.
pub async fn remove_app_page(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>) -> Answer {
    ask(&app, &caller, Change::RemoveApp, None).await
}

/// `POST /account/mfa/app/remove`.
///
/// # Errors
/// The database's.
pub async fn remove_app(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Typed(given): Typed<Given>,
) -> Answer {
    make(&app, &caller, &headers, Change::RemoveApp, given).await
}

/// `GET /account/mfa/passkeys/{passkey}/remove`.
///
/// # Errors
/// The database's.
pub async fn remove_passkey_page(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer {
    ask(&app, &caller, Change::RemovePasskey(passkey_id(&id)?), None).await
}

/// `POST /account/mfa/passkeys/{passkey}/remove`.
///
/// # Errors
/// The database's.
pub async fn remove_passkey(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Path(id): Path<String>,
    Typed(given): Typed<Given>,
) -> Answer {
    make(&app, &caller, &headers, Change::RemovePasskey(passkey_id(&id)?), given).await
}

fn passkey_id(text: &str) -> Result<Uuid, Failure> {
    Uuid::parse_str(text).map_err(|_| Failure::NotFound)
}

/// `GET /account/mfa/passkey-alone`: the change to the other way.
///
/// # Errors
/// The database's.
pub async fn passkey_alone_page(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>) -> Answer {
    let allowed = app.mfa_settings(&caller).await?.passkey_alone;
    ask(&app, &caller, Change::PasskeyAlone(!allowed), None).await
}

/// `POST /account/mfa/passkey-alone`.
///
/// # Errors
/// The database's.
pub async fn passkey_alone(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Typed(given): Typed<Given>,
) -> Answer {
    let allow = given.allow.as_deref() == Some("yes");
    make(&app, &caller, &headers, Change::PasskeyAlone(allow), given).await
}

/// `GET /account/mfa/recovery-codes`.
///
/// # Errors
/// The database's.
pub async fn new_codes_page(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>) -> Answer {
    ask(&app, &caller, Change::NewCodes, None).await
}

/// `POST /account/mfa/recovery-codes`. The answer is the one page that shows the codes.
///
/// # Errors
/// The database's.
pub async fn new_codes(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Typed(given): Typed<Given>,
) -> Answer {
    make(&app, &caller, &headers, Change::NewCodes, given).await
}
