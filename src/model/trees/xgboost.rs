//! XGBoost's model files, JSON and UBJSON, as versions 1 to 3 write them (their `doc/model.schema`).
//!
//! Compared with `<` in 32 bits, summed in 32 bits from the base score on, tree after tree, like `Booster.predict`. A file
//! that one of XGBoost's scikit-learn classes saved is used as that class would use it: up to its best iteration, and a
//! classifier predicts labels. Any other file is used as `Booster.predict` does: all trees, and what the objective makes of
//! their sums.

use bytes::Bytes;

use super::document::{At, Numbers, Value};
use super::ensemble::{Ensemble, Task};
use super::forest::{Aggregate, Forest, Test, Tree, Width};
use super::grow::{self, Entry};
use super::link::Link;
use super::{json, ubjson};
use crate::error::{Error, Result};

/// Categories from here on are taken for none: a float no longer holds every whole number.
const MOST_CATEGORIES: i32 = 1 << 24;
/// Most features and targets, against files that announce more than anybody has.
const MOST_FEATURES: usize = 1 << 20;
const MOST_TARGETS: usize = 1 << 16;

/// Reads a model file.
///
/// # Errors
/// `Model`, for a file that is damaged, or that needs what is not built here (the message says what to do).
pub fn read(bytes: &Bytes) -> Result<Ensemble> {
    let is_ubjson = bytes
        .get(1)
        .is_some_and(|byte| !byte.is_ascii_whitespace() && *byte != b'"');
    let document: Value = if is_ubjson {
        ubjson::parse(bytes)?
    } else {
        json::parse(bytes)?
    };
    let root = At::root(&document);
    let learner = root.get("learner")?;
    let shape = Shape::read(&learner)?;
    let name = learner.get("objective")?.get("name")?.text()?.to_string();
    let objective = Objective::named(&name, &shape)?;
    let scikit = Scikit::read(&learner)?;

    let (model, drops) = gradient_booster(&learner.get("gradient_booster")?)?;
    let mut trees = read_trees(&model, &shape, drops.as_ref())?;
    let mut notes = Vec::new();
    if let Some(used) = best_iteration(&learner, &model, scikit.is_some(), trees.trees.len())? {
        if used < trees.trees.len() {
            notes.push(format!(
                "of the {} trees the first {used} are used: the file names a best iteration",
                trees.trees.len()
            ));
        }
        trees.trees.truncate(used);
    }
    if !trees.strict_categories.is_empty() {
        notes.push("columns of categories hold their codes, as the model was trained on".to_string());
    }
    let base = shape.base.iter().map(|&base| f64::from(objective.margin(base)));
    Ok(Ensemble {
        format: format!(
            "XGBoost {}, {}",
            version(&root)?,
            if is_ubjson { "UBJSON" } else { "JSON" }
        ),
        objective: name,
        forest: Forest {
            features: shape.features,
            targets: shape.targets,
            trees: trees.trees,
            base: base.collect(),
            aggregate: Aggregate::BaseFirst,
            compared_in: Width::F32,
            summed_in: Width::F32,
        },
        divisor: None,
        link: objective.link,
        task: objective.task,
        predicts_class: objective.predicts_class,
        is_classifier: scikit.is_some_and(|scikit| scikit.is_classifier) && objective.task != Task::Values,
        feature_names: feature_names(&learner, shape.features)?,
        strict_categories: trees.strict_categories,
        notes,
    })
}

fn version(root: &At) -> Result<String> {
    let Some(version) = root.find("version") else {
        return Ok("of unknown version".to_string());
    };
    let parts: Vec<String> = version.integers()?.iter().map(i32::to_string).collect();
    Ok(parts.join("."))
}

/// The section `learner_model_param`.
struct Shape {
    features: usize,
    /// Classes, as far as there are more than two.
    classes: usize,
    targets: usize,
    /// As the user gave it, or training found it.
    base: Vec<f32>,
}

