//! The steps that families are made of. Each has two ways to compute: Floe's own [`kernels`](super::kernels) for float32 on
//! the CPU, Candle's operations for everything else. Which one it is was decided when the weights were loaded; families do not
//! know.

use candle_core::{CpuStorage, D, DType, Device, InplaceOp1, InplaceOp2, Layout, Storage, Tensor};
use candle_nn::{Embedding, LayerNorm, Linear, Module};

pub use super::attention::{Attention, Rotation, weigh};
use super::encoder::Activation;
use super::kernels::dense::{self, Packed};
use super::kernels::{each, elementwise, scratch};
use crate::model::isa::Isa;

pub(super) type Computed<T> = candle_core::Result<T>;

/// Whether the kernels compute with this tensor.
pub(super) fn is_ours(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}

/// The numbers of a contiguous tensor on the CPU.
pub(super) fn numbers<'a>(storage: &'a Storage, layout: &Layout) -> Computed<&'a [f32]> {
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
            let $name = $crate::model::candle::ops::numbers(&$name.0, $name.1)?;
        )+
        $work
    }};
}
pub(super) use with_numbers;

pub(super) fn made(numbers: Vec<f32>, shape: &[usize]) -> Computed<Tensor> {
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

/// A kernel that changes numbers where they lie.
struct Step<F>(F);

impl<F: Fn(&mut [f32]) -> Computed<()>> InplaceOp1 for Step<F> {
    fn name(&self) -> &'static str {
        "step"
    }

    fn cpu_fwd(&self, changed: &mut CpuStorage, layout: &Layout) -> Computed<()> {
        match (changed, layout.contiguous_offsets()) {
            (CpuStorage::F32(changed), Some((start, end))) => (self.0)(&mut changed[start..end]),
            _ => candle_core::bail!("a kernel for the CPU was given a tensor of another kind"),
        }
    }
}

/// `x`, which nobody else may have, changed where it lies.
pub(super) fn in_place(x: Tensor, step: impl Fn(&mut [f32]) -> Computed<()>) -> Computed<Tensor> {
    let x = x.contiguous()?;
    x.inplace_op1(&Step(step))?;
    Ok(x)
}

/// The norms around a step of a layer, whose result is added to what went in.
#[derive(Clone, Copy, Default)]
pub struct Around<'a> {
    /// Of what goes into the step; what it is added to stays as it was.
    pub before: Option<&'a Norm>,
    /// Of the sum.
    pub after: Option<&'a Norm>,
}

impl Around<'_> {
    /// The step, by operations that make tensors anew.
    pub(super) fn apply(self, x: &Tensor, step: impl Fn(&Tensor) -> Computed<Tensor>) -> Computed<Tensor> {
        let changed = match self.before {
            Some(norm) => step(&norm.forward(x)?)?,
            None => step(x)?,
        };
        match self.after {
            Some(norm) => norm.of_sum(changed, x),
            None => sum(changed, x),
        }
    }

    /// What goes into the step for the rows `x`: themselves, or what is written to `normed`.
    pub(super) fn enter<'a>(self, x: &'a [f32], normed: &'a mut [f32]) -> &'a [f32] {
        match self.before {
            Some(norm) => {
                normed.copy_from_slice(x);
                norm.change(normed, None);
                normed
            }
            None => x,
        }
    }

    /// Adds what the step made of the rows `x`.
    pub(super) fn leave(self, x: &mut [f32], changed: &[f32]) {
        match self.after {
            Some(norm) => norm.change(x, Some(changed)),
            None => elementwise::add(Isa::best(), x, changed),
        }
    }

    pub(super) fn fits(self, width: usize) -> bool {
        let fits = |norm: Option<&Norm>| norm.is_none_or(|norm| norm.weight.len() == width);
        fits(self.before) && fits(self.after)
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
pub struct Dense(pub(super) Weights);

pub(super) enum Weights {
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
            |rows: &mut [f32]| self.change(rows, None),
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
        change(y, x, width, |y, x| self.change(y, Some(x)))
    }

    /// Of some rows, after adding others to them.
    fn change(&self, rows: &mut [f32], added: Option<&[f32]>) {
        elementwise::norm(Isa::best(), rows, added, &self.weight, &self.bias, self.eps);
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

    /// With norms and the sum around it, in the place of `x`, which nobody else may have.
    pub fn step(&self, x: Tensor, around: Around) -> Computed<Tensor> {
        let (Weights::Packed(up), Weights::Packed(down)) = (&self.up.0, &self.down.0) else {
            return around.apply(&x, |x| self.forward(x));
        };
        let width = x.dim(D::Minus1)?;
        let fits = up.outputs == down.inputs * if self.gated { 2 } else { 1 };
        if !fits || up.inputs != width || down.outputs != width || !around.fits(width) {
            candle_core::bail!("{:?} go into dense layers of {} inputs", x.dims(), up.inputs);
        }
        in_place(x, |x| {
            let size = dense::block_rows(x.len() / width) * width;
            each(x.chunks_mut(size).collect(), |x: &mut [f32]| {
                scratch(2 * x.len(), |memory| {
                    let (normed, out) = memory.split_at_mut(x.len());
                    let rows = around.enter(x, normed);
                    dense::feed_forward_block(rows, up, self.activation, self.gated, down, out);
                    around.leave(x, out);
                });
            });
            Ok(())
        })
    }
}
