//! The [`Verifier`]: asked about every request, and kept fresh behind them.

use std::{
    fmt,
    sync::{Arc, PoisonError},
    time::Duration,
};

use secrecy::SecretString;
use serde_json::Value;
use tokio::{task::AbortHandle, time::timeout};
use url::Url;

use crate::{
    clock,
    dpop::{self, Expect, Proof},
    error::{Challenge, Challenges, Error, ProofRefusal, Refusal, Scheme, Unavailable, is_quotable},
    feed::{self, ApiKey},
    fetch::{FetchError, Http, is_safe},
    json,
    keys::Keys,
    knowledge::WhenStale,
    replay::Refused,
    state::{Choices, State},
    token::{self, AccessToken, Policy},
};

/// The most bytes of the metadata.
const LONGEST_METADATA: usize = 64 * 1024;

/// How long a start waits for the feed to be live.
const FIRST_HELLO: Duration = Duration::from_secs(5);

/// The most that the clocks may be apart, in seconds.
const MOST_LEEWAY: i64 = 60;

/// Why a verifier does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A URL is not one, or is http to another machine.
    #[error("{0} is not an https URL")]
    Url(String),
    /// The public URL of the API is not one, or has a query or a fragment.
    #[error("{0} is not an http or https URL without a query and a fragment")]
    ApiUrl(String),
    /// A text may not stand in a header.
    #[error("{0} has characters that may not be in a header")]
    Header(&'static str),
    /// DPoP is required, and the audience is no URL: say with [`Builder::public_url`] how clients call.
    #[error("DPoP needs the public URL of the API")]
    PublicUrl,
    /// The server calls itself by another name than the issuer that was given. They have to be equal to
    /// the byte (RFC 8414 §3.3).
    #[error("the server calls itself by another issuer")]
    Issuer,
    /// The metadata have no such member, or it is on another server.
    #[error("the metadata of the server have no good {0}")]
    Metadata(&'static str),
    /// A document could not be had.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The status list could not be had, or is not to be believed; the log says why.
    #[error("the status list cannot be had")]
    List,
    /// TLS is not to be had on this machine.
    #[error("TLS cannot be set up: {0}")]
    Tls(reqwest::Error),
}

/// A builder that lacks the one choice that nobody can make for you.
#[must_use]
pub struct Undecided {
    issuer: String,
    audience: String,
}

impl Undecided {
    /// What to do with tokens while neither the feed nor the status list can be had.
    pub fn when_stale(self, when_stale: WhenStale) -> Builder {
        Builder {
            issuer: self.issuer,
            audience: self.audience,
            api_key: None,
            leeway: 5,
            replay_capacity: 100_000,
            choices: Choices {
                when_stale,
                poll_every: Duration::from_millis(500),
                refresh_keys_every: Duration::from_secs(300),
                requires_dpop: false,
                dpop_window: 60,
                public_url: None,
                challenges: Challenges::default(),
            },
        }
    }
}

/// Sets up a [`Verifier`].
#[must_use]
pub struct Builder {
    issuer: String,
    audience: String,
    api_key: Option<ApiKey>,
    leeway: i64,
    replay_capacity: usize,
    choices: Choices,
}

impl Builder {
    /// The API's own key. With it the feed of revocations is followed, and a revocation is known here
    /// within a fraction of a second; without it the status list is polled, and the revocation of a single
    /// token is not known here. [`Builder::start`] waits 5 seconds at most for the feed to be live, and goes
    /// on without it then.
    pub fn api_key(mut self, id: impl Into<String>, secret: SecretString) -> Self {
        self.api_key = Some(ApiKey { id: id.into(), secret });
        self
    }

    /// How far the clocks of server and API may be apart: a minute at most, and more is taken as a minute.
    /// Default: 5 seconds.
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = whole_seconds(leeway).min(MOST_LEEWAY);
        self
    }

    /// How often the status list is asked for while the feed is not live. Default: 500 milliseconds.
    pub fn poll_every(mut self, every: Duration) -> Self {
        self.choices.poll_every = every;
        self
    }

    /// How often the key set is asked for without a reason. Default: 5 minutes. While the feed is not live,
    /// or without an API's key, it is asked for every 5 seconds at least: for so long a key that was
    /// withdrawn is still believed.
    pub fn refresh_keys_every(mut self, every: Duration) -> Self {
        self.choices.refresh_keys_every = every;
        self
    }

    /// Refuses tokens that are not bound to a key.
    pub fn require_dpop(mut self) -> Self {
        self.choices.requires_dpop = true;
        self.choices.challenges.dpop_only = true;
        self
    }

    /// How old a DPoP proof may be. Default: 60 seconds.
    pub fn dpop_window(mut self, window: Duration) -> Self {
        self.choices.dpop_window = whole_seconds(window);
        self
    }

    /// How many used proofs are remembered, about 150 bytes each, for the window and a minute more. When
    /// there are more, new ones are refused (503). Default: 100 000.
    pub fn remember_proofs(mut self, most: usize) -> Self {
        self.replay_capacity = most;
        self
    }

    /// The URL under which clients call the API, e.g. `https://orders.acme.example`: DPoP proofs name it. A
    /// path stands before that of each request, for a proxy that takes it away. Default: scheme and
    /// authority of the audience, if it is a URL; its path is left out.
    pub fn public_url(mut self, url: impl Into<String>) -> Self {
        self.choices.public_url = Some(url.into());
        self
    }

    /// Where the metadata of the API are (RFC 9728); named in every challenge.
    pub fn resource_metadata(mut self, url: impl Into<String>) -> Self {
        self.choices.challenges.resource_metadata = Some(url.into());
        self
    }

    /// Reads the metadata, the keys and the status list of the server, and begins to keep them fresh.
    ///
    /// # Errors
    /// As [`StartError`] says: what cannot be known is not guessed.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn start(mut self) -> Result<Verifier, StartError> {
        self.check()?;
        let server = Url::parse(&self.issuer).ok().filter(is_safe);
        let server = server.ok_or_else(|| StartError::Url(self.issuer.clone()))?;
        let http = Http::new(&server).map_err(StartError::Tls)?;
        let endpoints = Endpoints::discover(&http, &self.issuer, &server).await?;
        let feed = match (self.api_key.take(), endpoints.feed) {
            (Some(key), Some(url)) => Some((url, key)),
            (Some(_), None) => return Err(StartError::Metadata("revocations_endpoint")),
            (None, _) => None,
        };
        let keys = Keys::fetch(endpoints.keys, http.clone()).await?;
        let policy = Policy {
            issuer: self.issuer,
            audience: self.audience,
            status_uri: endpoints.status.1,
            leeway: self.leeway,
        };
        let state = State::new(policy, self.choices, http, keys, endpoints.status.0, self.replay_capacity);
        if !state.refresh_list().await {
            return Err(StartError::List);
        }
        let state = Arc::new(state);
        let (keys, list) = (Arc::clone(&state), Arc::clone(&state));
        let every = state.choices.refresh_keys_every;
        let mut tasks = vec![
            tokio::spawn(async move { keys.keys.keep_fresh(every, || keys.feed_is_live()).await }).abort_handle(),
            tokio::spawn(async move { list.poll_list().await }).abort_handle(),
        ];
        let has_feed = feed.is_some();
        if let Some((url, key)) = feed {
            let state = Arc::clone(&state);
            tasks.push(tokio::spawn(async move { feed::follow(&state, &url, &key).await }).abort_handle());
        }
        let verifier = Verifier { state, _tasks: Arc::new(Tasks(tasks)) };
        if has_feed && timeout(FIRST_HELLO, verifier.state.hello.notified()).await.is_err() {
            tracing::warn!(
                "the feed of revocations is not live yet; until it is, single tokens that were revoked are taken"
            );
        }
        Ok(verifier)
    }

    fn check(&mut self) -> Result<(), StartError> {
        let choices = &mut self.choices;
        if choices.challenges.resource_metadata.as_deref().is_some_and(|url| !is_quotable(url)) {
            return Err(StartError::Header("resource_metadata"));
        }
        choices.public_url = match choices.public_url.take() {
            Some(given) => Some(base(&given).ok_or(StartError::ApiUrl(given))?),
            None => Url::parse(&self.audience).ok().and_then(|audience| origin(&audience)),
        };
        if choices.public_url.is_none() && choices.requires_dpop {
            return Err(StartError::PublicUrl);
        }
        Ok(())
    }
}

