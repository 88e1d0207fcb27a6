//! What a run did and where its time went, said once at the end.
//!
//! Made from a [`Snapshot`], the wall time and the peak memory of the process; printed for people by
//! [`Summary::to_text`], kept as JSON in the run's records, and combined over replicas by the launcher. Stage times
//! are shares of the workers' time, so that they add up to a whole; fetching and committing wait for a store, many
//! requests at a time, and are therefore given as plain sums.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::metrics::{Snapshot, Stage, Wait};
use super::units;

/// The end-of-run summary of one replica, or of several that were combined.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How many replicas it speaks of.
    pub replicas: u32,
    /// From start to end; of several replicas the longest.
    pub wall_seconds: f64,
    /// Rows this run wrote per second of wall time; rows of units that were done before are not counted.
    pub rows_per_second: f64,
    /// Shares (0 to 1) of the workers' time, in the order of work.
    pub worker_shares: Vec<Share>,
    /// One sentence on what to look at first when it should be faster.
    pub bottleneck: String,
    /// Peak resident memory of the process; of several replicas the highest; none where the system does not tell.
    pub peak_rss_bytes: Option<u64>,
    /// Everything that was counted; times in nanoseconds.
    pub metrics: Snapshot,
}

/// How much of the workers' time went into one stage or wait.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// A stage, `worker_idle` or `commit_wait`.
    pub name: String,
    /// Of the workers' time, 0 to 1.
    pub share: f64,
    /// Added up over workers.
    pub seconds: f64,
}

impl Summary {
    /// The summary of one replica.
    pub fn new(metrics: Snapshot, wall: Duration, peak_rss_bytes: Option<u64>) -> Self {
        Self::build(1, metrics, wall.as_secs_f64(), peak_rss_bytes)
    }

    /// One summary for replicas that ran side by side. Of none: an empty one.
    pub fn combine(summaries: &[Summary]) -> Self {
        let mut metrics = Snapshot::default();
        for summary in summaries {
            metrics += summary.metrics;
        }
        Self::build(
            summaries.iter().map(|summary| summary.replicas).sum(),
            metrics,
            summaries
                .iter()
                .map(|summary| summary.wall_seconds)
                .fold(0.0, f64::max),
            summaries
                .iter()
                .filter_map(|summary| summary.peak_rss_bytes)
                .max(),
        )
    }

    /// The same with the wall time a launcher measured around its replicas.
    pub fn with_wall(self, wall: Duration) -> Self {
        Self::build(
            self.replicas,
            self.metrics,
            wall.as_secs_f64(),
            self.peak_rss_bytes,
        )
    }

    fn build(replicas: u32, metrics: Snapshot, wall_seconds: f64, rss: Option<u64>) -> Self {
        let rows_per_second = if wall_seconds > 0.0 {
            metrics.rows_written as f64 / wall_seconds
        } else {
            0.0
        };
        let worker_shares = worker_shares(&metrics);
        Summary {
            replicas,
            wall_seconds,
            rows_per_second,
            bottleneck: bottleneck(&metrics, &worker_shares),
            worker_shares,
            peak_rss_bytes: rss,
            metrics,
        }
    }

