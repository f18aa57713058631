//! What a snapshot must meet before it takes the place of a machine: log id and log time only grow.

use super::machine::StateMachine;
use super::state_store::AppliedMachine;
use super::types::LogId;

/// A snapshot that is newer than `known` must also reach further: else both name committed entries
/// of one index.
pub fn follows(known: Option<LogId>, last: LogId) -> Result<(), String> {
    match known {
        Some(known) if last > known && last.index <= known.index => {
            Err(format!("{last} contradicts {known}, which is committed here"))
        }
        _ => Ok(()),
    }
}

/// A newer machine's log time is not earlier.
pub fn log_time_grows<M: StateMachine>(present: &M, next: &M) -> Result<(), String> {
    let (present_ms, next_ms) = (present.log_time_ms(), next.log_time_ms());
    if next_ms < present_ms {
        return Err(format!("its log time {next_ms} ms is before {present_ms} ms"));
    }
    Ok(())
}

/// What openraft installs: not older than the machine that is there, and as above.
pub fn check_install<M: StateMachine>(
    present: &AppliedMachine<M>,
    last: Option<LogId>,
    next: Option<&M>,
) -> Result<(), String> {
    if last < present.applied {
        return Err(format!("a snapshot of {last:?} is older than the machine"));
    }
    last.map_or(Ok(()), |last| follows(present.applied, last))?;
    next.map_or(Ok(()), |next| log_time_grows(&present.machine, next))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::machine::{Machine, MachineConfig};
    use crate::core::slot_set::SlotSet;
    use crate::raft::types::log_id;
    use crate::types::Batch;

    #[test]
    fn a_newer_snapshot_reaches_further() {
        let known = Some(log_id(3, 9));
        assert!(follows(None, log_id(1, 0)).is_ok());
        for last in [log_id(3, 10), log_id(4, 10), log_id(3, 9), log_id(2, 12)] {
            assert!(follows(known, last).is_ok(), "{last}");
        }
        for last in [log_id(4, 9), log_id(4, 3)] {
            assert!(follows(known, last).unwrap_err().contains("contradicts"), "{last}");
        }
    }

    #[test]
    fn log_time_does_not_go_back() {
        let config = |hash_seed| MachineConfig {
            bytes_max: 1 << 20,
            hash_seed,
            versions_from: 0,
            owned: SlotSet::all(),
        };
        let (early, mut late) = (Machine::new(config(1)), Machine::new(config(1)));
        let batch = Batch { stamp_ms: 5, ..Batch::default() };
        Machine::apply(&mut late, 0, &batch, &mut Vec::new());
        assert!(log_time_grows(&early, &late).is_ok());
        assert!(log_time_grows(&late, &early).unwrap_err().contains("before 5 ms"));
    }
}
