//! Committing a unit: fence, data objects, then the record (step P6).
//!
//! Data names depend on run and unit only and are created by put-if-absent, so of several attempts the first one's
//! bytes stay, for ever. Whoever comes later checks what is stored and records *that*: an object that a killed
//! attempt left without a record is adopted, never doubled.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::layout::{DataName, RunTag, epoch_key};
use super::machine::{Answer, CreateOnce, Found, Machine, Op, Step, Tries, out_of_turn};
use super::record::{self, Checksum, OutputFile, Record};
use super::seeded::{Bug, seeded};
use super::{Claimed, CommitOutcome, NewFile, refusal};
use crate::error::{Error, Result};

/// Step P6 for one unit. See the [module](self) page.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CommitUnit {
    claimed: Claimed,
    unit: u32,
    /// What this attempt computed, sorted by path.
    files: Vec<NewFile>,
    stats: Map<String, Value>,
    /// The facts of the objects as stored; as many as are done.
    stored: Vec<OutputFile>,
    outcome: CommitOutcome,
    tries: Tries,
    at: At,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum At {
    Fence,
    Create(CreateOnce),
    CountRows(Bytes),
    CreateRecord(CreateOnce),
    Backoff,
    Done,
}

impl CommitUnit {
    /// Will commit `files` as the output of `unit`. An error is a bug of the caller: names that are not this unit's,
    /// or other rows than the plan's.
    pub fn new(
        claimed: Claimed,
        unit: u32,
        mut files: Vec<NewFile>,
        stats: Map<String, Value>,
    ) -> Result<CommitUnit> {
        let bug = |what: String| Err(Error::internal(what).with("unit", unit));
        let Some(planned) = claimed.plan.units.get(unit as usize) else {
            return bug("the unit is not in the plan".into());
        };
        let rows: u64 = files.iter().map(|file| file.rows).sum();
        if rows != planned.rows {
            return bug(format!(
                "{rows} rows were computed for a unit of {}",
                planned.rows
            ));
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let run = RunTag::of(&claimed.plan.run_id);
        for (index, file) in files.iter().enumerate() {
            let ours = DataName::parse(&file.path).is_some_and(|name| (name.unit, name.run) == (unit, run));
            let twice = index > 0 && files[index - 1].path == file.path;
            if !ours || twice {
                return bug(format!(
                    "{} is not a name for an object of this unit, or is used twice",
                    file.path
                ));
            }
        }
        Ok(CommitUnit {
            claimed,
            unit,
            files,
            stats,
            stored: Vec::new(),
            outcome: CommitOutcome::Committed,
            tries: Tries::default(),
            at: At::Fence,
        })
    }

    /// The next object, or the record when all are stored.
    fn create_next(&self) -> At {
        match self.files.get(self.stored.len()) {
            Some(_) if seeded(Bug::RecordFirst) && self.stored.is_empty() => {
                self.create_record(self.files.iter().map(NewFile::facts).collect())
            }
            Some(file) => At::Create(CreateOnce::new(&file.path, file.body.clone())),
            None if seeded(Bug::RecordFirst) && !self.files.is_empty() => At::Done,
            None => self.create_record(self.stored.clone()),
        }
    }

    fn create_record(&self, files: Vec<OutputFile>) -> At {
        let record = Record {
            format: record::FORMAT,
            run_id: self.claimed.plan.run_id.clone(),
            epoch: self.claimed.epoch,
            unit: self.unit,
            plan_digest: self.claimed.plan_digest.clone(),
            rows: files.iter().map(|file| file.rows).sum(),
            files,
            stats: self.stats.clone(),
        };
        let key = record.name().key(self.claimed.epoch);
        At::CreateRecord(CreateOnce::new(key, record.to_json().into()))
    }

    fn is_stored(&mut self, bytes: u64, checksum: Checksum) -> At {
        let file = &self.files[self.stored.len()];
        self.stored.push(OutputFile {
            bytes,
            checksum,
            ..file.facts()
        });
        self.tries = Tries::default();
        self.create_next()
    }

    fn lost_race(&mut self, same: bool) {
        let before = !matches!(self.outcome, CommitOutcome::LostRace { same_bytes: false });
        self.outcome = CommitOutcome::LostRace {
            same_bytes: same && before,
        };
    }
}

impl Machine for CommitUnit {
    type Output = CommitOutcome;

    fn next(&self) -> Step<CommitOutcome> {
        Step::Store(match &self.at {
            At::Fence => Op::head(epoch_key(self.claimed.epoch + 1)),
            At::Create(once) | At::CreateRecord(once) => once.op(),
            At::CountRows(body) => {
                return Step::CountRows {
                    key: self.files[self.stored.len()].path.clone(),
                    body: body.clone(),
                };
            }
            At::Backoff => return self.tries.pause(),
            At::Done => return Step::Done(self.outcome),
        })
    }

    fn apply(&mut self, answer: Answer) -> Result<()> {
        self.at = match (&mut self.at, answer) {
            (At::Fence, Answer::Size(newer)) if newer.is_none() || seeded(Bug::SkipFence) => {
                self.create_next()
            }
            (At::Fence, Answer::Size(Some(_))) => {
                let epoch = self.claimed.epoch;
                return Err(refusal::superseded(&self.claimed.plan.run_id, epoch, epoch + 1));
            }
            (At::Create(once), answer) => {
                let ours = &self.files[self.stored.len()];
                match once.apply(answer)? {
                    None => At::Create(once.clone()),
                    Some(Found::Made) => {
                        let (bytes, checksum) = (ours.body.len() as u64, ours.checksum);
                        self.is_stored(bytes, checksum)
                    }
                    Some(Found::There { body, exists }) if body == ours.body => {
                        let (bytes, checksum) = (ours.body.len() as u64, ours.checksum);
                        if exists {
                            self.lost_race(true);
                        }
                        self.is_stored(bytes, checksum)
                    }
                    Some(Found::There { body, .. }) => At::CountRows(body),
                    Some(Found::Absent(why)) => {
                        self.tries.again(once.key(), &why)?;
                        At::Backoff
                    }
                }
            }
            (At::CountRows(body), Answer::Rows(rows)) => {
                let file = &self.files[self.stored.len()];
                if rows != file.rows {
                    return Err(Error::storage(format!(
                        "an earlier attempt stored an object of {rows} rows where this one has {}",
                        file.rows
                    ))
                    .with("unit", self.unit)
                    .with("key", &file.path)
                    .with_hint("start a new run"));
                }
                let (bytes, checksum) = (body.len() as u64, Checksum::of(body));
                self.lost_race(false);
                self.is_stored(bytes, checksum)
            }
            (At::CreateRecord(once), answer) => match once.apply(answer)? {
                None => At::CreateRecord(once.clone()),
                Some(Found::Made | Found::There { .. })
                    if seeded(Bug::RecordFirst) && self.stored.len() < self.files.len() =>
                {
                    let file = &self.files[self.stored.len()];
                    At::Create(CreateOnce::new(&file.path, file.body.clone()))
                }
                // The name is the record: whoever stored it said the same.
                Some(Found::Made | Found::There { .. }) => At::Done,
                Some(Found::Absent(why)) => {
                    self.tries.again(once.key(), &why)?;
                    At::Backoff
                }
            },
            // Time has passed: look at the fence again before storing anything.
            (At::Backoff, Answer::Waited) => At::Fence,
            (_, answer) => return Err(out_of_turn(&answer)),
        };
        Ok(())
    }
}
