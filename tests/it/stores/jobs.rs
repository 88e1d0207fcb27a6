//! Whole jobs whose model, input and output lie in a store: the output of a run on folders, byte for byte.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use floe::storage::Store;
use futures::StreamExt;
use serde_json::json;

use super::{Place, block_on, places};
use crate::support::{Run, Scenario, contents_of, finish, floe, project};

/// Puts the files of a folder into the place, under `path`.
pub fn upload(place: &Place, path: &str, folder: &Path) {
    let mut files = Vec::new();
    collect(folder, folder, &mut files);
    block_on(async {
        let store = &place.output(path).await;
        let puts = files.into_iter().map(|file| async move {
            let bytes = std::fs::read(folder.join(&file)).unwrap();
            store.put(&file, bytes.into()).await.unwrap();
        });
        futures::stream::iter(puts)
            .buffer_unordered(8)
            .collect::<Vec<_>>()
            .await;
    });
}

/// Everything under `path` in the place, as files below `folder`.
pub fn download(place: &Place, path: &str, folder: &Path) {
    block_on(async {
        let store = &place.output(path).await;
        let gets = store.list("").await.unwrap().into_iter().map(|entry| async move {
            let bytes = store.get(&entry.key).await.unwrap().unwrap();
            let file = folder.join(&entry.key);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, bytes).unwrap();
        });
        futures::stream::iter(gets)
            .buffer_unordered(8)
            .collect::<Vec<_>>()
            .await;
    });
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, files);
        } else {
            files.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_string());
        }
    }
}

/// The program, with the place's settings in its environment.
pub fn floe_at(place: &Place, arguments: &[&str]) -> Command {
    let mut command = floe(arguments);
    for (name, value) in place.settings() {
        command.env(name.to_uppercase(), value);
    }
    command
}

/// A job file whose `storage` section has the place's settings and little patience.
pub fn job_file(place: &Place, folder: &Path, model: &str, input: &str, output: &str) -> PathBuf {
    let document = json!({
        "job_name": "stores",
        "run_id": "stores",
        "model": {"location": model},
        "input": {"stage_location": input},
        "output": {"stage_location": output},
        "storage": {"options": place.settings(), "retry_secs": 20, "stall_secs": 1},
    });
    // A file of its own for each: processes that were started before may still be reading theirs.
    static NUMBER: AtomicU32 = AtomicU32::new(1);
    let file = folder.join(format!("job-{}.json", NUMBER.fetch_add(1, Ordering::Relaxed)));
    std::fs::write(&file, document.to_string()).unwrap();
    file
}

#[track_caller]
pub fn verify(place: &Place, path: &str) -> serde_json::Value {
    let url = format!("{}/{path}", place.url);
    let report = finish(floe_at(place, &["verify", &url, "--json"])).ok().json();
    assert_eq!(report["ok"], true, "{report}");
    report
}

fn run(file: &Path) -> Run {
    finish(floe(["run".as_ref(), file.as_os_str()]))
}

#[test]
fn a_job_in_a_store_writes_the_bytes_that_it_writes_on_folders() {
    let flights = project().join("examples/flights");
    let (model, data) = (flights.join("model"), flights.join("data"));
    let local = tempfile::tempdir().unwrap();
    let text = |path: &Path| path.to_str().unwrap().to_string();
    let output = local.path().join("out");
    let arguments = ["run", "--job-name", "stores", "--run-id", "stores", "--model"];
    let mut command = floe(arguments);
    command
        .arg(&model)
        .arg("--input")
        .arg(&data)
        .arg("--output")
        .arg(&output);
    finish(command).ok();
    let expected = contents_of(&output);
    assert!(!expected.is_empty());
    for place in places() {
        upload(&place, "a model", &model);
        upload(&place, "data", &data);
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| format!("{}/{path}", place.url);
        let file = job_file(
            &place,
            folder.path(),
            &at("a model"),
            &at("data"),
            &at("deep/out"),
        );
        run(&file).ok();
        let fetched = folder.path().join("fetched");
        download(&place, "deep/out", &fetched);
        let found = contents_of(&fetched);
        assert!(
            found.keys().eq(expected.keys()),
            "{:?}: {:?}",
            place.cloud,
            found.keys()
        );
        assert!(found == expected, "{:?}: other bytes", place.cloud);
        let report = verify(&place, "deep/out");
        assert_eq!(report["run_id"], "stores");
        // Run again, it has nothing to do; as another run, it is refused.
        run(&file).ok();
        let mut other = floe(["run".as_ref(), file.as_os_str()]);
        other.args(["--run-id", "other"]);
        finish(other).fails(3, &["not empty"]);
        // The other commands read there as well.
        finish(floe_at(&place, &["inspect", &at("a model")])).ok();
        finish(floe_at(&place, &["head", &at("deep/out")])).ok();
        // And the input may be a single object, whatever it is called.
        let alone = data.read_dir().unwrap().next().unwrap().unwrap().path();
        let single = job_file(
            &place,
            folder.path(),
            "echo",
            &at(&format!("data/{}", text(alone.file_name().unwrap().as_ref()))),
            &at("single"),
        );
        run(&single).ok();
        verify(&place, "single");
    }
}

/// Failure matrix: 70.
#[test]
fn an_output_within_the_input_in_a_store_is_not_read_and_one_around_it_refused() {
    let place = Place::new(super::Cloud::S3).unwrap();
    let scenario = Scenario::with_files(&[50, 60], 20);
    upload(&place, "in", &scenario.input());
    let at = |path: &str| format!("{}/{path}", place.url);
    let first = job_file(&place, scenario.path(), "echo", &at("in"), &at("in/out"));
    run(&first).ok();
    // The second run finds the first one's output below its input.
    let mut again = floe(["run".as_ref(), first.as_os_str()]);
    again.args(["--run-id", "again", "--mode", "overwrite"]);
    finish(again).ok();
    let fetched = scenario.path().join("fetched");
    download(&place, "in/out", &fetched);
    assert_eq!(crate::support::rows_of(&fetched).len(), 110);
    let around = job_file(&place, scenario.path(), "echo", &at("in/deep"), &at("in"));
    run(&around).fails(2, &["the output contains the input"]);
}

#[test]
fn replicas_of_a_launcher_share_a_job_in_a_store() {
    for place in places() {
        let scenario = Scenario::with_long_rows(6);
        upload(&place, "in", &scenario.input());
        let at = |path: &str| format!("{}/{path}", place.url);
        let file = job_file(&place, scenario.path(), "echo", &at("in"), &at("out"));
        let mut command = floe(["run".as_ref(), file.as_os_str()]);
        command.args(["--replicas", "2"]);
        finish(command).ok();
        assert_eq!(verify(&place, "out")["rows"], 6 * crate::support::LONG_ROWS);
    }
}
