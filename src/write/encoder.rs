//! The Parquet files of one unit, encoded in memory, column by column.
//!
//! A unit's output is bounded (units are cut that way), so each file is one buffer that is stored with a single
//! put-if-absent. Columns of a row group are independent until they are laid one behind the other, which is what lets
//! idle cores help: [`UnitEncoder::write`] can encode the columns of a block in parallel without changing a byte.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{FieldRef, SchemaRef};
use parquet::arrow::arrow_writer::{
    ArrowColumnWriter, ArrowRowGroupWriterFactory, ArrowWriter, compute_leaves,
};
use parquet::basic::{Compression as Codec, Encoding, GzipLevel, ZstdLevel};
use parquet::file::metadata::{ColumnChunkMetaData, KeyValue, RowGroupMetaData};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::partition;
use crate::config::Compression;
use crate::error::{Error, Result};
use crate::storage::Rope;

/// Rows after which a file of a partition starts a new row group.
const PARTITION_GROUP_ROWS: usize = 128 * 1024;

/// Rows encoded between two checks of the page size; pages end at multiples of it.
const WRITE_BATCH_ROWS: usize = 1024;

/// A finished Parquet file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedFile {
    /// `key=value/` folders, or empty.
    pub folder: String,
    /// The file.
    pub bytes: Rope,
    /// Rows in it.
    pub rows: u64,
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
}

impl EncoderOptions {
    /// Writer properties for a unit whose first input row group is `like`.
    ///
    /// Column by column, the codec is the one asked for or the input's own, and dictionaries are used where the input
    /// used them to the end: what did not pay for the input will not pay for the same values here.
    fn properties(&self, like: Option<&RowGroupMetaData>) -> Result<WriterProperties> {
        let metadata = self
            .metadata
            .iter()
            .map(|(key, value)| KeyValue::new(key.clone(), value.clone()))
            .collect();
        let columns = like.map(RowGroupMetaData::columns).unwrap_or_default();
        let asked = self.compression.map(codec).transpose()?;
        let usual = asked.unwrap_or_else(|| {
            columns
                .first()
                .map_or(Codec::SNAPPY, |column| writable(column.compression()))
        });
        let mut builder = WriterProperties::builder()
            .set_created_by(concat!("floe version ", env!("CARGO_PKG_VERSION")).to_string())
            .set_key_value_metadata(Some(metadata))
            .set_write_batch_size(WRITE_BATCH_ROWS)
            .set_max_row_group_row_count(None)
            .set_compression(usual)
            // Predictions hardly repeat; labels do, and they are strings or integers in few distinct values.
            .set_dictionary_enabled(true);
        for field in self.schema.fields() {
            if field.data_type().is_floating() {
                let path = ColumnPath::from(field.name().as_str());
                builder = builder.set_column_dictionary_enabled(path, false);
            }
        }
        for column in columns {
            let path = column.column_path().clone();
            let codec = asked.unwrap_or_else(|| writable(column.compression()));
            builder = builder
                .set_column_dictionary_enabled(path.clone(), keeps_dictionary(column))
                .set_column_compression(path, codec);
        }
        Ok(builder.build())
    }
}

/// Whether a column chunk was dictionary-encoded from its first page to its last.
fn keeps_dictionary(column: &ColumnChunkMetaData) -> bool {
    let encodings: Vec<Encoding> = column.encodings().collect();
    encodings.contains(&Encoding::RLE_DICTIONARY) || encodings.contains(&Encoding::PLAIN_DICTIONARY)
}

/// The input's codec if it can be written, else its successor.
fn writable(codec: Codec) -> Codec {
    match codec {
        Codec::LZ4 => Codec::LZ4_RAW,
        Codec::LZO => Codec::SNAPPY,
        other => other,
    }
}