/// Scheme and authority of a URL of the web.
fn origin(url: &Url) -> Option<String> {
    matches!(url.scheme(), "http" | "https").then(|| url.origin().ascii_serialization())
}

/// What goes before the path of a request in the URL that a client calls.
fn base(text: &str) -> Option<String> {
    let url = Url::parse(text).ok().filter(|url| url.query().is_none() && url.fragment().is_none())?;
    Some(origin(&url)? + url.path().trim_end_matches('/'))
}

fn whole_seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX / 4).min(i64::MAX / 4)
}

/// Where the documents of the server are.
struct Endpoints {
    keys: Url,
    /// As a URL, and as it is written.
    status: (Url, String),
    feed: Option<Url>,
}

impl Endpoints {
    async fn discover(http: &Http, issuer: &str, base: &Url) -> Result<Self, StartError> {
        let mut url = base.clone();
        // RFC 8414 §3.1: between the host and the path.
        url.set_path(&format!("/.well-known/oauth-authorization-server{}", base.path().trim_end_matches('/')));
        let document = http.get(&url, LONGEST_METADATA, None).await?;
        let body = document.map(|document| document.body).unwrap_or_default();
        let metadata = json::object(&body).map_err(|_| FetchError::new(&url, "it is not one JSON object"))?;
        let text = |name| metadata.get(name).and_then(Value::as_str);
        if text("issuer") != Some(issuer) {
            return Err(StartError::Issuer);
        }
        let endpoint = |name: &'static str| {
            let url = text(name).and_then(|text| Url::parse(text).ok());
            // The server's keys and the API's secret are for the server alone.
            url.filter(|url| url.origin() == base.origin()).ok_or(StartError::Metadata(name))
        };
        let status = endpoint("status_list_endpoint")?;
        let written = text("status_list_endpoint").unwrap_or_default().to_owned();
        Ok(Self {
            keys: endpoint("jwks_uri")?,
            status: (status, written),
            feed: endpoint("revocations_endpoint").ok(),
        })
    }
}

