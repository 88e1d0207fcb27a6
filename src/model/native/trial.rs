//! Rows for holding two engines against each other: at the thresholds of the trees and beside them, missing, infinite,
//! and anywhere between.

use std::sync::Arc;

use super::Uncovered;
use super::ensemble::Feature;
use super::program::{Does, NativeWorker, Program};
use super::steps::Step;
use crate::model::Model;
use crate::model::engine::agree;
use crate::model::trees::forest::{Node, Test};
use crate::signature::{Dim, InputFeature};
use crate::tensor::{DType, Tensor, TensorBatch, TensorData};

/// Rows of a trial.
pub const ROWS: usize = 512;
/// Most numbers of a row.
const MOST_WIDTH: usize = 1 << 15;
/// Most thresholds that are kept of one column.
const MOST_THRESHOLDS: usize = 4096;

/// Where a column of a value comes from: a column of an input, times a plus b.
#[derive(Clone, Copy)]
struct Origin {
    input: usize,
    column: usize,
    a: f64,
    b: f64,
}

/// Rows for `program`, whose inputs are `inputs`; the same for the same program.
pub fn rows(program: &Program, inputs: &[InputFeature]) -> Option<TensorBatch> {
    let widths: Vec<usize> = inputs
        .iter()
        .map(|input| match input.shape.as_slice() {
            [] => Some(1),
            [Dim::Fixed(width)] => Some(*width),
            // Open: as many as the trees ask for.
            [Dim::Dynamic] => Some(columns_asked(program)),
            _ => None,
        })
        .collect::<Option<_>>()?;
    if widths.iter().sum::<usize>() > MOST_WIDTH {
        return None;
    }
    let thresholds = thresholds(program, &widths);
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut tensors = Vec::with_capacity(inputs.len());
    for (position, input) in inputs.iter().enumerate() {
        let width = widths[position];
        let mut values = Vec::with_capacity(ROWS.checked_mul(width)?);
        for _ in 0..ROWS {
            for known in &thresholds[position] {
                values.push(dice.value(known, input.dtype));
            }
        }
        let whole = |value: f64| {
            if value.is_finite() {
                value.clamp(-1e9, 1e9) as i32
            } else {
                0
            }
        };
        let data = match input.dtype {
            DType::F32 => TensorData::F32(values.iter().map(|&value| value as f32).collect()),
            DType::F64 => TensorData::F64(values),
            DType::I64 => TensorData::I64(values.iter().map(|&value| i64::from(whole(value))).collect()),
            DType::I32 => TensorData::I32(values.iter().map(|&value| whole(value)).collect()),
            _ => return None,
        };
        let shape = match input.shape.is_empty() {
            true => vec![ROWS],
            false => vec![ROWS, width],
        };
        tensors.push(Tensor { shape, data });
    }
    Some(TensorBatch {
        rows: ROWS,
        inputs: tensors,
    })
}

/// `program`, if it gives for trial rows what `other`, the same model run by somebody else, gives for them.
///
/// # Errors
/// Where they differ, in words, or why they can't be compared.
pub fn held_against(
    program: Program,
    inputs: &[InputFeature],
    label: &str,
    other: &mut dyn Model,
) -> Result<Program, Uncovered> {
    let batch = rows(&program, inputs).ok_or("inputs that no trial rows can be made for")?;
    let program = Arc::new(program);
    let ours = NativeWorker::new(Arc::clone(&program), label.to_string()).infer(&batch);
    let ours = ours.map_err(|error| error.message().to_string())?;
    let theirs = other.infer(&batch).map_err(|error| error.message().to_string())?;
    agree(&ours, &theirs, program.engine().tolerance())
        .map_err(|difference| format!("on trial rows it differs from ONNX Runtime in {difference}"))?;
    let mut program = Arc::into_inner(program).ok_or("the trial is not over")?;
    program.forget_trees();
    Ok(program)
}

fn columns_asked(program: &Program) -> usize {
    let asked = program.calls.iter().map(|call| match &call.does {
        Does::Trees(trees) => trees.ensemble.columns,
        Does::Dense(dense) => dense.inputs(),
        Does::Step(_) => 0,
    });
    asked.max().unwrap_or(1).max(1)
}

