//! What goes wrong between Floe and Snowflake, and between Floe and a stage: what passes is waited for, what expires is
//! renewed, what makes no sense is refused in words, and no secret is told in any of it.

use std::time::{Duration, Instant};

use floe::storage::{Created, OutputStore, Store};
use serde_json::{Value, json};

use super::clouds::Cloud;
use super::gateway::{ACCOUNT, Gateway, PASSWORD, USER, Wrong};
use super::jobs::{block_on, bucket_of, download};
use super::stages::Stage;
use super::{CANARY, program, run, storage_of, write_connection};
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

/// Keys of the stage end after five requests, session tokens after one statement.
///
/// Failure matrix: 51.
#[test]
fn credentials_and_sessions_that_expire_during_a_run_are_renewed() {
    for cloud in [Cloud::Amazon, Cloud::Google] {
        let scenario = Scenario::with_files(&[400, 300, 200], 100);
        let (gateway, bucket) = bucket_of(&scenario, cloud).unwrap();
        bucket.limit_uses(5);
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
    bucket.limit_uses(5);
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
        ("query-request", Wrong::Status(401)),
        ("token-request", Wrong::Status(401)),
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
    type Twist = fn(&mut Value);
    let twists: [(Twist, &str); 6] = [
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

/// A stage on Google that lends no token: files are listed and removed by statements, read and written by signed URLs.
#[test]
fn a_stage_without_credentials_is_read_and_written_by_signed_urls() {
    let scenario = Scenario::with_files(&[150, 50, 1], 25);
    let stage = scenario.path().join("stage");
    std::fs::create_dir(&stage).unwrap();
    std::fs::rename(scenario.input(), stage.join("in")).unwrap();
    let gateway = Gateway::new().with_stage("DB.S.FILES", Stage::signed(&stage));
    gateway.state().is_in_pieces = true;
    write_connection(scenario.path(), &gateway, "");
    job(&scenario).ok();
    assert!(gateway.state().pieces_read > 0, "no listing came in pieces");
    let ids: Vec<i64> = rows_of(&stage.join("out")).into_keys().collect();
    assert_eq!(ids, (0..201).collect::<Vec<_>>());
    assert!(stage.join("out/_SUCCESS").exists());
    let statements = gateway.statements();
    for verb in ["GET ", "PUT ", "LIST ", "REMOVE "] {
        assert!(
            statements.iter().any(|statement| statement.starts_with(verb)),
            "no {verb}: {statements:?}"
        );
    }
}

/// A signed URL ends between being given and being used; a file that begins like another is not removed with it.
#[test]
fn signed_urls_that_end_are_asked_for_anew_and_only_what_is_named_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::new().with_stage("DB.S.FILES", Stage::signed(folder.path()));
    let storage = storage_of("127.0.0.1", &gateway.port(), ACCOUNT, USER, PASSWORD);
    block_on(async {
        let output = OutputStore::new(storage.open("@files/out").await.unwrap());
        output.put("a", "one".into()).await.unwrap();
        output.put("a b", "other".into()).await.unwrap();
        assert_eq!(output.head("a").await.unwrap(), Some(3));
        gateway.state().refused_urls = 1;
        assert_eq!(output.get("a").await.unwrap().unwrap(), "one");
        gateway.state().refused_urls = 1;
        output.put("a", "two".into()).await.unwrap();
        assert_eq!(output.get("a").await.unwrap().unwrap(), "two");
        gateway.state().refused_urls = 2;
        let error = output.get("a").await.unwrap_err().to_string();
        assert!(
            error.contains("it answers 400") && !error.contains(CANARY),
            "{error}"
        );
        gateway.state().refused_urls = 0;
        let error = output.delete("a").await.unwrap_err().to_string();
        assert!(error.contains("would also remove another"), "{error}");
        output.delete("a b").await.unwrap();
        output.delete("a").await.unwrap();
        assert_eq!(output.list("").await.unwrap(), []);
    });
}

/// Azurite refuses the first signature by then.
///
/// Failure matrix: 51.
#[test]
fn a_signature_that_says_when_it_ends_is_renewed_before() {
    let Some(bucket) = super::clouds::Bucket::new(Cloud::Azure) else {
        return;
    };
    bucket.limit_lifetime(Duration::from_secs(5));
    let gateway = Gateway::new().with_stage("DB.S.FILES", Stage::bucket(&bucket, "stages/id"));
    let storage = storage_of("127.0.0.1", &gateway.port(), ACCOUNT, USER, PASSWORD);
    block_on(async {
        let output = OutputStore::new(storage.open("@files/out").await.unwrap());
        output.put("a", "one".into()).await.unwrap();
        let first = bucket.keys().remove(0);
        // After four fifths of its life the next one is asked for meanwhile; a second more is rounding of clocks.
        tokio::time::sleep(Duration::from_millis(4100)).await;
        for _ in 0..20 {
            assert_eq!(output.get("a").await.unwrap().unwrap(), "one");
        }
        tokio::time::sleep(Duration::from_millis(2000)).await;
        assert!(bucket.keys().len() >= 2);
        assert_eq!(output.get("a").await.unwrap().unwrap(), "one");
        let old = format!("{}/stages/id/out/a{first}", bucket.url());
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        assert_eq!(client.get(old).send().await.unwrap().status(), 403);
    });
}

/// Failure matrix: 51.
#[test]
fn while_snowflake_is_gone_what_it_lent_is_used_for_as_long_as_it_is_good() {
    let Some(bucket) = super::clouds::Bucket::new(Cloud::Azure) else {
        return;
    };
    bucket.limit_lifetime(Duration::from_secs(10));
    let gateway = Gateway::new().with_stage("DB.S.FILES", Stage::bucket(&bucket, "stages/id"));
    let storage = storage_of("127.0.0.1", &gateway.port(), ACCOUNT, USER, PASSWORD);
    block_on(async {
        let output = OutputStore::new(storage.open("@files/out").await.unwrap());
        let began = Instant::now();
        output.put("a", "one".into()).await.unwrap();
        drop(gateway);
        // Others are asked for after four fifths of its life; at the end of it Azurite refuses it.
        let mut read_meanwhile = 0;
        let error = loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            match output.get("a").await {
                Ok(_) if began.elapsed() > Duration::from_millis(8100) => read_meanwhile += 1,
                Ok(_) => {}
                Err(error) => break error.to_string(),
            }
        };
        assert!(read_meanwhile > 0);
        assert!(error.contains("can't reach Snowflake"), "{error}");
    });
}

/// An administrator ends every session, and the stage's keys with them.
///
/// Failure matrix: 51.
#[test]
fn a_store_outlives_the_sessions_that_opened_it() {
    let bucket = super::clouds::Bucket::new(Cloud::Amazon).unwrap();
    let gateway = Gateway::new().with_stage("DB.S.FILES", Stage::bucket(&bucket, "stages/id"));
    let storage = storage_of("127.0.0.1", &gateway.port(), ACCOUNT, USER, PASSWORD);
    block_on(async {
        let output = OutputStore::new(storage.open("@files/out").await.unwrap());
        output.put("a", "one".into()).await.unwrap();
        gateway.state().end_sessions();
        bucket.end_keys();
        assert_eq!(output.create("b", "two".into()).await.unwrap(), Created::Yes);
        let keys: Vec<String> = output
            .list("")
            .await
            .unwrap()
            .into_iter()
            .map(|entry| entry.key)
            .collect();
        assert_eq!(keys, ["a", "b"]);
    });
    assert_eq!(
        (gateway.count("login-request"), bucket.lent_and_refused()),
        (2, (2, 1))
    );
}
