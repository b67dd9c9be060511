//! Serving: the listener, TLS, deadlines and limits on every connection (protocol 43). What is around
//! every request is in [`crate::around`].

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    body::Body,
    extract::{DefaultBodyLimit, Request},
    http::{HeaderName, HeaderValue, header},
    response::Response,
};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tower::{
    Layer, Service as _, ServiceExt,
    util::{Either, option_layer},
};
use tower_http::{
    cors::{AllowOrigin, Cors, CorsLayer},
    trace::TraceLayer,
};

use crate::{
    access::Peer,
    app::{App, changes::feed::Feed},
    around::Around,
    config::{Config, MAX_BODY_BYTES},
    routes,
};

mod places;

use places::{Place, Places};

/// The longest head of a request, in bytes; also how much of a pipelined one is read ahead.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// The most requests at once on one HTTP/2 connection.
const MAX_STREAMS: u32 = 64;
/// The headers of an HTTP/2 request, in bytes as RFC 9113 §6.5.2 counts them.
const MAX_HEADER_LIST_BYTES: u32 = 32 * 1024;
/// How many streams an HTTP/2 client may have opened and reset before the server looked at them
/// (CVE-2023-44487); then the connection is closed.
const MAX_RESETS_UNSEEN: usize = 20;
/// How many of a client's errors on one HTTP/2 connection the server answers with a reset; then it is
/// closed.
const MAX_RESETS_SENT: usize = 100;
/// How much of the bodies on one HTTP/2 connection is taken in before anybody reads it, in bytes.
const CONNECTION_WINDOW: u32 = 256 * 1024;
/// How much of an answer waits in memory for an HTTP/2 client to read, in bytes for each stream.
const SEND_BUFFER: usize = 64 * 1024;

/// What answers the requests of a connection.
pub type Service = Either<Cors<Around>, Around>;

/// The router with everything around it that does not depend on the route.
pub fn service(app: &Arc<App>) -> Service {
    let mut router = routes::router(app).layer(DefaultBodyLimit::max(MAX_BODY_BYTES));
    let mut direct = routes::answered_directly();
    // A layer costs each request some allocations, and without these spans there is nothing to trace.
    if tracing::enabled!(tracing::Level::DEBUG) {
        router = router.layer(TraceLayer::new_for_http().make_span_with(span).on_failure(()));
        direct.clear();
    }
    let config = &app.config;
    let cors = (!config.cors_origins.is_empty()).then(|| cors(config));
    option_layer(cors).layer(Around::new(Arc::clone(app), router, direct))
}

/// CORS as configured, without cookies: for programs in browsers that send a token (protocol 16).
fn cors(config: &Config) -> CorsLayer {
    let origins = config.cors_origins.iter().filter_map(|o| HeaderValue::try_from(o).ok());
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([axum::http::Method::GET, axum::http::Method::POST])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, HeaderName::from_static("dpop")])
        .expose_headers([header::WWW_AUTHENTICATE, HeaderName::from_static("dpop-nonce")])
        .max_age(Duration::from_secs(600))
}

/// The span of a request: its method and its route, never its URL, which may hold a link's token.
fn span(request: &Request) -> tracing::Span {
    let route = request.extensions().get::<axum::extract::MatchedPath>().map_or("-", |p| p.as_str());
    tracing::debug_span!("request", method = %request.method(), route)
}

/// How many connections may wait to be accepted, as far as the system allows (`net.core.somaxconn`, which
/// is as many by default). Beyond that the kernel drops them, and whoever connects tries again after a
/// second or more.
const WAITING: u32 = 4096;

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A server that starts again does not wait for the connections of the one before it.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(WAITING)
}

/// A listener with what its connections need.
pub struct Server {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    service: Service,
    config: Config,
    feed: Arc<Feed>,
}

impl Server {
    /// Binds the address of the configuration.
    ///
    /// # Errors
    /// When the address is taken or the certificate cannot be read.
    pub fn bind(app: &Arc<App>) -> io::Result<Self> {
        let config = app.config.clone();
        let tls = acceptor(&config)?;
        let listener = listen(config.listen)
            .map_err(|e| io::Error::new(e.kind(), format!("cannot listen on {}: {e}", config.listen)))?;
        Ok(Self { listener, tls, service: service(app), config, feed: Arc::clone(&app.feed) })
    }

    /// The address that is really listened on.
    ///
    /// # Errors
    /// The system's.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` resolves, then lets the requests under way finish.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let places = Places::new(self.config.limits.connections, &self.config.trusted_proxies);
        let graceful = GracefulShutdown::new();
        let builder = Arc::new(protocols(&self.config));
        let mut stop = std::pin::pin!(stop);
        loop {
            let accepted = async { (places.free().await, self.listener.accept().await) };
            let (free, stream, peer) = tokio::select! {
                accepted = accepted => match accepted {
                    (Some(free), Ok((stream, peer))) => (free, stream, peer),
                    (None, _) => break,
                    (_, Err(error)) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
                () = &mut stop => break,
            };
            // Who has too many is closed, so that the next in the row is somebody else.
            let Some(place) = places.take(free, peer.ip()) else { continue };
            let connection = Connection {
                tls: self.tls.clone(),
                service: self.service.clone(),
                peer,
                place,
                write: self.config.limits.request,
            };
            tokio::spawn(connection.serve(
                stream,
                Arc::clone(&builder),
                graceful.watcher(),
                self.config.limits.header,
            ));
        }
        drop(self.listener);
        // They would never finish by themselves.
        self.feed.end();
        tokio::select! {
            () = graceful.shutdown() => {}
            () = tokio::time::sleep(self.config.limits.shutdown) => {
                tracing::warn!("some requests did not finish in time and were cut off");
            }
        }
    }
}

