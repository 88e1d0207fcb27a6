//! A model file is untrusted input: whatever is wrong with it is said in words, with exit code 7 and the file's name,
//! before the output is touched, and within bounds of time and memory.
//!
//! Real processes throughout: what must not happen (a hang, a crash in ONNX Runtime, a bomb) would end the test.

use std::os::unix::fs::symlink;

use crate::model_trial::{Trial, adding, ones};
use crate::onnx_bytes::*;

#[test]
fn the_models_of_this_page_are_sound_but_for_their_one_fault() {
    let weights = field(5, tensor("W", FLOAT, &[4], &ones()));
    let trial = Trial::of(&adding(&[weights], &[]));
    let ended = trial.run();
    assert_eq!(ended.code, Some(0), "{}", ended.said());
    assert!(trial.output().join("_SUCCESS").exists());
}

/// Failure matrix: 53.
#[test]
fn weights_in_other_files_are_refused_wherever_they_hide_and_wherever_they_lie() {
    let initializer = |location: &str| adding(&[field(5, external("W", location))], &[]);
    let constant = |attribute: Vec<u8>| node("Constant", &[], &["W"], &[attribute]);
    let outside = || external("W", "weights.bin");
    let sparse =
        |values: Vec<u8>, indices: Vec<u8>| [field(1, values), field(2, indices), number(3, 4)].concat();
    let inside = tensor("W", FLOAT, &[1], &ones()[..4]);
    let index = tensor("i", INT64, &[1], &[0; 8]);
    let branch = [
        constant(tensor_attribute("value", &outside())),
        field(12, value("W", FLOAT, &[4])),
    ]
    .concat();
    let branches = node(
        "If",
        &["yes"],
        &["W"],
        &[
            graph_attribute("then_branch", &branch),
            graph_attribute("else_branch", &branch),
        ],
    );
    let yes = field(5, tensor("yes", 9, &[], &[1]));
    let function = |body: Vec<u8>| {
        let parts = [
            field(1, "weights"),
            field(5, "W"),
            body,
            field(9, number(2, 17)),
            field(10, "own"),
        ];
        field(25, parts.concat())
    };
    let call = node_of("own", "weights", &[], &["W"], &[]);
    let training = |place: u32| field(20, field(place, graph(&[field(5, outside())])));
    let no_mark = {
        // Without `data_location`: readers that go by the entries alone would still open the file.
        let whole = outside();
        whole[..whole.len() - 2].to_vec()
    };
    let cases = [
        ("beside the model", initializer("weights.bin"), "weights.bin"),
        ("with ./ before", initializer("./weights.bin"), "./weights.bin"),
        (
            "by an absolute path",
            initializer("/etc/hostname"),
            "/etc/hostname",
        ),
        (
            "in the folder above",
            initializer("../weights.bin"),
            "../weights.bin",
        ),
        (
            "by a roundabout way",
            initializer("sub/../weights.bin"),
            "sub/../weights.bin",
        ),
        ("through a link", initializer("link.bin"), "link.bin"),
        (
            "by a URL",
            initializer("file:///etc/hostname"),
            "file:///etc/hostname",
        ),
        ("nowhere", initializer("gone.bin"), "gone.bin"),
        ("under no name", initializer(""), "outside its own file"),
        (
            "without the mark",
            adding(&[field(5, no_mark)], &[]),
            "weights.bin",
        ),
        (
            "with the mark alone",
            adding(
                &[field(
                    5,
                    [tensor_without_data("W", FLOAT, &[4]), number(14, 1)].concat(),
                )],
                &[],
            ),
            "another file",
        ),
        (
            "in an attribute",
            adding(&[constant(tensor_attribute("value", &outside()))], &[]),
            "weights.bin",
        ),
        (
            "in a list of tensors",
            adding(&[constant(attribute("value", 10, 9, outside()))], &[]),
            "weights.bin",
        ),
        ("in a branch", adding(&[yes, branches], &[]), "weights.bin"),
        (
            "in a function",
            adding(
                std::slice::from_ref(&call),
                &[
                    field(8, [field(1, "own"), number(2, 1)].concat()),
                    function(node_in_function(
                        "",
                        "Constant",
                        &["W"],
                        &[tensor_attribute("value", &outside())],
                    )),
                ],
            ),
            "weights.bin",
        ),
        (
            "in sparse values",
            adding(&[field(15, sparse(outside(), index.clone()))], &[]),
            "weights.bin",
        ),
        (
            "in sparse indices",
            adding(&[field(15, sparse(inside.clone(), outside()))], &[]),
            "weights.bin",
        ),
        (
            "in a sparse attribute",
            adding(
                &[constant(attribute(
                    "sparse_value",
                    22,
                    11,
                    sparse(outside(), index),
                ))],
                &[],
            ),
            "weights.bin",
        ),
        (
            "in how training starts",
            adding(&[field(5, tensor("W", FLOAT, &[4], &ones()))], &[training(1)]),
            "training information",
        ),
        (
            "in how training goes on",
            adding(&[field(5, tensor("W", FLOAT, &[4], &ones()))], &[training(2)]),
            "training information",
        ),
    ];
    for (name, bytes, words) in cases {
        let trial = Trial::of(&bytes);
        // The files are there and sound, so that nothing but a check of Floe's own stands in the way.
        std::fs::write(trial.model().join("weights.bin"), ones()).unwrap();
        std::fs::write(trial.folder.path().join("weights.bin"), ones()).unwrap();
        std::fs::create_dir(trial.model().join("sub")).unwrap();
        symlink("weights.bin", trial.model().join("link.bin")).unwrap();
        let sort = match words {
            "training information" => words,
            _ => "the model keeps weights outside its own file: the tensor W is in",
        };
        trial.refused(name, &[words, sort]);
    }
}

