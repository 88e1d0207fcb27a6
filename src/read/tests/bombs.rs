//! A few bytes that really stand for very many: each ends at a limit that the error names.

use super::maker::*;
use super::*;
use std::io::{Read, Write};

const MIB: u64 = 1 << 20;

fn zeros(bytes: u64) -> impl Read {
    std::io::repeat(0).take(bytes)
}

fn gzip(bytes: u64) -> Vec<u8> {
    let mut encoder = flate2::read::GzEncoder::new(zeros(bytes), flate2::Compression::fast());
    let mut packed = Vec::new();
    encoder.read_to_end(&mut packed).unwrap();
    packed
}

fn brotli(bytes: u64) -> Vec<u8> {
    let mut packed = Vec::new();
    let mut encoder = ::brotli::CompressorWriter::new(&mut packed, 4096, 1, 22);
    std::io::copy(&mut zeros(bytes), &mut encoder).unwrap();
    encoder.flush().unwrap();
    drop(encoder);
    packed
}

/// A Zstandard frame of zeros: blocks of 128 KiB, each one byte repeated.
fn zstd(bytes: u64) -> Vec<u8> {
    const BLOCK: u64 = 128 * 1024;
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0xe0];
    frame.extend(bytes.to_le_bytes());
    let blocks = bytes.div_ceil(BLOCK);
    for block in 0..blocks {
        let (size, is_last) = (BLOCK.min(bytes - block * BLOCK), block + 1 == blocks);
        let header = ((size << 3) | (1 << 1) | u64::from(is_last)).to_le_bytes();
        frame.extend(&header[..3]);
        frame.push(0);
    }
    frame
}

fn compressed(codec: i64, declared: u64, body: &[u8]) -> Column {
    let rows = (declared / 4) as i64;
    let header = data_header(declared as i64, body.len() as i64, rows, 0);
    Column {
        codec,
        ..column("n", INT32, rows, page(header, body))
    }
}

#[test]
fn pages_that_honestly_become_very_much_are_refused_by_the_limit() {
    let small = compressed(ZSTD, MIB, &zstd(MIB));
    assert_eq!(rows_of(&file(&[small.clone()], small.values)), 256 * 1024);
    let large = compressed(ZSTD, 300 * MIB, &zstd(300 * MIB));
    is_refused(
        &file(&[large], 300 * MIB as i64 / 4),
        &["declare 314572800 bytes for", "limit open pages", "row group 0"],
    );
    // Each for itself is fine.
    let many: Vec<Column> = (0..10)
        .map(|index| Column {
            name: format!("c{index}"),
            ..compressed(ZSTD, 30 * MIB, &zstd(30 * MIB))
        })
        .collect();
    is_refused(
        &file(&many, 30 * MIB as i64 / 4),
        &["declare 314572800 bytes for", "limit open pages"],
    );
}

#[test]
fn pages_that_become_more_than_they_declare_are_caught_on_the_way() {
    for (codec, body) in [
        (GZIP, gzip(160 * MIB)),
        (BROTLI, brotli(160 * MIB)),
        (ZSTD, zstd(160 * MIB)),
    ] {
        let lies = compressed(codec, MIB, &body);
        let words = if codec == ZSTD {
            "can't decode the row group"
        } else {
            "more than the 1048576 bytes that it declares"
        };
        is_refused(&file(&[lies], MIB as i64 / 4), &[words, "row group 0"]);
    }
}

#[test]
fn a_billion_items_in_one_row_are_refused() {
    // A list column of one row: 2^30 items, the first of which begins the row.
    let items = 1u64 << 30;
    let body = [
        levels(&[(1, 0), (items - 1, 1)]),
        levels(&[(items, 1)]),
        vec![1],
        run(items, 0, 1),
    ]
    .concat();
    let chunk = [
        dictionary_page(1, &7i32.to_le_bytes()),
        data_page(items as i64, RLE_DICTIONARY, &body),
    ]
    .concat();
    let list = Column {
        repetition: REPEATED,
        has_dictionary: true,
        ..column("items", INT32, items as i64, chunk)
    };
    is_refused(
        &file(&[list], 1),
        &[
            "decoded at once take up to 4294967296 bytes",
            "limit decoded bytes of a block is 536870912",
            "column items",
            "max_batch_rows",
        ],
    );
}

fn repeated_text(bytes: usize, rows: u64) -> Column {
    let dictionary = dictionary_page(1, &text(&vec![b'x'; bytes]));
    let indices = data_page(rows as i64, RLE_DICTIONARY, &[vec![1], run(rows, 0, 1)].concat());
    Column {
        has_dictionary: true,
        ..column("t", BYTE_ARRAY, rows as i64, [dictionary, indices].concat())
    }
}

#[test]
fn a_huge_text_that_a_million_rows_repeat_is_refused() {
    let column = repeated_text(MIB as usize, 1_000_000);
    is_refused(
        &file(&[column], 1_000_000),
        &[
            "decoded at once take up to",
            "limit decoded bytes of a block",
            "column t",
        ],
    );
    let column = repeated_text(100, 100_000);
    assert_eq!(rows_of(&file(&[column], 100_000)), 100_000);
}

#[test]
fn one_long_text_among_short_ones_is_fine() {
    // If each of the rows held the long one, it would be 64 GiB.
    let rows = 64 * 1024u64;
    let dictionary = dictionary_page(2, &[text(&vec![b'x'; MIB as usize]), text(b"short")].concat());
    let indices = [vec![1], run(1, 0, 1), run(rows - 1, 1, 1)].concat();
    let chunk = [dictionary, data_page(rows as i64, RLE_DICTIONARY, &indices)].concat();
    let column = Column {
        has_dictionary: true,
        ..column("t", BYTE_ARRAY, rows as i64, chunk)
    };
    assert_eq!(rows_of(&file(&[column], rows as i64)), rows as usize);
}

#[test]
fn texts_that_repeat_their_neighbours_beginning_are_summed_up() {
    // A megabyte, then 20,000 times "the same".
    let (long, rows) = (MIB as i64, 20_000);
    let prefixes = growing(rows, 0, long);
    let suffixes = growing(rows, long, -long);
    let body = [prefixes, suffixes, vec![b'x'; long as usize]].concat();
    let column = column(
        "t",
        BYTE_ARRAY,
        rows as i64,
        data_page(rows as i64, DELTA_BYTES, &body),
    );
    is_refused(
        &file(&[column], rows as i64),
        &[
            "decoded at once take up to 2097",
            "limit decoded bytes of a block",
            "column t",
        ],
    );
}

/// A stream of lengths: the first, then ones that are all `step` more than it.
fn growing(count: u64, first: i64, step: i64) -> Vec<u8> {
    let mut stream = Vec::new();
    for value in [32 * 1024, 4, count] {
        varint(value, &mut stream);
    }
    zigzag(first, &mut stream);
    // Differences are packed in 21 bits above the least one: the first is `step`, the others 0.
    let least = step.min(0);
    zigzag(least, &mut stream);
    stream.extend([21; 4]);
    let mut bits = vec![0u8; 21 * (count - 1).next_multiple_of(8 * 1024) as usize / 8];
    for index in 0..count - 1 {
        let value = (if index == 0 { step } else { 0 } - least) as u64;
        for bit in 0..21 {
            let at = index * 21 + bit;
            bits[(at / 8) as usize] |= (((value >> bit) & 1) as u8) << (at % 8);
        }
    }
    stream.extend(bits);
    stream
}
