//! Every fixture as a folder: what is found in it, and what is made of folders that are odd or hostile.

use bytes::Bytes;
use serde_json::json;
use std::path::{Path, PathBuf};

use super::*;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pretrained")
}

fn collect(folder: &Path, prefix: &str, files: &mut ModelFiles) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{prefix}{}", path.file_name().unwrap().to_str().unwrap());
        if path.is_dir() {
            collect(&path, &format!("{name}/"), files);
        } else {
            files.files.insert(name, std::fs::read(&path).unwrap().into());
        }
    }
}

fn fixture(name: &str) -> ModelFiles {
    let mut files = ModelFiles {
        location: name.into(),
        ..ModelFiles::default()
    };
    collect(&fixtures().join(name).join("model"), "", &mut files);
    files
}

fn found(name: &str) -> Pretrained {
    find(&fixture(name), None)
        .unwrap_or_else(|error| panic!("{name}: {error}"))
        .unwrap_or_else(|| panic!("{name} is none"))
}

fn refusal(files: &ModelFiles, backend: Option<Backend>) -> String {
    find(files, backend).unwrap_err().to_string()
}

fn put(files: &mut ModelFiles, path: &str, content: impl Into<Bytes>) {
    files.files.insert(path.into(), content.into());
}

#[test]
fn every_fixture_is_found_to_be_what_python_says_it_is() {
    let mut seen = 0;
    for entry in std::fs::read_dir(fixtures()).unwrap() {
        let path = entry.unwrap().path();
        let Ok(text) = std::fs::read(path.join("expected.json")) else {
            continue;
        };
        let expected: Value = serde_json::from_slice(&text).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        if expected["task"] == "tabular" {
            assert!(find(&fixture(name), None).unwrap().is_none(), "{name}");
            continue;
        }
        let found = found(name);
        assert_eq!(found.task.as_str(), expected["task"], "{name}");
        assert_eq!(
            found.architecture.as_deref(),
            expected["architecture"].as_str(),
            "{name}"
        );
        let weights = match &found.weights {
            Weights::Safetensors(paths) => paths.clone(),
            Weights::Onnx(path) => vec![path.clone()],
        };
        assert_eq!(name.ends_with("-onnx"), weights[0].ends_with(".onnx"), "{name}");
        assert!(found.found().iter().any(|(key, _)| *key == "kind"));
        seen += 1;
    }
    assert!(seen > 45, "{seen} fixtures");
}

#[test]
fn poolings_prompts_and_further_modules_are_read() {
    use Pooling::*;
    for (name, ways) in [
        ("st-bert", vec![Mean]),
        ("st-bert-cls-dense", vec![Cls]),
        ("st-bert-two-poolings", vec![Cls, Mean]),
        ("st-distilbert-max", vec![Max]),
        ("st-roberta-mean-sqrt-len", vec![MeanSqrtLength]),
        ("st-xlm-roberta-weighted", vec![WeightedMean]),
        ("st-modernbert-last", vec![LastToken]),
    ] {
        assert_eq!(found(name).sentence.unwrap().pooling, ways, "{name}");
    }
    let dense = found("st-bert-cls-dense").sentence.unwrap();
    assert_eq!(dense.dense, ["2_Dense/"]);
    assert!(dense.lower_case && !dense.normalize && dense.include_prompt);
    assert_eq!(dense.max_tokens, Some(24));
    assert!(found("st-bert").sentence.unwrap().normalize);
    let prompts = found("st-bert-prompts").sentence.unwrap();
    assert_eq!(prompts.prompts[0], ("query".into(), "find: ".into()));
    assert_eq!(prompts.default_prompt.as_deref(), Some("document"));
    assert!(!prompts.include_prompt);
}

#[test]
fn the_newer_key_for_pooling_is_read_too() {
    let mut files = fixture("st-bert");
    for (config, ways) in [
        (json!({"pooling_mode": "lasttoken"}), vec![Pooling::LastToken]),
        (
            json!({"pooling_mode": ["mean", "max"]}),
            vec![Pooling::Mean, Pooling::Max],
        ),
    ] {
        put(&mut files, "1_Pooling/config.json", config.to_string());
        let found = find(&files, None).unwrap().unwrap();
        assert_eq!(found.sentence.unwrap().pooling, ways);
    }
    put(
        &mut files,
        "1_Pooling/config.json",
        r#"{"pooling_mode": "median"}"#,
    );
    let text = refusal(&files, None);
    assert!(
        text.contains("median is not known") && text.contains("1_Pooling/config.json"),
        "{text}"
    );
}

