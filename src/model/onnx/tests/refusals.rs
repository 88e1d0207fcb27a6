//! Files made byte by byte, each with one thing wrong that a model is refused for.

use bytes::Bytes;
use prost::Message;

use super::sound::*;
use crate::model::onnx::graph::read;
use crate::model::onnx::proto::*;
use crate::model::onnx::walk::MAX_DEPTH;

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
