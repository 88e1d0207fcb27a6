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
//! A unit that kills every process which takes it would so kill them all, one after the other. So a unit that was taken
//! several times by processes that didn't live to commit it is taken last, and in the end not at all.
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

/// Patience of a replica that doesn't know how long a unit takes, because neither it nor, as far as it was told, anybody
/// else has done one.
const BLIND_PATIENCE: Duration = Duration::from_secs(60);

/// A unit that was taken so often, as far as notes tell, and never committed, is not taken again. Who first took it left
/// no note.
const MOST_TAKEN: u32 = 3;

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
    /// This unit has been taken so many times by processes that seem to have died of it; there is nothing else to do.
    Poison {
        /// The unit.
        unit: u32,
        /// How many notes tell of it.
        taken: u32,
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
    /// How often it was taken by helpers.
    notes: u32,
    /// How often it was taken by an owner that had been started before.
    tries: u32,
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
    /// Weight and seconds of a unit committed elsewhere.
    told: Option<(u64, Duration)>,
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
            told: None,
        }
    }

    /// The replica's own share, in the order of work.
    pub fn own(&self) -> &[u32] {
        &self.shares[0]
    }

    /// Takes in how often units were taken by owners that had been started before: earlier lives of this replica
    /// among them, so once, at its start.
    pub fn saw_tries(&mut self, tries: impl IntoIterator<Item = (u32, u32)>) {
        for (unit, count) in tries {
            self.known[unit as usize].tries = count;
        }
    }

    /// How often the unit was taken by owners that had been started before.
    pub fn tries(&self, unit: u32) -> u32 {
        self.known[unit as usize].tries
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
        let held = self.held(unit, now);
        let known = &mut self.known[unit as usize];
        known.committed = true;
        if known.taken.is_some() {
            self.done.0 += self.weights[unit as usize];
            self.done.1 += held;
        }
    }

    /// Whether nothing is known of how long units take.
    pub fn is_blind(&self) -> bool {
        self.done.0 == 0 && self.told.is_none()
    }

    /// Somebody else had the unit in hand for so long before it was committed.
    pub fn learned(&mut self, unit: u32, took: Duration) {
        self.told = Some((self.weights[unit as usize].max(1), took));
    }

    /// How long this replica has had the unit in hand.
    pub fn held(&self, unit: u32, now: Duration) -> Duration {
        let taken = self.known[unit as usize].taken;
        taken.map_or(Duration::ZERO, |taken| now.saturating_sub(taken))
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
        let own = self.shares[0].iter().filter(|&&unit| {
            let known = self.known[unit as usize];
            !known.committed && known.taken.is_none() && (known.notes == 0 || !self.helps)
        });
        // The first of those that were taken least often: what may be poison comes last.
        match own.min_by_key(|&&unit| self.known[unit as usize].tries) {
            Some(&unit) => self.unless_poison(unit, Next::Own(unit)),
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
            let patience = self.patience(unit) * 2u32.pow(notes.min(MOST_TAKEN));
            Some(((since + patience).saturating_sub(now), notes, unit as u32))
        };
        match self.known.iter().enumerate().filter_map(left).min() {
            Some((Duration::ZERO, note, unit)) => self.unless_poison(unit, Next::Help { unit, note }),
            Some((left, ..)) => Next::Wait(left),
            // All that is left is in this replica's own hands.
            None => Next::Wait(BLIND_PATIENCE),
        }
    }

    fn unless_poison(&self, unit: u32, next: Next) -> Next {
        let known = self.known[unit as usize];
        let taken = known.notes + known.tries;
        if taken < MOST_TAKEN {
            next
        } else {
            Next::Poison { unit, taken }
        }
    }

    fn patience(&self, unit: usize) -> Duration {
        // What was done here is the better measure: others may have other machines.
        let known = Some(self.done).filter(|(weight, _)| *weight > 0).or(self.told);
        let Some((weight, time)) = known else {
            return BLIND_PATIENCE;
        };
        let usual = time.mul_f64(self.weights[unit] as f64 / weight as f64);
        (usual * PATIENCE).max(LEAST_PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    /// The queue of replica 0 of 2 over four units: its own are 0 and 2.
    fn queue(helps: bool) -> Queue {
        let unit = |id| Unit {
            id,
            parts: vec![],
            rows: 0,
            bytes: 1,
        };
        Queue::new(&[0, 1, 2, 3].map(unit), 2, 0, 1, helps)
    }

    /// Failure matrix: 56.
    #[test]
    fn a_unit_that_was_tried_before_comes_last_and_is_not_tried_for_ever() {
        let mut queue = queue(true);
        queue.saw_tries([(0, 2)]);
        assert_eq!(queue.next(NOW), Next::Own(2));
        queue.take(2, NOW);
        assert_eq!(queue.next(NOW), Next::Own(0));
        queue.saw_tries([(0, MOST_TAKEN)]);
        assert_eq!(
            queue.next(NOW),
            Next::Poison {
                unit: 0,
                taken: MOST_TAKEN
            }
        );
    }

    #[test]
    fn helpers_start_at_the_end_and_leave_the_front_to_its_owner_for_a_while() {
        let mut queue = queue(true);
        queue.saw([], [], NOW);
        for unit in [0, 2] {
            queue.take(unit, NOW);
            queue.committed(unit, Duration::from_secs(2));
        }
        let later = |secs| Duration::from_secs(secs);
        assert_eq!(queue.next(later(2)), Next::Help { unit: 3, note: 0 });
        queue.take(3, later(2));
        // Unit 1 is in its owner's hands since the listing; three times two seconds are patience enough.
        assert_eq!(queue.next(later(2)), Next::Wait(later(4)));
        assert_eq!(queue.next(later(6)), Next::Help { unit: 1, note: 0 });
        queue.lost(1, 0, later(6));
        assert_eq!(
            queue.next(later(6)),
            Next::Wait(later(12)),
            "twice as long with a note"
        );
        queue.saw([1, 3], [], later(7));
        assert_eq!(queue.next(later(7)), Next::Done);
    }

    #[test]
    fn a_replica_that_has_done_nothing_goes_by_what_it_is_told_of_others() {
        let later = Duration::from_secs;
        let mut queue = queue(true);
        queue.saw([0, 3], [(1, 1), (2, 1)], NOW);
        assert!(queue.is_blind());
        assert_eq!(queue.next(NOW), Next::Wait(BLIND_PATIENCE * 2));
        queue.learned(3, later(2));
        assert!(!queue.is_blind());
        assert_eq!(
            queue.next(NOW),
            Next::Wait(later(12)),
            "three times two seconds, and one note"
        );
        assert_eq!(queue.next(later(12)), Next::Help { unit: 1, note: 1 });
        queue.take(1, later(12));
        assert_eq!(queue.held(1, later(13)), later(1));
        queue.committed(1, later(13));
        assert_eq!(
            queue.next(later(13)),
            Next::Help { unit: 2, note: 1 },
            "what was done here counts more: three seconds, twice"
        );
    }

    /// Failure matrix: 56.
    #[test]
    fn helpers_that_all_died_of_a_unit_are_evidence_against_it() {
        let mut queue = queue(true);
        for unit in [0, 2] {
            queue.take(unit, NOW);
            queue.committed(unit, Duration::from_secs(1));
        }
        queue.saw([1], [(3, MOST_TAKEN)], NOW);
        assert!(
            matches!(queue.next(Duration::from_secs(1)), Next::Wait(_)),
            "somebody may be at it"
        );
        assert_eq!(
            queue.next(Duration::from_secs(3600)),
            Next::Poison {
                unit: 3,
                taken: MOST_TAKEN
            }
        );
    }

    #[test]
    fn a_replica_that_does_not_help_ends_with_its_share_whatever_others_have_noted() {
        let mut queue = queue(false);
        queue.saw([], [(0, 1)], NOW);
        let mut taken = Vec::new();
        while let Next::Own(unit) = queue.next(NOW) {
            queue.take(unit, NOW);
            taken.push(unit);
        }
        assert_eq!(taken, [0, 2]);
        assert_eq!(queue.next(NOW), Next::Done);
    }
}
