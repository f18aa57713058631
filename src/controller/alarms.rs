//! Alarms as a node deals with them: shows each once in its log, tells the controller of one, and has
//! them acknowledged. Which are active stands in the routing table.

use std::sync::Arc;

use tokio::time::timeout_at;

use super::handle::{Controller, internal};
use crate::core::cluster::alarms::{AckAlarms, Alarm, Alarms, RaiseAlarm};
use crate::core::cluster::{ClusterCommand, ClusterReply};
use crate::types::clock::Instant;
use crate::types::{Error, Reason, RoutingEpoch};

impl Controller {
    /// Has the controller keep an alarm until an operator acknowledges it. Telling it again changes
    /// nothing.
    ///
    /// # Errors
    /// As `propose`; `InvalidArgument` for an alarm that cannot be.
    pub async fn raise_alarm(&self, raise: RaiseAlarm, deadline: Instant) -> Result<(), Error> {
        self.changed(ClusterCommand::RaiseAlarm(raise), deadline).await.map(|_| ())
    }

    /// Ends alarms; answers those that are still active, once this node shows it.
    ///
    /// # Errors
    /// As `propose`; `InvalidArgument` if an alarm never was, and then none is acknowledged.
    pub async fn acknowledge(
        &self,
        which: AckAlarms,
        deadline: Instant,
    ) -> Result<Vec<Alarm>, Error> {
        let epoch = self.changed(ClusterCommand::AckAlarms(which), deadline).await?;
        self.saw_epoch(self.node(), epoch);
        let mut tables = self.table();
        let shown = timeout_at(deadline, tables.wait_for(|table| table.epoch >= epoch)).await;
        match shown {
            Ok(Ok(table)) => Ok(table.alarms.active().to_vec()),
            // It was done, but what is active now is not known here.
            Ok(Err(_)) | Err(_) => Err(Reason::DeadlineAfterPropose.into()),
        }
    }

    async fn changed(
        &self,
        command: ClusterCommand,
        deadline: Instant,
    ) -> Result<RoutingEpoch, Error> {
        match self.propose(&command, deadline).await? {
            ClusterReply::Done { epoch } => Ok(epoch),
            ClusterReply::Invalid { problem } => {
                let (field, problem) = match problem.split_once(": ") {
                    Some(("ids", problem)) => ("ids", problem.to_owned()),
                    _ => ("alarm", problem),
                };
                Err(Reason::InvalidArgument { field, problem }.into())
            }
            other => Err(internal(format!("the controller answered {other:?}"))),
        }
    }

    /// Writes each alarm to the log of this node, once in the life of the process.
    pub(super) async fn keep_alarms(&self) {
        let mut tables = self.table();
        let mut told = 0;
        loop {
            let table = Arc::clone(&tables.borrow_and_update());
            told = tell(&table.alarms, told);
            if tables.changed().await.is_err() {
                return;
            }
        }
    }
}

/// Warns of alarms above the id `told`; answers up to which id it is told now.
fn tell(alarms: &Alarms, told: u64) -> u64 {
    let news = alarms.active().iter().filter(|alarm| alarm.id > told);
    for alarm in news {
        tracing::warn!(
            alarm = alarm.id,
            kind = alarm.kind.name(),
            shard = alarm.shard.0,
            count = alarm.count,
            "alarm: {alarm}; see raftcache alarm list"
        );
    }
    alarms.active().last().map_or(told, |last| last.id.max(told))
}
