//! The bytes of an object in pieces that lie anywhere in memory.
//!
//! Output files are mostly made of byte ranges of input files. Joining them to one buffer would copy every byte once
//! more and hold it twice; stores, checksums and comparisons take the pieces one after the other.

use bytes::Bytes;
use object_store::PutPayload;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3Default;

/// Bytes in pieces. Equal and hashed by the bytes alone, however they are cut.
#[derive(Clone, Debug)]
pub struct Rope {
    pieces: Arc<[Bytes]>,
    len: usize,
}

impl Rope {
    /// These pieces, one after the other.
    pub fn new(pieces: Vec<Bytes>) -> Rope {
        Rope {
            len: pieces.iter().map(Bytes::len).sum(),
            pieces: pieces.into_iter().filter(|piece| !piece.is_empty()).collect(),
        }
    }

    /// Bytes of all pieces.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The pieces, none of them empty.
    pub fn pieces(&self) -> &[Bytes] {
        &self.pieces
    }

    /// All bytes in one buffer: a copy, unless there is only one piece.
    pub fn join(&self) -> Bytes {
        match &*self.pieces {
            [] => Bytes::new(),
            [only] => only.clone(),
            pieces => pieces.concat().into(),
        }
    }

    /// XXH3 of the bytes, 128 bits.
    pub fn xxh3(&self) -> u128 {
        self.hasher().digest128()
    }

    fn hasher(&self) -> Xxh3Default {
        let mut hasher = Xxh3Default::new();
        self.pieces.iter().for_each(|piece| hasher.update(piece));
        hasher
    }
}

impl<T: Into<Bytes>> From<T> for Rope {
    fn from(bytes: T) -> Rope {
        Rope::new(vec![bytes.into()])
    }
}

impl From<Rope> for PutPayload {
    fn from(rope: Rope) -> PutPayload {
        rope.pieces.iter().cloned().collect()
    }
}

impl PartialEq<[u8]> for Rope {
    fn eq(&self, other: &[u8]) -> bool {
        let mut rest = other;
        self.len == other.len()
            && self.pieces.iter().all(|piece| {
                let (begin, after) = rest.split_at(piece.len());
                rest = after;
                begin == piece
            })
    }
}

impl PartialEq for Rope {
    fn eq(&self, other: &Rope) -> bool {
        if let [only] = &*other.pieces {
            return *self == **only;
        }
        self.len == other.len && self.pieces.iter().flatten().eq(other.pieces.iter().flatten())
    }
}

impl Eq for Rope {}

impl Hash for Rope {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hasher().digest());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::hash::DefaultHasher;
    use xxhash_rust::xxh3::xxh3_128;

    fn hash(rope: &Rope) -> u64 {
        let mut state = DefaultHasher::new();
        rope.hash(&mut state);
        state.finish()
    }

    fn cut(bytes: &[u8], cuts: &[usize]) -> Rope {
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        ends.push(bytes.len());
        ends.sort_unstable();
        let mut start = 0;
        let pieces = ends.into_iter().map(|end| {
            let piece = Bytes::copy_from_slice(&bytes[start..end]);
            start = end;
            piece
        });
        Rope::new(pieces.collect())
    }

    proptest! {
        #[test]
        fn only_the_bytes_count_however_they_are_cut(
            bytes in proptest::collection::vec(any::<u8>(), 0..600),
            first in proptest::collection::vec(any::<usize>(), 0..6),
            second in proptest::collection::vec(any::<usize>(), 0..6),
            changed in any::<usize>(),
        ) {
            let (one, other) = (cut(&bytes, &first), cut(&bytes, &second));
            prop_assert_eq!(&one, &other);
            prop_assert!(one == bytes[..]);
            prop_assert_eq!(hash(&one), hash(&other));
            prop_assert_eq!(one.len(), bytes.len());
            prop_assert_eq!(one.join(), bytes.clone());
            prop_assert_eq!(one.xxh3(), xxh3_128(&bytes));
            prop_assert_eq!(Bytes::from(PutPayload::from(one.clone())), bytes.clone());
            if !bytes.is_empty() {
                let mut others = bytes.clone();
                let at = changed % bytes.len();
                others[at] ^= 1;
                prop_assert_ne!(&one, &cut(&others, &second));
                prop_assert!(one != others[..]);
                prop_assert_ne!(&one, &cut(&bytes[1..], &second));
            }
        }
    }
}
