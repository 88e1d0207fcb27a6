//! The files of a block on their way to the workers that score it.
//!
//! A worker that begins with its share of a block ([`shares`](super::shares)) starts a task on the I/O runtime, which asks for the
//! files of the share's rows in their order, some ahead of the worker. An answer says how large a file is; its body is read
//! when it has been admitted ([`admission`](super::admission)), in the order of the rows, or at once if the worker waits for it.
//!
//! What has been asked for belongs to the block and not to the share: when rows go over to another worker, their files that
//! are on their way or there already are found by it, and no file of a row is asked for twice.

use arrow::array::RecordBatch;
use bytes::Bytes;
use futures::StreamExt;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;

use super::admission::{Admission, Admitted};
use super::contents::{Content, Contents, Filled};
use crate::error::{Error, Result};

/// Files of one column that are asked for at the same time in a share: enough to hide a store's latency.
pub(super) const PARALLEL_FILES: usize = 16;

/// Rows whose files are asked for before the worker of a share has taken them: those above, and about a batch that is there.
const ROWS_AHEAD: usize = 2 * PARALLEL_FILES;

/// The files of a block. When this is dropped, what is on its way is given up.
pub(super) struct Arriving {
    of: Arc<Files>,
    tasks: Mutex<Vec<AbortHandle>>,
}

struct Files {
    contents: Contents,
    /// Of the first row by column, then of the second: a number in this order is the *place* of a file.
    paths: Vec<Option<String>>,
    admission: Arc<Admission>,
    state: Mutex<State>,
    /// Something has come for a worker.
    arrived: Condvar,
}

struct State {
    places: Vec<Place>,
    /// Where shares begin.
    shares: BTreeSet<usize>,
    /// What was asked for and is not admitted yet.
    waiting: BTreeSet<usize>,
    /// What workers wait for at this moment.
    needed: BTreeSet<usize>,
    /// Whether a task ended before its time.
    is_cut_off: bool,
}

/// What has become of a file so far.
enum Place {
    Free,
    Asked,
    Here(Arrived),
    Taken,
}

struct Arrived {
    content: Content,
    _admitted: Option<Admitted>,
    _ahead: OwnedSemaphorePermit,
}

impl Arriving {
    /// The files of `rows`, none of which is asked for yet.
    ///
    /// # Errors
    /// `Internal`, for a column that is no text.
    pub(super) fn new(
        contents: &Contents,
        rows: &RecordBatch,
        admission: &Arc<Admission>,
    ) -> Result<Arriving> {
        let paths = contents.paths(rows)?;
        let state = State {
            places: paths.iter().map(|_| Place::Free).collect(),
            shares: BTreeSet::new(),
            waiting: BTreeSet::new(),
            needed: BTreeSet::new(),
            is_cut_off: false,
        };
        Ok(Arriving {
            of: Arc::new(Files {
                contents: contents.clone(),
                paths,
                admission: admission.clone(),
                state: Mutex::new(state),
                arrived: Condvar::new(),
            }),
            tasks: Mutex::default(),
        })
    }

    /// Begins with a share of these rows, up to the first one that it `still_has` not, by its place in the share.
    pub(super) fn begin(
        &self,
        rows: Range<usize>,
        still_has: impl Fn(usize) -> bool + Send + Sync + 'static,
        runtime: &Handle,
    ) {
        let columns = self.of.contents.columns();
        let first = rows.start * columns;
        self.of.lock().shares.insert(first);
        let wanted = move |place: usize| still_has(place / columns - rows.start);
        let task = self.of.clone().ask(first..rows.end * columns, wanted);
        let task = runtime.spawn(task).abort_handle();
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.push(task);
    }

