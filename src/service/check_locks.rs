//! What is refused of locks and fills before anything is done with them.

use super::api::Operation;
use super::check::{Limits, invalid};
use crate::types::limits::{
    LEASE_BETA_MILLI_MAX, LEASE_WAIT_MS_MAX, LOCK_OWNER_BYTES_MAX, LOCK_TTL_MS_MAX,
};
use crate::types::{Command, Error, Expiry, Fill, GetOrLease, Step, Version};

/// The owner, times and token of a command about a lock.
pub(super) fn check_lock(command: &Command) -> Result<(), Error> {
    let (owner, ttl_ms, token) = match command {
        Command::Lock(lock) => (&lock.owner, Some(lock.ttl_ms), None),
        Command::Renew(renew) => (&renew.owner, Some(renew.ttl_ms), Some(renew.token)),
        Command::Unlock(unlock) => (&unlock.owner, None, Some(unlock.token)),
        _ => return Ok(()),
    };
    if !(1..=LOCK_OWNER_BYTES_MAX).contains(&owner.len()) {
        let len = owner.len();
        return invalid("owner", format!("{len} bytes, 1 to {LOCK_OWNER_BYTES_MAX} are allowed"));
    }
    if let Some(ttl_ms) = ttl_ms.filter(|ms| !(1..=LOCK_TTL_MS_MAX).contains(ms)) {
        return invalid("ttl", format!("{ttl_ms} ms, 1 to {LOCK_TTL_MS_MAX} are allowed"));
    }
    if token == Some(Version(0)) {
        return invalid("token", "is 0; tokens start at 1".to_owned());
    }
    Ok(())
}

impl Limits {
    /// What the log is to know of this node's limits.
    pub(super) fn stamp(&self, operation: &mut Operation) {
        match operation {
            Operation::Write(Command::Lock(lock)) => lock.locks_max = self.locks_max,
            Operation::Multi(multi) => {
                for step in &mut multi.steps {
                    if let Step::Write(Command::Lock(lock)) = step {
                        lock.locks_max = self.locks_max;
                    }
                }
            }
            _ => {}
        }
    }

    pub(super) fn check_fill(&self, fill: &Fill) -> Result<(), Error> {
        self.check_value(&fill.value)?;
        self.check_expiry(fill.expiry)?;
        if fill.token == 0 {
            return invalid("token", "is 0; tokens start at 1".to_owned());
        }
        if fill.expiry == Expiry::Keep {
            return invalid("expiry", "a fill keeps no deadline".to_owned());
        }
        let ttl_ms_max = self.ttl_ms_max;
        match fill.soft_ms {
            Some(soft_ms) if !(1..=ttl_ms_max).contains(&soft_ms) => {
                invalid("soft_ttl", format!("{soft_ms} ms, 1 to {ttl_ms_max} are allowed"))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn check_lease(&self, ask: &GetOrLease) -> Result<(), Error> {
        self.check_key(&ask.key)?;
        if ask.wait_ms > LEASE_WAIT_MS_MAX {
            return invalid("wait", format!("{} ms, at most {LEASE_WAIT_MS_MAX}", ask.wait_ms));
        }
        if ask.beta_milli > LEASE_BETA_MILLI_MAX {
            let max = LEASE_BETA_MILLI_MAX / 1_000;
            return invalid("beta", format!("{} thousandths, at most {max}", ask.beta_milli));
        }
        Ok(())
    }
}
