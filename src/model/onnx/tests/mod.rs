//! Tests of ONNX models: on files made here byte by byte, and on the fixtures that real exporters made.

mod dense;
mod describe;
mod fixtures;
mod graph;
mod in_turn;
mod infer;
mod made;
mod refusals;
mod scaler;
mod shared;
mod sound;

use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::runtime;
use crate::error::Result;
use crate::model::{Loaded, ModelFiles, OpenOptions, open};

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/models")
        .join(path)
}

/// The files of a folder, or a single file.
fn read_files(location: &Path) -> ModelFiles {
    let mut files = BTreeMap::new();
    let paths: Vec<PathBuf> = if location.is_dir() {
        let entries = std::fs::read_dir(location).unwrap();
        entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file())
            .collect()
    } else {
        vec![location.to_path_buf()]
    };
    for path in paths {
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        files.insert(name, Bytes::from(std::fs::read(&path).unwrap()));
    }
    ModelFiles {
        location: location.display().to_string(),
        files,
    }
}

/// Where the library is looked for in tests: as the program does it, without an installation.
fn options() -> OpenOptions {
    let cache = runtime::cache_dir(|name| std::env::var_os(name));
    let given = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
    OpenOptions {
        onnxruntime_paths: runtime::default_candidates(None, cache.as_deref(), given.as_deref()),
        ..OpenOptions::default()
    }
}

fn open_fixture(path: &str) -> Result<Arc<dyn Loaded>> {
    open(read_files(&fixture(path)), &options())
}

fn opened(path: &str) -> Arc<dyn Loaded> {
    open_fixture(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn refusal(path: &str) -> String {
    match open_fixture(path) {
        Ok(_) => panic!("{path} was not refused"),
        Err(error) => error.to_string(),
    }
}
