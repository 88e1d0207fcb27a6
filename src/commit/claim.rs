//! Claiming the output: find this run's epoch, or create it and with it pin the plan (steps P1 and P2).
//!
//! The epochs of an output are its history of runs. Whoever creates the next one, by put-if-absent, decides what
//! every process of that run will do, because the epoch's object *is* the plan. All others adopt what is stored;
//! the creator too reads it back, so that everyone works from the same bytes.
//!
//! On a store of class B nothing decides between two creators. So replica 0 alone plans there: it looks, puts, reads
//! back. An epoch that was cut short under its writer pins nothing and is written again by replica 0; its name still
//! counts for the fence.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::confirm::CheckFiles;
use super::epochs::{adopt, epoch_owner, read_epochs};
use super::json::{self, MAX_PLAN_BYTES};
use super::layout::{self, DataName, EPOCHS, MARKER, MAX_EPOCH, RunTag, epoch_key};
use super::machine::{Answer, Creation, Machine, Op, Step, Tries, out_of_turn};
use super::seeded::{Bug, seeded};
use super::success::{Owner, Success};
use super::{ClaimOutcome, ClaimRequest, Claimed, digest, refusal};
use crate::config::SaveMode;
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::storage::{Entry, StoreClass};

/// How often a replica other than the first looks for the plan before it makes one itself. With the driver's
/// pauses that is about ten seconds: time for one replica to list the input, so that not all of them do.
pub const LOOKS_FOR_PLAN: u32 = 7;
/// How often it looks on a store of class B, where it may not make one: for about fifteen minutes, since the first
/// replica may still be starting, or read the footers of very many files.
pub const LOOKS_FOR_FIRST_REPLICA: u32 = 360;

/// Steps P1 and P2. See the [module](self) page.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    request: ClaimRequest,
    /// The epochs of the last listing, ascending.
    epochs: Vec<u64>,
    /// Whose they are, as far as read. An epoch never changes, so none is read twice.
    owners: BTreeMap<u64, String>,
    /// Epochs of the last listing that were cut short when they were read (class B).
    torn: BTreeSet<u64>,
    /// The plan this process would pin.
    candidate: Option<Bytes>,
    /// The epoch this process created, if the store said so clearly.
    created: Option<u64>,
    looks: u32,
    /// Whether it looks for the plan without end: how long others take is the checker's choice.
    #[cfg(test)]
    endless: bool,
    tries: Tries,
    at: At,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum At {
    ListEpochs,
    ReadEpoch(u64),
    ReadMarker,
    /// The highest epoch's run seems unfinished: unless a newer epoch has just removed its marker.
    ConfirmUnfinished,
    /// Mode ERROR, no epoch: is anything else here?
    ListOutput {
        marker: bool,
    },
    /// The run is known to be complete from its marker alone: are its files there?
    CheckFiles(CheckFiles),
    AwaitPlan,
    BuildPlan {
        epoch: u64,
    },
    /// Class B: is the epoch still free?
    Look {
        epoch: u64,
    },
    Create {
        epoch: u64,
    },
    /// Class B: what is stored now?
    ReadBack {
        epoch: u64,
    },
    Backoff,
    Done(ClaimOutcome),
}

impl Claim {
    /// Begins at the listing of epochs.
    pub fn new(request: ClaimRequest) -> Claim {
        Claim {
            request,
            epochs: Vec::new(),
            owners: BTreeMap::new(),
            torn: BTreeSet::new(),
            candidate: None,
            created: None,
            looks: 0,
            #[cfg(test)]
            endless: false,
            tries: Tries::default(),
            at: At::ListEpochs,
        }
    }

    /// Will make the plan itself after one look for another's: what the others do meanwhile is the checker's choice.
    #[cfg(test)]
    pub fn impatient(mut self) -> Claim {
        self.looks = LOOKS_FOR_PLAN - 1;
        self.endless = self.class() == StoreClass::B;
        self
    }

