//! The protocol of Redis: values <-> bytes, pure.
//!
//! [`parse`] takes requests out of what was read, [`encode`] writes replies. Why the parser is ours:
//! docs/adr/0012.

pub mod encode;
mod line;
pub mod parse;
pub mod value;
