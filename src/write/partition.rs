//! `output.partition_by`: rows go to `key=value` folders, named as Hive names them.
//!
//! [`bind`] finds the columns before work starts, [`split`] cuts a block of rows by their values. The columns stay
//! in the files: all input columns pass through, Snowflake's COPY reads nothing but the files' contents, and a
//! folder's name holds neither a type nor the difference between null and the empty string.
//!
//! What is in a folder is a function of the input alone: rows keep their order, folders come sorted by name.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{cast, take_record_batch};
use arrow::datatypes::*;
use arrow::row::{RowConverter, SortField};
use arrow::util::display::array_value_to_string;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::signature::find_column;

/// Folders that the rows of one unit may go to. Each is an open file with buffers for every column.
pub const MAX_FOLDERS: usize = 1000;

/// Stands for null and for the empty string.
pub const NO_VALUE: &str = "__HIVE_DEFAULT_PARTITION__";

/// Bytes of one `key=value`, as file systems allow for a name.
const MAX_NAME_BYTES: usize = 255;

/// Bytes of all folders of a path. Stores allow 1024 for a whole key; the rest is for the output and the file.
const MAX_FOLDER_BYTES: usize = 700;

/// Positions in `schema` of the columns `names`, each found exactly or ignoring case.
///
/// # Errors
/// `Config`, for a column that is not there, is named twice, or is of a type that makes no folder names.
pub fn bind(schema: &Schema, names: &[String]) -> Result<Vec<usize>> {
    let mut positions = Vec::with_capacity(names.len());
    for name in names {
        let wrong = |what: String| Error::config(format!("output.partition_by: {what}")).with("column", name);
        let Some(position) = find_column(schema, name)? else {
            let known: Vec<_> = schema
                .fields()
                .iter()
                .map(|field| field.name().as_str())
                .collect();
            let error = wrong(format!(
                "the input has no such column; it has {}",
                known.join(", ")
            ));
            return Err(error.with_hint(
                "folders are made of input columns: a row's folder must not depend on the model",
            ));
        };
        if positions.contains(&position) {
            return Err(wrong("the column is named twice".into()));
        }
        let field = schema.field(position);
        if field.name().is_empty() {
            return Err(wrong("a folder needs a column with a name".into()));
        }
        if !makes_names(field.data_type()) {
            return Err(wrong(format!("a column of type {} makes no folder names", field.data_type())).with_hint(
                "partition by integers, booleans, strings, dates, timestamps or decimals; of the others the same \
                 value can be written in several ways",
            ));
        }
        positions.push(position);
    }
    Ok(positions)
}

fn makes_names(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, value) => makes_names(value),
        DataType::Boolean | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) => true,
        other => other.is_integer() || other.is_decimal(),
    }
}

/// The rows of `batch` by folder (`key=value/key=value`), sorted by folder; rows keep their order.
///
/// # Errors
/// `Data`, when there are more than [`MAX_FOLDERS`] folders or a folder's name is too long.
pub fn split(batch: &RecordBatch, columns: &[usize]) -> Result<Vec<(String, RecordBatch)>> {
    let mut keys = Vec::with_capacity(columns.len());
    for &column in columns {
        let schema = batch.schema_ref();
        keys.push(Key::new(schema.field(column).name(), batch.column(column))?);
    }
    let mut rows_of: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for rows in rows_of_equal_values(&keys, batch.num_rows())? {
        let mut folder = String::new();
        for key in &keys {
            if !folder.is_empty() {
                folder.push('/');
            }
            key.push_name(rows[0] as usize, &mut folder)?;
        }
        if folder.len() > MAX_FOLDER_BYTES {
            return Err(Error::data(format!(
                "the folders {}… would take {} bytes, and {MAX_FOLDER_BYTES} are allowed",
                beginning(&folder),
                folder.len()
            ))
            .with_hint("partition by fewer columns or by shorter values"));
        }
        // Null and the empty string share a folder.
        rows_of.entry(folder).or_default().extend(rows);
        check_count(rows_of.len())?;
    }
    if rows_of.len() == 1 {
        return Ok(rows_of
            .into_keys()
            .map(|folder| (folder, batch.clone()))
            .collect());
    }
    for rows in rows_of.values_mut() {
        rows.sort_unstable();
    }
    // All rows are brought into the order of the folders at once; each folder is then a slice.
    let order = UInt32Array::from_iter_values(rows_of.values().flatten().copied());
    let ordered = take_record_batch(batch, &order).context(ErrorKind::Internal, "can't reorder rows")?;
    let mut start = 0;
    let mut parts = Vec::with_capacity(rows_of.len());
    for (folder, rows) in rows_of {
        parts.push((folder, ordered.slice(start, rows.len())));
        start += rows.len();
    }
    Ok(parts)
}

