//! Every number Floe counts, in one table.
//!
//! Stages and the pipeline add to the counters of a shared [`Metrics`] once per batch or block, never per row.
//! Whoever reports (progress, summary) takes a [`Snapshot`]: plain numbers that can be added up over replicas and
//! written as JSON. The table below is the only place where a metric gets its
//! name, unit and sentence; `docs/telemetry.md` repeats it and a test compares the two.

use std::fmt::Write as _;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// One number that many threads add to.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `amount`, in the unit of the metric's table row (nanoseconds for times).
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Sets what is known at once, such as the rows of the plan.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Keeps the highest value ever seen.
    pub fn raise_to(&self, value: u64) {
        self.0.fetch_max(value, Ordering::Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How a metric behaves over time and over replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; added up over replicas.
    Counter,
    /// A replica's share of a whole; added up over replicas.
    Share,
    /// The highest value ever seen; the highest of all replicas, since each replica has its own memory.
    Peak,
}

impl Kind {
    fn combine(self, one: u64, other: u64) -> u64 {
        match self {
            Kind::Counter | Kind::Share => one.saturating_add(other),
            Kind::Peak => one.max(other),
        }
    }

    /// As Prometheus calls it.
    fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Share | Kind::Peak => "gauge",
        }
    }
}

/// What a metric counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Rows.
    Rows,
    /// Bytes.
    Bytes,
    /// Seconds when shown, nanoseconds when counted.
    Seconds,
    /// Batches.
    Batches,
    /// Texts.
    Texts,
    /// Tokens of texts.
    Tokens,
    /// Units of the plan.
    Units,
    /// Output files.
    Files,
    /// Requests to a store.
    Requests,
}

impl Unit {
    fn as_str(self) -> &'static str {
        match self {
            Unit::Rows => "rows",
            Unit::Bytes => "bytes",
            Unit::Seconds => "seconds",
            Unit::Batches => "batches",
            Unit::Texts => "texts",
            Unit::Tokens => "tokens",
            Unit::Units => "units",
            Unit::Files => "files",
            Unit::Requests => "requests",
        }
    }
}

/// One row of the table.
pub struct Metric {
    /// The field of [`Metrics`] and [`Snapshot`].
    pub field: &'static str,
    /// The name outside: `floe_…`.
    pub name: &'static str,
    /// The label that tells apart metrics of one name.
    pub label: Option<(&'static str, &'static str)>,
    /// How it adds up.
    pub kind: Kind,
    /// What it counts.
    pub unit: Unit,
    /// One sentence for people.
    pub help: &'static str,
    /// Its value in a snapshot.
    pub read: fn(&Snapshot) -> u64,
}

