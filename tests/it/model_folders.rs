//! A model's folder is as untrusted as the model: what lies beside it, where its links lead, how large its files are.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use crate::model_trial::{MEMORY, Trial, adding, ones};
use crate::onnx_bytes::*;
use crate::support::project;
use floe::storage::{Storage, Variables};

/// Failure matrix: 53.
#[test]
fn a_library_in_the_models_folder_is_never_loaded() {
    let weights = field(5, tensor("W", FLOAT, &[4], &ones()));
    let trial = Trial::of(&adding(&[weights], &[]));
    // Whoever loads one of these fails at once; the process even stands in their folder.
    for name in [
        "libonnxruntime.so",
        "libonnxruntime.so.1",
        "libonnxruntime.so.1.31.1",
        "libonnxruntime_providers_shared.so",
        "libcustom_ops.so",
        "custom_ops.dll",
    ] {
        std::fs::write(trial.model().join(name), b"\x7fELF not a library").unwrap();
    }
    let ended = trial.run();
    assert_eq!(ended.code, Some(0), "{}", ended.said());
    // And a model that asks for one is refused with the library beside it.
    let custom = model(&graph(&[node_of("custom_ops", "Run", &["X"], &["y"], &[])]), &[]);
    std::fs::write(trial.model().join("model.onnx"), custom).unwrap();
    std::fs::remove_dir_all(trial.output()).unwrap();
    trial.refused("a custom operator", &["custom_ops", "Floe never loads one"]);
}

/// Failure matrix: 53.
#[test]
fn a_link_that_leads_out_of_the_models_folder_is_refused() {
    for target in ["/etc/hostname", "/", "../elsewhere.onnx", "gone.onnx", "."] {
        let trial = Trial::new();
        let weights = field(5, tensor("W", FLOAT, &[4], &ones()));
        let sound = adding(&[weights], &[]);
        std::fs::write(trial.folder.path().join("elsewhere.onnx"), &sound).unwrap();
        let link = trial.model().join("model.onnx");
        symlink(target, &link).unwrap();
        trial.refused(target, &["model.onnx", "is a link"]);
        // Beside a model that is sound it is refused as well.
        std::fs::rename(&link, trial.model().join("README")).unwrap();
        std::fs::write(&link, &sound).unwrap();
        trial.refused(target, &["README", "is a link"]);
    }
}

/// Failure matrix: 53.
#[test]
fn what_was_checked_is_what_runs_though_the_file_is_replaced_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.onnx");
    let example = project().join("examples/flights/model");
    let mut found = std::fs::read_dir(example)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let whole = found
        .find(|path| path.extension().is_some_and(|ext| ext == "onnx"))
        .unwrap();
    std::fs::copy(whole, &file).unwrap();
    let cache = floe::model::onnx::runtime::cache_dir(|name| std::env::var_os(name));
    let given = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
    let candidates = floe::model::onnx::runtime::default_candidates(None, cache.as_deref(), given.as_deref());
    let host = floe::job::Host {
        cpus: 1,
        memory_bytes: 1 << 30,
        onnxruntime_paths: candidates,
        variables: Variables::default(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let location = folder.path().to_str().unwrap();
    let opened = runtime
        .block_on(floe::job::open_model(
            &floe::config::ModelOptions::at(location),
            Default::default(),
            &host,
            &Storage::local(),
        ))
        .unwrap();
    // As somebody does who waits for the check to be over.
    std::fs::write(&file, adding(&[field(5, external("W", "/etc/hostname"))], &[])).unwrap();
    opened.worker(&opened.functions()[0], 1).unwrap();
    std::fs::remove_file(&file).unwrap();
    opened.worker(&opened.functions()[0], 2).unwrap();
}

/// Failure matrix: 53.
#[test]
fn a_model_file_larger_than_any_model_is_not_read() {
    let trial = Trial::new();
    // A hole: it takes no room on the disk.
    let file = std::fs::File::create(trial.model().join("model.onnx")).unwrap();
    file.set_len(40 << 30).unwrap();
    trial.refused(
        "40 GiB",
        &["42949672960 bytes, and may have 2147483647", "model.onnx"],
    );
    // Nor is what lies beside a model.
    let weights = field(5, tensor("W", FLOAT, &[4], &ones()));
    std::fs::write(trial.model().join("model.onnx"), adding(&[weights], &[])).unwrap();
    let beside = std::fs::File::create(trial.model().join("pytorch_model.bin")).unwrap();
    beside.set_len(40 << 30).unwrap();
    let ended = trial.run();
    assert_eq!(ended.code, Some(0), "{}", ended.said());
    assert!(ended.peak_bytes < MEMORY, "{} bytes", ended.peak_bytes);
}