/// Failure matrix: 53.
#[test]
fn tensors_that_are_not_as_large_as_they_say_are_refused() {
    let weight = |tensor: Vec<u8>| adding(&[field(5, tensor)], &[]);
    let floats = |count: usize| field(4, 1f32.to_le_bytes().repeat(count));
    let most = i64::MAX;
    let cases = [
        (
            "a byte too few",
            weight(tensor("W", FLOAT, &[4], &ones()[..15])),
            "has 15 bytes of data",
        ),
        (
            "a byte too many",
            weight(tensor("W", FLOAT, &[4], &[0; 17])),
            "has 17 bytes of data",
        ),
        (
            "no data",
            weight(tensor_without_data("W", FLOAT, &[1 << 40])),
            "[1099511627776] has only",
        ),
        (
            "a product past 64 bits",
            weight(tensor("W", FLOAT, &[most, most, 4], &ones())),
            "has 16 bytes of data",
        ),
        (
            "a product that wraps to the right size",
            weight(tensor("W", FLOAT, &[1 << 62, 4, 4], &ones())),
            "damaged",
        ),
        (
            "less than nothing",
            weight(tensor("W", FLOAT, &[-4], &ones())),
            "shape [-4]",
        ),
        (
            "axes without end",
            weight(tensor("W", FLOAT, &[1; 1000], &ones()[..4])),
            "1000 axes",
        ),
        (
            "a list shorter than its shape",
            weight([tensor_without_data("W", FLOAT, &[1000]), floats(4)].concat()),
            "[1000] has only",
        ),
        (
            "an element type that there is not",
            weight(tensor("W", 77, &[4], &ones())),
            "element type 77",
        ),
        (
            "a sparse tensor that is vast when written out",
            adding(
                &[field(
                    15,
                    [
                        field(1, tensor("W", FLOAT, &[1], &ones()[..4])),
                        field(2, tensor("i", INT64, &[1], &[0; 8])),
                        number(3, 1 << 40),
                    ]
                    .concat(),
                )],
                &[],
            ),
            "more than 268435456 elements",
        ),
    ];
    for (name, bytes, words) in cases {
        Trial::of(&bytes).refused(name, &[words]);
    }
    let vast = [
        field(11, value("X", FLOAT, &[-1, 1 << 40])),
        field(12, value("y", FLOAT, &[-1, 1 << 40])),
    ];
    let vast = [vast.concat(), node("Relu", &["X"], &["y"], &[])].concat();
    let vast = [number(1, 8), field(7, vast), field(8, number(2, 17))].concat();
    Trial::of(&vast).refused("an input that no machine could hold", &["may take 1073741824"]);
}

