//! Every route of the server, as data: the door it belongs to, who may use it, whether it changes
//! anything. The router is made of this list, and the tests walk it, so that no route escapes the
//! suites for strangers, for cross-site requests and for the audit log.

use std::{collections::HashMap, pin::Pin, sync::Arc};

use axum::{
    Extension, Router,
    extract::{Path, Request, State},
    handler::Handler,
    http::{HeaderMap, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, post},
};
use portcullis_domain::{accounts::manage::Act, audit::Event, client_keys::KeyAct};
use tower_http::csrf::CsrfLayer;

use crate::{
    access::{self, Access},
    api,
    app::{App, Caller},
    assets,
    console::{self, Nothing, Typed},
    oauth,
};

/// The door a route belongs to: how its errors look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Pages for people.
    Console,
    /// JSON for programs.
    Api,
    /// The OAuth endpoints and discovery.
    OAuth,
    /// For the operator's machinery.
    Operations,
}

/// A route.
pub struct Route {
    /// The method; `GET` answers `HEAD` too.
    pub method: Method,
    /// The path, in the router's notation.
    pub path: &'static str,
    /// The door.
    pub door: Door,
    /// Who may use it.
    pub access: Access,
    /// What it leaves in the audit log when it does what it is for; empty when it changes nothing.
    pub events: &'static [Event],
    handler: MethodRouter<Arc<App>>,
    /// How it is answered without the router.
    direct: Option<Direct>,
}

/// What a handler answers in the end.
type Answering = Pin<Box<dyn Future<Output = Response> + Send>>;

/// A handler that is found by the whole path of a request. The router looks for patterns, and clones and
/// boxes what is laid around each route; what programs ask for all day has neither, so it is answered
/// without.
pub type Direct = Box<dyn Fn(Request, Arc<App>) -> Answering + Send + Sync>;

fn reads(door: Door, path: &'static str, access: Access, handler: MethodRouter<Arc<App>>) -> Route {
    Route { method: Method::GET, path, door, access, events: &[], handler, direct: None }
}

fn acts(
    door: Door,
    path: &'static str,
    access: Access,
    events: &'static [Event],
    handler: MethodRouter<Arc<App>>,
) -> Route {
    Route { method: Method::POST, path, door, access, events, handler, direct: None }
}

/// A route that everybody may read, without parameters in its path.
fn open<T: 'static>(
    door: Door,
    path: &'static str,
    handler: impl Handler<T, Arc<App>, Future = Answering>,
) -> Route {
    Route { direct: Some(direct(handler.clone())), ..reads(door, path, Access::Anyone, get(handler)) }
}

/// One for programs to post to, which looks itself at what it is given.
fn open_acts<T: 'static>(
    path: &'static str,
    events: &'static [Event],
    handler: impl Handler<T, Arc<App>, Future = Answering>,
) -> Route {
    let direct = Some(direct(handler.clone()));
    Route { direct, ..acts(Door::OAuth, path, Access::Anyone, events, post(handler)) }
}

fn direct<T: 'static>(handler: impl Handler<T, Arc<App>, Future = Answering>) -> Direct {
    Box::new(move |request, app| handler.clone().call(request, app))
}

/// What is answered without the router, by path.
#[must_use]
pub fn answered_directly() -> HashMap<&'static str, (Method, Direct)> {
    let direct = all().into_iter().filter(is_bare);
    direct.filter_map(|r| Some((r.path, (r.method, r.direct?)))).collect()
}

/// Whether nothing is laid around a route that it would need: no look at who may use it or from which
/// site it comes, and no page around a message. The files of pages have none.
fn is_bare(route: &Route) -> bool {
    let is_for_programs = match route.door {
        Door::OAuth => true,
        Door::Console => route.path.starts_with("/assets/"),
        Door::Api | Door::Operations => route.method == Method::GET,
    };
    is_for_programs && route.access == Access::Anyone && !route.path.contains('{')
}

/// All routes.
#[must_use]
pub fn all() -> Vec<Route> {
    let people = [
        console_routes(),
        assets_routes(),
        client_key_routes(),
        people_routes(),
        mfa_routes(),
        federation_routes(),
    ];
    let programs = [apis_routes(), keys_routes(), api_routes(), oauth_routes()];
    people.into_iter().chain(programs).flatten().collect()
}

