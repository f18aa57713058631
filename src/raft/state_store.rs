//! openraft's state machine: a `StateMachine` behind a lock, with snapshots in files.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot};
use openraft::{EntryPayload, OptionalSend};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use super::builds::Builds;
use super::countermeasure::{Countermeasure, taken_out};
use super::digests::Digests;
use super::garbage::drop_elsewhere;
use super::machine::{Applied, Restorer, StateMachine};
use super::snapshot_checks::check_install;
use super::types::{Entry, LogId, SnapshotMeta, StoredMembership, TypeConfig};
use crate::storage::health::Reporter;
use crate::storage::snapshot_files::{Life, SnapshotFile, SnapshotFiles, SnapshotWriter};
use crate::types::limits::SNAPSHOT_CHUNK_BYTES;
use crate::types::probe::{Probe, reached};
use crate::types::{LogKey, wire};

/// The machine and how far it is applied, always changed together.
#[derive(Debug)]
pub struct AppliedMachine<M> {
    /// The machine.
    pub machine: M,
    /// Last applied log id.
    pub applied: Option<LogId>,
    /// Last applied membership.
    pub membership: StoredMembership,
    /// Snapshots installed since this process began: a builder whose machine was replaced must not
    /// commit what it has.
    pub installs: u64,
}

/// Shared between openraft's apply task and our readers. A parking_lot lock: held for one entry or
/// one look, never across an await.
pub type SharedMachine<M> = Arc<RwLock<AppliedMachine<M>>>;

/// Snapshot metadata as stored in the file.
#[derive(Serialize, Deserialize)]
pub struct StoredMeta(pub SnapshotMeta);

/// A snapshot on its way in or out.
pub enum SnapshotData<M: StateMachine> {
    /// On disk, to be sent or restored from.
    File(SnapshotFile),
    /// A build that was given up: there is no such snapshot.
    GivenUp,
    /// Received and checked, to be installed.
    Received {
        /// Sealed, not yet published file.
        writer: SnapshotWriter,
        /// The machine it holds.
        machine: Box<M>,
    },
}

/// openraft's view of the machine.
pub struct StateStore<M: StateMachine> {
    key: LogKey,
    /// Of the replica, among the snapshot files.
    life: Life,
    builds: Arc<Builds>,
    storage: Reporter,
    shared: SharedMachine<M>,
    files: Arc<SnapshotFiles>,
    digests: Arc<Digests>,
    /// Held while the current snapshot file and the machine change together. A tokio lock: held
    /// across file work.
    installing: Arc<tokio::sync::Mutex<()>>,
}

impl<M: StateMachine> StateStore<M> {
    /// A fresh machine; openraft installs the current snapshot and replays the log by itself.
    /// Begins another life of the replica among the snapshot files.
    pub fn new(
        key: LogKey,
        machine: M,
        files: Arc<SnapshotFiles>,
        digests: Arc<Digests>,
        storage: Reporter,
    ) -> Self {
        let (life, builds) = (files.enter(key), Arc::default());
        let membership = StoredMembership::default();
        let fresh = AppliedMachine { machine, applied: None, membership, installs: 0 };
        let installing = Arc::default();
        let shared = Arc::new(RwLock::new(fresh));
        StateStore { key, life, builds, storage, shared, files, digests, installing }
    }

    /// What becomes of the snapshots built here.
    pub fn builds(&self) -> Arc<Builds> {
        Arc::clone(&self.builds)
    }

    /// Of the replica, among the snapshot files.
    pub fn life(&self) -> Life {
        self.life
    }

    /// Handle for readers.
    pub fn shared(&self) -> SharedMachine<M> {
        Arc::clone(&self.shared)
    }

    /// The machine in a snapshot, whose file is the current one when this returns.
    async fn restore(
        &self,
        meta: &SnapshotMeta,
        snapshot: SnapshotData<M>,
    ) -> Result<M, io::Error> {
        match snapshot {
            SnapshotData::Received { writer, machine } => {
                self.files.offload(move || writer.publish()).await?;
                Ok(*machine)
            }
            SnapshotData::GivenUp => Err(io::Error::other("no snapshot was built")),
            SnapshotData::File(file) => {
                let restorer = self.shared.read().machine.restorer();
                let (files, at) = (Arc::clone(&self.files), (self.key, self.life));
                let meta = encode_meta(meta);
                self.files.offload(move || restore_file(&files, at, meta, file, restorer)).await
            }
        }
    }

