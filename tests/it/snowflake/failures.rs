//! What goes wrong between Floe and Snowflake, and between Floe and a stage: what passes is waited for, what expires is
//! renewed, what makes no sense is refused in words, and no secret is told in any of it.

use serde_json::{Value, json};

use super::clouds::Cloud;
use super::gateway::{Gateway, Wrong};
use super::jobs::{bucket_of, download};
use super::stages::Stage;
use super::{program, run, write_connection};
use crate::support::{Run, Scenario, rows_of};

/// A job of the stage's `in` to its `out`, with little patience.
fn job(scenario: &Scenario) -> Run {
    let document = "
input: {stage_location: '@db.s.files/in'}
output: {stage_location: '@db.s.files/out'}
model: {location: echo}
storage: {retry_secs: 2}
";
    let mut command = program(scenario.path(), &["run"]);
    command.env("FLOE_JOB", document);
    run(command)
}

fn is_complete(scenario: &Scenario, bucket: &super::clouds::Bucket) {
    let folder = scenario.path().join("downloaded");
    download(bucket, "stages/id/out", &folder);
    assert!(folder.join("_SUCCESS").exists());
    scenario.run(&[]).ok();
    assert_eq!(rows_of(&folder), scenario.rows());
}

/// Keys of the stage end after eight requests, session tokens after one statement.
///
/// Failure matrix: 51.
#[test]
fn credentials_and_sessions_that_expire_during_a_run_are_renewed() {
    for cloud in [Cloud::Amazon, Cloud::Google] {
        let scenario = Scenario::with_files(&[400, 300, 200], 100);
        let (gateway, bucket) = bucket_of(&scenario, cloud).unwrap();
        bucket.limit_uses(8);
        gateway.state().token_uses = Some(1);
        job(&scenario).ok();
        is_complete(&scenario, &bucket);
        let (lent, refused) = bucket.lent_and_refused();
        assert!(
            lent >= 5 && refused >= 3,
            "{lent} keys, {refused} requests refused"
        );
        assert!(gateway.count("token-request") >= 2);
    }
}

/// Failure matrix: 51.
#[test]
fn a_session_that_can_not_be_renewed_is_opened_anew() {
    let scenario = Scenario::with_files(&[400, 300], 100);
    let (gateway, bucket) = bucket_of(&scenario, Cloud::Amazon).unwrap();
    bucket.limit_uses(8);
    gateway.state().token_uses = Some(1);
    gateway.state().is_master_refused = true;
    job(&scenario).ok();
    is_complete(&scenario, &bucket);
    let (logins, renewals) = (gateway.count("login-request"), gateway.count("token-request"));
    assert!(
        renewals >= 2 && logins > renewals,
        "{logins} logins, {renewals} renewals"
    );
}

#[test]
fn what_may_pass_is_asked_for_again() {
    let scenario = Scenario::with_files(&[100], 50);
    let (gateway, bucket) = bucket_of(&scenario, Cloud::Amazon).unwrap();
    gateway.state().looks = 2;
    gateway.state().wrongs = vec![
        ("login-request", Wrong::Status(503)),
        ("login-request", Wrong::Hangup),
        ("query-request", Wrong::Garbage),
        ("query-request", Wrong::Status(429)),
        ("query-request", Wrong::Code("390112")),
        ("query-request", Wrong::Code("390111")),
        ("result", Wrong::Status(500)),
        ("result", Wrong::Code("390112")),
    ];
    job(&scenario).ok();
    is_complete(&scenario, &bucket);
    let state = gateway.state();
    assert!(state.wrongs.is_empty());
    let repeated = state
        .seen
        .iter()
        .filter(|seen| seen.query.contains_key("retryCount"));
    assert_eq!(repeated.count(), 5);
    // A repeated statement is the same one, asked for under another guid.
    let statements: Vec<_> = state
        .seen
        .iter()
        .filter(|seen| seen.route == "query-request")
        .collect();
    assert_eq!(statements[0].query["requestId"], statements[1].query["requestId"]);
    assert_ne!(
        statements[0].query["request_guid"],
        statements[1].query["request_guid"]
    );
}

#[test]
fn what_does_not_pass_ends_the_job_in_words() {
    let scenario = Scenario::with_files(&[10], 10);
    let (gateway, _bucket) = bucket_of(&scenario, Cloud::Amazon).unwrap();
    let garbage = [("query-request", Wrong::Garbage); 4];
    let down = [("login-request", Wrong::Status(502)); 20];
    for (wrongs, code, said) in [
        (garbage.to_vec(), 8, "answers what is no JSON of Snowflake's"),
        (down.to_vec(), 8, "can't log in: Snowflake answers 502"),
        (
            vec![("login-request", Wrong::Status(403))],
            8,
            "check host and account",
        ),
        (
            vec![("query-request", Wrong::Status(404))],
            8,
            "can't run a statement: Snowflake answers 404",
        ),
        (
            vec![("login-request", Wrong::Code("390422"))],
            2,
            "network policy",
        ),
        (
            vec![("login-request", Wrong::Code("390189"))],
            2,
            "role is not granted",
        ),
        (
            vec![("query-request", Wrong::Code("000606"))],
            8,
            "on purpose (000606)",
        ),
        (
            vec![
                ("token-request", Wrong::Status(401)),
                ("query-request", Wrong::Code("390112")),
            ],
            8,
            "can't renew a session",
        ),
    ] {
        // As a PUT that is refused is followed by a GET.
        let twice = if said.contains("000606") { 2 } else { 1 };
        gateway.state().wrongs = vec![wrongs; twice].concat();
        job(&scenario).fails(code, &[said]);
        gateway.state().wrongs.clear();
    }
    gateway.state().token_uses = Some(0);
    job(&scenario).fails(8, &["ends every session as soon as it has begun"]);
    drop(gateway);
    job(&scenario).fails(8, &["can't reach Snowflake to log in"]);
}

