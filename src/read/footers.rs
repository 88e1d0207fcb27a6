//! The footers of many files: read side by side, in order.
//!
//! From a store each is a request that is waited for. On a disk it is a few microseconds of the kernel's work, and handing
//! each file from thread to thread would cost more than that: there a thread reads and decodes one batch of files after the
//! other.

use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use tokio::sync::oneshot;

use super::footer::{Detail, Footer, SMALL_FILE_BYTES};
use super::form::Forms;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::storage::{Listed, Location};

/// Footers that are waited for at the same time.
const PARALLEL_FOOTERS: usize = 32;

/// Files that a thread reads at once from a disk: a millisecond's work or two.
const BATCH: usize = 32;

/// Threads that read from a disk at the same time.
const PARALLEL_BATCHES: usize = 4;

/// Reads footers of one location.
#[derive(Clone)]
pub struct FooterReader {
    location: Location,
    forms: Arc<Forms>,
}

impl FooterReader {
    /// A reader of files below `location`.
    pub fn new(location: Location) -> FooterReader {
        FooterReader {
            location,
            forms: Arc::default(),
        }
    }

    /// The footers of `files` in their order, up to the first error.
    pub fn read(&self, files: Vec<Listed>) -> BoxStream<'static, Result<Footer>> {
        let count = files.len();
        self.read_some(files, count, u64::MAX)
    }

    /// As [`read`](Self::read), but only the first `count` of them can serve to read the file, and small files come along
    /// only until they have `bytes` in all.
    pub fn read_some(
        &self,
        files: Vec<Listed>,
        count: usize,
        bytes: u64,
    ) -> BoxStream<'static, Result<Footer>> {
        let mut left = bytes;
        let mut detail = |index: usize, file: &Listed| {
            if index >= count {
                return Detail::Sizes;
            }
            if file.size > SMALL_FILE_BYTES || file.size > left {
                return Detail::All;
            }
            left -= file.size;
            Detail::Whole
        };
        let files: Vec<(Listed, Detail)> = files
            .into_iter()
            .enumerate()
            .map(|(index, file)| {
                let detail = detail(index, &file);
                (file, detail)
            })
            .collect();
        if self.location.is_on_disk() && files.len() > 1 {
            return self.in_batches(files).boxed();
        }
        let reader = self.clone();
        stream::iter(files)
            .map(move |(file, detail)| reader.clone().read_one(file, detail))
            .buffered(PARALLEL_FOOTERS)
            .boxed()
    }

    async fn read_one(self, file: Listed, detail: Detail) -> Result<Footer> {
        Footer::read_in(&self.location, &file, &self.forms, detail).await
    }

    fn in_batches(&self, files: Vec<(Listed, Detail)>) -> impl Stream<Item = Result<Footer>> + use<> {
        let batches: Vec<Vec<_>> = files.chunks(BATCH).map(<[_]>::to_vec).collect();
        let reader = self.clone();
        stream::iter(batches)
            .map(move |batch| {
                let answer = reader.start_batch(batch);
                async move {
                    let answer = match answer {
                        Ok(answer) => answer.await,
                        Err(error) => return vec![Err(error)],
                    };
                    let cut_off = answer.context(ErrorKind::Internal, "reading footers was cut off");
                    cut_off.unwrap_or_else(|error| vec![Err(error)])
                }
            })
            .buffered(PARALLEL_BATCHES)
            .flat_map(stream::iter)
    }

    /// Reads a batch on a thread of its own. The local store does its work at once where no I/O runtime is around.
    fn start_batch(&self, batch: Vec<(Listed, Detail)>) -> Result<oneshot::Receiver<Vec<Result<Footer>>>> {
        let (send, answer) = oneshot::channel();
        let reader = self.clone();
        let read = move || {
            let mut footers = Vec::with_capacity(batch.len());
            for (file, detail) in batch {
                // Nobody listens any more when the job ends early.
                if send.is_closed() {
                    return;
                }
                let footer = wait_for(reader.clone().read_one(file, detail));
                let is_last = footer.is_err();
                footers.push(footer);
                if is_last {
                    break;
                }
            }
            let _ = send.send(footers);
        };
        thread::Builder::new()
            .name("footers".into())
            .spawn(read)
            .map_err(|error| Error::internal("can't start a thread to read footers").with_source(error))?;
        Ok(answer)
    }
}

/// Runs a future on this thread, which has no runtime.
fn wait_for<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Unpark>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}
