//! A process of a job: the machines, in the order in which a job runs them.

use super::*;
use crate::commit::claim::Claim;
use crate::commit::finish::Finish;
use crate::commit::layout::{MARKER, prepared_key, records_folder};
use crate::commit::machine::{Answer, Machine, Op, Step};
use crate::commit::prepare::Prepare;
use crate::commit::unit::CommitUnit;
use crate::error::ErrorKind;

/// What a process is started with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Start {
    pub request: ClaimRequest,
    /// How many replicas share the units.
    pub replicas: u32,
    /// Whether it goes on with other replicas' units when its own are done.
    pub help: bool,
    /// Differs between attempts of a model that isn't deterministic.
    pub word: String,
    /// Whether it makes the plan after one look for another's.
    pub impatient: bool,
    pub design: Design,
}

/// How replicas could work together. All but the first look reasonable and are wrong: a checker that doesn't find
/// out is blind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Design {
    /// The protocol.
    Floe,
    /// Each replica lists the input for itself.
    OwnListing,
    /// The same, and replica 0 alone writes the marker. (It does so when itself is done if
    /// [`MarkerTooEarly`](super::Bug::MarkerTooEarly) is planted as well.)
    OwnListingFirstMarks,
    /// Each attempt has data names of its own.
    AttemptNames,
}

impl Start {
    pub fn of(request: ClaimRequest) -> Start {
        Start {
            request,
            replicas: 1,
            help: false,
            word: "row".into(),
            impatient: false,
            design: Design::Floe,
        }
    }

    /// Replica `index` of `replicas`.
    pub fn replica(mut self, index: u32, replicas: u32) -> Start {
        self.request.replica_index = index;
        self.replicas = replicas;
        self
    }

    /// Over a store of class B.
    pub fn weaker(mut self) -> Start {
        self.request.store_class = StoreClass::B;
        self
    }

    /// Over a store of class A.
    pub fn stronger(mut self) -> Start {
        self.request.store_class = StoreClass::A;
        self
    }

    pub fn helping(self) -> Start {
        Start { help: true, ..self }
    }

    pub fn saying(self, word: &str) -> Start {
        Start {
            word: word.into(),
            ..self
        }
    }

    pub fn impatient(self) -> Start {
        Start {
            impatient: true,
            ..self
        }
    }

    pub fn design(self, design: Design) -> Start {
        Start { design, ..self }
    }

    /// As `job` shares units out, only simpler.
    pub fn owns(&self, unit: u32) -> bool {
        unit % self.replicas == self.request.replica_index
    }
}

/// One life of a process: the machines, in the order in which a job runs them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    pub start: Start,
    pub stage: Stage,
    /// Which life of which process; counted only where names depend on it.
    pub attempt: u32,
    /// Whether it has mended what was damaged.
    pub mended: bool,
    /// The last marker it read, for the rule on whose marker may be deleted.
    pub read_marker: Option<Bytes>,
    /// Whether it saw that the output was not cleared yet, for the rule on whose objects may be deleted.
    pub saw_unprepared: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    Claim(Claim),
    /// Only in the designs with own listings.
    ListInput(Claimed),
    Prepare(Prepare),
    ListRecords(Claimed),
    Unit {
        claimed: Claimed,
        machine: CommitUnit,
        todo: Vec<u32>,
    },
    /// Own units are done: are there others to help with?
    ListOpen(Claimed),
    /// Which unit to help with?
    Choose {
        claimed: Claimed,
        open: Vec<u32>,
    },
    Finish {
        claimed: Claimed,
        machine: Finish,
    },
    Exited(Exit),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Exit {
    /// It knows that the run is complete.
    Complete,
    /// Its own part is done.
    PartDone,
    Failed(ErrorKind, String),
    Killed,
}

/// What a step needs, with the result types of the machines taken away.
#[derive(Clone, Debug)]
pub enum Ask {
    Store(Op),
    Plan,
    Rows(Bytes),
    Pause,
    /// One of so many units.
    Choice(usize),
}

impl Process {
    pub fn new(start: Start) -> Process {
        let claim = Claim::new(start.request.clone());
        let stage = Stage::Claim(if start.impatient { claim.impatient() } else { claim });
        Process {
            start,
            stage,
            attempt: 0,
            mended: false,
            read_marker: None,
            saw_unprepared: false,
        }
    }

