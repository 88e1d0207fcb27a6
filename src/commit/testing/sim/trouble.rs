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
    /// A listing ends early and doesn't say so. Only a store of class B may do that.
    CutListing,
    /// A listing shows what was there some changes ago. Only a store of class B may do that.
    StaleListing,
    /// Its process dies over a put, of which a part is there then. Only on class B.
    DieTorn,
    /// A part of what is put is stored, and the answer is that all of it was. Only on class B.
    StorePart,
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

    /// What a store of class B does besides, its listings aside.
    pub const CLASS_B: [Trouble; 6] = [
        Trouble::Fail,
        Trouble::LoseAnswer,
        Trouble::DieBefore,
        Trouble::DieAfter,
        Trouble::DieTorn,
        Trouble::StorePart,
    ];

    /// Whether it can happen to this operation and is no other trouble's double.
    pub fn fits(self, op: &Op) -> bool {
        let changes = matches!(op, Op::Create { .. } | Op::Put { .. } | Op::Delete { .. });
        match self {
            Trouble::SayExists => matches!(op, Op::Create { .. }),
            Trouble::CutListing | Trouble::StaleListing => matches!(op, Op::List { .. }),
            Trouble::DieTorn | Trouble::StorePart => matches!(op, Op::Put { .. }),
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
    /// Any trouble of a store of class B, to so many of a thousand operations.
    ClassB {
        often: usize,
        /// Whether changes may reach the store long after they were asked for: then the input may not grow.
        late: bool,
        /// Whether listings may lag or be cut short.
        lags: bool,
    },
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
