//! Finishing: whoever sees every record checks the output and writes `_SUCCESS` (steps P7 to P11).
//!
//! No process waits for another. Records only grow, so the process that stored the last one sees all of them when it
//! lists afterwards; several may, and the marker's content doesn't depend on who writes it. The newest epoch is
//! looked at before the marker and after it: a run that finds itself superseded takes its marker back.
//!
//! Listings of a store of class B may lag, so nothing there is held to be missing, cut or foreign before it has been
//! [looked at by name](super::confirm). A committed object that then turns out to be damaged is its caller's to mend.

use std::collections::{BTreeMap, BTreeSet};

use super::confirm::{Confirm, Doubt, doubts};
use super::create::{CreateOnce, Found};
use super::epochs::{epoch_owner, fence, fenced, read_epochs};
use super::json::{self, MAX_PLAN_BYTES};
use super::layout::{self, DataName, MARKER, RecordName, RunTag, epoch_key, records_folder};
use super::machine::{Answer, Machine, Op, Step, Tries, out_of_turn};
use super::record::{OutputFile, Record, files_of_name};
use super::seeded::{Bug, seeded};
use super::success::{Owner, Success, check_sizes};
use super::{Claimed, Finished, refusal};
use crate::config::SaveMode;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{Entry, StoreClass};

/// How often the records are listed again on a store of class B when some are missing: its listings may lag, and if the
/// last two processes didn't see each other's records, nobody would write the marker.
const LOOKS_AGAIN: u32 = 4;

