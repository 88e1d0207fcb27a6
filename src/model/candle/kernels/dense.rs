//! A dense layer on the CPU: weights laid out once as the tiles read them, and layers one behind the other that never
//! write what is between them to memory.
//!
//! Rows are taken by blocks, a batch of texts being one, since all weights pass by once for each: they come from far, and where
//! others use the memory too that is what takes the time. Sums of many terms are cut where a panel would leave the first
//! cache.

use super::elementwise::{activate, gate};
use super::isa::Isa;
use super::tiles::{self, From, MOST_WIDTH, Rows};
use super::{each, scratch};
use crate::model::candle::encoder::Activation;

/// Most rows of a block: a batch of 256 tokens is one, and none is left with a few rows for all weights.
const MOST_ROWS: usize = 264;

/// Rows of a block are a multiple of this: whole tiles of every instruction set.
const TILES: usize = 12;

/// Rows of a block when there are `rows` in all: equal parts, and some for each thread.
fn block_rows(rows: usize) -> usize {
    let blocks = rows.div_ceil(MOST_ROWS).max(rayon::current_num_threads());
    rows.div_ceil(blocks).next_multiple_of(TILES).max(TILES)
}

/// Most terms of a sum at once: a panel of them takes 24 KiB, of 16 columns.
const TERMS: usize = 384;

/// Weights and bias of a dense layer.
pub struct Packed {
    isa: Isa,
    panels: Vec<f32>,
    /// For all columns of the panels; zeros where there is none.
    bias: Vec<f32>,
    pub inputs: usize,
    pub outputs: usize,
}

/// Writes `count` rows of `matrix`, `stride` apart and of `depth` numbers, as the columns of a panel.
pub fn pack_columns(matrix: &[f32], stride: usize, count: usize, depth: usize, panel: &mut [f32]) {
    let width = panel.len() / depth.max(1);
    panel.fill(0.0);
    for column in 0..count {
        let row = &matrix[column * stride..][..depth];
        for (place, x) in panel.iter_mut().skip(column).step_by(width).zip(row) {
            *place = *x;
        }
    }
}

impl Packed {
    /// From weights of `[outputs, inputs]`, as checkpoints have them.
    pub fn new(isa: Isa, weight: &[f32], bias: Option<&[f32]>, inputs: usize, outputs: usize) -> Packed {
        assert_eq!(weight.len(), inputs * outputs);
        let width = tiles::width(isa);
        let padded = outputs.next_multiple_of(width);
        let mut panels = vec![0.0; padded * inputs];
        for (index, panel) in panels.chunks_exact_mut((width * inputs).max(1)).enumerate() {
            let first = index * width;
            let rows = &weight[first * inputs..];
            pack_columns(rows, inputs, width.min(outputs - first), inputs, panel);
        }
        let mut padded_bias = vec![0.0; padded];
        if let Some(bias) = bias {
            padded_bias[..outputs].copy_from_slice(bias);
        }
        Packed {
            isa,
            panels,
            bias: padded_bias,
            inputs,
            outputs,
        }
    }

    /// `[rows, outputs]` of rows of `inputs`.
    pub fn forward(&self, x: &[f32], out: &mut [f32]) {
        let most = block_rows(out.len() / self.outputs.max(1));
        let blocks = out.chunks_mut((most * self.outputs).max(1)).enumerate().collect();
        each(blocks, |(block, out)| {
            let count = out.len() / self.outputs;
            let rows = Rows {
                numbers: &x[block * most * self.inputs..],
                stride: self.inputs,
                count,
            };
            self.block(rows, out, self.outputs);
        });
    }

    /// One block of rows.
    pub fn block(&self, rows: Rows, out: &mut [f32], stride: usize) {
        let width = tiles::width(self.isa);
        let parts = self.inputs.div_ceil(TERMS).max(1);
        let terms = self.inputs.div_ceil(parts);
        for first in (0..self.inputs).step_by(terms.max(1)) {
            let end = (first + terms).min(self.inputs);
            let some = Rows {
                numbers: &rows.numbers[first..],
                ..rows
            };
            for (index, panel) in self.panels.chunks_exact((width * self.inputs).max(1)).enumerate() {
                let column = index * width;
                let from = match first {
                    0 => From::Bias(&self.bias[column..][..width]),
                    _ => From::There,
                };
                tiles::multiply(
                    self.isa,
                    some,
                    &panel[first * width..end * width],
                    from,
                    (&mut out[column..], stride),
                    width.min(self.outputs - column),
                );
            }
        }
    }
}

/// A dense layer whose weights stay as they are, since something else uses them too: `weight` is `[outputs, inputs]`.
pub fn forward_unpacked(isa: Isa, x: &[f32], weight: &[f32], bias: &[f32], out: &mut [f32]) {
    let outputs = bias.len();
    if outputs == 0 {
        return;
    }
    let inputs = weight.len() / outputs;
    let width = tiles::width(isa);
    let count = x.len() / inputs;
    scratch(|panel| {
        panel.resize(width * inputs, 0.0);
        for column in (0..outputs).step_by(width) {
            let columns = width.min(outputs - column);
            pack_columns(&weight[column * inputs..], inputs, columns, inputs, panel);
            let mut start = [0.0; MOST_WIDTH];
            start[..columns].copy_from_slice(&bias[column..][..columns]);
            let rows = Rows {
                numbers: x,
                stride: inputs,
                count,
            };
            let from = From::Bias(&start[..width]);
            tiles::multiply(isa, rows, panel, from, (&mut out[column..], outputs), columns);
        }
    });
}

/// A wide layer, an activation and a layer back. With `gated` the wide layer's second half is what its first is multiplied by.
pub fn feed_forward(
    x: &[f32],
    up: &Packed,
    activation: Activation,
    gated: bool,
    down: &Packed,
    out: &mut [f32],
) {
    let most = block_rows(out.len() / down.outputs.max(1));
    let blocks = out.chunks_mut((most * down.outputs).max(1)).enumerate().collect();
    each(blocks, |(block, out)| {
        let count = out.len() / down.outputs;
        let rows = Rows {
            numbers: &x[block * most * up.inputs..],
            stride: up.inputs,
            count,
        };
        scratch(|wide| {
            wide.resize(count * up.outputs, 0.0);
            up.block(rows, wide, up.outputs);
            match gated {
                true => wide
                    .chunks_exact_mut(up.outputs)
                    .for_each(|row| gate(up.isa, activation, row)),
                false => activate(up.isa, activation, wide),
            }
            let rows = Rows {
                numbers: wide,
                stride: up.outputs,
                count,
            };
            down.block(rows, out, down.outputs);
        });
    });
}
