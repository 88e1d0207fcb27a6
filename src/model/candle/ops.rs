//! The steps that families are made of. Each has two ways to compute: Floe's own [`kernels`](super::kernels) for float32 on
//! the CPU, Candle's operations for everything else. Which one it is was decided when the weights were loaded; families do not
//! know.

use candle_core::{CpuStorage, D, DType, Device, InplaceOp2, Layout, Storage, Tensor};
use candle_nn::{Embedding, LayerNorm, Linear, Module, ops::softmax_last_dim};

use super::encoder::Activation;
use super::kernels::attention::{Bias, Extent, View, attention};
use super::kernels::dense::{self, Packed};
use super::kernels::isa::Isa;
use super::kernels::{each, elementwise, scratch};
use crate::error::{Error, Result};

type Computed<T> = candle_core::Result<T>;

/// Whether the kernels compute with this tensor.
fn is_ours(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}

/// The numbers of a contiguous tensor on the CPU.
fn numbers<'a>(storage: &'a Storage, layout: &Layout) -> Computed<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (Storage::Cpu(storage), Some((start, end))) => Ok(&storage.as_slice::<f32>()?[start..end]),
        _ => candle_core::bail!("a kernel for the CPU was given a tensor of another kind"),
    }
}

/// Calls `$work` with the numbers of tensors, by the names they have here.
macro_rules! with_numbers {
    ($($name:ident),+ => $work:expr) => {{
        $(
            let $name = $name.contiguous()?;
            let $name = $name.storage_and_layout();
            let $name = numbers(&$name.0, $name.1)?;
        )+
        $work
    }};
}

fn made(numbers: Vec<f32>, shape: &[usize]) -> Computed<Tensor> {
    Tensor::from_vec(numbers, shape, &Device::Cpu)
}

/// A kernel that changes numbers, given others.
struct Change<F>(F);

impl<F: Fn(&mut [f32], &[f32])> InplaceOp2 for Change<F> {
    fn name(&self) -> &'static str {
        "change"
    }

    fn cpu_fwd(
        &self,
        changed: &mut CpuStorage,
        layout: &Layout,
        others: &CpuStorage,
        others_layout: &Layout,
    ) -> Computed<()> {
        let (CpuStorage::F32(changed), Some((start, end)), Some((other_start, other_end))) = (
            changed,
            layout.contiguous_offsets(),
            others_layout.contiguous_offsets(),
        ) else {
            candle_core::bail!("a kernel for the CPU was given a tensor of another kind")
        };
        let others = &others.as_slice::<f32>()?[other_start..other_end];
        (self.0)(&mut changed[start..end], others);
        Ok(())
    }
}

/// Rows that one thread normalises or adds at a time.
const ROWS: usize = 64;

/// `y`, which nobody else has, becomes `change(y, x)`, some rows at a time.
fn change(
    y: Tensor,
    x: &Tensor,
    width: usize,
    change: impl Fn(&mut [f32], &[f32]) + Sync + Send,
) -> Computed<Tensor> {
    let (y, x) = (y.contiguous()?, x.contiguous()?);
    y.inplace_op2(
        &x,
        &Change(|y: &mut [f32], x: &[f32]| {
            let size = (ROWS * width).max(1);
            each(y.chunks_mut(size).zip(x.chunks(size)).collect(), |(y, x)| {
                change(y, x)
            });
        }),
    )?;
    Ok(y)
}

/// `x + y`, in the place of `y`, which nobody else may have.
pub fn sum(y: Tensor, x: &Tensor) -> Computed<Tensor> {
    if !is_ours(x) {
        return x + y;
    }
    let width = x.dim(D::Minus1)?;
    change(y, x, width, |y, x| elementwise::add(Isa::best(), y, x))
}

