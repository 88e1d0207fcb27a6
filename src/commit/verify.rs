//! Verifying a finished output from outside: does it hold what `_SUCCESS` says, and nothing else?
//!
//! Works on any store and without the state folder; where that is kept, the marker is checked against plan and
//! records as well. What is wrong with the output is a [`Problem`] of the [`Report`]; an error means that the store
//! could not be read.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;

use super::digest;
use super::epochs::{read_epochs, read_plan};
use super::layout::{self, EPOCHS, MARKER, epoch_key, records_folder};
use super::record::{Checksum, OutputFile, Record, files_of_name, read_names};
use super::success::Success;
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::storage::{Entry, Store};

/// Objects read at once: enough to overlap reading and hashing, few enough to hold in memory.
const AT_ONCE: usize = 2;

/// How closely to look.
#[derive(Clone, Copy)]
pub enum Depth<'a> {
    /// Names and sizes, by listing.
    Sizes,
    /// Every byte: checksums, and rows as this function counts them in an object.
    Contents(&'a (dyn Fn(&Bytes) -> Result<u64> + Send + Sync)),
}

/// What verifying found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Whether there is no problem.
    pub ok: bool,
    /// The run that wrote the marker, or holds the output.
    pub run_id: Option<String>,
    /// Rows of all data objects, as the marker says.
    pub rows: u64,
    /// Bytes of all data objects, as the marker says.
    pub bytes: u64,
    /// How many data objects the marker names.
    pub files: u64,
    /// Whether plan and records were there to check against; they may be removed after success.
    pub state: bool,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

/// Something that is wrong with an output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What it is.
    pub kind: ProblemKind,
    /// The object.
    pub key: String,
    /// What was found.
    pub message: String,
}

/// Kinds of [`Problem`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// No `_SUCCESS`.
    NoMarker,
    /// A marker that can't be read or contradicts itself.
    BadMarker,
    /// A newer run has claimed the output.
    NewerRun,
    /// Plan and marker disagree, or the plan can't be read.
    Plan,
    /// Records and marker disagree, or a record can't be read.
    Record,
    /// A data object is missing.
    MissingFile,
    /// A data object has another size.
    WrongSize,
    /// A data object has other bytes.
    WrongChecksum,
    /// A data object has another number of rows, or can't be read.
    WrongRows,
    /// Something that may be taken for data and isn't.
    ForeignFile,
}

/// Verifies the output in `store`.
pub async fn verify(store: &dyn Store, depth: Depth<'_>) -> Result<Report> {
    let mut found = Findings::default();
    let listing = store.list("").await?;
    let epochs: Vec<Entry> = listing
        .iter()
        .filter(|entry| entry.key.starts_with(EPOCHS))
        .cloned()
        .collect();
    let marker = match store.get(MARKER).await? {
        None => {
            let run_id = found.no_marker(store, &epochs).await?;
            return Ok(found.report(run_id, None, !epochs.is_empty()));
        }
        Some(body) => match Success::read(&body) {
            Ok(marker) => marker,
            Err(error) => {
                found.add(ProblemKind::BadMarker, MARKER, error.to_string());
                return Ok(found.report(None, None, !epochs.is_empty()));
            }
        },
    };
    found.check_marker(&marker);
    if !epochs.is_empty() {
        found.check_state(store, &marker, &epochs).await?;
    }
    let sound = found.check_listing(&marker, &listing);
    if let Depth::Contents(count_rows) = depth {
        found.check_contents(store, sound, count_rows).await?;
    }
    Ok(found.report(Some(marker.run_id.clone()), Some(&marker), !epochs.is_empty()))
}

#[derive(Default)]
struct Findings(Vec<Problem>);