/// Steps P7 to P11. See the [module](self) page.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Finish {
    claimed: Claimed,
    records: BTreeMap<u32, RecordName>,
    /// What the records name, as far as read.
    files: Vec<OutputFile>,
    /// Runs of older epochs, as far as they had to be read.
    older: BTreeMap<u64, RunTag>,
    /// How often the records will be listed again if some are missing.
    looks: u32,
    tries: Tries,
    at: At,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum At {
    ListRecords,
    /// Class B: some are missing in the listing.
    LookAgain,
    /// Units without a record. Were ours cleared by a newer run?
    FencePart(Vec<u32>),
    /// Units whose record's body has to be read, the next one last.
    ReadRecords(Vec<u32>),
    ListOutput,
    /// The output's listing, to be judged if no newer run exists.
    Fence(Vec<Entry>),
    /// Class B: does the listing mislead?
    Confirm {
        confirm: Confirm,
        epochs: Vec<u64>,
    },
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
            records: BTreeMap::new(),
            files: Vec::new(),
            older: BTreeMap::new(),
            looks: match claimed.store_class() {
                StoreClass::A => 0,
                StoreClass::B => LOOKS_AGAIN,
            },
            tries: Tries::default(),
            at: At::ListRecords,
            claimed,
        }
    }

    /// Believes the first listing of records: what others do meanwhile is the checker's choice.
    #[cfg(test)]
    pub fn impatient(self) -> Finish {
        Finish { looks: 0, ..self }
    }

    /// The hold on the output.
    pub fn claimed(&self) -> &Claimed {
        &self.claimed
    }

    fn saw_records(&mut self, listing: &[Entry]) -> Result<At> {
        self.records = self.claimed.records(listing)?;
        let units = 0..self.claimed.plan.units.len() as u32;
        let missing: Vec<u32> = units.filter(|unit| !self.records.contains_key(unit)).collect();
        if !missing.is_empty() && !seeded(Bug::MarkerTooEarly) {
            return Ok(if self.looks > 0 {
                At::LookAgain
            } else {
                At::FencePart(missing)
            });
        }
        self.files.clear();
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

    fn saw_record(&mut self, unit: u32, body: &[u8]) -> Result<Option<At>> {
        match Record::read(body, self.records[&unit], self.claimed.epoch) {
            Ok(record) => self.files.extend(record.files),
            // Its writer was killed over it: that is no record.
            Err(_) if self.class() == StoreClass::B => return Ok(Some(At::FencePart(vec![unit]))),
            Err(error) => return Err(error),
        }
        Ok(None)
    }

    fn class(&self) -> StoreClass {
        self.claimed.store_class()
    }

    /// Judges what the output holds; no newer run exists.
    fn judge(&self, listing: &[Entry], epochs: Vec<u64>) -> Result<At> {
        let recorded: BTreeSet<&str> = self.files.iter().map(|file| file.path.as_str()).collect();
        let foreign = listing
            .iter()
            .filter(|entry| layout::may_be_data(&entry.key) && !recorded.contains(entry.key.as_str()));
        if self.class() == StoreClass::A {
            check_sizes(&self.files, listing)?;
            return self.judge_foreign(foreign.map(|entry| entry.key.clone()).collect(), &epochs);
        }
        let foreign = foreign.map(|entry| Doubt {
            key: entry.key.clone(),
            expected: None,
            seen: Some(entry.size),
        });
        let doubts: Vec<Doubt> = doubts(&self.files, listing).chain(foreign).collect();
        if doubts.is_empty() {
            return self.create_marker();
        }
        Ok(At::Confirm {
            confirm: Confirm::new(doubts),
            epochs,
        })
    }

    /// Class B: these objects are not as they should be.
    fn confirmed(&self, doubts: Vec<Doubt>, epochs: &[u64]) -> Result<At> {
        let damaged: BTreeSet<u32> = doubts
            .iter()
            .filter(|doubt| doubt.expected.is_some())
            .filter_map(|doubt| DataName::parse(&doubt.key))
            .map(|name| name.unit)
            .collect();
        if damaged.is_empty() {
            return self.judge_foreign(doubts.into_iter().map(|doubt| doubt.key).collect(), epochs);
        }
        Ok(At::Done(Finished::Damaged {
            units: damaged.into_iter().collect(),
        }))
    }

    fn judge_foreign(&self, foreign: Vec<String>, epochs: &[u64]) -> Result<At> {
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
        Ok(At::Create(CreateOnce::new(self.class(), MARKER, body)))
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
            At::FencePart(_) | At::Fence(_) | At::FenceMarker | At::LastFence => fence(&self.claimed),
            At::Confirm { confirm, .. } => return confirm.next(),
            At::LookAgain => {
                return Step::Pause {
                    attempt: LOOKS_AGAIN - self.looks,
                };
            }
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
            (At::LookAgain, Answer::Waited) => {
                self.looks -= 1;
                At::ListRecords
            }
            (At::FencePart(missing), answer) => {
                fenced(&answer, &self.claimed)?;
                At::Done(Finished::Incomplete {
                    missing: std::mem::take(missing),
                })
            }
            (At::ReadRecords(left), Answer::Got(Some(body))) => {
                let mut left = std::mem::take(left);
                let unit = left.pop().unwrap_or_default();
                match self.saw_record(unit, &body)? {
                    None => read_or_list(left),
                    Some(at) => at,
                }
            }
            (At::ListOutput, Answer::Listed(listing)) => At::Fence(listing),
            (At::Fence(listing), answer) => {
                // First the fence: under a newer run our files may be gone, and that is nobody's fault.
                let epochs = fenced(&answer, &self.claimed)?;
                let listing = std::mem::take(listing);
                self.judge(&listing, epochs)?
            }
            (At::Confirm { confirm, epochs }, answer) => match confirm.apply(answer)? {
                None => {
                    let (confirm, epochs) = (confirm.clone(), std::mem::take(epochs));
                    At::Confirm { confirm, epochs }
                }
                Some(doubts) => {
                    let epochs = std::mem::take(epochs);
                    self.confirmed(doubts, &epochs)?
                }
            },
            // On class B the numbers are guessed, down to the first: numbers go on from a marker's.
            (At::ReadOlder { left, foreign }, Answer::Got(body))
                if body.is_some() || self.claimed.store_class() == StoreClass::B =>
            {
                let (mut left, foreign) = (std::mem::take(left), std::mem::take(foreign));
                let run_id = body.and_then(|body| epoch_owner(&body));
                if let (Some(epoch), Some(run_id)) = (left.pop(), run_id) {
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
                // It was cut short under its writer: that is no marker.
                Some(Found::There { body, exists }) if once.is_class_b() && Owner::of(&body).is_none() => {
                    let mut once = once.clone();
                    if exists {
                        once.replace();
                        At::Create(once)
                    } else {
                        self.tries
                            .again(MARKER, "what was read back is not what was stored")?;
                        At::Backoff
                    }
                }
                Some(Found::There { body, .. }) => self.saw_stored_marker(&body)?,
                Some(Found::Absent(why)) => {
                    self.tries.again(MARKER, &why)?;
                    At::Backoff
                }
            },
            (At::FenceMarker, answer) => {
                fenced(&answer, &self.claimed)?;
                At::DeleteMarker
            }
            // Time has passed, or an older run was at work: judge the output anew.
            (At::DeleteMarker, Answer::Deleted) | (At::Backoff, Answer::Waited) => At::ListOutput,
            (At::LastFence, answer) => At::ReadMarker {
                superseded_by: match (fenced(&answer, &self.claimed), answer) {
                    (Ok(_), _) => None,
                    (Err(error), Answer::Listed(epochs)) if error.kind() == ErrorKind::Superseded => {
                        read_epochs(&epochs)?.pop()
                    }
                    (Err(error), _) if error.kind() == ErrorKind::Superseded => Some(self.claimed.epoch + 1),
                    (Err(error), _) => return Err(error),
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
