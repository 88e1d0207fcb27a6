//! What turns the encoder's vectors into scores: of labels, of words, of the beginning and end of an answer.
//!
//! All heads are alike: some vectors, at most one dense layer with an activation and a norm, and a last layer. Families
//! say what these are called.

use super::Family;
use super::Inputs;
use super::encoder::Activation;
use super::ops::{Dense, Norm};
use super::texts::Texts;
use super::weights::Weights;
use crate::error::{Error, Result};
use candle_core::Tensor;

/// Which vectors a head takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// That of the first token.
    First,
    /// The average of all that stand for text.
    Mean,
    /// Each.
    All,
}

/// A dense layer before the last one.
pub struct Hidden {
    pub dense: Dense,
    pub activation: Activation,
    pub norm: Option<Norm>,
}

/// A head.
pub struct Head {
    pub taken: Taken,
    pub hidden: Option<Hidden>,
    pub last: Dense,
    /// Its two numbers a token are the scores of an answer's beginning and end.
    pub is_span: bool,
}

impl Head {
    /// Of each token: scores of labels.
    pub fn of_tokens(weights: &Weights, hidden: usize, labels: usize) -> Result<Head> {
        Ok(Head {
            taken: Taken::All,
            hidden: None,
            last: weights.dense("classifier", hidden, labels)?,
            is_span: false,
        })
    }

    /// Of each token: whether an answer begins there, and ends.
    pub fn of_spans(weights: &Weights, hidden: usize) -> Result<Head> {
        Ok(Head {
            taken: Taken::All,
            hidden: None,
            last: weights.dense("qa_outputs", hidden, 2)?,
            is_span: true,
        })
    }

    /// Of each token: scores of all words. The last layer is the table of words itself, unless it was saved apart.
    pub fn of_words(
        hidden: Hidden,
        words: Tensor,
        apart: &Weights,
        weight: &str,
        bias: &str,
    ) -> Result<Head> {
        let shape = words.dims().to_vec();
        let table = match apart.has(weight) {
            true => apart.tensor(weight, &shape)?,
            false => words,
        };
        Ok(Head {
            taken: Taken::All,
            hidden: Some(hidden),
            last: words_layer(table, Some(apart.tensor(bias, &shape[..1])?))?,
            is_span: false,
        })
    }

    fn forward(
        &self,
        x: &Tensor,
        inputs: &Inputs,
        texts: &Texts,
    ) -> candle_core::Result<Vec<(&'static str, Tensor)>> {
        let x = match self.taken {
            Taken::First => texts.firsts(x)?,
            Taken::Mean => texts.means(x, inputs)?,
            Taken::All => x.clone(),
        };
        let x = match &self.hidden {
            None => x,
            Some(hidden) => {
                let x = hidden.activation.apply(&hidden.dense.forward(&x)?)?;
                match &hidden.norm {
                    Some(norm) => norm.forward(&x)?,
                    None => x,
                }
            }
        };
        let scores = self.last.forward(&x)?;
        let scores = match self.taken {
            Taken::All => texts.restored(scores)?,
            Taken::First | Taken::Mean => scores,
        };
        if !self.is_span {
            return Ok(vec![("logits", scores)]);
        }
        let side = |at| scores.narrow(2, at, 1)?.squeeze(2)?.contiguous();
        Ok(vec![("start_logits", side(0)?), ("end_logits", side(1)?)])
    }
}

/// The layer whose outputs are words; its weights may be the table of words, which is large.
pub fn words_layer(table: Tensor, bias: Option<Tensor>) -> Result<Dense> {
    Dense::sharing(table, bias).map_err(|cause| Error::model("a bias can't be read").with_source(cause))
}

/// The vectors of a text's tokens.
pub trait TextEncoder: Send + Sync {
    /// `[rows, tokens, hidden]`, or `[tokens of all texts, hidden]` where [`Texts::of`] leaves padding out.
    fn encode(&self, inputs: &Inputs) -> candle_core::Result<Tensor>;

    /// The inputs it takes.
    fn inputs(&self) -> &'static [&'static str] {
        &["input_ids", "attention_mask"]
    }
}

/// An encoder of texts with its head, if it has one.
pub struct TextNetwork<E> {
    pub encoder: E,
    pub head: Option<Head>,
}

impl<E: TextEncoder> Family for TextNetwork<E> {
    fn inputs(&self) -> &'static [&'static str] {
        self.encoder.inputs()
    }

    /// Encoders go by [`Texts::of`].
    fn leaves_padding_out(&self) -> bool {
        true
    }

    fn forward(&self, inputs: &Inputs) -> candle_core::Result<Vec<(&'static str, Tensor)>> {
        let x = self.encoder.encode(inputs)?;
        let texts = match x.dims().len() {
            2 => Texts::of(inputs)?,
            _ => Texts::padded(inputs)?,
        };
        match &self.head {
            Some(head) => head.forward(&x, inputs, &texts),
            None => Ok(vec![("last_hidden_state", texts.restored(x)?)]),
        }
    }
}

/// The kind of head, by the last part of a class's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    None,
    Sequence,
    Tokens,
    Span,
    Words,
}

impl Kind {
    /// That of a task; feature extraction and embeddings take the encoder alone, whatever the folder has besides.
    pub fn of(settings: &super::Settings) -> Result<Kind> {
        use crate::model::pretrained::Task;
        Ok(match settings.task() {
            Task::TextClassification | Task::ZeroShotClassification => Kind::Sequence,
            Task::TokenClassification => Kind::Tokens,
            Task::QuestionAnswering => Kind::Span,
            Task::FillMask => Kind::Words,
            Task::SentenceEmbedding | Task::FeatureExtraction | Task::TextImageEmbedding => Kind::None,
            Task::ImageClassification | Task::ImageFeatureExtraction => {
                return Err(crate::error::Error::model(format!(
                    "a network of texts ({}) is no model of images",
                    settings.architecture()
                )));
            }
        })
    }
}
