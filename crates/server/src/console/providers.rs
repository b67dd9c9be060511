//! **Sign-in providers**: set up, test, remove.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Path, State},
    http::StatusCode,
};
use portcullis_domain::{
    accounts::{Invalid, Role},
    federation::{self as domain, FederationRefused, Provider, Typed as Settings},
    secret::SecretText,
};
use serde::Deserialize;
use uuid::Uuid;

use crate::{
    app::{App, Caller, federation::Claim},
    console::{
        Answer, Asked, Nothing, Typed, federation, page as page_with, see_other, sign_in,
        view::{
            ClaimRow, Field, Frame, Nav, Notice, ProviderForm, ProviderRemove, ProviderRow, ProviderTest,
            Providers,
        },
    },
    error::Failure,
};

/// What to say.
#[derive(Deserialize)]
pub struct Arriving {
    done: Option<String>,
    problem: Option<String>,
}

/// What was typed. `id` is that of a provider to be set up: it is in the addresses that have to be
/// registered there before there is a client id to type.
#[derive(Deserialize)]
pub struct Form {
    id: Option<Uuid>,
    name: String,
    issuer: Option<String>,
    client_id: String,
    client_secret: Option<SecretText>,
    scopes: String,
    domains: String,
    makes_users: Option<String>,
    role: Option<String>,
}

impl Form {
    fn split(self) -> (Settings, Option<SecretText>) {
        let settings = Settings {
            name: self.name,
            issuer: self.issuer.unwrap_or_default(),
            client_id: self.client_id,
            scopes: self.scopes,
            domains: self.domains,
            makes_users: self.makes_users.is_some(),
            role: self.role.unwrap_or_default(),
        };
        (settings, sign_in::filled(self.client_secret))
    }
}

fn frame(app: &App, caller: &Caller, title: &str) -> Frame {
    Frame::new(&caller.user, &app.config.organization, Nav::Providers, title)
}

/// The form with what was typed, or what is so.
fn form(app: &App, caller: &Caller, id: Uuid, present: Option<&Provider>, typed: &Settings) -> ProviderForm {
    let title = present.map_or("Set up a sign-in provider", |_| "Sign-in provider");
    ProviderForm {
        frame: frame(app, caller, title),
        notice: None,
        id: id.to_string(),
        present: present.map(|p| p.settings.name.clone()),
        name: Field::new(&typed.name),
        issuer: Field::new(&typed.issuer),
        client_id: Field::new(&typed.client_id),
        secret_error: None,
        has_secret: present.is_some_and(|p| p.has_secret),
        scopes: Field::new(&typed.scopes),
        domains: Field::new(&typed.domains),
        makes_users: typed.makes_users,
        role: Field::new(&typed.role),
        redirect_uri: app.redirect_uri(id),
        signed_out_uri: app.signed_out_uri(id),
    }
}

fn with_errors(mut form: ProviderForm, wrong: Vec<Invalid>) -> ProviderForm {
    for Invalid { field, message } in wrong {
        let place = match field {
            "name" => &mut form.name.error,
            "issuer" => &mut form.issuer.error,
            "client_id" => &mut form.client_id.error,
            "client_secret" => &mut form.secret_error,
            "scopes" => &mut form.scopes.error,
            "domains" => &mut form.domains.error,
            _ => &mut form.role.error,
        };
        *place = Some(message);
    }
    form
}

fn as_typed(provider: &Provider) -> Settings {
    let settings = &provider.settings;
    Settings {
        name: settings.name.clone(),
        issuer: settings.issuer.clone(),
        client_id: settings.client_id.clone(),
        scopes: settings.scopes.join(" "),
        domains: settings.domains.join(" "),
        makes_users: settings.makes_users,
        role: settings.role.code().to_owned(),
    }
}

/// `GET /providers`.
///
/// # Errors
/// The database's.
pub async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Asked(arriving): Asked<Arriving>,
) -> Answer {
    let mut rows = Vec::new();
    for provider in app.sign_in_providers().await? {
        rows.push(ProviderRow {
            users: app.provider_use(&provider).await?.users,
            id: provider.id.to_string(),
            makes: provider.settings.makes_users.then(|| provider.settings.role.label()),
            name: provider.settings.name,
            issuer: provider.settings.issuer,
        });
    }
    let notice = (arriving.done.as_deref() == Some("removed"))
        .then(|| Notice::done("The provider is removed. Sessions that were opened through it have ended."));
    page_with(StatusCode::OK, &Providers { frame: frame(&app, &caller, "Sign-in providers"), notice, rows })
}

/// `GET /providers/new`.
///
/// # Errors
/// None of its own.
pub async fn new(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>) -> Answer {
    let typed = Settings {
        scopes: "openid email profile".to_owned(),
        role: Role::User.code().to_owned(),
        ..Settings::default()
    };
    page_with(StatusCode::OK, &form(&app, &caller, app.clock.id(), None, &typed))
}

