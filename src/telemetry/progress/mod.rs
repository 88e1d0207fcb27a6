//! How far the run is, shown while it goes on.
//!
//! A ticker thread looks at the metrics now and then and hands a [`Position`] to a view: a bar on a terminal
//! ([`bar`]), a log line every ten seconds elsewhere ([`mod@line`]), or events on stdout for a parent process
//! ([`events`]). Nothing in the pipeline knows about it. Dropping the handle draws the final state and ends the
//! thread; a view that is held up (a stopped terminal, a pipe nobody reads) delays the end by two seconds at most.
//! [`CombinedProgress`] is the same for the launcher of several replicas.

pub mod bar;
pub mod events;
pub mod line;
pub mod speed;

use std::ops::AddAssign;
use std::str::FromStr;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tracing::{Span, dispatcher};

use super::console::Console;
use super::metrics::{Metrics, Snapshot};
use crate::error::{Error, Result};

/// How progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// A bar on a terminal, lines elsewhere.
    #[default]
    Auto,
    /// A bar on stderr.
    Bar,
    /// A log line every ten seconds.
    Line,
    /// Events on stdout, one JSON object per line.
    Json,
    /// Nothing.
    None,
}

impl Mode {
    /// The word that [`Mode::from_str`] understands.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Auto => "auto",
            Mode::Bar => "bar",
            Mode::Line => "line",
            Mode::Json => "json",
            Mode::None => "none",
        }
    }
}

impl FromStr for Mode {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        match word {
            "auto" => Ok(Mode::Auto),
            "bar" => Ok(Mode::Bar),
            "line" => Ok(Mode::Line),
            "json" => Ok(Mode::Json),
            "none" => Ok(Mode::None),
            other => Err(Error::config(format!("unknown progress mode `{other}`"))
                .with_hint("give auto, bar, line, json or none")),
        }
    }
}

/// How far a replica is; of several replicas the sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Rows that came back from the model, and rows of units that were done before.
    pub rows_done: u64,
    /// Rows of all units assigned; 0 until the plan is known.
    pub rows_total: u64,
    /// Of `rows_done`, those that were done before.
    pub rows_skipped: u64,
    /// Units with a record.
    pub units_done: u64,
    /// Units assigned; 0 until the plan is known.
    pub units_total: u64,
}

impl Position {
    /// The position that a snapshot of one replica's metrics tells.
    pub fn of(metrics: &Snapshot) -> Self {
        let done = metrics.rows_inferred.saturating_add(metrics.rows_skipped);
        Position {
            rows_done: done.min(metrics.rows_total),
            rows_total: metrics.rows_total,
            rows_skipped: metrics.rows_skipped.min(metrics.rows_total),
            units_done: metrics.units_committed + metrics.units_skipped + metrics.lost_races,
            units_total: metrics.units_total,
        }
    }

    /// Rows done by this run itself.
    pub fn rows_worked(&self) -> u64 {
        self.rows_done.saturating_sub(self.rows_skipped)
    }

    /// The share done, 0 to 1; 0 until the plan is known.
    pub fn share(&self) -> f64 {
        if self.rows_total == 0 {
            0.0
        } else {
            self.rows_done as f64 / self.rows_total as f64
        }
    }
}

impl AddAssign for Position {
    fn add_assign(&mut self, other: Position) {
        self.rows_done += other.rows_done;
        self.rows_total += other.rows_total;
        self.rows_skipped += other.rows_skipped;
        self.units_done += other.units_done;
        self.units_total += other.units_total;
    }
}

/// One way to show positions.
pub(crate) trait View: Send + 'static {
    /// How often it wants to be drawn.
    fn interval(&self) -> Duration;
    /// Shows `position` at the time `at` since the start.
    fn draw(&mut self, at: Duration, position: Position);
    /// Shows the last position; nothing is drawn after that.
    fn finish(&mut self, at: Duration, position: Position);
}

/// The handle of a running display; see the [module](self) page.
#[must_use = "progress is shown until this is dropped"]
pub struct Progress {
    ticker: Option<Ticker>,
}

struct Ticker {
    stop: Sender<()>,
    ended: Receiver<()>,
}

/// How long the final state may take to be drawn.
const FINISH_LIMIT: Duration = Duration::from_secs(2);

