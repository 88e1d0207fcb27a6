//! Whole jobs whose input, model and output lie on stages.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::path::Path as StorePath;
use object_store::{ObjectStore, ObjectStoreExt};

use super::clouds::{Bucket, Cloud};
use super::gateway::{ACCOUNT, Gateway, USER};
use super::stages::Stage;
use super::{CANARY, program, run, write_connection, write_connection_of};
use crate::support::{Scenario, project, rows_of};

/// Puts the files below a folder into a bucket.
pub fn upload(bucket: &Bucket, folder: &Path, prefix: &str) {
    block_on(async {
        for entry in walk(folder) {
            let name = entry.strip_prefix(folder).unwrap().to_str().unwrap();
            let path = StorePath::parse(format!("{prefix}/{name}")).unwrap();
            bucket
                .store
                .put(&path, std::fs::read(&entry).unwrap().into())
                .await
                .unwrap();
        }
    });
}

/// Brings what is below a prefix of a bucket into a folder, and searches it for secrets.
pub fn download(bucket: &Bucket, prefix: &str, folder: &Path) {
    block_on(async {
        let prefix = StorePath::parse(prefix).unwrap();
        let objects: Vec<_> = bucket.store.list(Some(&prefix)).try_collect().await.unwrap();
        for object in objects {
            let name = object.location.as_ref().strip_prefix(prefix.as_ref()).unwrap();
            let path = folder.join(name.trim_start_matches('/'));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let bytes = bucket
                .store
                .get(&object.location)
                .await
                .unwrap()
                .bytes()
                .await
                .unwrap();
            let has_canary = bytes
                .windows(CANARY.len())
                .any(|window| window == CANARY.as_bytes());
            assert!(!has_canary, "a secret in {name}");
            std::fs::write(path, bytes).unwrap();
        }
    });
}

pub fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(future)
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(walk(&path));
        } else {
            files.push(path);
        }
    }
    files
}

/// A gateway with the stage `DB.S.FILES` in a bucket that holds the scenario's input below `in`; `None` where the bucket's
/// server can't run here.
pub fn bucket_of(scenario: &Scenario, cloud: Cloud) -> Option<(Gateway, Arc<Bucket>)> {
    let bucket = Bucket::new(cloud)?;
    upload(&bucket, &scenario.input(), "stages/id/in");
    let gateway = Gateway::new().with_stage("DB.S.FILES", Stage::bucket(&bucket, "stages/id"));
    write_connection(scenario.path(), &gateway, "");
    Some((gateway, bucket))
}

/// The rows of the output on the stage, by id.
fn rows_on(bucket: &Bucket, scenario: &Scenario) -> BTreeMap<i64, (Option<String>, f64, i64)> {
    let folder = scenario.path().join("downloaded");
    download(bucket, "stages/id/out", &folder);
    assert!(folder.join("_SUCCESS").exists());
    rows_of(&folder)
}

#[test]
fn a_job_reads_and_writes_stages_as_it_does_folders() {
    for cloud in Cloud::ALL {
        let scenario = Scenario::with_files(&[700, 300, 5], 100);
        let Some((gateway, bucket)) = bucket_of(&scenario, cloud) else {
            continue;
        };
        let job = [
            "run",
            "--model",
            "echo",
            "--input",
            "@db.s.files/in",
            "--output",
            "@DB.\"S\".files/out",
        ];
        let ran = run(program(scenario.path(), &job)).ok();
        for key in bucket.keys() {
            let secret = key.rsplit("sig=").next().unwrap().to_string();
            assert!(!ran.stderr.contains(&secret), "{}", ran.stderr);
        }
        assert_eq!(gateway.count("login-request"), 1, "a process logs in once");
        scenario.run(&[]).ok();
        assert_eq!(rows_on(&bucket, &scenario), scenario.rows(), "{cloud:?}");
        for statement in gateway.statements() {
            assert!(statement.starts_with("PUT 'file:///tmp/floe' "), "{statement}");
        }
    }
}

