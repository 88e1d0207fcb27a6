//! A world to run the protocol in: a store in memory, processes that can be stepped, killed and lied to, and an
//! oracle that knows the invariants.
//!
//! [`World`] is plain data (clone, compare, hash), so the same one serves a loop that kills at every operation, a
//! random simulator and a model checker. [`World::step`] lets one process do one step under a [`Fault`];
//! [`World::check`] is to be called after every step, [`World::check_end`] when nobody moves any more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Map;

use super::claim::{Claim, epoch_owner, read_epochs, read_plan};
use super::finish::Finish;
use super::layout::{DataName, EPOCHS, MARKER, RunTag, epoch_key, is_state, may_be_data, records_folder};
use super::machine::{Answer, Creation, Machine, Op, Step};
use super::prepare::Prepare;
use super::record::{Record, files_of_name, read_names};
use super::success::{Owner, Success};
use super::unit::CommitUnit;
use super::*;
use crate::error::ErrorKind;
use crate::plan::{self, Part, PlannedFile, Unit};
use crate::storage::{Created, Entry};

/// The objects of an output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Objects(pub BTreeMap<String, Bytes>);

impl Objects {
    pub fn list(&self, prefix: &str) -> Vec<Entry> {
        let folder = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        self.0
            .iter()
            .filter(|(key, _)| key.starts_with(&folder))
            .map(|(key, body)| Entry { key: key.clone(), size: body.len() as u64 })
            .collect()
    }

    /// Puts if absent; whether it did.
    pub fn create(&mut self, key: &str, body: Bytes) -> bool {
        let free = !self.0.contains_key(key);
        if free {
            self.0.insert(key.to_string(), body);
        }
        free
    }

    /// Carries out an operation as a faultless store does.
    pub fn perform(&mut self, op: &Op) -> Answer {
        match op {
            Op::List { prefix } => Answer::Listed(self.list(prefix)),
            Op::Get { key } => Answer::Got(self.0.get(key).cloned()),
            Op::Head { key } => Answer::Size(self.0.get(key).map(|body| body.len() as u64)),
            Op::Create { key, body } => Answer::Created(if self.create(key, body.clone()) {
                Creation::Yes
            } else {
                Creation::Exists
            }),
            Op::Delete { key } => {
                self.0.remove(key);
                Answer::Deleted
            }
        }
    }
}

/// [`Objects`] behind the async trait.
#[derive(Default)]
pub struct MapStore(pub Mutex<Objects>);

impl MapStore {
    pub fn insert(&self, key: &str, body: impl Into<Bytes>) {
        self.0.lock().unwrap().0.insert(key.to_string(), body.into());
    }

    pub fn remove(&self, key: &str) {
        self.0.lock().unwrap().0.remove(key).expect("the object is there");
    }
}

#[async_trait]
impl Store for MapStore {
    async fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        Ok(self.0.lock().unwrap().list(prefix))
    }
    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        Ok(self.0.lock().unwrap().0.get(key).cloned())
    }
    async fn head(&self, key: &str) -> Result<Option<u64>> {
        Ok(self.0.lock().unwrap().0.get(key).map(|body| body.len() as u64))
    }
    async fn create(&self, key: &str, body: Bytes) -> Result<Created> {
        let made = self.0.lock().unwrap().create(key, body);
        Ok(if made { Created::Yes } else { Created::Exists })
    }
    async fn put(&self, key: &str, body: Bytes) -> Result<()> {
        self.insert(key, body);
        Ok(())
    }
    async fn delete(&self, key: &str) -> Result<()> {
        self.0.lock().unwrap().0.remove(key);
        Ok(())
    }
}

/// Runs a future to its end on this thread.
pub fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(future)
}

/// A plan of one file per unit, `rows[i]` rows in file `i`.
pub fn plan_of(run_id: &str, mode: SaveMode, rows: &[u64]) -> Plan {
    let file = |(index, &rows): (usize, &u64)| PlannedFile {
        path: format!("f{index}"),
        size: rows,
        etag: None,
        modified: String::new(),
        rows,
    };
    let unit = |(index, &rows): (usize, &u64)| Unit {
        id: index as u32,
        parts: vec![Part { file: index as u32, first: 0, end: 1 }],
        rows,
        bytes: rows,
    };
    Plan {
        format: plan::FORMAT,
        run_id: run_id.into(),
        job_name: "job".into(),
        mode,
        config_digest: "c".into(),
        model_digest: "m".into(),
        worker_version: "0".into(),
        batch_rows: 1,
        input_schema: arrow::datatypes::Schema::empty(),
        outputs: Vec::new(),
        inputs: rows.iter().enumerate().map(file).collect(),
        units: rows.iter().enumerate().map(unit).collect(),
    }
}

