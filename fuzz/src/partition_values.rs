//! Values that become folders: whatever they are, a folder is one plain path segment per key, and what it says is what
//! the row holds.

use arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray,
};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit};
use floe::write::partition::{NO_VALUE, bind, parse, split};
use std::sync::Arc;

use super::input::Input;

/// Partition by a text, a number, an instant, a decimal.
const KEYS: usize = 4;

pub fn run(bytes: &[u8]) {
    // Folders that somebody else made.
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = parse(text);
    }
    let mut input = Input::new(bytes);
    let names: Vec<String> = (0..KEYS).map(|_| input.text()).collect();
    let zone = input.flag().then(|| Arc::from(input.text()));
    let (mut texts, mut numbers) = (Vec::new(), Vec::new());
    while !input.is_empty() && texts.len() < 64 {
        texts.push(input.flag().then(|| input.text()));
        numbers.push((!input.flag()).then(|| input.u64() as i64));
    }
    let decimals = Decimal128Array::from_iter(numbers.iter().map(|number| number.map(i128::from)));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(texts.clone())),
        Arc::new(Int64Array::from(numbers.clone())),
        Arc::new(TimestampNanosecondArray::from(numbers.clone()).with_timezone_opt(zone.clone())),
        Arc::new(
            decimals
                .with_precision_and_scale(38, 7)
                .expect("a legal precision"),
        ),
    ];
    let types = [
        DataType::Utf8,
        DataType::Int64,
        DataType::Timestamp(TimeUnit::Nanosecond, zone),
        DataType::Decimal128(38, 7),
    ];
    let fields: Vec<Field> = names
        .iter()
        .zip(types)
        .map(|(name, data_type)| Field::new(name, data_type, true))
        .collect();
    let schema = Arc::new(Schema::new(fields));
    let Ok(keys) = bind(&schema, &names) else { return };
    let rows = RecordBatch::try_new(schema, columns).expect("columns of the schema's types");
    let Ok(parts) = split(&rows, &keys) else { return };
    assert_eq!(
        parts.iter().map(|(_, rows)| rows.num_rows()).sum::<usize>(),
        texts.len()
    );
    for (folder, rows) in parts {
        let segments: Vec<&str> = folder.split('/').collect();
        assert_eq!(segments.len(), KEYS);
        assert!(
            segments
                .iter()
                .all(|name| !name.is_empty() && *name != "." && *name != ".."),
            "{folder:?}"
        );
        assert!(
            !folder
                .chars()
                .any(|character| character.is_control() || character == '\\'),
            "{folder:?}"
        );
        let said = parse(&folder).expect("a folder that Floe made");
        let position = |name: &String| {
            names
                .iter()
                .position(|other| other == name)
                .expect("a key of ours")
        };
        for (name, value) in said {
            for row in 0..rows.num_rows() {
                check(&rows, position(&name), row, value.as_deref());
            }
        }
    }
}

fn check(rows: &RecordBatch, column: usize, row: usize, said: Option<&str>) {
    let column = rows.column(column);
    let held = match column.data_type() {
        _ if column.is_null(row) => None,
        DataType::Utf8 => Some(column.as_string::<i32>().value(row).to_string()),
        DataType::Int64 => Some(column.as_primitive::<Int64Type>().value(row).to_string()),
        // How instants and decimals are printed is tested elsewhere; here it must not fail or hide a value.
        _ => return assert!(said.is_some()),
    };
    // The empty string, and the very text that stands for null, share null's folder.
    let held = held.filter(|text| !text.is_empty() && text != NO_VALUE);
    assert_eq!(said, held.as_deref());
}

pub fn seeds() -> Vec<Vec<u8>> {
    let text = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
    let names = [text("a"), text("b/c=d"), text("at"), text("%")].concat();
    let row =
        |value: &str, number: i64| [vec![1], text(value), vec![0], number.to_le_bytes().to_vec()].concat();
    vec![
        [
            names.clone(),
            vec![0],
            row("plain", 1),
            row("../x=%/\u{1}é", -5),
            row("", i64::MIN),
        ]
        .concat(),
        [
            names.clone(),
            vec![1],
            text("Europe/Berlin"),
            row(NO_VALUE, i64::MAX),
            vec![0, 1],
        ]
        .concat(),
        b"k=a%2Fb/n=1/z=__HIVE_DEFAULT_PARTITION__".to_vec(),
    ]
}
