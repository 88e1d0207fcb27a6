//! Who may import whom (see ARCHITECTURE.md): read from the `use` lines, so that the table stays true.

use crate::support::project;
use std::path::{Path, PathBuf};

/// The layer of each module of the library.
const LAYERS: &[(&str, u8)] = &[
    ("error", 0),
    ("config", 0),
    ("tensor", 0),
    ("signature", 0),
    ("origin", 0),
    ("redact", 0),
    ("storage", 1),
    ("telemetry", 1),
    ("plan", 2),
    ("read", 2),
    ("decode", 2),
    ("model", 2),
    ("write", 2),
    ("commit", 2),
    ("job", 3),
    ("pipeline", 3),
];

/// Crates that only the modules named may see.
const RESERVED: &[(&str, &[&str])] = &[
    ("ort", &["model/onnx"]),
    ("prost", &["model/onnx", "model/native"]),
    ("parquet", &["read", "write"]),
    ("object_store", &["storage"]),
    ("reqwest", &["storage"]),
    ("aws_lc_rs", &["storage/snowflake"]),
    ("toml", &["storage/snowflake"]),
    ("indicatif", &["telemetry"]),
    ("candle_core", &["model/candle"]),
    ("candle_nn", &["model/candle"]),
    ("tokenizers", &["model/text"]),
    ("libloading", &["model/device"]),
    // Candle computes on the threads of the pool that it is called in.
    ("rayon", &["pipeline", "write", "model/candle"]),
];

fn layer(module: &str) -> u8 {
    let found = LAYERS.iter().find(|(name, _)| *name == module);
    found
        .unwrap_or_else(|| panic!("module {module} has no layer: add it to the table"))
        .1
}

fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The file's code, without its unit tests and comments.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap();
    code.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

fn is_word_at(text: &str, at: usize) -> bool {
    !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
}

#[test]
fn modules_import_only_from_their_layer_and_below() {
    let mut files = Vec::new();
    let root = project().join("src");
    sources(&root, &mut files);
    let mut faults = Vec::new();
    for path in files {
        let relative = path.strip_prefix(&root).unwrap().to_str().unwrap().to_string();
        let module = relative.split(['/', '.']).next().unwrap();
        if ["main", "lib", "cli", "environment", "launch", "signals"].contains(&module) {
            continue;
        }
        let is_test = ["/tests.rs", "/testing/", "/tests/"]
            .iter()
            .any(|part| relative.contains(part));
        let (own, code) = (layer(module), code(&path));
        for (at, _) in code.match_indices("crate::") {
            let rest = &code[at + "crate::".len()..];
            let target: String = rest
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            if target.is_empty() || target == module || !is_word_at(&code, at) {
                continue;
            }
            let theirs = layer(&target);
            let is_allowed =
                theirs < own || (theirs == own && own == 2) || (own == 3 && theirs <= 3) || theirs == 0;
            if !is_allowed && !is_test {
                faults.push(format!(
                    "{relative} (layer {own}) imports {target} (layer {theirs})"
                ));
            }
        }
        for (name, owners) in RESERVED {
            let uses = code
                .match_indices(&format!("{name}::"))
                .any(|(at, _)| is_word_at(&code, at));
            let may = owners.iter().any(|owner| relative.starts_with(owner));
            if uses && !may && !is_test {
                faults.push(format!(
                    "{relative} sees the crate {name}, which is for {}",
                    owners.join(", ")
                ));
            }
        }
        for reading in ["env::var", "env::vars", "env::args"] {
            if code.contains(reading) && !is_test {
                faults.push(format!("{relative} reads the environment"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
