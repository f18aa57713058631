//! The operations of one caller.

use bytes::Bytes;

use super::keys::Keys;
use super::options::{Options, Sizes};
use crate::types::random::Random;

/// One operation. A read has no value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Op {
    /// The key.
    pub key: Bytes,
    /// What to set it to.
    pub value: Option<Bytes>,
}

/// Draws operations: the same for every target, by the seed.
#[derive(Clone, Debug)]
pub struct Workload {
    random: Random,
    keys: Keys,
    reads: f64,
    sizes: Sizes,
    /// As long as the largest value; values are cut from it without a copy.
    text: Bytes,
}

/// Name of a key.
pub fn key(number: u64) -> Bytes {
    Bytes::from(format!("key-{number:012}"))
}

impl Workload {
    /// The operations of caller number `caller`.
    pub fn new(options: &Options, caller: u64) -> Self {
        let mut text = Random::new(options.seed);
        let letters = (0..options.sizes.max).map(|_| b'a' + (text.bits() % 26) as u8);
        Workload {
            // Callers whose numbers differ must not draw alike; seeds are mixed there.
            random: Random::new(options.seed.wrapping_mul(1_000_003).wrapping_add(caller)),
            keys: Keys::new(options.distribution, options.keys),
            reads: options.reads,
            sizes: options.sizes,
            text: letters.collect(),
        }
    }

    fn value(&mut self) -> Bytes {
        let Sizes { min, max } = self.sizes;
        let more = (self.random.bits() % (max - min + 1) as u64) as usize;
        self.text.slice(..min + more)
    }

    /// The next one.
    pub fn draw(&mut self) -> Op {
        let key = key(self.keys.next(&mut self.random));
        let read = self.random.unit() < self.reads;
        Op { key, value: (!read).then(|| self.value()) }
    }

    /// A set of that key, so that reads find something.
    pub fn set(&mut self, number: u64) -> Op {
        Op { key: key(number), value: Some(self.value()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::testing::options;

    #[test]
    fn shares_and_sizes_are_as_asked_for_and_repeat_by_the_seed() {
        let options = Options { reads: 0.9, sizes: Sizes { min: 10, max: 20 }, ..options() };
        let mut workload = Workload::new(&options, 3);
        let ops: Vec<Op> = (0..20_000).map(|_| workload.draw()).collect();
        let writes: Vec<usize> =
            ops.iter().filter_map(|op| op.value.as_ref().map(Bytes::len)).collect();
        assert!((1_800..2_200).contains(&writes.len()), "{}", writes.len());
        assert_eq!((*writes.iter().min().unwrap(), *writes.iter().max().unwrap()), (10, 20));
        let mut again = Workload::new(&options, 3);
        assert!(ops.iter().all(|op| *op == again.draw()), "same seed, same operations");
        let mut other = Workload::new(&options, 4);
        assert!(ops.iter().any(|op| *op != other.draw()), "callers do not draw alike");
    }
}
