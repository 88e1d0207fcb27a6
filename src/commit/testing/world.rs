//! Store, input and processes, moved one step at a time.

use super::*;
use crate::commit::machine::{Answer, Creation, Op};

/// What may happen to a process at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    None,
    /// It dies before the operation reaches the store.
    KillBefore,
    /// It dies when the operation is done and before it learns so.
    KillAfter,
    /// A create is done, its answer lost.
    LoseAnswer,
    /// A create is not done, and the answer is an error.
    FailBefore,
    /// A create is not done, and the answer is that it exists (409 of a busy store).
    SayExists,
    /// It dies while it puts an object, of which a part is there then.
    Tear,
    /// A part of what is put is stored, and the answer is that all of it was.
    StorePart,
}

/// Store, input and processes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub objects: Objects,
    /// Rows of each input file; it may grow at any time.
    pub input: Vec<u64>,
    pub processes: Vec<Process>,
    /// Whether two runs are alive in this output: an old file or marker beside the new run's is then the hole that
    /// the documentation names, and no violation.
    pub rivals: bool,
    pub create: Create,
    /// What is wrong with the protocol.
    pub bugs: &'static [Bug],
}

/// What the store's create does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Create {
    /// Puts if absent.
    PutsIfAbsent,
    /// Puts always, and says yes: not a store that Floe accepts.
    Overwrites,
}

impl World {
    pub fn new(input: &[u64], starts: impl IntoIterator<Item = Start>) -> World {
        World {
            objects: Objects::default(),
            input: input.to_vec(),
            processes: starts.into_iter().map(Process::new).collect(),
            rivals: false,
            create: Create::PutsIfAbsent,
            bugs: &[],
        }
    }

    /// Lets process `who` do one step; it helps with the first unit that is open. `Err`: it broke a rule.
    pub fn step(&mut self, who: usize, fault: Fault) -> Result<(), String> {
        self.step_choosing(who, fault, 0)
    }

    /// Lets process `who` do one step, and choose so if it has a choice. `Err`: it broke a rule.
    pub fn step_choosing(&mut self, who: usize, fault: Fault, choice: usize) -> Result<(), String> {
        plant(self.bugs, || self.take_step(who, fault, choice))
    }

    fn take_step(&mut self, who: usize, fault: Fault, choice: usize) -> Result<(), String> {
        let Some(ask) = self.processes[who].ask() else {
            return Ok(());
        };
        let mut verdict = Ok(());
        if fault == Fault::KillBefore {
            self.processes[who].stage = Stage::Exited(Exit::Killed);
            return Ok(());
        }
        let answer = match ask {
            Ask::Plan => {
                let request = &self.processes[who].start.request;
                Answer::Planned(Box::new(plan_for(request, &self.input)))
            }
            Ask::Rows(body) => Answer::Rows(count_rows(&body).map_err(|error| error.to_string())?),
            Ask::Pause => Answer::Waited,
            Ask::Choice(_) => {
                self.processes[who].choose(choice);
                return Ok(());
            }
            Ask::Store(op) => {
                verdict = self.check_op(who, &op);
                match (&op, fault) {
                    (Op::Put { key, body }, Fault::Tear | Fault::StorePart) => {
                        self.objects.0.insert(key.clone(), part_of(&body.join()));
                        Answer::Created(Creation::Yes)
                    }
                    (Op::Create { .. } | Op::Put { .. }, Fault::FailBefore) => {
                        Answer::Created(Creation::Unknown("refused".into()))
                    }
                    (Op::Create { .. }, Fault::SayExists) => Answer::Created(Creation::Exists),
                    (Op::Create { .. } | Op::Put { .. }, Fault::LoseAnswer) => {
                        self.perform(&op);
                        Answer::Created(Creation::Unknown("reset".into()))
                    }
                    _ => self.perform(&op),
                }
            }
        };
        if matches!(fault, Fault::KillAfter | Fault::Tear) {
            self.processes[who].stage = Stage::Exited(Exit::Killed);
        } else {
            self.processes[who].answer(answer);
        }
        verdict.and_then(|()| self.check_exit(who))
    }

    fn perform(&mut self, op: &Op) -> Answer {
        match (op, self.create) {
            (Op::Create { key, body }, Create::Overwrites) => {
                self.objects.0.insert(key.clone(), body.join());
                Answer::Created(Creation::Yes)
            }
            _ => self.objects.perform(op),
        }
    }

    /// Runs process `who` to its exit without faults, checking everything. Returns how many steps it took.
    pub fn run(&mut self, who: usize) -> Result<usize, String> {
        for steps in 0..10_000 {
            if self.processes[who].exit().is_some() {
                return Ok(steps);
            }
            self.step(who, Fault::None)?;
            self.check()?;
        }
        Err("the process never ends".into())
    }

    /// The same for an output that somebody has damaged: the invariants don't hold, and that is the point.
    pub fn run_on_damage(&mut self, who: usize) {
        for _ in 0..10_000 {
            if self.processes[who].exit().is_some() {
                return;
            }
            self.step(who, Fault::None).unwrap();
        }
        panic!("the process never ends");
    }

    /// Steps process `who` until its next operation is one of those looked for.
    pub fn run_to(&mut self, who: usize, wanted: impl Fn(&Op) -> bool) {
        for _ in 0..10_000 {
            match self.processes[who].ask() {
                Some(Ask::Store(op)) if wanted(&op) => return,
                Some(_) => self.step(who, Fault::None).unwrap(),
                None => break,
            }
        }
        panic!("the process never gets there: {:?}", self.exit(who));
    }

    /// Starts process `who` again, as it was started.
    pub fn restart(&mut self, who: usize) {
        self.processes[who] = self.processes[who].reborn();
    }

    pub fn exit(&self, who: usize) -> Option<&Exit> {
        self.processes[who].exit()
    }
}

/// What a writer leaves that is killed over its object.
pub fn part_of(body: &Bytes) -> Bytes {
    body.slice(..body.len() / 2)
}
