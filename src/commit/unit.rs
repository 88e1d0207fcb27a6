//! Committing a unit: fence, data objects, then the record (step P6).
//!
//! Data names depend on run and unit only and are created by put-if-absent, so of several attempts the first one's
//! bytes stay, for ever. Whoever comes later checks what is stored and records *that*: an object that a killed
//! attempt left without a record is adopted, never doubled.
//!
//! On a store of class B an object that is there proves nothing: its writer may have been killed over it. The same bytes
//! are left alone; others are replaced by this attempt's, unless a record vouches for another attempt. Fence and marker
//! are looked at just before, and what was put is read back before the record is written. So a committed object that
//! somebody tore is mended in place by committing its unit again, and no record is ever taken back.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::create::{CreateOnce, Found};
use super::layout::{DataName, MARKER, RunTag, epoch_key, records_folder};
use super::machine::{Answer, Machine, Op, Step, Tries, out_of_turn};
use super::record::{self, Checksum, OutputFile, Record};
use super::seeded::{Bug, seeded};
use super::success::Success;
use super::{Claimed, CommitOutcome, NewFile, refusal};
use crate::error::{Error, Result};
use crate::storage::{Entry, StoreClass};

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
    /// Does a newer run exist? Then this is stored, or whatever comes next.
    Fence(Option<CreateOnce>),
    /// Class B: is the run complete?
    FenceMarker(Option<CreateOnce>),
    Create(CreateOnce),
    /// Class B: other bytes are there. Is the unit committed with them?
    ListRecords(CreateOnce),
    /// Class A: an earlier attempt's object, to be adopted.
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
            at: At::Fence(None),
        })
    }

    fn class(&self) -> StoreClass {
        self.claimed.store_class()
    }

    /// The next object, or the record when all are stored.
    fn create_next(&self) -> At {
        match self.files.get(self.stored.len()) {
            Some(_) if seeded(Bug::RecordFirst) && self.stored.is_empty() => self.create_record(),
            Some(file) => At::Create(self.once(file)),
            None if seeded(Bug::RecordFirst) && !self.files.is_empty() => At::Done,
            None => self.create_record(),
        }
    }

    fn once(&self, file: &NewFile) -> CreateOnce {
        CreateOnce::new(self.class(), &file.path, file.body.clone())
    }

    /// The record of what is stored; of what will be, if not all is yet.
    fn record(&self) -> Record {
        let left = self.files[self.stored.len()..].iter().map(NewFile::facts);
        let files: Vec<OutputFile> = self.stored.iter().cloned().chain(left).collect();
        Record {
            format: record::FORMAT,
            run_id: self.claimed.plan.run_id.clone(),
            epoch: self.claimed.epoch,
            unit: self.unit,
            plan_digest: self.claimed.plan_digest.clone(),
            rows: files.iter().map(|file| file.rows).sum(),
            files,
            stats: self.stats.clone(),
        }
    }

    fn create_record(&self) -> At {
        let record = self.record();
        let key = record.name().key(self.claimed.epoch);
        At::CreateRecord(CreateOnce::new(self.class(), key, record.to_json()))
    }

    fn is_stored(&mut self, bytes: u64, checksum: Checksum) -> At {
        let file = &self.files[self.stored.len()];
        self.stored.push(OutputFile {
            bytes,
            checksum,
            ..file.facts()
        });
        self.tries = Tries::default();
        match self.class() {
            StoreClass::B if self.stored.len() < self.files.len() => At::Fence(None),
            _ => self.create_next(),
        }
    }

    fn lost_race(&mut self, same: bool) {
        let before = !matches!(self.outcome, CommitOutcome::LostRace { same_bytes: false });
        self.outcome = CommitOutcome::LostRace {
            same_bytes: same && before,
        };
    }

    /// The whole run is complete, and so is this unit.
    fn is_complete(&mut self, marker: &[u8]) -> Result<At> {
        let success = Success::read(marker)?;
        let named = |file: &NewFile| success.files.contains(&file.facts());
        self.lost_race(self.files.iter().all(named));
        Ok(At::Done)
    }

    /// Class B: other bytes than these are stored under the object's name.
    fn saw_records(&mut self, mut once: CreateOnce, listing: &[Entry]) -> Result<At> {
        let records = self.claimed.records(listing)?;
        match records.get(&self.unit) {
            Some(name) if *name != self.record().name() => {
                self.lost_race(false);
                Ok(At::Done)
            }
            _ => {
                once.replace();
                Ok(At::Fence(Some(once)))
            }
        }
    }

    /// Class B: whether a record's body is whole.
    fn is_record(&self, body: &[u8]) -> bool {
        Record::read(body, self.record().name(), self.claimed.epoch).is_ok()
    }
}