    /// Its next life.
    pub fn reborn(&self) -> Process {
        let mut process = Process::new(self.start.clone());
        if self.start.design == Design::AttemptNames {
            process.attempt = self.attempt + 10;
        }
        process
    }

    pub fn exit(&self) -> Option<&Exit> {
        match &self.stage {
            Stage::Exited(exit) => Some(exit),
            _ => None,
        }
    }

    /// The hold on the output, once it has one.
    pub fn claimed(&self) -> Option<&Claimed> {
        match &self.stage {
            Stage::ListRecords(claimed)
            | Stage::ListOpen(claimed)
            | Stage::Choose { claimed, .. }
            | Stage::Unit { claimed, .. }
            | Stage::Finish { claimed, .. } => Some(claimed),
            Stage::Prepare(machine) => Some(machine.claimed()),
            Stage::Claim(_) | Stage::ListInput(_) | Stage::Exited(_) => None,
        }
    }

    /// What it needs next; `None` after its exit.
    pub fn ask(&self) -> Option<Ask> {
        fn ask<T>(step: Step<T>) -> Ask {
            match step {
                Step::Store(op) => Ask::Store(op),
                Step::BuildPlan => Ask::Plan,
                Step::CountRows { body, .. } => Ask::Rows(body),
                Step::Pause { .. } => Ask::Pause,
                Step::Done(_) => unreachable!("a finished machine is left at once"),
            }
        }
        Some(match &self.stage {
            Stage::Claim(machine) => ask(machine.next()),
            Stage::ListInput(_) => Ask::Plan,
            Stage::Prepare(machine) => ask(machine.next()),
            Stage::ListRecords(claimed) | Stage::ListOpen(claimed) => {
                Ask::Store(Op::list(records_folder(claimed.epoch)))
            }
            Stage::Unit { machine, .. } => ask(machine.next()),
            Stage::Choose { open, .. } => Ask::Choice(open.len()),
            Stage::Finish { machine, .. } => ask(machine.next()),
            Stage::Exited(_) => return None,
        })
    }

    /// Takes the answer and moves on, from machine to machine.
    pub fn answer(&mut self, answer: Answer) {
        if let (Some(Ask::Store(Op::Get { key })), Answer::Got(body)) = (self.ask(), &answer) {
            if key == MARKER {
                self.read_marker = body.clone();
            } else if self
                .claimed()
                .is_some_and(|claimed| key == prepared_key(claimed.epoch))
            {
                self.saw_unprepared = body.is_none();
            }
        }
        self.go(|process| process.advance(answer));
    }

    /// Takes the choice of a unit.
    pub fn choose(&mut self, choice: usize) {
        self.go(|process| match &process.stage {
            Stage::Choose { claimed, open } => process.next_unit(claimed.clone(), vec![open[choice]]),
            _ => unreachable!("there is nothing to choose"),
        });
    }

    fn go(&mut self, step: impl FnOnce(&mut Process) -> Result<Stage>) {
        let stage = std::mem::discriminant(&self.stage);
        let next = step(self);
        self.stage =
            next.unwrap_or_else(|error| Stage::Exited(Exit::Failed(error.kind(), error.to_string())));
        if std::mem::discriminant(&self.stage) != stage {
            // Each part of the protocol has to look for itself.
            self.read_marker = None;
            self.saw_unprepared = false;
        }
    }

    /// Forgets what only logs tell, so that states which differ in nothing else are one.
    fn holding(mut claimed: Claimed) -> Claimed {
        claimed.resumed = false;
        claimed.cleared = 0;
        claimed
    }

