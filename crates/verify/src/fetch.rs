//! Getting documents from the server: with deadlines, with a bound on what is read, without following
//! redirects; and one fetch at a time for however many wait for it.

use std::{
    fmt::Display,
    future::Future,
    time::{Duration, Instant},
};

use reqwest::{Client, Response, StatusCode, header, redirect::Policy};
use tokio::{
    sync::{Mutex, Semaphore},
    time::timeout,
};
use url::{Host, Url};

use crate::clock;

/// How long a document may take, from the request to its last byte.
const DEADLINE: Duration = Duration::from_secs(5);

/// Why a document could not be had. What the server sent is not in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{url}: {why}")]
pub struct FetchError {
    url: String,
    why: String,
}

impl FetchError {
    pub(crate) fn new(url: &Url, why: impl Display) -> Self {
        Self { url: url.to_string(), why: why.to_string() }
    }
}

/// A document and the tag under which it can be asked for again.
pub(crate) struct Document {
    pub(crate) body: Vec<u8>,
    pub(crate) etag: Option<String>,
}

/// Makes the requests.
#[derive(Clone)]
pub(crate) struct Http {
    client: Client,
}

impl Http {
    /// For the documents of one server.
    pub(crate) fn new(server: &Url) -> Result<Self, reqwest::Error> {
        let mut client = Client::builder()
            .redirect(Policy::none())
            .connect_timeout(DEADLINE)
            .user_agent(concat!("portcullis-verify/", env!("CARGO_PKG_VERSION")));
        if server.scheme() == "http" {
            // It is on this machine, and a proxy of the environment would be somebody on the way.
            client = client.no_proxy();
        }
        Ok(Self { client: client.build()? })
    }

    /// The client, for what is not a document.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Gets a document of at most `longest` bytes. With a tag: `None` if it is still the same.
    pub(crate) async fn get(
        &self,
        url: &Url,
        longest: usize,
        etag: Option<&str>,
    ) -> Result<Option<Document>, FetchError> {
        let whole = timeout(DEADLINE, async {
            let mut request = self.client.get(url.clone());
            if let Some(etag) = etag {
                request = request.header(header::IF_NONE_MATCH, etag);
            }
            let mut response = request.send().await.map_err(|error| FetchError::new(url, error.without_url()))?;
            match response.status() {
                StatusCode::OK => {}
                StatusCode::NOT_MODIFIED if etag.is_some() => return Ok(None),
                status => return Err(FetchError::new(url, status)),
            }
            let etag = response.headers().get(header::ETAG).and_then(|etag| etag.to_str().ok());
            let etag = etag.map(ToOwned::to_owned);
            Ok(Some(Document { body: body(url, &mut response, longest).await?, etag }))
        });
        whole.await.unwrap_or_else(|_| Err(FetchError::new(url, "it takes too long")))
    }
}

