//! What happened in a run, as a hash: the same seed must give the same one.

use std::fmt::Write as _;

use parking_lot::Mutex;
use xxhash_rust::xxh3::Xxh3;

/// Hash of all that happened so far, and the text if it is wanted.
#[derive(Default)]
pub struct Trace {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    hash: Xxh3,
    line: String,
    kept: Option<Vec<String>>,
}

impl Trace {
    /// From now on keeps the text as well.
    pub fn keep(&self) {
        self.state.lock().kept = Some(Vec::new());
    }

    pub fn note(&self, at_ns: u128, what: std::fmt::Arguments<'_>) {
        let state = &mut *self.state.lock();
        state.line.clear();
        let _ = write!(state.line, "{at_ns:>12} {what}");
        state.hash.update(state.line.as_bytes());
        if let Some(kept) = &mut state.kept {
            kept.push(state.line.clone());
        }
    }

    pub fn hash(&self) -> u64 {
        self.state.lock().hash.digest()
    }

    pub fn lines(&self) -> Vec<String> {
        self.state.lock().kept.clone().unwrap_or_default()
    }
}
