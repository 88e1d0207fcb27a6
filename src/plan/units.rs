//! Input files → units: the smallest pieces that are committed.
//!
//! A unit should be small enough that a lost one is soon redone and that a replica can hold its output in memory,
//! and large enough that its file, its two requests and its record do not matter. So big files are split at row
//! groups, tiny files are grouped, and everything between is one unit a file. Only sizes decide, so the
//! units of an input are the same whoever cuts it.

use super::{Part, Unit};

/// Files larger than one and a half of this are split at row groups into pieces of about this many compressed bytes.
/// A lost unit then costs seconds for a table and a few minutes for text, and its output fits any worker's memory.
pub const SPLIT_BYTES: u64 = 8 << 20;

/// Files smaller than this are tiny: neighbours are grouped until they reach it. Kept low because a unit is also the
/// grain of sharing work out: a thousand texts may well be minutes of work.
pub const GROUP_BYTES: u64 = 1 << 20;

/// Most files in one unit, so that opening them does not dominate.
pub const GROUP_FILES: usize = 1000;

/// One row group as its footer describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowGroupShape {
    /// Rows.
    pub rows: u64,
    /// Compressed bytes of all its columns.
    pub bytes: u64,
}

/// Cuts files, given by their row groups and in the order of the plan's inputs, into units.
///
/// Guarantees: every row group of every file belongs to exactly one unit; a file without row groups belongs to one
/// unit as an empty part; ids are positions.
pub fn cut(files: &[Vec<RowGroupShape>]) -> Vec<Unit> {
    let mut units = Vec::new();
    let mut group = Unit::empty();
    for (file, row_groups) in files.iter().enumerate() {
        let bytes: u64 = row_groups.iter().map(|row_group| row_group.bytes).sum();
        if bytes >= GROUP_BYTES {
            units.extend(split(file as u32, row_groups, bytes));
            continue;
        }
        let is_full = group.bytes + bytes > GROUP_BYTES || group.parts.len() >= GROUP_FILES;
        if is_full && !group.parts.is_empty() {
            units.push(std::mem::replace(&mut group, Unit::empty()));
        }
        group.add(file as u32, 0, row_groups);
    }
    if !group.parts.is_empty() {
        units.push(group);
    }
    units.sort_by_key(|unit| (unit.parts[0].file, unit.parts[0].first));
    for (id, unit) in units.iter_mut().enumerate() {
        unit.id = id as u32;
    }
    units
}

/// Splits a file at row groups into pieces of nearly equal bytes.
fn split(file: u32, row_groups: &[RowGroupShape], bytes: u64) -> Vec<Unit> {
    let pieces = if bytes > SPLIT_BYTES + SPLIT_BYTES / 2 {
        bytes.div_ceil(SPLIT_BYTES)
    } else {
        1
    };
    let mut units = Vec::new();
    let (mut first, mut seen) = (0, 0);
    for (index, row_group) in row_groups.iter().enumerate() {
        seen += row_group.bytes;
        // The piece ends at the row group that crosses its share of the file.
        let share = bytes * (units.len() as u64 + 1) / pieces;
        if seen >= share || index + 1 == row_groups.len() {
            let mut unit = Unit::empty();
            unit.add(file, first as u32, &row_groups[first..=index]);
            units.push(unit);
            first = index + 1;
        }
    }
    units
}

impl Unit {
    fn empty() -> Unit {
        Unit {
            id: 0,
            parts: Vec::new(),
            rows: 0,
            bytes: 0,
        }
    }

