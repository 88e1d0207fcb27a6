//! Models: what turns input tensors into output values.
//!
//! [`open`] looks at the files of a model location and answers with a [`Loaded`] model: its functions with
//! their inputs and outputs, its digest, and a way to make one [`Model`] per worker. A backend knows nothing of
//! Parquet, stores or columns; it gets tensors in the order of its function's inputs and gives values in the
//! order of its outputs.
//!
//! A model file is untrusted input: it is checked (`onnx::graph`) before any native library sees it. A backend or
//! device that can't be had is an error that lists what can; nothing is replaced in silence.

use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

pub use self::engine::Engine;
use crate::config::{Backend, Device, ExecutionProvider, JpegScale, Precision};
use crate::error::{Error, Result};
use crate::origin::RowError;
use crate::signature::Function;
use crate::tensor::{TensorBatch, Value};

#[cfg(feature = "candle")]
pub mod candle;
pub mod card;
#[cfg(feature = "onnx")]
mod dense;
pub mod device;
pub mod echo;
pub mod engine;
pub mod files;
mod folder;
pub mod foreign;
pub mod image;
pub mod inspect;
pub mod isa;
#[cfg(feature = "onnx")]
mod native;
pub mod network;
#[cfg(feature = "onnx")]
pub mod onnx;
mod opened;
mod patience;
pub mod postprocess;
pub mod pretrained;
pub mod text;
pub mod trees;

/// The files of a model location, read once.
#[derive(Clone, Debug, Default)]
pub struct ModelFiles {
    /// As the user wrote it, for messages.
    pub location: String,
    /// Contents by path relative to the location; for a single file its own name. See [`files`] for how much of each.
    pub files: BTreeMap<String, Bytes>,
}

/// A loaded model. Cheap to ask, expensive to run: call [`Loaded::worker`] once per worker.
pub trait Loaded: Send + Sync {
    /// Backend and version, e.g. `onnx (ONNX Runtime 1.31.1)`.
    fn describe(&self) -> String;

    /// All functions, in the order of the model card.
    fn functions(&self) -> &[Function];

    /// The function of a job that names none; `None` where there is a choice.
    fn default_function(&self) -> Option<&Function> {
        match self.functions() {
            [only] => Some(only),
            _ => None,
        }
    }

    /// Identity of everything that decides the outputs (weights, graph, card): `sha256:<hex>`.
    fn digest(&self) -> &str;

    /// Facts worth logging: what was inferred rather than declared.
    fn notes(&self) -> &[String];

    /// What the folder of a pretrained model was found to be, fact by fact.
    fn found(&self) -> &[(&'static str, String)] {
        &[]
    }

    /// Whether its workers take turns at a few models on GPUs: then there may be as many workers as cores.
    fn is_on_gpus(&self) -> bool {
        false
    }

    /// Whether a row's outputs do not depend on the rows that share its batch, rounding aside.
    fn rows_are_independent(&self, _function: &Function) -> bool {
        true
    }

    /// Most rows of the batches that the model [arranges](Arranging) itself; `None`, if rows are handed to it in their order.
    fn own_batch_rows(&self, _function: &Function) -> Option<usize> {
        None
    }

    /// What the execution providers of this backend could do here, one line each.
    fn providers(&self) -> Vec<String> {
        Vec::new()
    }

    /// A model of `function` for one worker that uses `threads` cores.
    fn worker(&self, function: &Function, threads: usize) -> Result<Box<dyn Model>>;

    /// Who can compute `function`, best first; never empty.
    fn engines(&self, function: &Function) -> Vec<Engine>;

    /// A worker like [`Loaded::worker`] that goes by one of the function's engines.
    ///
    /// # Errors
    /// `Internal`, for an engine that is none of them.
    fn worker_on(&self, function: &Function, threads: usize, engine: Engine) -> Result<Box<dyn Model>> {
        match self.engines(function).as_slice() {
            [only] if *only == engine => self.worker(function, threads),
            _ => Err(Error::internal(format!(
                "the function {} is not for {engine}",
                function.name
            ))),
        }
    }
}

/// One worker's own copy of a model function.
pub trait Model: Send {
    /// Runs one batch: one value per output of the function, each with `batch.rows` rows.
    ///
    /// # Errors
    /// `Model`, when the backend fails or returns another number of rows.
    fn infer(&mut self, batch: &TensorBatch) -> Result<Vec<Value>>;

