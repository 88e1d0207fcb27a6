//! Files made byte by byte, each with one thing wrong.

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;

use super::fixture;
use crate::error::ErrorKind;
use crate::model::onnx::graph::{Declared, Kind, read};
use crate::model::onnx::proto::*;
use crate::model::onnx::walk::MAX_DEPTH;
use crate::signature::Dim;
use crate::tensor::DType;

fn tensor_type(elem_type: i32, dims: &[i64]) -> Type {
    let dim = |&extent: &i64| Dimension {
        dim_value: (extent >= 0).then_some(extent),
        dim_param: (extent < 0).then(|| "n".to_string()),
    };
    let shape = Some(Shape {
        dim: dims.iter().map(dim).collect(),
    });
    Type {
        tensor: Some(TensorType { elem_type, shape }),
        ..Type::default()
    }
}

fn value(name: &str, value_type: Type) -> ValueInfo {
    ValueInfo {
        name: name.into(),
        value_type: Some(value_type),
    }
}

fn node(domain: &str, op_type: &str, attributes: &[Attribute]) -> Bytes {
    let node = Node {
        domain: domain.into(),
        op_type: op_type.into(),
        attribute: attributes.iter().map(encoded).collect(),
        ..Node::default()
    };
    encoded(&node)
}

fn encoded(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

/// `x float32[n, 4]` to `y float32[n]` through one `Relu`.
fn sound() -> Model {
    Model {
        ir_version: 8,
        producer_name: "test".into(),
        graph: Some(Graph {
            node: vec![node("", "Relu", &[])],
            input: vec![value("x", tensor_type(1, &[-1, 4]))],
            output: vec![value("y", tensor_type(1, &[-1]))],
            ..Graph::default()
        }),
        opset_import: vec![OperatorSet {
            domain: String::new(),
            version: 17,
        }],
        ..Model::default()
    }
}

fn with_graph(change: impl FnOnce(&mut Graph)) -> Model {
    let mut model = sound();
    change(model.graph.as_mut().unwrap());
    model
}

fn with_tensor(tensor: Tensor) -> Model {
    with_graph(|graph| graph.initializer.push(encoded(&tensor)))
}

fn with_attribute(attribute: Attribute) -> Model {
    with_graph(|graph| graph.node.push(node("", "Constant", &[attribute])))
}

fn tensor(dims: &[i64], data_type: i32, raw: Option<usize>) -> Tensor {
    Tensor {
        name: "W".into(),
        dims: dims.to_vec(),
        data_type,
        raw_data: raw.map(|length| vec![0; length].into()),
        ..Tensor::default()
    }
}

fn external() -> Tensor {
    let location = Entry {
        key: "location".into(),
        value: "../secret".into(),
    };
    Tensor {
        data_location: 1,
        external_data: vec![location],
        ..tensor(&[1], 1, None)
    }
}

fn refused(model: &Model) -> String {
    refused_bytes(encoded(model))
}

fn refused_bytes(bytes: Bytes) -> String {
    let error = read(&bytes).expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Model);
    error.to_string()
}

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
fn what_is_no_model_is_said_to_be_none() {
    let whole = encoded(&sound());
    for (bytes, part) in [
        (Bytes::new(), "an empty file"),
        (Bytes::from_static(b"\x80\x04\x95junk"), "a Python pickle"),
        (Bytes::from_static(b"not a model at all\n"), "a text file"),
        (
            Bytes::from_static(&[0xff; 64]),
            "not an ONNX model, or only a part of one",
        ),
        (
            whole.slice(..whole.len() - 3),
            "not an ONNX model, or only a part of one",
        ),
        (Bytes::from_static(b"\x08\x08"), "holds no graph"),
        (
            encoded(&Model {
                opset_import: vec![],
                ..sound()
            }),
            "it names no version",
        ),
        (
            encoded(&Model {
                ir_version: 0,
                ..sound()
            }),
            "it names no version",
        ),
        (
            encoded(&with_graph(|graph| graph.output.clear())),
            "the model has no outputs",
        ),
        (
            encoded(&with_graph(|graph| graph.input.clear())),
            "the model has no inputs",
        ),
    ] {
        let error = refused_bytes(bytes);
        assert!(error.contains(part), "{error}\nwithout {part}");
    }
}

