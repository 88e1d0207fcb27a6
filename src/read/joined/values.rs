//! Values of one column, one behind the other or in a growing dictionary.
//!
//! An *arena* holds values of one physical type and knows how Parquet lays them out plainly. [`Growing`] appends what
//! pages hold to one: while all pages have dictionaries, each distinct value once, and indices; plain values otherwise, and
//! from the moment on that a dictionary doesn't pay.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Range;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::hybrid::{Stretch, Stretches, unpack};

/// Bytes that a column may take. Row groups that are joined hold a few megabytes.
pub(super) const COLUMN_BYTES: usize = 64 << 20;

/// A dictionary beyond this is not one any more, as for most writers.
const DICTIONARY_BYTES: usize = 1 << 20;

/// A dictionary is judged from so many values on…
const JUDGED_FROM: usize = 8 * 1024;

/// …and kept when its values come so many times on average.
const WORTH_KEEPING: usize = 2;

/// Steps to find a value in the table, on average, from which on the values were chosen to make us search.
const SUSPICIOUS_STEPS: usize = 64;

/// Values of one physical type.
pub(super) trait Arena: Default {
    /// How many there are.
    fn len(&self) -> usize;
    /// Bytes they take.
    fn bytes(&self) -> usize;
    /// Forgets them.
    fn clear(&mut self);
    /// Appends `count` values laid out plainly; `None`: they are not there.
    fn read(&mut self, body: &[u8], count: usize) -> Option<()>;
    /// Appends a value of another arena.
    fn push_from(&mut self, other: &Self, at: usize);
    /// Bytes of the largest value.
    fn longest(&self) -> usize;
    /// Whether a value is that of another arena.
    fn is(&self, at: usize, other: &Self, place: usize) -> bool;
    /// A hash that only this process knows.
    fn hash(&self, at: usize, seed: u64) -> u64;
    /// Appends the values of a range, laid out plainly.
    fn write(&self, range: Range<usize>, out: &mut Vec<u8>);
}

/// Numbers by their bits.
#[derive(Default)]
pub(super) struct Numbers<T>(pub Vec<T>);

macro_rules! numbers {
    ($native:ty) => {
        impl Arena for Numbers<$native> {
            fn len(&self) -> usize {
                self.0.len()
            }

            fn bytes(&self) -> usize {
                self.0.len() * size_of::<$native>()
            }

            fn clear(&mut self) {
                self.0.clear();
            }

            fn read(&mut self, body: &[u8], count: usize) -> Option<()> {
                let values = body.get(..count.checked_mul(size_of::<$native>())?)?;
                let (values, _) = values.as_chunks();
                self.0
                    .extend(values.iter().map(|bytes| <$native>::from_le_bytes(*bytes)));
                Some(())
            }

            fn push_from(&mut self, other: &Self, at: usize) {
                self.0.push(other.0[at]);
            }

            fn longest(&self) -> usize {
                size_of::<$native>()
            }

            fn is(&self, at: usize, other: &Self, place: usize) -> bool {
                self.0[at] == other.0[place]
            }

            fn hash(&self, at: usize, seed: u64) -> u64 {
                let mixed = u128::from(u64::from(self.0[at]) ^ seed) * u128::from(seed | 1);
                let folded = (mixed as u64) ^ (mixed >> 64) as u64;
                let again = u128::from(folded) * 0x9e37_79b9_7f4a_7c15;
                (again as u64) ^ (again >> 64) as u64
            }

            fn write(&self, range: Range<usize>, out: &mut Vec<u8>) {
                for value in &self.0[range] {
                    out.extend_from_slice(&value.to_le_bytes());
                }
            }
        }
    };
}

numbers!(u32);
numbers!(u64);

/// Truth values, a byte each.
#[derive(Default)]
pub(super) struct Bits(pub Vec<bool>);

impl Arena for Bits {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn bytes(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0.clear();
    }

    fn read(&mut self, body: &[u8], count: usize) -> Option<()> {
        let packed = body.get(..count.div_ceil(8))?;
        unpack(packed, 1, count, |bit| self.0.push(bit == 1));
        Some(())
    }

    fn push_from(&mut self, other: &Self, at: usize) {
        self.0.push(other.0[at]);
    }

    fn longest(&self) -> usize {
        1
    }