    fn add(&mut self, file: u32, first: u32, row_groups: &[RowGroupShape]) {
        self.parts.push(Part {
            file,
            first,
            end: first + row_groups.len() as u32,
        });
        self.rows += row_groups.iter().map(|row_group| row_group.rows).sum::<u64>();
        self.bytes += row_groups.iter().map(|row_group| row_group.bytes).sum::<u64>();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn file(row_groups: &[(u64, u64)]) -> Vec<RowGroupShape> {
        row_groups
            .iter()
            .map(|&(rows, bytes)| RowGroupShape { rows, bytes })
            .collect()
    }

    fn parts(units: &[Unit]) -> Vec<Vec<(u32, u32, u32)>> {
        let part = |part: &Part| (part.file, part.first, part.end);
        units
            .iter()
            .map(|unit| unit.parts.iter().map(part).collect())
            .collect()
    }

    #[test]
    fn a_middling_file_is_one_unit_and_a_big_one_is_split_at_row_groups() {
        let middling = file(&[(10, SPLIT_BYTES / 2), (10, SPLIT_BYTES / 2)]);
        let big = file(&[(5, SPLIT_BYTES / 2); 6]);
        let units = cut(&[middling, big]);
        assert_eq!(
            parts(&units),
            [[(0, 0, 2)], [(1, 0, 2)], [(1, 2, 4)], [(1, 4, 6)]]
        );
        assert_eq!(units[3].rows, 10);
    }

    /// Failure matrix: 40.
    #[test]
    fn one_huge_row_group_stays_whole() {
        assert_eq!(parts(&cut(&[file(&[(1, SPLIT_BYTES * 10)])])), [[(0, 0, 1)]]);
    }

    /// Failure matrix: 41.
    #[test]
    fn tiny_files_are_grouped_around_big_ones() {
        let tiny = || file(&[(1, GROUP_BYTES / 4)]);
        let big = || file(&[(1, GROUP_BYTES)]);
        let units = cut(&[tiny(), big(), tiny(), tiny(), tiny(), tiny()]);
        assert_eq!(
            parts(&units),
            vec![
                vec![(0, 0, 1), (2, 0, 1), (3, 0, 1), (4, 0, 1)],
                vec![(1, 0, 1)],
                vec![(5, 0, 1)]
            ]
        );
    }

    /// Failure matrix: 38.
    #[test]
    fn files_without_rows_are_in_a_unit_too() {
        let units = cut(&[file(&[]), file(&[(0, 10)])]);
        assert_eq!(parts(&units), [[(0, 0, 0), (1, 0, 1)]]);
        assert_eq!(units[0].rows, 0);
    }

    /// Failure matrix: 41.
    #[test]
    fn a_unit_never_holds_more_files_than_it_may() {
        let units = cut(&vec![file(&[(1, 1)]); GROUP_FILES * 2 + 1]);
        assert_eq!(units.len(), 3);
    }

    fn any_files() -> impl Strategy<Value = Vec<Vec<RowGroupShape>>> {
        let bytes = prop_oneof![0..GROUP_BYTES, 0..SPLIT_BYTES * 4];
        let row_group = (0..1_000_000u64, bytes).prop_map(|(rows, bytes)| RowGroupShape { rows, bytes });
        proptest::collection::vec(proptest::collection::vec(row_group, 0..12), 0..40)
    }

    proptest! {
        #[test]
        fn units_cover_every_row_group_exactly_once(files in any_files()) {
            let units = cut(&files);
            let mut seen: BTreeMap<(u32, u32), usize> = BTreeMap::new();
            let mut empty_files = 0;
            for (id, unit) in units.iter().enumerate() {
                prop_assert_eq!(unit.id as usize, id);
                let (mut rows, mut bytes) = (0, 0);
                for part in &unit.parts {
                    empty_files += usize::from(part.first == part.end);
                    for row_group in part.first..part.end {
                        *seen.entry((part.file, row_group)).or_default() += 1;
                        let shape = files[part.file as usize][row_group as usize];
                        rows += shape.rows;
                        bytes += shape.bytes;
                    }
                }
                prop_assert_eq!((unit.rows, unit.bytes), (rows, bytes));
            }
            let expected: BTreeMap<(u32, u32), usize> = files
                .iter()
                .enumerate()
                .flat_map(|(file, groups)| (0..groups.len()).map(move |group| ((file as u32, group as u32), 1)))
                .collect();
            prop_assert_eq!(seen, expected);
            prop_assert_eq!(empty_files, files.iter().filter(|groups| groups.is_empty()).count());
        }

        #[test]
        fn no_unit_is_larger_than_twice_the_target_but_for_one_row_group(files in any_files()) {
            for unit in cut(&files) {
                let groups: u32 = unit.parts.iter().map(|part| part.end - part.first).sum();
                let largest = unit.parts.iter()
                    .flat_map(|part| &files[part.file as usize][part.first as usize..part.end as usize])
                    .map(|group| group.bytes)
                    .max()
                    .unwrap_or(0);
                prop_assert!(groups <= 1 || unit.bytes <= SPLIT_BYTES * 3 / 2 + largest);
            }
        }
    }
}
