//! What a store went through: random changes, with its files before and after one batch each.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;

use bytes::Bytes;

use super::image::Image;
use crate::storage::engine::Engine;
use crate::storage::engine_wal::EngineWal;
use crate::storage::wal::{FlushMode, Recovered, Wal, WalOp};
use crate::storage::wal_suite::{Model, entries, key};
use crate::types::LogKey;
use crate::types::metrics::Metrics;
use crate::types::random::Random;

/// A number below `end`.
pub(super) fn below(random: &mut Random, end: usize) -> usize {
    (random.bits() % end.max(1) as u64) as usize
}

/// What one log was, change by change: first before the batch, last after it.
#[derive(Clone, Debug)]
pub(super) struct LogStates {
    pub(super) log: LogKey,
    pub(super) states: Vec<Recovered>,
}

/// One batch: the files when all before it was acknowledged, and when it was.
#[derive(Clone, Debug)]
pub(super) struct Round {
    pub(super) before: Image,
    pub(super) after: Image,
    pub(super) logs: Vec<LogStates>,
}

/// Holds the flusher in the acknowledgement of `op`, so that its files stand still and what is
/// submitted meanwhile becomes one batch. Gives what tells that it is there, and what holds it.
fn hold(wal: &dyn Wal, log: LogKey, op: WalOp) -> (mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (reached, is_reached) = mpsc::channel();
    let (let_go, may_go) = mpsc::channel::<()>();
    let done = move |result: Result<(), _>| {
        result.unwrap();
        reached.send(()).unwrap();
        // Ends when the sender is dropped.
        let _ = may_go.recv();
    };
    wal.submit(log, op, Box::new(done));
    (is_reached, let_go)
}

fn submit(wal: &dyn Wal, log: LogKey, op: WalOp) {
    wal.submit(log, op, Box::new(|result| result.unwrap()));
}

fn random_op(random: &mut Random, model: &Model, salt: u64) -> WalOp {
    let next = model.next();
    let floor = model.purged.as_ref().map(|p| p.0);
    let back = |random: &mut Random| next.checked_sub(below(random, 6) as u64 + 1);
    let tag = Bytes::from(salt.to_le_bytes().to_vec());
    match below(random, 16) {
        0 => WalOp::Vote(tag),
        1 => WalOp::Committed(tag),
        2 if next > 0 => {
            let after = back(random).max(floor);
            WalOp::TruncateAfter(after)
        }
        3 | 4 if back(random).is_some() => {
            let index = back(random).max(floor).unwrap_or(0);
            WalOp::Purge { index, marker: tag }
        }
        _ => {
            let count = 1 + below(random, 4) as u64;
            let bytes = if below(random, 12) == 0 { 9_000 } else { below(random, 400) };
            WalOp::Append(entries(salt, next, count, bytes))
        }
    }
}

/// Changes three logs that stay and, round by round, one that comes and goes.
pub(super) fn write<E: Engine>(
    path: &Path,
    sizes: &E::Sizes,
    seed: u64,
    rounds: u64,
) -> Vec<Round> {
    let mut random = Random::new(seed);
    let wal: Arc<EngineWal<E>> =
        EngineWal::open_with(path, Metrics::new(), FlushMode::Always, sizes).unwrap();
    let lasting = [key(1, 1), key(2, 5), key(3, 9)];
    let mut models = vec![Model::default(); lasting.len()];
    for log in lasting {
        wal.open(log).unwrap();
    }
    let mut done = Vec::new();
    for round in 0..rounds {
        let passing = key(9, round + 1);
        if round > 0 {
            wal.remove(key(9, round)).unwrap();
        }
        wal.open(passing).unwrap();
        // As long a life as a file or two of it, so that there is something to give back.
        for step in 0..below(&mut random, 30) as u64 {
            let at = below(&mut random, lasting.len());
            let op = random_op(&mut random, &models[at], (round << 16) + step);
            models[at].apply(&op);
            submit(wal.as_ref(), lasting[at], op);
        }
        let vote = WalOp::Vote(Bytes::from(round.to_le_bytes().to_vec()));
        models[0].apply(&vote);
        let (reached, held) = hold(wal.as_ref(), lasting[0], vote);
        reached.recv().unwrap();
        let before = Image::take(path);
        let mut logs: Vec<LogStates> = lasting
            .iter()
            .zip(&models)
            .map(|(log, model)| LogStates { log: *log, states: vec![model.recovered()] })
            .collect();
        let mut born = Model::default();
        logs.push(LogStates { log: passing, states: vec![born.recovered()] });
        for step in 0..1 + below(&mut random, 7) as u64 {
            let at = below(&mut random, logs.len());
            let model = models.get_mut(at).unwrap_or(&mut born);
            let op = random_op(&mut random, model, (round << 16) + 1000 + step);
            model.apply(&op);
            logs[at].states.push(model.recovered());
            submit(wal.as_ref(), logs[at].log, op);
        }
        let last = WalOp::Vote(Bytes::from_static(b"last"));
        born.apply(&last);
        logs[lasting.len()].states.push(born.recovered());
        let gone = LogStates { log: key(9, round), states: vec![Model::default().recovered()] };
        logs.push(gone);
        // Held already: the queue fills while the flusher waits; then all of it is one batch.
        let (reached, last_held) = hold(wal.as_ref(), passing, last);
        drop(held);
        reached.recv().unwrap();
        let after = Image::take(path);
        drop(last_held);
        done.push(Round { before, after, logs });
    }
    wal.close().unwrap();
    done
}
