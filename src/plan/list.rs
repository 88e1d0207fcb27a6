//! A listing → the input objects of a job: filtered, sorted by path, each once.

use globset::GlobBuilder;

use crate::error::{Error, Result};
use crate::storage::Listed;

/// What a listing came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// The input, sorted by path bytes.
    pub files: Vec<Listed>,
    /// Objects left out because their name, or a folder's on the way, starts with `.` or `_`.
    pub hidden: usize,
    /// Objects left out because they do not match the pattern.
    pub unmatched: usize,
    /// Objects left out because they belong to the job's own output.
    pub own_output: usize,
}

/// Chooses the input objects of a listing.
///
/// `pattern` is a glob over paths relative to the input location (`**` crosses folders, `*` does not); `None` takes
/// every object, for a location that is a single file. `output` is the path of the job's own output when that lies
/// within the input. Hidden names are left out; `_name=value` folders are partitions, not hidden.
///
/// # Errors
/// `Config` when the pattern cannot be read; `Data` when nothing is left, saying what was left out.
pub fn select(listed: Vec<Listed>, pattern: Option<&str>, output: Option<&str>) -> Result<Selection> {
    let matcher = pattern
        .map(|pattern| {
            GlobBuilder::new(pattern)
                .literal_separator(true)
                .build()
                .map(|glob| glob.compile_matcher())
                .map_err(|error| {
                    Error::config(format!("input.file_pattern: {pattern:?} is not a glob")).with_source(error)
                })
        })
        .transpose()?;
    let mut selection = Selection::default();
    for object in listed {
        if output.is_some_and(|output| is_within(&object.path, output)) {
            selection.own_output += 1;
        } else if pattern.is_some() && is_hidden(&object.path) {
            selection.hidden += 1;
        } else if matcher.as_ref().is_some_and(|glob| !glob.is_match(&object.path)) {
            selection.unmatched += 1;
        } else {
            selection.files.push(object);
        }
    }
    if selection.files.is_empty() {
        return Err(nothing_left(&selection, pattern.unwrap_or("**")));
    }
    selection
        .files
        .sort_by(|a, b| a.path.as_bytes().cmp(b.path.as_bytes()));
    selection.files.dedup_by(|a, b| a.path == b.path);
    Ok(selection)
}

fn is_within(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn is_hidden(path: &str) -> bool {
    path.split('/')
        .any(|segment| segment.starts_with('.') || (segment.starts_with('_') && !segment.contains('=')))
}

fn nothing_left(selection: &Selection, pattern: &str) -> Error {
    let Selection {
        hidden,
        unmatched,
        own_output,
        ..
    } = selection;
    let error = Error::data("the input holds no files to read");
    if hidden + unmatched + own_output == 0 {
        return error.with_hint("the folder is empty: check input.stage_location");
    }
    error.with_hint(format!(
        "left out: {unmatched} that do not match input.file_pattern {pattern:?}, {hidden} hidden \
         (names that start with '.' or '_'), {own_output} of the job's own output"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn object(path: &str) -> Listed {
        Listed {
            path: path.into(),
            size: 1,
            etag: None,
            modified: String::new(),
        }
    }

    fn chosen(paths: &[&str], pattern: &str, output: Option<&str>) -> Vec<String> {
        let listed = paths.iter().map(|path| object(path)).collect();
        let selection = select(listed, Some(pattern), output).unwrap();
        selection.files.into_iter().map(|file| file.path).collect()
    }

    #[test]
    fn folders_are_searched_and_hidden_names_left_out() {
        let paths = [
            "b.parquet",
            "a/c.parquet",
            "_SUCCESS",
            "_floe/x.parquet",
            ".tmp/y.parquet",
            "a/.z.parquet",
            "_day=1/d.parquet",
            "readme.md",
            "_metadata.parquet",
        ];
        assert_eq!(
            chosen(&paths, "**/*.parquet", None),
            ["_day=1/d.parquet", "a/c.parquet", "b.parquet"]
        );
        assert_eq!(chosen(&paths, "*.parquet", None), ["b.parquet"]);
    }

    /// Failure matrix: 70.
    #[test]
    fn the_jobs_own_output_is_left_out_and_its_neighbour_is_not() {
        let paths = ["out/a.parquet", "output.parquet", "in.parquet"];
        assert_eq!(
            chosen(&paths, "**/*.parquet", Some("out")),
            ["in.parquet", "output.parquet"]
        );
    }

    /// Failure matrix: 39.
    #[test]
    fn an_empty_input_says_what_was_left_out() {
        let error = select(
            vec![object("a.csv"), object("_x/b.parquet")],
            Some("**/*.parquet"),
            None,
        );
        let text = error.unwrap_err().to_string();
        assert!(text.contains("1 that do not match"), "{text}");
        assert!(text.contains("1 hidden"), "{text}");
    }

    #[test]
    fn a_broken_pattern_names_its_key() {
        let error = select(vec![object("a")], Some("a{"), None)
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("input.file_pattern"), "{error}");
    }

    proptest! {
        #[test]
        fn the_order_of_a_listing_does_not_matter(
            (sorted, shuffled) in proptest::collection::vec("[a-c/_]{1,6}", 1..20)
                .prop_flat_map(|paths| (Just(paths.clone()), Just(paths).prop_shuffle()))
        ) {
            let run = |paths: Vec<String>| {
                let listed = paths.iter().map(|path| object(path)).collect();
                select(listed, Some("**"), None).map(|s| s.files).map_err(|e| e.to_string())
            };
            prop_assert_eq!(run(sorted), run(shuffled));
        }
    }
}
