//! A document against its schema: every unknown key and every value of the wrong sort, all at once.
//!
//! The schema comes from the types that the document is read into, so a key or limit is written once. A mistake
//! names the key's path, what was given and what is allowed; an unknown key also names the nearest known one, or
//! the section that it belongs to. A document without mistakes here always deserialises.

use serde_json::{Map, Value};

use crate::config::document::kind_of;
use crate::config::faults::Faults;
use crate::config::schema::{NO_EFFECT, NOT_YET, TAKES, alternatives, is_nullable, properties, words};

/// Longest value repeated in a message.
const MAX_GIVEN_CHARS: usize = 60;

/// How alike two keys must be for the one to be offered in place of the other (Jaro-Winkler, 0 to 1).
const ALIKE: f64 = 0.75;

/// Checks `document` against `schema` and adds what is wrong to `faults`. `aliases` are names that are known at the
/// top level although the schema lacks them: they are offered for misspelt keys.
pub fn check(schema: &Value, document: &Map<String, Value>, aliases: &[&str], faults: &mut Faults) {
    let walk = Walk {
        root: schema,
        aliases,
    };
    walk.mapping(schema, document, "", faults);
}

/// Calls `visit(key path, marked reason, value)` for every key of `document` that carries `mark` in the schema and
/// has a value.
pub fn marked(
    schema: &Value,
    document: &Map<String, Value>,
    mark: &str,
    visit: &mut dyn FnMut(&str, &str, &Value),
) {
    visit_marked(schema, document, mark, "", visit);
}

fn visit_marked(
    node: &Value,
    document: &Map<String, Value>,
    mark: &str,
    path: &str,
    visit: &mut dyn FnMut(&str, &str, &Value),
) {
    let Some(known) = properties(node) else {
        return;
    };
    for (name, value) in document.iter().filter(|(_, value)| !value.is_null()) {
        let Some(child) = known.get(name) else {
            continue;
        };
        let key = join(path, name);
        if let Some(reason) = child.get(mark).and_then(Value::as_str) {
            visit(&key, reason, value);
        } else if let Some(section) = value.as_object() {
            visit_marked(child, section, mark, &key, visit);
        }
    }
}

/// `given, allowed` for a value that does not fit `node`; `None` when it fits. Looks at the value alone, not at
/// the keys of a mapping.
pub fn misfit(node: &Value, value: &Value) -> Option<String> {
    let fits = alternatives(node)
        .into_iter()
        .any(|alternative| fits(alternative, value));
    if fits || (value.is_null() && is_nullable(node)) {
        return None;
    }
    let mut text = format!("{} given, {} allowed", given(value), allowed(node));
    if accepts(node, "string") && matches!(value, Value::Number(_) | Value::Bool(_)) {
        text.push_str("; put it in quotes");
    }
    if let Value::String(word) = value
        && let Some(nearest) = nearest(word, words_of(node).into_iter())
    {
        text.push_str(&format!("; the nearest is {nearest}"));
    }
    Some(text)
}

/// What a schema node accepts, as a user would say it.
pub fn allowed(node: &Value) -> String {
    if let Some(takes) = node.get(TAKES).and_then(Value::as_str) {
        return takes.to_string();
    }
    let mut parts: Vec<String> = Vec::new();
    for alternative in alternatives(node) {
        for part in allowed_types(alternative) {
            if !parts.contains(&part) {
                parts.push(part);
            }
        }
    }
    parts.join(" or ")
}

/// A value as a message repeats it: JSON, shortened.
pub fn given(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= MAX_GIVEN_CHARS {
        return text;
    }
    let start: String = text.chars().take(MAX_GIVEN_CHARS).collect();
    format!("{} {start}…", kind_of(value))
}

/// The known word most like `word`, if any is like it at all.
pub fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let folded = word.to_lowercase();
    known
        .map(|candidate| {
            (
                strsim::jaro_winkler(&folded, &candidate.to_lowercase()),
                candidate,
            )
        })
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

struct Walk<'a> {
    root: &'a Value,
    aliases: &'a [&'a str],
}