impl Shape {
    fn read(learner: &At) -> Result<Shape> {
        let params = learner.get("learner_model_param")?;
        let count = |key: &str| params.find(key).map_or(Ok(0), |count| count.count());
        let features = params.get("num_feature")?.count()?;
        let classes = count("num_class")?;
        let targets = count("num_target")?.max(classes).max(1);
        if features > MOST_FEATURES || targets > MOST_TARGETS {
            return Err(params.wrong(&format!(
                "{features} features and {targets} targets, at most {MOST_FEATURES} and {MOST_TARGETS} can be"
            )));
        }
        let at = params.get("base_score")?;
        // Since 3.1 a list in a string, one number per target or one for all.
        let base: Vec<f32> = match at.text().ok().filter(|text| text.trim_start().starts_with('[')) {
            Some(text) => match json::parse(&Bytes::copy_from_slice(text.as_bytes()))? {
                Value::Numbers(numbers) => numbers.iter().map(|number| number as f32).collect(),
                _ => return Err(at.wrong("a list of numbers is needed")),
            },
            None => vec![at.number()? as f32],
        };
        let base = match base.len() {
            1 => vec![base[0]; targets],
            given if given == targets => base,
            given => return Err(at.wrong(&format!("{given} numbers, and there are {targets} targets"))),
        };
        Ok(Shape {
            features,
            classes,
            targets,
            base,
        })
    }
}

/// What a model was trained for.
struct Objective {
    link: Link,
    task: Task,
    predicts_class: bool,
    /// How the base score, which is stored as a result, becomes a sum.
    base: Base,
}

enum Base {
    Same,
    Logit,
    Log,
}

impl Objective {
    fn named(name: &str, shape: &Shape) -> Result<Objective> {
        let several = shape.targets > 1;
        let sigmoid = Link::Sigmoid { slope: 1.0 };
        let two = if several { Task::Labels } else { Task::TwoClasses };
        let (link, task, base) = match name {
            "reg:squarederror"
            | "reg:linear"
            | "reg:squaredlogerror"
            | "reg:pseudohubererror"
            | "reg:absoluteerror"
            | "reg:quantileerror"
            | "reg:expectileerror" => (Link::Identity, Task::Values, Base::Same),
            _ if name.starts_with("rank:") => (Link::Identity, Task::Values, Base::Same),
            "reg:logistic" => (sigmoid, Task::Values, Base::Logit),
            "binary:logistic" => (sigmoid, two, Base::Logit),
            "binary:logitraw" => (Link::Identity, Task::Values, Base::Same),
            "binary:hinge" => (Link::Hinge, two, Base::Same),
            "count:poisson" | "reg:gamma" | "reg:tweedie" | "survival:cox" | "survival:aft" => {
                (Link::Exp, Task::Values, Base::Log)
            }
            "multi:softmax" | "multi:softprob" if shape.classes > 1 => {
                (Link::Softmax, Task::Classes, Base::Same)
            }
            other => {
                return Err(Error::model(format!(
                    "the model was trained with the objective {other:?}, and this version does not know what \
                     becomes of its sums"
                ))
                .with_hint("export it to ONNX with the function that its sums go through"));
            }
        };
        Ok(Objective {
            link,
            task,
            predicts_class: name == "multi:softmax",
            base,
        })
    }

    fn margin(&self, base: f32) -> f32 {
        match self.base {
            Base::Same => base,
            Base::Logit => -(1.0 / base.clamp(1e-6, 1.0 - 1e-6) - 1.0).ln(),
            Base::Log => base.ln(),
        }
    }
}

/// The attribute that XGBoost's scikit-learn classes leave in their files.
struct Scikit {
    is_classifier: bool,
}

