//! Trouble at every single request of a job: whichever one of them goes wrong, in whichever way, the job ends well.
//!
//! Normally each request meets one kind of trouble, another one each; `FLOE_STORES_ALL=1` plays every kind at each.

use super::faults::Fault;
use super::jobs::{download, job_file, upload, verify};
use super::{Cloud, Place};
use crate::support::{Scenario, finish, floe, rows_of};

const KINDS: [Fault; 9] = [
    Fault::ResetAfter,
    Fault::Busy,
    Fault::Expired,
    Fault::Truncate,
    Fault::Stall,
    Fault::CloseAfter,
    Fault::Garbage,
    Fault::ResetBefore,
    Fault::Halt,
];

/// Plays a job to its end with `fault` at request `number`; answers with whether there were so many requests.
fn play(place: &Place, scenario: &Scenario, number: usize, fault: Fault) -> bool {
    let name = format!("{:?}: {fault:?} at request {number}", place.cloud);
    let output = format!("out-{number}-{fault:?}");
    let at = |path: &str| format!("{}/{path}", place.url);
    let job = job_file(place, scenario.path(), "echo", &at("in"), &at(&output));
    place
        .front
        .set_rule(move |seen| if seen.number == number { fault } else { Fault::None });
    let run = finish(floe(["run".as_ref(), job.as_os_str(), "--json".as_ref()]));
    let requests = place.front.seen().len();
    assert_eq!(run.code, Some(0), "{name}: {}\n{}", run.stdout, run.stderr);
    place.front.set_rule(|_| Fault::None);
    let report = verify(place, &output);
    assert_eq!(report["rows"], 60, "{name}");
    let folder = tempfile::tempdir().unwrap();
    download(place, &output, folder.path());
    assert_eq!(rows_of(folder.path()).len(), 60, "{name}");
    requests >= number
}

fn play_all(cloud: Cloud) {
    let Some(place) = Place::new(cloud) else { return };
    let scenario = Scenario::with_files(&[60], 30);
    upload(&place, "in", &scenario.input());
    let all = std::env::var_os("FLOE_STORES_ALL").is_some();
    let mut played = 0;
    for number in 1.. {
        let kinds = if all {
            &KINDS[..]
        } else {
            &KINDS[number % KINDS.len()..][..1]
        };
        let mut was_met = false;
        for &fault in kinds {
            was_met |= play(&place, &scenario, number, fault);
            played += usize::from(was_met);
        }
        if !was_met {
            println!("{cloud:?}: {} requests, {played} jobs with trouble", number - 1);
            assert!(number > 15, "a job has more requests than {number}");
            return;
        }
    }
}

/// Failure matrix: 46, 47, 48, 49, 51.
#[test]
fn trouble_at_any_single_request_to_s3_is_made_good() {
    play_all(Cloud::S3);
}

/// Failure matrix: 46, 47, 48, 49, 51.
#[test]
fn trouble_at_any_single_request_to_azure_is_made_good() {
    play_all(Cloud::Azure);
}

/// Failure matrix: 46, 47, 48, 49, 51.
#[test]
fn trouble_at_any_single_request_to_google_is_made_good() {
    play_all(Cloud::Google);
}

/// Failure matrix: 46, 47, 48.
#[test]
fn trouble_at_any_single_request_to_a_store_of_class_b_is_made_good() {
    play_all(Cloud::S3Unconditional);
}
