//! Log lines as Snowflake's event table parses them: one JSON object per line.
//!
//! ```json
//! {"timestamp":"2026-11-03T08:15:30.123456789Z","severity_text":"INFO","body":"unit committed",
//!  "scope":{"name":"floe::commit"},"attributes":{"run":"0b9f","replica":0,"unit":3,"rows":20000}}
//! ```
//!
//! `body`, `severity_text`, `scope` and `attributes` become columns there; a line that is not such an object would
//! land in the table as plain text. Container runtimes cut lines at 16 KiB, and half an object is no object: longer
//! lines are written with less in them. Attribute names that start with `snow.` are Snowflake's and are renamed.

use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::entry::{Entry, prefix};
use super::layer::Format;

/// Longest line, with its line break; containerd cuts at 16 KiB.
pub const MAX_LINE_BYTES: usize = 16 * 1024;

/// The format; see the [module](self) page.
pub struct Json;

impl Format for Json {
    fn write(&self, entry: &Entry, line: &mut Vec<u8>) {
        // Escapes can make text six times as long: what fits is found by trying.
        let limits = [
            (usize::MAX, usize::MAX, usize::MAX),
            (1024, 256, 16),
            (1024, 0, 0),
        ];
        for (body_bytes, value_bytes, attributes) in limits {
            let text = render(entry, body_bytes, value_bytes, attributes);
            if text.len() < MAX_LINE_BYTES || attributes == 0 {
                line.extend_from_slice(text.as_bytes());
                line.push(b'\n');
                return;
            }
        }
    }
}

fn render(entry: &Entry, body_bytes: usize, value_bytes: usize, most_attributes: usize) -> String {
    let mut attributes = Map::new();
    // The event's own values are written last: they win over those of the spans.
    for (name, value) in entry.context.iter().chain(&entry.fields) {
        attributes.insert(attribute_name(name), shortened(value, value_bytes));
    }
    if attributes.len() > most_attributes || value_bytes < usize::MAX {
        let kept = attributes.into_iter().take(most_attributes);
        attributes = kept.collect();
        attributes.insert("is_cut".to_string(), true.into());
    }
    let object = json!({
        "timestamp": timestamp(entry.at),
        "severity_text": entry.level.as_str(),
        "body": prefix(&entry.body, body_bytes),
        "scope": {"name": entry.target},
        "attributes": attributes,
    });
    escape_invisible(object.to_string())
}

fn attribute_name(name: &str) -> String {
    match name.get(..5) {
        Some(start) if start.eq_ignore_ascii_case("snow.") => format!("floe.{name}"),
        _ => name.to_string(),
    }
}

fn shortened(value: &Value, limit: usize) -> Value {
    match value {
        Value::String(text) if text.len() > limit => prefix(text, limit).into(),
        other => other.clone(),
    }
}

/// RFC 3339 in UTC, always with nine digits, so that lines sort as text.
pub fn timestamp(at: OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
        at.nanosecond()
    )
}