/// A graph of `If`s in `If`s.
fn nested(depth: usize) -> Vec<u8> {
    let mut body = [node(
        "Constant",
        &[],
        &["W"],
        &[tensor_attribute("value", &tensor("", FLOAT, &[4], &ones()))],
    )]
    .concat();
    body.extend(field(12, value("W", FLOAT, &[4])));
    for _ in 0..depth {
        let branches = ["then_branch", "else_branch"].map(|name| graph_attribute(name, &body));
        // One of the two is enough to nest; both would double at each level.
        body = [
            node("If", &["yes"], &["W"], &branches[..1]),
            field(12, value("W", FLOAT, &[4])),
        ]
        .concat();
    }
    body
}

/// Failure matrix: 53.
#[test]
fn graphs_that_are_bombs_or_cannot_run_are_refused() {
    let yes = field(5, tensor("yes", 9, &[], &[1]));
    let deep = |depth| {
        let outermost = graph_attribute("then_branch", &nested(depth));
        adding(&[yes.clone(), node("If", &["yes"], &["W"], &[outermost])], &[])
    };
    let crowd = node("Relu", &["X"], &["a"], &[]).repeat(500_001);
    let function = |name: String, body: Vec<u8>| {
        let parts = [
            field(1, name),
            field(5, "W"),
            body,
            field(9, number(2, 17)),
            field(10, "own"),
        ];
        field(25, parts.concat())
    };
    let calls = |callee: String| node_in_function("own", &callee, &["W"], &[]);
    let calling_f0 = |functions: Vec<Vec<u8>>| {
        let own = vec![field(8, [field(1, "own"), number(2, 1)].concat())];
        adding(
            &[node_of("own", "f0", &[], &["W"], &[])],
            &[own, functions].concat(),
        )
    };
    let mut doubling: Vec<_> = (0..24)
        .map(|level| function(format!("f{level}"), calls(format!("f{}", level + 1)).repeat(2)))
        .collect();
    doubling.push(function("f24".into(), vec![]));
    let bomb = calling_f0(doubling);
    let recursive = calling_f0(vec![function("f0".into(), calls("f0".into()))]);
    let cyclic = model(
        &graph(&[
            node("Add", &["X", "b"], &["a"], &[]),
            node("Add", &["a", "X"], &["b"], &[]),
            node("Relu", &["a"], &["y"], &[]),
        ]),
        &[],
    );
    let custom = model(&graph(&[node_of("evil.ops", "Run", &["X"], &["y"], &[])]), &[]);
    let relu = graph(&[node("Relu", &["X"], &["y"], &[])]);
    let too_new = [number(1, 8), field(7, &relu), field(8, number(2, 9999))].concat();
    let no_opset = [number(1, 8), field(7, &relu)].concat();
    let from_the_future = [number(1, 9999), field(7, &relu), field(8, number(2, 17))].concat();
    // Four tebibytes that ONNX Runtime makes while it loads the model, which computes constants; and when it runs.
    let large = field(5, tensor("shape", INT64, &[1], &(1i64 << 40).to_le_bytes()));
    let sum = || node("ReduceSum", &["big"], &["W"], &[]);
    let inflated = adding(
        &[large, node("ConstantOfShape", &["shape"], &["big"], &[]), sum()],
        &[],
    );
    let shape = [1i64 << 36, 1, 4].map(i64::to_le_bytes).concat();
    let large = field(5, tensor("shape", INT64, &[3], &shape));
    let inflating = adding(
        &[large, node("Expand", &["X", "shape"], &["big"], &[]), sum()],
        &[],
    );
    let cases = [
        ("nesting", deep(60), "nested more than 32 deep"),
        (
            "deeper nesting than a stack holds",
            deep(2000),
            "nested more than 32 deep",
        ),
        ("a crowd", model(&graph(&[crowd]), &[]), "more than 500000 nodes"),
        ("functions that double", bomb, "more than 500000 nodes"),
        ("a function that calls itself", recursive, "or themselves"),
        ("a cycle", cyclic, "doesn't accept the model"),
        ("an operator of a library", custom, "Floe never loads one"),
        ("a later operator set", too_new, "9999"),
        ("no operator set", no_opset, "names no version"),
        ("a later format", from_the_future, "9999"),
        ("a constant that inflates", inflated, "allocate memory"),
        ("rows that inflate", inflating, "allocate memory"),
    ];
    for (name, bytes, words) in cases {
        Trial::of(&bytes).refused(name, &[words]);
    }
}

