//! The door for clients of Redis.
//!
//! [`plan`] translates data commands, each by its file under [`words`]; [`table`] lists all commands.

pub mod fault;
pub mod plan;
pub mod procedure;
pub mod table;
pub mod words;
