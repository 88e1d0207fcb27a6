//! BEiT. After `transformers/models/beit/modeling_beit.py`.

use candle_core::Tensor;

use super::image_head::ImageHead;
use super::ops::Norm;
use super::patches::{self, Layers, Names, Patches, Size, mean_from, prepend, token};
use super::weights::Weights;
use super::{Family, Inputs, Settings};
use crate::error::{Error, Result};

const NAMES: Names = Names {
    scales: Some(["lambda_1", "lambda_2"]),
    ..patches::VIT
};

/// The network of a `config.json` of BEiT.
pub fn open(settings: &Settings, weights: Weights) -> Result<Box<dyn Family>> {
    let size = Size::of(settings, 1e-12)?;
    let hidden = size.hidden;
    let network = weights.network("beit");
    let embeddings = network.at("embeddings");
    let patches = patches::count(settings, 224, 16)?;
    let side = patches.isqrt();
    let table = |weights: &Weights| {
        let table = weights.at("relative_position_bias");
        let distances = (2 * side - 1) * (2 * side - 1) + 3;
        let table = table.tensor("relative_position_bias_table", &[distances, size.heads])?;
        bias(&table, side).map_err(|cause| Error::model("positions can't be computed").with_source(cause))
    };
    let mut biases = Vec::new();
    if settings.flag_or("use_relative_position_bias", false) {
        for layer in 0..size.layers {
            biases.push(table(
                &network.at("encoder.layer").at(layer).at("attention.attention"),
            )?);
        }
    } else if settings.flag_or("use_shared_relative_position_bias", false) {
        biases = vec![table(&network.at("encoder"))?; size.layers];
    }
    let mean = settings.flag_or("use_mean_pooling", true);
    Ok(Box::new(Beit {
        first: embeddings.tensor("cls_token", &[1, 1, hidden])?,
        patches: Patches::load(&embeddings, "patch_embeddings.projection", settings, hidden, 16)?,
        positions: match settings.flag_or("use_absolute_position_embeddings", false) {
            true => Some(embeddings.tensor("position_embeddings", &[1, patches + 1, hidden])?),
            false => None,
        },
        biases,
        layers: Layers::load(&network.at("encoder.layer"), &size, &NAMES)?,
        norm: match mean {
            true => None,
            false => Some(network.norm("layernorm", hidden, size.eps)?),
        },
        pooled_norm: match mean && network.has("pooler.layernorm.weight") {
            true => Some(network.norm("pooler.layernorm", hidden, size.eps)?),
            false => None,
        },
        head: ImageHead::load(&weights, "classifier", settings, hidden)?,
    }))
}

/// What the distance of two patches adds to attention, `[1, heads, tokens, tokens]`; the first token is no patch, and the
/// last three rows of the table are its distances.
fn bias(table: &Tensor, side: usize) -> candle_core::Result<Tensor> {
    let (distances, heads) = table.dims2()?;
    let tokens = side * side + 1;
    let place = |token: usize| ((token - 1) / side, (token - 1) % side);
    let mut index = Vec::with_capacity(tokens * tokens);
    for from in 0..tokens {
        for to in 0..tokens {
            index.push(match (from, to) {
                (0, 0) => distances - 1,
                (0, _) => distances - 3,
                (_, 0) => distances - 2,
                _ => {
                    let ((y, x), (other_y, other_x)) = (place(from), place(to));
                    (y + side - 1 - other_y) * (2 * side - 1) + (x + side - 1 - other_x)
                }
            } as u32);
        }
    }
    let index = Tensor::from_vec(index, tokens * tokens, table.device())?;
    let bias = table
        .index_select(&index, 0)?
        .reshape((1, tokens, tokens, heads))?;
    bias.permute((0, 3, 1, 2))?.contiguous()
}

struct Beit {
    first: Tensor,
    patches: Patches,
    positions: Option<Tensor>,
    /// By layer; empty where patches are told by their positions alone.
    biases: Vec<Tensor>,
    layers: Layers,
    norm: Option<Norm>,
    /// For the average of the patches; else the first token stands for the image.
    pooled_norm: Option<Norm>,
    head: ImageHead,
}

impl Family for Beit {
    fn inputs(&self) -> &'static [&'static str] {
        &["pixel_values"]
    }

    fn forward(&self, inputs: &Inputs) -> candle_core::Result<Vec<(&'static str, Tensor)>> {
        let x = prepend(&[&self.first], &self.patches.forward(inputs)?)?;
        let x = match &self.positions {
            Some(positions) => x.broadcast_add(positions)?,
            None => x,
        };
        let x = self.layers.forward_each(x, &self.biases)?;
        let x = match &self.norm {
            Some(norm) => norm.forward(&x)?,
            None => x,
        };
        let pooled = match &self.pooled_norm {
            Some(norm) => norm.forward(&mean_from(&x, 1)?)?,
            None => token(&x, 0)?,
        };
        self.head.outputs(x, pooled)
    }
}
