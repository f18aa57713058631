//! What every engine must do, run against each: a model, random changes, restarts and crashes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::engine::Engine;
use super::engine_wal::EngineWal;
use super::raft_engine_wal::{RaftEngine, Sizes};
use super::sim_wal::{SimDisk, SimWal};
use super::sled_wal::Sled;
use super::wal::{Error, FlushMode, Wal, WalOp};
pub(super) use super::wal_model::{Model, entries, key};
use crate::types::LogKey;
use crate::types::metrics::Metrics;

pub(super) type Answer = oneshot::Receiver<Result<(), Error>>;

/// A store and how to start it again.
pub(super) trait Subject {
    fn wal(&self) -> Arc<dyn Wal>;
    fn wait(&self, answer: Answer) -> Result<(), Error>;
    fn submit(&self, key: LogKey, op: WalOp) -> Answer {
        submit(self.wal().as_ref(), key, op)
    }
    fn restart(&mut self);
    /// Starts again from what is on the device, without any chance to flush.
    fn crash(&mut self);
}

pub(super) fn submit(wal: &dyn Wal, key: LogKey, op: WalOp) -> Answer {
    let (sender, receiver) = oneshot::channel();
    wal.submit(key, op, Box::new(move |result| drop(sender.send(result))));
    receiver
}

pub(super) struct OnDisk<E: Engine> {
    pub(super) dir: TempDir,
    path: PathBuf,
    mode: FlushMode,
    sizes: E::Sizes,
    wal: Option<Arc<EngineWal<E>>>,
}

/// So small that files are closed, written anew and given back all the time.
pub(super) fn small() -> Sizes {
    Sizes { file_bytes: 8 << 10, purge_bytes: 16 << 10 }
}

pub(super) fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

impl<E: Engine> OnDisk<E> {
    pub(super) fn new(mode: FlushMode, sizes: E::Sizes) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0");
        let mut subject = OnDisk { dir, path, mode, sizes, wal: None };
        subject.open();
        subject
    }

    fn open(&mut self) {
        let wal = EngineWal::open_with(&self.path, Metrics::new(), self.mode, &self.sizes);
        self.wal = Some(wal.unwrap());
    }
}

impl<E: Engine> Subject for OnDisk<E> {
    fn wal(&self) -> Arc<dyn Wal> {
        Arc::clone(self.wal.as_ref().unwrap()) as Arc<dyn Wal>
    }

    fn wait(&self, answer: Answer) -> Result<(), Error> {
        answer.blocking_recv().unwrap()
    }

    fn restart(&mut self) {
        self.wal.take().unwrap().close().unwrap();
        self.open();
    }

    fn crash(&mut self) {
        // What a killed process leaves is what the kernel has: the files as they are now.
        let number: u32 = self.path.file_name().unwrap().to_str().unwrap().parse().unwrap();
        let image = self.dir.path().join((number + 1).to_string());
        copy_dir(&self.path, &image);
        let killed = std::mem::replace(&mut self.path, image);
        self.open();
        std::fs::remove_dir_all(&killed).unwrap();
    }
}

struct Sim {
    disk: Arc<SimDisk>,
    runtime: Runtime,
    wal: Arc<SimWal>,
}

const DELAY: Duration = Duration::from_millis(3);

impl Sim {
    fn new(seed: u64) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let disk = SimDisk::new(seed);
        let wal = SimWal::new(Arc::clone(&disk), DELAY);
        Sim { disk, runtime, wal }
    }
}

impl Subject for Sim {
    fn wal(&self) -> Arc<dyn Wal> {
        Arc::clone(&self.wal) as Arc<dyn Wal>
    }

    fn submit(&self, key: LogKey, op: WalOp) -> Answer {
        let _inside = self.runtime.enter();
        submit(self.wal.as_ref(), key, op)
    }

    fn wait(&self, answer: Answer) -> Result<(), Error> {
        self.runtime.block_on(answer).unwrap()
    }

    fn restart(&mut self) {
        self.wal.close().unwrap();
        self.wal = SimWal::new(Arc::clone(&self.disk), DELAY);
    }

