//! F5: group registry, router, execute (the one entry), admission.

mod admission;
mod alarms;
mod api;
mod attempts;
mod check;
mod check_locks;
mod execute;
mod forward;
mod forward_alone;
mod forward_lane;
mod local_group;
mod measure;
mod multi;
mod options;
mod registry;
mod request_ids;
mod router;
mod run;
mod serve;
mod spread;
mod status;
mod unit;

pub use admission::{Admission, AdmissionLimits, Permit};
pub use alarms::{AlarmControl, NoController};
pub use api::{
    Execute, Multi, NodeStatus, Operation, ReplicaStatus, Request, Response, ScanRequest,
};
pub use check::Limits;
pub use execute::{Parts, Service};
pub use local_group::LocalGroup;
pub use options::{ForwardLimits, Options};
pub use registry::Registry;
pub use spread::cursor_at;
pub use status::StatusSource;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod fake_net;
#[cfg(test)]
mod lock_tests;
#[cfg(test)]
mod machine_fake;
#[cfg(test)]
mod multi_tests;
#[cfg(test)]
mod quorum_tests;
#[cfg(test)]
mod random_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod work_tests;
