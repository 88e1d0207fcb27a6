//! Making room: clear old output once per epoch, marker first (steps P3 to P5).
//!
//! Any process of the run may clear, several at once too: only names that are not of this run are deleted, and only
//! after the fence has shown that no newer run exists. `prepared` tells late starters that there is nothing to do. Whoever
//! has just pinned the plan of a run that clears nothing knows that, and begins with the listing.

use bytes::Bytes;

use super::confirm::CheckFiles;
use super::create::{CreateOnce, Found};
use super::epochs::{fence, fenced};
use super::layout::{self, DataName, MARKER, RunTag, prepared_key};
use super::machine::{Answer, Machine, Op, Step, Tries, out_of_turn};
use super::seeded::{Bug, seeded};
use super::success::Success;
use super::{ClaimOutcome, Claimed, refusal};
use crate::config::SaveMode;
use crate::error::Result;
use crate::storage::{Entry, StoreClass};

/// Steps P3 to P5. See the [module](self) page.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Prepare {
    claimed: Claimed,
    tries: Tries,
    at: At,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum At {
    ReadPrepared,
    ReadMarker {
        prepared: bool,
    },
    /// The run is complete: are its files there?
    CheckFiles(CheckFiles),
    FenceMarker,
    DeleteMarker,
    ListOutput,
    /// What is to be deleted if no newer run exists.
    FenceFiles(Vec<String>),
    /// What is left to delete, the next one last.
    DeleteFiles(Vec<String>),
    Create(CreateOnce),
    Backoff,
    Done(ClaimOutcome),
}

impl Prepare {
    /// Begins at the question whether it has been done already, unless it can't have been.
    pub fn new(claimed: Claimed) -> Prepare {
        Prepare {
            tries: Tries::default(),
            // The listing shows a marker too, and then all goes its usual way. In mode overwrite the marker is asked for
            // first, since what is to be cleared may take long to list.
            at: match (claimed.resumed, claimed.store_class(), claimed.plan.mode) {
                (false, StoreClass::A, SaveMode::Error) => At::ListOutput,
                _ => At::ReadPrepared,
            },
            claimed,
        }
    }

    /// The hold on the output.
    pub fn claimed(&self) -> &Claimed {
        &self.claimed
    }

    fn overwrites(&self) -> bool {
        self.claimed.plan.mode == SaveMode::Overwrite
    }

    fn ready(&self) -> At {
        At::Done(ClaimOutcome::Claimed(self.claimed.clone()))
    }

    fn saw_marker(&self, marker: Option<Bytes>, prepared: bool) -> Result<At> {
        match marker {
            Some(marker) if Success::is_of(&marker, &self.claimed) => {
                let class = self.claimed.store_class();
                Ok(At::CheckFiles(CheckFiles::new(class, Success::read(&marker)?)))
            }
            // A foreign marker that turns up later than this is for `Finish` to judge.
            _ if prepared => Ok(self.ready()),
            None => Ok(At::ListOutput),
            Some(_) if self.overwrites() => Ok(At::FenceMarker),
            Some(_) => Err(refusal::not_empty([MARKER].into_iter())),
        }
    }

    fn saw_output(&self, listing: Vec<Entry>) -> At {
        if listing.iter().any(|entry| entry.key == MARKER) {
            // It was not there a moment ago. No file goes while a marker vouches for it.
            return At::ReadPrepared;
        }
        let tag = RunTag::of(&self.claimed.plan.run_id);
        let foreign = listing
            .into_iter()
            .map(|entry| entry.key)
            .filter(|key| layout::may_be_data(key))
            .filter(|key| DataName::parse(key).is_none_or(|name| name.run != tag || seeded(Bug::WipeOwn)));
        At::FenceFiles(foreign.collect())
    }

    fn delete_or_prepare(&self, left: Vec<String>) -> At {
        if !left.is_empty() {
            return At::DeleteFiles(left);
        }
        let body = serde_json::json!({ "run_id": self.claimed.plan.run_id }).to_string();
        let key = prepared_key(self.claimed.epoch);
        At::Create(CreateOnce::new(self.claimed.store_class(), key, body))
    }
}

impl Machine for Prepare {
    type Output = ClaimOutcome;

    fn next(&self) -> Step<ClaimOutcome> {
        Step::Store(match &self.at {
            At::ReadPrepared => Op::get(prepared_key(self.claimed.epoch)),
            At::ReadMarker { .. } => Op::get(MARKER),
            At::ListOutput => Op::list(""),
            At::CheckFiles(check) => return check.next(),
            At::FenceMarker | At::FenceFiles(_) => fence(&self.claimed),
            At::DeleteMarker => Op::delete(MARKER),
            At::DeleteFiles(left) => Op::delete(left.last().cloned().unwrap_or_default()),
            At::Create(once) => once.op(),
            At::Backoff => return self.tries.pause(),
            At::Done(outcome) => return Step::Done(outcome.clone()),
        })
    }

    fn apply(&mut self, answer: Answer) -> Result<()> {
        self.at = match (&mut self.at, answer) {
            (At::ReadPrepared, Answer::Got(found)) => At::ReadMarker {
                prepared: found.is_some() && !seeded(Bug::WipeUnprepared),
            },
            (&mut At::ReadMarker { prepared }, Answer::Got(marker)) => self.saw_marker(marker, prepared)?,
            (At::CheckFiles(check), answer) => match check.apply(answer)? {
                None => At::CheckFiles(check.clone()),
                Some(success) => At::Done(ClaimOutcome::AlreadyComplete(success)),
            },
            (At::FenceMarker, answer) => {
                fenced(&answer, &self.claimed)?;
                At::DeleteMarker
            }
            (At::DeleteMarker, Answer::Deleted) => At::ListOutput,
            (At::ListOutput, Answer::Listed(listing)) => self.saw_output(listing),
            (At::FenceFiles(foreign), answer) => {
                // The output was listed before the fence: a file of a newer run implies that its epoch shows here.
                fenced(&answer, &self.claimed)?;
                if !foreign.is_empty() && self.claimed.plan.mode == SaveMode::Error {
                    return Err(refusal::not_empty(foreign.iter().map(String::as_str)));
                }
                let left = std::mem::take(foreign);
                self.delete_or_prepare(left)
            }
            (At::DeleteFiles(left), Answer::Deleted) => {
                left.pop();
                self.claimed.cleared += 1;
                let left = std::mem::take(left);
                self.delete_or_prepare(left)
            }
            (At::Create(once), answer) => match once.apply(answer)? {
                None => At::Create(once.clone()),
                Some(Found::Made | Found::There { .. }) => self.ready(),
                Some(Found::Absent(why)) => {
                    self.tries.again(once.key(), &why)?;
                    At::Backoff
                }
            },
            (At::Backoff, Answer::Waited) => self.delete_or_prepare(Vec::new()),
            (_, answer) => return Err(out_of_turn(&answer)),
        };
        Ok(())
    }
}
