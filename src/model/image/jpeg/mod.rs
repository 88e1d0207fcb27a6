//! JPEG files as Pillow decodes them, which is as libjpeg-turbo does by default: the same pixels, bit for bit.
//!
//! No crate gives that. Decoders in Rust (`zune-jpeg`, `jpeg-decoder`) round transform and colours in their own ways, by
//! up to 3 of 255, of which a network can make 1 % of a score. libjpeg-turbo itself needs `nasm`, and mostly CMake, to be
//! built; without them (`mozjpeg-sys`) it takes twice as long as Pillow. So this decodes the kinds of JPEG that Pillow
//! reads: sequential and progressive, Huffman codes, 8 bits, one, three or four components, any sampling.
//!
//! Where a picture is to become smaller anyway, it can be decoded at a half, a quarter or an eighth: what Pillow's `draft`
//! makes of it.
//!
//! Damaged data is an error, where Pillow often goes on with grey; so is a file without its end. Held against Pillow by
//! `tests/it/jpeg.rs`. Sources: ITU T.81; libjpeg-turbo's `jidctint.c`, `jidctred.c`, `jdmaster.c`,
//! `jdsample.c`, `jdcolor.c`, `jdapimin.c`.

mod color;
mod huffman;
mod idct;
mod planes;
mod scans;
mod segments;
mod upsample;

use self::color::Space;
use self::planes::{Grid, Plane};
use self::segments::{Frame, State, marker};
use self::upsample::Growth;

/// Why there are no pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The file ends before the image does.
    CutOff,
    /// It breaks the rules.
    Damaged(&'static str),
    /// It follows rules that are not implemented.
    Unusual(&'static str),
    /// More pixels than allowed.
    Pixels(u32, u32),
    /// More bytes than allowed to decode it.
    Bytes(u64),
}

/// Where a worker decodes: its buffers are used again.
#[derive(Default)]
pub struct Decoder {
    planes: Vec<Plane>,
    rows: [Vec<u8>; 4],
    sums: Vec<u16>,
}

/// An image, without its pixels.
#[derive(Debug)]
pub struct Header {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Width and height in the file, which are so many times as many.
    pub whole: (u32, u32),
    /// See `whole`.
    pub times: u32,
    /// The EXIF data, if there is any.
    pub exif: Option<Vec<u8>>,
}

/// What a picture is wanted for.
pub struct Wanted<'a> {
    /// Most pixels in the file.
    pub most_pixels: u64,
    /// Most bytes that decoding may take.
    pub most_bytes: u64,
    /// Width and height that are enough, for a picture of the width, the height and the EXIF data given, as far as it comes
    /// before the frame; `None` where all are wanted.
    pub enough: Option<&'a Enough<'a>>,
}

/// See [`Wanted::enough`].
pub type Enough<'a> = dyn Fn(u32, u32, Option<&[u8]>) -> (u32, u32) + 'a;

/// Samples a side of a block: as few as give a width and a height that are enough, by Pillow's `draft`.
fn side(has: (u32, u32), enough: (u32, u32)) -> usize {
    let times = (has.0 / enough.0.max(1)).min(has.1 / enough.1.max(1));
    match times {
        8.. => 1,
        4.. => 2,
        2.. => 4,
        _ => 8,
    }
}