fn console_routes() -> Vec<Route> {
    use Access::{Anyone, SignedIn, SuperAdmin};
    use Door::Console;
    use console::{account, audit, credentials, pages, setup, sign_in};
    vec![
        reads(Console, "/", SignedIn, get(pages::overview)),
        reads(Console, "/help", SignedIn, get(pages::help)),
        reads(Console, "/sign-in", Anyone, get(sign_in::page)),
        acts(Console, "/sign-in", Anyone, &[Event::SignedIn], post(sign_in::sign_in)),
        acts(Console, "/sign-out", SignedIn, &[Event::SignedOut], post(sign_in::sign_out)),
        reads(Console, "/setup/{token}", Anyone, get(setup::page)),
        acts(Console, "/setup/{token}", Anyone, &[Event::UserCreated], post(setup::set_up)),
        reads(Console, "/account", SignedIn, get(account::page)),
        acts(Console, "/account/profile", SignedIn, &[Event::ProfileChanged], post(account::change_profile)),
        acts(Console, "/account/password", SignedIn, &[Event::PasswordChanged], post(account::change_password)),
        acts(
            Console,
            "/account/sessions/end-others",
            SignedIn,
            &[Event::SessionsEnded],
            post(account::end_others),
        ),
        reads(Console, "/account/credentials", SuperAdmin, get(credentials::page)),
        reads(Console, "/account/credentials/use", SuperAdmin, get(credentials::recent_use)),
        reads(Console, "/account/credentials/revoke", SuperAdmin, get(credentials::confirm_revoke)),
        // A refusal of these two is the use-case's, which records it as an attempt at the act.
        acts(
            Console,
            "/account/credentials/generate",
            SignedIn,
            &[Event::CredentialGenerated],
            post(credentials::generate),
        ),
        acts(
            Console,
            "/account/credentials/revoke",
            SignedIn,
            &[Event::CredentialRevoked],
            post(credentials::revoke),
        ),
        reads(Console, "/audit", SuperAdmin, get(audit::page)),
    ]
}

/// The files that pages load.
fn assets_routes() -> Vec<Route> {
    let file =
        |path| open(Door::Console, path, move |headers: HeaderMap| async move { assets::get(path, &headers) });
    assets::PATHS.map(file).into()
}

/// The ways in which a credential proves itself (C-14, C-15). A refusal of an act is the use-case's.
fn client_key_routes() -> Vec<Route> {
    use Access::{SignedIn, SuperAdmin};
    use console::client_keys::{self, Changing};
    const ACTS: [(KeyAct, &[Event]); 4] = [
        (KeyAct::Bind, &[Event::ClientKeyBound]),
        (KeyAct::Remove, &[Event::ClientKeyRemoved]),
        (KeyAct::SecretOff, &[Event::SecretSwitchedOff]),
        (KeyAct::SecretOn, &[Event::SecretSwitchedOn]),
    ];
    let mut routes = Vec::new();
    for (act, events) in ACTS {
        let page = move |State(app): State<Arc<App>>, Extension(caller): Extension<Caller>| {
            client_keys::page(act, app, caller)
        };
        let doing =
            move |State(app): State<Arc<App>>,
                  Extension(caller): Extension<Caller>,
                  Typed(typed): Typed<Changing>| client_keys::change(act, app, caller, typed);
        let path = client_keys::address(act);
        routes.push(reads(Door::Console, path, SuperAdmin, get(page)));
        routes.push(acts(Door::Console, path, SignedIn, events, post(doing)));
    }
    routes
}

/// What a Super Admin does to a user: the act, its page, and what it leaves in the audit log.
const MANAGING: [(Act, &str, &[Event]); 7] = [
    (Act::InviteAgain, "/users/{user}/invite-again", &[Event::UserInvited]),
    (Act::Activate, "/users/{user}/activate", &[Event::UserActivated]),
    (Act::Deactivate, "/users/{user}/deactivate", &[Event::UserDeactivated]),
    (Act::Delete, "/users/{user}/delete", &[Event::UserDeleted]),
    (Act::GiveSuperAdmin, "/users/{user}/give-super-admin", &[Event::RoleChanged]),
    (Act::TakeSuperAdmin, "/users/{user}/take-super-admin", &[Event::RoleChanged]),
    (Act::TurnMfaOff, "/users/{user}/turn-mfa-off", &[Event::MfaDisabled]),
];

