//! What Floe tells about itself: logs, metrics, progress and the summary of a run.
//!
//! `main` calls [`init`] once and keeps the [`Telemetry`] guard until the end; everybody else uses the `tracing`
//! macros and the shared [`metrics::Metrics`]. Logs go to stderr, always: JSON lines in the form Snowflake's event
//! table parses ([`json`]) or lines for a person ([`text`]). They carry the fields of the spans around them, are
//! bounded in length and number, free of secrets ([`redact`](mod@crate::redact)), and can't hold up the program ([`sink`]). Stdout is
//! left to results, of which the progress events for a parent process are one ([`progress`]).
//!
//! Nothing here reads the environment: `main` passes what it needs.

pub mod console;
pub mod entry;
pub mod json;
pub mod layer;
pub mod limit;
pub mod metrics;
pub mod progress;
pub mod sink;
pub mod summary;
pub mod text;
pub mod units;

use std::io::IsTerminal;
use std::panic::PanicHookInfo;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::{Layer, SubscriberExt};

use crate::error::{Error, ErrorKind, Result, ResultExt};
use console::Console;
use layer::LogLayer;
use metrics::Metrics;
use progress::{CombinedProgress, Mode, Progress};
use sink::Sink;

pub use progress::Mode as ProgressMode;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For a person at a terminal.
    Text,
    /// One JSON object per line, for a container's log.
    Json,
}

impl LogFormat {
    /// The word that [`LogFormat::from_str`] understands.
    pub fn as_str(self) -> &'static str {
        match self {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        }
    }
}

impl FromStr for LogFormat {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        match word {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            other => {
                Err(Error::config(format!("unknown log format `{other}`")).with_hint("give text or json"))
            }
        }
    }
}

/// What [`init`] needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// How log lines look.
    pub format: LogFormat,
    /// Which lines are written: a level (`info`), or directives such as `info,floe::read=debug`.
    pub filter: String,
    /// Colours; `None`: when stderr is a terminal.
    pub colour: Option<bool>,
    /// How progress is shown; [`Mode::Auto`] is decided here.
    pub progress: Mode,
}

/// How long the last log lines may take to be written.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);

/// The guard of logs and progress. Dropping it writes what is still queued: do so before the process exits.
pub struct Telemetry {
    console: Console,
    format: LogFormat,
    progress: Mode,
    sink: Arc<Sink>,
}

/// Sets up logging for the process. Panics are logged from then on as well, instead of being printed raw.
///
/// # Errors
/// `config` when the filter can't be understood; `internal` when called twice or no thread can be started.
pub fn init(options: &Options) -> Result<Telemetry> {
    let filter = parse_filter(&options.filter)?;
    let console = Console::stderr();
    let is_terminal = std::io::stderr().is_terminal();
    let progress = match options.progress {
        Mode::Auto if options.format == LogFormat::Text && !console.draw_target().is_hidden() => Mode::Bar,
        Mode::Auto => Mode::Line,
        // A bar that can't be drawn shows nothing at all.
        Mode::Bar if console.draw_target().is_hidden() => Mode::Line,
        chosen => chosen,
    };
    let colour = options.colour.unwrap_or(is_terminal);
    let (log, sink) = match options.format {
        LogFormat::Text => LogLayer::new(text::Text { colour }, console.clone()),
        LogFormat::Json => LogLayer::new(json::Json, console.clone()),
    }
    .context(ErrorKind::Internal, "can't start the thread that writes the log")?;
    let subscriber = tracing_subscriber::registry().with(log.with_filter(filter));
    tracing::subscriber::set_global_default(subscriber)
        .context(ErrorKind::Internal, "can't set up the log twice in one process")?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(Telemetry {
        console,
        format: options.format,
        progress,
        sink,
    })
}

impl Telemetry {
    /// Shows the progress of this process's share of the run until the handle is dropped.
    pub fn progress(&self, metrics: Arc<Metrics>, replica: u32) -> Progress {
        Progress::start(self.progress, &self.console, metrics, replica)
    }

    /// Shows the progress of `replicas` child processes as one.
    pub fn combined_progress(&self, replicas: u32) -> CombinedProgress {
        CombinedProgress::start(self.progress, &self.console, replicas)
    }

