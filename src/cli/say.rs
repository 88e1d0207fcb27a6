//! Results on stdout.
//!
//! Names of files and columns, and whatever a model or an error quotes, come from outside. They are shown as they are,
//! but for what a terminal would obey or what would begin a line of its own; as JSON they come back unchanged.

use serde::Serialize;
use serde_json::Value;
use std::fmt::{Display, Write};

use floe::error::{Error, Result};
use floe::redact::redact_values;
use floe::telemetry::text::{is_treacherous, on_one_line};

/// Prints a line.
pub fn line(text: impl Display) {
    println!("{}", on_one_line(&text.to_string()));
}

/// Prints a JSON document, for a person to read as well.
pub fn json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Error::internal("can't print JSON").with_source(error))?;
    println!("{}", escaped(&text));
    Ok(())
}

/// Prints a JSON document on one line, for a program that reads line by line.
pub fn json_line(value: &Value) {
    println!("{}", escaped(&value.to_string()));
}

/// Prints an error as JSON: like a log line it may quote a request, and holds no secrets.
pub fn error(error: &Error) {
    let mut document = serde_json::json!({ "error": error.to_json() });
    redact_values(&mut document);
    json_line(&document);
}

/// JSON with the control characters escaped that JSON itself allows in a text.
fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if c != '\n' && is_treacherous(c) {
            // All of them are below U+10000. Writing to a String can't fail.
            let _ = write!(text, "\\u{:04x}", u32::from(c));
        } else {
            text.push(c);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_escaped_in_json_comes_back() {
        let value = serde_json::json!({ "a\u{9b}": "\u{202e}\u{7f}\n\u{1b}é" });
        let text = escaped(&serde_json::to_string_pretty(&value).unwrap());
        assert!(!text.chars().any(|c| c != '\n' && is_treacherous(c)), "{text:?}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
