//! The marker as it lies in the store: what is read is written and read back the same.

use floe::commit::success::{FORMAT, Owner, Success, Versions};
use floe::storage::Entry;

pub fn run(bytes: &[u8]) {
    let owner = Owner::of(bytes);
    let Ok(marker) = Success::read(bytes) else { return };
    assert_eq!(
        owner,
        Some(Owner {
            run_id: marker.run_id.clone(),
            epoch: marker.epoch
        })
    );
    assert_eq!(Success::read(&marker.to_json()).expect("written by Floe"), marker);
    let entries = marker.files.iter().map(|file| Entry {
        key: file.path.clone(),
        size: file.bytes,
    });
    let listing: Vec<Entry> = entries.collect();
    let mut paths: Vec<&str> = marker.files.iter().map(|file| file.path.as_str()).collect();
    paths.sort_unstable();
    paths.dedup();
    if paths.len() == marker.files.len() {
        marker.check_sizes(&listing).expect("every file is there");
    }
    if !marker.files.is_empty() {
        marker.check_sizes(&[]).expect_err("no file is there");
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let file = super::record_json::file;
    let marker = |files: Vec<_>| Success {
        format: FORMAT,
        run_id: "run".into(),
        job_name: "job".into(),
        epoch: 3,
        plan_digest: "sha256:2".into(),
        config_digest: "sha256:0".into(),
        model_digest: "sha256:1".into(),
        function: Some("predict".into()),
        versions: Versions {
            worker: "0.1.0".into(),
        },
        store_class: Default::default(),
        units: 2,
        rows: 20,
        files,
    };
    vec![
        marker(vec![]).to_json(),
        marker(vec![file(""), file("a=1")]).to_json(),
    ]
}
