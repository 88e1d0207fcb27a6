//! Huffman codes (ITU T.81, annexes C and F) and the bits they are read from.
//!
//! Bits lie at the top of a 64-bit word. A table answers the next ten of them at once: for an AC code that is short enough,
//! with the number that follows it.

use super::Fault;

/// Bits that a table is asked for at once.
const PEEKED: u32 = 10;

/// The code of one class (DC or AC).
pub struct Table {
    /// By the next ten bits: `symbol << 8 | length`, or 0 for a longer code.
    codes: Box<[u16; 1 << PEEKED]>,
    /// By the next ten bits: `number << 16 | run << 8 | length of code and number`, or 0 where they don't fit.
    numbers: Box<[i32; 1 << PEEKED]>,
    /// By length: the first code that is longer, at the top of 16 bits.
    ends: [u32; 17],
    /// By length: what makes a place among the symbols of a code.
    offsets: [i32; 17],
    symbols: Vec<u8>,
}

impl Table {
    /// The table of a `DHT` segment: how many codes there are of each length, and their symbols.
    pub fn new(counts: &[u8; 16], symbols: &[u8], is_dc: bool) -> Result<Table, Fault> {
        let wrong = Fault::Damaged("a Huffman table makes no sense");
        if is_dc && symbols.iter().any(|symbol| *symbol > 15) {
            return Err(wrong);
        }
        let mut table = Table {
            codes: Box::new([0; 1 << PEEKED]),
            numbers: Box::new([0; 1 << PEEKED]),
            ends: [0; 17],
            offsets: [0; 17],
            symbols: symbols.to_vec(),
        };
        let (mut code, mut place) = (0u32, 0usize);
        for (length, &count) in (1u32..).zip(counts) {
            table.offsets[length as usize] = place as i32 - code as i32;
            for _ in 0..count {
                if code >= 1 << length {
                    return Err(wrong);
                }
                if length <= PEEKED {
                    let free = PEEKED - length;
                    let entry = u16::from(symbols[place]) << 8 | length as u16;
                    table.codes[(code << free) as usize..][..1 << free].fill(entry);
                }
                (code, place) = (code + 1, place + 1);
            }
            table.ends[length as usize] = code << (16 - length);
            code <<= 1;
        }
        if !is_dc {
            table.find_numbers();
        }
        Ok(table)
    }

    fn find_numbers(&mut self) {
        for (bits, (entry, code)) in self.numbers.iter_mut().zip(self.codes.iter()).enumerate() {
            let (length, symbol) = (u32::from(code & 0xff), u32::from(code >> 8));
            let (run, size) = (symbol >> 4, symbol & 15);
            if length == 0 || size == 0 || length + size > PEEKED {
                continue;
            }
            let number = (bits as u32 >> (PEEKED - length - size)) & ((1 << size) - 1);
            *entry = extended(number, size) << 16 | (run << 8 | (length + size)) as i32;
        }
    }
}

/// A number of `size` bits with its sign, which its first bit says.
#[inline(always)]
fn extended(number: u32, size: u32) -> i32 {
    let number = number as i32;
    if size == 0 || number >> (size - 1) != 0 {
        number
    } else {
        number - (1 << size) + 1
    }
}

/// Entropy-coded data up to the next marker.
///
/// What is rarely called takes it by value, so that it can live in registers.
#[derive(Clone, Copy)]
pub struct Bits<'a> {
    data: &'a [u8],
    /// Next byte that is not in `word`.
    at: usize,
    word: u64,
    count: u32,
    /// Zeros that stand in `word` for bits beyond the data.
    made_up: u32,
}

