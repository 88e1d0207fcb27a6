//! From a file's bytes to pixels: three bytes each, as Pillow's `Image.open(file).convert("RGB")` gives them.
//!
//! Models were trained on what Pillow made of images, so its choices are repeated: transparency is dropped, not blended;
//! of deep colours the upper byte is taken, while deep greys are cut off at 255; animations give their first frame. As
//! Hugging Face's pipelines do, pixels are turned as the EXIF data says. Formats are told by their first bytes.
//!
//! Images are untrusted: sizes are read from the header and held against [`Limits`] before anything is allocated, a file
//! that ends early is an error, and so is a panic of a decoder.

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, RgbaImage};
use std::io::Cursor;
use std::panic::AssertUnwindSafe;

use super::jpeg::{self, Fault, Wanted};
use crate::error::{Error, Result};

/// Red, green, blue, and a zero that makes it a word of four bytes.
pub type Pixel = [u8; 4];

/// Pixels of an image, row by row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rgb {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// `width * height` of them.
    pub pixels: Vec<Pixel>,
}

/// An image that may have been decoded at less than its size.
#[derive(Clone, Debug)]
pub struct Reduced {
    /// The pixels that there are.
    pub image: Rgb,
    /// Width and height that it has in full.
    pub whole: (u32, u32),
    /// What the whole is of `image`, across and down: a pixel at its edge may lie beyond it in part.
    pub across: (f64, f64),
    /// See `across`.
    pub down: (f64, f64),
}

/// A width and a height that are enough for an image of the width and height given.
pub type Enough<'a> = dyn Fn(u32, u32) -> (u32, u32) + 'a;

impl Reduced {
    /// An image in full.
    pub fn whole(image: Rgb) -> Reduced {
        Reduced {
            whole: (image.width, image.height),
            across: (0.0, image.width.into()),
            down: (0.0, image.height.into()),
            image,
        }
    }
}

/// How large an image may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most pixels: where Pillow begins to warn of decompression bombs, by default.
    pub pixels: u64,
    /// Most bytes that a decoder may allocate.
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            pixels: 89_478_485,
            bytes: 512 << 20,
        }
    }
}

/// The formats that are read, for messages.
pub const FORMATS: &str = "JPEG, PNG, WebP, GIF, BMP, TIFF";

/// Where a worker decodes: buffers are used again.
#[derive(Default)]
pub struct Decoder {
    jpeg: jpeg::Decoder,
    /// Room for the pixels of the next JPEG image.
    spare: Vec<Pixel>,
}

impl Decoder {
    /// The pixels of the image in `bytes`.
    ///
    /// # Errors
    /// `Data`, saying what is wrong: no image, a format that is not read, beyond the limits, damaged.
    pub fn decode(&mut self, bytes: &[u8], limits: &Limits) -> Result<Rgb> {
        self.decode_as(bytes, limits, None).map(|reduced| reduced.image)
    }

    /// The same of an image that is to become smaller: `enough` says, for its width and height, what width and height are
    /// enough. A JPEG image is decoded at the smallest of its whole, a half, a quarter and an eighth that is, as Pillow's
    /// `draft` has it.
    ///
    /// # Errors
    /// As [`Decoder::decode`].
    pub fn decode_reduced(&mut self, bytes: &[u8], limits: &Limits, enough: &Enough) -> Result<Reduced> {
        self.decode_as(bytes, limits, Some(enough))
    }

    fn decode_as(&mut self, bytes: &[u8], limits: &Limits, enough: Option<&Enough>) -> Result<Reduced> {
        let format = format_of(bytes)?;
        // Decoders own nothing outside the closure but buffers, whose contents mean nothing to the next image.
        let decoded = std::panic::catch_unwind(AssertUnwindSafe(|| match format {
            ImageFormat::Jpeg => self.decode_jpeg(bytes, limits, enough),
            format => to_rgb(open(bytes, format, limits)?, format).map(Reduced::whole),
        }));
        decoded.unwrap_or_else(|_| {
            Err(Error::data(format!(
                "the decoder gave up on a damaged {} image",
                name(format)
            )))
        })
    }

    /// Takes an image back that is needed no more.
    pub fn recycle(&mut self, image: Rgb) {
        self.spare = image.pixels;
    }

