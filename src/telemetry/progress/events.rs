//! Events on stdout for a parent process: one JSON object per line.
//!
//! The launcher of several replicas starts each child with progress mode `json`, reads these lines with
//! [`Event::parse`], and shows one display and one summary for all. A parent that is gone is no error.

use std::io::Write;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Position, View};
use crate::telemetry::summary::Summary;

/// What a process tells its parent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// How far it is.
    Progress {
        /// The replica; none where several are spoken of.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replica: Option<u32>,
        /// Rows and units.
        #[serde(flatten)]
        position: Position,
    },
    /// What it did; the last event of a replica that came to its end.
    Summary {
        /// The replica; none where several are spoken of.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replica: Option<u32>,
        /// The summary.
        summary: Box<Summary>,
    },
}

impl Event {
    /// The event of one line; `None` for anything else that is printed on stdout.
    pub fn parse(line: &str) -> Option<Event> {
        let is_candidate = line.trim_start().starts_with('{');
        is_candidate.then(|| serde_json::from_str(line).ok()).flatten()
    }

    /// Writes the event as one line and flushes.
    ///
    /// # Errors
    /// When the reader is gone.
    pub fn write(&self, mut output: impl Write) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        output.write_all(&line)?;
        output.flush()
    }
}

/// Writes a progress event whenever something changed.
pub(crate) struct Events<W> {
    /// `None` when the reader is gone.
    output: Option<W>,
    replica: Option<u32>,
    last: Option<Position>,
}

impl<W: Write> Events<W> {
    pub(crate) fn new(output: W, replica: Option<u32>) -> Self {
        Events {
            output: Some(output),
            replica,
            last: None,
        }
    }
}

impl<W: Write + Send + 'static> View for Events<W> {
    fn interval(&self) -> Duration {
        Duration::from_millis(200)
    }

    fn draw(&mut self, _at: Duration, position: Position) {
        if self.last == Some(position) {
            return;
        }
        self.last = Some(position);
        let event = Event::Progress {
            replica: self.replica,
            position,
        };
        if self
            .output
            .as_mut()
            .is_some_and(|output| event.write(output).is_err())
        {
            self.output = None;
        }
    }

    fn finish(&mut self, at: Duration, position: Position) {
        self.draw(at, position);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Snapshot;
    use crate::telemetry::tests::Kept;

    const HALF: Position = Position {
        rows_done: 50,
        rows_total: 100,
        rows_skipped: 10,
        units_done: 1,
        units_total: 2,
    };

    #[test]
    fn changes_are_written_as_lines_that_the_parent_understands() {
        let output = Kept::default();
        let mut events = Events::new(output.clone(), Some(3));
        events.draw(Duration::ZERO, HALF);
        events.draw(Duration::ZERO, HALF);
        let done = Position {
            rows_done: 100,
            ..HALF
        };
        events.finish(Duration::ZERO, done);
        let text = output.text();
        assert_eq!(
            text,
            "{\"event\":\"progress\",\"replica\":3,\"rows_done\":50,\"rows_total\":100,\"rows_skipped\":10,\
             \"units_done\":1,\"units_total\":2}\n\
             {\"event\":\"progress\",\"replica\":3,\"rows_done\":100,\"rows_total\":100,\"rows_skipped\":10,\
             \"units_done\":1,\"units_total\":2}\n"
        );
        let parsed: Vec<_> = text.lines().filter_map(Event::parse).collect();
        let expected = [HALF, done].map(|position| Event::Progress {
            replica: Some(3),
            position,
        });
        assert_eq!(parsed, expected);
    }

    #[test]
    fn a_summary_reaches_the_parent_whole() {
        let metrics = Snapshot {
            rows_written: 7,
            infer_nanos: u64::MAX / 3,
            ..Snapshot::default()
        };
        let event = Event::Summary {
            replica: None,
            summary: Box::new(Summary::new(metrics, Duration::from_secs(2), Some(5))),
        };
        let mut line = Vec::new();
        event.write(&mut line).unwrap();
        assert_eq!(Event::parse(std::str::from_utf8(&line).unwrap()), Some(event));
    }

    #[test]
    fn other_output_is_no_event() {
        for line in [
            "",
            "done",
            "{",
            "{\"event\":\"else\"}",
            "[1]",
            "{\"event\":\"progress\"}",
        ] {
            assert_eq!(Event::parse(line), None, "{line}");
        }
    }

    #[test]
    fn a_reader_that_is_gone_is_written_to_once() {
        struct Gone(std::sync::Arc<std::sync::atomic::AtomicU32>);
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let attempts = std::sync::Arc::default();
        let mut events = Events::new(Gone(std::sync::Arc::clone(&attempts)), Some(0));
        events.draw(Duration::ZERO, HALF);
        events.finish(Duration::ZERO, Position::default());
        assert_eq!(attempts.load(std::sync::atomic::Ordering::Relaxed), 1);
    }
}
