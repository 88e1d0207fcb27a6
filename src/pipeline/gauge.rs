//! The memory gauge: one limit for all bytes in flight.
//!
//! Everything that will need memory is reserved *before* it is fetched, in the plan's order, so that the oldest unit
//! always gets what it needs first and later ones wait. A reservation is never larger than half of the limit: a
//! unit's output and one of its chunks then fit side by side whatever their size, and nothing can wait for ever.
//!
//! Files that rows name have a limit of their own, [`admission`](super::admission), and are counted here with all else.
//!
//! Beside the bytes there are slots for units in work: where units are small, more of them at once would fill the limit
//! without making anything faster.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Result};
use crate::plan::units;
use crate::telemetry::metrics::{Metrics, Wait};

/// One permit of the semaphore stands for so many bytes, since permits are counted in 32 bits.
const PERMIT_BYTES: u64 = 4096;

/// Bytes in flight, limited.
pub struct Gauge {
    slots: Arc<Semaphore>,
    permits: Arc<Semaphore>,
    capacity: u64,
    in_flight: InFlight,
    metrics: Arc<Metrics>,
}

/// Counts bytes in flight, whoever admits them.
#[derive(Clone)]
pub struct InFlight {
    bytes: Arc<AtomicU64>,
    metrics: Arc<Metrics>,
}

/// Bytes in flight until this is dropped.
pub struct Counted {
    bytes: u64,
    all: Arc<AtomicU64>,
}