/// A request for run `run_id` that goes with [`plan_of`].
pub fn request(run_id: &str, mode: SaveMode) -> ClaimRequest {
    ClaimRequest {
        run_id: run_id.into(),
        config_digest: "c".into(),
        model_digest: "m".into(),
        function: None,
        mode,
        take_over: false,
        replica_index: 0,
    }
}

/// A unit's output: one line per row that names it, after a word that a deterministic model keeps the same.
pub fn rows_of(claimed: &Claimed, unit: u32, word: &str) -> Vec<NewFile> {
    let planned = &claimed.plan.units[unit as usize];
    if planned.rows == 0 {
        return Vec::new();
    }
    let text: String = (0..planned.rows).map(|row| format!("{word} f{unit}#{row}\n")).collect();
    vec![new_file(data_key("", unit, &claimed.plan.run_id), text, planned.rows)]
}

pub fn new_file(path: String, body: impl Into<Bytes>, rows: u64) -> NewFile {
    let body = body.into();
    NewFile { path, checksum: Checksum::of(&body), body, rows }
}

/// What the real program learns from a Parquet footer.
pub fn count_rows(body: &Bytes) -> Result<u64> {
    match body.last() {
        Some(b'\n') => Ok(body.iter().filter(|byte| **byte == b'\n').count() as u64),
        _ => Err(Error::data("not the output of the test model")),
    }
}

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
        Start { request, replicas: 1, word: "row".into() }
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
    read_marker: Option<Bytes>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    Claim(Claim),
    Prepare(Prepare),
    ListRecords(Claimed),
    Unit { claimed: Claimed, machine: CommitUnit, todo: Vec<u32> },
    Finish { claimed: Claimed, machine: Finish },
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
        Process { start, stage, read_marker: None }
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
            Stage::ListRecords(claimed) | Stage::Unit { claimed, .. } | Stage::Finish { claimed, .. } => Some(claimed),
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
                let Answer::Listed(listing) = answer else { unreachable!() };
                let done = read_names(&listing, claimed.epoch, &claimed.plan)?;
                let units = (0..claimed.plan.units.len() as u32).rev();
                let todo = units.filter(|unit| self.start.owns(*unit) && !done.contains_key(unit)).collect();
                Some(next_unit(claimed.clone(), todo, &self.start.word)?)
            }
            Stage::Unit { claimed, machine, todo } => {
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
            Stage::Unit { claimed, machine, todo }
        }
        None => Stage::Finish { machine: Finish::new(claimed.clone()), claimed },
    })
}

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
}

/// Store, input and processes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub objects: Objects,
    /// Rows of each input file; it may grow at any time.
    pub input: Vec<u64>,
    pub processes: Vec<Process>,
    /// What every process is expected to leave alone: what a live run of a lower epoch may break is no violation.
    pub rivals: bool,
}

impl World {
    pub fn new(input: &[u64], starts: impl IntoIterator<Item = Start>) -> World {
        World {
            objects: Objects::default(),
            input: input.to_vec(),
            processes: starts.into_iter().map(Process::new).collect(),
            rivals: false,
        }
    }

    /// Lets process `who` do one step. `Err`: it broke a rule.
    pub fn step(&mut self, who: usize, fault: Fault) -> Result<(), String> {
        let Some(ask) = self.processes[who].ask() else {
            return Ok(());
        };
        if fault == Fault::KillBefore {
            self.processes[who].stage = Stage::Exited(Exit::Killed);
            return Ok(());
        }
        let answer = match ask {
            Ask::Plan => {
                let request = &self.processes[who].start.request;
                Answer::Planned(plan_of(&request.run_id, request.mode, &self.input))
            }
            Ask::Rows(body) => Answer::Rows(count_rows(&body).map_err(|error| error.to_string())?),
            Ask::Pause => Answer::Waited,
            Ask::Store(op) => {
                self.check_op(who, &op)?;
                match (&op, fault) {
                    (Op::Create { .. }, Fault::FailBefore) => Answer::Created(Creation::Unknown("refused".into())),
                    (Op::Create { .. }, Fault::SayExists) => Answer::Created(Creation::Exists),
                    (Op::Create { .. }, Fault::LoseAnswer) => {
                        self.objects.perform(&op);
                        Answer::Created(Creation::Unknown("reset".into()))
                    }
                    _ => self.objects.perform(&op),
                }
            }
        };
        if fault == Fault::KillAfter {
            self.processes[who].stage = Stage::Exited(Exit::Killed);
        } else {
            self.processes[who].answer(answer);
        }
        Ok(())
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
        self.processes[who] = Process::new(self.processes[who].start.clone());
    }

