//! The hybrid of runs and bit-packed groups that Parquet keeps levels and dictionary indices in.
//!
//! Layout after the [format](https://parquet.apache.org/docs/file-format/data-pages/encodings/): a varint whose lowest bit
//! says what follows: a value that is repeated, or so many groups of eight values, each `width` bits wide.

/// Values of a kind in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stretch<'a> {
    /// The same one so many times.
    Run { value: u32, count: usize },
    /// Packed, from the first bit of the bytes on; there are enough of those.
    Packed { bytes: &'a [u8], count: usize },
}

/// The stretches of a stream of `left` values.
pub(super) struct Stretches<'a> {
    bytes: &'a [u8],
    width: u8,
    left: usize,
}

impl<'a> Stretches<'a> {
    /// `None`: no index is so wide.
    pub fn new(bytes: &'a [u8], width: u8, values: usize) -> Option<Stretches<'a>> {
        (width <= 32).then_some(Stretches {
            bytes,
            width,
            left: values,
        })
    }

    /// Whether all values were given.
    pub fn is_done(&self) -> bool {
        self.left == 0
    }

    /// The next stretch; `None` when the stream ends too early or is malformed.
    pub fn next(&mut self) -> Option<Stretch<'a>> {
        let head = self.varint()?;
        let width = usize::from(self.width);
        let many = usize::try_from(head >> 1).ok().filter(|many| *many > 0)?;
        if head & 1 == 0 {
            let (value, rest) = self.bytes.split_at_checked(width.div_ceil(8))?;
            self.bytes = rest;
            let value = value
                .iter()
                .rev()
                .fold(0u64, |value, byte| value << 8 | u64::from(*byte));
            let count = many.min(self.left);
            self.left -= count;
            let value = u32::try_from(value).ok()?;
            return Some(Stretch::Run { value, count });
        }
        let count = many.checked_mul(8)?.min(self.left);
        // The last group may be cut off behind the last value.
        let needed = (count * width).div_ceil(8);
        let whole = many.checked_mul(width)?.min(self.bytes.len());
        let (bytes, rest) = self.bytes.split_at(whole);
        if needed > bytes.len() {
            return None;
        }
        self.bytes = rest;
        self.left -= count;
        Some(Stretch::Packed { bytes, count })
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..35).step_by(7) {
            let (byte, rest) = self.bytes.split_first()?;
            self.bytes = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

/// Gives the first `count` values packed in `bytes` to `each`. Bits that are not there are zeros.
pub(super) fn unpack(bytes: &[u8], width: u8, count: usize, mut each: impl FnMut(u32)) {
    let mask = (1u64 << width) - 1;
    let mut bit = 0;
    for _ in 0..count {
        let at = bit / 8;
        let word = match bytes.get(at..at + 8) {
            Some(word) => u64::from_le_bytes(word.try_into().unwrap_or_default()),
            None => {
                let mut word = [0; 8];
                let rest = bytes.get(at..).unwrap_or_default();
                word[..rest.len()].copy_from_slice(rest);
                u64::from_le_bytes(word)
            }
        };
        each((word >> (bit % 8) & mask) as u32);
        bit += usize::from(width);
    }
}

/// Bits that hold numbers up to `most`; at least one, since not every reader knows a width of none.
pub(super) fn width_for(most: u32) -> u8 {
    (32 - most.leading_zeros()).max(1) as u8
}

/// Appends `values` as runs and packed groups.
pub(super) fn write(values: &[u32], width: u8, out: &mut Vec<u8>) {
    // Of a run that is shorter a group takes no more.
    const WORTH_A_RUN: usize = 8;
    let (mut at, mut packed_from) = (0, 0);
    while at < values.len() {
        let value = values[at];
        let run = values[at..].iter().take_while(|other| **other == value).count();
        // Groups before a run must be whole: they take from it.
        let filling = (at - packed_from).wrapping_neg() % 8;
        if run >= filling + WORTH_A_RUN {
            write_packed(&values[packed_from..at + filling], width, out);
            write_run(value, run - filling, width, out);
            packed_from = at + run;
        }
        at += run;
    }
    write_packed(&values[packed_from..], width, out);
}

/// Appends a value `count` times.
pub(super) fn write_run(value: u32, count: usize, width: u8, out: &mut Vec<u8>) {
    write_varint((count as u64) << 1, out);
    out.extend_from_slice(&value.to_le_bytes()[..usize::from(width).div_ceil(8)]);
}

fn write_packed(values: &[u32], width: u8, out: &mut Vec<u8>) {
    if values.is_empty() {
        return;
    }
    let groups = values.len().div_ceil(8);
    write_varint((groups as u64) << 1 | 1, out);
    let end = out.len() + groups * usize::from(width);
    let (mut word, mut bits) = (0u64, 0);
    for value in values {
        word |= u64::from(*value) << bits;
        bits += u32::from(width);
        if bits >= 32 {
            out.extend_from_slice(&(word as u32).to_le_bytes());
            word >>= 32;
            bits -= 32;
        }
    }
    out.extend_from_slice(&word.to_le_bytes());
    out.resize(end, 0);
}

/// Appends a number in groups of seven bits.
pub(super) fn write_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8], width: u8, count: usize) -> Option<Vec<u32>> {
        let mut stretches = Stretches::new(bytes, width, count)?;
        let mut values = Vec::new();
        while !stretches.is_done() {
            match stretches.next()? {
                Stretch::Run { value, count } => values.resize(values.len() + count, value),
                Stretch::Packed { bytes, count } => unpack(bytes, width, count, |value| values.push(value)),
            }
        }
        Some(values)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            runs in proptest::collection::vec((any::<u32>(), 1usize..30), 0..40),
            width in 1u8..=32,
        ) {
            let mask = ((1u64 << width) - 1) as u32;
            let values: Vec<u32> = runs
                .iter()
                .flat_map(|(value, count)| std::iter::repeat_n(value & mask, *count))
                .collect();
            let mut bytes = Vec::new();
            write(&values, width, &mut bytes);
            prop_assert_eq!(read(&bytes, width, values.len()), Some(values.clone()));
            // Cut off, it is refused or what is left of it is enough.
            if let Some(cut) = read(&bytes[..bytes.len().saturating_sub(1)], width, values.len()) {
                prop_assert_eq!(cut, values);
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(
            bytes in proptest::collection::vec(any::<u8>(), 0..60),
            width in 0u8..40,
            count in 0usize..300,
        ) {
            if let Some(values) = read(&bytes, width, count) {
                prop_assert_eq!(values.len(), count);
            }
        }
    }

    #[test]
    fn a_constant_is_one_run() {
        let mut bytes = Vec::new();
        write(&[5; 1000], 3, &mut bytes);
        assert_eq!(bytes, [0xd0, 0x0f, 5]);
    }
}