    fn class(&self) -> StoreClass {
        self.request.store_class
    }

    /// The newest epoch that pins a plan.
    fn highest(&self) -> Option<u64> {
        let pins = |epoch: &&u64| !self.torn.contains(epoch);
        self.epochs.iter().rev().find(pins).copied()
    }

    fn listed(&mut self, epochs: Vec<u64>) -> At {
        self.epochs = epochs;
        // One that was cut short may have been written again.
        self.torn.clear();
        self.read_next_epoch()
    }

    /// An epoch that was found by its name; a listing that lags may not show it yet.
    fn found(&mut self, epoch: u64) {
        if !self.epochs.contains(&epoch) {
            self.epochs.push(epoch);
            self.epochs.sort_unstable();
        }
        self.torn.remove(&epoch);
    }

    /// From the highest epoch down, until one is this run's or all are known.
    fn read_next_epoch(&self) -> At {
        let unread = |epoch: &&u64| !self.owners.contains_key(epoch) && !self.torn.contains(epoch);
        match self.epochs.iter().rev().find(unread) {
            Some(&epoch) => At::ReadEpoch(epoch),
            None => At::ReadMarker,
        }
    }

    fn saw_epoch(&mut self, epoch: u64, body: Bytes) -> Result<At> {
        let key = epoch_key(epoch);
        let Some(owner) = epoch_owner(&body) else {
            if self.class() == StoreClass::B {
                self.torn.insert(epoch);
                return Ok(self.read_next_epoch());
            }
            return Err(
                Error::storage("can't tell which run an epoch of the output belongs to")
                    .with("key", key)
                    .with_hint("choose another output folder, or remove its _floe/ if no run is using it"),
            );
        };
        if owner == self.request.run_id {
            // By its name: whoever has begun to write a newer epoch means to have the output.
            let highest = self.epochs.last().copied().unwrap_or(epoch);
            if epoch < highest {
                return Err(refusal::superseded(&owner, epoch, highest));
            }
            let plan = adopt(&body, &key, &self.request)?;
            return Ok(At::Done(ClaimOutcome::Claimed(Claimed {
                epoch,
                plan: Arc::new(plan),
                plan_digest: digest::sha256(&body),
                function: self.request.function.clone(),
                resumed: self.created != Some(epoch) || self.candidate.as_ref() != Some(&body),
                cleared: 0,
            })));
        }
        if RunTag::of(&owner) == RunTag::of(&self.request.run_id) {
            return Err(refusal::same_tag(&self.request.run_id, &owner));
        }
        self.owners.insert(epoch, owner);
        Ok(self.read_next_epoch())
    }

    /// No epoch is this run's. What is in the way?
    fn saw_marker(&mut self, marker: Option<Bytes>) -> Result<At> {
        let owner = marker.as_deref().and_then(Owner::of);
        let wrote_marker = |run_id: &str| owner.as_ref().is_some_and(|owner| owner.run_id == run_id);
        match (self.highest(), self.request.mode) {
            (None, _) if wrote_marker(&self.request.run_id) => {
                // The state folder was removed after this very run had finished.
                let success = Success::read(&marker.unwrap_or_default())?;
                self.request
                    .check(&success.config_digest, &success.model_digest)?;
                Ok(At::CheckFiles(CheckFiles::new(self.class(), success)))
            }
            // The marker was written after the epoch: the listing lags.
            (Some(_), _) if self.class() == StoreClass::B && wrote_marker(&self.request.run_id) => {
                let epoch = owner.map_or(0, |owner| owner.epoch);
                self.found(epoch);
                Ok(At::ReadEpoch(epoch))
            }
            (None, SaveMode::Error) => Ok(At::ListOutput {
                marker: marker.is_some(),
            }),
            // Numbers go on from the marker's, so that a process of a run whose state was removed can't take the
            // new epoch for its own.
            (None, SaveMode::Overwrite) => {
                self.plan_or_create(owner.map_or(0, |owner| owner.epoch.min(MAX_EPOCH - 1)))
            }
            (Some(highest), mode) => {
                let other = &self.owners[&highest];
                let complete = wrote_marker(other);
                match mode {
                    SaveMode::Error => Err(refusal::other_run(other, highest, complete)),
                    SaveMode::Overwrite if complete || self.request.take_over => self.plan_or_create(highest),
                    SaveMode::Overwrite => Ok(At::ConfirmUnfinished),
                }
            }
        }
    }

