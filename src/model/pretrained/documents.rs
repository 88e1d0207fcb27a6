//! JSON and YAML of a model's folder: bounded in size, depth and aliases, with the file's name in every error, and the
//! paths in them, which may not lead out of the folder.

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::config::document::kind_of;
use crate::error::{Error, Result};
use crate::model::ModelFiles;

/// Longest YAML that is parsed: a signature of thousands of columns fits.
const MAX_YAML_BYTES: usize = 16 << 20;

/// The JSON object in the file, if there is the file.
///
/// # Errors
/// `Model`, for a file that is something else.
pub fn json_object(files: &ModelFiles, path: &str) -> Result<Option<Map<String, Value>>> {
    let Some(bytes) = files.files.get(path) else {
        return Ok(None);
    };
    match parse(bytes).map_err(|error| error.with("file", path))? {
        Value::Object(object) => Ok(Some(object)),
        other => Err(not_an_object(&other).with("file", path)),
    }
}

/// The JSON list in the file, if there is the file.
///
/// # Errors
/// `Model`, for a file that is something else.
pub fn json_list(files: &ModelFiles, path: &str) -> Result<Option<Vec<Value>>> {
    let Some(bytes) = files.files.get(path) else {
        return Ok(None);
    };
    match parse(bytes).map_err(|error| error.with("file", path))? {
        Value::Array(items) => Ok(Some(items)),
        other => Err(Error::model(format!("{} given, a list expected", kind_of(&other))).with("file", path)),
    }
}

/// serde_json goes 128 levels deep and no deeper.
fn parse(bytes: &Bytes) -> Result<Value> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    serde_json::from_slice(bytes)
        .map_err(|cause| Error::model("the file is no JSON, or cut off").with_source(cause))
}

/// The YAML mapping in the file, if there is the file.
///
/// # Errors
/// `Model`, for a file that is something else, too long, too deep, or full of aliases.
pub fn yaml_mapping(files: &ModelFiles, path: &str) -> Result<Option<Map<String, Value>>> {
    let Some(bytes) = files.files.get(path) else {
        return Ok(None);
    };
    mapping(bytes).map(Some).map_err(|error| error.with("file", path))
}

fn mapping(bytes: &Bytes) -> Result<Map<String, Value>> {
    if bytes.len() > MAX_YAML_BYTES {
        return Err(Error::model(format!(
            "{} bytes given, at most {MAX_YAML_BYTES} allowed",
            bytes.len()
        )));
    }
    let text =
        std::str::from_utf8(bytes).map_err(|cause| Error::model("the file is no text").with_source(cause))?;
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 32,
            flow_nesting_limit: 32,
            max_anchors: 100,
            max_aliases: 100,
            max_nodes: 1_000_000,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 50_000,
        },
        with_snippet: false,
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match serde_saphyr::from_str_with_options(text, options) {
        Ok(Value::Object(document)) => Ok(document),
        Ok(other) => Err(not_an_object(&other)),
        Err(cause) => {
            let cause = cause.to_string().replace('\n', " ");
            let cause: String = cause.chars().take(300).collect();
            Err(Error::model(format!("the file is no YAML: {cause}")))
        }
    }
}

fn not_an_object(value: &Value) -> Error {
    Error::model(format!("{} given, a mapping expected", kind_of(value)))
}

/// A text of a document; null and absence are none.
///
/// # Errors
/// `Model`, for a value of another sort.
pub fn text<'a>(object: &'a Map<String, Value>, key: &str) -> Result<Option<&'a str>> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(Error::model(format!(
            "{key}: {} given, a text expected",
            kind_of(other)
        ))),
    }
}

/// A count of a document; null and absence are none.
///
/// # Errors
/// `Model`, for a value of another sort, and zero.
pub fn count(object: &Map<String, Value>, key: &str) -> Result<Option<usize>> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64().and_then(|count| usize::try_from(count).ok()) {
            Some(count) if count > 0 => Ok(Some(count)),
            _ => Err(Error::model(format!(
                "{key}: {} given, a positive count expected",
                shown(value)
            ))),
        },
    }
}

/// A flag of a document; null and absence are none.
///
/// # Errors
/// `Model`, for a value of another sort.
pub fn flag(object: &Map<String, Value>, key: &str) -> Result<Option<bool>> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(other) => Err(Error::model(format!(
            "{key}: {} given, true or false expected",
            kind_of(other)
        ))),
    }
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.chars().count() {
        0..=40 => text,
        _ => format!("{} …", text.chars().take(40).collect::<String>()),
    }
}

/// `path`, which a document in the folder `root` names, as one among the model's files; without a `/` at its end.
///
/// # Errors
/// `Model`, for a path that leads out of the folder.
pub fn within(root: &str, path: &str) -> Result<String> {
    let path = path.trim_end_matches('/');
    let leads_out = path.starts_with('/')
        || path.contains(['\\', '\0', ':'])
        || path.split('/').any(|part| part == ".." || part == ".");
    let is_odd = !path.is_empty() && path.split('/').any(str::is_empty);
    if leads_out || is_odd {
        return Err(Error::model(format!(
            "{} given, the path of something in the folder expected",
            shown(&Value::String(path.to_string()))
        ))
        .with_hint("the folder was not written by the library; nothing outside of it is read"));
    }
    Ok(format!("{root}{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(content: &'static [u8]) -> ModelFiles {
        ModelFiles {
            location: "m".into(),
            files: [("f".to_string(), Bytes::from_static(content))].into(),
        }
    }

    #[test]
    fn paths_that_lead_out_of_the_folder_are_refused() {
        for path in [
            "..",
            "../x",
            "a/../../x",
            "/etc/passwd",
            "a\\..\\x",
            "C:x",
            "./x",
            "a//b",
            "a\0",
        ] {
            assert!(within("m/", path).is_err(), "{path}");
        }
        assert_eq!(within("m/", "1_Pooling/").unwrap(), "m/1_Pooling");
        assert_eq!(within("", "").unwrap(), "");
    }

    #[test]
    fn documents_of_another_sort_are_refused_with_their_name() {
        for content in [&b"[1]"[..], b"{", b"\xff", b"1"] {
            let error = json_object(&files(content), "f").unwrap_err().to_string();
            assert!(error.contains("file f"), "{error}");
        }
        assert!(json_list(&files(b"{}"), "f").is_err());
        assert!(json_object(&files(b"{}"), "g").unwrap().is_none());
    }

    #[test]
    fn yaml_that_grows_or_nests_without_end_is_refused() {
        let laughs = "a: &a [x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a]\nc: &c [*b, *b, *b, *b, *b, *b, *b, *b]\n\
                      d: &d [*c, *c, *c, *c, *c, *c, *c, *c]\ne: &e [*d, *d, *d, *d, *d, *d, *d, *d]\nf: [*e, *e, *e, *e, *e, *e, *e, *e]\n";
        let deep = format!("a: {}", "[".repeat(200));
        for text in [laughs.to_string(), deep, "- 1".into(), "a: b: c".into()] {
            let content = ModelFiles {
                location: "m".into(),
                files: [("f".to_string(), Bytes::from(text))].into(),
            };
            let error = yaml_mapping(&content, "f").unwrap_err().to_string();
            assert!(error.contains("file f") && error.len() < 1000, "{error}");
        }
        let read = yaml_mapping(&files(b"a: {b: [1, null]}"), "f").unwrap().unwrap();
        assert_eq!(read["a"]["b"][0], 1);
    }
}