#[test]
fn weights_in_other_files_are_refused_wherever_they_hide() {
    let attribute = |change: fn(&mut Attribute)| {
        let mut attribute = Attribute {
            name: "value".into(),
            ..Attribute::default()
        };
        change(&mut attribute);
        attribute
    };
    let sparse = || {
        encoded(&SparseTensor {
            values: vec![encoded(&external())],
            dims: vec![1],
            ..SparseTensor::default()
        })
    };
    let subgraph = encoded(&Graph {
        initializer: vec![encoded(&external())],
        ..Graph::default()
    });
    let deep = encoded(&Graph {
        node: vec![node(
            "",
            "If",
            &[Attribute {
                graphs: vec![subgraph.clone()],
                ..Attribute::default()
            }],
        )],
        ..Graph::default()
    });
    let function = LocalFunction {
        name: "f".into(),
        domain: "own".into(),
        node: vec![node(
            "",
            "Constant",
            &[attribute(|a| a.tensor = vec![encoded(&external())])],
        )],
        ..LocalFunction::default()
    };
    let defaults = LocalFunction {
        node: vec![],
        attribute_proto: vec![encoded(&attribute(|a| a.tensors = vec![encoded(&external())]))],
        ..function.clone()
    };
    let only_location = Tensor {
        external_data: vec![],
        ..external()
    };
    let only_entries = Tensor {
        data_location: 0,
        ..external()
    };
    let unknown_location = Tensor {
        data_location: 7,
        external_data: vec![],
        ..external()
    };
    for model in [
        with_tensor(external()),
        with_tensor(only_location),
        with_tensor(only_entries),
        with_tensor(unknown_location),
        with_graph(|graph| graph.sparse_initializer.push(sparse())),
        with_attribute(attribute(|a| a.tensor = vec![encoded(&external())])),
        with_attribute(attribute(|a| a.tensors = vec![encoded(&external())])),
        with_attribute(Attribute {
            sparse_tensor: vec![sparse()],
            ..Attribute::default()
        }),
        with_attribute(Attribute {
            sparse_tensors: vec![sparse()],
            ..Attribute::default()
        }),
        with_attribute(Attribute {
            graph: vec![subgraph],
            ..Attribute::default()
        }),
        with_attribute(Attribute {
            graph: vec![deep],
            ..Attribute::default()
        }),
        Model {
            functions: vec![encoded(&function)],
            ..sound()
        },
        Model {
            functions: vec![encoded(&defaults)],
            ..sound()
        },
    ] {
        let error = refused(&model);
        assert!(
            error.contains("keeps weights outside its own file: the tensor W is in"),
            "{error}"
        );
        assert!(error.contains("onnx.save("), "{error}");
    }
}

#[test]
fn a_second_value_of_an_attribute_can_not_hide_the_first() {
    // Protobuf readers join such pieces: half of a tensor may look sound.
    let pieces = vec![encoded(&external()), encoded(&tensor(&[], 1, Some(4)))];
    let error = refused(&with_attribute(Attribute {
        name: "v".into(),
        tensor: pieces,
        ..Attribute::default()
    }));
    assert!(error.contains("the attribute v has two values"), "{error}");
    // The graph itself may come in pieces, and then counts as one.
    let mut bytes = sound().encode_to_vec();
    let second = Graph {
        initializer: vec![encoded(&external())],
        ..Graph::default()
    };
    bytes.extend(
        Model {
            graph: Some(second),
            ..Model::default()
        }
        .encode_to_vec(),
    );
    assert!(refused_bytes(bytes.into()).contains("outside its own file"));
}

#[test]
fn operators_of_other_libraries_are_refused_unless_the_model_defines_them() {
    for domain in [
        "",
        "ai.onnx",
        "ai.onnx.ml",
        "com.microsoft",
        "com.microsoft.nchwc",
    ] {
        read(&encoded(&with_graph(|graph| {
            graph.node.push(node(domain, "Gelu", &[]))
        })))
        .unwrap();
    }
    for (domain, part) in [
        ("my.ops", "with standard operators"),
        ("ai.onnx.contrib", "onnxruntime-extensions"),
        ("com.microsoft.extensions", "onnxruntime-extensions"),
        (" ", "with standard operators"),
    ] {
        let model = with_graph(|graph| graph.node.push(node(domain, "Magic", &[])));
        let error = refused(&model);
        assert!(
            error.contains(&format!(
                "the operator Magic of the domain {domain} needs a library"
            )),
            "{error}"
        );
        assert!(error.contains(part), "{error}");
        let function = LocalFunction {
            name: "Magic".into(),
            domain: domain.into(),
            ..LocalFunction::default()
        };
        read(&encoded(&Model {
            functions: vec![encoded(&function)],
            ..model
        }))
        .unwrap();
    }
    let hidden = encoded(&Graph {
        node: vec![node("my.ops", "Magic", &[])],
        ..Graph::default()
    });
    let error = refused(&with_attribute(Attribute {
        graph: vec![hidden],
        ..Attribute::default()
    }));
    assert!(error.contains("Magic"), "{error}");
    let compiled = refused(&with_graph(|graph| {
        graph.node.push(node("com.microsoft", "EPContext", &[]))
    }));
    assert!(
        compiled.contains("compiled for one kind of accelerator"),
        "{compiled}"
    );
}

