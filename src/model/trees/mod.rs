//! Tree ensembles, evaluated without any library.
//!
//! [`forest`] is what every format becomes: trees of exact tests, and how their leaves are put together.

pub mod forest;

pub use forest::Forest;
