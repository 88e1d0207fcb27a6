//! `floe`: arguments and environment → job; signals → stop; outcome → exit code.

mod cli;
mod environment;
mod launch;
mod signals;

use clap::Parser;
use std::io::IsTerminal;
use std::process::ExitCode;

use floe::error::{Error, ErrorKind, Result, ResultExt};
use floe::redact::redact;
use floe::telemetry::{self, LogFormat, Telemetry};

use cli::{Cli, Command};

/// The binding of ONNX Runtime reports every load at `info`.
const DEFAULT_LOG: &str = "info,ort=warn";

fn main() -> ExitCode {
    // SAFETY: no thread has been started yet.
    unsafe { environment::silence_onnxruntime() };
    return_large_buffers();
    signals::ignore_file_size_signal();
    leave_no_core_dump();
    let cli = Cli::try_parse().unwrap_or_else(|error| cli::refuse(&error));
    let json = cli.command.wants_json();
    let telemetry = match start_telemetry(&cli) {
        Ok(telemetry) => telemetry,
        Err(error) => {
            eprintln!("error: {}", redact(&error.to_string()));
            return ExitCode::from(error.kind().exit_code());
        }
    };
    let outcome = start_runtime().and_then(|runtime| {
        let outcome = runtime.block_on(dispatch(cli.command, &telemetry));
        // Work that was told to stop and has not yet must not hold up the exit, so nobody waits for the runtime's
        // threads. Nor are they detached: glibc may crash when that meets with a thread's end (its bug 19951).
        std::mem::forget(runtime);
        outcome
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error, json);
            telemetry.flush();
            ExitCode::from(signals::exit_code(&error))
        }
    }
}

/// Makes the allocator give large buffers back to the system when they are dropped, and keep few heaps for small ones.
///
/// By itself glibc learns from the first dropped unit to keep large buffers in its heaps, of which it makes up to eight a
/// core, and there they are scattered: bytes are fetched on one thread and dropped on another. Peak memory then grows to
/// twice as much with the size of the input.
fn return_large_buffers() {
    #[cfg(target_env = "gnu")]
    {
        const LARGE_BYTES: libc::c_int = 1 << 20;
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let heaps = libc::c_int::try_from(cores).unwrap_or(libc::c_int::MAX).max(2);
        // SAFETY: sets parameters of the allocator. Failing, it changes nothing.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BYTES);
            libc::mallopt(libc::M_ARENA_MAX, heaps);
        }
    }
}

/// A dump of a crashed process would hold rows, tokens and the model, and lie wherever the machine puts it.
fn leave_no_core_dump() {
    let nothing = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: lowers a limit of this process. Failing, it changes nothing.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &nothing) };
}

async fn dispatch(command: Command, telemetry: &Telemetry) -> Result<()> {
    match command {
        Command::Run(args) => cli::run::run(args, telemetry).await,
        Command::Plan(args) => cli::look::plan(args).await,
        Command::Check(args) => cli::look::check(args).await,
        Command::Inspect(args) => cli::look::inspect(args).await,
        Command::Verify(args) => cli::look::verify(args).await,
        Command::Head(args) => cli::head::head(args).await,
        Command::StoreCheck(args) => cli::store_check::store_check(args).await,
        Command::Schema(args) => cli::look::schema(&args),
    }
}

fn start_telemetry(cli: &Cli) -> Result<Telemetry> {
    let is_terminal = std::io::stderr().is_terminal();
    let format = match cli.log_format.as_str() {
        "auto" if is_terminal => LogFormat::Text,
        "auto" => LogFormat::Json,
        chosen => chosen.parse()?,
    };
    let filter = cli
        .log
        .clone()
        .or_else(environment::log_filter)
        .unwrap_or_else(|| DEFAULT_LOG.to_string());
    telemetry::init(&telemetry::Options {
        format,
        filter,
        colour: environment::wants_no_colour().then_some(false),
        progress: cli.progress.parse()?,
    })
}

/// Two threads carry all I/O: requests wait, they do not compute.
fn start_runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("io")
        .enable_all()
        .build()
        .context(ErrorKind::Internal, "can't start the I/O runtime")
}

/// Logs the error, once, here where it is handled.
fn report(error: &Error, json: bool) {
    tracing::error!(
        kind = error.kind().as_str(),
        exit_code = error.kind().exit_code(),
        retryable = error.kind().is_retryable(),
        "{error}"
    );
    if json {
        cli::say::error(error);
    }
}