impl Decoder {
    /// Decodes `bytes`; the pixels (red, green, blue, 0) take the place of what is in `pixels`.
    ///
    /// # Errors
    /// What is wrong with the file, or that it is beyond what is `wanted`.
    pub fn decode(
        &mut self,
        bytes: &[u8],
        wanted: &Wanted,
        pixels: &mut Vec<[u8; 4]>,
    ) -> Result<Header, Fault> {
        let mut state = State::default();
        let mut grid = Grid::default();
        let mut at = 0;
        loop {
            match segments::next_marker(bytes, &mut at)? {
                marker::END_OF_IMAGE => break,
                marker::START_OF_IMAGE | marker::TEMPORARY | 0xd0..=0xd7 => {}
                marker::START_OF_SCAN => {
                    let scan = state.scan(segments::body(bytes, &mut at)?)?;
                    for part in &scan.parts {
                        self.begin(part.component, &state)?;
                    }
                    at = scans::read(bytes, at, &state, &scan, grid, &mut self.planes)?;
                    for part in &scan.parts {
                        let missing = &mut self.planes[part.component].missing;
                        let known = missing.iter_mut().take(scan.last + 1).skip(scan.first);
                        known.for_each(|bits| *bits = Some(scan.low as u8));
                    }
                }
                code => {
                    let had_frame = state.frame.is_some();
                    state.take(code, segments::body(bytes, &mut at)?)?;
                    if let Some(frame) = state.frame.as_ref().filter(|_| !had_frame) {
                        grid = self.prepare(frame, state.exif.as_deref(), wanted)?;
                    }
                }
            }
        }
        let frame = state.frame.as_ref().ok_or(Fault::Damaged("it has no frame"))?;
        let (width, height) = grid.extents(frame);
        self.write((width, height), &grid, Space::of(&state), pixels)?;
        Ok(Header {
            width,
            height,
            whole: (frame.width, frame.height),
            times: 8 / grid.side as u32,
            exif: state.exif,
        })
    }

    /// Makes room for a picture.
    fn prepare(&mut self, frame: &Frame, exif: Option<&[u8]>, wanted: &Wanted) -> Result<Grid, Fault> {
        let pixels = u64::from(frame.width) * u64::from(frame.height);
        if pixels == 0 {
            return Err(Fault::Damaged("it has no pixels"));
        }
        if pixels > wanted.most_pixels {
            return Err(Fault::Pixels(frame.width, frame.height));
        }
        let has = (frame.width, frame.height);
        let enough = |enough: &Enough| side(has, enough(frame.width, frame.height, exif));
        let grid = Grid::of(frame, wanted.enough.map_or(8, enough));
        let bytes = grid.bytes(frame);
        if bytes > wanted.most_bytes {
            return Err(Fault::Bytes(bytes));
        }
        self.planes.resize_with(frame.components.len(), Plane::default);
        for (plane, component) in self.planes.iter_mut().zip(&frame.components) {
            plane.prepare(frame, &grid, component.factors);
        }
        Ok(grid)
    }

    /// A component keeps the quantisers that are in force when its first scan begins.
    fn begin(&mut self, component: usize, state: &State) -> Result<(), Fault> {
        let frame = state.frame.as_ref().ok_or(Fault::Damaged("it has no frame"))?;
        let table = state.quantisers[frame.components[component].table];
        let quantisers = &mut self.planes[component].quantisers;
        *quantisers = quantisers.or(table);
        match quantisers {
            Some(_) => Ok(()),
            None => Err(Fault::Damaged("a table of quantisers is missing")),
        }
    }

    /// Makes pixels of the components.
    fn write(
        &mut self,
        (width, height): (u32, u32),
        grid: &Grid,
        space: Space,
        pixels: &mut Vec<[u8; 4]>,
    ) -> Result<(), Fault> {
        let mut growths = [Growth::None; 4];
        for (plane, growth) in self.planes.iter_mut().zip(&mut growths) {
            plane.finish()?;
            *growth = Growth::of(plane, grid)?;
        }
        let width = width as usize;
        pixels.resize(width * height as usize, [0; 4]);
        for (y, out) in pixels.chunks_exact_mut(width).enumerate() {
            let mut rows: [&[u8]; 4] = [&[]; 4];
            let each = self.planes.iter().zip(growths).zip(&mut self.rows);
            for (row, ((plane, growth), scratch)) in rows.iter_mut().zip(each) {
                *row = upsample::row(plane, growth, y, &mut self.sums, scratch);
            }
            color::row(space, rows, out);
        }
        Ok(())
    }
}
