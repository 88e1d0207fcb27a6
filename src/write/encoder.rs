//! The Parquet files of one unit, encoded in memory, column by column.
//!
//! A unit's output is bounded (units are cut that way), so each file is one object that is stored with a single
//! put-if-absent. Columns of a row group are independent until they are laid one behind the other, which is what lets
//! idle cores help ([`UnitEncoder::write`] can encode the columns of a block in parallel without changing a byte), and
//! what lets some of them be copied from the input: [`super::splice`].

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_writer::{
    ArrowColumnWriter, ArrowRowGroupWriterFactory, ArrowWriter, ArrowWriterOptions, compute_leaves,
};
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::properties::WriterPropertiesPtr;
use parquet::schema::types::SchemaDescPtr;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::file::{EncodedColumns, FileAssembler, Finished};
use super::form::Form;
use super::partition;
use super::splice::Spliced;
use crate::config::Compression;
use crate::error::{Error, Result};
use crate::storage::Rope;

/// Rows after which a file of a partition starts a new row group.
const PARTITION_GROUP_ROWS: usize = 128 * 1024;

/// A finished Parquet file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedFile {
    /// `key=value/` folders, or empty.
    pub folder: String,
    /// The file.
    pub bytes: Rope,
    /// Rows in it.
    pub rows: u64,
    /// Bytes of it that are the input's.
    pub copied: u64,
}

/// How files are written; the same for all units of a run.
#[derive(Clone, Debug)]
pub struct EncoderOptions {
    /// Input columns, then output columns.
    pub schema: SchemaRef,
    /// `None`: each column as in the input.
    pub compression: Option<Compression>,
    /// Positions in `schema` of the columns to partition by.
    pub partition_by: Vec<usize>,
    /// Key/value metadata of every file, e.g. the run and the model.
    pub metadata: Vec<(String, String)>,
    /// Whether column chunks that can be copied are. Tests compare with what comes of it when they are not.
    pub splice: bool,
}

/// Encodes one unit.
pub struct UnitEncoder {
    form: Arc<Form>,
    properties: WriterPropertiesPtr,
    files: BTreeMap<String, FileEncoder>,
}

impl UnitEncoder {
    /// An encoder for a unit whose first input row group is `like`.
    pub fn new(form: Arc<Form>, like: Option<&RowGroupMetaData>) -> UnitEncoder {
        UnitEncoder {
            properties: Arc::new(form.properties(like)),
            form,
            files: BTreeMap::new(),
        }
    }

    /// Appends rows of the columns at positions `columns` of the schema; the others are copied when the chunk ends. With
    /// `pool` the columns are encoded in parallel; the bytes are the same.
    pub fn write(
        &mut self,
        rows: &RecordBatch,
        columns: &[usize],
        pool: Option<&rayon::ThreadPool>,
    ) -> Result<()> {
        let partition_by = &self.form.options.partition_by;
        if partition_by.is_empty() {
            return self.file(String::new()).write(rows, columns, pool);
        }
        if columns.len() != self.form.options.schema.fields().len() {
            return Err(Error::internal("a file that is split needs all its columns"));
        }
        let open = self.files.len();
        for (folder, rows) in partition::split(rows, partition_by)? {
            let file = self.file(folder);
            file.write(&rows, columns, pool)?;
            if file.group_rows >= PARTITION_GROUP_ROWS {
                file.end_row_group(Spliced::default())?;
            }
        }
        partition::check_count(open.max(self.files.len()))
    }

    /// Ends the row group of an unpartitioned unit, with the columns that are copied; partitions end theirs by size.
    pub fn end_chunk(&mut self, spliced: Spliced) -> Result<()> {
        if self.form.options.partition_by.is_empty()
            && let Some(file) = self.files.values_mut().next()
        {
            file.end_row_group(spliced)?;
        }
        Ok(())
    }

    /// The files of the unit, sorted by folder. None when no rows were written.
    pub fn finish(self) -> Result<Vec<EncodedFile>> {
        self.files
            .into_iter()
            .map(|(folder, file)| file.finish(folder))
            .collect()
    }

    fn file(&mut self, folder: String) -> &mut FileEncoder {
        self.files
            .entry(folder)
            .or_insert_with(|| FileEncoder::new(&self.form, &self.properties))
    }
}

/// One Parquet file in the making.
struct FileEncoder {
    form: Arc<Form>,
    properties: WriterPropertiesPtr,
    assembler: FileAssembler,
    /// Of the open or the last row group.
    encoded: Option<Arc<Encoded>>,
    /// Writers of the open row group: for each column those of its leaves.
    writers: Vec<Vec<ArrowColumnWriter>>,
    group_rows: usize,
}

/// The columns of a row group that are encoded.
struct Encoded {
    columns: Vec<usize>,
    fields: Vec<FieldRef>,
    /// Of these columns alone.
    schema: SchemaDescPtr,
    leaf_counts: Vec<usize>,
    /// `None`, when there are no columns.
    factory: Option<ArrowRowGroupWriterFactory>,
}

