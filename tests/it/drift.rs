//! Generated files are what the code generates. `make schema` writes them anew.

use crate::support::{finish, floe, project};

#[track_caller]
fn check(path: &str, generated: &str) {
    let path = project().join(path);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, generated).unwrap();
    }
    let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        checked_in == generated,
        "{} is out of date: run `make schema`",
        path.display()
    );
}

#[test]
fn the_job_file_schema_is_up_to_date() {
    check(
        "spec/job.schema.json",
        &finish(floe(["schema", "job"])).ok().stdout,
    );
}

#[test]
fn the_model_card_schema_is_up_to_date() {
    check(
        "spec/model-card.schema.json",
        &finish(floe(["schema", "model-card"])).ok().stdout,
    );
}