impl Walk<'_> {
    fn value(&self, node: &Value, value: &Value, path: &str, faults: &mut Faults) {
        if let Some(text) = misfit(node, value) {
            faults.push(path, text);
            return;
        }
        for alternative in alternatives(node) {
            match value {
                Value::Object(map) => self.mapping(alternative, map, path, faults),
                Value::Array(items) => {
                    let Some(item_node) = alternative.get("items") else {
                        continue;
                    };
                    for (index, item) in items.iter().enumerate() {
                        self.value(item_node, item, &format!("{path}[{index}]"), faults);
                    }
                }
                _ => {}
            }
        }
    }

    fn mapping(&self, node: &Value, map: &Map<String, Value>, path: &str, faults: &mut Faults) {
        let known = properties(node);
        let other = node.get("additionalProperties");
        for (name, value) in map {
            let key = join(path, name);
            if let Some(child) = known.and_then(|known| known.get(name)) {
                self.value(child, value, &key, faults);
            } else if let Some(known) = known.filter(|_| other == Some(&Value::Bool(false))) {
                faults.push(key, self.unknown(name, known, path));
            } else if let Some(other) = other.filter(|other| other.is_object()) {
                self.value(other, value, &key, faults);
            }
        }
        let required = node.get("required").and_then(Value::as_array);
        for name in required.into_iter().flatten().filter_map(Value::as_str) {
            if !map.contains_key(name) {
                let needed = known.and_then(|known| known.get(name)).map(allowed);
                let needed = needed.unwrap_or_else(|| "a value".to_string());
                faults.push(join(path, name), format!("nothing given, {needed} needed"));
            }
        }
    }

    fn unknown(&self, name: &str, known: &Map<String, Value>, path: &str) -> String {
        let mut text = String::from("unknown key");
        let aliases = self.aliases.iter().copied().filter(|_| path.is_empty());
        let here = known.keys().map(String::as_str).chain(aliases);
        if let Some(owner) = self.owner_of(name, path) {
            text.push_str(&format!(", it belongs to {owner}"));
        } else if let Some(nearest) = nearest(name, here) {
            text.push_str(&format!(", the nearest is {nearest}"));
        }
        let effective: Vec<&str> = known
            .iter()
            .filter(|(_, node)| node.get(NO_EFFECT).is_none() && node.get(NOT_YET).is_none())
            .map(|(name, _)| name.as_str())
            .collect();
        let listed = match effective.as_slice() {
            [] => known.keys().map(String::as_str).collect(),
            _ => effective,
        };
        let place = if path.is_empty() { "a job file" } else { path };
        text.push_str(&format!("; {place} knows {}", listed.join(", ")));
        text
    }

    /// The section, or the job file itself, that has a key of exactly this name.
    fn owner_of(&self, name: &str, path: &str) -> Option<String> {
        let top = properties(self.root)?;
        if !path.is_empty() && top.contains_key(name) {
            return Some("the top level".to_string());
        }
        let section = top
            .iter()
            .filter(|(section, node)| *section != path && node.get(NO_EFFECT).is_none())
            .find(|(_, node)| properties(node).is_some_and(|keys| keys.contains_key(name)))?;
        Some(section.0.clone())
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_string()
    } else {
        format!("{path}.{name}")
    }
}

/// The `type` of a node as a list; empty when it says nothing.
fn types(node: &Value) -> Vec<&str> {
    match node.get("type") {
        Some(Value::String(only)) => vec![only],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => vec![],
    }
}

fn accepts(node: &Value, wanted: &str) -> bool {
    let is_text = |branch: &Value| types(branch).contains(&wanted) && words(branch).is_empty();
    alternatives(node).into_iter().any(is_text)
}

fn words_of(node: &Value) -> Vec<&str> {
    let branches = alternatives(node).into_iter();
    branches.flat_map(words).map(|(word, _)| word).collect()
}

fn fits(node: &Value, value: &Value) -> bool {
    let words = words(node);
    if !words.is_empty() {
        return words.iter().any(|(word, _)| value.as_str() == Some(word));
    }
    let types = types(node);
    if types.is_empty() {
        return true;
    }
    types.into_iter().any(|wanted| match wanted {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => {
            value.as_i64().is_some_and(|number| in_range(node, number as f64))
                || value.as_u64().is_some_and(|number| in_range(node, number as f64))
        }
        "number" => value.as_f64().is_some_and(|number| in_range(node, number)),
        "string" => value
            .as_str()
            .is_some_and(|text| has_length(node, text.chars().count(), "Length")),
        "array" => value
            .as_array()
            .is_some_and(|items| has_length(node, items.len(), "Items")),
        "object" => value.is_object(),
        _ => false,
    })
}

fn limit(node: &Value, name: &str) -> Option<f64> {
    node.get(name).and_then(Value::as_f64)
}

fn in_range(node: &Value, number: f64) -> bool {
    limit(node, "minimum").is_none_or(|least| number >= least)
        && limit(node, "maximum").is_none_or(|most| number <= most)
}

fn has_length(node: &Value, length: usize, what: &str) -> bool {
    let length = length as f64;
    limit(node, &format!("min{what}")).is_none_or(|least| length >= least)
        && limit(node, &format!("max{what}")).is_none_or(|most| length <= most)
}

fn allowed_types(node: &Value) -> Vec<String> {
    let words = words(node);
    if let Some(((last, _), rest)) = words.split_last() {
        let rest: Vec<&str> = rest.iter().map(|(word, _)| *word).collect();
        return match rest.as_slice() {
            [] => vec![last.to_string()],
            _ => vec![format!("{} or {last}", rest.join(", "))],
        };
    }
    let types = types(node).into_iter().filter(|wanted| *wanted != "null");
    types.map(|wanted| allowed_type(node, wanted)).collect()
}

