//! Tree ensembles, evaluated without any library.
//!
//! [`forest`] is what every format becomes: trees of exact tests, and how their leaves are put together; its
//! `score_row` is the definition. [`evaluator`] computes the same, fast.

mod bins;
mod block;
mod compile;
mod deep;
pub mod evaluator;
mod expression;
pub mod forest;
mod isa;
mod leaves;
mod run;
mod search;
#[cfg(test)]
mod tests;

pub use evaluator::{Column, Evaluator, Features, Scratch, Sums};
pub use forest::Forest;
pub use isa::InstructionSet;
