//! A model file of XGBoost or LightGBM: read without a panic into trees that end, in memory that its size bounds.

use bytes::Bytes;
use floe::error::ErrorKind;
use floe::model::trees::backend;
use floe::model::trees::forest::{Node, Test};

/// Numbers that a model may keep for each byte of its file.
const MOST_PER_BYTE: usize = 8;

pub fn run(bytes: &[u8]) {
    let read = || backend::read(&Bytes::copy_from_slice(bytes), "model");
    match read() {
        Ok(ensemble) => {
            let forest = &ensemble.forest;
            let mut kept = 0;
            for (place, node) in forest.trees.iter().flat_map(|tree| tree.nodes.iter().enumerate()) {
                kept += 1;
                match node {
                    Node::Leaf(weights) => kept += weights.len(),
                    Node::Split(split) => {
                        assert!(split.left as usize > place && split.right as usize > place);
                        assert!((split.feature as usize) < forest.features);
                        if let Test::Member(set) = &split.test {
                            kept += set.len();
                        }
                    }
                }
            }
            assert!(
                kept <= MOST_PER_BYTE * bytes.len(),
                "{kept} of {} bytes",
                bytes.len()
            );
            for value in [0.0, -0.5, 3.0, f64::NAN, f64::INFINITY] {
                // A row costs as much as its features, which a file may announce at will.
                if forest.features < 1 << 12 && forest.targets < 1 << 12 {
                    let sums = forest.score_row(&vec![value; forest.features]);
                    assert_eq!(sums.len(), forest.targets);
                }
            }
            assert_eq!(
                format!("{:?}", read().expect("the same bytes")),
                format!("{ensemble:?}")
            );
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Model, "{error}");
            assert!(
                !error.to_string().contains('\n') || error.to_string().len() < 4096,
                "{error}"
            );
        }
    }
}

/// The small models of the project's tests.
pub fn seeds() -> Vec<Vec<u8>> {
    let models = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/models/trees");
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/models/trees");
    let mut found = Vec::new();
    for folder in [models, beside] {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            found.extend(std::fs::read(entry.path()));
        }
    }
    found.sort();
    found.dedup();
    found
}
