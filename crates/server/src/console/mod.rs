//! The web console: one file per page. Handlers fill the structs of [`view`] and nothing else;
//! every page works without a script, but for what passkeys need one for.

pub mod account;
pub mod activate;
pub mod apis;
pub mod audit;
pub mod client_keys;
pub mod cookie;
pub mod credentials;
pub mod federation;
pub mod forgot_password;
pub mod identities;
pub mod keys;
pub mod mail;
pub mod mfa;
pub mod pages;
pub mod providers;
pub mod reset_password;
pub mod second_factor;
pub mod setup;
pub mod sign_in;
pub mod users;
pub mod view;

use std::sync::Arc;

use askama::Template;
use axum::{
    Extension, Form,
    extract::{FromRequest, FromRequestParts, Query, Request, State},
    http::{HeaderValue, Method, StatusCode, Uri, header, request::Parts},
    middleware::Next,
    response::{Html, IntoResponse, Redirect, Response},
};
use jiff::Timestamp;
use portcullis_domain::{
    accounts::User,
    links::{LinkPurpose, LinkRefused},
};
use serde::de::DeserializeOwned;

use crate::{
    app::App,
    console::view::{Dates, Message},
    error::Failure,
};

/// Where a failure at the console ends up: a page that says what is wrong and what to do.
pub struct Refusal(Failure);

impl<E: Into<Failure>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        message(&self.0)
    }
}

/// What a handler answers.
pub type Answer = Result<Response, Refusal>;

/// A page with a status.
///
/// # Errors
/// When the template fails, which compile-checked templates do not.
pub fn page(status: StatusCode, page: &impl Template) -> Answer {
    let html = page.render().map_err(|e| Failure::Internal(format!("template: {e}")))?;
    Ok((status, Html(html)).into_response())
}

/// A page that says what failed, with the status of the failure and when to try again.
///
/// # Errors
/// As [`page`].
pub fn failed(failure: &Failure, content: &impl Template) -> Answer {
    Ok(with_retry(failure, page(failure.status(), content)?))
}

fn with_retry(failure: &Failure, mut response: Response) -> Response {
    if let Some(seconds) = failure.retry_after() {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// A page, 200.
///
/// # Errors
/// As [`page`].
pub fn ok(content: &impl Template) -> Answer {
    page(StatusCode::OK, content)
}

/// 303: the next page is to be asked for with GET.
#[must_use]
pub fn see_other(to: &str) -> Response {
    Redirect::to(to).into_response()
}

/// The dates of a page, as its user wants them.
#[must_use]
pub fn dates(user: &User, now: Timestamp) -> Dates {
    Dates::new(now, user.language, &user.time_zone)
}

fn title(failure: &Failure) -> &'static str {
    match failure {
        Failure::NotSignedIn => "Your session has ended",
        Failure::NotFound => "Page not found",
        Failure::NotSuperAdmin
        | Failure::NotOwner
        | Failure::Generate(_)
        | Failure::Revoke(_)
        | Failure::ClientKey(_)
        | Failure::Manage(_)
        | Failure::Federation(_) => "Not allowed",
        Failure::Link(LinkRefused::Expired(_)) => "This link has expired",
        Failure::Link(LinkRefused::Used(_)) => "This link was used already",
        Failure::Link(LinkRefused::Replaced(_)) => "This link was replaced",
        Failure::Link(LinkRefused::Unknown) => "This link is not valid",
        Failure::SetUpOver => "This link is no longer valid",
        Failure::Mfa(_) | Failure::Api(_) => "Nothing was changed",
        Failure::StepOver => "Begin again",
        Failure::Locked(_) => "Too many attempts",
        Failure::Busy | Failure::Unavailable(_) | Failure::Unknown(_) => "Not available right now",
        Failure::OnHold => "On hold",
        Failure::Conflict => "Changed by somebody else",
        _ => "Something went wrong",
    }
}

fn message(failure: &Failure) -> Response {
    failure.log();
    let link = match failure {
        Failure::NotSignedIn | Failure::SetUpOver | Failure::Link(LinkRefused::Used(LinkPurpose::Invitation)) => {
            ("/sign-in", "Sign in")
        }
        // Another invitation is a Super Admin's to send.
        Failure::Link(
            LinkRefused::Expired(LinkPurpose::Invitation) | LinkRefused::Replaced(LinkPurpose::Invitation),
        ) => ("/sign-in", "Go to the sign-in"),
        Failure::Link(_) => ("/forgot-password", "Ask for a new link"),
        Failure::OnHold => ("/sign-in", "Try again"),
        _ => ("/", "Go to the overview"),
    };
    let content = Message { link: Some(link), ..Message::new("", title(failure), failure.to_string()) };
    with_retry(failure, (failure.status(), Extension(content)).into_response())
}

/// Writes the page of a [`Message`]. Where one comes from, nobody knows whose installation it is.
pub async fn write_message(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let Some(content) = response.extensions_mut().remove::<Message>() else { return response };
    let content = Message { organisation: app.config.organization.clone(), ..content };
    let Ok(html) = content.render() else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    response.headers_mut().remove(header::CONTENT_LENGTH);
    (response.status(), response.headers().clone(), Html(html)).into_response()
}

/// The answer to a request that was refused before it reached its handler. A page that needs a
/// session leads to the sign-in and back; a form that was sent says that nothing was done.
#[must_use]
pub fn refuse(failure: &Failure, method: &Method, uri: &Uri) -> Response {
    if matches!(failure, Failure::NotSignedIn) && matches!(*method, Method::GET | Method::HEAD) {
        let path = uri.path();
        return see_other(&if path == "/" { "/sign-in".to_owned() } else { format!("/sign-in?next={path}") });
    }
    if matches!(failure, Failure::NotSignedIn) {
        let text = "Nothing was done. Sign in, and do it again.";
        let content = Message { link: Some(("/sign-in", "Sign in")), ..Message::new("", title(failure), text) };
        return (failure.status(), Extension(content)).into_response();
    }
    message(failure)
}

/// A form that a person filled in. Only form encoding is taken (protocol 31).
pub struct Typed<T>(pub T);

/// A form without fields: a button.
#[derive(serde::Deserialize)]
pub struct Nothing {}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Typed<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        match Form::from_request(request, state).await {
            Ok(Form(value)) => Ok(Self(value)),
            Err(rejection) => {
                let text = "The form arrived incomplete, repeated or not as a form. Go back and send it again.";
                let content = Message::new("", "The form could not be read", text);
                Err((rejection.status(), Extension(content)).into_response())
            }
        }
    }
}

/// What stands behind `?` in the address of a page.
pub struct Asked<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Asked<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(value)) => Ok(Self(value)),
            Err(rejection) => {
                let text =
                    "Something behind the ? is repeated or not of its form. Open the page from the console.";
                let content = Message::new("", "The address could not be read", text);
                Err((rejection.status(), Extension(content)).into_response())
            }
        }
    }
}

/// A page for a request that took too long. It is written where nobody knows whose installation it
/// is any more.
#[must_use]
pub fn too_slow(text: &str) -> Response {
    let content = Message::new("", "The request took too long", text);
    let status = StatusCode::REQUEST_TIMEOUT;
    content.render().map_or_else(|_| status.into_response(), |html| (status, Html(html)).into_response())
}

/// A form that another site sent (protocol 31).
#[must_use]
pub fn cross_site() -> Response {
    let text = "This request came from another site, so nothing was done. Open the console and try from there.";
    (StatusCode::FORBIDDEN, Extension(Message::new("", "Nothing was done", text))).into_response()
}