async fn body(url: &Url, response: &mut Response, longest: usize) -> Result<Vec<u8>, FetchError> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|error| FetchError::new(url, error.without_url()))? {
        if body.len() + piece.len() > longest {
            return Err(FetchError::new(url, "it is too long"));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

/// Whether nobody on the way can read or change what comes from a URL: https, or this machine itself.
pub(crate) fn is_safe(url: &Url) -> bool {
    let is_here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && is_here)
}

/// As many as may wait for a fetch that a stranger's token asks for.
const WAITING: usize = 1024;

/// One fetch at a time, not more often than after a gap, and for all who wait.
pub(crate) struct Flight {
    latest: Mutex<Latest>,
    gap: Duration,
    places: Semaphore,
}

#[derive(Default)]
struct Latest {
    /// When a fetch began, also one whose caller went away.
    tried: Option<Instant>,
    /// The last fetch that ended: when it began, and whether it succeeded.
    ended: Option<(Instant, bool)>,
}

impl Flight {
    pub(crate) fn new(gap: Duration) -> Self {
        Self { latest: Mutex::default(), gap, places: Semaphore::new(WAITING) }
    }

    /// Sees to it that a fetch that began after `asked` has ended; says whether it succeeded.
    pub(crate) async fn after<F>(&self, asked: Instant, fetch: impl FnOnce(Instant) -> F) -> bool
    where
        F: Future<Output = bool>,
    {
        let mut latest = self.latest.lock().await;
        if let Some((began, succeeded)) = latest.ended
            && began > asked
        {
            return succeeded;
        }
        if let Some(tried) = latest.tried {
            let since = clock::instant().saturating_duration_since(tried);
            tokio::time::sleep(self.gap.saturating_sub(since)).await;
        }
        let began = clock::instant();
        latest.tried = Some(began);
        let succeeded = fetch(began).await;
        latest.ended = Some((began, succeeded));
        succeeded
    }

    /// As [`Flight::after`], for a caller whom anybody can send: when too many wait, it fails.
    pub(crate) async fn after_for_strangers<F>(&self, asked: Instant, fetch: impl FnOnce(Instant) -> F) -> bool
    where
        F: Future<Output = bool>,
    {
        let Ok(_place) = self.places.try_acquire() else { return false };
        self.after(asked, fetch).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use super::*;

    #[tokio::test]
    async fn many_who_wait_share_one_fetch_that_began_after_they_asked() {
        let (flight, fetches) = (Arc::new(Flight::new(Duration::from_millis(20))), Arc::new(AtomicU32::new(0)));
        let waiting: Vec<_> = (0..100)
            .map(|_| {
                let (flight, fetches) = (flight.clone(), fetches.clone());
                tokio::spawn(async move {
                    let asked = clock::instant();
                    let fetch = |began: Instant| async move {
                        assert!(began > asked);
                        fetches.fetch_add(1, Ordering::SeqCst);
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        true
                    };
                    flight.after_for_strangers(asked, fetch).await
                })
            })
            .collect();
        for task in waiting {
            assert!(task.await.unwrap());
        }
        assert!(fetches.load(Ordering::SeqCst) <= 2);
    }

    #[tokio::test]
    async fn a_failure_is_everybodys_and_those_who_go_away_do_not_make_it_faster() {
        let flight = Flight::new(Duration::from_millis(50));
        let asked = clock::instant();
        assert!(!flight.after(asked, |_| async { false }).await);
        assert!(!flight.after(asked, |_| async { true }).await, "the same fetch");
        let began = std::sync::Mutex::new(Vec::new());
        for _ in 0..3 {
            let gone = flight.after(clock::instant(), |at| {
                began.lock().unwrap().push(at);
                std::future::pending::<bool>()
            });
            assert!(timeout(Duration::from_millis(80), gone).await.is_err());
        }
        let last = flight.after(clock::instant(), |at| {
            began.lock().unwrap().push(at);
            async { true }
        });
        assert!(last.await);
        let began = began.into_inner().unwrap();
        assert!(began.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_millis(50)));
    }

    #[tokio::test]
    async fn when_too_many_strangers_wait_the_next_one_fails_and_the_house_does_not() {
        let flight = Flight::new(Duration::ZERO);
        let _all = flight.places.acquire_many(u32::try_from(WAITING).unwrap()).await.unwrap();
        assert!(!flight.after_for_strangers(clock::instant(), |_| async { true }).await);
        assert!(flight.after(clock::instant(), |_| async { true }).await);
    }

    #[test]
    fn http_is_for_this_machine_alone() {
        for (url, safe) in [
            ("https://id.acme.example", true),
            ("http://127.0.0.1:8080", true),
            ("http://[::1]:8080", true),
            ("http://localhost", true),
            ("http://id.acme.example", false),
            ("http://localhost.acme.example", false),
            ("ftp://localhost", false),
        ] {
            assert_eq!(is_safe(&Url::parse(url).unwrap()), safe, "{url}");
        }
    }
}