    fn decode_jpeg(&mut self, bytes: &[u8], limits: &Limits, enough: Option<&Enough>) -> Result<Reduced> {
        let mut pixels = std::mem::take(&mut self.spare);
        let lying = enough.map(|enough| {
            move |width, height, exif: Option<&[u8]>| match turn_of(exif).1 {
                true => swapped(enough(height, width)),
                false => enough(width, height),
            }
        });
        let wanted = Wanted {
            most_pixels: limits.pixels,
            most_bytes: limits.bytes,
            enough: lying.as_ref().map(|lying| lying as &jpeg::Enough),
        };
        let decoded = self.jpeg.decode(bytes, &wanted, &mut pixels);
        let header = decoded.map_err(|fault| of_jpeg(fault, limits))?;
        let (orientation, lies) = turn_of(header.exif.as_deref());
        let reduced = Reduced {
            image: Rgb {
                width: header.width,
                height: header.height,
                pixels,
            },
            whole: header.whole,
            across: (0.0, f64::from(header.whole.0) / f64::from(header.times)),
            down: (0.0, f64::from(header.whole.1) / f64::from(header.times)),
        };
        if orientation == Orientation::NoTransforms {
            return Ok(reduced);
        }
        // From the other end.
        let back = |(from, to): (f64, f64), side: u32| (f64::from(side) - to, f64::from(side) - from);
        let (across, down) = (reduced.across, reduced.down);
        let (left, up) = (back(across, header.width), back(down, header.height));
        let (across, down) = match orientation {
            Orientation::NoTransforms => (across, down),
            Orientation::FlipHorizontal => (left, down),
            Orientation::FlipVertical => (across, up),
            Orientation::Rotate180 => (left, up),
            Orientation::Rotate90 => (up, across),
            Orientation::Rotate270 => (down, left),
            Orientation::Rotate90FlipH => (down, across),
            Orientation::Rotate270FlipH => (up, left),
        };
        Ok(Reduced {
            image: turned(reduced.image, orientation)?,
            whole: if lies { swapped(header.whole) } else { header.whole },
            across,
            down,
        })
    }
}

/// How an image is to be turned, and whether it lies on its side.
fn turn_of(exif: Option<&[u8]>) -> (Orientation, bool) {
    let orientation = exif.and_then(Orientation::from_exif_chunk);
    let orientation = orientation.unwrap_or(Orientation::NoTransforms);
    let lies = matches!(
        orientation,
        Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH
    );
    (orientation, lies)
}

fn swapped((width, height): (u32, u32)) -> (u32, u32) {
    (height, width)
}

/// The pixels of one image; see [`Decoder::decode`].
///
/// # Errors
/// Those of [`Decoder::decode`].
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Rgb> {
    Decoder::default().decode(bytes, limits)
}

fn of_jpeg(fault: Fault, limits: &Limits) -> Error {
    let again = "write the file again";
    match fault {
        Fault::CutOff => {
            Error::data("the JPEG image ends early").with_hint("the file was cut off: write it again")
        }
        Fault::Damaged(how) => Error::data(format!("the JPEG image is damaged: {how}")).with_hint(again),
        Fault::Unusual(how) => Error::data(format!("a JPEG image of an unusual kind: {how}"))
            .with_hint("save it as a baseline or progressive JPEG of 8 bits a sample"),
        Fault::Pixels(width, height) => too_many_pixels(ImageFormat::Jpeg, width, height, limits),
        Fault::Bytes(bytes) => too_many_bytes(ImageFormat::Jpeg, bytes, limits),
    }
}

/// The image as it was held.
fn turned(image: Rgb, orientation: Orientation) -> Result<Rgb> {
    let Rgb {
        width,
        height,
        pixels,
    } = image;
    let image = RgbaImage::from_raw(width, height, pixels.into_flattened())
        .ok_or_else(|| Error::internal("an image of other extents than its pixels"))?;
    let mut image = DynamicImage::ImageRgba8(image);
    image.apply_orientation(orientation);
    let image = image.into_rgba8();
    Ok(Rgb {
        width: image.width(),
        height: image.height(),
        pixels: image.as_raw().as_chunks::<4>().0.to_vec(),
    })
}

