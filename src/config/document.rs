//! Text of a job file → a plain document, before anything is said about its keys.
//!
//! YAML and JSON give the same [`serde_json::Value`], keys in the order of the text. The text may come from a
//! stranger (a stage, an environment variable), so its size and depth are bounded, a key given twice is an error
//! rather than a guess, and only one document is taken.

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;

use crate::error::{Error, Result};

/// Longest accepted text: far above any job, far below what could hurt.
pub const MAX_BYTES: usize = 1 << 20;

/// Deepest accepted nesting. The job file itself needs 4; values in `input.params` may be nested lists.
pub const MAX_DEPTH: usize = 32;

/// Parses `text`; `origin` is where it came from, for the error's sake. An empty text is an empty mapping.
///
/// # Errors
/// `Config` when the text is too long, too deep, no YAML or JSON, several documents, or not a mapping.
pub fn parse(text: &str, origin: &str) -> Result<Map<String, Value>> {
    if text.len() > MAX_BYTES {
        return Err(Error::config(format!(
            "{origin}: {} bytes given, a job file of at most {MAX_BYTES} bytes allowed",
            text.len()
        )));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let document = if text.trim_start().starts_with('{') {
        // YAML's flow style looks like JSON, and JSON's escapes are not all YAML's: try both.
        json(text).or_else(|cause| yaml(text).map_err(|_| cause))
    } else {
        yaml(text)
    };
    match document {
        Ok(Value::Object(document)) => Ok(document),
        Ok(Value::Null) => Ok(Map::new()),
        Ok(other) => Err(Error::config(format!(
            "{origin}: {} given, a mapping of sections allowed",
            kind_of(&other)
        ))
        .with_hint("a job file begins like \"model: {location: models/flights}\"")),
        Err(cause) => Err(Error::config(format!("{origin}: not a job file: {cause}"))),
    }
}

/// Whether a variable that may hold a document or a path to one holds the document.
pub fn is_document(text: &str) -> bool {
    let text = text.trim();
    text.starts_with('{') || text.contains('\n') || text.contains(": ")
}

/// What sort of value it is, as a user would say it.
pub fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

fn json(text: &str) -> Result<Value, String> {
    let strict: Strict = serde_json::from_str(text).map_err(|error| error.to_string())?;
    check_depth(&strict.0, 0)?;
    Ok(strict.0)
}

fn yaml(text: &str) -> Result<Value, String> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_nodes: 50_000,
            max_events: 200_000,
            max_anchors: 100,
            max_aliases: 100,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 50_000,
        },
        // A column named NO or ON is a column, not a boolean.
        strict_booleans: true,
        with_snippet: false,
    };
    let strict: Strict = serde_saphyr::from_str_with_options(text, options).map_err(|error| said(&error))?;
    check_depth(&strict.0, 0)?;
    Ok(strict.0)
}

/// The parser's words, where they are for users and not for programmers.
fn said(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error;
    let text = match error {
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("the key {key} is given twice")
        }
        Error::DuplicateMappingKey { key: None, .. } => "a key is given twice".to_string(),
        Error::MultipleDocuments { .. } => {
            return "several YAML documents given, one allowed".to_string();
        }
        other => {
            let text = other.to_string().replace('\n', " ");
            // The most likely mistake of all: stage paths begin with a character that YAML reserves.
            let hint = if text.contains("`@'") {
                "; put a value that begins with @ in quotes"
            } else {
                ""
            };
            return format!("{text}{hint}");
        }
    };
    match error.location() {
        Some(place) => format!("{text} at line {} column {}", place.line(), place.column()),
        None => text,
    }
}

fn check_depth(value: &Value, depth: usize) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err(format!("nested deeper than {MAX_DEPTH} levels"));
    }
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| check_depth(item, depth + 1)),
        Value::Object(map) => map.values().try_for_each(|item| check_depth(item, depth + 1)),
        _ => Ok(()),
    }
}