    fn saw_output(&self, listing: &[Entry], marker: bool) -> Result<At> {
        let tag = RunTag::of(&self.request.run_id);
        let foreign: Vec<&str> = listing
            .iter()
            .map(|entry| entry.key.as_str())
            .filter(|key| layout::may_be_data(key) || (marker && *key == MARKER))
            .filter(|key| DataName::parse(key).is_none_or(|name| name.run != tag))
            .collect();
        if !foreign.is_empty() {
            return Err(refusal::not_empty(foreign.into_iter()));
        }
        self.plan_or_create(0)
    }

    /// The output is free for an epoch after `last`.
    fn plan_or_create(&self, last: u64) -> Result<At> {
        let epoch = last + 1;
        let index = self.request.replica_index;
        let may_plan = self.class() == StoreClass::A || index == 0 || seeded(Bug::AnyonePlans);
        let (looks, is_first) = (self.looks, index == 0);
        Ok(match self.class() {
            StoreClass::A if self.candidate.is_some() => At::Create { epoch },
            StoreClass::B if self.candidate.is_some() => At::Look { epoch },
            _ if is_first || (may_plan && looks >= LOOKS_FOR_PLAN) => At::BuildPlan { epoch },
            StoreClass::B if !self.may_wait() => return Err(refusal::no_plan(index)),
            _ => At::AwaitPlan,
        })
    }

    /// Class B: whether this replica depends on the first one, and has patience left.
    fn may_wait(&self) -> bool {
        self.request.replica_index > 0 && self.looks < LOOKS_FOR_FIRST_REPLICA
    }

    fn waited(&mut self) -> At {
        #[cfg(test)]
        let counts = !self.endless || self.looks < LOOKS_FOR_PLAN;
        #[cfg(not(test))]
        let counts = true;
        self.looks += u32::from(counts);
        At::ListEpochs
    }

    fn check_candidate(&self, plan: &Plan) -> Result<Bytes> {
        let request = &self.request;
        let same = (plan.run_id.as_str(), plan.mode) == (request.run_id.as_str(), request.mode)
            && plan.store_class == request.store_class
            && plan.config_digest == request.config_digest
            && plan.model_digest == request.model_digest;
        if !same {
            return Err(Error::internal("the plan was made for another run"));
        }
        let body = serde_json::to_vec(plan).expect("a plan has only string keys");
        json::check_size(body.len() as u64, EPOCHS, MAX_PLAN_BYTES).map_err(|error| {
            error.with_hint("the input has too many files for one run: split it into several jobs")
        })?;
        Ok(body.into())
    }
}

impl Machine for Claim {
    type Output = ClaimOutcome;

    fn next(&self) -> Step<ClaimOutcome> {
        Step::Store(match &self.at {
            At::ListEpochs | At::ConfirmUnfinished => Op::list(EPOCHS),
            At::ReadEpoch(epoch) | At::Look { epoch } | At::ReadBack { epoch } => Op::get(epoch_key(*epoch)),
            At::ReadMarker => Op::get(MARKER),
            At::ListOutput { .. } => Op::list(""),
            At::CheckFiles(check) => return check.next(),
            At::AwaitPlan => {
                return Step::Pause { attempt: self.looks };
            }
            At::BuildPlan { .. } => return Step::BuildPlan,
            At::Create { epoch } => {
                let (key, body) = (epoch_key(*epoch), self.candidate.clone().unwrap_or_default());
                match self.class() {
                    StoreClass::A => Op::Create {
                        key,
                        body: body.into(),
                    },
                    StoreClass::B => Op::Put {
                        key,
                        body: body.into(),
                    },
                }
            }
            At::Backoff => return self.tries.pause(),
            At::Done(outcome) => return Step::Done(outcome.clone()),
        })
    }

