//! The seam between the protocol and the world: a [`Machine`] says what it needs next and is told what came of it.
//!
//! A machine does no I/O, has no clock and no randomness; it is plain data that can be cloned, compared and hashed.
//! One [`Step`] is at most one store operation, and a process may die between any two. So the same code runs under
//! the async [driver](super::driver), in a simulator that loses answers and kills processes, and in a model checker.

use bytes::Bytes;
use std::fmt::Debug;
use std::hash::Hash;

use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::storage::{Entry, Rope};

/// One operation of [`Store`](crate::storage::Store).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// Every object under the folder `prefix`, sorted by key.
    List {
        /// The folder; `""` is the whole output.
        prefix: String,
    },
    /// The object's bytes.
    Get {
        /// The object.
        key: String,
    },
    /// The object's size.
    Head {
        /// The object.
        key: String,
    },
    /// Put-if-absent; only on a store of class A.
    Create {
        /// The object.
        key: String,
        /// Its bytes.
        body: Rope,
    },
    /// Stores the object and replaces what is there; only on a store of class B.
    Put {
        /// The object.
        key: String,
        /// Its bytes.
        body: Rope,
    },
    /// Removes the object if it is there.
    Delete {
        /// The object.
        key: String,
    },
}

/// What a machine needs next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step<T> {
    /// One store operation.
    Store(Op),
    /// The run's plan; asked for at most once.
    BuildPlan,
    /// The rows of a stored object whose bytes are not those this process would have stored.
    CountRows {
        /// The object.
        key: String,
        /// Its bytes.
        body: Bytes,
    },
    /// Some time to pass, longer with every `attempt` (0, 1, 2, …).
    Pause {
        /// How many pauses of this kind there were before.
        attempt: u32,
    },
    /// Nothing: this is the result.
    Done(T),
}

/// What came of a [`Step`]. A list, get, head or delete that fails has no answer here: it changes nothing that
/// matters, so the driver gives up with its error, and a later attempt starts over.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// To [`Op::List`].
    Listed(Vec<Entry>),
    /// To [`Op::Get`].
    Got(Option<Bytes>),
    /// To [`Op::Head`].
    Size(Option<u64>),
    /// To [`Op::Create`] and [`Op::Put`].
    Created(Creation),
    /// To [`Op::Delete`].
    Deleted,
    /// To [`Step::BuildPlan`].
    Planned(Box<Plan>),
    /// To [`Step::CountRows`].
    Rows(u64),
    /// To [`Step::Pause`].
    Waited,
}

/// What the store said to a put-if-absent, or to a put. Only `Yes` proves anything, and on class B not even that.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Creation {
    /// This call stored the object.
    Yes,
    /// Something is there: perhaps somebody else's, perhaps this call's own earlier try; some stores even say so
    /// when they mean "try again".
    Exists,
    /// The answer got lost, or was an error: stored or not.
    Unknown(String),
}

/// A part of the protocol as a state machine.
pub trait Machine: Clone + Debug + Eq + Hash {
    /// What it comes to.
    type Output;

    /// What it needs next. Asking again gives the same answer.
    fn next(&self) -> Step<Self::Output>;

    /// The reading that most likely comes after the operation which is [`next`](Self::next). It may be done at the same
    /// time, so it must be of an object that never changes once it is there; that it is not there is not believed.
    fn foresee(&self) -> Option<Op> {
        None
    }

    /// Takes the answer to [`next`](Self::next) and moves on. After an error the machine is of no more use.
    fn apply(&mut self, answer: Answer) -> Result<()>;
}

/// How often an unclear create is tried before the store is held to be broken.
pub const MAX_TRIES: u32 = 5;

/// Counts the tries of an object that can't be stored, and gives up after [`MAX_TRIES`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tries(u32);

impl Tries {
    /// How many tries have failed.
    pub fn failed(&self) -> u32 {
        self.0
    }

    /// Counts one more; an error when it was the last.
    pub fn again(&mut self, key: &str, why: &str) -> Result<()> {
        self.0 += 1;
        if self.0 < MAX_TRIES {
            return Ok(());
        }
        Err(Error::storage(format!("can't store the object in {MAX_TRIES} tries: {why}")).with("key", key))
    }

    /// The pause before the next try.
    pub fn pause<T>(&self) -> Step<T> {
        Step::Pause {
            attempt: self.0.saturating_sub(1),
        }
    }
}

/// A driver's mistake: an answer to something that wasn't asked.
pub fn out_of_turn(answer: &Answer) -> Error {
    let name = match answer {
        Answer::Listed(_) => "listed",
        Answer::Got(_) => "got",
        Answer::Size(_) => "size",
        Answer::Created(_) => "created",
        Answer::Deleted => "deleted",
        Answer::Planned(_) => "planned",
        Answer::Rows(_) => "rows",
        Answer::Waited => "waited",
    };
    Error::internal(format!("the commit protocol was answered {name:?} out of turn"))
}

impl Op {
    /// The listing of a folder.
    pub fn list(prefix: impl Into<String>) -> Op {
        Op::List {
            prefix: prefix.into(),
        }
    }

    /// The bytes of an object.
    pub fn get(key: impl Into<String>) -> Op {
        Op::Get { key: key.into() }
    }

    /// The size of an object.
    pub fn head(key: impl Into<String>) -> Op {
        Op::Head { key: key.into() }
    }

    /// The removal of an object.
    pub fn delete(key: impl Into<String>) -> Op {
        Op::Delete { key: key.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Failure matrix: 49.
    #[test]
    fn a_store_that_never_stores_is_given_up() {
        let mut tries = Tries::default();
        for _ in 1..MAX_TRIES {
            tries.again("k", "disk full").unwrap();
        }
        let error = tries.again("k", "disk full").unwrap_err();
        assert_eq!(
            error.to_string(),
            "can't store the object in 5 tries: disk full (key k)"
        );
    }
}