/// A value in which no mapping has a key twice; `serde_json::Value` would keep the last and say nothing.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping, a list, text, a number, true or false")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        // JSON documents (plan, records) could not hold it either.
        let number = serde_json::Number::from_f64(value)
            .ok_or_else(|| E::custom("infinity and not-a-number are not allowed"))?;
        Ok(Value::Number(number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Strict::deserialize(deserializer).map(|strict| strict.0)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Strict(item)) = access.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            let Strict(value) = access.next_value()?;
            if map.contains_key(&key) {
                return Err(A::Error::custom(format!("the key {key} is given twice")));
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(text: &str, expected: Value) {
        assert_eq!(Value::Object(parse(text, "job").unwrap()), expected, "{text}");
    }

    fn refused(text: &str) -> String {
        parse(text, "job.yaml").unwrap_err().to_string()
    }

    /// Found by fuzzing: serde_json's quick way of reading numbers is off in the last digit for one in twelve.
    #[test]
    fn numbers_are_read_to_the_last_digit() {
        for text in ["3.8286339050826013", "1.9844004278856286", "9.868100332987975"] {
            let expected = json!({"p": text.parse::<f64>().unwrap()});
            check(&format!("p: {text}"), expected.clone());
            check(&format!("{{\"p\": {text}}}"), expected);
        }
    }

    #[test]
    fn yaml_and_json_give_the_same_document() {
        let expected = json!({"replicas": 2, "output": {"partition_by": ["NO", "ON"], "mode": "error"}});
        check(
            "replicas: 2\noutput:\n  partition_by: [NO, ON]\n  mode: error\n",
            expected.clone(),
        );
        check(
            "{replicas: 2, output: {partition_by: [NO, ON], mode: error}} # flow",
            expected.clone(),
        );
        check(
            "\u{feff}{\n\t\"replicas\": 2,\n\t\"output\": {\"partition_by\": [\"NO\", \"ON\"], \"mode\": \"error\"}\n}",
            expected,
        );
        check(r#"{"job_name": "\ud83d\ude00\/"}"#, json!({"job_name": "😀/"}));
        check("", json!({}));
        check("# nothing yet\n", json!({}));
        check(
            "a: &x {k: 1.5}\nb: *x\nc: null\nd: ~\n",
            json!({"a": {"k": 1.5}, "b": {"k": 1.5}, "c": null, "d": null}),
        );
    }

    #[test]
    fn a_document_is_told_from_a_path() {
        for text in ["{}", " {\"model\": {}}", "replicas: 2", "model:\n  location: m\n"] {
            assert!(is_document(text), "{text}");
        }
        for path in [
            "job.yaml",
            "/etc/floe/job.json",
            "C:\\jobs\\a.yaml",
            "s3://bucket/job.yaml",
            "",
        ] {
            assert!(!is_document(path), "{path}");
        }
    }

    #[test]
    fn what_is_no_job_file_is_refused_with_the_reason() {
        for (text, part) in [
            ("- a\n- b\n", "a list given, a mapping of sections allowed"),
            ("models/flights", "text given, a mapping of sections allowed"),
            ("replicas: 1\nreplicas: 2\n", "replicas"),
            (
                "{\"replicas\": 1, \"replicas\": 2}",
                "the key replicas is given twice",
            ),
            ("{\"model\": {\"location\": }", "line 1"),
            ("replicas: 1\n---\nreplicas: 2\n", "document"),
            ("model:\n  location: a\n bad: b\n", "line"),
            ("x: .nan\n", "non-finite"),
        ] {
            let error = refused(text);
            assert!(error.starts_with("job.yaml: "), "{error}");
            assert!(error.contains(part), "{text:?} gave {error}");
        }
    }

    #[test]
    fn size_depth_and_expansion_are_bounded() {
        assert!(refused(&"#".repeat(MAX_BYTES + 1)).contains("at most 1048576 bytes"));
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let nested = |depth: usize| {
                let value = format!("{}1{}", open.repeat(depth), close.repeat(depth));
                format!("{{\"x\": {value}}}")
            };
            assert!(parse(&nested(MAX_DEPTH - 1), "job").is_ok());
            refused(&nested(MAX_DEPTH + 1));
            refused(&nested(100_000));
        }
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..9 {
            let previous = format!("*a{}, ", level - 1).repeat(10);
            bomb.push_str(&format!("a{level}: &a{level} [{previous}]\n"));
        }
        refused(&bomb);
    }
}
