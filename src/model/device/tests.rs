use super::*;
use crate::config::Device;
use crate::error::ErrorKind;
use std::process::Command;

/// Name, GiB and compute capability.
type Described<'a> = (&'a str, u64, (i32, i32));

/// What a driver answers, in C.
pub struct Driver<'a> {
    /// Of `cuInit`.
    init: i32,
    cuda: i32,
    gpus: &'a [Described<'a>],
}

const HOPPER: Described = ("NVIDIA H100 80GB HBM3", 80, (9, 0));
const TURING: Described = ("Tesla T4", 16, (7, 5));

impl Driver<'_> {
    /// Two GPUs, and nothing wrong with them.
    pub const SOUND: Driver<'static> = Driver {
        init: 0,
        cuda: 13_000,
        gpus: &[HOPPER, TURING],
    };

    /// Compiles a library that answers so.
    pub fn library(&self) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let list = |each: &dyn Fn(&Described) -> String| -> String {
            let mut all: Vec<_> = self.gpus.iter().map(each).collect();
            all.push("0".into());
            all.join(",")
        };
        let source = format!(
            r#"
#include <string.h>
#include <stdio.h>
static const char *names[] = {{{names}}};
static const unsigned long gib[] = {{{gib}}};
static const int major[] = {{{major}}}, minor[] = {{{minor}}};
int cuInit(unsigned flags) {{ return flags ? 1 : {init}; }}
int cuDriverGetVersion(int *version) {{ *version = {cuda}; return 0; }}
int cuDeviceGetCount(int *count) {{ *count = {count}; return 0; }}
int cuDeviceGet(int *device, int ordinal) {{ *device = ordinal + 40; return 0; }}
int cuDeviceGetName(char *name, int length, int device) {{ snprintf(name, length, "%s", names[device - 40]); return 0; }}
int cuDeviceTotalMem_v2(unsigned long *bytes, int device) {{ *bytes = gib[device - 40] << 30; return 0; }}
int cuDeviceGetAttribute(int *value, int attribute, int device) {{
    if (attribute != 75 && attribute != 76) return 1;
    *value = (attribute == 75 ? major : minor)[device - 40];
    return 0;
}}
int cuGetErrorName(int error, const char **name) {{ *name = error == 803 ? "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH" : 0; return error != 803; }}
"#,
            names = list(&|(name, ..)| format!("{name:?}")),
            gib = list(&|(_, gib, _)| gib.to_string()),
            major = list(&|(.., (major, _))| major.to_string()),
            minor = list(&|(.., (_, minor))| minor.to_string()),
            init = self.init,
            cuda = self.cuda,
            count = self.gpus.len(),
        );
        let (c, library) = (folder.path().join("cuda.c"), folder.path().join("libcuda.so.1"));
        std::fs::write(&c, source).unwrap();
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .args([&library, &c])
            .output();
        let compiled = compiled.expect("a C compiler");
        assert!(
            compiled.status.success(),
            "{}",
            String::from_utf8_lossy(&compiled.stderr)
        );
        (folder, library)
    }
}

/// A backend that needs nothing but a GPU that is not too old.
const NEEDS: Needs = Needs {
    backend: "Candle",
    capability: (7, 0),
    libraries: &[],
};

fn options(device: Device, gpus: Option<u32>) -> OpenOptions {
    OpenOptions {
        device,
        gpus: Request {
            count: gpus,
            models: None,
        },
        onnxruntime_paths: vec!["/nowhere/libonnxruntime.so".into()],
        ..OpenOptions::default()
    }
}

/// Where `options` lead on a machine with this driver, for a backend that needs nothing else.
#[cfg(feature = "onnx")]
pub fn place_on(options: &OpenOptions, driver: &Path) -> Place {
    place_with(options, Ok(&NEEDS), driver).unwrap()
}

pub fn ordinals(place: Place) -> Vec<u32> {
    match place {
        Place::Processor(_) => vec![],
        Place::Gpus(gpus) => gpus.iter().map(|gpu| gpu.ordinal).collect(),
    }
}

#[test]
fn a_job_gets_all_gpus_or_those_it_asks_for() {
    let (_folder, driver) = Driver::SOUND.library();
    let cases = [
        (Device::Auto, None, vec![0, 1]),
        (Device::Auto, Some(0), vec![]),
        (Device::Auto, Some(1), vec![0]),
        (Device::Cpu, Some(2), vec![]),
        (Device::Gpus, None, vec![0, 1]),
        (Device::Gpus, Some(1), vec![0]),
        (Device::Cuda(1), None, vec![1]),
        (Device::Cuda(1), Some(1), vec![1]),
    ];
    for (device, gpus, expected) in cases {
        let placed = place_with(&options(device, gpus), Ok(&NEEDS), &driver).unwrap();
        assert_eq!(ordinals(placed), expected, "{device:?} {gpus:?}");
    }
}

fn refused(options: &OpenOptions, needs: &Needs, driver: &Path) -> String {
    let error = place_with(options, Ok(needs), driver).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    error.to_string()
}

