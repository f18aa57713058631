//! openraft's runtime: tokio, with random numbers that a simulation can seed.
//!
//! openraft ships `DeterministicRng`, whose seed lives in a task-local and which panics outside a
//! scope; our own tasks call openraft from everywhere, so the seed is kept per thread instead (a
//! simulation runs in one thread).

use std::cell::Cell;
use std::future::Future;
use std::time::Duration;

use openraft::OptionalSend;
use openraft_rt::AsyncRuntime;
use openraft_rt_tokio::TokioRuntime;
use rand::distr::{Distribution, StandardUniform};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::ordered_watch::OrderedWatch;

thread_local! {
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Makes every random number that the Raft layer draws on this thread a function of `seed`:
/// election time-outs, fill tokens.
pub fn seed_thread(seed: u64) {
    SEED.with(|cell| cell.set(Some(seed)));
}

/// A number that nobody else draws: of a transfer, of a replica's life. A simulation's follow from
/// its seed.
pub(super) fn random_u64() -> u64 {
    use rand::RngExt;
    SeededRuntime::thread_rng().random()
}

/// Tokio with seedable random numbers.
#[derive(Debug)]
pub struct SeededRuntime {
    inner: TokioRuntime,
}

/// SplitMix64, Steele et al. 2014.
fn mix(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Random numbers, which the seed of the thread decides if it has one.
fn random() -> SmallRng {
    let seeded = SEED.with(|cell| {
        let seed = cell.get()?;
        cell.set(Some(mix(seed)));
        Some(seed)
    });
    match seeded {
        Some(seed) => SmallRng::seed_from_u64(mix(seed ^ 0x5bd1_e995)),
        None => rand::make_rng(),
    }
}

/// One random number.
pub(super) fn draw<T>() -> T
where
    StandardUniform: Distribution<T>,
{
    match SEED.get() {
        Some(_) => random().random(),
        None => rand::random(),
    }
}

impl AsyncRuntime for SeededRuntime {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = <TokioRuntime as AsyncRuntime>::Instant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> =
        <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = SmallRng;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        TokioRuntime::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(join_error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        random()
    }

    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = OrderedWatch;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn new(threads: usize) -> Self {
        SeededRuntime { inner: TokioRuntime::new(threads) }
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.inner.block_on(future)
    }
}
