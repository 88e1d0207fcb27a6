//! A worker's own copy of a model of trees: features in, sums, and what the model makes of them.

use std::borrow::Cow;
use std::sync::Arc;

use super::ensemble::{Ensemble, Task};
use super::forest::Width;
use super::link::{Number, greatest};
use super::{Evaluator, Features, Scratch, Sums};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::tensor::{Tensor, TensorBatch, TensorData, Value};

/// What the workers of a model file share.
#[derive(Debug)]
pub struct Shared {
    /// Location and path of the file, for messages.
    pub label: String,
    /// What the file says.
    pub ensemble: Ensemble,
    /// Its forest, ready to run.
    pub evaluator: Evaluator,
}

/// What can be asked of a model, for each row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scores {
    /// The class, int64; for several labels 0 or 1 for each.
    Label,
    /// A number for each class.
    Probabilities,
    /// What the library's own `predict` returns.
    Prediction,
    /// The sums, before anything is made of them.
    Margin,
}

/// An output of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// All numbers of a row; one column of lists, if there are several.
    All(Scores),
    /// The number at this place of each row.
    One(Scores, usize),
}

/// A worker.
pub struct TreeModel {
    shared: Arc<Shared>,
    pieces: Vec<Piece>,
    scratch: Scratch,
}

impl TreeModel {
    /// A worker that returns `pieces`.
    pub fn new(shared: Arc<Shared>, pieces: Vec<Piece>) -> TreeModel {
        TreeModel {
            shared,
            pieces,
            scratch: Scratch::default(),
        }
    }

    fn pieces<T: Number>(&self, margins: Vec<T>) -> Result<Vec<Value>>
    where
        TensorData: From<Vec<T>>,
    {
        let ensemble = &self.shared.ensemble;
        let targets = ensemble.forest.targets;
        let wants = |scores: Scores| {
            self.pieces
                .iter()
                .any(|piece| matches!(piece, Piece::All(known) | Piece::One(known, _) if *known == scores))
        };
        let kept = wants(Scores::Margin).then(|| margins.clone());
        let mut results = margins;
        if let Some(divisor) = ensemble.divisor {
            results
                .iter_mut()
                .for_each(|value| *value = value.divided(divisor));
        }
        results
            .chunks_exact_mut(targets)
            .for_each(|row| T::link(ensemble.link, row));
        let table = Table {
            ensemble,
            margins: kept.unwrap_or_default(),
            results,
        };
        let mut results = Vec::with_capacity(self.pieces.len());
        for piece in &self.pieces {
            results.push(Value::Tensor(table.piece(*piece)?));
        }
        Ok(results)
    }
}

impl Model for TreeModel {
    fn infer(&mut self, batch: &TensorBatch) -> Result<Vec<Value>> {
        let shared = Arc::clone(&self.shared);
        let forest = &shared.ensemble.forest;
        let expected = batch.rows.checked_mul(forest.features);
        let [features] = batch.inputs.as_slice() else {
            return Err(unexpected(batch, forest.features));
        };
        if Some(features.data.len()) != expected || features.rows() != batch.rows {
            return Err(unexpected(batch, forest.features));
        }
        let strict = &shared.ensemble.strict_categories;
        let data = cleaned(&features.data, forest.features, strict);
        let features = match data.as_ref() {
            TensorData::F32(values) => Features::RowsF32(values),
            TensorData::F64(values) => Features::RowsF64(values),
            _ => return Err(unexpected(batch, forest.features)),
        };
        let places = batch.rows * forest.targets;
        match forest.summed_in {
            Width::F32 => {
                let mut sums = vec![0f32; places];
                shared
                    .evaluator
                    .score(features, batch.rows, &mut self.scratch, Sums::F32(&mut sums));
                self.pieces(sums)
            }
            Width::F64 => {
                let mut sums = vec![0f64; places];
                shared
                    .evaluator
                    .score(features, batch.rows, &mut self.scratch, Sums::F64(&mut sums));
                self.pieces(sums)
            }
        }
    }
}

fn unexpected(batch: &TensorBatch, features: usize) -> Error {
    Error::internal(format!(
        "a batch of {} rows with tensors of shapes {:?} reached a model of {features} features",
        batch.rows,
        batch
            .inputs
            .iter()
            .map(|tensor| &tensor.shape)
            .collect::<Vec<_>>()
    ))
}

/// Features with those that are categories made whole: a negative fraction is no category, and cutting it off would give
/// category 0.
fn cleaned<'a>(data: &'a TensorData, width: usize, strict: &[u32]) -> Cow<'a, TensorData> {
    fn clean<T: Copy + PartialOrd + From<i8>>(values: &[T], width: usize, strict: &[u32]) -> Vec<T> {
        let mut values = values.to_vec();
        for row in values.chunks_exact_mut(width) {
            for &feature in strict {
                let value = &mut row[feature as usize];
                if *value < T::from(0) && *value > T::from(-1) {
                    *value = T::from(-1);
                }
            }
        }
        values
    }
    match data {
        _ if strict.is_empty() => Cow::Borrowed(data),
        TensorData::F32(values) => Cow::Owned(clean(values, width, strict).into()),
        TensorData::F64(values) => Cow::Owned(clean(values, width, strict).into()),
        other => Cow::Borrowed(other),
    }
}

/// The rows of a batch.
struct Table<'a, T> {
    ensemble: &'a Ensemble,
    margins: Vec<T>,
    results: Vec<T>,
}

impl<T: Number> Table<'_, T>
where
    TensorData: From<Vec<T>>,
{
    fn piece(&self, piece: Piece) -> Result<Tensor> {
        let (scores, place) = match piece {
            Piece::All(scores) => (scores, None),
            Piece::One(scores, place) => (scores, Some(place)),
        };
        match scores {
            Scores::Label => {
                let (width, labels) = self.labels();
                cut::<i64>(labels, width, place)
            }
            Scores::Probabilities if self.ensemble.task == Task::TwoClasses => {
                let both = self.results.iter().flat_map(|&one| [one.complement(), one]);
                cut(both.collect(), 2, place)
            }
            Scores::Prediction if self.ensemble.predicts_class => {
                let classes = self.rows().map(|row| T::whole(greatest(row)));
                cut(classes.collect(), 1, place)
            }
            Scores::Probabilities | Scores::Prediction => {
                cut(self.results.clone(), self.ensemble.forest.targets, place)
            }
            Scores::Margin => cut(self.margins.clone(), self.ensemble.forest.targets, place),
        }
    }

    fn rows(&self) -> impl Iterator<Item = &[T]> {
        self.results.chunks_exact(self.ensemble.forest.targets)
    }

    fn labels(&self) -> (usize, Vec<i64>) {
        match self.ensemble.task {
            Task::Classes => (1, self.rows().map(|row| greatest(row) as i64).collect()),
            _ => {
                let half = |&value: &T| i64::from(value.into() > 0.5);
                (
                    self.ensemble.forest.targets,
                    self.results.iter().map(half).collect(),
                )
            }
        }
    }
}

/// `values` of rows of `width`, or the one at `place` of each.
fn cut<V: Copy>(values: Vec<V>, width: usize, place: Option<usize>) -> Result<Tensor>
where
    TensorData: From<Vec<V>>,
{
    let rows = values.len() / width;
    match place {
        None if width > 1 => Tensor::new(vec![rows, width], values),
        Some(place) if width > 1 => {
            let column: Vec<V> = values.iter().skip(place).step_by(width).copied().collect();
            Tensor::new(vec![rows], column)
        }
        _ => Tensor::new(vec![rows], values),
    }
}
