//! Creating an object once, in a way that ends in knowledge: what is stored counts, not what the store said.

use bytes::Bytes;

use super::machine::{Answer, Creation, Op, out_of_turn};
use super::seeded::{Bug, seeded};
use crate::error::Result;
use crate::storage::{Rope, StoreClass};

/// Storing an object that nobody may have stored before, in a way that ends in knowledge.
///
/// - On class A put-if-absent; after any answer but a clean yes, the key is read back, and what is stored counts.
/// - On class B a look, and a put if nothing is there; what was put is read back, whatever the answer was. If the look
///   finds something that is not worth keeping, [`replace`](Self::replace) goes on with the put.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CreateOnce {
    key: String,
    body: Rope,
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
    pub fn new(class: StoreClass, key: impl Into<String>, body: impl Into<Rope>) -> CreateOnce {
        CreateOnce {
            key: key.into(),
            body: body.into(),
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
    pub fn body(&self) -> &Rope {
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
                if self.class == StoreClass::B && self.body == body[..] =>
            {
                Ok(Some(Found::Made))
            }
            (At::ReadBack(said), Answer::Got(Some(body))) => Ok(Some(Found::There {
                body,
                exists: *said == Creation::Exists,
            })),
            (At::ReadBack(said), Answer::Got(None)) => Ok(Some(Found::Absent(match said {
                Creation::Unknown(why) => why.clone(),
                Creation::Exists => "the store says that the object exists, but has none".into(),
                Creation::Yes => "the store says that the object was stored, but has none".into(),
            }))),
            (_, answer) => Err(out_of_turn(&answer)),
        }
    }

    /// Whether the object is known to be stored, by this call.
    fn is_proof(&self, said: &Creation) -> bool {
        match (self.class, said) {
            (StoreClass::A, Creation::Yes) => true,
            (StoreClass::A, Creation::Exists) => seeded(Bug::TrustExists),
            (StoreClass::A, Creation::Unknown(_)) => seeded(Bug::IgnoreErrors),
            (StoreClass::B, said) => *said == Creation::Yes && seeded(Bug::RecordUnread),
        }
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

    #[test]
    fn an_answer_out_of_turn_is_a_bug_and_said_so() {
        let mut once = CreateOnce::new(StoreClass::A, "k", Bytes::new());
        let error = once.apply(Answer::Deleted).unwrap_err();
        assert_eq!(error.kind(), crate::error::ErrorKind::Internal);
    }
}
