//! A bounded queue of log lines with a thread that writes them.
//!
//! Whoever logs must never stand still because nobody reads our stderr (a stopped terminal, a stalled log driver).
//! Lines are queued up to [`QUEUE_BYTES`]; when the queue is full a logger waits up to [`PATIENCE`] once, and from
//! then on lines are counted as lost until the writer makes progress. The count is written as soon as that is
//! possible again. Lines are written whole and in order.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Most bytes waiting: at 200 bytes a line some twenty thousand lines, far more than a burst of an honest run.
pub const QUEUE_BYTES: usize = 4 << 20;
/// How long a logger waits for room before lines are dropped.
pub const PATIENCE: Duration = Duration::from_secs(1);
/// How often the writer looks for lines that become due by time alone.
const TICK: Duration = Duration::from_secs(1);

/// Writes what is handed over. Called on the sink's own thread.
pub trait Output: Send + 'static {
    /// Writes whole lines.
    fn write(&mut self, lines: &[u8]);
    /// Lines that became due without being sent: counts of left-out entries (all of them when `is_last`), and a
    /// note when `lost` lines were dropped.
    fn due(&mut self, lost: u64, is_last: bool) -> Vec<u8>;
}

/// The sending side; dropping it ends the thread after the queued lines.
pub struct Sink {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Something to write, or time to end.
    wake: Condvar,
    /// The writer took or wrote something.
    progress: Condvar,
}

#[derive(Default)]
struct State {
    queued: Vec<u8>,
    /// Lines are being written.
    is_writing: bool,
    /// A logger has waited in vain since the writer last made progress.
    is_stalled: bool,
    lost: u64,
    /// Somebody waits for everything, counts included, to be written.
    flush_wanted: bool,
    is_closed: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink {
    /// Starts the writing thread.
    pub fn start(output: impl Output) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("floe-log".to_string())
            .spawn(move || write_until_closed(&of_thread, output))?;
        Ok(Sink { shared })
    }

    /// Queues one line with its line break; waits at most [`PATIENCE`], and only once while nothing is written.
    pub fn send(&self, line: &[u8]) {
        let mut state = self.shared.lock();
        if is_full(&state, line) && !state.is_stalled {
            let wait = self
                .shared
                .progress
                .wait_timeout_while(state, PATIENCE, |state| is_full(state, line) && !state.is_stalled);
            state = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
        if is_full(&state, line) {
            state.is_stalled = true;
            state.lost += 1;
            return;
        }
        state.queued.extend_from_slice(line);
        drop(state);
        self.shared.wake.notify_one();
    }

    /// Waits until everything sent so far and all pending counts are written; `false` when `limit` was too short.
    pub fn flush(&self, limit: Duration) -> bool {
        let mut state = self.shared.lock();
        state.flush_wanted = true;
        self.shared.wake.notify_one();
        let wait = self
            .shared
            .progress
            .wait_timeout_while(state, limit, |state| state.flush_wanted || state.is_writing);
        !wait.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.shared.lock().is_closed = true;
        self.shared.wake.notify_one();
    }
}

fn is_full(state: &State, line: &[u8]) -> bool {
    !state.queued.is_empty() && state.queued.len() + line.len() > QUEUE_BYTES
}

fn write_until_closed(shared: &Shared, mut output: impl Output) {
    let mut next_tick = Instant::now() + TICK;
    loop {
        let mut state = shared.lock();
        let wait = next_tick.saturating_duration_since(Instant::now());
        let has_nothing =
            |state: &mut State| state.queued.is_empty() && !state.flush_wanted && !state.is_closed;
        state = shared
            .wake
            .wait_timeout_while(state, wait, has_nothing)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
        let lines = std::mem::take(&mut state.queued);
        let lost = std::mem::take(&mut state.lost);
        let is_last = state.flush_wanted || state.is_closed;
        let is_closed = state.is_closed;
        state.flush_wanted = false;
        state.is_writing = true;
        drop(state);
        shared.progress.notify_all();

        if !lines.is_empty() {
            output.write(&lines);
        }
        if is_last || lost > 0 || Instant::now() >= next_tick {
            next_tick = Instant::now() + TICK;
            let due = output.due(lost, is_last);
            if !due.is_empty() {
                output.write(&due);
            }
        }

        let mut state = shared.lock();
        state.is_writing = false;
        state.is_stalled = false;
        drop(state);
        shared.progress.notify_all();
        if is_closed {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Hands each write to the test, and stands still while `gate` is held.
    struct Probe {
        written: mpsc::Sender<String>,
        gate: Arc<Mutex<()>>,
    }

    impl Output for Probe {
        fn write(&mut self, lines: &[u8]) {
            let _gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = self.written.send(String::from_utf8_lossy(lines).into_owned());
        }
        fn due(&mut self, lost: u64, is_last: bool) -> Vec<u8> {
            match (lost, is_last) {
                (0, false) => Vec::new(),
                (0, true) => b"counts\n".to_vec(),
                (lost, _) => format!("lost {lost}\n").into_bytes(),
            }
        }
    }

    fn probe() -> (Sink, mpsc::Receiver<String>, Arc<Mutex<()>>) {
        let (written, receiver) = mpsc::channel();
        let gate = Arc::new(Mutex::new(()));
        let output = Probe {
            written,
            gate: Arc::clone(&gate),
        };
        (Sink::start(output).unwrap(), receiver, gate)
    }

    #[test]
    fn flush_returns_when_every_line_and_count_is_written_in_order() {
        let (sink, written, _) = probe();
        for number in 0..1000 {
            sink.send(format!("{number}\n").as_bytes());
        }
        assert!(sink.flush(Duration::from_secs(10)));
        let text: String = written.try_iter().collect();
        let expected: String = (0..1000).map(|number| format!("{number}\n")).collect();
        assert_eq!(text, expected + "counts\n");
    }

    #[test]
    fn dropping_the_sink_writes_what_is_queued_and_ends_the_thread() {
        let (sink, written, _) = probe();
        sink.send(b"last words\n");
        drop(sink);
        let text: String = written.iter().collect();
        assert_eq!(text, "last words\ncounts\n");
    }

    #[test]
    fn a_stalled_reader_costs_one_wait_and_lost_lines_are_counted() {
        let (sink, written, gate) = probe();
        let held = gate.lock().unwrap();
        let line = vec![b'x'; QUEUE_BYTES / 4];
        sink.send(&line);
        // Until the writer has taken the first line and stands at the gate.
        while !sink.shared.lock().is_writing {
            std::thread::yield_now();
        }
        for _ in 0..4 {
            sink.send(&line);
        }
        let before = Instant::now();
        for _ in 0..100 {
            sink.send(&line);
        }
        let waited = before.elapsed();
        assert!(waited >= PATIENCE && waited < 3 * PATIENCE, "{waited:?}");
        assert!(
            !sink.flush(Duration::from_millis(10)),
            "nothing can be written yet"
        );
        drop(held);
        assert!(sink.flush(Duration::from_secs(10)));
        let text: String = written.try_iter().collect();
        assert_eq!(text.matches('x').count(), 5 * line.len());
        assert!(text.contains("lost 100\n"));
    }
}