/// `POST /providers/new`.
///
/// # Errors
/// The database's; what can be mended is said at the fields, which keep what was typed.
pub async fn add(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Typed(typed): Typed<Form>,
) -> Answer {
    let id = typed.id.unwrap_or_else(|| app.clock.id());
    let (settings, secret) = typed.split();
    match app.add_provider(&caller, id, &settings, secret).await {
        Ok(provider) => Ok(see_other(&format!("/providers/{}?done=made", provider.id))),
        Err(Failure::Invalid(wrong)) => {
            let status = Failure::Invalid(Vec::new()).status();
            page_with(status, &with_errors(form(&app, &caller, id, None, &settings), wrong))
        }
        Err(failure) => Err(failure.into()),
    }
}

/// What to say of a provider that was just saved: whether it can be reached as it is now.
async fn saved(app: &App, provider: &Provider) -> Result<Notice, Failure> {
    match app.discover(provider).await {
        Ok(()) => {
            Ok(Notice::done("The provider answers as it should. Test it before you tell anybody.")
                .led_by("Saved."))
        }
        Err(Failure::Federation(why)) => {
            let text = match why {
                FederationRefused::BadDocuments => {
                    "What it publishes of itself is not right: look whether the issuer is exactly as the provider writes it."
                }
                _ => {
                    "It could not be reached: look whether the issuer is right, and whether this server may go there."
                }
            };
            Ok(Notice::warn(text).led_by("Saved, but nobody can sign in through it yet."))
        }
        Err(failure) => Err(failure),
    }
}

/// `GET /providers/{provider}`.
///
/// # Errors
/// [`Failure::NotFound`], or the database's.
pub async fn show(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<Uuid>,
    Asked(arriving): Asked<Arriving>,
) -> Answer {
    let provider = app.provider(&caller, id).await?;
    let mut content = form(&app, &caller, id, Some(&provider), &as_typed(&provider));
    if arriving.done.is_some() {
        content.notice = Some(saved(&app, &provider).await?);
    }
    if let Some(why) = arriving.problem.as_deref().and_then(FederationRefused::from_code) {
        content.notice = Some(Notice::bad(why.to_string()).led_by("The test did not succeed."));
    }
    page_with(StatusCode::OK, &content)
}

/// `POST /providers/{provider}`.
///
/// # Errors
/// [`Failure::NotFound`], or the database's; what can be mended is said at the fields.
pub async fn change(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<Uuid>,
    Typed(typed): Typed<Form>,
) -> Answer {
    let (settings, secret) = typed.split();
    match app.change_provider(&caller, id, &settings, secret).await {
        Ok(()) => Ok(see_other(&format!("/providers/{id}?done=changed"))),
        Err(Failure::Invalid(wrong)) => {
            let status = Failure::Invalid(Vec::new()).status();
            let present = app.provider(&caller, id).await?;
            let settings = Settings { issuer: present.settings.issuer.clone(), ..settings };
            page_with(status, &with_errors(form(&app, &caller, id, Some(&present), &settings), wrong))
        }
        Err(failure) => Err(failure.into()),
    }
}

/// `GET /providers/{provider}/remove`: who loses what.
///
/// # Errors
/// [`Failure::NotFound`], or the database's.
pub async fn confirm_remove(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<Uuid>,
) -> Answer {
    let provider = app.provider(&caller, id).await?;
    let used = app.provider_use(&provider).await?;
    let name = provider.settings.name;
    let frame = frame(&app, &caller, "Remove a sign-in provider");
    let refused = domain::remove(used.super_admins_left).err();
    let refused = refused.map(|why| Notice::bad(why.to_string()).led_by("It cannot be removed now."));
    let content =
        ProviderRemove { frame, id: id.to_string(), name, users: used.users, stranded: used.stranded, refused };
    page_with(StatusCode::OK, &content)
}

/// `POST /providers/{provider}/remove`.
///
/// # Errors
/// [`Failure::NotFound`], or the database's; a rule that refuses is said on the page that asks.
pub async fn remove(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<Uuid>,
    Typed(Nothing {}): Typed<Nothing>,
) -> Answer {
    match app.remove_provider(&caller, id).await {
        Ok(_) => Ok(see_other("/providers?done=removed")),
        Err(Failure::Federation(_)) => Ok(see_other(&format!("/providers/{id}/remove"))),
        Err(failure) => Err(failure.into()),
    }
}

/// `POST /providers/{provider}/test`: the way to the provider, from which the callback comes back to `tested`.
///
/// # Errors
/// [`Failure::NotFound`], or the database's; that it cannot be visited is said on its page.
pub async fn test(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<Uuid>,
    Typed(Nothing {}): Typed<Nothing>,
) -> Answer {
    match app.begin_test(&caller, id).await {
        Ok(there) => federation::going(&app, &there),
        Err(Failure::Federation(why)) => Ok(see_other(&format!("/providers/{id}?problem={}", why.code()))),
        Err(failure) => Err(failure.into()),
    }
}

/// The page that shows what a provider told.
///
/// # Errors
/// When the template fails.
pub(crate) fn tested(app: &App, caller: &Caller, provider: &Provider, claims: Vec<Claim>) -> Answer {
    let rows = claims.into_iter().map(|c| ClaimRow {
        name: c.name,
        value: c.value,
        source: if c.in_id_token { "ID token" } else { "Userinfo" },
    });
    page_with(
        StatusCode::OK,
        &ProviderTest {
            frame: frame(app, caller, "Test of a sign-in provider"),
            id: provider.id.to_string(),
            name: provider.settings.name.clone(),
            rows: rows.collect(),
        },
    )
}