macro_rules! metrics {
    ($($field:ident: $kind:ident, $unit:ident, $name:literal $([$label:literal = $value:literal])?, $help:literal;)*) => {
        /// The counters of one replica, shared by all its threads.
        #[derive(Debug, Default)]
        pub struct Metrics {
            $(#[doc = $help] pub $field: Counter,)*
        }

        /// All values at one moment; times in nanoseconds.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct Snapshot {
            $(#[doc = $help] pub $field: u64,)*
        }

        /// Every metric; those of one name lie together.
        pub const TABLE: &[Metric] = &[$(Metric {
            field: stringify!($field),
            name: $name,
            label: metrics!(@label $($label, $value)?),
            kind: Kind::$kind,
            unit: Unit::$unit,
            help: $help,
            read: |snapshot| snapshot.$field,
        }),*];

        impl Metrics {
            /// All values now. Each is exact; together they may be apart by what happens meanwhile.
            pub fn snapshot(&self) -> Snapshot {
                Snapshot { $($field: self.$field.get(),)* }
            }
        }

        impl AddAssign for Snapshot {
            /// Combines with another replica's.
            fn add_assign(&mut self, other: Snapshot) {
                $(self.$field = Kind::$kind.combine(self.$field, other.$field);)*
            }
        }
    };
    (@label) => { None };
    (@label $label:literal, $value:literal) => { Some(($label, $value)) };
}

metrics! {
    rows_total: Share, Rows, "floe_planned_rows",
        "Rows of the units assigned to this replica";
    units_total: Share, Units, "floe_planned_units",
        "Units assigned to this replica";
    rows_skipped: Counter, Rows, "floe_rows_skipped_total",
        "Rows of units that already had a record when the replica started";
    units_skipped: Counter, Units, "floe_units_skipped_total",
        "Units that already had a record when the replica started";
    rows_read: Counter, Rows, "floe_rows_read_total",
        "Rows decoded from Parquet";
    bytes_read: Counter, Bytes, "floe_read_bytes_total",
        "Bytes fetched from the input";
    rows_inferred: Counter, Rows, "floe_rows_inferred_total",
        "Rows that came back from the model";
    rows_failed: Counter, Rows, "floe_rows_failed_total",
        "Rows without predictions, under input.on_row_error: null";
    batches_inferred: Counter, Batches, "floe_batches_inferred_total",
        "Batches that came back from the model";
    texts_cut: Counter, Texts, "floe_texts_cut_total",
        "Texts that were longer than the model can take, and were cut";
    tokens: Counter, Tokens, "floe_tokens_total",
        "Tokens of texts that the model was run on";
    tokens_computed: Counter, Tokens, "floe_computed_tokens_total",
        "Tokens computed for them: more, where a network fills short texts up to the length of their batch";
    rows_written: Counter, Rows, "floe_rows_written_total",
        "Rows encoded into output files";
    bytes_written: Counter, Bytes, "floe_written_bytes_total",
        "Bytes of the output files written";
    bytes_copied: Counter, Bytes, "floe_copied_bytes_total",
        "Of the bytes written, those of columns that were copied from the input as they were";
    files_written: Counter, Files, "floe_files_written_total",
        "Output files written";
    units_committed: Counter, Units, "floe_units_committed_total",
        "Units this process committed";
    units_helped: Counter, Units, "floe_units_helped_total",
        "Units this replica took although they were assigned to another";
    lost_races: Counter, Units, "floe_lost_races_total",
        "Units another process committed first";
    retries: Counter, Requests, "floe_retries_total",
        "Requests to a store that were made again after a failure";
    fetch_nanos: Counter, Seconds, "floe_stage_seconds_total"["stage" = "fetch"],
        "Time in requests for input bytes, added up over concurrent requests";
    decode_nanos: Counter, Seconds, "floe_stage_seconds_total"["stage" = "decode"],
        "Time decoding Parquet pages into columns";
    convert_nanos: Counter, Seconds, "floe_stage_seconds_total"["stage" = "convert"],
        "Time turning columns into tensors and tensors into columns";
    infer_nanos: Counter, Seconds, "floe_stage_seconds_total"["stage" = "infer"],
        "Time in the model";
    encode_nanos: Counter, Seconds, "floe_stage_seconds_total"["stage" = "encode"],
        "Time encoding columns into Parquet pages";
    commit_nanos: Counter, Seconds, "floe_stage_seconds_total"["stage" = "commit"],
        "Time storing output files and records, added up over concurrent requests";
    worker_idle_nanos: Counter, Seconds, "floe_wait_seconds_total"["wait" = "worker_idle"],
        "Time workers waited for input";
    fetch_wait_nanos: Counter, Seconds, "floe_wait_seconds_total"["wait" = "fetch_wait"],
        "Time fetching waited for the memory gauge";
    commit_wait_nanos: Counter, Seconds, "floe_wait_seconds_total"["wait" = "commit_wait"],
        "Time workers waited for output to be taken off their hands";
    memory_peak_bytes: Peak, Bytes, "floe_memory_peak_bytes",
        "Highest number of bytes in flight, as the memory gauge counts them";
}

/// What time is spent on. The word in spans, metric labels and the summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Getting input bytes from the store.
    Fetch,
    /// Parquet pages into columns.
    Decode,
    /// Columns into tensors, and back.
    Convert,
    /// The model.
    Infer,
    /// Columns into Parquet pages.
    Encode,
    /// Output files and records into the store.
    Commit,
}

impl Stage {
    /// In the order data flows.
    pub const ALL: [Stage; 6] = [
        Stage::Fetch,
        Stage::Decode,
        Stage::Convert,
        Stage::Infer,
        Stage::Encode,
        Stage::Commit,
    ];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Fetch => "fetch",
            Stage::Decode => "decode",
            Stage::Convert => "convert",
            Stage::Infer => "infer",
            Stage::Encode => "encode",
            Stage::Commit => "commit",
        }
    }

    /// Whether workers do it, so that its time is a share of theirs. The others wait for a store, many at a time.
    pub fn is_on_worker(self) -> bool {
        !matches!(self, Stage::Fetch | Stage::Commit)
    }
}