#[test]
fn a_tensor_has_the_bytes_that_its_shape_says() {
    for (dims, data_type, raw) in [
        (&[2i64, 3][..], 1, 24),
        (&[], 7, 8),
        (&[0, 5], 1, 0),
        (&[3], 9, 3),
        (&[3], 10, 6),
        (&[3], 16, 6),
        (&[3], 22, 2),
        (&[5], 26, 2),
    ] {
        read(&encoded(&with_tensor(tensor(dims, data_type, Some(raw))))).unwrap();
    }
    for (dims, data_type, raw, part) in [
        (&[2i64, 3][..], 1, Some(23), "has 23 bytes of data"),
        (&[1 << 40, 1 << 40], 1, Some(8), "has 8 bytes of data"),
        (&[i64::MAX, i64::MAX, 0], 1, Some(4), "has 4 bytes of data"),
        (&[1 << 40], 1, None, "bytes"),
        (&[1 << 40], 7, None, "bytes"),
        (&[1 << 40], 8, None, "bytes"),
        (&[2], 8, Some(2), "type string has 2 bytes"),
        (&[-1], 1, Some(4), "shape [-1]"),
        (&[1], 0, Some(4), "undeclared type"),
        (&[1], 99, Some(4), "element type 99"),
        (&[1; 65], 1, Some(4), "65 axes"),
    ] {
        let error = refused(&with_tensor(tensor(dims, data_type, raw)));
        assert!(error.contains(part), "{error}\nwithout {part}");
    }
    assert!(refused(&with_tensor(tensor(&vec![1; 200_000], 1, Some(4)))).contains("a tensor of 200000 axes"));
    // The same packed: one byte of the file for eight of memory.
    let packed = [&[0x0a, 0xc0, 0x9a, 0x0c][..], &[1; 200_000]].concat();
    let packed = refused(&with_graph(|graph| graph.initializer.push(packed.into())));
    assert!(packed.contains("a tensor in the model has more than"), "{packed}");
    let sparse = SparseTensor {
        dims: vec![1 << 20, 1 << 20],
        ..SparseTensor::default()
    };
    let dense = refused(&with_graph(|graph| {
        graph.sparse_initializer.push(encoded(&sparse))
    }));
    assert!(
        dense.contains("a sparse tensor of shape [1048576, 1048576]"),
        "{dense}"
    );
}

#[test]
fn nesting_and_numbers_of_nodes_are_bounded() {
    let nested = |depth: usize| {
        let mut graph = Graph::default();
        for _ in 0..depth {
            let attribute = Attribute {
                graph: vec![encoded(&graph)],
                ..Attribute::default()
            };
            graph = Graph {
                node: vec![node("", "If", &[attribute])],
                ..Graph::default()
            };
        }
        with_graph(|main| main.node.extend(graph.node))
    };
    read(&encoded(&nested(MAX_DEPTH))).unwrap();
    assert!(refused(&nested(MAX_DEPTH + 1)).contains("nested more than 32 deep"));

    let crowded = with_graph(|graph| graph.node = vec![node("", "Relu", &[]); 500_001]);
    assert!(refused(&crowded).contains("more than 500000 nodes"));
    let empty_nodes = with_graph(|graph| graph.node = vec![Bytes::new(); 1_000_001]);
    assert!(refused(&empty_nodes).contains("a graph in the model has more than"));
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

#[test]
fn functions_that_call_themselves_or_explode_are_refused() {
    let function = |name: &str, calls: &[&str]| {
        encoded(&LocalFunction {
            name: name.into(),
            domain: "own".into(),
            node: calls.iter().map(|callee| node("own", callee, &[])).collect(),
            ..LocalFunction::default()
        })
    };
    let calling = |functions: Vec<Bytes>| Model {
        functions,
        ..with_graph(|graph| graph.node = vec![node("own", "f0", &[])])
    };
    assert!(refused(&calling(vec![function("f0", &["f0"])])).contains("or themselves"));
    assert!(
        refused(&calling(vec![function("f0", &["f1"]), function("f1", &["f0"])])).contains("or themselves")
    );
    // Each calls the next one twice: 2^24 nodes out of 25 small functions.
    let mut doubling: Vec<Bytes> = (0..24)
        .map(|i| function(&format!("f{i}"), &[&format!("f{}", i + 1); 2].map(String::as_str)))
        .collect();
    doubling.push(function("f24", &[]));
    assert!(refused(&calling(doubling)).contains("more than 500000 nodes"));
    let facts = read(&encoded(&calling(vec![
        function("f0", &["f1", "f1"]),
        function("f1", &[]),
    ])))
    .unwrap();
    assert_eq!(facts.nodes, 3);
}

#[test]
fn operator_sets_are_sane() {
    let with = |versions: &[i64]| Model {
        opset_import: versions
            .iter()
            .map(|&version| OperatorSet {
                domain: String::new(),
                version,
            })
            .collect(),
        ..sound()
    };
    assert!(refused(&with(&[0])).contains("version 0 of the operator set ai.onnx"));
    assert!(refused(&with(&[17, 18])).contains("two versions of the operator set ai.onnx"));
    read(&encoded(&with(&[17, 17]))).unwrap();
    assert!(
        refused(&Model {
            training_info: vec![Bytes::new()],
            ..sound()
        })
        .contains("training")
    );
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
