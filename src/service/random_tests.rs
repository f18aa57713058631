//! INV-5 and INV-6 under random faults: seeded, under virtual time.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::advance;

use super::fake::*;
use super::*;
use crate::types::task::spawn;
use crate::types::*;

/// Marsaglia's xorshift64: the same seed, the same run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn disturb(cluster: &Cluster, random: &mut Random) {
    match random.below(10) {
        0 => cluster.lead(None),
        1..4 => cluster.lead(Some(1 + random.below(3))),
        4 => cluster.fault(Fault::LoseAfterApply),
        5 => cluster.fault(Fault::LoseBeforeApply),
        6 => cluster.fault(match random.below(3) {
            0 => Fault::Hang,
            1 => Fault::Fail(Reason::ResourceExhausted { what: "group queue", limit: 1 }),
            _ => Fault::Refuse(Refusal::NotOwner { epoch: RoutingEpoch(1) }),
        }),
        _ => {
            let cut = match random.below(4) {
                0 => Cut::Unreachable,
                1 => Cut::LoseAnswer,
                2 => Cut::LoseFrame,
                _ => Cut::DeliverLate,
            };
            cluster.cut(1 + random.below(3), cut);
        }
    }
}

/// How many writes ended well, refused, unknown.
async fn run(seed: u64) -> [usize; 3] {
    let mut random = Random(seed);
    let cluster = Cluster::new(4, &[1, 2, 3], Some(1));
    let mut runs = Vec::new();
    for index in 0..60 {
        disturb(&cluster, &mut random);
        let key = format!("key-{index}");
        let service = cluster.node(1 + random.below(4));
        let request = set(&key, 20 + random.below(400));
        runs.push(spawn("test", async move { (key, service.execute(request).await) }));
        advance(Duration::from_millis(random.below(12))).await;
    }
    let ends = join_all(runs).await;
    // What was delivered late arrives.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut applied: BTreeMap<String, usize> = BTreeMap::new();
    for write in &cluster.shard.state.lock().applied {
        let Command::Set(set) = &write.command else { unreachable!("only sets were sent") };
        *applied.entry(String::from_utf8(set.key.to_vec()).unwrap()).or_default() += 1;
    }
    let mut counts = [0; 3];
    for end in ends {
        let (key, result) = end.unwrap().unwrap();
        let times = applied.get(&key).copied().unwrap_or(0);
        assert!(times <= 1, "INV-6, seed {seed}: {key} applied {times} times");
        match result.as_ref().map_err(Error::outcome) {
            Ok(_) => assert_eq!(times, 1, "INV-2, seed {seed}: {key} {result:?}"),
            Err(Outcome::Rejected) => assert_eq!(times, 0, "INV-5, seed {seed}: {key} {result:?}"),
            Err(Outcome::Unknown) => {}
        }
        counts[match result.map_err(|error| error.outcome()) {
            Ok(_) => 0,
            Err(Outcome::Rejected) => 1,
            Err(Outcome::Unknown) => 2,
        }] += 1;
    }
    counts
}

#[test]
fn outcomes_are_honest_and_writes_happen_once_whatever_breaks() {
    let mut counts = [0; 3];
    for seed in 1..=150 {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        for (sum, count) in counts.iter_mut().zip(runtime.block_on(run(seed))) {
            *sum += count;
        }
    }
    // The faults must really have bitten, and most writes must have come through all the same.
    assert!(counts[1] > 50 && counts[2] > 50, "{counts:?}");
    assert!(counts[0] > counts[1] + counts[2], "{counts:?}");
}
