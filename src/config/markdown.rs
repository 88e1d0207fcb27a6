//! The reference part of `docs/job-file.md`, generated from the schema.
//!
//! One table per section with what each key takes, its default, meaning and examples; then the keys without effect,
//! those that this version refuses, and the aliases. A test compares the page with this, so nobody has to remember.

use serde_json::{Map, Value};
use std::fmt::Write;

use crate::config::aliases::ALIASES;
use crate::config::check::allowed;
use crate::config::overrides::flag_of;
use crate::config::schema::{NO_EFFECT, NOT_YET, alternatives, inline_schema, properties, words};

/// The reference tables, Markdown, from `### ` headings down; ends with a line break.
pub fn job_file_markdown() -> String {
    let mut page = String::new();
    let Some(top) = properties(inline_schema()) else {
        return page;
    };
    table(&mut page, "Top level", "", "", top);
    for (name, node) in top {
        if let (Some(keys), false) = (properties(node), is_marked(node)) {
            table(&mut page, &format!("`{name}`"), description(node), name, keys);
        }
    }
    marked(&mut page, "Keys without effect", NO_EFFECT, top);
    marked(&mut page, "Keys that are not in this version", NOT_YET, top);
    aliases(&mut page);
    page
}

fn table(page: &mut String, title: &str, text: &str, section: &str, keys: &Map<String, Value>) {
    let mut rows = String::new();
    for (name, node) in keys {
        let is_section = properties(node).is_some();
        if is_marked(node) || is_section {
            continue;
        }
        let (meaning, default) = split_default(description(node));
        let path = if section.is_empty() {
            name.clone()
        } else {
            format!("{section}.{name}")
        };
        let flag = flag_of(&path).map_or(String::new(), |flag| format!("<br>`{flag}`"));
        line(
            &mut rows,
            &[
                &format!("`{name}`{flag}"),
                &allowed(node),
                &default,
                &format!("{meaning}{}{}", meanings(node), examples(node)),
            ],
        );
    }
    let text = if text.is_empty() {
        String::new()
    } else {
        format!("{text}\n\n")
    };
    push(
        page,
        &format!(
            "### {title}\n\n{text}| key, flag | takes | default | meaning |\n|---|---|---|---|\n{rows}\n"
        ),
    );
}

/// One table of every key that carries `mark`, wherever it is.
fn marked(page: &mut String, title: &str, mark: &str, top: &Map<String, Value>) {
    push(
        page,
        &format!("### {title}\n\n| key | meaning | why |\n|---|---|---|\n"),
    );
    let mut row = |path: &str, node: &Value| {
        if let Some(reason) = node.get(mark).and_then(Value::as_str) {
            line(
                page,
                &[&format!("`{path}`"), &split_default(description(node)).0, reason],
            );
        }
    };
    for (name, node) in top {
        row(name, node);
        for (key, child) in properties(node).into_iter().flatten() {
            row(&format!("{name}.{key}"), child);
        }
    }
    push(page, "\n");
}

fn aliases(page: &mut String) {
    push(page, "### Older names\n\n| older name | same as |\n|---|---|\n");
    for alias in ALIASES {
        line(page, &[&format!("`{}`", alias.from), &format!("`{}`", alias.to)]);
    }
}

fn line(page: &mut String, cells: &[&str]) {
    let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    push(page, &format!("| {} |\n", cells.join(" | ")));
}

fn push(page: &mut String, text: &str) {
    page.write_str(text).expect("writing to a String cannot fail");
}

fn is_marked(node: &Value) -> bool {
    node.get(NO_EFFECT).is_some() || node.get(NOT_YET).is_some()
}

fn description(node: &Value) -> &str {
    let text = node.get("description").and_then(Value::as_str);
    text.unwrap_or_default()
}

/// Meaning and default of a doc comment whose last paragraph is `Default: …` or `Required…`.
fn split_default(description: &str) -> (String, String) {
    let mut meaning = Vec::new();
    let mut default = String::new();
    for paragraph in description.split("\n\n") {
        if let Some(text) = paragraph.strip_prefix("Default: ") {
            default = text.trim_end_matches('.').to_string();
        } else if let Some(text) = paragraph.strip_prefix("Required") {
            default = format!("required{}", text.trim_end_matches('.'));
        } else {
            meaning.push(paragraph);
        }
    }
    (meaning.join(" "), default)
}

fn meanings(node: &Value) -> String {
    let mut text = String::new();
    for (word, meaning) in alternatives(node).into_iter().flat_map(words) {
        push(&mut text, &format!("<br>`{word}`: {meaning}"));
    }
    text
}

fn examples(node: &Value) -> String {
    let listed = node.get("examples").and_then(Value::as_array);
    let listed: Vec<String> = listed
        .into_iter()
        .flatten()
        .map(|example| format!("`{example}`"))
        .collect();
    if listed.is_empty() {
        return String::new();
    }
    format!("<br>Example: {}", listed.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: &str = "<!-- generated from the schema: begin -->\n";
    const END: &str = "<!-- generated from the schema: end -->\n";

    #[test]
    fn the_page_about_the_job_file_agrees_with_the_code() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/job-file.md");
        let page = std::fs::read_to_string(path).unwrap();
        let (before, rest) = page.split_once(BEGIN).expect("the page has a begin marker");
        let (written, after) = rest.split_once(END).expect("the page has an end marker");
        let generated = format!("\n{}\n", job_file_markdown());
        if written == generated {
            return;
        }
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(path, format!("{before}{BEGIN}{generated}{END}{after}")).unwrap();
            return;
        }
        panic!(
            "docs/job-file.md is out of date: run this test with UPDATE_GOLDEN=1, or put this between its markers:\n\
             {generated}"
        );
    }

    #[test]
    fn every_key_that_does_something_says_its_default_and_shows_a_valid_example() {
        let top = properties(inline_schema()).unwrap();
        let mut checked = 0;
        for (section, node) in top {
            let own = Map::from_iter([(section.clone(), node.clone())]);
            let keys = properties(node).filter(|_| !is_marked(node)).unwrap_or(&own);
            for (name, node) in keys.iter().filter(|(_, node)| !is_marked(node)) {
                let (meaning, default) = split_default(description(node));
                assert!(!meaning.is_empty() && !default.is_empty(), "{section}.{name}");
                let examples = node["examples"].as_array().expect(name);
                for example in examples {
                    assert_eq!(
                        crate::config::check::misfit(node, example),
                        None,
                        "{section}.{name}"
                    );
                }
                checked += 1;
            }
        }
        assert!(checked > 25, "{checked}");
    }
}
