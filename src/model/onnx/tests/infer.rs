//! Batches through real sessions.

use bytes::Bytes;
use half::f16;
use std::sync::Arc;

use super::{fixture, opened, options, read_files};
use crate::error::ErrorKind;
use crate::model::onnx::providers::Providers;
use crate::model::onnx::runtime;
use crate::model::onnx::session::{self, OnnxSession, Output, Program, Slot};
use crate::model::{Engine, Model, ModelFiles, open};
use crate::tensor::{DType, Maps, Tensor, TensorBatch, TensorData, Value};

fn worker(path: &str) -> Box<dyn Model> {
    let model = opened(path);
    model
        .worker_on(&model.functions()[0], 1, Engine::OnnxRuntime)
        .unwrap()
}

fn batch(rows: usize, inputs: Vec<Tensor>) -> TensorBatch {
    TensorBatch { rows, inputs }
}

fn floats(rows: usize, width: usize) -> Tensor {
    let values: Vec<f32> = (0..rows * width)
        .map(|index| (index % 17) as f32 * 0.37 + (index / 5) as f32 * 0.01)
        .collect();
    Tensor::new(vec![rows, width], values).unwrap()
}

fn tensor(value: &Value) -> &Tensor {
    match value {
        Value::Tensor(tensor) => tensor,
        _ => panic!("maps where a tensor was expected"),
    }
}

fn maps(value: &Value) -> &Maps {
    match value {
        Value::Maps(maps) => maps,
        _ => panic!("a tensor where maps were expected"),
    }
}

#[test]
fn rows_alone_give_what_they_give_in_a_batch() {
    for name in [
        "regressor_matrix",
        "classifier_arrays",
        "classifier_zipmap_string",
        "wide_output",
    ] {
        let mut model = worker(&format!("scored/{name}"));
        let rows = floats(9, 4);
        let together = model.infer(&batch(9, vec![rows.clone()])).unwrap();
        for (row, end) in (0..9).map(|row| (row, row + 1)) {
            let alone = model.infer(&batch(1, vec![rows.slice_rows(row, 1)])).unwrap();
            for (whole, alone) in together.iter().zip(&alone) {
                match (whole, alone) {
                    (Value::Tensor(whole), Value::Tensor(alone)) => {
                        close(&whole.slice_rows(row, 1).data, &alone.data)
                    }
                    (Value::Maps(whole), Value::Maps(alone)) => {
                        let (start, length) = (whole.offsets[row], whole.offsets[end] - whole.offsets[row]);
                        assert_eq!(whole.keys.slice(start, length), alone.keys);
                        close(&whole.values.slice(start, length), &alone.values);
                    }
                    _ => panic!("{name}: another sort of value alone"),
                }
            }
        }
    }
}

/// Equal but for rounding: kernels sum in another order for another number of rows.
fn close(left: &TensorData, right: &TensorData) {
    match (left, right) {
        (TensorData::F32(left), TensorData::F32(right)) => {
            assert_eq!(left.len(), right.len());
            for (left, right) in left.iter().zip(right) {
                assert!(
                    (left - right).abs() <= 1e-5 * left.abs().max(1.0),
                    "{left} and {right}"
                );
            }
        }
        _ => assert_eq!(left, right),
    }
}

#[test]
fn a_fixed_batch_is_cut_and_filled_up() {
    for name in ["fixed_batch", "fixed_batch_zipmap"] {
        let mut model = worker(&format!("scored/{name}"));
        let rows = floats(7, 4);
        let together = model.infer(&batch(7, vec![rows.clone()])).unwrap();
        assert!(together.iter().all(|value| value.rows() == 7), "{name}");
        let mut pieces = model.infer(&batch(3, vec![rows.slice_rows(0, 3)])).unwrap();
        for (start, length) in [(3, 3), (6, 1)] {
            let piece = model
                .infer(&batch(length, vec![rows.slice_rows(start, length)]))
                .unwrap();
            for (value, more) in pieces.iter_mut().zip(piece) {
                value.append(more).unwrap();
            }
        }
        assert_eq!(together, pieces, "{name}");
    }
    let mut model = worker("scored/fixed_batch_one");
    let one_by_one = model.infer(&batch(5, vec![floats(5, 4)])).unwrap();
    assert_eq!(one_by_one[0].rows(), 5);
}

