//! A value and those who wait for it to change, woken in the order in which they began to wait.
//!
//! tokio's `watch` wakes them in an order drawn from random numbers of its runtime, which only a build
//! with `--cfg tokio_unstable` can seed: two runs of one seed of a simulation would differ. What both
//! have in common works alike here.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::{RwLock, RwLockReadGuard};
use tokio::sync::Notify;

/// Every sender is gone, and the last value has been seen.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("nobody changes the value any more")]
pub struct Closed;

#[derive(Debug)]
struct Shared<T> {
    // parking_lot: a look or a change, never across an await.
    value: RwLock<T>,
    /// Grows with each change. Invariant: changes only under the lock for writing.
    version: AtomicU64,
    senders: AtomicUsize,
    receivers: AtomicUsize,
    changed: Notify,
}

/// Changes the value.
#[derive(Debug)]
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

/// Sees the value, and waits for its changes.
#[derive(Debug)]
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    /// Version that was seen last.
    seen: u64,
}

/// The value; nobody can change it until this is dropped. It must not live across an await.
#[derive(Debug)]
pub struct Ref<'a, T>(RwLockReadGuard<'a, T>);

impl<T> Deref for Ref<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// A value with one who changes it and one who waits.
pub fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
    let sender = Sender::new(value);
    let receiver = sender.subscribe();
    (sender, receiver)
}

impl<T: Default> Default for Sender<T> {
    fn default() -> Self {
        Sender::new(T::default())
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.shared.senders.fetch_add(1, Ordering::Relaxed);
        Sender { shared: Arc::clone(&self.shared) }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if self.shared.senders.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.changed.notify_waiters();
        }
    }
}

impl<T> Sender<T> {
    /// A value that nobody waits for yet.
    pub fn new(value: T) -> Self {
        let shared = Shared {
            value: RwLock::new(value),
            version: AtomicU64::new(0),
            senders: AtomicUsize::new(1),
            receivers: AtomicUsize::new(0),
            changed: Notify::new(),
        };
        Sender { shared: Arc::new(shared) }
    }

    /// One more who waits; the value of now counts as seen.
    pub fn subscribe(&self) -> Receiver<T> {
        self.shared.receivers.fetch_add(1, Ordering::Relaxed);
        let seen = self.shared.version.load(Ordering::Acquire);
        Receiver { shared: Arc::clone(&self.shared), seen }
    }

    /// The value.
    pub fn borrow(&self) -> Ref<'_, T> {
        Ref(self.shared.value.read())
    }

    /// True if nobody can see the value but the senders.
    pub fn is_unwatched(&self) -> bool {
        self.shared.receivers.load(Ordering::Acquire) == 0
    }

    /// Changes the value; those who wait are woken if `change` says that it did.
    pub fn send_if_modified(&self, change: impl FnOnce(&mut T) -> bool) -> bool {
        let changed = {
            let mut value = self.shared.value.write();
            let changed = change(&mut value);
            if changed {
                self.shared.version.fetch_add(1, Ordering::Release);
            }
            changed
        };
        if changed {
            self.shared.changed.notify_waiters();
        }
        changed
    }

    /// Changes the value and wakes those who wait.
    pub fn send_modify(&self, change: impl FnOnce(&mut T)) {
        self.send_if_modified(|value| {
            change(value);
            true
        });
    }

    /// Puts another value and gives the one of before.
    pub fn send_replace(&self, mut value: T) -> T {
        self.send_modify(|old| std::mem::swap(old, &mut value));
        value
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.shared.receivers.fetch_add(1, Ordering::Relaxed);
        Receiver { shared: Arc::clone(&self.shared), seen: self.seen }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.receivers.fetch_sub(1, Ordering::AcqRel);
    }
}

