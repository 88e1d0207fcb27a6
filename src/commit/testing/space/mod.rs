//! Every interleaving: a [`World`] and what may happen to it as a model for stateright's checker.
//!
//! What one process does at a step depends on that process and on the objects alone. So both are kept under numbers,
//! each step of the real machines is computed once however many interleavings contain it, and a state is a handful of
//! numbers.
//!
//! Interleavings that can't make a difference are left out:
//! - Processes that were started alike are interchangeable, and kept in the order of their numbers.
//! - A step whose answer nobody can change (a pause, an object that is created once) is taken with the one before it.
//! - A process is killed right after it has changed an object, or while it puts one. Killed at any other moment it leaves behind what it
//!   would have left when killed after its last change, or started later.
//! - The input grows where a process is about to list it, and at the latest when a plan has been pinned.

use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::Mutex;
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model, Property};

use super::*;

mod memo;
mod searched;

use memo::{INVARIANTS, Memo, Stepped};
pub use searched::Searched;

/// What may happen besides steps of the processes.
#[derive(Clone, Copy, Default)]
pub struct Allowed {
    /// Kills, each with a restart.
    pub kills: u8,
    /// Whether a kill may cut short what its process puts.
    pub tears: bool,
    /// Kills without one.
    pub deaths: u8,
    /// Creates with a lost or wrong answer.
    pub lies: u8,
    /// The input grows by a file, once.
    pub growth: bool,
    /// Somebody puts an object of his own into the output, once.
    pub stranger: bool,
}

/// What must hold where nobody moves any more.
pub type End = fn(&World) -> Result<(), String>;

/// The states that can be reached.
pub struct Space {
    first: World,
    allowed: Allowed,
    end: End,
    /// Processes that were started alike, by position.
    alike: Vec<Range<usize>>,
    memo: Mutex<Memo>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    objects: u32,
    processes: Vec<u32>,
    kills: u8,
    deaths: u8,
    lies: u8,
    may_grow: bool,
    may_drop: bool,
    /// The invariants that are broken here, or by the step that led here: a bit each.
    broken: u16,
    /// How many events led here. The search is breadth first, so there is no shorter way.
    events: Aside<usize>,
}

/// Carried along, but no part of what it is carried in.
#[derive(Clone, Copy, Debug, Default)]
struct Aside<T>(T);

impl<T> PartialEq for Aside<T> {
    fn eq(&self, _: &Aside<T>) -> bool {
        true
    }
}

impl<T> Eq for Aside<T> {}

impl<T> Hash for Aside<T> {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// What happens next; processes by their position in the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Step { who: usize, choice: usize },
    Lie { who: usize, fault: Fault },
    StepAndRestart { who: usize },
    TearAndRestart { who: usize },
    StepAndDie { who: usize },
    NeverStart { who: usize },
    InputGrows,
    StrangerComes,
}

const COMPLETES: &str = "the run completes";
/// In [`State::broken`]: no invariant but a fact, that the end has been reached and is as it should be.
const ENDED_WELL: u16 = 1 << 15;

impl Space {
    pub fn new(first: World, allowed: Allowed, end: End) -> Space {
        let starts: Vec<&Start> = first.processes.iter().map(|process| &process.start).collect();
        let mut alike: Vec<Range<usize>> = Vec::new();
        for at in 0..starts.len() {
            match alike.last_mut() {
                Some(last) if starts[last.start] == starts[at] => last.end = at + 1,
                _ => alike.push(at..at + 1),
            }
        }
        Space {
            first,
            allowed,
            end,
            alike,
            memo: Mutex::default(),
        }
    }