impl Progress {
    /// Shows the progress of one replica, as its metrics tell it.
    pub fn start(mode: Mode, console: &Console, metrics: Arc<Metrics>, replica: u32) -> Self {
        let source = move || Position::of(&metrics.snapshot());
        Self::with_source(mode, console, source, Some(replica), 1)
    }

    fn with_source(
        mode: Mode,
        console: &Console,
        source: impl FnMut() -> Position + Send + 'static,
        replica: Option<u32>,
        replicas: u32,
    ) -> Self {
        match mode {
            Mode::None => Progress { ticker: None },
            Mode::Bar => Self::tick(bar::Bar::new(console, replicas), source),
            Mode::Json => Self::tick(events::Events::new(std::io::stdout(), replica), source),
            Mode::Line | Mode::Auto => Self::tick(line::Line::default(), source),
        }
    }

    pub(crate) fn tick(mut view: impl View, mut source: impl FnMut() -> Position + Send + 'static) -> Self {
        let (stop, stopped) = mpsc::channel::<()>();
        let (end, ended) = mpsc::channel::<()>();
        // Lines of the ticker belong to the same job, run and replica as the caller's.
        let span = Span::current();
        let dispatch = dispatcher::get_default(Clone::clone);
        let started = Instant::now();
        let work = move || {
            dispatcher::with_default(&dispatch, || {
                let _in_span = span.enter();
                while stopped.recv_timeout(view.interval()) == Err(RecvTimeoutError::Timeout) {
                    view.draw(started.elapsed(), source());
                }
                view.finish(started.elapsed(), source());
            });
            drop(end);
        };
        let thread = std::thread::Builder::new()
            .name("floe-progress".to_string())
            .spawn(work);
        match thread {
            Ok(_) => Progress {
                ticker: Some(Ticker { stop, ended }),
            },
            Err(error) => {
                tracing::warn!(%error, "progress is not shown: can't start a thread");
                Progress { ticker: None }
            }
        }
    }

    /// Draws the final state and ends the display; the same as dropping it.
    pub fn finish(self) {}
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(Ticker { stop, ended }) = self.ticker.take() {
            drop(stop);
            // Nothing is ever sent: this returns when the thread drops its end, or at the limit.
            let _ = ended.recv_timeout(FINISH_LIMIT);
        }
    }
}

/// The progress of several replicas as one.
pub struct CombinedProgress {
    positions: Arc<Mutex<Vec<Position>>>,
    progress: Progress,
}

impl CombinedProgress {
    /// Shows the sum of what [`CombinedProgress::update`] is told.
    pub fn start(mode: Mode, console: &Console, replicas: u32) -> Self {
        let positions = Arc::new(Mutex::new(vec![Position::default(); replicas as usize]));
        let of_source = Arc::clone(&positions);
        let source = move || sum(&of_source);
        CombinedProgress {
            progress: Progress::with_source(mode, console, source, None, replicas),
            positions,
        }
    }

    /// Replica `replica` of the run is at `position` now. A replica that was started again counts from its new
    /// position. Indices beyond the number of replicas are ignored.
    pub fn update(&self, replica: u32, position: Position) {
        let mut positions = self.positions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = positions.get_mut(replica as usize) {
            *known = position;
        }
    }

    /// The sum now.
    pub fn position(&self) -> Position {
        sum(&self.positions)
    }

    /// Draws the final state and ends the display; the same as dropping it.
    pub fn finish(self) {
        self.progress.finish();
    }
}

