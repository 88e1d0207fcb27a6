//! Files through reader and writer, as a worker passes them, with one column more that counts the rows.

use arrow::array::*;
use arrow::compute::concat_batches;
use arrow::datatypes::*;
use bytes::Bytes;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::file::metadata::PageIndexPolicy;
use std::sync::Arc;

use super::*;
use crate::config::Compression;
use crate::write::{EncoderOptions, Form, UnitEncoder};

/// What is asked of a passage.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Whether columns may be copied.
    pub splice: bool,
    /// Positions of the columns whose values are needed.
    pub needed: Vec<usize>,
    pub compression: Option<Compression>,
    pub batch_rows: usize,
}

impl Asked {
    pub fn splicing(needed: &[usize]) -> Asked {
        Asked {
            splice: true,
            needed: needed.to_vec(),
            compression: None,
            batch_rows: 256,
        }
    }
}

/// A file that went through, with one column more that counts the rows.
#[derive(Debug)]
pub struct Passed {
    pub file: Bytes,
    /// Leaves of all row groups that were copied.
    pub copied: usize,
    /// Columns of all blocks that were decoded.
    pub decoded: usize,
}

pub async fn pass_through(file: &Bytes, asked: &Asked) -> Result<Option<Passed>> {
    let (plan, reader, _folder) = plan_for(asked.batch_rows, file).await?;
    let mut fields = reader.schema().fields().to_vec();
    fields.push(Arc::new(Field::new(
        format!("row {}", fields.len()),
        DataType::Int64,
        false,
    )));
    let added = fields.len() - 1;
    let form = Form::new(EncoderOptions {
        schema: Arc::new(Schema::new(fields.clone())),
        compression: asked.compression,
        partition_by: vec![],
        metadata: vec![("key".into(), "value".into())],
        splice: asked.splice,
    })?;
    let reader = reader.splicing(form.clone(), asked.needed.clone());
    let (mut copied, mut decoded, mut rows) = (0, 0, 0i64);
    let mut files = Vec::new();
    for unit in &plan.units {
        let layout = reader.open(unit).await?;
        let Some(first) = layout.chunks.first() else {
            continue;
        };
        let like = &first.pieces[0].footer.row_groups()[first.pieces[0].row_group];
        let mut encoder = UnitEncoder::new(form.clone(), Some(like));
        for chunk in &layout.chunks {
            let mut blocks = reader.fetch(chunk).await?;
            while let Some(block) = blocks.next_block()? {
                assert_eq!(block.project(&[])?.num_rows(), block.rows.num_rows());
                for needed in &asked.needed {
                    block.project(&[*needed])?;
                }
                decoded += block.columns.columns.len();
                let mut columns = block.columns.rewritten.clone();
                let kept = block.project(&columns)?;
                let count = block.rows.num_rows() as i64;
                let mut arrays = kept.columns().to_vec();
                arrays.push(Arc::new(Int64Array::from_iter_values(rows..rows + count)));
                columns.push(added);
                rows += count;
                let own: Vec<FieldRef> = columns.iter().map(|column| fields[*column].clone()).collect();
                let batch = RecordBatch::try_new(Arc::new(Schema::new(own)), arrays).unwrap();
                encoder.write(&batch, &columns, None)?;
            }
            let spliced = blocks.take_spliced();
            copied += spliced.leaves.len();
            encoder.end_chunk(spliced)?;
        }
        files.extend(encoder.finish()?);
    }
    assert!(files.len() <= 1, "test files are one unit");
    Ok(files.pop().map(|file| Passed {
        file: file.bytes.join(),
        copied,
        decoded,
    }))
}

pub fn pass(file: &Bytes, asked: &Asked) -> Result<Passed> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let passed = runtime.block_on(pass_through(file, asked))?;
    Ok(passed.expect("test files have rows"))
}

pub fn metadata_of(file: &Bytes) -> ArrowReaderMetadata {
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
    ArrowReaderMetadata::load(file, options).unwrap()
}

pub fn all_rows(file: &Bytes) -> RecordBatch {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file.clone()).unwrap();
    let schema = builder.schema().clone();
    let batches: Vec<_> = builder
        .build()
        .unwrap()
        .collect::<std::result::Result<_, _>>()
        .unwrap();
    concat_batches(&schema, &batches).unwrap()
}