    fn foresee(&self) -> Option<Op> {
        // It is this one unless a newer run has come meanwhile. An epoch never changes.
        let created = self.created.filter(|_| self.at == At::ListEpochs)?;
        Some(Op::get(epoch_key(created)))
    }

    fn apply(&mut self, answer: Answer) -> Result<()> {
        let class = self.class();
        self.at = match (&mut self.at, answer) {
            (At::ListEpochs, Answer::Listed(listing)) => self.listed(read_epochs(&listing)?),
            (&mut At::ReadEpoch(epoch), Answer::Got(Some(body))) => self.saw_epoch(epoch, body)?,
            (At::ReadEpoch(epoch), Answer::Got(None)) => return Err(refusal::state_lost(*epoch)),
            (At::ReadMarker, Answer::Got(marker)) => self.saw_marker(marker)?,
            (At::ConfirmUnfinished, Answer::Listed(listing)) => {
                let epochs = read_epochs(&listing)?;
                match self.highest() {
                    // One that was cut short may be this run's, and the first replica has written it again since.
                    Some(_) if !self.torn.is_empty() && self.may_wait() => At::AwaitPlan,
                    Some(highest) if epochs == self.epochs => {
                        return Err(refusal::may_be_alive(&self.owners[&highest], highest));
                    }
                    _ => self.listed(epochs),
                }
            }
            (&mut At::ListOutput { marker }, Answer::Listed(listing)) => self.saw_output(&listing, marker)?,
            (At::CheckFiles(check), answer) => match check.apply(answer)? {
                None => At::CheckFiles(check.clone()),
                Some(success) => At::Done(ClaimOutcome::AlreadyComplete(success)),
            },
            (At::AwaitPlan, Answer::Waited) => self.waited(),
            (&mut At::BuildPlan { epoch }, Answer::Planned(plan)) => {
                self.candidate = Some(self.check_candidate(&plan)?);
                match self.class() {
                    StoreClass::A => At::Create { epoch },
                    StoreClass::B => At::Look { epoch },
                }
            }
            (&mut (At::Look { epoch } | At::ReadBack { epoch }), Answer::Got(Some(body)))
                if epoch_owner(&body).is_some() =>
            {
                self.found(epoch);
                self.saw_epoch(epoch, body)?
            }
            (&mut At::Look { epoch }, Answer::Got(_)) => At::Create { epoch },
            (At::ReadBack { epoch }, Answer::Got(_)) => {
                self.tries
                    .again(&epoch_key(*epoch), "what was read back is not what was stored")?;
                At::Backoff
            }
            (&mut At::Create { epoch }, Answer::Created(said)) if class == StoreClass::B => {
                self.created = (said == Creation::Yes).then_some(epoch);
                At::ReadBack { epoch }
            }
            // Whatever the answer, the listing decides.
            (At::Create { epoch }, Answer::Created(Creation::Yes)) => {
                self.created = Some(*epoch);
                At::ListEpochs
            }
            (At::Create { epoch }, Answer::Created(unclear)) => {
                let (why, at) = match unclear {
                    Creation::Unknown(why) => (why, At::Backoff),
                    _ => ("the store says that it exists".into(), At::ListEpochs),
                };
                self.tries.again(&epoch_key(*epoch), &why)?;
                at
            }
            (At::Backoff, Answer::Waited) => At::ListEpochs,
            (_, answer) => return Err(out_of_turn(&answer)),
        };
        Ok(())
    }
}