impl Scikit {
    fn read(learner: &At) -> Result<Option<Scikit>> {
        let Some(attribute) = attribute(learner, "scikit_learn") else {
            return Ok(None);
        };
        let unreadable = |_| attribute.wrong("it is not the JSON that XGBoost writes");
        let facts: serde_json::Value = serde_json::from_str(attribute.text()?).map_err(unreadable)?;
        let says = |key: &str| {
            facts
                .get(key)
                .and_then(|value| value.as_str())
                .unwrap_or_default()
        };
        // Versions 1.x name the class and, until 1.6, the labels that it was given.
        let is_classifier = says("_estimator_type") == "classifier" || says("type").ends_with("Classifier");
        if let Some(labels) = facts.get("classes_").and_then(|labels| labels.as_array()) {
            let in_order = labels.iter().enumerate().all(|(place, label)| {
                label
                    .as_f64()
                    .or_else(|| label.as_str()?.parse().ok())
                    .is_some_and(|label| label == place as f64)
            });
            if is_classifier && !in_order {
                return Err(Error::model(
                    "the model has labels of its own (an XGBoost before 1.6 saved it), and this version reads 0, 1, 2, … only",
                )
                .with_hint(
                    "name the labels in a model card: outputs: {probabilities: {select: argmax, labels: […]}}, \
                     after saving the model's booster alone (model.get_booster().save_model)",
                ));
            }
        }
        Ok(Some(Scikit { is_classifier }))
    }
}

fn attribute<'a>(learner: &At<'a>, name: &str) -> Option<At<'a>> {
    learner.find("attributes")?.find(name)
}

/// How many trees XGBoost's scikit-learn classes use, if training stopped early.
fn best_iteration(learner: &At, model: &At, is_scikit: bool, trees: usize) -> Result<Option<usize>> {
    let Some(best) = attribute(learner, "best_iteration").filter(|_| is_scikit) else {
        return Ok(None);
    };
    let rounds = best.count()? + 1;
    // Trees per round differ where training went on from another model; before 2.0 they could not be told apart.
    let end = match model.find("iteration_indptr") {
        Some(starts) => starts.integers()?.get(rounds).copied(),
        None => {
            let param = model.get("gbtree_model_param")?;
            let parallel = param
                .find("num_parallel_tree")
                .map_or(Ok(1), |count| count.count())?;
            let classes = Shape::read(learner)?.targets;
            i32::try_from(rounds.saturating_mul(parallel.max(1)).saturating_mul(classes)).ok()
        }
    };
    match end
        .and_then(|end| usize::try_from(end).ok())
        .filter(|&end| end <= trees)
    {
        Some(end) => Ok(Some(end)),
        None => Err(best.wrong(&format!("the file has no iteration {}", rounds - 1))),
    }
}

/// The trees' section, and what each tree is multiplied by.
fn gradient_booster<'a>(booster: &At<'a>) -> Result<(At<'a>, Option<Numbers>)> {
    match booster.get("name")?.text()? {
        "gbtree" => Ok((booster.get("model")?, None)),
        "dart" => Ok((
            booster.get("gbtree")?.get("model")?,
            Some(booster.get("weight_drop")?.numbers()?),
        )),
        "gblinear" => Err(Error::model(
            "the model is a linear one of XGBoost's (gblinear), and this version reads its trees only",
        )
        .with_hint("export it to ONNX: a linear model is a MatMul and an Add")),
        other => Err(Error::model(format!(
            "the model's booster is {other:?}, which this version does not know"
        ))
        .with_hint("export it to ONNX with onnxmltools.convert_xgboost")),
    }
}

struct Trees {
    trees: Vec<Tree>,
    strict_categories: Vec<u32>,
}