impl<'a> Bits<'a> {
    /// The data that begins at `at`.
    pub fn new(data: &'a [u8], at: usize) -> Bits<'a> {
        Bits {
            data,
            at,
            word: 0,
            count: 0,
            made_up: 0,
        }
    }

    /// Begins again after a marker that ends at `at`.
    pub fn restart(&mut self, at: usize) {
        *self = Bits::new(self.data, at);
    }

    /// Where to look for the next marker.
    pub fn place(&self) -> usize {
        self.at
    }

    /// Fails when bits were taken that the file has not.
    pub fn check(&self) -> Result<(), Fault> {
        if self.made_up > self.count {
            return Err(Fault::Damaged("the data of a scan ends early"));
        }
        Ok(())
    }

    /// Makes 56 bits or more ready.
    #[inline(always)]
    pub fn refill(&mut self) {
        if let Some(next) = self.data.get(self.at..self.at + 8) {
            let next = u64::from_be_bytes([
                next[0], next[1], next[2], next[3], next[4], next[5], next[6], next[7],
            ]);
            // A byte of ones is followed by a zero or ends the data.
            let has_ones = !next.wrapping_add(0x0101_0101_0101_0101) & next & 0x8080_8080_8080_8080 != 0;
            if !has_ones {
                self.word |= next >> self.count;
                self.at += ((63 - self.count) >> 3) as usize;
                self.count |= 56;
                return;
            }
        }
        *self = self.refilled_slowly();
    }

    #[cold]
    #[inline(never)]
    fn refilled_slowly(mut self) -> Bits<'a> {
        while self.count < 56 {
            let byte = match self.data.get(self.at..) {
                Some([0xff, 0, ..]) => {
                    self.at += 2;
                    0xff
                }
                Some([byte, ..]) if *byte != 0xff => {
                    self.at += 1;
                    *byte
                }
                _ => {
                    self.made_up = self.made_up.saturating_add(8);
                    0
                }
            };
            self.word |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
        self
    }

    #[inline(always)]
    fn skip(&mut self, bits: u32) {
        self.word <<= bits;
        self.count -= bits;
    }

    /// The next `size` bits, at most 16, of those that are ready.
    #[inline(always)]
    fn take(&mut self, size: u32) -> u32 {
        let number = (self.word >> 1 >> (63 - size)) as u32;
        self.skip(size);
        number
    }

    /// The next `size` bits, at most 16.
    pub fn number(&mut self, size: u32) -> u32 {
        if self.count < 16 {
            self.refill();
        }
        self.take(size)
    }

    /// The next bit.
    #[inline(always)]
    pub fn bit(&mut self) -> bool {
        if self.count == 0 {
            self.refill();
        }
        self.take(1) != 0
    }

    /// The next number of `size` bits, at most 15, with its sign; of those that are ready.
    #[inline(always)]
    pub fn signed(&mut self, size: u32) -> i32 {
        let number = self.take(size);
        extended(number, size)
    }

    /// The next symbol, of the bits that are ready.
    #[inline(always)]
    pub fn symbol(&mut self, table: &Table) -> Result<u32, Fault> {
        let entry = table.codes[(self.word >> (64 - PEEKED)) as usize];
        if entry != 0 {
            self.skip(u32::from(entry & 0xff));
            return Ok(u32::from(entry >> 8));
        }
        let (symbol, length) = long_symbol((self.word >> 48) as u32, table)?;
        self.skip(length);
        Ok(symbol)
    }

    /// The next AC symbol with its number, if both are short: `number << 16 | run << 8`, else 0 and nothing is taken.
    #[inline(always)]
    pub fn short_number(&mut self, table: &Table) -> i32 {
        let entry = table.numbers[(self.word >> (64 - PEEKED)) as usize];
        self.skip(entry as u32 & 0xff);
        entry
    }
}

/// The symbol that the next 16 bits begin with, which is longer than what is peeked, and its length.
#[cold]
#[inline(never)]
fn long_symbol(next: u32, table: &Table) -> Result<(u32, u32), Fault> {
    let unknown = Fault::Damaged("a code is in no Huffman table");
    let length = (PEEKED as usize + 1..=16).find(|length| next < table.ends[*length]);
    let length = length.ok_or(unknown)?;
    let place = (next >> (16 - length)) as i32 + table.offsets[length];
    let symbol = usize::try_from(place)
        .ok()
        .and_then(|place| table.symbols.get(place));
    Ok((u32::from(*symbol.ok_or(unknown)?), length as u32))
}
