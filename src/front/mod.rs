//! F7: grpc, http admin, and the client side of the command line. Doors hold no semantics: they
//! check and translate, `service::Execute` decides.
//!
//! A call comes in through [`grpc`] or a [`pipeline`], is checked by [`validate`] while [`convert`]
//! builds the one request type, runs through [`door`] (which counts and traces it), and its answer
//! goes back through [`convert`] or, if it failed, [`status`].

pub mod activity;
pub mod admin;
pub mod alarms;
pub mod asked;
pub mod cluster;
mod connection;
pub mod convert;
pub mod convert_locks;
pub mod convert_many;
pub mod convert_words;
pub mod door;
pub mod grpc;
pub mod health;
pub mod http;
pub mod limits;
pub mod listen;
pub mod page;
pub use crate::pb;
pub mod pipeline;
pub mod render;
pub mod replies;
pub mod resp;
pub mod routing;
pub mod scrape;
pub mod serve;
pub mod status;
pub mod validate;
pub mod visitor;

pub use limits::FrontLimits;
pub use resp::serve::serve_resp;
pub use serve::{DoorHandle, serve_grpc, serve_http};
