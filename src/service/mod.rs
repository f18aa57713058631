//! F5: group registry, router, execute (the one entry), admission.

mod api;

pub use api::{Execute, NodeStatus, Operation, ReplicaStatus, Request, Response};
