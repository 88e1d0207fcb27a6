//! Tree ensembles, evaluated without any library: XGBoost's and LightGBM's own files, and the forests of ONNX graphs.
//!
//! ```text
//! .ubj ─▶ ubjson ─┐
//! .json ─▶ json ──┴▶ xgboost ─┐
//! .txt ─▶ lightgbm ───────────┴▶ ensemble: forest + link ─▶ backend: functions ─▶ worker: evaluator, link
//! ```
//!
//! [`forest`] is what every format becomes: trees of exact tests, and how their leaves are put together; its `score_row` is
//! the definition. [`evaluator`] computes the same, fast. Model files are untrusted: readers bound what they keep by the
//! size of the file, and whatever is wrong is an error that says where.

pub mod backend;
mod bins;
mod block;
mod compile;
mod deep;
pub mod document;
pub mod ensemble;
pub mod evaluator;
mod expression;
pub mod forest;
pub(in crate::model) mod grow;
mod json;
mod leaves;
pub mod lightgbm;
mod link;
mod run;
mod search;
#[cfg(test)]
mod tests;
mod ubjson;
mod worker;
pub mod xgboost;
mod xgboost_tree;

pub use evaluator::{Column, Evaluator, Features, Scratch, Sums};
pub use forest::Forest;