    /// Visits every state; or stops when one breaks an invariant, or all of `wanted` have been broken if there are any.
    pub fn search(self, wanted: &[&'static str]) -> Searched {
        let began = Instant::now();
        let enough = match wanted {
            [] => HasDiscoveries::AnyFailures,
            _ => HasDiscoveries::AllOf(wanted.iter().copied().collect()),
        };
        let checker = self.checker().finish_when(enough).spawn_bfs().join();
        let mut found = checker.discoveries();
        let completes = found.remove(COMPLETES).is_some();
        let mut broken = checker.model().memo.lock().unwrap().said.clone();
        broken.retain(|name, _| found.contains_key(name));
        let path = found
            .into_values()
            .map(|path| path.into_actions())
            .min_by_key(Vec::len);
        Searched {
            states: checker.unique_state_count(),
            depth: checker.max_depth(),
            seconds: began.elapsed().as_secs_f64(),
            completes,
            broken,
            path: path.map_or(String::new(), |path| format!("{path:?}")),
        }
    }

    fn world(&self, memo: &Memo, processes: &[u32], objects: u32, grown: bool) -> World {
        let process = |number: &u32| (*memo.processes.values[*number as usize]).clone();
        let mut world = World {
            objects: (*memo.objects.values[objects as usize]).clone(),
            processes: processes.iter().map(process).collect(),
            ..self.first.clone()
        };
        if grown {
            world.input.push(1);
        }
        world
    }

    /// A step of one process, with what it breaks.
    fn step(&self, memo: &mut Memo, state: &State, who: usize, fault: Fault, choice: usize) -> Stepped {
        let grown = self.allowed.growth && !state.may_grow;
        let (process, objects) = (state.processes[who], state.objects);
        assert!(process < 1 << 24 && objects < 1 << 24 && choice < 1 << 8);
        let place = u64::from(process) << 24 | u64::from(objects);
        let key = place << 16 | (choice as u64) << 8 | (fault as u64) << 1 | u64::from(grown);
        if let Some(stepped) = memo.steps.get(&key) {
            return *stepped;
        }
        let mut world = self.world(memo, &state.processes[who..=who], state.objects, grown);
        let verdict = world.step_choosing(0, fault, choice);
        let events = state.events.0 + 1;
        let mut broken = memo.bit(events, verdict);
        let mut lists_input = matches!(memo.asks[state.processes[who] as usize], Some(Ask::Plan));
        while world.next_is_settled(0) {
            lists_input |= matches!(world.processes[0].ask(), Some(Ask::Plan));
            let verdict = world.step(0, Fault::None);
            broken |= memo.bit(events, verdict);
        }
        let mut process = world.processes.remove(0);
        if process.exit() == Some(&Exit::Complete) {
            // It ended well, and whether that was right has been judged: no need to tell more states apart.
            process.stage = Stage::Exited(Exit::PartDone);
        }
        let process = memo.process(process);
        let stepped = Stepped {
            process,
            objects: memo.objects.number(world.objects),
            broken,
            lists_input,
        };
        memo.steps.insert(key, stepped);
        stepped
    }

    fn take(&self, memo: &mut Memo, state: &mut State, who: usize, fault: Fault, choice: usize) {
        let stepped = self.step(memo, state, who, fault, choice);
        state.processes[who] = stepped.process;
        state.objects = stepped.objects;
        state.broken = stepped.broken;
    }

    fn die(&self, memo: &mut Memo, state: &mut State, who: usize) {
        let mut dead = memo.processes.values[state.processes[who] as usize].reborn();
        dead.stage = Stage::Exited(Exit::Killed);
        state.processes[who] = memo.process(dead);
        state.deaths -= 1;
    }

    /// The process as it was started.
    fn unborn(&self, memo: &mut Memo, number: u32) -> u32 {
        let process = &memo.processes.values[number as usize];
        memo.process(Process::new(process.start.clone()))
    }

    /// Puts the state into its one form and judges it.
    fn settle(&self, memo: &mut Memo, mut state: State) -> State {
        if state.may_grow && self.is_pinned(memo, state.objects) {
            state.may_grow = false;
        }
        for alike in &self.alike {
            state.processes[alike.clone()].sort_unstable();
        }
        let judged = match memo.judged.get(&state.objects) {
            Some(judged) => *judged,
            None => {
                let verdict = self.world(memo, &[], state.objects, false).check();
                let judged = memo.bit(state.events.0, verdict);
                memo.judged.insert(state.objects, judged);
                judged
            }
        };
        let agree = memo.agree(&state.processes);
        state.broken |= judged | memo.bit(state.events.0, agree);
        if self.is_over(memo, &state) {
            let world = self.world(memo, &state.processes, state.objects, !state.may_grow);
            let verdict = (self.end)(&world);
            state.broken |= if verdict.is_ok() {
                ENDED_WELL
            } else {
                memo.bit(state.events.0, verdict)
            };
        }
        state
    }

    /// Whether a plan is pinned that everybody works from.
    fn is_pinned(&self, memo: &Memo, objects: u32) -> bool {
        let Start { request, design, .. } = &self.first.processes[0].start;
        let objects = &memo.objects.values[objects as usize];
        let view = View {
            objects,
            rivals: false,
        };
        *design == Design::Floe && view.epoch_of(&request.run_id).is_some()
    }

    fn is_over(&self, memo: &Memo, state: &State) -> bool {
        let moves = |number: &u32| memo.asks[*number as usize].is_some();
        !state.processes.iter().any(moves)
    }
}

impl World {
    /// Whether nobody can change any more what the process will be told next.
    fn next_is_settled(&self, who: usize) -> bool {
        match self.processes[who].ask() {
            Some(Ask::Pause | Ask::Plan | Ask::Rows(_)) => true,
            Some(Ask::Store(Op::Get { key })) => {
                let is_class_a = self.processes[who].start.request.store_class == StoreClass::A;
                let created_once = layout::is_state(&key) && is_class_a;
                created_once && self.create == Create::PutsIfAbsent && self.objects.0.contains_key(&key)
            }
            _ => false,
        }
    }
}

impl Model for Space {
    type State = State;
    type Action = Event;

