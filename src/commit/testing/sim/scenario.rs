//! What a simulation begins with, and what its seed can make of it.

use std::ops::Range;

use super::*;
use crate::commit::layout::is_state;

/// What lies in the output before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    Nothing,
    /// The finished output of an old run.
    OldRun,
    /// The same, its state removed.
    OldRunWithoutState,
    /// Files that are nobody's, and a marker.
    Files,
}

impl Before {
    pub fn objects(self) -> Objects {
        let mut objects = Objects::default();
        match self {
            Before::Nothing => {}
            Before::OldRun | Before::OldRunWithoutState => {
                let mut world = World::new(&[1, 2], [Start::of(request(OLD_RUN_ID, SaveMode::Overwrite))]);
                world.run(0).unwrap();
                objects = world.objects;
                if self == Before::OldRunWithoutState {
                    objects.0.retain(|key, _| !is_state(key));
                }
            }
            Before::Files => {
                for key in ["a/b.parquet", "notes.txt", "z.parquet", MARKER] {
                    objects.create(key, Bytes::from_static(b"x"));
                }
            }
        }
        objects
    }
}

/// What a simulation begins with, and what happens to it besides trouble with operations.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub before: Before,
    /// Rows of each input file.
    pub input: Vec<u64>,
    pub roles: Vec<Role>,
    /// Whether two runs are alive in the output.
    pub rivals: bool,
    /// Whether the mode protects what lies in the output.
    pub protected: bool,
    /// Whether attempts give different predictions.
    pub unlike: bool,
    /// So many of the processes are slow.
    pub slow: usize,
    /// After so many operations calm returns.
    pub operations: usize,
    /// Processes that are stopped at the first operation and go on at the second.
    pub stalls: Vec<(usize, Range<usize>)>,
    /// At this operation the input grows.
    pub grows_at: Option<usize>,
    /// At this operation somebody puts an object into the output.
    pub stranger_at: Option<usize>,
    /// At this operation all processes are replaced by these.
    pub redeployed: Option<(usize, Vec<Role>)>,
}

impl Scenario {
    /// These processes over this output, without any surprise.
    pub fn of(before: Before, input: &[u64], roles: Vec<Role>) -> Scenario {
        Scenario {
            before,
            input: input.to_vec(),
            roles,
            rivals: false,
            protected: false,
            unlike: false,
            slow: 0,
            stalls: Vec::new(),
            operations: 5000,
            grows_at: None,
            stranger_at: None,
            redeployed: None,
        }
    }

    /// Two live runs, of which the newer takes over.
    pub fn rivals(input: &[u64]) -> Scenario {
        let take_over = ClaimRequest {
            take_over: true,
            ..request(RUN_ID, SaveMode::Overwrite)
        };
        let roles = [request(OLD_RUN_ID, SaveMode::Overwrite), take_over]
            .map(|request| role(Start::of(request)))
            .to_vec();
        Scenario {
            rivals: true,
            ..Scenario::of(Before::Nothing, input, roles)
        }
    }

    /// What a seed makes of it on a store of class B, where no index runs twice.
    pub fn random_class_b(seed: u64, weather: Weather) -> Scenario {
        let Weather::ClassB { late, lags, .. } = weather else {
            panic!("this is the weather of class B")
        };
        let mut rng = Rng(seed ^ 0xb5eed);
        let units = rng.between(0, 5);
        let input: Vec<u64> = (0..units).map(|_| rng.pick(&[0, 1, 1, 2, 3])).collect();
        // A lagging listing may hide files of others for good: that is no violation, but here nothing else may be.
        let before = match lags {
            true => Before::Nothing,
            false => rng.pick(&[
                Before::Nothing,
                Before::OldRun,
                Before::OldRunWithoutState,
                Before::Files,
            ]),
        };
        let mode = rng.pick(&[SaveMode::Error, SaveMode::Overwrite, SaveMode::Overwrite]);
        let (partitioned, width) = (rng.in_thousand(400), rng.between(1, 2));
        let make = |replicas: u32| {
            let start = |index| Start::of(request(RUN_ID, mode)).replica(index, replicas).weaker();
            let role = |index| Role {
                start: start(index),
                partitioned,
                width,
            };
            (0..replicas).map(role).collect::<Vec<Role>>()
        };
        let replicas = rng.between(1, 4) as u32;
        let (roles, others) = (make(replicas), make(replicas % 4 + 1));
        let mut sometimes = |often, end| rng.in_thousand(often).then(|| rng.below(end));
        let grows_at = sometimes(500, 60).filter(|_| !late);
        let redeployed = sometimes(200, 120).map(|at| (at, others));
        Scenario {
            protected: before != Before::Nothing && mode == SaveMode::Error,
            slow: rng.below(roles.len() + 1),
            stalls: stalls(&mut rng, roles.len()),
            operations: rng.between(50, 600),
            grows_at,
            redeployed,
            ..Scenario::of(before, &input, roles)
        }
    }

