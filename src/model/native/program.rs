//! A covered graph as a list of steps, and a worker that runs them.

use std::sync::Arc;

use super::Uncovered;
use super::ensemble::{Ensemble, Feature, Finish};
use super::finish;
use super::steps::{self, Step};
use crate::error::{Error, Result};
use crate::model::dense::{self, Dense};
use crate::model::onnx::scaler::Scaler;
use crate::model::onnx::zipmap::Zip;
use crate::model::trees::{self, Evaluator, Features, Sums};
use crate::model::{Engine, Model};
use crate::tensor::{DType, Tensor, TensorBatch, TensorData, Value};

/// A graph that is run here.
#[derive(Debug)]
pub struct Program {
    /// How many axes each input has, the batch included.
    pub inputs: Vec<usize>,
    /// What was taken out of the graph in front of each input.
    pub scalers: Vec<Option<Scaler>>,
    /// What is done, in order.
    pub calls: Vec<Call>,
    /// How many values there are.
    pub slots: usize,
    /// The values that are returned.
    pub outputs: Vec<Output>,
}

/// A step with the values it takes and gives.
#[derive(Debug)]
pub struct Call {
    /// What is done.
    pub does: Does,
    /// Values it takes.
    pub takes: Vec<usize>,
    /// Values it gives; `None` for one that nobody asks for.
    pub gives: Vec<Option<usize>>,
}

/// What is done by a call.
#[derive(Debug)]
pub enum Does {
    /// A step.
    Step(Step),
    /// Trees.
    Trees(Box<Trees>),
    /// Dense layers.
    Dense(Box<Dense>),
}

impl Does {
    /// What becomes of `tensor`, for what leaves it as it is; `None` for a step.
    fn regard(
        &self,
        tensor: &Tensor,
        rows: usize,
        scratch: &mut Scratch,
    ) -> Result<Option<Vec<Tensor>>, Uncovered> {
        match self {
            Does::Step(_) => Ok(None),
            Does::Trees(trees) => trees.run(tensor, rows, &mut scratch.trees).map(Some),
            Does::Dense(dense) => {
                let TensorData::F32(values) = &tensor.data else {
                    return Err(format!("layers over {}", tensor.data.dtype().as_str()));
                };
                if tensor.rows() != rows || tensor.row_len() != dense.inputs() {
                    return Err(format!(
                        "layers ask for {} columns of {rows} rows, and there are {:?}",
                        dense.inputs(),
                        tensor.shape
                    ));
                }
                Ok(Some(vec![Tensor {
                    shape: vec![rows, dense.units()],
                    data: dense.run(values, &mut scratch.dense).into(),
                }]))
            }
        }
    }
}

/// Room that is used again.
#[derive(Default)]
struct Scratch {
    trees: trees::Scratch,
    dense: dense::Scratch,
}

/// Trees, ready to run.
#[derive(Debug)]
pub struct Trees {
    /// What the node says.
    pub ensemble: Ensemble,
    /// Its forest.
    pub evaluator: Evaluator,
    /// Sums are wide: the input is float64.
    pub wide: bool,
}

/// A value that is returned.
#[derive(Debug)]
pub struct Output {
    /// Which.
    pub slot: usize,
    /// It becomes maps.
    pub zip: Option<Zip>,
}

/// A worker.
pub struct NativeWorker {
    program: Arc<Program>,
    label: String,
    scratch: Scratch,
}

impl NativeWorker {
    /// A worker of `program`; `label` is the model's name for messages.
    pub fn new(program: Arc<Program>, label: String) -> NativeWorker {
        NativeWorker {
            program,
            label,
            scratch: Scratch::default(),
        }
    }
}

impl Model for NativeWorker {
    fn infer(&mut self, batch: &TensorBatch) -> Result<Vec<Value>> {
        self.program.run(batch, &mut self.scratch).map_err(|why| {
            Error::model(format!(
                "the model, computed by {}, fails on a batch of {} rows: {why}",
                self.program.engine(),
                batch.rows
            ))
            .with("model", &self.label)
            .with_hint("set model.backend to onnx")
        })
    }
}