    /// The same for models of which a row can fail alone (an image that is none): the others' values come back all the
    /// same, and what was wrong with it.
    ///
    /// # Errors
    /// `Model`, when the backend fails.
    fn infer_rows(&mut self, batch: &TensorBatch) -> Result<Outcome> {
        self.infer(batch).map(Outcome::of_all)
    }

    /// A model that says itself which rows are to share a batch; `None`, if it takes them in their order.
    fn arranging(&mut self) -> Option<&mut dyn Arranging> {
        None
    }

    /// What was counted since the last call.
    fn take_counts(&mut self) -> Counts {
        Counts::default()
    }
}

/// A model to which rows in their order are no good batches: it looks at all rows of a block, says which ones go together,
/// and is then asked for batch after batch. Any worker's model can score any batch of what one of them arranged.
pub trait Arranging {
    /// The batches of these rows: a function of the rows and the model alone.
    ///
    /// # Errors
    /// `Model`, when the backend fails; `Config`, for params that make no sense. What is wrong with single rows is in the answer.
    fn arrange(&mut self, rows: TensorBatch) -> Result<Arranged>;

    /// Runs a batch by its index: one value per output, each with the batch's rows in the order that it names them.
    ///
    /// # Errors
    /// `Model`, when the backend fails; `Internal`, for what another function's model arranged.
    fn infer_arranged(&mut self, arranged: &Arranged, batch: usize) -> Result<Vec<Value>>;

    /// Batches are to have so many rows at most.
    fn limit_rows(&mut self, rows: usize);
}

/// Rows of a block as batches.
pub struct Arranged {
    /// Places of the rows of each batch, the most expensive batch first as far as the model can say; every row that did not
    /// fail is in one of them.
    pub batches: Vec<Vec<usize>>,
    /// The rows that failed, in their order.
    pub failed: Vec<RowError>,
    /// What the model knows of the rows by now.
    pub state: Box<dyn Any + Send + Sync>,
}

/// What a model gives for a batch of which some rows may have failed.
#[derive(Debug, Default)]
pub struct Outcome {
    /// One value per output, each with the rows that did not fail, in their order. None at all when every row failed.
    pub values: Vec<Value>,
    /// The rows that failed, in their order.
    pub failed: Vec<RowError>,
}

impl Outcome {
    /// All rows are there.
    pub fn of_all(values: Vec<Value>) -> Outcome {
        Outcome {
            values,
            failed: Vec::new(),
        }
    }

    /// The values, if no row failed; else the error of the first that did.
    ///
    /// # Errors
    /// That one.
    pub fn all(mut self) -> Result<Vec<Value>> {
        match self.failed.is_empty() {
            true => Ok(self.values),
            false => Err(self.failed.swap_remove(0).error),
        }
    }
}

/// What a model counts besides rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Texts that were longer than the model can take.
    pub texts_cut: u64,
    /// Tokens of texts.
    pub tokens: u64,
    /// Tokens computed for them, padding included.
    pub tokens_computed: u64,
}

/// How a model is to be opened.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// `None`: by what the location holds.
    pub backend: Option<Backend>,
    /// Where to run.
    pub device: Device,
    /// How many GPUs, and how many models on them.
    pub gpus: device::Request,
    /// How exactly to compute.
    pub precision: Precision,
    /// Who is to compute before ONNX Runtime itself, best first.
    pub execution_providers: Vec<ExecutionProvider>,
    /// At which scale JPEG images are decoded; `None`: as the model card says, in full if it says nothing.
    pub jpeg_scale: Option<JpegScale>,
    /// Where ONNX Runtime may be found, best first (see `onnx::runtime`).
    pub onnxruntime_paths: Vec<std::path::PathBuf>,
}

/// The backends of this build.
pub const BACKENDS: &[&str] = match (cfg!(feature = "onnx"), cfg!(feature = "candle")) {
    (true, true) => &["echo", "onnx", "trees", "candle"],
    (true, false) => &["echo", "onnx", "trees"],
    (false, true) => &["echo", "trees", "candle"],
    (false, false) => &["echo", "trees"],
};

