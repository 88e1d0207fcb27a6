//! The invariants, as `docs/commit-protocol.md` numbers them.

use std::collections::BTreeSet;

use super::*;
use crate::commit::claim::{epoch_owner, read_epochs, read_plan};
use crate::commit::layout::{
    self, DataName, EPOCHS, MARKER, RunTag, epoch_key, is_state, may_be_data, records_folder,
};
use crate::commit::machine::Op;
use crate::commit::record::{files_of_name, read_names};
use crate::commit::success::Owner;

impl World {
    /// I6 and I7: what an operation may do, judged before it happens.
    pub fn check_op(&self, who: usize, op: &Op) -> Result<(), String> {
        let process = &self.processes[who];
        match op {
            Op::Delete { key } => self
                .check_delete(process, key)
                .map_err(|why| format!("I6: {key}: {why}")),
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
            let read = process
                .read_marker
                .as_deref()
                .ok_or("deleted a marker it had not read")?;
            let newest = read_epochs(&self.objects.list(EPOCHS)).unwrap().pop();
            let owner = Owner::of(read);
            return match owner {
                Some(owner) if owner.run_id == claimed.plan.run_id => {
                    let superseded = newest > Some(claimed.epoch);
                    superseded
                        .then_some(())
                        .ok_or("withdrew its own marker without need".into())
                }
                Some(owner)
                    if owner.epoch > claimed.epoch
                        && self.objects.0.contains_key(&epoch_key(owner.epoch)) =>
                {
                    Err("a newer run's marker".into())
                }
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
        read_names(&self.objects.list(&records_folder(epoch)), epoch, plan)
            .map_err(|error| format!("I5: {error}"))
    }

    /// I1, I3, I4, I5: what must hold in every state.
    pub fn check(&self) -> Result<(), String> {
        let epochs = read_epochs(&self.objects.list(EPOCHS)).unwrap();
        if let Some(&newest) = epochs.last() {
            self.check_committed(newest)?;
        }
        self.check_agreement()?;
        let Some(marker) = self
            .objects
            .0
            .get(MARKER)
            .filter(|body| Owner::of(body).is_some())
        else {
            return Ok(());
        };
        let marker = Success::read(marker).map_err(|error| format!("I1: {error}"))?;
        self.check_marker(&marker)
    }

    /// I4: processes of one run work from one plan.
    fn check_agreement(&self) -> Result<(), String> {
        let mut plans: BTreeMap<u64, &str> = BTreeMap::new();
        for claimed in self.processes.iter().filter_map(Process::claimed) {
            let first = plans.entry(claimed.epoch).or_insert(&claimed.plan_digest);
            if *first != claimed.plan_digest {
                return Err(format!(
                    "I4: two processes of {} work from two plans",
                    claimed.plan.run_id
                ));
            }
        }
        Ok(())
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
                    Record::read(&self.objects.0[&name.key(epoch)], *name, epoch)
                        .unwrap()
                        .files
                }
            };
            for file in files {
                self.check_file(&file).map_err(|why| format!("I5: {why}"))?;
            }
        }
        Ok(())
    }

    /// The plan of an epoch: from a process that has read it, because parsing it in every state is slow.
    fn plan(&self, epoch: u64) -> Result<Arc<Plan>, String> {
        let mut claimed = self.processes.iter().filter_map(Process::claimed);
        if let Some(claimed) = claimed.find(|claimed| claimed.epoch == epoch) {
            return Ok(claimed.plan.clone());
        }
        let key = epoch_key(epoch);
        let body = self.objects.0.get(&key).ok_or("I0: the epoch is gone")?;
        read_plan(body, &key)
            .map(Arc::new)
            .map_err(|error| error.to_string())
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
            return removing
                .then_some(())
                .ok_or("I1: an old marker beside a newer run's data".into());
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
        let there: BTreeSet<&str> = self
            .objects
            .0
            .keys()
            .map(String::as_str)
            .filter(|key| may_be_data(key))
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
                stored.extend(
                    text.lines()
                        .map(|line| line.split(' ').next_back().unwrap().to_string()),
                );
            }
        }
        expected.sort();
        stored.sort();
        (expected == stored)
            .then_some(())
            .ok_or(format!("rows {stored:?} instead of {expected:?}"))
    }
}