impl Program {
    /// Who computes it.
    pub fn engine(&self) -> Engine {
        let has_trees = self.calls.iter().any(|call| matches!(call.does, Does::Trees(_)));
        if has_trees { Engine::Trees } else { Engine::Dense }
    }

    /// Drops what only the trial looks at: what runs are the evaluators.
    pub fn forget_trees(&mut self) {
        for call in &mut self.calls {
            if let Does::Trees(trees) = &mut call.does {
                trees.ensemble.forest.trees = Vec::new();
            }
        }
    }

    fn run(&self, batch: &TensorBatch, scratch: &mut Scratch) -> Result<Vec<Value>, Uncovered> {
        if batch.inputs.len() != self.inputs.len() {
            return Err(format!("{} inputs for {}", batch.inputs.len(), self.inputs.len()));
        }
        let mut slots: Vec<Option<Tensor>> = vec![None; self.slots];
        for ((slot, scaler), input) in slots.iter_mut().zip(&self.scalers).zip(&batch.inputs) {
            let scaled = scaler.as_ref().map(|scaler| scaler.apply(input)).transpose();
            *slot = scaled.map_err(|error| error.message().to_string())?;
        }
        for (call, Call { does, takes, gives }) in self.calls.iter().enumerate() {
            let is_last_use = |slot: usize| {
                let later = self.calls[call + 1..].iter().flat_map(|call| &call.takes);
                let returned = self.outputs.iter().map(|output| &output.slot);
                !later.chain(returned).any(|&other| other == slot)
            };
            if let [slot] = takes.as_slice() {
                let tensor = slots[*slot].as_ref().or(batch.inputs.get(*slot));
                let tensor = tensor.ok_or("a value that is not there")?;
                if let Some(results) = does.regard(tensor, batch.rows, scratch)? {
                    if is_last_use(*slot) {
                        slots[*slot] = None;
                    }
                    for (slot, result) in gives.iter().zip(results) {
                        if let Some(slot) = slot {
                            slots[*slot] = Some(result);
                        }
                    }
                    continue;
                }
            }
            let mut taken = Vec::with_capacity(takes.len());
            for (place, &slot) in takes.iter().enumerate() {
                let is_last = is_last_use(slot) && !takes[place + 1..].contains(&slot);
                taken.push(match &mut slots[slot] {
                    Some(_) if is_last => slots[slot].take(),
                    Some(tensor) => Some(tensor.clone()),
                    None => self.input(batch, slot),
                });
            }
            let taken: Option<Vec<Tensor>> = taken.into_iter().collect();
            let taken = taken.ok_or("a value that is not there")?;
            let Does::Step(step) = does else {
                return Err("trees or layers with several inputs".to_string());
            };
            let result = step.apply(taken, batch.rows)?;
            if let [Some(slot)] = gives.as_slice() {
                slots[*slot] = Some(result);
            }
        }
        let mut values = Vec::with_capacity(self.outputs.len());
        for output in &self.outputs {
            let tensor = slots[output.slot]
                .clone()
                .or_else(|| self.input(batch, output.slot));
            let tensor = tensor.ok_or("an output that is not there")?;
            if tensor.shape.first() != Some(&batch.rows) {
                return Err(format!("an output of shape {:?}", tensor.shape));
            }
            values.push(match (&output.zip, &tensor.data) {
                (None, _) => Value::Tensor(tensor),
                (Some(zip), TensorData::F32(scores)) if tensor.row_len() == zip.width() => {
                    Value::Maps(zip.maps(scores))
                }
                (Some(_), _) => return Err("scores of another width than there are labels".to_string()),
            });
        }
        Ok(values)
    }

    /// An input with the axes that the graph declares.
    fn input(&self, batch: &TensorBatch, slot: usize) -> Option<Tensor> {
        let mut tensor = batch.inputs.get(slot)?.clone();
        if self.inputs[slot] == 2 && tensor.shape.len() == 1 {
            tensor.shape.push(1);
        }
        Some(tensor)
    }
}

