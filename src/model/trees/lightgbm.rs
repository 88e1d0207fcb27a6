//! LightGBM's text models, versions 2 to 4 (`GBDT::SaveModelToString`, `Tree::ToString`).
//!
//! A header of `key=value` lines, a block per tree, and what pandas knew of categories at the end. Compared and summed in
//! 64 bits; `x ≤ threshold` goes left; where missing values go is written per node (`Tree::NumericalDecision`). The file
//! is used as `Booster.predict` does: all trees in it, and what the objective makes of their sums.

use std::collections::HashMap;

use super::document::damaged;
use super::ensemble::{Ensemble, Task};
use super::forest::{Aggregate, Forest, Test, Tree, Width, ZERO};
use super::grow::{self, Entry};
use super::link::Link;
use crate::error::{Error, Result};

/// Most features and classes, against files that announce more than anybody has.
const MOST_FEATURES: usize = 1 << 20;
const MOST_CLASSES: usize = 1 << 16;

/// Bits of `decision_type`.
const CATEGORICAL: u8 = 1;
const DEFAULT_LEFT: u8 = 2;

type Lines<'a> = HashMap<&'a str, &'a str>;

/// Reads a model file.
///
/// # Errors
/// `Model`, for a file that is damaged, or that needs what is not built here (the message says what to do).
pub fn read(bytes: &[u8]) -> Result<Ensemble> {
    let text = std::str::from_utf8(bytes).map_err(|cause| damaged(&format!("it is no UTF-8: {cause}")))?;
    let (header, blocks) = sections(text)?;
    let field = |key: &str| {
        header
            .get(key)
            .copied()
            .ok_or_else(|| damaged(&format!("its header has no {key}")))
    };
    let count = |key: &str, most: usize| {
        let text = field(key)?;
        text.parse::<usize>()
            .ok()
            .filter(|count| *count <= most)
            .ok_or_else(|| damaged(&format!("{key}={text}, a number up to {most} is needed")))
    };
    let features = count("max_feature_idx", MOST_FEATURES)? + 1;
    let targets = count("num_tree_per_iteration", MOST_CLASSES)?;
    let classes = count("num_class", MOST_CLASSES)?;
    if targets == 0 || (classes > 1 && targets != classes) {
        return Err(damaged(&format!(
            "{targets} trees per iteration for {classes} classes"
        )));
    }
    let objective = header.get("objective").copied().unwrap_or("none");
    let (link, task) = objective_of(objective, targets)?;
    check_categories(text, header.get("feature_infos").copied().unwrap_or_default())?;

    let mut trees = Vec::with_capacity(blocks.len());
    for (index, (line, block)) in blocks.iter().enumerate() {
        let tree = read_tree(block, features, (index % targets) as u32);
        trees.push(tree.map_err(|error| error.with("tree", format!("{index}, line {line}")))?);
    }
    if trees.len() % targets != 0 {
        return Err(damaged(&format!(
            "{} trees, and each iteration has {targets}",
            trees.len()
        )));
    }
    let is_average = header.contains_key("average_output");
    let iterations = trees.len() / targets;
    Ok(Ensemble {
        format: format!(
            "LightGBM {}",
            header.get("version").copied().unwrap_or("of unknown version")
        ),
        objective: objective.to_string(),
        forest: Forest {
            features,
            targets,
            trees,
            base: vec![0.0; targets],
            aggregate: Aggregate::BaseFirst,
            compared_in: Width::F64,
            summed_in: Width::F64,
        },
        divisor: (is_average && iterations > 0).then_some(iterations as f64),
        link,
        task,
        predicts_class: false,
        is_classifier: false,
        feature_names: feature_names(field("feature_names")?, features)?,
        strict_categories: vec![],
        notes: vec![],
    })
}

