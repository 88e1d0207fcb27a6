//! Large buffers that are used again.
//!
//! A fresh buffer costs more than filling it from the page cache: the kernel clears each of its pages when it is first
//! touched, and takes all of them back when the buffer is dropped. So dropped ones are kept for the next reader, a few
//! and not for ever, and the kernel is asked for large pages.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Sizes are multiples of this, so that buffers fit again.
const STEP_BYTES: usize = 1 << 20;

/// Large pages begin at multiples of this.
const LARGE_PAGE_BYTES: usize = 2 << 20;

/// Bytes of the buffers that are kept for later.
const SPARE_BYTES: usize = 32 << 20;

/// Where buffers come from and return to.
#[derive(Default)]
pub(super) struct Buffers {
    /// The latest is the last.
    spare: Mutex<Vec<Memory>>,
}

impl Buffers {
    /// A buffer of `len` bytes that may hold anything.
    pub fn take(self: &Arc<Self>, len: usize) -> Buffer {
        let size = len.next_multiple_of(STEP_BYTES);
        let spare = {
            let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
            let fitting = spare.iter().rposition(|memory| memory.size == size);
            fitting.map(|index| spare.remove(index))
        };
        Buffer {
            memory: spare.unwrap_or_else(|| Memory::new(size)),
            len,
            home: self.clone(),
        }
    }

    fn give_back(&self, memory: Memory) {
        if memory.size > SPARE_BYTES {
            return;
        }
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        spare.push(memory);
        let mut bytes: usize = spare.iter().map(|memory| memory.size).sum();
        let too_many = spare.iter().take_while(|memory| {
            let is_too_many = bytes > SPARE_BYTES;
            bytes -= memory.size;
            is_too_many
        });
        let too_many = too_many.count();
        let dropped: Vec<Memory> = spare.drain(..too_many).collect();
        // Giving memory back to the system takes a while.
        drop(spare);
        drop(dropped);
    }
}

impl fmt::Debug for Buffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Buffers")
    }
}

/// `size` bytes that begin where a large page does.
#[derive(Default)]
struct Memory {
    bytes: Vec<u8>,
    start: usize,
    size: usize,
}

impl Memory {
    fn new(size: usize) -> Memory {
        // Fresh from the system, so nobody clears it here; what is never touched takes no room.
        let mut bytes = vec![0; size + LARGE_PAGE_BYTES];
        let start = bytes
            .as_ptr()
            .align_offset(LARGE_PAGE_BYTES)
            .min(LARGE_PAGE_BYTES);
        want_large_pages(&mut bytes[start..start + size]);
        Memory { bytes, start, size }
    }
}

fn want_large_pages(bytes: &mut [u8]) {
    #[cfg(target_os = "linux")]
    // SAFETY: advice about memory that is ours, which changes nothing of what it holds. Failing, it changes nothing at all.
    unsafe {
        libc::madvise(bytes.as_mut_ptr().cast(), bytes.len(), libc::MADV_HUGEPAGE);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = bytes;
}

/// A buffer that returns to where it came from when it is dropped.
pub(super) struct Buffer {
    memory: Memory,
    len: usize,
    home: Arc<Buffers>,
}

impl Buffer {
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let start = self.memory.start;
        &mut self.memory.bytes[start..start + self.len]
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        let start = self.memory.start;
        &self.memory.bytes[start..start + self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.home.give_back(std::mem::take(&mut self.memory));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn spare(buffers: &Buffers) -> Vec<usize> {
        let spare = buffers.spare.lock().unwrap();
        spare.iter().map(|memory| memory.size >> 20).collect()
    }

    #[test]
    fn a_buffer_is_used_again_when_the_last_of_its_bytes_is_dropped() {
        let buffers = Arc::<Buffers>::default();
        let mut first = buffers.take(1_500_000);
        first.bytes_mut().fill(7);
        let place = first.as_ref().as_ptr();
        assert_eq!(place.align_offset(LARGE_PAGE_BYTES), 0);
        let bytes = Bytes::from_owner(first);
        assert_eq!(bytes.len(), 1_500_000);
        let slice = bytes.slice(1_000_000..);
        drop(bytes);
        assert!(spare(&buffers).is_empty());
        assert_ne!(buffers.take(2_000_000).as_ref().as_ptr(), place);
        assert!(slice.iter().all(|byte| *byte == 7));
        drop(slice);
        let again = buffers.take(1_900_000);
        assert_eq!(
            (again.as_ref().as_ptr(), again.as_ref().len()),
            (place, 1_900_000)
        );
        assert_eq!(buffers.take(3 << 20).as_ref().len(), 3 << 20);
    }

    #[test]
    fn not_more_is_kept_than_so_much_and_the_oldest_go_first() {
        let buffers = Arc::<Buffers>::default();
        let taken: Vec<Buffer> = [2, 10, 5, 40, 20].map(|size| buffers.take(size << 20)).into();
        taken.into_iter().for_each(drop);
        assert_eq!(spare(&buffers), [5, 20]);
        drop(buffers.take(5 << 20));
        assert_eq!(spare(&buffers), [20, 5]);
        drop(buffers.take(33 << 20));
        assert_eq!(spare(&buffers), [20, 5]);
    }
}
