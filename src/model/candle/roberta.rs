//! RoBERTa, XLM-RoBERTa and CamemBERT: BERT with positions counted from the padding token, and other heads. After
//! `transformers/models/roberta/modeling_roberta.py`.

use candle_core::Tensor;

use super::bert;
use super::encoder::{Activation, Encoder, Size};
use super::heads::{Head, Hidden, Kind, Taken, TextEncoder, TextNetwork};
use super::texts::Texts;
use super::weights::Weights;
use super::{Family, Inputs, Settings};
use crate::error::Result;

/// The network of a `config.json` of RoBERTa.
pub fn open(settings: &Settings, weights: Weights) -> Result<Box<dyn Family>> {
    let size = bert::size(settings)?;
    let network = weights.network("roberta");
    let padding = settings.size_or("pad_token_id", 1)? as i64;
    let encoder = bert::encoder(settings, &network, &size, Some(padding))?;
    let words = encoder.embeddings.words.embeddings().clone();
    Ok(Box::new(TextNetwork {
        head: head(settings, &weights, &size, Activation::Gelu, words)?,
        encoder: Roberta(encoder),
    }))
}

/// The heads of RoBERTa, which MPNet has as well.
pub fn head(
    settings: &Settings,
    weights: &Weights,
    size: &Size,
    activation: Activation,
    words: Tensor,
) -> Result<Option<Head>> {
    let (hidden, labels) = (size.hidden, settings.labels());
    Ok(Some(match Kind::of(settings)? {
        Kind::None => return Ok(None),
        Kind::Sequence => Head {
            taken: Taken::First,
            hidden: Some(Hidden {
                dense: weights.dense("classifier.dense", hidden, hidden)?,
                activation: Activation::Tanh,
                norm: None,
            }),
            last: weights.dense("classifier.out_proj", hidden, labels)?,
            is_span: false,
        },
        Kind::Tokens => Head::of_tokens(weights, hidden, labels)?,
        Kind::Span => Head::of_spans(weights, hidden)?,
        Kind::Words => {
            let here = weights.at("lm_head");
            let transform = Hidden {
                dense: here.dense("dense", hidden, hidden)?,
                activation,
                norm: Some(here.norm("layer_norm", hidden, size.eps)?),
            };
            Head::of_words(transform, words, &here, "decoder.weight", "bias")?
        }
    }))
}

struct Roberta(Encoder);

impl TextEncoder for Roberta {
    fn encode(&self, inputs: &Inputs) -> candle_core::Result<Tensor> {
        self.0.forward(inputs, &Texts::of(inputs)?, None)
    }

    fn inputs(&self) -> &'static [&'static str] {
        &["input_ids", "attention_mask", "token_type_ids"]
    }
}
