//! Attention on the CPU: a block of a text's tokens at a time, head by head, with scores that never leave the caches.

use super::dense::pack_columns;
use super::elementwise::{add, softmax};
use super::tiles::{self, From, MOST_WIDTH, Rows};
use super::{each, scratch};
use crate::model::isa::Isa;

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

/// What is added to scores, by text, head and token that asks: strides, which are 0 where it is the same for all. That of tokens
/// is -1 where it goes by the distance alone: then each row is the one before it, one further to the right.
#[derive(Clone, Copy)]
pub struct Bias<'a> {
    pub numbers: &'a [f32],
    /// Where that of the very first token is.
    pub start: usize,
    pub text: usize,
    pub head: usize,
    pub token: isize,
}

/// One text among others.
#[derive(Clone, Copy)]
pub struct Text {
    /// Where it begins: so many times [`View::text`] numbers from the beginning.
    pub place: usize,
    /// Tokens that ask.
    pub asking: usize,
    /// Tokens that are asked.
    pub tokens: usize,
}

impl Text {
    /// All of whose tokens ask each other.
    pub fn whole(place: usize, tokens: usize) -> Text {
        Text {
            place,
            asking: tokens,
            tokens,
        }
    }
}

/// Some of a text's tokens that ask.
struct Block<'a> {
    text: Text,
    /// Which of the texts it is.
    number: usize,
    first: usize,
    out: &'a mut [f32],
}

/// `[asking, heads * head]` of each text, one behind the other; queries are scaled already.
pub fn attention(
    isa: Isa,
    views: [View; 3],
    bias: Option<Bias>,
    texts: &[Text],
    (heads, head): (usize, usize),
    mut out: &mut [f32],
) {
    let hidden = heads * head;
    let mut blocks = Vec::with_capacity(texts.len());
    for (number, &text) in texts.iter().enumerate() {
        let (here, rest) = std::mem::take(&mut out).split_at_mut(text.asking * hidden);
        out = rest;
        for (block, out) in here.chunks_mut((ROWS * hidden).max(1)).enumerate() {
            blocks.push(Block {
                text,
                number,
                first: block * ROWS,
                out,
            });
        }
    }
    each(blocks, |block| block.compute(isa, views, bias, (heads, head)));
}

impl Block<'_> {
    fn compute(
        self,
        isa: Isa,
        [query, key, value]: [View; 3],
        bias: Option<Bias>,
        (heads, head): (usize, usize),
    ) {
        let Block {
            text: Text { place, tokens, .. },
            number,
            first,
            out,
        } = self;
        let hidden = heads * head;
        let count = out.len() / hidden;
        let width = tiles::width(isa);
        let (key_panels, value_panels) = (tokens.div_ceil(width), head.div_ceil(width));
        let padded = key_panels * width;
        let zeros = [0.0; MOST_WIDTH];
        let none = From::Bias(&zeros[..width]);
        let (keys, values) = (padded * head, value_panels * width * tokens);
        scratch(keys + values + count * padded, |memory| {
            let (keys, rest) = memory.split_at_mut(keys);
            let (values, scores) = rest.split_at_mut(values);
            for at in 0..heads {
                let source = key.of(place, at);
                for (index, panel) in keys.chunks_exact_mut(width * head).enumerate() {
                    let from = index * width;
                    let columns = width.min(tokens - from);
                    pack_columns(&source[from * key.token..], key.token, columns, head, panel);
                }
                let asks = Rows {
                    numbers: &query.of(place, at)[first * query.token..],
                    stride: query.token,
                    count,
                };
                for (index, panel) in keys.chunks_exact(width * head).enumerate() {
                    let place = (&mut scores[index * width..], padded);
                    tiles::multiply(isa, asks, panel, none, place, width, &[]);
                }
                if let Some(bias) = bias {
                    let start = bias.start + number * bias.text + at * bias.head;
                    for (row, scores) in scores.chunks_exact_mut(padded).enumerate() {
                        let start = start.wrapping_add_signed((first + row) as isize * bias.token);
                        add(isa, &mut scores[..tokens], &bias.numbers[start..][..tokens]);
                    }
                }
                softmax(isa, scores, padded, tokens);
                let source = value.of(place, at);
                for (index, panel) in values.chunks_exact_mut(width * tokens).enumerate() {
                    let from = index * width;
                    let columns = width.min(head - from);
                    for (token, place) in panel.chunks_exact_mut(width).enumerate() {
                        place[..columns].copy_from_slice(&source[token * value.token + from..][..columns]);
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
                    tiles::multiply(isa, weights, panel, none, place, width.min(head - from), &[]);
                }
            }
        });
    }
}