/// HTTP/1.1 and HTTP/2, each with its limits.
fn protocols(config: &Config) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(config.limits.header)
        // The most headers are 100 anyway. To say so makes hyper fill the room for them each time.
        .max_buf_size(MAX_HEAD_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .max_pending_accept_reset_streams(MAX_RESETS_UNSEEN)
        .max_local_error_reset_streams(MAX_RESETS_SENT)
        .initial_stream_window_size(u32::try_from(MAX_BODY_BYTES).unwrap_or(CONNECTION_WINDOW))
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        // Who follows the feed may have nothing to say for long; this tells whether anybody is there.
        .keep_alive_interval(config.limits.request)
        .keep_alive_timeout(config.limits.header);
    builder
}

/// What a connection is used for, so that one that nobody uses can be closed.
#[derive(Debug, Clone, Default)]
pub struct Uses(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// Requests that have begun.
    began: AtomicU64,
    /// Answers that go on for as long as both ends like.
    held: AtomicUsize,
}

/// Keeps a connection from being closed for want of new requests. Whoever holds it sees itself that
/// the other end still reads.
#[derive(Debug)]
pub struct Hold(Uses);

impl Uses {
    /// Begins an answer that goes on.
    #[must_use]
    pub fn hold(&self) -> Hold {
        self.0.held.fetch_add(1, Ordering::Relaxed);
        Hold(self.clone())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.0.held.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What answers the requests of one connection.
struct Answers {
    service: Service,
    peer: Peer,
}

impl hyper::service::Service<hyper::Request<Incoming>> for Answers {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, request: hyper::Request<Incoming>) -> Self::Future {
        self.peer.uses.0.began.fetch_add(1, Ordering::Relaxed);
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(self.peer.clone());
        match &self.service {
            Either::Left(with_cors) => Box::pin(with_cors.clone().oneshot(request)),
            // It is always ready.
            Either::Right(around) => around.clone().call(request),
        }
    }
}

struct Connection {
    tls: Option<TlsAcceptor>,
    service: Service,
    peer: SocketAddr,
    place: Place,
    /// How long the other end may leave an answer unread.
    write: Duration,
}

impl Connection {
    async fn serve(
        self,
        stream: TcpStream,
        builder: Arc<Builder<TokioExecutor>>,
        watcher: hyper_util::server::graceful::Watcher,
        deadline: Duration,
    ) {
        // An answer is small and wanted now.
        let _ = stream.set_nodelay(true);
        let uses = Uses::default();
        let peer = Peer::new(self.peer.ip(), self.tls.is_some(), uses.clone());
        // Long enough for a request of the longest kind, so that nothing under way is cut off.
        let idle = self.write + deadline;
        let service = Answers { service: self.service, peer };
        // Who asks and does not read the answers does not keep a place either.
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(self.write));
        let stream = Box::pin(stream);
        let outcome = match self.tls {
            None => {
                let serving = builder.serve_connection(TokioIo::new(stream), service).into_owned();
                while_used(watcher.watch(serving), &uses.0, deadline, idle).await
            }
            Some(tls) => match tokio::time::timeout(deadline, tls.accept(stream)).await {
                Ok(Ok(stream)) => {
                    let serving = builder.serve_connection(TokioIo::new(stream), service).into_owned();
                    while_used(watcher.watch(serving), &uses.0, deadline, idle).await
                }
                _ => Ok(()),
            },
        };
        if let Err(error) = outcome {
            tracing::debug!(%error, "a connection ended early");
        }
        drop(self.place);
    }
}

/// Serves a connection as long as it is used: whoever connects and says nothing, or half a greeting,
/// does not keep a place, and neither does whoever has not begun a request for `idle`. By then every
/// request is answered or given up (but for answers that go on, which keep it), so what an HTTP/2 client left unread behind a closed window (or
/// keeps open with pings alone) goes with the connection.
async fn while_used<E>(
    serving: impl Future<Output = Result<(), E>>,
    uses: &Counts,
    deadline: Duration,
    idle: Duration,
) -> Result<(), E> {
    let mut serving = std::pin::pin!(serving);
    let (mut before, mut wait) = (0, deadline);
    loop {
        if let Ok(outcome) = tokio::time::timeout(wait, &mut serving).await {
            return outcome;
        }
        let now = uses.began.load(Ordering::Relaxed);
        if now == before && uses.held.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        (before, wait) = (now, idle);
    }
}

/// TLS 1.2 and 1.3 from the PEM files of the configuration, if this server does TLS itself.
///
/// # Errors
/// When a file cannot be read, or the two do not belong together.
pub fn acceptor(config: &Config) -> io::Result<Option<TlsAcceptor>> {
    let Some((certificate, key)) = &config.tls else { return Ok(None) };
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
    let wrong = |path: &std::path::Path, e: &dyn std::fmt::Display| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{}: {e}", path.display()))
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| wrong(certificate, &e))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| wrong(key, &e))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|b| b.with_no_client_auth().with_single_cert(chain, private))
        .map_err(|e| wrong(certificate, &e))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}