#[test]
fn a_sharded_model_has_all_its_shards() {
    let Weights::Safetensors(shards) = found("bert-sharded").weights else {
        panic!("safetensors")
    };
    assert_eq!(
        shards,
        [
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors"
        ]
    );
    let mut files = fixture("bert-sharded");
    files.files.remove(&shards[1]);
    let text = refusal(&files, None);
    assert!(
        text.contains("names model-00002-of-00002.safetensors, which is not there"),
        "{text}"
    );
}

#[test]
fn the_registry_says_methods_params_and_sql_names() {
    let transformer = found("registry-sentence-transformer");
    assert_eq!(transformer.root, "model/models/ST_BERT/model/");
    assert_eq!(transformer.origin, Origin::Registry);
    let names: Vec<_> = transformer
        .methods
        .iter()
        .map(|method| method.sql_name.as_str())
        .collect();
    assert_eq!(names, ["ENCODE", "ENCODE_DOCUMENT", "ENCODE_QUERY"]);
    let encode = &transformer.methods[0];
    assert_eq!(encode.name, "encode");
    assert_eq!(encode.inputs[0].name, "sentence");
    assert!(encode.outputs[0].is_list && encode.outputs[0].dtype == "DOUBLE");
    let params = [
        ("batch_size".to_string(), json!(16)),
        ("truncate_dim".to_string(), json!(null)),
    ];
    assert_eq!(encode.params, params);
    let groups = found("registry-top-k").methods[0].outputs.clone();
    let fields: Vec<_> = groups[0].fields.iter().map(|field| field.name.as_str()).collect();
    assert_eq!(
        (groups[0].name.as_str(), fields),
        ("labels", vec!["label", "score"])
    );
    // The same files, given as the folder `model` in them.
    let mut files = fixture("registry-sentence-transformer");
    let inner = std::mem::take(&mut files.files).into_iter();
    files.files = inner
        .filter_map(|(path, bytes)| Some((path.strip_prefix("model/")?.to_string(), bytes)))
        .collect();
    assert_eq!(find(&files, None).unwrap().unwrap().root, "models/ST_BERT/model/");
}

#[test]
fn pickles_beside_weights_are_left_aside_and_said_so() {
    let wrapped = found("registry-wrapper");
    let pickle = "model/models/wrapped/model/snowml_sentence_transformer.pkl";
    assert!(
        wrapped.notes.iter().any(|note| note.starts_with(pickle)),
        "{:?}",
        wrapped.notes
    );
    let pipeline = found("registry-text-classification");
    assert!(
        pipeline
            .notes
            .iter()
            .any(|note| note.contains("pipeline_config.pt"))
    );
}

#[test]
fn a_pickle_without_weights_is_refused_with_the_way_out() {
    let mut files = fixture("registry-wrapper");
    files
        .files
        .retain(|path, _| !path.contains("/wrapped/") || path.ends_with(".pkl"));
    let text = refusal(&files, None);
    assert!(
        text.contains("stored only model/models/wrapped/model/snowml_sentence_transformer.pkl"),
        "{text}"
    );
    assert!(text.contains("log the model itself"), "{text}");
    let mut files = fixture("bert-feature-extraction");
    files.files.remove("model.safetensors");
    put(&mut files, "pytorch_model.bin", &b"\x80\x02}q\0."[..]);
    let text = refusal(&files, None);
    assert!(
        text.contains("pytorch_model.bin alone: a Python pickle") && text.contains("safe_serialization"),
        "{text}"
    );
}

#[test]
fn a_registry_model_of_another_type_is_refused_by_its_type() {
    let yaml = "name: m\nmodel_type: sklearn\nmodels: {m: {name: m, model_type: sklearn, path: model.pkl, options: {}}}\n";
    let mut files = ModelFiles::default();
    put(&mut files, "model/model.yaml", yaml);
    put(
        &mut files,
        "model/models/m/model.pkl",
        &b"\x80\x04\x95\x10\0\0"[..],
    );
    let text = refusal(&files, None);
    assert!(
        text.contains("type sklearn") && text.contains("skl2onnx"),
        "{text}"
    );
    put(&mut files, "model/models/m/model.onnx", &b"\x08\x08"[..]);
    assert!(
        find(&files, None).unwrap().is_none(),
        "an artifact that ONNX Runtime reads"
    );
}

