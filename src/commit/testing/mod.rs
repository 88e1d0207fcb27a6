//! A world to run the protocol in: a store in memory, processes that can be stepped, killed and lied to, and an
//! oracle that knows the invariants.
//!
//! [`World`] is plain data (clone, compare, hash), so the same one serves a loop that kills at every operation, a
//! random simulator and a model checker. [`World::step`] lets one process do one step under a [`Fault`];
//! [`World::check`] is to be called after every step, [`World::check_end`] when nobody moves any more.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Mutex;

use async_trait::async_trait;
use xxhash_rust::xxh3::xxh3_64;

use super::machine::{Answer, Creation, Op};
use super::seeded::{Bug, plant};
use super::*;
use crate::plan::{self, Part, PlannedFile, Unit};
use crate::storage::{Created, Entry, Rope};

mod oracle;
mod process;
mod sim;
mod space;
mod world;

pub use oracle::{Actor, View};
pub use process::{Ask, Design, Exit, Process, Stage, Start};
pub use sim::{Before, Played, Role, Scenario, Sim, Trouble, Weather, role};
pub use space::{Allowed, End, Searched, Space};
pub use world::{Create, Fault, World, part_of};

/// The objects of an output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Objects(pub BTreeMap<String, Bytes>);

impl Objects {
    pub fn list(&self, prefix: &str) -> Vec<Entry> {
        let folder = if prefix.is_empty() {
            String::new()
        } else {
            format!("{prefix}/")
        };
        self.0
            .iter()
            .filter(|(key, _)| key.starts_with(&folder))
            .map(|(key, body)| Entry {
                key: key.clone(),
                size: body.len() as u64,
            })
            .collect()
    }

    /// Puts if absent; whether it did.
    pub fn create(&mut self, key: &str, body: Bytes) -> bool {
        let free = !self.0.contains_key(key);
        if free {
            self.0.insert(key.to_string(), body);
        }
        free
    }

    /// Carries out an operation as a faultless store does.
    pub fn perform(&mut self, op: &Op) -> Answer {
        match op {
            Op::List { prefix } => Answer::Listed(self.list(prefix)),
            Op::Get { key } => Answer::Got(self.0.get(key).cloned()),
            Op::Head { key } => Answer::Size(self.0.get(key).map(|body| body.len() as u64)),
            Op::Create { key, body } => Answer::Created(if self.create(key, body.join()) {
                Creation::Yes
            } else {
                Creation::Exists
            }),
            Op::Put { key, body } => {
                self.0.insert(key.clone(), body.join());
                Answer::Created(Creation::Yes)
            }
            Op::Delete { key } => {
                self.0.remove(key);
                Answer::Deleted
            }
        }
    }
}

/// [`Objects`] behind the async trait.
#[derive(Default)]
pub struct MapStore(pub Mutex<Objects>);

impl MapStore {
    pub fn insert(&self, key: &str, body: impl Into<Bytes>) {
        self.0.lock().unwrap().0.insert(key.to_string(), body.into());
    }
}

#[async_trait]
impl Store for MapStore {
    async fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        Ok(self.0.lock().unwrap().list(prefix))
    }
    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        Ok(self.0.lock().unwrap().0.get(key).cloned())
    }
    async fn head(&self, key: &str) -> Result<Option<u64>> {
        Ok(self.0.lock().unwrap().0.get(key).map(|body| body.len() as u64))
    }
    async fn create(&self, key: &str, body: Rope) -> Result<Created> {
        let made = self.0.lock().unwrap().create(key, body.join());
        Ok(if made { Created::Yes } else { Created::Exists })
    }
    async fn put(&self, key: &str, body: Rope) -> Result<()> {
        self.insert(key, body.join());
        Ok(())
    }
    async fn delete(&self, key: &str) -> Result<()> {
        self.0.lock().unwrap().0.remove(key);
        Ok(())
    }
}

/// Writes a line past the capture of test output, so that every test run shows the figures.
pub fn show(line: std::fmt::Arguments) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// An object that somebody put into the output who knows nothing of Floe. It may come beside a finished output at any
/// time, so the oracle looks past it; deleting it is another matter.
pub const STRANGER: &str = "stranger.parquet";

/// Runs a future to its end on this thread.
pub fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(future)
}

/// A plan of one file per unit, `rows[i]` rows in file `i`.
pub fn plan_of(run_id: &str, mode: SaveMode, rows: &[u64]) -> Plan {
    let file = |(index, &rows): (usize, &u64)| PlannedFile {
        path: format!("f{index}"),
        size: rows,
        etag: None,
        modified: String::new(),
        rows,
    };
    let unit = |(index, &rows): (usize, &u64)| Unit {
        id: index as u32,
        parts: vec![Part {
            file: index as u32,
            first: 0,
            end: 1,
        }],
        rows,
        bytes: rows,
    };
    Plan {
        format: plan::FORMAT,
        run_id: run_id.into(),
        job_name: "job".into(),
        mode,
        store_class: Default::default(),
        config_digest: "c".into(),
        model_digest: "m".into(),
        worker_version: "0".into(),
        engine: crate::model::Engine::Echo,
        on_gpus: false,
        batch_rows: 1,
        window_rows: None,
        input_schema: arrow::datatypes::Schema::empty(),
        outputs: Vec::new(),
        inputs: rows.iter().enumerate().map(file).collect(),
        units: rows.iter().enumerate().map(unit).collect(),
    }
}

/// A plan that goes with a request.
pub fn plan_for(request: &ClaimRequest, rows: &[u64]) -> Plan {
    Plan {
        store_class: request.store_class,
        ..plan_of(&request.run_id, request.mode, rows)
    }
}

/// A request for run `run_id` that goes with [`plan_of`].
pub fn request(run_id: &str, mode: SaveMode) -> ClaimRequest {
    ClaimRequest {
        run_id: run_id.into(),
        config_digest: "c".into(),
        model_digest: "m".into(),
        function: None,
        mode,
        take_over: false,
        replica_index: 0,
        store_class: StoreClass::A,
    }
}

/// What a row is called.
pub fn row_id(file: u32, row: u64) -> String {
    format!("f{file}#{row}")
}

/// What the test model says about a row: a hash, so that rows that are lost, doubled, swapped or mixed up all show.
/// `word` is what a deterministic model keeps the same.
pub fn predicted(word: &str, row: &str) -> String {
    format!("{:016x} {row}", xxh3_64(format!("{word} {row}").as_bytes()))
}

/// A unit's output under `folder`: one line per row.
pub fn rows_of(claimed: &Claimed, unit: u32, folder: &str, word: &str) -> Vec<NewFile> {
    let planned = &claimed.plan.units[unit as usize];
    if planned.rows == 0 {
        return Vec::new();
    }
    let text: String = (0..planned.rows)
        .map(|row| predicted(word, &row_id(unit, row)) + "\n")
        .collect();
    let path = data_key(folder, unit, &claimed.plan.run_id);
    vec![new_file(path, text, planned.rows)]
}

pub fn new_file(path: String, body: impl Into<Bytes>, rows: u64) -> NewFile {
    let body = body.into();
    NewFile {
        path,
        checksum: Checksum::of(&body),
        body: body.into(),
        rows,
    }
}

/// What the real program learns from a Parquet footer.
pub fn count_rows(body: &Bytes) -> Result<u64> {
    match body.last() {
        Some(b'\n') => Ok(body.iter().filter(|byte| **byte == b'\n').count() as u64),
        _ => Err(Error::data("not the output of the test model")),
    }
}
