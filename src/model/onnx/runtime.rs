//! ONNX Runtime's shared library: where it may lie, and loading it once per process.
//!
//! Floe neither links nor downloads the library. [`default_candidates`] says where it is looked for, [`load`] takes
//! the first that exists. One that exists but can't be used ends the search: falling through to another version
//! would change results without a word.

use ort::environment::Environment;
use ort::logging::LogLevel;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::api;
use crate::error::{Error, Result};

/// The version that Floe is tested with and that `scripts/fetch-onnxruntime` fetches.
pub const VERSION: &str = "1.31.1";

/// A loaded library.
#[derive(Clone)]
pub struct Runtime {
    /// Every session belongs to it.
    pub environment: Environment,
    /// The library's own version, e.g. `1.31.1`.
    pub version: String,
    /// Where it lies.
    pub library: PathBuf,
}

/// Floe's cache folder, by the environment as `variable` tells it: `FLOE_CACHE_DIR`, else `floe` under
/// `XDG_CACHE_HOME` or `~/.cache`. `scripts/fetch-onnxruntime` follows the same rule.
pub fn cache_dir(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let path = |name: &str| {
        variable(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    path("FLOE_CACHE_DIR").or_else(|| {
        path("XDG_CACHE_HOME")
            .or_else(|| path("HOME").map(|home| home.join(".cache")))
            .map(|cache| cache.join("floe"))
    })
}

/// Where the library may lie, best first: `env_override` (`ORT_DYLIB_PATH`) alone if it is given, else beside the
/// program as installed (`../lib/floe/`), beside the program, and in Floe's cache (see [`cache_dir`]).
pub fn default_candidates(
    exe_dir: Option<&Path>,
    cache_dir: Option<&Path>,
    env_override: Option<&Path>,
) -> Vec<PathBuf> {
    if let Some(path) = env_override.filter(|path| !path.as_os_str().is_empty()) {
        return vec![path.to_path_buf()];
    }
    let mut candidates = Vec::new();
    if let Some(exe_dir) = exe_dir {
        let installed = exe_dir.parent().map(|prefix| prefix.join("lib/floe"));
        for folder in installed.iter().map(PathBuf::as_path).chain([exe_dir]) {
            candidates.extend(library_names().map(|name| folder.join(name)));
        }
    }
    if let Some(cache_dir) = cache_dir {
        let folder = cache_dir.join(format!("onnxruntime-{VERSION}"));
        candidates.extend(library_names().take(1).map(|name| folder.join(name)));
    }
    candidates
}

/// From the exact version to whichever is installed.
fn library_names() -> impl Iterator<Item = String> {
    let names = if cfg!(target_os = "macos") {
        vec![
            format!("libonnxruntime.{VERSION}.dylib"),
            "libonnxruntime.dylib".to_string(),
        ]
    } else {
        vec![
            format!("libonnxruntime.so.{VERSION}"),
            "libonnxruntime.so.1".to_string(),
            "libonnxruntime.so".to_string(),
        ]
    };
    names.into_iter()
}

/// Loads the first of `candidates` that exists; later calls answer with what the first one loaded.
///
/// # Errors
/// `Model`, when none exists (the message says where was looked and what to do), or the library can't be used.
pub fn load(candidates: &[PathBuf]) -> Result<Runtime> {
    static LOADED: Mutex<Option<Runtime>> = Mutex::new(None);
    // The lock is held while loading: two threads must not both try.
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(runtime) = &*loaded {
        return Ok(runtime.clone());
    }
    let runtime = load_first(candidates)?;
    *loaded = Some(runtime.clone());
    Ok(runtime)
}

fn load_first(candidates: &[PathBuf]) -> Result<Runtime> {
    let Some(path) = candidates.iter().find(|path| path.exists()) else {
        let looked: Vec<_> = candidates.iter().map(|path| path.display().to_string()).collect();
        let looked = if looked.is_empty() {
            "nowhere".to_string()
        } else {
            looked.join(", ")
        };
        return Err(Error::model(format!(
            "ONNX Runtime's library was not found; looked at: {looked}"
        ))
        .with_hint("fetch it with scripts/fetch-onnxruntime, or set ORT_DYLIB_PATH to libonnxruntime.so"));
    };
    let unusable = |cause: String| {
        Error::model(format!("ONNX Runtime's library can't be used: {cause}"))
            .with("location", path.display())
            .with_hint(format!(
                "version {VERSION} for this machine's architecture is needed: fetch it with \
                 scripts/fetch-onnxruntime, or set ORT_DYLIB_PATH to it"
            ))
    };
    let environment = ort::init_from(path)
        .map_err(|cause| unusable(cause.to_string()))?
        .with_name("floe")
        .with_telemetry(false)
        .with_logger(Arc::new(log))
        .build()
        .map_err(|cause| unusable(cause.to_string()))?;
    environment.set_log_level(LogLevel::Warning);
    let version = version(&environment).unwrap_or_else(|| "of unknown version".to_string());
    Ok(Runtime {
        environment,
        version,
        library: path.clone(),
    })
}

/// ONNX Runtime's own messages. What it logs as an error it also returns as one, and Floe logs an error once, where
/// it is handled: so nothing here is louder than a warning.
fn log(level: LogLevel, category: &str, _id: &str, location: &str, message: &str) {
    match level {
        LogLevel::Verbose | LogLevel::Info | LogLevel::Error => {
            tracing::debug!(target: "onnxruntime", category, location, "{message}");
        }
        LogLevel::Warning | LogLevel::Fatal => {
            tracing::warn!(target: "onnxruntime", category, location, "{message}");
        }
    }
}

/// The version that the library's own CPU provider reports. `ort` keeps the version string of the library to itself.
fn version(environment: &Environment) -> Option<String> {
    let cpu = environment
        .devices()
        .find(|device| device.ep().is_ok_and(|name| name == "CPUExecutionProvider"))?;
    api::metadata(&cpu, "version")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_override_is_the_only_candidate_when_it_is_given() {
        let path = Path::new("/opt/ort/libonnxruntime.so");
        let found = default_candidates(Some(Path::new("/usr/bin")), Some(Path::new("/c")), Some(path));
        assert_eq!(found, [path]);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn installed_beside_and_cached_libraries_come_in_this_order() {
        let found = default_candidates(
            Some(Path::new("/usr/local/bin")),
            Some(Path::new("/c/floe")),
            Some(Path::new("")),
        );
        let expected = [
            "/usr/local/lib/floe/libonnxruntime.so.1.31.1",
            "/usr/local/lib/floe/libonnxruntime.so.1",
            "/usr/local/lib/floe/libonnxruntime.so",
            "/usr/local/bin/libonnxruntime.so.1.31.1",
            "/usr/local/bin/libonnxruntime.so.1",
            "/usr/local/bin/libonnxruntime.so",
            "/c/floe/onnxruntime-1.31.1/libonnxruntime.so.1.31.1",
        ];
        assert_eq!(found, expected.map(PathBuf::from));
    }

    #[test]
    fn the_cache_follows_the_rule_of_the_script() {
        let with = |set: &'static [(&'static str, &'static str)]| {
            cache_dir(move |name| {
                set.iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| value.into())
            })
        };
        assert_eq!(
            with(&[("FLOE_CACHE_DIR", "/a"), ("HOME", "/h")]),
            Some("/a".into())
        );
        assert_eq!(
            with(&[("XDG_CACHE_HOME", "/x"), ("HOME", "/h")]),
            Some("/x/floe".into())
        );
        assert_eq!(
            with(&[("XDG_CACHE_HOME", ""), ("HOME", "/h")]),
            Some("/h/.cache/floe".into())
        );
        assert_eq!(with(&[]), None);
    }

    #[test]
    fn a_missing_library_is_reported_with_every_place_and_the_command() {
        let error = load_first(&["/nowhere/a.so".into(), "/nowhere/b.so".into()])
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.contains("looked at: /nowhere/a.so, /nowhere/b.so"),
            "{error}"
        );
        assert!(
            error.contains("scripts/fetch-onnxruntime, or set ORT_DYLIB_PATH"),
            "{error}"
        );
    }

    #[test]
    fn a_file_that_is_no_library_is_an_error_that_names_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = load_first(&[file.path().to_path_buf()])
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("can't be used: failed to load"), "{error}");
        assert!(error.contains(&file.path().display().to_string()), "{error}");
    }
}
