//! Splicing: column chunks that go from an input file to the output byte for byte.
//!
//! A column that only passes through need not be decoded. Its pages are copied as they are where they mean in the output
//! what they meant in the input: same physical type, levels and annotation, a codec that the output may have, no values
//! that must be rewritten (INT96). Everything else, and every column of a file that is split or joined, is decoded and
//! encoded as ever; what the rows hold is the same either way.
//!
//! What a reader would hold against the input's writer it can't know of any more, since the output is ours. So
//! statistics that readers distrust are left behind (parquet-mr's `CorruptStatistics`; min and max whose order the file
//! does not define, parquet-format 2.4), and so are pages that they read in a special way: delta strings of parquet-mr
//! before 1.8 (PARQUET-246), pages of version 2 by parquet-cpp before 2.0 (ARROW-10353).
//!
//! The choice is a function of footers, page headers, plan and options, so the bytes of a unit are too.

use arrow::datatypes::{DataType, Schema};
use bytes::Bytes;
use parquet::basic::{
    ColumnOrder, ConvertedType, LogicalType, Repetition, SortOrder, TimeUnit, Type as Physical,
};
use parquet::data_type::{ByteArray, FixedLenByteArray};
use parquet::file::metadata::{ColumnChunkMetaData, FileMetaData, LevelHistogram, PageEncodingStats};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::page_index::offset_index::OffsetIndexMetaData;
use parquet::file::statistics::Statistics;
use parquet::schema::types::{ColumnDescriptor, SchemaDescriptor, Type};
use std::ops::Range;

use super::form::{Form, leaves_of_roots, writable};

/// Column chunks of a row group that are copied.
#[derive(Debug, Default)]
pub struct Spliced {
    /// All leaves of each column that is copied, in any order.
    pub leaves: Vec<SplicedLeaf>,
}

/// A column chunk that is copied. Offsets count from its first byte.
#[derive(Debug)]
pub struct SplicedLeaf {
    /// Its position among the output's leaves.
    pub leaf: usize,
    /// The input's description of it.
    pub source: ColumnChunkMetaData,
    /// What the output's footer may say of its values.
    pub summary: Summary,
    /// Its pages.
    pub bytes: Bytes,
    /// Whether they are the input's, byte for byte.
    pub is_copy: bool,
    /// Whether the first page is a dictionary.
    pub has_dictionary: bool,
    /// Where the first data page begins.
    pub data_offset: usize,
    /// How many pages of each kind.
    pub encodings: Vec<PageEncodingStats>,
    /// Values of each page.
    pub column_index: Option<ColumnIndexMetaData>,
    /// Where the data pages are.
    pub offset_index: Option<OffsetIndexMetaData>,
    /// A bloom filter with its header.
    pub bloom_filter: Option<Bytes>,
}

/// What the output's footer may say of a copied chunk's values.
#[derive(Debug, Default)]
pub struct Summary {
    /// Without what a reader would distrust.
    pub statistics: Option<Statistics>,
    /// Whether the bounds of pages may be copied, too.
    pub keeps_bounds: bool,
    /// Whether the bounds are those of the type's own order, where the crate's writer uses another.
    pub is_type_ordered: bool,
}

/// What is to be known of an input file before its chunks are copied.
#[derive(Clone, Debug)]
pub struct Origins {
    /// For each column asked for, where it lies in the file; `None`: it can't be copied.
    pub columns: Vec<Option<Source>>,
    /// For each column asked for, its position in the file.
    pub roots: Vec<Option<usize>>,
    /// What its writer got wrong.
    pub flaws: Flaws,
}

/// A column of an input file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its leaves in the file.
    pub leaves: Range<usize>,
    /// The first of its leaves in the output.
    pub first_leaf: usize,
}

/// Flaws of a file that readers know by its writer's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flaws {
    /// Strings in DELTA_BYTE_ARRAY go on from page to page.
    pub delta_strings_run_on: bool,
    /// Data pages of version 2 are compressed whatever their headers say.
    pub v2_pages_lie: bool,
    /// Bounds of byte arrays are in the wrong order.
    pub bounds_of_bytes: bool,
}

