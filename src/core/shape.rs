//! What cache entries are besides a key and a value.

/// What an entry is besides a key and a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// Nothing.
    Plain,
    /// A lock: the value is its owner. Never evicted, and no value to any other command.
    Lock,
    /// Filled under a token: a `Refill` stands behind the value.
    Filled,
}

/// When a value that was filled under a token is to be filled again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refill {
    /// From then on it is stale, log time in milliseconds; `NEVER` if it does not become so.
    pub soft_ms: u64,
    /// How long it took to work out, milliseconds.
    pub cost_ms: u32,
}

impl Refill {
    /// Bytes it takes behind a value.
    pub const BYTES: usize = 12;

    /// As bytes.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.soft_ms.to_le_bytes());
        bytes[8..].copy_from_slice(&self.cost_ms.to_le_bytes());
        bytes
    }

    /// From bytes; `None` if they are not as many.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (soft_ms, cost_ms) = bytes.split_at_checked(8)?;
        Some(Refill {
            soft_ms: u64::from_le_bytes(soft_ms.try_into().ok()?),
            cost_ms: u32::from_le_bytes(cost_ms.try_into().ok()?),
        })
    }
}
