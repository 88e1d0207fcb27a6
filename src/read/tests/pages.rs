//! Pages that are not what their headers say, or hold nonsense.

use super::maker::*;
use super::*;

fn ints(values: std::ops::Range<i32>) -> Vec<u8> {
    values.flat_map(i32::to_le_bytes).collect()
}

/// Failure matrix: 25.
#[test]
fn more_or_fewer_rows_than_the_footer_says_are_an_error() {
    let column = |values: i32| {
        column(
            "n",
            INT32,
            values.into(),
            data_page(values.into(), 0, &ints(0..values)),
        )
    };
    assert_eq!(rows_of(&file(&[column(5)], 5)), 5);
    is_refused(
        &file(&[column(4)], 5),
        &["holds 4 rows", "footer says 5", "row group 0"],
    );
    is_refused(
        &file(&[column(6)], 5),
        &["rows or more where the footer says 5", "row group 0"],
    );
    is_refused(
        &file(&[column(700)], 5),
        &["rows or more where the footer says 5", "row group 0"],
    );
}

/// Failure matrix: 25.
#[test]
fn columns_of_unequal_length_are_an_error() {
    let short = column("short", INT32, 3, data_page(3, 0, &ints(0..3)));
    let long = column("long", INT32, 5, data_page(5, 0, &ints(0..5)));
    is_refused(
        &file(&[long, short], 5),
        &["can't decode the row group", "row group 0"],
    );
}

/// Failure matrix: 24.
#[test]
fn a_page_that_declares_two_gibibytes_is_refused_before_memory_is_made() {
    for (codec, body) in [
        (SNAPPY, &b"\x0a\x24tiny"[..]),
        (GZIP, b"\x1f\x8b\x08"),
        (ZSTD, b"\x28\xb5\x2f\xfd"),
    ] {
        let header = data_header(i32::MAX.into(), body.len() as i64, 10, 0);
        let lies = Column {
            codec,
            ..column("n", INT32, 10, page(header, body))
        };
        is_refused(
            &file(&[lies], 10),
            &[
                "can't read page 0",
                "declares more bytes than its compression can make",
                "column n",
                "row group 0",
            ],
        );
    }
}

/// Failure matrix: 23.
#[test]
fn headers_that_reach_out_of_their_column_are_refused() {
    let long = page(data_header(40, 4000, 10, 0), &ints(0..10));
    is_refused(
        &file(&[column("n", INT32, 10, long)], 10),
        &["page is longer than its column chunk", "column n"],
    );
    let negative = page(data_header(40, -40, 10, 0), &ints(0..10));
    is_refused(
        &file(&[column("n", INT32, 10, negative)], 10),
        &["missing or negative"],
    );
    let negative = page(data_header(40, 40, -10, 0), &ints(0..10));
    is_refused(
        &file(&[column("n", INT32, 10, negative)], 10),
        &["missing or negative"],
    );
    let second = [data_page(10, 0, &ints(0..10)), vec![0x15, 0x80]].concat();
    is_refused(
        &file(&[column("n", INT32, 10, second)], 10),
        &["can't read page 1", "ends too early"],
    );
    let unknown = page(Struct::new().i32(1, 9).i32(2, 0).i32(3, 0), &[]);
    is_refused(&file(&[column("n", INT32, 10, unknown)], 10), &["unknown kind"]);
    // The crate reads a size whatever type it is said to be of.
    let other = page(Struct::new().i32(1, 0).i64(2, 40).i32(3, 40), &ints(0..10));
    is_refused(
        &file(&[column("n", INT32, 10, other)], 10),
        &["another type than it should be"],
    );
}

/// Failure matrix: 23.
#[test]
fn levels_longer_than_their_page_are_refused() {
    let v2 = Struct::new()
        .i32(1, 10)
        .i32(2, 0)
        .i32(3, 10)
        .i32(4, 0)
        .i32(5, 4000)
        .i32(6, 0)
        .flag(7, false);
    let header = Struct::new().i32(1, 3).i32(2, 40).i32(3, 40).sub(8, v2);
    is_refused(
        &file(&[column("n", INT32, 10, page(header, &ints(0..10)))], 10),
        &["levels are longer than the page"],
    );
    let body = [&4000u32.to_le_bytes()[..], &ints(0..10)].concat();
    let v1 = Column {
        repetition: OPTIONAL,
        ..column("n", INT32, 10, data_page(10, 0, &body))
    };
    is_refused(&file(&[v1], 10), &["a page's values are malformed", "column n"]);
}

/// Failure matrix: 24.
#[test]
fn a_dictionary_of_two_billion_values_in_eight_bytes_is_refused() {
    let chunk = [
        dictionary_page(i32::MAX.into(), &text(b"four")),
        data_page(1, RLE_DICTIONARY, &[0]),
    ]
    .concat();
    let lies = Column {
        has_dictionary: true,
        ..column("t", BYTE_ARRAY, 1, chunk)
    };
    is_refused(&file(&[lies], 1), &["a page's values are malformed", "column t"]);
}