/// A unit's right to be in work, until this is dropped.
pub struct Slot(#[allow(dead_code)] OwnedSemaphorePermit);

/// Bytes reserved until this is dropped.
pub struct Reservation {
    _permit: OwnedSemaphorePermit,
    _counted: Counted,
}

impl Gauge {
    /// A gauge of `bytes` in all, and for `units` units in work.
    pub fn new(bytes: u64, units: usize, metrics: Arc<Metrics>) -> Gauge {
        let capacity = (bytes / PERMIT_BYTES).clamp(2, u32::MAX as u64 / 2);
        Gauge {
            slots: Arc::new(Semaphore::new(units)),
            permits: Arc::new(Semaphore::new(capacity as usize)),
            capacity,
            in_flight: InFlight {
                bytes: Default::default(),
                metrics: metrics.clone(),
            },
            metrics,
        }
    }

    /// Counts what is admitted elsewhere, beside this gauge's limit.
    pub fn in_flight(&self) -> InFlight {
        self.in_flight.clone()
    }

    /// Waits until one more unit may be in work.
    pub async fn slot(&self) -> Result<Slot> {
        let _waiting = self.metrics.waiting(Wait::Fetch);
        self.slots.clone().acquire_owned().await.map(Slot).map_err(closed)
    }

    /// Waits until `bytes` are free, first come first served. More than half of the limit is taken as half of it, and
    /// nothing at all waits for nobody.
    pub async fn reserve(&self, bytes: u64) -> Result<Reservation> {
        let permits = bytes.div_ceil(PERMIT_BYTES).min(self.capacity / 2);
        let permit = {
            let _waiting = self.metrics.waiting(Wait::Fetch);
            self.permits.clone().acquire_many_owned(permits as u32).await
        };
        let permit = permit.map_err(closed)?;
        Ok(Reservation {
            _permit: permit,
            _counted: self.in_flight.count(bytes),
        })
    }
}

impl InFlight {
    /// Counts `bytes` more.
    pub fn count(&self, bytes: u64) -> Counted {
        let now = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.metrics.memory_peak_bytes.raise_to(now);
        Counted {
            bytes,
            all: self.bytes.clone(),
        }
    }
}

fn closed(error: AcquireError) -> Error {
    Error::internal("the memory gauge is closed").with_source(error)
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The gauge's limit for a process that may use `memory_bytes` and runs `workers` workers on units of up to
/// `unit_bytes`.
///
/// Half of the memory is left to the model, its arenas and decoded blocks. Beyond what hides the time that reading and
/// storing take, more bytes in flight make nothing faster: they only wait to be stored, and a long job would take more memory
/// than a short one. A disk answers sooner than a store, so less is enough `on_disk`: about a unit a worker and one more.
/// Units larger than those that plans are cut into are large row groups, whose bytes take longer to move than to score: there
/// is room for three, one that is read, one that is worked on and one that is stored.
pub fn limit(memory_bytes: u64, workers: usize, unit_bytes: u64, on_disk: bool) -> u64 {
    const NEAR_BYTES: u64 = 9 << 20;
    const FAR_BYTES: u64 = 24 << 20;
    const LEAST_BYTES: u64 = 16 << 20;
    let for_each = |bytes| bytes * (workers as u64 + 1);
    let useful = match (on_disk, unit_bytes > units::SPLIT_BYTES + units::SPLIT_BYTES / 2) {
        (true, false) => for_each(NEAR_BYTES),
        (true, true) => unit_bytes
            .saturating_mul(3)
            .clamp(for_each(NEAR_BYTES), for_each(FAR_BYTES)),
        (false, _) => for_each(FAR_BYTES),
    };
    useful.min(memory_bytes / 2).max(LEAST_BYTES)
}

/// How many units may be in work for `workers` workers.
///
/// Two keep workers busy while one unit ends and the next begins; beyond that a unit feeds at least two workers, one
/// decoding and one encoding.
pub fn units_in_work(workers: usize) -> usize {
    (workers / 2 + 1).max(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_always_two_units_in_work() {
        assert_eq!([1, 2, 3, 16].map(units_in_work), [2, 2, 2, 9]);
    }

    /// Failure matrix: 57.
    #[test]
    fn the_limit_follows_workers_and_never_takes_more_than_half_of_the_memory() {
        assert_eq!(limit(64 << 30, 2, 5 << 20, true), 27 << 20);
        assert_eq!(limit(64 << 30, 2, 12 << 20, true), 27 << 20);
        assert_eq!(limit(64 << 30, 2, 20 << 20, true), 60 << 20);
        assert_eq!(limit(64 << 30, 2, u64::MAX, true), 72 << 20);
        assert_eq!(limit(64 << 30, 2, 5 << 20, false), 72 << 20);
        assert_eq!(limit(200 << 20, 16, 0, true), 100 << 20);
        assert_eq!(limit(200 << 20, 8, 0, false), 100 << 20);
        assert_eq!(limit(1 << 20, 1, 0, false), 16 << 20);
    }

    /// Failure matrix: 57, 61.
    #[tokio::test]
    async fn reservations_wait_for_each_other_and_are_given_back() {
        let metrics = Arc::new(Metrics::default());
        let gauge = Arc::new(Gauge::new(100 * PERMIT_BYTES, 1, metrics.clone()));
        let first = gauge.reserve(50 * PERMIT_BYTES).await.unwrap();
        let second = gauge.reserve(50 * PERMIT_BYTES).await.unwrap();
        let third = tokio::spawn({
            let gauge = gauge.clone();
            async move { gauge.reserve(10 * PERMIT_BYTES).await.map(drop) }
        });
        tokio::task::yield_now().await;
        assert!(!third.is_finished());
        drop(first);
        third.await.unwrap().unwrap();
        drop(second);
        assert_eq!(metrics.memory_peak_bytes.get(), 100 * PERMIT_BYTES);
    }

    #[tokio::test]
    async fn nothing_is_reserved_at_once_however_full_it_is() {
        let gauge = Gauge::new(10 * PERMIT_BYTES, 1, Default::default());
        let _full = (
            gauge.reserve(u64::MAX / 2).await.unwrap(),
            gauge.reserve(u64::MAX / 2).await.unwrap(),
        );
        let nothing = std::pin::pin!(gauge.reserve(0));
        assert!(futures::poll!(nothing).is_ready());
    }

    /// Failure matrix: 40.
    #[tokio::test]
    async fn two_oversized_reservations_fit_side_by_side() {
        let gauge = Gauge::new(10 * PERMIT_BYTES, 1, Default::default());
        let _output = gauge.reserve(u64::MAX / 2).await.unwrap();
        let _chunk = gauge.reserve(1 << 40).await.unwrap();
    }
}
