//! What happened in a round, or in many: to be printed, and to make sure that the rounds were rough enough.

use std::collections::BTreeMap;

/// What happened in rounds.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub rounds: u64,
    pub processes: u64,
    pub restarts: u64,
    pub twins: u64,
    pub kills: u64,
    pub terms: u64,
    pub stops: u64,
    pub lost_races: u64,
    /// Markers that were there, and held, while processes were still at work.
    pub early_markers: u64,
    /// Stopped processes that woke when everything was over.
    pub late_wakers: u64,
    /// How often a process died, stood still or was misled at each fail point.
    pub points: BTreeMap<String, u64>,
}

impl Tally {
    pub fn add(&mut self, other: Tally) {
        self.rounds += other.rounds;
        self.processes += other.processes;
        self.restarts += other.restarts;
        self.twins += other.twins;
        self.kills += other.kills;
        self.terms += other.terms;
        self.stops += other.stops;
        self.lost_races += other.lost_races;
        self.early_markers += other.early_markers;
        self.late_wakers += other.late_wakers;
        for (point, count) in other.points {
            *self.points.entry(point).or_default() += count;
        }
    }
}
