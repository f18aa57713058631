//! A test for each trap of the design (section 3). Where a countermeasure can be taken out, its
//! test also runs without it and demands that the violation is seen.

mod digest;
mod disk;
mod election;
mod freshness;
mod heartbeats;
mod install;
mod outcomes;
mod replication;
mod restart;
mod shortened;
mod snapshot;
