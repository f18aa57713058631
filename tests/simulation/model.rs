//! The sequential model of one key: what a register with versions, conditions and time to live may
//! answer. `porcupine` looks for an order of the operations that this model accepts (INV-1).

use porcupine_rs::Model;

/// State of one key.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Key {
    /// The value, if the key is present. Every write has its own.
    pub value: Option<u64>,
    /// Its version; `None` while nobody has seen it (the write's outcome was `Unknown`).
    pub version: Option<u64>,
    /// It may end by itself at any time.
    pub mortal: bool,
    /// Largest version seen so far: the next one is larger.
    pub newest: u64,
}

/// Condition of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum If {
    Always,
    Absent,
    Present,
    Version(u64),
}

/// What a write answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wrote {
    /// A set took effect, or a delete found its key: the version it made or found.
    Done(u64),
    /// A delete found no key.
    NotFound,
    /// The condition did not hold against this version.
    Failed(Option<u64>),
    /// It may have taken effect, or may yet.
    Unknown,
}

/// One operation with its answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Value and version found.
    Get(Option<(u64, u64)>),
    Set {
        value: u64,
        mortal: bool,
        condition: If,
        wrote: Wrote,
    },
    Delete {
        condition: If,
        wrote: Wrote,
    },
}

impl Step {
    /// True if it surely changed nothing.
    pub fn is_read(&self) -> bool {
        match self {
            Step::Get(_) => true,
            Step::Set { wrote, .. } | Step::Delete { wrote, .. } => {
                matches!(wrote, Wrote::Failed(_) | Wrote::NotFound)
            }
        }
    }

    /// True if its effect is not known.
    pub fn is_unknown(&self) -> bool {
        match self {
            Step::Get(_) => false,
            Step::Set { wrote, .. } | Step::Delete { wrote, .. } => *wrote == Wrote::Unknown,
        }
    }
}

impl Key {
    /// The key as an answer shows it: present under `version`. `None` if it cannot be.
    fn seen(&self, version: u64) -> Option<Key> {
        self.value?;
        let fits = match self.version {
            Some(known) => known == version,
            None => version > self.newest,
        };
        fits.then(|| Key { version: Some(version), newest: version, ..self.clone() })
    }

    /// The key as an answer shows it: absent. A mortal one may have ended just now.
    fn absent(&self) -> Option<Key> {
        let gone = Key { value: None, version: None, mortal: false, newest: self.newest };
        (self.value.is_none() || self.mortal).then_some(gone)
    }

    fn failed(&self, condition: If, current: Option<u64>) -> Option<Key> {
        match (condition, current) {
            (If::Always, _) | (If::Absent, None) | (If::Present, Some(_)) => None,
            (If::Version(wanted), Some(current)) if wanted == current => None,
            (_, Some(current)) => self.seen(current),
            (_, None) => self.absent(),
        }
    }

    /// The key once `condition` is known to have held.
    fn held(&self, condition: If) -> Option<Key> {
        match condition {
            If::Always => Some(self.clone()),
            If::Absent => self.absent(),
            If::Present => self.value.map(|_| self.clone()),
            If::Version(wanted) => self.seen(wanted),
        }
    }

    /// Whether `condition` holds, for a write whose answer nobody saw.
    ///
    /// A version that nobody saw is not the one a condition names: a client names what it has
    /// seen, and what was seen is known in the state since.
    fn holds(&self, condition: If) -> bool {
        match condition {
            If::Always => true,
            If::Absent => self.value.is_none(),
            If::Present => self.value.is_some(),
            If::Version(wanted) => self.value.is_some() && self.version == Some(wanted),
        }
    }

    fn set(&self, value: u64, mortal: bool, condition: If, wrote: Wrote) -> Option<Key> {
        match wrote {
            Wrote::Done(version) => {
                let before = self.held(condition)?;
                let set =
                    Key { value: Some(value), version: Some(version), mortal, newest: version };
                (version > before.newest).then_some(set)
            }
            Wrote::Failed(current) => self.failed(condition, current),
            Wrote::NotFound => None,
            Wrote::Unknown if self.holds(condition) => {
                Some(Key { value: Some(value), version: None, mortal, newest: self.newest })
            }
            Wrote::Unknown => Some(self.clone()),
        }
    }

    fn delete(&self, condition: If, wrote: Wrote) -> Option<Key> {
        let gone = |newest| Key { value: None, version: None, mortal: false, newest };
        match wrote {
            Wrote::Done(version) => {
                let seen = self.held(condition)?.seen(version)?;
                Some(gone(seen.newest))
            }
            Wrote::NotFound if matches!(condition, If::Always) => self.absent(),
            Wrote::NotFound => None,
            Wrote::Failed(current) => self.failed(condition, current),
            Wrote::Unknown if self.holds(condition) => Some(gone(self.newest)),
            Wrote::Unknown => Some(self.clone()),
        }
    }
}

/// The model.
#[derive(Clone, Debug)]
pub struct Register;

impl Model for Register {
    type State = Key;
    type Op = Step;
    type Metadata = ();

    fn init() -> Key {
        Key::default()
    }

    fn step(state: &Key, op: &Step) -> (bool, Key) {
        let next = match *op {
            Step::Get(None) => state.absent(),
            Step::Get(Some((value, version))) => {
                state.seen(version).filter(|key| key.value == Some(value))
            }
            Step::Set { value, mortal, condition, wrote } => {
                state.set(value, mortal, condition, wrote)
            }
            Step::Delete { condition, wrote } => state.delete(condition, wrote),
        };
        match next {
            Some(next) => (true, next),
            None => (false, state.clone()),
        }
    }
}
