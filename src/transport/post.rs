use super::TransportOptions;
use super::channel::{Gone, HttpChannel};
use axum::body::{Body, HttpBody};
use axum::http::StatusCode;
use bytes::Bytes;
use futures_util::StreamExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use tokio::time::timeout;

/// Takes in what a client posts: the body is collected, handed over whole, and answered once the hub has room again.
///
/// The reference hands bytes over as they come, so that of a body which breaks off a part stays, and the next message is garbage.
pub(super) async fn post(
    channel: &HttpChannel,
    body: Body,
    options: &TransportOptions,
    budget: &Arc<Budget>,
) -> Result<(), PostError> {
    let _turn = channel.turns.acquire().await.map_err(|_| PostError::Gone)?;
    // before there is a connection nobody reads it
    let free = if channel.is_open() { FREE } else { 0 };
    let collected = timeout(options.post_timeout, collect(body, options.max_post_bytes, free, budget));
    let (body, charge) = collected.await.map_err(|_| PostError::TooSlow)??;
    channel.put(body, charge)?;
    if !channel.is_open() && timeout(options.negotiate_timeout, channel.room()).await.is_err() && !channel.is_open() {
        return Err(PostError::Gone);
    }
    Ok(channel.room().await?)
}

async fn collect(body: Body, limit: usize, free: usize, budget: &Arc<Budget>) -> Result<(Bytes, Charge), PostError> {
    let length = body.size_hint().lower();
    if length > limit as u64 {
        return Err(PostError::TooLarge(limit));
    }
    // as long as it declares to be only if that is little: what has not come costs nothing yet
    let mut collected = Vec::with_capacity(length.min(FREE as u64) as usize);
    let mut charge = Charge::default();
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| PostError::Broken)?;
        let size = collected.len() + piece.len();
        if size > limit {
            return Err(PostError::TooLarge(limit));
        }
        if size > free {
            charge.grow(budget, size + ENTRY)?;
        }
        // a copy: the read buffer that the piece came in is larger, and hyper's
        collected.extend_from_slice(&piece);
    }
    Ok((collected.into(), charge))
}

/// Why a POST is not taken in; nothing of it is.
#[derive(Debug, thiserror::Error)]
pub(super) enum PostError {
    #[error("")]
    Gone,
    #[error("")]
    Broken,
    #[error("The body is larger than {0} bytes; send less in one request, or raise max_post_bytes on the server")]
    TooLarge(usize),
    #[error("The body took too long; it is to be sent without pauses")]
    TooSlow,
    #[error("Too many large requests are under way; try again")]
    NoRoom,
}

impl PostError {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Gone => StatusCode::NOT_FOUND,
            Self::Broken => StatusCode::BAD_REQUEST,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::NoRoom => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl From<Gone> for PostError {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

/// Bytes of large bodies that an endpoint holds, over all of its connections.
#[derive(Debug)]
pub(super) struct Budget {
    held: AtomicUsize,
    most: usize,
}

impl Budget {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { held: AtomicUsize::new(0), most })
    }
}

/// The part of a [`Budget`] that one body takes, from its first bytes until the hub has read its last.
#[derive(Debug, Default)]
pub(super) struct Charge(Option<(Arc<Budget>, usize)>);

impl Charge {
    fn grow(&mut self, budget: &Arc<Budget>, size: usize) -> Result<(), PostError> {
        let (_, charged) = self.0.get_or_insert_with(|| (budget.clone(), 0));
        let more = size - *charged;
        *charged = size;
        if budget.held.fetch_add(more, Relaxed) + more > budget.most { Err(PostError::NoRoom) } else { Ok(()) }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some((budget, charged)) = &self.0 {
            budget.held.fetch_sub(*charged, Relaxed);
        }
    }
}

/// Bodies up to this size are not charged once the connection reads: a flood of large ones does not keep anybody from calling.
const FREE: usize = 4 * 1024;
/// What a body takes where it waits, beside its bytes: else many small ones would hold far more than they count for.
pub(super) const ENTRY: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn large_bodies_share_a_budget_and_small_ones_need_none() {
        let budget = Budget::new(10_000);
        let body = |size| collect(Body::from(vec![b'x'; size]), 8_000, FREE, &budget);
        assert!(matches!(body(8_001).await, Err(PostError::TooLarge(8_000))));
        let held = body(8_000).await.unwrap();
        assert!(matches!(body(5_000).await, Err(PostError::NoRoom)));
        assert_eq!(body(FREE).await.unwrap().0.len(), FREE);
        drop(held);
        assert!(body(5_000).await.is_ok());
        assert_eq!(budget.held.load(Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_posted_before_a_connection_starts_is_charged_in_full() {
        let (options, budget) = (TransportOptions::default(), Budget::new(2 * (1 + ENTRY)));
        let channel = HttpChannel::new(1024);
        let put = async || post(&channel, Body::from("x"), &options, &budget).await;
        assert!(put().await.is_ok() && put().await.is_ok());
        assert!(matches!(put().await, Err(PostError::NoRoom)));
        channel.dispose();
        assert_eq!(budget.held.load(Relaxed), 0);
    }
}
