//! `/api/v1/*`: what the built-in page shows. `agent/assets/openapi.yaml` documents it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{self, Query};
use axum::http::StatusCode;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream::{self, Stream};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};
use tower_http::compression::CompressionLayer;

use super::{Shared, respond};
use crate::core::record::Role;
use crate::export::{State, quota};

/// Those who may follow at a time.
const FOLLOWERS: usize = 8;

/// Between two overviews.
const PERIOD: Duration = Duration::from_secs(2);

/// An answer of events ends after this, so that no connection is held for ever; who follows comes again.
pub(super) const LENGTH: Duration = Duration::from_secs(10);

/// When browsers come again.
const RETRY: Duration = Duration::from_millis(500);

const OPENAPI: &str = include_str!("../../../assets/openapi.yaml");

const JSON: &str = "application/json";

/// The routes.
pub(super) fn router() -> Router<Shared> {
    let places = Arc::new(Semaphore::new(FOLLOWERS));
    Router::new()
        .route(
            "/api/v1/overview",
            get(|shared| json(shared, State::overview)),
        )
        .route("/api/v1/names", get(|shared| json(shared, State::names)))
        .route("/api/v1/name", get(name))
        .route("/api/v1/keys", get(|shared| json(shared, State::keys)))
        .route(
            "/api/v1/findings",
            get(|shared| json(shared, State::findings)),
        )
        .route(
            "/api/v1/observations",
            get(|shared| json(shared, State::observations)),
        )
        .route("/api/v1/lifetimes", get(lifetimes))
        .route("/api/v1/quota", get(quota))
        .route("/api/v1/events", get(move |shared| events(shared, places)))
        .route("/api/v1/openapi.yaml", get(openapi))
        // A thousand names shrink to a tenth; events go out as they come.
        .layer(CompressionLayer::new())
}

async fn json<T: Serialize + 'static>(
    extract::State(shared): extract::State<Shared>,
    of: fn(&State) -> T,
) -> Response {
    let made = shared.make(move |state| serde_json::to_vec(&of(state)).ok());
    respond(JSON, made.await)
}

async fn quota(extract::State(shared): extract::State<Shared>) -> Response {
    let made = shared.make(|state| quota::json(&state.quotas()).ok()).await;
    respond(JSON, made)
}

async fn openapi() -> Response {
    respond("application/yaml", Some(OPENAPI))
}

#[derive(Deserialize)]
struct NameQuery {
    server_name: Option<String>,
    role: Option<String>,
}

async fn name(
    extract::State(shared): extract::State<Shared>,
    Query(query): Query<NameQuery>,
) -> Response {
    let Some(server_name) = query.server_name else {
        return refuse(
            StatusCode::BAD_REQUEST,
            "which one? Add ?server_name=NAME\n",
        );
    };
    let role = match query.role.as_deref() {
        None | Some("server") => Role::Server,
        Some("client") => Role::Client,
        Some(_) => return refuse(StatusCode::BAD_REQUEST, "role is `server` or `client`\n"),
    };
    let made = shared.make(move |state| {
        let name = state.name(&server_name, role);
        let body = name.map(|name| serde_json::to_vec(&name).ok());
        Some(body.map(|body| respond(JSON, body)))
    });
    let made = made.await.flatten();
    made.unwrap_or_else(|| {
        let names = "nothing is known of this name; /api/v1/names lists those that are known\n";
        refuse(StatusCode::NOT_FOUND, names)
    })
}

#[derive(Deserialize)]
struct LifetimesQuery {
    lifetime: Option<String>,
}

async fn lifetimes(
    extract::State(shared): extract::State<Shared>,
    Query(query): Query<LifetimesQuery>,
) -> Response {
    let asked = query.lifetime.map(|text| text.parse::<f64>());
    let asked = match asked.transpose() {
        Ok(asked) if asked.is_none_or(|seconds| seconds.is_finite() && seconds > 0.0) => asked,
        _ => {
            let message = "lifetime is a number of seconds above 0\n";
            return refuse(StatusCode::BAD_REQUEST, message);
        }
    };
    let made = shared.make(move |state| serde_json::to_vec(&state.lifetimes(asked)).ok());
    respond(JSON, made.await)
}

fn refuse(status: StatusCode, message: &'static str) -> Response {
    (status, respond("text/plain; charset=utf-8", Some(message))).into_response()
}

/// Somebody who follows.
struct Follower {
    shared: Shared,
    records: Receiver<Arc<str>>,
    overviews: Interval,
    until: Instant,
    /// Records left out for all that were told of.
    skipped: u64,
    /// What was left out was just told: the overview is next, however many are left out meanwhile.
    has_told: bool,
    _place: OwnedSemaphorePermit,
}

async fn events(
    extract::State(shared): extract::State<Shared>,
    places: Arc<Semaphore>,
) -> Response {
    let follower = places
        .try_acquire_owned()
        .ok()
        .zip(shared.state.live.follow());
    let Some((place, records)) = follower else {
        let message = "too many follow already, or the agent is stopping; try again later\n";
        return refuse(StatusCode::SERVICE_UNAVAILABLE, message);
    };
    let mut overviews = interval(PERIOD);
    overviews.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let follower = Follower {
        skipped: shared.state.live.skipped(),
        has_told: false,
        shared,
        records,
        overviews,
        until: Instant::now() + LENGTH,
        _place: place,
    };
    let headers = [
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
    ];
    (headers, Sse::new(follow(follower))).into_response()
}

fn follow(follower: Follower) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(follower, |mut follower| async {
        let event = follower.next().await?;
        Some((Ok(event), follower))
    })
}

impl Follower {
    async fn next(&mut self) -> Option<Event> {
        tokio::select! {
            () = sleep_until(self.until) => None,
            _ = self.overviews.tick() => self.overview().await,
            record = self.records.recv() => match record {
                Ok(record) => Some(Event::default().event("handshake").data(record)),
                Err(RecvError::Lagged(count)) => {
                    Some(Event::default().event("skipped").data(count.to_string()))
                }
                Err(RecvError::Closed) => None,
            },
        }
    }

    /// What was left out comes before the next overview.
    async fn overview(&mut self) -> Option<Event> {
        let skipped = self.shared.state.live.skipped();
        if skipped > self.skipped && !std::mem::replace(&mut self.has_told, true) {
            let count = skipped - self.skipped;
            self.skipped = skipped;
            self.overviews.reset_immediately();
            return Some(Event::default().event("skipped").data(count.to_string()));
        }
        self.has_told = false;
        let made = self
            .shared
            .make(|state| serde_json::to_string(&state.overview()).ok());
        let event = Event::default().event("overview").retry(RETRY);
        Some(event.data(made.await?))
    }
}