fn codec(compression: Compression) -> Result<Codec> {
    let level = |error| Error::internal("a compression level that does not exist").with_source(error);
    Ok(match compression {
        Compression::Zstd => Codec::ZSTD(ZstdLevel::try_new(3).map_err(level)?),
        Compression::Snappy => Codec::SNAPPY,
        Compression::Gzip => Codec::GZIP(GzipLevel::try_new(6).map_err(level)?),
        Compression::Lz4 => Codec::LZ4_RAW,
        Compression::None => Codec::UNCOMPRESSED,
    })
}

/// Encodes one unit.
pub struct UnitEncoder {
    options: Arc<EncoderOptions>,
    properties: WriterProperties,
    files: BTreeMap<String, FileEncoder>,
}

impl UnitEncoder {
    /// An encoder for a unit whose first input row group is `like`.
    pub fn new(options: Arc<EncoderOptions>, like: Option<&RowGroupMetaData>) -> Result<UnitEncoder> {
        let properties = options.properties(like)?;
        Ok(UnitEncoder {
            options,
            properties,
            files: BTreeMap::new(),
        })
    }

    /// Appends rows, in the encoder's schema. With `pool` the columns are encoded in parallel; the bytes are the same.
    pub fn write(&mut self, rows: &RecordBatch, pool: Option<&rayon::ThreadPool>) -> Result<()> {
        if self.options.partition_by.is_empty() {
            return self.file(String::new())?.write(rows, pool);
        }
        let open = self.files.len();
        for (folder, rows) in partition::split(rows, &self.options.partition_by)? {
            let file = self.file(folder)?;
            file.write(&rows, pool)?;
            if file.group_rows >= PARTITION_GROUP_ROWS {
                file.end_row_group()?;
            }
        }
        partition::check_count(open.max(self.files.len()))
    }

    /// Ends the row group of an unpartitioned unit; partitions end theirs by size.
    pub fn end_chunk(&mut self) -> Result<()> {
        if self.options.partition_by.is_empty() {
            for file in self.files.values_mut() {
                file.end_row_group()?;
            }
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

    fn file(&mut self, folder: String) -> Result<&mut FileEncoder> {
        use std::collections::btree_map::Entry;
        match self.files.entry(folder) {
            Entry::Occupied(file) => Ok(file.into_mut()),
            Entry::Vacant(place) => {
                let file = FileEncoder::new(&self.options.schema, self.properties.clone())?;
                Ok(place.insert(file))
            }
        }
    }
}

/// One Parquet file in the making.
struct FileEncoder {
    writer: SerializedFileWriter<Vec<u8>>,
    factory: ArrowRowGroupWriterFactory,
    fields: Vec<FieldRef>,
    /// Writers of the open row group: for each field those of its leaves.
    columns: Vec<Vec<ArrowColumnWriter>>,
    leaf_counts: Vec<usize>,
    groups: usize,
    group_rows: usize,
    rows: u64,
}

impl FileEncoder {
    fn new(schema: &SchemaRef, properties: WriterProperties) -> Result<FileEncoder> {
        let writer = ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties)).map_err(fault)?;
        let (writer, factory) = writer.into_serialized_writer().map_err(fault)?;
        let descriptor = writer.schema_descr();
        let mut leaf_counts = vec![0; schema.fields().len()];
        for leaf in 0..descriptor.num_columns() {
            leaf_counts[descriptor.get_column_root_idx(leaf)] += 1;
        }
        Ok(FileEncoder {
            writer,
            factory,
            fields: schema.fields().iter().cloned().collect(),
            columns: Vec::new(),
            leaf_counts,
            groups: 0,
            group_rows: 0,
            rows: 0,
        })
    }

    fn write(&mut self, rows: &RecordBatch, pool: Option<&rayon::ThreadPool>) -> Result<()> {
        if self.columns.is_empty() {
            let mut leaves = self
                .factory
                .create_column_writers(self.groups)
                .map_err(fault)?
                .into_iter();
            for &count in &self.leaf_counts {
                self.columns.push(leaves.by_ref().take(count).collect());
            }
        }
        let columns = self.fields.iter().zip(rows.columns()).zip(&mut self.columns);
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
        self.rows += rows.num_rows() as u64;
        Ok(())
    }