/// What time is lost on: the queues between the stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wait {
    /// A worker waits for input.
    WorkerIdle,
    /// Fetching waits for the memory gauge.
    Fetch,
    /// A worker waits for its output to be taken.
    Commit,
}

impl Wait {
    /// Every queue.
    pub const ALL: [Wait; 3] = [Wait::WorkerIdle, Wait::Fetch, Wait::Commit];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Wait::WorkerIdle => "worker_idle",
            Wait::Fetch => "fetch_wait",
            Wait::Commit => "commit_wait",
        }
    }
}

impl Metrics {
    /// Runs `work` and counts its time for `stage`, also when it panics.
    pub fn time<T>(&self, stage: Stage, work: impl FnOnce() -> T) -> T {
        let _timer = self.timer(stage);
        work()
    }

    /// Counts the time from now until the guard is dropped for `stage`.
    #[must_use = "time is counted until the guard is dropped"]
    pub fn timer(&self, stage: Stage) -> Timer<'_> {
        Timer::start(match stage {
            Stage::Fetch => &self.fetch_nanos,
            Stage::Decode => &self.decode_nanos,
            Stage::Convert => &self.convert_nanos,
            Stage::Infer => &self.infer_nanos,
            Stage::Encode => &self.encode_nanos,
            Stage::Commit => &self.commit_nanos,
        })
    }

    /// Counts the time from now until the guard is dropped as lost on `wait`.
    #[must_use = "time is counted until the guard is dropped"]
    pub fn waiting(&self, wait: Wait) -> Timer<'_> {
        Timer::start(match wait {
            Wait::WorkerIdle => &self.worker_idle_nanos,
            Wait::Fetch => &self.fetch_wait_nanos,
            Wait::Commit => &self.commit_wait_nanos,
        })
    }
}

/// Adds the time it lived to a counter.
pub struct Timer<'a> {
    counter: &'a Counter,
    started: Instant,
}

impl<'a> Timer<'a> {
    fn start(counter: &'a Counter) -> Self {
        Timer {
            counter,
            started: Instant::now(),
        }
    }
}

impl Drop for Timer<'_> {
    fn drop(&mut self) {
        let nanos = self.started.elapsed().as_nanos();
        self.counter.add(u64::try_from(nanos).unwrap_or(u64::MAX));
    }
}

impl Snapshot {
    /// The time counted for a stage.
    pub fn stage(&self, stage: Stage) -> Duration {
        Duration::from_nanos(match stage {
            Stage::Fetch => self.fetch_nanos,
            Stage::Decode => self.decode_nanos,
            Stage::Convert => self.convert_nanos,
            Stage::Infer => self.infer_nanos,
            Stage::Encode => self.encode_nanos,
            Stage::Commit => self.commit_nanos,
        })
    }

    /// The time lost on a queue.
    pub fn wait(&self, wait: Wait) -> Duration {
        Duration::from_nanos(match wait {
            Wait::WorkerIdle => self.worker_idle_nanos,
            Wait::Fetch => self.fetch_wait_nanos,
            Wait::Commit => self.commit_wait_nanos,
        })
    }

    /// The time workers accounted for: their stages and what they waited for.
    pub fn worker_time(&self) -> Duration {
        let busy = Stage::ALL
            .into_iter()
            .filter(|stage| stage.is_on_worker())
            .map(|stage| self.stage(stage));
        let lost = [Wait::WorkerIdle, Wait::Commit].map(|wait| self.wait(wait));
        busy.chain(lost).fold(Duration::ZERO, Duration::saturating_add)
    }
}

