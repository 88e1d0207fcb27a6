//! What a search found.

use std::collections::BTreeMap;

/// What the checker found.
#[derive(Debug)]
pub struct Searched {
    pub states: usize,
    pub depth: usize,
    pub seconds: f64,
    /// Whether some interleaving completes the run.
    pub completes: bool,
    /// Broken invariants: steps of the shortest counterexample, and what the oracle said.
    pub broken: BTreeMap<&'static str, (usize, String)>,
    /// The events of a counterexample.
    pub path: String,
}

impl std::fmt::Display for Searched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Searched {
            states,
            depth,
            seconds,
            ..
        } = self;
        write!(f, "{states} states, depth {depth}, {seconds:.1} s: ")?;
        if self.broken.is_empty() {
            return write!(f, "all hold");
        }
        for (place, (invariant, (depth, why))) in self.broken.iter().enumerate() {
            let comma = if place > 0 { "; " } else { "" };
            let why = why.split_once(": ").map_or("", |(_, why)| why);
            let why: String = why.chars().take(80).collect();
            write!(f, "{comma}{invariant} broken in {depth} steps ({why})")?;
        }
        Ok(())
    }
}