    /// openraft ends the replica for good after such an error; if it is the disk's and not the
    /// file's, the storage begins another life, and the replica in it.
    fn fatal(&self, error: io::Error) -> io::Error {
        // A damaged file, or a replica that was stopped meanwhile.
        let own = matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::Interrupted);
        if !own {
            let text = format!("snapshot of {}: {error}", self.key);
            self.storage.failed("snapshot", &text, error.kind());
        }
        error
    }

    fn apply_one(&self, entry: Entry) -> Result<Applied, io::Error> {
        let (applied, garbage) = self.apply_locked(entry)?;
        drop_elsewhere(&self.files, garbage);
        Ok(applied)
    }

    fn apply_locked(&self, entry: Entry) -> Result<(Applied, Option<Box<dyn Send>>), io::Error> {
        let mut state = self.shared.write();
        let index = entry.log_id.index;
        assert!(state.applied.is_none_or(|id| id.index < index), "entries apply once, in order");
        let applied = match entry.payload {
            EntryPayload::Blank => Applied::Nothing,
            EntryPayload::Normal(payload) => {
                state.machine.apply(index, payload.0).map_err(|e| damaged(self.key, index, &e))?
            }
            EntryPayload::Membership(membership) => {
                state.membership = StoredMembership::new(Some(entry.log_id), membership);
                Applied::Nothing
            }
        };
        state.applied = Some(entry.log_id);
        if Digests::is_checkpoint(index) {
            self.digests.record(index, state.machine.digest());
        }
        Ok((applied, state.machine.take_garbage()))
    }
}

fn damaged(key: LogKey, index: u64, error: &wire::Error) -> io::Error {
    let message = format!("{key}: entry {index} cannot be decoded: {error}");
    io::Error::new(io::ErrorKind::InvalidData, message)
}

impl<M: StateMachine> RaftStateMachine<TypeConfig> for StateStore<M> {
    type SnapshotData = SnapshotData<M>;
    type SnapshotBuilder = SnapshotBuilder<M>;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let state = self.shared.read();
        Ok((state.applied, state.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            let applied = self.apply_one(entry)?;
            // Every responder is answered, or the proposer would wait for ever.
            if let Some(responder) = responder
                && !taken_out(Countermeasure::ApplyAnswer)
            {
                responder.send(applied);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        // Called between applies: the walk begins exactly at `applied`.
        let mut state = self.shared.write();
        state.machine.snapshot_begin();
        let meta =
            SnapshotMeta { last_log_id: state.applied, last_membership: state.membership.clone() };
        SnapshotBuilder {
            key: self.key,
            life: self.life,
            builds: Arc::clone(&self.builds),
            storage: self.storage.clone(),
            shared: Arc::clone(&self.shared),
            files: Arc::clone(&self.files),
            meta,
            installs: state.installs,
            installing: Arc::clone(&self.installing),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotData<M>,
    ) -> Result<(), io::Error> {
        let _installing = self.installing.lock().await;
        let next = match &snapshot {
            SnapshotData::Received { machine, .. } => Some(machine.as_ref()),
            SnapshotData::File(_) | SnapshotData::GivenUp => None,
        };
        // Invariant: log id and log time of the machine only grow. What would take them back ends
        // this replica, not the node.
        check_install(&self.shared.read(), meta.last_log_id, next).map_err(|detail| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{}: {detail}", self.key))
        })?;
        let machine = self.restore(meta, snapshot).await.map_err(|error| self.fatal(error))?;
        self.digests.clear();
        let mut state = self.shared.write();
        *state = AppliedMachine {
            machine,
            applied: meta.last_log_id,
            membership: meta.last_membership.clone(),
            installs: state.installs + 1,
        };
        reached(Probe::SnapshotInstalled);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<M>>, io::Error> {
        current_snapshot(&self.files, self.key).await.map_err(|error| self.fatal(error))
    }
}

/// openraft's snapshot of such a machine.
pub type SnapshotOf<M> = openraft::alias::SnapshotOf<TypeConfig, SnapshotData<M>>;

/// The current snapshot file with the metadata stored in it.
async fn current_snapshot<M: StateMachine>(
    files: &Arc<SnapshotFiles>,
    key: LogKey,
) -> Result<Option<SnapshotOf<M>>, io::Error> {
    let look = Arc::clone(files);
    let Some(file) = files.offload(move || look.current(key)).await? else {
        return Ok(None);
    };
    let StoredMeta(meta) = postcard::from_bytes(&file.meta)
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("{key}: {e}")))?;
    Ok(Some(Snapshot { meta, snapshot: SnapshotData::File(file) }))
}

/// Log id of the snapshot on the disk.
pub async fn snapshot_on_disk<M: StateMachine>(
    files: &Arc<SnapshotFiles>,
    key: LogKey,
) -> Result<Option<LogId>, io::Error> {
    let current = current_snapshot::<M>(files, key).await?;
    Ok(current.and_then(|snapshot| snapshot.meta.last_log_id))
}

/// Metadata as stored in the file and sent ahead of the chunks.
pub fn encode_meta(meta: &SnapshotMeta) -> Bytes {
    postcard::to_stdvec(&StoredMeta(meta.clone())).expect("metadata is plain data").into()
}

/// Restores from a stored file, and keeps a copy of it unless it is the current snapshot already
/// (as it is when openraft recovers).
fn restore_file<R: Restorer>(
    files: &SnapshotFiles,
    (key, life): (LogKey, Life),
    meta: Bytes,
    mut file: SnapshotFile,
    mut restorer: R,
) -> Result<R::Machine, io::Error> {
    let invalid =
        |e: wire::Error| io::Error::new(io::ErrorKind::InvalidData, format!("{key}: {e}"));
    let is_current = files.current(key)?.is_some_and(|current| current.meta == meta);
    let mut copy = if is_current { None } else { Some(files.begin(key, life, "copied")?) };
    while let Some(chunk) = file.next_chunk()? {
        if let Some(copy) = &mut copy {
            copy.append_chunk(chunk.clone())?;
        }
        restorer.push(chunk).map_err(invalid)?;
    }
    let machine = restorer.finish().map_err(invalid)?;
    if let Some(copy) = copy {
        copy.commit(meta)?;
    }
    Ok(machine)
}

/// Walks the machine in chunks, between applies, into a file.
pub struct SnapshotBuilder<M: StateMachine> {
    key: LogKey,
    life: Life,
    builds: Arc<Builds>,
    storage: Reporter,
    shared: SharedMachine<M>,
    files: Arc<SnapshotFiles>,
    meta: SnapshotMeta,
    /// Of the machine that is walked.
    installs: u64,
    installing: Arc<tokio::sync::Mutex<()>>,
}

impl<M: StateMachine> RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder<M> {
    type SnapshotData = SnapshotData<M>;

