//! The deterministic simulator: real futures over a store in memory, interleaved by a seed.
//!
//! A [`Sim`] serves one request of one process after the other, in an order and with [`Trouble`] that the seed alone
//! decides. Whatever a process was told is an error, or asked before it died, may reach the store much later. The
//! oracle judges each change before and after it happens. [`Sim::settle`] then lets calm return and everybody restart,
//! and asks whether the output is what a single process would have written, undisturbed.

use std::collections::VecDeque;

use super::*;
use crate::error::ErrorKind;

mod calm;
mod port;
mod rng;
mod scenario;
mod trouble;

use crate::commit::layout::{prepared_key, records_folder};
pub use port::Role;
use port::{Life, Request};
use rng::Rng;
pub use scenario::{Before, Scenario, role};
pub use trouble::{Played, Trouble, Weather};

/// A change that is still on its way to the store, with all that is needed to judge it.
struct OnItsWay {
    op: Op,
    who: Judged,
}

/// Who asked for a change, as far as the oracle wants to know.
#[derive(Clone)]
struct Judged {
    run_id: String,
    mode: SaveMode,
    epoch: Option<u64>,
    read_marker: Option<Bytes>,
    saw_unprepared: bool,
}

/// A simulation.
pub struct Sim {
    scenario: Scenario,
    weather: Weather,
    bugs: &'static [Bug],
    rng: Rng,
    objects: Objects,
    /// Rows of each input file.
    input: Arc<Mutex<Vec<u64>>>,
    lives: Vec<Life>,
    late: Vec<OnItsWay>,
    /// The last few states of the objects, for listings that lag.
    past: VecDeque<Objects>,
    /// Whether somebody put an object of his own into the output, ever.
    stranger_came: bool,
    /// Whether the store is one that Floe is made for.
    is_sound: bool,
    pub played: Played,
}

impl Sim {
    pub fn new(scenario: Scenario, weather: Weather, bugs: &'static [Bug], seed: u64) -> Sim {
        let mut sim = Sim {
            objects: scenario.before.objects(),
            input: Arc::new(Mutex::new(scenario.input.clone())),
            lives: Vec::new(),
            late: Vec::new(),
            past: VecDeque::new(),
            rng: Rng(seed),
            is_sound: !matches!(
                weather,
                Weather::CutListings(_) | Weather::ClassB { lags: true, .. }
            ),
            weather,
            bugs,
            stranger_came: false,
            played: Played::default(),
            scenario,
        };
        for role in sim.scenario.roles.clone() {
            let life = sim.begin(role);
            sim.lives.push(life);
        }
        sim
    }

    /// Plays it to its end. `Err`: an invariant is broken.
    pub fn play(&mut self) -> Result<Played, String> {
        while self.played.operations < self.scenario.operations
            && self.lives.iter().any(|life| life.end.is_none())
        {
            self.turn()?;
        }
        self.settle()?;
        Ok(std::mem::take(&mut self.played))
    }

    fn begin(&mut self, role: Role) -> Life {
        let seed = self.rng.next();
        let mut life = Life::new(role, &self.input, seed);
        plant(self.bugs, || life.poll());
        life
    }

