//! The segments of a JPEG file (ITU T.81, annex B) up to their entropy-coded data: what they say, checked.
//!
//! What stands between segments is passed over, as libjpeg does. Whatever a header declares is only declared: nothing is
//! allocated here but for the tables themselves.

use super::Fault;
use super::huffman::Table;
use super::idct::Block;

/// Markers (the byte after 0xff).
pub mod marker {
    pub const TEMPORARY: u8 = 0x01;
    pub const START_OF_IMAGE: u8 = 0xd8;
    pub const END_OF_IMAGE: u8 = 0xd9;
    pub const START_OF_SCAN: u8 = 0xda;
}

/// A coefficient's place in a block, by its place in the file; sixteen more for runs that lead beyond the end.
pub const ZIGZAG: [u8; 80] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7,
    14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39,
    46, 53, 60, 61, 54, 47, 55, 62, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63,
];

/// What the frame header says of a component.
#[derive(Clone, Copy, Debug)]
pub struct Declared {
    pub id: u8,
    /// Sampling factors across and down.
    pub factors: (usize, usize),
    /// Which table of quantisers.
    pub table: usize,
}

/// The frame header.
#[derive(Clone, Debug)]
pub struct Frame {
    pub width: u32,
    pub height: u32,
    pub progressive: bool,
    pub components: Vec<Declared>,
}

/// A component's part in a scan.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Which component of the frame.
    pub component: usize,
    /// Which tables.
    pub dc: usize,
    pub ac: usize,
}

/// The scan header.
#[derive(Clone, Debug)]
pub struct Scan {
    pub parts: Vec<Part>,
    /// First and last coefficient.
    pub first: usize,
    pub last: usize,
    /// The bit that an earlier scan ended with (0: there was none), and the one this scan ends with.
    pub high: u32,
    pub low: u32,
}

/// What segments before a scan have said so far.
#[derive(Default)]
pub struct State {
    pub frame: Option<Frame>,
    pub quantisers: [Option<Block>; 4],
    pub dc: [Option<Table>; 4],
    pub ac: [Option<Table>; 4],
    /// Units between restart markers, 0 for none.
    pub restart: usize,
    pub jfif: bool,
    /// The colour transform of an Adobe segment.
    pub adobe: Option<u8>,
    /// The EXIF data.
    pub exif: Option<Vec<u8>>,
}

const SHORT: Fault = Fault::Damaged("a segment is too short");

/// The next marker at or after `at`, which is moved behind it.
pub fn next_marker(bytes: &[u8], at: &mut usize) -> Result<u8, Fault> {
    loop {
        let rest = bytes.get(*at..).ok_or(Fault::CutOff)?;
        *at += rest.iter().position(|byte| *byte == 0xff).ok_or(Fault::CutOff)? + 1;
        // Any number of 0xff may stand before the code; 0 means that the byte before was data.
        while *bytes.get(*at).ok_or(Fault::CutOff)? == 0xff {
            *at += 1;
        }
        let code = bytes[*at];
        *at += 1;
        if code != 0 {
            return Ok(code);
        }
    }
}

/// The body of the segment at `at`, which is moved behind it.
pub fn body<'a>(bytes: &'a [u8], at: &mut usize) -> Result<&'a [u8], Fault> {
    let rest = bytes.get(*at..).unwrap_or_default();
    let [high, low, ..] = rest else {
        return Err(Fault::CutOff);
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if length < 2 {
        return Err(SHORT);
    }
    *at += length;
    rest.get(2..length).ok_or(Fault::CutOff)
}