/// Opens the model in `files`: reads its card, checks it, loads it once and learns its inputs and outputs.
///
/// The location `echo` without files is the built-in test model.
///
/// # Errors
/// `Config`, for a backend or device that this build has not; `Model`, for files that are no model, not one that
/// Floe reads, or one that fails its checks. The message names the way out.
pub fn open(files: ModelFiles, options: &OpenOptions) -> Result<Arc<dyn Loaded>> {
    let built_in = files.location == echo::LOCATION && files.files.is_empty();
    let location = files.location.clone();
    let opened = match options.backend {
        Some(Backend::Echo) if built_in => open_echo(options),
        Some(Backend::Echo) => Err(Error::config(
            "model.backend: echo is a built-in model without files; its location is echo",
        )),
        Some(Backend::Candle) if cfg!(not(feature = "candle")) => Err(not_in_this_build("candle")),
        None if built_in => open_echo(options),
        _ => {
            let options = options.clone();
            patience::within(patience::LIMIT, move || open_files(files, &options))
        }
    };
    opened.map_err(|error| error.with("model", location))
}

fn open_echo(options: &OpenOptions) -> Result<Arc<dyn Loaded>> {
    refuse_gpus("echo", options)?;
    refuse_providers("echo", options)?;
    refuse_jpeg_scale(options)?;
    Ok(Arc::new(echo::Echo::new()))
}

/// For a backend that has no execution providers and one way to compute.
fn refuse_providers(backend: &str, options: &OpenOptions) -> Result<()> {
    let key = match (options.execution_providers.first(), options.precision) {
        (Some(provider), _) => format!("model.execution_providers: {}", provider.as_str()),
        (None, Precision::F32) => return Ok(()),
        (None, precision) => format!("model.precision: {}", precision.as_str()),
    };
    Err(Error::config(format!(
        "{key} can't be had: the backend {backend} computes by itself; it goes with the backend onnx only"
    ))
    .with_hint("leave it out"))
}

/// For a backend whose models take no images.
fn refuse_jpeg_scale(options: &OpenOptions) -> Result<()> {
    match options.jpeg_scale {
        None => Ok(()),
        Some(_) => Err(image::jpeg_scale_without_images()),
    }
}

/// Files decide who reads them; `backend: trees` is for ONNX files of trees, too.
fn open_files(files: ModelFiles, options: &OpenOptions) -> Result<Arc<dyn Loaded>> {
    if options.backend == Some(Backend::Trees) {
        refuse_gpus("trees", options)?;
    }
    if let Some(pretrained) = pretrained::find(&files, options.backend)? {
        let model = match pretrained.task {
            pretrained::Task::TextImageEmbedding => text::open_towers(&files, &pretrained, options)?,
            task if task.takes_images() => image::open(&files, &pretrained, options)?,
            _ if options.jpeg_scale.is_some() => return Err(image::jpeg_scale_without_images()),
            _ => text::open(&files, &pretrained, options)?,
        };
        return pretrained::methods::describe(&files, &pretrained, model);
    }
    let model = match options.backend {
        Some(Backend::Candle) => Err(Error::model(
            "model.backend: candle computes pretrained models, and there is no config.json that says what this one is",
        )
        .with_hint("give the folder that save_pretrained wrote, or leave model.backend out")),
        Some(Backend::Onnx) => open_onnx(files.clone(), options),
        _ if trees::backend::claims(&files)? => {
            refuse_gpus("trees", options)?;
            refuse_providers("trees", options)?;
            refuse_jpeg_scale(options)?;
            let trees = trees::backend::TreesModel::open(&files)?;
            Ok(Arc::new(trees) as Arc<dyn Loaded>)
        }
        _ => open_onnx(files.clone(), options),
    };
    pretrained::methods::of_registry(&files, model?)
}

#[cfg(feature = "onnx")]
fn open_onnx(files: ModelFiles, options: &OpenOptions) -> Result<Arc<dyn Loaded>> {
    let card = folder::read_card(&files)?;
    let opened = onnx::OnnxModel::open(&files, options)?;
    image::with_images(Arc::new(opened), &card, options.jpeg_scale)
}