impl<T> Receiver<T> {
    /// The value; whether it counts as seen stays as it is.
    pub fn borrow(&self) -> Ref<'_, T> {
        Ref(self.shared.value.read())
    }

    /// The value, which counts as seen from now on.
    pub fn borrow_and_update(&mut self) -> Ref<'_, T> {
        let value = self.shared.value.read();
        self.seen = self.shared.version.load(Ordering::Acquire);
        Ref(value)
    }

    /// The value of now counts as seen, without a look at it.
    pub fn mark_unchanged(&mut self) {
        self.seen = self.shared.version.load(Ordering::Acquire);
    }

    /// Waits for a value that was not seen, which counts as seen then.
    pub async fn changed(&mut self) -> Result<(), Closed> {
        // A task that always finds a change lets others run.
        tokio::task::coop::consume_budget().await;
        loop {
            // Made before the look: a change after it wakes this one even if it does not wait yet.
            let changed = self.shared.changed.notified();
            let open = self.shared.senders.load(Ordering::Acquire) > 0;
            let version = self.shared.version.load(Ordering::Acquire);
            if version != self.seen {
                self.seen = version;
                return Ok(());
            }
            if !open {
                return Err(Closed);
            }
            changed.await;
        }
    }

    /// Waits until the value meets a condition, and shows that value, which counts as seen.
    pub async fn wait_for(
        &mut self,
        mut met: impl FnMut(&T) -> bool,
    ) -> Result<Ref<'_, T>, Closed> {
        tokio::task::coop::consume_budget().await;
        loop {
            let changed = self.shared.changed.notified();
            let open = self.shared.senders.load(Ordering::Acquire) > 0;
            {
                let value = self.shared.value.read();
                self.seen = self.shared.version.load(Ordering::Acquire);
                if met(&value) {
                    return Ok(Ref(value));
                }
            }
            if !open {
                return Err(Closed);
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use parking_lot::Mutex;

    use super::*;
    use crate::types::task::spawn;

    #[tokio::test]
    async fn a_change_is_seen_once_and_a_closed_one_is_told() {
        let (sender, mut receiver) = channel(1);
        let late = sender.subscribe();
        assert!(sender.send_if_modified(|value| {
            *value = 2;
            true
        }));
        receiver.changed().await.unwrap();
        assert_eq!(*receiver.borrow(), 2);
        assert!(!sender.send_if_modified(|value| {
            *value = 3;
            false
        }));
        assert_eq!(sender.send_replace(4), 3, "a silent change is seen with the next");
        assert_eq!(*receiver.borrow_and_update(), 4);
        drop(sender);
        assert_eq!(receiver.changed().await, Err(Closed));
        let mut late = late;
        assert_eq!(late.changed().await, Ok(()), "what was not seen comes first");
        assert_eq!(late.changed().await, Err(Closed));
        assert!(late.wait_for(|value| *value == 5).await.is_err());
        assert_eq!(*late.wait_for(|value| *value == 4).await.unwrap(), 4);
    }

    #[tokio::test]
    async fn nobody_watches_once_the_last_one_is_gone() {
        let sender = Sender::new(());
        assert!(sender.is_unwatched());
        let receiver = sender.subscribe();
        let other = receiver.clone();
        drop(receiver);
        assert!(!sender.is_unwatched());
        drop(other);
        assert!(sender.is_unwatched());
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_are_woken_in_the_order_in_which_they_began() {
        let sender = Sender::new(0);
        let order = Arc::new(Mutex::new(Vec::new()));
        for id in 0..32 {
            let (mut receiver, order) = (sender.subscribe(), Arc::clone(&order));
            spawn("waits", async move {
                while receiver.changed().await.is_ok() {
                    order.lock().push(id);
                }
                order.lock().push(100 + id);
            });
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        sender.send_modify(|value| *value += 1);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(*order.lock(), (0..32).collect::<Vec<_>>());
        drop(sender);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(order.lock()[32..], (100..132).collect::<Vec<_>>());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_change_is_missed_between_threads() {
        const CHANGES: u64 = 20_000;
        let (sender, mut receiver) = channel(0);
        let mut other = receiver.clone();
        let waits = spawn("waits", async move { other.wait_for(|n| *n == CHANGES).await.is_ok() });
        let counts = spawn("counts", async move {
            let mut last = 0;
            while receiver.changed().await.is_ok() {
                let now = *receiver.borrow();
                assert!(now >= last, "the value does not go back");
                last = now;
            }
            last
        });
        for _ in 0..CHANGES {
            sender.send_modify(|value| *value += 1);
            tokio::task::yield_now().await;
        }
        assert_eq!(waits.await.unwrap(), Some(true));
        drop(sender);
        assert_eq!(counts.await.unwrap(), Some(CHANGES));
    }
}
