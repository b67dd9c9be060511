//! Users: the list, one of them, what is done to them, inviting.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Path, State},
    http::StatusCode,
};
use portcullis_domain::{
    accounts::{Status, User, UserId, manage::Act},
    secret::SecretText,
};
use serde::Deserialize;
use uuid::Uuid;

use crate::{
    api::{accounts::named_user, cursor},
    app::{App, Caller, accounts::manage::Invited},
    console::{
        Answer, Asked, Typed, dates, failed, ok, page as page_with, see_other,
        view::{
            Dates, Field, Frame, Invite, InvitedPage, Nav, Notice, UserAct, UserPage, UserRow, Users, act_words,
            credential_now, credential_then, status_badge,
        },
    },
    error::Failure,
};

/// Users on a page.
const ROWS: u32 = 50;

/// Who is looked for.
#[derive(Deserialize, Default)]
#[serde(default)]
pub struct Search {
    search: String,
    status: String,
    after: Option<String>,
}

/// What to say.
#[derive(Deserialize)]
pub struct Arriving {
    done: Option<String>,
}

/// What was typed.
#[derive(Deserialize)]
pub struct Address {
    email: String,
}

fn frame(app: &App, caller: &Caller, title: impl Into<String>) -> Frame {
    Frame::new(&caller.user, &app.config.organization, Nav::Users, title)
}

fn row(user: &User, dates: &Dates) -> UserRow {
    UserRow {
        id: user.id.to_string(),
        name: user.name.as_str().to_owned(),
        email: user.email.as_str().to_owned(),
        role: user.standing.role.0.label(),
        status: status_badge(user.standing.status.0),
        mfa: user.standing.mfa_since.is_some(),
        made: dates.when(user.created_at),
    }
}

/// The address of a page of the same search.
fn address(search: &Search, after: Option<String>) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    let fields = [("search", Some(&search.search)), ("status", Some(&search.status)), ("after", after.as_ref())];
    for (name, value) in fields {
        if let Some(value) = value.filter(|v| !v.is_empty()) {
            query.append_pair(name, value);
        }
    }
    let query = query.finish();
    if query.is_empty() { "/users".to_owned() } else { format!("/users?{query}") }
}

/// `GET /users`.
///
/// # Errors
/// A forged cursor, or the database's.
pub async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Asked(search): Asked<Search>,
) -> Answer {
    let status = Status::from_code(&search.status).filter(|s| *s != Status::Deleted);
    let after = match &search.after {
        Some(text) => Some(UserId(Uuid::from_bytes(cursor::open(&app, "users", text)?))),
        None => None,
    };
    let mut users = app.users(&caller, after, &search.search, status, ROWS + 1).await?;
    let more = users.len() > ROWS as usize;
    users.truncate(ROWS as usize);
    let last = users.last().filter(|_| more);
    let next = last.map(|u| address(&search, Some(cursor::seal(&app, "users", u.id.0.as_bytes()))));
    let dates = dates(&caller.user, app.clock.now());
    ok(&Users {
        frame: frame(&app, &caller, "Users"),
        rows: users.iter().map(|u| row(u, &dates)).collect(),
        later: after.is_some(),
        first: address(&search, None),
        next,
        status: status.map_or("", Status::code).to_owned(),
        search: search.search,
    })
}

async fn content(app: &App, caller: &Caller, id: UserId, notice: Option<Notice>) -> Result<UserPage, Failure> {
    let person = app.person(caller, id).await?;
    let now = app.clock.now();
    let dates = dates(&caller.user, now);
    let user = person.user;
    let standing = &user.standing;
    let credential = person.credential.held.as_ref().map(|c| c.standing(standing, now));
    Ok(UserPage {
        frame: frame(app, caller, user.name.as_str()),
        notice,
        is_self: user.id == caller.user.id,
        status: status_badge(standing.status.0),
        status_since: dates.when(standing.status.1),
        role_since: dates.when(standing.role.1),
        mfa_since: standing.mfa_since.map(|at| dates.when(at)),
        signed_in: person.signed_in_at.map(|at| dates.when(at)),
        made: dates.when(user.created_at),
        identities: person.identities.into_iter().map(|i| (i.provider.unwrap_or(i.issuer), i.email)).collect(),
        credential: credential_now(&person.credential, credential),
        acts: person.may.into_iter().map(act_words).collect(),
        user,
    })
}

/// `GET /users/{user}`.
///
/// # Errors
/// [`Failure::NotFound`], or the database's.
pub async fn person(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(user): Path<String>,
    Asked(arriving): Asked<Arriving>,
) -> Answer {
    let id = named_user(&caller, &user)?;
    let notice = arriving.done.as_deref().and_then(done).map(Notice::done);
    ok(&content(&app, &caller, id, notice).await?)
}

/// What was just done, in a sentence.
fn done(code: &str) -> Option<&'static str> {
    Some(match code {
        "invite" | "invite-again" => "The invitation is on its way. Its link is good for 24 hours.",
        "activate" => "The user is active again.",
        "deactivate" => "The user has been deactivated and signed out everywhere.",
        "give-super-admin" => "The user is a Super Admin now.",
        "take-super-admin" => "The user is not a Super Admin any more.",
        "turn-mfa-off" => "MFA has been turned off. The user is told by mail.",
        _ => return None,
    })
}

