use super::Batch;
use std::cell::Cell;

/// Buffers that a worker thread lends to the connection whose turn it is. Taken out, not borrowed: user code may run meanwhile, and
/// whatever it does on this thread finds the place empty and gets buffers of its own.
pub(super) struct Lent {
    pub(super) read: Box<[u8]>,
    pub(super) replies: Vec<u8>,
    pub(super) batch: Batch,
}

impl Lent {
    pub(super) fn take() -> Box<Self> {
        LENT.take().unwrap_or_else(|| {
            Box::new(Self { read: vec![0; READ_SIZE].into(), replies: Vec::new(), batch: Batch::default() })
        })
    }

    pub(super) fn give_back(mut self: Box<Self>) {
        self.replies.clear();
        self.replies.shrink_to(LARGEST_KEPT);
        LENT.set(Some(self));
    }
}

thread_local! {
    static LENT: Cell<Option<Box<Lent>>> = const { Cell::new(None) };
}

/// The size from which a larger buffer reads no faster.
const READ_SIZE: usize = 32 * 1024;
/// A reply buffer that grew past this is not kept.
const LARGEST_KEPT: usize = 256 * 1024;
