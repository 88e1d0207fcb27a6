//! Integration tests, one binary, a module per behaviour. They run the real program on real files.

mod bad_input;
mod bounded;
#[cfg(feature = "fail-points")]
mod chaos;
#[cfg(feature = "fail-points")]
mod class_b;
mod clock;
mod commands;
mod config_errors;
mod conformance;
mod corpora;
mod damaged_models;
mod dice;
mod drift;
mod end_to_end;
mod execution_providers;
mod fuzzing;
mod gpu;
mod help;
mod images;
mod jpeg;
mod launcher;
mod layers;
mod matrix;
mod model_folders;
mod model_trial;
#[cfg(target_os = "linux")]
mod mount;
mod mutants;
mod odd_values;
mod onnx_bytes;
mod pages;
mod pretrained;
mod recovery;
mod resources;
mod secrets;
mod shutdown;
mod snowflake;
mod splicing;
mod stores;
mod support;
mod trees;
mod untrusted_models;
