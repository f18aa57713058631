//! What a command does when it is applied: one file for each, a function of the machine and the log.
//! Each checks its precondition here, at apply, and changes the machine through `store` alone.

mod append;
mod copy;
mod decimal;
mod delete;
mod expire;
mod fill;
pub(super) mod flush;
mod increment;
pub(super) mod increment_float;
mod lock;
mod set;
mod set_limit;
mod set_range;
#[cfg(test)]
mod testkit;
mod transaction;