/// Users, invitations, forgotten passwords, the outbox. A refusal of an act is the use-case's, which
/// records it as an attempt at the act.
fn people_routes() -> Vec<Route> {
    use Access::{Anyone, SignedIn, SuperAdmin};
    use Door::Console;
    use console::{activate, forgot_password, mail, reset_password, users};
    let mut routes = vec![
        reads(Console, "/users", SuperAdmin, get(users::list)),
        reads(Console, "/users/invite", SuperAdmin, get(users::invite_form)),
        acts(Console, "/users/invite", SignedIn, &[Event::UserInvited], post(users::invite)),
        reads(Console, "/users/{user}", SuperAdmin, get(users::person)),
        reads(Console, "/mail", SuperAdmin, get(mail::page)),
        acts(Console, "/mail/{mail}/try-again", SuperAdmin, &[], post(mail::try_again)),
        reads(Console, "/activate/{token}", Anyone, get(activate::page)),
        acts(Console, "/activate/{token}", Anyone, &[Event::UserActivated], post(activate::activate)),
        reads(Console, "/forgot-password", Anyone, get(forgot_password::page)),
        acts(Console, "/forgot-password", Anyone, &[Event::PasswordReset], post(forgot_password::ask)),
        reads(Console, "/reset-password/{token}", Anyone, get(reset_password::page)),
        acts(Console, "/reset-password/{token}", Anyone, &[Event::PasswordReset], post(reset_password::change)),
    ];
    for (act, path, events) in MANAGING {
        let page = move |State(app): State<Arc<App>>,
                         Extension(caller): Extension<Caller>,
                         Path(user): Path<String>| { users::confirm(act, app, caller, user) };
        let doing =
            move |State(app): State<Arc<App>>,
                  Extension(caller): Extension<Caller>,
                  Path(user): Path<String>,
                  Typed(Nothing {}): Typed<Nothing>| users::act(act, app, caller, user);
        routes.push(reads(Console, path, SuperAdmin, get(page)));
        routes.push(acts(Console, path, SignedIn, events, post(doing)));
    }
    routes.extend(people_api_routes());
    routes
}

fn people_api_routes() -> Vec<Route> {
    use Access::Api;
    use Door::Api as ApiDoor;
    use api::people;
    let on = |path, events, handler| acts(ApiDoor, path, Api(None), events, handler);
    vec![
        on("/api/v1/users", &[Event::UserInvited], post(people::invite)),
        on("/api/v1/users/{user}/invite-again", &[Event::UserInvited], post(people::invite_again)),
        on("/api/v1/users/{user}/activate", &[Event::UserActivated], post(people::activate)),
        on("/api/v1/users/{user}/deactivate", &[Event::UserDeactivated], post(people::deactivate)),
        on("/api/v1/users/{user}/delete", &[Event::UserDeleted], post(people::delete)),
        on("/api/v1/users/{user}/give-super-admin", &[Event::RoleChanged], post(people::give_super_admin)),
        on("/api/v1/users/{user}/take-super-admin", &[Event::RoleChanged], post(people::take_super_admin)),
        on("/api/v1/users/{user}/turn-mfa-off", &[Event::MfaDisabled], post(people::turn_mfa_off)),
    ]
}

