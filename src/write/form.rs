//! The form of a run's output files: made once, the same for all units.
//!
//! Schema, footer metadata and the leaves of every column depend on the plan alone; with six hundred columns they cost more
//! than a small unit's rows, so nothing of this is done again for each file.

use arrow::datatypes::SchemaRef;
use parquet::arrow::{ARROW_SCHEMA_META_KEY, ArrowSchemaConverter, encode_arrow_schema};
use parquet::basic::{Compression as Codec, Encoding, GzipLevel, ZstdLevel};
use parquet::file::metadata::{ColumnChunkMetaData, KeyValue, RowGroupMetaData};
use parquet::file::properties::WriterProperties;
use parquet::schema::types::{ColumnPath, SchemaDescPtr, SchemaDescriptor};
use std::ops::Range;
use std::sync::Arc;

use super::encoder::{EncoderOptions, fault};
use crate::config::Compression;
use crate::error::{Error, Result};

/// Rows encoded between two checks of the page size; pages end at multiples of it.
const WRITE_BATCH_ROWS: usize = 1024;

/// What every file says of its writer.
pub(super) const CREATED_BY: &str = concat!("floe version ", env!("CARGO_PKG_VERSION"));

/// See the [module](self) page.
#[derive(Debug)]
pub struct Form {
    pub(super) options: EncoderOptions,
    /// The output's schema as Parquet describes it.
    pub(super) descriptor: SchemaDescPtr,
    /// For each column its leaves.
    pub(super) roots: Vec<Range<usize>>,
    /// Key/value metadata of every file.
    pub(super) metadata: Vec<KeyValue>,
    /// The codec that the job asks for.
    pub(super) asked: Option<Codec>,
}

impl Form {
    /// The form of files written with `options`.
    ///
    /// # Errors
    /// `Data`, when Parquet has no place for a column's type.
    pub fn new(options: EncoderOptions) -> Result<Arc<Form>> {
        let descriptor = ArrowSchemaConverter::new()
            .convert(&options.schema)
            .map_err(fault)?;
        let mut metadata: Vec<KeyValue> = options
            .metadata
            .iter()
            .map(|(key, value)| KeyValue::new(key.clone(), value.clone()))
            .collect();
        let arrow = encode_arrow_schema(&options.schema);
        metadata.push(KeyValue::new(ARROW_SCHEMA_META_KEY.to_string(), arrow));
        Ok(Arc::new(Form {
            asked: options.compression.map(codec).transpose()?,
            roots: leaves_of_roots(&descriptor),
            descriptor: Arc::new(descriptor),
            metadata,
            options,
        }))
    }

    /// Input columns, then output columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.options.schema
    }

    /// The codec of a chunk of the output whose values are those of `chunk`.
    pub fn codec_for(&self, chunk: &ColumnChunkMetaData) -> Codec {
        self.asked.unwrap_or_else(|| writable(chunk.compression()))
    }

    /// Writer properties for a unit whose first input row group is `like`.
    ///
    /// Column by column, the codec is the one asked for or the input's own, and dictionaries are used where the input
    /// used them to the end: what did not pay for the input will not pay for the same values here.
    pub(super) fn properties(&self, like: Option<&RowGroupMetaData>) -> WriterProperties {
        let columns = like.map(RowGroupMetaData::columns).unwrap_or_default();
        let usual = self.asked.unwrap_or_else(|| {
            columns
                .first()
                .map_or(Codec::SNAPPY, |column| writable(column.compression()))
        });
        let mut builder = WriterProperties::builder()
            .set_created_by(CREATED_BY.to_string())
            .set_write_batch_size(WRITE_BATCH_ROWS)
            .set_max_row_group_row_count(None)
            .set_compression(usual)
            // Predictions hardly repeat; labels do, and they are strings or integers in few distinct values.
            .set_dictionary_enabled(true);
        for field in self.options.schema.fields() {
            if field.data_type().is_floating() {
                let path = ColumnPath::from(field.name().as_str());
                builder = builder.set_column_dictionary_enabled(path, false);
            }
        }
        for column in columns {
            let path = column.column_path().clone();
            let codec = self.codec_for(column);
            builder = builder
                .set_column_dictionary_enabled(path.clone(), keeps_dictionary(column))
                .set_column_compression(path, codec);
        }
        builder.build()
    }
}

/// For each column of a schema its leaves.
pub(super) fn leaves_of_roots(schema: &SchemaDescriptor) -> Vec<Range<usize>> {
    let mut roots = vec![0..0; schema.root_schema().get_fields().len()];
    for leaf in 0..schema.num_columns() {
        let root = &mut roots[schema.get_column_root_idx(leaf)];
        // Leaves come in the order of their columns.
        if root.end == 0 {
            root.start = leaf;
        }
        root.end = leaf + 1;
    }
    roots
}

/// Whether a column chunk was dictionary-encoded from its first page to its last.
pub(super) fn keeps_dictionary(column: &ColumnChunkMetaData) -> bool {
    let encodings: Vec<Encoding> = column.encodings().collect();
    encodings.contains(&Encoding::RLE_DICTIONARY) || encodings.contains(&Encoding::PLAIN_DICTIONARY)
}

/// The input's codec if it can be written, else its successor.
pub(super) fn writable(codec: Codec) -> Codec {
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
