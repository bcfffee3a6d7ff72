//! The HTTP server: `/metrics`, `/healthz`, `/readyz`, the page at `/`, `/api/v1/*`.
//!
//! Slow or hostile clients must do no harm: connections are few and short-lived, a request's head
//! must come quickly and be small, its body is not read, and one scrape is encoded at a time.

mod api;
mod places;

use axum::Router;
use axum::body::Body;
use axum::extract;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{AppendHeaders, IntoResponse, Response};
use axum::routing::get;
use futures_util::stream;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use self::places::Places;
use super::held::Held;
use super::metrics::{self, Format};
use super::web::{Users, Web};
use super::{Readiness, State, compression, page};

/// Pause after a failed accept: the usual cause, no file descriptor left, takes time to pass.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// So many failures in a row, that is ten seconds, do not pass by themselves.
const ACCEPT_FAILURES: u32 = 100;
/// Most bytes of a request's head; hyper takes no less than 8 KiB.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Why the server could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("cannot listen on {address}: {}", advice(source))]
    Bind {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("cannot accept connections any more")]
    Accept { source: io::Error },
}

/// Cause and way out.
fn advice(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another process listens there; stop it, or choose another port with \
             `--listen ADDR:PORT`"
                .into()
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need root or CAP_NET_BIND_SERVICE; choose a higher port \
             with `--listen ADDR:PORT`"
                .into()
        }
        io::ErrorKind::AddrNotAvailable => {
            "this host has no such address; choose one that it has with \
             `--listen ADDR:PORT` (0.0.0.0 or [::] for all)"
                .into()
        }
        _ => format!("{error}; choose another address with `--listen ADDR:PORT`"),
    }
}

/// Listens on `address`.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| ServeError::Bind { address, source })
}

/// What a client may take.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Open at a time; more wait in the kernel's backlog.
    connections: usize,
    /// Of these, from one address (IPv6: one /64); more are turned away.
    per_peer: usize,
    /// For a request's head to come, whole; also between two requests.
    head: Duration,
    /// A connection ends after the response that it is in by then.
    age: Duration,
    /// How long that response may still take.
    response: Duration,
    /// How long responses at shutdown may still take.
    grace: Duration,
}

const LIMITS: Limits = Limits {
    connections: 64,
    per_peer: 16,
    head: Duration::from_secs(5),
    age: Duration::from_secs(15),
    // Events may just have begun.
    response: api::LENGTH.saturating_add(Duration::from_secs(3)),
    grace: Duration::from_secs(3),
};

/// Serves `state` until `shutdown` is done; then lets responses in progress finish, briefly.
pub async fn serve(
    listener: TcpListener,
    web: Web,
    state: Arc<State>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    serve_within(LIMITS, listener, web, state, shutdown).await
}

