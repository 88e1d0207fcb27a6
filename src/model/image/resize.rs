//! Resizing as Pillow does it: the same filters, widened where an image shrinks, in two passes of eight-bit arithmetic.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions};

use super::decode::Rgb;
use crate::error::{Error, Result};

/// How pixels between pixels are found, under Pillow's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// The nearest pixel.
    Nearest,
    /// Six pixels wide.
    Lanczos,
    /// Straight lines.
    Bilinear,
    /// Cubic curves (a = -0.5).
    Bicubic,
    /// Averages.
    Box,
    /// As sharp as bicubic, as cheap as bilinear.
    Hamming,
}

impl Filter {
    /// The filter of Pillow's `Resampling` code.
    pub fn of_code(code: u64) -> Option<Filter> {
        [
            Filter::Nearest,
            Filter::Lanczos,
            Filter::Bilinear,
            Filter::Bicubic,
            Filter::Box,
            Filter::Hamming,
        ]
        .get(usize::try_from(code).ok()?)
        .copied()
    }

    fn algorithm(self) -> ResizeAlg {
        ResizeAlg::Convolution(match self {
            Filter::Nearest => return ResizeAlg::Nearest,
            Filter::Lanczos => FilterType::Lanczos3,
            Filter::Bilinear => FilterType::Bilinear,
            Filter::Bicubic => FilterType::CatmullRom,
            Filter::Box => FilterType::Box,
            Filter::Hamming => FilterType::Hamming,
        })
    }
}

/// Resizes image after image, with buffers that are used again.
pub struct Resizer(fast_image_resize::Resizer);

impl Default for Resizer {
    fn default() -> Self {
        Resizer(fast_image_resize::Resizer::new())
    }
}

impl Resizer {
    /// `image` with other extents; as it is when they are its own.
    ///
    /// # Errors
    /// `Internal`, for extents that make no image.
    pub fn resize(&mut self, image: Rgb, width: u32, height: u32, filter: Filter) -> Result<Rgb> {
        if (image.width, image.height) == (width, height) {
            return Ok(image);
        }
        let failed = |cause: String| Error::internal(format!("can't resize an image: {cause}"));
        let from = ImageRef::new(image.width, image.height, &image.pixels, PixelType::U8x3)
            .map_err(|error| failed(error.to_string()))?;
        let mut to = Image::new(width, height, PixelType::U8x3);
        let options = ResizeOptions::new().resize_alg(filter.algorithm());
        self.0
            .resize(&from, &mut to, &options)
            .map_err(|error| failed(error.to_string()))?;
        Ok(Rgb {
            width,
            height,
            pixels: to.into_vec(),
        })
    }
}
