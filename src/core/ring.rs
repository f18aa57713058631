//! The ring: consistent hashing with bounded loads, slots to shards.
//!
//! Each shard has virtual nodes on a ring of 64-bit positions; a slot belongs to the next virtual
//! node whose shard is not over its bounded load. The rule is "Consistent Hashing with Bounded
//! Loads" (Mirrokni, Thorup, Zadimoghaddam, 2016): no shard owns more than 5 % over the mean, and
//! a shard that comes or goes moves little more than its own share.

use xxhash_rust::xxh3::xxh3_64;

use crate::types::{SLOTS, ShardId};

/// Virtual nodes of one shard. More of them even out the arcs, at the price of a longer sort.
const VIRTUAL_NODES: u32 = 128;
/// A shard's bounded load, percent of the mean.
const LOAD_PERCENT_MAX: usize = 105;

/// Most slots one of `shards` shards may own: the mean plus 5 %, rounded up.
pub fn load_max(shards: usize) -> usize {
    (usize::from(SLOTS) * LOAD_PERCENT_MAX).div_ceil(shards * 100)
}

/// Owner of each slot, `SLOTS` long; empty if there are no shards. Depends on the set of shards
/// alone, not on their order.
pub fn assign(shards: &[ShardId]) -> Vec<ShardId> {
    let ring = virtual_nodes(shards);
    if ring.is_empty() {
        return Vec::new();
    }
    let owners = shards_of(&ring);
    let load_max = load_max(owners.len());
    let mut load = vec![0usize; owners.last().map_or(0, |shard| usize::from(shard.0) + 1)];
    let mut slots = Vec::with_capacity(usize::from(SLOTS));
    for slot in 0..SLOTS {
        let position = xxh3_64(&slot.to_le_bytes());
        let start = ring.partition_point(|(at, _)| *at < position);
        let owner = ring[start..]
            .iter()
            .chain(&ring[..start])
            .map(|(_, shard)| *shard)
            .find(|shard| load[usize::from(shard.0)] < load_max)
            .expect("the bounded loads add up to at least 105 % of the slots");
        load[usize::from(owner.0)] += 1;
        slots.push(owner);
    }
    slots
}

/// Positions of all virtual nodes, sorted; a shard named twice stands once.
fn virtual_nodes(shards: &[ShardId]) -> Vec<(u64, ShardId)> {
    let mut ring: Vec<(u64, ShardId)> = shards
        .iter()
        .flat_map(|shard| (0..VIRTUAL_NODES).map(|i| (virtual_node(*shard, i), *shard)))
        .collect();
    ring.sort_unstable();
    ring.dedup();
    ring
}

fn virtual_node(shard: ShardId, i: u32) -> u64 {
    let mut name = [0u8; 6];
    name[..2].copy_from_slice(&shard.0.to_le_bytes());
    name[2..].copy_from_slice(&i.to_le_bytes());
    xxh3_64(&name)
}

fn shards_of(ring: &[(u64, ShardId)]) -> Vec<ShardId> {
    let mut shards: Vec<ShardId> = ring.iter().map(|(_, shard)| *shard).collect();
    shards.sort_unstable();
    shards.dedup();
    shards
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::types::limits::SHARDS_MAX;

    fn shards(count: u16) -> Vec<ShardId> {
        (0..count).map(ShardId).collect()
    }

    fn loads(slots: &[ShardId]) -> BTreeMap<ShardId, usize> {
        let mut loads = BTreeMap::new();
        for shard in slots {
            *loads.entry(*shard).or_insert(0) += 1;
        }
        loads
    }

    fn moved(before: &[ShardId], after: &[ShardId]) -> usize {
        before.iter().zip(after).filter(|(a, b)| a != b).count()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn loads_are_bounded_and_order_does_not_matter(
            set in proptest::collection::btree_set(0..SHARDS_MAX, 1..80),
            seed in any::<prop::sample::Index>(),
        ) {
            let mut list: Vec<ShardId> = set.iter().copied().map(ShardId).collect();
            let slots = assign(&list);
            prop_assert_eq!(slots.len(), usize::from(SLOTS));
            for (shard, load) in loads(&slots) {
                prop_assert!(set.contains(&shard.0));
                prop_assert!(load <= load_max(set.len()), "{} owns {}", shard, load);
            }
            let by = seed.index(list.len());
            list.rotate_left(by);
            prop_assert_eq!(assign(&list), slots);
        }
    }

    #[test]
    fn one_shard_owns_everything_and_none_owns_nothing() {
        assert!(assign(&[]).is_empty());
        assert_eq!(assign(&[ShardId(7), ShardId(7)]), vec![ShardId(7); usize::from(SLOTS)]);
    }

    #[test]
    fn the_largest_cluster_is_bounded() {
        let slots = assign(&shards(SHARDS_MAX));
        let loads = loads(&slots);
        assert_eq!(loads.len(), usize::from(SHARDS_MAX));
        assert!(loads.values().all(|load| *load <= load_max(usize::from(SHARDS_MAX))));
    }

    /// The published rule is part of the cluster's state: every node must compute the same.
    #[test]
    fn the_assignment_never_changes() {
        let bytes: Vec<u8> = assign(&shards(16)).iter().flat_map(|s| s.0.to_le_bytes()).collect();
        assert_eq!(xxh3_64(&bytes), GOLDEN_16);
    }

    const GOLDEN_16: u64 = 16_962_334_624_409_223_112;

    #[test]
    fn adding_or_removing_a_shard_moves_little() {
        for count in [2u16, 3, 8, 16, 32, 64] {
            let before = assign(&shards(count));
            let grown = assign(&shards(count + 1));
            let ideal = usize::from(SLOTS) / usize::from(count + 1);
            let moves = moved(&before, &grown);
            println!(
                "{count} -> {} shards: {moves} slots move, ideal {ideal}, ratio {:.2}",
                count + 1,
                moves as f64 / ideal as f64
            );
            // Bounded loads cascade: what a full shard refuses moves on. Rehashing by modulo would
            // move `count / (count + 1)` of all slots.
            assert!(moves <= ideal * 3, "{moves} slots move, ideal {ideal}");

            let middle = ShardId(count / 2);
            let fewer: Vec<ShardId> =
                shards(count + 1).into_iter().filter(|s| *s != middle).collect();
            let shrunk = moved(&grown, &assign(&fewer));
            println!("{} - {middle}: {shrunk} slots move, ideal {ideal}", count + 1);
            assert!(shrunk <= ideal * 3, "{shrunk} slots move, ideal {ideal}");
        }
    }
}
