//! XGBoost's model files, JSON and UBJSON, as versions 1 to 3 write them (their `doc/model.schema`).
//!
//! Compared with `<` in 32 bits, summed in 32 bits from the base score on, tree after tree, like `Booster.predict`. A file
//! that one of XGBoost's scikit-learn classes saved is used as that class would use it: up to its best iteration, and a
//! classifier predicts labels. Any other file is used as `Booster.predict` does: all trees, and what the objective makes of
//! their sums.

use bytes::Bytes;

use super::document::{At, Numbers, Value};
use super::ensemble::{Ensemble, Task};
use super::forest::{Aggregate, Forest, Tree, Width};
use super::link::Link;
use super::xgboost_tree::Table;
use super::{json, ubjson};
use crate::error::{Error, Result};

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
        let table = Table::read(&tree, shape.targets)?;
        for (is_by_categories, feature) in table.splits() {
            let seen = if is_by_categories {
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
        trees.push(table.grow(target, drop, shape.features)?);
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