/// Second factors: at sign-in and under My Account Settings.
fn mfa_routes() -> Vec<Route> {
    use Access::{Anyone, SignedIn};
    use Door::Console;
    use console::{
        mfa::{self, changes},
        second_factor,
    };
    const ON: &[Event] = &[Event::MfaEnabled, Event::MfaChanged];
    const OFF: &[Event] = &[Event::MfaDisabled, Event::MfaChanged];
    vec![
        reads(Console, "/sign-in/second-factor", Anyone, get(second_factor::page)),
        acts(Console, "/sign-in/second-factor", Anyone, &[Event::SignedIn], post(second_factor::sign_in)),
        reads(Console, "/sign-in/passkey", Anyone, get(second_factor::passkey_page)),
        acts(Console, "/sign-in/passkey", Anyone, &[Event::SignedIn], post(second_factor::passkey_sign_in)),
        acts(Console, "/account/mfa/password", SignedIn, &[Event::PasswordConfirmed], post(mfa::confirm_password)),
        reads(Console, "/account/mfa/app", SignedIn, get(mfa::app_page)),
        acts(Console, "/account/mfa/app", SignedIn, ON, post(mfa::confirm_app)),
        acts(Console, "/account/mfa/app/begin", SignedIn, &[Event::FactorConfirmed], post(changes::begin_app)),
        reads(Console, "/account/mfa/app/remove", SignedIn, get(changes::remove_app_page)),
        acts(Console, "/account/mfa/app/remove", SignedIn, OFF, post(changes::remove_app)),
        reads(Console, "/account/mfa/passkey", SignedIn, get(mfa::passkey_page)),
        acts(Console, "/account/mfa/passkey", SignedIn, ON, post(mfa::add_passkey)),
        acts(
            Console,
            "/account/mfa/passkey/begin",
            SignedIn,
            &[Event::FactorConfirmed],
            post(changes::begin_passkey),
        ),
        reads(Console, "/account/mfa/passkeys/{passkey}/remove", SignedIn, get(changes::remove_passkey_page)),
        acts(Console, "/account/mfa/passkeys/{passkey}/remove", SignedIn, OFF, post(changes::remove_passkey)),
        reads(Console, "/account/mfa/passkey-alone", SignedIn, get(changes::passkey_alone_page)),
        acts(Console, "/account/mfa/passkey-alone", SignedIn, &[Event::MfaChanged], post(changes::passkey_alone)),
        reads(Console, "/account/mfa/recovery-codes", SignedIn, get(changes::new_codes_page)),
        acts(
            Console,
            "/account/mfa/recovery-codes",
            SignedIn,
            &[Event::RecoveryCodesMade],
            post(changes::new_codes),
        ),
        reads(Console, "/account/mfa/off", SignedIn, get(changes::turn_off_page)),
        acts(Console, "/account/mfa/off", SignedIn, &[Event::MfaDisabled], post(changes::turn_off)),
    ]
}

/// Sign-in providers: setting them up, signing in through them, linking.
fn federation_routes() -> Vec<Route> {
    use Access::{Anyone, SignedIn, SuperAdmin};
    use Door::Console;
    use console::{federation, identities, providers};
    let came_back = get(federation::callback);
    vec![
        // Beginning a visit leaves no record: nobody did anything yet.
        acts(Console, "/sign-in/provider/{provider}", Anyone, &[], post(federation::start)),
        // The one GET that acts: it is the provider that sends the browser, with what it may use once.
        Route {
            events: &[Event::SignedIn],
            ..reads(Console, "/sign-in/provider/{provider}/callback", Anyone, came_back)
        },
        reads(Console, "/sign-in/provider/{provider}/sign-out", Anyone, get(federation::sign_out)),
        reads(Console, "/sign-in/provider/{provider}/signed-out", Anyone, get(federation::signed_out)),
        reads(Console, "/account/identities", SignedIn, get(identities::page)),
        acts(Console, "/account/identities", SignedIn, &[Event::IdentityLinked], post(identities::change)),
        reads(Console, "/providers", SuperAdmin, get(providers::list)),
        reads(Console, "/providers/new", SuperAdmin, get(providers::new)),
        acts(Console, "/providers/new", SuperAdmin, &[Event::ProviderChanged], post(providers::add)),
        reads(Console, "/providers/{provider}", SuperAdmin, get(providers::show)),
        acts(Console, "/providers/{provider}", SuperAdmin, &[Event::ProviderChanged], post(providers::change)),
        acts(Console, "/providers/{provider}/test", SuperAdmin, &[], post(providers::test)),
        reads(Console, "/providers/{provider}/remove", SuperAdmin, get(providers::confirm_remove)),
        acts(
            Console,
            "/providers/{provider}/remove",
            SuperAdmin,
            &[Event::ProviderChanged],
            post(providers::remove),
        ),
    ]
}

