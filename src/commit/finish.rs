//! Finishing: whoever sees every record checks the output and writes `_SUCCESS` (steps P7 to P11).
//!
//! No process waits for another. Records only grow, so the process that stored the last one sees all of them when it
//! lists afterwards; several may, and the marker's content doesn't depend on who writes it. The newest epoch is
//! looked at before the marker and after it: a run that finds itself superseded takes its marker back.

use std::collections::{BTreeMap, BTreeSet};

use super::claim::{check_newest, epoch_owner, read_epochs};
use super::json::{self, MAX_PLAN_BYTES};
use super::layout::{self, DataName, EPOCHS, MARKER, RecordName, RunTag, epoch_key, records_folder};
use super::machine::{Answer, CreateOnce, Found, Machine, Op, Step, Tries, out_of_turn};
use super::record::{OutputFile, Record, files_of_name, read_names};
use super::seeded::{Bug, seeded};
use super::success::{Success, check_sizes};
use super::{Claimed, Finished, refusal};
use crate::config::SaveMode;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::Entry;

/// Steps P7 to P11. See the [module](self) page.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Finish {
    claimed: Claimed,
    records: BTreeMap<u32, RecordName>,
    /// What the records name, as far as read.
    files: Vec<OutputFile>,
    /// Runs of older epochs, as far as they had to be read.
    older: BTreeMap<u64, RunTag>,
    tries: Tries,
    at: At,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum At {
    ListRecords,
    /// Units without a record. Were ours cleared by a newer run?
    FencePart(Vec<u32>),
    /// Units whose record's body has to be read, the next one last.
    ReadRecords(Vec<u32>),
    ListOutput,
    /// The output's listing, to be judged if no newer run exists.
    Fence(Vec<Entry>),
    /// Whose files are these? Older epochs left to read, the next one last.
    ReadOlder {
        left: Vec<u64>,
        foreign: Vec<String>,
    },
    DeleteFiles(Vec<String>),
    Create(CreateOnce),
    FenceMarker,
    DeleteMarker,
    Backoff,
    LastFence,
    ReadMarker {
        superseded_by: Option<u64>,
    },
    Withdraw {
        superseded_by: u64,
    },
    Done(Finished),
}

impl Finish {
    /// Begins at the listing of records.
    pub fn new(claimed: Claimed) -> Finish {
        Finish {
            claimed,
            records: BTreeMap::new(),
            files: Vec::new(),
            older: BTreeMap::new(),
            tries: Tries::default(),
            at: At::ListRecords,
        }
    }

    fn saw_records(&mut self, listing: &[Entry]) -> Result<At> {
        self.records = read_names(listing, self.claimed.epoch, &self.claimed.plan)?;
        let units = 0..self.claimed.plan.units.len() as u32;
        let missing: Vec<u32> = units.filter(|unit| !self.records.contains_key(unit)).collect();
        if !missing.is_empty() && !seeded(Bug::MarkerTooEarly) {
            return Ok(At::FencePart(missing));
        }
        let mut unread = Vec::new();
        for (unit, name) in &self.records {
            match files_of_name(name, &self.claimed.plan.run_id) {
                Some(files) => self.files.extend(files),
                None => unread.push(*unit),
            }
        }
        unread.reverse();
        Ok(read_or_list(unread))
    }

    fn saw_record(&mut self, unit: u32, body: &[u8]) -> Result<()> {
        let record = Record::read(body, self.records[&unit], self.claimed.epoch)?;
        if record.plan_digest != self.claimed.plan_digest {
            return Err(
                Error::storage("a unit was committed by a process that worked from another plan")
                    .with("unit", unit)
                    .with_hint("start a new run"),
            );
        }
        self.files.extend(record.files);
        Ok(())
    }

    /// Judges what the output holds; no newer run exists.
    fn judge(&self, listing: &[Entry], epochs: &[u64]) -> Result<At> {
        check_sizes(&self.files, listing)?;
        let recorded: BTreeSet<&str> = self.files.iter().map(|file| file.path.as_str()).collect();
        let foreign: Vec<String> = listing
            .iter()
            .map(|entry| entry.key.as_str())
            .filter(|key| layout::may_be_data(key) && !recorded.contains(key))
            .map(str::to_string)
            .collect();
        if foreign.is_empty() {
            return self.create_marker();
        }
        if self.claimed.plan.mode == SaveMode::Error {
            return Err(refusal::foreign_files(foreign.iter().map(String::as_str)));
        }
        let older = epochs.iter().filter(|&&epoch| epoch < self.claimed.epoch);
        let left = older
            .filter(|epoch| !self.older.contains_key(epoch))
            .copied()
            .collect();
        self.read_older_or_delete(left, foreign)
    }

    fn read_older_or_delete(&self, left: Vec<u64>, foreign: Vec<String>) -> Result<At> {
        if !left.is_empty() {
            return Ok(At::ReadOlder { left, foreign });
        }
        // A process of an older run stored these after it should have stopped. Anything else is the user's.
        let older: BTreeSet<&RunTag> = self.older.values().collect();
        let strangers: Vec<&str> = foreign
            .iter()
            .map(String::as_str)
            .filter(|key| !DataName::parse(key).is_some_and(|name| older.contains(&name.run)))
            .collect();
        if !strangers.is_empty() {
            return Err(refusal::foreign_files(strangers.into_iter()));
        }
        Ok(At::DeleteFiles(foreign))
    }

    fn create_marker(&self) -> Result<At> {
        let body = Success::new(&self.claimed, self.files.clone()).to_json();
        json::check_size(body.len() as u64, MARKER, MAX_PLAN_BYTES).map_err(|error| {
            error
                .with_hint("the output has too many files for one run: use fewer partitions or split the job")
        })?;
        Ok(At::Create(CreateOnce::new(MARKER, body.into())))
    }