/// The question, and what happens.
fn asks(act: Act, user: &User) -> (String, String) {
    let (name, email) = (user.name.as_str(), user.email.as_str());
    let (question, what) = match act {
        Act::InviteAgain => (
            format!("Invite {name} again?"),
            format!("A new link goes to {email}. It is good for 24 hours; the earlier link stops working."),
        ),
        Act::Activate => (
            format!("Activate {name}?"),
            "The user can sign in again, as before.".to_owned(),
        ),
        Act::Deactivate => (
            format!("Deactivate {name}?"),
            "The user is signed out everywhere with the next request, and cannot sign in until activated again.".to_owned(),
        ),
        Act::Delete => (
            format!("Delete {name}?"),
            format!("This cannot be undone. The user is signed out everywhere. Password, second factors and identities are removed, and {email} is free for another account. The audit log keeps what was done."),
        ),
        Act::GiveSuperAdmin => (
            format!("Make {name} a Super Admin?"),
            "Super Admins manage users, see the audit log, and can generate security credentials of their own.".to_owned(),
        ),
        Act::TakeSuperAdmin => (
            format!("Take Super Admin from {name}?"),
            "The user can still sign in, as an ordinary user, from the next request on.".to_owned(),
        ),
        Act::TurnMfaOff => (
            format!("Turn MFA off for {name}?"),
            "For somebody who lost every second factor: make sure who asks you. Authenticator app, passkeys and recovery codes are removed, and the password alone signs in. The user is told by mail and can turn MFA on again.".to_owned(),
        ),
    };
    (question, what)
}

/// `GET /users/{user}/…`: what will happen.
///
/// # Errors
/// [`Failure::NotFound`], or the database's; what refuses the act is said on the user's page.
pub async fn confirm(act: Act, app: Arc<App>, caller: Caller, user: String) -> Answer {
    let id = named_user(&caller, &user)?;
    let (user, foreseen) = match app.foresee_act(&caller, id, act).await {
        Ok(foreseen) => foreseen,
        Err(failure @ Failure::Manage(_)) => return refused(&app, &caller, id, &failure).await,
        Err(failure) => return Err(failure.into()),
    };
    let (question, what) = asks(act, &user);
    let words = act_words(act);
    ok(&UserAct {
        frame: frame(&app, &caller, question.clone()),
        id: id.to_string(),
        question,
        what,
        credential: credential_then(&foreseen),
        words,
    })
}

async fn refused(app: &App, caller: &Caller, id: UserId, failure: &Failure) -> Answer {
    let content = content(app, caller, id, Some(Notice::bad(failure.to_string()))).await?;
    failed(failure, &content)
}

/// `POST /users/{user}/…`: does it.
///
/// # Errors
/// [`Failure::NotFound`], or the database's; what refuses the act is said on the user's page.
pub async fn act(act: Act, app: Arc<App>, caller: Caller, user: String) -> Answer {
    let id = named_user(&caller, &user)?;
    match app.manage_user(&caller, id, act).await {
        Ok(Invited { user, link: Some(link) }) => invited(&app, &caller, &user, link),
        Ok(_) if act == Act::Delete => Ok(see_other("/users")),
        Ok(_) => Ok(see_other(&format!("/users/{id}?done={}", act_words(act).path))),
        Err(failure @ Failure::Manage(_)) if caller.user.standing.is_super_admin() => {
            match refused(&app, &caller, id, &failure).await {
                Ok(page) => Ok(page),
                // The user was deleted, or the caller has lost the role meanwhile.
                Err(_) => Err(failure.into()),
            }
        }
        Err(failure) => Err(failure.into()),
    }
}

fn invited(app: &App, caller: &Caller, user: &User, link: SecretText) -> Answer {
    let folder = app.outbox.folder().map(|f| f.display().to_string()).unwrap_or_default();
    page_with(
        StatusCode::OK,
        &InvitedPage {
            frame: frame(app, caller, "Invitation"),
            id: user.id.to_string(),
            email: user.email.as_str().to_owned(),
            link,
            folder,
        },
    )
}

/// `GET /users/invite`.
///
/// # Errors
/// None of its own.
pub async fn invite_form(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>) -> Answer {
    ok(&Invite { frame: frame(&app, &caller, "Invite a user"), email: Field::default() })
}

/// `POST /users/invite`.
///
/// # Errors
/// The database's; what can be mended is said at the field.
pub async fn invite(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Typed(typed): Typed<Address>,
) -> Answer {
    match app.invite(&caller, &typed.email).await {
        Ok(Invited { user, link: Some(link) }) => invited(&app, &caller, &user, link),
        Ok(Invited { user, link: None }) => Ok(see_other(&format!("/users/{}?done=invite", user.id))),
        Err(failure @ Failure::Invalid(_)) => {
            let email = Field::new(typed.email).wrong(failure.to_string());
            failed(&failure, &Invite { frame: frame(&app, &caller, "Invite a user"), email })
        }
        Err(failure) => Err(failure.into()),
    }
}