#[test]
fn zipmap_gives_one_map_per_row_sorted_by_key() {
    for (name, keys) in [
        ("classifier_zipmap_int", TensorData::from(vec![0i64, 1, 2])),
        (
            "classifier_zipmap_string",
            ["setosa", "versicolor", "virginica"]
                .map(String::from)
                .to_vec()
                .into(),
        ),
    ] {
        let mut model = worker(&format!("scored/{name}"));
        let values = model.infer(&batch(4, vec![floats(4, 4)])).unwrap();
        let maps = maps(&values[1]);
        assert_eq!(maps.offsets, [0, 3, 6, 9, 12], "{name}");
        let TensorData::F32(scores) = &maps.values else {
            panic!("float32")
        };
        for row in 0..4 {
            assert_eq!(maps.keys.slice(3 * row, 3), keys, "{name}");
            let sum: f32 = scores[3 * row..3 * row + 3].iter().sum();
            assert!((sum - 1.0).abs() < 1e-5, "{name}: {scores:?}");
        }
    }
}

#[test]
fn maps_made_here_equal_those_of_onnx_runtime() {
    let runtime = runtime::load(&options().onnxruntime_paths).unwrap();
    for name in [
        "classifier_zipmap_int",
        "classifier_zipmap_string",
        "lightgbm_classifier",
        "fixed_batch_zipmap",
    ] {
        let path = format!("scored/{name}");
        let model = opened(&path);
        let function = &model.functions()[0];
        let rows = function.fixed_batch_rows.unwrap_or(50);
        let input = batch(rows, vec![floats(rows, 4)]);
        let ours = model.worker(function, 1).unwrap().infer(&input).unwrap();

        let bytes = Bytes::from(std::fs::read(fixture(&path).join("model.onnx")).unwrap());
        let outputs = function.outputs.iter().map(|output| Output {
            name: output.name.clone(),
            zip: None,
        });
        let inputs = function.inputs.iter().map(|input| Slot {
            name: input.name.clone(),
            axes: 2,
            is_param: false,
            scaler: None,
        });
        let program = Program {
            file: name.into(),
            label: name.into(),
            inputs: inputs.collect(),
            outputs: outputs.collect(),
            fixed_batch_rows: function.fixed_batch_rows,
        };
        let session = session::commit(&runtime, &Providers::default(), name, &bytes, 1).unwrap();
        let theirs = OnnxSession::new(session, Arc::new(program))
            .unwrap()
            .infer(&input)
            .unwrap();
        assert!(matches!(theirs[1], Value::Maps(_)), "{name}");
        assert_eq!(ours, theirs, "{name}");
    }
}

#[test]
fn every_type_of_output_comes_back() {
    let model = opened("scored/many_outputs");
    let function = &model.functions()[0];
    let rows = Tensor::new(vec![2, 4], vec![1.5f32, -2., 3., 4., -5., 6., 7., 8.25]).unwrap();
    let values = model
        .worker(function, 1)
        .unwrap()
        .infer(&batch(2, vec![rows]))
        .unwrap();
    for (output, value) in function.outputs.iter().zip(&values) {
        let tensor = tensor(value);
        assert_eq!(tensor.dtype(), output.dtype, "{}", output.name);
        assert_eq!(tensor.rows(), 2);
        let promised: Vec<_> = output.shape.iter().map(|dim| dim.to_string()).collect();
        let seen: Vec<_> = tensor.shape[1..].iter().map(usize::to_string).collect();
        assert_eq!(promised, seen, "{}", output.name);
    }
    let dtypes: std::collections::HashSet<_> = function.outputs.iter().map(|output| output.dtype).collect();
    for dtype in [
        DType::F32,
        DType::F64,
        DType::I64,
        DType::I32,
        DType::I16,
        DType::U8,
        DType::Bool,
        DType::String,
    ] {
        assert!(dtypes.contains(&dtype), "{dtype:?}");
    }
}

