//! **Signing keys**: what access tokens are signed with. Rotated, and withdrawn.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Path, State},
    http::StatusCode,
};
use jiff::Timestamp;
use portcullis_domain::{
    apis::Api,
    keys::{Algorithm, KeyRefused, SigningKey, State as KeyState},
};
use serde::Deserialize;

use crate::{
    api::keys::algorithm,
    app::{App, Caller, keys::Doer},
    console::{
        Answer, Asked, Typed, dates, ok, page as page_with, see_other,
        view::{
            Dates, Field, Frame, Nav, Notice, RotateKeys, SigningKeyGroup, SigningKeyRow, SigningKeys,
            WithdrawKey, lasts,
        },
    },
    error::Failure,
};

/// What just happened.
#[derive(Deserialize)]
pub struct Arriving {
    done: Option<String>,
    problem: Option<String>,
}

/// Which key the page showed signing, and whether to do it though verifiers may not hold the next.
#[derive(Deserialize)]
pub struct RotateForm {
    seen: String,
    at_once: Option<String>,
}

/// Why a key is withdrawn.
#[derive(Deserialize)]
pub struct WithdrawForm {
    reason: String,
}

fn frame(app: &App, caller: &Caller, title: &str) -> Frame {
    Frame::new(&caller.user, &app.config.organization, Nav::SigningKeys, title)
}

fn row(key: &SigningKey, dates: &Dates, now: Timestamp) -> SigningKeyRow {
    let life = &key.life;
    SigningKeyRow {
        kid: key.kid.clone(),
        state: life.state(now),
        published: dates.when(life.created_at),
        from: life.active_at.map(|at| dates.when(at)),
        until: life.active_at.and(life.retiring_at.or(life.withdrawn_at)).map(|at| dates.when(at)),
        leaves: life.withdrawn_at.or(life.leaves_at).map(|at| dates.when(at)),
    }
}

/// How long, in days where they are whole.
fn words(seconds: i64) -> String {
    match seconds / 86_400 {
        days @ 2.. if seconds % 86_400 == 0 => format!("{days} days"),
        _ => lasts(u32::try_from(seconds).unwrap_or(u32::MAX)),
    }
}

fn names(apis: &[Api], algorithm: Algorithm) -> String {
    let signed = apis.iter().filter(|a| a.settings.algorithm == algorithm);
    let names: Vec<&str> = signed.map(|a| a.settings.name.as_str()).collect();
    if names.is_empty() { "no API at present".to_owned() } else { names.join(", ") }
}

/// `GET /signing-keys`.
///
/// # Errors
/// The database's.
pub async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Asked(arriving): Asked<Arriving>,
) -> Answer {
    let now = app.clock.now();
    let dates = dates(&caller.user, now);
    let keys = app.signing_keys(Doer::Caller(&caller)).await?;
    let apis: Vec<Api> = app.apis(&caller).await?.into_iter().map(|a| a.api).collect();
    let group = |algorithm: Algorithm| SigningKeyGroup {
        code: algorithm.code(),
        label: algorithm.label(),
        apis: names(&apis, algorithm),
        rows: keys.iter().filter(|k| k.algorithm == algorithm).map(|k| row(k, &dates, now)).collect(),
    };
    let groups = Algorithm::ALL.iter().copied().map(group).filter(|g| !g.rows.is_empty()).collect();
    let notice = match (arriving.done.as_deref(), arriving.problem.as_deref()) {
        (Some("rotated"), _) => Some(Notice::done("The next key signs from now on, and a new one is published.")),
        (Some("withdrawn"), _) => Some(Notice::done("The key is out of the key set. What it signed is refused.")),
        (_, Some("conflict")) => {
            let text =
                "Another key signs than the page showed: the form was sent before, or somebody else was first.";
            Some(Notice::bad(text).led_by("Nothing was rotated."))
        }
        (_, Some("too_early")) => {
            let text =
                "The next key has not been published for long enough. The page of the rotation says from when.";
            Some(Notice::bad(text).led_by("Nothing was rotated."))
        }
        (_, Some("key_over")) => Some(Notice::bad(KeyRefused::Over.to_string()).led_by("Nothing was withdrawn.")),
        _ => None,
    };
    let rotation = app.config.keys.rotation;
    ok(&SigningKeys {
        frame: frame(&app, &caller, "Signing keys"),
        notice,
        groups,
        rotation: rotation.map(|r| words(r.as_secs())),
        key_set_url: format!("{}/.well-known/jwks.json", app.config.public_url),
    })
}