/// Whether one unit may have rows in `folders` folders.
///
/// # Errors
/// `Data`, naming the limit.
pub fn check_count(folders: usize) -> Result<()> {
    if folders <= MAX_FOLDERS {
        return Ok(());
    }
    Err(Error::data(format!(
        "the rows of one unit go to more than {MAX_FOLDERS} folders, which is the limit"
    ))
    .with_hint("partition by columns with fewer values (output.partition_by), or sort the input by them"))
}

/// Groups of equal values, in the order in which they appear first; each lists its rows in order.
fn rows_of_equal_values(keys: &[Key], rows: usize) -> Result<Vec<Vec<u32>>> {
    let fields = keys
        .iter()
        .map(|key| SortField::new(key.values.data_type().clone()))
        .collect();
    let converter =
        RowConverter::new(fields).context(ErrorKind::Internal, "can't encode partition columns")?;
    let values: Vec<_> = keys.iter().map(|key| key.values.clone()).collect();
    let encoded = converter
        .convert_columns(&values)
        .context(ErrorKind::Internal, "can't encode partition columns")?;
    let mut groups: Vec<Vec<u32>> = Vec::new();
    let mut group_of = HashMap::new();
    for row in 0..rows {
        let group = *group_of.entry(encoded.row(row).data()).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        let row = u32::try_from(row).context(ErrorKind::Internal, "a block has too many rows")?;
        groups[group].push(row);
    }
    Ok(groups)
}

/// A column that makes folder names.
struct Key<'a> {
    name: &'a str,
    /// Without a dictionary.
    values: ArrayRef,
}

