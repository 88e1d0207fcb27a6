//! Large buffers that are used again.
//!
//! A fresh buffer costs more than filling it from the page cache: the kernel clears each of its pages when it is first
//! touched, and takes all of them back when the buffer is dropped. So dropped ones are kept for the next reader. Used
//! and spare together never take more than what was used at once before, so nothing is held that was not needed.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Sizes are multiples of this, so that buffers fit again.
const STEP_BYTES: usize = 1 << 20;

/// Most bytes of the buffers that are kept for later.
const SPARE_BYTES: usize = 32 << 20;

/// Where buffers come from and return to.
#[derive(Default)]
pub(super) struct Buffers(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    /// Given back; the latest is the last.
    spare: Vec<Vec<u8>>,
    /// Bytes of those.
    spare_bytes: usize,
    /// Bytes of those in use, now and at most.
    used: usize,
    most_used: usize,
}

impl Kept {
    /// A spare buffer for `size` bytes, and not many more.
    fn take(&mut self, size: usize) -> Option<Vec<u8>> {
        let fits = |spare: &Vec<u8>| (size..=size + size / 2).contains(&spare.len());
        let taken = self.spare.remove(self.spare.iter().rposition(fits)?);
        self.spare_bytes -= taken.len();
        Some(taken)
    }

    fn count(&mut self, bytes: usize) {
        self.used += bytes;
        self.most_used = self.most_used.max(self.used);
    }

    /// The oldest buffers that are more than may be kept.
    fn too_many(&mut self) -> Vec<Vec<u8>> {
        let room = SPARE_BYTES.min(self.most_used - self.used);
        let mut count = 0;
        while self.spare_bytes > room {
            self.spare_bytes -= self.spare[count].len();
            count += 1;
        }
        self.spare.drain(..count).collect()
    }
}

impl Buffers {
    /// A buffer of `len` bytes that may hold anything.
    pub fn take(self: &Arc<Self>, len: usize) -> Buffer {
        let size = len.next_multiple_of(STEP_BYTES);
        let (spare, dropped) = {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let spare = kept.take(size);
            kept.count(spare.as_ref().map_or(size, Vec::len));
            (spare, kept.too_many())
        };
        // Giving memory back to the system takes a while, and a place of its own is then free for the new one.
        drop(dropped);
        Buffer {
            // From the system it comes cleared.
            memory: spare.unwrap_or_else(|| vec![0; size]),
            len,
            home: self.clone(),
        }
    }

    fn give_back(&self, memory: Vec<u8>) {
        let dropped = {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            kept.used -= memory.len();
            kept.spare_bytes += memory.len();
            kept.spare.push(memory);
            kept.too_many()
        };
        drop(dropped);
    }
}

impl fmt::Debug for Buffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Buffers")
    }
}

/// A buffer that returns to where it came from when it is dropped.
pub(super) struct Buffer {
    memory: Vec<u8>,
    len: usize,
    home: Arc<Buffers>,
}

impl Buffer {
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[..self.len]
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.memory[..self.len]
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
    use proptest::prelude::*;

    fn spare(buffers: &Buffers) -> Vec<usize> {
        let kept = buffers.0.lock().unwrap();
        assert_eq!(kept.spare_bytes, kept.spare.iter().map(Vec::len).sum::<usize>());
        kept.spare.iter().map(|memory| memory.len() >> 20).collect()
    }

    #[test]
    fn a_buffer_is_used_again_when_the_last_of_its_bytes_is_dropped() {
        let buffers = Arc::<Buffers>::default();
        let mut first = buffers.take(1_500_000);
        first.bytes_mut().fill(7);
        let place = first.as_ref().as_ptr();
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
    }

    #[test]
    fn not_more_is_kept_than_so_much_and_the_oldest_go_first() {
        let buffers = Arc::<Buffers>::default();
        let taken: Vec<Buffer> = [2, 10, 5, 40, 20].map(|size| buffers.take(size << 20)).into();
        taken.into_iter().for_each(drop);
        assert_eq!(spare(&buffers), [20]);
        drop((buffers.take(5 << 20), buffers.take(14 << 20)));
        assert_eq!(spare(&buffers), [5, 20]);
    }

    #[test]
    fn a_buffer_that_fits_nobody_makes_room_for_one_that_does() {
        let buffers = Arc::<Buffers>::default();
        drop(buffers.take(8 << 20));
        assert_eq!(spare(&buffers), [8]);
        let small = buffers.take(2 << 20);
        assert!(spare(&buffers).is_empty(), "both were never needed at once");
        drop(small);
        assert_eq!(spare(&buffers), [2]);
    }

    proptest! {
        #[test]
        fn used_and_spare_are_never_more_than_was_used_at_once(
            steps in proptest::collection::vec((any::<bool>(), 1usize..12, any::<usize>()), 1..60),
        ) {
            let buffers = Arc::<Buffers>::default();
            let mut held: Vec<Buffer> = Vec::new();
            for (takes, size, which) in steps {
                if takes || held.is_empty() {
                    held.push(buffers.take(size << 20));
                } else {
                    held.swap_remove(which % held.len());
                }
                let kept = buffers.0.lock().unwrap();
                prop_assert_eq!(kept.used, held.iter().map(|buffer| buffer.memory.len()).sum::<usize>());
                prop_assert!(kept.used + kept.spare_bytes <= kept.most_used);
                prop_assert!(kept.spare_bytes <= SPARE_BYTES);
            }
        }
    }
}