#[test]
fn a_model_may_lie_on_a_stage_too() {
    let scenario = Scenario::new();
    let flights = project().join("examples/flights");
    let bucket = Bucket::new(Cloud::Amazon).unwrap();
    upload(&bucket, &flights.join("model"), "stages/id/model");
    upload(&bucket, &flights.join("data"), "stages/id/in");
    let gateway = Gateway::new().with_stage("DB.S.My stage", Stage::bucket(&bucket, "stages/id"));
    write_connection(scenario.path(), &gateway, "database = \"db\"\nschema = \"s\"\n");
    let job = [
        "run",
        "--model",
        "@\"My stage\"/model",
        "--input",
        "'@s.\"My stage\"/in'",
        "--output",
        "@\"My stage\"/out",
    ];
    run(program(scenario.path(), &job)).ok();
    let folder = scenario.path().join("downloaded");
    download(&bucket, "stages/id/out", &folder);
    assert!(folder.join("_SUCCESS").exists());
}

#[test]
fn a_role_that_may_only_read_reads_and_is_told_why_it_can_not_write() {
    let scenario = Scenario::with_files(&[100, 20], 50);
    let bucket = Bucket::new(Cloud::Amazon).unwrap();
    upload(&bucket, &scenario.input(), "stages/id/in");
    let gateway = Gateway::new().with_stage("DB.S.FILES", Stage::bucket(&bucket, "stages/id").read_only());
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
    assert_eq!(scenario.rows().len(), 120);
    let write = [
        "run",
        "--model",
        "echo",
        "--input",
        "@db.s.files/in",
        "--output",
        "@db.s.files/out",
    ];
    run(program(scenario.path(), &write)).fails(8, &["the role may only read this stage", "GRANT WRITE"]);
    let one = [
        "plan",
        "--model",
        "echo",
        "--input",
        "@db.s.files/in/part-0001.parquet",
        "--output",
        "/nowhere",
    ];
    run(program(scenario.path(), &one)).ok();
}

/// As inside a container: a token file that the platform renews, no connections, and two processes of one run.
#[test]
fn inside_a_container_each_login_reads_the_token_as_it_is_then() {
    let scenario = Scenario::with_files(&[200, 200], 100);
    let (gateway, bucket) = bucket_of(&scenario, Cloud::Amazon).unwrap();
    let tokens = scenario.path().join("session");
    std::fs::create_dir(&tokens).unwrap();
    std::fs::write(tokens.join("spcs_token"), " identity-c4n4ry \n").unwrap();
    let inside = |index: &str| {
        let job = [
            "run",
            "--model",
            "echo",
            "--input",
            "@files/in",
            "--output",
            "@files/out",
            "--run-id",
            "one",
            "--replicas",
            "2",
            "--replica-index",
            index,
        ];
        let mut command = program(&scenario.path().join("nobody"), &job);
        command.envs([
            ("FLOE_SNOWFLAKE_SESSION_FOLDER", tokens.to_str().unwrap()),
            ("SNOWFLAKE_HOST", "127.0.0.1"),
            ("SNOWFLAKE_PORT", &gateway.port()),
            ("SNOWFLAKE_PROTOCOL", "http"),
            ("SNOWFLAKE_ACCOUNT", ACCOUNT),
            ("SNOWFLAKE_DATABASE", "DB"),
            ("SNOWFLAKE_SCHEMA", "S"),
            ("SNOWFLAKE_RUNNING_INSIDE_SPCS", "true"),
        ]);
        command
    };
    let replace = |token: &str| {
        gateway.state().tokens = vec![("OAUTH", token.to_string())];
        std::fs::write(tokens.join("token"), format!("{token}\n")).unwrap();
    };
    replace("first-c4n4ry");
    run(inside("0")).ok();
    replace("second-c4n4ry");
    run(inside("1")).ok();
    scenario.run(&[]).ok();
    assert_eq!(rows_on(&bucket, &scenario), scenario.rows());
    for seen in gateway
        .state()
        .seen
        .iter()
        .filter(|seen| seen.route == "login-request")
    {
        assert_eq!(seen.body["data"]["SPCS_TOKEN"], "identity-c4n4ry");
        assert_eq!(seen.query["databaseName"], "DB");
    }
    std::fs::write(tokens.join("token"), "old-c4n4ry").unwrap();
    run(inside("0")).fails(8, &["390303", "the OAuth token is not accepted or has expired"]);
}

