//! What is read of a model's file: inputs, outputs, what its operators mean for threads and batches; and nothing panics.

use bytes::Bytes;
use proptest::prelude::*;

use super::fixture;
use super::sound::*;
use crate::model::onnx::graph::{Declared, Kind, read};
use crate::model::onnx::proto::*;
use crate::signature::Dim;
use crate::tensor::DType;

#[test]
fn a_sound_model_is_described() {
    let mut model = with_graph(|graph| {
        // Weights as old exporters list them: among the inputs.
        graph.initializer.push(encoded(&tensor(&[2], 1, Some(8))));
        graph.input.push(value("W", tensor_type(1, &[2])));
        graph.input.push(value("words", tensor_type(8, &[-1, 0])));
    });
    model.metadata_props.push(Entry {
        key: "feature_names".into(),
        value: "[\"a\"]".into(),
    });
    let facts = read(&encoded(&model)).unwrap();
    let names: Vec<_> = facts.inputs.iter().map(|input| input.name.as_str()).collect();
    assert_eq!(names, ["x", "words"]);
    assert_eq!(
        facts.inputs[0].kind,
        Kind::Tensor {
            dtype: DType::F32,
            shape: Some(vec![Dim::Dynamic, Dim::Fixed(4)])
        }
    );
    assert_eq!(
        facts.inputs[1].kind,
        Kind::Tensor {
            dtype: DType::String,
            shape: Some(vec![Dim::Dynamic, Dim::Dynamic])
        }
    );
    assert_eq!(facts.outputs.len(), 1);
    assert_eq!(facts.opsets["ai.onnx"], 17);
    assert_eq!(facts.feature_names.as_deref(), Some("[\"a\"]"));
    assert_eq!((facts.producer.as_str(), facts.nodes), ("test", 1));
}

#[test]
fn operators_whose_results_depend_on_threads_or_batches_are_noticed_wherever_they_are() {
    let inside = |op_type: &str| {
        let body = Graph {
            node: vec![node("", op_type, &[])],
            ..Graph::default()
        };
        let attribute = Attribute {
            graph: vec![encoded(&body)],
            ..Attribute::default()
        };
        read(&encoded(&with_attribute(attribute))).unwrap()
    };
    for (op_type, tree, quantised) in [
        ("Relu", false, false),
        ("TreeEnsembleRegressor", true, false),
        ("TreeEnsemble", true, false),
        ("DynamicQuantizeLinear", false, true),
    ] {
        let facts = inside(op_type);
        assert_eq!(
            (facts.has_tree_ensemble, facts.quantises_by_batch),
            (tree, quantised),
            "{op_type}"
        );
    }
}

#[test]
fn types_are_told_apart() {
    let map = |key, value| Type {
        map: Some(Box::new(MapType {
            key_type: key,
            value_type: Some(Box::new(tensor_type(value, &[]))),
        })),
        ..Type::default()
    };
    let sequence = |inner: Type| Type {
        sequence: Some(Box::new(ElementOf {
            elem_type: Some(Box::new(inner)),
        })),
        ..Type::default()
    };
    let optional = |inner: Type| Type {
        optional: Some(Box::new(ElementOf {
            elem_type: Some(Box::new(inner)),
        })),
        ..Type::default()
    };
    let other = |words: &str| Kind::Other(words.into());
    for (declared, expected) in [
        (
            sequence(map(7, 1)),
            Kind::Maps {
                key: DType::I64,
                value: DType::F32,
            },
        ),
        (
            sequence(map(8, 1)),
            Kind::Maps {
                key: DType::String,
                value: DType::F32,
            },
        ),
        (
            sequence(map(6, 1)),
            other("sequence of map from int32 to tensor of float32"),
        ),
        (map(8, 1), other("map from string to tensor of float32")),
        (
            sequence(tensor_type(1, &[])),
            other("sequence of tensor of float32"),
        ),
        (optional(tensor_type(7, &[])), other("optional tensor of int64")),
        (tensor_type(16, &[-1]), other("tensor of bfloat16")),
        (tensor_type(0, &[-1]), Kind::Undeclared),
        (Type::default(), Kind::Undeclared),
    ] {
        let model = with_graph(|graph| graph.output = vec![value("y", declared)]);
        let facts = read(&encoded(&model)).unwrap();
        assert_eq!(
            facts.outputs,
            [Declared {
                name: "y".into(),
                kind: expected
            }]
        );
    }
}

#[test]
fn a_forest_of_more_than_a_million_nodes_is_a_model() {
    // Python's onnx writes a field per number.
    let numbers = [0x40, 0x01].repeat(1_000_001);
    let attribute = Bytes::from([&b"\x0a\x05extra"[..], &numbers].concat());
    let node = Node {
        op_type: "TreeEnsembleRegressor".into(),
        attribute: vec![attribute],
        ..Node::default()
    };
    let facts = read(&encoded(&with_graph(|graph| graph.node.push(encoded(&node))))).unwrap();
    assert!(facts.has_tree_ensemble);
    let words = [0x32, 0x01, b'a'].repeat(1_000_001);
    let vocabulary = [encoded(&tensor(&[1_000_001], 8, None)).to_vec(), words].concat();
    read(&encoded(&with_graph(|graph| {
        graph.initializer.push(vocabulary.into())
    })))
    .unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = read(&bytes.into());
    }

    #[test]
    fn damaged_models_never_panic(
        which in 0..4usize,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in any::<Option<prop::sample::Index>>(),
    ) {
        let names = ["if_and_loop", "local_function", "classifier_zipmap_string", "wide_output"];
        let mut bytes = std::fs::read(fixture(&format!("scored/{}/model.onnx", names[which]))).unwrap();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let _ = read(&bytes.into());
    }
}
