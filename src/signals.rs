//! SIGTERM and Ctrl-C: the first asks for an orderly stop, the second ends the process at once.

use std::sync::atomic::{AtomicU8, Ordering};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use floe::error::{Error, ErrorKind, Result, ResultExt};

/// Exit code of an interrupted process: 128 and the signal's number, as shells count.
const TERMINATED: u8 = 143;
const INTERRUPTED: u8 = 130;

/// The exit code of the signal that came first; 0 while none has.
static RECEIVED: AtomicU8 = AtomicU8::new(0);

/// Listens to both signals. The receiver turns true at the first one.
pub fn listen() -> Result<watch::Receiver<bool>> {
    let terminate = open(SignalKind::terminate())?;
    let interrupt = open(SignalKind::interrupt())?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(wait(terminate, interrupt, stop));
    Ok(stopped)
}

fn open(kind: SignalKind) -> Result<Signal> {
    signal(kind).context(ErrorKind::Internal, "can't listen to signals")
}

async fn wait(mut terminate: Signal, mut interrupt: Signal, stop: watch::Sender<bool>) {
    loop {
        let code = tokio::select! {
            _ = terminate.recv() => TERMINATED,
            _ = interrupt.recv() => INTERRUPTED,
        };
        let first = RECEIVED.compare_exchange(0, code, Ordering::Relaxed, Ordering::Relaxed);
        if first.is_err() {
            tracing::warn!("second signal: stopping at once");
            std::process::exit(code.into());
        }
        tracing::warn!(
            "stopping: units in hand are finished within the grace period; a second signal stops at once"
        );
        let _ = stop.send(true);
    }
}

/// Makes a write beyond the limit on file sizes (`ulimit -f`) an error of that write, which says what to do, rather than a
/// signal that ends the process without a word.
pub fn ignore_file_size_signal() {
    // SAFETY: ignoring a signal runs no code when it comes.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// The exit code for an error: an interruption is told by its signal.
pub fn exit_code(error: &Error) -> u8 {
    match (error.kind(), RECEIVED.load(Ordering::Relaxed)) {
        (ErrorKind::Interrupted, 0) => ErrorKind::Interrupted.exit_code(),
        (ErrorKind::Interrupted, code) => code,
        (kind, _) => kind.exit_code(),
    }
}
