//! Log lines for a person at a terminal: `08:15:30 INFO  unit committed  unit=3 rows=20000`.
//!
//! Time is UTC. The fields `job` and `run` of the spans are left out: whoever looks at a terminal knows what they
//! started. Text that came from outside can neither colour the terminal nor fake a line of its own: control
//! characters are escaped, and further lines of a message are indented.

use std::fmt::Write;

use serde_json::Value;
use tracing::Level;

use super::entry::Entry;
use super::layer::Format;

/// The format; see the [module](self) page.
pub struct Text {
    /// Colours and bold type, for a terminal.
    pub colour: bool,
}

const BOLD_RED: &str = "\x1b[1;31m";
const YELLOW: &str = "\x1b[33m";
const GREEN: &str = "\x1b[32m";
const BLUE: &str = "\x1b[34m";
const DIM: &str = "\x1b[2m";
const RESET: &str = "\x1b[0m";

impl Format for Text {
    fn write(&self, entry: &Entry, line: &mut Vec<u8>) {
        line.extend_from_slice(self.render(entry).as_bytes());
        line.push(b'\n');
    }
}

impl Text {
    fn render(&self, entry: &Entry) -> String {
        let at = entry.at;
        let clock = format!("{:02}:{:02}:{:02}", at.hour(), at.minute(), at.second());
        let level = format!("{:<5}", entry.level.as_str());
        let mut text = String::new();
        self.paint(&mut text, DIM, &clock);
        text.push(' ');
        self.paint(&mut text, level_colour(entry.level), &level);
        text.push(' ');
        if !is_own_voice(entry) {
            self.paint(&mut text, DIM, &format!("{}: ", entry.target));
        }
        let body = escape_control(&entry.body);
        text.push_str(&body.trim_end().replace('\n', "\n         "));

        let is_overridden = |name: &str| entry.fields.iter().any(|(own, _)| *own == name);
        let context = entry
            .context
            .iter()
            .filter(|(name, _)| !matches!(*name, "job" | "run") && !is_overridden(name));
        let mut gap = if body.is_empty() { "" } else { "  " };
        for (name, value) in entry.fields.iter().chain(context) {
            text.push_str(gap);
            self.paint(&mut text, DIM, &format!("{name}="));
            text.push_str(&in_one_word(value));
            gap = " ";
        }
        text
    }

    fn paint(&self, text: &mut String, colour: &str, piece: &str) {
        if self.colour {
            // Writing to a string can't fail.
            let _ = write!(text, "{colour}{piece}{RESET}");
        } else {
            text.push_str(piece);
        }
    }
}

/// Floe's ordinary lines need no origin; foreign crates and details for developers do.
fn is_own_voice(entry: &Entry) -> bool {
    entry.level <= Level::INFO && (entry.target == "floe" || entry.target.starts_with("floe::"))
}

fn level_colour(level: Level) -> &'static str {
    match level {
        Level::ERROR => BOLD_RED,
        Level::WARN => YELLOW,
        Level::INFO => GREEN,
        Level::DEBUG => BLUE,
        Level::TRACE => DIM,
    }
}

/// The value as it is, or in quotes where its end would be unclear.
fn in_one_word(value: &Value) -> String {
    let Value::String(text) = value else {
        return value.to_string();
    };
    let escaped = escape_control(text);
    let is_word = !escaped.is_empty() && !escaped.contains([' ', '"', '=', '\n']);
    if is_word {
        return escaped;
    }
    let inner = on_one_line(&escaped).replace('"', "\\\"");
    format!("\"{inner}\"")
}

/// Replaces what a terminal would obey by a visible `\u{…}`; line breaks stay.
pub fn escape_control(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if is_treacherous(c) && c != '\n' {
            escaped.extend(c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// The same with line breaks replaced as well.
pub fn on_one_line(text: &str) -> String {
    escape_control(text).replace('\n', "\\n")
}

/// Controls, and invisible marks that end lines or reorder what is shown.
pub fn is_treacherous(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::entry::Fields;
    use crate::telemetry::tests::log_lines;
    use time::OffsetDateTime;

    fn entry(level: Level, target: &'static str, body: &str, fields: Fields) -> Entry {
        Entry {
            at: OffsetDateTime::from_unix_timestamp_nanos(1_793_693_730_500_000_000).unwrap(),
            level,
            target,
            body: body.to_string(),
            fields,
            context: vec![("job", "score".into()), ("replica", 1.into()), ("unit", 9.into())],
        }
    }

    #[test]
    fn a_line_reads_as_time_level_message_and_fields() {
        let plain = Text { colour: false };
        let own = entry(
            Level::INFO,
            "floe::commit",
            "unit committed",
            vec![
                ("unit", 3.into()),
                ("file", "a b.parquet".into()),
                ("empty", "".into()),
            ],
        );
        assert_eq!(
            plain.render(&own),
            "08:15:30 INFO  unit committed  unit=3 file=\"a b.parquet\" empty=\"\" replica=1"
        );
        let foreign = entry(Level::ERROR, "hyper", "broken", Fields::new());
        assert_eq!(
            plain.render(&foreign),
            "08:15:30 ERROR hyper: broken  replica=1 unit=9"
        );
        let detail = entry(Level::DEBUG, "floe::read", "", vec![("rows", 2.into())]);
        assert_eq!(
            plain.render(&detail),
            "08:15:30 DEBUG floe::read: rows=2 replica=1 unit=9"
        );
    }

    #[test]
    fn colours_are_used_only_when_asked_for() {
        let event = entry(Level::WARN, "floe", "slow", vec![("rows", 2.into())]);
        let coloured = Text { colour: true }.render(&event);
        assert!(
            coloured.contains("\x1b[33mWARN \x1b[0m slow  \x1b[2mrows=\x1b[0m2"),
            "{coloured:?}"
        );
        assert!(!Text { colour: false }.render(&event).contains('\x1b'));
    }

    /// Failure matrix: 63.
    #[test]
    fn foreign_text_can_neither_colour_the_terminal_nor_fake_a_line() {
        let event = entry(
            Level::WARN,
            "floe",
            "bad name \x1b[31m\r\n00:00:00 INFO  all is well\u{202e}\n",
            vec![("column", "a\nb\u{9b}2J\"".into())],
        );
        assert_eq!(
            Text { colour: false }.render(&event),
            "08:15:30 WARN  bad name \\u{1b}[31m\\r\n         00:00:00 INFO  all is well\\u{202e}  \
             column=\"a\\nb\\u{9b}2J\\\"\" replica=1 unit=9"
        );
    }

    #[test]
    fn events_arrive_with_span_fields_and_without_secrets() {
        let lines = log_lines(Text { colour: false }, || {
            let _job = tracing::info_span!("job", job = "score", run = "r", replica = 0).entered();
            tracing::info!(url = "https://h/p?sig=CANARY", "reading");
        });
        let (_, line) = lines[0].split_once(' ').unwrap();
        assert_eq!(line, "INFO  reading  url=https://h/p?[redacted] replica=0");
    }
}
