//! Silence has limits: an answer that does not begin, and one that halts in the middle, are given up.
//!
//! An answer must begin within the stall limit after its request was sent, and every piece of it come within the limit
//! after the piece before. How much of a request's body is out already can't be seen from here, so sending has a limit
//! by size, for a line that is slow but alive.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use object_store::client::{HttpError, HttpErrorKind, HttpResponseBody};
use tokio::time::Sleep;

use super::throttle::Permit;

/// A request that goes out more slowly than this counts as stalled.
const SLOWEST_BYTES_PER_SECOND: usize = 256 * 1024;

/// Nothing came for so long.
#[derive(Debug)]
pub(in crate::storage) struct Stalled(pub Duration);

/// When the answer to a request with a body of so many bytes must have begun.
pub(super) fn patience(stall: Duration, body_bytes: usize) -> Duration {
    stall + Duration::from_secs_f64(body_bytes as f64 / SLOWEST_BYTES_PER_SECOND as f64)
}

/// The body of an answer. Its request holds its place in the line until all of it was read.
pub(super) struct AnswerBody {
    body: HttpResponseBody,
    permit: Option<Permit>,
    stall: Duration,
    /// Runs while nothing is there to be read.
    silence: Option<Pin<Box<Sleep>>>,
}

impl AnswerBody {
    /// A body that was just begun.
    pub(super) fn new(body: HttpResponseBody, permit: Permit, stall: Duration) -> AnswerBody {
        let permit = Some(permit).filter(|_| !body.is_end_stream());
        AnswerBody {
            body,
            permit,
            stall,
            silence: None,
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            this.silence = None;
            if !matches!(frame, Some(Ok(_))) || this.body.is_end_stream() {
                this.permit = None;
            }
            return Poll::Ready(frame);
        }
        let stall = this.stall;
        let silence = this
            .silence
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(stall)));
        std::task::ready!(silence.as_mut().poll(context));
        this.permit = None;
        Poll::Ready(Some(Err(HttpError::new(HttpErrorKind::Timeout, Stalled(stall)))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nothing came for {} s", self.0.as_secs_f32())
    }
}

impl std::error::Error for Stalled {}

#[cfg(test)]
mod tests {
    use super::super::throttle::Throttle;
    use super::*;

    const STALL: Duration = Duration::from_secs(30);

    #[test]
    fn a_large_request_may_take_longer_and_a_small_one_no_longer_than_silence_may() {
        assert_eq!(patience(STALL, 0), STALL);
        assert_eq!(patience(STALL, 16 * 1024 * 1024), STALL + Duration::from_secs(64));
    }

    /// A body of one piece and then silence.
    struct Halting(bool);

    impl Body for Halting {
        type Data = Bytes;
        type Error = HttpError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
            match std::mem::replace(&mut self.0, true) {
                false => Poll::Ready(Some(Ok(Frame::data("piece".into())))),
                true => Poll::Pending,
            }
        }
    }

    /// Failure matrix: 47.
    #[tokio::test(start_paused = true)]
    async fn an_answer_that_halts_is_an_error_and_its_place_is_free() {
        let throttle = Throttle::new(1);
        let permit = throttle.acquire().await;
        let body = AnswerBody::new(HttpResponseBody::new(Halting(false)), permit, STALL);
        let error = HttpResponseBody::new(body).bytes().await.unwrap_err();
        assert_eq!(error.kind(), HttpErrorKind::Timeout);
        drop(throttle.acquire().await);
    }
}