impl Trees {
    /// Labels and scores of a classifier, or the targets.
    fn run(
        &self,
        input: &Tensor,
        rows: usize,
        scratch: &mut trees::Scratch,
    ) -> Result<Vec<Tensor>, Uncovered> {
        let width = input.row_len();
        if input.rows() != rows || width < self.ensemble.columns {
            return Err(format!(
                "trees ask for {} columns, and there are {width}",
                self.ensemble.columns
            ));
        }
        let narrow;
        let data = match &input.data {
            data @ (TensorData::F32(_) | TensorData::F64(_)) => data,
            TensorData::I64(_) | TensorData::I32(_) => {
                narrow = steps::cast(input.clone(), DType::F32)?.data;
                &narrow
            }
            other => return Err(format!("trees over {}", other.dtype().as_str())),
        };
        let targets = self.ensemble.forest.targets;
        let gathered;
        let data = match self.is_plain(width) {
            true => data,
            false => {
                gathered = self.gathered(data, width)?;
                &gathered
            }
        };
        let features = match data {
            TensorData::F32(values) if !self.wide => Features::RowsF32(values),
            TensorData::F64(values) if self.wide => Features::RowsF64(values),
            _ => return Err("an input of another type than the graph declares".to_string()),
        };
        let mut narrow_sums = Vec::new();
        let mut wide_sums = Vec::new();
        if self.wide {
            wide_sums.resize(rows * targets, 0f64);
            self.evaluator
                .score(features, rows, scratch, Sums::F64(&mut wide_sums));
        } else {
            narrow_sums.resize(rows * targets, 0f32);
            self.evaluator
                .score(features, rows, scratch, Sums::F32(&mut narrow_sums));
            if let Finish::Targets(super::ensemble::Transform::None) = self.ensemble.finish {
                return Ok(vec![Tensor {
                    shape: vec![rows, targets],
                    data: narrow_sums.into(),
                }]);
            }
            wide_sums.extend(narrow_sums.iter().map(|&sum| f64::from(sum)));
        }
        Ok(match &self.ensemble.finish {
            Finish::Targets(transform) => {
                let scores = finish::transformed(wide_sums.into_iter(), targets, *transform);
                vec![Tensor {
                    shape: vec![rows, targets],
                    data: scores.into(),
                }]
            }
            Finish::Classes(classes) => {
                let (labels, scores) = classes.finish(&wide_sums, !self.wide);
                vec![
                    Tensor {
                        shape: vec![rows],
                        data: labels,
                    },
                    Tensor {
                        shape: vec![rows, targets],
                        data: scores.into(),
                    },
                ]
            }
        })
    }

    /// The forest's features are the input's columns.
    fn is_plain(&self, width: usize) -> bool {
        self.ensemble.features.len() == width && self.ensemble.columns == width
    }

    fn gathered(&self, data: &TensorData, width: usize) -> Result<TensorData, Uncovered> {
        fn gather<T: Copy>(values: &[T], width: usize, features: &[Feature], whole: fn(T) -> T) -> Vec<T> {
            let mut gathered = Vec::with_capacity(values.len() / width * features.len());
            for row in values.chunks_exact(width) {
                gathered.extend(features.iter().map(|feature| match feature {
                    Feature::Column(column) => row[*column],
                    Feature::Whole(column) => whole(row[*column]),
                }));
            }
            gathered
        }
        let features = &self.ensemble.features;
        Ok(match data {
            TensorData::F32(values) => gather(values, width, features, |value| match () {
                () if value.is_nan() || (value >= 0.0 && value.fract() == 0.0) => value,
                () => -1.0,
            })
            .into(),
            TensorData::F64(values) => gather(values, width, features, |value| match () {
                () if value.is_nan() || (value >= 0.0 && value.fract() == 0.0) => value,
                () => -1.0,
            })
            .into(),
            other => return Err(format!("trees over {}", other.dtype().as_str())),
        })
    }
}
