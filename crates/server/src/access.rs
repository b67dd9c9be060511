//! Who may come in at which door. Each route in [`crate::routes`] names its [`Access`]; the
//! middleware here identifies the caller and refuses before the handler runs, so that no handler
//! can forget to.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    extract::Request,
    http::{HeaderMap, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use cookie::Cookie;
use ipnet::IpNet;
use portcullis_domain::audit::Origin;

use crate::{
    api::problem::{Challenge, Problem, Scheme},
    app::{App, Caller, dpop},
    console,
    error::Failure,
    http::Uses,
};

/// The session cookie. `__Host-` binds it to this host, to `/` and to secure transport.
pub const SESSION_COOKIE: &str = "__Host-portcullis";

/// The cookie of what is under way in a browser: a sign-in between its factors, a visit to a
/// provider. It opens nothing by itself.
pub const CEREMONY_COOKIE: &str = "__Host-portcullis-step";

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody; the endpoint itself looks at what it is given.
    Anyone,
    /// A console page for whoever is signed in.
    SignedIn,
    /// A console page for Super Admins (C-3).
    SuperAdmin,
    /// The JSON API for a session or an access token with this scope, if one is named.
    Api(Option<&'static str>),
    /// The same for Super Admins only.
    ApiSuperAdmin(&'static str),
    /// The JSON API for Super Admins in a session: what a token never does (T-4).
    ApiSuperAdminInSession,
}

/// What arrives with each connection: who is at the other end, and whether it came by TLS.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The address at the other end of the connection.
    ip: IpAddr,
    /// The same as text: written once for each connection.
    text: String,
    /// Whether this server did the TLS.
    pub tls: bool,
    /// What the connection is used for.
    pub uses: Uses,
}

impl Peer {
    /// Who is at the other end of a connection.
    #[must_use]
    pub fn new(ip: IpAddr, tls: bool, uses: Uses) -> Self {
        let ip = ip.to_canonical();
        Self { ip, text: ip.to_string(), tls, uses }
    }
}

/// Where a request really came from, and whether it came by HTTPS. `X-Forwarded-*` is believed
/// from trusted proxies only (protocol 42).
fn arrival(peer: &Peer, headers: &HeaderMap, trusted: &[IpNet]) -> (String, bool) {
    let is_trusted = |ip: &IpAddr| trusted.iter().any(|net| net.contains(ip));
    let mut ip = peer.ip;
    if !is_trusted(&ip) {
        return (peer.text.clone(), peer.tls);
    }
    let forwarded = headers.get_all("x-forwarded-for").iter().map(|v| v.to_str().unwrap_or("unreadable"));
    let hops: Vec<&str> = forwarded.flat_map(|v| v.split(',')).map(str::trim).collect();
    // From the nearest hop outwards: the first that is not a proxy of ours is the caller. What
    // cannot be read ends the walk; everything beyond it is hearsay.
    for hop in hops.iter().rev() {
        // Some gateways write the port too.
        let address = hop.parse::<IpAddr>().or_else(|_| hop.parse::<SocketAddr>().map(|a| a.ip()));
        let Ok(address) = address else { break };
        ip = address.to_canonical();
        if !is_trusted(&ip) {
            break;
        }
    }
    let proto = headers.get_all("x-forwarded-proto").iter().next_back().and_then(|v| v.to_str().ok());
    (ip.to_string(), peer.tls || proto.is_some_and(|p| p.eq_ignore_ascii_case("https")))
}

/// Notes where the request came from, and refuses plain HTTP where TLS is wanted. It is refused, not
/// redirected: a secret sent in clear must not seem to work (protocol 15). `None` when it may go on.
#[must_use]
pub fn note_arrival(app: &App, request: &mut Request) -> Option<Problem> {
    let arrived = |peer: &Peer| arrival(peer, request.headers(), &app.config.trusted_proxies);
    let (ip, tls) = request.extensions().get().map_or(("0.0.0.0".to_owned(), false), arrived);
    if app.config.wants_tls() && !tls && !request.uri().path().starts_with("/health/") {
        return Some(Problem::plain_http());
    }
    let agent = request.headers().get(header::USER_AGENT).map(|v| String::from_utf8_lossy(v.as_bytes()));
    let origin = Origin::new(ip, &agent.unwrap_or_default());
    request.extensions_mut().insert(origin);
    None
}

/// The value of the session cookie, if exactly one was sent.
#[must_use]
pub fn session_cookie(headers: &HeaderMap) -> Option<String> {
    the_cookie(headers, SESSION_COOKIE)
}

/// The value of the cookie of what is under way, if exactly one was sent.
#[must_use]
pub fn ceremony_cookie(headers: &HeaderMap) -> Option<String> {
    the_cookie(headers, CEREMONY_COOKIE)
}

fn the_cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|v| v.to_str().ok());
    let mut found = lines
        .flat_map(Cookie::split_parse)
        .filter_map(Result::ok)
        .filter(|c| c.name() == name)
        .map(|c| c.value().to_owned());
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

/// The text behind `Bearer` (RFC 6750 §2.1) or `DPoP` (RFC 9449 §7.1).
fn token(headers: &HeaderMap) -> Option<(Scheme, &str)> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let scheme = [Scheme::Bearer, Scheme::Dpop].into_iter().find(|s| scheme.eq_ignore_ascii_case(s.name()))?;
    Some((scheme, token.trim()))
}

/// The scheme that a request uses, for challenges.
fn scheme(headers: &HeaderMap) -> Scheme {
    token(headers).map_or(Scheme::Bearer, |(scheme, _)| scheme)
}

