//! The one place that reads the environment: variables, cores, memory, well-known folders.

use std::env;
#[cfg(feature = "onnx")]
use std::path::Path;
use std::path::PathBuf;

use floe::config::overrides::Environment;
use floe::job::Host;
#[cfg(feature = "onnx")]
use floe::model::onnx::runtime;
use floe::storage::Variables;

/// Tells ONNX Runtime to collect no telemetry. Its library would, from the moment it is loaded, with a device id and a
/// queue of events in the user's cache; it listens to this variable alone.
///
/// # Safety
/// To be called before any thread is started: the environment is not guarded against concurrent readers.
pub unsafe fn silence_onnxruntime() {
    // SAFETY: the caller promises that there is no other thread.
    unsafe { env::set_var("ORT_DISABLE_TELEMETRY", "1") };
}

/// The platform's variables, as they stand.
pub fn platform() -> Environment {
    Environment {
        job_index: variable("SNOWFLAKE_JOB_INDEX"),
        jobs_count: variable("SNOWFLAKE_JOBS_COUNT"),
        completion_index: variable("JOB_COMPLETION_INDEX"),
        service_name: variable("SNOWFLAKE_SERVICE_NAME"),
        run_id: variable("FLOE_RUN_ID"),
    }
}

/// `FLOE_JOB`: the job document itself, or its path.
pub fn job() -> Option<String> {
    variable("FLOE_JOB")
}

/// `FLOE_LOG`: which log lines to show, e.g. `debug` or `floe::commit=debug,info`.
pub fn log_filter() -> Option<String> {
    variable("FLOE_LOG")
}

/// `FLOE_FAIL_POINT`: where this process is to fail, in builds for tests.
#[cfg(feature = "fail-points")]
pub fn fail_points() -> Option<String> {
    variable("FLOE_FAIL_POINT")
}

/// `NO_COLOR`: set to anything, it asks for plain text (<https://no-color.org>).
pub fn wants_no_colour() -> bool {
    variable("NO_COLOR").is_some()
}

/// What this process may use.
pub fn host() -> Host {
    // Takes the cgroup's quota and the affinity mask into account.
    let cpus = std::thread::available_parallelism().map_or(1, |count| count.get());
    Host {
        cpus,
        memory_bytes: memory_bytes(),
        onnxruntime_paths: onnxruntime_paths(),
        variables: variables(),
    }
}

/// What the environment says about stores.
pub fn variables() -> Variables {
    Variables::of(
        env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
    )
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(feature = "onnx")]
fn onnxruntime_paths() -> Vec<PathBuf> {
    let exe = env::current_exe().ok();
    let exe_dir = exe.as_deref().and_then(Path::parent);
    let cache_dir = runtime::cache_dir(|name| env::var_os(name));
    let given = variable("ORT_DYLIB_PATH").map(PathBuf::from);
    runtime::default_candidates(exe_dir, cache_dir.as_deref(), given.as_deref())
}

#[cfg(not(feature = "onnx"))]
fn onnxruntime_paths() -> Vec<PathBuf> {
    Vec::new()
}

/// The memory limit of the cgroup, else the machine's memory.
fn memory_bytes() -> u64 {
    const CGROUP_V2: &str = "/sys/fs/cgroup/memory.max";
    const CGROUP_V1: &str = "/sys/fs/cgroup/memory/memory.limit_in_bytes";
    let limit = |path| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let machine = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| parse_meminfo(&text))
        .unwrap_or(4 << 30);
    limit(CGROUP_V2)
        .or_else(|| limit(CGROUP_V1))
        .map_or(machine, |limit| limit.min(machine))
}

fn parse_meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_memory_is_read() {
        assert_eq!(
            parse_meminfo("MemTotal:  2048 kB\nMemFree: 1 kB\n"),
            Some(2048 * 1024)
        );
        assert_eq!(parse_meminfo("nothing"), None);
        assert!(memory_bytes() > 1 << 20);
    }
}
