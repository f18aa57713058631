//! One run: form, work under faults, heal, demand liveness, compare replicas, check the history.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use raftcache::raft::runtime::seed_thread;
use raftcache::types::GroupId;
use raftcache::types::clock::now;
use raftcache::types::countermeasure::take_out;
use raftcache::types::probe::{self, Probe};
use raftcache::types::task;
use tokio_util::sync::CancellationToken;

use crate::book::{Book, Counts};
use crate::client::Client;
use crate::cluster::Cluster;
use crate::nemesis::{self, Happened, Nemesis};
use crate::plan::{Bug, Plan};

/// Virtual time in which a healthy cluster must form, or serve again.
const PATIENCE: Duration = Duration::from_secs(60);

thread_local! {
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// What a run came to.
#[derive(Debug)]
pub struct Outcome {
    pub seed: u64,
    /// What was violated; empty if nothing.
    pub violations: Vec<String>,
    pub counts: Counts,
    pub checked: usize,
    pub faults: u64,
    /// Since the cluster has formed.
    pub elections: u64,
    /// Rare states that were reached.
    pub reached: BTreeMap<Probe, u64>,
    pub virtual_ms: u64,
    pub trace: u64,
    pub lines: Vec<String>,
}

/// Remembers the panics of this thread's tasks, which openraft and tokio keep to themselves.
pub fn watch_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.with(|panics| panics.borrow_mut().push(info.to_string()));
            before(info);
        }));
    });
}

/// Runs a plan in this thread.
pub fn run(plan: Plan, keep_lines: bool) -> Outcome {
    watch_panics();
    PANICS.with(|panics| panics.borrow_mut().clear());
    seed_thread(plan.seed);
    drop(probe::take());
    let _out: Vec<_> = plan.bug.takes_out().iter().map(|which| take_out(*which)).collect();
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true);
    let runtime = builder.build().expect("a runtime without a driver for sockets");
    let mut outcome = runtime.block_on(drive(plan, keep_lines));
    outcome.reached = probe::take();
    // Everything ends here, so that a panic while it ends is seen as well.
    drop(runtime);
    let panics = PANICS.with(|panics| std::mem::take(&mut *panics.borrow_mut()));
    outcome.violations.extend(panics.into_iter().map(|text| format!("panic: {text}")));
    outcome
}

async fn drive(plan: Plan, keep_lines: bool) -> Outcome {
    let book = Book::new();
    if keep_lines {
        book.trace.keep();
    }
    let cluster = Cluster::new(plan.clone());
    let mut violations = Vec::new();
    for id in cluster.ids() {
        cluster.start(id).await;
    }
    let mut happened = Happened::default();
    match formed(&cluster).await {
        Err(problem) => violations.push(problem),
        Ok(()) => {
            book.note(format_args!("formed"));
            happened = under_faults(&cluster, &book).await;
            if plan.bug.is_healed() {
                violations.extend(heals(&cluster, &book).await);
            }
        }
    }
    let (violated, checked) = book.close(&plan);
    violations.extend(violated);
    if cluster.digest_mismatches() > 0 {
        violations.push("INV-3: a replica differed from its leader".to_owned());
    }
    let handler_panics = cluster.network.panics();
    if handler_panics > 0 {
        violations.push(format!("{handler_panics} panics of handlers"));
    }
    let counts = *book.counts.lock();
    Outcome {
        seed: plan.seed,
        violations,
        counts,
        checked,
        faults: happened.faults,
        elections: happened.elections + cluster.terms().saturating_sub(happened.terms_before),
        reached: BTreeMap::new(),
        virtual_ms: book.now_ms(),
        trace: book.trace.hash(),
        lines: book.trace.lines(),
    }
}

/// Clients and nemesis until the last fault is over.
async fn under_faults(cluster: &Arc<Cluster>, book: &Arc<Book>) -> Happened {
    let stop = CancellationToken::new();
    let clients: Vec<_> = (1..=cluster.plan.clients)
        .map(|id| {
            let client = Client::new(id, Arc::clone(cluster), Arc::clone(book));
            task::spawn("client", client.run(stop.clone()))
        })
        .collect();
    let happened = if cluster.plan.bug == Bug::BlankRestart {
        nemesis::blank_restart(cluster).await;
        Happened { faults: cluster.plan.nodes, ..Happened::default() }
    } else {
        Nemesis::new(Arc::clone(cluster), Arc::clone(book)).run().await
    };
    // Clients see the healed cluster as well.
    tokio::time::sleep(Duration::from_secs(1)).await;
    stop.cancel();
    for client in clients {
        client.await.expect("tasks are guarded");
    }
    happened
}

pub async fn formed(cluster: &Cluster) -> Result<(), String> {
    let until = now() + PATIENCE;
    loop {
        let statuses = cluster.statuses();
        let lost = cluster.lost();
        let waits = statuses.iter().filter(|s| !s.ready && !lost.contains(&s.node.0));
        let why: Vec<_> = waits.map(|s| (s.node, &s.not_ready_because)).collect();
        if why.is_empty() {
            return Ok(());
        }
        if now() >= until {
            return Err(format!("liveness: not ready after {PATIENCE:?}: {why:?}"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Everything is whole again: every node must become ready, every shard must serve, and the
/// replicas of each group must become equal.
async fn heals(cluster: &Arc<Cluster>, book: &Arc<Book>) -> Vec<String> {
    cluster.network.set_drop_probability(0.0);
    let mut problems = Vec::new();
    problems.extend(formed(cluster).await.err());
    let mut prober = Client::new(100, Arc::clone(cluster), Arc::clone(book));
    problems.extend(prober.writes_everywhere(PATIENCE).await.err());
    if cluster.plan.seed.is_multiple_of(10) {
        prober.outlives_its_session().await;
    }
    problems.extend(equal(cluster, book).await.err());
    problems
}

/// INV-3: at rest all replicas of a group are at the same index, with the same digest.
pub async fn equal(cluster: &Cluster, book: &Book) -> Result<(), String> {
    let until = now() + PATIENCE;
    loop {
        let mut groups: BTreeMap<GroupId, Vec<(u64, u64, String)>> = BTreeMap::new();
        let lost = cluster.lost();
        for status in cluster.statuses().into_iter().filter(|s| !lost.contains(&s.node.0)) {
            for replica in status.replicas {
                let at = (status.node.0, replica.applied_index, replica.digest);
                groups.entry(replica.group).or_default().push(at);
            }
        }
        let same = |all: &Vec<(u64, u64, String)>| {
            all.windows(2).all(|pair| pair[0].1 == pair[1].1 && pair[0].2 == pair[1].2)
        };
        if groups.values().all(same) {
            book.note(format_args!("{groups:?}"));
            return Ok(());
        }
        if now() >= until {
            return Err(format!("INV-3: replicas did not become equal: {groups:?}"));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