#[cfg(not(feature = "onnx"))]
fn open_onnx(_files: ModelFiles, _options: &OpenOptions) -> Result<Arc<dyn Loaded>> {
    Err(not_in_this_build("onnx").with_hint("rebuild with --features onnx"))
}

fn not_in_this_build(backend: &str) -> Error {
    Error::config(format!(
        "model.backend: {backend} is not in this build; this build has: {}",
        BACKENDS.join(", ")
    ))
}

/// For a backend that computes on processors only.
fn refuse_gpus(backend: &str, options: &OpenOptions) -> Result<()> {
    let why = format!("the backend {backend} computes on processors");
    let hint = "set model.device to cpu or auto".to_string();
    match options.device {
        // A GPU that was requested and is not of use is no reason to end a job that didn't say what for.
        Device::Auto | Device::Cpu => Ok(()),
        _ => device::place(options, Err((why, hint))).map(|_| ()),
    }
}

/// `sha256:<hex>` of files: each one's path and content, in the order of their paths.
pub fn digest<'a>(files: impl IntoIterator<Item = (&'a str, &'a Bytes)>) -> String {
    let ordered: BTreeMap<_, _> = files.into_iter().collect();
    let mut hash = Sha256::new();
    for (path, content) in ordered {
        // Lengths first, so that no two sets of files give the same bytes.
        hash.update((path.len() as u64).to_le_bytes());
        hash.update(path);
        hash.update((content.len() as u64).to_le_bytes());
        hash.update(content);
    }
    format!("sha256:{}", hex(&hash.finalize()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(location: &str, files: &[(&str, &'static [u8])]) -> ModelFiles {
        ModelFiles {
            location: location.into(),
            files: files
                .iter()
                .map(|(path, bytes)| (path.to_string(), Bytes::from_static(bytes)))
                .collect(),
        }
    }

    fn refused(files: ModelFiles, backend: Option<Backend>, device: Device) -> Error {
        let options = OpenOptions {
            backend,
            device,
            ..OpenOptions::default()
        };
        open(files, &options).err().expect("refused")
    }

    #[test]
    fn echo_needs_no_files_and_is_found_by_its_location() {
        for backend in [None, Some(Backend::Echo)] {
            let options = OpenOptions {
                backend,
                ..OpenOptions::default()
            };
            let echo = open(files("echo", &[]), &options).unwrap();
            assert_eq!(echo.functions()[0].outputs[0].column, "row_hash");
        }
    }

    #[test]
    fn a_backend_or_device_that_is_not_there_ends_with_what_is() {
        let candle = refused(files("m", &[]), Some(Backend::Candle), Device::Auto);
        assert!(candle.to_string().contains("there is no config.json"), "{candle}");
        let cuda = refused(files("echo", &[]), None, Device::Cuda(1));
        assert!(
            cuda.to_string()
                .contains("cuda:1 can't be had: the backend echo computes on processors"),
            "{cuda}"
        );
        let echo = refused(files("m", &[("m.onnx", b"x")]), Some(Backend::Echo), Device::Cpu);
        assert_eq!(candle.kind(), crate::error::ErrorKind::Model);
        for error in [cuda, echo] {
            assert_eq!(error.kind(), crate::error::ErrorKind::Config);
        }
    }

    #[test]
    fn a_scale_of_jpegs_is_refused_where_there_are_no_images() {
        let options = OpenOptions {
            jpeg_scale: Some(JpegScale::Reduced),
            ..OpenOptions::default()
        };
        let error = open(files("echo", &[]), &options).err().unwrap();
        assert!(
            error
                .to_string()
                .contains("model.jpeg_scale: the model takes no images"),
            "{error}"
        );
        assert_eq!(error.kind(), crate::error::ErrorKind::Config);
    }

    #[test]
    fn the_digest_depends_on_paths_and_contents_and_not_on_order() {
        let (a, b) = (Bytes::from_static(b"a"), Bytes::from_static(b"b"));
        let one = digest([("x", &a), ("y", &b)]);
        assert_eq!(one, digest([("y", &b), ("x", &a)]));
        for other in [
            digest([("x", &b), ("y", &a)]),
            digest([("x", &a)]),
            digest([("xa", &a), ("y", &b)]),
        ] {
            assert_ne!(one, other);
        }
        assert_eq!(one.len(), "sha256:".len() + 64);
    }
}
