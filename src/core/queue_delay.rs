//! When a queue is overloaded and who is refused then: by how long operations waited in it, not by
//! how many there are.
//!
//! CoDel (Nichols and Jacobson 2012, RFC 8289) as servers use it (Maurer 2015, "Fail at Scale", ACM
//! Queue 13(8)). A queue that empties now and then, or whose operations are sometimes served soon,
//! only smooths bursts, however long it is. One in which every operation of an `interval` waited
//! for the `target` or longer stands: it adds delay and no throughput. Then
//! - an operation that has waited for more than twice the target is refused when it is taken, so
//!   that the time goes to callers that still wait;
//! - no more is let in than is served within one and a half targets at the present pace
//!   ([`QueueDelay::room`]), so that the rest is refused at once instead of late.
//!
//! It ends when the queue is short (an operation served sooner than the target, or none left) and
//! nobody had to be refused for an interval; then everything is let in again. Being short alone says
//! nothing while others are turned away at the entrance: without the second condition the queue would
//! swing between empty and far too long. Pure: time is an argument, in microseconds of any one clock that does not go back.

/// Operations that may be queued whatever the pace: so few are no overload.
const ROOM_MIN: u64 = 16;

/// What delay a queue may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DelayLimits {
    /// Longest wait that is nobody's concern, microseconds.
    pub target_us: u64,
    /// How long the waits must have been longer before anyone is refused, microseconds.
    pub interval_us: u64,
}

impl DelayLimits {
    /// Limits in milliseconds.
    pub fn from_ms(target_ms: u64, interval_ms: u64) -> Self {
        DelayLimits {
            target_us: target_ms.saturating_mul(1_000),
            interval_us: interval_ms.saturating_mul(1_000),
        }
    }

    /// What an overloaded queue refuses to serve any more, microseconds of waiting.
    pub fn refused_us(&self) -> u64 {
        self.target_us.saturating_mul(2)
    }
}

/// What becomes of an operation that has been taken off the queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Verdict {
    /// It is served.
    Serve,
    /// It has waited too long in a queue that stands.
    Refuse,
}

/// One queue, as its server sees it.
#[derive(Clone, Debug)]
pub struct QueueDelay {
    limits: DelayLimits,
    /// Since when every operation taken has waited for the target or longer.
    above_since_us: Option<u64>,
    /// Invariant: only with `above_since_us`.
    overloaded: bool,
    /// Last time anyone was refused, or the overload began.
    refused_at_us: u64,
    /// Beginning of the present measurement of the pace.
    window_from_us: u64,
    /// Operations served since.
    window_served: u64,
    /// The queue was empty meanwhile: what was served says how much came, not how much could.
    window_emptied: bool,
    /// Operations served within one and a half targets, as last measured.
    room: Option<u64>,
}

impl QueueDelay {
    /// An empty queue.
    pub fn new(limits: DelayLimits) -> Self {
        QueueDelay {
            limits,
            above_since_us: None,
            overloaded: false,
            refused_at_us: 0,
            window_from_us: 0,
            window_served: 0,
            window_emptied: false,
            room: None,
        }
    }

    /// `operations` were taken together at `now_us`, after `waited_us` in the queue.
    pub fn take(&mut self, now_us: u64, waited_us: u64, operations: usize) -> Verdict {
        if waited_us < self.limits.target_us {
            self.calm(now_us);
        } else {
            match self.above_since_us {
                None => {
                    self.above_since_us = Some(now_us);
                    self.room = None;
                    self.measure_from(now_us);
                }
                Some(since_us) if !self.overloaded => {
                    let stood_us = now_us.saturating_sub(since_us);
                    if stood_us >= self.limits.interval_us {
                        self.overloaded = true;
                        self.refused_at_us = now_us;
                    }
                }
                Some(_) => {}
            }
        }
        if self.overloaded && waited_us > self.limits.refused_us() {
            self.refused(now_us);
            return Verdict::Refuse;
        }
        self.measure(now_us, operations);
        assert!(!self.overloaded || self.above_since_us.is_some(), "overload has a beginning");
        Verdict::Serve
    }