fn read_trees(model: &At, shape: &Shape, drops: Option<&Numbers>) -> Result<Trees> {
    if let Some(cats) = model.find("cats").and_then(|cats| cats.find("enc"))
        && cats.list().map_or(true, |list| list.count() > 0)
    {
        return Err(Error::model(
            "the model brings the names of its categories along, and this version takes their codes only",
        )
        .with_hint(
            "train it on the codes (frame[column].cat.codes), with feature_types='c' for those columns",
        ));
    }
    let classes = model.get("tree_info")?.integers()?;
    let mut trees = Vec::with_capacity(classes.len());
    let (mut categorical, mut numerical) = (vec![false; shape.features], vec![false; shape.features]);
    for (index, tree) in model.get("trees")?.list()?.enumerate() {
        let target = classes.get(index).and_then(|&class| u32::try_from(class).ok());
        let Some(target) = target.filter(|&target| (target as usize) < shape.targets) else {
            return Err(tree.wrong("tree_info has no class for it that the model has"));
        };
        let drop = match drops {
            None => 1.0,
            Some(drops) => drops
                .get(index)
                .ok_or_else(|| tree.wrong("weight_drop has no number for it"))?
                as f32,
        };
        let table = Table::read(&tree, shape)?;
        let splits = (0..table.left.len()).filter(|&place| table.left[place] != -1);
        for (kind, feature) in splits.map(|place| (table.split_type[place], table.features[place])) {
            let seen = if kind == 1 {
                &mut categorical
            } else {
                &mut numerical
            };
            if let Some(seen) = usize::try_from(feature)
                .ok()
                .and_then(|feature| seen.get_mut(feature))
            {
                *seen = true;
            }
        }
        trees.push(table.grow(target, drop, shape)?);
    }
    if trees.len() != classes.len() {
        return Err(model.wrong(&format!(
            "{} trees, and tree_info has {} entries",
            trees.len(),
            classes.len()
        )));
    }
    if let Some(both) = (0..shape.features).find(|&feature| categorical[feature] && numerical[feature]) {
        return Err(model.wrong(&format!(
            "feature {both} is split by thresholds and by categories"
        )));
    }
    let strict = (0..shape.features).filter(|&feature| categorical[feature]);
    Ok(Trees {
        trees,
        strict_categories: strict.map(|feature| feature as u32).collect(),
    })
}

/// A tree as the file holds it: a list per property of its nodes.
struct Table<'a> {
    at: At<'a>,
    left: Vec<i32>,
    right: Vec<i32>,
    features: Vec<i32>,
    conditions: Numbers,
    default_left: Numbers,
    /// 1 for a split by categories.
    split_type: Vec<i32>,
    categories: Vec<i32>,
    /// For each node that splits by categories where its own begin and how many there are.
    segments: Vec<(i32, i32, i32)>,
    /// Leaves with several numbers: all of them, and whether they stand in the order of leaves or of nodes.
    vectors: Option<(Numbers, bool)>,
}

