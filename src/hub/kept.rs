use crate::Protocol;
use crate::protocol::hub::{BindError, Completed, Invocation, RawArguments, RawValue};
use std::borrow::Cow;
use std::collections::VecDeque;

/// Messages that wait: calls, until there is a place for them, and what a kept call's upload streams have received meanwhile.
///
/// They keep their order. Items are kept only while the call that opens their stream is, and leave with it.
#[derive(Default)]
pub(super) struct Kept {
    calls: VecDeque<KeptCall>,
    /// Whether one of them has upload streams.
    uploads: usize,
}

/// A call, copied out of the buffer that it came in.
pub(super) struct KeptCall {
    id: Option<Box<str>>,
    target: Box<str>,
    protocol: Protocol,
    arguments: Result<(Box<[u8]>, usize), BindError>,
    stream_ids: Box<[Box<str>]>,
    streaming: bool,
    /// What its streams have received, in order.
    items: Vec<KeptItem>,
}

/// A message of an upload stream, by the stream's index.
struct KeptItem {
    stream: usize,
    what: Item,
}

/// What an upload stream has received.
pub(super) enum Item {
    Value(Box<[u8]>),
    End(Option<Box<str>>),
}

impl Kept {
    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Keeps a call, and says what it costs.
    pub(super) fn push(&mut self, invocation: &Invocation<'_>) -> usize {
        let call = KeptCall::of(invocation);
        let cost = call.cost();
        self.uploads += usize::from(!call.stream_ids.is_empty());
        self.calls.push_back(call);
        cost
    }

    pub(super) fn front(&self) -> Option<&KeptCall> {
        self.calls.front()
    }

    pub(super) fn pop(&mut self) -> Option<KeptCall> {
        let call = self.calls.pop_front()?;
        self.forget(&call);
        Some(call)
    }

    /// Takes a call out, wherever it stands.
    pub(super) fn remove(&mut self, id: &str) -> Option<KeptCall> {
        let at = self.calls.iter().position(|call| call.id.as_deref() == Some(id))?;
        let call = self.calls.remove(at)?;
        self.forget(&call);
        Some(call)
    }

    /// Keeps what a stream has received, if a kept call will open it, and says what that costs. After its end a stream receives nothing.
    pub(super) fn receive(&mut self, id: &str, what: impl FnOnce() -> Item) -> Option<usize> {
        if self.uploads == 0 {
            return None;
        }
        let (call, stream) = self.calls.iter_mut().find_map(|call| {
            let stream = call.stream_ids.iter().position(|s| **s == *id)?;
            let ended = call.items.iter().any(|item| item.stream == stream && matches!(item.what, Item::End(_)));
            (!ended).then_some((call, stream))
        })?;
        let item = KeptItem { stream, what: what() };
        let cost = item.cost();
        call.items.push(item);
        Some(cost)
    }

    fn forget(&mut self, call: &KeptCall) {
        self.uploads -= usize::from(!call.stream_ids.is_empty());
    }
}

impl KeptCall {
    fn of(invocation: &Invocation<'_>) -> Self {
        let arguments = invocation.arguments.as_ref().map(|raw| (raw.bytes.into(), raw.count)).map_err(Clone::clone);
        Self {
            id: invocation.id.as_deref().map(Into::into),
            target: (&*invocation.target).into(),
            protocol: invocation.arguments.as_ref().map_or(Protocol::Json, |raw| raw.protocol),
            arguments,
            stream_ids: invocation.stream_ids.iter().map(|id| (**id).into()).collect(),
            streaming: invocation.streaming,
            items: Vec::new(),
        }
    }