    /// Somebody was not let in for want of [`QueueDelay::room`].
    pub fn refused(&mut self, now_us: u64) {
        self.refused_at_us = now_us;
    }

    /// Nothing is left in the queue.
    pub fn emptied(&mut self, now_us: u64) {
        self.window_emptied = true;
        self.calm(now_us);
    }

    /// So little is asked for that whatever waits does not wait for others.
    pub fn idle(&mut self) {
        self.above_since_us = None;
        self.overloaded = false;
    }

    /// True while the queue stands.
    pub fn overloaded(&self) -> bool {
        self.overloaded
    }

    /// Operations that may be in the queue; `usize::MAX` unless it is overloaded.
    pub fn room(&self) -> usize {
        match self.room {
            Some(room) if self.overloaded => usize::try_from(room).unwrap_or(usize::MAX),
            _ => usize::MAX,
        }
    }

    /// The limits.
    pub fn limits(&self) -> DelayLimits {
        self.limits
    }

    /// The queue is short.
    fn calm(&mut self, now_us: u64) {
        let quiet_us = now_us.saturating_sub(self.refused_at_us);
        if !self.overloaded || quiet_us >= self.limits.interval_us {
            self.idle();
        }
    }

    fn measure_from(&mut self, now_us: u64) {
        (self.window_from_us, self.window_served, self.window_emptied) = (now_us, 0, false);
    }