impl Encoded {
    fn new(form: &Form, columns: &[usize], properties: &WriterPropertiesPtr) -> Result<Encoded> {
        let all = form.options.schema.fields();
        let fields: Vec<FieldRef> = columns.iter().map(|column| all[*column].clone()).collect();
        let arrow = Arc::new(Schema::new(fields.clone()));
        let schema = match columns.is_empty() || columns.len() == all.len() {
            true => form.descriptor.clone(),
            false => Arc::new(ArrowSchemaConverter::new().convert(&arrow).map_err(fault)?),
        };
        let options = ArrowWriterOptions::new()
            .with_properties(properties.as_ref().clone())
            .with_skip_arrow_metadata(true)
            .with_parquet_schema(schema.as_ref().clone());
        let factory = if columns.is_empty() {
            None
        } else {
            let writer = ArrowWriter::try_new_with_options(Vec::new(), arrow, options).map_err(fault)?;
            Some(writer.into_serialized_writer().map_err(fault)?.1)
        };
        Ok(Encoded {
            leaf_counts: columns.iter().map(|column| form.roots[*column].len()).collect(),
            columns: columns.to_vec(),
            fields,
            schema,
            factory,
        })
    }
}

impl FileEncoder {
    fn new(form: &Arc<Form>, properties: &WriterPropertiesPtr) -> FileEncoder {
        FileEncoder {
            form: form.clone(),
            properties: properties.clone(),
            assembler: FileAssembler::new(form.clone()),
            encoded: None,
            writers: Vec::new(),
            group_rows: 0,
        }
    }

    fn write(
        &mut self,
        rows: &RecordBatch,
        columns: &[usize],
        pool: Option<&rayon::ThreadPool>,
    ) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let encoded = self.begin(columns)?;
        let columns = encoded.fields.iter().zip(rows.columns()).zip(&mut self.writers);
        match pool {
            Some(pool) => {
                let columns: Vec<_> = columns.collect();
                pool.install(|| {
                    columns
                        .into_par_iter()
                        .try_for_each(|((field, array), writers)| encode(field, array, writers))
                })?;
            }
            None => {
                for ((field, array), writers) in columns {
                    encode(field, array, writers)?;
                }
            }
        }
        self.group_rows += rows.num_rows();
        Ok(())
    }

    /// The columns of the row group that is open or is opened now.
    fn begin(&mut self, columns: &[usize]) -> Result<Arc<Encoded>> {
        if let Some(encoded) = &self.encoded
            && encoded.columns == columns
        {
            let encoded = encoded.clone();
            if self.group_rows == 0 {
                self.writers = self.open(&encoded)?;
            }
            return Ok(encoded);
        }
        if self.group_rows > 0 {
            return Err(Error::internal("a row group changes its columns"));
        }
        let encoded = Arc::new(Encoded::new(&self.form, columns, &self.properties)?);
        self.writers = self.open(&encoded)?;
        self.encoded = Some(encoded.clone());
        Ok(encoded)
    }

    fn open(&self, encoded: &Encoded) -> Result<Vec<Vec<ArrowColumnWriter>>> {
        let Some(factory) = &encoded.factory else {
            return Ok(Vec::new());
        };
        let leaves = factory.create_column_writers(self.assembler.groups());
        let mut leaves = leaves.map_err(fault)?.into_iter();
        let of_column = |count: &usize| leaves.by_ref().take(*count).collect();
        Ok(encoded.leaf_counts.iter().map(of_column).collect())
    }

    fn end_row_group(&mut self, spliced: Spliced) -> Result<()> {
        let Some(encoded) = self.encoded.as_ref().filter(|_| self.group_rows > 0) else {
            return Ok(());
        };
        let writers = std::mem::take(&mut self.writers).into_iter().flatten().collect();
        let columns = EncodedColumns::close(writers, &encoded.schema, &self.properties)?;
        self.assembler
            .push_group(self.group_rows, &encoded.columns, columns, spliced)?;
        self.group_rows = 0;
        Ok(())
    }

    fn finish(mut self, folder: String) -> Result<EncodedFile> {
        self.end_row_group(Spliced::default())?;
        let Finished { bytes, rows, copied } = self.assembler.finish()?;
        Ok(EncodedFile {
            folder,
            bytes,
            rows,
            copied,
        })
    }
}

fn encode(field: &FieldRef, array: &ArrayRef, writers: &mut [ArrowColumnWriter]) -> Result<()> {
    let leaves = compute_leaves(field, array).map_err(|error| fault(error).with("column", field.name()))?;
    for (leaf, writer) in leaves.iter().zip(writers) {
        writer
            .write(leaf)
            .map_err(|error| fault(error).with("column", field.name()))?;
    }
    Ok(())
}