impl Machine for CommitUnit {
    type Output = CommitOutcome;

    fn next(&self) -> Step<CommitOutcome> {
        Step::Store(match &self.at {
            At::Fence(_) => Op::head(epoch_key(self.claimed.epoch + 1)),
            At::FenceMarker(_) => Op::get(MARKER),
            At::Create(once) | At::CreateRecord(once) => once.op(),
            At::ListRecords(_) => Op::list(records_folder(self.claimed.epoch)),
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
        let class = self.class();
        self.at = match (&mut self.at, answer) {
            (At::Fence(next), Answer::Size(newer)) if newer.is_none() || seeded(Bug::SkipFence) => {
                match (class, next.take()) {
                    (StoreClass::A, _) => self.create_next(),
                    (StoreClass::B, next) => At::FenceMarker(next),
                }
            }
            (At::Fence(_), Answer::Size(Some(_))) => {
                let epoch = self.claimed.epoch;
                return Err(refusal::superseded(&self.claimed.plan.run_id, epoch, epoch + 1));
            }
            (At::FenceMarker(next), Answer::Got(marker)) => {
                let next = next.take();
                match marker.filter(|marker| Success::is_of(marker, &self.claimed)) {
                    Some(marker) => self.is_complete(&marker)?,
                    None => next.map_or_else(|| self.create_next(), At::Create),
                }
            }
            (At::Create(once), answer) => {
                let ours = &self.files[self.stored.len()];
                let facts = (ours.body.len() as u64, ours.checksum);
                match once.apply(answer)? {
                    None => At::Create(once.clone()),
                    Some(Found::Made) => self.is_stored(facts.0, facts.1),
                    Some(Found::There { body, exists })
                        if ours.body == body[..] || (once.is_class_b() && seeded(Bug::TrustPresence)) =>
                    {
                        if exists {
                            self.lost_race(true);
                        }
                        self.is_stored(facts.0, facts.1)
                    }
                    Some(Found::There { exists: true, .. }) if once.is_class_b() => {
                        At::ListRecords(once.clone())
                    }
                    Some(Found::There { .. }) if once.is_class_b() => {
                        self.tries
                            .again(once.key(), "what was read back is not what was stored")?;
                        At::Backoff
                    }
                    Some(Found::There { body, .. }) => At::CountRows(body),
                    Some(Found::Absent(why)) => {
                        self.tries.again(once.key(), &why)?;
                        At::Backoff
                    }
                }
            }
            (At::ListRecords(once), Answer::Listed(listing)) => {
                let once = once.clone();
                self.saw_records(once, &listing)?
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
                    At::Create(self.once(file))
                }
                Some(Found::There { body, exists }) if once.is_class_b() => {
                    let mut once = once.clone();
                    match (self.is_record(&body), exists) {
                        (true, _) => At::Done,
                        (false, true) => {
                            once.replace();
                            At::CreateRecord(once)
                        }
                        (false, false) => {
                            self.tries
                                .again(once.key(), "what was read back is not what was stored")?;
                            At::Backoff
                        }
                    }
                }
                // The name is the record: whoever stored it said the same.
                Some(Found::Made | Found::There { .. }) => At::Done,
                Some(Found::Absent(why)) => {
                    self.tries.again(once.key(), &why)?;
                    At::Backoff
                }
            },
            // Time has passed: look at the fence again before storing anything.
            (At::Backoff, Answer::Waited) => At::Fence(None),
            (_, answer) => return Err(out_of_turn(&answer)),
        };
        Ok(())
    }
}
