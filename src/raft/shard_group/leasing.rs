//! Reads that may end in a fill: a hit, a stale value, the key's one token, or a wait for who has it.

use std::time::Duration;

use tokio::time::sleep_until;

use super::ShardGroup;
use crate::core::machine::{Due, Refillable, Refilled};
use crate::raft::leases::{Entered, Waiter};
use crate::raft::runtime::draw;
use crate::types::clock::{Instant, now};
use crate::types::probe::{Probe, reached};
use crate::types::{Command, Error, GetOrLease, Leased, Reason, Write};

/// An answer leaves this much before its caller stops waiting, or an eighth of its time if that is
/// less.
const ANSWER_MARGIN_MAX: Duration = Duration::from_millis(20);

/// What a look at the key came to.
enum Step {
    Answer(Leased),
    /// Somebody else fills it, until then at most.
    Wait(Waiter, Instant),
}

/// What a value asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Need {
    Nothing,
    /// To be filled again although it is fresh.
    Early,
    /// It is stale, for so many milliseconds.
    Refill(u64),
}

/// Whether a value is to be filled again. A fresh one may be, the sooner the longer it took to work
/// out: XFetch (Vattani, Chierichetti, Lowenstein, VLDB 2015) with its gap of
/// `cost * beta * -ln(chance)` before the value gets stale. `chance` is above 0 and at most 1.
fn need(value: &Refilled, beta_milli: u32, chance: f64) -> Need {
    if let Some(stale_ms) = value.stale_ms {
        return Need::Refill(stale_ms);
    }
    let gap_ms = f64::from(value.cost_ms) * f64::from(beta_milli) / 1_000.0 * -chance.ln();
    match value.fresh_ms {
        Some(fresh_ms) if (fresh_ms as f64) < gap_ms => Need::Early,
        _ => Need::Nothing,
    }
}

impl ShardGroup {
    /// Reads a key, or hands out the right to fill it, or waits for who has it. Only on the leader.
    ///
    /// # Errors
    /// As a linearizable read; `WrongKind` for a lock; `ResourceExhausted` if too many wait.
    pub async fn get_or_lease(&self, ask: &GetOrLease, deadline: Instant) -> Result<Leased, Error> {
        self.check_leader()?;
        self.inner.barrier.pass(deadline).await?;
        let began = now();
        let margin = (deadline.saturating_duration_since(began) / 8).min(ANSWER_MARGIN_MAX);
        let until = (began + Duration::from_millis(ask.wait_ms)).min(deadline - margin);
        // 0 is left out: its logarithm is none.
        let chance = 1.0 - draw::<f64>();
        let leased = loop {
            match self.look(ask, chance, now() < until) {
                Err(Due(due_ms)) => self.tick(due_ms, deadline).await?,
                Ok(Err(error)) => return Err(error),
                Ok(Ok(Step::Answer(leased))) => break leased,
                Ok(Ok(Step::Wait(mut waiter, token_end))) => {
                    // If it was lost since the look, nobody here would hear of a fill.
                    let leader = self.leader();
                    self.check_leader()?;
                    tokio::select! {
                        biased;
                        () = self.inner.cancel.cancelled() => return Err(Reason::Stopping.into()),
                        () = waiter.changed() => reached(Probe::FillAwaited),
                        _ = self.leader_changed(leader) => {}
                        () = sleep_until(until.min(token_end)) => {}
                    }
                    self.check_leader()?;
                }
            }
        };
        let name = match &leased {
            Leased::Hit(_) => "hit",
            Leased::Stale { .. } => "stale",
            Leased::Fill { .. } => "fill",
            Leased::Busy => "busy",
        };
        self.inner.lease_answers.with_label_values(&[name]).inc();
        Ok(leased)
    }