    fn view(&self) -> View<'_> {
        View {
            objects: &self.objects,
            rivals: self.scenario.rivals,
        }
    }

    /// One thing happens.
    fn turn(&mut self) -> Result<(), String> {
        let at = self.played.operations;
        if self.scenario.grows_at == Some(at) {
            self.scenario.grows_at = None;
            self.input.lock().unwrap().push(2);
        }
        if self.scenario.stranger_at == Some(at) {
            self.scenario.stranger_at = None;
            self.stranger_came = true;
            self.objects.create(STRANGER, Bytes::from_static(b"x"));
        }
        if let Some((when, roles)) = &self.scenario.redeployed
            && *when == at
        {
            let roles = roles.clone();
            self.scenario.redeployed = None;
            for who in 0..self.lives.len() {
                self.die(who);
            }
            self.lives = roles.into_iter().map(|role| self.begin(role)).collect();
        }
        if !self.late.is_empty() && self.rng.in_thousand(100) {
            return self.arrive();
        }
        let alive = self.alive(at);
        let Some(&who) = alive.get(self.rng.below(alive.len().max(1))) else {
            return Ok(());
        };
        // Some processes are slow: they get every fourth turn that is theirs.
        if who < self.scenario.slow && alive.len() > 1 && self.rng.in_thousand(750) {
            return Ok(());
        }
        match self.lives[who].waiting() {
            waiting if waiting == 0 || self.rng.in_thousand(50) => {
                plant(self.bugs, || self.lives[who].wake());
                self.ended(who)
            }
            waiting => {
                let request = self.rng.below(waiting);
                let request = self.lives[who].take(request);
                self.serve(who, request)
            }
        }
    }

    /// Processes that can go on; if all of them are stopped, the stops are over.
    fn alive(&mut self, at: usize) -> Vec<usize> {
        let mut alive: Vec<usize> = (0..self.lives.len()).collect();
        alive.retain(|who| self.lives[*who].end.is_none());
        let stopped = |who: &usize| {
            let mut stalls = self.scenario.stalls.iter();
            stalls.any(|(stalled, when)| stalled == who && when.contains(&at))
        };
        if alive.iter().all(stopped) {
            self.scenario.stalls.clear();
        } else {
            alive.retain(|who| !stopped(who));
        }
        alive
    }

    /// What happens to the next operation.
    fn trouble(&mut self, op: &Op) -> Option<Trouble> {
        let at = self.played.operations;
        let trouble = match self.weather {
            Weather::Random(often) => {
                let mut possible = Trouble::ALL.to_vec();
                possible.retain(|trouble| trouble.fits(op));
                let trouble = self.rng.pick(&possible);
                self.rng.in_thousand(often).then_some(trouble)
            }
            Weather::Once { at: when, trouble } => (when == at && trouble.fits(op)).then_some(trouble),
            Weather::ClassB { often, late, lags } => {
                let mut possible = Trouble::CLASS_B.to_vec();
                if late {
                    possible.extend([Trouble::Late, Trouble::DieLate]);
                }
                if lags {
                    possible.extend([Trouble::CutListing, Trouble::StaleListing, Trouble::StaleListing]);
                }
                possible.retain(|trouble| trouble.fits(op));
                let trouble = self.rng.pick(&possible);
                self.rng.in_thousand(often).then_some(trouble)
            }
            Weather::CutListings(often) => {
                (self.rng.in_thousand(often) && Trouble::CutListing.fits(op)).then_some(Trouble::CutListing)
            }
        };
        self.played.operations += 1;
        self.played.troubles += usize::from(trouble.is_some());
        self.played.log.push((op.clone(), trouble));
        trouble
    }

    fn serve(&mut self, who: usize, Request { op, answer }: Request) -> Result<(), String> {
        let Some(op) = op else {
            let _ = answer.send(Ok(Answer::Waited));
            return self.go_on(who);
        };
        let judged = self.judged(who);
        let error = |what: &str| Err(crate::error::Error::storage(what));
        let said = match self.trouble(&op) {
            None => self.told(who, &op, &judged)?,
            Some(Trouble::Fail) => error("503 slow down"),
            Some(Trouble::LoseAnswer) => {
                self.perform(&op, &judged)?;
                error("connection reset")
            }
            Some(Trouble::Late) => {
                self.late.push(OnItsWay { op, who: judged });
                error("timed out")
            }
            Some(Trouble::SayExists) => Ok(Answer::Created(Creation::Exists)),
            Some(Trouble::DieBefore) => return self.dies(who),
            Some(Trouble::DieLate) => {
                self.late.push(OnItsWay { op, who: judged });
                return self.dies(who);
            }
            Some(Trouble::DieAfter) => {
                self.perform(&op, &judged)?;
                return self.dies(who);
            }
            Some(Trouble::DieTorn) => {
                self.put_part(&op, &judged)?;
                return self.dies(who);
            }
            Some(Trouble::StorePart) => {
                self.put_part(&op, &judged)?;
                Ok(Answer::Created(Creation::Yes))
            }
            Some(Trouble::StaleListing) => {
                let back = self.rng.below(self.past.len() + 1);
                let seen = self.past.iter().rev().nth(back).unwrap_or(&self.objects);
                Ok(seen.clone().perform(&op))
            }
            Some(Trouble::CutListing) => {
                let mut listing = match self.perform(&op, &judged)? {
                    Answer::Listed(listing) => listing,
                    other => unreachable!("{other:?}"),
                };
                let last = listing.len().saturating_sub(1);
                let anywhere = self.rng.below(listing.len() + 1);
                listing.truncate(self.rng.pick(&[last, anywhere]));
                Ok(Answer::Listed(listing))
            }
        };
        let _ = answer.send(said);
        self.go_on(who)
    }

    /// Performs an operation and tells the process; what it learns, the oracle notes.
    fn told(&mut self, who: usize, op: &Op, judged: &Judged) -> Result<Result<Answer>, String> {
        let answer = self.perform(op, judged)?;
        let life = &mut self.lives[who];
        match (op, &answer) {
            (Op::Get { key }, Answer::Got(body)) if key == MARKER => life.read_marker = body.clone(),
            (Op::Get { key }, Answer::Got(body))
                if judged.epoch.is_some_and(|epoch| *key == prepared_key(epoch)) =>
            {
                life.saw_unprepared = body.is_none();
            }
            // The output is claimed and clear: from here on it has to look anew.
            (Op::List { prefix }, _)
                if judged.epoch.is_some_and(|epoch| *prefix == records_folder(epoch)) =>
            {
                life.saw_unprepared = false;
                life.read_marker = None;
            }
            _ => {}
        }
        Ok(Ok(answer))
    }

    fn judged(&self, who: usize) -> Judged {
        let life = &self.lives[who];
        let request = &life.role.start.request;
        Judged {
            run_id: request.run_id.clone(),
            mode: request.mode,
            epoch: self.view().epoch_of(&request.run_id),
            read_marker: life.read_marker.clone(),
            saw_unprepared: life.saw_unprepared,
        }
    }

    /// Performs an operation, with the oracle looking on.
    fn perform(&mut self, op: &Op, who: &Judged) -> Result<Answer, String> {
        if !matches!(op, Op::Create { .. } | Op::Put { .. } | Op::Delete { .. }) {
            return Ok(self.objects.perform(op));
        }
        let actor = Actor {
            run_id: &who.run_id,
            mode: who.mode,
            epoch: who.epoch,
            read_marker: who.read_marker.as_deref(),
            saw_unprepared: who.saw_unprepared,
        };
        self.view().check_op(&actor, op)?;
        if self.past.len() == PAST {
            self.past.pop_front();
        }
        self.past.push_back(self.objects.clone());
        let answer = self.objects.perform(op);
        self.view().check()?;
        Ok(answer)
    }

    /// Stores a part of what is put.
    fn put_part(&mut self, op: &Op, who: &Judged) -> Result<(), String> {
        let Op::Put { key, body } = op else {
            unreachable!("only puts are torn")
        };
        let part = Op::Put {
            key: key.clone(),
            body: part_of(&body.join()).into(),
        };
        self.perform(&part, who).map(|_| ())
    }

    /// A change that was on its way reaches the store.
    fn arrive(&mut self) -> Result<(), String> {
        let at = self.rng.below(self.late.len());
        let OnItsWay { op, who } = self.late.swap_remove(at);
        self.perform(&op, &who).map(|_| ())
    }

    fn all_arrive(&mut self) -> Result<(), String> {
        while !self.late.is_empty() {
            self.arrive()?;
        }
        Ok(())
    }

    fn go_on(&mut self, who: usize) -> Result<(), String> {
        plant(self.bugs, || self.lives[who].poll());
        self.ended(who)
    }

    /// A process may have ended: was that right?
    fn ended(&mut self, who: usize) -> Result<(), String> {
        let life = &self.lives[who];
        let run_id = &life.role.start.request.run_id;
        match &life.end {
            None => Ok(()),
            Some(Ok(_)) => {
                let Some(epoch) = self.view().epoch_of(run_id) else {
                    return Ok(());
                };
                let plan = self.view().plan(epoch)?;
                let records = self.view().records(epoch, &plan)?;
                let Start {
                    request, replicas, ..
                } = &life.role.start;
                let mut shares = plan::assign::assign(&plan.units, *replicas as usize);
                let share = shares.swap_remove(request.replica_index as usize);
                match share.iter().find(|unit| !records.contains_key(unit)) {
                    Some(unit) => Err(format!("I9: exit 0 although unit {unit} is not committed")),
                    None => Ok(()),
                }
            }
            Some(Err(error)) => match error.kind() {
                ErrorKind::Storage => {
                    // Its container starts again.
                    self.dies(who)
                }
                ErrorKind::NotEmpty if self.stranger_came => Ok(()),
                ErrorKind::NotEmpty | ErrorKind::Superseded if self.scenario.is_lost() || !self.is_sound => {
                    Ok(())
                }
                _ => Err(format!("I2: process {who} ends with {error}")),
            },
        }
    }

    /// Whatever it had asked is not done, or done later.
    fn die(&mut self, who: usize) {
        self.played.deaths += 1;
        let judged = self.judged(who);
        while self.lives[who].waiting() > 0 {
            let op = self.lives[who].take(0).op;
            let changes = |op: &Op| matches!(op, Op::Create { .. } | Op::Put { .. } | Op::Delete { .. });
            let weather_allows = matches!(
                self.weather,
                Weather::Random(_) | Weather::ClassB { late: true, .. }
            );
            if let Some(op) = op.filter(changes)
                && weather_allows
                && self.rng.in_thousand(500)
            {
                self.late.push(OnItsWay {
                    op,
                    who: judged.clone(),
                });
            }
        }
    }

    /// It dies and is started again.
    fn dies(&mut self, who: usize) -> Result<(), String> {
        self.die(who);
        let role = self.lives[who].role.clone();
        self.lives[who] = self.begin(role);
        if self.played.deaths > 2000 {
            return Err("I2: processes are restarted for ever".into());
        }
        Ok(())
    }
}

/// So many changes may a listing lag behind.
const PAST: usize = 8;

/// The run that is simulated, and one before it.
pub const RUN_ID: &str = "new";
pub const OLD_RUN_ID: &str = "old";
