//! Benchmarks, a group per stage and one end to end: `cargo bench`. All on the same generated rows, fixed seed.
//!
//! The table is like a real one: 20 columns of which the model reads twelve. Each case differs from its neighbour in
//! one property, which its name says.

mod images;
mod network;
mod stages;
mod table;
mod trees;
mod whole;

use criterion::{criterion_group, criterion_main};

criterion_group!(
    benches,
    stages::read,
    stages::decode,
    stages::infer,
    images::images,
    stages::write,
    trees::trees,
    whole::end_to_end
);
criterion_main!(benches);