/// Identifies the caller of one route and lets in whom its [`Access`] allows. The router puts it around
/// every route that is not open to [`Access::Anyone`].
pub async fn check(app: Arc<App>, access: Access, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let for_programs =
        matches!(access, Access::Api(_) | Access::ApiSuperAdmin(_) | Access::ApiSuperAdminInSession);
    let identified = if for_programs {
        by_session_or_token(&app, &parts).await.map_err(IntoResponse::into_response)
    } else {
        by_session(&app, &parts).await.map_err(|failure| console::refuse(&failure, &parts.method, &parts.uri))
    };
    match identified {
        Ok(caller) => match demand(&app, &caller, access, parts.uri.path()).await {
            Ok(()) => {
                parts.extensions.insert(caller);
                next.run(Request::from_parts(parts, body)).await
            }
            Err(failure) if for_programs => {
                Problem::from(failure).challenged(&app, scheme(&parts.headers)).into_response()
            }
            Err(failure) => console::refuse(&failure, &parts.method, &parts.uri),
        },
        Err(refused) => refused,
    }
}

fn origin(parts: &Parts) -> Origin {
    parts.extensions.get::<Origin>().cloned().unwrap_or_default()
}

async fn by_session(app: &App, parts: &Parts) -> Result<Caller, Failure> {
    let cookie = session_cookie(&parts.headers).ok_or(Failure::NotSignedIn)?;
    app.identify_session(&cookie, origin(parts)).await
}

async fn by_session_or_token(app: &App, parts: &Parts) -> Result<Caller, Problem> {
    let headers = &parts.headers;
    let query = parts.uri.query().unwrap_or_default();
    let in_query = form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == "access_token");
    let authorizations = headers.get_all(header::AUTHORIZATION).iter().count();
    if in_query || authorizations > 1 || (authorizations == 1 && session_cookie(headers).is_some()) {
        let problem = Problem::token_sent_wrongly().with(Challenge::InvalidRequest);
        return Err(problem.challenged(app, scheme(headers)));
    }
    let identified = match (authorizations, token(headers)) {
        (1, Some((Scheme::Bearer, token))) => app.identify_token(token, None, origin(parts)).await,
        (1, Some((Scheme::Dpop, token))) => by_bound_token(app, parts, token).await,
        (1, None) => Err(Failure::NotSignedIn),
        _ => by_session(app, parts).await,
    };
    identified.map_err(|failure| Problem::from(failure).challenged(app, scheme(headers)))
}

/// A token with the proof that its sender holds the key it is bound to (RFC 9449 §7.1).
async fn by_bound_token(app: &App, parts: &Parts, token: &str) -> Result<Caller, Failure> {
    let proof = dpop::header(&parts.headers)?.ok_or(dpop::ProofRefused::Header)?;
    let shown = dpop::Shown { proof, method: parts.method.as_str(), path: parts.uri.path() };
    app.identify_token(token, Some(&shown), origin(parts)).await
}

/// What the route asks beyond being known. Refusals of a known caller are on record (L-1).
async fn demand(app: &App, caller: &Caller, access: Access, path: &str) -> Result<(), Failure> {
    let decided = match access {
        Access::Anyone | Access::SignedIn | Access::Api(None) => Ok(()),
        Access::Api(Some(scope)) => caller.scope(scope),
        Access::SuperAdmin => caller.super_admin(),
        Access::ApiSuperAdmin(scope) => caller.super_admin().and_then(|()| caller.scope(scope)),
        Access::ApiSuperAdminInSession => caller.super_admin().and_then(|()| caller.in_session()),
    };
    if let Err(failure) = &decided {
        app.record_access_refused(caller, path, failure.code()).await?;
    }
    decided
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(peer: &str, trusted: &[&str], forwarded: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", value.parse().unwrap());
        }
        let trusted: Vec<IpNet> = trusted.iter().map(|t| t.parse().unwrap()).collect();
        let peer = Peer::new(peer.parse().unwrap(), false, Uses::default());
        arrival(&peer, &headers, &trusted).0
    }

    #[test]
    fn protocol42_a_forged_x_forwarded_for_is_ignored_unless_the_proxy_is_trusted() {
        assert_eq!(from("203.0.113.7", &[], &["1.2.3.4"]), "203.0.113.7");
        assert_eq!(from("203.0.113.7", &["10.0.0.0/8"], &["1.2.3.4"]), "203.0.113.7");
        assert_eq!(from("10.0.0.1", &["10.0.0.0/8"], &["1.2.3.4"]), "1.2.3.4");
        assert_eq!(from("10.0.0.1", &["10.0.0.0/8"], &["6.6.6.6, 1.2.3.4, 10.0.0.2"]), "1.2.3.4");
        assert_eq!(from("10.0.0.1", &["10.0.0.0/8"], &["6.6.6.6", "1.2.3.4"]), "1.2.3.4");
        assert_eq!(from("10.0.0.1", &["10.0.0.0/8"], &["6.6.6.6, nonsense"]), "10.0.0.1");
        assert_eq!(from("10.0.0.1", &["10.0.0.0/8"], &["1.2.3.4:5678"]), "1.2.3.4");
        assert_eq!(from("10.0.0.1", &["10.0.0.0/8"], &["[2001:db8::7]:5678"]), "2001:db8::7");
        assert_eq!(from("::ffff:10.0.0.1", &["10.0.0.0/8"], &["1.2.3.4"]), "1.2.3.4");
    }

    #[test]
    fn a_cookie_sent_twice_is_no_cookie() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, "a=1; __Host-portcullis=x".parse().unwrap());
        assert_eq!(session_cookie(&headers).as_deref(), Some("x"));
        headers.append(header::COOKIE, "__Host-portcullis=y".parse().unwrap());
        assert_eq!(session_cookie(&headers), None);
    }
}
