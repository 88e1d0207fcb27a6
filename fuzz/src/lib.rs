//! What is fuzzed: one module per entrance through which foreign bytes come in.
//!
//! A target is a function of bytes that must not panic, whatever they are, and that checks what Floe promises about
//! them: an error names its place, what is read is written and read back the same. Fuzzing drives these functions with
//! `cargo fuzz`; the tests of the program drive them as well, with the seeds and with damaged copies of them, so they
//! always compile. Only the public interface of the library is used.

pub mod images;
pub mod input;
pub mod job_file;
pub mod marker_json;
pub mod onnx_precheck;
pub mod parquet_seeds;
pub mod partition_values;
pub mod places;
pub mod plan_json;
pub mod pretrained_folders;
pub mod record_json;
pub mod tensor_convert;
pub mod tree_models;
pub mod unit_reading;

/// An entrance.
pub struct Target {
    /// As `cargo fuzz` calls it.
    pub name: &'static str,
    /// Tries one input; panics when a promise is broken.
    pub run: fn(&[u8]),
    /// Inputs that get far, for mutation to start from.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every entrance.
pub const TARGETS: &[Target] = &[
    Target {
        name: "unit_reading",
        run: unit_reading::run,
        seeds: unit_reading::seeds,
    },
    Target {
        name: "job_file",
        run: job_file::run,
        seeds: job_file::seeds,
    },
    Target {
        name: "plan_json",
        run: plan_json::run,
        seeds: plan_json::seeds,
    },
    Target {
        name: "record_json",
        run: record_json::run,
        seeds: record_json::seeds,
    },
    Target {
        name: "marker_json",
        run: marker_json::run,
        seeds: marker_json::seeds,
    },
    Target {
        name: "partition_values",
        run: partition_values::run,
        seeds: partition_values::seeds,
    },
    Target {
        name: "tensor_convert",
        run: tensor_convert::run,
        seeds: tensor_convert::seeds,
    },
    Target {
        name: "places",
        run: places::run,
        seeds: places::seeds,
    },
    Target {
        name: "onnx_precheck",
        run: onnx_precheck::run,
        seeds: onnx_precheck::seeds,
    },
    Target {
        name: "images",
        run: images::run,
        seeds: images::seeds,
    },
    Target {
        name: "pretrained_folders",
        run: pretrained_folders::run,
        seeds: pretrained_folders::seeds,
    },
    Target {
        name: "tree_models",
        run: tree_models::run,
        seeds: tree_models::seeds,
    },
];

/// To be called once before the first input.
///
/// Fuzzing ends at every panic, even at one that is caught. Floe catches panics of the Parquet decoder on purpose and
/// reports them as corrupt data, so the hook has to go; a panic that is not caught still ends the run, in [`fuzz`].
pub fn start() {
    std::panic::set_hook(Box::new(|info| LAST_PANIC.set(info.to_string())));
}

/// Tries one input; ends the process when a promise is broken.
pub fn fuzz(run: fn(&[u8]), bytes: &[u8]) {
    if std::panic::catch_unwind(|| run(bytes)).is_err() {
        eprintln!("{}", LAST_PANIC.take());
        std::process::abort();
    }
}

thread_local! {
    static LAST_PANIC: std::cell::Cell<String> = const { std::cell::Cell::new(String::new()) };
}
