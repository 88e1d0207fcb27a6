//! NVIDIA's driver: found at run time, and asked for what it has.
//!
//! `libcuda.so.1` belongs to the driver, is put into containers by the engine that runs them, and is never part of an image.
//! So it is loaded, not linked, and its absence is an answer. The functions and numbers are those of the CUDA driver
//! interface (`cuda.h`), which keeps them.

#![allow(unsafe_code)]

use libloading::{Library, Symbol};
use std::ffi::{CStr, c_char, c_int, c_uint};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::Gpu;

/// The driver's library, as the loader of the system finds it.
pub const DRIVER: &str = "libcuda.so.1";

/// What the driver has to support: the libraries that Floe uses are those of CUDA 13.0.
const NEEDED: (u32, u32) = (13, 0);
/// The first driver that supports it.
const NEEDED_DRIVER: &str = "580";

/// Longest name of a device that is asked for.
const NAME_BYTES: usize = 256;

const SUCCESS: c_int = 0;
const ERROR_STUB_LIBRARY: c_int = 34;
const ERROR_NO_DEVICE: c_int = 100;
const CAPABILITY_MAJOR: c_int = 75;
const CAPABILITY_MINOR: c_int = 76;

/// A driver and its devices.
#[derive(Clone, Debug, PartialEq)]
pub struct Survey {
    /// Newest CUDA version that the driver supports.
    pub cuda: (u32, u32),
    /// The driver's own version, e.g. `580.95.05`, where the kernel module says it.
    pub version: Option<String>,
    /// In the driver's order; never none.
    pub gpus: Vec<Gpu>,
}

/// Why there is no GPU for this process.
#[derive(Clone, Debug, PartialEq)]
pub enum Missing {
    /// The library could not be loaded.
    Driver(String),
    /// It is no driver, or one without a function that every driver has.
    Function(&'static str),
    /// It can't begin: its number and name of the error.
    Start(i32, String),
    /// It supports no CUDA version that is new enough.
    TooOld((u32, u32)),
    /// It works, and has no device.
    Device,
}

impl Missing {
    /// In words.
    pub fn why(&self) -> String {
        match self {
            Missing::Driver(cause) => format!("there is no NVIDIA driver for this process ({cause})"),
            Missing::Function(name) => format!("the NVIDIA driver has no function {name}"),
            Missing::Start(ERROR_STUB_LIBRARY, _) => format!(
                "the {DRIVER} that was found is the stub that programs are linked with, not a driver's"
            ),
            Missing::Start(number, name) => {
                format!("the NVIDIA driver doesn't start: {name} (error {number})")
            }
            Missing::TooOld((major, minor)) => format!(
                "the NVIDIA driver supports CUDA up to {major}.{minor}, and {}.{} is needed",
                NEEDED.0, NEEDED.1
            ),
            Missing::Device => "the NVIDIA driver offers no device to this process".to_string(),
        }
    }

    /// What to do.
    pub fn hint(&self) -> String {
        match self {
            Missing::Driver(_) | Missing::Function(_) => format!(
                "run it on a machine with an NVIDIA GPU and driver {NEEDED_DRIVER} or newer (in a container: with nvidia.com/gpu \
                 requested, or docker run --gpus all), or set model.device to cpu"
            ),
            Missing::Start(..) => format!(
                "look at what nvidia-smi says; driver {NEEDED_DRIVER} or newer is needed, of one version inside and outside \
                 of the container"
            ),
            Missing::TooOld(_) => {
                format!("install driver {NEEDED_DRIVER} or newer, or set model.device to cpu")
            }
            Missing::Device => {
                "see whether the container was given a GPU (nvidia.com/gpu, docker run --gpus all) and \
                 what CUDA_VISIBLE_DEVICES says, or set model.device to cpu"
                    .to_string()
            }
        }
    }

