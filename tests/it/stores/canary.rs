//! Credentials of stores are in nothing that is said or written: whichever way they came, through success and through
//! every kind of failure, at the most talkative level of logging.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::dialect::SECRET;
use super::faults::Fault;
use super::jobs::{download, upload};
use super::{Cloud, Place};
use crate::support::{Run, Scenario, finish, floe};

/// How the secrets get to the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Channel {
    Environment,
    JobFile,
}

/// The place's settings with secrets in them, and whether its server takes them.
fn secrets(place: &Place) -> Vec<(String, String)> {
    let mut settings = place.settings();
    let own = match place.cloud {
        Cloud::Azure => vec![("azure_storage_sas_key", "sv=2023-11-03&sr=c&sig=c4n4ry%2Bx%3D")],
        Cloud::Google => vec![("google_bearer_token", "ya29.c4n4ry-bearer")],
        _ => vec![
            ("aws_access_key_id", "AKIAc4n4ry"),
            ("aws_secret_access_key", "c4n4ry/Zm9v+YmFy"),
            ("aws_session_token", "FwoGZXIvc4n4ry=="),
        ],
    };
    if place.cloud == Cloud::Azure {
        settings.remove("azure_storage_account_key");
    }
    settings.extend(
        own.into_iter()
            .map(|(name, value)| (name.to_string(), value.to_string())),
    );
    settings.into_iter().collect()
}

/// Commands that use the place, told their secrets by the channel.
fn commands(place: &Place, folder: &Path, channel: Channel, output: &str) -> Vec<Command> {
    let at = |path: &str| format!("{}/{path}", place.url);
    let options: serde_json::Map<_, _> = secrets(place)
        .into_iter()
        .map(|(name, value)| (name, value.into()))
        .collect();
    let mut storage = json!({"retry_secs": 0.3, "stall_secs": 1});
    if channel == Channel::JobFile {
        storage["options"] = options.clone().into();
    }
    let document = json!({
        "job_name": "canary", "run_id": "canary",
        "model": {"location": "echo"},
        "input": {"stage_location": at("in")},
        "output": {"stage_location": at(output)},
        "storage": storage,
    });
    let file = folder.join("job.json");
    std::fs::write(&file, document.to_string()).unwrap();
    let job = file.to_str().unwrap();
    let mut commands = Vec::new();
    for format in ["text", "json"] {
        for arguments in [
            &["plan"][..],
            &["check", "--json"],
            &["run", "--json"],
            &["run", "--replicas", "2"],
        ] {
            let mut command = floe([arguments, &[job, "--log", "trace", "--log-format", format]].concat());
            if channel == Channel::Environment {
                for (name, value) in &options {
                    command.env(name.to_uppercase(), value.as_str().unwrap());
                }
            }
            commands.push(command);
        }
    }
    commands
}

#[track_caller]
fn no_canary(name: &str, run: &Run) {
    for (stream, text) in [("stdout", &run.stdout), ("stderr", &run.stderr)] {
        let line = text.lines().find(|line| line.contains(SECRET));
        assert!(line.is_none(), "{name}: on {stream}: {}", line.unwrap());
    }
}

/// Failure matrix: 51, 64.
#[test]
fn credentials_of_s3_are_in_nothing_that_is_said_or_written() {
    search_all(Cloud::S3);
}

/// Failure matrix: 51, 64.
#[test]
fn credentials_of_azure_are_in_nothing_that_is_said_or_written() {
    search_all(Cloud::Azure);
}

/// Failure matrix: 51, 64.
#[test]
fn credentials_of_google_are_in_nothing_that_is_said_or_written() {
    search_all(Cloud::Google);
}

