//! Second looks: is what a listing shows missing, cut short or foreign really so?
//!
//! Listings of a store of class B may lag behind what was stored, and may still show what was deleted. So nobody there
//! gives up, or deletes, on the word of a listing alone: each doubtful object is asked for by name, a few times. A store
//! of class A is believed at once.

use super::machine::{Answer, Op, Step, out_of_turn};
use super::record::OutputFile;
use super::success::{Success, check_sizes, damaged};
use crate::error::Result;
use crate::storage::{Entry, StoreClass};

/// How often a doubtful object is looked at. With the driver's pauses that takes a few seconds.
const LOOKS: u32 = 5;

/// An object that a listing doesn't show as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Doubt {
    /// The object.
    pub key: String,
    /// Its size if all is well; `None` if it should not be there.
    pub expected: Option<u64>,
    /// Its size as last seen.
    pub seen: Option<u64>,
}

/// Those of `files` that `listing` lacks or has in another size.
pub fn doubts<'a>(files: &'a [OutputFile], listing: &'a [Entry]) -> impl Iterator<Item = Doubt> + 'a {
    let size = |key: &str| {
        let at = listing
            .binary_search_by(|entry| entry.key.as_str().cmp(key))
            .ok()?;
        Some(listing[at].size)
    };
    let doubt = move |file: &OutputFile| Doubt {
        key: file.path.clone(),
        expected: Some(file.bytes),
        seen: size(&file.path),
    };
    files
        .iter()
        .map(doubt)
        .filter(|doubt| doubt.seen != doubt.expected)
}

/// Looks at doubtful objects until all doubts are gone or there is no more patience.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Confirm {
    /// Not yet looked at this time, the next one last.
    open: Vec<Doubt>,
    /// Looked at this time, and still not as it should be.
    left: Vec<Doubt>,
    looks: u32,
}

impl Confirm {
    /// Will look at these objects, of which there is at least one.
    pub fn new(doubts: Vec<Doubt>) -> Confirm {
        Confirm {
            open: doubts,
            left: Vec::new(),
            looks: 0,
        }
    }

    /// What it needs next.
    pub fn next<T>(&self) -> Step<T> {
        match self.open.last() {
            Some(doubt) => Step::Store(Op::head(&doubt.key)),
            None => Step::Pause {
                attempt: self.looks - 1,
            },
        }
    }

    /// Takes the answer. `Some`: these doubts remain.
    pub fn apply(&mut self, answer: Answer) -> Result<Option<Vec<Doubt>>> {
        match (self.open.pop(), answer) {
            (Some(doubt), Answer::Size(seen)) => {
                if seen != doubt.expected {
                    self.left.push(Doubt { seen, ..doubt });
                }
            }
            (None, Answer::Waited) => {
                self.open = std::mem::take(&mut self.left);
                return Ok(None);
            }
            (_, answer) => return Err(out_of_turn(&answer)),
        }
        if !self.open.is_empty() {
            return Ok(None);
        }
        self.looks += 1;
        if self.left.is_empty() || self.looks == LOOKS {
            return Ok(Some(std::mem::take(&mut self.left)));
        }
        Ok(None)
    }
}

/// Are the files of a finished run there, in their sizes?
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CheckFiles {
    class: StoreClass,
    success: Success,
    confirm: Option<Confirm>,
}

impl CheckFiles {
    /// Begins at the listing of the output.
    pub fn new(class: StoreClass, success: Success) -> CheckFiles {
        CheckFiles {
            class,
            success,
            confirm: None,
        }
    }

    /// What it needs next.
    pub fn next<T>(&self) -> Step<T> {
        match &self.confirm {
            None => Step::Store(Op::list("")),
            Some(confirm) => confirm.next(),
        }
    }

    /// Takes the answer. `Some`: they are.
    pub fn apply(&mut self, answer: Answer) -> Result<Option<Success>> {
        let left = match (&mut self.confirm, answer) {
            (None, Answer::Listed(listing)) if self.class == StoreClass::A => {
                check_sizes(&self.success.files, &listing)?;
                Vec::new()
            }
            (None, Answer::Listed(listing)) => {
                let doubts: Vec<Doubt> = doubts(&self.success.files, &listing).collect();
                if !doubts.is_empty() {
                    self.confirm = Some(Confirm::new(doubts));
                    return Ok(None);
                }
                doubts
            }
            (None, answer) => return Err(out_of_turn(&answer)),
            (Some(confirm), answer) => match confirm.apply(answer)? {
                None => return Ok(None),
                Some(left) => left,
            },
        };
        match left.first() {
            Some(doubt) => Err(damaged(
                &doubt.key,
                doubt.seen,
                doubt.expected.unwrap_or_default(),
            )),
            None => Ok(Some(self.success.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit::testing::{plan_of, request};

    fn doubt(key: &str, expected: Option<u64>) -> Doubt {
        Doubt {
            key: key.into(),
            expected,
            seen: None,
        }
    }

    /// Lets it look at `sizes` of the objects it asks for. Returns what remains, and how often it looked and paused.
    fn look(mut confirm: Confirm, sizes: impl Fn(&str, u32) -> Option<u64>) -> (Vec<Doubt>, u32, u32) {
        let (mut heads, mut pauses) = (0, 0);
        loop {
            let answer = match confirm.next::<()>() {
                Step::Store(Op::Head { key }) => {
                    heads += 1;
                    Answer::Size(sizes(&key, pauses))
                }
                Step::Pause { .. } => {
                    pauses += 1;
                    Answer::Waited
                }
                other => panic!("{other:?}"),
            };
            if let Some(left) = confirm.apply(answer).unwrap() {
                return (left, heads, pauses);
            }
        }
    }

    /// Failure matrix: 50.
    #[test]
    fn what_a_lagging_listing_left_out_is_asked_for_by_name_and_with_patience() {
        let both = || Confirm::new(vec![doubt("late", Some(7)), doubt("deleted", None)]);
        assert_eq!(
            look(both(), |key, _| (key == "late").then_some(7)),
            (vec![], 2, 0)
        );
        let late = look(both(), |key, pauses| (key == "late" && pauses >= 2).then_some(7));
        assert_eq!(late, (vec![], 4, 2));
        let (left, heads, pauses) = look(both(), |_, _| Some(6));
        assert_eq!((left.len(), heads, pauses), (2, 2 * LOOKS, LOOKS - 1));
        assert!(left.iter().all(|doubt| doubt.seen == Some(6)));
    }

    #[test]
    fn a_complete_run_is_checked_by_a_listing_and_on_class_b_by_name_as_well() {
        let mut world = crate::commit::testing::World::new(
            &[2],
            [crate::commit::testing::Start::of(request(
                "run",
                crate::config::SaveMode::Error,
            ))],
        );
        world.run(0).unwrap();
        let success = Success::read(&world.objects.0[super::super::MARKER]).unwrap();
        assert_eq!(
            success.rows,
            plan_of("run", crate::config::SaveMode::Error, &[2]).rows()
        );
        let sees_none = || Answer::Listed(Vec::new());
        let mut check = CheckFiles::new(StoreClass::A, success.clone());
        assert!(
            check
                .apply(sees_none())
                .unwrap_err()
                .to_string()
                .contains("is missing")
        );
        let mut check = CheckFiles::new(StoreClass::B, success.clone());
        assert_eq!(check.apply(sees_none()).unwrap(), None);
        let bytes = success.files[0].bytes;
        assert_eq!(check.apply(Answer::Size(Some(bytes))).unwrap(), Some(success));
    }
}
