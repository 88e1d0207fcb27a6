//! What is known of a model before ONNX Runtime is loaded: which files are its functions', what they declare, and where they are
//! best computed. Errors in files and card must not wait for a library.

use bytes::Bytes;
use std::collections::BTreeMap;

use super::describe;
use super::file::ModelFile;
use crate::config::{Backend, Device};
use crate::error::{Error, Result};
use crate::model::card::{self, Card, FunctionCard};
use crate::model::folder::{self, DEFAULT_FUNCTION, label, listed};
use crate::model::{ModelFiles, OpenOptions, foreign, native};

/// What is known of a model before ONNX Runtime is loaded.
pub struct Known {
    /// By the path of the model file.
    pub files: BTreeMap<String, ModelFile>,
    pub functions: Vec<KnownFunction>,
    pub digest: String,
}

/// A function, before it is tried.
pub struct KnownFunction {
    pub name: String,
    pub path: String,
    pub inputs: describe::Inputs,
    pub wanted: Vec<describe::Wanted>,
}

impl Known {
    /// # Errors
    /// `Model`, for files that are no ONNX model or fail a check, and for a card that does not fit.
    pub fn of(files: &ModelFiles, options: &OpenOptions) -> Result<Known> {
        let card = folder::read_card(files)?;
        let plan = functions_of(files, &card, options)?;
        let mut model_files = BTreeMap::new();
        let mut digested: Vec<(&str, &Bytes)> = Vec::new();
        for (_, _, path) in &plan {
            if !model_files.contains_key(path) {
                let bytes = &files.files[path];
                model_files.insert(path.clone(), ModelFile::new(label(&files.location, path), bytes)?);
                digested.push((path, bytes));
            }
        }
        if let Some(bytes) = files.files.get(card::FILE_NAME) {
            digested.push((card::FILE_NAME, bytes));
        }
        let digest = crate::model::digest(digested);
        let mut functions = Vec::with_capacity(plan.len());
        for (name, card, path) in plan {
            let ModelFile { facts, label, .. } = &model_files[&path];
            let one = describe::inputs(facts, &name, card.as_ref())
                .and_then(|inputs| Ok((inputs, describe::outputs(facts, &name, card.as_ref())?)));
            let (inputs, wanted) = one.map_err(|error| error.with("model", label))?;
            functions.push(KnownFunction {
                name,
                path,
                inputs,
                wanted,
            });
        }
        Ok(Known {
            files: model_files,
            functions,
            digest,
        })
    }

    /// The device that the job asks for; where it leaves that open, processors for what they are better at: trees, which
    /// only they compute, and small dense networks, which Floe computes in less than their copies to a GPU would take.
    pub fn device(&self, options: &OpenOptions) -> Device {
        if options.device != Device::Auto || !options.execution_providers.is_empty() {
            return options.device;
        }
        let has_trees = self.files.values().any(|file| file.facts.has_tree_ensemble);
        let is_dense = |function: &KnownFunction| {
            let file = &self.files[&function.path];
            let program = file.program(&function.path, &function.inputs, &function.wanted);
            file.may_be_dense() && native::cover(&file.bytes, &program, &function.inputs.features).is_ok()
        };
        match has_trees || (options.backend.is_none() && self.functions.iter().all(is_dense)) {
            true => Device::Cpu,
            false => Device::Auto,
        }
    }
}

/// Name, card and model file of each function.
fn functions_of(
    files: &ModelFiles,
    card: &Card,
    options: &OpenOptions,
) -> Result<Vec<(String, Option<FunctionCard>, String)>> {
    let models: Vec<&str> = onnx_files(files).collect();
    let named = folder::functions(files, card, &models, || only_model(files, options))?;
    Ok(match named {
        Some(named) => named
            .into_iter()
            .map(|function| (function.name, Some(function.card), function.path))
            .collect(),
        None => vec![(DEFAULT_FUNCTION.to_string(), None, only_model(files, options)?)],
    })
}

fn onnx_files(files: &ModelFiles) -> impl Iterator<Item = &str> {
    files
        .files
        .keys()
        .map(String::as_str)
        .filter(|path| path.to_ascii_lowercase().ends_with(".onnx"))
}

/// The location's only ONNX file.
fn only_model(files: &ModelFiles, options: &OpenOptions) -> Result<String> {
    let models: Vec<&str> = onnx_files(files).collect();
    match models.as_slice() {
        [only] => Ok(only.to_string()),
        [] => no_model(files, options),
        several => Err(folder::choose_one(several)),
    }
}

/// A location without a file named `.onnx`: a single file may still be one; else say what it is instead.
fn no_model(files: &ModelFiles, options: &OpenOptions) -> Result<String> {
    let mut paths = files.files.keys().filter(|path| *path != card::FILE_NAME);
    if let (Some(path), None) = (paths.next(), paths.next()) {
        let format = foreign::by_bytes(&files.files[path]).or_else(|| foreign::by_name(path));
        return match format {
            Some(format) => Err(foreign::refused(format, path)),
            None if options.backend == Some(Backend::Onnx) => Ok(path.clone()),
            None => Err(Error::model(format!("{path} is no model; {}", foreign::READS))
                .with_hint("if it is one, set model.backend to onnx")),
        };
    }
    for (path, bytes) in &files.files {
        if let Some(format) = foreign::by_name(path) {
            // What the bytes say is more exact, but a text file beside a model is nothing to talk about.
            let exact = foreign::by_bytes(bytes).filter(|exact| !exact.is_text());
            return Err(foreign::refused(exact.unwrap_or(format), path));
        }
        if let Some(format) = foreign::by_bytes(bytes).filter(|format| !format.is_text()) {
            return Err(foreign::refused(format, path));
        }
    }
    let all: Vec<&str> = files.files.keys().map(String::as_str).collect();
    Err(Error::model(format!(
        "there is no model here, of: {}; {}",
        listed(&all),
        foreign::READS
    )))
}