fn format_of(bytes: &[u8]) -> Result<ImageFormat> {
    if bytes.is_empty() {
        return Err(Error::data("no bytes where an image should be"));
    }
    let known = image::guess_format(bytes).ok();
    known.filter(|format| name(*format) != "unknown").ok_or_else(|| {
        Error::data("the bytes are no image of a format that is read")
            .with_hint(format!("the formats are {FORMATS}"))
    })
}

fn name(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::Png => "PNG",
        ImageFormat::WebP => "WebP",
        ImageFormat::Gif => "GIF",
        ImageFormat::Bmp => "BMP",
        ImageFormat::Tiff => "TIFF",
        _ => "unknown",
    }
}

fn open(bytes: &[u8], format: ImageFormat, limits: &Limits) -> Result<DynamicImage> {
    let damaged = |error: ImageError| match error {
        ImageError::Limits(_) => beyond(
            format,
            format!("it takes more than {} bytes to decode", limits.bytes),
        ),
        ImageError::Unsupported(error) => {
            Error::data(format!("a {} image of an unusual kind: {error}", name(format)))
        }
        error => Error::data(format!("can't decode the {} image: {error}", name(format))),
    };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut allowed = image::Limits::no_limits();
    allowed.max_alloc = Some(limits.bytes);
    reader.limits(allowed);
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels > limits.pixels {
        return Err(too_many_pixels(format, width, height, limits));
    }
    if pixels == 0 {
        return Err(Error::data(format!("the {} image has no pixels", name(format))));
    }
    if decoder.total_bytes() > limits.bytes {
        return Err(too_many_bytes(format, decoder.total_bytes(), limits));
    }
    // A damaged EXIF block says nothing, and the pixels are there all the same.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    image.apply_orientation(orientation);
    Ok(image)
}

fn too_many_pixels(format: ImageFormat, width: u32, height: u32, limits: &Limits) -> Error {
    let most = limits.pixels;
    beyond(
        format,
        format!("{width} x {height} pixels, and {most} are the most"),
    )
}

fn too_many_bytes(format: ImageFormat, bytes: u64, limits: &Limits) -> Error {
    let most = limits.bytes;
    beyond(
        format,
        format!("it takes {bytes} bytes to decode, and {most} are the most"),
    )
}

fn beyond(format: ImageFormat, what: String) -> Error {
    Error::data(format!("the {} image is too large: {what}", name(format)))
        .with_hint("make the image smaller before the job reads it")
}

fn to_rgb(image: DynamicImage, format: ImageFormat) -> Result<Rgb> {
    fn upper(value: u16) -> u8 {
        (value >> 8) as u8
    }
    /// A pixel of each `N` samples.
    fn each<const N: usize, T: Copy>(samples: &[T], color: impl Fn(&[T; N]) -> [u8; 3]) -> Vec<Pixel> {
        let pixel = |samples| {
            let [red, green, blue] = color(samples);
            [red, green, blue, 0]
        };
        samples.as_chunks::<N>().0.iter().map(pixel).collect()
    }
    let (width, height) = (image.width(), image.height());
    let pixels = match image {
        DynamicImage::ImageRgb8(image) => each(image.as_raw(), |pixel: &[u8; 3]| *pixel),
        DynamicImage::ImageLuma8(image) => each(image.as_raw(), |&[grey]| [grey; 3]),
        DynamicImage::ImageLumaA8(image) => each(image.as_raw(), |&[grey, _]| [grey; 3]),
        DynamicImage::ImageRgba8(image) => each(image.as_raw(), |&[red, green, blue, _]| [red, green, blue]),
        DynamicImage::ImageLuma16(image) => each(image.as_raw(), |&[grey]| [grey.min(255) as u8; 3]),
        DynamicImage::ImageLumaA16(image) => each(image.as_raw(), |&[grey, _]| [upper(grey); 3]),
        DynamicImage::ImageRgb16(image) => each(image.as_raw(), |pixel: &[u16; 3]| pixel.map(upper)),
        DynamicImage::ImageRgba16(image) => each(image.as_raw(), |&[red, green, blue, _]| {
            [red, green, blue].map(upper)
        }),
        _ => {
            return Err(Error::data(format!(
                "a {} image whose samples are floating-point numbers",
                name(format)
            ))
            .with_hint("save it with 8 bits a sample"));
        }
    };
    Ok(Rgb {
        width,
        height,
        pixels,
    })
}
