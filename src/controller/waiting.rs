//! What a node that does not take part yet waits for, and what it was told in vain.

use std::time::Duration;

use tokio::time::timeout;

use super::handle::{Controller, ControllerSettings, Standing};
use crate::core::table::{Formed, RoutingTable};
use crate::types::Error;
use crate::types::clock::{Instant, now};

/// How often a node says what it waits for, and who of another cluster calls it.
pub(super) const TELL_EVERY: Duration = Duration::from_secs(30);

/// Which wait it is: each is told at once when it begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Forming,
    Joining,
    Placing,
}

/// When the wait was told last.
#[derive(Debug, Default)]
struct Telling {
    told: Option<(Stage, Instant)>,
}

impl Telling {
    /// Whether a wait in `stage` is told at `at`: when it begins, then every `TELL_EVERY`.
    fn due(&mut self, stage: Option<Stage>, at: Instant) -> bool {
        let due = match (stage, self.told) {
            (None, _) => false,
            (Some(stage), Some((told, last))) => stage != told || at >= last + TELL_EVERY,
            (Some(_), None) => true,
        };
        match stage {
            Some(stage) if due => self.told = Some((stage, at)),
            Some(_) => {}
            None => self.told = None,
        }
        due
    }
}

fn waits(standing: &Standing, table: &RoutingTable) -> Option<(Stage, String)> {
    match standing {
        Standing::Forming { waiting_for } => Some((Stage::Forming, waiting_for.clone())),
        Standing::Joining { waiting_for } => Some((Stage::Joining, waiting_for.clone())),
        Standing::Registered { .. } if table.slots.is_empty() => {
            let (known, wanted) = (table.nodes.len(), table.formed.nodes_min);
            Some((Stage::Placing, format!("{wanted} nodes to register: {known} have")))
        }
        Standing::Registered { .. }
        | Standing::StoreLost { .. }
        | Standing::Failed { .. }
        | Standing::Refused { .. } => None,
    }
}

/// Settings of this node that count for nothing, because the cluster was formed with others.
fn ignored(own: &ControllerSettings, formed: &Formed) -> Vec<String> {
    let expected = u64::try_from(own.expected()).unwrap_or(u64::MAX);
    let settings = [
        ("cluster.expected_nodes", expected, u64::from(formed.nodes_min)),
        ("cluster.shards", u64::from(own.shards), u64::from(formed.shards)),
        ("cluster.replicas", u64::from(own.replicas), u64::from(formed.replicas)),
        ("cluster.shard_bytes_max", own.bytes_max, formed.bytes_max),
    ];
    let differ = settings.into_iter().filter(|(_, own, formed)| own != formed);
    let text = |(key, own, formed)| {
        format!("{key} is {own} here and is ignored: the cluster was formed with {formed}")
    };
    differ.map(text).collect()
}

impl Controller {
    /// What this node waits for before it takes part, if it does.
    pub fn waiting_for(&self) -> Option<String> {
        let table = self.inner.table.borrow().clone();
        waits(&self.inner.standing.borrow(), &table).map(|(_, what)| what)
    }

    /// Settings of this node that the cluster does not use, each with both values.
    pub fn ignored_settings(&self) -> Vec<String> {
        let table = self.inner.table.borrow().clone();
        if table.cluster_id == 0 {
            return Vec::new();
        }
        ignored(&self.inner.settings, &table.formed)
    }

    /// Why the cluster refuses this life of the node.
    pub(super) fn superseded(&self, known: u64) -> String {
        format!(
            "the cluster has seen start {known} of node {} and its data directory, and this is start {}: \
             it is an old copy, or its process runs twice. Never restore a data directory: give the \
             node the newest one",
            self.node().0,
            self.inner.settings.incarnation
        )
    }

    /// What a node waits for that cannot register.
    pub(super) fn no_controller(&self, error: &Error) -> String {
        let formation = self.inner.formation.lock();
        let foreign = formation.foreigners();
        let silent: Vec<String> =
            formation.unanswered().into_iter().map(|(_, seed)| seed).collect();
        let silent: Vec<&String> =
            silent.iter().filter(|seed| foreign.iter().all(|(known, ..)| known != *seed)).collect();
        let mut text = format!("the controller's leader, to register this node ({error})");
        if !silent.is_empty() {
            text += &format!("; seeds {silent:?} do not answer");
        }
        for (seed, peer, cluster_id) in foreign {
            text += &format!("; seed {seed} is {peer} of another cluster, {cluster_id:032x}");
        }
        text
    }

    /// Says what is waited for: when a wait begins, and then every 30 s.
    pub(super) async fn keep_telling(&self) {
        let (mut standings, mut tables) = (self.standing(), self.table());
        let mut telling = Telling::default();
        // The first look at the seeds has not ended yet.
        let _ = timeout(TELL_EVERY, standings.changed()).await;
        loop {
            let table = tables.borrow_and_update().clone();
            let wait = waits(&standings.borrow_and_update(), &table);
            let at = now();
            if telling.due(wait.as_ref().map(|(stage, _)| *stage), at)
                && let Some((_, waiting_for)) = &wait
            {
                tracing::warn!(waiting_for, "the node waits");
            }
            let next = telling.told.map_or(at, |(_, last)| last) + TELL_EVERY;
            tokio::select! {
                biased;
                changed = standings.changed() => if changed.is_err() { return },
                changed = tables.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(next), if wait.is_some() => {}
            }
        }
    }

    /// Says once which settings are ignored.
    pub(super) async fn tell_ignored(&self) {
        let mut tables = self.table();
        if tables.wait_for(|table| table.cluster_id != 0).await.is_err() {
            return;
        }
        let ignored = self.ignored_settings();
        if !ignored.is_empty() {
            tracing::warn!("{}", ignored.join("; "));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_told_when_it_begins_and_then_every_30_s() {
        let (begin, mut telling) = (now(), Telling::default());
        let mut due = |stage, after| telling.due(stage, begin + Duration::from_secs(after));
        let told: Vec<u64> = (0..100).filter(|s| due(Some(Stage::Forming), *s)).collect();
        assert_eq!(told, [0, 30, 60, 90]);
        assert!(due(Some(Stage::Joining), 101), "another wait is told at once");
        assert!(!due(Some(Stage::Joining), 102) && !due(None, 103));
        assert!(due(Some(Stage::Joining), 104), "it began again");
    }
}
