//! The lists of a `TreeEnsemble…` node: one entry per node of a tree, and one per number that a leaf gives.

use std::collections::{HashMap, HashSet};

use super::Uncovered;
use super::ensemble::numbers;
use super::proto::Node;
use crate::model::trees::forest::Test;
use crate::model::trees::grow::Entry;

/// What leaves give, by tree and node.
pub struct Weights {
    by_leaf: HashMap<(i64, i64), Vec<(u32, f64)>>,
    /// None of them is negative.
    pub all_positive: bool,
}

impl Weights {
    /// Reads the lists of leaves; `prefix` is what their names begin with.
    pub fn read(node: &Node, prefix: &str) -> Result<Weights, Uncovered> {
        let list = |name: &str| node.ints(&format!("{prefix}_{name}"));
        let (trees, nodes, ids) = (list("treeids"), list("nodeids"), list("ids"));
        let weights = numbers(node, &format!("{prefix}_weights"))?;
        if [trees.len(), nodes.len(), ids.len()] != [weights.len(); 3] {
            return Err("lists of leaves of different lengths".to_string());
        }
        let mut by_leaf: HashMap<(i64, i64), Vec<(u32, f64)>> = HashMap::new();
        for (index, &weight) in weights.iter().enumerate() {
            let target = u32::try_from(ids[index]).map_err(|_| "a leaf for no target".to_string())?;
            by_leaf
                .entry((trees[index], nodes[index]))
                .or_default()
                .push((target, weight));
        }
        Ok(Weights {
            by_leaf,
            all_positive: weights.iter().all(|weight| *weight >= 0.0),
        })
    }

    /// Whether a leaf holds several numbers.
    pub fn has_several(&self) -> bool {
        self.by_leaf.values().any(|weights| weights.len() > 1)
    }

    /// Which targets get anything at all, and whether those that do get it whatever the row.
    pub fn coverage(&self, table: &Table, targets: usize) -> (Vec<bool>, bool) {
        let (mut voted, mut always) = (vec![false; targets], vec![false; targets]);
        // Leaves of the tree at hand, and for each target how many of them give it something.
        let (mut leaves, mut givers) = (0, HashMap::<usize, usize>::new());
        let mut tree = None;
        for place in table.leaves().map(Some).chain([None]) {
            let next = place.map(|place| table.trees[place]);
            if next != tree {
                for (&target, &count) in &givers {
                    always[target] |= count == leaves;
                }
                givers.clear();
                (leaves, tree) = (0, next);
            }
            let Some(place) = place else { break };
            leaves += 1;
            let leaf = self.by_leaf.get(&(table.trees[place], table.ids[place]));
            let mut named: Vec<usize> = leaf.map_or(vec![], |leaf| {
                leaf.iter().map(|(target, _)| *target as usize).collect()
            });
            named.sort_unstable();
            named.dedup();
            for target in named.into_iter().filter(|&target| target < targets) {
                voted[target] = true;
                *givers.entry(target).or_default() += 1;
            }
        }
        let is_always = std::iter::zip(&voted, &always).all(|(voted, always)| !voted || *always);
        (voted, is_always)
    }
}

/// Columns that have a feature of their own for tests of equality.
#[derive(Default)]
pub struct Whole {
    /// Those columns.
    pub columns: Vec<usize>,
    /// Categories in all sets.
    members: usize,
}

impl Whole {
    fn feature(&mut self, column: usize, columns: usize) -> usize {
        let place = self.columns.iter().position(|&known| known == column);
        columns
            + place.unwrap_or_else(|| {
                self.columns.push(column);
                self.columns.len() - 1
            })
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Leq,
    Lt,
    Gte,
    Gt,
    Eq,
    Neq,
    Leaf,
}

/// The nodes of all trees.
pub struct Table {
    trees: Vec<i64>,
    /// Numbers of the nodes within their trees.
    pub ids: Vec<i64>,
    modes: Vec<Mode>,
    /// The columns that are asked for.
    pub features: Vec<i64>,
    values: Vec<f64>,
    /// Places of the branches.
    yes: Vec<usize>,
    no: Vec<usize>,
    missing_is_yes: Vec<bool>,
    wide: bool,
}

impl Table {
    /// Reads the lists of nodes; thresholds are of 64 bits if `wide`.
    pub fn read(node: &Node, wide: bool) -> Result<Table, Uncovered> {
        let list = |name: &str| node.ints(&format!("nodes_{name}")).to_vec();
        let (trees, ids) = (list("treeids"), list("nodeids"));
        let mut modes = Vec::with_capacity(ids.len());
        for mode in node.texts("nodes_modes") {
            modes.push(match mode.as_str() {
                "BRANCH_LEQ" => Mode::Leq,
                "BRANCH_LT" => Mode::Lt,
                "BRANCH_GTE" => Mode::Gte,
                "BRANCH_GT" => Mode::Gt,
                "BRANCH_EQ" => Mode::Eq,
                "BRANCH_NEQ" => Mode::Neq,
                "LEAF" => Mode::Leaf,
                other => return Err(format!("nodes of mode {other}")),
            });
        }
        let mut values = numbers(node, "nodes_values")?;
        if !wide {
            values
                .iter_mut()
                .for_each(|value| *value = f64::from(*value as f32));
        }
        let (yes, no) = (list("truenodeids"), list("falsenodeids"));
        let features = list("featureids");
        let tracks = list("missing_value_tracks_true");
        let count = ids.len();
        if [
            trees.len(),
            modes.len(),
            values.len(),
            yes.len(),
            no.len(),
            features.len(),
        ] != [count; 6]
            || count == 0
        {
            return Err("lists of nodes of different lengths".to_string());
        }
        let places: HashMap<(i64, i64), usize> = (0..count)
            .map(|place| ((trees[place], ids[place]), place))
            .collect();
        if places.len() != count {
            return Err("two nodes with one number".to_string());
        }
        let place_of = |place: usize, id: i64| {
            if modes[place] == Mode::Leaf {
                return Ok(place);
            }
            let found = places.get(&(trees[place], id)).copied();
            found.ok_or_else(|| format!("a branch to node {id}, which is not there"))
        };
        Ok(Table {
            yes: (0..count)
                .map(|place| place_of(place, yes[place]))
                .collect::<Result<_, _>>()?,
            no: (0..count)
                .map(|place| place_of(place, no[place]))
                .collect::<Result<_, _>>()?,
            missing_is_yes: (0..count).map(|place| tracks.get(place) == Some(&1)).collect(),
            trees,
            ids,
            modes,
            features,
            values,
            wide,
        })
    }