/// For each token the sum of its rows in some tables, `[rows, tokens, hidden]`. Each table comes with a row's number per token.
pub fn looked_up(tables: &[(&Embedding, &[i64])], (rows, tokens): (usize, usize)) -> Computed<Tensor> {
    let Some((first, others)) = tables.split_first() else {
        candle_core::bail!("nothing to look up");
    };
    let table = first.0.embeddings();
    let hidden = table.dim(1)?;
    if !is_ours(table) {
        let of = |(table, ids): &(&Embedding, &[i64])| -> Computed<Tensor> {
            let ids: Vec<u32> = ids.iter().map(|id| row_number(*id)).collect::<Computed<_>>()?;
            table.forward(&Tensor::from_vec(
                ids,
                (rows, tokens),
                table.embeddings().device(),
            )?)
        };
        return others.iter().try_fold(of(first)?, |sum, other| sum + of(other)?);
    }
    let mut out = Vec::with_capacity(rows * tokens * hidden);
    for (place, (table, ids)) in tables.iter().enumerate() {
        let table = table.embeddings();
        let entries = table.dim(0)?;
        with_numbers!(table => {
            for (token, id) in ids.iter().enumerate() {
                let id = row_number(*id)? as usize;
                if id >= entries {
                    candle_core::bail!("the id {id} in a table of {entries}");
                }
                let row = &table[id * hidden..][..hidden];
                match place {
                    0 => out.extend_from_slice(row),
                    _ => elementwise::add(Isa::best(), &mut out[token * hidden..][..hidden], row),
                }
            }
        });
    }
    made(out, &[rows, tokens, hidden])
}

fn row_number(id: i64) -> Computed<u32> {
    u32::try_from(id).map_err(|_| candle_core::Error::Msg(format!("the id {id}")))
}

/// A dense layer.
pub struct Dense(Weights);

enum Weights {
    Packed(Packed),
    /// As they are: for another device, or since they are a table of words as well.
    Plain {
        linear: Linear,
        start: Vec<f32>,
    },
}

impl Dense {
    /// From weights of `[outputs, inputs]`.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Computed<Dense> {
        if !is_ours(&weight) {
            let linear = Linear::new(weight, bias);
            return Ok(Dense(Weights::Plain {
                linear,
                start: Vec::new(),
            }));
        }
        let (outputs, inputs) = weight.dims2()?;
        let bias = match bias {
            Some(bias) => Some(bias.to_vec1::<f32>()?),
            None => None,
        };
        let weight = &weight;
        let packed =
            with_numbers!(weight => Packed::new(Isa::best(), weight, bias.as_deref(), inputs, outputs));
        Ok(Dense(Weights::Packed(packed)))
    }

    /// From weights that are used elsewhere too, and are not to be there twice.
    pub fn sharing(weight: Tensor, bias: Option<Tensor>) -> Computed<Dense> {
        let start = match &bias {
            Some(bias) if is_ours(&weight) => bias.to_vec1::<f32>()?,
            _ => vec![0.0; weight.dim(0)?],
        };
        Ok(Dense(Weights::Plain {
            linear: Linear::new(weight, bias),
            start,
        }))
    }

    pub fn forward(&self, x: &Tensor) -> Computed<Tensor> {
        let mut shape = x.dims().to_vec();
        let rows = x.elem_count() / shape.last().copied().unwrap_or(1).max(1);
        match &self.0 {
            Weights::Packed(packed) => {
                if shape.last() != Some(&packed.inputs) {
                    candle_core::bail!("{shape:?} go into a dense layer of {} inputs", packed.inputs);
                }
                let mut out = vec![0.0; rows * packed.outputs];
                with_numbers!(x => packed.forward(x, &mut out));
                shape.pop();
                shape.push(packed.outputs);
                made(out, &shape)
            }
            Weights::Plain { linear, start } if is_ours(x) => {
                let weight = linear.weight();
                if shape.last() != weight.dims().last() {
                    candle_core::bail!("{shape:?} go into a dense layer of {:?}", weight.dims());
                }
                let mut out = vec![0.0; rows * start.len()];
                with_numbers!(x, weight => dense::forward_unpacked(Isa::best(), x, weight, start, &mut out));
                shape.pop();
                shape.push(start.len());
                made(out, &shape)
            }
            Weights::Plain { linear, .. } => linear.forward(x),
        }
    }
}

