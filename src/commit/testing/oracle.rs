//! The invariants, as `docs/commit-protocol.md` numbers them.
//!
//! A [`View`] is what they are judged on: the objects, and what is known from outside. [`View::check`] judges a state,
//! [`View::check_op`] an operation before it happens, [`View::check_end`] the state in which nobody moves any more. A
//! verdict begins with the invariant's number.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

use super::*;
use crate::commit::epochs::{epoch_owner, read_epochs, read_plan};
use crate::commit::layout::{
    self, DataName, EPOCHS, MARKER, RunTag, epoch_key, is_state, may_be_data, records_folder,
};
use crate::commit::record::{files_of_name, read_names};
use crate::commit::success::Owner;

/// What the invariants are judged on.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub objects: &'a Objects,
    /// Whether two runs are alive in this output: an old file or marker beside the new run's is then the hole that
    /// the documentation names, and no violation.
    pub rivals: bool,
}

/// Who asks for an operation, as far as the rules on it go.
pub struct Actor<'a> {
    pub run_id: &'a str,
    pub mode: SaveMode,
    /// Its epoch, once it has one.
    pub epoch: Option<u64>,
    /// The last marker it read.
    pub read_marker: Option<&'a [u8]>,
    /// Whether it has seen that the output was not cleared yet.
    pub saw_unprepared: bool,
}

impl<'a> View<'a> {
    /// The epochs that pin a plan: on class B one that was cut short doesn't.
    fn epochs(&self) -> Vec<u64> {
        let mut epochs = read_epochs(&self.objects.list(EPOCHS)).unwrap();
        epochs.retain(|epoch| epoch_owner(&self.objects.0[&epoch_key(*epoch)]).is_some());
        epochs
    }

    /// The epoch that `run_id` holds.
    pub fn epoch_of(&self, run_id: &str) -> Option<u64> {
        let owner = |epoch: &u64| epoch_owner(&self.objects.0[&epoch_key(*epoch)]);
        self.epochs()
            .into_iter()
            .rev()
            .find(|epoch| owner(epoch).as_deref() == Some(run_id))
    }

    /// The pinned plan of an epoch.
    pub fn plan(&self, epoch: u64) -> Result<Arc<Plan>, String> {
        thread_local! {
            /// Parsing the same few plans in every state is slow.
            static PLANS: RefCell<HashMap<Bytes, Arc<Plan>>> = RefCell::default();
        }
        let key = epoch_key(epoch);
        let body = self.objects.0.get(&key).ok_or("I0: the epoch is gone")?;
        if let Some(plan) = PLANS.with_borrow(|plans| plans.get(body).cloned()) {
            return Ok(plan);
        }
        let plan = Arc::new(read_plan(body, &key).map_err(|error| format!("I0: {error}"))?);
        PLANS.with_borrow_mut(|plans| plans.insert(body.clone(), plan.clone()));
        Ok(plan)
    }

    /// The records of an epoch. On class B one whose body is needed and cut short is none.
    pub fn records(&self, epoch: u64, plan: &Plan) -> Result<BTreeMap<u32, RecordName>, String> {
        let body = &self.objects.0[&epoch_key(epoch)];
        let listing = self.objects.list(&records_folder(epoch));
        let mut records = read_names(&listing, epoch, plan, &digest::sha256(body))
            .map_err(|error| format!("I5: {error}"))?;
        if plan.store_class == StoreClass::B {
            records.retain(|_, name| {
                let body = &self.objects.0[&name.key(epoch)];
                files_of_name(name, &plan.run_id).is_some() || Record::read(body, *name, epoch).is_ok()
            });
        }
        Ok(records)
    }

    // ---- operations

    /// I6 and I7: what an operation may do, judged before it happens.
    pub fn check_op(&self, actor: &Actor, op: &Op) -> Result<(), String> {
        match op {
            Op::Delete { key } => self
                .check_delete(actor, key)
                .map_err(|why| format!("I6: {key}: {why}")),
            Op::Create { key, .. } => self.check_order(actor, key),
            Op::Put { key, body } => self
                .check_pinned(key, &body.join())
                .and_then(|()| self.check_order(actor, key)),
            _ => Ok(()),
        }
    }

    /// I0: an epoch that pins a plan is not replaced by another.
    fn check_pinned(&self, key: &str, body: &Bytes) -> Result<(), String> {
        let pins = |stored: &&Bytes| epoch_owner(stored).is_some();
        let pinned = self.objects.0.get(key).filter(pins);
        let is_epoch = layout::parse_epoch_key(key).is_some();
        match pinned {
            Some(stored) if is_epoch && stored != body => Err(format!("I0: {key} is replaced")),
            _ => Ok(()),
        }
    }