/// The APIs that tokens are for, and their keys.
fn apis_routes() -> Vec<Route> {
    use Access::{ApiSuperAdmin, ApiSuperAdminInSession, SuperAdmin};
    use Door::{Api as ApiDoor, Console};
    use api::apis;
    use console::apis as pages;
    const REGISTERED: &[Event] = &[Event::ApiRegistered];
    const CHANGED: &[Event] = &[Event::ApiChanged];
    const REMOVED: &[Event] = &[Event::ApiRemoved];
    const KEY_MADE: &[Event] = &[Event::ApiKeyMade];
    const KEY_REMOVED: &[Event] = &[Event::ApiKeyRemoved];
    let page = |path, handler| reads(Console, path, SuperAdmin, handler);
    let by_page = |path, events, handler| acts(Console, path, SuperAdmin, events, handler);
    let on = |path, events, handler| acts(ApiDoor, path, ApiSuperAdminInSession, events, handler);
    vec![
        page("/apis", get(pages::list)),
        page("/apis/new", get(pages::new)),
        by_page("/apis/new", REGISTERED, post(pages::register)),
        page("/apis/{api}", get(pages::show)),
        by_page("/apis/{api}", CHANGED, post(pages::change)),
        page("/apis/{api}/remove", get(pages::confirm_remove)),
        by_page("/apis/{api}/remove", REMOVED, post(pages::remove)),
        by_page("/apis/{api}/keys", KEY_MADE, post(pages::make_key)),
        page("/apis/{api}/keys/{key}/remove", get(pages::confirm_remove_key)),
        by_page("/apis/{api}/keys/{key}/remove", KEY_REMOVED, post(pages::remove_key)),
        reads(ApiDoor, "/api/v1/apis", ApiSuperAdmin("apis:read"), get(apis::list)),
        on("/api/v1/apis", REGISTERED, post(apis::register)),
        reads(ApiDoor, "/api/v1/apis/{api}", ApiSuperAdmin("apis:read"), get(apis::show)),
        on("/api/v1/apis/{api}", CHANGED, post(apis::change)),
        on("/api/v1/apis/{api}/remove", REMOVED, post(apis::remove)),
        on("/api/v1/apis/{api}/keys", KEY_MADE, post(apis::make_key)),
        on("/api/v1/apis/{api}/keys/{key}/remove", KEY_REMOVED, post(apis::remove_key)),
    ]
}

/// The signing keys.
fn keys_routes() -> Vec<Route> {
    use Access::{ApiSuperAdmin, ApiSuperAdminInSession, SuperAdmin};
    use Door::{Api as ApiDoor, Console};
    use api::keys;
    use console::keys as pages;
    const ROTATED: &[Event] = &[Event::KeyRotated];
    const WITHDRAWN: &[Event] = &[Event::KeyWithdrawn];
    let page = |path, handler| reads(Console, path, SuperAdmin, handler);
    let by_page = |path, events, handler| acts(Console, path, SuperAdmin, events, handler);
    let on = |path, events, handler| acts(ApiDoor, path, ApiSuperAdminInSession, events, handler);
    vec![
        page("/signing-keys", get(pages::list)),
        page("/signing-keys/rotate/{algorithm}", get(pages::confirm_rotate)),
        by_page("/signing-keys/rotate/{algorithm}", ROTATED, post(pages::rotate)),
        page("/signing-keys/{kid}/withdraw", get(pages::confirm_withdraw)),
        by_page("/signing-keys/{kid}/withdraw", WITHDRAWN, post(pages::withdraw)),
        reads(ApiDoor, "/api/v1/keys", ApiSuperAdmin("apis:read"), get(keys::list)),
        on("/api/v1/keys/rotate", ROTATED, post(keys::rotate)),
        on("/api/v1/keys/{kid}/withdraw", WITHDRAWN, post(keys::withdraw)),
    ]
}

fn api_routes() -> Vec<Route> {
    use Access::{Anyone, Api, ApiSuperAdmin};
    use Door::{Api as ApiDoor, Operations};
    use api::{accounts, audit, credentials, sessions};
    vec![
        acts(ApiDoor, "/api/v1/session", Anyone, &[Event::SignedIn], post(sessions::sign_in)),
        acts(ApiDoor, "/api/v1/session/end", Api(None), &[Event::SignedOut], post(sessions::sign_out)),
        reads(ApiDoor, "/api/v1/me", Api(None), get(accounts::me)),
        reads(ApiDoor, "/api/v1/users", ApiSuperAdmin("users:read"), get(accounts::users)),
        reads(ApiDoor, "/api/v1/users/{user}", ApiSuperAdmin("users:read"), get(accounts::user)),
        reads(ApiDoor, "/api/v1/users/{user}/credential", Api(None), get(credentials::show)),
        acts(
            ApiDoor,
            "/api/v1/users/{user}/credential/generate",
            Api(None),
            &[Event::CredentialGenerated],
            post(credentials::generate),
        ),
        acts(
            ApiDoor,
            "/api/v1/users/{user}/credential/revoke",
            Api(None),
            &[Event::CredentialRevoked],
            post(credentials::revoke),
        ),
        reads(ApiDoor, "/api/v1/audit", ApiSuperAdmin("audit:read"), get(audit::page)),
        reads(ApiDoor, "/api/v1/openapi.json", Anyone, get(api::openapi::document)),
        open(Operations, "/health/live", api::health::live),
        open(Operations, "/health/ready", api::health::ready),
    ]
}