#[test]
fn every_way_to_log_in_without_a_screen_works() {
    let key = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    let scenario = Scenario::with_files(&[10], 10);
    let (gateway, _bucket) = bucket_of(&scenario, Cloud::Amazon).unwrap();
    let (pem, encrypted) = super::keys::write(&key, scenario.path(), "passphrase-c4n4ry");
    gateway.state().public_key = Some(super::keys::public(&key));
    gateway.state().tokens = vec![
        ("PROGRAMMATIC_ACCESS_TOKEN", "pat-c4n4ry".to_string()),
        ("OAUTH", "oauth-c4n4ry".to_string()),
    ];
    let token = scenario.path().join("pat");
    std::fs::write(&token, "pat-c4n4ry\n").unwrap();
    for lines in [
        format!("user = {USER:?}\nprivate_key_file = {pem:?}\nauthenticator = \"snowflake_jwt\""),
        format!(
            "user = {USER:?}\nprivate_key_path = {encrypted:?}\nprivate_key_passphrase = \"passphrase-c4n4ry\""
        ),
        format!("user = {USER:?}\nprivate_key_file = {encrypted:?}"),
        format!(
            "user = {USER:?}\nauthenticator = \"PROGRAMMATIC_ACCESS_TOKEN\"\ntoken_file_path = {token:?}"
        ),
        "authenticator = \"oauth\"\ntoken = \"oauth-c4n4ry\"".to_string(),
    ] {
        write_connection_of(scenario.path(), &gateway, &lines);
        let job = [
            "plan",
            "--model",
            "echo",
            "--input",
            "@db.s.files/in",
            "--output",
            "/nowhere",
        ];
        let mut command = program(scenario.path(), &job);
        command.env("PRIVATE_KEY_PASSPHRASE", "passphrase-c4n4ry");
        run(command).ok();
    }
    for (lines, code, said) in [
        (
            "user = \"floe_user\"\npassword = \"wrong-c4n4ry\"".to_string(),
            2,
            "Incorrect username or password",
        ),
        (
            format!("user = \"other\"\nprivate_key_file = {pem:?}"),
            2,
            "RSA_PUBLIC_KEY_FP",
        ),
        (
            "authenticator = \"programmatic_access_token\"\ntoken = \"old-c4n4ry\"".to_string(),
            2,
            "394400",
        ),
        (
            format!("user = {USER:?}\nprivate_key_file = {encrypted:?}"),
            2,
            "is encrypted",
        ),
        (
            "user = \"u\"\nauthenticator = \"externalbrowser\"".to_string(),
            2,
            "in front of a screen",
        ),
    ] {
        write_connection_of(scenario.path(), &gateway, &lines);
        let job = [
            "plan",
            "--model",
            "echo",
            "--input",
            "@db.s.files/in",
            "--output",
            "/nowhere",
        ];
        run(program(scenario.path(), &job)).fails(code, &[said]);
    }
}

/// Two stages of other names, one inside the other; by their text nobody could tell.
#[test]
fn an_output_that_would_clear_its_input_is_seen_through_the_names_of_stages() {
    let scenario = Scenario::with_files(&[10], 10);
    let (gateway, bucket) = bucket_of(&scenario, Cloud::Amazon).unwrap();
    let inner = Stage::bucket(&bucket, "stages/id/in");
    gateway.state().stages.insert("DB.S.INNER".to_string(), inner);
    let job = [
        "run",
        "--model",
        "echo",
        "--input",
        "@db.s.inner",
        "--output",
        "@db.s.files",
    ];
    run(program(scenario.path(), &job)).fails(2, &["the output contains the input"]);
}

/// What `floe store-check` finds on a stage: all promises where credentials are lent, those of the weaker protocol where
/// files go through signed URLs.
#[test]
fn what_a_stage_can_promise_is_told_by_its_cloud() {
    for cloud in Cloud::ALL {
        let scenario = Scenario::new();
        let Some((_gateway, _bucket)) = bucket_of(&scenario, cloud) else {
            continue;
        };
        let check = ["store-check", "@db.s.files/checked", "--quick", "--json"];
        let report = run(program(scenario.path(), &check)).ok().json();
        assert_eq!(report["store_class"], "A", "{cloud:?}: {report}");
    }
    let scenario = Scenario::new();
    let stage = scenario.path().join("stage");
    let gateway = Gateway::new().with_stage("DB.S.FILES", Stage::signed(&stage));
    write_connection(scenario.path(), &gateway, "");
    let check = ["store-check", "@db.s.files/checked", "--quick", "--json"];
    let report = run(program(scenario.path(), &check)).ok().json();
    assert_eq!(report["store_class"], "B", "{report}");
}