    /// Counts what is served, and measures the pace once an interval.
    fn measure(&mut self, now_us: u64, operations: usize) {
        self.window_served = self.window_served.saturating_add(operations as u64);
        let took_us = now_us.saturating_sub(self.window_from_us);
        if took_us == 0 || took_us < self.limits.interval_us {
            return;
        }
        if self.window_emptied {
            self.measure_from(now_us);
            return;
        }
        let within_us = u128::from(self.limits.target_us) * 3 / 2;
        let room = u128::from(self.window_served) * within_us / u128::from(took_us);
        self.room = Some(u64::try_from(room).unwrap_or(u64::MAX).max(ROOM_MIN));
        self.measure_from(now_us);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const MS: u64 = 1_000;
    const TARGET: u64 = 20 * MS;
    const INTERVAL: u64 = 100 * MS;

    fn limits() -> DelayLimits {
        DelayLimits { target_us: TARGET, interval_us: INTERVAL }
    }

    /// A server that serves one operation in `cost_us`, in front of it the queue under test.
    struct Server {
        queue: VecDeque<u64>,
        delay: QueueDelay,
        cost_us: u64,
        now_us: u64,
        served: Vec<(u64, u64)>,
        refused_late: u64,
        refused_early: u64,
        longest: usize,
    }

    impl Server {
        fn new(cost_us: u64) -> Self {
            Server {
                queue: VecDeque::new(),
                delay: QueueDelay::new(limits()),
                cost_us,
                now_us: 0,
                served: Vec::new(),
                refused_late: 0,
                refused_early: 0,
                longest: 0,
            }
        }

        /// Runs for `for_us`; one operation arrives every `every_us`.
        fn run(&mut self, for_us: u64, every_us: u64) {
            let end = self.now_us + for_us;
            let mut next_arrival = self.now_us;
            while self.now_us < end {
                while next_arrival <= self.now_us {
                    if self.queue.len() < self.delay.room() {
                        self.queue.push_back(next_arrival);
                    } else {
                        self.refused_early += 1;
                        self.delay.refused(self.now_us);
                    }
                    next_arrival += every_us;
                }
                self.longest = self.longest.max(self.queue.len());
                self.serve(next_arrival);
            }
        }

        /// One operation, or idle until the next arrival. A refusal costs next to nothing.
        fn serve(&mut self, next_arrival: u64) {
            let Some(queued) = self.queue.pop_front() else {
                self.delay.emptied(self.now_us);
                self.now_us = next_arrival;
                return;
            };
            let waited = self.now_us - queued;
            match self.delay.take(self.now_us, waited, 1) {
                Verdict::Serve => {
                    self.served.push((self.now_us, waited));
                    self.now_us += self.cost_us;
                }
                Verdict::Refuse => self.refused_late += 1,
            }
            if self.queue.is_empty() {
                self.delay.emptied(self.now_us);
            }
        }

        fn longest_wait(&self, from_us: u64) -> u64 {
            let late = self.served.iter().filter(|(at, _)| *at >= from_us);
            late.map(|(_, waited)| *waited).max().unwrap_or(0)
        }
    }

    #[test]
    fn at_ten_times_the_load_the_admitted_wait_near_the_target_and_goodput_stays() {
        // 1,000 a second are served, 10,000 a second come.
        let mut server = Server::new(MS);
        server.run(10_000 * MS, 100);
        let goodput = server.served.len() as f64 / 10_000.0;
        assert!(goodput > 0.99, "served {goodput} of what could be served");
        // The onset: nobody is refused before the queue has stood for an interval.
        let onset = server.longest_wait(0);
        assert!(onset <= INTERVAL + 2 * TARGET, "{onset} us");
        let steady = server.longest_wait(500 * MS);
        assert!(steady <= 2 * TARGET, "{steady} us");
        let early = server.refused_early as f64;
        let all = early + server.refused_late as f64;
        assert!(early / all > 0.95, "{early} of {all} were refused at once");
        assert!(server.longest < 1_500, "{} queued at most", server.longest);
    }

    #[test]
    fn without_it_the_queue_would_grow_without_end() {
        let mut server = Server::new(MS);
        server.delay = QueueDelay::new(DelayLimits { target_us: u64::MAX, interval_us: INTERVAL });
        server.run(2_000 * MS, 100);
        assert!(server.longest_wait(0) > 1_500 * MS);
    }

    #[test]
    fn after_the_overload_everything_is_let_in_at_once() {
        let mut server = Server::new(MS);
        server.run(2_000 * MS, 100);
        assert!(server.delay.overloaded());
        let (early, late) = (server.refused_early, server.refused_late);
        let over = server.now_us;
        // Half of what can be served.
        server.run(2_000 * MS, 2 * MS);
        let refused = server.refused_early - early + server.refused_late - late;
        assert!(refused <= 2 * TARGET / (2 * MS), "{refused} refused after the overload");
        assert!(!server.delay.overloaded());
        assert_eq!(server.delay.room(), usize::MAX);
        assert!(server.longest_wait(over + 2 * TARGET) < TARGET);
    }

    #[test]
    fn a_burst_is_smoothed_and_nobody_refused() {
        let mut server = Server::new(MS);
        for _ in 0..20 {
            // 60 at once, then silence: the last waits for 60 ms, three times the target.
            (0..60).for_each(|_| server.queue.push_back(server.now_us));
            server.run(200 * MS, 200 * MS);
        }
        assert_eq!((server.refused_early, server.refused_late), (0, 0));
        assert!(server.served.len() >= 20 * 60);
    }

    #[test]
    fn a_pause_of_the_server_is_no_overload() {
        let mut delay = QueueDelay::new(limits());
        // Everything waited for a second, for example for an election, and is then taken at once.
        for i in 0..10_000 {
            assert_eq!(delay.take(1_000 * MS + i, 1_000 * MS, 1), Verdict::Serve);
        }
        delay.emptied(1_010 * MS);
        assert_eq!(delay.take(2_000 * MS, TARGET, 1), Verdict::Serve);
        assert!(!delay.overloaded());
    }

    #[test]
    fn room_follows_the_pace() {
        let mut delay = QueueDelay::new(limits());
        // Batches of 50 every 10 ms: 5,000 a second, so 150 in one and a half targets.
        for i in 0..100u64 {
            let _ = delay.take(i * 10 * MS, TARGET + MS, 50);
        }
        assert!((140..=170).contains(&delay.room()), "{}", delay.room());
        // The server is now ten times slower.
        for i in 0..20u64 {
            let _ = delay.take((1_000 + i * 100) * MS, TARGET + MS, 50);
        }
        assert_eq!(delay.room(), ROOM_MIN as usize);
    }
}
