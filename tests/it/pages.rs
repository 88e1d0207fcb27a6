//! What the pages show in YAML or JSON is what the program takes: job files, or parts of one, and model cards.

use floe::config::document;
use floe::config::overrides::{Environment, Overrides};
use floe::config::resolve::resolve;
use floe::model::card;

use crate::support::project;

/// The blocks of a page that are documents; other JSON is what the program writes.
fn documents(page: &str) -> Vec<&str> {
    let blocks = page.split("```").skip(1).step_by(2);
    let split = blocks.filter_map(|block| block.split_once('\n'));
    split
        .filter(|(language, text)| {
            *language == "yaml" || (*language == "json" && text.contains("stage_location"))
        })
        .map(|(_, text)| text)
        .collect()
}

/// What a part of a job leaves out, as flags.
fn rest_of(text: &str) -> Overrides {
    let document = document::parse(text, "page").unwrap();
    let missing = |section: &str, key: &str, flat: &str, value: &str| {
        let within = document.get(section).and_then(|section| section.get(key));
        (within.is_none() && !document.contains_key(flat)).then(|| value.to_string())
    };
    let output_base = missing("output", "base_stage_location", "base_stage_location", "");
    Overrides {
        model: missing("model", "location", "model", "m"),
        input: missing("input", "stage_location", "input_stage_location", "in"),
        output: missing("output", "stage_location", "output_stage_location", "out")
            .and(output_base.map(|_| "out".into())),
        ..Overrides::default()
    }
}

#[test]
fn every_document_on_the_pages_is_a_job_or_a_model_card() {
    let docs = std::fs::read_dir(project().join("docs")).unwrap();
    let pages = docs
        .map(|entry| entry.unwrap().path())
        .chain([project().join("README.md")]);
    let (mut jobs, mut cards) = (0, 0);
    for page in pages.filter(|path| path.extension().is_some_and(|ending| ending == "md")) {
        let text = std::fs::read_to_string(&page).unwrap();
        for document in documents(&text) {
            if document.starts_with("functions:") {
                card::parse(document.as_bytes())
                    .unwrap_or_else(|error| panic!("{}: {error}\n{document}", page.display()));
                cards += 1;
            } else {
                resolve(
                    Some((document, "page")),
                    &rest_of(document),
                    &Environment::default(),
                )
                .unwrap_or_else(|error| panic!("{}: {error}\n{document}", page.display()));
                jobs += 1;
            }
        }
    }
    assert!(jobs >= 15 && cards >= 5, "{jobs} jobs, {cards} cards");
}