    /// The first node of each tree, in the order of the file.
    pub fn roots(&self) -> Result<Vec<usize>, Uncovered> {
        let mut seen = HashSet::new();
        let mut roots = Vec::new();
        for place in 0..self.trees.len() {
            if place == 0 || self.trees[place] != self.trees[place - 1] {
                if !seen.insert(self.trees[place]) {
                    return Err("nodes of a tree lie apart".to_string());
                }
                roots.push(place);
            }
        }
        Ok(roots)
    }

    fn leaves(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.modes.len()).filter(|&place| self.modes[place] == Mode::Leaf)
    }

    fn next_up(&self, value: f64) -> f64 {
        match self.wide {
            true => value.next_up(),
            false => f64::from((value as f32).next_up()),
        }
    }

    /// The node at a place; those behind the last are the second tests of equalities.
    pub fn entry(
        &self,
        place: usize,
        weights: &Weights,
        targets: usize,
        columns: usize,
        whole: &mut Whole,
    ) -> Result<Entry, Uncovered> {
        let count = self.ids.len();
        let is_second = place >= count;
        let at = place % count;
        let mode = self.modes[at];
        if mode == Mode::Leaf {
            let leaf = weights
                .by_leaf
                .get(&(self.trees[at], self.ids[at]))
                .cloned()
                .unwrap_or_default();
            if leaf.is_empty() || leaf.iter().any(|(target, _)| *target as usize >= targets) {
                return Err("a leaf without a number, or with one for no target".to_string());
            }
            return Ok(Entry::Leaf(leaf));
        }
        let column =
            usize::try_from(self.features[at]).map_err(|_| "a feature without a place".to_string())?;
        let (yes, no, missing_is_yes) = (self.yes[at], self.no[at], self.missing_is_yes[at]);
        let less = |test: f64, left: usize, right: usize, missing_goes_left: bool| Entry::Split {
            feature: column,
            test: Test::Less(test),
            missing_goes_left,
            zero_is_missing: false,
            left,
            right,
        };
        let value = self.values[at];
        let at_most = |left: usize, right: usize, missing_goes_left: bool| {
            let split = less(self.next_up(value), left, right, missing_goes_left);
            match value == f64::INFINITY {
                true => split.never_right(),
                false => split,
            }
        };
        Ok(match mode {
            Mode::Leq => at_most(yes, no, missing_is_yes),
            Mode::Lt => less(value, yes, no, missing_is_yes),
            Mode::Gte => match value.is_nan() {
                true => less(f64::NEG_INFINITY, yes, no, missing_is_yes),
                false => less(value, no, yes, !missing_is_yes),
            },
            Mode::Gt => match value.is_nan() {
                true => less(f64::NEG_INFINITY, yes, no, missing_is_yes),
                false => at_most(no, yes, !missing_is_yes),
            },
            Mode::Eq | Mode::Neq => {
                let (equal, other, missing_is_equal) = match mode {
                    Mode::Eq => (yes, no, missing_is_yes),
                    // What is missing is not equal to anything.
                    _ => (no, yes, false),
                };
                if let Some((set, end, missing_is_member)) = self.chain(at, equal, other, missing_is_equal) {
                    whole.members += set.len();
                    if whole.members > 4 * count + 1000 {
                        return Err("sets of categories that many branches share".to_string());
                    }
                    return Ok(Entry::Split {
                        feature: whole.feature(column, columns),
                        test: Test::Member(set),
                        missing_goes_left: missing_is_member,
                        zero_is_missing: false,
                        left: equal,
                        right: end,
                    });
                }
                match is_second {
                    // Less, or else at most: two tests.
                    false => less(value, other, place + count, !missing_is_equal),
                    true => at_most(equal, other, missing_is_equal),
                }
            }
            Mode::Leaf => unreachable!("returned above"),
        })
    }

    /// The categories of a chain of equalities that all lead to `equal`, and where it ends.
    fn chain(
        &self,
        start: usize,
        equal: usize,
        other: usize,
        missing_is_equal: bool,
    ) -> Option<(Vec<u32>, usize, bool)> {
        let category = |value: f64| {
            ((0.0..16_777_216.0).contains(&value) && value.fract() == 0.0).then_some(value as u32)
        };
        let mut set = vec![category(self.values[start])?];
        let (mut end, mut missing) = (other, missing_is_equal);
        if self.modes[start] == Mode::Eq {
            while self.modes[end] == Mode::Eq
                && self.features[end] == self.features[start]
                && self.yes[end] == equal
                && let Some(next) = category(self.values[end])
            {
                if set.len() > self.ids.len() {
                    return None;
                }
                set.push(next);
                missing |= self.missing_is_yes[end];
                end = self.no[end];
            }
        }
        set.sort_unstable();
        set.dedup();
        Some((set, end, missing))
    }
}
