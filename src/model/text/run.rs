//! Texts through a network: batches of like length, padded, run one after another.

use super::batches::{self, Limits};
use crate::error::{Error, Result};
use crate::model::network::{Named, Network};
use crate::tensor::{Tensor, TensorData};
use tokenizers::Encoding;

/// A text, or a pair of texts, as the network wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    pub ids: Vec<u32>,
    /// 0 for the first text's tokens, 1 for the second's.
    pub kinds: Vec<u32>,
    /// How many of the first tokens others attend to: all, unless some are filling that the model wants to see.
    pub attended: usize,
}

impl From<&Encoding> for Tokens {
    fn from(encoding: &Encoding) -> Tokens {
        Tokens {
            ids: encoding.get_ids().to_vec(),
            kinds: encoding.get_type_ids().to_vec(),
            attended: encoding.len(),
        }
    }
}

/// One worker's network.
pub struct Runner {
    network: Box<dyn Network>,
    wanted: Vec<String>,
    padding: i64,
    limits: Limits,
    /// Tokens of texts so far, and tokens computed for them.
    pub tokens: u64,
    pub computed: u64,
}

/// What the network says about a batch.
pub struct Outputs<'a> {
    /// Where the batch's texts stood among all.
    pub places: &'a [usize],
    named: Vec<Named>,
}

impl Outputs<'_> {
    /// The numbers of the output that goes by one of these names, and its shape.
    ///
    /// # Errors
    /// `Model`, when there is none, or it isn't of `axes` axes of float32 with one row per text.
    pub fn take(&mut self, names: &[&str], axes: usize) -> Result<(Vec<f32>, Vec<usize>)> {
        let found = names
            .iter()
            .find_map(|name| self.named.iter().position(|output| output.name == *name));
        let Some(found) = found else {
            let given: Vec<&str> = self.named.iter().map(|output| output.name.as_str()).collect();
            return Err(Error::model(format!(
                "the network gives no {}; it gives {}",
                names.join(" or "),
                given.join(", ")
            )));
        };
        let Named { name, tensor } = self.named.swap_remove(found);
        let numbers = match tensor.data {
            TensorData::F32(numbers) => numbers,
            TensorData::F16(numbers) => numbers.into_iter().map(half::f16::to_f32).collect(),
            other => {
                return Err(Error::model(format!(
                    "the network's {name} is {}, not float32",
                    other.dtype().as_str()
                )));
            }
        };
        if tensor.shape.len() != axes || tensor.shape[0] != self.places.len() {
            return Err(Error::model(format!(
                "the network's {name} is of shape {:?} for {} texts",
                tensor.shape,
                self.places.len()
            )));
        }
        Ok((numbers, tensor.shape))
    }
}

impl Runner {
    /// `wanted` are the inputs that the network takes.
    pub fn new(network: Box<dyn Network>, wanted: &[String], padding: i64, limits: Limits) -> Runner {
        Runner {
            network,
            wanted: wanted.to_vec(),
            padding,
            limits,
            tokens: 0,
            computed: 0,
        }
    }

    /// Most rows of a batch.
    pub fn limit_rows(&mut self, rows: usize) {
        self.limits.rows = rows.max(1);
    }

    /// Runs `texts` in batches of at most `rows` rows, if that is fewer than this worker's own limit, and hands over what
    /// the network says about each batch.
    ///
    /// # Errors
    /// Those of the network and of `each`.
    pub fn run(
        &mut self,
        texts: &[Tokens],
        rows: Option<usize>,
        mut each: impl FnMut(Outputs) -> Result<()>,
    ) -> Result<()> {
        let lengths: Vec<usize> = texts.iter().map(|text| text.ids.len()).collect();
        let limits = Limits {
            rows: rows.unwrap_or(usize::MAX).min(self.limits.rows),
            ..self.limits
        };
        for places in batches::cut(&lengths, limits) {
            let longest = lengths[places[0]].max(1);
            self.tokens += places.iter().map(|&place| lengths[place] as u64).sum::<u64>();
            self.computed += (places.len() * longest) as u64;
            let named = self.network.run(self.inputs(texts, &places, longest)?)?;
            each(Outputs {
                places: &places,
                named,
            })?;
        }
        Ok(())
    }

    fn inputs(&self, texts: &[Tokens], places: &[usize], longest: usize) -> Result<Vec<Named>> {
        let mut inputs = Vec::with_capacity(self.wanted.len());
        for name in &self.wanted {
            let mut values: Vec<i64> = Vec::with_capacity(places.len() * longest);
            for &place in places {
                let text = &texts[place];
                let end = values.len() + longest;
                match name.as_str() {
                    "input_ids" => values.extend(text.ids.iter().map(|id| i64::from(*id))),
                    "attention_mask" => values.resize(values.len() + text.attended, 1),
                    "token_type_ids" => values.extend(text.kinds.iter().map(|kind| i64::from(*kind))),
                    other => {
                        return Err(Error::model(format!(
                            "the network wants the input {other}, and texts give input_ids, attention_mask and token_type_ids"
                        )));
                    }
                }
                let filler = if name == "input_ids" { self.padding } else { 0 };
                values.resize(end, filler);
            }
            inputs.push(Named {
                name: name.clone(),
                tensor: Tensor::new(vec![places.len(), longest], values)?,
            });
        }
        Ok(inputs)
    }
}
