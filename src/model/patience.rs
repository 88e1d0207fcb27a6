//! A limit to how long a model may take to open.
//!
//! Opening may run the model: ONNX Runtime folds its constants, and a trial run shows what it returns. A file can make
//! either endless (a loop with 2⁶³ rounds), and native code can't be stopped from outside. So it runs on a thread of its
//! own, which is left behind when the time is up; the program then ends with an error and takes the thread along.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result, ResultExt};

/// Far more than any model of two gibibytes takes.
pub const LIMIT: Duration = Duration::from_secs(600);

/// How often somebody who waits is told what for.
const REMINDER: Duration = Duration::from_secs(10);

/// What `open` returns, if it returns within `limit`.
///
/// # Errors
/// `Model` after that time; what `open` fails with.
pub fn within<T: Send + 'static>(
    limit: Duration,
    open: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (done, outcome) = mpsc::channel();
    let span = tracing::Span::current();
    let opening = std::thread::Builder::new()
        .name("model".into())
        .spawn(move || {
            // Nobody listens any more when the time was up.
            let _ = done.send(span.in_scope(open));
        })
        .context(ErrorKind::Internal, "can't start a thread for opening the model")?;
    let began = Instant::now();
    loop {
        let left = limit.saturating_sub(began.elapsed());
        match outcome.recv_timeout(left.min(REMINDER)) {
            Ok(opened) => return opened,
            Err(RecvTimeoutError::Disconnected) => {
                // It ended without a word: with a panic, which goes on here.
                return match opening.join() {
                    Err(panic) => std::panic::resume_unwind(panic),
                    Ok(()) => Err(Error::internal("opening the model was cut off")),
                };
            }
            Err(RecvTimeoutError::Timeout) if began.elapsed() < limit => {
                tracing::warn!(
                    secs = began.elapsed().as_secs(),
                    limit_secs = limit.as_secs(),
                    "the model is still being opened: it is prepared, or tried on two rows"
                );
            }
            Err(RecvTimeoutError::Timeout) => {
                return Err(Error::model(format!(
                    "the model was not ready after {} s: preparing it or trying it on two rows does not end",
                    limit.as_secs_f64()
                ))
                .with_hint(
                    "does it have a loop whose end depends on the data, or is the machine far too small?",
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_in_time_is_passed_on_be_it_a_model_an_error_or_a_panic() {
        assert_eq!(within(LIMIT, || Ok(7)).unwrap(), 7);
        let error = within(LIMIT, || Err::<(), _>(Error::model("no"))).unwrap_err();
        assert_eq!(error.to_string(), "no");
        let panic =
            std::panic::catch_unwind(|| within(LIMIT, || -> Result<()> { panic!("out of its depth") }));
        let words = panic.unwrap_err();
        assert_eq!(words.downcast_ref(), Some(&"out of its depth"));
    }

    /// Failure matrix: 56.
    #[test]
    fn what_never_ends_is_an_error_that_names_the_limit() {
        let (_keep, never) = mpsc::channel::<()>();
        let error = within(Duration::from_millis(50), move || {
            let _ = never.recv();
            Ok(())
        })
        .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Model);
        assert!(error.to_string().contains("not ready after 0.05 s"), "{error}");
    }
}
