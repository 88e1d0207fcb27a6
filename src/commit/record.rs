//! Commit records: the proof that a unit is done.
//!
//! A record is stored after the unit's data objects, never before. Its *name* ([`RecordName`]) decides; its body
//! repeats the facts, lists the objects of a partitioned unit, and keeps statistics that nothing decides on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::json::{self, MAX_RECORD_BYTES};
use super::layout::{PlanTag, RecordName, Seal, data_key};
use super::refusal;
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::storage::{Entry, Rope};

/// Version of the record's JSON form.
pub const FORMAT: u32 = 1;

/// XXH3 of an object's bytes, 128 bits; written `xxh3:<32 hex digits>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Checksum(pub u128);

impl Checksum {
    /// The checksum of `bytes`.
    pub fn of(bytes: &[u8]) -> Checksum {
        Checksum(xxh3_128(bytes))
    }

    /// The checksum of the bytes of a rope.
    pub fn of_rope(bytes: &Rope) -> Checksum {
        Checksum(bytes.xxh3())
    }

    /// The 32 hex digits alone, for names.
    pub fn hex(self) -> String {
        format!("{:032x}", self.0)
    }

    /// Reads 32 lower-case hex digits.
    pub fn from_hex(hex: &str) -> Option<Checksum> {
        let lower = hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        (lower && hex.len() == 32)
            .then(|| u128::from_str_radix(hex, 16).ok().map(Checksum))
            .flatten()
    }
}

impl std::fmt::Display for Checksum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "xxh3:{}", self.hex())
    }
}

impl From<Checksum> for String {
    fn from(checksum: Checksum) -> String {
        checksum.to_string()
    }
}

impl TryFrom<String> for Checksum {
    type Error = String;

    fn try_from(text: String) -> Result<Checksum, String> {
        text.strip_prefix("xxh3:")
            .and_then(Checksum::from_hex)
            .ok_or_else(|| format!("{text:?} is not a checksum (xxh3: and 32 hex digits)"))
    }
}

/// A stored data object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputFile {
    /// Key relative to the output folder.
    pub path: String,
    /// Bytes.
    pub bytes: u64,
    /// Rows.
    pub rows: u64,
    /// Of the whole object.
    pub checksum: Checksum,
}

/// The body of a commit record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// [`FORMAT`]
    pub format: u32,
    /// The run.
    pub run_id: String,
    /// The run's epoch.
    pub epoch: u64,
    /// The unit.
    pub unit: u32,
    /// The plan that the unit is a part of.
    pub plan_digest: String,
    /// Rows of all objects.
    pub rows: u64,
    /// The unit's data objects, sorted by path.
    pub files: Vec<OutputFile>,
    /// What the pipeline says about how it went (replica, seconds per stage …). Nothing that counts
    /// decides on it.
    pub stats: Map<String, Value>,
}

impl Record {
    /// The name that the record is stored under.
    pub fn name(&self) -> RecordName {
        let plain = data_key("", self.unit, &self.run_id);
        let seal = match self.files.as_slice() {
            [] => Seal::Nothing,
            [file] if file.path == plain => Seal::Object(file.checksum),
            files => Seal::List(seal_list(files)),
        };
        RecordName {
            unit: self.unit,
            rows: self.rows,
            bytes: self.files.iter().map(|file| file.bytes).sum(),
            files: self.files.len() as u32,
            plan: PlanTag::of(&self.plan_digest),
            seal,
        }
    }

    /// Reads the body stored under `name` in `epoch`, and checks that the two agree.
    pub fn read(body: &[u8], name: RecordName, epoch: u64) -> Result<Record> {
        let key = name.key(epoch);
        let record: Record = json::read(body, &key, FORMAT, MAX_RECORD_BYTES)?;
        if record.name() != name || record.epoch != epoch {
            return Err(
                Error::storage("the commit record's body does not agree with its name")
                    .with("unit", name.unit)
                    .with("key", key),
            );
        }
        Ok(record)
    }

    /// The body's bytes.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a record has only string keys")
    }
}

/// The objects that a record's name alone tells; `None` if its body has to be read (partitioned output).
pub fn files_of_name(name: &RecordName, run_id: &str) -> Option<Vec<OutputFile>> {
    match name.seal {
        Seal::Nothing => Some(Vec::new()),
        Seal::Object(checksum) => Some(vec![OutputFile {
            path: data_key("", name.unit, run_id),
            bytes: name.bytes,
            rows: name.rows,
            checksum,
        }]),
        Seal::List(_) => None,
    }
}

/// The records in a listing of an epoch's record folder, by unit. A name that no record has is left out: it proves
/// nothing. A record of another plan, two records of one unit, a unit that the plan doesn't have, or other rows than the
/// plan's are errors.
pub fn read_names(
    listing: &[Entry],
    epoch: u64,
    plan: &Plan,
    plan_digest: &str,
) -> Result<BTreeMap<u32, RecordName>> {
    let tag = PlanTag::of(plan_digest);
    let mut records: BTreeMap<u32, RecordName> = BTreeMap::new();
    for entry in listing {
        let Some(name) = RecordName::parse(&entry.key, epoch) else {
            continue;
        };
        json::check_size(entry.size, &entry.key, MAX_RECORD_BYTES)?;
        if name.plan != tag {
            return Err(refusal::two_plans(name.unit).with("key", &entry.key));
        }
        let Some(unit) = plan.units.get(name.unit as usize) else {
            return Err(
                Error::storage("a commit record names a unit that the plan does not have")
                    .with("unit", name.unit)
                    .with("key", &entry.key),
            );
        };
        if unit.rows != name.rows {
            return Err(Error::storage(format!(
                "the commit record says {} rows where the plan has {}",
                name.rows, unit.rows
            ))
            .with("unit", name.unit)
            .with("key", &entry.key));
        }
        if let Some(other) = records.insert(name.unit, name) {
            return Err(
                Error::storage("two commit records say different things about one unit")
                    .with("unit", name.unit)
                    .with("key", format!("{} and {name}", other))
                    .with_hint("the model's partitions differ between two attempts; start a new run"),
            );
        }
    }
    Ok(records)
}

fn seal_list(files: &[OutputFile]) -> Checksum {
    let mut hash = Xxh3::new();
    for file in files {
        hash.update(&(file.path.len() as u64).to_le_bytes());
        hash.update(file.path.as_bytes());
        hash.update(&file.bytes.to_le_bytes());
        hash.update(&file.rows.to_le_bytes());
        hash.update(&file.checksum.0.to_le_bytes());
    }
    Checksum(hash.digest128())
}