impl<'a> Key<'a> {
    fn new(name: &'a str, column: &ArrayRef) -> Result<Key<'a>> {
        let values = match column.data_type() {
            DataType::Dictionary(_, value) => cast(column, value)
                .context(ErrorKind::Internal, "can't look up the values of a dictionary")?,
            _ => column.clone(),
        };
        Ok(Key { name, values })
    }

    /// Appends `key=value` for the value at `row`.
    fn push_name(&self, row: usize, folder: &mut String) -> Result<()> {
        let start = folder.len();
        escape(self.name, folder);
        folder.push('=');
        match text(&self.values, row)? {
            Some(text) if !text.is_empty() => escape(&text, folder),
            _ => folder.push_str(NO_VALUE),
        }
        let name = &folder[start..];
        if name.len() > MAX_NAME_BYTES {
            return Err(Error::data(format!(
                "the folder {}… would take {} bytes, and {MAX_NAME_BYTES} are allowed",
                beginning(name),
                name.len()
            ))
            .with("column", self.name)
            .with_hint("partition by a column with shorter values"));
        }
        Ok(())
    }
}

fn beginning(text: &str) -> String {
    text.chars().take(40).collect()
}

/// A value as folder names write it, before escaping; `None` for null.
fn text(values: &ArrayRef, row: usize) -> Result<Option<String>> {
    const DAY_MILLIS: i64 = 86_400_000;
    if values.is_null(row) {
        return Ok(None);
    }
    let instant = |count: i64, per_second: i64| instant_text(count, per_second);
    Ok(Some(match values.data_type() {
        DataType::Date32 => date_text(values.as_primitive::<Date32Type>().value(row).into()),
        DataType::Date64 => date_text(
            values
                .as_primitive::<Date64Type>()
                .value(row)
                .div_euclid(DAY_MILLIS),
        ),
        DataType::Timestamp(TimeUnit::Second, _) => {
            instant(values.as_primitive::<TimestampSecondType>().value(row), 1)
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => instant(
            values.as_primitive::<TimestampMillisecondType>().value(row),
            1_000,
        ),
        DataType::Timestamp(TimeUnit::Microsecond, _) => instant(
            values.as_primitive::<TimestampMicrosecondType>().value(row),
            1_000_000,
        ),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => instant(
            values.as_primitive::<TimestampNanosecondType>().value(row),
            1_000_000_000,
        ),
        _ => array_value_to_string(values, row)
            .context(ErrorKind::Internal, "can't print a partition value")?,
    }))
}

/// `2013-01-31`, proleptic Gregorian; the day is counted from 1970-01-01.
///
/// Arrow's own printing refuses days beyond its calendar and zones it has no table of.
fn date_text(day: i64) -> String {
    // Counted from 0000-03-01, eras of 400 years repeat exactly and leap days come last.
    const ERA_DAYS: i64 = 146_097;
    let day = day + 719_468;
    let (era, day_of_era) = (day.div_euclid(ERA_DAYS), day.rem_euclid(ERA_DAYS));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let months_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * months_from_march + 2) / 5 + 1;
    let month = if months_from_march < 10 {
        months_from_march + 3
    } else {
        months_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let sign = if year < 0 { "-" } else { "" };
    format!("{sign}{:04}-{month:02}-{day_of_month:02}", year.abs())
}

/// `2013-01-31 23:59:59.5` in UTC, without zeros at the end of the fraction.
fn instant_text(count: i64, per_second: i64) -> String {
    let (seconds, fraction) = (count.div_euclid(per_second), count.rem_euclid(per_second));
    let (day, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let mut text = format!("{} {hour:02}:{minute:02}:{second:02}", date_text(day));
    if fraction > 0 {
        let digits = per_second.ilog10() as usize;
        let fraction = format!("{fraction:0digits$}");
        text.push('.');
        text.push_str(fraction.trim_end_matches('0'));
    }
    text
}

/// Appends `text` with all that Hive escapes as `%XX`, and the control characters that it doesn't.
fn escape(text: &str, out: &mut String) {
    for character in text.chars() {
        if character.is_control() || ESCAPED.contains(character) {
            for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                write!(out, "%{byte:02X}").expect("a string takes everything");
            }
        } else {
            out.push(character);
        }
    }
}

const ESCAPED: &str = "\"#%'*/:=?\\{[]^";

/// Keys and values of a folder made by [`split`]; a value is `None` for null and the empty string.
///
/// `None`, when it is no such folder.
pub fn parse(folder: &str) -> Option<Vec<(String, Option<String>)>> {
    let unescape = |text| percent_encoding::percent_decode_str(text).decode_utf8().ok();
    let mut keys = Vec::new();
    for name in folder.split('/') {
        let (key, value) = name.split_once('=')?;
        let value = if value == NO_VALUE {
            None
        } else {
            Some(unescape(value)?.into_owned())
        };
        keys.push((unescape(key)?.into_owned(), value));
    }
    Some(keys)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::*;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(name, column)| (name, column, true)),
        )
        .unwrap()
    }

    fn folders(column: ArrayRef) -> Vec<String> {
        let parts = split(&batch(vec![("k", column)]), &[0]).unwrap();
        parts.into_iter().map(|(folder, _)| folder).collect()
    }

    /// Failure matrix: 65.
    #[test]
    fn values_of_every_type_are_written_plainly() {
        let cases: Vec<(ArrayRef, &[&str])> = vec![
            (
                Arc::new(Int64Array::from(vec![Some(-7), None, Some(10)])),
                &["k=-7", "k=10", "k=__HIVE_DEFAULT_PARTITION__"],
            ),
            (
                Arc::new(UInt64Array::from(vec![u64::MAX])),
                &["k=18446744073709551615"],
            ),
            (
                Arc::new(BooleanArray::from(vec![true, false])),
                &["k=false", "k=true"],
            ),
            (
                Arc::new(StringViewArray::from(vec!["JFK", ""])),
                &["k=JFK", "k=__HIVE_DEFAULT_PARTITION__"],
            ),
            (
                Arc::new(Date32Array::from(vec![0, -1, 19_782, 2_932_897])),
                &["k=10000-01-01", "k=1969-12-31", "k=1970-01-01", "k=2024-02-29"],
            ),
            (
                Arc::new(Date64Array::from(vec![-1, 86_400_000])),
                &["k=1969-12-31", "k=1970-01-02"],
            ),
            (
                Arc::new(TimestampSecondArray::from(vec![-1])),
                &["k=1969-12-31 23%3A59%3A59"],
            ),
            (
                Arc::new(
                    TimestampMicrosecondArray::from(vec![1_500_000, 1_000_001])
                        .with_timezone("Europe/Berlin"),
                ),
                &["k=1970-01-01 00%3A00%3A01.000001", "k=1970-01-01 00%3A00%3A01.5"],
            ),
            (
                Arc::new(
                    Decimal128Array::from(vec![150, -5])
                        .with_precision_and_scale(10, 2)
                        .unwrap(),
                ),
                &["k=-0.05", "k=1.50"],
            ),
            (
                Arc::new(DictionaryArray::new(
                    Int8Array::from(vec![1, 0, 1]),
                    Arc::new(StringArray::from(vec!["b", "a"])),
                )),
                &["k=a", "k=b"],
            ),
        ];
        for (column, expected) in cases {
            assert_eq!(folders(column.clone()), expected, "{}", column.data_type());
        }
    }

    /// Failure matrix: 65.
    #[test]
    fn what_could_lead_elsewhere_is_escaped() {
        let odd = "a/../b=c%\\:\"'#*?{[]^\u{1}\u{7f}\u{85}\n é ~}.";
        let found = folders(Arc::new(StringArray::from(vec![odd])));
        assert_eq!(
            found,
            ["k=a%2F..%2Fb%3Dc%25%5C%3A%22%27%23%2A%3F%7B%5B%5D%5E%01%7F%C2%85%0A é ~}."]
        );
        assert_eq!(folders(Arc::new(StringArray::from(vec![".."]))), ["k=.."]);
        let column: ArrayRef = Arc::new(StringArray::from(vec!["v"]));
        assert_eq!(
            split(&batch(vec![("a/b=c", column)]), &[0]).unwrap()[0].0,
            "a%2Fb%3Dc=v"
        );
    }

    #[test]
    fn rows_keep_their_order_and_folders_are_sorted() {
        let key: ArrayRef = Arc::new(StringArray::from(vec![
            Some("b"),
            Some("a"),
            None,
            Some("b"),
            Some(""),
            Some("a"),
            None,
        ]));
        let second: ArrayRef = Arc::new(Int32Array::from(vec![1, 1, 1, 1, 1, 2, 1]));
        let row: ArrayRef = Arc::new(Int64Array::from_iter_values(0..7));
        let batch = batch(vec![("row", row), ("n", second), ("k", key)]);
        let parts = split(&batch, &[2, 1]).unwrap();
        let found: Vec<_> = parts
            .iter()
            .map(|(folder, rows)| {
                (
                    folder.as_str(),
                    rows.column(0).as_primitive::<Int64Type>().values().to_vec(),
                )
            })
            .collect();
        assert_eq!(
            found,
            [
                ("k=__HIVE_DEFAULT_PARTITION__/n=1", vec![2, 4, 6]),
                ("k=a/n=1", vec![1]),
                ("k=a/n=2", vec![5]),
                ("k=b/n=1", vec![0, 3]),
            ]
        );
        // The columns stay inside, null and the empty string apart.
        assert_eq!(parts[0].1.schema(), batch.schema());
        assert!(parts[0].1.column(2).is_null(0) && parts[0].1.column(2).is_valid(1));
        assert!(split(&batch.slice(0, 0), &[2]).unwrap().is_empty());
    }

    /// Failure matrix: 65, 66.
    #[test]
    fn too_many_folders_and_too_long_names_are_refused() {
        let keys = |count: i32| -> ArrayRef { Arc::new(Int32Array::from_iter_values(0..count)) };
        assert_eq!(folders(keys(1000)).len(), 1000);
        let error = split(&batch(vec![("k", keys(1001))]), &[0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
        assert!(error.to_string().contains("more than 1000 folders"), "{error}");
        let long = |bytes: usize| {
            batch(vec![(
                "k",
                Arc::new(StringArray::from(vec!["x".repeat(bytes)])) as ArrayRef,
            )])
        };
        assert_eq!(split(&long(253), &[0]).unwrap()[0].0.len(), 255);
        let error = split(&long(254), &[0]).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("would take 256 bytes, and 255 are allowed (column k)"),
            "{error}"
        );
        let error = split(&long(253), &[0, 0, 0]).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("would take 767 bytes, and 700 are allowed"),
            "{error}"
        );
    }

    #[test]
    fn columns_are_found_and_checked_before_work_starts() {
        let schema = Schema::new(vec![
            Field::new("Origin", DataType::Utf8, true),
            Field::new("delay", DataType::Float64, true),
            Field::new("tags", DataType::new_list(DataType::Utf8, true), true),
            Field::new(
                "day",
                DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Date32)),
                true,
            ),
        ]);
        let bind = |names: &[&str]| {
            bind(
                &schema,
                &names.iter().map(|name| name.to_string()).collect::<Vec<_>>(),
            )
        };
        assert_eq!(bind(&["day", "origin"]).unwrap(), [3, 0]);
        for (names, message) in [
            (
                &["dest"][..],
                "the input has no such column; it has Origin, delay, tags, day (column dest); folders are made of input columns",
            ),
            (&["origin", "Origin"], "named twice"),
            (&["delay"], "a column of type Float64 makes no folder names"),
            (&["tags"], "makes no folder names"),
        ] {
            let error = bind(names).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(message), "{error}");
        }
    }

    #[test]
    fn dates_count_on_from_day_to_day() {
        const ERA_DAYS: i64 = 146_097;
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for count in 0..=ERA_DAYS {
            assert_eq!(date_text(count), format!("{year}-{month:02}-{day:02}"));
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let days = [31, 28 + i32::from(leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
            (day, month) = if day < days[month - 1] {
                (day + 1, month)
            } else {
                (1, month + 1)
            };
            (year, month) = if month > 12 { (year + 1, 1) } else { (year, month) };
        }
        assert_eq!(date_text(-719_528), "0000-01-01");
        assert_eq!(date_text(-719_529), "-0001-12-31");
        assert_eq!(date_text(i32::MAX.into()), "5881580-07-11");
        assert_eq!(date_text(i32::MIN.into()), "-5877641-06-23");
    }

    proptest! {
        /// Failure matrix: 65.
        #[test]
        fn folders_say_what_they_hold(
            names in prop::collection::vec("[^\\PC]{1,6}|[ -~]{1,6}", 2),
            values in prop::collection::vec((prop::option::of(any::<String>()), any::<i64>()), 1..20),
        ) {
            let texts: ArrayRef = Arc::new(StringArray::from_iter(values.iter().map(|(text, _)| text.as_deref())));
            let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(values.iter().map(|(_, number)| number % 3)));
            let schema = Schema::new(vec![Field::new(&names[0], DataType::Utf8, true), Field::new(&names[1], DataType::Int64, true)]);
            let batch = RecordBatch::try_new(Arc::new(schema), vec![texts, numbers]).unwrap();
            let Ok(parts) = split(&batch, &[0, 1]) else {
                // Only names can be too long here: 6 characters and a string of any length.
                prop_assert!(values.iter().any(|(text, _)| text.as_ref().is_some_and(|text| text.len() > 70)));
                return Ok(());
            };
            prop_assert_eq!(parts.iter().map(|(_, rows)| rows.num_rows()).sum::<usize>(), values.len());
            for (folder, rows) in parts {
                prop_assert!(folder.split('/').all(|name| name != "." && name != ".."));
                prop_assert!(!folder.chars().any(char::is_control));
                let keys = parse(&folder).unwrap();
                prop_assert_eq!((&keys[0].0, &keys[1].0), (&names[0], &names[1]));
                for row in 0..rows.num_rows() {
                    let texts = rows.column(0).as_string::<i32>();
                    let text = (texts.is_valid(row) && !texts.value(row).is_empty()).then(|| texts.value(row).to_string());
                    prop_assert_eq!(&keys[0].1, &text.filter(|text| text != NO_VALUE));
                    let number = rows.column(1).as_primitive::<Int64Type>().value(row);
                    prop_assert_eq!(&keys[1].1, &Some(number.to_string()));
                }
            }
        }
    }
}
