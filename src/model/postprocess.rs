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
}

impl Step {
    /// Whether values pass unchanged.
    pub fn is_nothing(&self) -> bool {
        *self == Step::default()
    }
}

/// What `card` asks for, and the `output` as it is afterwards.
///
/// # Errors
/// `Model`, when the output is not one of floating-point numbers, or has no last axis to look along.
pub fn plan(card: &OutputCard, mut output: OutputFeature) -> Result<(Step, OutputFeature)> {
    let step = Step {
        activation: card.activation.unwrap_or_default(),
        select: card.select,
        labels: card.labels.clone(),
    };
    if let Some(name) = &card.name {
        output.column = name.clone();
    }
    if step.is_nothing() {
        return Ok((step, output));
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
        output.dtype = if step.labels.is_some() {
            DType::String
        } else {
            DType::I64
        };
    }
    Ok((step, output))
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
        let steps = values.into_iter().zip(&self.steps);
        steps.map(|(value, step)| apply(step, value)).collect()
    }
}

fn apply(step: &Step, value: Value) -> Result<Value> {
    if step.is_nothing() {
        return Ok(value);
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
    .map(Value::Tensor)
}

fn apply_to<T: Float>(step: &Step, mut shape: Vec<usize>, width: usize, mut values: Vec<T>) -> Result<Tensor>
where
    TensorData: From<Vec<T>>,
{
    if step.select == Some(Select::Argmax) {
        // Softmax and sigmoid keep the order, so the largest stays where it is.
        shape.pop();
        let places = argmax(&values, width)?;
        return Tensor::new(shape, labelled(places, step.labels.as_deref())?);
    }
    match step.activation {
        Activation::None => {}
        Activation::Sigmoid => values
            .iter_mut()
            .for_each(|value| *value = T::from_f64(sigmoid(value.to_f64()))),
        Activation::Softmax => values.chunks_exact_mut(width.max(1)).for_each(softmax),
    }
    Tensor::new(shape, values)
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
mod tests {
    use super::*;

    fn output(dtype: DType, shape: &[Dim]) -> OutputFeature {
        OutputFeature {
            name: "logits".into(),
            column: "logits".into(),
            dtype,
            shape: shape.to_vec(),
            kind: OutputKind::Tensor,
        }
    }

    fn card(activation: Option<Activation>, select: Option<Select>, labels: Option<&[&str]>) -> OutputCard {
        let labels = labels.map(|labels| labels.iter().map(|label| label.to_string()).collect());
        OutputCard {
            name: None,
            activation,
            select,
            labels,
        }
    }

    fn run(card: &OutputCard, value: Tensor) -> Result<Tensor> {
        let shape: Vec<_> = value.shape[1..]
            .iter()
            .map(|&extent| Dim::Fixed(extent))
            .collect();
        let (step, after) = plan(card, output(value.dtype(), &shape))?;
        let Value::Tensor(result) = apply(&step, Value::Tensor(value))? else {
            panic!("a tensor stays a tensor")
        };
        assert_eq!(result.dtype(), after.dtype);
        let promised: Vec<_> = result.shape[1..]
            .iter()
            .map(|&extent| Dim::Fixed(extent))
            .collect();
        assert_eq!(promised, after.shape);
        Ok(result)
    }

    #[test]
    fn softmax_sums_to_one_along_each_row_and_survives_large_numbers() {
        let logits = Tensor::new(vec![2, 3], vec![1f32, 2., 3., 1000., 1000., -1000.]).unwrap();
        let result = run(&card(Some(Activation::Softmax), None, None), logits).unwrap();
        let TensorData::F32(values) = result.data else {
            panic!("float32 stays float32")
        };
        let expected = [0.090_030_57, 0.244_728_47, 0.665_240_96, 0.5, 0.5, 0.0];
        for (value, expected) in values.iter().zip(expected) {
            assert!((value - expected).abs() < 1e-6, "{values:?}");
        }
    }

    #[test]
    fn sigmoid_works_on_single_scores_and_far_from_zero() {
        let scores = Tensor::new(vec![4], vec![0f64, 1., -800., 800.]).unwrap();
        let result = run(&card(Some(Activation::Sigmoid), None, None), scores).unwrap();
        assert_eq!(result.data, vec![0.5, 0.731_058_578_630_004_9, 0.0, 1.0].into());
    }

    #[test]
    fn half_precision_stays_half_precision() {
        let scores = Tensor::new(vec![1], vec![f16::from_f32(0.0)]).unwrap();
        let result = run(&card(Some(Activation::Sigmoid), None, None), scores).unwrap();
        assert_eq!(result.data, vec![f16::from_f32(0.5)].into());
    }

    #[test]
    fn argmax_gives_places_or_labels_the_first_of_equals_and_passes_over_nan() {
        let scores = Tensor::new(vec![3, 2], vec![1f32, 2., 5., 5., f32::NAN, -1.]).unwrap();
        let places = run(&card(None, Some(Select::Argmax), None), scores.clone()).unwrap();
        assert_eq!((places.shape, places.data), (vec![3], vec![1i64, 0, 1].into()));
        let labels = run(
            &card(
                Some(Activation::Softmax),
                Some(Select::Argmax),
                Some(&["no", "yes"]),
            ),
            scores,
        )
        .unwrap();
        assert_eq!(
            labels.data,
            ["yes", "no", "yes"].map(String::from).to_vec().into()
        );
    }

    #[test]
    fn argmax_looks_along_the_last_axis_only() {
        let scores = Tensor::new(vec![1, 2, 2], vec![1f64, 0., 0., 1.]).unwrap();
        let places = run(&card(None, Some(Select::Argmax), None), scores).unwrap();
        assert_eq!((places.shape, places.data), (vec![1, 2], vec![0i64, 1].into()));
    }

    #[test]
    fn a_row_of_nothing_but_nan_is_an_error_that_names_it() {
        let scores = Tensor::new(vec![2, 2], vec![1f32, 2., f32::NAN, f32::NAN]).unwrap();
        let error = run(&card(None, Some(Select::Argmax), None), scores)
            .unwrap_err()
            .to_string();
        assert_eq!(error, "argmax of row 1 of a batch: every score is NaN");
    }

    #[test]
    fn what_an_output_can_not_do_is_refused_before_any_batch() {
        let argmax = card(None, Some(Select::Argmax), Some(&["a", "b"]));
        for (card, output, part) in [
            (&argmax, output(DType::I64, &[Dim::Fixed(2)]), "holds int64"),
            (&argmax, output(DType::F32, &[]), "at least two numbers"),
            (
                &argmax,
                output(DType::F32, &[Dim::Fixed(1)]),
                "at least two numbers",
            ),
            (
                &argmax,
                output(DType::F32, &[Dim::Fixed(3)]),
                "3 places, and the card has 2 labels",
            ),
            (
                &argmax,
                OutputFeature {
                    kind: OutputKind::Map { key: DType::I64 },
                    ..output(DType::F32, &[])
                },
                "holds maps",
            ),
        ] {
            let error = plan(card, output).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        let open = plan(&argmax, output(DType::F32, &[Dim::Dynamic])).unwrap();
        assert_eq!(open.1.dtype, DType::String);
        let wide = Value::Tensor(Tensor::new(vec![1, 3], vec![0f32, 0., 1.]).unwrap());
        let error = apply(&open.0, wide).unwrap_err().to_string();
        assert!(
            error.contains("place 2, and the model card has 2 labels"),
            "{error}"
        );
    }

    #[test]
    fn renaming_alone_leaves_values_alone() {
        let renamed = OutputCard {
            name: Some("score".into()),
            ..OutputCard::default()
        };
        let (step, after) = plan(&renamed, output(DType::String, &[])).unwrap();
        assert!(step.is_nothing());
        assert_eq!((after.name.as_str(), after.column.as_str()), ("logits", "score"));
    }
}
