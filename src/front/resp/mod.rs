//! The door for clients of Redis.
//!
//! A connection ([`connection`]) reads commands, [`dispatch`] decides about each, and [`pipeline`] works
//! on those that came together. [`plan`] translates data commands, each by its file under [`words`];
//! those of the connection, the server and the cluster are under [`commands`]. [`table`] lists all.

mod budget;
mod clients;
mod commands;
mod connection;
mod dispatch;
pub mod fault;
pub mod options;
mod parts;
mod pending;
mod pipeline;
#[cfg(test)]
mod pipeline_tests;
pub mod plan;
pub mod procedure;
mod redirect;
pub mod serve;
mod session;
pub mod table;
#[cfg(test)]
mod testkit;
mod transaction;
mod wire;
pub mod words;
