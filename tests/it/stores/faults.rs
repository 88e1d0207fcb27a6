//! What can go wrong between Floe and a store.

use std::time::Duration;

use crate::dice::Dice;

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// It arrives late.
    Delay(Duration),
    /// It is refused: 503, `SlowDown`.
    Busy,
    /// The connection is reset before the store saw it.
    ResetBefore,
    /// The store did it, and the connection is reset instead of an answer.
    ResetAfter,
    /// The store did it, and the connection is closed instead of an answer.
    CloseAfter,
    /// The answer breaks off in the middle of its body (or, if it has none, before it).
    Truncate,
    /// The store never sees it, and no answer ever comes.
    Stall,
    /// The store did it; the answer halts in the middle of its body (or before it) for ever.
    Halt,
    /// Success, with an error in the body.
    Garbage,
    /// Refused because the credentials have expired.
    Expired,
    /// Refused with a status and a code.
    Refuse(u16, &'static str),
}

impl Fault {
    /// Those that a request gets over quickly.
    pub const BRIEF: [Fault; 7] = [
        Fault::Busy,
        Fault::ResetBefore,
        Fault::ResetAfter,
        Fault::CloseAfter,
        Fault::Truncate,
        Fault::Garbage,
        Fault::Expired,
    ];

    /// Those that only patience ends.
    pub const SILENT: [Fault; 2] = [Fault::Stall, Fault::Halt];

    /// A fault in about one of `often` requests.
    pub fn drawn(dice: &mut Dice, often: usize) -> Fault {
        match dice.below(often) {
            0 => match dice.below(12) {
                0 => *dice.pick(&Fault::SILENT),
                1..4 => Fault::Delay(dice.millis(60)),
                _ => *dice.pick(&Fault::BRIEF),
            },
            _ => Fault::None,
        }
    }
}