impl Findings {
    fn add(&mut self, kind: ProblemKind, key: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem {
            kind,
            key: key.into(),
            message: message.into(),
        });
    }

    fn report(self, run_id: Option<String>, marker: Option<&Success>, state: bool) -> Report {
        Report {
            ok: self.0.is_empty(),
            run_id,
            rows: marker.map_or(0, |marker| marker.rows),
            bytes: marker.map_or(0, |marker| marker.files.iter().map(|file| file.bytes).sum()),
            files: marker.map_or(0, |marker| marker.files.len() as u64),
            state,
            problems: self.0,
        }
    }

    /// Says how far the run has come; returns its id.
    async fn no_marker(&mut self, store: &dyn Store, epochs: &[Entry]) -> Result<Option<String>> {
        let Some(&newest) = read_epochs(epochs)?.last() else {
            self.add(
                ProblemKind::NoMarker,
                MARKER,
                "there is no marker and no run: nothing has finished here",
            );
            return Ok(None);
        };
        let key = epoch_key(newest);
        let body = store.get(&key).await?.unwrap_or_default();
        let plan = match read_plan(&body, &key) {
            Ok(plan) => plan,
            Err(error) => {
                self.add(
                    ProblemKind::NoMarker,
                    MARKER,
                    "there is no marker: the run has not finished",
                );
                self.add(ProblemKind::Plan, key, error.to_string());
                return Ok(None);
            }
        };
        let listing = store.list(&records_folder(newest)).await?;
        let done = match read_names(&listing, newest, &plan, &digest::sha256(&body)) {
            Ok(records) => records.len(),
            Err(error) => {
                self.add(ProblemKind::Record, records_folder(newest), error.to_string());
                0
            }
        };
        let (run, units) = (&plan.run_id, plan.units.len());
        self.add(
            ProblemKind::NoMarker,
            MARKER,
            format!("there is no marker: run {run} has committed {done} of {units} units"),
        );
        Ok(Some(plan.run_id))
    }

    fn check_marker(&mut self, marker: &Success) {
        let rows: u64 = marker.files.iter().map(|file| file.rows).sum();
        if rows != marker.rows {
            let message = format!("the marker says {} rows, its files have {rows}", marker.rows);
            self.add(ProblemKind::WrongRows, MARKER, message);
        }
        let names: BTreeSet<&str> = marker.files.iter().map(|file| file.path.as_str()).collect();
        if names.len() != marker.files.len() {
            self.add(ProblemKind::BadMarker, MARKER, "the marker names a file twice");
        }
    }

    async fn check_state(&mut self, store: &dyn Store, marker: &Success, epochs: &[Entry]) -> Result<()> {
        let epochs = read_epochs(epochs)?;
        if let Some(&newest) = epochs.last().filter(|&&newest| newest > marker.epoch) {
            let message = format!(
                "a newer run has claimed epoch {newest}; the marker is of epoch {}",
                marker.epoch
            );
            self.add(ProblemKind::NewerRun, epoch_key(newest), message);
        }
        let key = epoch_key(marker.epoch);
        let Some(body) = store.get(&key).await? else {
            self.add(ProblemKind::Plan, key, "the marker's plan is missing");
            return Ok(());
        };
        let plan = match read_plan(&body, &key) {
            Ok(plan) => plan,
            Err(error) => {
                self.add(ProblemKind::Plan, key, error.to_string());
                return Ok(());
            }
        };
        let digest = digest::sha256(&body);
        for (what, planned, said) in [
            ("run", &plan.run_id, &marker.run_id),
            ("digest", &digest, &marker.plan_digest),
            ("config digest", &plan.config_digest, &marker.config_digest),
            ("model digest", &plan.model_digest, &marker.model_digest),
            ("units", &plan.units.len().to_string(), &marker.units.to_string()),
            ("rows", &plan.rows().to_string(), &marker.rows.to_string()),
        ] {
            if planned != said {
                let message = format!("{what}: the plan has {planned}, the marker says {said}");
                self.add(ProblemKind::Plan, key.clone(), message);
            }
        }
        self.check_records(store, marker, &plan, &digest).await
    }

    async fn check_records(
        &mut self,
        store: &dyn Store,
        marker: &Success,
        plan: &Plan,
        plan_digest: &str,
    ) -> Result<()> {
        let folder = records_folder(marker.epoch);
        let names = match read_names(&store.list(&folder).await?, marker.epoch, plan, plan_digest) {
            Ok(names) => names,
            Err(error) => {
                self.add(ProblemKind::Record, folder, error.to_string());
                return Ok(());
            }
        };
        if names.len() != plan.units.len() {
            let message = format!("{} of {} units have a record", names.len(), plan.units.len());
            self.add(ProblemKind::Record, &folder, message);
        }
        let mut files = Vec::new();
        for name in names.values() {
            if let Some(named) = files_of_name(name, &plan.run_id) {
                files.extend(named);
                continue;
            }
            let key = name.key(marker.epoch);
            let body = store.get(&key).await?.unwrap_or_default();
            match Record::read(&body, *name, marker.epoch) {
                Ok(record) => files.extend(record.files),
                Err(error) => self.add(ProblemKind::Record, key, error.to_string()),
            }
        }
        files.sort();
        if files != marker.files {
            let message = format!(
                "the records name {} files, the marker {}, and they are not the same",
                files.len(),
                marker.files.len()
            );
            self.add(ProblemKind::Record, folder, message);
        }
        Ok(())
    }

    /// Returns the files that are there with the right size.
    fn check_listing(&mut self, marker: &Success, listing: &[Entry]) -> Vec<OutputFile> {
        let sizes: BTreeMap<&str, u64> = listing
            .iter()
            .map(|entry| (entry.key.as_str(), entry.size))
            .collect();
        let mut sound = Vec::with_capacity(marker.files.len());
        for file in &marker.files {
            match sizes.get(file.path.as_str()) {
                None => self.add(ProblemKind::MissingFile, &file.path, "the file is missing"),
                Some(&size) if size != file.bytes => {
                    let message = format!("{size} bytes instead of {}", file.bytes);
                    self.add(ProblemKind::WrongSize, &file.path, message);
                }
                Some(_) => sound.push(file.clone()),
            }
        }
        let named: BTreeSet<&str> = marker.files.iter().map(|file| file.path.as_str()).collect();
        for entry in listing {
            if layout::may_be_data(&entry.key) && !named.contains(entry.key.as_str()) {
                self.add(
                    ProblemKind::ForeignFile,
                    &entry.key,
                    "the marker doesn't name this file",
                );
            }
        }
        sound
    }

    async fn check_contents(
        &mut self,
        store: &dyn Store,
        files: Vec<OutputFile>,
        count_rows: &(dyn Fn(&Bytes) -> Result<u64> + Send + Sync),
    ) -> Result<()> {
        let checks: Vec<Option<Problem>> = stream::iter(files)
            .map(|file| async move {
                let body = store.get(&file.path).await?;
                Ok::<_, Error>(check_content(file, body, count_rows))
            })
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        self.0.extend(checks.into_iter().flatten());
        Ok(())
    }
}

fn check_content(
    file: OutputFile,
    body: Option<Bytes>,
    count_rows: &(dyn Fn(&Bytes) -> Result<u64> + Send + Sync),
) -> Option<Problem> {
    let (kind, message) = match body {
        None => (ProblemKind::MissingFile, "the file is missing".to_string()),
        Some(body) => {
            let checksum = Checksum::of(&body);
            if checksum != file.checksum {
                (
                    ProblemKind::WrongChecksum,
                    format!("{checksum} instead of {}", file.checksum),
                )
            } else {
                match count_rows(&body) {
                    Ok(rows) if rows == file.rows => return None,
                    Ok(rows) => (
                        ProblemKind::WrongRows,
                        format!("{rows} rows instead of {}", file.rows),
                    ),
                    Err(error) => (ProblemKind::WrongRows, error.to_string()),
                }
            }
        }
    };
    Some(Problem {
        kind,
        key: file.path,
        message,
    })
}
