//! `DELTA_BINARY_PACKED` streams of lengths, as pages of texts begin with.
//!
//! The parquet crate makes room for as many lengths as a stream declares, so the number is looked at first; and in
//! `DELTA_BYTE_ARRAY`, where a value repeats the beginning of the one before, lengths are summed up to see what a page
//! becomes. See [encodings](https://parquet.apache.org/docs/file-format/data-pages/encodings/).

/// What a stream holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stream {
    /// How many lengths.
    pub count: u64,
    /// Their sum.
    pub sum: u64,
    /// Where the stream ends.
    pub end: usize,
}

/// How many lengths the stream at the beginning of `bytes` declares.
pub(super) fn count(bytes: &[u8]) -> Option<u64> {
    let mut reader = Reader { bytes, at: 0 };
    reader.varint()?;
    reader.varint()?;
    reader.varint()
}

/// Reads the stream at the beginning of `bytes`. `None`, when it is malformed, has a negative length or more than `most`.
pub(super) fn read(bytes: &[u8], most: u64) -> Option<Stream> {
    let mut reader = Reader { bytes, at: 0 };
    let block = reader.varint()?;
    let minis = usize::try_from(reader.varint()?)
        .ok()
        .filter(|minis| *minis > 0)?;
    let per_mini = block / minis as u64;
    let count = reader.varint()?;
    let mut value = reader.zigzag()?;
    if per_mini == 0 || !per_mini.is_multiple_of(32) || count > most {
        return None;
    }
    let mut sum = 0u64;
    if count > 0 {
        sum = u64::try_from(value).ok()?;
    }
    let mut left = count.saturating_sub(1);
    while left > 0 {
        let least = reader.zigzag()?;
        let widths = reader.bytes(minis)?;
        for &width in widths {
            if left == 0 {
                break;
            }
            if width > 32 {
                return None;
            }
            let taken = left.min(per_mini);
            let (whole, needed) = (
                per_mini.checked_mul(width.into())? / 8,
                (taken * u64::from(width)).div_ceil(8),
            );
            // The padding of the very last one may be missing.
            let rest = (reader.bytes.len() - reader.at) as u64;
            let packed = reader.bytes(usize::try_from(whole.min(rest.max(needed))).ok()?)?;
            for index in 0..taken {
                value = (value as i32)
                    .wrapping_add(least as i32)
                    .wrapping_add(bits(packed, index, width) as i32)
                    .into();
                sum = sum.checked_add(u64::try_from(value).ok()?)?;
            }
            left -= taken;
        }
    }
    Some(Stream {
        count,
        sum,
        end: reader.at,
    })
}

/// The `index`-th of the numbers of `width` bits each, lowest bits first.
pub(super) fn bits(packed: &[u8], index: u64, width: u8) -> u32 {
    let first = index * u64::from(width);
    let mut window = [0u8; 8];
    let rest = &packed[((first / 8) as usize).min(packed.len())..];
    let length = rest.len().min(8);
    window[..length].copy_from_slice(&rest[..length]);
    let mask = (1u64 << width) - 1;
    ((u64::from_le_bytes(window) >> (first % 8)) & mask) as u32
}

/// A place in a stream.
pub(super) struct Reader<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
}

impl<'a> Reader<'a> {
    pub fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn zigzag(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    pub fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }
}
