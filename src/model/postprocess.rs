//! Post-processing that a model card asks for: activations, the best place in a row, its label.
//!
//! [`plan`] holds what the card asks for against the output and says what comes out; [`Postprocessed`] wraps a
//! [`Model`] and does it to each batch. Rows stay rows: nothing here looks at more than one.

use half::f16;

use super::Model;
use super::card::{Activation, OutputCard, Select};
use crate::error::{Error, Result};
use crate::signature::{Dim, OutputFeature, OutputKind};
use crate::tensor::{DType, Tensor, TensorBatch, TensorData, Value};

/// What is done with one output.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Step {
    activation: Activation,
    select: Option<Select>,
    labels: Option<Vec<String>>,
    /// Whether what was selected is followed by its number.
    has_score: bool,
}

impl Step {
    /// Whether values pass unchanged.
    pub fn is_nothing(&self) -> bool {
        *self == Step::default()
    }
}

/// What `card` asks for, and the `output` as it is afterwards: one column, or two with a score.
///
/// # Errors
/// `Model`, when the output is not one of floating-point numbers, or has no last axis to look along.
pub fn plan(card: &OutputCard, mut output: OutputFeature) -> Result<(Step, Vec<OutputFeature>)> {
    let step = Step {
        activation: card.activation.unwrap_or_default(),
        select: card.select,
        labels: card.labels.clone(),
        has_score: card.score.is_some(),
    };
    if let Some(name) = &card.name {
        output.column = name.clone();
    }
    if step.is_nothing() {
        return Ok((step, vec![output]));
    }
    let refused = |why: String| {
        Error::model(format!(
            "the model card can't process the output {}: {why}",
            output.name
        ))
    };
    if output.kind != OutputKind::Tensor || !output.dtype.is_float() {
        let what = if output.kind == OutputKind::Tensor {
            output.dtype.as_str()
        } else {
            "maps"
        };
        return Err(refused(format!(
            "it holds {what}, and activation and select need floating-point numbers"
        )));
    }
    let last = output.shape.last().copied();
    let along_axis = step.activation == Activation::Softmax || step.select.is_some();
    if along_axis && matches!(last, None | Some(Dim::Fixed(0 | 1))) {
        return Err(
            refused("softmax and argmax need rows of at least two numbers".to_string())
                .with_hint("a single score takes activation: sigmoid"),
        );
    }
    if step.select.is_some() {
        if let (Some(labels), Some(Dim::Fixed(width))) = (&step.labels, last)
            && labels.len() != width
        {
            return Err(refused(format!(
                "it has {width} places, and the card has {} labels",
                labels.len()
            )));
        }
        output.shape.pop();
        let score = card.score.iter().map(|column| OutputFeature {
            column: column.clone(),
            ..output.clone()
        });
        let score: Vec<OutputFeature> = score.collect();
        output.dtype = if step.labels.is_some() {
            DType::String
        } else {
            DType::I64
        };
        return Ok((step, [vec![output], score].concat()));
    }
    Ok((step, vec![output]))
}

/// A model whose outputs go through one [`Step`] each.
pub struct Postprocessed {
    /// The model itself.
    pub inner: Box<dyn Model>,
    /// One per output.
    pub steps: Vec<Step>,
}

impl Model for Postprocessed {
    fn infer(&mut self, batch: &TensorBatch) -> Result<Vec<Value>> {
        let values = self.inner.infer(batch)?;
        let mut columns = Vec::with_capacity(values.len() + 1);
        for (value, step) in values.into_iter().zip(&self.steps) {
            columns.extend(apply(step, value)?);
        }
        Ok(columns)
    }
}

fn apply(step: &Step, value: Value) -> Result<Vec<Value>> {
    if step.is_nothing() {
        return Ok(vec![value]);
    }
    let Value::Tensor(Tensor { shape, data }) = value else {
        return Err(Error::model(
            "the model card asks for numbers of an output that holds maps",
        ));
    };
    let width = if shape.len() > 1 {
        shape[shape.len() - 1]
    } else {
        1
    };
    match data {
        TensorData::F16(values) => apply_to(step, shape, width, values),
        TensorData::F32(values) => apply_to(step, shape, width, values),
        TensorData::F64(values) => apply_to(step, shape, width, values),
        other => Err(Error::model(format!(
            "the model card asks for floating-point numbers, and the output holds {}",
            other.dtype().as_str()
        ))),
    }
    .map(|tensors| tensors.into_iter().map(Value::Tensor).collect())
}