impl<'a> Table<'a> {
    fn read(at: &At<'a>, shape: &Shape) -> Result<Table<'a>> {
        let integers = |key: &str| at.find(key).map_or(Ok(Vec::new()), |list| list.integers());
        let param = at.get("tree_param")?;
        let width = param
            .find("size_leaf_vector")
            .map_or(Ok(1), |width| width.count())?;
        let vectors = match (width, at.find("leaf_weights")) {
            (0 | 1, _) => None,
            (width, _) if width != shape.targets => {
                return Err(param.wrong(&format!(
                    "leaves of {width} numbers for {} targets",
                    shape.targets
                )));
            }
            (_, Some(leaves)) => Some((leaves.numbers()?, true)),
            (_, None) => Some((at.get("base_weights")?.numbers()?, false)),
        };
        let segments = std::iter::zip(integers("categories_nodes")?, integers("categories_segments")?)
            .zip(integers("categories_sizes")?)
            .map(|((node, start), size)| (node, start, size));
        let mut segments: Vec<_> = segments.collect();
        segments.sort_unstable();
        let left = at.get("left_children")?.integers()?;
        let table = Table {
            right: at.get("right_children")?.integers()?,
            features: at.get("split_indices")?.integers()?,
            conditions: at.get("split_conditions")?.numbers()?,
            default_left: at.get("default_left")?.numbers()?,
            split_type: match integers("split_type")? {
                // Before 1.3 there was one type.
                none if none.is_empty() => vec![0; left.len()],
                types => types,
            },
            categories: integers("categories")?,
            segments,
            vectors,
            at: at.clone(),
            left,
        };
        let lengths = [
            ("right_children", table.right.len()),
            ("split_indices", table.features.len()),
            ("split_conditions", table.conditions.len()),
            ("default_left", table.default_left.len()),
            ("split_type", table.split_type.len()),
        ];
        // What several nodes shared would be copied for each of them.
        let in_sets: i64 = table
            .segments
            .iter()
            .map(|&(_, _, size)| i64::from(size.max(0)))
            .sum();
        let leaves = table.left.iter().filter(|&&left| left == -1).count();
        let in_leaves = leaves.saturating_mul(shape.targets);
        if in_sets > table.categories.len() as i64 {
            return Err(at.wrong("sets of categories overlap"));
        }
        if table
            .vectors
            .as_ref()
            .is_some_and(|(vectors, _)| vectors.len() < in_leaves)
        {
            return Err(at.wrong(&format!("{leaves} leaves have fewer than {in_leaves} numbers")));
        }
        match lengths.iter().find(|(_, length)| *length != table.left.len()) {
            None => Ok(table),
            Some((list, length)) => Err(at.wrong(&format!(
                "{list} has {length} entries, and left_children {}",
                table.left.len()
            ))),
        }
    }

    fn grow(&self, target: u32, drop: f32, shape: &Shape) -> Result<Tree> {
        let count = self.left.len();
        grow::tree(count, shape.features, count, 0, |place| {
            self.entry(place, target, drop, shape)
        })
    }

    fn entry(&self, place: usize, target: u32, drop: f32, shape: &Shape) -> Result<Entry> {
        let condition = self.conditions.get(place).unwrap_or(f64::NAN) as f32;
        if self.left[place] == -1 {
            let scaled = |weight: f64| f64::from(weight as f32 * drop);
            let Some((vectors, by_leaf)) = &self.vectors else {
                return Ok(Entry::Leaf(vec![(target, scaled(f64::from(condition)))]));
            };
            let leaf = match by_leaf {
                true => usize::try_from(self.right[place]).unwrap_or(usize::MAX),
                false => place,
            };
            let mut weights = Vec::with_capacity(shape.targets);
            for target in 0..shape.targets {
                let weight = leaf
                    .checked_mul(shape.targets)
                    .and_then(|start| vectors.get(start.checked_add(target)?))
                    .ok_or_else(|| self.at.wrong(&format!("the leaf {place} has no numbers")))?;
                weights.push((target as u32, scaled(weight)));
            }
            return Ok(Entry::Leaf(weights));
        }
        let child = |child: i32| {
            usize::try_from(child)
                .map_err(|_| self.at.wrong(&format!("node {place} has a branch to {child}")))
        };
        let (left, right) = (child(self.left[place])?, child(self.right[place])?);
        let feature = usize::try_from(self.features[place]).unwrap_or(usize::MAX);
        let missing_goes_left = self.default_left.get(place) != Some(0.0);
        if self.split_type[place] != 1 {
            return Ok(Entry::Split {
                feature,
                test: Test::Less(f64::from(condition)),
                missing_goes_left,
                zero_is_missing: false,
                left,
                right,
            });
        }
        // Rows whose category is in the set go right.
        Ok(Entry::Split {
            feature,
            test: Test::Member(self.category_set(place)?),
            missing_goes_left: !missing_goes_left,
            zero_is_missing: false,
            left: right,
            right: left,
        })
    }

    fn category_set(&self, place: usize) -> Result<Vec<u32>> {
        let wrong = |why: &str| {
            self.at
                .wrong(&format!("node {place} splits by categories, and {why}"))
        };
        let found = self
            .segments
            .binary_search_by_key(&(place as i64), |&(node, ..)| i64::from(node))
            .map_err(|_| wrong("the file has none for it"))?;
        let (_, start, size) = self.segments[found];
        let range = || {
            let start = usize::try_from(start).ok()?;
            self.categories
                .get(start..start.checked_add(usize::try_from(size).ok()?)?)
        };
        let mut set = Vec::new();
        for &category in range().ok_or_else(|| wrong("the file has fewer than it says"))? {
            if !(0..MOST_CATEGORIES).contains(&category) {
                return Err(wrong(&format!("{category} is none")));
            }
            set.push(category as u32);
        }
        set.sort_unstable();
        set.dedup();
        Ok(set)
    }
}

fn feature_names(learner: &At, features: usize) -> Result<Option<Vec<String>>> {
    let Some(at) = learner.find("feature_names") else {
        return Ok(None);
    };
    let mut names = Vec::new();
    for name in at.list()? {
        names.push(name.text()?.to_string());
    }
    match names.len() {
        0 => Ok(None),
        given if given == features => Ok(Some(names)),
        given => Err(at.wrong(&format!("{given} names, and there are {features} features"))),
    }
}