impl Flaws {
    /// The flaws of files written by `created_by`, e.g. `parquet-mr version 1.7.0 (build abc)`.
    pub fn of(created_by: Option<&str>) -> Flaws {
        let text = created_by.unwrap_or_default().trim();
        let (name, version) = text.split_once(" version ").unwrap_or((text, ""));
        let mut numbers = version
            .split(|character: char| !character.is_ascii_digit())
            .map(|number| number.parse::<u32>().unwrap_or(0));
        let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        Flaws {
            delta_strings_run_on: text.is_empty() || (name == "parquet-mr" && version < (1, 8)),
            v2_pages_lie: text.is_empty() || name == "parquet-cpp",
            bounds_of_bytes: text.is_empty()
                || name == "parquet-cpp"
                || (name == "parquet-mr" && version < (1, 8)),
        }
    }
}

impl Form {
    /// Which of the first `columns` columns of the output can be copied from a file with this footer, as far as the
    /// schemas tell.
    pub fn origins(&self, columns: usize, file: &FileMetaData, schema: &Schema) -> Origins {
        let mut origins = Origins {
            columns: vec![None; columns],
            roots: vec![None; columns],
            flaws: Flaws::of(file.created_by()),
        };
        if !self.options.partition_by.is_empty() || !self.options.splice {
            return origins;
        }
        let theirs = file.schema_descr();
        let roots = leaves_of_roots(theirs);
        for (column, found) in origins.columns.iter_mut().enumerate() {
            let field = self.options.schema.field(column);
            let in_place = schema
                .fields()
                .get(column)
                .filter(|other| other.name() == field.name());
            let root = match in_place {
                Some(_) => Some(column),
                None => schema.index_of(field.name()).ok(),
            };
            origins.roots[column] = root;
            let Some(root) = root else { continue };
            let leaves = roots[root].clone();
            if same_type(schema.field(root).data_type(), field.data_type())
                && self.means_the_same(column, theirs, root, leaves.clone())
            {
                *found = Some(Source {
                    leaves,
                    first_leaf: self.roots[column].start,
                });
            }
        }
        origins
    }

    fn means_the_same(
        &self,
        column: usize,
        theirs: &SchemaDescriptor,
        root: usize,
        leaves: Range<usize>,
    ) -> bool {
        let ours = self.roots[column].clone();
        ours.len() == leaves.len()
            && !ours.is_empty()
            && ours
                .zip(leaves)
                .all(|(ours, leaf)| same_values(&theirs.column(leaf), &self.descriptor.column(ours)))
            && repetitions(&theirs.root_schema().get_fields()[root])
                == repetitions(&self.descriptor.root_schema().get_fields()[column])
    }

    /// Whether the output may have the chunk's codec.
    pub fn keeps_codec(&self, chunk: &ColumnChunkMetaData) -> bool {
        let codec = chunk.compression();
        match self.asked {
            Some(asked) => std::mem::discriminant(&asked) == std::mem::discriminant(&codec),
            None => writable(codec) == codec,
        }
    }