    fn end_row_group(&mut self) -> Result<()> {
        if self.group_rows == 0 {
            return Ok(());
        }
        let mut group = self.writer.next_row_group().map_err(fault)?;
        for writer in std::mem::take(&mut self.columns).into_iter().flatten() {
            let chunk = writer.close().map_err(fault)?;
            chunk.append_to_row_group(&mut group).map_err(fault)?;
        }
        group.close().map_err(fault)?;
        self.groups += 1;
        self.group_rows = 0;
        Ok(())
    }

    fn finish(mut self, folder: String) -> Result<EncodedFile> {
        self.end_row_group()?;
        let bytes = self.writer.into_inner().map_err(fault)?;
        Ok(EncodedFile {
            folder,
            bytes: bytes.into(),
            rows: self.rows,
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

fn fault(error: parquet::errors::ParquetError) -> Error {
    Error::data("can't encode the output as Parquet").with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float32Array, Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

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

    fn options(partition_by: Vec<usize>, compression: Option<Compression>) -> Arc<EncoderOptions> {
        Arc::new(EncoderOptions {
            schema: schema(),
            compression,
            partition_by,
            metadata: vec![("floe.run_id".into(), "r".into())],
        })
    }

    fn read(file: &EncodedFile) -> Vec<RecordBatch> {
        let reader = ParquetRecordBatchReaderBuilder::try_new(file.bytes.join()).unwrap();
        reader.build().unwrap().collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn what_was_written_is_read_back_and_row_groups_are_the_chunks() {
        let mut encoder = UnitEncoder::new(options(vec![], None), None).unwrap();
        encoder.write(&rows(0, 1500), None).unwrap();
        encoder.write(&rows(1500, 500), None).unwrap();
        encoder.end_chunk().unwrap();
        encoder.write(&rows(2000, 10), None).unwrap();
        encoder.end_chunk().unwrap();
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
            let mut encoder = UnitEncoder::new(options(vec![], Some(Compression::Zstd)), None).unwrap();
            for block in 0..4 {
                encoder.write(&rows(block * 3000, 3000), pool).unwrap();
            }
            encoder.end_chunk().unwrap();
            encoder.finish().unwrap()
        };
        assert_eq!(encoded(None), encoded(Some(&pool)));
    }

    #[test]
    fn partitions_hold_their_rows_in_order() {
        let mut encoder = UnitEncoder::new(options(vec![1], None), None).unwrap();
        encoder.write(&rows(0, 100), None).unwrap();
        encoder.write(&rows(100, 100), None).unwrap();
        encoder.end_chunk().unwrap();
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
        let mut encoder = UnitEncoder::new(options(vec![], None), None).unwrap();
        encoder.end_chunk().unwrap();
        assert_eq!(encoder.finish().unwrap(), []);
    }

    #[test]
    fn codec_and_dictionary_are_the_inputs_own_unless_told_otherwise() {
        let like = |compression| {
            let mut encoder = UnitEncoder::new(options(vec![], Some(compression)), None).unwrap();
            encoder.write(&rows(0, 100), None).unwrap();
            let file = encoder.finish().unwrap().remove(0);
            let reader = ParquetRecordBatchReaderBuilder::try_new(file.bytes.join()).unwrap();
            reader.metadata().row_group(0).clone()
        };
        let gzip = like(Compression::Gzip);
        let mut encoder = UnitEncoder::new(options(vec![], None), Some(&gzip)).unwrap();
        encoder.write(&rows(0, 100), None).unwrap();
        let file = encoder.finish().unwrap().remove(0);
        let reader = ParquetRecordBatchReaderBuilder::try_new(file.bytes.join()).unwrap();
        let group = reader.metadata().row_group(0);
        assert!(matches!(group.column(0).compression(), Codec::GZIP(_)));
        assert!(keeps_dictionary(group.column(1)));
        assert!(!keeps_dictionary(group.column(2)));
    }
}