fn search_all(cloud: Cloud) {
    let faults = [
        Fault::None,
        Fault::Busy,
        Fault::Expired,
        Fault::ResetAfter,
        Fault::Truncate,
        Fault::Garbage,
        Fault::Refuse(403, "SignatureDoesNotMatch"),
        Fault::Refuse(400, "AuthorizationHeaderMalformed"),
        Fault::Refuse(301, "PermanentRedirect"),
        Fault::Refuse(500, "InternalError"),
    ];
    let Some(place) = Place::new(cloud) else { return };
    let scenario = Scenario::with_files(&[40, 20], 30);
    upload(&place, "in", &scenario.input());
    let (mut succeeded, mut failed) = (0, 0);
    for (number, &fault) in faults.iter().enumerate() {
        for channel in [Channel::Environment, Channel::JobFile] {
            let output = format!("out-{number}-{channel:?}");
            let mut commands = commands(&place, scenario.path(), channel, &output);
            // All of them where it is about what goes well. Of failures, which resemble each other, one: mostly a check,
            // since a run does not give up so soon.
            if number > 0 {
                let format = commands.len() / 2 * usize::from(channel == Channel::JobFile);
                let command = if number == 6 { 2 } else { 1 };
                commands = commands.into_iter().skip(format + command).take(1).collect();
            }
            for command in commands {
                // What was planned goes wrong at the first request or in the midst.
                let first = 1 + number % 3;
                place
                    .front
                    .set_rule(move |seen| if seen.number >= first { fault } else { Fault::None });
                let run = finish(command);
                no_canary(&format!("{cloud:?}: {fault:?}, {channel:?}"), &run);
                assert!(
                    run.stderr.len() + run.stdout.len() > 100,
                    "it said nothing: {run:?}"
                );
                match run.code {
                    Some(0) => succeeded += 1,
                    Some(_) => failed += 1,
                    None => panic!("{run:?}"),
                }
            }
            place.front.set_rule(|_| Fault::None);
        }
    }
    // Azurite checks signatures, so there even what should go well does not.
    assert!(
        failed >= 12 && (succeeded > 5 || cloud == Cloud::Azure),
        "{cloud:?}: {succeeded} and {failed}"
    );
    let fetched = scenario.path().join("fetched");
    download(&place, "", &fetched);
    let searched = search(&fetched);
    assert!(
        searched > if cloud == Cloud::Azure { 1 } else { 6 },
        "{cloud:?}: only {searched} files"
    );
}

/// Failure matrix: 64.
#[test]
fn a_signature_in_a_url_is_used_and_in_nothing_that_is_said() {
    let place = Place::new(Cloud::S3).unwrap();
    let scenario = Scenario::with_files(&[10], 10);
    let input = scenario.input();
    let input = input.to_str().unwrap();
    for url in [
        "https://acc.blob.core.windows.net/c/x?sv=2024&sp=r&sig=c4n4ry%2Bx",
        "s3://AKIA:c4n4ry@bucket/x",
        "s3://bucket/x?X-Amz-Signature=c4n4ry",
        "gs://bucket/x#c4n4ry",
        "az://user:c4n4ry@acc.blob.core.windows.net/x",
    ] {
        for format in ["text", "json"] {
            let mut command = floe([
                "run",
                "--model",
                "echo",
                "--input",
                input,
                "--output",
                url,
                "--log",
                "trace",
                "--log-format",
                format,
            ]);
            // So that nothing leaves the machine.
            command
                .env(
                    "AZURE_STORAGE_ENDPOINT",
                    format!("http://{}/acc", place.front.address()),
                )
                .env("AZURE_ALLOW_HTTP", "true");
            place
                .front
                .set_rule(|_| Fault::Refuse(403, "AuthenticationFailed"));
            let run = finish(command);
            assert!(run.code != Some(0), "{url}: {run:?}");
            no_canary(url, &run);
            let sent = place
                .front
                .seen()
                .iter()
                .any(|seen| seen.path.contains("sig=c4n4ry"));
            assert_eq!(sent, url.contains("&sig="), "{url}: {:?}", place.front.seen());
        }
    }
}

/// Searches the contents of all files below a folder; answers with how many there are.
fn search(folder: &Path) -> usize {
    let mut searched = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            searched += search(&path);
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let has_canary = bytes
            .windows(SECRET.len())
            .any(|window| window == SECRET.as_bytes());
        assert!(!has_canary, "in {}", path.display());
        searched += 1;
    }
    searched
}
