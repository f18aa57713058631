//! plan: which nodes hold the replicas of each shard, and which of them should lead. Pure.

use std::collections::{BTreeMap, VecDeque};

use crate::types::NodeId;

/// For each shard its nodes, the preferred leader first.
///
/// A shard has at most one replica on a node, so it gets `min(factor, nodes)` of them. They stand
/// in different zones as far as there are zones; among those, the nodes with the fewest replicas
/// are taken. Preferred leaders are spread as evenly as the replicas allow.
pub fn plan(zones: &BTreeMap<NodeId, String>, shards: u16, factor: u16) -> Vec<Vec<NodeId>> {
    let mut held: BTreeMap<NodeId, usize> = zones.keys().map(|node| (*node, 0)).collect();
    let mut placed = Vec::with_capacity(usize::from(shards));
    for _ in 0..shards {
        let nodes = choose(zones, &held, usize::from(factor));
        for node in &nodes {
            *held.entry(*node).or_default() += 1;
        }
        placed.push(nodes);
    }
    prefer_leaders(&mut placed);
    placed
}

/// Nodes for one shard: again and again the one in the least used zone with the fewest replicas.
fn choose(
    zones: &BTreeMap<NodeId, String>,
    held: &BTreeMap<NodeId, usize>,
    factor: usize,
) -> Vec<NodeId> {
    let mut chosen: Vec<NodeId> = Vec::with_capacity(factor);
    while chosen.len() < factor {
        let next = zones
            .iter()
            .filter(|(node, _)| !chosen.contains(node))
            .min_by_key(|(node, zone)| {
                let in_zone = chosen.iter().filter(|other| zones.get(other) == Some(zone)).count();
                (in_zone, held.get(node).copied().unwrap_or(0), **node)
            })
            .map(|(node, _)| *node);
        match next {
            Some(node) => chosen.push(node),
            None => break,
        }
    }
    chosen
}

/// Orders each shard's nodes so that every node comes first about equally often.
///
/// Begins greedily and then moves first places along shortest paths from a node with more to one
/// with at least two fewer, until there is no such path: that is an optimal semi-matching (Harvey,
/// Ladner, Lovasz, Tamir, 2003).
fn prefer_leaders(placed: &mut [Vec<NodeId>]) {
    let mut leads: BTreeMap<NodeId, usize> = BTreeMap::new();
    for nodes in placed.iter_mut() {
        let best = (0..nodes.len())
            .min_by_key(|at| (leads.get(&nodes[*at]).copied().unwrap_or(0), nodes[*at]));
        if let Some(best) = best {
            nodes.swap(0, best);
            *leads.entry(nodes[0]).or_default() += 1;
        }
    }
    while let Some(path) = relief(placed, &leads) {
        for (shard, to) in path {
            let from = placed[shard][0];
            let at = placed[shard].iter().position(|node| *node == to);
            placed[shard].swap(0, at.expect("the path runs over replicas of the shard"));
            *leads.entry(from).or_default() -= 1;
            *leads.entry(to).or_default() += 1;
        }
    }
}

/// A chain of first places to hand on, as (shard, its new first node), that takes one from a node
/// with more and gives one to a node with at least two fewer.
fn relief(placed: &[Vec<NodeId>], leads: &BTreeMap<NodeId, usize>) -> Option<Vec<(usize, NodeId)>> {
    let count = |node: NodeId| leads.get(&node).copied().unwrap_or(0);
    for start in leads.keys().copied() {
        let mut came_from: BTreeMap<NodeId, Option<(NodeId, usize)>> =
            BTreeMap::from([(start, None)]);
        let mut queue = VecDeque::from([start]);
        while let Some(node) = queue.pop_front() {
            if count(node) + 2 <= count(start) {
                return Some(walk_back(&came_from, node));
            }
            for (shard, nodes) in placed.iter().enumerate().filter(|(_, n)| n[0] == node) {
                for other in &nodes[1..] {
                    if !came_from.contains_key(other) {
                        came_from.insert(*other, Some((node, shard)));
                        queue.push_back(*other);
                    }
                }
            }
        }
    }
    None
}

fn walk_back(
    came_from: &BTreeMap<NodeId, Option<(NodeId, usize)>>,
    end: NodeId,
) -> Vec<(usize, NodeId)> {
    let mut path = Vec::new();
    let mut node = end;
    while let Some(Some((before, shard))) = came_from.get(&node) {
        path.push((*shard, node));
        node = *before;
    }
    path
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn zoned(zones: &[&str]) -> BTreeMap<NodeId, String> {
        zones.iter().zip(1..).map(|(zone, id)| (NodeId(id), (*zone).to_owned())).collect()
    }

    fn spread(nodes: impl Iterator<Item = NodeId>, zones: &BTreeMap<NodeId, String>) -> usize {
        let mut count: BTreeMap<NodeId, usize> = zones.keys().map(|node| (*node, 0)).collect();
        for node in nodes {
            *count.get_mut(&node).unwrap() += 1;
        }
        count.values().max().unwrap() - count.values().min().unwrap()
    }

    proptest! {
        #[test]
        fn plans_keep_their_rules(
            zones in proptest::collection::vec(0u8..4, 1..9),
            shards in 1u16..48,
            factor in 1u16..6,
        ) {
            let names: Vec<String> = zones.iter().map(|zone| format!("z{zone}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let zones = zoned(&names);
            let plan = plan(&zones, shards, factor);
            prop_assert_eq!(plan.len(), usize::from(shards));
            let zone_count = zones.values().collect::<BTreeSet<_>>().len();
            for nodes in &plan {
                prop_assert_eq!(nodes.len(), zones.len().min(usize::from(factor)));
                prop_assert_eq!(nodes.iter().collect::<BTreeSet<_>>().len(), nodes.len());
                let used = nodes.iter().map(|n| &zones[n]).collect::<BTreeSet<_>>().len();
                prop_assert_eq!(used, zone_count.min(nodes.len()), "as many zones as possible");
            }
        }

        #[test]
        fn without_zones_replicas_and_leaders_differ_by_at_most_one(
            nodes in 1usize..9,
            shards in 1u16..64,
            factor in 1u16..6,
        ) {
            let zones = zoned(&vec![""; nodes]);
            let plan = plan(&zones, shards, factor);
            prop_assert!(spread(plan.iter().flatten().copied(), &zones) <= 1);
            prop_assert!(spread(plan.iter().map(|n| n[0]), &zones) <= 1);
        }
    }

    #[test]
    fn three_equal_zones_are_balanced() {
        let zones = zoned(&["a", "a", "b", "b", "c", "c"]);
        let plan = plan(&zones, 16, 3);
        assert!(spread(plan.iter().flatten().copied(), &zones) <= 1);
        assert!(spread(plan.iter().map(|n| n[0]), &zones) <= 1);
    }

    #[test]
    fn greedy_first_places_are_repaired() {
        let (a, b, c) = (NodeId(1), NodeId(2), NodeId(3));
        // Greedy gives a, b, a; node c can lead only what b leads.
        let mut placed = vec![vec![a, b], vec![b, c], vec![a, b], vec![a]];
        prefer_leaders(&mut placed);
        let firsts: Vec<NodeId> = placed.iter().map(|nodes| nodes[0]).collect();
        let most = [a, b, c].map(|n| firsts.iter().filter(|f| **f == n).count());
        assert!(most.iter().all(|count| (1..=2).contains(count)), "{firsts:?}");
    }

    #[test]
    fn no_nodes_no_replicas() {
        assert_eq!(plan(&BTreeMap::new(), 2, 3), vec![Vec::<NodeId>::new(), Vec::new()]);
    }
}
