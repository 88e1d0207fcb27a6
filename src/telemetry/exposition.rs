//! Metrics as Prometheus reads them: the [text exposition format](https://prometheus.io/docs/instrumenting/exposition_formats/).

use std::fmt::Write as _;
use std::time::Duration;

use super::metrics::{Metric, Snapshot, TABLE, Unit};

/// The Prometheus text exposition of a snapshot; `labels` (such as `job`, `run`, `replica`) go on every sample.
pub fn to_prometheus(snapshot: &Snapshot, labels: &[(&str, &str)]) -> String {
    let mut text = String::new();
    let mut last_name = "";
    for metric in TABLE {
        if metric.name != last_name {
            let (name, help) = (metric.name, family_help(metric));
            let kind = metric.kind.prometheus_type();
            // Writing to a string can't fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            last_name = name;
        }
        text.push_str(metric.name);
        let own = metric.label.into_iter();
        for (index, (key, value)) in labels.iter().copied().chain(own).enumerate() {
            let mark = if index == 0 { '{' } else { ',' };
            let _ = write!(text, "{mark}{key}=\"{}\"", escape_label(value));
        }
        if !labels.is_empty() || metric.label.is_some() {
            text.push('}');
        }
        let value = (metric.read)(snapshot);
        let _ = match metric.unit {
            Unit::Seconds => writeln!(text, " {}", Duration::from_nanos(value).as_secs_f64()),
            _ => writeln!(text, " {value}"),
        };
    }
    text
}

/// The sentence of a family whose members differ by a label.
fn family_help(metric: &Metric) -> &'static str {
    match metric.label {
        Some(("stage", _)) => "Time spent per stage, in seconds",
        Some(("wait", _)) => "Time lost waiting, in seconds",
        _ => metric.help,
    }
}

fn escape_label(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prometheus_text_names_type_labels_and_seconds() {
        let snapshot = Snapshot {
            rows_read: 336_776,
            fetch_nanos: 1_500_000_000,
            ..Snapshot::default()
        };
        let text = to_prometheus(&snapshot, &[("job", "a\"b\\c\n"), ("replica", "0")]);
        let family = "# HELP floe_rows_read_total Rows decoded from Parquet\n\
                      # TYPE floe_rows_read_total counter\n\
                      floe_rows_read_total{job=\"a\\\"b\\\\c\\n\",replica=\"0\"} 336776\n";
        assert!(text.contains(family), "{text}");
        assert!(text.contains(
            "floe_stage_seconds_total{job=\"a\\\"b\\\\c\\n\",replica=\"0\",stage=\"fetch\"} 1.5\n"
        ));
        let bare = to_prometheus(&snapshot, &[]);
        assert!(bare.contains("\nfloe_rows_read_total 336776\n"), "{bare}");
        assert_eq!(bare.matches("# TYPE floe_stage_seconds_total").count(), 1);
        assert_eq!(
            bare.lines().filter(|line| !line.starts_with('#')).count(),
            TABLE.len()
        );
    }
}