#[test]
fn answers_that_make_no_sense_are_refused_in_words() {
    let scenario = Scenario::with_files(&[10], 10);
    let (gateway, _bucket) = bucket_of(&scenario, Cloud::Amazon).unwrap();
    let twists: [(fn(&mut Value), &str); 6] = [
        (
            |data| data["stageInfo"]["locationType"] = json!("TAPE"),
            "is unknown",
        ),
        (
            |data| data["stageInfo"]["creds"] = json!({}),
            "no AWS credentials",
        ),
        (
            |data| data["stageInfo"]["endPoint"] = json!("http://example.org"),
            "endPoint is not https",
        ),
        (|data| data["stageInfo"]["location"] = json!(""), "no location"),
        (|data| data["stageInfo"] = Value::Null, "no locationType"),
        (
            |data| data["stageInfo"]["creds"]["AWS_TOKEN"] = json!("stolen-c4n4ry"),
            "can't",
        ),
    ];
    for (twist, said) in twists {
        gateway.state().twist = Some(twist);
        job(&scenario).fails(8, &[said]);
    }
}

#[test]
fn stages_that_can_not_be_used_are_refused_with_what_to_do() {
    let scenario = Scenario::with_files(&[10], 10);
    let folder = scenario.path().join("stage");
    let gateway = Gateway::new()
        .with_stage("DB.S.FILES", Stage::folder(&folder).encrypted())
        .with_stage("~", Stage::folder(&folder).encrypted())
        .with_stage("DB.S.CLOSED", Stage::folder(&folder).closed());
    write_connection(scenario.path(), &gateway, "");
    for (location, code, said) in [
        ("@db.s.files/in", 2, "ENCRYPTION = (TYPE = 'SNOWFLAKE_SSE')"),
        ("@~/in", 2, "use a named stage"),
        (
            "@db.s.nothing/in",
            2,
            "Stage 'DB.S.NOTHING' does not exist or not authorized. (002003)",
        ),
        ("@db.s.closed", 2, "USAGE on database and schema"),
        ("@files", 2, "write @db.schema.stage"),
        ("@db.s.my-stage/x", 2, "'-' can't stand in a name without quotes"),
        ("@db.s.files/../x", 2, "its path holds .."),
        ("snow://model/db.s.m/versions/V1", 2, "002003"),
    ] {
        let output = scenario.output();
        let job = [
            "run",
            "--model",
            "echo",
            "--input",
            location,
            "--output",
            output.to_str().unwrap(),
        ];
        run(program(scenario.path(), &job)).fails(code, &[said]);
    }
}

#[test]
fn what_snowflake_keeps_in_versions_can_be_read_and_not_written() {
    let scenario = Scenario::with_files(&[60, 40], 20);
    let bucket = super::clouds::Bucket::new(Cloud::Amazon).unwrap();
    super::jobs::upload(&bucket, &scenario.input(), "models/id/versions/V1/in");
    let gateway = Gateway::new().with_stage("model.DB.S.M", Stage::bucket(&bucket, "models/id"));
    write_connection(scenario.path(), &gateway, "");
    let (input, output) = ("snow://model/db.s.m/versions/V1/in", scenario.output());
    let read = [
        "run",
        "--model",
        "echo",
        "--input",
        input,
        "--output",
        output.to_str().unwrap(),
    ];
    run(program(scenario.path(), &read)).ok();
    assert_eq!(scenario.rows().len(), 100);
    let outside = "snow://model/db.s.m/versions/V1/out";
    let write = ["run", "--model", "echo", "--input", input, "--output", outside];
    run(program(scenario.path(), &write)).fails(8, &["snow:// locations can only be read"]);
}

/// A stage on Google that lends no token: listed by statements, read by signed URLs, which end in between.
#[test]
fn a_stage_without_credentials_is_read_by_signed_urls() {
    let scenario = Scenario::with_files(&[150, 50, 1], 25);
    let gateway = Gateway::new().with_stage("DB.S.FILES", Stage::signed(scenario.path()));
    write_connection(scenario.path(), &gateway, "");
    let output = scenario.output();
    let read = [
        "run",
        "--model",
        "echo",
        "--input",
        "@db.s.files/in",
        "--output",
        output.to_str().unwrap(),
    ];
    run(program(scenario.path(), &read)).ok();
    assert_eq!(scenario.rows().len(), 201);
}