    /// Whether some process may have to give up for good.
    pub fn is_lost(&self) -> bool {
        self.rivals || self.protected
    }

    /// What a seed makes of it.
    pub fn random(seed: u64) -> Scenario {
        let mut rng = Rng(seed ^ 0x5eed);
        let units = rng.between(0, 5);
        let input: Vec<u64> = (0..units).map(|_| rng.pick(&[0, 1, 1, 2, 3])).collect();
        if rng.in_thousand(120) {
            let mut scenario = Scenario::rivals(&input);
            scenario.slow = rng.below(2);
            scenario.stalls = stalls(&mut rng, 2);
            return scenario;
        }
        let before = rng.pick(&[
            Before::Nothing,
            Before::Nothing,
            Before::OldRun,
            Before::OldRunWithoutState,
            Before::Files,
        ]);
        let mode = rng.pick(&[SaveMode::Error, SaveMode::Overwrite, SaveMode::Overwrite]);
        let protected = before != Before::Nothing && mode == SaveMode::Error;
        let replicas = rng.between(1, 4) as u32;
        let (partitioned, unlike, helps) = (rng.in_thousand(300), rng.in_thousand(300), rng.in_thousand(400));
        let width = rng.between(1, 2);
        let mut make = |index: u32, replicas: u32| {
            let word = if unlike {
                rng.pick(&["row", "other"])
            } else {
                "row"
            };
            let start = Start::of(request(RUN_ID, mode))
                .replica(index, replicas)
                .saying(word);
            Role {
                start: if helps { start.helping() } else { start },
                partitioned,
                width,
            }
        };
        let mut roles: Vec<Role> = (0..replicas).map(|index| make(index, replicas)).collect();
        let again: Vec<Role> = roles
            .iter()
            .map(|role| make(role.start.request.replica_index, replicas))
            .collect();
        let other = (replicas % 4) + 1;
        let redeployed: Vec<Role> = (0..other).map(|index| make(index, other)).collect();
        if helps && replicas > 1 && rng.in_thousand(500) {
            // One replica never starts.
            roles.remove(rng.below(replicas as usize));
        }
        for _ in 0..rng.pick(&[0, 0, 1, 2]) {
            roles.push(rng.pick(&again));
        }
        let mut sometimes = |often, end| rng.in_thousand(often).then(|| rng.below(end));
        let grows_at = sometimes(500, 60);
        let stranger_at = sometimes(150, 120).filter(|_| !protected);
        let redeployed = sometimes(150, 120).map(|at| (at, redeployed));
        Scenario {
            protected,
            unlike,
            slow: rng.below(roles.len() + 1),
            stalls: stalls(&mut rng, roles.len()),
            operations: rng.between(50, 600),
            grows_at,
            stranger_at,
            redeployed,
            ..Scenario::of(before, &input, roles)
        }
    }
}

fn stalls(rng: &mut Rng, processes: usize) -> Vec<(usize, Range<usize>)> {
    let mut stalls = Vec::new();
    for who in 0..processes {
        if rng.in_thousand(300) {
            let begin = rng.below(60);
            stalls.push((who, begin..begin + rng.between(10, 100)));
        }
    }
    stalls
}

/// A process that commits one unit at a time.
pub fn role(start: Start) -> Role {
    Role {
        start,
        partitioned: false,
        width: 1,
    }
}
