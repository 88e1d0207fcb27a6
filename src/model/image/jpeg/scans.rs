//! The entropy-coded data of a scan (ITU T.81, annexes F and G): sequential and progressive, with restart markers.
//!
//! libjpeg goes on with zeros where data is damaged, and gives half a picture. Here that is an error: nobody would ever
//! know that an answer comes from one.

use super::Fault;
use super::huffman::{Bits, Table};
use super::idct::{self, Block};
use super::planes::{Grid, Plane};
use super::segments::{Scan, State, ZIGZAG, next_marker};
use crate::model::image::wide::wide;

/// Tables of a part of a scan; which are there depends on the scan.
struct Tables<'a> {
    dc: Option<&'a Table>,
    ac: Option<&'a Table>,
}

/// What decoding a block leaves for the next.
#[derive(Default)]
struct Memory {
    /// The last DC coefficient of each part.
    dc: [i32; 4],
    /// Blocks that have nothing (more) in this band.
    empty: u32,
}

const NO_TABLE: Fault = Fault::Damaged("a scan needs a table that is missing");
const BEYOND: Fault = Fault::Damaged("a block has more than 64 coefficients");

wide! {
    /// Reads the data of `scan` that begins at `at` into `planes`; where to go on.
    pub fn read(
        bytes: &[u8], at: usize, state: &State, scan: &Scan, grid: Grid, planes: &mut [Plane],
    ) -> Result<usize, Fault> {
        let mut bits = Bits::new(bytes, at);
        let mut memory = Memory::default();
        let progressive = state.frame.as_ref().is_some_and(|frame| frame.progressive);
        let mut tables = Vec::with_capacity(scan.parts.len());
        for part in &scan.parts {
            tables.push(Tables { dc: state.dc[part.dc].as_ref(), ac: state.ac[part.ac].as_ref() });
        }
        // A scan of one component has its blocks row by row; else each unit has the blocks of all components.
        let alone = scan.parts.len() == 1;
        let (across, down) = match alone {
            true => planes[scan.parts[0].component].blocks,
            false => grid.units,
        };
        let (mut left, mut next_restart) = (state.restart, 0);
        for row in 0..down {
            for column in 0..across {
                if state.restart > 0 && left == 0 {
                    restart(&mut bits, bytes, &mut next_restart)?;
                    (memory, left) = (Memory::default(), state.restart);
                }
                left = left.wrapping_sub(1);
                for (index, part) in scan.parts.iter().enumerate() {
                    let plane = &mut planes[part.component];
                    let (wide, high) = if alone { (1, 1) } else { plane.factors };
                    for y in row * high..(row + 1) * high {
                        for x in column * wide..(column + 1) * wide {
                            match progressive {
                                false => sequential(&mut bits, &tables[index], &mut memory.dc[index], plane, x, y)?,
                                true => {
                                    let place = y * plane.across() + x;
                                    let block = &mut plane.coefficients[place];
                                    refine(&mut bits, &tables[index], &mut memory, index, scan, block)?;
                                }
                            }
                        }
                    }
                }
            }
            bits.check()?;
        }
        Ok(bits.place())
    }
}

/// Goes to the restart marker that must come now.
fn restart(bits: &mut Bits, bytes: &[u8], next: &mut u8) -> Result<(), Fault> {
    bits.check()?;
    let mut at = bits.place();
    if next_marker(bytes, &mut at)? != 0xd0 + *next {
        return Err(Fault::Damaged("a restart marker is missing"));
    }
    *next = (*next + 1) % 8;
    bits.restart(at);
    Ok(())
}

#[inline(always)]
fn dc(bits: &mut Bits, table: &Table, last: &mut i32) -> Result<i32, Fault> {
    let size = bits.symbol(table)?;
    *last = last.wrapping_add(bits.signed(size));
    Ok(*last)
}

/// Reads a block and makes samples of it.
#[inline(always)]
fn sequential(
    bits: &mut Bits,
    tables: &Tables,
    last: &mut i32,
    plane: &mut Plane,
    x: usize,
    y: usize,
) -> Result<(), Fault> {
    let (Some(dc_table), Some(table)) = (tables.dc, tables.ac) else {
        return Err(NO_TABLE);
    };
    let mut block: Block = [0; 64];
    bits.refill();
    block[0] = dc(bits, dc_table, last)? as i16;
    let (place, _) = numbers(bits, table, (1, 63), 0, &mut block)?;
    let quantisers = plane.quantisers.as_ref().ok_or(NO_TABLE)?;
    let (side, stride) = (plane.side, plane.stride);
    let to = &mut plane.samples[(y * stride + x) * side..];
    match place {
        1 => idct::flat(block[0], quantisers[0], side, to, stride),
        _ => idct::block(&block, quantisers, side, to, stride),
    }
    Ok(())
}

