//! plan, check, inspect, verify, head, schema: what they print, and that they change nothing.

use crate::support::{Scenario, finish, floe, project};

fn job_arguments(scenario: &Scenario, command: &str) -> std::process::Command {
    let mut floe = floe([command, "--model", "echo"]);
    floe.arg("--input")
        .arg(scenario.input())
        .arg("--output")
        .arg(scenario.output());
    floe
}

#[test]
fn plan_says_who_would_do_what_and_does_nothing() {
    let scenario = Scenario::with_files(&[60_000, 60_000, 60_000, 5], 20_000);
    let mut command = job_arguments(&scenario, "plan");
    command.args(["--replicas", "2", "--json"]);
    let plan = finish(command).ok().json();
    assert_eq!(plan["rows"], 180_005);
    let replicas = plan["replicas"].as_array().unwrap();
    assert_eq!(replicas.len(), 2);
    let rows: u64 = replicas.iter().map(|share| share["rows"].as_u64().unwrap()).sum();
    assert_eq!(rows, 180_005);
    let text = finish(job_arguments(&scenario, "plan")).ok().stdout;
    assert!(
        text.contains("replica 0") && text.contains("part-0001.parquet"),
        "{text}"
    );
    assert!(!scenario.output().exists());
}

#[test]
fn check_finds_nothing_wrong_and_leaves_no_trace() {
    let scenario = Scenario::with_files(&[1000], 1000);
    let text = finish(job_arguments(&scenario, "check")).ok().stdout;
    assert!(
        text.contains("the job can run") && text.contains("row_hash Int64"),
        "{text}"
    );
    assert!(!scenario.output().exists());
    scenario.run(&[]).ok();
    let before = scenario.files();
    let mut overwrite = job_arguments(&scenario, "check");
    overwrite.args(["--mode", "overwrite", "--json"]);
    let report = finish(overwrite).ok().json();
    assert!(
        report["notes"].to_string().contains("will be removed"),
        "{report}"
    );
    assert_eq!(scenario.files(), before);
}

#[test]
fn inspect_shows_functions_inputs_and_outputs() {
    let model = project().join("examples/flights/model");
    let text = finish(floe(["inspect".as_ref(), model.as_os_str()])).ok().stdout;
    for expected in [
        "predict",
        "features",
        "float32",
        "predicted_arr_delay",
        "dep_delay",
    ] {
        assert!(text.contains(expected), "no {expected} in {text}");
    }
    let json = finish(floe(["inspect".as_ref(), model.as_os_str(), "--json".as_ref()]))
        .ok()
        .json();
    assert_eq!(json["functions"][0]["name"], "predict");
}

#[test]
fn verify_finds_what_was_changed_after_the_run() {
    type Damage = fn(&Scenario, &str);
    let damages: [(&str, Damage); 5] = [
        ("a byte", |scenario, file| {
            let path = scenario.output().join(file);
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[100] ^= 1;
            std::fs::write(path, bytes).unwrap();
        }),
        ("the length", |scenario, file| {
            let path = scenario.output().join(file);
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
        }),
        ("a file gone", |scenario, file| {
            std::fs::remove_file(scenario.output().join(file)).unwrap()
        }),
        ("a file too many", |scenario, file| {
            std::fs::copy(
                scenario.output().join(file),
                scenario.output().join("more.parquet"),
            )
            .map(drop)
            .unwrap();
        }),
        ("no marker", |scenario, _| {
            std::fs::remove_file(scenario.output().join("_SUCCESS")).unwrap()
        }),
    ];
    for (name, damage) in damages {
        let scenario = Scenario::with_files(&[1000, 1000], 1000);
        scenario.run(&[]).ok();
        let verify = || finish(floe(["verify".as_ref(), scenario.output().as_os_str()]));
        verify().ok();
        let file = scenario.contents().into_keys().next().unwrap();
        damage(&scenario, &file);
        let run = verify();
        assert_eq!(run.code, Some(6), "{name}: {}{}", run.stdout, run.stderr);
    }
}

#[test]
fn head_shows_rows_as_a_table() {
    let scenario = Scenario::with_files(&[20], 20);
    let mut command = floe(["head".as_ref(), scenario.input().as_os_str()]);
    command.args(["--rows", "3", "--columns", "value,id"]);
    let text = finish(command).ok().stdout;
    let lines: Vec<_> = text
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .collect();
    assert_eq!(lines[0], ["value", "id"]);
    assert_eq!(lines[1], ["0.0", "0"]);
    assert_eq!(lines.len(), 4);
}

#[test]
fn the_version_is_printed() {
    let text = finish(floe(["--version"])).ok().stdout;
    assert_eq!(text.trim(), concat!("floe ", env!("CARGO_PKG_VERSION")));
}
