//! The files of XGBoost and LightGBM as models with functions.
//!
//! A model without a card has the functions that Snowflake's registry gives it, with its names for columns: `predict`,
//! and `predict_proba` for whatever tells classes apart. A card may feed columns by other names and choose among all that
//! such a model can return: `label`, `probabilities`, `prediction`, `margin`.

use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::ensemble::{Ensemble, Task};
use super::forest::Width;
use super::worker::{Piece, Scores, Shared, TreeModel};
use super::{Evaluator, lightgbm, xgboost};
use crate::error::{Error, Result};
use crate::model::card::{self, FILE_NAME, FunctionCard, InputCard, OutputCard, OutputsCard};
use crate::model::engine::Engine;
use crate::model::folder::{self, DEFAULT_FUNCTION, label};
use crate::model::postprocess::{self, Postprocessed, Step};
use crate::model::{Loaded, Model, ModelFiles, digest, foreign};
use crate::signature::{Dim, Function, InputFeature, OutputFeature, OutputKind, Source};
use crate::tensor::DType;

/// The one input of every model of trees.
const INPUT: &str = "features";
/// The function that returns probabilities.
const PROBABILITIES: &str = "predict_proba";
/// More results than this go into one column of lists.
const MOST_COLUMNS: usize = 500;

/// A folder or file with models of trees, opened.
pub struct TreesModel {
    description: String,
    functions: Vec<Function>,
    parts: Vec<Part>,
    digest: String,
    notes: Vec<String>,
    /// A card names the functions.
    is_carded: bool,
}

struct Part {
    shared: Arc<Shared>,
    pieces: Vec<Piece>,
    steps: Vec<Step>,
}

/// Whether the model at this location is one of trees: the card names such a file, or there is one and no ONNX file.
///
/// # Errors
/// `Model`, for a card that is wrong.
pub fn claims(files: &ModelFiles) -> Result<bool> {
    let card = folder::read_card(files)?;
    let functions = card.functions.iter().flat_map(|functions| &functions.0);
    let mut named = functions.filter_map(|(_, function)| function.model.as_deref());
    let is_ensemble = |path: &str| {
        let path = path.strip_prefix("./").unwrap_or(path);
        files
            .files
            .get(path)
            .is_some_and(|bytes| foreign::is_ensemble(bytes))
    };
    if named.any(is_ensemble) {
        return Ok(true);
    }
    let any_onnx = files
        .files
        .keys()
        .any(|path| path.to_ascii_lowercase().ends_with(".onnx"));
    Ok(!any_onnx && !ensembles(files).is_empty())
}

impl TreesModel {
    /// Opens the model in `files`.
    ///
    /// # Errors
    /// `Model`, for files that are damaged or need what is not built, and for a card that does not fit.
    pub fn open(files: &ModelFiles) -> Result<TreesModel> {
        let card = folder::read_card(files)?;
        let paths = ensembles(files);
        let named = folder::functions(files, &card, &paths, || only(files, &paths))?;
        let mut opened = Opened::default();
        let mut model = TreesModel {
            description: String::new(),
            functions: Vec::new(),
            parts: Vec::new(),
            digest: String::new(),
            notes: Vec::new(),
            is_carded: named.is_some(),
        };
        match named {
            Some(named) => {
                for function in named {
                    let shared = opened.get(files, &function.path)?;
                    model
                        .add_function(&function.name, Some(&function.card), &shared)
                        .map_err(|error| error.with("model", &shared.label))?;
                }
            }
            None => {
                let shared = opened.get(files, &only(files, &paths)?)?;
                model.add_function(DEFAULT_FUNCTION, None, &shared)?;
                if shared.ensemble.task != Task::Values {
                    model.add_function(PROBABILITIES, None, &shared)?;
                }
            }
        }
        let mut digested: Vec<(&str, &Bytes)> = Vec::new();
        for (path, shared) in &opened.0 {
            digested.push((path, &files.files[path]));
            model.notes.extend(shared.ensemble.notes.iter().cloned());
        }
        if let Some(bytes) = files.files.get(card::FILE_NAME) {
            digested.push((card::FILE_NAME, bytes));
        }
        let mut formats: Vec<&str> = opened
            .0
            .values()
            .map(|shared| shared.ensemble.format.as_str())
            .collect();
        formats.dedup();
        model.description = format!("trees ({})", formats.join("; "));
        model.digest = digest(digested);
        Ok(model)
    }

