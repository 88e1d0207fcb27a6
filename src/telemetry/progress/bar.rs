//! Progress as a bar on the last line of a terminal.
//!
//! ```text
//! ███████░░░░░░░░░░░░░  36 %  119,892/336,776 rows  80,184 rows/s  3 s left  2/6 units  3 replicas
//! ```
//!
//! What matters most comes first: a narrow terminal cuts the end of the line.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::speed::Speed;
use super::{Position, View};
use crate::telemetry::console::Console;
use crate::telemetry::units;

/// See the [module](self) page.
pub(crate) struct Bar {
    console: Console,
    bar: ProgressBar,
    speed: Speed,
    replicas: u32,
}

impl Bar {
    pub(crate) fn new(console: &Console, replicas: u32) -> Self {
        let style = ProgressStyle::with_template("{bar:20} {wide_msg}")
            .expect("the template is a constant")
            .progress_chars("█░");
        let bar = ProgressBar::with_draw_target(Some(0), console.draw_target()).with_style(style);
        console.show_bar(bar.clone());
        Bar {
            console: console.clone(),
            bar,
            speed: Speed::default(),
            replicas,
        }
    }

    fn set(&self, position: &Position, message: String) {
        self.bar.update(|state| {
            // A bar without a length would be drawn as full.
            state.set_len(position.rows_total.max(1));
            state.set_pos(position.rows_done);
        });
        self.bar.set_message(message);
    }

    fn message(&self, position: &Position, tail: &str) -> String {
        if position.rows_total == 0 {
            return "planning".to_string();
        }
        let mut text = format!(
            "{:>5}  {}/{} rows  {tail}  {}/{} units",
            units::percent(position.share()),
            units::count(position.rows_done),
            units::count(position.rows_total),
            position.units_done,
            position.units_total,
        );
        if self.replicas > 1 {
            text += &format!("  {} replicas", self.replicas);
        }
        text
    }
}

impl View for Bar {
    fn interval(&self) -> Duration {
        Duration::from_millis(100)
    }

    fn draw(&mut self, at: Duration, position: Position) {
        self.speed.observe(at, &position);
        let mut tail = units::rows_per_second(self.speed.rows_per_second());
        if let Some(left) = self.speed.time_left(&position) {
            tail += &format!("  {} left", units::estimate(left));
        }
        self.set(&position, self.message(&position, &tail));
    }

    fn finish(&mut self, at: Duration, position: Position) {
        self.speed.observe(at, &position);
        let rate = units::rows_per_second(self.speed.average());
        let tail = format!("{rate}  in {}", units::duration(at));
        self.set(&position, self.message(&position, &tail));
        self.console.end_bar();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::layer::LogLayer;
    use crate::telemetry::progress::Progress;
    use crate::telemetry::tests::Kept;
    use crate::telemetry::text::Text;
    use indicatif::{ProgressDrawTarget, TermLike};
    use std::io::{self, Write};
    use tracing_subscriber::layer::SubscriberExt;

    /// A terminal that keeps every command in the order in which it arrives.
    #[derive(Clone)]
    struct Screen(Kept);

    impl std::fmt::Debug for Screen {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Screen")
        }
    }

    impl Screen {
        fn put(&self, text: &str) -> io::Result<()> {
            self.0.clone().write_all(text.as_bytes())
        }
    }

    impl TermLike for Screen {
        fn width(&self) -> u16 {
            140
        }
        fn move_cursor_up(&self, lines: usize) -> io::Result<()> {
            self.put(&"<up>".repeat(lines))
        }
        fn move_cursor_down(&self, lines: usize) -> io::Result<()> {
            self.put(&"<down>".repeat(lines))
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.put(text)?;
            self.put("\n")
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.put(text)
        }
        fn clear_line(&self) -> io::Result<()> {
            self.put("<clear>")
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    fn screen() -> (Kept, Console) {
        let kept = Kept::default();
        let of_bar = Screen(kept.clone());
        let console = Console::new(kept.clone(), move || {
            ProgressDrawTarget::term_like(Box::new(of_bar.clone()))
        });
        (kept, console)
    }

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
    fn the_bar_says_how_far_how_fast_and_how_long() {
        let (kept, console) = screen();
        let mut bar = Bar::new(&console, 3);
        bar.draw(Duration::from_secs(0), Position::default());
        bar.draw(Duration::from_secs(1), at(0));
        bar.draw(Duration::from_secs(2), at(100_000));
        let text = kept.text();
        assert!(text.contains("planning"), "{text}");
        assert!(
            text.contains(
                "█████░░░░░░░░░░░░░░░  25 %  100,000/400,000 rows  100,000 rows/s  3 s left  1/4 units  \
                 3 replicas"
            ),
            "{text}"
        );
        bar.finish(Duration::from_secs(3), at(300_000));
        let text = kept.text();
        let last = text.rsplit("<clear>").next().unwrap().trim();
        assert!(
            text.ends_with("\n"),
            "what is printed next starts a line of its own"
        );
        assert_eq!(
            last,
            "███████████████░░░░░  75 %  300,000/400,000 rows  150,000 rows/s  in 3.00 s  1/4 units  3 replicas"
        );
    }

    #[test]
    fn log_lines_do_not_tear_the_bar() {
        let (kept, console) = screen();
        let (log, sink) = LogLayer::new(Text { colour: false }, console.clone()).unwrap();
        let subscriber = tracing_subscriber::registry().with(log);
        tracing::subscriber::with_default(subscriber, || {
            let mut rows = 0;
            let progress = Progress::tick(Fast(Bar::new(&console, 1)), move || {
                rows += 1;
                at(rows)
            });
            for number in 0..200 {
                tracing::debug!("line {number} ends here");
                if number % 20 == 0 {
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
            assert!(sink.flush(Duration::from_secs(10)));
            progress.finish();
        });
        let text = kept.text();
        let logged: Vec<_> = text.lines().filter(|line| line.contains("ends here")).collect();
        assert_eq!(logged.len(), 200);
        for line in logged {
            // Whatever the bar drew was cleared before the line, and the line is whole.
            let shown = line.rsplit("<clear>").next().unwrap();
            assert!(
                !shown.contains("rows") && shown.ends_with("ends here"),
                "{shown:?}"
            );
        }
    }

    /// The bar, drawn as often as possible.
    struct Fast(Bar);

    impl View for Fast {
        fn interval(&self) -> Duration {
            Duration::from_micros(10)
        }
        fn draw(&mut self, at: Duration, position: Position) {
            self.0.draw(at, position);
        }
        fn finish(&mut self, at: Duration, position: Position) {
            self.0.finish(at, position);
        }
    }
}