    /// Never fails: openraft would stop the replica for good, and all that is lost is one snapshot.
    /// The log stays, the compactor tries again.
    async fn build_snapshot(&mut self) -> Result<SnapshotOf<M>, io::Error> {
        match self.build().await {
            Ok(snapshot) => {
                self.builds.ended(false);
                Ok(snapshot)
            }
            Err(error) => {
                self.storage.hiccup("snapshot", &format!("snapshot of {}: {error}", self.key));
                self.builds.ended(true);
                // openraft takes what is not newer than its last for nothing new.
                Ok(Snapshot { meta: SnapshotMeta::default(), snapshot: SnapshotData::GivenUp })
            }
        }
    }
}

impl<M: StateMachine> SnapshotBuilder<M> {
    async fn build(&self) -> Result<SnapshotOf<M>, io::Error> {
        let result = self.walk().await;
        let garbage = {
            let mut state = self.shared.write();
            if state.installs == self.installs {
                state.machine.snapshot_end();
            }
            state.machine.take_garbage()
        };
        drop_elsewhere(&self.files, garbage);
        result?;
        // The one just built, or the one that was installed meanwhile.
        let current = current_snapshot(&self.files, self.key).await?;
        current.ok_or_else(|| io::Error::other("the snapshot just written is gone"))
    }

    /// Writes and commits the file, unless a snapshot of the leader replaces the machine first:
    /// then that one is the newer, and what was walked is no state of the new machine.
    async fn walk(&self) -> Result<(), io::Error> {
        let (files, key, life) = (Arc::clone(&self.files), self.key, self.life);
        let mut writer = self.files.offload(move || files.begin(key, life, "built")).await?;
        loop {
            let chunk = {
                let mut state = self.shared.write();
                if state.installs != self.installs {
                    return Ok(());
                }
                state.machine.snapshot_chunk(SNAPSHOT_CHUNK_BYTES)
            };
            let Some(chunk) = chunk else { break };
            writer =
                self.files.offload(move || writer.append_chunk(chunk).map(|()| writer)).await?;
            // The group goes on between two chunks.
            tokio::task::yield_now().await;
        }
        let _not_installing = self.installing.lock().await;
        if self.shared.read().installs == self.installs {
            let meta = encode_meta(&self.meta);
            self.files.offload(move || writer.commit(meta)).await?;
        }
        Ok(())
    }
}