    fn add_function(&mut self, name: &str, card: Option<&FunctionCard>, shared: &Arc<Shared>) -> Result<()> {
        let ensemble = &shared.ensemble;
        let (mut pieces, mut outputs, mut steps) = (Vec::new(), Vec::new(), Vec::new());
        for (piece, feature, card) in wanted(name, card, ensemble)? {
            let (step, columns) = postprocess::plan(&card, feature)?;
            pieces.push(piece);
            outputs.extend(columns);
            steps.push(step);
        }
        self.functions.push(Function {
            name: name.to_string(),
            inputs: vec![input(name, card, ensemble)?],
            outputs,
            fixed_batch_rows: None,
        });
        self.parts.push(Part {
            shared: Arc::clone(shared),
            pieces,
            steps,
        });
        Ok(())
    }
}

impl Loaded for TreesModel {
    fn describe(&self) -> String {
        self.description.clone()
    }

    fn functions(&self) -> &[Function] {
        &self.functions
    }

    fn default_function(&self) -> Option<&Function> {
        match self.functions.as_slice() {
            // Without a card there is `predict`, and what a classifier can do besides.
            [first, ..] if !self.is_carded => Some(first),
            [only] => Some(only),
            _ => None,
        }
    }

    fn digest(&self) -> &str {
        &self.digest
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }

    fn engines(&self, _function: &Function) -> Vec<Engine> {
        vec![Engine::Trees]
    }

    fn worker(&self, function: &Function, _threads: usize) -> Result<Box<dyn Model>> {
        let mut parts = std::iter::zip(&self.functions, &self.parts);
        let Some((_, part)) = parts.find(|(known, _)| known.name == function.name) else {
            return Err(Error::internal(format!(
                "the model has no function {}",
                function.name
            )));
        };
        let worker = Box::new(TreeModel::new(Arc::clone(&part.shared), part.pieces.clone()));
        if part.steps.iter().all(Step::is_nothing) {
            return Ok(worker);
        }
        Ok(Box::new(Postprocessed {
            inner: worker,
            steps: part.steps.clone(),
        }))
    }
}

/// Model files by their paths, each read once.
#[derive(Default)]
struct Opened(BTreeMap<String, Arc<Shared>>);

impl Opened {
    fn get(&mut self, files: &ModelFiles, path: &str) -> Result<Arc<Shared>> {
        if let Some(shared) = self.0.get(path) {
            return Ok(Arc::clone(shared));
        }
        let label = label(&files.location, path);
        let mut ensemble = read(&files.files[path], path).map_err(|error| error.with("model", &label))?;
        let evaluator = Evaluator::new(&ensemble.forest).map_err(|error| error.with("model", &label))?;
        let summary = ensemble.summary();
        // What runs is the evaluator.
        ensemble.forest.trees = Vec::new();
        ensemble
            .notes
            .insert(0, format!("{path}: {}, {summary}", ensemble.objective));
        let shared = Arc::new(Shared {
            label,
            ensemble,
            evaluator,
        });
        self.0.insert(path.to_string(), Arc::clone(&shared));
        Ok(shared)
    }
}

/// Reads a model file of XGBoost or LightGBM.
///
/// # Errors
/// `Model`, for anything else, for damaged files, and for those that need what is not built.
pub fn read(bytes: &Bytes, path: &str) -> Result<Ensemble> {
    match foreign::by_bytes(bytes) {
        Some(foreign::XGBOOST) => xgboost::read(bytes),
        Some(foreign::LIGHTGBM) => lightgbm::read(bytes),
        Some(other) => Err(foreign::refused(other, path)),
        None => Err(Error::model(format!("{path} is no model of XGBoost or LightGBM"))
            .with_hint("leave model.backend out, and what the file is decides")),
    }
}

fn ensembles(files: &ModelFiles) -> Vec<&str> {
    let all = files.files.iter();
    all.filter(|(_, bytes)| foreign::is_ensemble(bytes))
        .map(|(path, _)| path.as_str())
        .collect()
}

fn only(files: &ModelFiles, paths: &[&str]) -> Result<String> {
    match paths {
        [only] => Ok(only.to_string()),
        [] => {
            let all: Vec<&str> = files.files.keys().map(String::as_str).collect();
            Err(Error::model(format!(
                "there is no model of trees here: none of XGBoost (.ubj, .json) or LightGBM (.txt) among {}",
                folder::listed(&all)
            )))
        }
        several => Err(folder::choose_one(several)),
    }
}

