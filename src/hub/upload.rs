use super::calls::CallState;
use super::connection::ConnectionState;
use super::{HubError, HubResult};
use crate::protocol::hub::RawValue;
use futures_core::Stream;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Items that the client streams into a call: a parameter of a method, which may have several.
///
/// Unread items wait within the connection's [`look_ahead`](crate::ConnectionOptions::look_ahead); when that is full the client is not
/// read until the method takes some. What the client still sends after the method has ended is ignored.
///
/// An item that is no `T` ends the stream with an error that names no details, the client's own error ends it with the client's text, a
/// lost connection with an error that is not for clients.
///
/// ```
/// use futures_util::TryStreamExt;
/// use hubwire::{HubResult, UploadStream};
///
/// async fn sum(mut numbers: UploadStream<i64>) -> HubResult<i64> {
///     let mut sum = 0;
///     while let Some(number) = numbers.try_next().await? {
///         sum += number;
///     }
///     Ok(sum)
/// }
/// # let mut runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # runtime.block_on(async {
/// // in a unit test
/// assert_eq!(sum(UploadStream::for_test([Ok(1), Ok(2)])).await.unwrap(), 3);
/// # });
/// ```
pub struct UploadStream<T>(Source<T>);

enum Source<T> {
    Wire(Arc<Upload>),
    Test(VecDeque<HubResult<T>>),
}

impl<T> UploadStream<T> {
    pub(super) fn new(upload: Arc<Upload>) -> Self {
        Self(Source::Wire(upload))
    }

    /// Makes one for a unit test, which gives these and then ends.
    pub fn for_test(items: impl IntoIterator<Item = HubResult<T>>) -> Self {
        Self(Source::Test(items.into_iter().collect()))
    }
}

impl<T: DeserializeOwned> Stream for UploadStream<T> {
    type Item = HubResult<T>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut self.0 {
            Source::Wire(upload) => upload.poll_next(cx),
            Source::Test(items) => Poll::Ready(items.pop_front()),
        }
    }
}

/// Nothing in it is pinned.
impl<T> Unpin for UploadStream<T> {}

impl<T> Drop for UploadStream<T> {
    fn drop(&mut self) {
        if let Source::Wire(upload) = &self.0 {
            upload.stop();
        }
    }
}

impl<T> fmt::Debug for UploadStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UploadStream").finish_non_exhaustive()
    }
}

/// One upload stream, between the connection that receives its items and the method that takes them.
pub(super) struct Upload {
    id: Box<str>,
    call: Arc<CallState>,
    state: Arc<ConnectionState>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    /// As they came: what they are is known when they are taken.
    items: VecDeque<Box<[u8]>>,
    end: Option<End>,
    reader: Option<Waker>,
}

enum End {
    Completed,
    Failed(HubError),
    /// Nobody takes items any more.
    Stopped,
}

impl Upload {
    pub(super) fn new(id: &str, call: &Arc<CallState>, state: &Arc<ConnectionState>) -> Arc<Self> {
        Arc::new(Self { id: id.into(), call: call.clone(), state: state.clone(), queue: Mutex::default() })
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn belongs_to(&self, call: &Arc<CallState>) -> bool {
        Arc::ptr_eq(&self.call, call)
    }

    /// An item has come.
    pub(super) fn push(&self, item: &[u8]) {
        self.change(|queue| {
            if queue.end.is_none() {
                self.state.calls.charge(item.len() + ITEM);
                queue.items.push_back(item.into());
            }
        });
    }

    /// The client has completed it, with an error of its own or without.
    pub(super) fn complete(&self, error: Option<&str>) {
        self.end(error.map_or(End::Completed, |text| End::Failed(HubError::client(text.to_owned()))));
    }

    /// The connection has ended.
    pub(super) fn disconnect(&self) {
        self.end(End::Failed(HubError::named("OperationCanceledException", "The underlying connection was closed.")));
    }

    /// Nobody takes items any more; those that wait are forgotten.
    pub(super) fn stop(&self) {
        let forgotten = {
            let mut queue = self.queue.lock();
            queue.end = Some(End::Stopped);
            std::mem::take(&mut queue.items)
        };
        self.state.release(forgotten.iter().map(|item| item.len() + ITEM).sum());
    }

    fn end(&self, end: End) {
        self.change(|queue| {
            if queue.end.is_none() {
                queue.end = Some(end);
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Queue)) {
        let reader = {
            let mut queue = self.queue.lock();
            change(&mut queue);
            queue.reader.take()
        };
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    fn poll_next<T: DeserializeOwned>(&self, cx: &mut Context<'_>) -> Poll<Option<HubResult<T>>> {
        let item = {
            let mut queue = self.queue.lock();
            match queue.items.pop_front() {
                Some(item) => item,
                None => match queue.end.take() {
                    None => {
                        queue.reader = Some(cx.waker().clone());
                        return Poll::Pending;
                    }
                    Some(end) => {
                        queue.end = Some(End::Stopped);
                        return Poll::Ready(match end {
                            End::Failed(error) => Some(Err(error)),
                            End::Completed | End::Stopped => None,
                        });
                    }
                },
            }
        };
        self.state.release(item.len() + ITEM);
        let raw = RawValue { protocol: self.state.link.protocol(), bytes: &item };
        Poll::Ready(Some(raw.decode().map_err(|e| {
            self.stop();
            let detailed = self.state.link.options().detailed_errors;
            HubError::client(HubError::binding(e.0).told("Failed to bind Stream message.", detailed))
        })))
    }
}

/// What a waiting item costs besides its bytes.
const ITEM: usize = 64;