#[test]
fn what_is_asked_for_and_not_there_is_an_error_that_names_driver_and_devices() {
    let (_folder, driver) = Driver::SOUND.library();
    let seen = "(CUDA 13.0) has cuda:0 (NVIDIA H100 80GB HBM3, 80.0 GiB, compute capability 9.0), cuda:1 (Tesla T4, 16.0 \
                GiB, compute capability 7.5)";
    let hopper = Needs {
        capability: (8, 0),
        ..NEEDS
    };
    let unknown = Needs {
        libraries: &["libfloe-has-no-such-library.so.13"],
        ..NEEDS
    };
    let cases = [
        (
            options(Device::Cuda(2), None),
            &NEEDS,
            "model.device: cuda:2 can't be had: there is no such device; ",
        ),
        (
            options(Device::Gpus, Some(3)),
            &NEEDS,
            "model.device: cuda can't be had: 3 GPUs were asked for, and there are 2; ",
        ),
        (
            options(Device::Auto, Some(3)),
            &NEEDS,
            "resources.gpu_requests: 3 can't be had: 3 GPUs were asked for, and there are 2; ",
        ),
        (
            options(Device::Gpus, None),
            &hopper,
            "cuda:1 (Tesla T4, 16.0 GiB, compute capability 7.5) is older than what Candle is built for, compute \
             capability 8.0; ",
        ),
        (
            options(Device::Cuda(0), None),
            &unknown,
            "Candle needs libfloe-has-no-such-library.so.13, not found in /nowhere/cuda-13 or where the system looks; ",
        ),
    ];
    for (options, needs, expected) in cases {
        let text = refused(&options, needs, &driver);
        assert!(text.contains(expected) && text.contains(seen), "{text}");
    }
}

#[test]
fn what_a_driver_lacks_is_said_with_the_way_out() {
    let cases = [
        (
            Driver {
                cuda: 12_080,
                ..Driver::SOUND
            },
            "the NVIDIA driver supports CUDA up to 12.8, and 13.0 is needed",
            "install driver 580 or newer",
        ),
        (
            Driver {
                init: 803,
                ..Driver::SOUND
            },
            "the NVIDIA driver doesn't start: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (error 803)",
            "look at what nvidia-smi says",
        ),
        (
            Driver {
                init: 34,
                ..Driver::SOUND
            },
            "the libcuda.so.1 that was found is the stub",
            "nvidia-smi",
        ),
        (
            Driver {
                init: 100,
                ..Driver::SOUND
            },
            "the NVIDIA driver offers no device to this process",
            "CUDA_VISIBLE_DEVICES",
        ),
        (
            Driver {
                gpus: &[],
                ..Driver::SOUND
            },
            "the NVIDIA driver offers no device to this process",
            "nvidia.com/gpu",
        ),
    ];
    for (driver, why, hint) in cases {
        let (_folder, library) = driver.library();
        let text = refused(&options(Device::Gpus, None), &NEEDS, &library);
        assert!(text.contains(why) && text.contains(hint), "{text}");
    }
    let text = refused(
        &options(Device::Gpus, None),
        &NEEDS,
        Path::new("/nowhere/libcuda.so.1"),
    );
    assert!(
        text.contains("model.device: cuda can't be had: there is no NVIDIA driver for this process (")
            && text.contains("docker run --gpus all"),
        "{text}"
    );
}

#[test]
fn a_gpu_that_nobody_asked_for_and_that_can_not_be_used_is_left_with_a_word() {
    let (_folder, driver) = Driver::SOUND.library();
    let lacking = Err((
        "this build of Candle computes on processors".to_string(),
        String::new(),
    ));
    let place = place_with(&options(Device::Auto, None), lacking, &driver).unwrap();
    let Place::Processor(Some(said)) = place else {
        panic!("{place:?}")
    };
    assert!(
        said.contains("this build of Candle computes on processors; NVIDIA driver")
            && said.contains("cuda:0 (NVIDIA H100"),
        "{said}"
    );
    // A machine without a driver has nothing that could be left.
    let none = place_with(
        &options(Device::Auto, None),
        Ok(&NEEDS),
        Path::new("/nowhere/libcuda.so.1"),
    );
    assert_eq!(none.unwrap(), Place::Processor(None));
}

#[test]
fn a_report_names_driver_devices_and_libraries() {
    let (_folder, driver) = Driver::SOUND.library();
    let lines = report_with(&["/nowhere/libonnxruntime.so".into()], &driver);
    assert!(lines[0].ends_with("(CUDA 13.0)"), "{lines:?}");
    assert_eq!(
        lines[2], "cuda:1 (Tesla T4, 16.0 GiB, compute capability 7.5)",
        "{lines:?}"
    );
    assert!(
        lines[3].starts_with("CUDA libraries are not fetched"),
        "{lines:?}"
    );
    let none = report_with(&[], Path::new("/nowhere/libcuda.so.1"));
    assert!(
        matches!(none.as_slice(), [line] if line.starts_with("no GPU: there is no NVIDIA driver")),
        "{none:?}"
    );
}

#[test]
fn compute_capabilities_are_read_as_they_are_set() {
    for (text, expected) in [("75", (7, 5)), ("90a", (9, 0)), ("120", (12, 0))] {
        assert_eq!(parsed(text), expected);
    }
}
