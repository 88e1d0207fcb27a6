//! Images: a column of files' bytes becomes what a network takes, and what it gives becomes columns.
//!
//! ```text
//!   bytes ─▶ decode ─▶ preprocess (resize ▶ crop ▶ scale ▶ normalise) ─▶ network ─▶ task
//! ```

mod classification;
pub mod decode;
mod features;
mod filter;
mod inputs;
mod jpeg;
pub mod preprocess;
mod pretrained;
pub mod processor;
pub mod resize;
mod rows;
mod task;
mod wide;

pub use self::inputs::{jpeg_scale_without_images, with_images};
pub use self::pretrained::{ImageTasks, open};

#[cfg(test)]
mod tests;
