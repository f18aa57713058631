//! Lets the tasks that are ready go first.

use std::task::{Context, Poll};

/// A step back behind the tasks that are ready, once. tokio runs a task that was just woken before
/// them (its LIFO slot), so what it gathers would leave one by one. An idle runtime comes back at
/// once: a step costs a poll, not time.
#[derive(Debug, Default)]
pub(super) struct StepBack {
    made: bool,
}

impl StepBack {
    /// `Pending` the first time, with the task woken already; then ready, until [`StepBack::again`].
    pub(super) fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.made {
            return Poll::Ready(());
        }
        self.made = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// What was gathered has left: the next time steps back anew.
    pub(super) fn again(&mut self) {
        self.made = false;
    }
}
