//! A few bytes that really stand for very many: each ends at a limit that the error names, and what only looks like it
//! passes.

use super::bomb_files::{MIB, all, compressed, repeated_text, zstd};
use super::maker::*;
use super::*;

/// Failure matrix: 24.
#[test]
fn bombs_end_at_a_limit_that_the_error_names() {
    for bomb in all() {
        println!("{}: {} bytes of file", bomb.what, bomb.file.len());
        is_refused(&bomb.file, bomb.words);
    }
}

#[test]
fn small_ones_of_the_same_make_are_fine() {
    let page = compressed(ZSTD, MIB, &zstd(MIB));
    let rows = page.values;
    assert_eq!(rows_of(&file(&[page], rows)), 256 * 1024);
    let texts = repeated_text(100, 100_000);
    assert_eq!(rows_of(&file(&[texts], 100_000)), 100_000);
}

#[test]
fn one_long_text_among_short_ones_is_fine() {
    // If each of the rows held the long one, it would be 64 GiB.
    let rows = 64 * 1024u64;
    let dictionary = dictionary_page(2, &[text(&vec![b'x'; MIB as usize]), text(b"short")].concat());
    let indices = [vec![1], run(1, 0, 1), run(rows - 1, 1, 1)].concat();
    let pages = [dictionary, data_page(rows as i64, RLE_DICTIONARY, &indices)].concat();
    let column = Column {
        has_dictionary: true,
        ..column("t", BYTE_ARRAY, rows as i64, pages)
    };
    assert_eq!(rows_of(&file(&[column], rows as i64)), rows as usize);
}

#[test]
fn small_row_groups_that_are_joined_share_the_limit() {
    // 180 rows of the same half of a MiB in each.
    let group = &[repeated_text(MIB as usize / 2, 180)][..];
    let few = file_of_groups(&[group; 2], 180, 360);
    assert_eq!(rows_of(&few), 360);
    let many = file_of_groups(&[group; 6], 180, 1080);
    is_refused(
        &many,
        &[
            "decoded at once take up to",
            "limit decoded bytes of a block",
            "row group",
        ],
    );
}
