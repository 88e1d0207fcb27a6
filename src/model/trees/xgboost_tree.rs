//! One tree of an XGBoost model: lists of what its nodes hold, as `RegTree::LoadModel` reads them.
//!
//! A leaf has no left child. A split sends rows below its condition left; one by categories sends those in its set right. Lists
//! are checked against each other, and nothing that nodes could share is copied more than once.

use super::document::{At, Numbers};
use super::forest::{Test, Tree};
use super::grow::{self, Entry};
use crate::error::Result;

/// Categories from here on are taken for none: a float no longer holds every whole number.
const MOST_CATEGORIES: i32 = 1 << 24;

/// A tree as the file holds it: a list per property of its nodes.
pub struct Table<'a> {
    at: At<'a>,
    /// Numbers of a leaf with several.
    targets: usize,
    left: Vec<i32>,
    right: Vec<i32>,
    features: Vec<i32>,
    conditions: Numbers,
    default_left: Numbers,
    /// 1 for a split by categories.
    split_type: Vec<i32>,
    categories: Vec<i32>,
    /// For each node that splits by categories where its own begin and how many there are.
    segments: Vec<(i32, i32, i32)>,
    /// Leaves with several numbers: all of them, and whether they stand in the order of leaves or of nodes.
    vectors: Option<(Numbers, bool)>,
}

