//! Attention on the CPU: a block of a text's tokens at a time, head by head, with scores that never leave the caches.

use super::dense::pack_columns;
use super::elementwise::{add, softmax};
use super::isa::Isa;
use super::tiles::{self, From, MOST_WIDTH, Rows};
use super::{each, scratch};

/// Tokens that ask at once.
const ROWS: usize = 96;

/// Numbers by text, head and token; those of one head of a token lie side by side.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub numbers: &'a [f32],
    pub text: usize,
    pub head: usize,
    pub token: usize,
}

impl<'a> View<'a> {
    fn of(self, text: usize, head: usize) -> &'a [f32] {
        &self.numbers[text * self.text + head * self.head..]
    }
}

/// What is added to scores, by text, head and token that asks: strides, which are 0 where it is the same for all.
#[derive(Clone, Copy)]
pub struct Bias<'a> {
    pub numbers: &'a [f32],
    pub text: usize,
    pub head: usize,
    pub token: usize,
}

/// How much there is of what.
#[derive(Clone, Copy)]
pub struct Extent {
    pub heads: usize,
    /// Tokens that ask.
    pub asking: usize,
    /// Tokens that are asked.
    pub tokens: usize,
    /// Numbers of a head.
    pub head: usize,
}

/// `[texts, asking, heads * head]`; queries are scaled already.
pub fn attention(
    isa: Isa,
    [query, key, value]: [View; 3],
    bias: Option<Bias>,
    extent: Extent,
    out: &mut [f32],
) {
    let Extent {
        heads,
        asking,
        tokens,
        head,
    } = extent;
    let hidden = heads * head;
    let texts = out.chunks_exact_mut((asking * hidden).max(1)).enumerate();
    let blocks = texts.flat_map(|(text, out)| {
        let blocks = out.chunks_mut(ROWS * hidden).enumerate();
        blocks.map(move |(block, out)| (text, block * ROWS, out))
    });
    let width = tiles::width(isa);
    let (key_panels, value_panels) = (tokens.div_ceil(width), head.div_ceil(width));
    let padded = key_panels * width;
    let zeros = [0.0; MOST_WIDTH];
    let none = From::Bias(&zeros[..width]);
    each(
        blocks.collect(),
        |(text, first, out): (usize, usize, &mut [f32])| {
            let count = out.len() / hidden;
            scratch(|memory| {
                let (keys, values) = (padded * head, value_panels * width * tokens);
                memory.resize(keys + values + count * padded, 0.0);
                let (keys, rest) = memory.split_at_mut(keys);
                let (values, scores) = rest.split_at_mut(values);
                for at in 0..heads {
                    let source = key.of(text, at);
                    for (index, panel) in keys.chunks_exact_mut(width * head).enumerate() {
                        let from = index * width;
                        let columns = width.min(tokens - from);
                        pack_columns(&source[from * key.token..], key.token, columns, head, panel);
                    }
                    let asks = Rows {
                        numbers: &query.of(text, at)[first * query.token..],
                        stride: query.token,
                        count,
                    };
                    for (index, panel) in keys.chunks_exact(width * head).enumerate() {
                        let place = (&mut scores[index * width..], padded);
                        tiles::multiply(isa, asks, panel, none, place, width);
                    }
                    if let Some(bias) = bias {
                        let start = text * bias.text + at * bias.head;
                        for (row, scores) in scores.chunks_exact_mut(padded).enumerate() {
                            let start = start + (first + row) * bias.token;
                            add(isa, &mut scores[..tokens], &bias.numbers[start..][..tokens]);
                        }
                    }
                    softmax(isa, scores, padded, tokens);
                    let source = value.of(text, at);
                    for (index, panel) in values.chunks_exact_mut(width * tokens).enumerate() {
                        let from = index * width;
                        let columns = width.min(head - from);
                        for (token, place) in panel.chunks_exact_mut(width).enumerate() {
                            place[..columns]
                                .copy_from_slice(&source[token * value.token + from..][..columns]);
                            place[columns..].fill(0.0);
                        }
                    }
                    let weights = Rows {
                        numbers: scores,
                        stride: padded,
                        count,
                    };
                    for (index, panel) in values.chunks_exact(width * tokens).enumerate() {
                        let from = index * width;
                        let place = (&mut out[at * head + from..], hidden);
                        tiles::multiply(isa, weights, panel, none, place, width.min(head - from));
                    }
                }
            });
        },
    );
}
