//! The rows of a `LIST` statement: the files of a stage.
//!
//! The first rows come with the answer, the others in pieces behind signed URLs, each a list of rows without its
//! brackets. Snowflake names a file by the stage's own name, in small letters, and its path.

use std::collections::HashMap;
use std::time::Duration;

use reqwest::Method;
use reqwest::header::HeaderName;
use serde_json::Value;

use super::dates::http_date;
use super::name::StagePath;
use super::secret::Secret;
use super::session::{Answer, Session};
use crate::error::{Error, Result};

/// A file as `LIST` shows it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// From the stage's root.
    pub(super) path: String,
    pub(super) size: u64,
    pub(super) md5: String,
    /// Since 1970.
    pub(super) modified: Duration,
}

/// The files whose paths begin as `stage`'s; `is_folder`: only those below it.
///
/// # Errors
/// `Storage`.
pub(super) async fn list(session: &Session, stage: &StagePath, is_folder: bool) -> Result<Vec<Row>> {
    let answer = session.run(&format!("LIST {}", stage.to_sql(is_folder))).await?;
    let columns = Columns::of(&answer).ok_or_else(|| odd(stage, "its columns are unknown"))?;
    let mut rows = Vec::new();
    if let Some(first) = answer.data.get("rowset").and_then(Value::as_array) {
        columns.read(first, stage, &mut rows)?;
    } else if answer
        .data
        .get("rowsetBase64")
        .and_then(Value::as_str)
        .is_some_and(|rows| !rows.is_empty())
    {
        return Err(odd(stage, "its rows are Arrow"));
    }
    let pieces = answer.data.get("chunks").and_then(Value::as_array);
    let headers = piece_headers(&answer.data);
    for piece in pieces.into_iter().flatten() {
        let url = piece
            .get("url")
            .and_then(Value::as_str)
            .ok_or_else(|| odd(stage, "a piece has no URL"))?;
        let response = session
            .wire()
            .follow(&Method::GET, &Secret::new(url), &headers, None)
            .await?;
        let lost = || odd(stage, "a piece of it can't be read");
        if !response.status().is_success() {
            return Err(lost());
        }
        let body = response
            .bytes()
            .await
            .map_err(|error| lost().with_source(error.without_url()))?;
        let text = [&b"["[..], &body, b"]"].concat();
        let piece: Vec<Value> = serde_json::from_slice(&text).map_err(|_| lost())?;
        columns.read(&piece, stage, &mut rows)?;
    }
    Ok(rows)
}

/// What the URLs of pieces want in their headers: as the answer says, or the key that the pieces are encrypted with.
fn piece_headers(data: &Value) -> Vec<(HeaderName, String)> {
    let given = data.get("chunkHeaders").and_then(Value::as_object);
    if let Some(given) = given {
        let header = |(name, value): (&String, &Value)| {
            Some((name.parse::<HeaderName>().ok()?, value.as_str()?.to_string()))
        };
        return given.iter().filter_map(header).collect();
    }
    match data.get("qrmk").and_then(Value::as_str) {
        Some(key) => [
            ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
            ("x-amz-server-side-encryption-customer-key", key),
        ]
        .map(|(name, value)| (HeaderName::from_static(name), value.to_string()))
        .to_vec(),
        None => Vec::new(),
    }
}

struct Columns(HashMap<String, usize>);

impl Columns {
    fn of(answer: &Answer) -> Option<Columns> {
        let types = answer.data.get("rowtype")?.as_array()?;
        let name = |(index, column): (usize, &Value)| {
            Some((
                column.get("name")?.as_str()?.trim_matches('"').to_lowercase(),
                index,
            ))
        };
        Some(Columns(types.iter().enumerate().filter_map(name).collect()))
    }

    fn read(&self, values: &[Value], stage: &StagePath, rows: &mut Vec<Row>) -> Result<()> {
        for value in values {
            let row = self
                .row(value, stage)
                .ok_or_else(|| odd(stage, "a row of it makes no sense"))?;
            rows.push(row);
        }
        Ok(())
    }

    fn row(&self, value: &Value, stage: &StagePath) -> Option<Row> {
        let text = |name: &str| value.get(*self.0.get(name)?);
        let size = match text("size")? {
            Value::String(size) => size.parse().ok()?,
            size => size.as_u64()?,
        };
        Some(Row {
            path: within(text("name")?.as_str()?, &stage.listing_prefix()).to_string(),
            size,
            md5: text("md5")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_string(),
            modified: text("last_modified")
                .and_then(|date| http_date(date.as_str()?))
                .unwrap_or_default(),
        })
    }
}

/// A listed name without the stage's own.
fn within<'a>(name: &'a str, prefix: &str) -> &'a str {
    match name.get(..prefix.len()) {
        Some(begin) if begin.to_lowercase() == prefix => &name[prefix.len()..],
        _ => name,
    }
}

fn odd(stage: &StagePath, why: &str) -> Error {
    Error::storage(format!("Snowflake's listing can't be used: {why}")).with("location", stage)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn answer(rows: Value) -> Answer {
        let data = json!({
            "rowtype": [{"name": "name"}, {"name": "size"}, {"name": "md5"}, {"name": "last_modified"}],
            "rowset": rows,
        });
        Answer { data, date: None }
    }

    #[test]
    fn rows_are_named_from_the_stages_root() {
        let stage = StagePath::parse("@db.s.\"My St\"/in").unwrap();
        let answer = answer(json!([[
            "my st/in/a.parquet",
            "12",
            "aa",
            "Fri, 7 Jun 2019 17:47:29 GMT"
        ]]));
        let mut rows = Vec::new();
        let values = answer.data["rowset"].as_array().unwrap();
        Columns::of(&answer)
            .unwrap()
            .read(values, &stage, &mut rows)
            .unwrap();
        let modified = Duration::from_secs(1_559_929_649);
        let expected = Row {
            path: "in/a.parquet".into(),
            size: 12,
            md5: "aa".into(),
            modified,
        };
        assert_eq!(rows, [expected]);
        assert_eq!(
            within("in/a", &StagePath::parse("@~").unwrap().listing_prefix()),
            "in/a"
        );
    }

    #[test]
    fn a_row_that_makes_no_sense_is_no_file() {
        let stage = StagePath::parse("@s").unwrap();
        for row in [
            json!(["s/a"]),
            json!(["s/a", "many", "", ""]),
            json!([1, 2, 3, 4]),
            json!("s/a"),
        ] {
            let answer = answer(json!([row]));
            let values = answer.data["rowset"].as_array().unwrap();
            let error = Columns::of(&answer)
                .unwrap()
                .read(values, &stage, &mut Vec::new())
                .unwrap_err();
            assert!(error.to_string().contains("makes no sense"), "{error}");
        }
    }
}