    pub(super) fn invocation(&self) -> Invocation<'_> {
        let arguments = self.arguments.as_ref();
        Invocation {
            id: self.id.as_deref().map(Cow::Borrowed),
            target: Cow::Borrowed(&self.target),
            arguments: arguments
                .map(|(bytes, count)| RawArguments { protocol: self.protocol, bytes, count: *count })
                .map_err(Clone::clone),
            stream_ids: self.stream_ids.iter().map(|id| Cow::Borrowed(&**id)).collect(),
            streaming: self.streaming,
        }
    }

    pub(super) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    pub(super) fn is_streaming(&self) -> bool {
        self.streaming
    }

    /// Whether it takes one of the places that ordinary calls share.
    pub(super) fn is_ordinary(&self) -> bool {
        is_ordinary(self.streaming, self.stream_ids.len())
    }

    /// What its streams have received, each with the stream's id.
    pub(super) fn items(&self) -> impl Iterator<Item = (&str, &Item)> {
        self.items.iter().map(|item| (&*self.stream_ids[item.stream], &item.what))
    }

    /// Bytes that it is charged with.
    pub(super) fn cost(&self) -> usize {
        let texts = self.id.as_deref().map_or(0, str::len) + self.target.len();
        let arguments = self.arguments.as_ref().map_or(0, |(bytes, _)| bytes.len());
        let streams: usize = self.stream_ids.iter().map(|id| id.len() + size_of::<Box<str>>()).sum();
        let items: usize = self.items.iter().map(KeptItem::cost).sum();
        OVERHEAD + texts + arguments + streams + items
    }
}

impl KeptItem {
    fn cost(&self) -> usize {
        OVERHEAD
            + match &self.what {
                Item::Value(bytes) => bytes.len(),
                Item::End(text) => text.as_deref().map_or(0, str::len),
            }
    }
}

impl Item {
    pub(super) fn value(raw: RawValue<'_>) -> Self {
        Self::Value(raw.bytes.into())
    }

    pub(super) fn end(outcome: &Completed<'_>) -> Self {
        Self::End(error_of(outcome).map(Into::into))
    }
}

/// The error that an upload stream was completed with; a result has no meaning there.
pub(super) fn error_of<'a>(outcome: &'a Completed<'_>) -> Option<&'a str> {
    match outcome {
        Completed::Error(text) => Some(text),
        Completed::Result(_) | Completed::Void => None,
    }
}

pub(super) fn is_ordinary(streaming: bool, streams: usize) -> bool {
    !streaming && streams == 0
}

/// What a kept message is charged besides its bytes.
const OVERHEAD: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn call<'a>(id: &'a str, streams: &[&'a str]) -> Invocation<'a> {
        Invocation {
            id: Some(id.into()),
            target: "Sum".into(),
            arguments: Ok(RawArguments { protocol: Protocol::Json, bytes: b"[1]", count: 1 }),
            stream_ids: streams.iter().map(|s| Cow::Borrowed(*s)).collect(),
            streaming: false,
        }
    }

    #[test]
    fn a_call_comes_back_as_it_was() {
        let mut kept = Kept::default();
        let cost = kept.push(&call("1", &["a", "b"]));
        let back = kept.pop().unwrap();
        assert_eq!(back.invocation(), call("1", &["a", "b"]));
        assert_eq!(back.cost(), cost);
        assert!(kept.is_empty());
    }

    #[test]
    fn items_are_kept_with_their_call_and_leave_with_it() {
        let mut kept = Kept::default();
        let value = || Item::Value(b"7".as_slice().into());
        assert!(kept.receive("a", value).is_none());
        let mut cost = kept.push(&call("1", &["a"]));
        kept.push(&call("2", &[]));
        cost += kept.receive("a", value).unwrap();
        cost += kept.receive("a", || Item::End(None)).unwrap();
        assert!(kept.receive("a", value).is_none(), "it has ended");
        let call = kept.remove("1").unwrap();
        assert_eq!(call.cost(), cost);
        assert_eq!(call.items().map(|(id, _)| id).collect::<Vec<_>>(), ["a", "a"]);
        assert!(kept.receive("a", value).is_none());
        assert_eq!(kept.pop().unwrap().id(), Some("2"));
    }
}