    pub fn exit(&self, who: usize) -> Option<&Exit> {
        self.processes[who].exit()
    }

    /// I6 and I7: what an operation may do, judged before it happens.
    fn check_op(&self, who: usize, op: &Op) -> Result<(), String> {
        let process = &self.processes[who];
        match op {
            Op::Delete { key } => self.check_delete(process, key).map_err(|why| format!("I6: {key}: {why}")),
            Op::Create { key, .. } => self.check_order(process, key),
            _ => Ok(()),
        }
    }

    fn check_delete(&self, process: &Process, key: &str) -> Result<(), String> {
        let claimed = process.claimed().ok_or("deleted without a hold on the output")?;
        if is_state(key) {
            return Err("state is never deleted".into());
        }
        if key == MARKER {
            let read = process.read_marker.as_deref().ok_or("deleted a marker it had not read")?;
            let newest = read_epochs(&self.objects.list(EPOCHS)).unwrap().pop();
            let owner = Owner::of(read);
            return match owner {
                Some(owner) if owner.run_id == claimed.plan.run_id => {
                    let superseded = newest > Some(claimed.epoch);
                    superseded.then_some(()).ok_or("withdrew its own marker without need".into())
                }
                Some(owner) if owner.epoch > claimed.epoch => Err("a newer run's marker".into()),
                _ => self.may_delete(claimed),
            };
        }
        let Some(name) = DataName::parse(key) else {
            return self.may_delete(claimed);
        };
        if name.run == RunTag::of(&claimed.plan.run_id) {
            return Err("its own run's data".into());
        }
        for entry in self.objects.list(EPOCHS) {
            let epoch = layout::parse_epoch_key(&entry.key).unwrap_or(0);
            let owner = epoch_owner(&self.objects.0[&entry.key]).unwrap();
            if epoch > claimed.epoch && RunTag::of(&owner) == name.run {
                return Err("a newer run's data".into());
            }
        }
        self.may_delete(claimed)
    }

    fn may_delete(&self, claimed: &Claimed) -> Result<(), String> {
        let allowed = claimed.plan.mode == SaveMode::Overwrite;
        allowed.then_some(()).ok_or("mode ERROR deletes nothing".into())
    }

    fn check_order(&self, process: &Process, key: &str) -> Result<(), String> {
        let Some(claimed) = process.claimed() else {
            return Ok(());
        };
        // A process that doesn't know yet that it was superseded may find its data gone.
        let newest = read_epochs(&self.objects.list(EPOCHS)).unwrap().pop();
        if newest > Some(claimed.epoch) {
            return Ok(());
        }
        if let Some(name) = RecordName::parse(key, claimed.epoch) {
            let files = files_of_name(&name, &claimed.plan.run_id).unwrap_or_default();
            for file in files {
                if !self.objects.0.contains_key(&file.path) {
                    return Err(format!("I7: the record {key} before its data"));
                }
            }
        }
        if key == MARKER {
            let records = self.records(claimed.epoch, &claimed.plan)?;
            if records.len() != claimed.plan.units.len() {
                return Err("I7: the marker before all records".into());
            }
        }
        Ok(())
    }

    fn records(&self, epoch: u64, plan: &Plan) -> Result<BTreeMap<u32, RecordName>, String> {
        read_names(&self.objects.list(&records_folder(epoch)), epoch, plan).map_err(|error| format!("I5: {error}"))
    }

    /// I1, I3, I4, I5: what must hold in every state.
    pub fn check(&self) -> Result<(), String> {
        let epochs = read_epochs(&self.objects.list(EPOCHS)).unwrap();
        if let Some(&newest) = epochs.last() {
            self.check_committed(newest)?;
        }
        self.check_agreement()?;
        let Some(marker) = self.objects.0.get(MARKER).filter(|body| Owner::of(body).is_some()) else {
            return Ok(());
        };
        let marker = Success::read(marker).map_err(|error| format!("I1: {error}"))?;
        self.check_marker(&marker)
    }

