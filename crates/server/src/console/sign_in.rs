//! Signing in and out.

use std::sync::Arc;

use axum::{
    Extension,
    extract::State,
    http::HeaderMap,
    response::{AppendHeaders, IntoResponse, Response},
};
use portcullis_domain::{
    audit::Origin,
    federation::FederationRefused,
    secret::{ExposeSecret, SecretText},
};
use serde::Deserialize;

use crate::{
    access::session_cookie,
    app::{
        App, Caller,
        sessions::{NewSession, SignedIn},
    },
    console::{
        Answer, Asked, Nothing, Typed, cookie, failed, ok, see_other,
        view::{Notice, SignIn},
    },
    error::Failure,
};

/// Where to go after signing in, and what to say.
#[derive(Deserialize)]
pub struct Arriving {
    next: Option<String>,
    done: Option<String>,
    problem: Option<String>,
}

/// What was typed.
#[derive(Deserialize)]
pub struct Credentials {
    email: String,
    password: SecretText,
    next: Option<String>,
}

/// The page that asks for the second factor.
pub(crate) const SECOND_FACTOR: &str = "/sign-in/second-factor";

/// The address of the page that asks for the second factor and then leads on.
pub(crate) fn second_factor(next: Option<&str>) -> String {
    next.map_or_else(|| SECOND_FACTOR.to_owned(), |n| format!("{SECOND_FACTOR}?next={n}"))
}

/// The buttons of the providers: id and name.
async fn providers(app: &App) -> Result<Vec<(String, String)>, Failure> {
    let all = app.sign_in_providers().await?;
    Ok(all.into_iter().map(|p| (p.id.to_string(), p.settings.name)).collect())
}

/// A page of this console, and nothing else: no other host, no scheme, no backslash.
pub(crate) fn local(next: Option<String>) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-_".contains(c);
    next.filter(|n| n.starts_with('/') && !n.starts_with("//") && n.chars().all(plain))
}

/// `GET /sign-in`.
///
/// # Errors
/// On hold, and when the database cannot tell whether somebody is signed in already.
pub async fn page(
    State(app): State<Arc<App>>,
    Extension(origin): Extension<Origin>,
    headers: HeaderMap,
    Asked(arriving): Asked<Arriving>,
) -> Answer {
    app.works().await?;
    let problem = arriving.problem.as_deref().and_then(FederationRefused::from_code);
    if let Some(cookie) = session_cookie(&headers)
        && app.identify_session(&cookie, origin).await.is_ok()
    {
        return Ok(match problem {
            Some(why) => see_other(&format!("/account?problem={}", why.code())),
            None => see_other("/"),
        });
    }
    let notice = match arriving.done.as_deref() {
        Some("signed-out") => Some(Notice::done("You have signed out.")),
        Some("password") => Some(Notice::done("Your password has been changed. Sign in with it.")),
        Some("again") => Some(Notice::info(Failure::StepOver.to_string())),
        Some("set-up" | "activated") => Some(Notice::done("Your account is ready. Sign in with it.")),
        Some("signed-out-there") => Some(Notice::done("You have signed out here and at your provider.")),
        _ => None,
    };
    let notice = problem.map(|why| Notice::bad(why.to_string())).or(notice);
    let (organisation, passkeys) = (app.config.organization.clone(), app.passkeys.are_possible());
    let providers = providers(&app).await?;
    ok(&SignIn { organisation, passkeys, notice, next: local(arriving.next), providers, ..SignIn::default() })
}

/// `POST /sign-in`.
///
/// # Errors
/// The database's; what the person can mend is said on the page, which keeps the e-mail typed.
pub async fn sign_in(
    State(app): State<Arc<App>>,
    Extension(origin): Extension<Origin>,
    headers: HeaderMap,
    Typed(typed): Typed<Credentials>,
) -> Answer {
    let next = local(typed.next);
    match app.sign_in(&typed.email, typed.password, origin.clone()).await {
        Ok(SignedIn::Session(new)) => Ok(signed_in(&app, new, &headers, origin, next.as_deref()).await),
        Ok(SignedIn::SecondFactor(step)) => {
            let to = second_factor(next.as_deref());
            Ok(([cookie::set_ceremony(&step)], see_other(&to)).into_response())
        }
        Err(
            failure @ (Failure::WrongPassword
            | Failure::Locked(_)
            | Failure::NotActive
            | Failure::Invalid(_)
            | Failure::Busy),
        ) => {
            let organisation = app.config.organization.clone();
            let error = Some(failure.to_string());
            let content = SignIn {
                organisation,
                email: typed.email,
                error,
                fields_wrong: matches!(failure, Failure::WrongPassword | Failure::Invalid(_)),
                notice: None,
                next,
                passkeys: app.passkeys.are_possible(),
                providers: providers(&app).await?,
            };
            failed(&failure, &content)
        }
        Err(failure) => Err(failure.into()),
    }
}

/// The answer to a completed sign-in: the new session, and the page to go to. The session that the
/// browser may still have is another one: it ends, and so does what was under way.
pub(crate) async fn signed_in(
    app: &App,
    new: NewSession,
    headers: &HeaderMap,
    origin: Origin,
    next: Option<&str>,
) -> Response {
    if let Some(old) = session_cookie(headers)
        && let Ok(caller) = app.identify_session(&old, origin).await
    {
        // If it cannot be ended it ends by itself; the new one has been opened.
        if let Err(failure) = app.sign_out(&caller).await {
            failure.log();
        }
    }
    let to = next.unwrap_or("/account/credentials");
    let to = if new.user.standing.is_super_admin() || next.is_some() { to } else { "/" };
    (AppendHeaders([cookie::set(&new.cookie), cookie::clear_ceremony()]), see_other(to)).into_response()
}

/// `POST /sign-out`: ends the session on the server and takes the cookie away.
///
/// # Errors
/// The database's: then the session still lives, and the page says so.
pub async fn sign_out(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Typed(Nothing {}): Typed<Nothing>,
) -> Answer {
    let provider = app.provider_of(&caller).await?;
    app.sign_out(&caller).await?;
    let to = provider
        .map_or_else(|| "/sign-in?done=signed-out".to_owned(), |p| format!("/sign-in/provider/{}/sign-out", p.id));
    Ok(([cookie::clear()], see_other(&to)).into_response())
}

/// Whether a password field was filled in.
pub(crate) fn filled(password: Option<SecretText>) -> Option<SecretText> {
    password.filter(|p| !p.expose_secret().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_sent_to_another_place_after_signing_in() {
        for good in ["/", "/audit", "/account/credentials"] {
            assert_eq!(local(Some(good.to_owned())).as_deref(), Some(good));
        }
        for bad in
            ["//evil.example", "https://evil.example", "/\\evil.example", "evil", "/a?b=//c", "/%2fevil", ""]
        {
            assert_eq!(local(Some(bad.to_owned())), None, "{bad}");
        }
    }
}
