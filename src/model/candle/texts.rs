//! How the texts of a batch lie in its matrix of tokens.
//!
//! Tasks give texts that are padded to the longest one. Where the kernels compute, nothing is computed for padding: texts lie
//! one behind the other as `[tokens of all, hidden]`, dense layers and norms take them as one matrix, and attention goes
//! text by text. A text's numbers are the same, to the last bit, whatever else is in its batch. Candle's own operations want
//! `[rows, tokens, hidden]`, and a bias that hides padding from attention.

use candle_core::Tensor;
use std::borrow::Cow;
use std::ops::Range;

use super::Inputs;
use super::encoder::padding_bias;
use super::ops::{Computed, made, with_numbers};

/// The texts of a batch.
pub enum Texts {
    /// Without padding, one behind the other.
    Ragged {
        /// Where each text begins, and last where all end.
        starts: Vec<usize>,
        /// How many tokens each has with its padding.
        padded: usize,
    },
    /// With padding, and what it adds to attention.
    Padded {
        rows: usize,
        tokens: usize,
        bias: Option<Tensor>,
    },
}

impl Texts {
    pub fn of(inputs: &Inputs) -> Computed<Texts> {
        let (mask, (_, tokens)) = inputs.ids("attention_mask")?;
        if inputs.is_ragged
            && let Some(starts) = starts(mask, tokens)
        {
            return Ok(Texts::Ragged {
                starts,
                padded: tokens,
            });
        }
        Texts::padded(inputs)
    }

    /// As they are given.
    pub fn padded(inputs: &Inputs) -> Computed<Texts> {
        let (_, (rows, tokens)) = inputs.ids("attention_mask")?;
        Ok(Texts::Padded {
            rows,
            tokens,
            bias: padding_bias(inputs)?,
        })
    }

    /// The tokens of each text, padding included where it is there.
    pub fn ranges(&self) -> Box<dyn Iterator<Item = Range<usize>> + '_> {
        match self {
            Texts::Ragged { starts, .. } => Box::new(starts.windows(2).map(|ends| ends[0]..ends[1])),
            Texts::Padded { rows, tokens, .. } => {
                Box::new((0..*rows).map(move |row| row * tokens..(row + 1) * tokens))
            }
        }
    }

    /// How many tokens the longest has.
    pub fn longest(&self) -> usize {
        self.ranges().map(|range| range.len()).max().unwrap_or(0)
    }

    /// Of numbers by row and token, those of tokens that are there.
    pub fn kept<'a>(&self, numbers: &'a [i64]) -> Cow<'a, [i64]> {
        match self {
            Texts::Padded { .. } => Cow::Borrowed(numbers),
            Texts::Ragged { padded, .. } => {
                let rows = numbers.chunks((*padded).max(1)).zip(self.ranges());
                Cow::Owned(
                    rows.flat_map(|(row, range)| &row[..range.len()])
                        .copied()
                        .collect(),
                )
            }
        }
    }

    /// Rows and tokens of the matrix.
    pub fn extents(&self) -> (usize, usize) {
        match self {
            Texts::Ragged { starts, .. } => (1, starts.last().copied().unwrap_or(0)),
            Texts::Padded { rows, tokens, .. } => (*rows, *tokens),
        }
    }

    /// A matrix of these [`extents`](Self::extents) as it goes through layers.
    pub fn laid_out(&self, x: Tensor) -> Computed<Tensor> {
        match self {
            Texts::Ragged { .. } => x.squeeze(0),
            Texts::Padded { .. } => Ok(x),
        }
    }

    /// The bias of attention: that of padding, if there is any, and `own`, which is the same for all texts.
    pub fn bias(&self, own: Option<&Tensor>) -> Computed<Option<Tensor>> {
        Ok(match (self, own) {
            (Texts::Padded { bias: Some(bias), .. }, Some(own)) => Some(bias.broadcast_add(own)?),
            (Texts::Padded { bias, .. }, None) => bias.clone(),
            (_, own) => own.cloned(),
        })
    }

    /// The vector of each text's first token, `[rows, hidden]`.
    pub fn firsts(&self, x: &Tensor) -> Computed<Tensor> {
        let Texts::Ragged { .. } = self else {
            return x.narrow(1, 0, 1)?.squeeze(1)?.contiguous();
        };
        let firsts: Vec<Tensor> = self
            .ranges()
            .map(|range| x.narrow(0, range.start, 1))
            .collect::<Computed<_>>()?;
        Tensor::cat(&firsts, 0)
    }

    /// The average of each text's vectors, `[rows, hidden]`.
    pub fn means(&self, x: &Tensor, inputs: &Inputs) -> Computed<Tensor> {
        let Texts::Ragged { .. } = self else {
            let mask = inputs.id_tensor("attention_mask")?;
            let mask = mask.to_dtype(x.dtype())?.unsqueeze(2)?;
            return x.broadcast_mul(&mask)?.sum(1)?.broadcast_div(&mask.sum(1)?);
        };
        let means: Vec<Tensor> = self
            .ranges()
            .map(|range| x.narrow(0, range.start, range.len())?.mean_keepdim(0))
            .collect::<Computed<_>>()?;
        Tensor::cat(&means, 0)
    }

    /// `[rows, tokens, ...]`, with zeros for padding that was left out.
    pub fn restored(&self, x: Tensor) -> Computed<Tensor> {
        let Texts::Ragged { starts, padded } = self else {
            return Ok(x);
        };
        let (rows, (_, width)) = (starts.len() - 1, x.dims2()?);
        if starts.last() == Some(&(rows * padded)) {
            return x.reshape((rows, *padded, width));
        }
        let x = &x;
        let mut out = Vec::with_capacity(rows * padded * width);
        with_numbers!(x => {
            for (row, range) in self.ranges().enumerate() {
                out.extend_from_slice(&x[range.start * width..range.end * width]);
                out.resize((row + 1) * padded * width, 0.0);
            }
        });
        made(out, &[rows, *padded, width])
    }
}

/// Where texts begin without their padding; `None` where some text is not what its row begins with, or is nothing.
fn starts(mask: &[i64], tokens: usize) -> Option<Vec<usize>> {
    let mut starts = vec![0];
    let mut end = 0;
    for row in mask.chunks(tokens.max(1)) {
        let length = row.iter().take_while(|&&is_text| is_text != 0).count();
        if length == 0 || row[length..].iter().any(|&is_text| is_text != 0) {
            return None;
        }
        end += length;
        starts.push(end);
    }
    Some(starts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_what_rows_begin_with_or_stay_padded() {
        assert_eq!(starts(&[1, 1, 1, 1, 0, 0, 1, 1, 0], 3), Some(vec![0, 3, 4, 6]));
        assert_eq!(starts(&[1, 0, 1], 3), None, "a hole");
        assert_eq!(starts(&[0, 1, 1], 3), None, "padding before the text");
        assert_eq!(starts(&[1, 1, 0, 0], 2), None, "no text");
    }
}