impl State {
    /// Takes in a segment that is no scan.
    pub fn take(&mut self, code: u8, body: &[u8]) -> Result<(), Fault> {
        match code {
            0xc0..=0xc2 => {
                if self.frame.is_some() {
                    return Err(Fault::Damaged("it has two frames"));
                }
                self.frame = Some(frame(body, code == 0xc2)?);
                Ok(())
            }
            0xc4 => self.huffman_tables(body),
            0xc8 | 0xc9..=0xcb | 0xcd..=0xcf => Err(Fault::Unusual("its data is arithmetic-coded")),
            0xc3 | 0xc5..=0xc7 => Err(Fault::Unusual("it is lossless or hierarchical")),
            0xdb => self.quantiser_tables(body),
            0xdd => {
                let [high, low] = body.first_chunk().ok_or(SHORT)?;
                self.restart = usize::from(u16::from_be_bytes([*high, *low]));
                Ok(())
            }
            0xe0 if body.starts_with(b"JFIF\0") && body.len() >= 14 => {
                self.jfif = true;
                Ok(())
            }
            0xe1 if self.exif.is_none() => {
                self.exif = body.strip_prefix(b"Exif\0\0").map(<[u8]>::to_vec);
                Ok(())
            }
            0xee if body.starts_with(b"Adobe") && body.len() >= 12 => {
                self.adobe = Some(body[11]);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn huffman_tables(&mut self, mut body: &[u8]) -> Result<(), Fault> {
        while let Some((&which, rest)) = body.split_first() {
            let (counts, rest) = rest.split_first_chunk::<16>().ok_or(SHORT)?;
            let symbols: usize = counts.iter().map(|count| usize::from(*count)).sum();
            if symbols > 256 {
                return Err(Fault::Damaged("a Huffman table makes no sense"));
            }
            let (symbols, rest) = rest.split_at_checked(symbols).ok_or(SHORT)?;
            let tables = if which & 0x10 == 0 {
                &mut self.dc
            } else {
                &mut self.ac
            };
            let place = tables.get_mut(usize::from(which & !0x10));
            let place = place.ok_or(Fault::Damaged("a Huffman table makes no sense"))?;
            *place = Some(Table::new(counts, symbols, which & 0x10 == 0)?);
            body = rest;
        }
        Ok(())
    }

    fn quantiser_tables(&mut self, mut body: &[u8]) -> Result<(), Fault> {
        while let Some((&which, rest)) = body.split_first() {
            let place = self.quantisers.get_mut(usize::from(which & 15));
            let place = place.ok_or(Fault::Damaged("a quantiser table makes no sense"))?;
            let size = if which >> 4 == 0 { 1 } else { 2 };
            let (numbers, rest) = rest.split_at_checked(64 * size).ok_or(SHORT)?;
            let mut table = [0i16; 64];
            for (number, place) in numbers.chunks_exact(size).zip(ZIGZAG) {
                let number = number
                    .iter()
                    .fold(0u16, |number, byte| number << 8 | u16::from(*byte));
                // Sixteen bits are multiplied as such, whatever their sign.
                table[usize::from(place)] = number as i16;
            }
            *place = Some(table);
            body = rest;
        }
        Ok(())
    }

    /// Reads the header of a scan.
    pub fn scan(&self, body: &[u8]) -> Result<Scan, Fault> {
        let frame = self
            .frame
            .as_ref()
            .ok_or(Fault::Damaged("a scan is before the frame"))?;
        let wrong = Fault::Damaged("the header of a scan makes no sense");
        let (&count, rest) = body.split_first().ok_or(SHORT)?;
        let count = usize::from(count);
        let (parts, rest) = rest.split_at_checked(count * 2).ok_or(SHORT)?;
        let [first, last, bits] = rest.first_chunk().ok_or(SHORT)?;
        let mut scan = Scan {
            parts: Vec::with_capacity(count),
            first: usize::from(*first),
            last: usize::from(*last),
            high: u32::from(bits >> 4),
            low: u32::from(bits & 15),
        };
        for [id, tables] in parts.as_chunks::<2>().0 {
            let component = frame.components.iter().position(|component| component.id == *id);
            let component = component.ok_or(wrong)?;
            let (dc, ac) = (usize::from(tables >> 4), usize::from(tables & 15));
            if scan.parts.iter().any(|part| part.component == component) || dc > 3 || ac > 3 {
                return Err(wrong);
            }
            scan.parts.push(Part { component, dc, ac });
        }
        if !frame.progressive {
            // What a sequential scan says of these is passed over, as libjpeg does.
            (scan.first, scan.last, scan.high, scan.low) = (0, 63, 0, 0);
        }
        let several = scan.parts.len() != 1;
        let spectrum = match scan.first {
            0 => !frame.progressive || scan.last == 0,
            first => first <= scan.last && scan.last < 64 && !several,
        };
        let bits = scan.low <= 13 && (scan.high == 0 || scan.high == scan.low + 1);
        if scan.parts.is_empty() || !spectrum || !bits {
            return Err(wrong);
        }
        let blocks = |part: &Part| {
            let (across, down) = frame.components[part.component].factors;
            across * down
        };
        if several && scan.parts.iter().map(blocks).sum::<usize>() > 10 {
            return Err(wrong);
        }
        Ok(scan)
    }
}

fn frame(body: &[u8], progressive: bool) -> Result<Frame, Fault> {
    let (header, rest) = body.split_first_chunk::<6>().ok_or(SHORT)?;
    let [precision, h1, h0, w1, w0, count] = *header;
    if precision != 8 {
        return Err(Fault::Unusual("its samples have not eight bits"));
    }
    if !matches!(count, 1 | 3 | 4) {
        return Err(Fault::Unusual("it has not one, three or four channels"));
    }
    if rest.len() != usize::from(count) * 3 {
        return Err(SHORT);
    }
    let mut components = Vec::with_capacity(usize::from(count));
    for &[id, factors, table] in rest.as_chunks::<3>().0 {
        let factors = (usize::from(factors >> 4), usize::from(factors & 15));
        let sane = (1..=4).contains(&factors.0) && (1..=4).contains(&factors.1) && table < 4;
        if !sane || components.iter().any(|other: &Declared| other.id == id) {
            return Err(Fault::Damaged("the frame makes no sense"));
        }
        components.push(Declared {
            id,
            factors,
            table: usize::from(table),
        });
    }
    Ok(Frame {
        width: u16::from_be_bytes([w1, w0]).into(),
        height: u16::from_be_bytes([h1, h0]).into(),
        progressive,
        components,
    })
}