    fn init_states(&self) -> Vec<State> {
        let mut memo = self.memo.lock().unwrap();
        let first = State {
            objects: memo.objects.number(self.first.objects.clone()),
            processes: self
                .first
                .processes
                .iter()
                .map(|process| memo.process(process.clone()))
                .collect(),
            kills: self.allowed.kills,
            deaths: self.allowed.deaths,
            lies: self.allowed.lies,
            may_grow: self.allowed.growth,
            may_drop: self.allowed.stranger,
            broken: 0,
            events: Aside(0),
        };
        vec![self.settle(&mut memo, first)]
    }

    fn actions(&self, state: &State, events: &mut Vec<Event>) {
        let mut memo = self.memo.lock().unwrap();
        if self.is_over(&memo, state) {
            return;
        }
        let mut lists_input = false;
        for (who, process) in state.processes.iter().enumerate() {
            let is_twin = who > 0 && state.processes[who - 1] == *process;
            let is_class_b = self.first.processes[0].start.request.store_class == StoreClass::B;
            let (choices, creates) = match &memo.asks[*process as usize] {
                _ if is_twin => continue,
                None => continue,
                Some(Ask::Choice(choices)) => (*choices, false),
                Some(ask) => (1, matches!(ask, Ask::Store(Op::Create { .. } | Op::Put { .. }))),
            };
            events.extend((0..choices).map(|choice| Event::Step { who, choice }));
            if state.lies > 0 && creates {
                let last = if is_class_b {
                    Fault::StorePart
                } else {
                    Fault::SayExists
                };
                let lies = [Fault::LoseAnswer, Fault::FailBefore, last];
                events.extend(lies.map(|fault| Event::Lie { who, fault }));
            }
            if state.deaths > 0 && *process == self.unborn(&mut memo, *process) {
                events.push(Event::NeverStart { who });
            }
            if state.kills > 0 && self.allowed.tears && creates {
                events.push(Event::TearAndRestart { who });
            }
            let stepped = self.step(&mut memo, state, who, Fault::None, 0);
            lists_input |= stepped.lists_input;
            if stepped.objects == state.objects {
                continue;
            }
            if state.kills > 0 {
                events.push(Event::StepAndRestart { who });
            }
            if state.deaths > 0 {
                events.push(Event::StepAndDie { who });
            }
        }
        if state.may_grow && lists_input {
            events.push(Event::InputGrows);
        }
        if state.may_drop {
            events.push(Event::StrangerComes);
        }
    }

    fn next_state(&self, last: &State, event: Event) -> Option<State> {
        let mut memo = self.memo.lock().unwrap();
        let mut state = State {
            broken: 0,
            events: Aside(last.events.0 + 1),
            ..last.clone()
        };
        match event {
            Event::Step { who, choice } => self.take(&mut memo, &mut state, who, Fault::None, choice),
            Event::Lie { who, fault } => {
                self.take(&mut memo, &mut state, who, fault, 0);
                state.lies -= 1;
            }
            Event::StepAndRestart { who } | Event::TearAndRestart { who } => {
                let fault = match event {
                    Event::TearAndRestart { .. } => Fault::Tear,
                    _ => Fault::None,
                };
                self.take(&mut memo, &mut state, who, fault, 0);
                let reborn = memo.processes.values[last.processes[who] as usize].reborn();
                state.processes[who] = memo.process(reborn);
                state.kills -= 1;
            }
            Event::StepAndDie { who } => {
                self.take(&mut memo, &mut state, who, Fault::None, 0);
                self.die(&mut memo, &mut state, who);
            }
            Event::NeverStart { who } => self.die(&mut memo, &mut state, who),
            Event::InputGrows => state.may_grow = false,
            Event::StrangerComes => {
                let mut objects = (*memo.objects.values[last.objects as usize]).clone();
                objects.create(STRANGER, Bytes::from_static(b"x"));
                state.objects = memo.objects.number(objects);
                state.may_drop = false;
            }
        };
        Some(self.settle(&mut memo, state))
    }

    fn properties(&self) -> Vec<Property<Space>> {
        fn holds<const INVARIANT: u16>(_: &Space, state: &State) -> bool {
            state.broken & (1 << INVARIANT) == 0
        }
        let holds: [fn(&Space, &State) -> bool; 10] = [
            holds::<0>, holds::<1>, holds::<2>, holds::<3>, holds::<4>, holds::<5>, holds::<6>, holds::<7>,
            holds::<8>, holds::<9>,
        ];
        let always = INVARIANTS.into_iter().zip(holds);
        always
            .map(|(name, holds)| Property::always(name, holds))
            .chain([Property::sometimes(COMPLETES, |_: &Space, state: &State| {
                state.broken & ENDED_WELL != 0
            })])
            .collect()
    }
}
