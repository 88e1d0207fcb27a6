//! A forest: what XGBoost, LightGBM and ONNX trees have in common, with nothing left to interpret.
//!
//! Formats differ in how they write a test (`<`, `≤`, `>`, equality, sets), where missing values go and how leaves are
//! summed. All of that is settled when a model is read, so that whoever evaluates a forest knows two tests only:
//! `x < threshold` and membership in a set. `x ≤ t` is `x < next_up(t)`; `>` and `≥` swap the branches; `x = t` is
//! two tests.
//!
//! [`Forest::score_row`] is the definition of what a forest computes; faster evaluators must agree with it bit for bit.

/// An ensemble of decision trees over the features of a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Forest {
    /// Features of a row.
    pub features: usize,
    /// Numbers that are computed for a row.
    pub targets: usize,
    /// The trees, in the order in which their leaves are added.
    pub trees: Vec<Tree>,
    /// One number per target, which the leaves are added to.
    pub base: Vec<f64>,
    /// How the leaves that a row reaches become a target.
    pub aggregate: Aggregate,
    /// The type in which features and thresholds are compared.
    pub compared_in: Width,
    /// The type in which leaves are added, one after the other.
    pub summed_in: Width,
}

/// A floating-point type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 32 bits. Thresholds, leaves and base values are then numbers that an f32 holds exactly.
    F32,
    /// 64 bits.
    F64,
}

/// How the leaves that a row reaches become a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregate {
    /// Base + leaf + leaf + …, from left to right.
    BaseFirst,
    /// (0 + leaf + leaf + …) + base.
    BaseLast,
    /// (0 + leaf + leaf + …) / trees + base.
    Average,
    /// The least leaf, + base.
    Min,
    /// The greatest leaf, + base.
    Max,
}

/// A decision tree; `nodes[0]` is its root, and children stand behind their parents.
#[derive(Clone, Debug, PartialEq)]
pub struct Tree {
    /// Splits and leaves.
    pub nodes: Vec<Node>,
}

/// A node of a tree.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// Goes on to the left or to the right.
    Split(Split),
    /// Ends, with what it gives to each target it names: (target, weight).
    Leaf(Vec<(u32, f64)>),
}

/// A test of one feature.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// Index of the feature.
    pub feature: u32,
    /// What is to hold for a row to go left.
    pub test: Test,
    /// Where a row goes whose feature is missing: NaN, and zero if `zero_is_missing`.
    pub missing_goes_left: bool,
    /// Whether numbers within ±1e-35 are missing, as in LightGBM's `zero_as_missing`.
    pub zero_is_missing: bool,
    /// Index of the left child in the tree.
    pub left: u32,
    /// Index of the right child in the tree.
    pub right: u32,
}

/// What is to hold for a row to go left.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// The feature is less than this.
    Less(f64),
    /// The feature, with its fraction cut off, is one of these; sorted. Negative numbers and those of 2^31 and more never
    /// are.
    Member(Vec<u32>),
}

/// What LightGBM takes for zero: its `kZeroThreshold`, a 32-bit number.
pub const ZERO: f64 = 1e-35f32 as f64;

impl Split {
    /// Whether a row with this feature goes left.
    pub fn goes_left(&self, value: f64) -> bool {
        if value.is_nan() || (self.zero_is_missing && value.abs() <= ZERO) {
            return self.missing_goes_left;
        }
        match &self.test {
            Test::Less(threshold) => value < *threshold,
            Test::Member(categories) => {
                value > -1.0 && value < 2_147_483_648.0 && categories.binary_search(&(value as u32)).is_ok()
            }
        }
    }
}

impl Tree {
    /// The leaf that a row reaches.
    pub fn leaf(&self, row: &[f64]) -> &[(u32, f64)] {
        let mut at = 0;
        loop {
            match &self.nodes[at as usize] {
                Node::Leaf(weights) => return weights,
                Node::Split(split) if split.goes_left(row[split.feature as usize]) => at = split.left,
                Node::Split(split) => at = split.right,
            }
        }
    }
}

impl Forest {
    /// The targets of one row, in the type of `summed_in`; `row` holds every feature, in the type of `compared_in`.
    ///
    /// Slow and plain on purpose.
    pub fn score_row(&self, row: &[f64]) -> Vec<f64> {
        let round = |value: f64| match self.summed_in {
            Width::F32 => f64::from(value as f32),
            Width::F64 => value,
        };
        let mut sums: Vec<f64> = match self.aggregate {
            Aggregate::BaseFirst => self.base.clone(),
            Aggregate::Min => vec![f64::INFINITY; self.targets],
            Aggregate::Max => vec![f64::NEG_INFINITY; self.targets],
            Aggregate::BaseLast | Aggregate::Average => vec![0.0; self.targets],
        };
        for tree in &self.trees {
            for &(target, weight) in tree.leaf(row) {
                let sum = &mut sums[target as usize];
                *sum = match self.aggregate {
                    Aggregate::Min if weight < *sum => weight,
                    Aggregate::Max if weight > *sum => weight,
                    Aggregate::Min | Aggregate::Max => *sum,
                    _ => round(*sum + weight),
                };
            }
        }
        for (sum, base) in sums.iter_mut().zip(&self.base) {
            match self.aggregate {
                Aggregate::BaseFirst => {}
                Aggregate::Average => *sum = round(round(*sum / self.trees.len() as f64) + base),
                _ => *sum = round(*sum + base),
            }
        }
        sums
    }
}