    /// These rows with contents for paths; waits until they are there. They must be in a share that has begun.
    ///
    /// # Errors
    /// `Storage`, when a store fails; what is wrong with single files is in the answer.
    pub(super) fn fill(&self, rows: Range<usize>, given: &RecordBatch) -> Result<Filled> {
        let columns = self.of.contents.columns();
        let mut contents: Vec<Vec<Content>> = (0..columns).map(|_| Vec::with_capacity(rows.len())).collect();
        for row in rows {
            for (column, contents) in contents.iter_mut().enumerate() {
                contents.push(self.of.take(row * columns + column)?);
            }
        }
        self.of.contents.put(given, contents)
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        let tasks = self.tasks.get_mut().unwrap_or_else(PoisonError::into_inner);
        tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Files {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches the files of a share that are `wanted` and that nobody has asked for.
    async fn ask(self: Arc<Files>, share: Range<usize>, wanted: impl Fn(usize) -> bool) {
        let mut whole = Whole(&self, false);
        let columns = self.contents.columns();
        let ahead = Arc::new(Semaphore::new(ROWS_AHEAD * columns));
        let begun = (share, self.clone(), wanted);
        let asked = futures::stream::unfold(begun, move |(mut share, this, wanted)| {
            let ahead = ahead.clone();
            async move {
                // Never closed.
                let permit = ahead.acquire_owned().await.ok()?;
                for place in share.by_ref() {
                    if !wanted(place) {
                        return None;
                    }
                    if this.lock().claim(place) {
                        return Some(((place, permit), (share, this, wanted)));
                    }
                }
                None
            }
        });
        asked
            .map(|(place, permit)| self.clone().fetch(place, permit))
            .buffer_unordered(PARALLEL_FILES * columns)
            .for_each(|()| std::future::ready(()))
            .await;
        whole.1 = true;
    }

    async fn fetch(self: Arc<Files>, place: usize, permit: OwnedSemaphorePermit) {
        let (content, admitted) = match &self.paths[place] {
            None => (None, None),
            Some(path) => match self.read(place, path).await {
                Ok((bytes, admitted)) => (Some(Ok(bytes)), Some(admitted)),
                Err(error) => (Some(Err(error)), None),
            },
        };
        let mut state = self.lock();
        state.waiting.remove(&place);
        state.places[place] = Place::Here(Arrived {
            content,
            _admitted: admitted,
            _ahead: permit,
        });
        drop(state);
        self.arrived.notify_all();
        // It is the turn of the next one that waits for admission.
        self.admission.wake();
    }

    async fn read(&self, place: usize, path: &str) -> Result<(Bytes, Admitted)> {
        let found = self.contents.files(place).find(path).await?;
        let admitted = loop {
            let changed = self.admission.changed();
            if let Some(admitted) = self.admit(place, found.size()) {
                break admitted;
            }
            changed.await;
        };
        self.admission.wake();
        Ok((found.read().await?, admitted))
    }

    fn admit(&self, place: usize, bytes: u64) -> Option<Admitted> {
        let mut state = self.lock();
        let is_needed = state.needed.contains(&place);
        if !is_needed && !state.is_next(place) {
            return None;
        }
        let admitted = self.admission.admit(bytes, is_needed)?;
        state.waiting.remove(&place);
        Some(admitted)
    }

    /// Waits for a file that its worker needs now.
    fn take(&self, place: usize) -> Result<Content> {
        let mut state = self.lock();
        loop {
            match std::mem::replace(&mut state.places[place], Place::Taken) {
                Place::Here(arrived) => {
                    state.needed.remove(&place);
                    drop(state);
                    // Only now, since what is dropped with it wakes others.
                    return Ok(arrived.content);
                }
                Place::Taken => return Err(Error::internal("a file is taken twice")),
                _ if state.is_cut_off => return Err(Error::internal("fetching files was cut off")),
                other => state.places[place] = other,
            }
            if state.needed.insert(place) {
                self.admission.wake();
            }
            state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl State {
    /// Whether nobody has asked for a file yet; from now on somebody has.
    fn claim(&mut self, place: usize) -> bool {
        let is_free = matches!(self.places[place], Place::Free);
        if is_free {
            self.places[place] = Place::Asked;
            self.waiting.insert(place);
        }
        is_free
    }

    /// Whether no file before this one in its share waits for admission.
    fn is_next(&self, place: usize) -> bool {
        let share = self.shares.range(..=place).next_back().copied().unwrap_or(0);
        self.waiting.range(share..place).next().is_none()
    }
}

/// Tells workers when a task ends before all it asked for is there.
struct Whole<'a>(&'a Files, bool);

impl Drop for Whole<'_> {
    fn drop(&mut self) {
        if !self.1 {
            self.0.lock().is_cut_off = true;
            self.0.arrived.notify_all();
        }
    }
}

#[cfg(test)]
mod tests;
