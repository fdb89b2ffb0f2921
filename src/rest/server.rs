use super::cors::Crossing;
use super::errors::Refusal;
use super::options::{Hubs, RestOptions};
use super::request::Asked;
use super::{auth, operations, routes as table};
use crate::auth::AccessKeys;
use axum::Router;
use axum::body::{Body, BodyDataStream};
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{Method, Request, Response, StatusCode};
use axum::routing::any;
use futures_util::StreamExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tracing::debug;

/// Everything that the operations share.
pub(super) struct Rest {
    pub(super) hubs: Arc<dyn Hubs>,
    pub(super) keys: AccessKeys,
    pub(super) options: RestOptions,
    /// For bodies that are held.
    bodies: Semaphore,
    /// For questions to clients that have not been answered.
    invokes: Semaphore,
}

/// Makes the routes under `/api/`. They stand on their own: tokens, origins and limits are seen to here.
#[cfg_attr(not(feature = "server"), allow(dead_code, reason = "for what composes the server"))]
pub(crate) fn routes(hubs: Arc<dyn Hubs>, keys: AccessKeys, options: RestOptions) -> Router {
    let bodies = Semaphore::new(options.max_parallel_bodies.min(Semaphore::MAX_PERMITS));
    let invokes = Semaphore::new(options.max_parallel_invokes.min(Semaphore::MAX_PERMITS));
    let rest = Arc::new(Rest { hubs, keys, options, bodies, invokes });
    // the words of the API have no case, and a router's paths do; what is behind this one is matched by hand
    let spellings = ["api", "Api", "aPi", "apI", "APi", "ApI", "aPI", "API"];
    let router =
        spellings.iter().fold(Router::new(), |router, api| router.route(&format!("/{api}/{{*rest}}"), any(serve)));
    router.with_state(rest)
}

async fn serve(State(rest): State<Arc<Rest>>, request: Request<Body>) -> Response<Body> {
    let crossing = Crossing::of(&rest.options.allowed_origins, &request);
    let head = request.method() == Method::HEAD;
    let mut response = match crossing.preflight() {
        Some(preflight) => preflight,
        None => {
            let (parts, body) = request.into_parts();
            rest.answer(&parts, body).await.unwrap_or_else(Refusal::into_response)
        }
    };
    crossing.finish(&mut response);
    if head {
        // its headers stay, the length included
        *response.body_mut() = Body::empty();
    }
    response
}

impl Rest {
    async fn answer(&self, parts: &Parts, body: Body) -> Result<Response<Body>, Refusal> {
        let (asked, route) = match self.admit(parts) {
            Ok(admitted) => admitted,
            Err(refusal) => return Err(self.refuse(refusal, body).await),
        };
        let answer = operations::run(self, &asked, route, body).await;
        let status = answer.as_ref().map_or_else(Refusal::status, Response::status);
        let tracing_id = asked.header("x-asrs-message-tracing-id").and_then(|id| id.parse::<u64>().ok());
        debug!(operation = ?route.operation, status = status.as_u16(), tracing_id, "a REST request was answered");
        answer
    }

    /// Finds out what is asked for, and whether it may be.
    fn admit<'r>(&self, parts: &'r Parts) -> Result<(Asked<'r>, &'static table::Route), Refusal> {
        let asked = Asked::read(parts)?;
        let route = table::find(&asked)?;
        if !route.operation.is_open() && route.operation != table::Operation::TemporaryKey {
            auth::check(&self.keys, &self.options, &asked, route)?;
        }
        self.check_version(&asked)?;
        Ok((asked, route))
    }

    /// Refuses a request whose body has not been looked at: what is on its way of it is taken in, though not waited for as one that is wanted.
    async fn refuse(&self, refusal: Refusal, body: Body) -> Refusal {
        let read = discard(body.into_data_stream(), self.options.body_limit);
        let _ = tokio::time::timeout(self.options.body_timeout.min(UNWANTED), read).await;
        refusal
    }

    /// Reads a body and makes something of it, if there is room for one more.
    pub(super) async fn read<T>(
        &self,
        asked: &Asked<'_>,
        body: Body,
        read: impl FnOnce(&[u8]) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let Ok(_held) = self.bodies.try_acquire() else { return Err(self.refuse(busy(), body).await) };
        read(&self.body(asked, body).await?)
    }

    /// Takes a place among the questions to clients, and gives the body back.
    pub(super) async fn place(&self, body: Body) -> Result<(SemaphorePermit<'_>, Body), Refusal> {
        match self.invokes.try_acquire() {
            Ok(place) => Ok((place, body)),
            Err(_) => Err(self.refuse(busy(), body).await),
        }
    }

    fn check_version(&self, asked: &Asked<'_>) -> Result<(), Refusal> {
        let unknown = |version: &&str| !VERSIONS.contains(version);
        match asked.parameter("api-version").filter(unknown) {
            Some(_) if self.options.strict_version && asked.edition == super::request::Edition::Dated => {
                Err(Refusal::invalid(format!("The api-version is not one of {}.", VERSIONS.join(", "))))
            }
            _ => Ok(()),
        }
    }

    /// Reads a body within its limits.
    async fn body(&self, asked: &Asked<'_>, body: Body) -> Result<Vec<u8>, Refusal> {
        let limit = self.options.body_limit;
        let too_large = || {
            let message = format!("The body is larger than {limit} bytes.");
            Refusal::of(StatusCode::PAYLOAD_TOO_LARGE, super::errors::INVALID, message)
        };
        let declared = asked.header("content-length").and_then(|length| length.parse::<u64>().ok());
        if declared.is_some_and(|length| length > limit as u64) {
            let read = discard(body.into_data_stream(), limit);
            let _ = tokio::time::timeout(self.options.body_timeout, read).await;
            return Err(too_large());
        }
        match tokio::time::timeout(self.options.body_timeout, collect(body, limit)).await {
            Err(_) => Err(Refusal::bare(StatusCode::REQUEST_TIMEOUT)),
            Ok(Some(Some(bytes))) => Ok(bytes),
            Ok(Some(None)) => Err(too_large()),
            // the caller has gone, or broke off in the middle
            Ok(None) => Err(Refusal::invalid("The body ended too early.")),
        }
    }
}

/// `None`: it is not whole. `Some(None)`: it is longer than that.
async fn collect(body: Body, limit: usize) -> Option<Option<Vec<u8>>> {
    let mut chunks = body.into_data_stream();
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.ok()?;
        if bytes.len() + chunk.len() > limit {
            discard(chunks, limit).await;
            return Some(None);
        }
        bytes.extend_from_slice(&chunk);
    }
    Some(Some(bytes))
}

/// Takes in some of a body that nobody wants: callers that write all of it before they read would not see the answer otherwise.
async fn discard(mut chunks: BodyDataStream, most: usize) {
    let mut left = most;
    while let Some(Ok(chunk)) = chunks.next().await
        && left > 0
    {
        left = left.saturating_sub(chunk.len());
    }
}

fn busy() -> Refusal {
    Refusal::later(StatusCode::TOO_MANY_REQUESTS, "Too many requests at once: try again later.")
}

/// How long a body that nobody wants may take.
const UNWANTED: Duration = Duration::from_secs(1);
pub(super) const VERSIONS: [&str; 4] = ["2022-06-01", "2022-11-01", "2023-07-01", "2024-12-01"];
