//! A model of the registry under the names that its signatures gave it.
//!
//! A task's functions have the names that the packager gives by itself. Whoever logged a model may have given others: of
//! methods, columns and outputs. [`Described`] puts them over the functions of the model below, and says what the folder
//! was found to be.

use bytes::Bytes;
use std::sync::Arc;

use super::{Feature, Method, Pretrained, registry};
use crate::error::{Error, Result};
use crate::model::{Engine, Loaded, Model, ModelFiles, digest};
use crate::signature::{Function, Source};

/// Names of methods that older versions of a library have, and what they are now.
const OLD_NAMES: &[(&str, &str)] = &[
    ("encode_queries", "encode_query"),
    ("encode_documents", "encode_document"),
];

/// A model with the names of its signatures.
pub struct Described {
    model: Arc<dyn Loaded>,
    functions: Vec<Function>,
    /// The function of `model` for each of `functions`.
    below: Vec<usize>,
    found: Vec<(&'static str, String)>,
    notes: Vec<String>,
    digest: String,
}

/// `model`, which was opened as `pretrained`, with the names and facts of its folder.
///
/// # Errors
/// `Model`, when a model has none of the methods that its signatures name.
pub fn describe(
    files: &ModelFiles,
    pretrained: &Pretrained,
    model: Arc<dyn Loaded>,
) -> Result<Arc<dyn Loaded>> {
    let described = Described::new(
        files,
        model,
        &pretrained.methods,
        pretrained.found(),
        &pretrained.notes,
        &pretrained.documents,
    )?;
    Ok(Arc::new(described))
}

/// `model`, which reads its files itself, with the names of the registry's signatures, if there are any.
///
/// # Errors
/// `Model`, for signatures that are damaged or name nothing that the model has.
pub fn of_registry(files: &ModelFiles, model: Arc<dyn Loaded>) -> Result<Arc<dyn Loaded>> {
    let Some(root) = registry::root(files)? else {
        return Ok(model);
    };
    let methods = registry::methods(files, &root)?;
    let found = vec![("kind", "model registry".to_string())];
    let documents = [format!("{root}model.yaml")];
    Ok(Arc::new(Described::new(
        files,
        model,
        &methods,
        found,
        &[],
        &documents,
    )?))
}

impl Described {
    fn new(
        files: &ModelFiles,
        model: Arc<dyn Loaded>,
        methods: &[Method],
        mut found: Vec<(&'static str, String)>,
        notes: &[String],
        documents: &[String],
    ) -> Result<Described> {
        let mut notes: Vec<String> = model.notes().iter().chain(notes).cloned().collect();
        let (mut functions, mut below) = (Vec::new(), Vec::new());
        for method in methods {
            let Some(place) = place(model.functions(), method) else {
                notes.push(format!(
                    "the method {} of the signatures is not offered: Floe has no code for it",
                    method.name
                ));
                continue;
            };
            functions.push(named(&model.functions()[place], method, &mut notes));
            below.push(place);
            found.push(("method", format!("{} ({} in SQL)", method.name, method.sql_name)));
        }
        if methods.is_empty() {
            functions = model.functions().to_vec();
            below = (0..functions.len()).collect();
        } else if functions.is_empty() {
            let known: Vec<&str> = model
                .functions()
                .iter()
                .map(|function| function.name.as_str())
                .collect();
            let wanted: Vec<&str> = methods.iter().map(|method| method.name.as_str()).collect();
            return Err(Error::model(format!(
                "the signatures name the methods {}; Floe has {} for such a model",
                wanted.join(", "),
                known.join(", ")
            )));
        }
        let of_model = Bytes::copy_from_slice(model.digest().as_bytes());
        let read = documents
            .iter()
            .filter_map(|path| files.files.get_key_value(path));
        let read = read.map(|(path, bytes)| (path.as_str(), bytes));
        Ok(Described {
            digest: digest(read.chain([("", &of_model)])),
            model,
            functions,
            below,
            found,
            notes,
        })
    }

    fn below(&self, function: &Function) -> Result<&Function> {
        let place = self.functions.iter().position(|own| own.name == function.name);
        let place =
            place.ok_or_else(|| Error::internal(format!("the model has no function {}", function.name)))?;
        Ok(&self.model.functions()[self.below[place]])
    }
}

/// The function that a method is: the one of its name, unless another gives just the columns of its signature (a text's
/// best label is `label` and `score`, its best labels are one list).
fn place(functions: &[Function], method: &Method) -> Option<usize> {
    let old = OLD_NAMES.iter().find(|(old, _)| *old == method.name);
    let name = old.map_or(method.name.as_str(), |(_, now)| now);
    let named = functions.iter().position(|function| function.name == name)?;
    let gives = |function: &Function| {
        let columns = function.outputs.iter().map(|output| &output.column);
        columns.eq(method.outputs.iter().map(|feature| &feature.name))
    };
    match gives(&functions[named]) {
        true => Some(named),
        false => functions.iter().position(gives).or(Some(named)),
    }
}

/// A function under the names of a method.
fn named(function: &Function, method: &Method, notes: &mut Vec<String>) -> Function {
    let mut function = function.clone();
    function.name.clone_from(&method.name);
    rename_inputs(&mut function, &method.inputs);
    for input in &mut function.inputs {
        let default = method.params.iter().find(|(name, _)| *name == input.name);
        if let (Source::Optional(otherwise), Some((_, default))) = (&mut input.source, default)
            && !default.is_null()
        {
            otherwise.clone_from(default);
        }
    }
    match function.outputs.len() == method.outputs.len() {
        true => {
            for (output, feature) in std::iter::zip(&mut function.outputs, &method.outputs) {
                output.column.clone_from(&feature.name);
            }
        }
        false => notes.push(format!(
            "the signature of {} has {} outputs, Floe's function has {}: these keep their own names",
            method.name,
            method.outputs.len(),
            function.outputs.len()
        )),
    }
    function
}

fn rename_inputs(function: &mut Function, features: &[Feature]) {
    let names = || features.iter().map(|feature| feature.name.clone());
    if let [only] = function.inputs.as_mut_slice() {
        let same =
            |known: &[String]| known.len() == features.len() && names().all(|name| known.contains(&name));
        match &only.source {
            Source::NumericColumns => only.source = Source::Columns(names().collect()),
            Source::Columns(known) if known.len() == features.len() && !same(known) => {
                only.source = Source::Columns(names().collect());
            }
            _ => {}
        }
    }
    let columns = function
        .inputs
        .iter_mut()
        .filter_map(|input| match &mut input.source {
            Source::Column(name) => Some(name),
            _ => None,
        });
    for (column, name) in columns.zip(names()) {
        *column = name;
    }
}

impl Loaded for Described {
    fn describe(&self) -> String {
        self.model.describe()
    }

