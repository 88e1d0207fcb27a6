//! A model of numbers of which some inputs are images, as its card says.
//!
//! The model itself knows nothing of that: its inputs of `[channels, height, width]` are replaced by inputs of bytes, and
//! what it is given is made of them here, a few rows at a time.

use std::sync::Arc;

use super::preprocess::{Preprocess, Size};
use super::resize::Filter;
use super::rows::{Images, append, bytes_of};
use crate::config::JpegScale;
use crate::error::{Error, Result};
use crate::model::card::{Card, Colors, ImageCard, Layout, Resample};
use crate::model::{Engine, Loaded, Model, Outcome};
use crate::origin::RowError;
use crate::signature::{Dim, Function, InputFeature, Source, display_shape};
use crate::tensor::{DType, Tensor, TensorBatch, Value};

/// How an image becomes one input of a model.
#[derive(Clone, Debug)]
struct Made {
    steps: Preprocess,
    height: u32,
    width: u32,
}

/// A model with images for some of its inputs.
struct WithImages {
    inner: Arc<dyn Loaded>,
    functions: Vec<Function>,
    /// By function and input.
    made: Vec<Vec<Option<Made>>>,
    notes: Vec<String>,
}

/// `inner` with the images that `card` speaks of; `inner` itself when it speaks of none. What the job says of `jpeg_scale`
/// goes before what the card says.
///
/// # Errors
/// `Model`, for an input that can't be made of an image, or whose size neither card nor model says.
pub fn with_images(
    inner: Arc<dyn Loaded>,
    card: &Card,
    jpeg_scale: Option<JpegScale>,
) -> Result<Arc<dyn Loaded>> {
    let mut functions = inner.functions().to_vec();
    let mut made = Vec::with_capacity(functions.len());
    for function in &mut functions {
        let cards = card
            .functions
            .as_ref()
            .and_then(|functions| functions.get(&function.name)?.inputs.as_ref());
        let mut images = Vec::with_capacity(function.inputs.len());
        for input in &mut function.inputs {
            let said = cards.and_then(|cards| cards.get(&input.name));
            let Some((said, image)) = said.and_then(|said| Some((said, said.image.as_ref()?))) else {
                images.push(None);
                continue;
            };
            let mut how = how(input, image).map_err(|error| error.with("function", &function.name))?;
            how.steps.jpeg_scale = jpeg_scale.or(image.jpeg_scale).unwrap_or_default();
            *input = InputFeature {
                dtype: DType::Bytes,
                shape: vec![],
                source: Source::Column(said.column.clone().unwrap_or_else(|| input.name.clone())),
                ..input.clone()
            };
            images.push(Some(how));
        }
        made.push(images);
    }
    if made.iter().flatten().all(Option::is_none) {
        return match jpeg_scale {
            None => Ok(inner),
            Some(_) => Err(jpeg_scale_without_images()),
        };
    }
    Ok(Arc::new(WithImages {
        notes: inner.notes().to_vec(),
        inner,
        functions,
        made,
    }))
}

/// For a model that takes no images.
pub fn jpeg_scale_without_images() -> Error {
    Error::config("model.jpeg_scale: the model takes no images").with_hint("leave it out")
}