#[test]
fn integers_pass_to_the_last_bit() {
    let model = opened("scored/integer_inputs");
    let function = &model.functions()[0];
    let extremes = |dtype: DType| match dtype {
        DType::I8 => vec![i8::MIN, i8::MAX].into(),
        DType::I16 => vec![i16::MIN, i16::MAX].into(),
        DType::I32 => vec![i32::MIN, i32::MAX].into(),
        DType::I64 => vec![i64::MIN, i64::MAX].into(),
        DType::U8 => vec![u8::MIN, u8::MAX].into(),
        DType::U16 => vec![u16::MIN, u16::MAX].into(),
        DType::U32 => vec![u32::MIN, u32::MAX].into(),
        DType::U64 => vec![u64::MIN, u64::MAX].into(),
        DType::Bool => vec![false, true].into(),
        other => panic!("{other:?}"),
    };
    let inputs = function.inputs.iter().map(|input| {
        let shape = if input.shape.is_empty() {
            vec![2]
        } else {
            vec![2, 1]
        };
        Tensor {
            shape,
            data: extremes(input.dtype),
        }
    });
    let values = model
        .worker(function, 1)
        .unwrap()
        .infer(&batch(2, inputs.collect()))
        .unwrap();
    // The model negates every bit, so the extremes change places.
    for (input, value) in function.inputs.iter().zip(&values) {
        let mut swapped = extremes(input.dtype).slice(1, 1);
        swapped.append(extremes(input.dtype).slice(0, 1)).unwrap();
        assert_eq!(tensor(value).data, swapped, "{}", input.name);
    }
}

#[test]
fn half_precision_goes_in_and_comes_out() {
    let model = opened("scored/float16");
    let function = &model.functions()[0];
    assert_eq!(
        function
            .inputs
            .iter()
            .map(|input| input.name.as_str())
            .collect::<Vec<_>>(),
        ["half", "X"]
    );
    let half = Tensor::new(vec![2], [1.5, -2.0].map(f16::from_f32).to_vec()).unwrap();
    let pairs = Tensor::new(vec![2, 2], [1., 2., 3., 4.].map(f16::from_f32).to_vec()).unwrap();
    let values = model
        .worker(function, 1)
        .unwrap()
        .infer(&batch(2, vec![half, pairs]))
        .unwrap();
    let doubled = function
        .outputs
        .iter()
        .position(|output| output.name == "doubled")
        .unwrap();
    assert_eq!(
        tensor(&values[doubled]).data,
        [3.0, -4.0].map(f16::from_f32).to_vec().into()
    );
}

