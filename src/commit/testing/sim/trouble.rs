//! What may go wrong, and when.

use super::*;

/// What may happen to an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// It is not done, and the answer is an error (503, a reset, a listing that fails at its second page).
    Fail,
    /// It is done, and the answer lost.
    LoseAnswer,
    /// The answer is an error, and it is done later, after others.
    Late,
    /// A create is not done, and the answer is that the object exists (409 or 412 of a busy store).
    SayExists,
    /// Its process dies, and it is not done.
    DieBefore,
    /// Its process dies, and it is done later.
    DieLate,
    /// It is done, and its process dies.
    DieAfter,
    /// A listing ends early and doesn't say so. No store that Floe is made for does that.
    CutListing,
}

impl Trouble {
    /// All that a sound store and an unreliable platform do.
    pub const ALL: [Trouble; 7] = [
        Trouble::Fail,
        Trouble::LoseAnswer,
        Trouble::Late,
        Trouble::SayExists,
        Trouble::DieBefore,
        Trouble::DieLate,
        Trouble::DieAfter,
    ];

    /// Whether it can happen to this operation and is no other trouble's double.
    pub fn fits(self, op: &Op) -> bool {
        let changes = matches!(op, Op::Create { .. } | Op::Delete { .. });
        match self {
            Trouble::SayExists => matches!(op, Op::Create { .. }),
            Trouble::CutListing => matches!(op, Op::List { .. }),
            Trouble::LoseAnswer | Trouble::Late | Trouble::DieLate | Trouble::DieAfter => changes,
            Trouble::Fail | Trouble::DieBefore => true,
        }
    }
}

/// When trouble comes.
#[derive(Clone, Copy, Debug)]
pub enum Weather {
    /// Any trouble, to so many of a thousand operations.
    Random(usize),
    /// This trouble, to the `at`th operation only.
    Once { at: usize, trouble: Trouble },
    /// Cut listings, to so many of a thousand operations.
    CutListings(usize),
}

/// How a simulation went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Played {
    /// Store operations served.
    pub operations: usize,
    /// Those that met with trouble.
    pub troubles: usize,
    pub deaths: usize,
    /// The operations, and what happened to them.
    pub log: Vec<(Op, Option<Trouble>)>,
}