fn allowed_type(node: &Value, wanted: &str) -> String {
    let range = |noun: &str| match (limit(node, "minimum"), limit(node, "maximum")) {
        (Some(least), Some(most)) => format!("{noun} from {least} to {most}"),
        (Some(least), None) => format!("{noun} of at least {least}"),
        (None, Some(most)) => format!("{noun} of at most {most}"),
        (None, None) => noun.to_string(),
    };
    match wanted {
        "boolean" => "true or false".to_string(),
        "integer" => range("a whole number"),
        "number" => range("a number"),
        "string" => match (limit(node, "minLength"), limit(node, "maxLength")) {
            (_, Some(most)) => format!("text of 1 to {most} characters"),
            (Some(_), None) => "text that is not empty".to_string(),
            (None, None) => "text".to_string(),
        },
        "array" => {
            let items = node.get("items").map(allowed).filter(|items| !items.is_empty());
            let nonempty = limit(node, "minItems").is_some_and(|least| least > 0.0);
            let noun = if nonempty { "a list, not empty," } else { "a list" };
            items.map_or(noun.to_string(), |items| format!("{noun} of {items}"))
        }
        "object" => match properties(node) {
            Some(known) => {
                let names: Vec<&str> = known
                    .iter()
                    .filter(|(_, node)| node.get(NO_EFFECT).is_none() && node.get(NOT_YET).is_none())
                    .map(|(name, _)| name.as_str())
                    .collect();
                format!("a mapping with the keys {}", names.join(", "))
            }
            None => {
                let values = node.get("additionalProperties").map(allowed);
                let values = values.filter(|values| !values.is_empty());
                values.map_or("a mapping".to_string(), |values| {
                    format!("a mapping of names to {values}")
                })
            }
        },
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::aliases::ALIASES;
    use crate::config::job_file::JobFile;
    use crate::config::overrides::{Environment, Overrides, put};
    use crate::config::resolve::resolve;
    use crate::config::schema::inline_schema;
    use proptest::prelude::*;

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-2_i64..20_000_000).prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-2.0..5000.0_f64).prop_map(Value::from),
            prop_oneof!["", "error", "overwrite", "onnx", "fill", "zstd", "1", ".{0,5}"]
                .prop_map(Value::from),
        ];
        leaf.prop_recursive(2, 8, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("[a-z]{1,3}", inner, 0..3)
                    .prop_map(|map| Value::Object(Map::from_iter(map))),
            ]
        })
    }

    /// A document with known keys, mostly at their places, and any values.
    fn any_document() -> impl Strategy<Value = Map<String, Value>> {
        let mut keys = vec!["unknown".to_string(), "inference.unknown".to_string()];
        for (name, node) in properties(inline_schema()).unwrap() {
            keys.push(name.clone());
            for key in properties(node).into_iter().flat_map(Map::keys) {
                keys.extend(std::iter::repeat_n(format!("{name}.{key}"), 3));
            }
        }
        prop::collection::vec((prop::sample::select(keys), any_value()), 0..4).prop_map(|pairs| {
            let mut document = Map::new();
            for (key, value) in pairs {
                put(&mut document, &key, value);
            }
            document
        })
    }

    #[test]
    fn a_key_that_is_needed_and_not_there_is_named() {
        let document =
            serde_json::json!({"input": {"column_handling": {"IMAGE": {"input_format": "full_stage_path"}}}});
        let mut faults = Faults::default();
        check(inline_schema(), document.as_object().unwrap(), &[], &mut faults);
        let [fault] = faults.found() else {
            panic!("{faults:?}")
        };
        assert_eq!(fault.key, "input.column_handling.IMAGE.convert_to");
        assert!(fault.text.starts_with("nothing given, "), "{}", fault.text);
        assert!(fault.text.ends_with(" needed"), "{}", fault.text);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn a_document_without_faults_always_deserialises(document in any_document()) {
            let mut faults = Faults::default();
            check(inline_schema(), &document, &[], &mut faults);
            let parsed = serde_json::from_value::<JobFile>(Value::Object(document));
            if faults.is_empty() {
                prop_assert!(parsed.is_ok(), "{:?}", parsed);
            }
        }

        #[test]
        fn no_document_makes_resolving_panic(document in any_document(), alias in 0..ALIASES.len(), value in any_value()) {
            let mut document = document;
            put(&mut document, ALIASES[alias].from, value);
            let text = Value::Object(document).to_string();
            if let Err(error) = resolve(Some((&text, "job")), &Overrides::default(), &Environment::default()) {
                prop_assert_eq!(error.kind(), crate::error::ErrorKind::Config);
            }
        }
    }
}