async fn serve_within(
    limits: Limits,
    listener: TcpListener,
    web: Web,
    state: Arc<State>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let router = router(state, web.users);
    let places = Places::new(limits.connections, limits.per_peer);
    let (stop, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut failures = 0;
    let mut shutdown = pin!(shutdown);

    let result = loop {
        let accept = async {
            let place = places.free().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = &mut shutdown => break Ok(()),
            accepted = accept => accepted,
            // Collects what has ended, so that the set does not grow.
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, peer)) => {
                failures = 0;
                // Turned away without a word: an answer would be work that it can ask for.
                if let Some(place) = places.take(place, peer.ip()) {
                    let (router, stopped) = (router.clone(), stopped.clone());
                    let acceptor = web.certificates.as_ref().map(|files| files.acceptor());
                    connections.spawn(async move {
                        let _place = place;
                        match acceptor {
                            None => connection(limits, stream, router, stopped).await,
                            Some(acceptor) => {
                                let accepted = timeout(limits.head, acceptor.accept(stream)).await;
                                if let Ok(Ok(stream)) = accepted {
                                    connection(limits, stream, router, stopped).await;
                                }
                            }
                        }
                    });
                }
            }
            Err(source) if failures >= ACCEPT_FAILURES => break Err(ServeError::Accept { source }),
            Err(error) => {
                failures += 1;
                log::debug!("accept failed: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    };

    drop(listener);
    stop.send_replace(true);
    while connections.join_next().await.is_some() {}
    result
}

/// Serves one connection. Its end is the client's business: errors are of no interest.
async fn connection(
    limits: Limits,
    stream: impl AsyncRead + AsyncWrite + Unpin,
    router: Router,
    mut stopped: watch::Receiver<bool>,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    let is_aged = tokio::select! {
        _ = connection.as_mut() => return,
        _ = stopped.wait_for(|stopped| *stopped) => false,
        () = sleep(limits.age) => true,
    };
    connection.as_mut().graceful_shutdown();
    if is_aged {
        tokio::select! {
            _ = connection.as_mut() => return,
            _ = stopped.wait_for(|stopped| *stopped) => {}
            () = sleep(limits.response) => return,
        }
    }
    let _ = timeout(limits.grace, connection).await;
}

/// What the handlers share.
#[derive(Clone)]
struct Shared {
    state: Arc<State>,
    /// Held while a response is made of all series: many clients at once must not take more than
    /// one core, nor the pipeline's lock more than one after the other.
    turn: Arc<Mutex<()>>,
}

fn router(state: Arc<State>, users: Option<Arc<Users>>) -> Router {
    let mut router = Router::new()
        .route("/", get(root))
        .route("/assets/{name}", get(asset))
        .route("/metrics", get(metrics))
        .merge(api::router());
    if let Some(users) = users {
        router = router.layer(middleware::from_fn_with_state(users, only_for));
    }
    // These tell nothing, and whoever asks whether the agent lives has no password.
    router
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(Shared {
            state,
            turn: Arc::default(),
        })
}

/// Answers those who give a name and password that are right (RFC 7617).
async fn only_for(
    extract::State(users): extract::State<Arc<Users>>,
    request: extract::Request,
    next: Next,
) -> Response {
    if users.admit(request.headers()).await {
        return next.run(request).await;
    }
    let challenge = [(
        header::WWW_AUTHENTICATE,
        "Basic realm=\"resumetry\", charset=\"UTF-8\"",
    )];
    (
        StatusCode::UNAUTHORIZED,
        challenge,
        "name and password, please\n",
    )
        .into_response()
}

async fn metrics(extract::State(shared): extract::State<Shared>, headers: HeaderMap) -> Response {
    let format = Format::negotiate(&headers);
    // What the body looks like depends on these.
    let vary = [(header::VARY, "accept, accept-encoding")];
    if compression::is_accepted(&headers) {
        let write = move |state: &_| compression::gzip(|out| metrics::write(state, format, out));
        let made = shared.make(move |state| write(state).ok()).await;
        let encoding = [(header::CONTENT_ENCODING, "gzip")];
        let encoding = made.is_some().then_some(AppendHeaders(encoding));
        return (vary, encoding, respond(format.content_type(), made)).into_response();
    }
    let made = shared
        .make(move |state| {
            let mut body = Held::roomy();
            metrics::write(state, format, &mut body).ok()?;
            Some((body.len(), body.into_parts().ok()?))
        })
        .await;
    let made = made.map(|(length, parts)| {
        let length = AppendHeaders([(header::CONTENT_LENGTH, length)]);
        (length, Body::from_stream(stream::iter(parts)))
    });
    (vary, respond(format.content_type(), made)).into_response()
}

async fn root(headers: HeaderMap) -> Response {
    page::index(&headers)
}

async fn asset(extract::Path(name): extract::Path<String>, headers: HeaderMap) -> Response {
    page::asset(&name, &headers)
}

async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(extract::State(shared): extract::State<Shared>) -> Response {
    match shared.state.readiness() {
        Readiness::Ready => "ready\n".into_response(),
        Readiness::NotReady(reason) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready: {reason}\n"),
        )
            .into_response(),
    }
}

impl Shared {
    /// Makes a response off the network threads, one at a time.
    async fn make<T: Send + 'static>(
        &self,
        make: impl FnOnce(&Arc<State>) -> Option<T> + Send + 'static,
    ) -> Option<T> {
        let _turn = self.turn.lock().await;
        let state = Arc::clone(&self.state);
        tokio::task::spawn_blocking(move || make(&state))
            .await
            .ok()
            .flatten()
    }
}

fn respond(content_type: &'static str, made: Option<impl IntoResponse>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    match made {
        Some(body) => (headers, body).into_response(),
        None => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "this could not be written out\n",
        )
            .into_response(),
    }
}

#[cfg(test)]
mod tests;
