//! Kernels for the CPU, on plain slices: products with weights laid out for them, attention, norms, activations.
//!
//! Candle's own operations take one pass over memory each and share a pool of spinning threads among all workers; with
//! these a batch stays in the caches of the core that computes it. They are called by [`ops`](super::ops), `attention` and
//! `convolution` only, which take Candle's operations on other devices. Each runs on the instruction sets that the processor
//! has ([`isa`](crate::model::isa)) and on the threads of the pool that it is called in.

pub mod attention;
pub mod convolution;
pub mod dense;
pub mod depthwise;
pub mod elementwise;
mod per_isa;
#[cfg(test)]
mod tests;
mod tiles;

use rayon::prelude::*;
use std::cell::RefCell;

/// Does each piece of work, on all threads of the pool this is called in.
pub fn each<T: Send>(pieces: Vec<T>, work: impl Fn(T) + Sync + Send) {
    match pieces.len() < 2 || rayon::current_num_threads() < 2 {
        true => pieces.into_iter().for_each(work),
        false => pieces.into_par_iter().for_each(work),
    }
}

/// Memory for `size` numbers that a kernel needs in between, where a line of the cache begins; it holds what was there before.
pub fn scratch<R>(size: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    thread_local! {
        static FREE: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
    }
    // Not borrowed while working: a thread that waits for others takes up pieces of work that need memory as well.
    let mut memory = FREE.with_borrow_mut(Vec::pop).unwrap_or_default();
    // It only grows: fresh memory costs more than what is done with it.
    if memory.len() < size + LINE {
        memory.resize(size + LINE, 0.0);
    }
    let start = line_in(&memory);
    let result = work(&mut memory[start..start + size]);
    FREE.with_borrow_mut(|free| free.push(memory));
    result
}

/// Numbers of a line of the cache.
const LINE: usize = 16;

/// Where the first line of the cache begins in `memory`, which has a line more than is needed.
fn line_in(memory: &[f32]) -> usize {
    memory.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE)
}