impl Activation {
    /// What it gives for each number.
    pub fn apply(self, x: &Tensor) -> Computed<Tensor> {
        if is_ours(x) {
            let mut out = with_numbers!(x => x.to_vec());
            elementwise::activate(Isa::best(), self, &mut out);
            return made(out, x.dims());
        }
        match self {
            Activation::Gelu => x.gelu_erf(),
            Activation::GeluTanh => x.gelu(),
            Activation::QuickGelu => x * candle_nn::ops::sigmoid(&(x * 1.702)?)?,
            Activation::Relu => x.relu(),
            Activation::Silu => x.silu(),
            Activation::Tanh => x.tanh(),
        }
    }
}

/// A norm over the numbers of each token.
pub struct Norm {
    norm: LayerNorm,
    weight: Vec<f32>,
    bias: Vec<f32>,
    eps: f32,
}

impl Norm {
    pub fn new(weight: Tensor, bias: Tensor, eps: f64) -> Computed<Norm> {
        let of = |tensor: &Tensor| match is_ours(tensor) {
            true => tensor.to_vec1::<f32>(),
            false => Ok(Vec::new()),
        };
        Ok(Norm {
            weight: of(&weight)?,
            bias: of(&bias)?,
            eps: eps as f32,
            norm: LayerNorm::new(weight, bias, eps),
        })
    }

    pub fn forward(&self, x: &Tensor) -> Computed<Tensor> {
        if !is_ours(x) || self.weight.is_empty() {
            return self.norm.forward(x);
        }
        let width = self.weight.len();
        if x.dim(D::Minus1)? != width {
            candle_core::bail!("{:?} go into a norm of {width}", x.dims());
        }
        let mut out = with_numbers!(x => x.to_vec());
        each(
            out.chunks_mut((ROWS * width).max(1)).collect(),
            |rows: &mut [f32]| {
                elementwise::norm(Isa::best(), rows, None, &self.weight, &self.bias, self.eps);
            },
        );
        made(out, x.dims())
    }

    /// Of `x + y`, in the place of `y`, which nobody else may have.
    pub fn of_sum(&self, y: Tensor, x: &Tensor) -> Computed<Tensor> {
        if !is_ours(x) || self.weight.is_empty() {
            return self.norm.forward(&(y + x)?);
        }
        let width = self.weight.len();
        if x.dim(D::Minus1)? != width || x.dims() != y.dims() {
            candle_core::bail!("{:?} and {:?} go into a norm of {width}", x.dims(), y.dims());
        }
        change(y, x, width, |y, x| {
            elementwise::norm(Isa::best(), y, Some(x), &self.weight, &self.bias, self.eps);
        })
    }
}

/// A wide layer, an activation, and a layer back.
pub struct FeedForward {
    pub up: Dense,
    pub activation: Activation,
    /// Whether the second half of the wide layer's numbers is what the first is multiplied by, after the activation.
    pub gated: bool,
    pub down: Dense,
}

