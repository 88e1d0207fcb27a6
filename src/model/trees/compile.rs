//! From a forest as it was read to what is evaluated: a shape for each tree, and tables of what its leaves give.
//!
//! Models are untrusted: indices are checked here, and nothing that is made is larger than a small multiple of the forest.

use std::collections::BinaryHeap;

use crate::error::{Error, Result};

use super::bins::Columns;
use super::deep::{self, DeepNode};
use super::expression::{Compare, Does, MAX_LEAVES, MAX_PATTERN, Step};
use super::forest::{Forest, Node, Split, Test, Tree, Width};
use super::leaves::{Fold, Sum, table_length};

/// The greatest number of columns of one kind: bounds the memory of a block.
const MAX_COLUMNS: usize = deep::MAX_COLUMNS;

/// Trees, ready to run.
#[derive(Debug)]
pub(super) struct Trees<S> {
    pub trees: Vec<Compiled>,
    pub compares: Vec<Compare>,
    pub steps: Vec<Step>,
    pub nodes: Vec<DeepNode>,
    pub adds: Vec<Add>,
    pub weights: Vec<S>,
    /// What sparse leaves give: to which target, how much.
    pub gifts: Vec<(u32, S)>,
    /// Where a sparse leaf's gifts begin, which end where the next one's begin; and where walks begin.
    pub starts: Vec<u32>,
}

/// A tree.
#[derive(Debug)]
pub(super) struct Compiled {
    pub shape: Shape,
    pub gives: Gives,
}

/// How the leaf of a row is found.
#[derive(Debug)]
pub(super) enum Shape {
    /// Outcomes of `compares[from..to]`, as bits.
    Pattern { from: u32, to: u32 },
    /// `steps[from..to]`.
    Expression { from: u32, to: u32 },
    /// `steps[from..to]`, then a walk from `starts[first + leaf]`. Its leaf is counted from `nodes[base]`.
    Walk {
        from: u32,
        to: u32,
        first: u32,
        base: u32,
    },
}

/// What the leaves of a tree give.
#[derive(Debug)]
pub(super) enum Gives {
    /// A weight to each target of `adds[from..to]`.
    Dense { from: u32, to: u32 },
    /// `gifts[starts[first + leaf]..starts[first + leaf + 1]]`.
    Sparse { first: u32 },
}

/// A weight for one target from a table by leaf, `weights[table..table + length]`.
#[derive(Debug)]
pub(super) struct Add {
    pub target: u32,
    pub table: u32,
    pub length: u32,
}

