//! Fail points: named places before and after each step of the commit protocol where a test lets a real process die,
//! stand still, or be answered wrongly.
//!
//! Only in builds with the feature `fail-points`, which the released program and the image don't have. A point is named
//! after the moment, the operation and what it touches: `before:create:record`, `after:delete:marker`. `FLOE_FAIL_POINT`
//! arms points, comma-separated: `before:create:record#3=kill` kills the process just before its third record; without
//! `#3` the action is taken every time. The program hands the text to [`arm`]; [`OutputStore`] passes the points.

use async_trait::async_trait;
use bytes::Bytes;
use std::ops::Deref;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::commit::layout::{
    DataName, EPOCHS, MARKER, Note, RecordName, epoch_folder, parse_epoch_key, prepared_key, probe_key,
    records_folder,
};
use crate::error::{Error, Result};
use crate::storage::{self, Created, Entry, Location, Rope, Store, StoreClass};

/// Operations and what they touch, as far as the protocol combines them on a store of class A …
const STEPS: &[(&str, &[&str])] = &[
    (
        "create",
        &["probe", "epoch", "prepared", "note", "data", "record", "marker"],
    ),
    ("delete", &["probe", "data", "marker", "other"]),
    ("get", &["probe", "epoch", "prepared", "data", "record", "marker"]),
    ("head", &["epoch"]),
    ("list", &["epochs", "progress", "records", "output"]),
];

/// … and those that come up on a store of class B only.
const STEPS_OF_CLASS_B: &[(&str, &[&str])] = &[
    ("put", &["probe", "epoch", "prepared", "data", "record", "marker"]),
    ("head", &["data"]),
];

/// What was armed in this process.
static ARMED: OnceLock<FailPoints> = OnceLock::new();

/// The name of every point that a job on a store of class A comes past.
pub fn names() -> Vec<String> {
    names_of(STEPS)
}

/// The names of the points that only a job on a store of class B comes past.
pub fn names_of_class_b() -> Vec<String> {
    names_of(STEPS_OF_CLASS_B)
}

fn names_of(steps: &[(&str, &[&str])]) -> Vec<String> {
    let steps = steps
        .iter()
        .flat_map(|(op, objects)| objects.iter().map(move |object| format!("{op}:{object}")));
    let names = steps.flat_map(|step| ["before", "after"].map(|moment| format!("{moment}:{step}")));
    names.collect()
}

/// Arms the points that `text` names, for this process. To be called before a job is run.
///
/// # Errors
/// `Config` for text that is not as the [module](self) says.
pub fn arm(text: &str) -> Result<()> {
    let points = FailPoints::parse(text)?;
    ARMED
        .set(points)
        .map_err(|_| Error::internal("fail points were armed twice"))
}

/// Armed points.
#[derive(Debug, Default)]
pub struct FailPoints(Vec<FailPoint>);

#[derive(Debug)]
struct FailPoint {
    name: String,
    /// Which passing counts, from 1; `None`: each.
    nth: Option<u64>,
    action: Action,
    passed: AtomicU64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// The process dies as if by `kill -9`.
    Kill,
    /// The process stands still until somebody sends SIGCONT.
    Stop,
    /// The operation is not done and answers with an error.
    Error,
    /// The operation is done, but its answer gets lost.
    Lose,
    /// The operation is not done, and the answer is that the store has no such operation. At the creation of the probe
    /// it makes any store one of class B.
    Lack,
    /// Time passes.
    Delay(Duration),
}

impl FailPoints {
    /// Reads what `FLOE_FAIL_POINT` says.
    ///
    /// # Errors
    /// `Config`, naming the part that can't be read.
    pub fn parse(text: &str) -> Result<FailPoints> {
        let points = text.split(',').map(|part| {
            FailPoint::parse(part.trim()).map_err(|why| {
                Error::config(format!("FLOE_FAIL_POINT: {why}"))
                    .with("value", part.trim())
                    .with_hint("it looks like before:create:record#3=kill")
            })
        });
        points.collect::<Result<Vec<_>>>().map(FailPoints)
    }

    /// Passes a point: takes what actions are armed there.
    async fn pass(&self, moment: &str, step: &str) -> Result<()> {
        let is_here =
            |name: &str| name.strip_prefix(moment).and_then(|rest| rest.strip_prefix(':')) == Some(step);
        // Counted before anything is done: an action may take for ever.
        let here = self.0.iter().filter(|point| is_here(&point.name));
        let counted: Vec<_> = here
            .map(|point| (point, point.passed.fetch_add(1, Ordering::Relaxed) + 1))
            .collect();
        for (point, count) in counted {
            if point.nth.is_none_or(|nth| nth == count) {
                point.act(count).await?;
            }
        }
        Ok(())
    }
}