impl FeedForward {
    pub fn forward(&self, x: &Tensor) -> Computed<Tensor> {
        let FeedForward {
            activation, gated, ..
        } = *self;
        if let (Weights::Packed(up), Weights::Packed(down)) = (&self.up.0, &self.down.0) {
            let mut shape = x.dims().to_vec();
            let fits = up.outputs == down.inputs * if gated { 2 } else { 1 };
            if shape.pop() != Some(up.inputs) || !fits {
                candle_core::bail!("{:?} go into dense layers of {} inputs", x.dims(), up.inputs);
            }
            let rows = shape.iter().product::<usize>();
            shape.push(down.outputs);
            let mut out = vec![0.0; rows * down.outputs];
            with_numbers!(x => dense::feed_forward(x, up, activation, gated, down, &mut out));
            return made(out, &shape);
        }
        let wide = self.up.forward(x)?;
        if !gated {
            return self.down.forward(&activation.apply(&wide)?);
        }
        let half = wide.dim(D::Minus1)? / 2;
        let first = activation.apply(&wide.narrow(D::Minus1, 0, half)?.contiguous()?)?;
        self.down.forward(&(first * wide.narrow(D::Minus1, half, half)?)?)
    }
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
        if joined.inputs != hidden || joined.outputs != 3 * hidden {
            candle_core::bail!("{:?} go into attention of {} inputs", x.dims(), joined.inputs);
        }
        let mut mixed = vec![0.0; rows * tokens * hidden];
        scratch(|memory| -> Computed<()> {
            memory.resize(rows * tokens * 3 * hidden, 0.0);
            with_numbers!(x => joined.forward(x, memory));
            if let Some(Rotation { cos, sin }) = rotation {
                with_numbers!(cos, sin => turn(memory, self.heads, head, tokens, cos, sin));
            }
            let view = |part: usize| View {
                numbers: &memory[part * hidden..],
                text: tokens * 3 * hidden,
                head,
                token: 3 * hidden,
            };
            let extent = Extent {
                heads: self.heads,
                asking: tokens,
                tokens,
                head,
            };
            attend([view(0), view(1), view(2)], bias, rows, extent, &mut mixed)
        })?;
        self.output.forward(&made(mixed, &[rows, tokens, hidden])?)
    }
}

/// Turns the queries and keys of each token, which lie side by side before the values.
fn turn(joined: &mut [f32], heads: usize, head: usize, tokens: usize, cos: &[f32], sin: &[f32]) {
    let (isa, half) = (Isa::best(), head / 2);
    for (place, row) in joined.chunks_exact_mut(3 * heads * head).enumerate() {
        let at = place % tokens * half;
        for part in row[..2 * heads * head].chunks_exact_mut(head) {
            let (first, second) = part.split_at_mut(half);
            elementwise::turn(isa, first, second, &cos[at..at + half], &sin[at..at + half]);
        }
    }
}

/// With a bias that broadcasts to `[texts, heads, asking, tokens]`.
fn attend(
    views: [View; 3],
    bias: Option<&Tensor>,
    texts: usize,
    extent: Extent,
    out: &mut [f32],
) -> Computed<()> {
    let isa = Isa::best();
    let Some(bias) = bias else {
        attention(isa, views, None, extent, out);
        return Ok(());
    };
    let dims = bias.dims4()?;
    let stride = |extent: usize, full: usize, stride: usize| match extent {
        1 => Ok(0),
        _ if extent == full => Ok(stride),
        _ => candle_core::bail!("a bias of {dims:?} for {full}"),
    };
    let (of_texts, of_heads, of_asking, of_tokens) = dims;
    if of_tokens != extent.tokens {
        candle_core::bail!("a bias of {dims:?} for {} tokens", extent.tokens);
    }
    let (text, head, token) = (
        stride(of_texts, texts, of_heads * of_asking * of_tokens)?,
        stride(of_heads, extent.heads, of_asking * of_tokens)?,
        stride(of_asking, extent.asking, of_tokens)?,
    );
    with_numbers!(bias => {
        let bias = Bias { numbers: bias, text, head, token };
        attention(isa, views, Some(bias), extent, out);
    });
    Ok(())
}

/// Attention of queries, already scaled, of `[rows, heads, asking, head]`, to keys and values of `[rows, heads, tokens,
/// head]`: `[rows, asking, hidden]`.
pub fn weigh(query: &Tensor, key: &Tensor, value: &Tensor, bias: Option<&Tensor>) -> Computed<Tensor> {
    if is_ours(query) {
        let (rows, heads, asking, head) = query.dims4()?;
        let tokens = key.dim(2)?;
        let extent = Extent {
            heads,
            asking,
            tokens,
            head,
        };
        let mut out = vec![0.0; rows * asking * heads * head];
        with_numbers!(query, key, value => {
            let view = |numbers, tokens| View { numbers, text: heads * tokens * head, head: tokens * head, token: head };
            attend([view(query, asking), view(key, tokens), view(value, tokens)], bias, rows, extent, &mut out)?;
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