fn how(input: &InputFeature, card: &ImageCard) -> Result<Made> {
    let refused = |why: &str| {
        let shape = display_shape(&input.shape, true);
        Error::model(format!(
            "the model card calls the input {} an image, but {why}: it is {}{shape}",
            input.name,
            input.dtype.as_str()
        ))
    };
    let [a, b, c] = input.shape[..] else {
        return Err(refused("it has not three axes a row"));
    };
    if input.dtype != DType::F32 {
        return Err(refused("it is not of float32"));
    }
    let layout = card.layout.unwrap_or(match (a, c) {
        (Dim::Fixed(3), _) => Layout::ChannelsFirst,
        (_, Dim::Fixed(3)) => Layout::ChannelsLast,
        _ => Layout::ChannelsFirst,
    });
    let (channels, height, width) = match layout {
        Layout::ChannelsFirst => (a, b, c),
        Layout::ChannelsLast => (c, a, b),
    };
    if matches!(channels, Dim::Fixed(channels) if channels != 3) {
        return Err(refused("no axis is the three channels"));
    }
    let own = match (height, width) {
        (Dim::Fixed(height), Dim::Fixed(width)) => u32::try_from(height).ok().zip(u32::try_from(width).ok()),
        _ => None,
    };
    let pair = |pair: &Option<Vec<u32>>| match pair.as_deref() {
        Some(&[height, width]) => Some((height, width)),
        _ => None,
    };
    let unsaid =
        || refused("neither it nor the card says of what size").with_hint("give image.size: [height, width]");
    let (size, crop) = match (pair(&card.size), card.shortest_edge) {
        (None, Some(edge)) => (
            Size::ShortestEdge(edge),
            Some(pair(&card.crop).or(own).ok_or_else(unsaid)?),
        ),
        (size, _) => {
            // What is cut to the model's size was larger before, and only the card can say how large.
            let (height, width) = size.or(own.filter(|_| card.crop.is_none())).ok_or_else(unsaid)?;
            (Size::Exact { height, width }, pair(&card.crop))
        }
    };
    let three = |numbers: &Option<Vec<f64>>, otherwise: f64| {
        let numbers = numbers
            .as_deref()
            .and_then(|numbers| <[f64; 3]>::try_from(numbers).ok());
        numbers.unwrap_or([otherwise; 3])
    };
    let filter = match card.resample.unwrap_or(Resample::Bilinear) {
        Resample::Nearest => Filter::Nearest,
        Resample::Box => Filter::Box,
        Resample::Bilinear => Filter::Bilinear,
        Resample::Hamming => Filter::Hamming,
        Resample::Bicubic => Filter::Bicubic,
        Resample::Lanczos => Filter::Lanczos,
    };
    let normalizes = card.mean.is_some() || card.std.is_some();
    let steps = Preprocess {
        jpeg_scale: JpegScale::default(),
        resize: Some((size, filter)),
        crop,
        scale: card.rescale.unwrap_or(1.0 / 255.0),
        offset: 0.0,
        normalize: normalizes.then(|| (three(&card.mean, 0.0), three(&card.std, 1.0))),
        divide_again: None,
        bgr: card.colors == Some(Colors::Bgr),
        channels_last: layout == Layout::ChannelsLast,
    };
    let (height, width) = steps.extents().ok_or_else(unsaid)?;
    if own.is_some_and(|own| own != (height, width)) {
        return Err(refused(&format!("the card makes it {height} x {width} pixels")));
    }
    Ok(Made { steps, height, width })
}

impl WithImages {
    fn place(&self, function: &Function) -> Result<usize> {
        let place = self.functions.iter().position(|own| own.name == function.name);
        place.ok_or_else(|| Error::internal(format!("no function {}", function.name)))
    }

    fn wrap(&self, place: usize, model: Box<dyn Model>) -> Box<dyn Model> {
        let images = self.made[place].iter().map(|made| {
            made.as_ref()
                .map(|made| Images::new(&made.steps, made.height, made.width))
        });
        let is_param = self.functions[place]
            .inputs
            .iter()
            .map(|input| input.source.is_param());
        Box::new(Worker {
            images: images.collect(),
            is_param: is_param.collect(),
            model,
        })
    }
}

impl Loaded for WithImages {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn functions(&self) -> &[Function] {
        &self.functions
    }

    fn digest(&self) -> &str {
        self.inner.digest()
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }

    fn rows_are_independent(&self, function: &Function) -> bool {
        match self.place(function) {
            Ok(place) => self.inner.rows_are_independent(&self.inner.functions()[place]),
            Err(_) => false,
        }
    }

    fn is_on_gpus(&self) -> bool {
        self.inner.is_on_gpus()
    }

    fn providers(&self) -> Vec<String> {
        self.inner.providers()
    }

