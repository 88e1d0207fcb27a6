//! Replicas of different speed that share a job by the rules of [`Queue`], on a clock of its own: when is the job
//! done, and how much is computed twice?

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;

const TICK: Duration = Duration::from_millis(20);
/// As the program does: no more often, and at once when nothing is left to take.
const LISTS_EVERY: Duration = Duration::from_secs(1);
const POLLS_EVERY: Duration = Duration::from_millis(200);
const IN_HAND: usize = 3;

/// How a replica does.
#[derive(Clone, Copy, Debug)]
struct Life {
    /// Weight it computes in a second.
    speed: f64,
    starts: Duration,
    /// It stops for ever then.
    dies: Duration,
}

const NEVER: Duration = Duration::from_secs(1_000_000);

fn alive(speed: f64) -> Life {
    Life {
        speed,
        starts: Duration::ZERO,
        dies: NEVER,
    }
}

struct Replica {
    life: Life,
    queue: Queue,
    in_hand: VecDeque<(u32, f64)>,
    listed: Option<Duration>,
}

/// What a job came to.
#[derive(Debug)]
struct Result {
    /// When the last unit was committed.
    completed: Duration,
    /// Weight computed beyond once, as a share of the whole.
    double_work: f64,
}

#[derive(Default)]
struct Shared {
    committed: BTreeSet<u32>,
    notes: BTreeMap<u32, u32>,
}

impl Replica {
    fn list(&mut self, shared: &Shared, now: Duration) {
        self.listed = Some(now);
        let notes = shared.notes.iter().map(|(&unit, &count)| (unit, count));
        self.queue.saw(shared.committed.iter().copied(), notes, now);
    }

    fn take(&mut self, shared: &mut Shared, now: Duration) {
        if self.listed.is_none_or(|listed| now - listed >= LISTS_EVERY) {
            self.list(shared, now);
        }
        while self.in_hand.len() < IN_HAND {
            let unit = match self.queue.next(now) {
                Next::Own(unit) => unit,
                Next::Help { unit, note } => {
                    if shared.notes.get(&unit).copied().unwrap_or(0) > note {
                        self.queue.lost(unit, note, now);
                        continue;
                    }
                    shared.notes.insert(unit, note + 1);
                    unit
                }
                Next::Wait(_) => {
                    if self.listed.is_none_or(|listed| now - listed >= POLLS_EVERY) {
                        self.list(shared, now);
                    }
                    return;
                }
                Next::Done => return,
                Next::Poison { unit, taken } => panic!("unit {unit} was taken {taken} times"),
            };
            self.queue.take(unit, now);
            let weight = self.queue.weights[unit as usize];
            self.in_hand.push_back((unit, weight as f64));
        }
    }
}

/// Plays a job; `None` when it is not done after an hour.
fn play(weights: &[u64], lives: &[Life], helps: bool) -> Option<Result> {
    let unit = |(id, &bytes): (usize, &u64)| Unit {
        id: id as u32,
        parts: vec![],
        rows: 0,
        bytes,
    };
    let units: Vec<Unit> = weights.iter().enumerate().map(unit).collect();
    let mut replicas: Vec<Replica> = (0..lives.len())
        .map(|index| Replica {
            life: lives[index],
            queue: Queue::new(&units, lives.len(), index, IN_HAND, helps),
            in_hand: VecDeque::new(),
            listed: None,
        })
        .collect();
    let total: f64 = units.iter().map(|unit| assign::weight(unit) as f64).sum();
    let mut shared = Shared::default();
    let mut computed = 0.0;
    let mut now = Duration::ZERO;
    while shared.committed.len() < units.len() {
        now += TICK;
        if now > Duration::from_secs(3600) {
            return None;
        }
        for replica in &mut replicas {
            if now < replica.life.starts || now >= replica.life.dies {
                continue;
            }
            replica.take(&mut shared, now);
            let mut budget = replica.life.speed * TICK.as_secs_f64();
            while let Some((unit, left)) = replica.in_hand.front_mut().filter(|_| budget > 0.0) {
                let step = left.min(budget);
                (*left, budget, computed) = (*left - step, budget - step, computed + step);
                if *left == 0.0 {
                    shared.committed.insert(*unit);
                    replica.queue.committed(*unit, now);
                    replica.in_hand.pop_front();
                }
            }
        }
    }
    Some(Result {
        completed: now,
        double_work: computed / total - 1.0,
    })
}