fn sum(positions: &Mutex<Vec<Position>>) -> Position {
    let mut sum = Position::default();
    for position in positions.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        sum += *position;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Probe {
        drawn: Arc<Mutex<Vec<Position>>>,
        finished: Arc<Mutex<Vec<Position>>>,
    }

    impl View for Probe {
        fn interval(&self) -> Duration {
            Duration::from_millis(1)
        }
        fn draw(&mut self, _: Duration, position: Position) {
            self.drawn.lock().unwrap().push(position);
        }
        fn finish(&mut self, _: Duration, position: Position) {
            self.finished.lock().unwrap().push(position);
        }
    }

    fn source(metrics: &Arc<Metrics>) -> impl FnMut() -> Position + Send + 'static {
        let metrics = Arc::clone(metrics);
        move || Position::of(&metrics.snapshot())
    }

    #[test]
    fn a_position_counts_what_was_done_before_and_never_passes_the_total() {
        let position = Position::of(&Snapshot {
            rows_total: 100,
            units_total: 5,
            rows_skipped: 40,
            units_skipped: 1,
            units_committed: 2,
            lost_races: 1,
            rows_inferred: 30,
            ..Snapshot::default()
        });
        let expected = Position {
            rows_done: 70,
            rows_total: 100,
            rows_skipped: 40,
            units_done: 4,
            units_total: 5,
        };
        assert_eq!(position, expected);
        assert_eq!((position.rows_worked(), position.share()), (30, 0.7));
        let unplanned = Position::of(&Snapshot {
            rows_inferred: 3,
            ..Snapshot::default()
        });
        assert_eq!((unplanned.rows_done, unplanned.share()), (0, 0.0));
    }

    #[test]
    fn dropping_the_handle_shows_the_final_state_at_once() {
        let metrics = Arc::new(Metrics::default());
        metrics.rows_total.set(10);
        let probe = Probe::default();
        let progress = Progress::tick(probe.clone(), source(&metrics));
        while probe.drawn.lock().unwrap().is_empty() {
            std::thread::yield_now();
        }
        metrics.rows_inferred.add(10);
        progress.finish();
        let finished = probe.finished.lock().unwrap().clone();
        assert_eq!(finished.len(), 1);
        assert_eq!(finished[0].rows_done, 10);
        let drawn = probe.drawn.lock().unwrap().len();
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(probe.drawn.lock().unwrap().len(), drawn, "the thread has ended");
    }

    #[test]
    fn a_long_interval_does_not_delay_the_end() {
        struct Slow(Probe);
        impl View for Slow {
            fn interval(&self) -> Duration {
                Duration::from_secs(3600)
            }
            fn draw(&mut self, at: Duration, position: Position) {
                self.0.draw(at, position);
            }
            fn finish(&mut self, at: Duration, position: Position) {
                self.0.finish(at, position);
            }
        }
        let probe = Probe::default();
        let progress = Progress::tick(Slow(probe.clone()), Position::default);
        let before = Instant::now();
        progress.finish();
        assert!(before.elapsed() < FINISH_LIMIT);
        assert_eq!(probe.finished.lock().unwrap().len(), 1);
        assert!(probe.drawn.lock().unwrap().is_empty());
    }

    #[test]
    fn a_view_that_is_held_up_does_not_hold_up_the_process() {
        struct Stuck(Receiver<()>);
        impl View for Stuck {
            fn interval(&self) -> Duration {
                Duration::from_millis(1)
            }
            fn draw(&mut self, _: Duration, _: Position) {}
            fn finish(&mut self, _: Duration, _: Position) {
                let _ = self.0.recv();
            }
        }
        let (release, gate) = mpsc::channel();
        let progress = Progress::tick(Stuck(gate), Position::default);
        let before = Instant::now();
        progress.finish();
        assert!(before.elapsed() >= FINISH_LIMIT);
        assert!(before.elapsed() < 5 * FINISH_LIMIT);
        drop(release);
    }

    #[test]
    fn replicas_are_added_up_and_a_restarted_one_counts_anew() {
        let console = Console::new(std::io::sink(), indicatif::ProgressDrawTarget::hidden);
        let combined = CombinedProgress::start(Mode::None, &console, 2);
        let at = |rows_done, rows_total| Position {
            rows_done,
            rows_total,
            units_total: 1,
            ..Position::default()
        };
        combined.update(0, at(5, 10));
        combined.update(1, at(7, 30));
        combined.update(2, at(1000, 1000));
        assert_eq!(
            (combined.position().rows_done, combined.position().rows_total),
            (12, 40)
        );
        combined.update(1, at(2, 30));
        assert_eq!(combined.position().rows_done, 7);
        assert_eq!(combined.position().units_total, 2);
    }

    #[test]
    fn modes_are_known_by_name() {
        for mode in [Mode::Auto, Mode::Bar, Mode::Line, Mode::Json, Mode::None] {
            assert_eq!(mode.as_str().parse::<Mode>().unwrap(), mode);
        }
        let error = "lines".parse::<Mode>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown progress mode `lines`; give auto, bar, line, json or none"
        );
    }
}