/// For each input and column the numbers at which something changes.
fn thresholds(program: &Program, widths: &[usize]) -> Vec<Vec<Vec<f64>>> {
    let mut found: Vec<Vec<Vec<f64>>> = widths.iter().map(|&width| vec![Vec::new(); width]).collect();
    let mut origins: Vec<Option<Vec<Option<Origin>>>> = vec![None; program.slots];
    for (input, &width) in widths.iter().enumerate() {
        let columns = (0..width).map(|column| {
            Some(Origin {
                input,
                column,
                a: 1.0,
                b: 0.0,
            })
        });
        origins[input] = Some(columns.collect());
    }
    for call in &program.calls {
        let taken: Option<Vec<Vec<Option<Origin>>>> =
            call.takes.iter().map(|&slot| origins[slot].clone()).collect();
        let Some(taken) = taken else { continue };
        match &call.does {
            Does::Trees(trees) => {
                for tree in &trees.ensemble.forest.trees {
                    for node in &tree.nodes {
                        let Node::Split(split) = node else { continue };
                        let column = match trees.ensemble.features[split.feature as usize] {
                            Feature::Column(column) | Feature::Whole(column) => column,
                        };
                        let Some(Some(origin)) = taken[0].get(column) else {
                            continue;
                        };
                        let list = &mut found[origin.input][origin.column];
                        let mut keep = |threshold: f64| {
                            if list.len() < MOST_THRESHOLDS && threshold.is_finite() {
                                list.push((threshold - origin.b) / origin.a);
                            }
                        };
                        match &split.test {
                            Test::Less(threshold) => keep(*threshold),
                            Test::Member(set) => set.iter().take(64).for_each(|&member| keep(member.into())),
                        }
                    }
                }
            }
            // Nothing changes at once there.
            Does::Dense(_) => {}
            Does::Step(step) => {
                if let [Some(slot)] = call.gives.as_slice() {
                    origins[*slot] = through(step, taken);
                }
            }
        }
    }
    found
}

/// Where the columns come from behind a step.
fn through(step: &Step, taken: Vec<Vec<Option<Origin>>>) -> Option<Vec<Option<Origin>>> {
    match step {
        Step::Identity | Step::Cast(_) | Step::Reshape(_) => taken.into_iter().next(),
        Step::Concat => Some(taken.into_iter().flatten().collect()),
        Step::Scaler { offset, scale } => {
            let at =
                |list: &[f32], column: usize| list.get(if list.len() == 1 { 0 } else { column }).copied();
            let columns = taken.into_iter().next()?.into_iter().enumerate();
            let columns = columns.map(|(column, origin)| {
                let (offset, scale) = (f64::from(at(offset, column)?), f64::from(at(scale, column)?));
                origin.map(|origin| Origin {
                    a: origin.a * scale,
                    b: (origin.b - offset) * scale,
                    ..origin
                })
            });
            Some(columns.collect())
        }
        _ => None,
    }
}

/// xorshift64*
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    fn below(&mut self, count: usize) -> usize {
        (self.next() % count.max(1) as u64) as usize
    }

    fn value(&mut self, thresholds: &[f64], dtype: DType) -> f64 {
        let narrow = dtype == DType::F32;
        let threshold = match thresholds {
            [] => 0.0,
            some => some[self.below(some.len())],
        };
        let (up, down) = match narrow {
            true => {
                let threshold = threshold as f32;
                (f64::from(threshold.next_up()), f64::from(threshold.next_down()))
            }
            false => (threshold.next_up(), threshold.next_down()),
        };
        match self.below(20) {
            0 => f64::NAN,
            1 => [f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0][self.below(4)],
            2..=6 => threshold,
            7..=9 => up,
            10..=12 => down,
            _ => {
                // Between two thresholds, or somewhat beyond.
                let other = match thresholds {
                    [] => 1.0,
                    some => some[self.below(some.len())],
                };
                let part = self.below(1 << 20) as f64 / (1u64 << 20) as f64 * 1.5 - 0.25;
                threshold + (other - threshold) * part + part - 0.5
            }
        }
    }
}