    fn advance(&mut self, answer: Answer) -> Result<Stage> {
        let complete = Stage::Exited(Exit::Complete);
        match &mut self.stage {
            Stage::Claim(machine) => {
                machine.apply(answer)?;
                Ok(match machine.next() {
                    Step::Done(ClaimOutcome::Claimed(claimed)) if self.start.design.lists_for_itself() => {
                        Stage::ListInput(claimed)
                    }
                    Step::Done(ClaimOutcome::Claimed(claimed)) => Stage::Prepare(Prepare::new(claimed)),
                    Step::Done(ClaimOutcome::AlreadyComplete(_)) => complete,
                    _ => self.stage.clone(),
                })
            }
            Stage::ListInput(claimed) => {
                let Answer::Planned(plan) = answer else {
                    unreachable!()
                };
                Ok(Stage::Prepare(Prepare::new(Claimed {
                    plan_digest: digest::sha256(&serde_json::to_vec(&plan).unwrap()),
                    plan: Arc::new(*plan),
                    ..claimed.clone()
                })))
            }
            Stage::Prepare(machine) => {
                machine.apply(answer)?;
                Ok(match machine.next() {
                    Step::Done(ClaimOutcome::Claimed(claimed)) => Stage::ListRecords(Self::holding(claimed)),
                    Step::Done(ClaimOutcome::AlreadyComplete(_)) => complete,
                    _ => self.stage.clone(),
                })
            }
            Stage::ListRecords(claimed) => {
                let claimed = claimed.clone();
                let mut todo = open_units(&claimed, answer)?;
                todo.retain(|unit| self.start.owns(*unit));
                todo.reverse();
                self.next_unit(claimed, todo)
            }
            Stage::ListOpen(claimed) => {
                let claimed = claimed.clone();
                let open = open_units(&claimed, answer)?;
                Ok(match open.is_empty() {
                    true => finishing(claimed, self.start.impatient),
                    false => Stage::Choose { claimed, open },
                })
            }
            Stage::Unit {
                claimed,
                machine,
                todo,
            } => {
                machine.apply(answer)?;
                match machine.next() {
                    Step::Done(_) => {
                        let (claimed, todo) = (claimed.clone(), std::mem::take(todo));
                        self.next_unit(claimed, todo)
                    }
                    _ => Ok(self.stage.clone()),
                }
            }
            Stage::Finish { machine, .. } => {
                machine.apply(answer)?;
                Ok(match machine.next() {
                    Step::Done(Finished::Complete(_)) => complete,
                    Step::Done(Finished::Incomplete { .. }) => Stage::Exited(Exit::PartDone),
                    Step::Done(Finished::Damaged { units }) if !self.mended => {
                        let claimed = machine.claimed().clone();
                        self.mended = true;
                        self.next_unit(claimed, units)?
                    }
                    Step::Done(Finished::Damaged { units }) => {
                        return Err(Error::storage(format!("units {units:?} can't be mended")));
                    }
                    _ => self.stage.clone(),
                })
            }
            Stage::Choose { .. } | Stage::Exited(_) => unreachable!("nothing was asked"),
        }
    }

    fn next_unit(&self, claimed: Claimed, mut todo: Vec<u32>) -> Result<Stage> {
        let Some(unit) = todo.pop() else {
            let first_marks = self.start.design == Design::OwnListingFirstMarks;
            return Ok(match self.start.help {
                true if !self.mended => Stage::ListOpen(claimed),
                _ if first_marks && self.start.request.replica_index > 0 => Stage::Exited(Exit::PartDone),
                _ => finishing(claimed, self.start.impatient),
            });
        };
        let folder = match self.start.design {
            Design::AttemptNames => format!("attempt={}", self.attempt),
            _ => String::new(),
        };
        let files = rows_of(&claimed, unit, &folder, &self.start.word);
        let machine = CommitUnit::new(claimed.clone(), unit, files, Map::new())?;
        Ok(Stage::Unit {
            claimed,
            machine,
            todo,
        })
    }
}

impl Design {
    fn lists_for_itself(self) -> bool {
        matches!(self, Design::OwnListing | Design::OwnListingFirstMarks)
    }
}

fn open_units(claimed: &Claimed, answer: Answer) -> Result<Vec<u32>> {
    let Answer::Listed(listing) = answer else {
        unreachable!()
    };
    let done = claimed.records(&listing)?;
    let units = 0..claimed.plan.units.len() as u32;
    Ok(units.filter(|unit| !done.contains_key(unit)).collect())
}

fn finishing(claimed: Claimed, impatient: bool) -> Stage {
    let machine = Finish::new(claimed.clone());
    Stage::Finish {
        machine: if impatient { machine.impatient() } else { machine },
        claimed,
    }
}