/// The input, as the card or the model's own names say.
fn input(function: &str, card: Option<&FunctionCard>, ensemble: &Ensemble) -> Result<InputFeature> {
    let cards = card.and_then(|card| card.inputs.as_ref());
    if let Some(other) = cards.and_then(|cards| cards.keys().find(|name| *name != INPUT)) {
        return Err(Error::model(format!(
            "{FILE_NAME}: functions.{function}.inputs.{other}: a model of trees has one input, {INPUT}"
        )));
    }
    let card: InputCard = cards
        .and_then(|cards| cards.get(INPUT))
        .cloned()
        .unwrap_or_default();
    let features = ensemble.forest.features;
    let source = match (&card.column, &card.columns, &ensemble.feature_names) {
        (Some(column), ..) => Source::Column(column.clone()),
        (None, Some(columns), _) if columns.len() != features => {
            return Err(Error::model(format!(
                "{FILE_NAME}: functions.{function}.inputs.{INPUT}.columns names {} columns, and the model takes \
                 {features}",
                columns.len()
            )));
        }
        (None, Some(columns), _) => Source::Columns(columns.clone()),
        (None, None, Some(names)) => Source::Columns(names.clone()),
        (None, None, None) => Source::NumericColumns,
    };
    Ok(InputFeature {
        name: INPUT.to_string(),
        dtype: match ensemble.forest.compared_in {
            Width::F32 => DType::F32,
            Width::F64 => DType::F64,
        },
        shape: vec![Dim::Fixed(features)],
        source,
        on_null: card.on_null(),
        affine: card.affine(),
    })
}

type Wanted = (Piece, OutputFeature, OutputCard);

/// What a function returns: what its card asks for, else what the registry's function of its name does.
fn wanted(function: &str, card: Option<&FunctionCard>, ensemble: &Ensemble) -> Result<Vec<Wanted>> {
    let chosen: Vec<(String, OutputCard)> = match card.and_then(|card| card.outputs.as_ref()) {
        None => return Ok(registry_outputs(function, ensemble)),
        Some(OutputsCard::Names(names)) => names
            .iter()
            .map(|name| (name.clone(), OutputCard::default()))
            .collect(),
        Some(OutputsCard::Each(each)) => {
            let cards = each.0.iter();
            cards
                .map(|(name, card)| (name.clone(), card.clone().unwrap_or_default()))
                .collect()
        }
    };
    let known = named_outputs(ensemble);
    let mut wanted = Vec::with_capacity(chosen.len());
    for (name, card) in chosen {
        let Some((_, scores)) = known.iter().find(|(known, _)| *known == name) else {
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            return Err(Error::model(format!(
                "{FILE_NAME}: functions.{function}.outputs.{name}: the model has no such output; its outputs are {}",
                names.join(", ")
            )));
        };
        let width = ensemble.width(*scores);
        let shape = if width == 1 && *scores != Scores::Probabilities {
            vec![]
        } else {
            vec![Dim::Fixed(width)]
        };
        wanted.push((
            Piece::All(*scores),
            feature(&name, *scores, shape, ensemble),
            card,
        ));
    }
    Ok(wanted)
}

/// All that a model can return, by the names that a card uses.
fn named_outputs(ensemble: &Ensemble) -> Vec<(&'static str, Scores)> {
    let mut outputs = vec![("prediction", Scores::Prediction), ("margin", Scores::Margin)];
    if ensemble.task != Task::Values {
        outputs.insert(0, ("label", Scores::Label));
        outputs.insert(1, ("probabilities", Scores::Probabilities));
    }
    outputs
}

/// The registry makes a column of each number of a row.
fn registry_outputs(function: &str, ensemble: &Ensemble) -> Vec<Wanted> {
    let scores = match function {
        PROBABILITIES if ensemble.task != Task::Values => Scores::Probabilities,
        _ if ensemble.is_classifier => Scores::Label,
        _ => Scores::Prediction,
    };
    let column = |place: usize| format!("output_feature_{place}");
    let width = ensemble.width(scores);
    if width > MOST_COLUMNS {
        let all = feature(&column(0), scores, vec![Dim::Fixed(width)], ensemble);
        return vec![(Piece::All(scores), all, OutputCard::default())];
    }
    (0..width)
        .map(|place| {
            let feature = feature(&column(place), scores, vec![], ensemble);
            (Piece::One(scores, place), feature, OutputCard::default())
        })
        .collect()
}

fn feature(name: &str, scores: Scores, shape: Vec<Dim>, ensemble: &Ensemble) -> OutputFeature {
    OutputFeature {
        name: name.to_string(),
        column: name.to_string(),
        dtype: match (scores, ensemble.forest.summed_in) {
            (Scores::Label, _) => DType::I64,
            (_, Width::F32) => DType::F32,
            (_, Width::F64) => DType::F64,
        },
        shape,
        kind: OutputKind::Tensor,
    }
}

impl Ensemble {
    /// Numbers of a row.
    fn width(&self, scores: Scores) -> usize {
        match (scores, self.task) {
            (Scores::Label, Task::Labels) => self.forest.targets,
            (Scores::Label, _) => 1,
            (Scores::Probabilities, Task::TwoClasses) => 2,
            (Scores::Prediction, _) if self.predicts_class => 1,
            _ => self.forest.targets,
        }
    }
}