    fn is(&self, at: usize, other: &Self, place: usize) -> bool {
        self.0[at] == other.0[place]
    }

    fn hash(&self, at: usize, _: u64) -> u64 {
        self.0[at].into()
    }

    fn write(&self, range: Range<usize>, out: &mut Vec<u8>) {
        for eight in self.0[range].chunks(8) {
            let packed = eight.iter().enumerate();
            out.push(packed.fold(0, |byte, (bit, is_set)| byte | u8::from(*is_set) << bit));
        }
    }
}

/// Bytes of any length.
#[derive(Default)]
pub(super) struct Texts {
    bytes: Vec<u8>,
    /// Where each ends.
    ends: Vec<u32>,
    longest: usize,
}

impl Texts {
    /// One of them.
    pub fn get(&self, at: usize) -> &[u8] {
        let start = match at {
            0 => 0,
            at => self.ends[at - 1],
        };
        &self.bytes[start as usize..self.ends[at] as usize]
    }

    /// Whether each of them is text.
    pub fn are_utf8(&self) -> bool {
        let Ok(all) = std::str::from_utf8(&self.bytes) else {
            return false;
        };
        self.ends.iter().all(|end| all.is_char_boundary(*end as usize))
    }

    fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.ends.push(self.bytes.len() as u32);
        self.longest = self.longest.max(text.len());
    }
}

impl Arena for Texts {
    fn len(&self) -> usize {
        self.ends.len()
    }

    fn bytes(&self) -> usize {
        self.bytes.len() + self.ends.len() * size_of::<u32>()
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.longest = 0;
    }

    fn read(&mut self, body: &[u8], count: usize) -> Option<()> {
        // Pages are never so long that places in them, or in what `Growing` lets become of them, don't fit 32 bits.
        let mut rest = body;
        for _ in 0..count {
            let (length, after) = rest.split_first_chunk::<4>()?;
            let (text, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            self.push(text);
            rest = after;
        }
        Some(())
    }

    fn push_from(&mut self, other: &Self, at: usize) {
        self.push(other.get(at));
    }

    fn longest(&self) -> usize {
        self.longest + size_of::<u32>()
    }

    fn is(&self, at: usize, other: &Self, place: usize) -> bool {
        self.get(at) == other.get(place)
    }

    fn hash(&self, at: usize, seed: u64) -> u64 {
        xxh3_64_with_seed(self.get(at), seed)
    }

    fn write(&self, range: Range<usize>, out: &mut Vec<u8>) {
        for at in range {
            let text = self.get(at);
            out.extend_from_slice(&(text.len() as u32).to_le_bytes());
            out.extend_from_slice(text);
        }
    }
}

/// The values of a column, nulls left out.
pub(super) struct Growing<A> {
    /// Distinct values in the order of their first use, or all values.
    pub words: A,
    /// For each value its place among the words; `None`: they are all values.
    pub indices: Option<Vec<u32>>,
    /// Places of words by their hashes, one more than those; as many as a power of two.
    table: Vec<u32>,
    seed: u64,
    steps: usize,
    /// The dictionary of the pages that are being read, and where its values are among the words, as far as they were used.
    local: A,
    places: Vec<u32>,
    has_dictionary: bool,
}

/// Of a value that was not used so far.
const UNUSED: u32 = u32::MAX;

impl<A: Arena> Growing<A> {
    pub fn new() -> Growing<A> {
        Growing {
            words: A::default(),
            indices: Some(Vec::new()),
            table: vec![0; 64],
            seed: RandomState::new().build_hasher().finish(),
            steps: 0,
            local: A::default(),
            places: Vec::new(),
            has_dictionary: false,
        }
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        match &self.indices {
            Some(indices) => indices.len(),
            None => self.words.len(),
        }
    }

    /// Bytes they take.
    pub fn bytes(&self) -> usize {
        self.words.bytes()
            + self
                .indices
                .as_ref()
                .map_or(0, |indices| indices.len() * size_of::<u32>())
    }

    /// Takes note that the pages of another row group follow.
    pub fn begin(&mut self) {
        self.has_dictionary = false;
        self.local.clear();
        self.places.clear();
    }

