//! **APIs**: what tokens are for. Registered, changed, removed, and given keys.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Path, State},
    http::StatusCode,
};
use portcullis_domain::{
    accounts::Invalid,
    apis::{ApiRefused, Typed as Settings, scopes_of, text_of},
    tokens::TOKEN_LASTS_SECONDS,
};
use serde::Deserialize;
use uuid::Uuid;

use crate::{
    api::apis::overlap,
    app::{
        App, Caller,
        apis::{ApiWithKeys, ids_of},
    },
    console::{
        Answer, Asked, Nothing, Typed, dates, page as page_with, see_other,
        view::{
            ApiForm, ApiKeyRemove, ApiKeyRow, ApiKeyShown, ApiRemove, ApiRow, Apis, Field, Frame, Nav, Notice,
            lasts,
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

/// What was typed. The identifier is part of a registration only.
#[derive(Deserialize)]
pub struct Form {
    name: String,
    identifier: Option<String>,
    scopes: String,
    lifespan: String,
    /// A checkbox: there when it is ticked.
    requires_dpop: Option<String>,
    #[serde(default)]
    algorithm: String,
}

/// What is to become of the key that is there, and which keys the page showed.
#[derive(Deserialize)]
pub struct KeyForm {
    #[serde(default)]
    older_key: String,
    seen: Option<String>,
}

impl Form {
    fn settings(&self) -> Settings {
        Settings {
            name: self.name.clone(),
            identifier: self.identifier.clone().unwrap_or_default(),
            scopes: scopes_of(&self.scopes),
            lifespan: self.lifespan.clone(),
            requires_dpop: self.requires_dpop.is_some(),
            algorithm: self.algorithm.clone(),
        }
    }
}

fn frame(app: &App, caller: &Caller, title: &str) -> Frame {
    Frame::new(&caller.user, &app.config.organization, Nav::Apis, title)
}

fn valid_keys(app: &App, api: &ApiWithKeys) -> usize {
    let now = app.clock.now();
    api.keys.iter().filter(|k| k.is_valid(now)).count()
}

/// The form with what was typed, or what is so.
fn form(app: &App, caller: &Caller, present: Option<&ApiWithKeys>, typed: &Form) -> ApiForm {
    let now = app.clock.now();
    let dates = dates(&caller.user, now);
    let key_rows = |keys: &ApiWithKeys| {
        let row = |k: &portcullis_domain::apis::ApiKey| ApiKeyRow {
            id: k.id.as_str().to_owned(),
            made: dates.when(k.made_at),
            ends: k.ends_at.map(|at| dates.when(at)),
            valid: k.is_valid(now),
        };
        keys.keys.iter().map(row).collect()
    };
    let api = present.map(|p| &p.api);
    ApiForm {
        frame: frame(app, caller, if present.is_some() { "API" } else { "Register an API" }),
        notice: None,
        id: api.map(|a| a.id.to_string()).unwrap_or_default(),
        present: api.map(|a| a.settings.name.clone()),
        is_own: api.is_some_and(portcullis_domain::apis::Api::is_own),
        name: Field::new(&typed.name),
        identifier: Field::new(match api {
            Some(api) => &api.settings.identifier,
            None => typed.identifier.as_deref().unwrap_or_default(),
        }),
        scopes: Field::new(&typed.scopes),
        scope_rows: api
            .map(|a| a.settings.scopes.iter().map(|s| (s.name.clone(), s.description.clone())).collect())
            .unwrap_or_default(),
        lifespan: Field::new(&typed.lifespan),
        requires_dpop: typed.requires_dpop.is_some(),
        algorithm: Field::new(&typed.algorithm),
        lasts: api.map(|a| lasts(a.lifespan(app.config.token_lifespan_seconds))).unwrap_or_default(),
        keys: present.map(key_rows).unwrap_or_default(),
        seen: present.map(|p| ids_of(&p.keys)).unwrap_or_default(),
        token_url: format!("{}/oauth/token", app.config.public_url),
        introspection_url: format!("{}/oauth/introspect", app.config.public_url),
    }
}

fn with_errors(mut form: ApiForm, wrong: Vec<Invalid>) -> ApiForm {
    for Invalid { field, message } in wrong {
        let place = match field {
            "name" => &mut form.name.error,
            "identifier" => &mut form.identifier.error,
            "scopes" => &mut form.scopes.error,
            "algorithm" => &mut form.algorithm.error,
            _ => &mut form.lifespan.error,
        };
        *place = Some(message);
    }
    form
}

fn as_typed(app: &App, present: &ApiWithKeys) -> Form {
    let settings = &present.api.settings;
    Form {
        name: settings.name.clone(),
        identifier: None,
        scopes: text_of(&settings.scopes),
        lifespan: present.api.lifespan(app.config.token_lifespan_seconds).to_string(),
        requires_dpop: settings.requires_dpop.then(|| "yes".to_owned()),
        algorithm: settings.algorithm.code().to_owned(),
    }
}

/// `GET /apis`.
///
/// # Errors
/// The database's.
pub async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Asked(arriving): Asked<Arriving>,
) -> Answer {
    let row = |api: ApiWithKeys| ApiRow {
        id: api.api.id.to_string(),
        scopes: api.api.settings.scopes.len(),
        lasts: lasts(api.api.lifespan(app.config.token_lifespan_seconds)),
        keys: valid_keys(&app, &api),
        name: api.api.settings.name,
        identifier: api.api.settings.identifier,
    };
    let rows = app.apis(&caller).await?.into_iter().map(row).collect();
    let notice = (arriving.done.as_deref() == Some("removed"))
        .then(|| Notice::done("The API is removed. No token for it is active any more."));
    page_with(StatusCode::OK, &Apis { frame: frame(&app, &caller, "APIs"), notice, rows })
}

/// `GET /apis/new`.
///
/// # Errors
/// None of its own.
pub async fn new(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>) -> Answer {
    let typed = Form {
        name: String::new(),
        identifier: None,
        scopes: String::new(),
        lifespan: TOKEN_LASTS_SECONDS.to_string(),
        requires_dpop: None,
        algorithm: String::new(),
    };
    page_with(StatusCode::OK, &form(&app, &caller, None, &typed))
}

/// `POST /apis/new`.
///
/// # Errors
/// The database's; what can be mended is said at the fields, which keep what was typed.
pub async fn register(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Typed(typed): Typed<Form>,
) -> Answer {
    match app.register_api(&caller, &typed.settings()).await {
        Ok(api) => Ok(see_other(&format!("/apis/{}?done=registered", api.id))),
        Err(Failure::Invalid(wrong)) => {
            let status = Failure::Invalid(Vec::new()).status();
            page_with(status, &with_errors(form(&app, &caller, None, &typed), wrong))
        }
        Err(failure) => Err(failure.into()),
    }
}

/// `GET /apis/{api}`.
///
/// # Errors
/// [`Failure::NotFound`], or the database's.
pub async fn show(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<Uuid>,
    Asked(arriving): Asked<Arriving>,
) -> Answer {
    let present = app.api(&caller, id).await?;
    let mut content = form(&app, &caller, Some(&present), &as_typed(&app, &present));
    content.notice = match (arriving.done.as_deref(), arriving.problem.as_deref()) {
        (Some("registered"), _) => {
            Some(Notice::done("The API is registered. Make a key if it is to ask whether tokens are active."))
        }
        (Some("changed"), _) => Some(Notice::done("Saved. Tokens that are requested from now on have it so.")),
        (Some("key-removed"), _) => Some(Notice::done("The key is removed. It does not work any more.")),
        (_, Some("too_many_keys")) => {
            Some(Notice::bad(ApiRefused::TooManyKeys.to_string()).led_by("No key was made."))
        }
        (_, Some("conflict")) => {
            let text = "The keys are not those that the page showed: the form was sent before, or somebody else \
                        made or removed one. Look at them below. A secret is not shown again.";
            Some(Notice::bad(text).led_by("No key was made."))
        }
        _ => None,
    };
    page_with(StatusCode::OK, &content)
}

/// `POST /apis/{api}`.
///
/// # Errors
/// [`Failure::NotFound`], [`ApiRefused::Own`], or the database's; what can be mended is said at the
/// fields.
pub async fn change(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<Uuid>,
    Typed(typed): Typed<Form>,
) -> Answer {
    match app.change_api(&caller, id, &typed.settings()).await {
        Ok(_) => Ok(see_other(&format!("/apis/{id}?done=changed"))),
        Err(Failure::Invalid(wrong)) => {
            let status = Failure::Invalid(Vec::new()).status();
            let present = app.api(&caller, id).await?;
            page_with(status, &with_errors(form(&app, &caller, Some(&present), &typed), wrong))
        }
        Err(failure) => Err(failure.into()),
    }
}

/// `GET /apis/{api}/remove`: what stops.
///
/// # Errors
/// [`Failure::NotFound`], [`ApiRefused::Own`], or the database's.
pub async fn confirm_remove(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<Uuid>,
) -> Answer {
    let present = app.api(&caller, id).await?;
    if present.api.is_own() {
        return Err(Failure::from(ApiRefused::Own).into());
    }
    let content = ApiRemove {
        frame: frame(&app, &caller, "Remove an API"),
        id: id.to_string(),
        keys: valid_keys(&app, &present),
        name: present.api.settings.name,
        identifier: present.api.settings.identifier,
    };
    page_with(StatusCode::OK, &content)
}

/// `POST /apis/{api}/remove`.
///
/// # Errors
/// [`Failure::NotFound`], [`ApiRefused::Own`], or the database's.
pub async fn remove(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<Uuid>,
    Typed(Nothing {}): Typed<Nothing>,
) -> Answer {
    app.remove_api(&caller, id).await?;
    Ok(see_other("/apis?done=removed"))
}

/// `POST /apis/{api}/keys`. The page that shows the secret is the answer to this POST: it is stored
/// nowhere and not redirected to, so asking again does not give it again.
///
/// # Errors
/// [`Failure::NotFound`], or the database's; that there are two keys, or others than the page showed,
/// is said on the page of the API.
pub async fn make_key(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<Uuid>,
    Typed(typed): Typed<KeyForm>,
) -> Answer {
    let overlap = overlap(&typed.older_key)?;
    let made = match app.make_api_key(&caller, id, overlap, typed.seen.as_deref()).await {
        Ok(made) => made,
        Err(why @ (Failure::Api(ApiRefused::TooManyKeys) | Failure::Conflict)) => {
            return Ok(see_other(&format!("/apis/{id}?problem={}", why.code())));
        }
        Err(failure) => return Err(failure.into()),
    };
    let dates = dates(&caller.user, app.clock.now());
    let content = ApiKeyShown {
        frame: frame(&app, &caller, "New key"),
        id: id.to_string(),
        name: made.api.settings.name,
        key_id: made.key.id.as_str().to_owned(),
        secret: made.secret,
        introspection_url: format!("{}/oauth/introspect", app.config.public_url),
        older_ends: made.older_ends.map(|at| dates.when(at).exact),
    };
    page_with(StatusCode::OK, &content)
}

/// `GET /apis/{api}/keys/{key}/remove`: what stops.
///
/// # Errors
/// [`Failure::NotFound`], or the database's.
pub async fn confirm_remove_key(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path((id, key)): Path<(Uuid, String)>,
) -> Answer {
    let present = app.api(&caller, id).await?;
    if !present.keys.iter().any(|k| k.id.as_str() == key) {
        return Err(Failure::NotFound.into());
    }
    let now = app.clock.now();
    let content = ApiKeyRemove {
        frame: frame(&app, &caller, "Remove a key"),
        id: id.to_string(),
        another: present.keys.iter().any(|k| k.id.as_str() != key && k.is_valid(now)),
        name: present.api.settings.name,
        key_id: key,
    };
    page_with(StatusCode::OK, &content)
}

/// `POST /apis/{api}/keys/{key}/remove`.
///
/// # Errors
/// [`Failure::NotFound`], or the database's.
pub async fn remove_key(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path((id, key)): Path<(Uuid, String)>,
    Typed(Nothing {}): Typed<Nothing>,
) -> Answer {
    app.remove_api_key(&caller, id, &key).await?;
    Ok(see_other(&format!("/apis/{id}?done=key-removed")))
}
