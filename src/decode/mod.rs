//! Decoding: rows of Arrow columns become the tensors a model takes.
//!
//! A [`Decoder`] is made once per run from the model's inputs as bound to the input's schema; then worker
//! threads call [`Decoder::decode`] on the batches, each for itself and without locks. Slicing a `RecordBatch`
//! costs nothing, so the way to feed a model in steps is to slice the block and decode each slice.
//!
//! The conversions are exact or nearest, never wrapping, and independent of how rows are cut into batches;
//! `docs/types.md` holds the table. Nulls and values out of range follow the job's and the model card's policy.

mod binary;
mod convert;
mod decimal;
mod element;
mod lists;
mod nulls;
mod params;
mod row_hash;
mod rule;
mod tabular;
#[cfg(test)]
mod tests;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Schema;

use self::params::Param;
use self::row_hash::RowHash;
use self::tabular::Tabular;
use crate::config::OnOutOfRange;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::origin::{Origin, RowError};
use crate::signature::{Binding, OnNull, Source};
use crate::tensor::TensorBatch;

/// Turns batches of one schema into the inputs of one model function. See the [module](self) page.
#[derive(Clone, Debug)]
pub struct Decoder {
    inputs: Vec<Input>,
    columns: usize,
    /// What keeps a row from being decoded is its own affair.
    spares: bool,
}

/// The rows of a batch that could be decoded.
#[derive(Debug)]
pub struct Decoded {
    /// Their tensors.
    pub batch: TensorBatch,
    /// Their indices in the batch, when some are missing.
    pub kept: Option<Vec<usize>>,
    /// Those that are missing.
    pub failed: Vec<RowError>,
}

#[derive(Clone, Debug)]
enum Input {
    Tabular(Tabular),
    Param(Param),
    RowHash(RowHash),
}

impl Decoder {
    /// A decoder for the inputs of `binding`, whose columns are positions in `schema`.
    ///
    /// `on_null` applies where the model card says nothing.
    ///
    /// # Errors
    /// `Data`, when a column can't feed its input; `Model`, when the card names another number of columns than
    /// the input takes; `Config`, for a parameter or a stand-in for nulls that doesn't fit.
    pub fn new(
        binding: &Binding,
        schema: &Schema,
        on_null: OnNull,
        on_out_of_range: OnOutOfRange,
    ) -> Result<Decoder> {
        let mut inputs = Vec::with_capacity(binding.inputs.len());
        for bound in &binding.inputs {
            inputs.push(if !bound.param.is_null() {
                Input::Param(Param::new(bound)?)
            } else if bound.feature.source == Source::RowHash {
                Input::RowHash(RowHash::new(bound)?)
            } else {
                Input::Tabular(Tabular::new(bound, schema, on_null, on_out_of_range)?)
            });
        }
        Ok(Decoder {
            inputs,
            columns: schema.fields().len(),
            spares: false,
        })
    }

    /// The same, but a row with a null or value that the policies don't let through is left out by
    /// [`decode_rows`](Self::decode_rows) instead of failing the batch.
    pub fn sparing(self, spares: bool) -> Decoder {
        Decoder { spares, ..self }
    }

    /// Like [`decode`](Self::decode), with the rows left out that can't be decoded, if it is a decoder that spares others.
    ///
    /// # Errors
    /// As `decode`; of rows only when others are not spared.
    pub fn decode_rows(&self, batch: &RecordBatch, origin: &Origin) -> Result<Decoded> {
        let whole = |batch| Decoded {
            batch,
            kept: None,
            failed: Vec::new(),
        };
        match self.decode(batch, origin) {
            Err(error) if self.spares && error.kind() == ErrorKind::Data => {}
            result => return result.map(whole),
        }
        let (mut kept, mut failed) = (Vec::new(), Vec::new());
        for row in 0..batch.num_rows() {
            match self.decode(&batch.slice(row, 1), &origin.slice(row, 1)) {
                Ok(_) => kept.push(row),
                Err(error) if error.kind() == ErrorKind::Data => failed.push(RowError { row, error }),
                Err(error) => return Err(error),
            }
        }
        let mut is_kept = vec![true; batch.num_rows()];
        failed.iter().for_each(|failed| is_kept[failed.row] = false);
        let rest = filter_record_batch(batch, &BooleanArray::from(is_kept))
            .context(ErrorKind::Internal, "can't leave out rows")?;
        Ok(Decoded {
            batch: self.decode(&rest, &origin.select(&kept))?,
            kept: Some(kept),
            failed,
        })
    }

    /// The tensors of the rows of `batch`, one per input; `origin` says where the rows came from.
    ///
    /// # Errors
    /// `Data`, naming column, file, row group and row, for a null or a value that the policies don't let through
    /// and for lists that don't make a tensor.
    pub fn decode(&self, batch: &RecordBatch, origin: &Origin) -> Result<TensorBatch> {
        if batch.num_columns() != self.columns {
            return Err(Error::internal(format!(
                "a batch of {} columns reached a decoder made for {}",
                batch.num_columns(),
                self.columns
            )));
        }
        let mut inputs = Vec::with_capacity(self.inputs.len());
        for input in &self.inputs {
            inputs.push(match input {
                Input::Tabular(tabular) => tabular.decode(batch, origin)?,
                Input::Param(param) => param.tensor(batch.num_rows())?,
                Input::RowHash(row_hash) => row_hash.decode(batch)?,
            });
        }
        Ok(TensorBatch {
            rows: batch.num_rows(),
            inputs,
        })
    }
}
