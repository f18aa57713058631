//! What a client does next.

use raftcache::types::Consistency;

use crate::client::{Client, Held};
use crate::intent::Intent;
use crate::model::If;
use crate::plan::Bug;

/// Age that bounded reads ask for, milliseconds.
const STALENESS_MS_MAX: u64 = 1_000;

impl Client {
    fn value(&self) -> u64 {
        u64::from(self.id) << 32 | self.writes
    }

    /// A key and what to do with it.
    pub(crate) fn choose(&mut self) -> (String, Intent) {
        self.writes += 1;
        let bug = self.cluster.plan.bug;
        match bug {
            Bug::ReusedRequestId | Bug::StaleReads => return self.choose_plain(),
            Bug::EchoLife if self.below(2) == 0 => return self.choose_bounded(),
            Bug::RetryBeforeExpiry if self.below(2) == 0 => return self.choose_counter(),
            Bug::MajorityClock if self.below(2) == 0 => return self.choose_timed(),
            _ => {}
        }
        match self.below(100) {
            0..=36 => self.choose_plain(),
            37..=46 => self.choose_bounded(),
            47..=52 => {
                let slot = self.below(self.cluster.plan.keys);
                (format!("key-{slot}"), Intent::Get { consistency: Consistency::Lease })
            }
            53..=60 => self.choose_pair(),
            61..=69 => self.choose_counter(),
            70..=80 => self.choose_lock(),
            81..=90 => self.choose_fill(),
            91..=95 => self.choose_batch(),
            _ => self.choose_long(),
        }
    }

    fn choose_plain(&mut self) -> (String, Intent) {
        if self.below(6) == 0 {
            let key = format!("mortal-{}", self.below(2));
            let ttl_ms = Some(1 + self.below(4_000));
            let intent = match self.below(8) {
                0..=3 => Intent::Get { consistency: self.reads() },
                4..=6 => Intent::Set { value: self.value(), ttl_ms, condition: If::Always },
                _ => Intent::Delete { condition: If::Always },
            };
            return (key, intent);
        }
        let slot = self.below(self.cluster.plan.keys) as usize;
        (format!("key-{slot}"), self.choose_of(slot))
    }

    fn reads(&self) -> Consistency {
        match self.cluster.plan.bug {
            Bug::StaleReads => Consistency::Stale,
            _ => Consistency::Linearizable,
        }
    }

    /// What to do with a plain key.
    fn choose_of(&mut self, slot: usize) -> Intent {
        let (value, seen) = (self.value(), If::Version(self.seen[slot]));
        let set = |condition| Intent::Set { value, ttl_ms: None, condition };
        match self.below(20) {
            0..=8 => Intent::Get { consistency: self.reads() },
            9..=12 => set(If::Always),
            13 | 14 => set(seen),
            15 => set(If::Absent),
            16 => set(If::Present),
            17 | 18 => Intent::Delete { condition: If::Always },
            _ => Intent::Delete { condition: seen },
        }
    }

    fn choose_bounded(&mut self) -> (String, Intent) {
        let slot = self.below(self.cluster.plan.keys);
        let consistency = Consistency::Bounded { staleness_ms_max: STALENESS_MS_MAX };
        (format!("key-{slot}"), Intent::Get { consistency })
    }

    fn choose_pair(&mut self) -> (String, Intent) {
        let seen = self.seen[self.cluster.plan.keys as usize];
        let set = |value, condition| Intent::SetPair { value, condition };
        let intent = match self.below(5) {
            0 | 1 => Intent::GetPair,
            2 => set(self.value(), If::Always),
            _ if seen == 0 => set(self.value(), If::Absent),
            _ => set(self.value(), If::Version(seen)),
        };
        ("pair".to_owned(), intent)
    }

    fn choose_counter(&mut self) -> (String, Intent) {
        let key = format!("count-{}", self.below(2));
        (key, if self.below(5) == 0 { Intent::Sum } else { Intent::Add })
    }

    /// Takes a lock, or does something with one that was held last, also when it is long over.
    fn choose_lock(&mut self) -> (String, Intent) {
        let ttl_ms = match self.below(4) {
            0 => 600_000,
            _ => 200 + self.below(2_500),
        };
        let known = match self.below(3) {
            0 => None,
            1 => self.locks.front().cloned(),
            _ => self.locks.back().cloned(),
        };
        match known {
            None => (format!("lock-{}", self.below(3)), Intent::Lock { ttl_ms }),
            Some(Held { key, token }) => {
                let intent = match self.below(3) {
                    0 => Intent::Renew { token, ttl_ms },
                    _ => Intent::Unlock { token },
                };
                (key, intent)
            }
        }
    }

    fn choose_fill(&mut self) -> (String, Intent) {
        if self.fill.is_some() && self.below(4) > 0 {
            let Held { key, token } = self.fill.take().expect("looked at above");
            let soft_ms = (self.below(2) == 0).then(|| 100 + self.below(1_500));
            return (key, Intent::Fill { value: self.value(), token, soft_ms });
        }
        let key = format!("fill-{}", self.below(2));
        let intent = match self.below(8) {
            0 => Intent::Set { value: self.value(), ttl_ms: None, condition: If::Always },
            1 | 2 => Intent::Delete { condition: If::Always },
            _ => Intent::GetOrLease { wait_ms: self.below(400), stale_ok: self.below(2) == 0 },
        };
        (key, intent)
    }

    /// Plain keys, each once.
    fn choose_batch(&mut self) -> (String, Intent) {
        let keys = self.cluster.plan.keys;
        let (first, count) = (self.below(keys), 2 + self.below(keys - 1).min(4));
        let part = |i: u64| {
            let slot = (first + i) % keys;
            let intent = match self.choose_of(slot as usize) {
                // Each write has a value of its own.
                Intent::Set { condition, .. } => {
                    self.writes += 1;
                    Intent::Set { value: self.value(), ttl_ms: None, condition }
                }
                other => other,
            };
            (format!("key-{slot}"), intent)
        };
        ("batch".to_owned(), Intent::Batch((0..count.min(keys)).map(part).collect()))
    }

    fn choose_long(&mut self) -> (String, Intent) {
        let key = format!("long-{}", self.below(2));
        let set = Intent::SetLong { value: self.value() };
        (key, if self.below(2) == 0 { set } else { Intent::GetLong })
    }

    /// What ends by itself.
    fn choose_timed(&mut self) -> (String, Intent) {
        if self.below(2) == 0 {
            return self.choose_long();
        }
        (format!("lock-{}", self.below(3)), Intent::Lock { ttl_ms: 600_000 })
    }
}
