//! The bridge from `tracing` to the log: collects, limits, formats and hands over.
//!
//! A span keeps its own fields; an event takes those of all spans around it. What the entry looks like on the wire
//! is the business of [`super::json`] and [`super::text`].

use std::sync::Arc;
use std::time::Instant;

use time::OffsetDateTime;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use super::console::Console;
use super::entry::{Collector, Entry, Fields, set};
use super::limit::Limiter;
use super::sink::{Output, Sink};

/// Turns an entry into one line (with its line break).
pub trait Format: Send + Sync + 'static {
    /// Appends the line to `line`.
    fn write(&self, entry: &Entry, line: &mut Vec<u8>);
}

/// See the [module](self) page.
pub struct LogLayer {
    format: Arc<dyn Format>,
    limiter: Arc<Limiter>,
    sink: Arc<Sink>,
}

impl LogLayer {
    /// A layer that writes to `console`, and the sink to flush before the process ends.
    pub fn new(format: impl Format, console: Console) -> std::io::Result<(Self, Arc<Sink>)> {
        let format: Arc<dyn Format> = Arc::new(format);
        let limiter = Arc::new(Limiter::default());
        let sink = Arc::new(Sink::start(ConsoleOutput {
            console,
            format: Arc::clone(&format),
            limiter: Arc::clone(&limiter),
        })?);
        let layer = LogLayer {
            format,
            limiter,
            sink: Arc::clone(&sink),
        };
        Ok((layer, sink))
    }
}

/// Fields of a span, kept with it.
struct SpanFields(Fields);

impl<S> Layer<S> for LogLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut collector = Collector::default();
        attributes.record(&mut collector);
        if let Some(span) = context.span(id) {
            span.extensions_mut().replace(SpanFields(collector.fields));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let mut collector = Collector::default();
        values.record(&mut collector);
        if let Some(span) = context.span(id)
            && let Some(SpanFields(fields)) = span.extensions_mut().get_mut::<SpanFields>()
        {
            for (name, value) in collector.fields {
                set(fields, name, value);
            }
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        let mut collector = Collector::default();
        event.record(&mut collector);
        let mut entry = Entry {
            at: OffsetDateTime::now_utc(),
            level: *metadata.level(),
            target: metadata.target(),
            body: collector.message,
            fields: collector.fields,
            context: Fields::new(),
        };
        if let Some(scope) = context.event_scope(event) {
            for span in scope.from_root() {
                if let Some(SpanFields(fields)) = span.extensions().get::<SpanFields>() {
                    for (name, value) in fields {
                        set(&mut entry.context, name, value.clone());
                    }
                }
            }
        }
        if self.limiter.admits(metadata, &entry, Instant::now()) {
            let mut line = Vec::with_capacity(256);
            self.format.write(&entry, &mut line);
            self.sink.send(&line);
        }
    }
}

/// The writing thread's end: the console, and the entries that come from the log itself.
struct ConsoleOutput {
    console: Console,
    format: Arc<dyn Format>,
    limiter: Arc<Limiter>,
}

impl Output for ConsoleOutput {
    fn write(&mut self, lines: &[u8]) {
        self.console.write_lines(lines);
    }

    fn due(&mut self, lost: u64, is_last: bool) -> Vec<u8> {
        let now = (!is_last).then(Instant::now);
        let mut entries = self.limiter.ended(now);
        if lost > 0 {
            let body = format!("{lost} log lines were lost because stderr was not read");
            let mut entry = Entry::plain(lost_lines(), body);
            entry.fields.push(("lost", lost.into()));
            entries.push(entry);
        }
        let mut lines = Vec::new();
        for entry in &entries {
            self.format.write(entry, &mut lines);
        }
        lines
    }
}

/// The metadata of the log's own warning; it can't go through `tracing`, which would come back here.
fn lost_lines() -> &'static Metadata<'static> {
    use tracing::field::FieldSet;
    use tracing::{Level, callsite::Identifier, metadata::Kind, subscriber::Interest};

    struct Own;
    static OWN: Own = Own;
    static METADATA: Metadata<'static> = Metadata::new(
        "lost lines",
        module_path!(),
        Level::WARN,
        None,
        None,
        None,
        FieldSet::new(&[], Identifier(&OWN)),
        Kind::EVENT,
    );
    impl tracing::Callsite for Own {
        fn set_interest(&self, _: Interest) {}
        fn metadata(&self) -> &Metadata<'static> {
            &METADATA
        }
    }
    &METADATA
}