/// Failure matrix: 23.
#[test]
fn an_index_that_the_dictionary_does_not_have_is_an_error() {
    let body = [vec![8], run(10, 7, 8)].concat();
    let chunk = [
        dictionary_page(1, &text(b"four")),
        data_page(10, RLE_DICTIONARY, &body),
    ]
    .concat();
    let lies = Column {
        has_dictionary: true,
        ..column("t", BYTE_ARRAY, 10, chunk)
    };
    is_refused(&file(&[lies], 10), &["can't decode the row group"]);
}

/// Failure matrix: 23.
#[test]
fn streams_of_lengths_are_no_longer_than_their_page() {
    // The crate makes room for as many lengths as a stream declares: these would be a terabyte.
    let endless = lengths(1 << 38, 0);
    let cut_off = endless[..20].to_vec();
    for encoding in [DELTA_LENGTH, DELTA_BYTES] {
        let lies = column("t", BYTE_ARRAY, 10, data_page(10, encoding, &cut_off));
        is_refused(
            &file(&[lies], 10),
            &["a page's values are malformed", "column t", "row group 0"],
        );
    }
    // The second stream of the two, behind an honest one.
    let second = [lengths(10, 0), cut_off].concat();
    let lies = column("t", BYTE_ARRAY, 10, data_page(10, DELTA_BYTES, &second));
    is_refused(&file(&[lies], 10), &["a page's values are malformed"]);
    let honest = [lengths(10, 0), lengths(10, 2), b"ab".repeat(10)].concat();
    assert_eq!(
        rows_of(&file(
            &[column("t", BYTE_ARRAY, 10, data_page(10, DELTA_BYTES, &honest))],
            10
        )),
        10
    );
    let honest = [lengths(10, 2), b"ab".repeat(10)].concat();
    assert_eq!(
        rows_of(&file(
            &[column("t", BYTE_ARRAY, 10, data_page(10, DELTA_LENGTH, &honest))],
            10
        )),
        10
    );
}

/// Failure matrix: 37.
#[test]
fn text_that_is_not_utf_8_is_an_error() {
    let utf8 = |bytes: &[u8]| Column {
        annotation: vec![(6, 0)],
        ..column("t", BYTE_ARRAY, 1, data_page(1, 0, &text(bytes)))
    };
    assert_eq!(rows_of(&file(&[utf8(b"ok")], 1)), 1);
    is_refused(
        &file(&[utf8(b"\xff\xfe")], 1),
        &["can't decode the row group", "UTF", "row group 0"],
    );
}

/// Found by fuzzing: the decoder lets it through, and a writer that believes in nine digits cuts off the others.
#[test]
fn a_decimal_of_more_digits_than_its_type_has_is_an_error() {
    let decimal = |last: i128| {
        let values = [1i128, -999_999_999, last];
        let body: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_be_bytes()[5..].to_vec())
            .collect();
        let decimal = Column {
            length: Some(11),
            annotation: vec![(6, 5), (7, 2), (8, 9)],
            ..column("amount", FIXED, 3, data_page(3, 0, &body))
        };
        file(&[decimal], 3)
    };
    assert_eq!(rows_of(&decimal(999_999_999)), 3);
    for last in [1_000_000_000, -1_000_000_000, 1 << 80] {
        is_refused(
            &decimal(last),
            &[
                "more digits than its type Decimal128(9, 2)",
                "column amount",
                "row group 0",
                "row 2",
            ],
        );
    }
}

/// Failure matrix: 31.
#[test]
fn an_int96_timestamp_that_nanoseconds_can_not_hold_is_an_error() {
    let at = |day: i32| [&0u64.to_le_bytes()[..], &day.to_le_bytes()].concat();
    let (in_2024, in_9999) = (at(2_460_311), at(5_373_484));
    let good = column(
        "at",
        INT96,
        2,
        data_page(2, 0, &[in_2024.clone(), in_2024.clone()].concat()),
    );
    assert_eq!(rows_of(&file(&[good], 2)), 2);
    let plain = column(
        "at",
        INT96,
        2,
        data_page(2, 0, &[in_2024.clone(), in_9999.clone()].concat()),
    );
    let chunk = [
        dictionary_page(1, &in_9999),
        data_page(2, RLE_DICTIONARY, &[vec![1], run(2, 0, 1)].concat()),
    ];
    let indexed = Column {
        has_dictionary: true,
        ..column("at", INT96, 2, chunk.concat())
    };
    for column in [plain, indexed] {
        is_refused(
            &file(&[column], 2),
            &[
                "Julian day 5373484 is out of range",
                "column at",
                "row group 0",
                "TIMESTAMP_MICROS",
            ],
        );
    }
}
