//! Mutation control: seeded bugs, and which layer of tests finds each. Tests that find none prove nothing.

use super::model::{NOTHING, over_old_output, rivals, unlike_twins};
use super::simulation::{exhaust, play, play_class_b, small_jobs, small_jobs_of_class_b};
use super::*;
use crate::commit::seeded::Bug;

const MUTANTS: [&[Bug]; 6] = [
    &[Bug::SkipFence],
    &[Bug::MarkerTooEarly],
    &[Bug::WipeUnprepared],
    &[Bug::TrustExists],
    &[Bug::RecordFirst],
    &[Bug::IgnoreErrors],
];

/// Small worlds that between them give every bug a chance to show.
fn worlds() -> [(World, Allowed); 3] {
    let stranger = Allowed {
        stranger: true,
        ..NOTHING
    };
    let lies = Allowed { lies: 1, ..NOTHING };
    [
        (over_old_output(&[0, 1], &[1, 1], |start| start), stranger),
        (unlike_twins(), lies),
        (rivals(), NOTHING),
    ]
}

/// Where the model check finds the bug.
fn by_model_check(bugs: &'static [Bug]) -> Option<String> {
    worlds().into_iter().find_map(|(world, allowed)| {
        let searched = Space::new(World { bugs, ..world }, allowed, |_| Ok(())).search(&[]);
        let (invariant, (events, _)) = searched.broken.iter().min_by_key(|(_, found)| found.0)?;
        Some(format!("{invariant} after {events} steps"))
    })
}

/// The first seed of the simulator that finds it.
fn by_simulator(bugs: &'static [Bug]) -> Option<String> {
    (0..300).find_map(|seed| {
        let why = play(seed, bugs).err()?;
        Some(format!("{} with seed {seed}", &why[..2]))
    })
}

/// The death of a process, at one operation after the other, that shows it.
fn by_kills(bugs: &'static [Bug]) -> Option<String> {
    small_jobs().into_iter().find_map(|(job, scenario)| {
        let why = exhaust(&scenario, &[Trouble::DieBefore, Trouble::DieAfter], bugs).err()?;
        let invariant = why.find(": I").map_or(&why[..2], |at| &why[at + 2..at + 4]);
        Some(format!("{invariant} in {job}"))
    })
}

#[test]
fn every_seeded_bug_is_caught_and_the_protocol_is_not() {
    assert_eq!(by_model_check(&[]), None);
    assert_eq!(by_kills(&[]), None);
    // The simulator's seeds without a bug are a test of their own.
    let mut caught = 0;
    for bugs in MUTANTS {
        let found = [by_model_check(bugs), by_simulator(bugs), by_kills(bugs)];
        caught += usize::from(found.iter().any(Option::is_some));
        let [model, simulator, kills] = found.map(|found| found.unwrap_or("-".into()));
        show(format_args!(
            "mutant {:?}: model check {model}; simulator {simulator}; kills {kills}",
            bugs[0]
        ));
    }
    show(format_args!("mutants caught: {caught} of {}", MUTANTS.len()));
    assert_eq!(caught, MUTANTS.len());
}

/// Bugs that only the weaker protocol can have.
const MUTANTS_OF_CLASS_B: [&[Bug]; 3] = [&[Bug::AnyonePlans], &[Bug::TrustPresence], &[Bug::RecordUnread]];

fn by_model_check_of_class_b(bugs: &'static [Bug]) -> Option<String> {
    let world = over_old_output(&[0, 1], &[1, 1], Start::weaker);
    let kills = Allowed {
        kills: 1,
        tears: true,
        ..NOTHING
    };
    let grows = Allowed {
        growth: true,
        ..NOTHING
    };
    let lies = Allowed { lies: 1, ..NOTHING };
    [kills, grows, lies].into_iter().find_map(|allowed| {
        let world = World {
            bugs,
            ..world.clone()
        };
        let searched = Space::new(world, allowed, |_| Ok(())).search(&[]);
        let (invariant, (events, _)) = searched.broken.iter().min_by_key(|(_, found)| found.0)?;
        Some(format!("{invariant} after {events} steps"))
    })
}

fn by_simulator_of_class_b(bugs: &'static [Bug]) -> Option<String> {
    (0..300).find_map(|seed| {
        let why = play_class_b(seed, bugs).err()?;
        Some(format!("{} with seed {seed}", &why[..2]))
    })
}

fn by_kills_of_class_b(bugs: &'static [Bug]) -> Option<String> {
    small_jobs_of_class_b().into_iter().find_map(|(job, scenario)| {
        let why = exhaust(&scenario, &[Trouble::DieTorn, Trouble::StorePart], bugs).err()?;
        let invariant = why.find(": I").map_or(&why[..2], |at| &why[at + 2..at + 4]);
        Some(format!("{invariant} in {job}"))
    })
}

#[test]
fn every_seeded_bug_of_class_b_is_caught() {
    assert_eq!(by_model_check_of_class_b(&[]), None);
    let mut caught = 0;
    for bugs in MUTANTS_OF_CLASS_B {
        let found = [
            by_model_check_of_class_b(bugs),
            by_simulator_of_class_b(bugs),
            by_kills_of_class_b(bugs),
        ];
        caught += usize::from(found.iter().any(Option::is_some));
        let [model, simulator, kills] = found.map(|found| found.unwrap_or("-".into()));
        show(format_args!(
            "mutant {:?} on class B: model check {model}; simulator {simulator}; torn and partial puts {kills}",
            bugs[0]
        ));
    }
    show(format_args!(
        "mutants of class B caught: {caught} of {}",
        MUTANTS_OF_CLASS_B.len()
    ));
    assert_eq!(caught, MUTANTS_OF_CLASS_B.len());
}
