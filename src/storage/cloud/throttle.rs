//! How many requests may be in flight to one store: additive increase, multiplicative decrease.
//!
//! A store that is asked too much says so (429, 503) and would be asked again by everybody at the same time. So each
//! refusal halves the limit, and each success adds a little, as TCP does it: many replicas that know nothing of each
//! other end up sharing what the store gives.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;

/// The limit of one store and what is in flight. Cheap to clone; clones share it.
#[derive(Clone)]
pub(super) struct Throttle(Arc<Inner>);

struct Inner {
    most: f64,
    state: Mutex<State>,
    /// Wakes one waiter for each place that became free.
    free: Notify,
}

struct State {
    limit: f64,
    in_flight: usize,
    /// Counts the cuts: a refusal counts only against the limit its request was sent under.
    cuts: u64,
    refusals: u64,
    requests: u64,
}

/// A place in the line. It is free again when this is dropped.
pub(super) struct Permit {
    throttle: Throttle,
    cuts: u64,
}

impl Throttle {
    /// At most so many at once.
    pub(super) fn new(most: usize) -> Throttle {
        let most = most.max(1) as f64;
        Throttle(Arc::new(Inner {
            most,
            state: Mutex::new(State {
                limit: most,
                in_flight: 0,
                cuts: 0,
                refusals: 0,
                requests: 0,
            }),
            free: Notify::new(),
        }))
    }

    /// Waits for a place.
    pub(super) async fn acquire(&self) -> Permit {
        loop {
            // Registered before looking, so that no place that becomes free in between is missed.
            let mut freed = std::pin::pin!(self.0.free.notified());
            freed.as_mut().enable();
            {
                let mut state = self.state();
                if (state.in_flight as f64) < state.limit.floor() {
                    state.in_flight += 1;
                    state.requests += 1;
                    let cuts = state.cuts;
                    return Permit {
                        throttle: self.clone(),
                        cuts,
                    };
                }
            }
            freed.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.0
            .state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn wake(&self, state: &State) {
        if (state.in_flight as f64) < state.limit.floor() {
            self.0.free.notify_one();
        }
    }
}

impl Permit {
    /// The store did what it was asked.
    pub(super) fn succeeded(&self) {
        let mut state = self.throttle.state();
        state.limit = (state.limit + 1.0 / state.limit).min(self.throttle.0.most);
        self.throttle.wake(&state);
    }

    /// The store asks for fewer requests. What was sent before it last said so does not count again.
    pub(super) fn refused(&self) {
        let mut state = self.throttle.state();
        state.refusals += 1;
        if state.cuts == self.cuts {
            state.cuts += 1;
            state.limit = (state.limit / 2.0).max(1.0);
            tracing::debug!(
                limit = state.limit.floor(),
                refusals = state.refusals,
                requests = state.requests,
                "the store asks for fewer requests at once"
            );
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.throttle.state();
        state.in_flight -= 1;
        self.throttle.wake(&state);
    }
}

impl fmt::Debug for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Throttle")
            .field("limit", &state.limit)
            .field("in_flight", &state.in_flight)
            .field("requests", &state.requests)
            .field("refusals", &state.refusals)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    fn limit(throttle: &Throttle) -> f64 {
        throttle.state().limit
    }

    /// Failure matrix: 46.
    #[tokio::test]
    async fn a_refusal_halves_the_limit_once_and_successes_raise_it_slowly_to_what_is_allowed() {
        let throttle = Throttle::new(16);
        let mut permits = Vec::new();
        for _ in 0..16 {
            permits.push(throttle.acquire().await);
        }
        // A burst of refusals is one message.
        permits.iter().for_each(Permit::refused);
        assert_eq!(limit(&throttle), 8.0);
        drop(permits);
        throttle.acquire().await.refused();
        assert_eq!(limit(&throttle), 4.0);
        for _ in 0..4 {
            throttle.acquire().await.succeeded();
        }
        assert!((4.8..5.0).contains(&limit(&throttle)), "{throttle:?}");
        for _ in 0..500 {
            throttle.acquire().await.succeeded();
        }
        assert_eq!(limit(&throttle), 16.0);
        for _ in 0..20 {
            throttle.acquire().await.refused();
        }
        assert_eq!(limit(&throttle), 1.0, "one always goes");
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_the_limit_are_in_flight_and_everybody_comes_in() {
        let throttle = Throttle::new(3);
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let requests = (0..50u64).map(|number| {
            let (throttle, now, most) = (&throttle, &now, &most);
            async move {
                let permit = throttle.acquire().await;
                let count = now.fetch_add(1, Ordering::Relaxed) + 1;
                most.fetch_max(count, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(number % 7)).await;
                now.fetch_sub(1, Ordering::Relaxed);
                match number {
                    10 => permit.refused(),
                    _ => permit.succeeded(),
                }
            }
        });
        futures::future::join_all(requests).await;
        assert_eq!(most.load(Ordering::Relaxed), 3);
        assert_eq!(throttle.state().in_flight, 0);
    }

    #[tokio::test]
    async fn a_waiter_that_gives_up_leaves_its_place_to_the_next() {
        let throttle = Throttle::new(1);
        let held = throttle.acquire().await;
        let mut first = Box::pin(throttle.acquire());
        let mut second = Box::pin(throttle.acquire());
        assert!(futures::poll!(&mut first).is_pending());
        assert!(futures::poll!(&mut second).is_pending());
        drop(held);
        drop(first);
        drop(
            tokio::time::timeout(Duration::from_secs(5), second)
                .await
                .unwrap(),
        );
    }
}
