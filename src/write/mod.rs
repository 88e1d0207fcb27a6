//! Writing: blocks of rows with their predictions → the Parquet objects of a unit.
//!
//! [`columns`] turns what a model returned into Arrow arrays of the pinned types, [`partition`] splits rows into
//! `key=value` folders, and [`encoder`] makes the files. A unit becomes one file, or one per partition value.
//!
//! Guarantees: rows keep their order; the bytes are a function of (plan, unit, model), whatever the number of threads;
//! no time, host or attempt is in a file.

pub mod columns;
pub mod encoder;
pub mod inspect;
pub mod partition;

pub use encoder::{EncodedFile, EncoderOptions, UnitEncoder};
