//! A `TreeEnsembleRegressor` or `TreeEnsembleClassifier` as a forest, and what ONNX Runtime makes of its sums.
//!
//! Thresholds are compared and leaves are summed in 32 bits, in 64 for inputs of float64. Roots are the first nodes of
//! each tree in the order of the file, and that is the order of the sum. A test for equality with a category (LightGBM's
//! sets are chains of them) becomes membership in a set; see [`Feature::Whole`].

use std::collections::{HashMap, HashSet};

use super::Uncovered;
use super::proto::{Node, TensorProto};
use crate::model::trees::forest::{Aggregate, Forest, Test, Width};
use crate::model::trees::grow::{self, Entry};
use crate::tensor::{Tensor, TensorData};

/// A node of the graph, compiled.
#[derive(Clone, Debug, PartialEq)]
pub struct Ensemble {
    /// Its trees.
    pub forest: Forest,
    /// What the features of the forest are in terms of the node's input.
    pub features: Vec<Feature>,
    /// What becomes of the sums.
    pub finish: Finish,
    /// The input has at least so many columns.
    pub columns: usize,
}

/// A feature of the forest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// This column of the input.
    Column(usize),
    /// This column where it holds a whole number that is not negative, else -1: for tests of equality, which no number
    /// with a fraction passes.
    Whole(usize),
}

/// What becomes of the sums of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Finish {
    /// They are the output, after a function.
    Targets(Transform),
    /// They are votes for classes.
    Classes(Classes),
}

/// `post_transform`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transform {
    /// `NONE`
    None,
    /// `LOGISTIC`
    Logistic,
    /// `SOFTMAX`
    Softmax,
    /// `SOFTMAX_ZERO`
    SoftmaxZero,
}

/// How votes become a label and scores.
#[derive(Clone, Debug, PartialEq)]
pub struct Classes {
    /// The labels.
    pub labels: Labels,
    /// Whether a class ever gets a vote.
    pub voted: Vec<bool>,
    /// `base_values`
    pub base: Vec<f64>,
    /// Two classes, and votes for one of them only.
    pub is_binary: bool,
    /// No vote is negative.
    pub all_positive: bool,
    /// What is done to the scores.
    pub transform: Transform,
}

/// Labels of classes.
#[derive(Clone, Debug, PartialEq)]
pub enum Labels {
    /// int64
    Integers(Vec<i64>),
    /// string
    Texts(Vec<String>),
}

impl Labels {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Labels::Integers(labels) => labels.len(),
            Labels::Texts(labels) => labels.len(),
        }
    }
}