    fn check_delete(&self, actor: &Actor, key: &str) -> Result<(), String> {
        let epoch = actor.epoch.ok_or("deleted without a hold on the output")?;
        if is_state(key) {
            return Err("state is never deleted".into());
        }
        let overwrites = (actor.mode == SaveMode::Overwrite)
            .then_some(())
            .ok_or("mode ERROR deletes nothing".to_string());
        if key == MARKER {
            let read = actor.read_marker.ok_or("deleted a marker it had not read")?;
            return match Owner::of(read) {
                Some(owner) if owner.run_id == actor.run_id => (self.epochs().pop() > Some(epoch))
                    .then_some(())
                    .ok_or("withdrew its own marker without need".into()),
                Some(owner)
                    if owner.epoch > epoch && self.objects.0.contains_key(&epoch_key(owner.epoch)) =>
                {
                    Err("a newer run's marker".into())
                }
                _ => overwrites,
            };
        }
        let Some(name) = DataName::parse(key) else {
            return self.check_delete_strangers(actor).and(overwrites);
        };
        if name.run == RunTag::of(actor.run_id) {
            return Err("its own run's data".into());
        }
        let owner = |epoch: &u64| epoch_owner(&self.objects.0[&epoch_key(*epoch)]);
        let epochs = self.epochs();
        let of = epochs
            .iter()
            .find(|epoch| owner(epoch).is_some_and(|owner| RunTag::of(&owner) == name.run));
        match of {
            Some(&of) if of > epoch => Err("a newer run's data".into()),
            Some(_) => overwrites,
            None => self.check_delete_strangers(actor).and(overwrites),
        }
    }

    fn check_delete_strangers(&self, actor: &Actor) -> Result<(), String> {
        actor
            .saw_unprepared
            .then_some(())
            .ok_or("nobody's object, after the output had been cleared".into())
    }

    fn check_order(&self, actor: &Actor, key: &str) -> Result<(), String> {
        let Some(epoch) = actor.epoch else {
            return Ok(());
        };
        // A process that doesn't know yet that it was superseded may find its data gone.
        if self.epochs().pop() != Some(epoch) {
            return Ok(());
        }
        if let Some(name) = RecordName::parse(key, epoch) {
            let files = files_of_name(&name, actor.run_id).unwrap_or_default();
            for file in files {
                if !self.objects.0.contains_key(&file.path) {
                    return Err(format!("I7: the record {key} before its data"));
                }
            }
        }
        if key == MARKER {
            let plan = self.plan(epoch)?;
            if self.records(epoch, &plan)?.len() != plan.units.len() {
                return Err("I7: the marker before all records".into());
            }
        }
        Ok(())
    }

    // ---- states

    /// I1, I3, I5: what must hold in every state.
    pub fn check(&self) -> Result<(), String> {
        // The marker first: what it says falsely is worse than what made it false.
        let marker = self.objects.0.get(MARKER);
        if let Some(marker) = marker.filter(|body| Owner::of(body).is_some()) {
            let marker = Success::read(marker).map_err(|error| format!("I1: {error}"))?;
            self.check_marker(&marker)?;
        }
        match self.epochs().pop() {
            Some(newest) => self.check_committed(newest),
            None => Ok(()),
        }
    }