fn apply_to<T: Float>(
    step: &Step,
    mut shape: Vec<usize>,
    width: usize,
    mut values: Vec<T>,
) -> Result<Vec<Tensor>>
where
    TensorData: From<Vec<T>>,
{
    if step.select == Some(Select::Argmax) {
        // Softmax and sigmoid keep the order, so the largest stays where it is.
        shape.pop();
        let places = argmax(&values, width)?;
        let mut tensors = Vec::with_capacity(2);
        if step.has_score {
            let rows = values.chunks_exact(width).zip(&places);
            let scores = rows.map(|(row, place)| T::from_f64(score(step.activation, row, *place as usize)));
            tensors.push(Tensor::new(shape.clone(), scores.collect::<Vec<T>>())?);
        }
        tensors.insert(0, Tensor::new(shape, labelled(places, step.labels.as_deref())?)?);
        return Ok(tensors);
    }
    match step.activation {
        Activation::None => {}
        Activation::Sigmoid => values
            .iter_mut()
            .for_each(|value| *value = T::from_f64(sigmoid(value.to_f64()))),
        Activation::Softmax => values.chunks_exact_mut(width.max(1)).for_each(softmax),
    }
    Ok(vec![Tensor::new(shape, values)?])
}

/// The number at `place` of a row after `activation`.
fn score<T: Float>(activation: Activation, row: &[T], place: usize) -> f64 {
    let number = row[place].to_f64();
    match activation {
        Activation::None => number,
        Activation::Sigmoid => sigmoid(number),
        // The number is the largest of the row. NaN beside it makes NaN, as in `softmax`.
        Activation::Softmax => {
            1.0 / row
                .iter()
                .map(|other| (other.to_f64() - number).exp())
                .sum::<f64>()
        }
    }
}

/// The place of the largest of each `width` numbers; the first of several. NaN is never the largest.
fn argmax<T: Float>(values: &[T], width: usize) -> Result<Vec<i64>> {
    if width == 0 {
        return Err(Error::model("argmax of rows without numbers"));
    }
    let mut places = Vec::with_capacity(values.len() / width);
    for (row, scores) in values.chunks_exact(width).enumerate() {
        let mut best: Option<(usize, f64)> = None;
        for (place, score) in scores.iter().enumerate() {
            let score = score.to_f64();
            if !score.is_nan() && best.is_none_or(|(_, most)| score > most) {
                best = Some((place, score));
            }
        }
        let Some((place, _)) = best else {
            return Err(Error::model(format!(
                "argmax of row {row} of a batch: every score is NaN"
            )));
        };
        places.push(place as i64);
    }
    Ok(places)
}

fn labelled(places: Vec<i64>, labels: Option<&[String]>) -> Result<TensorData> {
    let Some(labels) = labels else {
        return Ok(places.into());
    };
    let mut texts = Vec::with_capacity(places.len());
    for place in places {
        let label = labels.get(place as usize).ok_or_else(|| {
            Error::model(format!(
                "the largest score is at place {place}, and the model card has {} labels",
                labels.len()
            ))
        })?;
        texts.push(label.clone());
    }
    Ok(texts.into())
}

fn sigmoid(x: f64) -> f64 {
    // Never the exponential of a large number.
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let exp = x.exp();
        exp / (1.0 + exp)
    }
}

fn softmax<T: Float>(row: &mut [T]) {
    let most = row
        .iter()
        .map(|value| value.to_f64())
        .fold(f64::NEG_INFINITY, f64::max);
    let exps: Vec<f64> = row.iter().map(|value| (value.to_f64() - most).exp()).collect();
    let sum: f64 = exps.iter().sum();
    for (value, exp) in row.iter_mut().zip(exps) {
        *value = T::from_f64(exp / sum);
    }
}

/// Numbers are computed in float64 whatever the model gives; rows are short, and the result is the nearest.
trait Float: Copy {
    fn to_f64(self) -> f64;
    fn from_f64(value: f64) -> Self;
}

impl Float for f16 {
    fn to_f64(self) -> f64 {
        f16::to_f64(self)
    }
    fn from_f64(value: f64) -> Self {
        f16::from_f64(value)
    }
}

impl Float for f32 {
    fn to_f64(self) -> f64 {
        self.into()
    }
    fn from_f64(value: f64) -> Self {
        value as f32
    }
}

impl Float for f64 {
    fn to_f64(self) -> f64 {
        self
    }
    fn from_f64(value: f64) -> Self {
        value
    }
}

#[cfg(test)]
mod tests;
