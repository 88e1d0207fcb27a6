//! Which unit a replica takes next: its own, then those of replicas that are slow or gone.
//!
//! A job ends when its last unit is committed, so a replica that is done with its share goes on with units of others
//! that have no record yet. Whoever computes a unit, its objects have the same names and the first one counts:
//! helping can cost double work, never correctness. Three rules keep the double work small:
//!
//! - **From the end.** An owner works through its share from the front, so helpers take from the back and meet it late.
//! - **Notes.** A helper says which unit it takes (`commit::help`), so that other helpers take another one and the
//!   owner leaves it out.
//! - **Patience.** What somebody probably has in work (a unit with a note, or at the front of its owner's share) is
//!   left alone for a few times as long as such a unit takes here, and twice as long for every further note. These
//!   are the backup tasks of MapReduce (Dean and Ghemawat 2004, section 3.6).
//!
//! Pure: what is committed and noted comes in through [`Queue::saw`], and time, counted from any fixed moment, as an
//! argument.

use std::time::Duration;

use super::{Unit, assign};

#[cfg(test)]
mod simulation;

/// How many times its usual time a unit in somebody's hands is left alone.
const PATIENCE: u32 = 3;

/// Patience with units that take no time to speak of: starts, pauses and listings take longer.
const LEAST_PATIENCE: Duration = Duration::from_millis(500);

/// Patience of a replica that doesn't know yet how long a unit takes, because it has not done any.
const BLIND_PATIENCE: Duration = Duration::from_secs(60);

/// Patience doubles with every note, up to this many.
const MOST_DOUBLINGS: u32 = 10;

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Take this unit of the replica's own share.
    Own(u32),
    /// Take this unit of another share, or one that a helper has announced, if the note numbered `note` can still be
    /// made.
    Help {
        /// The unit.
        unit: u32,
        /// How many notes on the unit there were.
        note: u32,
    },
    /// Look again when something was committed, or after this long.
    Wait(Duration),
    /// Nothing: every unit is committed.
    Done,
}

/// What is known of one unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Known {
    committed: bool,
    notes: u32,
    /// When this replica took it.
    taken: Option<Duration>,
    /// Since when it has been in somebody's hands with so many notes.
    in_hand: Option<(u32, Duration)>,
}

/// A replica's view of all units, and the choice among them.
#[derive(Clone, Debug)]
pub struct Queue {
    /// The shares of all replicas, this one's first, each in the order its owner works in.
    shares: Vec<Vec<u32>>,
    weights: Vec<u64>,
    known: Vec<Known>,
    /// How many units an owner has in its hands at a time.
    units_in_hand: usize,
    helps: bool,
    /// Weight and seconds of the units committed here.
    done: (u64, Duration),
}

impl Queue {
    /// The queue of replica `index` of `replicas`. Every replica is taken to have `units_in_hand` units in work at a
    /// time. One that doesn't help ends with its own share.
    pub fn new(units: &[Unit], replicas: usize, index: usize, units_in_hand: usize, helps: bool) -> Queue {
        let mut shares = assign::assign(units, replicas);
        shares.swap(0, index);
        Queue {
            shares,
            weights: units.iter().map(assign::weight).collect(),
            known: vec![Known::default(); units.len()],
            units_in_hand,
            helps,
            done: (0, Duration::ZERO),
        }
    }

    /// The replica's own share, in the order of work.
    pub fn own(&self) -> &[u32] {
        &self.shares[0]
    }

    /// Takes in a listing made at `now`: the units with a record, and how many notes each unit has that has any.
    pub fn saw(
        &mut self,
        committed: impl IntoIterator<Item = u32>,
        notes: impl IntoIterator<Item = (u32, u32)>,
        now: Duration,
    ) {
        for unit in committed {
            self.known[unit as usize].committed = true;
        }
        for (unit, count) in notes {
            let known = &mut self.known[unit as usize];
            known.notes = known.notes.max(count);
        }
        for (position, share) in self.shares.iter().enumerate() {
            // A replica knows what it has in work itself.
            let mut front = if position == 0 { 0 } else { self.units_in_hand };
            for &unit in share {
                let known = &mut self.known[unit as usize];
                if known.committed {
                    continue;
                }
                let is_in_hand = front > 0 || known.notes > 0;
                front = front.saturating_sub(1);
                known.in_hand = match known.in_hand {
                    _ if !is_in_hand => None,
                    Some((notes, since)) if notes == known.notes => Some((notes, since)),
                    _ => Some((known.notes, now)),
                };
            }
        }
    }