impl FailPoint {
    fn parse(text: &str) -> Result<FailPoint, String> {
        let (place, action) = text.split_once('=').ok_or("there is no action after a =")?;
        let (name, nth) = match place.split_once('#') {
            Some((name, nth)) => match nth.parse() {
                Ok(nth) if nth > 0 => (name, Some(nth)),
                _ => return Err(format!("{nth:?} is not a count from 1")),
            },
            None => (place, None),
        };
        let known = [names(), names_of_class_b()].concat();
        if !known.iter().any(|known| known == name) {
            return Err(format!(
                "there is no point {name:?}, but there are {}",
                known.join(" ")
            ));
        }
        let action = Action::parse(action)?;
        let moment = match action {
            Action::Error | Action::Lack => "before:",
            Action::Lose => "after:",
            Action::Kill | Action::Stop | Action::Delay(_) => "",
        };
        if !name.starts_with(moment) {
            return Err("error and lack go with before: and lose with after:".into());
        }
        Ok(FailPoint {
            name: name.to_string(),
            nth,
            action,
            passed: AtomicU64::new(0),
        })
    }

    async fn act(&self, count: u64) -> Result<()> {
        // Straight to stderr: the log's own thread would not get to it before a kill.
        eprintln!("fail point {}#{count} {:?}", self.name, self.action);
        match self.action {
            Action::Kill => raise(libc::SIGKILL),
            Action::Stop => raise(libc::SIGSTOP),
            Action::Delay(pause) => tokio::time::sleep(pause).await,
            Action::Lack => {
                let lack = std::io::Error::from(std::io::ErrorKind::Unsupported);
                return Err(Error::storage(format!("fail point {}#{count}", self.name)).with_source(lack));
            }
            Action::Error | Action::Lose => {
                return Err(Error::storage(format!("fail point {}#{count}", self.name)));
            }
        }
        Ok(())
    }
}

impl Action {
    fn parse(text: &str) -> Result<Action, String> {
        match text {
            "kill" => Ok(Action::Kill),
            "stop" => Ok(Action::Stop),
            "error" => Ok(Action::Error),
            "lose" => Ok(Action::Lose),
            "lack" => Ok(Action::Lack),
            _ => match text.strip_prefix("delay=").map(str::parse) {
                Some(Ok(millis)) => Ok(Action::Delay(Duration::from_millis(millis))),
                _ => Err(format!(
                    "there is no action {text:?}, but there are kill, stop, error, lose, lack, delay=MILLISECONDS"
                )),
            },
        }
    }
}

#[allow(unsafe_code)]
fn raise(signal: libc::c_int) {
    // SAFETY: no handler is installed for these two, nor could one be.
    unsafe { libc::raise(signal) };
}

/// A store with fail points around each operation.
#[derive(Clone, Debug)]
pub struct Failing<'a, S> {
    store: S,
    points: &'a FailPoints,
}

/// The output of a job, with the points that are armed in this process.
pub type OutputStore = Failing<'static, storage::OutputStore>;

impl OutputStore {
    /// The output at `location`.
    pub fn new(location: Location) -> OutputStore {
        Failing {
            store: storage::OutputStore::new(location),
            points: ARMED.get_or_init(FailPoints::default),
        }
    }

    /// See [`storage::OutputStore::with_class`].
    pub fn with_class(self, class: StoreClass) -> OutputStore {
        Failing {
            store: self.store.with_class(class),
            ..self
        }
    }
}

impl<S> Deref for Failing<'_, S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.store
    }
}

impl<S: Store> Failing<'_, S> {
    async fn step<T>(&self, step: &str, operation: impl Future<Output = Result<T>> + Send) -> Result<T> {
        self.points.pass("before", step).await?;
        let answer = operation.await;
        self.points.pass("after", step).await?;
        answer
    }
}

#[async_trait]
impl<S: Store> Store for Failing<'_, S> {
    async fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        let step = format!("list:{}", folder(prefix));
        self.step(&step, self.store.list(prefix)).await
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        let step = format!("get:{}", object(key));
        self.step(&step, self.store.get(key)).await
    }

    async fn head(&self, key: &str) -> Result<Option<u64>> {
        let step = format!("head:{}", object(key));
        self.step(&step, self.store.head(key)).await
    }

    async fn create(&self, key: &str, body: Rope) -> Result<Created> {
        let step = format!("create:{}", object(key));
        self.step(&step, self.store.create(key, body)).await
    }

    async fn put(&self, key: &str, body: Rope) -> Result<()> {
        let step = format!("put:{}", object(key));
        self.step(&step, self.store.put(key, body)).await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        let step = format!("delete:{}", object(key));
        self.step(&step, self.store.delete(key)).await
    }
}