pub(super) fn fault(error: parquet::errors::ParquetError) -> Error {
    Error::data("can't encode the output as Parquet").with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float32Array, Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use parquet::basic::Compression as Codec;

    use super::super::form::keeps_dictionary;

    const ALL: &[usize] = &[0, 1, 2];

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("name", DataType::Utf8, true),
            Field::new("score", DataType::Float32, true),
        ]))
    }

    fn rows(first: i64, count: i64) -> RecordBatch {
        let ids: Vec<i64> = (first..first + count).collect();
        let names = ids.iter().map(|id| (id % 3 != 0).then(|| format!("n{}", id % 5)));
        RecordBatch::try_new(
            schema(),
            vec![
                Arc::new(Int64Array::from(ids.clone())),
                Arc::new(StringArray::from_iter(names)),
                Arc::new(Float32Array::from_iter_values(
                    ids.iter().map(|&id| id as f32 / 7.0),
                )),
            ],
        )
        .unwrap()
    }

    fn options(partition_by: Vec<usize>, compression: Option<Compression>) -> Arc<Form> {
        Form::new(EncoderOptions {
            schema: schema(),
            compression,
            partition_by,
            metadata: vec![("floe.run_id".into(), "r".into())],
            splice: true,
        })
        .unwrap()
    }

    fn read(file: &EncodedFile) -> Vec<RecordBatch> {
        let reader = ParquetRecordBatchReaderBuilder::try_new(file.bytes.join()).unwrap();
        reader.build().unwrap().collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn what_was_written_is_read_back_and_row_groups_are_the_chunks() {
        let mut encoder = UnitEncoder::new(options(vec![], None), None);
        encoder.write(&rows(0, 1500), ALL, None).unwrap();
        encoder.write(&rows(1500, 500), ALL, None).unwrap();
        encoder.end_chunk(Spliced::default()).unwrap();
        encoder.write(&rows(2000, 10), ALL, None).unwrap();
        encoder.end_chunk(Spliced::default()).unwrap();
        let files = encoder.finish().unwrap();
        let [file] = files.as_slice() else {
            panic!("one file")
        };
        assert_eq!(file.rows, 2010);
        let reader = ParquetRecordBatchReaderBuilder::try_new(file.bytes.join()).unwrap();
        let groups: Vec<i64> = reader
            .metadata()
            .row_groups()
            .iter()
            .map(|group| group.num_rows())
            .collect();
        assert_eq!(groups, [2000, 10]);
        let metadata = reader.metadata().file_metadata().key_value_metadata().unwrap();
        assert!(metadata.iter().any(|pair| pair.key == "floe.run_id"));
        let read = arrow::compute::concat_batches(&schema(), &read(file)).unwrap();
        assert_eq!(read, rows(0, 2010));
    }

    #[test]
    fn columns_encoded_in_parallel_give_the_same_bytes() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let encoded = |pool: Option<&rayon::ThreadPool>| {
            let mut encoder = UnitEncoder::new(options(vec![], Some(Compression::Zstd)), None);
            for block in 0..4 {
                encoder.write(&rows(block * 3000, 3000), ALL, pool).unwrap();
            }
            encoder.end_chunk(Spliced::default()).unwrap();
            encoder.finish().unwrap()
        };
        assert_eq!(encoded(None), encoded(Some(&pool)));
    }

    #[test]
    fn partitions_hold_their_rows_in_order() {
        let mut encoder = UnitEncoder::new(options(vec![1], None), None);
        encoder.write(&rows(0, 100), ALL, None).unwrap();
        encoder.write(&rows(100, 100), ALL, None).unwrap();
        encoder.end_chunk(Spliced::default()).unwrap();
        let files = encoder.finish().unwrap();
        assert_eq!(files.iter().map(|file| file.rows).sum::<u64>(), 200);
        assert!(
            files.iter().any(|file| file.folder == "name=n1"),
            "{:?}",
            files[0].folder
        );
        for file in &files {
            let batch = &read(file)[0];
            let ids: &Int64Array = batch.column(0).as_any().downcast_ref().unwrap();
            assert!(ids.values().is_sorted());
            assert_eq!(batch.num_columns(), 3);
        }
    }

    /// Failure matrix: 38.
    #[test]
    fn a_unit_without_rows_has_no_file() {
        let mut encoder = UnitEncoder::new(options(vec![], None), None);
        encoder.end_chunk(Spliced::default()).unwrap();
        assert_eq!(encoder.finish().unwrap(), []);
    }

    #[test]
    fn codec_and_dictionary_are_the_inputs_own_unless_told_otherwise() {
        let like = |compression| {
            let mut encoder = UnitEncoder::new(options(vec![], Some(compression)), None);
            encoder.write(&rows(0, 100), ALL, None).unwrap();
            let file = encoder.finish().unwrap().remove(0);
            let reader = ParquetRecordBatchReaderBuilder::try_new(file.bytes.join()).unwrap();
            reader.metadata().row_group(0).clone()
        };
        let gzip = like(Compression::Gzip);
        let mut encoder = UnitEncoder::new(options(vec![], None), Some(&gzip));
        encoder.write(&rows(0, 100), ALL, None).unwrap();
        let file = encoder.finish().unwrap().remove(0);
        let reader = ParquetRecordBatchReaderBuilder::try_new(file.bytes.join()).unwrap();
        let group = reader.metadata().row_group(0);
        assert!(matches!(group.column(0).compression(), Codec::GZIP(_)));
        assert!(keeps_dictionary(group.column(1)));
        assert!(!keeps_dictionary(group.column(2)));
    }
}
