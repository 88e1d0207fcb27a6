//! A process of a job: the machines, in the order in which a job runs them.

use super::*;
use crate::commit::claim::Claim;
use crate::commit::finish::Finish;
use crate::commit::layout::{MARKER, records_folder};
use crate::commit::machine::{Answer, Machine, Op, Step};
use crate::commit::prepare::Prepare;
use crate::commit::record::read_names;
use crate::commit::unit::CommitUnit;
use crate::error::ErrorKind;

/// What a process is started with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Start {
    pub request: ClaimRequest,
    /// How many replicas share the units.
    pub replicas: u32,
    /// Differs between attempts of a model that isn't deterministic.
    pub word: String,
}

impl Start {
    pub fn of(request: ClaimRequest) -> Start {
        Start {
            request,
            replicas: 1,
            word: "row".into(),
        }
    }

    /// Replica `index` of `replicas`.
    pub fn replica(mut self, index: u32, replicas: u32) -> Start {
        self.request.replica_index = index;
        self.replicas = replicas;
        self
    }

    /// As `job` shares units out, only simpler.
    fn owns(&self, unit: u32) -> bool {
        unit % self.replicas == self.request.replica_index
    }
}

/// One life of a process: the machines, in the order in which a job runs them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    pub start: Start,
    pub stage: Stage,
    /// The last marker it read, for the rule on whose marker may be deleted.
    pub read_marker: Option<Bytes>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    Claim(Claim),
    Prepare(Prepare),
    ListRecords(Claimed),
    Unit {
        claimed: Claimed,
        machine: CommitUnit,
        todo: Vec<u32>,
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
pub enum Ask {
    Store(Op),
    Plan,
    Rows(Bytes),
    Pause,
}

impl Process {
    pub fn new(start: Start) -> Process {
        let stage = Stage::Claim(Claim::new(start.request.clone()));
        Process {
            start,
            stage,
            read_marker: None,
        }
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
            Stage::ListRecords(claimed) | Stage::Unit { claimed, .. } | Stage::Finish { claimed, .. } => {
                Some(claimed)
            }
            Stage::Prepare(machine) => Some(machine.claimed()),
            Stage::Claim(_) | Stage::Exited(_) => None,
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
            Stage::Prepare(machine) => ask(machine.next()),
            Stage::ListRecords(claimed) => Ask::Store(Op::list(records_folder(claimed.epoch))),
            Stage::Unit { machine, .. } => ask(machine.next()),
            Stage::Finish { machine, .. } => ask(machine.next()),
            Stage::Exited(_) => return None,
        })
    }

    /// Takes the answer and moves on, from machine to machine.
    pub fn answer(&mut self, answer: Answer) {
        if let (Some(Ask::Store(Op::Get { key })), Answer::Got(body)) = (self.ask(), &answer)
            && key == MARKER
        {
            self.read_marker = body.clone();
        }
        if let Err(error) = self.advance(answer) {
            self.stage = Stage::Exited(Exit::Failed(error.kind(), error.to_string()));
        }
    }

    fn advance(&mut self, answer: Answer) -> Result<()> {
        let next = match &mut self.stage {
            Stage::Claim(machine) => {
                machine.apply(answer)?;
                match machine.next() {
                    Step::Done(ClaimOutcome::Claimed(claimed)) => Some(Stage::Prepare(Prepare::new(claimed))),
                    Step::Done(ClaimOutcome::AlreadyComplete(_)) => Some(Stage::Exited(Exit::Complete)),
                    _ => None,
                }
            }
            Stage::Prepare(machine) => {
                machine.apply(answer)?;
                match machine.next() {
                    Step::Done(ClaimOutcome::Claimed(claimed)) => Some(Stage::ListRecords(claimed)),
                    Step::Done(ClaimOutcome::AlreadyComplete(_)) => Some(Stage::Exited(Exit::Complete)),
                    _ => None,
                }
            }
            Stage::ListRecords(claimed) => {
                let Answer::Listed(listing) = answer else {
                    unreachable!()
                };
                let done = read_names(&listing, claimed.epoch, &claimed.plan)?;
                let units = (0..claimed.plan.units.len() as u32).rev();
                let todo = units
                    .filter(|unit| self.start.owns(*unit) && !done.contains_key(unit))
                    .collect();
                Some(next_unit(claimed.clone(), todo, &self.start.word)?)
            }
            Stage::Unit {
                claimed,
                machine,
                todo,
            } => {
                machine.apply(answer)?;
                match machine.next() {
                    Step::Done(_) => Some(next_unit(claimed.clone(), todo.clone(), &self.start.word)?),
                    _ => None,
                }
            }
            Stage::Finish { machine, .. } => {
                machine.apply(answer)?;
                match machine.next() {
                    Step::Done(Finished::Complete(_)) => Some(Stage::Exited(Exit::Complete)),
                    Step::Done(Finished::Incomplete { .. }) => Some(Stage::Exited(Exit::PartDone)),
                    _ => None,
                }
            }
            Stage::Exited(_) => None,
        };
        if let Some(stage) = next {
            self.stage = stage;
        }
        Ok(())
    }
}

fn next_unit(claimed: Claimed, mut todo: Vec<u32>, word: &str) -> Result<Stage> {
    Ok(match todo.pop() {
        Some(unit) => {
            let files = rows_of(&claimed, unit, word);
            let machine = CommitUnit::new(claimed.clone(), unit, files, Map::new())?;
            Stage::Unit {
                claimed,
                machine,
                todo,
            }
        }
        None => Stage::Finish {
            machine: Finish::new(claimed.clone()),
            claimed,
        },
    })
}