/// The work in the background; it ends with the last of the verifiers.
struct Tasks(Vec<AbortHandle>);

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

/// What of a request matters to whether it may come in.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a str,
    /// The path, and the query if there is one, as they were sent.
    pub path: &'a str,
    /// The values of all the `Authorization` headers.
    pub authorization: &'a [&'a str],
    /// The values of all the `DPoP` headers.
    pub dpop: &'a [&'a str],
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("method", &self.method).finish_non_exhaustive()
    }
}

/// Checks access tokens. Cheap to clone; the clones share what is known, and the work in the background
/// ends with the last of them.
///
/// ```no_run
/// # async fn start(secret: secrecy::SecretString) -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use portcullis_verify::{Request, Verifier, WhenStale};
///
/// let verifier = Verifier::builder("https://id.acme.example", "https://orders.acme.example")
///     .when_stale(WhenStale::RefuseAfter(Duration::from_secs(60)))
///     .api_key("pca_…", secret)
///     .start()
///     .await?;
/// let request = Request {
///     method: "GET",
///     path: "/orders",
///     authorization: &["Bearer …"],
///     dpop: &[],
/// };
/// match verifier.verify(&request).await {
///     Ok(token) => token.require_scope("orders:read")?,
///     Err(error) => println!("{:?}", verifier.challenge(&error)),
/// }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Verifier {
    state: Arc<State>,
    _tasks: Arc<Tasks>,
}

impl Verifier {
    /// Sets up a verifier of the tokens that `issuer` issues for `audience`: the URL of the Portcullis
    /// server and the identifier of the API, as they are written there.
    pub fn builder(issuer: impl Into<String>, audience: impl Into<String>) -> Undecided {
        Undecided { issuer: issuer.into(), audience: audience.into() }
    }

    /// Checks the access token of a request, offline unless its key or its credential is newer than what
    /// is known.
    ///
    /// # Errors
    /// As [`Error`] says; [`Verifier::challenge`] says what to answer.
    pub async fn verify(&self, request: &Request<'_>) -> Result<AccessToken, Error> {
        let (scheme, text) = presented(request)?;
        let refused = |why: Refusal| Error::Token { scheme, why };
        let jws = token::read(text).map_err(refused)?;
        let key = self.state.keys.get(jws.kid().unwrap_or_default()).await?;
        let key = key.ok_or_else(|| refused(Refusal::UnknownKey))?;
        let claims = jws.verify(&key).map_err(|error| refused(error.into()))?;
        let now = clock::unix();
        let token = token::check(&claims, scheme, &self.state.policy, now).map_err(refused)?;
        let proof = self.check_binding(&token, text, request, now)?;
        self.state.judge(&token, scheme).await?;
        if let Some(proof) = proof {
            self.mark(&proof)?;
        }
        Ok(token)
    }

