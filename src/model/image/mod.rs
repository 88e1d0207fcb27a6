//! Images: a column of files' bytes becomes what a network takes, and what it gives becomes columns.
//!
//! ```text
//!   bytes ─▶ decode ─▶ preprocess (resize ▶ crop ▶ scale ▶ normalise) ─▶ network ─▶ task
//! ```

pub mod decode;
mod inputs;
mod jpeg;
pub mod preprocess;
pub mod processor;
pub mod resize;
mod rows;

pub use self::inputs::with_images;

#[cfg(test)]
mod tests;
