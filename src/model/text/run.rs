//! Texts through a network: batches of like length, run one after another.

use super::batches::{self, Limits, Size};
use crate::error::{Error, Result};
use crate::model::network::{Named, Network};
use crate::tensor::{Tensor, TensorBatch, TensorData};
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

/// One of the sequences that the network reads for a row.
#[derive(Clone, Debug)]
pub struct Sequence {
    pub tokens: Tokens,
    /// Where its tokens stand in the text, for tasks that ask.
    pub places: Option<Box<Encoding>>,
}

impl From<Tokens> for Sequence {
    fn from(tokens: Tokens) -> Sequence {
        Sequence { tokens, places: None }
    }
}

impl Sequence {
    /// A sequence whose tokens know their places.
    pub fn placed(mut encoding: Encoding) -> Sequence {
        // What was cut off may be a book.
        drop(encoding.take_overflowing());
        Sequence {
            tokens: Tokens::from(&encoding),
            places: Some(Box::new(encoding)),
        }
    }

    /// Where its tokens stand in the text.
    ///
    /// # Errors
    /// `Internal`, when it was made without.
    pub fn places(&self) -> Result<&Encoding> {
        let places = self.places.as_deref();
        places.ok_or_else(|| Error::internal("a task asks for the places of tokens that it did not keep"))
    }
}

/// Some rows of a block with the sequences they became.
pub struct Rows<'a> {
    /// All rows of the block: for params, and what else a task needs of the texts.
    pub batch: &'a TensorBatch,
    /// Which of them it is about; what is computed comes back in this order.
    pub rows: &'a [usize],
    /// The sequences of each row of the block.
    pub sequences: &'a [Vec<Sequence>],
}

impl<'a> Rows<'a> {
    /// How many.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// The sequences of the rows, one after the other.
    pub fn all(&self) -> Vec<&'a Sequence> {
        let sequences = self.sequences;
        self.rows.iter().flat_map(|&row| &sequences[row]).collect()
    }
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

    /// Batches of rows of these sequences.
    pub fn arrange(&self, rows: &[Vec<Sequence>], places: &[usize]) -> Vec<Vec<usize>> {
        let size = |&row: &usize| {
            let lengths = rows[row].iter().map(|one| one.tokens.ids.len());
            Size {
                longest: lengths.clone().max().unwrap_or(0),
                tokens: lengths.sum(),
                sequences: rows[row].len(),
            }
        };
        let sizes: Vec<Size> = places.iter().map(size).collect();
        let mut batches = batches::cut(&sizes, self.limits);
        let all = batches.iter_mut().flatten();
        all.for_each(|place| *place = places[*place]);
        batches
    }

    /// Runs `texts` in batches of at most `rows` rows, if that is fewer than this worker's own limit, and hands over what
    /// the network says about each batch.
    ///
    /// # Errors
    /// Those of the network and of `each`.
    pub fn run(
        &mut self,
        texts: &[&Sequence],
        rows: Option<usize>,
        mut each: impl FnMut(Outputs) -> Result<()>,
    ) -> Result<()> {
        let lengths: Vec<usize> = texts.iter().map(|text| text.tokens.ids.len()).collect();
        let size = |&longest: &usize| Size {
            longest,
            tokens: longest,
            sequences: 1,
        };
        let sizes: Vec<Size> = lengths.iter().map(size).collect();
        let limits = Limits {
            rows: rows.unwrap_or(usize::MAX).min(self.limits.rows),
            ..self.limits
        };
        for places in batches::cut(&sizes, limits) {
            let longest = lengths[places[0]].max(1);
            let tokens = places.iter().map(|&place| lengths[place]).sum::<usize>();
            self.tokens += tokens as u64;
            self.computed += match self.limits.pads {
                true => places.len() * longest,
                false => tokens,
            } as u64;
            let named = self.network.run(self.inputs(texts, &places, longest)?)?;
            each(Outputs {
                places: &places,
                named,
            })?;
        }
        Ok(())
    }

    fn inputs(&self, texts: &[&Sequence], places: &[usize], longest: usize) -> Result<Vec<Named>> {
        let mut inputs = Vec::with_capacity(self.wanted.len());
        for name in &self.wanted {
            let mut values: Vec<i64> = Vec::with_capacity(places.len() * longest);
            for &place in places {
                let text = &texts[place].tokens;
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
