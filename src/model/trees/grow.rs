//! From the node tables of a file to a [`Tree`] in which children stand behind their parents.
//!
//! A table is untrusted: its children may be anywhere, lead back, or meet again. What comes out of here is a tree that
//! ends on every path, with features that exist and no threshold that is not a number.

use super::document::damaged;
use super::forest::{Node, Split, Test, Tree};
use crate::error::Result;

/// A node of a table, with its children by their places in the table.
pub enum Entry {
    /// A test of one feature.
    Split {
        /// Index of the feature.
        feature: usize,
        /// What is to hold for a row to go left.
        test: Test,
        /// Where missing values go.
        missing_goes_left: bool,
        /// See [`Split::zero_is_missing`].
        zero_is_missing: bool,
        /// Children.
        left: usize,
        /// Children.
        right: usize,
    },
    /// What it gives to each target.
    Leaf(Vec<(u32, f64)>),
}

impl Entry {
    /// A split that every number passes on the left, whatever it tests: missing values go where they went.
    pub fn never_right(self) -> Entry {
        match self {
            Entry::Split {
                feature,
                missing_goes_left,
                zero_is_missing,
                left,
                right,
                ..
            } => Entry::Split {
                feature,
                test: Test::Less(f64::NEG_INFINITY),
                missing_goes_left: !missing_goes_left,
                zero_is_missing,
                left: right,
                right: left,
            },
            leaf => leaf,
        }
    }
}

/// The tree of a table with `count` nodes that begins at `root`. `most` is how many nodes it may have: more
/// than `count` where branches may meet again, since each then gets a copy.
///
/// # Errors
/// `Model`, for a table that is no tree.
pub fn tree(
    count: usize,
    features: usize,
    most: usize,
    root: usize,
    mut entry: impl FnMut(usize) -> Result<Entry>,
) -> Result<Tree> {
    if count == 0 {
        return Err(damaged("a tree has no nodes"));
    }
    let mut nodes: Vec<Node> = Vec::new();
    // Places in the table, in the order of `nodes`.
    let mut places = vec![root];
    let mut next = 0;
    while let Some(&place) = places.get(next) {
        next += 1;
        nodes.push(match entry(place)? {
            Entry::Leaf(weights) => Node::Leaf(weights),
            Entry::Split {
                feature,
                test,
                missing_goes_left,
                zero_is_missing,
                left,
                right,
            } => {
                if feature >= features {
                    return Err(damaged(&format!(
                        "node {place} of a tree asks for feature {feature}, and there are {features}"
                    )));
                }
                if let Some(child) = [left, right].into_iter().find(|&child| child >= count) {
                    return Err(damaged(&format!(
                        "node {place} of a tree of {count} has a branch to {child}"
                    )));
                }
                if places.len() + 2 > most {
                    return Err(damaged("branches of a tree meet again or lead back"));
                }
                let at = places.len() as u32;
                places.extend([left, right]);
                Node::Split(Split {
                    feature: feature as u32,
                    test: canonical(test),
                    missing_goes_left,
                    zero_is_missing,
                    left: at,
                    right: at + 1,
                })
            }
        });
    }
    Ok(Tree { nodes })
}

/// Nothing is less than NaN, and nothing is less than minus infinity.
fn canonical(test: Test) -> Test {
    match test {
        Test::Less(threshold) if threshold.is_nan() => Test::Less(f64::NEG_INFINITY),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(left: usize, right: usize) -> Entry {
        Entry::Split {
            feature: 0,
            test: Test::Less(f64::NAN),
            missing_goes_left: false,
            zero_is_missing: false,
            left,
            right,
        }
    }

    fn grow(table: &[(usize, usize)], most: usize) -> Result<Tree> {
        tree(table.len(), 1, most, 0, |place| {
            Ok(match table[place] {
                (0, 0) => Entry::Leaf(vec![(0, place as f64)]),
                (left, right) => split(left, right),
            })
        })
    }

    #[test]
    fn children_come_to_stand_behind_their_parents() {
        let tree = grow(&[(3, 1), (0, 0), (0, 0), (2, 4), (0, 0)], 5).unwrap();
        let shown: Vec<_> = tree
            .nodes
            .iter()
            .map(|node| match node {
                Node::Split(split) => (split.left, split.right, split.test.clone()),
                Node::Leaf(weights) => (0, 0, Test::Less(weights[0].1)),
            })
            .collect();
        let never = Test::Less(f64::NEG_INFINITY);
        assert_eq!(
            shown,
            [
                (1, 2, never.clone()),
                (3, 4, never),
                (0, 0, Test::Less(1.0)),
                (0, 0, Test::Less(2.0)),
                (0, 0, Test::Less(4.0))
            ]
        );
    }

    #[test]
    fn tables_that_are_no_trees_are_refused() {
        for (table, words) in [
            (vec![(1, 2), (0, 0)], "node 0 of a tree of 2 has a branch to 2"),
            (vec![(1, 2), (1, 2), (0, 0)], "meet again or lead back"),
            (vec![(1, 1), (0, 0)], "meet again or lead back"),
            (vec![], "a tree has no nodes"),
        ] {
            let error = grow(&table, table.len()).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        assert_eq!(grow(&[(1, 1), (0, 0)], 3).unwrap().nodes.len(), 3);
        let error = tree(1, 0, 9, 0, |_| Ok(split(0, 0))).unwrap_err().to_string();
        assert!(error.contains("asks for feature 0, and there are 0"), "{error}");
    }
}
