//! A few models that many workers use in turn.
//!
//! A GPU is one device: it computes what several threads give it one after the other, and each model on it costs its
//! memory. So there is one model per GPU, or the few that a job asks for, and every worker of the pipeline goes to
//! whichever is free: while it computes for one, the others decode, tokenise and encode.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The models, of which a worker gets one for the length of a call.
pub struct Turns<T> {
    free: Mutex<Vec<T>>,
    returned: Condvar,
}

impl<T> Turns<T> {
    /// Turns at `models`.
    pub fn of(models: impl IntoIterator<Item = T>) -> Arc<Turns<T>> {
        // The one that came back last goes out first: the first one begins.
        let mut free: Vec<T> = models.into_iter().collect();
        free.reverse();
        Arc::new(Turns {
            free: Mutex::new(free),
            returned: Condvar::new(),
        })
    }

    /// Waits for a model and calls `work` with it.
    pub fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        let mut free = self.free();
        let model = loop {
            match free.pop() {
                Some(model) => break model,
                None => free = self.returned.wait(free).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(free);
        let mut taken = Taken {
            turns: self,
            model: Some(model),
        };
        work(taken.model.as_mut().expect("it is there until it is dropped"))
    }

    fn free(&self) -> MutexGuard<'_, Vec<T>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives a model back however the work ends: who waits for it must not wait for ever.
struct Taken<'a, T> {
    turns: &'a Turns<T>,
    model: Option<T>,
}

impl<T> Drop for Taken<'_, T> {
    fn drop(&mut self) {
        self.turns.free().extend(self.model.take());
        self.turns.returned.notify_one();
    }
}

/// How many models there are on `gpus` GPUs, which get them in turn, when a job asks for `asked`; one each, if it doesn't.
pub fn models(asked: Option<usize>, gpus: usize) -> usize {
    asked.unwrap_or(gpus).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn workers_use_all_models_at_once_and_never_one_together() {
        let turns = Turns::of([0, 1, 2]);
        let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        // Three that wait for each other can only go on if each has a model of its own.
        let meeting = Barrier::new(3);
        let met = Mutex::new(BTreeSet::new());
        std::thread::scope(|scope| {
            for worker in 0..3 {
                let (turns, meeting, met, inside, most) = (&turns, &meeting, &met, &inside, &most);
                scope.spawn(move || {
                    turns.with(|model| {
                        met.lock().unwrap().insert(*model);
                        meeting.wait();
                    });
                    for _ in 0..200 {
                        turns.with(|_| {
                            let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
                            most.fetch_max(now, Ordering::SeqCst);
                            inside.fetch_sub(1, Ordering::SeqCst);
                        });
                    }
                    worker
                });
            }
        });
        assert_eq!(met.into_inner().unwrap().len(), 3);
        assert!(most.into_inner() <= 3);
        assert_eq!(turns.free().len(), 3);
    }

    #[test]
    fn a_model_comes_back_from_a_panic() {
        let turns = Turns::of([7]);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            turns.with(|_| panic!("a bad batch"));
        }));
        assert!(panicked.is_err());
        assert_eq!(turns.with(|model| *model), 7);
    }

    #[test]
    fn there_is_a_model_per_gpu_or_as_many_as_asked_for() {
        for (asked, gpus, expected) in [
            (None, 1, 1),
            (None, 4, 4),
            (Some(2), 1, 2),
            (Some(1), 4, 1),
            (Some(6), 4, 6),
        ] {
            assert_eq!(models(asked, gpus), expected, "{asked:?} on {gpus}");
        }
    }
}