/// Escapes what JSON allows but a terminal would obey: DEL, C1 controls, and marks that reorder text. Such
/// characters occur only inside strings, where `\u` says the same.
fn escape_invisible(json: String) -> String {
    if json.is_ascii() && !json.contains('\x7f') {
        return json;
    }
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if super::text::is_treacherous(c) {
            text.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            text.push(c);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::entry::{Fields, MAX_BODY_BYTES};
    use crate::telemetry::tests::{log_lines, parse};
    use proptest::prelude::*;
    use tracing::Level;

    fn entry(body: &str, fields: Fields) -> Entry {
        Entry {
            at: OffsetDateTime::from_unix_timestamp_nanos(1_793_693_730_000_456_789).unwrap(),
            level: Level::INFO,
            target: "floe::commit",
            body: body.to_string(),
            fields,
            context: Fields::new(),
        }
    }

    fn written(entry: &Entry) -> String {
        let mut line = Vec::new();
        Json.write(entry, &mut line);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn a_line_is_the_object_the_event_table_parses() {
        let mut entry = entry(
            "unit committed",
            vec![("rows", 20_000.into()), ("unit", 3.into())],
        );
        entry.context = vec![("run", "0b9f".into()), ("unit", 1.into())];
        assert_eq!(
            written(&entry),
            "{\"timestamp\":\"2026-11-03T08:15:30.000456789Z\",\"severity_text\":\"INFO\",\
             \"body\":\"unit committed\",\"scope\":{\"name\":\"floe::commit\"},\
             \"attributes\":{\"run\":\"0b9f\",\"unit\":3,\"rows\":20000}}\n"
        );
    }

    #[test]
    fn events_carry_the_fields_of_their_spans_with_their_types() {
        let lines = log_lines(Json, || {
            let job = tracing::info_span!("job", job = "score", run = "0b9f", replica = 2_u32, file = "none");
            let _job = job.enter();
            let unit = tracing::info_span!("unit", unit = 7_u64, file = tracing::field::Empty);
            let _unit = unit.enter();
            unit.record("file", "a.parquet");
            tracing::warn!(
                rows = 12_i64,
                share = 0.5,
                broken = f64::NAN,
                done = true,
                big = u128::MAX,
                name = %"x",
                debug = ?Some(1),
                "batch is {}",
                "slow"
            );
        });
        let [line] = lines.as_slice() else {
            panic!("{lines:?}")
        };
        let value = parse(line);
        assert_eq!(value["severity_text"], "WARN");
        assert_eq!(value["body"], "batch is slow");
        assert_eq!(value["scope"]["name"], "floe::telemetry::json::tests");
        assert_eq!(
            value["attributes"],
            serde_json::json!({
                "job": "score", "run": "0b9f", "replica": 2, "file": "a.parquet", "unit": 7,
                "rows": 12, "share": 0.5, "broken": "NaN", "done": true,
                "big": "340282366920938463463374607431768211455", "name": "x", "debug": "Some(1)",
            })
        );
    }

    #[test]
    fn an_error_is_written_with_its_causes_once() {
        let lines = log_lines(Json, || {
            let cause = std::io::Error::other("disk full");
            let error = crate::error::Error::storage("can't write a.parquet").with_source(cause);
            let error: &(dyn std::error::Error + 'static) = &error;
            tracing::error!(error, "job failed");
        });
        assert_eq!(
            parse(&lines[0])["attributes"]["error"],
            "can't write a.parquet: disk full"
        );
    }

    /// Failure matrix: 64.
    #[test]
    fn secrets_are_gone_from_body_values_and_named_fields() {
        let lines = log_lines(Json, || {
            let _span = tracing::info_span!("fetch", url = "s3://b/k?X-Amz-Signature=CANARY1").entered();
            let error = std::io::Error::other("PUT https://h/x?sig=CANARY2 failed");
            tracing::warn!(
                error = &error as &(dyn std::error::Error + 'static),
                password = "CANARY3",
                header = ?("Authorization", "Snowflake Token=\"CANARY4\""),
                "can't reach https://me:CANARY5@host/"
            );
        });
        assert!(!lines[0].contains("CANARY"), "{}", lines[0]);
        let attributes = &parse(&lines[0])["attributes"];
        assert_eq!(attributes["url"], "s3://b/k?[redacted]");
        assert_eq!(attributes["password"], "[redacted]");
    }

    #[test]
    fn reserved_attribute_names_are_renamed() {
        let value = parse(&written(&entry(
            "",
            vec![("snow.service.name", 1.into()), ("snowy", 2.into())],
        )));
        assert_eq!(
            value["attributes"],
            serde_json::json!({"floe.snow.service.name": 1, "snowy": 2})
        );
    }

    #[test]
    fn control_characters_stay_escaped_and_come_back_when_parsed() {
        let body = "a\u{1b}[31m\nb\u{9b}c\u{7f}\u{202e}é\u{2028}";
        let line = written(&entry(body, Fields::new()));
        let inner = line.trim_end_matches('\n');
        assert!(
            !inner.chars().any(|c| c.is_control() || c == '\u{202e}'),
            "{line:?}"
        );
        assert!(inner.contains('é'));
        assert_eq!(parse(&line)["body"], body);
    }

    #[test]
    fn a_huge_message_is_cut_and_the_line_still_parses() {
        let lines = log_lines(Json, || tracing::info!("{}", "é".repeat(1 << 20)));
        let body = parse(&lines[0])["body"].as_str().unwrap().to_string();
        assert!(body.len() < MAX_BODY_BYTES + 40, "{}", body.len());
        assert!(
            body.ends_with("é… (cut at 8192 bytes)"),
            "{}",
            &body[body.len() - 40..]
        );
    }

    proptest! {
        /// Failure matrix: 63.
        #[test]
        fn any_line_is_one_parsable_object_of_bounded_length(
            body in "\\PC{0,60}|[\u{0}-\u{ff}]{0,3000}",
            repeat in 1..4usize,
            value in "[\u{0}-\u{20}]{0,700}",
            names in 0..40usize,
        ) {
            const NAMES: [&str; 40] = [
                "a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8", "a9", "b0", "b1", "b2", "b3", "b4", "b5",
                "b6", "b7", "b8", "b9", "c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8", "c9", "d0", "d1",
                "d2", "d3", "d4", "d5", "d6", "d7", "d8", "d9",
            ];
            let fields = NAMES[..names].iter().map(|name| (*name, value.repeat(repeat).into())).collect();
            let line = written(&entry(&body, fields));
            prop_assert!(line.len() <= MAX_LINE_BYTES, "{}", line.len());
            prop_assert_eq!(line.matches('\n').count(), 1);
            let value = parse(&line);
            prop_assert!(body.starts_with(value["body"].as_str().unwrap()));
        }
    }
}