    fn functions(&self) -> &[Function] {
        &self.functions
    }

    fn default_function(&self) -> Option<&Function> {
        let default = self.model.default_function()?;
        let own = |place: &usize| self.model.functions()[self.below[*place]].name == default.name;
        let place = (0..self.functions.len()).find(own);
        place.map(|place| &self.functions[place])
    }

    fn digest(&self) -> &str {
        &self.digest
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }

    fn found(&self) -> &[(&'static str, String)] {
        &self.found
    }

    fn is_on_gpus(&self) -> bool {
        self.model.is_on_gpus()
    }

    fn rows_are_independent(&self, function: &Function) -> bool {
        self.below(function)
            .is_ok_and(|function| self.model.rows_are_independent(function))
    }

    fn own_batch_rows(&self, function: &Function) -> Option<usize> {
        self.below(function)
            .ok()
            .and_then(|function| self.model.own_batch_rows(function))
    }

    fn providers(&self) -> Vec<String> {
        self.model.providers()
    }

    fn worker(&self, function: &Function, threads: usize) -> Result<Box<dyn Model>> {
        self.model.worker(self.below(function)?, threads)
    }

    fn engines(&self, function: &Function) -> Vec<Engine> {
        match self.below(function) {
            Ok(function) => self.model.engines(function),
            Err(_) => Vec::new(),
        }
    }

    fn worker_on(&self, function: &Function, threads: usize, engine: Engine) -> Result<Box<dyn Model>> {
        self.model.worker_on(self.below(function)?, threads, engine)
    }
}