    /// A few aligned lines for a terminal, each with a line break.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (label, value) in self.lines() {
            text.push_str(&format!("{label:<13}{value}\n"));
        }
        text
    }

    fn lines(&self) -> Vec<(String, String)> {
        let metrics = &self.metrics;
        let mut lines = vec![
            line("rows", self.rows_text()),
            line("units", self.units_text()),
            line("time", self.time_text()),
            line("read", {
                let fetch = units::duration(metrics.stage(Stage::Fetch));
                format!("{}, {fetch} of requests", units::bytes(metrics.bytes_read))
            }),
            line("written", {
                let commit = units::duration(metrics.stage(Stage::Commit));
                let copied = match metrics.bytes_copied {
                    0 => String::new(),
                    bytes => format!(", of which {} copied as they were", units::bytes(bytes)),
                };
                let written = units::bytes(metrics.bytes_written);
                format!("{written}{copied}, {commit} of commits")
            }),
        ];
        for share in &self.worker_shares {
            let spent = units::duration(Duration::try_from_secs_f64(share.seconds).unwrap_or_default());
            lines.push(line(
                &share.name,
                format!("{:>6}  {spent}", units::percent(share.share)),
            ));
        }
        if metrics.tokens > 0 {
            lines.push(line("texts", self.texts_text()));
        }
        lines.push(line("peak memory", self.memory_text()));
        if metrics.retries > 0 {
            lines.push(line("retries", units::counted(metrics.retries, "request")));
        }
        lines.push(line("bottleneck", self.bottleneck.clone()));
        lines
    }

    fn rows_text(&self) -> String {
        let metrics = &self.metrics;
        let mut text = format!(
            "{} in {}",
            units::count(metrics.rows_written),
            units::counted(metrics.files_written, "file")
        );
        if metrics.rows_skipped > 0 {
            text += &format!("; {} were done before", units::count(metrics.rows_skipped));
        }
        text
    }

    fn units_text(&self) -> String {
        let metrics = &self.metrics;
        let mut text = format!(
            "{} of {} committed",
            units::count(metrics.units_committed),
            units::count(metrics.units_total)
        );
        if metrics.units_skipped > 0 {
            text += &format!(", {} done before", units::count(metrics.units_skipped));
        }
        if metrics.lost_races > 0 {
            text += &format!(", {} done by a twin process", units::count(metrics.lost_races));
        }
        if self.replicas != 1 {
            text += &format!(", by {} replicas", self.replicas);
        }
        text
    }

    fn time_text(&self) -> String {
        let wall = Duration::try_from_secs_f64(self.wall_seconds).unwrap_or_default();
        let rate = units::rows_per_second(self.rows_per_second);
        format!("{}, {rate}", units::duration(wall))
    }

    fn texts_text(&self) -> String {
        let metrics = &self.metrics;
        let filled = metrics.tokens_computed.saturating_sub(metrics.tokens) as f64;
        let mut text = format!(
            "{}, {} of what was computed is filling",
            units::counted(metrics.tokens, "token"),
            units::percent(filled / metrics.tokens_computed.max(1) as f64).trim_start()
        );
        if metrics.texts_cut > 0 {
            let cut = units::counted(metrics.texts_cut, "text");
            text += &format!("; {cut} cut: longer than the model can take");
        }
        text
    }

    fn memory_text(&self) -> String {
        let in_flight = format!("{} in flight", units::bytes(self.metrics.memory_peak_bytes));
        let each = if self.replicas > 1 {
            " in the largest replica"
        } else {
            ""
        };
        match self.peak_rss_bytes {
            Some(peak) => format!("{}{each}, {in_flight}", units::bytes(peak)),
            None => format!("{in_flight}{each}"),
        }
    }
}

fn line(label: &str, value: String) -> (String, String) {
    (label.replace('_', " "), value)
}

fn worker_shares(metrics: &Snapshot) -> Vec<Share> {
    let total = metrics.worker_time().as_secs_f64();
    let stages = Stage::ALL
        .into_iter()
        .filter(|stage| stage.is_on_worker())
        .map(|stage| (stage.as_str(), metrics.stage(stage)));
    let waits = [Wait::WorkerIdle, Wait::Commit].map(|wait| (wait.as_str(), metrics.wait(wait)));
    stages
        .chain(waits)
        .map(|(name, spent)| Share {
            name: name.to_string(),
            share: if total > 0.0 {
                spent.as_secs_f64() / total
            } else {
                0.0
            },
            seconds: spent.as_secs_f64(),
        })
        .collect()
}

/// Below this share of the workers' time waiting is taken for the ordinary unevenness of a run.
const WAITING_MATTERS: f64 = 0.25;