/// The node's trees; `wide` for an input of float64.
///
/// # Errors
/// What is not covered, in words.
pub fn read(node: &Node, wide: bool) -> Result<Ensemble, Uncovered> {
    let is_classifier = node.op_type == "TreeEnsembleClassifier";
    let prefix = if is_classifier { "class" } else { "target" };
    let weights = Weights::read(node, prefix)?;
    let base = numbers(node, "base_values")?;
    let transform = match node.text("post_transform").as_deref().unwrap_or("NONE") {
        "NONE" => Transform::None,
        "LOGISTIC" => Transform::Logistic,
        "SOFTMAX" => Transform::Softmax,
        "SOFTMAX_ZERO" => Transform::SoftmaxZero,
        other => return Err(format!("post_transform {other}")),
    };
    let labels = labels(node);
    let targets = match is_classifier {
        true => labels.len(),
        false => usize::try_from(node.int("n_targets").unwrap_or(1)).unwrap_or(0),
    };
    if targets == 0 || (is_classifier && targets < 2) || targets > 1 << 16 {
        return Err(format!("{targets} {prefix}es or targets"));
    }
    let average = match node.text("aggregate_function").as_deref().unwrap_or("SUM") {
        "SUM" => Aggregate::BaseLast,
        "AVERAGE" => Aggregate::Average,
        "MIN" => Aggregate::Min,
        "MAX" => Aggregate::Max,
        other => return Err(format!("aggregate_function {other}")),
    };
    let table = Table::read(node, wide)?;
    let mut whole = Whole::default();
    let mut trees = Vec::new();
    let columns = table
        .features
        .iter()
        .map(|&feature| feature + 1)
        .max()
        .unwrap_or(0);
    let columns = usize::try_from(columns).map_err(|_| "features without a place".to_string())?;
    for &root in &table.roots()? {
        // Branches of a category's chain meet again: copies are made of what they lead to, within reason.
        let count = 2 * table.ids.len();
        let most = 4 * table.ids.len() + 1000;
        let tree = grow::tree(count, columns + table.ids.len(), most, root, |place| {
            table
                .entry(place, &weights, targets, columns, &mut whole)
                .map_err(crate::error::Error::model)
        });
        trees.push(tree.map_err(|error| error.message().to_string())?);
    }
    let (voted, is_always) = weights.coverage(&table, targets);
    if (matches!(average, Aggregate::Min | Aggregate::Max) || is_classifier) && !is_always {
        return Err("some leaves vote for other classes than others".to_string());
    }
    if matches!(average, Aggregate::Min | Aggregate::Max) && voted.contains(&false) {
        return Err("some targets get nothing from any leaf".to_string());
    }
    if targets == 1 && weights.has_several() {
        return Err("leaves with several numbers for one target".to_string());
    }
    let mut features: Vec<Feature> = (0..columns).map(Feature::Column).collect();
    features.extend(whole.columns.iter().map(|&column| Feature::Whole(column)));
    let width = if wide { Width::F64 } else { Width::F32 };
    let finish = match is_classifier {
        // One sum is handed on as it is, whatever the file asks for.
        false if targets == 1 => Finish::Targets(Transform::None),
        false => Finish::Targets(transform),
        true => {
            if targets == 2 && ((voted[1] && !voted[0] && !base.is_empty()) || (!voted[1] && base.len() == 2))
            {
                return Err("two classes, votes for one, and base values for the other".to_string());
            }
            let voters = voted.iter().filter(|voted| **voted).count();
            Finish::Classes(Classes {
                labels,
                is_binary: targets == 2 && voters == 1,
                voted,
                base: base.clone(),
                all_positive: weights.all_positive,
                transform,
            })
        }
    };
    let base = match is_classifier || base.len() != targets {
        true => vec![0.0; targets],
        false => base,
    };
    Ok(Ensemble {
        forest: Forest {
            features: features.len(),
            targets,
            trees,
            base,
            aggregate: average,
            compared_in: width,
            summed_in: width,
        },
        features,
        finish,
        columns,
    })
}

fn labels(node: &Node) -> Labels {
    let texts = node.texts("classlabels_strings");
    match texts.is_empty() {
        true => Labels::Integers(node.ints("classlabels_int64s").to_vec()),
        false => Labels::Texts(texts),
    }
}

/// A list of numbers, in 32 bits or, `…_as_tensor`, in the type of the input.
fn numbers(node: &Node, name: &str) -> Result<Vec<f64>, Uncovered> {
    let floats = node.floats(name);
    if !floats.is_empty() {
        return Ok(floats.iter().map(|&value| f64::from(value)).collect());
    }
    let tensor = node.attribute(&format!("{name}_as_tensor"));
    match tensor
        .and_then(|attribute| attribute.t.as_ref())
        .map(TensorProto::tensor)
    {
        None => Ok(vec![]),
        Some(Ok(Tensor {
            data: TensorData::F32(values),
            ..
        })) => Ok(values.into_iter().map(f64::from).collect()),
        Some(Ok(Tensor {
            data: TensorData::F64(values),
            ..
        })) => Ok(values),
        Some(_) => Err(format!("{name} of an unusual type")),
    }
}

/// What leaves give, by tree and node.
struct Weights {
    by_leaf: HashMap<(i64, i64), Vec<(u32, f64)>>,
    all_positive: bool,
}

impl Weights {
    fn read(node: &Node, prefix: &str) -> Result<Weights, Uncovered> {
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

    fn has_several(&self) -> bool {
        self.by_leaf.values().any(|weights| weights.len() > 1)
    }

    /// Which targets get anything at all, and whether those that do get it whatever the row.
    fn coverage(&self, table: &Table, targets: usize) -> (Vec<bool>, bool) {
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
struct Whole {
    columns: Vec<usize>,
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
struct Table {
    trees: Vec<i64>,
    ids: Vec<i64>,
    modes: Vec<Mode>,
    features: Vec<i64>,
    values: Vec<f64>,
    /// Places of the branches.
    yes: Vec<usize>,
    no: Vec<usize>,
    missing_is_yes: Vec<bool>,
    wide: bool,
}

impl Table {
    fn read(node: &Node, wide: bool) -> Result<Table, Uncovered> {
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
    fn roots(&self) -> Result<Vec<usize>, Uncovered> {
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
    fn entry(
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
