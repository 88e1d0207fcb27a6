//! Admission of files that rows name: their bodies are counted before they are read.
//!
//! The [`gauge`](super::gauge) admits what the plan knows the sizes of, first come first served. Sizes of such files are
//! known when a store has answered, in any order, and the worker that waits for one holds a chunk that others in line would
//! have to wait for. So files have a limit of their own, and two rules: what is fetched ahead is admitted when it fits; what a
//! worker waits for at this moment also when it does not, as long as the limit is kept without it. Whatever the sizes, the
//! next file of every worker gets in sooner or later, and at most one file is beyond the limit.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::gauge::{Counted, InFlight};

/// A limit of the bytes of files that are being read or wait for a worker.
pub(super) struct Admission {
    limit: u64,
    held: Mutex<u64>,
    changed: Notify,
    in_flight: InFlight,
}

/// Bytes of one file, until this is dropped.
pub(super) struct Admitted {
    by: Arc<Admission>,
    bytes: u64,
    counted: Option<Counted>,
}

impl Admission {
    pub(super) fn new(limit: u64, in_flight: InFlight) -> Arc<Admission> {
        Arc::new(Admission {
            limit,
            held: Mutex::new(0),
            changed: Notify::new(),
            in_flight,
        })
    }

    fn held(&self) -> MutexGuard<'_, u64> {
        // No code that can panic runs under the lock.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits a file, if it may be now. Who `is_needed` is waited for by a worker that takes it as soon as it is there.
    pub(super) fn admit(self: &Arc<Self>, bytes: u64, is_needed: bool) -> Option<Admitted> {
        let mut held = self.held();
        let fits = held.saturating_add(bytes) <= self.limit;
        if !(fits || is_needed && *held <= self.limit) {
            return None;
        }
        *held += bytes;
        Some(Admitted {
            by: self.clone(),
            bytes,
            counted: Some(self.in_flight.count(bytes)),
        })
    }

    /// Ends when somebody may be admitted who was not before this was called.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Says that somebody may be admitted who was not before.
    pub(super) fn wake(&self) {
        self.changed.notify_waiters();
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        // Before the next one is counted.
        drop(self.counted.take());
        *self.by.held() -= self.bytes;
        self.by.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::super::gauge::Gauge;
    use super::*;
    use crate::telemetry::metrics::Metrics;
    use proptest::prelude::*;

    fn admission(limit: u64) -> (Arc<Admission>, Arc<Metrics>) {
        let metrics = Arc::new(Metrics::default());
        let gauge = Gauge::new(0, 1, metrics.clone());
        (Admission::new(limit, gauge.in_flight()), metrics)
    }

    #[test]
    fn what_is_needed_gets_in_even_alone_beyond_the_limit_and_nobody_after_it() {
        let (files, metrics) = admission(10);
        assert!(files.admit(11, false).is_none());
        let ahead = files.admit(10, false).unwrap();
        assert!(files.admit(1, false).is_none());
        let needed = files.admit(100, true).unwrap();
        assert!(files.admit(1, true).is_none());
        drop(ahead);
        assert!(files.admit(1, true).is_none());
        assert!(files.admit(0, false).is_none());
        drop(needed);
        assert!(files.admit(1, false).is_some());
        assert_eq!(metrics.memory_peak_bytes.get(), 110);
    }

    proptest! {
        /// Workers that take their files in order, with others fetched ahead in any order: nobody waits for ever, and no more
        /// than a file is beyond the limit.
        #[test]
        fn every_worker_gets_its_next_file_and_at_most_one_is_beyond_the_limit(
            limit in 0u64..50,
            sizes in proptest::collection::vec(proptest::collection::vec(0u64..100, 0..12), 1..5),
            choices in proptest::collection::vec(any::<prop::sample::Index>(), 400),
        ) {
            let (files, metrics) = admission(limit);
            let largest = sizes.iter().flatten().copied().max().unwrap_or(0);
            let mut next = vec![0usize; sizes.len()];
            let mut here: Vec<Vec<Option<Admitted>>> =
                sizes.iter().map(|sizes| sizes.iter().map(|_| None).collect()).collect();
            for choice in choices {
                let mut steps = Vec::new();
                for (worker, here) in here.iter().enumerate() {
                    for (place, here) in here.iter().enumerate().skip(next[worker]) {
                        match here {
                            None => steps.push((worker, place)),
                            Some(_) if place == next[worker] => steps.push((worker, place)),
                            Some(_) => {}
                        }
                    }
                }
                if steps.is_empty() {
                    break;
                }
                let (worker, place) = *choice.get(&steps);
                let is_needed = place == next[worker];
                if here[worker][place].take().is_some() {
                    next[worker] += 1;
                } else {
                    here[worker][place] = files.admit(sizes[worker][place], is_needed);
                }
            }
            // From here on workers only wait for what they need: each turn at least one goes on.
            while next.iter().zip(&sizes).any(|(next, sizes)| *next < sizes.len()) {
                let mut goes_on = false;
                for (worker, sizes) in sizes.iter().enumerate() {
                    let Some(&size) = sizes.get(next[worker]) else { continue };
                    let place = &mut here[worker][next[worker]];
                    if place.take().is_some() || files.admit(size, true).is_some() {
                        next[worker] += 1;
                        goes_on = true;
                    }
                }
                prop_assert!(goes_on);
            }
            prop_assert!(metrics.memory_peak_bytes.get() <= limit + largest);
        }
    }
}
