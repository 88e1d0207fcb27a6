//! `floe store-check` on a local folder, on a stage volume, and where nothing can be written.

use std::path::Path;
use std::time::Duration;

use super::stage::{Rules, Stage};
use super::until;
use crate::support::{Run, finish, floe, signal, start};

fn check(location: &Path, arguments: &[&str]) -> Run {
    let mut command = floe(["store-check".as_ref(), location.as_os_str()]);
    command.args(arguments);
    finish(command)
}

fn outcomes(report: &serde_json::Value, of: &str) -> Vec<String> {
    let findings = report["findings"].as_array().unwrap().iter();
    let named = findings.filter(|finding| finding["outcome"] == of);
    named
        .map(|finding| finding["property"].as_str().unwrap().to_string())
        .collect()
}

#[test]
fn a_local_folder_is_of_class_a_and_is_left_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("own"), "kept").unwrap();
    let run = check(folder.path(), &[]).ok();
    for said in [
        "yes  put-if-absent",
        "1001 objects",
        "store class A",
        "every guarantee holds",
        "docs/guarantees.md",
    ] {
        assert!(run.stdout.contains(said), "no {said:?} in {}", run.stdout);
    }
    let left: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["own"]);
}

#[test]
fn a_stage_volume_is_of_class_b_and_the_table_says_what_it_refuses() {
    for publishes_torn in [false, true] {
        let rules = Rules {
            publishes_torn,
            ..Rules::default()
        };
        let Some(stage) = Stage::mount(rules) else {
            return;
        };
        stage.put("own", b"kept");
        let run = check(&stage.path("checked"), &["--quick", "--json"]).ok();
        let report = run.json();
        assert_eq!(report["store_class"], "B", "{report}");
        let mut refused = vec![
            "create_if_absent",
            "create_race",
            "hard_link",
            "rename",
            "exclusive_open",
            "append",
            "random_write",
            "stable_inode",
        ];
        if publishes_torn {
            refused.push("killed_writer");
        }
        assert_eq!(outcomes(&report, "fails"), refused, "{report}");
        let promises = report["promises"].to_string();
        assert!(promises.contains("no replica index runs twice"), "{promises}");
        assert_eq!(
            promises.contains("may leave an object cut short"),
            publishes_torn,
            "{promises}"
        );
        assert_eq!(stage.objects().into_keys().collect::<Vec<_>>(), ["own"]);
        assert!(!stage.path("checked").exists());
    }
}

#[test]
fn a_place_that_can_not_be_written_to_ends_with_exit_8_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let run = check(&file, &[]).fails(
        8,
        &["NO   an object is read as it was written", "Floe can't work here"],
    );
    assert!(run.stdout.contains("Not a directory"), "{}", run.stdout);
    // A stage on which no close succeeds.
    let rules = Rules {
        close_fails: Some("written".to_string()),
        ..Rules::default()
    };
    let Some(stage) = Stage::mount(rules) else {
        return;
    };
    check(&stage.path("x"), &["--quick"]).fails(8, &["Input/output error", "Floe can't work here"]);
    assert!(stage.objects().is_empty());
}

#[test]
fn a_check_that_is_stopped_removes_what_it_has_written() {
    let rules = Rules {
        write_takes: Duration::from_millis(20),
        ..Rules::default()
    };
    let Some(stage) = Stage::mount(rules) else {
        return;
    };
    let mut command = floe(["store-check".as_ref(), stage.path("x").as_os_str()]);
    command.arg("--json");
    let mut checking = start(command);
    until("something is written", || stage.objects().len() > 3);
    signal(&checking, libc::SIGTERM);
    assert_eq!(checking.wait().unwrap().code(), Some(143));
    assert_eq!(
        stage.objects().into_keys().collect::<Vec<_>>(),
        Vec::<String>::new()
    );
}