    /// How log lines look.
    pub fn log_format(&self) -> LogFormat {
        self.format
    }

    /// How progress is shown, decided: never [`Mode::Auto`].
    pub fn progress_mode(&self) -> Mode {
        self.progress
    }

    /// The one place that writes to stderr.
    pub fn console(&self) -> &Console {
        &self.console
    }

    /// Passes on a line that a child process logged, as it is: in order with our own lines, without tearing the bar,
    /// and without standing still when nobody reads stderr. `line` comes without its line break.
    pub fn relay(&self, line: &str) {
        self.sink.send(format!("{line}\n").as_bytes());
    }

    /// Waits, for two seconds at most, until every line logged so far is written.
    pub fn flush(&self) {
        self.sink.flush(FLUSH_LIMIT);
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Parses the filter. A single word that is no level would silently select the lines of a module of that name, and
/// a misspelt level so nothing at all: it is an error, unless it is ours.
fn parse_filter(filter: &str) -> Result<EnvFilter> {
    let hint = "give off, error, warn, info, debug or trace, or directives such as info,floe::read=debug";
    for directive in filter.split(',').map(str::trim) {
        let is_word = !directive.contains(['=', '[', ':']) && directive != "floe" && !directive.is_empty();
        if is_word && directive.parse::<LevelFilter>().is_err() {
            return Err(Error::config(format!("unknown log level `{directive}`")).with_hint(hint));
        }
    }
    EnvFilter::try_new(filter).map_err(|error| {
        Error::config(format!("can't understand the log filter `{filter}`: {error}")).with_hint(hint)
    })
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let message = panic.payload_as_str().unwrap_or("no message");
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(
        location,
        thread = thread.name().unwrap_or("unnamed"),
        "a bug in Floe or in a library: panicked: {message}"
    );
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use indicatif::ProgressDrawTarget;
    use std::io::Write;
    use std::sync::Mutex;

    /// A writer that keeps what was written.
    #[derive(Clone, Default)]
    pub(crate) struct Kept(pub Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Kept {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    /// The lines that `work` logs.
    pub(crate) fn log_lines(format: impl layer::Format, work: impl FnOnce()) -> Vec<String> {
        let output = Kept::default();
        let console = Console::new(output.clone(), ProgressDrawTarget::hidden);
        let (log, sink) = LogLayer::new(format, console).unwrap();
        let subscriber = tracing_subscriber::registry().with(log);
        tracing::subscriber::with_default(subscriber, work);
        assert!(sink.flush(Duration::from_secs(10)));
        output.text().lines().map(str::to_string).collect()
    }

    pub(crate) fn parse(line: &str) -> serde_json::Value {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    #[test]
    fn a_flood_of_warnings_leaves_a_burst_and_a_count_in_the_log() {
        let lines = log_lines(json::Json, || {
            for row in 0..1000 {
                tracing::warn!(row, "value out of range");
            }
        });
        assert_eq!(lines.len(), 21);
        let last = parse(&lines[20]);
        assert_eq!(
            last["body"],
            "980 more entries like this were left out: value out of range"
        );
        assert_eq!(last["attributes"]["left_out"], 980);
        assert_eq!(last["severity_text"], "WARN");
    }

    #[test]
    fn filters_are_checked_so_that_a_typo_does_not_silence_the_log() {
        for filter in [
            "info",
            "off",
            "info,floe::read=debug",
            "floe",
            "WARN",
            "warn,[unit]=debug",
            "2",
        ] {
            assert!(parse_filter(filter).is_ok(), "{filter}");
        }
        for filter in ["infoo", "info,debgu", "floe=loud", "a[b"] {
            let error = parse_filter(filter).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{filter}");
            assert!(error.hint().is_some_and(|hint| hint.contains("debug or trace")));
        }
    }

    #[test]
    fn formats_are_known_by_name() {
        for format in [LogFormat::Text, LogFormat::Json] {
            assert_eq!(format.as_str().parse::<LogFormat>().unwrap(), format);
        }
        let error = "yaml".parse::<LogFormat>().unwrap_err();
        assert_eq!(error.to_string(), "unknown log format `yaml`; give text or json");
    }
}
