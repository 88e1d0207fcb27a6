//! Rows of a component at the picture's full size, as libjpeg's `jdsample.c` makes them: triangle filters ("fancy
//! upsampling") where one of the directions is halved, plain repetition elsewhere.

use super::Fault;
use super::planes::{Grid, Plane};
use crate::model::image::wide::wide;

/// How a component grows to full size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// It has it.
    None,
    /// Triangle filters: across, down, both.
    Across,
    Down,
    Both,
    /// Every sample so many times across and down.
    Repeat(usize, usize),
}

impl Growth {
    /// That of a component in a picture.
    pub fn of(plane: &Plane, grid: &Grid) -> Result<Growth, Fault> {
        // What a component has less of after its own reduction.
        let times = |largest: usize, factor: usize| {
            let samples = factor * plane.side / grid.side;
            largest.is_multiple_of(samples).then(|| largest / samples)
        };
        let (across, down) = (
            times(grid.largest.0, plane.factors.0),
            times(grid.largest.1, plane.factors.1),
        );
        let (Some(across), Some(down)) = (across, down) else {
            return Err(Fault::Unusual(
                "its channels are sampled in fractions of each other",
            ));
        };
        // There are no triangles in a picture of one sample a block.
        let smooth = grid.side > 1;
        Ok(match (across, down) {
            (1, 1) => Growth::None,
            (2, 1) if smooth && plane.width > 2 => Growth::Across,
            (2, 2) if smooth && plane.width > 2 => Growth::Both,
            (1, 2) if smooth => Growth::Down,
            (across, down) => Growth::Repeat(across, down),
        })
    }
}

/// Row `y` of the picture, of one component: its own samples, or what `scratch` holds afterwards.
///
/// `sums` is scratch as well. The row is at least as long as the picture is wide.
pub fn row<'a>(
    plane: &'a Plane,
    growth: Growth,
    y: usize,
    sums: &mut Vec<u16>,
    scratch: &'a mut Vec<u8>,
) -> &'a [u8] {
    let line = |y: usize| &plane.samples[y * plane.stride..][..plane.width];
    // The row whose middle is next nearest; beyond the edge lies the edge.
    let beside = |y: usize| match y % 2 {
        0 => (y / 2).saturating_sub(1),
        _ => (y / 2 + 1).min(plane.height - 1),
    };
    match growth {
        Growth::None => return line(y),
        Growth::Across => {
            scratch.resize(plane.width * 2, 0);
            across(line(y), scratch);
        }
        Growth::Down => {
            scratch.resize(plane.width, 0);
            down(line(y / 2), line(beside(y)), 1 + (y % 2) as u16, scratch);
        }
        Growth::Both => {
            scratch.resize(plane.width * 2, 0);
            sums.resize(plane.width, 0);
            both(line(y / 2), line(beside(y)), sums, scratch);
        }
        Growth::Repeat(times, down) => {
            scratch.clear();
            let samples = line(y / down).iter();
            scratch.extend(samples.flat_map(|sample| std::iter::repeat_n(*sample, times)));
        }
    }
    scratch
}

wide! {
    /// Three quarters of the nearer sample and one of the other; halves are rounded down and up in turns.
    fn across(from: &[u8], to: &mut [u8]) {
        let last = from.len() - 1;
        let part = |near: u8, far: u8, half: u16| ((u16::from(near) * 3 + u16::from(far) + half) >> 2) as u8;
        let (pairs, _) = to.as_chunks_mut::<2>();
        pairs[0] = [from[0], part(from[0], from[1], 2)];
        pairs[last] = [part(from[last], from[last - 1], 1), from[last]];
        let around = from.iter().zip(&from[1..]).zip(&from[2..]);
        for (pair, ((before, this), after)) in pairs[1..last].iter_mut().zip(around) {
            *pair = [part(*this, *before, 1), part(*this, *after, 2)];
        }
    }
}

wide! {
    fn down(near: &[u8], far: &[u8], half: u16, to: &mut [u8]) {
        for ((to, near), far) in to.iter_mut().zip(near).zip(far) {
            *to = ((u16::from(*near) * 3 + u16::from(*far) + half) >> 2) as u8;
        }
    }
}

wide! {
    fn both(near: &[u8], far: &[u8], sums: &mut [u16], to: &mut [u8]) {
        for ((sum, near), far) in sums.iter_mut().zip(near).zip(far) {
            *sum = u16::from(*near) * 3 + u16::from(*far);
        }
        let last = sums.len() - 1;
        let part = |near: u16, far: u16, half: u16| ((near * 3 + far + half) >> 4) as u8;
        let (pairs, _) = to.as_chunks_mut::<2>();
        pairs[0] = [part(sums[0], sums[0], 8), part(sums[0], sums[1], 7)];
        pairs[last] = [part(sums[last], sums[last - 1], 8), part(sums[last], sums[last], 7)];
        let around = sums.iter().zip(&sums[1..]).zip(&sums[2..]);
        for (pair, ((before, this), after)) in pairs[1..last].iter_mut().zip(around) {
            *pair = [part(*this, *before, 8), part(*this, *after, 7)];
        }
    }
}