    /// This replica has committed a unit, or found it committed.
    pub fn committed(&mut self, unit: u32, now: Duration) {
        let known = &mut self.known[unit as usize];
        known.committed = true;
        if let Some(taken) = known.taken {
            self.done.0 += self.weights[unit as usize];
            self.done.1 += now.saturating_sub(taken);
        }
    }

    /// Takes the unit that [`next`](Self::next) gave.
    pub fn take(&mut self, unit: u32, now: Duration) {
        self.known[unit as usize].taken = Some(now);
    }

    /// Another helper was faster with its note.
    pub fn lost(&mut self, unit: u32, note: u32, now: Duration) {
        let known = &mut self.known[unit as usize];
        known.notes = known.notes.max(note + 1);
        known.in_hand = Some((known.notes, now));
    }

    /// Whether the unit is committed, by whomever.
    pub fn is_committed(&self, unit: u32) -> bool {
        self.known[unit as usize].committed
    }

    /// Whether every unit is committed, by whomever.
    pub fn is_complete(&self) -> bool {
        self.known.iter().all(|known| known.committed)
    }

    /// What to do at `now`.
    pub fn next(&self, now: Duration) -> Next {
        let own = self.shares[0].iter().find(|&&unit| {
            let known = self.known[unit as usize];
            !known.committed && known.taken.is_none() && (known.notes == 0 || !self.helps)
        });
        match own {
            Some(&unit) => Next::Own(unit),
            None if !self.helps || self.is_complete() => Next::Done,
            None => match self.last_of_the_largest_rest() {
                Some(unit) => Next::Help { unit, note: 0 },
                None => self.back_up_or_wait(now),
            },
        }
    }

    /// The last unit of the share with the most work that nobody has in hand.
    fn last_of_the_largest_rest(&self) -> Option<u32> {
        let is_free = |unit: &&u32| {
            let known = self.known[**unit as usize];
            !known.committed && known.taken.is_none() && known.in_hand.is_none()
        };
        let rest = |share: &Vec<u32>| {
            let last = *share.iter().rfind(is_free)?;
            let weight: u64 = share
                .iter()
                .filter(is_free)
                .map(|&unit| self.weights[unit as usize])
                .sum();
            Some((weight, last))
        };
        self.shares[1..]
            .iter()
            .filter_map(rest)
            .max()
            .map(|(_, last)| last)
    }

    /// Everything left is in somebody's hands: a unit that has been there for too long, or how long to wait.
    fn back_up_or_wait(&self, now: Duration) -> Next {
        let left = |(unit, known): (usize, &Known)| {
            let (notes, since) = known
                .in_hand
                .filter(|_| !known.committed && known.taken.is_none())?;
            let patience = self.patience(unit) * 2u32.pow(notes.min(MOST_DOUBLINGS));
            Some(((since + patience).saturating_sub(now), notes, unit as u32))
        };
        match self.known.iter().enumerate().filter_map(left).min() {
            Some((Duration::ZERO, note, unit)) => Next::Help { unit, note },
            Some((left, ..)) => Next::Wait(left),
            // All that is left is in this replica's own hands.
            None => Next::Wait(BLIND_PATIENCE),
        }
    }

    fn patience(&self, unit: usize) -> Duration {
        let (weight, time) = self.done;
        if weight == 0 {
            return BLIND_PATIENCE;
        }
        let usual = time.mul_f64(self.weights[unit] as f64 / weight as f64);
        (usual * PATIENCE).max(LEAST_PATIENCE)
    }
}
