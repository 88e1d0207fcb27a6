//! A `TreeEnsembleRegressor` or `TreeEnsembleClassifier` as a forest, and what ONNX Runtime makes of its sums.
//!
//! Thresholds are compared and leaves are summed in 32 bits, in 64 for inputs of float64. Roots are the first nodes of
//! each tree in the order of the file, and that is the order of the sum. A test for equality with a category (LightGBM's
//! sets are chains of them) becomes membership in a set; see [`Feature::Whole`].

use super::Uncovered;
use super::proto::{Node, TensorProto};
use super::table::{Table, Weights, Whole};
use crate::model::trees::forest::{Aggregate, Forest, Width};
use crate::model::trees::grow;
use crate::tensor::{Tensor, TensorData};

/// Most columns of the input that trees may ask for.
const MOST_COLUMNS: usize = 1 << 20;

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
    if columns > MOST_COLUMNS {
        return Err(format!("more than {MOST_COLUMNS} columns"));
    }
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
pub fn numbers(node: &Node, name: &str) -> Result<Vec<f64>, Uncovered> {
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
