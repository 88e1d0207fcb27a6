//! A commit record: its name, a line feed, its body. A name that parses is the one name of its facts, and a body that
//! is read agrees with its name.

use floe::commit::layout::{DataName, RecordName, data_key, is_of_run, may_be_data};
use floe::commit::record::{FORMAT, files_of_name, read_names};
use floe::commit::{Checksum, OutputFile, Record};
use floe::storage::Entry;

const EPOCH: u64 = 3;

pub fn run(bytes: &[u8]) {
    let end = bytes
        .iter()
        .position(|byte| *byte == b'\n')
        .unwrap_or(bytes.len());
    let Ok(key) = std::str::from_utf8(&bytes[..end]) else {
        return;
    };
    let body = bytes.get(end + 1..).unwrap_or_default();
    if let Some(data) = DataName::parse(key) {
        assert_eq!(data.key(), key);
    }
    let _ = (is_of_run(key, "run"), may_be_data(key));
    // Fuzzing soon finds bodies; that one agrees with a name it finds less often.
    if let Ok(record) = serde_json::from_slice::<Record>(body) {
        read_back(&record);
    }
    let Some(name) = RecordName::parse(key, EPOCH) else {
        return;
    };
    assert_eq!(name.key(EPOCH), key);
    if let Some(files) = files_of_name(&name, "run") {
        assert_eq!(files.iter().map(|file| file.rows).sum::<u64>(), name.rows);
    }
    let entry = Entry {
        key: key.into(),
        size: body.len() as u64,
    };
    let plan = super::plan_json::plan();
    if let Ok(names) = read_names(&[entry], EPOCH, &plan, "sha256:2") {
        assert!(names.keys().all(|unit| (*unit as usize) < plan.units.len()));
    }
    if let Ok(record) = Record::read(body, name, EPOCH) {
        assert_eq!(record.name(), name);
        read_back(&record);
    }
}

fn read_back(record: &Record) {
    let written = record.to_json();
    let name = record.name();
    match Record::read(&written, name, record.epoch) {
        Ok(again) => assert_eq!(&again, record),
        Err(error) => assert!(record.format != FORMAT, "{error}"),
    }
}

fn record(files: Vec<OutputFile>) -> Record {
    Record {
        format: FORMAT,
        run_id: "run".into(),
        epoch: EPOCH,
        unit: 1,
        plan_digest: "sha256:2".into(),
        rows: files.iter().map(|file| file.rows).sum(),
        files,
        stats: serde_json::Map::from_iter([("secs".to_string(), 1.5.into())]),
    }
}

/// An object of unit 1.
pub fn file(folder: &str) -> OutputFile {
    OutputFile {
        path: data_key(folder, 1, "run"),
        bytes: 7,
        rows: 10,
        checksum: Checksum::of(b"content"),
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    [vec![], vec![file("")], vec![file("a=1"), file("a=2/b=%2F")]]
        .into_iter()
        .map(|files| {
            let record = record(files);
            let mut seed = record.name().key(EPOCH).into_bytes();
            seed.push(b'\n');
            seed.extend(record.to_json());
            seed
        })
        .collect()
}
