//! GPUs, on machines without: what is refused, in which words, and that nothing was touched; and `auto`, which goes on. What
//! happens on a GPU is not tested here: `scripts/gpu-check` runs it where there is one.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{finish, floe, project};

/// Exit code of a job that asks for what can't be had.
const CONFIG: i32 = 2;

fn flights() -> PathBuf {
    project().join("examples/flights")
}

fn bert() -> PathBuf {
    project().join("tests/fixtures/pretrained/bert-feature-extraction/model")
}

/// Whether this machine has a driver: then what it lacks can't be tested.
fn has_driver() -> bool {
    let found = finish(floe(["inspect", "--json", "echo"])).ok().json();
    let devices = found["devices"].as_array().unwrap();
    !devices[0]
        .as_str()
        .unwrap()
        .starts_with("no GPU: there is no NVIDIA driver")
}

/// What a run on `device` ends with, and whether it made an output.
fn refused(model: &Path, flags: &[&str]) -> (String, bool) {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let mut command = floe(["run", "--model"]);
    command.arg(model).arg("--input").arg(flights().join("data"));
    command.arg("--output").arg(&output).args(flags);
    let done = finish(command);
    assert_eq!(done.code, Some(CONFIG), "{}", done.stderr);
    (done.stderr, output.exists())
}

#[test]
fn a_gpu_that_is_not_there_ends_the_job_before_anything_is_read_or_made() {
    if has_driver() {
        return;
    }
    for (device, key) in [
        (vec!["--device", "cuda"], "model.device: cuda can't be had: "),
        (vec!["--device", "cuda:1"], "model.device: cuda:1 can't be had: "),
        (
            vec!["--execution-providers", "tensorrt,cuda"],
            "model.device: cuda can't be had: ",
        ),
    ] {
        for model in [flights().join("model"), bert()] {
            let is_onnx = !model.ends_with("bert-feature-extraction/model");
            if !is_onnx && device.contains(&"--execution-providers") {
                continue;
            }
            let (said, made) = refused(&model, &device);
            assert!(said.contains(key), "{said}");
            assert!(!made, "an output was made");
            // The program's own lack comes before the machine's.
            let reasons = [
                "there is no NVIDIA driver for this process",
                "ONNX Runtime's CUDA provider is not here",
                "this build of Candle computes on processors",
            ];
            assert!(reasons.iter().any(|reason| said.contains(reason)), "{said}");
        }
    }
}

#[test]
fn without_a_gpu_auto_runs_on_the_processor_and_inspect_says_why() {
    if has_driver() {
        return;
    }
    let said = finish(floe([Path::new("inspect"), &bert()])).ok().stdout;
    assert!(said.contains("candle 0.11 on cpu"), "{said}");
    assert!(
        said.contains("device: no GPU: there is no NVIDIA driver for this process"),
        "{said}"
    );
}

/// A driver that has one device and nothing besides: as far as a machine without a GPU can go.
#[test]
fn a_driver_is_found_and_its_devices_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (source, library) = (folder.path().join("cuda.c"), folder.path().join("libcuda.so.1"));
    std::fs::write(
        &source,
        r#"
#include <stdio.h>
int cuInit(unsigned flags) { return 0; }
int cuDriverGetVersion(int *version) { *version = 13000; return 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
int cuDeviceGetName(char *name, int length, int device) { return snprintf(name, length, "A stand-in") < 0; }
int cuDeviceTotalMem_v2(unsigned long *bytes, int device) { *bytes = 24ul << 30; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) { *value = attribute == 75 ? 8 : 6; return 0; }
"#,
    )
    .unwrap();
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .status();
    assert!(compiled.expect("a C compiler").success());
    let with_driver = |mut command: Command| {
        command.env("LD_LIBRARY_PATH", folder.path());
        command
    };
    let said = finish(with_driver(floe(["inspect", "echo"]))).ok().stdout;
    assert!(
        said.contains("device: cuda:0 (A stand-in, 24.0 GiB, compute capability 8.6)"),
        "{said}"
    );
    // There is no such second device, and the message names the one that there is.
    let out = folder.path().join("out");
    let mut command = with_driver(floe(["run", "--device", "cuda:7", "--model"]));
    command.arg(bert()).arg("--input").arg(flights().join("data"));
    let done = finish({
        command.arg("--output").arg(&out);
        command
    });
    assert_eq!(done.code, Some(CONFIG), "{}", done.stderr);
    assert!(
        done.stderr.contains("model.device: cuda:7 can't be had: ")
            && done
                .stderr
                .contains("has cuda:0 (A stand-in, 24.0 GiB, compute capability 8.6)"),
        "{}",
        done.stderr
    );
    assert!(!out.exists());
}