    /// One look, under the machine's lock: no change comes between what is seen and the caller's place
    /// among those who fill or wait. After a barrier each later state may be shown as well: it holds
    /// what was acknowledged before the call, and nothing that is not committed.
    fn look(
        &self,
        ask: &GetOrLease,
        chance: f64,
        may_wait: bool,
    ) -> Result<Result<Step, Error>, Due> {
        let inner = &self.inner;
        let term = inner.replica.leader().map_or(0, |leader| leader.term);
        inner.replica.with_applied(|machine, _, _| {
            let now_ms = inner.clock.now_ms(term, machine.log_time_ms());
            let (value, need) = match machine.refillable(&ask.key, now_ms)? {
                Refillable::WrongKind => return Ok(Err(Reason::WrongKind.into())),
                Refillable::Absent => (None, Need::Refill(0)),
                Refillable::Value(value) => {
                    if let Some(hash) = machine.wants_touch(&ask.key) {
                        inner.touches.push(hash);
                    }
                    let need = need(&value, ask.beta_milli, chance);
                    (Some(value.found), need)
                }
            };
            if let (Some(found), Need::Nothing) = (&value, need) {
                return Ok(Ok(Step::Answer(Leased::Hit(found.clone()))));
            }
            let hash = machine.hash_of(&ask.key);
            let entered = inner.leases.enter((hash, &ask.key), term, draw);
            let token_ms = inner.replica.settings().leases.token.as_millis();
            let token_ms = u64::try_from(token_ms).unwrap_or(u64::MAX);
            // Who has a value to serve needs no token: too many of them are no concern of his.
            Ok(match (entered, value, need) {
                (Ok(Entered::Token(token)), found, _) => {
                    Ok(Step::Answer(Leased::Fill { token, token_ms, found }))
                }
                (_, Some(found), Need::Early | Need::Nothing) => {
                    Ok(Step::Answer(Leased::Hit(found)))
                }
                (_, Some(found), Need::Refill(age_ms)) if ask.stale_ok => {
                    Ok(Step::Answer(Leased::Stale { found, age_ms }))
                }
                (Err(error), _, _) => Err(error),
                (Ok(Entered::Taken(_)), _, _) if !may_wait => Ok(Step::Answer(Leased::Busy)),
                (Ok(Entered::Taken(end)), _, _) => {
                    inner.leases.wait(hash, &ask.key).map(|waiter| Step::Wait(waiter, end))
                }
            })
        })
    }

    /// Vouches for the fills whose token is good: nothing happened to their key up to what is applied
    /// here. What happens between that and the fill's own place in the log is seen when it is applied;
    /// a fill without a word for it is refused there, so that a retry of one that was applied gets its
    /// first answer and not a refusal.
    pub(super) fn vouch(&self, writes: &mut [Write]) {
        for write in writes {
            let Command::Fill(fill) = &mut write.command else { continue };
            let term = self.inner.replica.leader().map_or(0, |leader| leader.term);
            fill.since = self.inner.replica.with_applied(|machine, _, index| {
                let at = (machine.hash_of(&fill.key), &fill.key[..]);
                self.inner.leases.is_good(at, term, fill.token).then(|| machine.last_version(index))
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Found, Value, ValueKind, Version};

    fn value(stale_ms: Option<u64>, fresh_ms: Option<u64>) -> Refilled {
        let value = Value { data: "v".into(), kind: ValueKind::Text };
        let found = Found { value, version: Version(1), ttl_ms: None };
        Refilled { found, stale_ms, fresh_ms, cost_ms: 100 }
    }

    #[test]
    fn a_refresh_comes_early_as_often_as_xfetch_says() {
        assert_eq!(need(&value(Some(3), Some(0)), 0, 1.0), Need::Refill(3));
        assert_eq!(need(&value(None, None), 1_000, f64::MIN_POSITIVE), Need::Nothing);
        assert_eq!(need(&value(None, Some(100)), 0, f64::MIN_POSITIVE), Need::Nothing);
        // A value that took 100 ms and has 100 ms left is refreshed by one caller of e.
        let early = (1..=1_000u32)
            .filter(|n| {
                need(&value(None, Some(100)), 1_000, f64::from(*n) / 1_000.0) == Need::Early
            })
            .count();
        assert!((360..=370).contains(&early), "{early} of 1000, 1/e is 368");
        let twice = (1..=1_000u32)
            .filter(|n| {
                need(&value(None, Some(100)), 2_000, f64::from(*n) / 1_000.0) == Need::Early
            })
            .count();
        assert!((600..=610).contains(&twice), "{twice} of 1000, 1/sqrt(e) is 607");
    }
}
