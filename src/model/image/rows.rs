//! The rows of a batch of images: bytes to one dense tensor, a few images at a time.
//!
//! An image of some kilobytes becomes half a megabyte of numbers, so a batch of rows is not made into one tensor. How many
//! go together depends on nothing but the model.

use bytes::Bytes;

use super::decode::Limits;
use super::preprocess::{Preprocess, Preprocessor};
use crate::error::{Error, Result};
use crate::model::Outcome;
use crate::origin::RowError;
use crate::tensor::{Tensor, TensorData, Value};

/// Bytes of the tensors that are made at once.
const TENSOR_BYTES: usize = 16 << 20;

/// Makes tensors of images: one per worker and input.
pub struct Images {
    preprocessor: Preprocessor,
    /// Shape of one image.
    shape: [usize; 3],
    /// Numbers of images that were scored: fresh memory costs more than filling it.
    spare: Vec<f32>,
}

impl Images {
    /// For images that become tensors of `height` and `width`.
    pub fn new(steps: &Preprocess, height: u32, width: u32) -> Images {
        let (height, width) = (height as usize, width as usize);
        Images {
            preprocessor: Preprocessor::new(steps, Limits::default()),
            shape: match steps.channels_last {
                true => [height, width, 3],
                false => [3, height, width],
            },
            spare: Vec::new(),
        }
    }

    /// Rows that are to be taken at once.
    pub fn at_once(&self) -> usize {
        let image: usize = self.shape.iter().product::<usize>() * size_of::<f32>();
        (TENSOR_BYTES / image.max(1)).clamp(1, 64)
    }

    /// Where the numbers of so many images go.
    pub fn room(&mut self, images: usize) -> Vec<f32> {
        let mut numbers = std::mem::take(&mut self.spare);
        numbers.clear();
        numbers.reserve(images * self.shape.iter().product::<usize>());
        numbers
    }

    /// Takes a tensor back that is needed no more.
    pub fn recycle(&mut self, tensor: Tensor) {
        if let TensorData::F32(numbers) = tensor.data {
            self.spare = numbers;
        }
    }

    /// Appends the numbers of an image; `numbers` stays as it is when it is none.
    ///
    /// # Errors
    /// `Data`, saying what is wrong with it.
    pub fn push(&mut self, bytes: &[u8], numbers: &mut Vec<f32>) -> Result<()> {
        let start = numbers.len();
        numbers.resize(start + self.shape.iter().product::<usize>(), 0.0);
        let written = self.preprocessor.write(bytes, &mut numbers[start..]);
        if written.is_err() {
            numbers.truncate(start);
        }
        written
    }

    /// Numbers of whole images as a tensor `[images, ...]`.
    pub fn tensor(&self, numbers: Vec<f32>) -> Result<Tensor> {
        let [a, b, c] = self.shape;
        Tensor::new(vec![numbers.len() / (a * b * c).max(1), a, b, c], numbers)
    }

    /// The images that are some as a tensor; the others are put into `failed`, counted from `first`.
    pub fn tensor_of(
        &mut self,
        images: &[Bytes],
        first: usize,
        failed: &mut Vec<RowError>,
    ) -> Result<Tensor> {
        let mut numbers = self.room(images.len());
        for (index, bytes) in images.iter().enumerate() {
            if let Err(error) = self.push(bytes, &mut numbers) {
                let row = first + index;
                failed.push(RowError { row, error });
            }
        }
        self.tensor(numbers)
    }
}

/// The bytes of an input.
pub fn bytes_of(tensor: &Tensor) -> Result<&[Bytes]> {
    match &tensor.data {
        TensorData::Bytes(bytes) => Ok(bytes),
        other => Err(Error::internal(format!(
            "a model of images was given {}",
            other.dtype().as_str()
        ))),
    }
}

/// Appends what a model gave for some rows to what it gave for those before.
pub fn append(outcome: &mut Outcome, values: Vec<Value>) -> Result<()> {
    if outcome.values.is_empty() {
        outcome.values = values;
        return Ok(());
    }
    outcome
        .values
        .iter_mut()
        .zip(values)
        .try_for_each(|(output, value)| output.append(value))
}
