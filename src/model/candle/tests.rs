//! Batches of texts without their padding, against the same batches with it and each text alone, for every family of texts.

use proptest::prelude::*;
use std::path::Path;

use super::texts::Texts;
use super::*;
use crate::model::pretrained;

/// Each family with each kind of head, by fixture.
const FIXTURES: &[&str] = &[
    "bert-fill-mask",
    "bert-text-classification",
    "distilbert-question-answering",
    "distilbert-token-classification",
    "jina-feature-extraction",
    "modernbert-fill-mask",
    "modernbert-text-classification",
    "modernbert-token-classification",
    "mpnet-fill-mask",
    "mpnet-text-classification",
    "nomic-feature-extraction",
    "roberta-question-answering",
    "roberta-regression",
    "st-bert",
    "st-jina",
    "st-modernbert-last",
    "st-mpnet",
    "st-nomic",
    "xlm-roberta-token-classification",
];

fn files(fixture: &str) -> ModelFiles {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/pretrained")
        .join(fixture)
        .join("model");
    let mut files = ModelFiles::default();
    collect(&folder, "", &mut files);
    files
}

fn opened(fixture: &str) -> (Box<dyn Family>, i64) {
    let files = files(fixture);
    let pretrained = pretrained::find(&files, None).unwrap().unwrap();
    let checkpoint = Checkpoint::open(&files, &pretrained).unwrap();
    let words = pretrained.config["vocab_size"].as_i64().unwrap();
    let family = family(&pretrained, checkpoint.weights(DType::F32, &Device::Cpu)).unwrap();
    (family, words)
}

fn collect(folder: &Path, prefix: &str, files: &mut ModelFiles) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{prefix}{}", path.file_name().unwrap().to_str().unwrap());
        match path.is_dir() {
            true => collect(&path, &format!("{name}/"), files),
            false => drop(files.files.insert(name, std::fs::read(&path).unwrap().into())),
        }
    }
}

fn inputs(texts: &[Vec<i64>], padding: i64, is_ragged: bool) -> Inputs {
    let longest = texts.iter().map(Vec::len).max().unwrap();
    let named = |name: &str, of: &dyn Fn(i64) -> i64, filler: i64| {
        let row = |text: &Vec<i64>| {
            let tokens = text.iter().map(|id| of(*id));
            let padded = tokens.chain(std::iter::repeat_n(filler, longest - text.len()));
            padded.collect::<Vec<i64>>()
        };
        let values: Vec<i64> = texts.iter().flat_map(row).collect();
        Named {
            name: name.into(),
            tensor: tensor::Tensor::new(vec![texts.len(), longest], values).unwrap(),
        }
    };
    Inputs {
        named: vec![
            named("input_ids", &|id| id, padding),
            named("attention_mask", &|_| 1, 0),
            named("token_type_ids", &|_| 0, 0),
        ],
        device: Device::Cpu,
        dtype: DType::F32,
        is_ragged,
    }
}

/// What the family says about each text, padding left out.
fn answers(family: &dyn Family, inputs: &Inputs, texts: &[Vec<i64>]) -> Vec<Vec<f32>> {
    let longest = texts.iter().map(Vec::len).max().unwrap();
    let mut answers = vec![Vec::new(); texts.len()];
    for (name, tensor) in family.forward(inputs).unwrap() {
        let numbers = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let is_by_token = tensor.dims().len() == 3 || name != "logits";
        assert_eq!(tensor.dims()[0], texts.len());
        assert!(!is_by_token || tensor.dims()[1] == longest);
        let size = numbers.len() / texts.len();
        for (row, (answer, text)) in answers.iter_mut().zip(texts).enumerate() {
            let used = if is_by_token {
                size / longest * text.len()
            } else {
                size
            };
            answer.extend_from_slice(&numbers[row * size..][..used]);
        }
    }
    answers
}

#[test]
fn texts_without_padding_say_what_they_say_with_it_and_alone() {
    for fixture in FIXTURES {
        let (family, words) = opened(fixture);
        assert!(family.leaves_padding_out(), "{fixture}");
        let texts = proptest::collection::vec(proptest::collection::vec(2..words, 1..24), 1..6);
        let config = ProptestConfig::with_cases(6);
        proptest!(config, |(texts in texts, padding in 0i64..2)| {
            let ragged = inputs(&texts, padding, true);
            let is_ragged = matches!(Texts::of(&ragged).unwrap(), Texts::Ragged { .. });
            prop_assert!(is_ragged);
            let without = answers(&*family, &ragged, &texts);
            let with = answers(&*family, &inputs(&texts, padding, false), &texts);
            for (without, with) in without.iter().zip(&with) {
                prop_assert_eq!(without.len(), with.len());
                for (a, b) in without.iter().zip(with) {
                    prop_assert!((a - b).abs() <= 1e-6 * b.abs().max(1.0), "{fixture}: {a} and {b}");
                }
            }
            for (text, together) in texts.iter().zip(&without) {
                let text = std::slice::from_ref(text);
                let alone = answers(&*family, &inputs(text, padding, true), text);
                prop_assert_eq!(&alone[0], together, "{}: to the last bit", fixture);
            }
        });
    }
}

/// With padding, distances are a table of heads times tokens times tokens; without it, a number for each distance and head.
#[test]
fn long_texts_of_jina_say_the_same_by_distance_and_by_the_table_of_all_distances() {
    let (family, words) = opened("jina-feature-extraction");
    let text = |tokens: i64| (0..tokens).map(|token| 2 + token * 7 % (words - 2)).collect();
    let texts: Vec<Vec<i64>> = [700, 3, 130, 257, 1].map(text).into();
    let by_distance = answers(&*family, &inputs(&texts, 0, true), &texts);
    let by_table = answers(&*family, &inputs(&texts, 0, false), &texts);
    for (a, b) in by_distance.iter().flatten().zip(by_table.iter().flatten()) {
        assert!((a - b).abs() <= 1e-6 * b.abs().max(1.0), "{a} and {b}");
    }
}

#[test]
fn a_jina_bert_with_norms_of_queries_and_keys_is_refused_by_name() {
    let mut files = files("jina-feature-extraction");
    let name = "model.safetensors";
    let mut tensors = candle_core::safetensors::load_buffer(&files.files[name], &Device::Cpu).unwrap();
    let end = "layer.0.attention.self.query.weight";
    let query = tensors.keys().find(|name| name.ends_with(end)).unwrap();
    let norm = query.replace("query", "layer_norm_q");
    let ones = candle_core::Tensor::ones(8, DType::F32, &Device::Cpu).unwrap();
    tensors.insert(norm, ones);
    let saved = tempfile::NamedTempFile::new().unwrap();
    candle_core::safetensors::save(&tensors, saved.path()).unwrap();
    files
        .files
        .insert(name.into(), std::fs::read(saved.path()).unwrap().into());
    let pretrained = pretrained::find(&files, None).unwrap().unwrap();
    let checkpoint = Checkpoint::open(&files, &pretrained).unwrap();
    let opened = family(&pretrained, checkpoint.weights(DType::F32, &Device::Cpu));
    let error = opened.err().expect("it has no code");
    assert!(error.to_string().contains("norms of queries and keys"), "{error}");
}