fn bottleneck(metrics: &Snapshot, shares: &[Share]) -> String {
    let share_of = |name: &str| -> f64 {
        shares
            .iter()
            .find(|share| share.name == name)
            .map_or(0.0, |share| share.share)
    };
    let idle = share_of(Wait::WorkerIdle.as_str());
    let blocked = share_of(Wait::Commit.as_str());
    if metrics.worker_time().is_zero() {
        return "no work was done".to_string();
    }
    if idle >= WAITING_MATTERS && idle >= blocked {
        let starved = metrics.wait(Wait::Fetch) > metrics.stage(Stage::Fetch);
        let advice = if starved {
            "reading waited for memory: more memory would help"
        } else {
            "reading is too slow for them: fewer workers or faster storage"
        };
        return format!(
            "workers waited for input {} of their time; {advice}",
            units::percent(idle)
        );
    }
    if blocked >= WAITING_MATTERS {
        return format!(
            "workers waited {} of their time for output to be stored; faster storage would help",
            units::percent(blocked)
        );
    }
    let busiest = shares
        .iter()
        .filter(|share| Stage::ALL.iter().any(|stage| stage.as_str() == share.name))
        .max_by(|a, b| a.share.total_cmp(&b.share));
    let (name, share) = busiest.map_or(("nothing", 0.0), |busiest| {
        (in_words(&busiest.name), busiest.share)
    });
    format!(
        "workers spent {} {name}, {} waiting for input",
        units::percent(share),
        units::percent(idle)
    )
}

fn in_words(stage: &str) -> &str {
    match stage {
        "decode" => "decoding Parquet",
        "convert" => "converting columns to tensors",
        "infer" => "in the model",
        "encode" => "encoding Parquet",
        other => other,
    }
}

/// Peak resident memory of this process so far (`VmHWM`), where the system tells.
pub fn peak_rss_bytes() -> Option<u64> {
    if cfg!(target_os = "linux") {
        parse_peak_rss(&std::fs::read_to_string("/proc/self/status").ok()?)
    } else {
        None
    }
}