#[test]
fn the_backend_chooses_among_weights_and_what_is_missing_is_said() {
    let mut both = fixture("st-bert");
    put(&mut both, "onnx/model.onnx", &b"\x08\x08"[..]);
    let weights = |backend| find(&both, backend).unwrap().unwrap().weights;
    assert!(matches!(weights(None), Weights::Safetensors(_)));
    assert!(matches!(weights(Some(Backend::Candle)), Weights::Safetensors(_)));
    assert_eq!(
        weights(Some(Backend::Onnx)),
        Weights::Onnx("onnx/model.onnx".into())
    );
    let text = refusal(&fixture("st-bert"), Some(Backend::Onnx));
    assert!(text.contains("no ONNX graph"), "{text}");
    let text = refusal(&fixture("st-bert-onnx"), Some(Backend::Candle));
    assert!(text.contains("no safetensors"), "{text}");
    let mut files = fixture("bert-feature-extraction");
    files.files.remove("tokenizer.json");
    files.files.remove("vocab.txt");
    assert!(refusal(&files, None).contains("needs a tokenizer"));
    put(&mut files, "spiece.model", &b"\x0a\x0e"[..]);
    assert!(refusal(&files, None).contains("spiece.model alone"));
}

#[test]
fn a_graph_beside_a_config_and_nothing_else_is_no_pretrained_model() {
    let mut files = ModelFiles::default();
    put(&mut files, "model.onnx", &b"\x08\x08"[..]);
    put(
        &mut files,
        "config.json",
        r#"{"model_type": "bert", "architectures": ["BertModel"]}"#,
    );
    assert!(find(&files, None).unwrap().is_none());
    // And neither is one whose card says how it meets columns.
    let mut files = fixture("st-bert-onnx");
    put(
        &mut files,
        "floe.yaml",
        "functions: {predict: {model: onnx/model.onnx}}",
    );
    assert!(find(&files, None).unwrap().is_none());
}

#[test]
fn paths_that_lead_out_of_the_folder_are_refused() {
    for path in ["../../etc", "/etc", "a/../../b"] {
        let mut files = fixture("st-bert");
        let modules = json!([
            {"path": "", "type": "sentence_transformers.models.Transformer"},
            {"path": path, "type": "sentence_transformers.models.Pooling"},
        ]);
        put(&mut files, "modules.json", modules.to_string());
        assert!(refusal(&files, None).contains("the path of something in the folder expected"));
        let mut files = fixture("bert-sharded");
        put(
            &mut files,
            "model.safetensors.index.json",
            json!({"weight_map": {"a": path}}).to_string(),
        );
        assert!(refusal(&files, None).contains("the path of something in the folder expected"));
        let mut files = ModelFiles::default();
        let yaml = format!(
            "name: m\nmodel_type: x\nmodels: {{m: {{model_type: sentence_transformers, path: \"{path}\"}}}}\n"
        );
        put(&mut files, "model/model.yaml", yaml);
        // In the middle of a path it is a part that is empty.
        assert!(
            refusal(&files, None).contains("the path of something in the folder expected"),
            "{path}"
        );
    }
}

#[test]
fn what_floe_has_no_task_or_module_for_is_named() {
    let mut files = fixture("bert-feature-extraction");
    let config = json!({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]});
    put(&mut files, "config.json", config.to_string());
    let gpt = refusal(&files, None);
    put(
        &mut files,
        "config.json",
        r#"{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}"#,
    );
    let llama = refusal(&files, None);
    assert!(
        llama.contains("LlamaForCausalLM is for a task that Floe does not know"),
        "{llama}"
    );
    assert!(
        gpt.contains("GPT2LMHeadModel is for a task that Floe does not know"),
        "{gpt}"
    );
    let mut files = fixture("st-bert");
    put(
        &mut files,
        "modules.json",
        r#"[{"path": "", "type": "sentence_transformers.models.WordEmbeddings"}]"#,
    );
    assert!(refusal(&files, None).contains("the module WordEmbeddings is not read"));
    let mut files = fixture("st-bert");
    let config = files.files.remove("config.json").unwrap();
    put(&mut files, "adapter_config.json", config);
    assert!(refusal(&files, None).contains("adapter (LoRA)"));
}

#[test]
fn several_models_in_one_folder_are_a_choice() {
    let mut files = ModelFiles::default();
    for name in ["a", "b"] {
        for (path, bytes) in fixture("st-bert").files {
            put(&mut files, &format!("{name}/{path}"), bytes);
        }
    }
    assert!(refusal(&files, None).contains("several pretrained models: a/modules.json, b/modules.json"));
    files.files.retain(|path, _| path.starts_with("a/"));
    assert_eq!(find(&files, None).unwrap().unwrap().root, "a/");
}
