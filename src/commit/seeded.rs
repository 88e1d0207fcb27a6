//! Mutation control: protocol bugs that only tests can plant, to show that the tests would find them.
//!
//! The protocol asks [`seeded`] at the few places where a bug can be planted; outside of tests that is the constant
//! `false`, and nothing is left of it. A test plants bugs around the call in which they should show, for its own
//! thread only, so that tests and the model checker's threads don't disturb each other.

/// A way to get the protocol wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bug {
    /// Never ask whether a newer run has claimed the output.
    SkipFence,
    /// Write the marker although units have no record.
    MarkerTooEarly,
    /// Clear the output although somebody has cleared it already.
    WipeUnprepared,
    /// Take "it exists" for "what you wanted to store is stored".
    TrustExists,
    /// Store a unit's record before its data.
    RecordFirst,
    /// Take an error at a create (at the close of a file, say) for success.
    IgnoreErrors,
    /// Clear one's own run's objects as well: with [`WipeUnprepared`](Bug::WipeUnprepared), "each replica wipes the
    /// output when it starts".
    WipeOwn,
    /// On class B: let any replica plan that has waited for the first one.
    AnyonePlans,
    /// On class B: take a data object that is there for one's own, whatever it holds.
    TrustPresence,
    /// On class B: go on to the record without reading back what was put.
    RecordUnread,
}

/// Whether `bug` is planted on this thread: never, outside of tests.
#[cfg(not(test))]
pub const fn seeded(_: Bug) -> bool {
    false
}

#[cfg(test)]
pub use planted::{plant, seeded};

#[cfg(test)]
mod planted {
    use super::Bug;
    use std::cell::Cell;

    thread_local! {
        static PLANTED: Cell<&'static [Bug]> = const { Cell::new(&[]) };
    }

    pub fn seeded(bug: Bug) -> bool {
        PLANTED.get().contains(&bug)
    }

    /// Runs `work` with exactly these bugs, on this thread.
    pub fn plant<T>(bugs: &'static [Bug], work: impl FnOnce() -> T) -> T {
        struct Restore(&'static [Bug]);
        impl Drop for Restore {
            fn drop(&mut self) {
                PLANTED.set(self.0);
            }
        }
        let _restore = Restore(PLANTED.replace(bugs));
        work()
    }

    #[test]
    fn a_bug_is_planted_for_one_call_on_one_thread() {
        assert!(!seeded(Bug::SkipFence));
        plant(&[Bug::SkipFence], || {
            assert!(seeded(Bug::SkipFence) && !seeded(Bug::RecordFirst));
            plant(&[], || assert!(!seeded(Bug::SkipFence)));
            assert!(seeded(Bug::SkipFence));
            std::thread::scope(|scope| {
                scope.spawn(|| assert!(!seeded(Bug::SkipFence)));
            });
        });
        assert!(!seeded(Bug::SkipFence));
    }
}
