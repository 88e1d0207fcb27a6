//! A model made by hand, tried with a real run over the iris rows: refused in words with nothing touched, or not.

use std::path::PathBuf;

use crate::bounded::{self, Ended};
use crate::onnx_bytes::{graph, model, node};
use crate::support::{floe, project};

/// Where the models and inputs of the tests lie.
pub fn fixtures() -> PathBuf {
    project().join("tests/fixtures/models")
}

/// Most memory that such a model may take: the program itself takes 40 MiB.
pub const MEMORY: u64 = 300 << 20;

/// A folder for a model, and the run that scores the iris rows with it.
pub struct Trial {
    pub folder: tempfile::TempDir,
}

impl Trial {
    pub fn new() -> Trial {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("m")).unwrap();
        Trial { folder }
    }

    pub fn of(model: &[u8]) -> Trial {
        let trial = Trial::new();
        std::fs::write(trial.model().join("model.onnx"), model).unwrap();
        trial
    }

    pub fn model(&self) -> PathBuf {
        self.folder.path().join("m")
    }

    pub fn output(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    pub fn run(&self) -> Ended {
        let mut command = floe(["run"]);
        command.arg("--model").arg(self.model());
        command.arg("--input").arg(fixtures().join("inputs/iris"));
        command.arg("--output").arg(self.output());
        command.current_dir(self.model());
        bounded::run(command)
    }

    /// Fails the test unless the model is refused with `words`, and nothing else happens.
    #[track_caller]
    pub fn refused(&self, name: &str, words: &[&str]) {
        let ended = self.run();
        let place = self.model().display().to_string();
        ended.fails(name, 7, words);
        ended.fails(name, 7, &[&place]);
        assert!(!self.output().exists(), "{name}: the output was touched");
        assert!(ended.peak_bytes < MEMORY, "{name}: {} bytes", ended.peak_bytes);
    }
}

/// `y = X + W`, with `weights` as the fields of the graph that say what W is.
pub fn adding(weights: &[Vec<u8>], parts: &[Vec<u8>]) -> Vec<u8> {
    let add = node("Add", &["X", "W"], &["y"], &[]);
    model(&graph(&[weights, &[add]].concat()), parts)
}

/// Four float32 that are one.
pub fn ones() -> Vec<u8> {
    1f32.to_le_bytes().repeat(4)
}
