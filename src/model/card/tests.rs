//! Cards as people write them, right and wrong.

use super::*;

fn refused(text: &str) -> String {
    parse(text.as_bytes()).unwrap_err().to_string()
}

#[test]
fn a_full_card_is_read_in_the_order_of_its_text() {
    let card = parse(
        b"name: pets
description: what is in the picture
functions:
  predict:
    model: pets.onnx
    inputs:
      pixels: {column: image, scale: 0.5, offset: -1}
      age: {columns: [b, a], on_null: fill, fill_value: -1.5}
    outputs:
      logits: {name: pet, activation: softmax, select: argmax, labels: [cat, dog, no]}
      embedding:
  embed:
    model: pets.onnx
    outputs: [embedding]
",
    )
    .unwrap();
    let functions = card.functions.unwrap();
    assert_eq!(functions.keys().collect::<Vec<_>>(), ["predict", "embed"]);
    let predict = functions.get("predict").unwrap();
    let inputs = predict.inputs.as_ref().unwrap();
    assert_eq!(inputs.keys().collect::<Vec<_>>(), ["pixels", "age"]);
    assert_eq!(inputs.get("pixels").unwrap().affine(), (0.5, -1.0));
    assert_eq!(inputs.get("age").unwrap().on_null(), Some(OnNull::Fill(-1.5)));
    let Some(OutputsCard::Each(outputs)) = &predict.outputs else {
        panic!("a mapping")
    };
    let logits = outputs.get("logits").unwrap().as_ref().unwrap();
    assert_eq!(logits.select, Some(Select::Argmax));
    assert_eq!(logits.labels.as_deref().unwrap(), ["cat", "dog", "no"]);
    assert_eq!(outputs.get("embedding"), Some(&None));
    let embed = functions.get("embed").unwrap();
    assert_eq!(embed.outputs, Some(OutputsCard::Names(vec!["embedding".into()])));
}

#[test]
fn an_empty_card_says_nothing() {
    assert_eq!(parse(b"").unwrap(), Card::default());
    assert_eq!(parse(b"# later\n").unwrap(), Card::default());
}

#[test]
fn mistakes_name_the_key_what_was_given_and_what_is_allowed() {
    for (text, parts) in [
        (
            "functions: {p: {inputs: {x: {on_nul: nan}}}}",
            &["functions.p.inputs.x.on_nul: unknown key", "on_null"][..],
        ),
        (
            "functions: {p: {modle: a}}",
            &["functions.p.modle: unknown key", "model"],
        ),
        ("function: {}", &["function: unknown key", "functions"]),
        (
            "functions: {p: {outputs: {y: {activation: softmx}}}}",
            &["softmx", "none, softmax or sigmoid", "the nearest is softmax"],
        ),
        (
            "functions: {p: {outputs: {y: {nam: z}}}}",
            &["functions.p.outputs.y.nam: unknown key"],
        ),
        (
            "functions: {p: {outputs: {y: {select: argmax, labels: [0, 1]}}}}",
            &["labels[0]: 0 given", "put it in quotes"],
        ),
        (
            "functions: {p: {outputs: 3}}",
            &["functions.p.outputs: 3 given", "list", "mapping"],
        ),
        (
            "functions: {p: {inputs: {x: {scale: wide}}}}",
            &["scale: \"wide\" given, a number allowed"],
        ),
        (
            "functions: {p: {inputs: {x: {columns: []}}}}",
            &["columns: [] given, a list, not empty, of text allowed"],
        ),
        ("functions: [p]", &["functions: [\"p\"] given, a mapping"]),
        ("[p]", &["floe.yaml: not a model card: a list given"]),
        ("functions: [predict: {", &["floe.yaml: not a model card: "]),
        (
            "a: 1\na: 2",
            &["floe.yaml: not a model card: duplicate mapping key: a at line 2"],
        ),
    ] {
        let error = refused(text);
        for part in parts {
            assert!(error.contains(part), "{text}\ngave {error}\nwithout {part}");
        }
    }
}