impl<'a> Table<'a> {
    /// Reads the tree at this place of the document.
    ///
    /// # Errors
    /// `Model`, when a list is missing or of another length than the others.
    pub fn read(at: &At<'a>, targets: usize) -> Result<Table<'a>> {
        let integers = |key: &str| at.find(key).map_or(Ok(Vec::new()), |list| list.integers());
        let param = at.get("tree_param")?;
        let width = param
            .find("size_leaf_vector")
            .map_or(Ok(1), |width| width.count())?;
        let vectors = match (width, at.find("leaf_weights")) {
            (0 | 1, _) => None,
            (width, _) if width != targets => {
                return Err(param.wrong(&format!("leaves of {width} numbers for {} targets", targets)));
            }
            (_, Some(leaves)) => Some((leaves.numbers()?, true)),
            (_, None) => Some((at.get("base_weights")?.numbers()?, false)),
        };
        let segments = std::iter::zip(integers("categories_nodes")?, integers("categories_segments")?)
            .zip(integers("categories_sizes")?)
            .map(|((node, start), size)| (node, start, size));
        let mut segments: Vec<_> = segments.collect();
        segments.sort_unstable();
        let left = at.get("left_children")?.integers()?;
        let table = Table {
            right: at.get("right_children")?.integers()?,
            features: at.get("split_indices")?.integers()?,
            conditions: at.get("split_conditions")?.numbers()?,
            default_left: at.get("default_left")?.numbers()?,
            split_type: match integers("split_type")? {
                // Before 1.3 there was one type.
                none if none.is_empty() => vec![0; left.len()],
                types => types,
            },
            categories: integers("categories")?,
            segments,
            vectors,
            at: at.clone(),
            targets,
            left,
        };
        let lengths = [
            ("right_children", table.right.len()),
            ("split_indices", table.features.len()),
            ("split_conditions", table.conditions.len()),
            ("default_left", table.default_left.len()),
            ("split_type", table.split_type.len()),
        ];
        // What several nodes shared would be copied for each of them.
        let in_sets: i64 = table
            .segments
            .iter()
            .map(|&(_, _, size)| i64::from(size.max(0)))
            .sum();
        let leaves = table.left.iter().filter(|&&left| left == -1).count();
        let in_leaves = leaves.saturating_mul(targets);
        if in_sets > table.categories.len() as i64 {
            return Err(at.wrong("sets of categories overlap"));
        }
        if table
            .vectors
            .as_ref()
            .is_some_and(|(vectors, _)| vectors.len() < in_leaves)
        {
            return Err(at.wrong(&format!("{leaves} leaves have fewer than {in_leaves} numbers")));
        }
        match lengths.iter().find(|(_, length)| *length != table.left.len()) {
            None => Ok(table),
            Some((list, length)) => Err(at.wrong(&format!(
                "{list} has {length} entries, and left_children {}",
                table.left.len()
            ))),
        }
    }

    /// The tree, which adds to `target` what its leaves hold, times `drop`.
    ///
    /// # Errors
    /// `Model`, for lists that are no tree of so many features.
    pub fn grow(&self, target: u32, drop: f32, features: usize) -> Result<Tree> {
        let count = self.left.len();
        grow::tree(count, features, count, 0, |place| self.entry(place, target, drop))
    }

    fn entry(&self, place: usize, target: u32, drop: f32) -> Result<Entry> {
        let condition = self.conditions.get(place).unwrap_or(f64::NAN) as f32;
        if self.left[place] == -1 {
            let scaled = |weight: f64| f64::from(weight as f32 * drop);
            let Some((vectors, by_leaf)) = &self.vectors else {
                return Ok(Entry::Leaf(vec![(target, scaled(f64::from(condition)))]));
            };
            let leaf = match by_leaf {
                true => usize::try_from(self.right[place]).unwrap_or(usize::MAX),
                false => place,
            };
            let mut weights = Vec::with_capacity(self.targets);
            for target in 0..self.targets {
                let weight = leaf
                    .checked_mul(self.targets)
                    .and_then(|start| vectors.get(start.checked_add(target)?))
                    .ok_or_else(|| self.at.wrong(&format!("the leaf {place} has no numbers")))?;
                weights.push((target as u32, scaled(weight)));
            }
            return Ok(Entry::Leaf(weights));
        }
        let child = |child: i32| {
            usize::try_from(child)
                .map_err(|_| self.at.wrong(&format!("node {place} has a branch to {child}")))
        };
        let (left, right) = (child(self.left[place])?, child(self.right[place])?);
        let feature = usize::try_from(self.features[place]).unwrap_or(usize::MAX);
        let missing_goes_left = self.default_left.get(place) != Some(0.0);
        if self.split_type[place] != 1 {
            return Ok(Entry::Split {
                feature,
                test: Test::Less(f64::from(condition)),
                missing_goes_left,
                zero_is_missing: false,
                left,
                right,
            });
        }
        // Rows whose category is in the set go right.
        Ok(Entry::Split {
            feature,
            test: Test::Member(self.category_set(place)?),
            missing_goes_left: !missing_goes_left,
            zero_is_missing: false,
            left: right,
            right: left,
        })
    }

    /// For each split whether it goes by categories, and its feature.
    pub fn splits(&self) -> impl Iterator<Item = (bool, i32)> + '_ {
        let splits = (0..self.left.len()).filter(|&place| self.left[place] != -1);
        splits.map(|place| (self.split_type[place] == 1, self.features[place]))
    }

    fn category_set(&self, place: usize) -> Result<Vec<u32>> {
        let wrong = |why: &str| {
            self.at
                .wrong(&format!("node {place} splits by categories, and {why}"))
        };
        let found = self
            .segments
            .binary_search_by_key(&(place as i64), |&(node, ..)| i64::from(node))
            .map_err(|_| wrong("the file has none for it"))?;
        let (_, start, size) = self.segments[found];
        let range = || {
            let start = usize::try_from(start).ok()?;
            self.categories
                .get(start..start.checked_add(usize::try_from(size).ok()?)?)
        };
        let mut set = Vec::new();
        for &category in range().ok_or_else(|| wrong("the file has fewer than it says"))? {
            if !(0..MOST_CATEGORIES).contains(&category) {
                return Err(wrong(&format!("{category} is none")));
            }
            set.push(category as u32);
        }
        set.sort_unstable();
        set.dedup();
        Ok(set)
    }
}