/// Failure matrix: 53.
#[test]
fn other_formats_are_known_by_their_bytes_whatever_they_are_called() {
    let safetensors = [&16u64.to_le_bytes()[..], br#"{"a":{"dtype":1}}"#].concat();
    let torch = [&b"PK\x03\x04\0\0\0\0"[..], b"archive/data.pkl", &[0; 99]].concat();
    let cases: [(&[u8], &str, &str); 8] = [
        (b"", "an empty file", "export the model again"),
        (
            b"\x80\x04\x95\x10\0\0\0\0\0\0\0\x8c\x05posix",
            "a Python pickle",
            "skl2onnx",
        ),
        (
            b"cposix\nsystem\np0\n(S'true'\np1\ntp2\nRp3\n.",
            "a Python pickle",
            "skl2onnx",
        ),
        (
            b"ccopy_reg\n_reconstructor\n(csklearn.svm\nSVC\n.",
            "a Python pickle",
            "skl2onnx",
        ),
        (
            b"\x80\x03cjoblib.numpy_pickle\nNumpyArrayWrapper\nq\0)\x81q\x01.",
            "a Python pickle",
            "skl2onnx",
        ),
        (&torch, "a PyTorch archive", "torch.onnx.export"),
        (&safetensors, "safetensors", "save_pretrained"),
        (b"GGUF\x03\0\0\0", "a GGUF model", "give the original model"),
    ];
    for (bytes, what, way_out) in cases {
        Trial::of(bytes).refused(what, &[what, way_out]);
        let trial = Trial::new();
        std::fs::write(trial.model().join("weights"), bytes).unwrap();
        trial.refused(what, &[what, way_out]);
    }
}

/// Failure matrix: 55.
#[test]
fn a_model_that_returns_fewer_rows_once_it_sees_real_data_fails_on_its_batch() {
    let of_shape =
        |name: &str, element: i64, dims: &[i64], data: &[u8]| field(5, tensor(name, element, dims, data));
    let bytes = model(
        &graph(&[
            of_shape("first", INT64, &[], &[0; 8]),
            of_shape("five", FLOAT, &[], &5f32.to_le_bytes()),
            node(
                "Gather",
                &["X", "first"],
                &["length"],
                &[attribute_number("axis", 1)],
            ),
            node("Less", &["length", "five"], &["is_small"], &[]),
            // Rows of zeros are small: the trial run gets all of them back.
            node(
                "Compress",
                &["X", "is_small"],
                &["y"],
                &[attribute_number("axis", 0)],
            ),
        ]),
        &[],
    );
    let trial = Trial::of(&bytes);
    let ended = trial.run();
    ended.fails(
        "fewer rows",
        7,
        &[
            "the model's output y has",
            "rows of input",
            "part-0",
            // Which of several that fail is met first depends on who takes which batch.
            "row group ",
        ],
    );
    assert!(!trial.output().join("_SUCCESS").exists());
    let parquet = std::fs::read_dir(trial.output()).unwrap();
    let parquet = parquet.filter(|entry| {
        entry
            .as_ref()
            .unwrap()
            .file_name()
            .to_str()
            .unwrap()
            .ends_with(".parquet")
    });
    assert_eq!(parquet.count(), 0, "nothing was written");
}
