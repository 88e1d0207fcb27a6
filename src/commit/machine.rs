//! The seam between the protocol and the world: a [`Machine`] says what it needs next and is told what came of it.
//!
//! A machine does no I/O, has no clock and no randomness; it is plain data that can be cloned, compared and hashed.
//! One [`Step`] is at most one store operation, and a process may die between any two. So the same code runs under
//! the async [driver](super::driver), in a simulator that loses answers and kills processes, and in a model checker.

use bytes::Bytes;
use std::fmt::Debug;
use std::hash::Hash;

use super::seeded::{Bug, seeded};
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::storage::{Entry, StoreClass};

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
        body: Bytes,
    },
    /// Stores the object and replaces what is there; only on a store of class B.
    Put {
        /// The object.
        key: String,
        /// Its bytes.
        body: Bytes,
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
    Planned(Plan),
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

impl Creation {
    /// Whether the object is known to be stored, by this call.
    fn is_proof(&self) -> bool {
        match self {
            Creation::Yes => true,
            Creation::Exists => seeded(Bug::TrustExists),
            Creation::Unknown(_) => seeded(Bug::IgnoreErrors),
        }
    }
}

/// A part of the protocol as a state machine.
pub trait Machine: Clone + Debug + Eq + Hash {
    /// What it comes to.
    type Output;

    /// What it needs next. Asking again gives the same answer.
    fn next(&self) -> Step<Self::Output>;

    /// Takes the answer to [`next`](Self::next) and moves on. After an error the machine is of no more use.
    fn apply(&mut self, answer: Answer) -> Result<()>;
}

/// How often an unclear create is tried before the store is held to be broken.
pub const MAX_TRIES: u32 = 5;

/// Storing an object that nobody may have stored before, in a way that ends in knowledge.
///
/// - On class A put-if-absent; after any answer but a clean yes, the key is read back, and what is stored counts.
/// - On class B a look, and a put if nothing is there; what was put is read back, whatever the answer was. If the look
///   finds something that is not worth keeping, [`replace`](Self::replace) goes on with the put.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CreateOnce {
    key: String,
    body: Bytes,
    class: StoreClass,
    at: At,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum At {
    /// Class B: is something there?
    Look,
    /// Class A: put-if-absent. Class B: put.
    Store,
    /// What the store had said.
    ReadBack(Creation),
}

/// What a [`CreateOnce`] found out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Found {
    /// The object was stored by this very call; on class B it has been read back.
    Made,
    /// This is stored.
    There {
        /// The stored bytes.
        body: Bytes,
        /// Whether it was there before this call stored anything, as far as the store tells.
        exists: bool,
    },
    /// Nothing is stored, whatever the store had said: worth another try.
    Absent(String),
}

impl CreateOnce {
    /// Will store `body` under `key` if that is free.
    pub fn new(class: StoreClass, key: impl Into<String>, body: Bytes) -> CreateOnce {
        CreateOnce {
            key: key.into(),
            body,
            class,
            at: match class {
                StoreClass::A => At::Store,
                StoreClass::B => At::Look,
            },
        }
    }

    /// On class B: what the look found is to be replaced.
    pub fn replace(&mut self) {
        self.at = At::Store;
    }

    /// Whether the last writer wins.
    pub fn is_class_b(&self) -> bool {
        self.class == StoreClass::B
    }

    /// The object.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Its bytes.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The next operation.
    pub fn op(&self) -> Op {
        let (key, body) = (self.key.clone(), self.body.clone());
        match (&self.at, self.class) {
            (At::Store, StoreClass::A) => Op::Create { key, body },
            (At::Store, StoreClass::B) => Op::Put { key, body },
            (At::Look | At::ReadBack(_), _) => Op::Get { key },
        }
    }

