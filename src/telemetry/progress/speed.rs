//! Rows per second over the last seconds, and how long the rest will take.
//!
//! Time is handed in, so that this is a plain calculation. It starts with the first observation of a known plan.
//! Batches of slow models come far apart: when none came in the last seconds, the average of the whole run is used.

use std::collections::VecDeque;
use std::time::Duration;

use super::Position;

/// What "the last seconds" are.
const WINDOW: Duration = Duration::from_secs(5);

/// See the [module](self) page.
#[derive(Debug, Default)]
pub struct Speed {
    first: Option<(Duration, u64)>,
    recent: VecDeque<(Duration, u64)>,
}

impl Speed {
    /// Takes note of `position` at the time `at` since the start.
    pub fn observe(&mut self, at: Duration, position: &Position) {
        if position.rows_total == 0 {
            return;
        }
        let rows = position.rows_worked();
        // A replica was started again: what it counted before is no measure any more.
        if self.recent.back().is_some_and(|(_, last)| *last > rows) {
            self.recent.clear();
            self.first = None;
        }
        self.first.get_or_insert((at, rows));
        self.recent.push_back((at, rows));
        // One sample older than the window stays, as the start of the window.
        while self
            .recent
            .get(1)
            .is_some_and(|(time, _)| at.saturating_sub(*time) >= WINDOW)
        {
            self.recent.pop_front();
        }
    }

    /// Rows per second over the last seconds, else over the whole time; 0 when nothing was done yet.
    pub fn rows_per_second(&self) -> f64 {
        let recent = self.recent.front().map_or(0.0, |start| self.since(*start));
        if recent > 0.0 { recent } else { self.average() }
    }

    /// Rows per second over the whole time.
    pub fn average(&self) -> f64 {
        self.first.map_or(0.0, |start| self.since(start))
    }

    /// How long the rest takes at this speed; unknown until something was done.
    pub fn time_left(&self, position: &Position) -> Option<Duration> {
        let rest = position.rows_total.saturating_sub(position.rows_done);
        let rate = self.rows_per_second();
        if rate <= 0.0 || position.rows_total == 0 {
            return None;
        }
        Duration::try_from_secs_f64(rest as f64 / rate).ok()
    }

    fn since(&self, (start, rows_then): (Duration, u64)) -> f64 {
        let Some((now, rows)) = self.recent.back() else {
            return 0.0;
        };
        let span = now.saturating_sub(start).as_secs_f64();
        if span > 0.0 {
            (rows - rows_then) as f64 / span
        } else {
            0.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(rows_done: u64) -> Position {
        Position {
            rows_done,
            rows_total: 10_000,
            rows_skipped: 0,
            units_done: 0,
            units_total: 1,
        }
    }

    fn speed(samples: &[(u64, u64)]) -> Speed {
        let mut speed = Speed::default();
        for (seconds, rows) in samples {
            speed.observe(Duration::from_secs(*seconds), &position(*rows));
        }
        speed
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let samples: Vec<_> = (0..=20)
            .map(|second| {
                (
                    second,
                    if second <= 10 {
                        100 * second
                    } else {
                        1000 + 10 * (second - 10)
                    },
                )
            })
            .collect();
        let speed = speed(&samples);
        assert_eq!(speed.rows_per_second(), 10.0);
        assert_eq!(speed.average(), 55.0);
        assert_eq!(speed.time_left(&position(1100)), Some(Duration::from_secs(890)));
    }

    #[test]
    fn without_recent_rows_the_average_counts() {
        let speed = speed(&[(0, 0), (1, 100), (2, 100), (8, 100), (10, 100)]);
        assert_eq!(speed.rows_per_second(), 10.0);
    }

    #[test]
    fn nothing_is_known_before_the_first_rows() {
        for samples in [&[][..], &[(0, 0)], &[(0, 0), (9, 0)], &[(3, 50)]] {
            let speed = speed(samples);
            assert_eq!(speed.rows_per_second(), 0.0);
            assert_eq!(speed.time_left(&position(50)), None);
        }
    }

    #[test]
    fn the_time_before_the_plan_and_rows_done_before_do_not_count() {
        let mut speed = Speed::default();
        speed.observe(Duration::from_secs(0), &Position::default());
        for second in [60, 61] {
            let done_before = Position {
                rows_done: 5_000 + 100 * (second - 60),
                rows_skipped: 5_000,
                ..position(0)
            };
            speed.observe(Duration::from_secs(second), &done_before);
        }
        assert_eq!(speed.rows_per_second(), 100.0);
    }

    #[test]
    fn a_restarted_replica_starts_a_new_measure() {
        let speed = speed(&[(0, 0), (1, 500), (2, 100), (3, 200)]);
        assert_eq!(speed.rows_per_second(), 100.0);
    }
}
