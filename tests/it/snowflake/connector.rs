//! That the gateway speaks what Snowflake's clients expect: the official Python connector is driven against it.

use super::clouds::{Bucket, Cloud};
use super::gateway::Gateway;
use super::keys;
use super::stages::Stage;
use crate::support::check_with;
use std::ffi::OsStr;

/// Logs in by password and by key pair, runs statements that are said to be running twice before their result is there,
/// renews its session every two statements, and moves files there and back on every kind of stage, whose
/// listings come in pieces.
#[test]
fn snowflakes_own_connector_takes_the_gateway_for_snowflake() {
    let folder = tempfile::tempdir().unwrap();
    let stage = folder.path().join("stage");
    std::fs::create_dir(&stage).unwrap();
    let mut stages = vec!["@folder", "@s.signed"];
    let mut gateway = Gateway::new()
        .with_stage("DB.S.FOLDER", Stage::folder(&stage.join("folder")))
        .with_stage("DB.S.SIGNED", Stage::signed(&stage.join("signed")));
    let mut buckets = Vec::new();
    for (cloud, name, written) in [
        (Cloud::Amazon, "DB.S.AMAZON", "@db.s.amazon"),
        (Cloud::Azure, "DB.S.AZURE", "@s.azure"),
        (Cloud::Google, "DB.S.GOOGLE", "@DB.S.\"GOOGLE\""),
    ] {
        if let Some(bucket) = Bucket::new(cloud) {
            gateway = gateway.with_stage(name, Stage::bucket(&bucket, "stages/id"));
            stages.push(written);
            buckets.push(bucket);
        }
    }
    let key = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    keys::write(&key, folder.path(), "passphrase");
    gateway.state().public_key = Some(keys::public(&key));
    gateway.state().token_uses = Some(4);
    gateway.state().looks = 1;
    gateway.state().is_in_pieces = true;
    let (port, path) = (gateway.port(), folder.path().to_str().unwrap().to_string());
    let arguments: Vec<&OsStr> = [&port, &path]
        .map(OsStr::new)
        .into_iter()
        .chain(stages.iter().map(OsStr::new))
        .collect();
    let said = check_with("snowflake_connector.py", &arguments);
    assert_eq!(said["version"], "4.8.1");
    assert_eq!(said["wrong password"], 390100);
    assert_eq!(said["no stage"], 2003);
    assert_eq!(
        (said["one"].as_str(), said["by key"].as_str()),
        (Some("1"), Some("1"))
    );
    let stages_driven = stages.len();
    for stage in stages {
        let done = &said["stages"][stage];
        let name = stage
            .trim_matches('"')
            .rsplit(['.', '@', '"'])
            .next()
            .unwrap()
            .to_lowercase();
        let size = format!("content for {stage}\n").len() * 1000;
        assert_eq!(
            done["put"],
            serde_json::json!(["UPLOADED", "UPLOADED"]),
            "{stage}: {said}"
        );
        assert_eq!(
            done["listed"],
            serde_json::json!([
                [format!("{name}/deep/a file.txt"), size],
                [format!("{name}/deep/b.txt"), 1]
            ]),
            "{stage}"
        );
        assert_eq!(
            (&done["got"], &done["is_same"]),
            (&"DOWNLOADED".into(), &true.into()),
            "{stage}"
        );
        assert_eq!(
            (&done["removed"], &done["left"]),
            (&2.into(), &0.into()),
            "{stage}"
        );
    }
    assert!(gateway.state().pieces_read >= stages_driven);
    assert!(gateway.count("token-request") >= 3, "{:?}", gateway.statements());
    assert!(gateway.count("result") >= 10);
    assert!(buckets.iter().all(|bucket| bucket.lent_and_refused().1 == 0));
}