    /// Takes the answer to [`op`](Self::op); `None` means: there is one more operation.
    pub fn apply(&mut self, answer: Answer) -> Result<Option<Found>> {
        match (&self.at, answer) {
            (At::Look, Answer::Got(Some(body))) => Ok(Some(Found::There { body, exists: true })),
            (At::Look, Answer::Got(None)) => {
                self.at = At::Store;
                Ok(None)
            }
            (At::Store, Answer::Created(said)) if self.is_proof(&said) => Ok(Some(Found::Made)),
            (At::Store, Answer::Created(said)) => {
                self.at = At::ReadBack(said);
                Ok(None)
            }
            (At::ReadBack(_), Answer::Got(Some(body)))
                if self.class == StoreClass::B && body == self.body =>
            {
                Ok(Some(Found::Made))
            }
            (At::ReadBack(said), Answer::Got(Some(body))) => Ok(Some(Found::There {
                body,
                exists: *said == Creation::Exists,
            })),
            (At::ReadBack(Creation::Unknown(why)), Answer::Got(None)) => Ok(Some(Found::Absent(why.clone()))),
            (At::ReadBack(_), Answer::Got(None)) => Ok(Some(Found::Absent(
                "the store says that the object exists, but has none".into(),
            ))),
            (_, answer) => Err(out_of_turn(&answer)),
        }
    }

    fn is_proof(&self, said: &Creation) -> bool {
        match self.class {
            StoreClass::A => said.is_proof(),
            StoreClass::B => *said == Creation::Yes && seeded(Bug::RecordUnread),
        }
    }
}

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

    fn run_on(class: StoreClass, answers: impl IntoIterator<Item = Answer>) -> Found {
        let mut once = CreateOnce::new(class, "k", Bytes::from_static(b"mine"));
        for answer in answers {
            if let Some(found) = once.apply(answer).unwrap() {
                return found;
            }
        }
        panic!("more operations than expected, next {:?}", once.op());
    }

    fn run(answers: impl IntoIterator<Item = Answer>) -> Found {
        run_on(StoreClass::A, answers)
    }

    /// Failure matrix: 48.
    #[test]
    fn only_a_clean_yes_is_believed_without_reading_back() {
        let body = Bytes::from_static(b"stored");
        let there = |exists| Found::There {
            body: body.clone(),
            exists,
        };
        let lost = || Answer::Created(Creation::Unknown("reset".into()));
        let exists = || Answer::Created(Creation::Exists);
        let got = || Answer::Got(Some(body.clone()));

        assert_eq!(run([Answer::Created(Creation::Yes)]), Found::Made);
        assert_eq!(run([exists(), got()]), there(true));
        assert_eq!(run([lost(), got()]), there(false));
        assert_eq!(run([lost(), Answer::Got(None)]), Found::Absent("reset".into()));
        assert!(matches!(run([exists(), Answer::Got(None)]), Found::Absent(_)));
    }

    #[test]
    fn on_class_b_nothing_is_believed_without_reading_back() {
        let got = |body: &'static [u8]| Answer::Got(Some(Bytes::from_static(body)));
        let none = || Answer::Got(None);
        let yes = || Answer::Created(Creation::Yes);
        let lost = || Answer::Created(Creation::Unknown("reset".into()));
        let there = |body: &'static [u8], exists| Found::There {
            body: Bytes::from_static(body),
            exists,
        };
        let run = |answers: Vec<Answer>| run_on(StoreClass::B, answers);

        assert_eq!(run(vec![none(), yes(), got(b"mine")]), Found::Made);
        assert_eq!(run(vec![none(), lost(), got(b"mine")]), Found::Made);
        assert_eq!(run(vec![none(), yes(), got(b"mi")]), there(b"mi", false));
        assert_eq!(run(vec![none(), lost(), none()]), Found::Absent("reset".into()));
        assert!(matches!(run(vec![none(), yes(), none()]), Found::Absent(_)));
        assert_eq!(run(vec![got(b"other")]), there(b"other", true));

        let mut once = CreateOnce::new(StoreClass::B, "k", Bytes::from_static(b"mine"));
        assert_eq!(once.op(), Op::get("k"));
        once.apply(got(b"torn")).unwrap();
        once.replace();
        assert!(matches!(once.op(), Op::Put { .. }));
        assert_eq!(once.apply(yes()).unwrap(), None);
        assert_eq!(once.op(), Op::get("k"));
        assert_eq!(once.apply(got(b"mine")).unwrap(), Some(Found::Made));
    }

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

    #[test]
    fn an_answer_out_of_turn_is_a_bug_and_said_so() {
        let mut once = CreateOnce::new(StoreClass::A, "k", Bytes::new());
        let error = once.apply(Answer::Deleted).unwrap_err();
        assert_eq!(error.kind(), crate::error::ErrorKind::Internal);
    }
}