    /// I4: processes of one run work from one plan.
    fn check_agreement(&self) -> Result<(), String> {
        for claimed in self.processes.iter().filter_map(Process::claimed) {
            let key = epoch_key(claimed.epoch);
            let body = self.objects.0.get(&key).ok_or("I0: the epoch is gone")?;
            if claimed.plan_digest != digest::sha256(body) {
                return Err(format!("I4: a process of {} works from another plan", claimed.plan.run_id));
            }
        }
        Ok(())
    }

    /// I5: whatever a record of the newest epoch names is there, whole.
    fn check_committed(&self, epoch: u64) -> Result<(), String> {
        let key = epoch_key(epoch);
        let plan = read_plan(&self.objects.0[&key], &key).map_err(|error| error.to_string())?;
        for name in self.records(epoch, &plan)?.values() {
            let files = match files_of_name(name, &plan.run_id) {
                Some(files) => files,
                None => Record::read(&self.objects.0[&name.key(epoch)], *name, epoch).unwrap().files,
            };
            for file in files {
                self.check_file(&file).map_err(|why| format!("I5: {why}"))?;
            }
        }
        Ok(())
    }

    fn check_file(&self, file: &OutputFile) -> Result<(), String> {
        match self.objects.0.get(&file.path) {
            None => Err(format!("{} is missing", file.path)),
            Some(body) if Checksum::of(body) != file.checksum => Err(format!("{} has changed", file.path)),
            Some(_) => Ok(()),
        }
    }

    fn check_marker(&self, marker: &Success) -> Result<(), String> {
        let newest = read_epochs(&self.objects.list(EPOCHS)).unwrap().pop();
        if newest > Some(marker.epoch) {
            // A newer run has claimed the output and is about to remove the marker before anything else.
            let removing = self.rivals || self.objects.0.keys().all(|key| !self.is_data_of(key, newest));
            return removing.then_some(()).ok_or("I1: an old marker beside a newer run's data".into());
        }
        let key = epoch_key(marker.epoch);
        if let Some(body) = self.objects.0.get(&key) {
            let plan = read_plan(body, &key).map_err(|error| error.to_string())?;
            if plan.run_id != marker.run_id || digest::sha256(body) != marker.plan_digest {
                return Err("I1: the marker is of another plan".into());
            }
            if self.records(marker.epoch, &plan)?.len() != plan.units.len() {
                return Err("I1: the marker without all records".into());
            }
        }
        for file in &marker.files {
            self.check_file(file).map_err(|why| format!("I1: {why}"))?;
        }
        if self.rivals {
            return Ok(());
        }
        let named: BTreeSet<&str> = marker.files.iter().map(|file| file.path.as_str()).collect();
        let there: BTreeSet<&str> = self.objects.0.keys().map(String::as_str).filter(|key| may_be_data(key)).collect();
        (named == there).then_some(()).ok_or(format!("I3: {there:?} instead of {named:?}"))
    }

    fn is_data_of(&self, key: &str, epoch: Option<u64>) -> bool {
        let Some(epoch) = epoch else { return false };
        let owner = epoch_owner(&self.objects.0[&epoch_key(epoch)]).unwrap();
        DataName::parse(key).is_some_and(|name| name.run == RunTag::of(&owner))
    }

    /// At rest: the marker is there, and every row of the pinned plan is in the output exactly once.
    pub fn check_end(&self, run_id: &str) -> Result<(), String> {
        self.check()?;
        let marker = self.objects.0.get(MARKER).ok_or("I2: no marker")?;
        let marker = Success::read(marker).map_err(|error| error.to_string())?;
        if marker.run_id != run_id {
            return Err(format!("I2: the marker is of {}", marker.run_id));
        }
        let key = epoch_key(marker.epoch);
        let plan = read_plan(&self.objects.0[&key], &key).unwrap();
        let mut expected: Vec<String> = Vec::new();
        for (index, file) in plan.inputs.iter().enumerate() {
            expected.extend((0..file.rows).map(|row| format!("f{index}#{row}")));
        }
        let mut stored: Vec<String> = Vec::new();
        for (key, body) in &self.objects.0 {
            if key.ends_with(".parquet") {
                let text = std::str::from_utf8(body).unwrap();
                stored.extend(text.lines().map(|line| line.split(' ').next_back().unwrap().to_string()));
            }
        }
        expected.sort();
        stored.sort();
        (expected == stored).then_some(()).ok_or(format!("rows {stored:?} instead of {expected:?}"))
    }
}