    /// A token that is bound has to come with a proof by its key, and only such a one.
    fn check_binding(
        &self,
        token: &AccessToken,
        text: &str,
        request: &Request<'_>,
        now: i64,
    ) -> Result<Option<Proof>, Error> {
        let scheme = token.scheme();
        let refused = |why| Error::Token { scheme, why };
        let Some(thumbprint) = token.key_thumbprint() else {
            let is_wanted = scheme == Scheme::Dpop || self.state.choices.requires_dpop;
            return if is_wanted { Err(refused(Refusal::NotBound)) } else { Ok(None) };
        };
        if scheme == Scheme::Bearer {
            return Err(refused(Refusal::IsBound));
        }
        let &[proof] = request.dpop else { return Err(ProofRefusal::NotOne.into()) };
        // Without a public URL no proof fits.
        let base = self.state.choices.public_url.as_deref().unwrap_or_default();
        let expect = Expect {
            method: request.method,
            url: &format!("{base}{}", request.path),
            access_token: Some(text),
            nonce: None,
            now,
            window: self.state.choices.dpop_window,
        };
        let proof = dpop::check(proof, &expect).map_err(ProofRefusal::from)?;
        if proof.jkt == thumbprint { Ok(Some(proof)) } else { Err(refused(Refusal::OtherKey)) }
    }

    fn mark(&self, proof: &Proof) -> Result<(), Error> {
        let mut replay = self.state.replay.lock().unwrap_or_else(PoisonError::into_inner);
        // The server may have been asked since the proof was checked.
        let now = clock::unix();
        replay.mark(proof, now, self.state.choices.dpop_window).map_err(|refused| match refused {
            Refused::Replayed => ProofRefusal::Replayed.into(),
            Refused::Full => Unavailable::Proofs.into(),
        })
    }

    /// What to answer to a request that is refused.
    #[must_use]
    pub fn challenge(&self, error: &Error) -> Challenge {
        self.state.choices.challenges.of(error)
    }

    /// How fresh what is known is: for a health check.
    #[must_use]
    pub fn freshness(&self) -> Freshness {
        let now = clock::instant();
        let keys = self.state.keys.len();
        self.state.known(|knowledge| Freshness {
            feed_is_live: knowledge.is_live(now),
            age: knowledge.age(now).unwrap_or_default(),
            keys,
        })
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Policy { issuer, audience, .. } = &self.state.policy;
        f.debug_struct("Verifier").field("issuer", issuer).field("audience", audience).finish_non_exhaustive()
    }
}

/// How fresh what a verifier knows is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// Whether the feed of revocations is live.
    pub feed_is_live: bool,
    /// How long ago everything about revocations was known.
    pub age: Duration,
    /// How many keys are known.
    pub keys: usize,
}

/// The one token of a request (RFC 6750 §2: one way, once).
fn presented<'a>(request: &Request<'a>) -> Result<(Scheme, &'a str), Error> {
    let query = request.path.split_once('?').map_or("", |(_, query)| query);
    if url::form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == "access_token") {
        return Err(Error::Request("a token may not be in the URL"));
    }
    let header = match *request.authorization {
        [] => return Err(Error::NoToken),
        [one] => one.trim_matches(' '),
        _ => return Err(Error::Request("there is more than one Authorization header")),
    };
    let (scheme, text) = header.split_once(' ').unwrap_or((header, ""));
    let scheme = match scheme {
        _ if scheme.eq_ignore_ascii_case("Bearer") => Scheme::Bearer,
        _ if scheme.eq_ignore_ascii_case("DPoP") => Scheme::Dpop,
        // Another scheme is no token at all.
        _ => return Err(Error::NoToken),
    };
    match text.trim_start_matches(' ') {
        "" => Err(Error::Request("the Authorization header has no token")),
        text => Ok((scheme, text)),
    }
}

#[cfg(test)]
#[path = "verifier_tests.rs"]
mod tests;
