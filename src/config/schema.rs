//! The JSON schema of the job file, generated from [`JobFile`].
//!
//! The inlined form drives the check of every document and its messages, and the tables of the docs; the published
//! form (`spec/job.schema.json`, for editors) adds the aliases and drops nothing.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

use crate::config::aliases::ALIASES;
use crate::config::job_file::JobFile;

/// Marks a key that is accepted and does nothing; its value says why.
pub const NO_EFFECT: &str = "x-no-effect";

/// Marks a key that this version refuses when it asks for something; its value says so.
pub const NOT_YET: &str = "x-not-yet";

/// What a key takes, in words, where types and limits do not say it well.
pub const TAKES: &str = "x-takes";

static INLINE: LazyLock<Value> = LazyLock::new(|| {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings
        .into_generator()
        .into_root_schema_for::<JobFile>()
        .to_value();
    unwrap_lines(&mut schema);
    schema
});

/// The schema of a document in which aliases have been moved to their sections; no `$ref` in it.
pub fn inline_schema() -> &'static Value {
    &INLINE
}

/// The published JSON schema (draft 2020-12): every key with its documentation, and the older flat keys as
/// deprecated aliases.
pub fn job_schema() -> Value {
    let mut schema = inline_schema().clone();
    for alias in ALIASES {
        let Some(target) = node(alias.to) else {
            continue;
        };
        let mut copy = target.clone();
        if let Some(copy) = copy.as_object_mut() {
            let text = format!("The older name of `{}`.", alias.to);
            copy.insert("description".to_string(), text.into());
            copy.insert("deprecated".to_string(), true.into());
            copy.shift_remove("examples");
        }
        let (section, name) = match alias.from.split_once('.') {
            Some((section, name)) => (Some(section), name),
            None => (None, alias.from),
        };
        let owner = match section {
            Some(section) => schema["properties"].get_mut(section),
            None => Some(&mut schema),
        };
        if let Some(properties) = owner
            .and_then(properties_mut)
            .filter(|properties| !properties.contains_key(name))
        {
            properties.insert(name.to_string(), copy);
        }
    }
    head_first(schema)
}

/// A reader of the file wants to know first what it is.
fn head_first(mut schema: Value) -> Value {
    let mut ordered = Map::new();
    if let Some(all) = schema.as_object_mut() {
        for key in ["$schema", "title", "description"] {
            ordered.extend(all.shift_remove(key).map(|value| (key.to_string(), value)));
        }
        ordered.append(all);
    }
    Value::Object(ordered)
}

/// The node of a key path in the inlined schema, e.g. `inference.num_workers`.
pub fn node(key: &str) -> Option<&'static Value> {
    let mut node = inline_schema();
    for name in key.split('.') {
        node = properties(node)?.get(name)?;
    }
    Some(node)
}

/// The keys of a mapping node, in the order of the documentation; `None` for other nodes.
pub fn properties(node: &Value) -> Option<&Map<String, Value>> {
    alternatives(node)
        .into_iter()
        .find_map(|alternative| alternative.get("properties")?.as_object())
}

fn properties_mut(node: &mut Value) -> Option<&mut Map<String, Value>> {
    if node.get("properties").is_some() {
        return node["properties"].as_object_mut();
    }
    let alternatives = node.get_mut("anyOf")?.as_array_mut()?;
    alternatives.iter_mut().find_map(properties_mut)
}

/// What a node accepts apart from null: itself, or the branches of its `anyOf`.
pub fn alternatives(node: &Value) -> Vec<&Value> {
    match node.get("anyOf").and_then(Value::as_array) {
        Some(branches) => branches
            .iter()
            .flat_map(alternatives)
            .filter(|branch| branch.get("type") != Some(&json!("null")))
            .collect(),
        None => vec![node],
    }
}

/// Whether a node accepts null.
pub fn is_nullable(node: &Value) -> bool {
    let null = json!("null");
    match (node.get("anyOf").and_then(Value::as_array), node.get("type")) {
        (Some(branches), _) => branches.iter().any(is_nullable),
        (None, Some(Value::Array(types))) => types.contains(&null),
        (None, Some(only)) => *only == null,
        // A node that says nothing about types, e.g. of a `Value`.
        (None, None) => node.get("oneOf").is_none() && node.get("enum").is_none(),
    }
}

/// The words of an enumeration node, with their documentation.
pub fn words(node: &Value) -> Vec<(&str, &str)> {
    if let Some(words) = node.get("enum").and_then(Value::as_array) {
        return words
            .iter()
            .filter_map(|word| Some((word.as_str()?, "")))
            .collect();
    }
    let branches = node.get("oneOf").and_then(Value::as_array);
    let branches = branches.into_iter().flatten();
    branches
        .filter_map(|branch| {
            let word = branch.get("const")?.as_str()?;
            let text = branch.get("description").and_then(Value::as_str);
            Some((word, text.unwrap_or_default()))
        })
        .collect()
}

/// Line breaks inside a paragraph of a doc comment are the source's, not the reader's.
fn unwrap_lines(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(text) if key == "description" => {
                        let paragraphs: Vec<String> = text
                            .split("\n\n")
                            .map(|paragraph| paragraph.replace('\n', " "))
                            .collect();
                        *text = paragraphs.join("\n\n");
                    }
                    other => unwrap_lines(other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(unwrap_lines),
        _ => {}
    }
}
