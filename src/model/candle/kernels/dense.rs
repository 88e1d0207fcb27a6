//! A dense layer on the CPU: weights laid out once as the tiles read them, and layers one behind the other that never
//! write what is between them to memory.
//!
//! Rows are taken by blocks, a batch of texts being one, since all weights pass by once for each: they come from far, and where
//! others use the memory too that is what takes the time. Sums of many terms are cut where a panel would leave the first
//! cache.

use super::elementwise::{activate_columns, gate};
use super::tiles::{self, From, MOST_WIDTH, Rows};
use super::{LINE, each, line_in, scratch};
use crate::model::candle::encoder::Activation;
use crate::model::isa::Isa;

/// Most rows of a block: a batch of 256 tokens is one, and none is left with a few rows for all weights.
const MOST_ROWS: usize = 264;

/// Rows of a block are a multiple of this: whole tiles of every instruction set.
const TILES: usize = 12;

/// Rows of a block when there are `rows` in all: equal parts, and some for each thread.
pub fn block_rows(rows: usize) -> usize {
    let blocks = rows.div_ceil(MOST_ROWS).max(rayon::current_num_threads());
    rows.div_ceil(blocks).next_multiple_of(TILES).max(TILES)
}

/// Most terms of a sum at once: a panel of them takes 24 KiB, of 16 columns.
const TERMS: usize = 384;

/// Weights and bias of a dense layer.
pub struct Packed {
    isa: Isa,
    /// From `start` on, so that no vector lies across lines of the cache.
    panels: Vec<f32>,
    start: usize,
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
        let mut panels = vec![0.0; padded * inputs + LINE];
        let start = line_in(&panels);
        let laid_out = &mut panels[start..][..padded * inputs];
        for (index, panel) in laid_out.chunks_exact_mut((width * inputs).max(1)).enumerate() {
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
            start,
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
            self.block(rows, None, out);
        });
    }

    /// One block of rows, with what an activation gives for its sums.
    fn block(&self, rows: Rows, activation: Option<Activation>, out: &mut [f32]) {
        let (width, stride) = (tiles::width(self.isa), self.outputs);
        let all = &self.panels[self.start..][..self.bias.len() * self.inputs];
        let panels = all.chunks_exact((width * self.inputs).max(1));
        // What comes behind that part of a panel: the same part of the next one, or the first panel's next part.
        let ahead = |index: usize, first: usize, end: usize| {
            let (panel, from, to) = match (index + 1) * width < self.outputs {
                true => (index + 1, first, end),
                false => (0, end, (2 * end - first).min(self.inputs)),
            };
            &all[panel * width * self.inputs..][from * width..to * width]
        };
        let parts = self.inputs.div_ceil(TERMS).max(1);
        let terms = self.inputs.div_ceil(parts);
        for first in (0..self.inputs).step_by(terms.max(1)) {
            let end = (first + terms).min(self.inputs);
            let some = Rows {
                numbers: &rows.numbers[first..],
                ..rows
            };
            for (index, panel) in panels.clone().enumerate() {
                let column = index * width;
                let columns = width.min(self.outputs - column);
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
                    columns,
                    ahead(index, first, end),
                );
                if let Some(activation) = activation
                    && end == self.inputs
                {
                    activate_columns(self.isa, activation, &mut out[column..], stride, columns);
                }
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
    scratch(width * inputs, |panel| {
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
            tiles::multiply(
                isa,
                rows,
                panel,
                from,
                (&mut out[column..], outputs),
                columns,
                &[],
            );
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
        let rows = out.len() / down.outputs;
        let x = &x[block * most * up.inputs..][..rows * up.inputs];
        feed_forward_block(x, up, activation, gated, down, out);
    });
}

/// The same for one block of rows.
pub fn feed_forward_block(
    x: &[f32],
    up: &Packed,
    activation: Activation,
    gated: bool,
    down: &Packed,
    out: &mut [f32],
) {
    let count = out.len() / down.outputs.max(1);
    fn rows(numbers: &[f32], stride: usize, count: usize) -> Rows<'_> {
        Rows {
            numbers,
            stride,
            count,
        }
    }
    scratch(count * up.outputs, |wide| {
        up.block(rows(x, up.inputs, count), (!gated).then_some(activation), wide);
        if gated {
            for row in wide.chunks_exact_mut(up.outputs) {
                gate(up.isa, activation, row);
            }
        }
        down.block(rows(wide, up.outputs, count), None, out);
    });
}
