//! Sessions that workers take turns at: the way to GPUs, walked on processors, whose memory stands in for pinned memory.

use ort::memory::MemoryInfo;
use std::sync::Arc;

use super::{fixture, options, read_files};
use crate::config::Device;
use crate::model::Model;
use crate::model::device::turns::Turns;
use crate::model::onnx::file::ModelFile;
use crate::model::onnx::in_turn::{InTurn, Taken};
use crate::model::onnx::known::Known;
use crate::model::onnx::providers::Providers;
use crate::model::onnx::runtime;
use crate::model::onnx::session::{OnnxSession, Program};
use crate::tensor::{Tensor, TensorBatch};

/// The first function of a fixture, as ONNX Runtime would run it, and its file.
fn known(path: &str) -> (ModelFile, Arc<Program>) {
    let mut known = Known::of(&read_files(&fixture(path)), &options()).unwrap();
    let function = known.functions.remove(0);
    let file = known.files.remove(&function.path).unwrap();
    let program = file.program(&function.path, &function.inputs, &function.wanted);
    (file, program)
}

fn numbers(rows: usize, seed: usize) -> Tensor {
    let values = (0..rows * 4).map(|at| ((at * 29 + seed * 7) % 31) as f32 * 0.17 - 2.0);
    Tensor::new(vec![rows, 4], values.collect::<Vec<f32>>()).unwrap()
}

fn texts(rows: usize, seed: usize) -> Tensor {
    let values = (0..rows * 2).map(|at| ["a", "é", "", "longer"][(at + seed) % 4].to_string());
    Tensor::new(vec![rows, 2], values.collect::<Vec<String>>()).unwrap()
}

#[test]
fn workers_in_turn_give_what_a_worker_alone_gives_whatever_the_batch() {
    type Rows = fn(usize, usize) -> Tensor;
    let cases: [(&str, Rows); 6] = [
        ("scored/regressor_matrix", numbers),
        ("scored/classifier_arrays", numbers),
        ("scored/classifier_zipmap_string", numbers),
        ("scored/wide_output", numbers),
        ("scored/string_matrix", texts),
        ("scored/fixed_batch", numbers),
    ];
    for (path, rows_of) in cases {
        let (file, program) = known(path);
        let runtime = runtime::load(&options().onnxruntime_paths).unwrap();
        let session = || file.session(&runtime, &Providers::default(), 1).unwrap();
        let turns = Turns::of([(), ()].map(|()| Taken::new(session(), &program, MemoryInfo::default())));
        let alone = || OnnxSession::new(session(), Arc::clone(&program)).unwrap();
        std::thread::scope(|scope| {
            for seed in 0..4 {
                let mut worker = InTurn::new(Arc::clone(&turns), Arc::clone(&program));
                let mut alone = alone();
                scope.spawn(move || {
                    // More rows and fewer: nothing of a batch may be left for the next.
                    for rows in [3, 17, 1, 8, 64, 2] {
                        let batch = TensorBatch {
                            rows,
                            inputs: vec![rows_of(rows, seed)],
                        };
                        let expected = alone.infer(&batch).unwrap();
                        assert_eq!(worker.infer(&batch).unwrap(), expected, "{path}: {rows} rows");
                    }
                });
            }
        });
    }
}

#[test]
fn a_batch_that_a_model_fails_on_is_told_of_and_the_turn_goes_on() {
    let (file, program) = known("scored/regressor_matrix");
    let runtime = runtime::load(&options().onnxruntime_paths).unwrap();
    let session = file.session(&runtime, &Providers::default(), 1).unwrap();
    let turns = Turns::of([Taken::new(session, &program, MemoryInfo::default())]);
    let mut worker = InTurn::new(turns, Arc::clone(&program));
    let wrong = TensorBatch {
        rows: 2,
        inputs: vec![Tensor::new(vec![2, 3], vec![1.0f32; 6]).unwrap()],
    };
    let error = worker.infer(&wrong).unwrap_err().to_string();
    assert!(
        error.contains("the model fails on a batch of 2 rows: ")
            && error.contains("it was given ")
            && error.contains("float32[2, 3]"),
        "{error}"
    );
    let right = TensorBatch {
        rows: 2,
        inputs: vec![numbers(2, 0)],
    };
    assert_eq!(worker.infer(&right).unwrap().len(), program.outputs.len());
}

#[test]
fn trees_and_small_dense_networks_are_for_processors_where_the_job_leaves_it_open() {
    use super::dense::dense;
    use super::made::{Graph, node};
    use crate::config::{Backend, ExecutionProvider};
    use crate::model::OpenOptions;
    use crate::model::device::tests::{Driver, ordinals, place_on};

    let (_folder, driver) = Driver::SOUND.library();
    let dense = dense().files();
    let trees = read_files(&fixture("scored/lightgbm_classifier"));
    let other = Graph::new(12, vec![node("Sin", &["x"], "y")], vec![]).files();
    let auto = OpenOptions::default;
    let on = |device| OpenOptions { device, ..auto() };
    let with = |backend| OpenOptions {
        backend: Some(backend),
        ..auto()
    };
    let named = |provider| OpenOptions {
        execution_providers: vec![provider],
        ..auto()
    };
    for (files, options, gpus) in [
        (&dense, auto(), vec![]),
        (&dense, on(Device::Gpus), vec![0, 1]),
        (&dense, on(Device::Cuda(1)), vec![1]),
        // Who names ONNX Runtime gets it, and it computes them faster on GPUs.
        (&dense, with(Backend::Onnx), vec![0, 1]),
        (&dense, named(ExecutionProvider::Cuda), vec![0, 1]),
        (&trees, auto(), vec![]),
        (&trees, with(Backend::Onnx), vec![]),
        (&trees, on(Device::Gpus), vec![0, 1]),
        (&other, auto(), vec![0, 1]),
        (&other, on(Device::Cpu), vec![]),
    ] {
        let device = Known::of(files, &options).unwrap().device(&options);
        let options = OpenOptions { device, ..options };
        assert_eq!(ordinals(place_on(&options, &driver)), gpus, "{options:?}");
    }
}