    /// What is worth saying although nobody asked for a GPU: a driver that is there.
    pub fn seen(&self) -> Option<String> {
        match self {
            Missing::Driver(_) | Missing::Device => None,
            _ => Some(match module_version() {
                Some(version) => format!("NVIDIA driver {version}"),
                None => "an NVIDIA driver is there".to_string(),
            }),
        }
    }
}

impl Survey {
    /// E.g. `NVIDIA driver 580.95.05 (CUDA 13.0)`.
    pub fn driver_words(&self) -> String {
        let version = self.version.as_deref().unwrap_or("of unknown version");
        format!("NVIDIA driver {version} (CUDA {}.{})", self.cuda.0, self.cuda.1)
    }

    /// Driver and devices on a line.
    pub fn describe(&self) -> String {
        let gpus: Vec<_> = self.gpus.iter().map(Gpu::to_string).collect();
        format!("{} has {}", self.driver_words(), gpus.join(", "))
    }
}

/// Asks the driver `library`, which stays loaded.
///
/// # Errors
/// Why there is none.
pub fn survey(library: &Path) -> Result<Survey, Missing> {
    // The driver's functions may be called by several threads; but two of them must not both load it.
    static ASKING: Mutex<()> = Mutex::new(());
    let _asking = ASKING.lock().unwrap_or_else(PoisonError::into_inner);
    let driver = Driver::load(library)?;
    let found = driver.survey();
    // What CUDA's own libraries have of it by then must not go away under them.
    std::mem::forget(driver.library);
    found
}

struct Driver {
    library: Library,
}

impl Driver {
    fn load(library: &Path) -> Result<Driver, Missing> {
        // SAFETY: a driver's library does nothing when it is loaded that this process could mind; whoever can put another
        // one in its place can replace this program, too.
        let loaded = unsafe { Library::new(library) };
        let library = loaded.map_err(|cause| Missing::Driver(words(&cause)))?;
        Ok(Driver { library })
    }

    fn survey(&self) -> Result<Survey, Missing> {
        let init = self.function::<unsafe extern "C" fn(c_uint) -> c_int>("cuInit")?;
        let version = self.function::<unsafe extern "C" fn(*mut c_int) -> c_int>("cuDriverGetVersion")?;
        let count = self.function::<unsafe extern "C" fn(*mut c_int) -> c_int>("cuDeviceGetCount")?;
        let mut cuda = 0;
        // SAFETY: as `cuda.h` declares it, with a number to write to; it may be called before `cuInit`.
        let known = unsafe { version(&mut cuda) } == SUCCESS;
        let cuda = ((cuda / 1000).unsigned_abs(), (cuda % 1000 / 10).unsigned_abs());
        // SAFETY: as `cuda.h` declares it; no flags are defined.
        match unsafe { init(0) } {
            SUCCESS => {}
            ERROR_NO_DEVICE => return Err(Missing::Device),
            // Said first, since it is the reason for the other.
            _ if known && cuda < NEEDED => return Err(Missing::TooOld(cuda)),
            number => return Err(Missing::Start(number, self.name_of(number))),
        }
        if cuda < NEEDED {
            return Err(Missing::TooOld(cuda));
        }
        let mut devices = 0;
        // SAFETY: as `cuda.h` declares it, after `cuInit`, with a number to write to.
        self.check(unsafe { count(&mut devices) })?;
        let gpus: Vec<Gpu> = (0..devices)
            .map(|ordinal| self.gpu(ordinal))
            .collect::<Result<_, _>>()?;
        if gpus.is_empty() {
            return Err(Missing::Device);
        }
        Ok(Survey {
            cuda,
            version: module_version(),
            gpus,
        })
    }

