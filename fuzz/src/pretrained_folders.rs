//! A folder of a pretrained model, its documents whatever they are: understood as the files in it, or refused as `model`.

use floe::config::Backend;
use floe::error::ErrorKind;
use floe::model::ModelFiles;
use floe::model::pretrained::{self, Weights};

use super::input::Input;

/// Words of a refusal stay readable however long the documents were.
const MAX_WORDS: usize = 16 * 1024;

/// One byte for the backend, then files: a path as [`Input::text`], two bytes of length, and the content.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let backend = input.choose(&[None, Some(Backend::Onnx), Some(Backend::Candle)]);
    let mut files = ModelFiles {
        location: "m".into(),
        ..ModelFiles::default()
    };
    while !input.is_empty() && files.files.len() < 64 {
        let path = input.text();
        let length = usize::from(input.byte()) << 8 | usize::from(input.byte());
        files.files.insert(path, input.bytes(length).to_vec().into());
    }
    match pretrained::find(&files, backend) {
        Ok(None) => {}
        Ok(Some(found)) => {
            assert!(found.root.is_empty() || found.root.ends_with('/'));
            let weights = match &found.weights {
                Weights::Safetensors(paths) => paths.clone(),
                Weights::Onnx(path) => vec![path.clone()],
            };
            assert!(!weights.is_empty());
            for path in weights.iter().chain(&found.documents) {
                assert!(files.files.contains_key(path), "{path}");
            }
            for folder in found.sentence.iter().flat_map(|sentence| &sentence.dense) {
                assert!(
                    files.files.contains_key(&format!("{folder}model.safetensors")),
                    "{folder}"
                );
            }
            let again = pretrained::find(&files, backend).expect("the same files");
            assert_eq!(
                format!("{:?}", again.expect("the same files")),
                format!("{found:?}")
            );
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Model, "{error}");
            assert!(
                error.to_string().len() < MAX_WORDS,
                "{} bytes",
                error.to_string().len()
            );
        }
    }
}

/// Small folders of every sort, with weights that are empty.
pub fn seeds() -> Vec<Vec<u8>> {
    let empty: &[u8] = b"\x02\0\0\0\0\0\0\0{}";
    let config: &[u8] = br#"{"model_type": "bert", "architectures": ["BertModel"]}"#;
    let modules: &[u8] =
        br#"[{"path": "", "type": "a.Transformer"}, {"path": "1_Pooling", "type": "a.Pooling"},
        {"path": "2_Dense", "type": "a.Dense"}, {"path": "3_Normalize", "type": "a.Normalize"}]"#;
    let hugging_face: &[(&str, &[u8])] = &[
        ("config.json", config),
        ("tokenizer.json", b"{}"),
        (
            "model.safetensors.index.json",
            br#"{"weight_map": {"a": "x.safetensors", "b": "y.safetensors"}}"#,
        ),
        ("x.safetensors", empty),
        ("y.safetensors", empty),
    ];
    let sentences: &[(&str, &[u8])] = &[
        ("modules.json", modules),
        ("config.json", config),
        ("vocab.txt", b"[UNK]\na"),
        ("model.safetensors", empty),
        (
            "sentence_bert_config.json",
            br#"{"max_seq_length": 8, "do_lower_case": true}"#,
        ),
        (
            "1_Pooling/config.json",
            br#"{"pooling_mode_mean_tokens": true, "include_prompt": false}"#,
        ),
        ("2_Dense/config.json", br#"{"in_features": 2, "out_features": 2}"#),
        ("2_Dense/model.safetensors", empty),
        (
            "config_sentence_transformers.json",
            br#"{"prompts": {"q": "find "}, "default_prompt_name": "q"}"#,
        ),
    ];
    let yaml: &[u8] = b"name: m\nmodel_type: huggingface_pipeline\nmodels:\n  m:\n    model_type: huggingface_pipeline\n    path: \
        model\n    options: {task: ner}\nsignatures:\n  __call__:\n    inputs: [{name: inputs, type: STRING}]\n    outputs:\n    - name: \
        outputs\n      shape: [-1]\n      specs: [{name: word, type: STRING}]\n    params: [{name: top_k, dtype: INT64, default_value: 1}]\n";
    let registry: &[(&str, &[u8])] = &[
        ("model/model.yaml", yaml),
        (
            "MANIFEST.yml",
            b"methods: [{handler: functions.__call__.infer, name: __CALL__}]\n",
        ),
        ("model/models/m/model/config.json", config),
        ("model/models/m/model/tokenizer.json", b"{}"),
        ("model/models/m/model/model.safetensors", empty),
        ("model/models/m/model/pipeline_config.pt", b"\x80\x04\x95\x10\0"),
    ];
    let folders = [hugging_face, sentences, registry];
    folders.into_iter().map(packed).collect()
}

fn packed(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0];
    for (path, content) in files {
        bytes.push(path.len() as u8);
        bytes.extend(path.as_bytes());
        bytes.extend((content.len() as u16).to_be_bytes());
        bytes.extend(*content);
    }
    bytes
}