    /// Takes the dictionary of the pages that follow.
    pub fn dictionary(&mut self, body: &[u8], count: usize) -> Option<()> {
        if self.has_dictionary {
            return None;
        }
        self.has_dictionary = true;
        self.local.read(body, count)?;
        self.places.resize(count, UNUSED);
        Some(())
    }

    /// Appends plain values.
    pub fn plain(&mut self, body: &[u8], count: usize) -> Option<()> {
        self.spell_out()?;
        self.words.read(body, count)?;
        (self.bytes() <= COLUMN_BYTES).then_some(())
    }

    /// Appends values of the dictionary; `body` says of how many bits their indices are, then which they are.
    pub fn indexed(&mut self, body: &[u8], count: usize) -> Option<()> {
        if count == 0 {
            return Some(());
        }
        let (width, body) = body.split_first()?;
        let most = count.checked_mul(self.local.longest().max(size_of::<u32>()))?;
        if !self.has_dictionary || self.bytes().checked_add(most)? > COLUMN_BYTES {
            return None;
        }
        let mut stretches = Stretches::new(body, *width, count)?;
        while !stretches.is_done() {
            match stretches.next()? {
                Stretch::Run { value, count } => self.repeat(value as usize, count)?,
                Stretch::Packed { bytes, count } => self.packed(bytes, *width, count)?,
            }
        }
        if self.steps > SUSPICIOUS_STEPS * (self.words.len() + JUDGED_FROM) {
            self.spell_out()?;
        }
        Some(())
    }

    fn repeat(&mut self, at: usize, count: usize) -> Option<()> {
        if at >= self.places.len() {
            return None;
        }
        if self.indices.is_none() {
            for _ in 0..count {
                self.words.push_from(&self.local, at);
            }
            return Some(());
        }
        let place = self.place(at);
        let indices = self.indices.as_mut()?;
        indices.resize(indices.len() + count, place);
        Some(())
    }

    fn packed(&mut self, bytes: &[u8], width: u8, count: usize) -> Option<()> {
        let known = self.places.len();
        let mut is_sound = true;
        match self.indices.take() {
            None => unpack(bytes, width, count, |at| match (at as usize) < known {
                true => self.words.push_from(&self.local, at as usize),
                false => is_sound = false,
            }),
            Some(mut indices) => {
                indices.reserve(count);
                unpack(bytes, width, count, |at| match self.places.get(at as usize) {
                    Some(&UNUSED) => indices.push(self.place(at as usize)),
                    Some(place) => indices.push(*place),
                    None => is_sound = false,
                });
                self.indices = Some(indices);
            }
        }
        is_sound.then_some(())
    }

    /// Where a value of the local dictionary is among the words, from now on if it was not.
    fn place(&mut self, at: usize) -> u32 {
        if self.places[at] != UNUSED {
            return self.places[at];
        }
        if self.words.len() * 2 >= self.table.len() {
            self.enlarge();
        }
        let mask = self.table.len() - 1;
        let mut slot = self.local.hash(at, self.seed) as usize & mask;
        loop {
            self.steps += 1;
            let place = match self.table[slot] {
                0 => {
                    self.words.push_from(&self.local, at);
                    self.table[slot] = self.words.len() as u32;
                    self.words.len() - 1
                }
                found if self.words.is(found as usize - 1, &self.local, at) => found as usize - 1,
                _ => {
                    slot = (slot + 1) & mask;
                    continue;
                }
            };
            self.places[at] = place as u32;
            return place as u32;
        }
    }

    fn enlarge(&mut self) {
        let mask = self.table.len() * 2 - 1;
        self.table.clear();
        self.table.resize(mask + 1, 0);
        for at in 0..self.words.len() {
            let mut slot = self.words.hash(at, self.seed) as usize & mask;
            while self.table[slot] != 0 {
                slot = (slot + 1) & mask;
            }
            self.table[slot] = at as u32 + 1;
        }
    }

    /// Judges the dictionary when the pages of a row group are read: most values must come several times.
    pub fn end(&mut self) -> Option<()> {
        let words = self.words.len();
        let Some(indices) = &self.indices else {
            return Some(());
        };
        let is_worth_it = indices.len() < JUDGED_FROM || words * WORTH_KEEPING <= indices.len();
        if is_worth_it && self.words.bytes() <= DICTIONARY_BYTES {
            return Some(());
        }
        self.spell_out()
    }