/// What kind of object `key` names.
fn object(key: &str) -> &'static str {
    if key == MARKER {
        return "marker";
    }
    if parse_epoch_key(key).is_some() {
        return "epoch";
    }
    if DataName::parse(key).is_some() {
        return "data";
    }
    if key.starts_with(&probe_key("")) {
        return "probe";
    }
    match epoch_of(key) {
        Some(epoch) if prepared_key(epoch) == key => "prepared",
        Some(epoch) if Note::parse(key, epoch).is_some() => "note",
        Some(epoch) if RecordName::parse(key, epoch).is_some() => "record",
        _ => "other",
    }
}

/// What is listed under `prefix`.
fn folder(prefix: &str) -> &'static str {
    match epoch_of(prefix) {
        _ if prefix.is_empty() => "output",
        _ if prefix == EPOCHS => "epochs",
        Some(epoch) if records_folder(epoch) == prefix => "records",
        Some(epoch) if epoch_folder(epoch) == prefix => "progress",
        _ => "other",
    }
}

/// The number in the second segment of `_floe/e<number>/…`.
fn epoch_of(key: &str) -> Option<u64> {
    key.split('/').nth(1)?.strip_prefix('e')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit::layout::{PlanTag, Seal, data_key, epoch_key};
    use crate::error::ErrorKind;

    fn memory() -> (storage::OutputStore, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::local(folder.path().to_str().unwrap()).unwrap();
        (storage::OutputStore::new(location), folder)
    }

    #[test]
    fn every_key_of_the_layout_has_a_class_of_its_own() {
        let record = RecordName {
            unit: 7,
            rows: 0,
            bytes: 0,
            files: 0,
            plan: PlanTag::of("sha256:0"),
            seal: Seal::Nothing,
        };
        for (key, class) in [
            (probe_key("token"), "probe"),
            (epoch_key(3), "epoch"),
            (prepared_key(12), "prepared"),
            (Note::Help { unit: 7 }.key(0, 12), "note"),
            (data_key("a=1", 7, "run"), "data"),
            (record.key(12), "record"),
            (MARKER.to_string(), "marker"),
            ("old.parquet".to_string(), "other"),
            ("_floe/e1/c/what".to_string(), "other"),
        ] {
            assert_eq!(object(&key), class, "{key}");
        }
        for (prefix, class) in [
            (EPOCHS, "epochs"),
            (&records_folder(12), "records"),
            (&epoch_folder(12), "progress"),
            ("", "output"),
            ("_floe", "other"),
        ] {
            assert_eq!(folder(prefix), class, "{prefix}");
        }
    }

    #[test]
    fn what_can_not_be_read_is_a_config_error_that_says_what_can() {
        for (text, said) in [
            ("", "no action"),
            ("before:create:record", "no action"),
            ("before:create:records=kill", "before:create:record "),
            ("during:create:record=kill", "no point"),
            ("before:create:record#0=kill", "count from 1"),
            ("before:create:record#x=kill", "count from 1"),
            ("before:create:record=die", "kill, stop, error, lose, lack"),
            ("before:create:record=delay", "delay=MILLISECONDS"),
            ("after:create:record=error", "before:"),
            ("before:create:record=lose", "after:"),
            ("before:create:record=kill,", "no action"),
        ] {
            let error = FailPoints::parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{text}");
            assert!(error.to_string().contains(said), "{text}: {error}");
        }
        let read = FailPoints::parse("before:create:record#3=kill, after:list:epochs=delay=20").unwrap();
        assert_eq!(read.0[0].nth, Some(3));
        assert_eq!(read.0[1].action, Action::Delay(Duration::from_millis(20)));
    }

    #[tokio::test]
    async fn every_armed_point_counts_each_passing_whatever_the_others_do() {
        let (inner, _folder) = memory();
        let points = FailPoints::parse("before:get:marker#1=error,before:get:marker#2=error").unwrap();
        let store = Failing {
            store: inner,
            points: &points,
        };
        for passes in [false, false, true] {
            assert_eq!(store.get(MARKER).await.is_ok(), passes);
        }
    }

    #[tokio::test]
    async fn an_error_leaves_the_operation_undone_and_a_lost_answer_does_not() {
        let (inner, _folder) = memory();
        let points = FailPoints::parse("before:create:marker#2=error,after:create:epoch=lose").unwrap();
        let store = Failing {
            store: inner.clone(),
            points: &points,
        };
        let body = || Rope::from("x");
        assert_eq!(store.create(MARKER, body()).await.unwrap(), Created::Yes);
        store.delete(MARKER).await.unwrap();
        let error = store.create(MARKER, body()).await.unwrap_err();
        assert!(error.to_string().contains("before:create:marker#2"), "{error}");
        assert_eq!(inner.get(MARKER).await.unwrap(), None);
        for epoch in [1, 2] {
            store.create(&epoch_key(epoch), body()).await.unwrap_err();
            assert_eq!(inner.get(&epoch_key(epoch)).await.unwrap(), Some(body().join()));
        }
        assert_eq!(
            store.create(MARKER, body()).await.unwrap(),
            Created::Yes,
            "only the second"
        );
    }
}