/// 120 units of about a second each: 30 seconds for four replicas.
fn job() -> Vec<u64> {
    (0..120).map(|unit| 90 + unit % 20).collect()
}

#[test]
fn equal_replicas_do_nothing_twice() {
    let result = play(&job(), &[alive(100.0); 4], true).unwrap();
    assert!(result.double_work < 1e-9, "{result:?}");
    let alone = play(&job(), &[alive(100.0); 4], false).unwrap();
    assert!(
        result.completed <= alone.completed + Duration::from_secs(1),
        "{result:?} {alone:?}"
    );
}

#[test]
fn a_replica_that_never_starts_delays_the_job_by_its_share_and_little_more() {
    let never = Life {
        starts: NEVER,
        ..alive(100.0)
    };
    let lives = [alive(100.0), never, alive(100.0), alive(100.0)];
    assert!(
        play(&job(), &lives, false).is_none(),
        "without help the job never ends"
    );
    let result = play(&job(), &lives, true).unwrap();
    println!("one of four never starts: {result:?} (three alone: 40 s)");
    assert!(result.completed < Duration::from_secs(48), "{result:?}");
    assert!(result.double_work < 1e-9, "{result:?}");
}

#[test]
fn a_replica_ten_times_slower_holds_up_nothing_but_what_it_has_in_hand() {
    let lives = [alive(100.0), alive(100.0), alive(10.0), alive(100.0)];
    let alone = play(&job(), &lives, false).unwrap();
    let result = play(&job(), &lives, true).unwrap();
    println!("one of four is ten times slower: {result:?} instead of {alone:?} (ideal: 39 s)");
    assert!(alone.completed > Duration::from_secs(250), "{alone:?}");
    assert!(result.completed < Duration::from_secs(50), "{result:?}");
    assert!(result.double_work < 0.03, "{result:?}");
}

#[test]
fn helpers_that_die_with_their_notes_are_made_good() {
    let dies_at = |secs| Life {
        dies: Duration::from_secs(secs),
        ..alive(100.0)
    };
    let lives = [dies_at(31), dies_at(33), alive(10.0), alive(100.0)];
    let result = play(&job(), &lives, true).unwrap();
    println!("two helpers die: {result:?}");
    assert!(result.completed < Duration::from_secs(80), "{result:?}");
}

#[test]
fn more_replicas_than_units_leave_each_other_alone() {
    let result = play(&[1000, 1000], &[alive(100.0); 5], true).unwrap();
    assert!(result.double_work < 1e-9, "{result:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Failure matrix: 14.
    #[test]
    fn a_job_ends_as_long_as_one_replica_lives(
        weights in proptest::collection::vec(1u64..500, 1..40),
        speeds in proptest::collection::vec(20.0..200.0f64, 1..5),
        dies in proptest::collection::vec(0u64..60, 1..5),
        late in 0u64..100,
    ) {
        let mortal = speeds.iter().zip(&dies).map(|(&speed, &dies)| Life { dies: Duration::from_secs(dies), ..alive(speed) });
        let immortal = Life { starts: Duration::from_secs(late), ..alive(50.0) };
        let lives: Vec<Life> = mortal.chain([immortal]).collect();
        let result = play(&weights, &lives, true);
        prop_assert!(result.is_some());
    }

    #[test]
    fn helping_never_makes_a_job_much_later_than_not_helping(
        weights in proptest::collection::vec(50u64..500, 20..80),
        speeds in proptest::collection::vec(20.0..200.0f64, 2..6),
    ) {
        let lives: Vec<Life> = speeds.iter().map(|&speed| alive(speed)).collect();
        let alone = play(&weights, &lives, false).unwrap();
        let helped = play(&weights, &lives, true).unwrap();
        prop_assert!(helped.completed <= alone.completed + Duration::from_secs(2), "{helped:?} {alone:?}");
        // Backups are made of what somebody has in hand at the end, and of nothing else.
        let in_hand = (lives.len() * IN_HAND) as u64 * weights.iter().max().unwrap();
        let share = in_hand as f64 / weights.iter().sum::<u64>() as f64;
        prop_assert!(helped.double_work <= share, "{helped:?} of at most {share}");
    }
}