    fn gpu(&self, ordinal: c_int) -> Result<Gpu, Missing> {
        let get = self.function::<unsafe extern "C" fn(*mut c_int, c_int) -> c_int>("cuDeviceGet")?;
        let name_of =
            self.function::<unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int>("cuDeviceGetName")?;
        let memory =
            self.function::<unsafe extern "C" fn(*mut usize, c_int) -> c_int>("cuDeviceTotalMem_v2")?;
        let attribute =
            self.function::<unsafe extern "C" fn(*mut c_int, c_int, c_int) -> c_int>("cuDeviceGetAttribute")?;
        let (mut device, mut bytes, mut major, mut minor) = (0, 0, 0, 0);
        let mut name = [0 as c_char; NAME_BYTES];
        // SAFETY: all as `cuda.h` declares them, after `cuInit`, each with room for what it writes: the name is cut to the
        // length that is given, with a zero byte at its end, and the buffer has one more in any case.
        unsafe {
            self.check(get(&mut device, ordinal))?;
            self.check(name_of(name.as_mut_ptr(), NAME_BYTES as c_int - 1, device))?;
            self.check(memory(&mut bytes, device))?;
            self.check(attribute(&mut major, CAPABILITY_MAJOR, device))?;
            self.check(attribute(&mut minor, CAPABILITY_MINOR, device))?;
        }
        // SAFETY: the last byte of the buffer is zero, and it is alive.
        let name = unsafe { CStr::from_ptr(name.as_ptr()) };
        Ok(Gpu {
            ordinal: ordinal.unsigned_abs(),
            name: name.to_string_lossy().into_owned(),
            memory_bytes: bytes as u64,
            capability: (major.unsigned_abs(), minor.unsigned_abs()),
        })
    }

    fn check(&self, status: c_int) -> Result<(), Missing> {
        match status {
            SUCCESS => Ok(()),
            number => Err(Missing::Start(number, self.name_of(number))),
        }
    }

    /// E.g. `CUDA_ERROR_SYSTEM_DRIVER_MISMATCH`.
    fn name_of(&self, number: c_int) -> String {
        let unnamed = || "an error without a name".to_string();
        let Ok(name_of) =
            self.function::<unsafe extern "C" fn(c_int, *mut *const c_char) -> c_int>("cuGetErrorName")
        else {
            return unnamed();
        };
        let mut name = std::ptr::null();
        // SAFETY: as `cuda.h` declares it, with a pointer to write to; the text is the driver's and copied at once.
        unsafe {
            if name_of(number, &mut name) != SUCCESS || name.is_null() {
                return unnamed();
            }
            CStr::from_ptr(name).to_string_lossy().into_owned()
        }
    }

    /// The function `name`, as a `T`.
    fn function<T>(&self, name: &'static str) -> Result<Symbol<'_, T>, Missing> {
        // SAFETY: `T` is what `cuda.h` declares for the name: each caller above writes it beside the name.
        unsafe { self.library.get(name.as_bytes()) }.map_err(|_| Missing::Function(name))
    }
}

/// What the system's loader says: the error itself only says that it failed.
pub fn words(cause: &libloading::Error) -> String {
    std::error::Error::source(cause).map_or_else(|| cause.to_string(), ToString::to_string)
}

/// What the kernel module says it is: `NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  …`.
fn module_version() -> Option<String> {
    let text = std::fs::read_to_string("/proc/driver/nvidia/version").ok()?;
    number_in(&text)
}

fn number_in(text: &str) -> Option<String> {
    let is_version = |word: &&str| {
        let mut parts = word.split('.');
        parts.clone().count() >= 2 && parts.all(|part| part.parse::<u32>().is_ok())
    };
    let line = text.lines().find(|line| line.starts_with("NVRM version"))?;
    line.split_whitespace().find(is_version).map(String::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_what_the_kernel_module_says() {
        let closed = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue Sep 23 10:11:16 UTC 2025\nGCC version: 12.2\n";
        let open = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  590.44.01  Release Build\n";
        assert_eq!(number_in(closed).as_deref(), Some("580.95.05"));
        assert_eq!(number_in(open).as_deref(), Some("590.44.01"));
        assert_eq!(number_in("GCC version: 12.2"), None);
    }

    #[test]
    fn a_library_that_is_not_there_or_is_no_driver_is_an_answer() {
        let absent = survey(Path::new("/nowhere/libcuda.so.1")).unwrap_err();
        assert!(matches!(absent, Missing::Driver(_)), "{absent:?}");
        assert!(
            absent.why().starts_with(
                "there is no NVIDIA driver for this process (/nowhere/libcuda.so.1: cannot open"
            )
        );
        assert_eq!(absent.seen(), None);
    }
}
