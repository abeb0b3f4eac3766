//! Holds back the end of an upload.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;

/// Holds back the last byte of an upload until it is opened. The server keeps
/// nothing of a path that lacks it.
#[derive(Default)]
pub struct Gate {
    open: AtomicBool,
    sender: AtomicWaker,
    reached: Notify,
}

impl Gate {
    /// Returns a gate that holds nothing back.
    pub fn opened() -> Self {
        Self { open: AtomicBool::new(true), ..Self::default() }
    }

    /// Lets the end of the upload go.
    pub fn open(&self) {
        self.open.store(true, Ordering::Release);
        self.sender.wake();
    }

    /// Returns when an upload has been held back for so long, and is still.
    pub async fn held_for(&self, limit: Duration) {
        self.reached.notified().await;
        tokio::time::sleep(limit).await;
        if self.open.load(Ordering::Acquire) {
            std::future::pending::<()>().await;
        }
    }

    pub(super) fn poll_open(&self, cx: &Context<'_>) -> Poll<()> {
        // First this, so that an opening in between is not missed.
        self.sender.register(cx.waker());
        if self.open.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        self.reached.notify_one();
        Poll::Pending
    }
}