    fn crash(&mut self) {
        self.disk.crash();
        self.wal = SimWal::new(Arc::clone(&self.disk), DELAY);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append { count: u64, bytes: usize },
    Truncate(u64),
    TruncateAll,
    Purge(u64),
    PurgePastEnd(u64),
    Vote,
    Committed,
    Restart,
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
    let step = prop_oneof![
        8 => (1u64..6, prop_oneof![4 => 0usize..200, 1 => 30_000usize..150_000])
            .prop_map(|(count, bytes)| Step::Append { count, bytes }),
        2 => (0u64..8).prop_map(Step::Truncate),
        1 => Just(Step::TruncateAll),
        3 => (0u64..8).prop_map(Step::Purge),
        1 => (1u64..20).prop_map(Step::PurgePastEnd),
        2 => Just(Step::Vote),
        3 => Just(Step::Committed),
        1 => Just(Step::Restart),
        1 => Just(Step::Crash),
    ];
    proptest::collection::vec((0usize..3, step), 1..60)
}

fn op_of(step: &Step, model: &Model, salt: u64) -> Option<WalOp> {
    let next = model.next();
    let floor = model.purged.as_ref().map_or(0, |p| p.0);
    let tag = Bytes::from(salt.to_le_bytes().to_vec());
    Some(match step {
        Step::Append { count, bytes } => WalOp::Append(entries(salt, next, *count, *bytes)),
        Step::Truncate(back) => WalOp::TruncateAfter(Some(next.checked_sub(back + 1)?.max(floor))),
        Step::TruncateAll => WalOp::TruncateAfter(None),
        Step::Purge(back) => {
            let index = next.checked_sub(back + 1)?.max(floor);
            WalOp::Purge { index, marker: tag }
        }
        Step::PurgePastEnd(ahead) => WalOp::Purge { index: next + ahead, marker: tag },
        Step::Vote => WalOp::Vote(tag),
        Step::Committed => WalOp::Committed(tag),
        Step::Restart | Step::Crash => return None,
    })
}

/// Random changes of three logs, with restarts and crashes while nothing is unacknowledged: each
/// time the logs are exactly what was acknowledged (INV-2).
fn keeps_what_it_acknowledged(engine: &mut dyn Subject, steps: &[(usize, Step)]) {
    let keys = [key(0, 1), key(1, 7), key(1, 8)];
    let mut models = vec![Model::default(); keys.len()];
    let check = |engine: &dyn Subject, models: &[Model]| {
        for (key, model) in keys.iter().zip(models) {
            assert_eq!(engine.wal().open(*key).unwrap(), model.recovered(), "{key}");
        }
        let present: Vec<LogKey> =
            keys.iter().zip(models).filter(|(_, m)| m.written).map(|(k, _)| *k).collect();
        assert_eq!(engine.wal().keys().unwrap(), present);
    };
    check(engine, &models);
    let mut answers = Vec::new();
    for (salt, (log, step)) in steps.iter().enumerate() {
        if let Some(op) = op_of(step, &models[*log], salt as u64) {
            models[*log].apply(&op);
            answers.push(engine.submit(keys[*log], op));
            continue;
        }
        for answer in answers.drain(..) {
            engine.wait(answer).unwrap();
        }
        match step {
            Step::Restart => engine.restart(),
            Step::Crash => {
                // A committed marker need not be flushed by itself; a vote carries it along.
                let vote = WalOp::Vote(Bytes::from_static(b"flush"));
                models[*log].apply(&vote);
                let answer = engine.submit(keys[*log], vote);
                engine.wait(answer).unwrap();
                engine.crash();
            }
            _ => continue,
        }
        check(engine, &models);
    }
    // Not waited for: a clean close flushes what is queued.
    engine.restart();
    check(engine, &models);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn sled_keeps_what_it_acknowledged(steps in steps()) {
        keeps_what_it_acknowledged(&mut OnDisk::<Sled>::new(FlushMode::Always, ()), &steps);
    }

    #[test]
    fn raft_engine_keeps_what_it_acknowledged(steps in steps()) {
        let mut engine = OnDisk::<RaftEngine>::new(FlushMode::Always, Sizes::default());
        keeps_what_it_acknowledged(&mut engine, &steps);
    }

    #[test]
    fn raft_engine_with_small_files_keeps_what_it_acknowledged(steps in steps()) {
        let mut engine = OnDisk::<RaftEngine>::new(FlushMode::Always, small());
        keeps_what_it_acknowledged(&mut engine, &steps);
    }

    #[test]
    fn sim_keeps_what_it_acknowledged(steps in steps(), seed in any::<u64>()) {
        keeps_what_it_acknowledged(&mut Sim::new(seed), &steps);
    }
}

fn on_each(test: impl Fn(&mut dyn Subject)) {
    for mode in [FlushMode::Always, FlushMode::Every(Duration::from_millis(2))] {
        test(&mut OnDisk::<Sled>::new(mode, ()));
        test(&mut OnDisk::<RaftEngine>::new(mode, Sizes::default()));
        test(&mut OnDisk::<RaftEngine>::new(mode, small()));
    }
    test(&mut Sim::new(1));
}

fn append(engine: &dyn Subject, key: LogKey, from: u64, count: u64) -> Result<(), Error> {
    let answer = engine.submit(key, WalOp::Append(entries(1, from, count, 10)));
    engine.wait(answer)
}

#[test]
fn a_removed_log_is_gone_and_the_others_stay() {
    on_each(|engine| {
        for k in [key(1, 1), key(1, 2)] {
            engine.wal().open(k).unwrap();
            append(engine, k, 0, 3).unwrap();
        }
        engine.wal().remove(key(1, 1)).unwrap();
        assert_eq!(engine.wal().keys().unwrap(), [key(1, 2)]);
        engine.restart();
        assert_eq!(engine.wal().keys().unwrap(), [key(1, 2)]);
        assert!(engine.wal().open(key(1, 1)).unwrap().fresh);
        assert_eq!(engine.wal().open(key(1, 2)).unwrap().records.len(), 3);
    });
}

#[test]
fn what_is_queued_before_a_removal_does_not_come_back() {
    on_each(|engine| {
        engine.wal().open(key(1, 1)).unwrap();
        append(engine, key(1, 1), 0, 3).unwrap();
        for index in 3..40 {
            drop(engine.submit(key(1, 1), WalOp::Append(entries(1, index, 1, 10))));
        }
        engine.wal().remove(key(1, 1)).unwrap();
        assert!(engine.wal().keys().unwrap().is_empty());
        engine.restart();
        assert!(engine.wal().keys().unwrap().is_empty());
        assert!(engine.wal().open(key(1, 1)).unwrap().fresh);
    });
}

#[test]
fn after_close_everything_is_refused() {
    on_each(|engine| {
        engine.wal().open(key(1, 1)).unwrap();
        append(engine, key(1, 1), 0, 1).unwrap();
        engine.wal().close().unwrap();
        assert!(matches!(append(engine, key(1, 1), 1, 1), Err(Error::Closed)));
        assert!(matches!(engine.wal().open(key(1, 2)), Err(Error::Closed)));
        assert!(matches!(engine.wal().keys(), Err(Error::Closed)));
    });
}

#[test]
fn acknowledgements_come_in_order() {
    on_each(|engine| {
        engine.wal().open(key(1, 1)).unwrap();
        let seen = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let mut last = None;
        for index in 0..200 {
            let seen = Arc::clone(&seen);
            let op = if index % 3 == 2 {
                WalOp::Committed(Bytes::from_static(b"c"))
            } else {
                WalOp::Vote(Bytes::from_static(b"v"))
            };
            last = Some(engine.submit(key(1, 1), op));
            let note = WalOp::Committed(Bytes::new());
            let wal = engine.wal();
            wal.submit(key(1, 1), note, Box::new(move |r| seen.lock().push((index, r.is_ok()))));
        }
        engine.wait(last.unwrap()).unwrap();
        engine.wal().close().unwrap();
        let expected: Vec<_> = (0..200).map(|index| (index, true)).collect();
        assert_eq!(*seen.lock(), expected);
    });
}

fn a_gap_poisons(engine: &dyn Subject) {
    for k in [key(1, 1), key(1, 2)] {
        engine.wal().open(k).unwrap();
    }
    append(engine, key(1, 1), 0, 3).unwrap();
    assert!(append(engine, key(1, 1), 4, 1).is_err());
    assert!(append(engine, key(1, 1), 3, 1).is_err(), "poisoned");
    append(engine, key(1, 2), 0, 1).unwrap();
}

#[test]
fn a_gap_in_what_is_submitted_poisons_the_log() {
    a_gap_poisons(&OnDisk::<Sled>::new(FlushMode::Always, ()));
    a_gap_poisons(&OnDisk::<RaftEngine>::new(FlushMode::Always, small()));
}