#[test]
fn strings_go_in_as_they_are_and_a_nul_is_refused_with_its_row() {
    let model = opened("scored/string_matrix");
    let function = &model.functions()[0];
    let texts = |second: &str| {
        let texts = ["a", "é\u{1f600}", second, ""].map(String::from).to_vec();
        batch(2, vec![Tensor::new(vec![2, 2], texts).unwrap()])
    };
    let mut worker = model.worker(function, 1).unwrap();
    assert_eq!(worker.infer(&texts("b")).unwrap()[0].rows(), 2);
    let error = worker.infer(&texts("b\0c")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(
        error.to_string().contains("row 1 of a batch has a NUL"),
        "{error}"
    );
}

#[test]
fn parameters_are_given_whole_to_every_batch() {
    let mut model = worker("scored/param_scalar");
    let threshold = Tensor::new(vec![], vec![3.25f32]).unwrap();
    for rows in [1, 4] {
        let values = model
            .infer(&batch(rows, vec![floats(rows, 4), threshold.clone()]))
            .unwrap();
        assert!(values.iter().all(|value| value.rows() == rows));
    }
}

#[test]
fn a_run_that_fails_says_why_and_what_the_model_was_given() {
    let mut model = worker("scored/regressor_matrix");
    let error = model.infer(&batch(2, vec![floats(2, 3)])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Model);
    let text = error.to_string();
    assert!(text.contains("the model fails on a batch of 2 rows: "), "{text}");
    assert!(text.contains("it was given X float32[2, 3]"), "{text}");
    assert!(text.contains("regressor_matrix/model.onnx)"), "{text}");
    assert!(text.chars().count() < 800, "{text}");
}

#[test]
fn workers_are_independent_and_agree_to_the_bit_whatever_their_threads() {
    // Trees and a net: with several threads, ONNX Runtime would sum the trees in another order.
    for name in ["regressor_matrix", "wide_output"] {
        let model = opened(&format!("scored/{name}"));
        let function = &model.functions()[0];
        let expected = model
            .worker(function, 1)
            .unwrap()
            .infer(&batch(64, vec![floats(64, 4)]))
            .unwrap();
        std::thread::scope(|scope| {
            for threads in [1, 2, 1] {
                let (model, expected) = (&model, &expected);
                scope.spawn(move || {
                    let mut worker = model.worker(function, threads).unwrap();
                    for _ in 0..3 {
                        assert_eq!(&worker.infer(&batch(64, vec![floats(64, 4)])).unwrap(), expected);
                    }
                });
            }
        });
    }
}

#[test]
fn a_card_post_processes_what_the_model_returns() {
    let mut files = read_files(&fixture("scored/wide_output"));
    let card =
        "functions: {best: {outputs: {embedding: {name: best, select: argmax, labels: [a, b, c, d, e]}}}}";
    files
        .files
        .insert("floe.yaml".into(), Bytes::from_static(card.as_bytes()));
    let plain = opened("scored/wide_output");
    let carded = open(files, &options()).unwrap();
    assert_ne!(plain.digest(), carded.digest());
    let function = &carded.functions()[0];
    assert_eq!(
        (function.name.as_str(), function.outputs[0].column.as_str()),
        ("best", "best")
    );
    assert_eq!(
        (function.outputs[0].dtype, function.outputs[0].shape.len()),
        (DType::String, 0)
    );

    let rows = batch(3, vec![floats(3, 4)]);
    let scores = plain
        .worker(&plain.functions()[0], 1)
        .unwrap()
        .infer(&rows)
        .unwrap();
    let TensorData::F32(scores) = &tensor(&scores[0]).data else {
        panic!("float32")
    };
    let labels = carded.worker(function, 1).unwrap().infer(&rows).unwrap();
    let expected: Vec<String> = scores
        .chunks(5)
        .map(|row| {
            let best = (0..5).rev().max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
            ["a", "b", "c", "d", "e"][best].to_string()
        })
        .collect();
    assert_eq!(tensor(&labels[0]).data, expected.into());
}

#[test]
fn the_digest_is_of_the_card_and_the_models_that_it_names() {
    let location = fixture("scored/regressor_matrix");
    let folder = open(read_files(&location), &options()).unwrap();
    let mut beside = read_files(&location);
    beside
        .files
        .insert("README.md".into(), Bytes::from_static(b"about"));
    assert_eq!(open(beside, &options()).unwrap().digest(), folder.digest());
    let file = open(read_files(&location.join("model.onnx")), &options()).unwrap();
    assert_eq!(file.digest(), folder.digest());
}

#[test]
fn other_formats_are_refused_by_name_and_content_with_the_way_out() {
    let refused = |files: &[(&str, &'static [u8])]| {
        let files = files
            .iter()
            .map(|(path, bytes)| (path.to_string(), Bytes::from_static(bytes)));
        let files = ModelFiles {
            location: "models/x".into(),
            files: files.collect(),
        };
        open(files, &options()).err().expect("refused").to_string()
    };
    for (files, part) in [
        (
            &[("model.pkl", &b"\x80\x04\x95"[..])][..],
            "model.pkl is a Python pickle",
        ),
        (&[("model.onnx", b"\x80\x04\x95")], "the file is a Python pickle"),
        (
            &[("model.bin", b"PK\x03\x04archive/data.pkl")],
            "model.bin is a PyTorch archive",
        ),
        (
            &[("README.md", b"hello"), ("model.joblib", b"\x78\x9c\0\x01")],
            "model.joblib is a Python pickle",
        ),
        (
            &[
                ("config.json", b"{}"),
                ("model.safetensors", b"\x02\0\0\0\0\0\0\0{}"),
            ],
            "weights in safetensors format",
        ),
        (
            &[("booster.bin", b"binf\0\0\0\x3f")],
            "booster.bin is an XGBoost model in the binary format",
        ),
        (&[("model.h5", b"\x89HDF\r\n\x1a\n")], "an HDF5 file (Keras)"),
        (
            &[("model.dat", b"\x01\x02\x03")],
            "model.dat is no model; this version reads",
        ),
        (
            &[("a.txt", b"x"), ("b.txt", b"y")],
            "there is no model here, of: a.txt, b.txt",
        ),
        (&[], "of: no files"),
        (
            &[("floe.yml", b""), ("m.onnx", b"")],
            "the model card is called floe.yml (model models/x); call it floe.yaml",
        ),
    ] {
        let error = refused(files);
        assert!(error.contains(part), "{error}\nwithout {part}");
        assert!(error.contains("models/x"), "{error}");
    }
}