/// Reads the AC coefficients from `first` to `last`, but for their `low` bits. Gives the place where it stopped and, if that
/// is where the block says that it ends, the number that says for how many blocks more.
///
/// A sequential scan is the first one of a progressive file with all bits, in which every block ends by itself.
#[inline(always)]
fn numbers(
    bits: &mut Bits,
    table: &Table,
    (first, last): (usize, usize),
    low: u32,
    block: &mut Block,
) -> Result<(usize, Option<u32>), Fault> {
    let mut place = first;
    while place <= last {
        bits.refill();
        let short = bits.short_number(table);
        if short != 0 {
            place += (short >> 8 & 15) as usize;
            block[usize::from(ZIGZAG[place])] = ((short >> 16) << low) as i16;
            place += 1;
            continue;
        }
        let symbol = bits.symbol(table)?;
        let (run, size) = ((symbol >> 4) as usize, symbol & 15);
        if size == 0 {
            if run != 15 {
                return Ok((place, Some(run as u32)));
            }
            place += 16;
            continue;
        }
        place += run;
        block[usize::from(ZIGZAG[place])] = (bits.signed(size) << low) as i16;
        place += 1;
    }
    match place > 64 {
        true => Err(BEYOND),
        false => Ok((place, None)),
    }
}

/// Adds what a scan of a progressive file says of a block.
fn refine(
    bits: &mut Bits,
    tables: &Tables,
    memory: &mut Memory,
    part: usize,
    scan: &Scan,
    block: &mut Block,
) -> Result<(), Fault> {
    let is_first = scan.high == 0;
    if scan.first > 0 {
        let table = tables.ac.ok_or(NO_TABLE)?;
        return match is_first {
            true => band(bits, table, &mut memory.empty, scan, block),
            false => band_again(bits, table, &mut memory.empty, scan, block),
        };
    }
    if is_first {
        bits.refill();
        let number = dc(bits, tables.dc.ok_or(NO_TABLE)?, &mut memory.dc[part])?;
        block[0] = (number << scan.low) as i16;
    } else if bits.bit() {
        block[0] |= 1 << scan.low;
    }
    Ok(())
}

/// The AC coefficients of a band, but for their low bits.
fn band(
    bits: &mut Bits,
    table: &Table,
    empty: &mut u32,
    scan: &Scan,
    block: &mut Block,
) -> Result<(), Fault> {
    if *empty > 0 {
        *empty -= 1;
        return Ok(());
    }
    let (_, end) = numbers(bits, table, (scan.first, scan.last), scan.low, block)?;
    if let Some(run) = end {
        *empty = (1 << run) + bits.number(run) - 1;
    }
    Ok(())
}

/// The next bit of the AC coefficients of a band: one for each that is known, and new ones between them.
fn band_again(
    bits: &mut Bits,
    table: &Table,
    empty: &mut u32,
    scan: &Scan,
    block: &mut Block,
) -> Result<(), Fault> {
    let one = 1i16 << scan.low;
    let more = |bits: &mut Bits, coefficient: &mut i16| {
        if bits.bit() && *coefficient & one == 0 {
            *coefficient = coefficient.wrapping_add(if *coefficient >= 0 { one } else { -one });
        }
    };
    let mut place = scan.first;
    if *empty == 0 {
        while place <= scan.last {
            bits.refill();
            let symbol = bits.symbol(table)?;
            let (mut run, size) = (symbol >> 4, symbol & 15);
            let mut new = 0;
            if size != 0 {
                new = if bits.bit() { one } else { -one };
            } else if run != 15 {
                *empty = (1 << run) + bits.number(run);
                break;
            }
            // Passes over what is known, and over `run` that are zero.
            while place <= scan.last {
                let coefficient = &mut block[usize::from(ZIGZAG[place])];
                if *coefficient != 0 {
                    more(bits, coefficient);
                } else if run == 0 {
                    *coefficient = new;
                    break;
                } else {
                    run -= 1;
                }
                place += 1;
            }
            place += 1;
        }
    }
    if *empty > 0 {
        for &place in &ZIGZAG[place..place.max(scan.last + 1)] {
            let coefficient = &mut block[usize::from(place)];
            if *coefficient != 0 {
                more(bits, coefficient);
            }
        }
        *empty -= 1;
    }
    Ok(())
}
