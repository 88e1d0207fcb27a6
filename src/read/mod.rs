//! Reading: a unit → blocks of rows.
//!
//! [`footer`] reads and distrusts footers, [`footers`] many of them. [`layout`] lays a unit's row groups out as *chunks* (each becomes one row
//! group of the output) and *blocks* (rows decoded at once). [`fetch`] brings the bytes of one chunk, on the I/O
//! runtime; what it answers with, a [`ChunkReader`], decodes them block by block on a worker thread.
//!
//! Flat columns of many small row groups are [`joined`] without decoding them row group by row group.
//!
//! Files are foreign bytes. What they declare is held against the [`limits`] before anything is allocated by it: footers
//! in [`outline`], page headers in [`page_header`], bodies in [`pages`]; and the parquet crate runs [`guard`]ed.
//!
//! Three numbers that are easily confused are three numbers here: rows decoded at once (a block), rows handed to the
//! model at once (a batch, at most `max_batch_rows`), and rows of an output row group (a chunk). All three depend on
//! the input and the plan only, so the bytes of a unit do too.

mod beginning;
mod budget;
pub mod chunk;
mod decimals;
mod delta;
mod extras;
pub mod fetch;
pub mod footer;
pub mod footers;
mod form;
mod group;
mod guard;
pub mod head;
mod int96;
mod joined;
pub mod layout;
mod limits;
mod outline;
mod page_header;
mod pages;
pub mod sample;
mod selection;
mod splicing;
mod thrift;

#[cfg(test)]
mod tests;

pub use chunk::{Block, ChunkReader};
pub use fetch::Reader;
pub use footer::Footer;
pub use footers::FooterReader;
pub use layout::{Chunk, Layout};
