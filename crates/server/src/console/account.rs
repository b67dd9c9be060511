//! My Account Settings, **General Settings**: profile, password, sessions.

use std::sync::Arc;

use axum::{Extension, extract::State, http::StatusCode, response::IntoResponse};
use portcullis_domain::{accounts::TimeZoneName, federation::FederationRefused, secret::SecretText};
use serde::Deserialize;

use crate::{
    app::{App, Caller, Via, accounts::NewProfile},
    console::{
        Answer, Asked, Nothing, Typed, cookie, dates, failed, identities, mfa, page as page_with, see_other,
        view::{
            AccountGeneral, Field, Frame, Nav, Notice, PasswordForm, ProfileForm, SessionRow, Tab, opened_with,
        },
    },
    error::Failure,
};

/// What to say.
#[derive(Deserialize)]
pub struct Arriving {
    done: Option<String>,
    ended: Option<u32>,
    problem: Option<String>,
}

/// What was typed as the profile.
#[derive(Deserialize)]
pub struct Profile {
    name: String,
    language: String,
    time_zone: String,
}

/// What was typed as passwords.
#[derive(Deserialize)]
pub struct Passwords {
    present_password: SecretText,
    new_password: SecretText,
}

pub(crate) async fn content(app: &App, caller: &Caller) -> Result<AccountGeneral, Failure> {
    let dates = dates(&caller.user, app.clock.now());
    let this = match &caller.via {
        Via::Session { session, .. } => Some(session.handle),
        Via::Token { .. } => None,
    };
    let mut sessions: Vec<SessionRow> = app
        .sessions(caller)
        .await?
        .into_iter()
        .map(|s| SessionRow {
            current: Some(s.handle) == this,
            opened_with: opened_with(s.opened),
            opened: dates.when(s.opened_at),
            seen: dates.when(s.seen_at),
            ip: s.ip,
            user_agent: s.user_agent,
        })
        .collect();
    sessions.sort_by_key(|s| !s.current);
    let user = &caller.user;
    Ok(AccountGeneral {
        frame: Frame::new(user, &app.config.organization, Nav::Account, "My Account Settings"),
        tab: Tab::General,
        notice: None,
        profile: ProfileForm {
            name: Field::new(user.name.as_str()),
            language: Field::new(user.language.code()),
            time_zone: Field::new(user.time_zone.as_str()),
        },
        time_zones: TimeZoneName::all(),
        has_password: user.standing.has_password,
        password: PasswordForm { present_error: None, new_error: None, min_chars: app.config.passwords.min_chars },
        mfa: mfa::section(app, caller, &dates).await?,
        links: identities::links(app, caller, &dates).await?,
        sessions,
    })
}

/// `GET /account`.
///
/// # Errors
/// The database's.
pub async fn page(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Asked(arriving): Asked<Arriving>,
) -> Answer {
    let mut content = content(&app, &caller).await?;
    content.notice = match (arriving.done.as_deref(), arriving.ended) {
        (Some("profile"), _) => Some(Notice::done("Your profile has been saved.")),
        // Anybody can make a link that says so: it is believed right after the password was given.
        (Some("password"), _) if caller.actor.password_is_fresh(app.clock.now()) => {
            Some(Notice::done("Your password has been changed. All your other sessions have been signed out."))
        }
        (Some(done), None) if done.starts_with("mfa-") => mfa::notice(done),
        (Some("sessions"), Some(1)) => Some(Notice::done("1 other session has been signed out.")),
        (Some("sessions"), Some(n)) => Some(Notice::done(format!("{n} other sessions have been signed out."))),
        (Some("linked"), _) => Some(Notice::done("The identity is linked. You can sign in with it from now on.")),
        (Some("unlinked"), _) => {
            Some(Notice::done("The identity is unlinked. Sessions that you opened with it have ended."))
        }
        _ => None,
    };
    if let Some(why) = arriving.problem.as_deref().and_then(FederationRefused::from_code) {
        content.notice = Some(Notice::bad(why.to_string()));
    }
    page_with(StatusCode::OK, &content)
}

/// `POST /account/profile`.
///
/// # Errors
/// The database's; what can be mended is said at the fields, which keep what was typed.
pub async fn change_profile(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Typed(typed): Typed<Profile>,
) -> Answer {
    let new = NewProfile { name: typed.name, language: typed.language, time_zone: typed.time_zone };
    match app.change_profile(&caller, &new).await {
        Ok(()) => Ok(see_other("/account?done=profile")),
        Err(Failure::Invalid(fields)) => {
            let status = Failure::Invalid(Vec::new()).status();
            let mut content = content(&app, &caller).await?;
            let form = &mut content.profile;
            *form = ProfileForm {
                name: Field::new(new.name),
                language: Field::new(new.language),
                time_zone: Field::new(new.time_zone),
            };
            for wrong in fields {
                let field = match wrong.field {
                    "name" => &mut form.name,
                    "language" => &mut form.language,
                    _ => &mut form.time_zone,
                };
                field.error = Some(wrong.message);
            }
            page_with(status, &content)
        }
        Err(failure) => Err(failure.into()),
    }
}

/// `POST /account/password`.
///
/// # Errors
/// The database's; what can be mended is said at the fields.
pub async fn change_password(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Typed(typed): Typed<Passwords>,
) -> Answer {
    let failure = match app.change_password(&caller, typed.present_password, typed.new_password).await {
        Ok(session) => return Ok(([cookie::set(&session)], see_other("/account?done=password")).into_response()),
        Err(failure) => failure,
    };
    let mut content = content(&app, &caller).await?;
    match &failure {
        Failure::Invalid(fields) => content.password.new_error = fields.first().map(|i| i.message.clone()),
        Failure::WrongPassword => {
            content.password.present_error = Some("This is not your present password.".to_owned());
        }
        Failure::Locked(_) | Failure::Busy => content.password.present_error = Some(failure.to_string()),
        _ => return Err(failure.into()),
    }
    failed(&failure, &content)
}

/// `POST /account/sessions/end-others`.
///
/// # Errors
/// The database's.
pub async fn end_others(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Typed(Nothing {}): Typed<Nothing>,
) -> Answer {
    let ended = app.end_other_sessions(&caller).await?;
    Ok(see_other(&format!("/account?done=sessions&ended={ended}")))
}
