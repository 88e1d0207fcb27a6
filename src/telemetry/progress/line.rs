//! Progress as a log line every ten seconds, with the numbers as fields.

use std::time::Duration;

use super::speed::Speed;
use super::{Position, View};
use crate::telemetry::units;

/// See the [module](self) page.
#[derive(Default)]
pub(crate) struct Line {
    speed: Speed,
    last: Option<Position>,
}

impl View for Line {
    fn interval(&self) -> Duration {
        Duration::from_secs(10)
    }

    fn draw(&mut self, at: Duration, position: Position) {
        self.speed.observe(at, &position);
        self.last = Some(position);
        log(
            &position,
            self.speed.rows_per_second(),
            self.speed.time_left(&position),
        );
    }

    fn finish(&mut self, at: Duration, position: Position) {
        if self.last == Some(position) || position.rows_total == 0 {
            return;
        }
        // A run of less than one interval has no measure of its own: all its rows in all its time.
        if self.last.is_none() {
            self.speed.observe(
                Duration::ZERO,
                &Position {
                    rows_done: position.rows_skipped,
                    ..position
                },
            );
        }
        self.speed.observe(at, &position);
        log(&position, self.speed.average(), None);
    }
}

fn log(position: &Position, rate: f64, left: Option<Duration>) {
    if position.rows_total == 0 {
        tracing::info!(target: "floe::progress", "planning");
        return;
    }
    let left_text = left.map_or(String::new(), |left| format!(", {} left", units::estimate(left)));
    tracing::info!(
        target: "floe::progress",
        rows_done = position.rows_done,
        rows_total = position.rows_total,
        units_done = position.units_done,
        units_total = position.units_total,
        rows_per_second = rate.round() as u64,
        seconds_left = left.map(|left| left.as_secs_f64().ceil() as u64),
        "{} of {} rows ({}), {}{left_text}",
        units::count(position.rows_done),
        units::count(position.rows_total),
        units::percent(position.share()),
        units::rows_per_second(rate),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::json::Json;
    use crate::telemetry::progress::Progress;
    use crate::telemetry::tests::{log_lines, parse};

    fn at(rows_done: u64) -> Position {
        Position {
            rows_done,
            rows_total: 400_000,
            rows_skipped: 0,
            units_done: 1,
            units_total: 4,
        }
    }

    #[test]
    fn a_line_says_how_far_how_fast_and_how_long() {
        let lines = log_lines(Json, || {
            let mut line = Line::default();
            line.draw(Duration::from_secs(10), Position::default());
            line.draw(Duration::from_secs(20), at(0));
            line.draw(Duration::from_secs(30), at(100_000));
            line.finish(Duration::from_secs(35), at(400_000));
        });
        let lines: Vec<_> = lines.iter().map(|line| parse(line)).collect();
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[0]["body"], "planning");
        assert_eq!(lines[1]["body"], "0 of 400,000 rows (0 %), 0 rows/s");
        assert_eq!(
            lines[2]["body"],
            "100,000 of 400,000 rows (25 %), 10,000 rows/s, 30 s left"
        );
        assert_eq!(
            lines[2]["attributes"],
            serde_json::json!({
                "rows_done": 100_000, "rows_total": 400_000, "units_done": 1, "units_total": 4,
                "rows_per_second": 10_000, "seconds_left": 30,
            })
        );
        assert_eq!(lines[3]["body"], "400,000 of 400,000 rows (100 %), 26,667 rows/s");
        assert_eq!(lines[3]["scope"]["name"], "floe::progress");
    }

    #[test]
    fn a_short_run_still_says_its_end_and_an_unchanged_end_is_not_repeated() {
        let lines = log_lines(Json, || {
            Line::default().finish(Duration::from_secs(4), at(400_000));
            let mut line = Line::default();
            line.draw(Duration::from_secs(10), at(400_000));
            line.finish(Duration::from_secs(11), at(400_000));
            Line::default().finish(Duration::from_secs(1), Position::default());
        });
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert_eq!(
            parse(&lines[0])["body"],
            "400,000 of 400,000 rows (100 %), 100,000 rows/s"
        );
    }

    #[test]
    fn lines_of_the_ticker_belong_to_the_span_of_its_caller() {
        let lines = log_lines(Json, || {
            let _run = tracing::info_span!("run", run = "0b9f", replica = 2).entered();
            Progress::tick(Line::default(), || at(400_000)).finish();
        });
        let value = parse(&lines[0]);
        assert_eq!(
            (&value["attributes"]["run"], &value["attributes"]["replica"]),
            (&"0b9f".into(), &2.into())
        );
    }
}