/// The table as `docs/telemetry.md` holds it.
pub fn markdown_table() -> String {
    let mut text = String::from("| metric | kind | unit | meaning |\n|---|---|---|---|\n");
    for metric in TABLE {
        let label = metric
            .label
            .map(|(key, value)| format!("{{{key}=\"{value}\"}}"))
            .unwrap_or_default();
        let _ = writeln!(
            text,
            "| `{}{label}` | {} | {} | {} |",
            metric.name,
            metric.kind.as_str(),
            metric.unit.as_str(),
            metric.help
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_carry_their_unit() {
        let mut seen = BTreeSet::new();
        for metric in TABLE {
            assert!(seen.insert((metric.name, metric.label)), "{}", metric.name);
            assert!(metric.name.starts_with("floe_"), "{}", metric.name);
            assert_eq!(
                metric.name.ends_with("_total"),
                metric.kind == Kind::Counter,
                "{}: counters end in _total, others don't",
                metric.name
            );
            match metric.unit {
                Unit::Seconds => assert!(metric.name.contains("_seconds"), "{}", metric.name),
                Unit::Bytes => assert!(metric.name.contains("_bytes"), "{}", metric.name),
                _ => {}
            }
            assert!(!metric.help.ends_with('.'), "{}", metric.help);
        }
    }

    #[test]
    fn metrics_of_one_name_lie_together_and_share_their_kind() {
        let mut done = BTreeSet::new();
        for pair in TABLE.windows(2) {
            if pair[0].name == pair[1].name {
                assert_eq!(pair[0].kind, pair[1].kind);
            } else {
                assert!(done.insert(pair[0].name));
                assert!(!done.contains(pair[1].name), "{}", pair[1].name);
            }
        }
    }

    #[test]
    fn labels_are_the_words_of_stages_and_waits() {
        let labelled = |key: &str| -> Vec<&str> {
            TABLE
                .iter()
                .filter_map(|metric| metric.label.filter(|(name, _)| *name == key))
                .map(|(_, value)| value)
                .collect()
        };
        assert_eq!(labelled("stage"), Stage::ALL.map(Stage::as_str));
        assert_eq!(labelled("wait"), Wait::ALL.map(Wait::as_str));
    }

    #[test]
    fn the_documentation_holds_this_table() {
        let docs = include_str!("../../docs/telemetry.md");
        assert!(
            docs.contains(&markdown_table()),
            "docs/telemetry.md should hold:\n{}",
            markdown_table()
        );
    }

    #[test]
    fn every_stage_and_wait_counts_into_its_own_field() {
        for stage in Stage::ALL {
            let metrics = Metrics::default();
            let answer = metrics.time(stage, || {
                std::thread::sleep(Duration::from_millis(2));
                7
            });
            assert_eq!(answer, 7);
            let snapshot = metrics.snapshot();
            assert!(snapshot.stage(stage) >= Duration::from_millis(2));
            let is_touched = |metric: &&Metric| (metric.read)(&snapshot) > 0;
            let touched: Vec<_> = TABLE.iter().filter(is_touched).collect();
            assert_eq!(touched.len(), 1);
            assert_eq!(touched[0].label, Some(("stage", stage.as_str())));
        }
        for wait in Wait::ALL {
            let metrics = Metrics::default();
            drop(metrics.waiting(wait));
            let snapshot = metrics.snapshot();
            let is_touched = |metric: &&Metric| (metric.read)(&snapshot) > 0;
            let touched: Vec<_> = TABLE.iter().filter(is_touched).collect();
            assert_eq!(touched.len(), 1, "{}", wait.as_str());
            assert_eq!(touched[0].label, Some(("wait", wait.as_str())));
        }
    }

    #[test]
    fn time_is_counted_also_when_the_work_panics() {
        let metrics = Metrics::default();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            metrics.time(Stage::Infer, || std::panic::resume_unwind(Box::new(())))
        }));
        assert!(outcome.is_err());
        assert!(metrics.snapshot().infer_nanos > 0);
    }

    #[test]
    fn replicas_add_up_except_for_their_peaks() {
        let mut sum = Snapshot {
            rows_read: 5,
            rows_total: 10,
            memory_peak_bytes: 900,
            retries: u64::MAX,
            ..Snapshot::default()
        };
        sum += Snapshot {
            rows_read: 7,
            rows_total: 20,
            memory_peak_bytes: 300,
            retries: 1,
            ..Snapshot::default()
        };
        let expected = Snapshot {
            rows_read: 12,
            rows_total: 30,
            memory_peak_bytes: 900,
            retries: u64::MAX,
            ..Snapshot::default()
        };
        assert_eq!(sum, expected);
    }

    #[test]
    fn many_threads_lose_no_count() {
        let metrics = Metrics::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| metrics.rows_read.add(3)));
            }
        });
        assert_eq!(metrics.snapshot().rows_read, 12_000);
    }

    #[test]
    fn a_snapshot_survives_json_and_ignores_missing_fields() {
        let snapshot = Snapshot {
            rows_read: u64::MAX,
            commit_nanos: 3,
            ..Snapshot::default()
        };
        let json = serde_json::to_string(&snapshot).unwrap();
        assert_eq!(serde_json::from_str::<Snapshot>(&json).unwrap(), snapshot);
        let old: Snapshot = serde_json::from_str("{\"rows_read\": 4}").unwrap();
        assert_eq!((old.rows_read, old.rows_total), (4, 0));
    }
}
