//! Files in which a few bytes really stand for very many, with words of the errors that they must end in.
//!
//! The scenarios of `tests/it` use them as well, to see what a whole process takes.

use bytes::Bytes;
use std::io::{Read, Write};

use super::maker::*;

pub const MIB: u64 = 1 << 20;

/// A file, what it is, and words of the error.
pub struct Bomb {
    pub what: &'static str,
    pub file: Bytes,
    pub words: &'static [&'static str],
}

/// All of them.
pub fn all() -> Vec<Bomb> {
    const OPEN: &[&str] = &["declare 629145600 bytes for", "limit open pages", "row group 0"];
    const LIES: &[&str] = &[
        "more than the 1048576 bytes that it declares",
        "column n",
        "row group 0",
    ];
    const BLOCK: &[&str] = &[
        "decoded at once take up to",
        "limit decoded bytes of a block",
        "max_batch_rows",
    ];
    let many_pages: Vec<Column> = (0..10)
        .map(|index| Column {
            name: format!("c{index}"),
            ..compressed(ZSTD, 60 * MIB, &zstd(60 * MIB))
        })
        .collect();
    let one = |what, column: Column, rows: u64, words| Bomb {
        what,
        file: file(&[column], rows as i64),
        words,
    };
    vec![
        one(
            "an honest page of 600 MiB",
            compressed(ZSTD, 600 * MIB, &zstd(600 * MIB)),
            150 * MIB,
            OPEN,
        ),
        Bomb {
            what: "ten columns with a page of 60 MiB each",
            file: file(&many_pages, 60 * MIB as i64 / 4),
            words: OPEN,
        },
        one(
            "gzip of more than it declares",
            compressed(GZIP, MIB, &gzip(160 * MIB)),
            MIB / 4,
            LIES,
        ),
        one(
            "brotli of more than it declares",
            compressed(BROTLI, MIB, &brotli(160 * MIB)),
            MIB / 4,
            LIES,
        ),
        one(
            "zstandard of more than it declares",
            compressed(ZSTD, MIB, &zstd(160 * MIB)),
            MIB / 4,
            &["can't decode the row group", "row group 0"],
        ),
        one("a row of a billion items", items(1 << 30), 1, BLOCK),
        one(
            "a million rows of the same megabyte",
            repeated_text(MIB as usize, 1_000_000),
            1_000_000,
            BLOCK,
        ),
        one(
            "20,000 texts that begin like their neighbour",
            shared_beginnings(20_000),
            20_000,
            BLOCK,
        ),
    ]
}

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
pub fn zstd(bytes: u64) -> Vec<u8> {
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

/// A column of numbers in one page.
pub fn compressed(codec: i64, declared: u64, body: &[u8]) -> Column {
    let rows = (declared / 4) as i64;
    let header = data_header(declared as i64, body.len() as i64, rows, 0);
    Column {
        codec,
        ..column("n", INT32, rows, page(header, body))
    }
}

/// A list column of one row with so many items: the first begins the row.
fn items(count: u64) -> Column {
    let levels = [levels(&[(1, 0), (count - 1, 1)]), levels(&[(count, 1)])].concat();
    let body = [levels, vec![1], run(count, 0, 1)].concat();
    let pages = [
        dictionary_page(1, &7i32.to_le_bytes()),
        data_page(count as i64, RLE_DICTIONARY, &body),
    ];
    Column {
        repetition: REPEATED,
        has_dictionary: true,
        ..column("items", INT32, count as i64, pages.concat())
    }
}

/// Rows that all hold the one text of the dictionary.
pub fn repeated_text(bytes: usize, rows: u64) -> Column {
    let pages = [
        dictionary_page(1, &text(&vec![b'x'; bytes])),
        data_page(rows as i64, RLE_DICTIONARY, &[vec![1], run(rows, 0, 1)].concat()),
    ];
    Column {
        has_dictionary: true,
        ..column("t", BYTE_ARRAY, rows as i64, pages.concat())
    }
}

/// A megabyte of text, then rows that say "the same".
fn shared_beginnings(rows: u64) -> Column {
    let long = MIB as i64;
    let streams = [growing(rows, 0, long), growing(rows, long, -long)].concat();
    let body = [streams, vec![b'x'; long as usize]].concat();
    column(
        "t",
        BYTE_ARRAY,
        rows as i64,
        data_page(rows as i64, DELTA_BYTES, &body),
    )
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
