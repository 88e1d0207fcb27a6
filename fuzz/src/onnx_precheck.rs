//! A model file before ONNX Runtime sees it: judged without a panic, and never by what it only declares.

use bytes::Bytes;
use floe::error::ErrorKind;
use floe::model::foreign;
use floe::model::onnx::graph;

pub fn run(bytes: &[u8]) {
    let _ = foreign::by_bytes(bytes);
    match graph::read(&Bytes::copy_from_slice(bytes)) {
        Ok(facts) => {
            assert!(!facts.inputs.is_empty() && !facts.outputs.is_empty() && !facts.opsets.is_empty());
            assert_eq!(
                graph::read(&Bytes::copy_from_slice(bytes)).expect("the same bytes"),
                facts
            );
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::Model, "{error}"),
    }
}

/// The small models of the project's tests.
pub fn seeds() -> Vec<Vec<u8>> {
    let models = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/models");
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/models");
    let mut found = Vec::new();
    for folder in [models, beside] {
        collect(folder.as_ref(), &mut found);
    }
    found.sort();
    found.dedup();
    found
}

const LARGEST_SEED: usize = 8 * 1024;

fn collect(folder: &std::path::Path, found: &mut Vec<Vec<u8>>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "onnx")
            && let Ok(bytes) = std::fs::read(&path)
            && bytes.len() <= LARGEST_SEED
        {
            found.push(bytes);
        }
    }
}