fn oauth_routes() -> Vec<Route> {
    use Door::OAuth;
    use oauth::{bind_key, introspect, jwks, metadata, revocations, revoke, status, token};
    vec![
        // Issued tokens have a record of their own (L-4); what the audit log has are refusals.
        open_acts("/oauth/token", &[Event::TokenRefused], token::post),
        open_acts("/oauth/introspect", &[Event::TokenRefused], introspect::post),
        open_acts("/oauth/bind-key", &[Event::ClientKeyBound], bind_key::post),
        open_acts("/oauth/revoke", &[Event::TokenRevoked], revoke::post),
        open(OAuth, "/oauth/status", status::get),
        open(OAuth, "/oauth/revocations", revocations::get),
        open(OAuth, "/.well-known/oauth-authorization-server", metadata::authorization_server),
        open(OAuth, "/.well-known/openid-configuration", metadata::authorization_server),
        open(OAuth, oauth::RESOURCE_METADATA_PATH, metadata::protected_resource),
        open(OAuth, "/.well-known/jwks.json", jwks::get),
    ]
}

/// The router made of [`all`].
pub fn router(app: &Arc<App>) -> Router {
    let write_message = || middleware::from_fn_with_state(Arc::clone(app), console::write_message);
    let mut router = Router::new();
    for route in all() {
        let (app, access) = (Arc::clone(app), route.access);
        let mut handler = route.handler;
        if access != Access::Anyone {
            handler = handler.layer(middleware::from_fn(move |request: Request, next: Next| {
                access::check(Arc::clone(&app), access, request, next)
            }));
        }
        // Writes only from our own pages, or from programs that are not browsers (protocol 31).
        handler = match (route.door, route.method) {
            (Door::Console, Method::POST) => {
                handler.layer(CsrfLayer::new().with_rejection_response(|_| console::cross_site()))
            }
            (Door::Api, Method::POST) => handler.layer(CsrfLayer::new().with_rejection_response(cross_site)),
            _ => handler,
        };
        if route.door == Door::Console {
            handler = handler.layer(write_message());
        }
        router = router.route(route.path, handler);
    }
    router
        .fallback(not_found.layer(write_message()))
        .method_not_allowed_fallback(wrong_method)
        .with_state(Arc::clone(app))
}

fn cross_site(_: tower_http::csrf::ProtectionError) -> Response {
    let detail = "This request came from another site, so nothing was done. Open the console and try from there.";
    api::problem::Problem::new(StatusCode::FORBIDDEN, "cross_site", detail).into_response()
}

async fn not_found(request: Request) -> Response {
    let failure = crate::error::Failure::NotFound;
    if is_for_programs(request.uri().path()) {
        api::problem::Problem::from(failure).into_response()
    } else {
        console::refuse(&failure, request.method(), request.uri())
    }
}

async fn wrong_method(request: Request) -> Response {
    let detail = "This address does not take that method. The Allow header lists those it does.";
    if request.uri().path().starts_with("/oauth/") {
        return oauth::error::OAuthError::wrong_method().into_response();
    }
    if is_for_programs(request.uri().path()) || request.method() != Method::GET {
        return api::problem::Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
            .into_response();
    }
    // Somebody reloaded a page that was the answer to a form: the page itself is one step up.
    (StatusCode::SEE_OTHER, [(header::LOCATION, parent(request.uri().path()))]).into_response()
}

/// The page a form belongs to, for a browser that asks for the form's address.
fn parent(path: &str) -> &'static str {
    if path.starts_with("/account/credentials") {
        "/account/credentials"
    } else if path.starts_with("/account") {
        "/account"
    } else if path.starts_with("/mail") {
        "/mail"
    } else if path.starts_with("/providers") {
        "/providers"
    } else if path.starts_with("/apis") {
        "/apis"
    } else if path.starts_with("/signing-keys") {
        "/signing-keys"
    } else {
        "/"
    }
}

/// Whether an address is a program's: its errors are not pages.
pub(crate) fn is_for_programs(path: &str) -> bool {
    ["/api/", "/oauth/", "/.well-known/", "/health/"].iter().any(|door| path.starts_with(door))
}
