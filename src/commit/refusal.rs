//! Every way in which the protocol refuses to go on, in the words the user reads.

use crate::error::{Error, ErrorKind};
use crate::storage::StoreClass;

/// How many names a message gives.
const SHOWN: usize = 5;

/// A newer run owns the output.
pub fn superseded(run_id: &str, epoch: u64, newer: u64) -> Error {
    Error::new(
        ErrorKind::Superseded,
        format!(
            "run {run_id} (epoch {epoch}) was superseded: a newer run holds epoch {newer} of this output"
        ),
    )
    .with_hint("start the job again as a new run, or give each run an output folder of its own")
}

/// The output holds files, and the mode protects them.
pub fn not_empty<'a>(keys: impl ExactSizeIterator<Item = &'a str>) -> Error {
    let count = keys.len();
    Error::new(
        ErrorKind::NotEmpty,
        format!("the output is not empty: it holds {}", some_of(keys, count)),
    )
    .with_hint("choose an empty folder, or set output.mode to overwrite to remove what is there")
}

/// The output belongs to another run, and the mode protects it.
pub fn other_run(run_id: &str, epoch: u64, complete: bool) -> Error {
    let (state, hint) = if complete {
        (
            "holds the finished output of",
            "choose an empty folder, or set output.mode to overwrite to replace it",
        )
    } else {
        (
            "holds the unfinished output of",
            "resume that run by giving its run_id, choose an empty folder, or replace it with output.mode overwrite \
             and output.take_over true",
        )
    };
    Error::new(
        ErrorKind::NotEmpty,
        format!("the output is not empty: it {state} run {run_id} (epoch {epoch})"),
    )
    .with_hint(hint)
}

/// Another run has not finished; it may still be at work.
pub fn may_be_alive(run_id: &str, epoch: u64) -> Error {
    Error::new(
        ErrorKind::NotEmpty,
        format!("run {run_id} (epoch {epoch}) of this output has not finished and may still be at work"),
    )
    .with_hint(
        "wait for it, resume it by giving its run_id, choose another folder, or set output.take_over to true if \
         none of its processes is alive",
    )
}

/// The run id is known, but the job or the model is another one.
pub fn mismatch(run_id: &str, what: &str, pinned: &str, ours: &str) -> Error {
    Error::config(format!(
        "run {run_id} was started with another {what}: {pinned}, not {ours}"
    ))
    .with_hint("use what the run was started with, or start a new run with another run_id")
}

/// Replicas of a run see its output through different kinds of store.
pub fn other_class(run_id: &str, pinned: StoreClass, ours: StoreClass) -> Error {
    Error::config(format!(
        "run {run_id} was planned on a store of class {pinned}, but this process finds its output to be one of class \
         {ours}"
    ))
    .with_hint(
        "give every replica and restart the output in the same way, all by URL or all by the same kind of mount, or \
         start a new run",
    )
}

/// Units of one run were committed under two plans.
pub fn two_plans(unit: u32) -> Error {
    Error::storage("a unit was committed by a process that worked from another plan")
        .with("unit", unit)
        .with_hint(
            "replica 0 ran twice at once, and its twins pinned different plans; start a new run, into an empty folder \
             or in mode overwrite",
        )
}

/// Nobody has pinned a plan, and this replica may not.
pub fn no_plan(replica_index: u32) -> Error {
    Error::storage(format!("replica 0 has not pinned a plan, and replica {replica_index} waited for it in vain"))
        .with_hint(
            "on a store of class B only replica 0 may plan: see why it does not start or takes so long, then start this \
             replica again",
        )
}

/// Two runs would share the names of their data.
pub fn same_tag(run_id: &str, other: &str) -> Error {
    Error::config(format!(
        "run id {run_id} shortens to the same file name part as the earlier run {other}"
    ))
    .with_hint("choose another run_id")
}

/// Files turned up among the results that this run didn't write.
pub fn foreign_files<'a>(keys: impl ExactSizeIterator<Item = &'a str>) -> Error {
    let count = keys.len();
    Error::new(
        ErrorKind::NotEmpty,
        format!(
            "the output holds {} that this run did not write, so it can't be marked as complete",
            some_of(keys, count)
        ),
    )
    .with_hint(
        "remove them and start the run again with the same run_id: finished units are not computed again",
    )
}

/// A marker that this run didn't write stands in the way.
pub fn foreign_marker() -> Error {
    Error::new(
        ErrorKind::NotEmpty,
        "the output holds a _SUCCESS that this run did not write",
    )
    .with_hint(
        "remove it and start the run again with the same run_id: finished units are not computed again",
    )
}

/// Somebody removed the protocol's state while the run was going on.
pub fn state_lost(epoch: u64) -> Error {
    Error::storage(format!("the state of epoch {epoch} is gone from the output"))
        .with_hint("something removed _floe/ while the run was going on; start a new run")
}

fn some_of<'a>(keys: impl Iterator<Item = &'a str>, count: usize) -> String {
    let names: Vec<&str> = keys.take(SHOWN).collect();
    let more = count.saturating_sub(names.len());
    let rest = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    format!("{}{rest}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_a_few_files_and_counts_the_rest() {
        let keys = ["a", "b", "c", "d", "e", "f", "g"];
        let error = not_empty(keys.into_iter());
        assert_eq!(
            error.message(),
            "the output is not empty: it holds a, b, c, d, e and 2 more"
        );
        assert_eq!(
            not_empty(["a"].into_iter()).message(),
            "the output is not empty: it holds a"
        );
    }
}