/// The header, and for each tree its first line and its fields.
fn sections(text: &str) -> Result<(Lines<'_>, Vec<(usize, Lines<'_>)>)> {
    let mut lines = text.lines().enumerate();
    if lines.next().map(|(_, line)| line.trim_end()) != Some("tree") {
        return Err(damaged("its first line is not \"tree\""));
    }
    let mut header = Lines::new();
    let mut blocks: Vec<(usize, Lines<'_>)> = Vec::new();
    for (number, line) in lines {
        let line = line.trim_end();
        if line == "end of trees" {
            return Ok((header, blocks));
        }
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        if key == "Tree" {
            blocks.push((number + 1, Lines::new()));
        } else if !key.is_empty() {
            let fields = blocks.last_mut().map_or(&mut header, |(_, fields)| fields);
            fields.insert(key, value);
        }
    }
    Err(damaged("it ends before its line \"end of trees\""))
}

/// What becomes of the sums of a model trained for `objective`, e.g. `binary sigmoid:1`.
fn objective_of(objective: &str, targets: usize) -> Result<(Link, Task)> {
    let mut words = objective.split_ascii_whitespace();
    let name = words.next().unwrap_or("none");
    let parameters: Vec<&str> = words.collect();
    let slope = || {
        let text = parameters.iter().find_map(|word| word.strip_prefix("sigmoid:"));
        text.unwrap_or("1")
            .parse::<f64>()
            .map(|slope| Link::Sigmoid { slope })
            .map_err(|_| damaged(&format!("objective={objective}: sigmoid needs a number")))
    };
    Ok(match name {
        "binary" => (slope()?, Task::TwoClasses),
        "multiclass" if targets > 1 => (Link::Softmax, Task::Classes),
        "multiclassova" if targets > 1 => (slope()?, Task::Classes),
        "cross_entropy" | "xentropy" => (Link::Sigmoid { slope: 1.0 }, Task::Values),
        "cross_entropy_lambda" | "xentlambda" => (Link::Softplus, Task::Values),
        "poisson" | "gamma" | "tweedie" => (Link::Exp, Task::Values),
        "regression" | "regression_l1" | "huber" | "fair" | "quantile" | "mape" => {
            match parameters.contains(&"sqrt") {
                true => (Link::SignedSquare, Task::Values),
                false => (Link::Identity, Task::Values),
            }
        }
        "lambdarank" | "rank_xendcg" | "none" | "custom" => (Link::Identity, Task::Values),
        other => {
            return Err(Error::model(format!(
                "the model was trained with the objective {other:?}, and this version does not know what becomes of \
                 its sums"
            ))
            .with_hint("export it to ONNX with onnxmltools.convert_lightgbm"));
        }
    })
}

/// Categories of pandas are numbers from 0 on for LightGBM, in an order that the file's last line keeps. Columns hold
/// the categories themselves, so only those that are their own numbers can be read.
fn check_categories(text: &str, infos: &str) -> Result<()> {
    let last = text
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("pandas_categorical:"));
    let Some(categories) = last
        .map(str::trim)
        .filter(|json| !["null", "[]", ""].contains(json))
    else {
        return Ok(());
    };
    let lists: Vec<Vec<serde_json::Value>> = serde_json::from_str(categories)
        .map_err(|cause| damaged("its line pandas_categorical can't be read").with_source(cause))?;
    let is_own_number = |list: &Vec<serde_json::Value>| {
        list.iter()
            .enumerate()
            .all(|(place, category)| category.as_f64() == Some(place as f64))
    };
    let Some(other) = lists.iter().find(|list| !is_own_number(list)) else {
        return Ok(());
    };
    let shown: Vec<String> = other.iter().take(3).map(serde_json::Value::to_string).collect();
    let how_many = infos
        .split_ascii_whitespace()
        .filter(|info| !info.starts_with('['))
        .count();
    Err(Error::model(format!(
        "the model was trained on columns of pandas categories ({}, …), and the file does not say which of its {how_many} \
         columns without a range they are",
        shown.join(", ")
    ))
    .with_hint(
        "train it on the codes: frame[column] = frame[column].cat.codes, with categorical_feature=[column], \
         and give Floe columns of codes",
    ))
}

/// `None` for the names that LightGBM makes up.
fn feature_names(text: &str, features: usize) -> Result<Option<Vec<String>>> {
    let names: Vec<String> = text
        .split(' ')
        .filter(|name| !name.is_empty())
        .map(String::from)
        .collect();
    if names.len() != features {
        return Err(damaged(&format!(
            "feature_names has {} names, and max_feature_idx says {features}",
            names.len()
        )));
    }
    let made_up = names
        .iter()
        .enumerate()
        .all(|(place, name)| *name == format!("Column_{place}"));
    Ok((!made_up).then_some(names))
}

/// A tree's fields as lists.
struct Table {
    features: Vec<usize>,
    thresholds: Vec<f64>,
    decisions: Vec<u8>,
    left: Vec<i64>,
    right: Vec<i64>,
    leaves: Vec<f64>,
    boundaries: Vec<usize>,
    bits: Vec<u32>,
}

