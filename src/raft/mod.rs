//! F4: every openraft type lives here.

pub mod cluster_machine;
pub mod machine;
pub mod replica;
pub mod shard_group;