    fn worker(&self, function: &Function, threads: usize) -> Result<Box<dyn Model>> {
        let place = self.place(function)?;
        let model = self.inner.worker(&self.inner.functions()[place], threads)?;
        Ok(self.wrap(place, model))
    }

    fn engines(&self, function: &Function) -> Vec<Engine> {
        match self.place(function) {
            Ok(place) => self.inner.engines(&self.inner.functions()[place]),
            Err(_) => Vec::new(),
        }
    }

    fn worker_on(&self, function: &Function, threads: usize, engine: Engine) -> Result<Box<dyn Model>> {
        let place = self.place(function)?;
        let model = self
            .inner
            .worker_on(&self.inner.functions()[place], threads, engine)?;
        Ok(self.wrap(place, model))
    }
}

struct Worker {
    /// By input.
    images: Vec<Option<Images>>,
    is_param: Vec<bool>,
    model: Box<dyn Model>,
}

impl Model for Worker {
    fn infer(&mut self, batch: &TensorBatch) -> Result<Vec<Value>> {
        self.infer_rows(batch)?.all()
    }

    fn infer_rows(&mut self, batch: &TensorBatch) -> Result<Outcome> {
        let at_once = self
            .images
            .iter()
            .flatten()
            .map(Images::at_once)
            .min()
            .unwrap_or(1);
        let mut outcome = Outcome::default();
        for start in (0..batch.rows).step_by(at_once) {
            let rows = at_once.min(batch.rows - start);
            let (some, kept) = self.made(batch, start, rows, &mut outcome.failed)?;
            if kept > 0 {
                let values = self.model.infer(&some)?;
                append(&mut outcome, values)?;
            }
            let each = self.images.iter_mut().zip(some.inputs);
            each.for_each(|(images, tensor)| {
                if let Some(images) = images {
                    images.recycle(tensor);
                }
            });
        }
        Ok(outcome)
    }
}

impl Worker {
    /// The rows `[start, start + rows)` of `batch` with numbers for images, those that have no image left out; and how many
    /// there are.
    fn made(
        &mut self,
        batch: &TensorBatch,
        start: usize,
        rows: usize,
        failed: &mut Vec<RowError>,
    ) -> Result<(TensorBatch, usize)> {
        let rooms = self.images.iter_mut().map(|images| match images {
            Some(images) => images.room(rows),
            None => Vec::new(),
        });
        let mut numbers: Vec<Vec<f32>> = rooms.collect();
        let mut kept = Vec::with_capacity(rows);
        for row in start..start + rows {
            let before: Vec<usize> = numbers.iter().map(Vec::len).collect();
            let mut push = || {
                let each = self.images.iter_mut().zip(&mut numbers).zip(&batch.inputs);
                for ((images, numbers), input) in each {
                    if let Some(images) = images {
                        images.push(&bytes_of(input)?[row], numbers)?;
                    }
                }
                Ok(())
            };
            match push() {
                Ok(()) => kept.push(row),
                Err(error) => {
                    // Another image of the row may have been fine.
                    numbers
                        .iter_mut()
                        .zip(before)
                        .for_each(|(numbers, length)| numbers.truncate(length));
                    failed.push(RowError { row, error });
                }
            }
        }
        let mut inputs = Vec::with_capacity(batch.inputs.len());
        for (place, input) in batch.inputs.iter().enumerate() {
            inputs.push(match &self.images[place] {
                Some(images) => images.tensor(std::mem::take(&mut numbers[place]))?,
                None if self.is_param[place] => input.clone(),
                None => some_rows(input, start, rows, &kept)?,
            });
        }
        let rows = kept.len();
        Ok((TensorBatch { rows, inputs }, rows))
    }
}

/// The rows `kept` among `[start, start + rows)`.
fn some_rows(input: &Tensor, start: usize, rows: usize, kept: &[usize]) -> Result<Tensor> {
    if kept.len() == rows {
        return Ok(input.slice_rows(start, rows));
    }
    let mut some = input.slice_rows(start, 0);
    for &row in kept {
        some.append(input.slice_rows(row, 1))?;
    }
    Ok(some)
}
