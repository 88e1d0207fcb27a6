//! No decision depends on what time the wall clock says: replicas with clocks hours apart are one run all the same.

use crate::support::project;
use std::path::Path;

/// What asks for the time of day. `Instant` is monotonic, and knows no date.
const WALL_CLOCK: [&str; 5] = ["SystemTime", "UtcDateTime", "now_utc", "now_local", "Utc::now"];

/// Where the time of day is asked for, and why it decides nothing.
const ALLOWED: [(&str, &str); 3] = [
    (
        "src/storage/snowflake/key_pair.rs",
        "a login's token names the minute it is for; whether it is accepted, Snowflake decides",
    ),
    ("src/telemetry/entry.rs", "the time of a log line"),
    ("src/telemetry/layer.rs", "the time of a log line"),
];

fn search(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            search(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            if WALL_CLOCK.iter().any(|word| text.contains(word)) {
                let relative = path.strip_prefix(project()).unwrap();
                found.push(relative.to_str().unwrap().to_string());
            }
        }
    }
}

/// Failure matrix: 52.
#[test]
fn the_time_of_day_is_asked_for_by_the_log_alone() {
    let mut found = Vec::new();
    search(&project().join("src"), &mut found);
    found.sort();
    assert_eq!(found, ALLOWED.map(|(path, _)| path));
}