    /// What the output may say of the values of a chunk that becomes its leaf `leaf`. `order` is the order that the input
    /// declares for the column.
    pub fn summary(
        &self,
        leaf: usize,
        chunk: &ColumnChunkMetaData,
        order: ColumnOrder,
        flaws: Flaws,
    ) -> Summary {
        let ours = self.descriptor.column(leaf);
        let natural = ColumnOrder::column_order_for_type(
            ours.logical_type_ref(),
            ours.converted_type(),
            ours.physical_type(),
        );
        let is_bytes = matches!(
            ours.physical_type(),
            Physical::BYTE_ARRAY | Physical::FIXED_LEN_BYTE_ARRAY
        );
        let is_declared = match (order, natural) {
            (ColumnOrder::TYPE_DEFINED_ORDER(sort), ColumnOrder::IEEE_754_TOTAL_ORDER) => {
                sort == SortOrder::SIGNED
            }
            (order, natural) => order == natural && natural.sort_order() != SortOrder::UNDEFINED,
        };
        let keeps_bounds = is_declared && !(is_bytes && flaws.bounds_of_bytes);
        let is_type_ordered = keeps_bounds
            && natural == ColumnOrder::IEEE_754_TOTAL_ORDER
            && order != ColumnOrder::IEEE_754_TOTAL_ORDER;
        let statistics = chunk.statistics().filter(|statistics| is_sane(statistics, chunk));
        // Numbers in signed order are what the old fields always held.
        let is_signed_number = !is_bytes
            && ours.physical_type() != Physical::BOOLEAN
            && matches!(
                natural,
                ColumnOrder::IEEE_754_TOTAL_ORDER | ColumnOrder::TYPE_DEFINED_ORDER(SortOrder::SIGNED)
            );
        let statistics = statistics.map(|statistics| {
            let keeps = match statistics.is_min_max_deprecated() {
                true => is_signed_number,
                false => keeps_bounds,
            };
            if keeps {
                statistics.clone()
            } else {
                without_bounds(statistics)
            }
        });
        Summary {
            statistics,
            keeps_bounds,
            is_type_ordered,
        }
    }
}

/// Dictionaries and the width of offsets are Arrow's own: Parquet has one form for them.
fn same_type(theirs: &DataType, ours: &DataType) -> bool {
    match (theirs, ours) {
        (DataType::Dictionary(_, value), ours) if !matches!(ours, DataType::Dictionary(..)) => {
            **value == *ours
        }
        (theirs, ours) => theirs == ours,
    }
}

/// Whether the bytes of a value are the same in both columns and mean the same.
fn same_values(theirs: &ColumnDescriptor, ours: &ColumnDescriptor) -> bool {
    let physical = ours.physical_type();
    if physical == Physical::INT96
        || physical != theirs.physical_type()
        || (physical == Physical::FIXED_LEN_BYTE_ARRAY && theirs.type_length() != ours.type_length())
        || theirs.max_def_level() != ours.max_def_level()
        || theirs.max_rep_level() != ours.max_rep_level()
    {
        return false;
    }
    let is_interval = |column: &ColumnDescriptor| column.converted_type() == ConvertedType::INTERVAL;
    if is_interval(theirs) != is_interval(ours) {
        return false;
    }
    match (annotation(theirs), annotation(ours)) {
        (Some(LogicalType::_Unknown { .. }), _) | (_, Some(LogicalType::_Unknown { .. })) => false,
        (theirs, ours) if theirs == ours => true,
        // Bytes need not be text; text is bytes.
        (theirs, None | Some(LogicalType::Bson)) => {
            theirs.as_ref().is_none_or(is_text) && physical == Physical::BYTE_ARRAY
        }
        (Some(theirs), Some(ours)) if is_text(&theirs) && is_text(&ours) => true,
        (Some(LogicalType::Time(theirs)), Some(LogicalType::Time(ours))) => theirs.unit == ours.unit,
        _ => false,
    }
}

fn is_text(logical: &LogicalType) -> bool {
    matches!(
        logical,
        LogicalType::String | LogicalType::Json | LogicalType::Enum
    )
}

