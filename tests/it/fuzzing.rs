//! What is fuzzed (see `fuzz/README.md`), without a fuzzer: the seeds, and copies of them with a few bytes damaged.
//!
//! It keeps the fuzz targets compiling and their promises checked with every test run; finding anything new takes
//! `scripts/fuzz`.

#[path = "../../fuzz/src/lib.rs"]
#[allow(dead_code)]
mod targets;

use crate::dice::Dice;

/// Damaged copies of each seed.
const COPIES: u64 = 40;

fn damage(seed: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..1 + dice.below(4) {
        // A seed of one byte may have lost it.
        let at = dice.below(bytes.len().max(1));
        match dice.below(5) {
            _ if bytes.is_empty() => bytes.push(dice.below(256) as u8),
            0 => bytes[at] = dice.below(256) as u8,
            1 => bytes[at] ^= 1 << dice.below(8),
            2 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][dice.below(5)],
            3 => drop(bytes.remove(at)),
            _ => bytes.insert(at, dice.below(256) as u8),
        }
    }
    bytes
}

#[test]
fn damaged_seeds_of_every_fuzz_target_break_no_promise() {
    let mut tried = 0;
    for target in targets::TARGETS {
        let seeds = (target.seeds)();
        assert!(seeds.len() > 1, "{} has no seeds", target.name);
        let copies = COPIES.min(4000 / seeds.len() as u64).max(1);
        for (index, seed) in seeds.iter().enumerate() {
            (target.run)(seed);
            let mut dice = Dice::new(index as u64);
            for _ in 0..copies {
                let bytes = damage(seed, &mut dice);
                let outcome = std::panic::catch_unwind(|| (target.run)(&bytes));
                assert!(
                    outcome.is_ok(),
                    "{} of seed {index}: {}",
                    target.name,
                    escaped(&bytes)
                );
                tried += 1;
            }
        }
    }
    println!("{tried} damaged seeds");
}

fn escaped(bytes: &[u8]) -> String {
    bytes
        .iter()
        .take(4096)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
