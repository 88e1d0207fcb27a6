//! Trees in a model must be trees.
//!
//! ONNX Runtime walks through a `TreeEnsemble…` from child to child until it meets a leaf, and never asks whether it
//! has been there: a file in which a node is below itself would keep a worker busy for ever. So cycles are looked for
//! here. (Two branches that lead to one node are fine; LightGBM's sets of categories are written like that.)

use bytes::Buf;
use prost::encoding::decode_varint;
use std::collections::HashMap;

use super::proto;
use super::wire::{self, Field};
use crate::error::{Error, Result};

/// What the attributes of a `TreeEnsemble…` say about its nodes: one entry per node and list.
#[derive(Default)]
struct Lists {
    trees: Vec<i64>,
    ids: Vec<i64>,
    branches: [Vec<i64>; 2],
    is_leaf: Vec<bool>,
    /// Operator set 5 of `ai.onnx.ml`: whether a branch ends in a leaf. Branches are places in the lists then.
    ends: [Vec<i64>; 2],
}

/// Checks the trees of a `TreeEnsemble…` node.
///
/// # Errors
/// `Model`, when a tree leads back to itself.
pub fn check(node: &proto::Node) -> Result<()> {
    let mut lists = Lists::default();
    for attribute in &node.attribute {
        lists.read(attribute);
    }
    let count = lists.branches[0].len().max(lists.branches[1].len());
    let places: HashMap<(i64, i64), usize> = lists
        .ids
        .iter()
        .enumerate()
        .map(|(place, &id)| ((lists.tree(place), id), place))
        .collect();
    let child = |place: usize, side: usize| {
        let id = *lists.branches[side].get(place)?;
        if lists.ids.is_empty() {
            let ends_here = lists.ends[side].get(place).is_some_and(|&end| end != 0);
            return usize::try_from(id).ok().filter(|&id| !ends_here && id < count);
        }
        if lists.is_leaf.get(place).copied().unwrap_or(true) {
            return None;
        }
        places.get(&(lists.tree(place), id)).copied()
    };
    if has_cycle(count, child) {
        return Err(Error::model(format!(
            "the model is damaged: a tree of its {} leads back to itself",
            node.op_type
        ))
        .with_hint("export it again"));
    }
    Ok(())
}

impl Lists {
    fn tree(&self, place: usize) -> i64 {
        self.trees.get(place).copied().unwrap_or_default()
    }

    /// Reads an attribute if it is one of the lists: nothing is kept of the others, which are as long.
    fn read(&mut self, attribute: &[u8]) {
        const NAME: u32 = 1;
        const INTEGERS: u32 = 8;
        const TEXTS: u32 = 9;
        let mut name: &[u8] = &[];
        wire::each_field(attribute, |field| {
            if field.tag == NAME {
                name = field.payload;
            }
            true
        });
        let list = match name {
            b"nodes_treeids" => &mut self.trees,
            b"nodes_nodeids" => &mut self.ids,
            b"nodes_truenodeids" => &mut self.branches[0],
            b"nodes_falsenodeids" => &mut self.branches[1],
            b"nodes_trueleafs" => &mut self.ends[0],
            b"nodes_falseleafs" => &mut self.ends[1],
            b"nodes_modes" => {
                wire::each_field(attribute, |field| {
                    if field.tag == TEXTS {
                        self.is_leaf.push(field.payload == b"LEAF");
                    }
                    true
                });
                return;
            }
            _ => return,
        };
        wire::each_field(attribute, |field| {
            if field.tag == INTEGERS {
                integers(field, list);
            }
            true
        });
    }
}

/// The integers of a field, packed or alone.
fn integers(field: Field, list: &mut Vec<i64>) {
    let mut packed = field.payload;
    if packed.is_empty() {
        // Behind the key, which is a number itself.
        packed = field.whole;
        let _ = decode_varint(&mut packed);
    }
    while packed.has_remaining() {
        let Ok(value) = decode_varint(&mut packed) else {
            return;
        };
        list.push(value as i64);
    }
}