    /// I5: whatever a record of the newest epoch names is there, whole.
    fn check_committed(&self, epoch: u64) -> Result<(), String> {
        if self.objects.list(&records_folder(epoch)).is_empty() {
            return Ok(());
        }
        let plan = self.plan(epoch)?;
        for name in self.records(epoch, &plan)?.values() {
            let files = match files_of_name(name, &plan.run_id) {
                Some(files) => files,
                None => {
                    let body = &self.objects.0[&name.key(epoch)];
                    let record = Record::read(body, *name, epoch).map_err(|error| format!("I5: {error}"))?;
                    record.files
                }
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
        let newest = self.epochs().pop();
        if newest > Some(marker.epoch) {
            // A newer run has claimed the output and is about to remove the marker before anything else.
            let removing = self.rivals || self.objects.0.keys().all(|key| !self.is_data_of(key, newest));
            return removing
                .then_some(())
                .ok_or("I1: an old marker beside a newer run's data".into());
        }
        if let Some(body) = self.objects.0.get(&epoch_key(marker.epoch)) {
            let plan = self.plan(marker.epoch)?;
            if plan.run_id != marker.run_id || digest::sha256(body) != marker.plan_digest {
                return Err("I1: the marker is of another plan".into());
            }
            if self.records(marker.epoch, &plan)?.len() != plan.units.len() {
                return Err("I1: the marker without all records".into());
            }
            if marker.rows != plan.rows() {
                return Err("I8: the marker's rows are not the plan's".into());
            }
        }
        for file in &marker.files {
            self.check_file(file).map_err(|why| format!("I1: {why}"))?;
        }
        if self.rivals {
            return Ok(());
        }
        let named: BTreeSet<&str> = marker.files.iter().map(|file| file.path.as_str()).collect();
        let there: BTreeSet<&str> = self
            .objects
            .0
            .keys()
            .map(String::as_str)
            .filter(|key| may_be_data(key) && *key != STRANGER)
            .collect();
        (named == there)
            .then_some(())
            .ok_or(format!("I3: {there:?} instead of {named:?}"))
    }

    fn is_data_of(&self, key: &str, epoch: Option<u64>) -> bool {
        let Some(epoch) = epoch else { return false };
        let owner = epoch_owner(&self.objects.0[&epoch_key(epoch)]).unwrap();
        DataName::parse(key).is_some_and(|name| name.run == RunTag::of(&owner))
    }

    /// At rest: the marker is there, and every row of the pinned plan is in the output exactly once, with what one of
    /// `models` says about it, as a plain run on one thread would have written it.
    pub fn check_end(&self, run_id: &str, models: &[&str]) -> Result<(), String> {
        self.check()?;
        let marker = self.objects.0.get(MARKER).ok_or("I2: no marker")?;
        let marker = Success::read(marker).map_err(|error| format!("I2: {error}"))?;
        if marker.run_id != run_id {
            return Err(format!("I2: the marker is of {}", marker.run_id));
        }
        let plan = self.plan(marker.epoch)?;
        let mut expected: Vec<String> = Vec::new();
        for (index, file) in plan.inputs.iter().enumerate() {
            expected.extend((0..file.rows).map(|row| row_id(index as u32, row)));
        }
        let mut stored: Vec<String> = Vec::new();
        for (key, body) in &self.objects.0 {
            if !key.ends_with(".parquet") {
                continue;
            }
            let text = std::str::from_utf8(body).map_err(|_| format!("I1: {key} is not the model's"))?;
            for line in text.lines() {
                let row = line.split(' ').next_back().unwrap_or_default();
                if !models.iter().any(|model| predicted(model, row) == line) {
                    return Err(format!("I1: {key}: {line:?} is not what the model says"));
                }
                stored.push(row.to_string());
            }
        }
        expected.sort();
        stored.sort();
        (expected == stored)
            .then_some(())
            .ok_or(format!("I1: rows {stored:?} instead of {expected:?}"))
    }
}

impl World {
    /// The objects, as the oracle sees them.
    pub fn view(&self) -> View<'_> {
        View {
            objects: &self.objects,
            rivals: self.rivals,
        }
    }

    /// Judges an operation of process `who` before it happens.
    pub fn check_op(&self, who: usize, op: &Op) -> Result<(), String> {
        let process = &self.processes[who];
        let claimed = process.claimed();
        let actor = Actor {
            run_id: &process.start.request.run_id,
            mode: process.start.request.mode,
            epoch: claimed.map(|claimed| claimed.epoch),
            read_marker: process.read_marker.as_deref(),
            saw_unprepared: process.saw_unprepared,
        };
        if let Op::Create { key, body } = op
            && self.create == Create::Overwrites
        {
            self.view().check_pinned(key, &body.join())?;
        }
        self.view().check_op(&actor, op)
    }

    /// I1, I3, I4, I5: what must hold in every state.
    pub fn check(&self) -> Result<(), String> {
        self.view().check()?;
        self.check_agreement()
    }

    /// I4: processes of one run work from one plan.
    pub fn check_agreement(&self) -> Result<(), String> {
        let mut plans: BTreeMap<u64, &str> = BTreeMap::new();
        for claimed in self.processes.iter().filter_map(Process::claimed) {
            let first = plans.entry(claimed.epoch).or_insert(&claimed.plan_digest);
            if *first != claimed.plan_digest {
                let run = &claimed.plan.run_id;
                return Err(format!("I4: two processes of {run} work from two plans"));
            }
        }
        Ok(())
    }

    /// I9: a process that has just ended well has committed its units.
    pub fn check_exit(&self, who: usize) -> Result<(), String> {
        let Process { start, .. } = &self.processes[who];
        if !matches!(self.exit(who), Some(Exit::Complete | Exit::PartDone)) {
            return Ok(());
        }
        let Some(epoch) = self.view().epoch_of(&start.request.run_id) else {
            // Its state has been removed; the marker alone told it that it is done.
            return Ok(());
        };
        let plan = self.view().plan(epoch)?;
        let records = self.view().records(epoch, &plan)?;
        let missing =
            (0..plan.units.len() as u32).find(|unit| start.owns(*unit) && !records.contains_key(unit));
        match missing {
            Some(unit) => Err(format!("I9: exit 0 although unit {unit} is not committed")),
            None => Ok(()),
        }
    }

    /// At rest: see [`View::check_end`].
    pub fn check_end(&self, run_id: &str) -> Result<(), String> {
        let models: Vec<&str> = self
            .processes
            .iter()
            .map(|process| process.start.word.as_str())
            .collect();
        self.view().check_end(run_id, &models)
    }
}