/// Whether the forest is what its types promise: indices in range, every node of one parent, numbers of their type.
pub(super) fn check(forest: &Forest) -> Result<()> {
    let broken = |what: String| Err(Error::model(format!("the model's trees are broken: {what}")));
    if forest.base.len() != forest.targets {
        return broken(format!(
            "{} base values for {} targets",
            forest.base.len(),
            forest.targets
        ));
    }
    // So that indices fit into 32 bits, with what tables are padded with.
    let mut numbers = forest.features.max(forest.targets);
    for node in forest.trees.iter().flat_map(|tree| &tree.nodes) {
        numbers += match node {
            Node::Split(_) => 1,
            Node::Leaf(weights) => 1 + weights.len(),
        };
    }
    if numbers > u32::MAX as usize / 64 {
        return Err(too_large(format!(
            "they have {numbers} features, targets or nodes"
        )));
    }
    let fits =
        |value: f64, width: Width| width == Width::F64 || value.is_nan() || f64::from(value as f32) == value;
    if let Some(base) = forest.base.iter().find(|base| !fits(**base, forest.summed_in)) {
        return broken(format!("base value {base} is no 32-bit number"));
    }
    for (index, tree) in forest.trees.iter().enumerate() {
        let mut parents = vec![0u8; tree.nodes.len()];
        if tree.nodes.is_empty() {
            return broken(format!("tree {index} has no nodes"));
        }
        for (at, node) in tree.nodes.iter().enumerate() {
            match node {
                Node::Split(split) => {
                    if split.feature as usize >= forest.features {
                        return broken(format!(
                            "tree {index} tests feature {} of {}",
                            split.feature, forest.features
                        ));
                    }
                    for child in [split.left, split.right] {
                        if child as usize <= at
                            || child as usize >= tree.nodes.len()
                            || parents[child as usize] > 0
                        {
                            return broken(format!("tree {index} has node {child} in the wrong place"));
                        }
                        parents[child as usize] = 1;
                    }
                    match &split.test {
                        Test::Less(threshold) if !fits(*threshold, forest.compared_in) => {
                            return broken(format!(
                                "threshold {threshold} in tree {index} is no 32-bit number"
                            ));
                        }
                        Test::Member(members) if !members.is_sorted() => {
                            return broken(format!("a set in tree {index} is not sorted"));
                        }
                        _ => {}
                    }
                }
                Node::Leaf(weights) => {
                    for &(target, weight) in weights {
                        if target as usize >= forest.targets {
                            return broken(format!(
                                "tree {index} adds to target {target} of {}",
                                forest.targets
                            ));
                        }
                        if !fits(weight, forest.summed_in) {
                            return broken(format!("weight {weight} in tree {index} is no 32-bit number"));
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

fn too_large(why: String) -> Error {
    Error::model(format!(
        "the model's trees are too large to be evaluated here: {why}"
    ))
    .with_hint("use a backend of the model's own library")
}

/// What is known of a tree before it is compiled.
struct Plan<'a> {
    tree: &'a Tree,
    /// Nodes, breadth first.
    reachable: Vec<u32>,
    /// By node, the leaves of its part of the expression: 0 for nodes below it.
    sizes: Vec<u32>,
}

impl<'a> Plan<'a> {
    fn new(tree: &'a Tree) -> Self {
        let mut reachable = vec![0];
        let mut at = 0;
        while at < reachable.len() {
            if let Node::Split(split) = &tree.nodes[reachable[at] as usize] {
                reachable.extend([split.left, split.right]);
            }
            at += 1;
        }
        let mut plan = Plan {
            tree,
            reachable,
            sizes: vec![],
        };
        plan.sizes = plan.sizes_if(|_| true);
        if plan.is_deep() {
            // The heaviest node goes on, until there are as many leaves as there may be.
            let mut inside = vec![false; tree.nodes.len()];
            let mut open = BinaryHeap::from([(plan.sizes[0], 0)]);
            while open.len() < deep::HEAD {
                let Some((_, heaviest)) = open.pop() else { break };
                if let Node::Split(split) = &tree.nodes[heaviest as usize] {
                    inside[heaviest as usize] = true;
                    open.extend([split.left, split.right].map(|child| (plan.sizes[child as usize], child)));
                }
            }
            plan.sizes = plan.sizes_if(|node| inside[node as usize]);
        }
        plan
    }

    /// Leaves by node, where only some splits go on.
    fn sizes_if(&self, goes_on: impl Fn(u32) -> bool) -> Vec<u32> {
        let mut sizes = vec![0; self.tree.nodes.len()];
        for &node in self.reachable.iter().rev() {
            sizes[node as usize] = match &self.tree.nodes[node as usize] {
                Node::Split(split) if goes_on(node) => {
                    sizes[split.left as usize] + sizes[split.right as usize]
                }
                _ => 1,
            };
        }
        sizes
    }

    fn is_deep(&self) -> bool {
        self.reachable.len() / 2 + 1 > MAX_LEAVES
    }

    /// Splits of the expression, or those below it.
    fn splits(&self, in_expression: bool) -> impl Iterator<Item = &'a Split> {
        let tree = self.tree;
        self.reachable
            .iter()
            .filter_map(move |&node| match &tree.nodes[node as usize] {
                Node::Split(split) if (self.sizes[node as usize] > 1) == in_expression => Some(split),
                _ => None,
            })
    }

    /// What a leaf gives.
    fn weights(&self, node: u32) -> &'a [(u32, f64)] {
        match &self.tree.nodes[node as usize] {
            Node::Leaf(weights) => weights,
            Node::Split(_) => &[],
        }
    }
}

/// Compiles a checked forest; also gives the columns of its small trees and of its deep ones.
pub(super) fn compile<S: Sum>(forest: &Forest) -> Result<(Trees<S>, Columns<'_>, Columns<'_>)> {
    let plans: Vec<Plan> = forest.trees.iter().map(Plan::new).collect();
    let mut bytes = Columns::new(u8::MAX.into(), plans.iter().flat_map(|plan| plan.splits(true)));
    let mut words = Columns::new(deep::BINS, plans.iter().flat_map(|plan| plan.splits(false)));
    let mut trees = Trees {
        trees: vec![],
        compares: vec![],
        steps: vec![],
        nodes: vec![],
        adds: vec![],
        weights: vec![],
        gifts: vec![],
        starts: vec![],
    };
    let fold = Fold::from(forest.aggregate);
    for plan in &plans {
        let (shape, leaves) = if plan.is_deep() {
            trees.walk(plan, &mut bytes, &mut words)
        } else if plan.reachable.len() / 2 <= MAX_PATTERN {
            trees.pattern(plan, &mut bytes)
        } else {
            let (from, to, leaves) = trees.expression(plan, &mut bytes);
            (Shape::Expression { from, to }, leaves)
        };
        let leaves: Vec<&[(u32, f64)]> = leaves.into_iter().map(|node| plan.weights(node)).collect();
        let gives = trees.gives(fold, &leaves, plan.is_deep());
        trees.trees.push(Compiled { shape, gives });
    }
    for columns in [bytes.count(), words.count()] {
        if columns > MAX_COLUMNS {
            return Err(too_large(format!("they need {columns} columns of bins")));
        }
    }
    Ok((trees, bytes, words))
}

impl<S: Sum> Trees<S> {
    /// The tests of a tree in the order of its nodes, and the leaf for each of their outcomes.
    fn pattern<'a>(&mut self, plan: &Plan<'a>, columns: &mut Columns<'a>) -> (Shape, Vec<u32>) {
        let from = self.compares.len() as u32;
        let mut tests = vec![];
        for &node in &plan.reachable {
            if let Node::Split(split) = &plan.tree.nodes[node as usize] {
                self.compares.push(columns.limit(split).into());
                tests.push(node);
            }
        }
        let leaf = |outcomes: u32| {
            let mut at = 0;
            while let Node::Split(split) = &plan.tree.nodes[at as usize] {
                let test = tests
                    .iter()
                    .position(|&node| node == at)
                    .expect("every split is a test");
                at = if outcomes >> test & 1 == 1 {
                    split.right
                } else {
                    split.left
                };
            }
            at
        };
        let leaves = (0..1 << tests.len()).map(leaf).collect();
        let to = self.compares.len() as u32;
        (Shape::Pattern { from, to }, leaves)
    }

    /// The steps of a tree, and its leaves in the order of their numbers.
    fn expression<'a>(&mut self, plan: &Plan<'a>, columns: &mut Columns<'a>) -> (u32, u32, Vec<u32>) {
        let from = self.steps.len() as u32;
        let mut leaves = vec![];
        self.subexpression(plan, columns, 0, 0, &mut leaves);
        (from, self.steps.len() as u32, leaves)
    }

    /// Puts the leaf that rows reach from `node` on into `slot`. At most [`MAX_LEAVES`] deep.
    fn subexpression<'a>(
        &mut self,
        plan: &Plan<'a>,
        columns: &mut Columns<'a>,
        node: u32,
        slot: u8,
        leaves: &mut Vec<u32>,
    ) {
        let Node::Split(split) = &plan.tree.nodes[node as usize] else {
            unreachable!("only splits are expressed");
        };
        let (left, right) = (split.left, split.right);
        let size = |node: u32| plan.sizes[node as usize];
        let (does, other) = match (size(left), size(right)) {
            (1, 1) => {
                leaves.extend([left, right]);
                (Does::Leaves, leaves.len() - 2)
            }
            (1, _) => {
                self.subexpression(plan, columns, right, slot, leaves);
                leaves.push(left);
                (Does::LeftLeaf, leaves.len() - 1)
            }
            (_, 1) => {
                self.subexpression(plan, columns, left, slot, leaves);
                leaves.push(right);
                (Does::RightLeaf, leaves.len() - 1)
            }
            (2, 2) => {
                let other = leaves.len() as u8;
                for (node, does) in [
                    (node, Does::FourLeaves),
                    (left, Does::Leaves),
                    (right, Does::Leaves),
                ] {
                    let Node::Split(split) = &plan.tree.nodes[node as usize] else {
                        unreachable!("a node of two leaves or more is a split");
                    };
                    if does == Does::Leaves {
                        leaves.extend([split.left, split.right]);
                    }
                    self.steps.push(Step {
                        compare: columns.limit(split).into(),
                        does,
                        slot,
                        other,
                    });
                }
                return;
            }
            (of_left, of_right) => {
                let (heavy, light, does) = match of_left >= of_right {
                    true => (left, right, Does::RightSlot),
                    false => (right, left, Does::LeftSlot),
                };
                self.subexpression(plan, columns, heavy, slot, leaves);
                self.subexpression(plan, columns, light, slot + 1, leaves);
                (does, slot as usize + 1)
            }
        };
        self.steps.push(Step {
            compare: columns.limit(split).into(),
            does,
            slot,
            other: other as u8,
        });
    }

    /// The expression of a tree and the nodes below it, and these nodes in their order. Each subtree stands apart, breadth
    /// first, with children side by side.
    fn walk<'a>(
        &mut self,
        plan: &Plan<'a>,
        bytes: &mut Columns<'a>,
        words: &mut Columns<'a>,
    ) -> (Shape, Vec<u32>) {
        let (from, to, tops) = self.expression(plan, bytes);
        let first = self.starts.len() as u32;
        let base = self.nodes.len() as u32;
        let mut order = vec![];
        for top in tops {
            let mut at = order.len();
            self.starts.push(base + at as u32);
            order.push(top);
            while at < order.len() {
                let node = match &plan.tree.nodes[order[at] as usize] {
                    Node::Split(split) => {
                        order.extend([split.left, split.right]);
                        // More columns than a node can name are an error once all are known.
                        DeepNode::split(words.limit(split), base + order.len() as u32 - 2)
                    }
                    Node::Leaf(_) => DeepNode::leaf(base + at as u32),
                };
                self.nodes.push(node);
                at += 1;
            }
        }
        (
            Shape::Walk {
                from,
                to,
                first,
                base,
            },
            order,
        )
    }

    /// Tables for leaves in the order of their numbers.
    fn gives(&mut self, fold: Fold, leaves: &[&[(u32, f64)]], deep: bool) -> Gives {
        let length = if deep {
            leaves.len()
        } else {
            table_length(leaves.len())
        };
        // For each target of the tree, how often a leaf names it at most: once, unless the model is odd.
        let mut most: Vec<(u32, usize)> = vec![];
        for leaf in leaves {
            let mut targets: Vec<u32> = leaf.iter().map(|&(target, _)| target).collect();
            targets.sort_unstable();
            most.extend(targets.chunk_by(|a, b| a == b).map(|same| (same[0], same.len())));
        }
        most.sort_unstable();
        let most: Vec<(u32, usize)> = most
            .chunk_by(|a, b| a.0 == b.0)
            .map(|same| same[same.len() - 1])
            .collect();
        let tables: usize = most.iter().map(|(_, times)| times).sum();
        let given: usize = leaves.iter().map(|leaf| leaf.len()).sum();
        if tables * leaves.len() > 2 * given + 16 || (deep && tables > 1) {
            let first = self.starts.len() as u32;
            for leaf in leaves {
                self.starts.push(self.gifts.len() as u32);
                self.gifts
                    .extend(leaf.iter().map(|&(target, weight)| (target, S::nearest(weight))));
            }
            self.starts.push(self.gifts.len() as u32);
            return Gives::Sparse { first };
        }
        let from = self.adds.len() as u32;
        for (target, times) in most {
            for time in 0..times {
                let table = self.weights.len();
                for leaf in leaves {
                    let mut of_target = leaf.iter().filter(|(to, _)| *to == target);
                    let weight = of_target.nth(time).map(|&(_, weight)| S::nearest(weight));
                    self.weights.push(weight.unwrap_or_else(|| S::neutral(fold)));
                }
                self.weights.resize(table + length, S::neutral(fold));
                self.adds.push(Add {
                    target,
                    table: table as u32,
                    length: length as u32,
                });
            }
        }
        let to = self.adds.len() as u32;
        Gives::Dense { from, to }
    }
}