/// What a column's values stand for, beyond their physical type; in the new terms, and nothing where that says it all.
fn annotation(column: &ColumnDescriptor) -> Option<LogicalType> {
    let logical = column.logical_type_ref().cloned().or_else(|| {
        Some(match column.converted_type() {
            ConvertedType::UTF8 => LogicalType::String,
            ConvertedType::ENUM => LogicalType::Enum,
            ConvertedType::DECIMAL => LogicalType::decimal(column.type_scale(), column.type_precision()),
            ConvertedType::DATE => LogicalType::Date,
            ConvertedType::TIME_MILLIS => LogicalType::time(true, TimeUnit::MILLIS),
            ConvertedType::TIME_MICROS => LogicalType::time(true, TimeUnit::MICROS),
            ConvertedType::TIMESTAMP_MILLIS => LogicalType::timestamp(true, TimeUnit::MILLIS),
            ConvertedType::TIMESTAMP_MICROS => LogicalType::timestamp(true, TimeUnit::MICROS),
            ConvertedType::UINT_8 => LogicalType::integer(8, false),
            ConvertedType::UINT_16 => LogicalType::integer(16, false),
            ConvertedType::UINT_32 => LogicalType::integer(32, false),
            ConvertedType::UINT_64 => LogicalType::integer(64, false),
            ConvertedType::INT_8 => LogicalType::integer(8, true),
            ConvertedType::INT_16 => LogicalType::integer(16, true),
            ConvertedType::INT_32 => LogicalType::integer(32, true),
            ConvertedType::INT_64 => LogicalType::integer(64, true),
            ConvertedType::JSON => LogicalType::Json,
            ConvertedType::BSON => LogicalType::Bson,
            _ => return None,
        })
    });
    let width = match column.physical_type() {
        Physical::INT32 => 32,
        Physical::INT64 => 64,
        _ => 0,
    };
    logical.filter(|logical| match logical {
        LogicalType::Integer(int) => !(int.is_signed && i32::from(int.bit_width) == width),
        LogicalType::Uuid => false,
        _ => true,
    })
}

/// For each leaf what its levels count: the optional and repeated nodes on the way to it.
fn repetitions(root: &Type) -> Vec<Vec<Repetition>> {
    fn walk(node: &Type, above: &[Repetition], leaves: &mut Vec<Vec<Repetition>>) {
        let mut path = above.to_vec();
        let info = node.get_basic_info();
        if info.has_repetition() && info.repetition() != Repetition::REQUIRED {
            path.push(info.repetition());
        }
        if node.is_primitive() {
            leaves.push(path);
        } else {
            node.get_fields()
                .iter()
                .for_each(|child| walk(child, &path, leaves));
        }
    }
    let mut leaves = Vec::new();
    walk(root, &[], &mut leaves);
    leaves
}

/// Counts and lengths that can be true.
fn is_sane(statistics: &Statistics, chunk: &ColumnChunkMetaData) -> bool {
    let values = chunk.num_values().max(0) as u64;
    let counts = [
        statistics.null_count_opt(),
        statistics.distinct_count_opt(),
        statistics.nan_count_opt(),
    ];
    let length = chunk.column_descr().type_length();
    let has_length = |bound: Option<&[u8]>| {
        chunk.column_type() != Physical::FIXED_LEN_BYTE_ARRAY
            || bound.is_none_or(|bound| bound.len() as i64 <= i64::from(length))
    };
    counts.into_iter().flatten().all(|count| count <= values)
        && has_length(statistics.min_bytes_opt())
        && has_length(statistics.max_bytes_opt())
}

fn without_bounds(statistics: &Statistics) -> Statistics {
    let (distinct, nulls) = (statistics.distinct_count_opt(), statistics.null_count_opt());
    match statistics {
        Statistics::Boolean(_) => Statistics::boolean(None, None, distinct, nulls, false),
        Statistics::Int32(_) => Statistics::int32(None, None, distinct, nulls, false),
        Statistics::Int64(_) => Statistics::int64(None, None, distinct, nulls, false),
        Statistics::Int96(_) => Statistics::int96(None, None, distinct, nulls, false),
        Statistics::Float(_) => Statistics::float(None, None, distinct, nulls, false),
        Statistics::Double(_) => Statistics::double(None, None, distinct, nulls, false),
        Statistics::ByteArray(_) => Statistics::new::<ByteArray>(None, None, distinct, nulls, false),
        Statistics::FixedLenByteArray(_) => {
            Statistics::new::<FixedLenByteArray>(None, None, distinct, nulls, false)
        }
    }
}

/// A histogram of levels that can be true.
pub(super) fn sane_histogram(
    histogram: Option<&LevelHistogram>,
    max: i16,
    values: i64,
) -> Option<LevelHistogram> {
    histogram
        .filter(|histogram| {
            let counts = histogram.values();
            let sum = counts
                .iter()
                .try_fold(0i64, |sum, count| sum.checked_add(*count).filter(|_| *count >= 0));
            counts.len() == max as usize + 1 && sum == Some(values)
        })
        .cloned()
}
