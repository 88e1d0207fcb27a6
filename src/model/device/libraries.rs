//! CUDA's libraries: loaded by their paths before anybody asks for them by name.
//!
//! They lie in a folder of their own beside ONNX Runtime's library, where `scripts/fetch-onnxruntime --with cuda` puts
//! them, or where the system's loader finds them. The loader gives a library that is in memory to whoever needs one of that
//! name; so the search path of the process need not be changed, and ONNX Runtime's provider and Candle's kernels get the
//! same ones.

#![allow(unsafe_code)]

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::driver::words;

/// The folder beside ONNX Runtime's library, by the major version of CUDA.
pub const FOLDER: &str = "cuda-13";

/// By name: everything that was loaded, which stays.
static LOADED: Mutex<BTreeMap<&'static str, Library>> = Mutex::new(BTreeMap::new());

fn loaded() -> MutexGuard<'static, BTreeMap<&'static str, Library>> {
    LOADED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The folders for CUDA's libraries that belong to places of ONNX Runtime's library, each once.
pub fn folders(onnxruntime_paths: &[PathBuf]) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for folder in onnxruntime_paths.iter().filter_map(|path| path.parent()) {
        // ONNX Runtime's library for GPUs lies with them.
        let folder = match folder.ends_with(FOLDER) {
            true => folder.to_path_buf(),
            false => folder.join(FOLDER),
        };
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    folders
}

/// Loads `names`, dependencies first, each from the first of `folders` that has it, else as the system finds it.
///
/// # Errors
/// What is missing, in words.
pub fn load(names: &'static [&'static str], folders: &[PathBuf]) -> Result<(), String> {
    let mut loaded = loaded();
    let mut missing = Vec::new();
    for &name in names {
        if loaded.contains_key(name) {
            continue;
        }
        let path = folders.iter().map(|folder| folder.join(name));
        let path = path
            .into_iter()
            .find(|path| path.exists())
            .unwrap_or_else(|| PathBuf::from(name));
        match open(&path) {
            Ok(library) => {
                loaded.insert(name, library);
            }
            Err(cause) if path.is_absolute() => {
                return Err(format!("{name}, which can't be loaded: {}", words(&cause)));
            }
            Err(_) => missing.push(name),
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let looked: Vec<_> = folders
        .iter()
        .map(|folder| folder.display().to_string())
        .collect();
    Err(format!(
        "{}, not found in {} or where the system looks",
        missing.join(", "),
        looked.join(", ")
    ))
}

/// The address of the function `name` in the library that was loaded as `library`.
pub fn address(library: &str, name: &str) -> Option<*mut c_void> {
    // SAFETY: the address is only handed on; whoever calls it knows what it is.
    let symbol = unsafe { loaded().get(library)?.get::<*mut c_void>(name.as_bytes()) };
    symbol.ok().map(|symbol| symbol.into_raw())
}

fn open(path: &Path) -> Result<Library, libloading::Error> {
    // SAFETY: NVIDIA's libraries register themselves when they are loaded and do nothing else; they are taken from where
    // this program itself or the system's own libraries come from. Unloading them would not be sound: nobody does.
    unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) }
}