/// `GET /signing-keys/rotate/{algorithm}`: what happens.
///
/// # Errors
/// [`Failure::NotFound`] for an algorithm that is not in use, or the database's.
pub async fn confirm_rotate(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(code): Path<String>,
) -> Answer {
    let algorithm = Algorithm::from_code(&code).ok_or(Failure::NotFound)?;
    let now = app.clock.now();
    let keys = app.signing_keys(Doer::Caller(&caller)).await?;
    let in_state = |state| {
        let found = keys.iter().find(|k| k.algorithm == algorithm && k.life.state(now) == state);
        found.ok_or(Failure::NotFound)
    };
    let (active, upcoming) = (in_state(KeyState::Active)?, in_state(KeyState::Upcoming)?);
    let ready = upcoming.life.created_at + app.config.keys.publish_ahead;
    let content = RotateKeys {
        frame: frame(&app, &caller, "Rotate signing keys"),
        code: algorithm.code(),
        active: active.kid.clone(),
        upcoming: upcoming.kid.clone(),
        lasts: lasts(active.longest_seconds),
        ready: Some(ready).filter(|at| now < *at).map(|at| dates(&caller.user, now).when(at).exact),
    };
    page_with(StatusCode::OK, &content)
}

/// `POST /signing-keys/rotate/{algorithm}`.
///
/// # Errors
/// The database's; that it is too early, or done already, is said in the list.
pub async fn rotate(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(code): Path<String>,
    Typed(form): Typed<RotateForm>,
) -> Answer {
    let at_once = form.at_once.is_some();
    match app.rotate_keys(Doer::Caller(&caller), algorithm(&code)?, at_once, Some(&form.seen)).await {
        Ok(_) => Ok(see_other("/signing-keys?done=rotated")),
        Err(why @ (Failure::Conflict | Failure::Key(KeyRefused::TooEarly(_)))) => {
            Ok(see_other(&format!("/signing-keys?problem={}", why.code())))
        }
        Err(failure) => Err(failure.into()),
    }
}

async fn withdrawal(app: &App, caller: &Caller, kid: &str, reason: Field) -> Result<WithdrawKey, Failure> {
    let now = app.clock.now();
    let keys = app.signing_keys(Doer::Caller(caller)).await?;
    let key = keys.iter().find(|k| k.kid == kid).ok_or(Failure::NotFound)?;
    if !key.life.is_published(now) {
        return Err(KeyRefused::Over.into());
    }
    Ok(WithdrawKey {
        frame: frame(app, caller, "Withdraw a signing key"),
        kid: key.kid.clone(),
        state: key.life.state(now),
        reason,
        cached_seconds: app.config.keys.cached_seconds(),
    })
}

/// `GET /signing-keys/{kid}/withdraw`: what stops.
///
/// # Errors
/// [`Failure::NotFound`], [`KeyRefused::Over`], or the database's.
pub async fn confirm_withdraw(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(kid): Path<String>,
) -> Answer {
    page_with(StatusCode::OK, &withdrawal(&app, &caller, &kid, Field::new("")).await?)
}

/// `POST /signing-keys/{kid}/withdraw`.
///
/// # Errors
/// [`Failure::NotFound`], or the database's; that a reason is missing is said at the field.
pub async fn withdraw(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(kid): Path<String>,
    Typed(form): Typed<WithdrawForm>,
) -> Answer {
    match app.withdraw_key(Doer::Caller(&caller), &kid, &form.reason).await {
        Ok(_) => Ok(see_other("/signing-keys?done=withdrawn")),
        Err(why @ Failure::Key(KeyRefused::Over)) => {
            Ok(see_other(&format!("/signing-keys?problem={}", why.code())))
        }
        Err(Failure::Invalid(wrong)) => {
            let mut reason = Field::new(&form.reason);
            reason.error = wrong.into_iter().next().map(|i| i.message);
            let content = withdrawal(&app, &caller, &kid, reason).await?;
            page_with(Failure::Invalid(Vec::new()).status(), &content)
        }
        Err(failure) => Err(failure.into()),
    }
}