#[test]
fn contradictions_are_found() {
    for (text, part) in [
        (
            "functions: {p: {inputs: {x: {column: a, columns: [b]}}}}",
            "column and columns given",
        ),
        (
            "functions: {p: {inputs: {x: {on_null: fill}}}}",
            "fill_value: nothing given",
        ),
        (
            "functions: {p: {inputs: {x: {on_null: nan, fill_value: 1}}}}",
            "only with on_null: fill",
        ),
        (
            "functions: {p: {inputs: {x: {fill_value: 1}}}}",
            "only with on_null: fill",
        ),
        (
            "functions: {p: {outputs: {y: {labels: [a]}}}}",
            "only with select: argmax",
        ),
        (
            "functions: {p: {outputs: {y: {score: s}}}}",
            "y.score: a name given, and it has a meaning only with select: argmax",
        ),
        (
            "functions: {p: {outputs: {y: {select: argmax, score: y}}}}",
            "y.score: the name of the first column given",
        ),
        (
            "functions: {p: {outputs: [a, b, a]}}",
            "outputs[2]: a is given twice",
        ),
        (
            "functions: {p: {outputs: []}}",
            "functions.p.outputs: nothing given",
        ),
        ("functions: {}", "functions: nothing given"),
    ] {
        let error = refused(text);
        assert!(error.contains(part), "{text}\ngave {error}");
    }
}

#[test]
fn several_mistakes_are_listed_at_once() {
    let error = refused("functions: {p: {modl: a, input: {}}}");
    assert!(
        error.starts_with("floe.yaml has 2 mistakes:\n  functions.p.modl: "),
        "{error}"
    );
}

#[test]
fn the_cards_and_keys_of_the_docs_are_those_of_the_program() {
    let docs = include_str!("../../../docs/models.md");
    let cards: Vec<&str> = docs
        .split("```yaml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert!(cards.len() >= 4, "{} cards", cards.len());
    for card in cards {
        let parsed = parse(card.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{card}"));
        assert!(parsed.functions.is_some(), "{card}");
    }
    fn keys(node: &Value, found: &mut Vec<String>) {
        for (name, child) in node.as_object().into_iter().flatten() {
            if name == "properties" {
                found.extend(
                    child
                        .as_object()
                        .into_iter()
                        .flatten()
                        .map(|(key, _)| key.clone()),
                );
            }
            keys(child, found);
        }
        node.as_array()
            .into_iter()
            .flatten()
            .for_each(|child| keys(child, found));
    }
    let mut known = Vec::new();
    keys(&SCHEMA, &mut known);
    assert!(known.len() >= 15, "{known:?}");
    for key in known {
        let told = [
            format!("`.{key}`"),
            format!(".{key}.<"),
            format!("`{key}`"),
            format!("`{key}.<"),
        ];
        assert!(
            told.iter().any(|told| docs.contains(told)),
            "{key} is missing in docs/models.md"
        );
    }
}

#[test]
fn the_schema_documents_every_key() {
    fn check(node: &Value, path: &str) {
        for (name, child) in node
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            assert!(child.get("description").is_some(), "{path}.{name}");
            check(child, &format!("{path}.{name}"));
        }
        for inner in ["anyOf", "additionalProperties"] {
            match &node.get(inner) {
                Some(Value::Array(branches)) => branches.iter().for_each(|branch| check(branch, path)),
                Some(branch) => check(branch, path),
                None => {}
            }
        }
    }
    let schema = card_schema();
    assert_eq!(schema["title"], "Floe model card");
    check(&schema, "");
    let predict = &schema["properties"]["functions"];
    assert!(predict.to_string().contains("softmax"));
}

#[test]
fn an_image_needs_no_numbers_and_contradictions_are_named() {
    let card = parse(b"functions: {f: {inputs: {x: {column: photo, image: {}}}}}").unwrap();
    let functions = card.functions.unwrap();
    let input = functions
        .get("f")
        .unwrap()
        .inputs
        .as_ref()
        .unwrap()
        .get("x")
        .unwrap();
    assert_eq!(input.image, Some(ImageCard::default()));
    for (image, words) in [
        ("{image: {}, scale: 2}", "inputs.x.scale: given beside image"),
        (
            "{image: {size: [1, 1], shortest_edge: 2}}",
            "inputs.x.image.size: size and shortest_edge",
        ),
        ("{image: {std: [1, 0, 1]}}", "inputs.x.image.std: 0 given"),
        ("{image: {std: [1, 1]}}", "image.std"),
        ("{image: {size: [0, 1]}}", "image.size"),
        ("{image: {resample: cubic}}", "image.resample"),
    ] {
        let text = refused(&format!("functions: {{f: {{inputs: {{x: {image}}}}}}}"));
        assert!(text.contains(words), "{text}");
    }
}