fn read_tree(fields: &Lines, features: usize, target: u32) -> Result<Tree> {
    if fields.get("is_linear").is_some_and(|value| *value == "1") {
        return Err(
            Error::model("the model has linear functions in its leaves (linear_tree), and this version reads constant leaves only")
                .with_hint("train it with linear_tree=false"),
        );
    }
    let leaves: usize = one(fields, "num_leaves")?;
    let table = Table {
        leaves: list(fields, "leaf_value")?,
        features: list(fields, "split_feature")?,
        thresholds: list(fields, "threshold")?,
        decisions: list(fields, "decision_type")?,
        left: list(fields, "left_child")?,
        right: list(fields, "right_child")?,
        boundaries: list(fields, "cat_boundaries")?,
        bits: list(fields, "cat_threshold")?,
    };
    if leaves == 0 || table.leaves.len() != leaves {
        return Err(damaged(&format!(
            "num_leaves={leaves}, and leaf_value has {}",
            table.leaves.len()
        )));
    }
    if leaves == 1 {
        return grow::tree(1, features, 1, 0, |_| {
            Ok(Entry::Leaf(vec![(target, table.leaves[0])]))
        });
    }
    let splits = leaves - 1;
    for (key, length) in [
        ("split_feature", table.features.len()),
        ("threshold", table.thresholds.len()),
        ("decision_type", table.decisions.len()),
        ("left_child", table.left.len()),
        ("right_child", table.right.len()),
    ] {
        if length != splits {
            return Err(damaged(&format!(
                "{key} has {length} entries, and there are {splits} splits"
            )));
        }
    }
    // Leaves stand behind the splits: child -1 is leaf 0.
    let count = splits + leaves;
    // A set that several nodes shared would be copied for each of them.
    let mut unused = vec![true; table.boundaries.len()];
    grow::tree(count, features, count, 0, |place| {
        if place >= splits {
            return Ok(Entry::Leaf(vec![(target, table.leaves[place - splits])]));
        }
        if table.decisions[place] & CATEGORICAL != 0 {
            let set = unused.get_mut(table.thresholds[place] as usize);
            if !set.is_some_and(std::mem::take) {
                return Err(damaged("a set of categories is used twice, or is not there"));
            }
        }
        table.split(place, splits)
    })
}

impl Table {
    fn split(&self, place: usize, splits: usize) -> Result<Entry> {
        let child = |child: i64| {
            let place = if child < 0 { splits as i64 + !child } else { child };
            usize::try_from(place).map_err(|_| damaged(&format!("a branch leads to {child}")))
        };
        let (left, right) = (child(self.left[place])?, child(self.right[place])?);
        let feature = self.features[place];
        let decision = self.decisions[place];
        let threshold = self.thresholds[place];
        if decision & CATEGORICAL != 0 {
            return Ok(Entry::Split {
                feature,
                test: Test::Member(self.category_set(threshold)?),
                missing_goes_left: false,
                zero_is_missing: false,
                left,
                right,
            });
        }
        let default_left = decision & DEFAULT_LEFT != 0;
        let (missing_goes_left, zero_is_missing) = match decision >> 2 & 3 {
            // No missing values were seen: NaN is taken for 0.
            0 => (0.0 <= threshold, false),
            1 => (default_left, true),
            2 => (default_left, false),
            other => return Err(damaged(&format!("missing values are of sort {other}"))),
        };
        let split = Entry::Split {
            feature,
            test: Test::Less(beyond(threshold)),
            missing_goes_left,
            zero_is_missing,
            left,
            right,
        };
        // Where only missing values tell rows apart, all numbers go left, infinity among them.
        Ok(match threshold == f64::INFINITY {
            true => split.never_right(),
            false => split,
        })
    }

    /// The categories of the set with this number: bits, 32 in a word.
    fn category_set(&self, number: f64) -> Result<Vec<u32>> {
        let wrong = || damaged(&format!("there is no set of categories {number}"));
        let at = number as usize;
        if at as f64 != number {
            return Err(wrong());
        }
        let (Some(&start), Some(&end)) = (self.boundaries.get(at), self.boundaries.get(at + 1)) else {
            return Err(wrong());
        };
        let words = self.bits.get(start..end).ok_or_else(wrong)?;
        if at > 0 && self.boundaries[at - 1] > start {
            return Err(damaged("sets of categories overlap"));
        }
        let mut set = Vec::new();
        for (index, word) in words.iter().enumerate() {
            set.extend(
                (0..32)
                    .filter(|bit| word >> bit & 1 == 1)
                    .map(|bit| index as u32 * 32 + bit),
            );
        }
        Ok(set)
    }
}

/// What a number is less than if and only if LightGBM finds it not greater than `threshold`. What is almost zero is zero
/// for it: rows are handed over without such numbers (`RowPairFunctionFromDenseMatric`).
fn beyond(threshold: f64) -> f64 {
    if (0.0..ZERO).contains(&threshold) {
        ZERO.next_up()
    } else if (-ZERO..0.0).contains(&threshold) {
        -ZERO
    } else {
        threshold.next_up()
    }
}

fn one<T: std::str::FromStr>(fields: &Lines, key: &str) -> Result<T> {
    let text = fields
        .get(key)
        .ok_or_else(|| damaged(&format!("it has no {key}")))?;
    text.trim()
        .parse()
        .map_err(|_| damaged(&format!("{key}={text} can't be read")))
}

/// The numbers of a field; none if it is not there.
fn list<T: std::str::FromStr>(fields: &Lines, key: &str) -> Result<Vec<T>> {
    let text = fields.get(key).copied().unwrap_or_default();
    let mut numbers = Vec::new();
    for word in text.split_ascii_whitespace() {
        numbers.push(word.parse().map_err(|_| {
            damaged(&format!(
                "{key}: {} can't be read",
                word.chars().take(40).collect::<String>()
            ))
        })?);
    }
    Ok(numbers)
}
