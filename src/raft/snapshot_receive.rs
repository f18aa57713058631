//! Receives a snapshot in chunks: each is checked, restored and written as it arrives, so that
//! nothing is held twice. One transfer at a time; a newer one replaces it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use openraft::Raft;
use tokio::sync::Mutex;

use super::frame_codec::encode;
use super::log_store::LogStore;
use super::machine::{Restorer, StateMachine};
use super::snapshot_checks::{follows, log_time_grows};
use super::snapshot_send::{SnapshotFrame, decode_frame};
use super::state_store::{
    SharedMachine, SnapshotData, SnapshotOf, StateStore, StoredMeta, encode_meta,
};
use super::types::{SnapshotMeta, TypeConfig, Vote, term_of};
use crate::storage::health::Reporter;
use crate::storage::snapshot_files::{self, Life, SnapshotFiles, SnapshotWriter};
use crate::transport::Refusal;
use crate::types::LogKey;

struct Incoming<M: StateMachine> {
    id: u64,
    next: u64,
    vote: Vote,
    meta: StoredMeta,
    restorer: M::Restorer,
    writer: SnapshotWriter,
}

/// The receiving side of one replica.
pub struct SnapshotReceiver<M: StateMachine> {
    key: LogKey,
    life: Life,
    files: Arc<SnapshotFiles>,
    machine: SharedMachine<M>,
    log: LogStore,
    storage: Reporter,
    /// A tokio lock: it is held while a chunk is written, and it is fair, so frames that arrived in
    /// order are handled in order.
    incoming: Mutex<Option<Incoming<M>>>,
    /// A snapshot is being installed. Stays true if the call was dropped meanwhile: openraft goes on.
    installs: AtomicBool,
}

fn refuse(what: impl std::fmt::Display) -> Refusal {
    Refusal(format!("snapshot: {what}"))
}

impl<M: StateMachine> SnapshotReceiver<M> {
    pub(super) fn new(
        (key, life): (LogKey, Life),
        files: Arc<SnapshotFiles>,
        machine: SharedMachine<M>,
        log: LogStore,
        storage: Reporter,
    ) -> Self {
        let (incoming, installs) = (Mutex::new(None), AtomicBool::new(false));
        SnapshotReceiver { key, life, files, machine, log, storage, incoming, installs }
    }

    /// True while a snapshot is being installed: the log may be cut already.
    pub(super) fn installs(&self) -> bool {
        self.installs.load(Ordering::Acquire)
    }

    /// A chunk that cannot be kept: the leader begins again later.
    fn not_written(&self, error: &snapshot_files::Error) -> Refusal {
        self.storage.hiccup("snapshot", &format!("snapshot received for {}: {error}", self.key));
        refuse(error)
    }

    /// Serves one frame.
    pub(super) async fn handle(
        &self,
        raft: &Raft<TypeConfig, StateStore<M>>,
        payload: Bytes,
    ) -> Result<Bytes, Refusal> {
        let (id, sequence, frame) = decode_frame(payload).map_err(refuse)?;
        let mut incoming = self.incoming.lock().await;
        match frame {
            SnapshotFrame::Begin { vote, meta } => {
                if incoming.as_ref().is_some_and(|transfer| transfer.vote > vote) {
                    return Err(refuse("a newer leader's transfer is under way"));
                }
                *incoming = Some(self.begin(id, vote, &meta).await?);
                Ok(Bytes::new())
            }
            SnapshotFrame::Chunk(chunk) => {
                let transfer = take_current(&mut incoming, id, sequence)?;
                *incoming = Some(self.chunk(transfer, chunk).await?);
                Ok(Bytes::new())
            }
            SnapshotFrame::End => {
                let transfer = take_current(&mut incoming, id, sequence)?;
                self.install(raft, transfer).await
            }
        }
    }

    async fn begin(&self, id: u64, vote: Vote, meta: &[u8]) -> Result<Incoming<M>, Refusal> {
        let meta = postcard::from_bytes(meta).map_err(refuse)?;
        let (files, key, life) = (Arc::clone(&self.files), self.key, self.life);
        let begun = self.files.offload(move || files.begin(key, life, "received")).await;
        let writer = begun.map_err(|error| self.not_written(&error))?;
        let restorer = self.machine.read().machine.restorer();
        Ok(Incoming { id, next: 1, vote, meta, restorer, writer })
    }

    async fn chunk(&self, mut transfer: Incoming<M>, chunk: Bytes) -> Result<Incoming<M>, Refusal> {
        let kept = self.files.offload(move || {
            let written = transfer.writer.append_chunk(chunk.clone());
            let restored = transfer.restorer.push(chunk);
            transfer.next += 1;
            (written, restored, transfer)
        });
        let (written, restored, transfer) = kept.await;
        written.map_err(|error| self.not_written(&error))?;
        restored.map_err(refuse)?;
        Ok(transfer)
    }

    /// Refuses what openraft would panic at, and what no leader of this group sends: a snapshot from
    /// beyond its leader's term, or one that contradicts what is committed here.
    fn check_grows(&self, meta: &SnapshotMeta, vote: &Vote, machine: &M) -> Result<(), Refusal> {
        let last = meta.last_log_id.ok_or_else(|| refuse("it holds nothing"))?;
        let term = vote.leader_id.term;
        if term_of(&last) > term {
            return Err(refuse(format_args!("{last} is beyond its leader's term {term}")));
        }
        let committed = self.log.committed();
        let state = self.machine.read();
        follows(committed.max(state.applied), last).map_err(refuse)?;
        if Some(last) > state.applied {
            log_time_grows(&state.machine, machine).map_err(refuse)?;
        }
        Ok(())
    }

    async fn install(
        &self,
        raft: &Raft<TypeConfig, StateStore<M>>,
        transfer: Incoming<M>,
    ) -> Result<Bytes, Refusal> {
        let machine = Box::new(transfer.restorer.finish().map_err(refuse)?);
        self.check_grows(&transfer.meta.0, &transfer.vote, machine.as_ref())?;
        // What needs room is written before openraft hears of it, which stops the replica for good
        // if an install fails.
        let (mut writer, meta) = (transfer.writer, encode_meta(&transfer.meta.0));
        let sealed = self.files.offload(move || writer.seal(meta).map(|()| writer)).await;
        let writer = sealed.map_err(|error| self.not_written(&error))?;
        let snapshot = SnapshotOf::<M> {
            meta: transfer.meta.0,
            snapshot: SnapshotData::Received { writer, machine },
        };
        self.installs.store(true, Ordering::Release);
        let response = raft.install_full_snapshot(transfer.vote, snapshot).await;
        self.installs.store(false, Ordering::Release);
        Ok(encode(&response.map_err(refuse)?))
    }
}

/// The transfer that a frame belongs to. A frame of another transfer (an older leader's, or one that
/// came late) is refused and leaves the present one alone; one out of its sequence ends it.
fn take_current<M: StateMachine>(
    incoming: &mut Option<Incoming<M>>,
    id: u64,
    sequence: u64,
) -> Result<Incoming<M>, Refusal> {
    match incoming.as_ref() {
        None => return Err(refuse("no transfer under way")),
        Some(present) if present.id != id => {
            let present = present.id;
            return Err(refuse(format_args!("transfer {id:x} was replaced by {present:x}")));
        }
        Some(_) => {}
    }
    let transfer = incoming.take().expect("looked at above");
    if transfer.next != sequence {
        let next = transfer.next;
        return Err(refuse(format_args!("frame {sequence} where {next} belongs")));
    }
    Ok(transfer)
}
