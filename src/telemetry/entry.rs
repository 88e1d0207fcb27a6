//! One log entry: an event with the fields of the spans around it, ready to be written.
//!
//! Values keep their type, so that numbers stay numbers in the event table. Text is bounded while it is being
//! formatted (a careless `?big_thing` costs no memory) and loses its secrets here, in one place, before any format
//! sees it.

use std::fmt::{self, Write};

use serde_json::{Number, Value};
use time::OffsetDateTime;
use tracing::field::{Field, Visit};
use tracing::{Level, Metadata};

use crate::redact::{REDACTED, names_secret, redact};

/// Most bytes of a message.
pub const MAX_BODY_BYTES: usize = 8 * 1024;
/// Most bytes of one text value.
pub const MAX_VALUE_BYTES: usize = 2 * 1024;

/// Fields in the order they were given; a name occurs once.
pub type Fields = Vec<(&'static str, Value)>;

/// What both formats write.
#[derive(Clone, Debug)]
pub struct Entry {
    /// When it happened.
    pub at: OffsetDateTime,
    /// How bad it is.
    pub level: Level,
    /// Where in the program it comes from.
    pub target: &'static str,
    /// The message.
    pub body: String,
    /// The event's own fields.
    pub fields: Fields,
    /// Fields of the enclosing spans, outermost first; where spans repeat a name, the innermost value.
    pub context: Fields,
}

impl Entry {
    /// An entry without fields, as the log itself needs it.
    pub fn plain(metadata: &Metadata<'static>, body: String) -> Self {
        Entry {
            at: OffsetDateTime::now_utc(),
            level: *metadata.level(),
            target: metadata.target(),
            body,
            fields: Fields::new(),
            context: Fields::new(),
        }
    }

    /// The field `name`: the event's own, else of the closest span.
    pub fn get(&self, name: &str) -> Option<&Value> {
        let find = |fields: &'_ Fields| fields.iter().position(|(known, _)| *known == name);
        match find(&self.fields) {
            Some(index) => Some(&self.fields[index].1),
            None => find(&self.context).map(|index| &self.context[index].1),
        }
    }
}

/// Sets a field; a later value of the same name takes the place of the earlier one.
pub fn set(fields: &mut Fields, name: &'static str, value: Value) {
    match fields.iter_mut().find(|(known, _)| *known == name) {
        Some((_, known)) => *known = value,
        None => fields.push((name, value)),
    }
}

/// Collects the fields of an event or a span.
#[derive(Debug, Default)]
pub struct Collector {
    /// The field `message`, which makes the body.
    pub message: String,
    /// All others.
    pub fields: Fields,
}

impl Collector {
    fn record(&mut self, field: &Field, value: Value) {
        let name = field.name();
        set(&mut self.fields, name.strip_prefix("r#").unwrap_or(name), value);
    }

    fn record_text(&mut self, field: &Field, text: fmt::Arguments<'_>) {
        if field.name() == "message" {
            self.message = clean(text, MAX_BODY_BYTES);
        } else if names_secret(field.name()) {
            self.record(field, REDACTED.into());
        } else {
            self.record(field, clean(text, MAX_VALUE_BYTES).into());
        }
    }
}

impl Visit for Collector {
    fn record_f64(&mut self, field: &Field, value: f64) {
        match Number::from_f64(value) {
            Some(number) => self.record(field, Value::Number(number)),
            None => self.record(field, value.to_string().into()),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.record(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.record(field, value.into());
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        match i64::try_from(value) {
            Ok(small) => self.record(field, small.into()),
            Err(_) => self.record(field, value.to_string().into()),
        }
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        match u64::try_from(value) {
            Ok(small) => self.record(field, small.into()),
            Err(_) => self.record(field, value.to_string().into()),
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.record(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_text(field, format_args!("{value}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause {
            let line = error.to_string();
            if !text.contains(&line) {
                text = format!("{text}: {line}");
            }
            cause = error.source();
        }
        self.record_text(field, format_args!("{text}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_text(field, format_args!("{value:?}"));
    }
}

/// Bounded text without secrets.
fn clean(text: fmt::Arguments<'_>, limit: usize) -> String {
    let mut bounded = Bounded {
        text: String::new(),
        limit,
        is_cut: false,
    };
    // The only error is our own: the limit is reached and the rest need not be formatted.
    let _ = bounded.write_fmt(text);
    let mut clean = redact(&bounded.text).into_owned();
    if bounded.is_cut {
        let _ = write!(clean, "… (cut at {limit} bytes)");
    }
    clean
}

/// The longest prefix of at most `limit` bytes that ends between two characters.
pub fn prefix(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

struct Bounded {
    text: String,
    limit: usize,
    is_cut: bool,
}

impl Write for Bounded {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        let fitting = prefix(piece, self.limit - self.text.len());
        self.text.push_str(fitting);
        if fitting.len() < piece.len() {
            self.is_cut = true;
            return Err(fmt::Error);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_between_characters_and_says_so() {
        assert_eq!(clean(format_args!("{}", "a".repeat(5)), 5), "aaaaa");
        assert_eq!(clean(format_args!("aé{}", "é"), 4), "aé… (cut at 4 bytes)");
    }

    #[test]
    fn formatting_stops_at_the_limit() {
        struct Endless;
        impl fmt::Display for Endless {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                loop {
                    f.write_str("more ")?;
                }
            }
        }
        assert_eq!(clean(format_args!("{Endless}"), 7), "more mo… (cut at 7 bytes)");
    }

    #[test]
    fn a_secret_cut_in_the_middle_is_still_a_secret() {
        let text = format!("https://h/x?sig={}", "S".repeat(100));
        assert_eq!(
            clean(format_args!("{text}"), 40),
            "https://h/x?[redacted]… (cut at 40 bytes)"
        );
    }
}