    /// Puts values in the place of indices.
    pub fn spell_out(&mut self) -> Option<()> {
        let Some(indices) = self.indices.take() else {
            return Some(());
        };
        if indices.len().checked_mul(self.words.longest())? > COLUMN_BYTES {
            return None;
        }
        let words = std::mem::take(&mut self.words);
        indices
            .iter()
            .for_each(|at| self.words.push_from(&words, *at as usize));
        self.table = Vec::new();
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::hybrid;
    use super::*;

    fn body(indices: &[u32]) -> Vec<u8> {
        let width = hybrid::width_for(indices.iter().copied().max().unwrap_or(0));
        let mut body = vec![width];
        hybrid::write(indices, width, &mut body);
        body
    }

    fn plain(texts: &[&str]) -> Vec<u8> {
        let mut arena = Texts::default();
        texts.iter().for_each(|text| arena.push(text.as_bytes()));
        let mut out = Vec::new();
        arena.write(0..texts.len(), &mut out);
        out
    }

    fn read(growing: &Growing<Texts>) -> Vec<String> {
        let text = |at: usize| String::from_utf8(growing.words.get(at).to_vec()).unwrap();
        match &growing.indices {
            Some(indices) => indices.iter().map(|at| text(*at as usize)).collect(),
            None => (0..growing.words.len()).map(text).collect(),
        }
    }

    #[test]
    fn dictionaries_grow_together_and_hold_what_is_used() {
        let mut growing = Growing::<Texts>::new();
        growing.begin();
        growing.dictionary(&plain(&["a", "never", "b"]), 3).unwrap();
        growing.indexed(&body(&[2, 0, 2]), 3).unwrap();
        growing.end().unwrap();
        growing.begin();
        growing.dictionary(&plain(&["b", "c", "c"]), 3).unwrap();
        growing.indexed(&body(&[1, 2, 0]), 3).unwrap();
        growing.end().unwrap();
        assert_eq!(growing.indices.as_deref(), Some(&[0, 1, 0, 2, 2, 0][..]));
        assert_eq!(growing.words.len(), 3);
        assert_eq!(read(&growing), ["b", "a", "b", "c", "c", "b"]);
        // A row group without a dictionary.
        growing.begin();
        growing.plain(&plain(&["x", "b"]), 2).unwrap();
        assert_eq!(read(&growing), ["b", "a", "b", "c", "c", "b", "x", "b"]);
        assert_eq!(growing.indices, None);
        assert!(growing.words.are_utf8());
    }

    #[test]
    fn what_a_dictionary_lacks_is_refused() {
        let mut growing = Growing::<Texts>::new();
        growing.begin();
        assert!(growing.indexed(&body(&[0]), 1).is_none(), "no dictionary");
        growing.dictionary(&plain(&["a"]), 1).unwrap();
        assert!(growing.indexed(&body(&[1]), 1).is_none());
        assert!(growing.indexed(&body(&[1; 20]), 20).is_none());
        assert!(growing.dictionary(&plain(&["a"]), 1).is_none(), "a second one");
        let mut short = Growing::<Texts>::new();
        assert!(short.dictionary(&plain(&["a"]), 2).is_none());
    }

    #[test]
    fn a_dictionary_of_values_that_come_once_is_given_up() {
        let mut growing = Growing::<Numbers<u64>>::new();
        for group in 0..200u64 {
            let numbers: Vec<u64> = (group * 100..group * 100 + 100).collect();
            let mut plain = Vec::new();
            Numbers(numbers).write(0..100, &mut plain);
            growing.begin();
            growing.dictionary(&plain, 100).unwrap();
            growing
                .indexed(&body(&(0..100).collect::<Vec<_>>()), 100)
                .unwrap();
            growing.end().unwrap();
        }
        assert_eq!(growing.indices, None);
        assert_eq!(growing.words.0, (0..20_000).collect::<Vec<u64>>());
    }

    #[test]
    fn texts_are_text_one_by_one() {
        let mut texts = Texts::default();
        texts.push("é".as_bytes());
        assert!(texts.are_utf8());
        let mut split = Texts::default();
        split.push(&"é".as_bytes()[..1]);
        split.push(&"é".as_bytes()[1..]);
        assert!(!split.are_utf8());
    }
}