/// Whether somebody among `count` nodes with at most two children each is below itself.
fn has_cycle(count: usize, child: impl Fn(usize, usize) -> Option<usize>) -> bool {
    #[derive(Clone, Copy, PartialEq)]
    enum Seen {
        No,
        Above,
        Done,
    }
    let mut seen = vec![Seen::No; count];
    // Nodes from a root down to where the search is, each with the side to look at next.
    let mut path: Vec<(usize, usize)> = Vec::new();
    for root in 0..count {
        if seen[root] != Seen::No {
            continue;
        }
        seen[root] = Seen::Above;
        path.push((root, 0));
        while let Some((place, side)) = path.last_mut() {
            let (at, looked) = (*place, *side);
            if looked == 2 {
                seen[at] = Seen::Done;
                path.pop();
                continue;
            }
            *side += 1;
            match child(at, looked).filter(|&next| next < count) {
                Some(next) if seen[next] == Seen::Above => return true,
                Some(next) if seen[next] == Seen::No => {
                    seen[next] = Seen::Above;
                    path.push((next, 0));
                }
                _ => {}
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use prost::Message;

    #[derive(Clone, PartialEq, Message)]
    struct List {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(int64, repeated, packed = "false", tag = "8")]
        integers: Vec<i64>,
        #[prost(string, repeated, tag = "9")]
        texts: Vec<String>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct PackedList {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(int64, repeated, tag = "8")]
        integers: Vec<i64>,
    }

    fn list(name: &str, integers: &[i64], is_packed: bool) -> Bytes {
        let (name, integers) = (name.to_string(), integers.to_vec());
        match is_packed {
            true => PackedList { name, integers }.encode_to_vec().into(),
            false => List {
                name,
                integers,
                texts: vec![],
            }
            .encode_to_vec()
            .into(),
        }
    }

    fn ensemble(attribute: Vec<Bytes>) -> Result<()> {
        check(&proto::Node {
            op_type: "TreeEnsembleRegressor".into(),
            attribute,
            ..proto::Node::default()
        })
    }

    /// Nodes as tree, id, mode, true branch, false branch.
    fn classic(nodes: &[(i64, i64, &str, i64, i64)], is_packed: bool) -> Result<()> {
        let column =
            |pick: fn(&(i64, i64, &str, i64, i64)) -> i64| nodes.iter().map(pick).collect::<Vec<_>>();
        let modes = List {
            name: "nodes_modes".into(),
            integers: vec![],
            texts: nodes.iter().map(|node| node.2.to_string()).collect(),
        };
        ensemble(vec![
            list("nodes_treeids", &column(|node| node.0), is_packed),
            list("nodes_nodeids", &column(|node| node.1), is_packed),
            modes.encode_to_vec().into(),
            list("nodes_truenodeids", &column(|node| node.3), is_packed),
            list("nodes_falsenodeids", &column(|node| node.4), is_packed),
            list("nodes_featureids", &[7; 3], is_packed),
        ])
    }

    /// Failure matrix: 53, 56.
    #[test]
    fn trees_and_branches_that_meet_again_are_fine_and_cycles_are_refused() {
        for is_packed in [false, true] {
            let sound = [
                (0, 0, "BRANCH_LEQ", 1, 2),
                (0, 1, "BRANCH_EQ", 2, 3),
                (0, 2, "LEAF", 0, 0),
                (0, 3, "LEAF", 0, 0),
                (1, 0, "BRANCH_LEQ", 1, 2),
                (1, 1, "LEAF", 0, 0),
                (1, 2, "LEAF", -1, -1),
            ];
            classic(&sound, is_packed).unwrap();
            for (place, side, to) in [(0, 0, 0), (1, 1, 0), (4, 1, 0)] {
                let mut nodes = sound;
                match side {
                    0 => nodes[place].3 = to,
                    _ => nodes[place].4 = to,
                }
                let error = classic(&nodes, is_packed).unwrap_err().to_string();
                assert!(
                    error.contains("a tree of its TreeEnsembleRegressor leads back to itself"),
                    "{error}"
                );
            }
            // A branch to nowhere is for ONNX Runtime to refuse.
            let mut nodes = sound;
            nodes[0].3 = 99;
            classic(&nodes, is_packed).unwrap();
        }
    }

    #[test]
    fn the_lists_of_operator_set_5_are_understood() {
        let with = |branch: i64| {
            ensemble(vec![
                list("nodes_truenodeids", &[1, 0], false),
                list("nodes_trueleafs", &[0, 1], false),
                list("nodes_falsenodeids", &[0, branch], false),
                list("nodes_falseleafs", &[1, 0], false),
            ])
        };
        with(9).unwrap();
        assert!(with(0).is_err());
        assert!(with(1).is_err());
    }

    #[test]
    fn a_tree_as_deep_as_it_has_nodes_takes_no_stack() {
        let count = 200_000;
        assert!(!has_cycle(count, |place, side| (side == 0).then_some(place + 1)));
        assert!(has_cycle(count, |place, side| (side == 1).then_some((place + 1) % count)));
    }
}
