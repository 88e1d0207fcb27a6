//! Attention of tokens to each other: by Floe's own kernels for float32 on the CPU, by Candle's operations elsewhere.
//!
//! The kernels take texts one behind the other, each of a length of its own; a batch of images or of padded texts is the
//! case in which all are as long.

use candle_core::{D, Tensor};
use candle_nn::{Linear, ops::softmax_last_dim};

use super::kernels::attention::{Bias, Text, View, attention};
use super::kernels::dense::Packed;
use super::kernels::{elementwise, scratch};
use super::ops::{Around, Computed, Dense, Weights, in_place, is_ours, made, with_numbers};
use super::texts::Texts;
use crate::error::{Error, Result};
use crate::model::isa::Isa;

/// What is added to the scores of attention before the softmax.
#[derive(Clone, Copy)]
pub enum Added<'a> {
    /// Broadcasts to `[texts, heads, asking, tokens]`.
    Tensor(&'a Tensor),
    /// By the distance of tokens to either side, `[heads, 2 * tokens - 1]`, with that of a token to itself in the middle. For texts
    /// of up to so many tokens; for the kernels alone.
    ByDistance(&'a [f32]),
}

/// Cosines and sines of rotary positions, `[tokens, head / 2]`.
pub struct Rotation {
    cos: Tensor,
    sin: Tensor,
}

impl Rotation {
    pub fn new(theta: f64, tokens: usize, head: usize, like: &Tensor) -> Computed<Rotation> {
        let frequency = |pair: usize| 1.0 / (theta as f32).powf(2.0 * pair as f32 / head as f32);
        let angles: Vec<f32> = (0..tokens)
            .flat_map(|token| (0..head / 2).map(move |pair| token as f32 * frequency(pair)))
            .collect();
        let of = |function: fn(f32) -> f32| {
            let values = angles.iter().copied().map(function).collect();
            Tensor::from_vec(values, (tokens, head / 2), like.device())?.to_dtype(like.dtype())
        };
        Ok(Rotation {
            cos: of(f32::cos)?,
            sin: of(f32::sin)?,
        })
    }
}

/// Attention of tokens to each other, and the dense layer behind it.
pub struct Attention {
    /// Queries, scaled, keys and values, side by side.
    pub joined: Dense,
    pub output: Dense,
    pub heads: usize,
}

impl Attention {
    /// From layers of their own for queries, keys and values.
    pub fn of_parts(parts: [Linear; 3], output: Dense, heads: usize, head: usize) -> Result<Attention> {
        let [query, key, value] = parts;
        let scale = (head as f64).powf(-0.5);
        let join = || -> Computed<Dense> {
            let weight = Tensor::cat(&[&(query.weight() * scale)?, key.weight(), value.weight()], 0)?;
            let all = [&query, &key, &value];
            let bias = match all.iter().any(|part| part.bias().is_some()) {
                false => None,
                true => {
                    let of = |part: &Linear| match part.bias() {
                        Some(bias) => Ok(bias.clone()),
                        None => Tensor::zeros(part.weight().dim(0)?, weight.dtype(), weight.device()),
                    };
                    Some(Tensor::cat(&[(of(&query)? * scale)?, of(&key)?, of(&value)?], 0)?)
                }
            };
            Dense::new(weight, bias)
        };
        let joined = join()
            .map_err(|cause| Error::model("weights of attention don't fit together").with_source(cause))?;
        Ok(Attention {
            joined,
            output,
            heads,
        })
    }

    /// From `x` of `[rows, tokens, hidden]`; `bias` is added to the scores before the softmax and broadcasts to
    /// `[rows, heads, tokens, tokens]`.
    pub fn forward(
        &self,
        x: &Tensor,
        bias: Option<&Tensor>,
        rotation: Option<&Rotation>,
    ) -> Computed<Tensor> {
        let (rows, tokens, hidden) = x.dims3()?;
        let head = hidden / self.heads;
        let Weights::Packed(joined) = &self.joined.0 else {
            let joined = self
                .joined
                .forward(x)?
                .reshape((rows, tokens, 3, self.heads, head))?
                .permute((2, 0, 3, 1, 4))?
                .contiguous()?;
            let turned = |x: Tensor| match rotation {
                Some(rotation) => candle_nn::rotary_emb::rope(&x, &rotation.cos, &rotation.sin),
                None => Ok(x),
            };
            let (query, key) = (turned(joined.get(0)?)?, turned(joined.get(1)?)?);
            return self.output.forward(&weigh(&query, &key, &joined.get(2)?, bias)?);
        };
        let mut mixed = vec![0.0; rows * tokens * hidden];
        let texts: Vec<Text> = (0..rows).map(|row| Text::whole(row * tokens, tokens)).collect();
        let bias = bias.map(Added::Tensor);
        with_numbers!(x => self.mix(joined, x, &texts, bias, rotation, &mut mixed)?);
        self.output.forward(&made(mixed, &[rows, tokens, hidden])?)
    }

    /// With norms and the sum around it, for texts as they lie in `x`, whose place it takes and which nobody else may have.
    pub fn step(
        &self,
        x: Tensor,
        texts: &Texts,
        bias: Option<&Tensor>,
        rotation: Option<&Rotation>,
        around: Around,
    ) -> Computed<Tensor> {
        self.step_with(x, texts, bias.map(Added::Tensor), rotation, around)
    }

    /// Likewise, whatever is added to the scores.
    pub fn step_with(
        &self,
        x: Tensor,
        texts: &Texts,
        bias: Option<Added>,
        rotation: Option<&Rotation>,
        around: Around,
    ) -> Computed<Tensor> {
        let (Weights::Packed(joined), Weights::Packed(output)) = (&self.joined.0, &self.output.0) else {
            let bias = match bias {
                Some(Added::Tensor(bias)) => Some(bias),
                Some(Added::ByDistance(_)) => candle_core::bail!("distances are for the kernels alone"),
                None => None,
            };
            return around.apply(&x, |x| self.forward(x, bias, rotation));
        };
        let hidden = x.dim(D::Minus1)?;
        if output.inputs != hidden || output.outputs != hidden || !around.fits(hidden) {
            candle_core::bail!("{:?} go into attention of {} outputs", x.dims(), output.outputs);
        }
        let texts: Vec<Text> = texts
            .ranges()
            .map(|range| Text::whole(range.start, range.len()))
            .collect();
        in_place(x, |x| {
            scratch(2 * x.len(), |memory| {
                let (first, mixed) = memory.split_at_mut(x.len());
                let rows = around.enter(x, first);
                self.mix(joined, rows, &texts, bias, rotation, mixed)?;
                output.forward(mixed, first);
                around.leave(x, first);
                Ok(())
            })
        })
    }

    /// What tokens of `texts` make of each other's values, before the last dense layer.
    fn mix(
        &self,
        joined: &Packed,
        x: &[f32],
        texts: &[Text],
        bias: Option<Added>,
        rotation: Option<&Rotation>,
        mixed: &mut [f32],
    ) -> Computed<()> {
        let hidden = joined.inputs;
        let head = hidden / self.heads;
        let tokens = texts.iter().map(|text| text.tokens).sum::<usize>();
        if joined.outputs != 3 * hidden || x.len() != tokens * hidden || mixed.len() != x.len() {
            candle_core::bail!(
                "{} numbers of {tokens} tokens go into attention of {hidden} inputs",
                x.len()
            );
        }
        scratch(3 * x.len(), |memory| -> Computed<()> {
            joined.forward(x, memory);
            if let Some(rotation) = rotation {
                rotation.turn(memory, texts, self.heads, head)?;
            }
            let view = |part: usize| View {
                numbers: &memory[part * hidden..],
                text: 3 * hidden,
                head,
                token: 3 * hidden,
            };
            attend(
                [view(0), view(1), view(2)],
                bias,
                texts,
                (self.heads, head),
                mixed,
            )
        })
    }
}

impl Rotation {
    /// Turns the queries and keys of each token, which lie side by side before the values.
    fn turn(&self, joined: &mut [f32], texts: &[Text], heads: usize, head: usize) -> Computed<()> {
        let Rotation { cos, sin } = self;
        let (isa, half) = (Isa::best(), head / 2);
        with_numbers!(cos, sin => {
            let width = 3 * heads * head;
            for text in texts {
                if cos.len() < text.tokens * half {
                    candle_core::bail!("{} tokens are more than there are angles for", text.tokens);
                }
                let rows = joined[text.place * width..][..text.tokens * width].chunks_exact_mut(width);
                for (row, (cos, sin)) in rows.zip(cos.chunks_exact(half).zip(sin.chunks_exact(half))) {
                    for part in row[..2 * heads * head].chunks_exact_mut(head) {
                        let (first, second) = part.split_at_mut(half);
                        elementwise::turn(isa, first, second, cos, sin);
                    }
                }
            }
        });
        Ok(())
    }
}

/// With a bias of `[texts, heads, asking, tokens]`, where each but the last may be 1. That of texts of several lengths is as
/// large as the longest one needs.
fn attend(
    views: [View; 3],
    bias: Option<Added>,
    texts: &[Text],
    (heads, head): (usize, usize),
    out: &mut [f32],
) -> Computed<()> {
    let isa = Isa::best();
    let Some(bias) = bias else {
        attention(isa, views, None, texts, (heads, head), out);
        return Ok(());
    };
    let most = |size: fn(&Text) -> usize| texts.iter().map(size).max().unwrap_or(0);
    let (asking, tokens) = (most(|text| text.asking), most(|text| text.tokens));
    let bias = match bias {
        Added::Tensor(bias) => bias,
        Added::ByDistance(numbers) => {
            let line = numbers.len() / heads;
            if line < 2 * asking.max(tokens) - 1 {
                candle_core::bail!("{line} distances are too few for texts of {tokens} tokens");
            }
            let bias = Bias {
                numbers,
                start: line / 2,
                text: 0,
                head: line,
                token: -1,
            };
            attention(isa, views, Some(bias), texts, (heads, head), out);
            return Ok(());
        }
    };
    let (of_texts, of_heads, of_asking, of_tokens) = bias.dims4()?;
    let fits = (of_texts == 1 || of_texts == texts.len())
        && (of_heads == 1 || of_heads == heads)
        && (of_asking == 1 || of_asking >= asking)
        && of_tokens >= tokens;
    if !fits {
        candle_core::bail!(
            "a bias of {:?} for {} texts of {heads} heads and at most {tokens} tokens",
            bias.dims(),
            texts.len()
        );
    }
    let stride = |extent: usize, stride: usize| if extent == 1 { 0 } else { stride };
    with_numbers!(bias => {
        let bias = Bias {
            numbers: bias,
            start: 0,
            text: stride(of_texts, of_heads * of_asking * of_tokens),
            head: stride(of_heads, of_asking * of_tokens),
            token: stride(of_asking, of_tokens) as isize,
        };
        attention(isa, views, Some(bias), texts, (heads, head), out);
    });
    Ok(())
}

/// Attention of queries, already scaled, of `[rows, heads, asking, head]`, to keys and values of `[rows, heads, tokens,
/// head]`: `[rows, asking, hidden]`.
pub fn weigh(query: &Tensor, key: &Tensor, value: &Tensor, bias: Option<&Tensor>) -> Computed<Tensor> {
    if is_ours(query) {
        let (rows, heads, asking, head) = query.dims4()?;
        let tokens = key.dim(2)?;
        let text = |place| Text {
            place,
            asking,
            tokens,
        };
        let texts: Vec<Text> = (0..rows).map(text).collect();
        let mut out = vec![0.0; rows * asking * heads * head];
        with_numbers!(query, key, value => {
            let view = |numbers, tokens| View { numbers, text: heads * tokens * head, head: tokens * head, token: head };
            attend([view(query, asking), view(key, tokens), view(value, tokens)], bias.map(Added::Tensor), &texts, (heads, head), &mut out)?;
        });
        return made(out, &[rows, asking, heads * head]);
    }
    let scores = query.matmul(&key.t()?)?;
    let scores = match bias {
        Some(bias) => scores.broadcast_add(bias)?,
        None => scores,
    };
    softmax_last_dim(&scores)?
        .matmul(value)?
        .transpose(1, 2)?
        .contiguous()?
        .flatten_from(D::Minus2)
}
