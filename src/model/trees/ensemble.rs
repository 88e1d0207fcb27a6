//! A model of trees as its file describes it, whatever library wrote it: a forest and what its sums mean.

use super::forest::{Forest, Node};
use super::link::Link;

/// A model file, read.
#[derive(Clone, Debug, PartialEq)]
pub struct Ensemble {
    /// What wrote it, e.g. `XGBoost 3.2.0`.
    pub format: String,
    /// The library's name for what it was trained for.
    pub objective: String,
    /// Trees and how their leaves are summed.
    pub forest: Forest,
    /// The sums are divided by this first: iterations of a random forest.
    pub divisor: Option<f64>,
    /// What is done to the sums.
    pub link: Link,
    /// What the result means.
    pub task: Task,
    /// The library returns the class alone, as a number (`multi:softmax`).
    pub predicts_class: bool,
    /// It was saved by a classifier of scikit-learn's sort, whose `predict` returns labels.
    pub is_classifier: bool,
    /// Columns of the features, if the file names them.
    pub feature_names: Option<Vec<String>>,
    /// Features that are categories: negative fractions of them are no category 0.
    pub strict_categories: Vec<u32>,
    /// What a reader of the log should know.
    pub notes: Vec<String>,
}

/// What the numbers of a row mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// They are what was asked for.
    Values,
    /// The probability of class 1 of two.
    TwoClasses,
    /// A probability for each class.
    Classes,
    /// The probability of each of several labels, of which any number may hold.
    Labels,
}

impl Ensemble {
    /// Facts for people: `100 trees, 3,100 leaves, depth 6, 13 features`.
    pub fn summary(&self) -> String {
        let trees = &self.forest.trees;
        let leaves: usize = trees
            .iter()
            .map(|tree| {
                tree.nodes
                    .iter()
                    .filter(|node| matches!(node, Node::Leaf(_)))
                    .count()
            })
            .sum();
        format!(
            "{} trees, {leaves} leaves, depth {}, {} features",
            trees.len(),
            trees.iter().map(depth).max().unwrap_or(0),
            self.forest.features
        )
    }
}

/// Tests on the longest way from the root to a leaf.
fn depth(tree: &super::forest::Tree) -> usize {
    let mut depths = vec![0; tree.nodes.len()];
    for (place, node) in tree.nodes.iter().enumerate() {
        if let Node::Split(split) = node {
            // Children stand behind their parents.
            depths[split.left as usize] = depths[place] + 1;
            depths[split.right as usize] = depths[place] + 1;
        }
    }
    depths.into_iter().max().unwrap_or(0)
}
