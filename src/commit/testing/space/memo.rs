//! What has been computed once: values under numbers, steps of single processes, verdicts.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hash, Hasher};

use super::super::*;

/// The invariants, by their bit in a verdict.
pub const INVARIANTS: [&str; 10] = ["I0", "I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I9"];

/// Values under numbers.
pub struct Numbered<T> {
    pub numbers: HashMap<Arc<T>, u32>,
    pub values: Vec<Arc<T>>,
}

impl<T: Hash + Eq> Numbered<T> {
    pub fn number(&mut self, value: T) -> u32 {
        if let Some(number) = self.numbers.get(&value) {
            return *number;
        }
        let (number, value) = (self.values.len() as u32, Arc::new(value));
        self.numbers.insert(value.clone(), number);
        self.values.push(value);
        number
    }
}

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Numbered {
            numbers: HashMap::new(),
            values: Vec::new(),
        }
    }
}

/// What came of a step of one process.
#[derive(Clone, Copy)]
pub struct Stepped {
    pub process: u32,
    pub objects: u32,
    pub broken: u16,
    /// Whether the input was listed.
    pub lists_input: bool,
}

/// A hash for numbers that are looked up in every state: SipHash takes half of the time, unoptimised.
#[derive(Default)]
pub struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only for numbers");
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (number ^ number >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// See the [module](self) page.
#[derive(Default)]
pub struct Memo {
    pub processes: Numbered<Process>,
    pub objects: Numbered<Objects>,
    /// By process and objects, whether the input has grown, fault and choice, packed.
    pub steps: HashMap<u64, Stepped, BuildHasherDefault<Spread>>,
    /// What each process asks for, by number.
    pub asks: Vec<Option<Ask>>,
    /// Which plan each process holds, by number: epoch and digest.
    pub plans: Vec<Option<(u64, String)>>,
    /// Invariants of the objects alone, by number.
    pub judged: HashMap<u32, u16, BuildHasherDefault<Spread>>,
    /// What was said first of each invariant.
    pub said: BTreeMap<&'static str, (usize, String)>,
}

impl Memo {
    pub fn process(&mut self, process: Process) -> u32 {
        let number = self.processes.number(process);
        if number as usize == self.asks.len() {
            let process = &self.processes.values[number as usize];
            let plan = process
                .claimed()
                .map(|claimed| (claimed.epoch, claimed.plan_digest.clone()));
            self.asks.push(process.ask());
            self.plans.push(plan);
        }
        number
    }

    /// The bit of the invariant that a verdict is about.
    pub fn bit(&mut self, events: usize, verdict: Result<(), String>) -> u16 {
        let Err(why) = verdict else { return 0 };
        let index = INVARIANTS.iter().position(|name| why.starts_with(name));
        let index = index.unwrap_or_else(|| panic!("no invariant: {why}"));
        self.said.entry(INVARIANTS[index]).or_insert((events, why));
        1 << index
    }

    /// I4, which is about all processes at once.
    pub fn agree(&self, processes: &[u32]) -> Result<(), String> {
        let mut plans: Vec<&(u64, String)> = Vec::new();
        for number in processes {
            let Some(plan) = &self.plans[*number as usize] else {
                continue;
            };
            if plans.iter().any(|other| other.0 == plan.0 && other.1 != plan.1) {
                return Err("I4: two processes of a run work from two plans".into());
            }
            plans.push(plan);
        }
        Ok(())
    }
}