    fn saw_stored_marker(&mut self, body: &[u8]) -> Result<At> {
        if Success::is_of(body, &self.claimed) {
            return Ok(At::LastFence);
        }
        if self.claimed.plan.mode == SaveMode::Error {
            return Err(refusal::foreign_marker());
        }
        self.tries
            .again(MARKER, "another run's marker keeps coming back")?;
        Ok(At::FenceMarker)
    }

    fn superseded(&self, newer: u64) -> Error {
        refusal::superseded(&self.claimed.plan.run_id, self.claimed.epoch, newer)
    }
}

fn read_or_list(unread: Vec<u32>) -> At {
    if unread.is_empty() {
        At::ListOutput
    } else {
        At::ReadRecords(unread)
    }
}

impl Machine for Finish {
    type Output = Finished;

    fn next(&self) -> Step<Finished> {
        let epoch = self.claimed.epoch;
        Step::Store(match &self.at {
            At::ListRecords => Op::list(records_folder(epoch)),
            At::ReadRecords(left) => {
                let unit = left.last().copied().unwrap_or_default();
                Op::get(self.records[&unit].key(epoch))
            }
            At::ListOutput => Op::list(""),
            At::FencePart(_) | At::Fence(_) | At::FenceMarker | At::LastFence => Op::list(EPOCHS),
            At::ReadOlder { left, .. } => Op::get(epoch_key(left.last().copied().unwrap_or_default())),
            At::DeleteFiles(left) => Op::delete(left.last().cloned().unwrap_or_default()),
            At::Create(once) => once.op(),
            At::ReadMarker { .. } => Op::get(MARKER),
            At::DeleteMarker | At::Withdraw { .. } => Op::delete(MARKER),
            At::Backoff => return self.tries.pause(),
            At::Done(finished) => return Step::Done(finished.clone()),
        })
    }

    fn apply(&mut self, answer: Answer) -> Result<()> {
        self.at = match (&mut self.at, answer) {
            (At::ListRecords, Answer::Listed(listing)) => self.saw_records(&listing)?,
            (At::FencePart(missing), Answer::Listed(epochs)) => {
                check_newest(&epochs, &self.claimed)?;
                At::Done(Finished::Incomplete {
                    missing: std::mem::take(missing),
                })
            }
            (At::ReadRecords(left), Answer::Got(Some(body))) => {
                let mut left = std::mem::take(left);
                if let Some(unit) = left.pop() {
                    self.saw_record(unit, &body)?;
                }
                read_or_list(left)
            }
            (At::ListOutput, Answer::Listed(listing)) => At::Fence(listing),
            (At::Fence(listing), Answer::Listed(epochs)) => {
                // First the fence: under a newer run our files may be gone, and that is nobody's fault.
                check_newest(&epochs, &self.claimed)?;
                let listing = std::mem::take(listing);
                self.judge(&listing, &read_epochs(&epochs)?)?
            }
            (At::ReadOlder { left, foreign }, Answer::Got(Some(body))) => {
                let (mut left, foreign) = (std::mem::take(left), std::mem::take(foreign));
                if let (Some(epoch), Some(run_id)) = (left.pop(), epoch_owner(&body)) {
                    self.older.insert(epoch, RunTag::of(&run_id));
                }
                self.read_older_or_delete(left, foreign)?
            }
            (At::DeleteFiles(left), Answer::Deleted) => {
                left.pop();
                if left.is_empty() {
                    At::ListOutput
                } else {
                    At::DeleteFiles(std::mem::take(left))
                }
            }
            (At::Create(once), answer) => match once.apply(answer)? {
                None => At::Create(once.clone()),
                Some(Found::Made) => At::LastFence,
                Some(Found::There { body, .. }) => self.saw_stored_marker(&body)?,
                Some(Found::Absent(why)) => {
                    self.tries.again(MARKER, &why)?;
                    At::Backoff
                }
            },
            (At::FenceMarker, Answer::Listed(epochs)) => {
                check_newest(&epochs, &self.claimed)?;
                At::DeleteMarker
            }
            // Time has passed, or an older run was at work: judge the output anew.
            (At::DeleteMarker, Answer::Deleted) | (At::Backoff, Answer::Waited) => At::ListOutput,
            (At::LastFence, Answer::Listed(epochs)) => At::ReadMarker {
                superseded_by: match check_newest(&epochs, &self.claimed) {
                    Ok(()) => None,
                    Err(error) if error.kind() == ErrorKind::Superseded => read_epochs(&epochs)?.pop(),
                    Err(error) => return Err(error),
                },
            },
            (&mut At::ReadMarker { superseded_by }, Answer::Got(marker)) => {
                let ours = marker.is_some_and(|body| Success::is_of(&body, &self.claimed));
                match superseded_by {
                    Some(superseded_by) if ours => At::Withdraw { superseded_by },
                    Some(newer) => return Err(self.superseded(newer)),
                    None if ours => At::Done(Finished::Complete(Success::new(
                        &self.claimed,
                        self.files.clone(),
                    ))),
                    None => {
                        self.tries
                            .again(MARKER, "the marker vanished after it was stored")?;
                        At::ListOutput
                    }
                }
            }
            (&mut At::Withdraw { superseded_by }, Answer::Deleted) => {
                return Err(self.superseded(superseded_by));
            }
            (At::ReadOlder { .. } | At::ReadRecords(_), Answer::Got(None)) => {
                return Err(refusal::state_lost(self.claimed.epoch));
            }
            (_, answer) => return Err(out_of_turn(&answer)),
        };
        Ok(())
    }
}
