//! The doors over a scripted service: a real server, driven by real clients.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod client;
mod errors;
mod fake;
#[path = "../support/grpc_json.rs"]
mod grpc_json;
mod http_pages;
mod patience;
mod pipeline;
mod reflection;
mod routing;
mod validation;