fn parse_peak_rss(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn flights() -> Snapshot {
        Snapshot {
            rows_total: 336_776,
            units_total: 6,
            rows_skipped: 100_000,
            units_skipped: 2,
            units_committed: 4,
            rows_read: 236_776,
            rows_inferred: 236_776,
            rows_written: 236_776,
            files_written: 4,
            bytes_read: 12_897_485,
            bytes_written: 14_784_000,
            bytes_copied: 11_010_048,
            fetch_nanos: 1_200_000_000,
            commit_nanos: 40_000_000,
            decode_nanos: 10 * SECOND / 10,
            convert_nanos: 5 * SECOND / 10,
            infer_nanos: 62 * SECOND / 10,
            encode_nanos: 20 * SECOND / 10,
            worker_idle_nanos: 3 * SECOND / 10,
            commit_wait_nanos: 0,
            memory_peak_bytes: 48 << 20,
            ..Snapshot::default()
        }
    }

    #[test]
    fn a_summary_reads_as_a_dozen_lines_and_a_verdict() {
        let summary = Summary::new(flights(), Duration::from_millis(5_100), Some(210 << 20));
        assert_eq!(
            summary.to_text(),
            "\
rows         236,776 in 4 files; 100,000 were done before
units        4 of 6 committed, 2 done before
time         5.10 s, 46,427 rows/s
read         12.3 MiB, 1.20 s of requests
written      14.1 MiB, of which 10.5 MiB copied as they were, 40.0 ms of commits
decode         10 %  1.00 s
convert         5 %  500 ms
infer          62 %  6.20 s
encode         20 %  2.00 s
worker idle     3 %  300 ms
commit wait     0 %  0 s
peak memory  210 MiB, 48.0 MiB in flight
bottleneck   workers spent 62 % in the model, 3 % waiting for input
"
        );
    }

    #[test]
    fn replicas_combine_into_sums_the_longest_time_and_the_largest_memory() {
        let one = Summary::new(flights(), Duration::from_secs(4), Some(100 << 20));
        let mut twin = flights();
        twin.retries = 3;
        twin.lost_races = 1;
        let other = Summary::new(twin, Duration::from_secs(8), Some(150 << 20));
        let both = Summary::combine(&[one.clone(), other]);
        assert_eq!(
            both.to_text(),
            "\
rows         473,552 in 8 files; 200,000 were done before
units        8 of 12 committed, 4 done before, 1 done by a twin process, by 2 replicas
time         8.00 s, 59,194 rows/s
read         24.6 MiB, 2.40 s of requests
written      28.2 MiB, of which 21.0 MiB copied as they were, 80.0 ms of commits
decode         10 %  2.00 s
convert         5 %  1.00 s
infer          62 %  12.4 s
encode         20 %  4.00 s
worker idle     3 %  600 ms
commit wait     0 %  0 s
peak memory  150 MiB in the largest replica, 48.0 MiB in flight
retries      3 requests
bottleneck   workers spent 62 % in the model, 3 % waiting for input
"
        );
        assert_eq!(Summary::combine(std::slice::from_ref(&one)), one);
        let measured = both.with_wall(Duration::from_secs(10));
        assert_eq!(
            (measured.wall_seconds, measured.rows_per_second),
            (10.0, 47_355.2)
        );
    }

    #[test]
    fn the_verdict_names_what_workers_waited_for() {
        let cases: &[(u64, u64, u64, u64, &str)] = &[
            // idle, commit wait, fetch, fetch wait
            (0, 0, 0, 0, "no work was done"),
            (
                6,
                1,
                5,
                1,
                "workers waited for input 60 % of their time; reading is too slow for them: fewer workers or faster storage",
            ),
            (
                6,
                1,
                1,
                5,
                "workers waited for input 60 % of their time; reading waited for memory: more memory would help",
            ),
            (
                1,
                6,
                1,
                1,
                "workers waited 60 % of their time for output to be stored; faster storage would help",
            ),
            (
                1,
                1,
                1,
                1,
                "workers spent 80 % decoding Parquet, 10 % waiting for input",
            ),
        ];
        for (idle, blocked, fetch, starved, expected) in cases {
            let busy = if idle + blocked == 0 {
                0
            } else {
                10 - idle - blocked
            };
            let snapshot = Snapshot {
                decode_nanos: busy * SECOND,
                worker_idle_nanos: idle * SECOND,
                commit_wait_nanos: blocked * SECOND,
                fetch_nanos: fetch * SECOND,
                fetch_wait_nanos: starved * SECOND,
                ..Snapshot::default()
            };
            let summary = Summary::new(snapshot, Duration::from_secs(1), None);
            assert_eq!(summary.bottleneck, *expected);
        }
    }

    #[test]
    fn a_run_without_work_has_no_division_by_zero() {
        let empty = Summary::combine(&[]);
        let text = empty.to_text();
        assert!(text.contains("0 in 0 files"), "{text}");
        assert!(!text.contains("NaN"), "{text}");
        serde_json::to_string(&empty).expect("JSON has no place for NaN");
    }

    #[test]
    fn shares_add_up_to_one() {
        let summary = Summary::new(flights(), Duration::from_secs(1), None);
        let sum: f64 = summary.worker_shares.iter().map(|share| share.share).sum();
        assert!((sum - 1.0).abs() < 1e-9, "{sum}");
    }

    #[test]
    fn a_summary_survives_json() {
        let summary = Summary::new(flights(), Duration::from_millis(2_500), None);
        let json = serde_json::to_value(&summary).unwrap();
        assert_eq!(json["wall_seconds"], 2.5);
        assert_eq!(json["metrics"]["rows_written"], 236_776);
        assert_eq!(json["worker_shares"][2]["name"], "infer");
        assert_eq!(serde_json::from_value::<Summary>(json).unwrap(), summary);
    }

    #[test]
    fn peak_memory_is_read_from_the_status_page() {
        let page = "Name:\tfloe\nVmPeak:\t  999 kB\nVmHWM:\t   2048 kB\nThreads:\t3\n";
        assert_eq!(parse_peak_rss(page), Some(2 << 20));
        assert_eq!(parse_peak_rss("Name:\tfloe\n"), None);
        assert_eq!(parse_peak_rss("VmHWM:\tmuch kB\n"), None);
        if cfg!(target_os = "linux") {
            let peak = peak_rss_bytes().expect("Linux tells");
            assert!((1 << 20..1 << 40).contains(&peak), "{peak}");
        }
    }
}
