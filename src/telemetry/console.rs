//! The one place that writes to stderr: log lines and the progress bar share it without tearing each other.
//!
//! The bar is drawn on the terminal's last line. To write log lines the console asks the bar to step aside, writes
//! whole lines, and lets it be drawn again. Whoever draws a bar hands it over with [`Console::show_bar`].

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use indicatif::{ProgressBar, ProgressDrawTarget};

/// A shared handle; see the [module](self) page.
#[derive(Clone)]
pub struct Console(Arc<Inner>);

struct Inner {
    output: Mutex<Box<dyn Write + Send>>,
    target: Box<dyn Fn() -> ProgressDrawTarget + Send + Sync>,
    bar: Mutex<Option<ProgressBar>>,
}

impl Console {
    /// The console of the process.
    pub fn stderr() -> Self {
        Self::new(io::stderr(), ProgressDrawTarget::stderr)
    }

    /// A console that writes lines to `output` and draws bars on what `target` makes.
    pub fn new(
        output: impl Write + Send + 'static,
        target: impl Fn() -> ProgressDrawTarget + Send + Sync + 'static,
    ) -> Self {
        Console(Arc::new(Inner {
            output: Mutex::new(Box::new(output)),
            target: Box::new(target),
            bar: Mutex::new(None),
        }))
    }

    /// Where a bar is drawn; hidden where the output is no terminal, or one that can't move its cursor.
    pub fn draw_target(&self) -> ProgressDrawTarget {
        (self.0.target)()
    }

    /// From now on lines go above `bar`.
    pub fn show_bar(&self, bar: ProgressBar) {
        *self.lock_bar() = Some(bar);
    }

    /// Leaves the bar as it is and goes on below it. (Its own `finish` would fill it, even when the run failed.)
    pub fn end_bar(&self) {
        let mut slot = self.lock_bar();
        if let Some(bar) = slot.take() {
            bar.abandon();
            if !bar.is_hidden() {
                self.write_now(b"\n");
            }
        }
    }

    /// Writes whole lines. A closed or failing output is ignored: there is no place left to complain.
    pub fn write_lines(&self, lines: &[u8]) {
        // Held while writing: a bar must not end in between, or it would be drawn once more below its end.
        let slot = self.lock_bar();
        match slot.as_ref() {
            Some(bar) => bar.suspend(|| self.write_now(lines)),
            None => self.write_now(lines),
        }
    }

    fn write_now(&self, lines: &[u8]) {
        let mut output = self.0.output.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = output.write_all(lines).and_then(|()| output.flush());
    }

    fn lock_bar(&self) -> MutexGuard<'_, Option<ProgressBar>> {
        self.0.bar.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Console")
    }
}
