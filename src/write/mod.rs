//! Writing: blocks of rows with their predictions → the Parquet objects of a unit.
//!
//! [`columns`] turns what a model returned into Arrow arrays of the pinned types, [`partition`] splits rows into
//! `key=value` folders, [`encoder`] encodes columns, [`splice`] says which of them are copied from the input instead, and
//! the file assembler puts the files together. A unit becomes one file, or one per partition value.
//!
//! Guarantees: rows keep their order; the bytes are a function of (plan, unit, model), whatever the number of threads;
//! no time, host or attempt is in a file.

pub mod columns;
pub mod encoder;
mod file;
mod form;
pub mod inspect;
pub mod partition;
pub mod splice;

pub use encoder::{EncodedFile, EncoderOptions, UnitEncoder};
pub use form::Form;
