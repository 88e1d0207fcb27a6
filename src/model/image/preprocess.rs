//! From pixels to the numbers a network takes: resize, crop, scale, normalise, lay out.
//!
//! What is done comes from a model's `preprocessor_config.json` ([`processor`](super::processor)) or from its card
//! (`image` of an input). Each step is one of Hugging Face's image processors', in their order and with their rounding.
//! Scaling and normalising map 256 values of each channel, so they are done once, into a table.

use super::decode::{Decoder, Limits, Pixel, Reduced, Rgb};
use super::resize::{Filter, Resizer};
use crate::config::JpegScale;
use crate::error::{Error, Result};

/// What extents an image gets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Size {
    /// These, whatever its own are.
    Exact {
        /// Rows.
        height: u32,
        /// Pixels in a row.
        width: u32,
    },
    /// The shorter side gets this, the longer one what keeps the proportions.
    ShortestEdge(u32),
    /// The longer side gets this, the shorter one what keeps the proportions.
    LongestEdge(u32),
}

/// How an image becomes a tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocess {
    /// At which scale JPEG images are decoded that are resized to less.
    pub jpeg_scale: JpegScale,
    /// Resized to this first.
    pub resize: Option<(Size, Filter)>,
    /// Then the middle is cut out: height and width. What lies beyond the image is black.
    pub crop: Option<(u32, u32)>,
    /// Each byte is multiplied by this.
    pub scale: f64,
    /// Added after scaling.
    pub offset: f64,
    /// Subtracted from and then divided by, channel by channel: red, green, blue as they are in the tensor.
    pub normalize: Option<([f64; 3], [f64; 3])>,
    /// Divided by once more (EfficientNet's `include_top`).
    pub divide_again: Option<[f64; 3]>,
    /// Blue comes first.
    pub bgr: bool,
    /// The channels of a pixel lie side by side: height, width, channels; else channels, height, width.
    pub channels_last: bool,
}

/// A [`Preprocess`] with its tables: one per worker.
pub struct Preprocessor {
    steps: Preprocess,
    tables: [[f32; 256]; 3],
    limits: Limits,
    decoder: Decoder,
    resizer: Resizer,
}

impl Preprocess {
    /// Height and width of every image's tensor, where all have the same.
    pub fn extents(&self) -> Option<(u32, u32)> {
        match (self.crop, self.resize) {
            (Some(extents), _) => Some(extents),
            (None, Some((Size::Exact { height, width }, _))) => Some((height, width)),
            _ => None,
        }
    }

    /// What each of the 256 values of a channel of the tensor becomes.
    fn table(&self, channel: usize) -> [f32; 256] {
        std::array::from_fn(|value| {
            let mut number = (value as f64 * self.scale + self.offset) as f32;
            if let Some((mean, std)) = self.normalize {
                number = (number - mean[channel] as f32) / std[channel] as f32;
            }
            if let Some(std) = self.divide_again {
                number /= std[channel] as f32;
            }
            number
        })
    }
}

impl Preprocessor {
    /// Ready to work.
    pub fn new(steps: &Preprocess, limits: Limits) -> Preprocessor {
        Preprocessor {
            tables: std::array::from_fn(|channel| steps.table(channel)),
            steps: steps.clone(),
            limits,
            decoder: Decoder::default(),
            resizer: Resizer::default(),
        }
    }

    /// The extents of every tensor.
    pub fn steps(&self) -> &Preprocess {
        &self.steps
    }

    /// Writes the numbers of the image in `bytes` into `out`, which has room for all of them.
    ///
    /// # Errors
    /// `Data`, for bytes that are no image, and for one whose resized form would be beyond the limits or of other extents
    /// than `out`.
    pub fn write(&mut self, bytes: &[u8], out: &mut [f32]) -> Result<()> {
        let whole = match (self.steps.jpeg_scale, self.steps.resize) {
            (JpegScale::Reduced, Some((size, _))) => {
                let enough = |width, height| {
                    let (height, width) = size.of(height, width);
                    let side = |side: u64| u32::try_from(side).unwrap_or(u32::MAX);
                    (side(width), side(height))
                };
                self.decoder.decode_reduced(bytes, &self.limits, &enough)?
            }
            _ => Reduced::whole(self.decoder.decode(bytes, &self.limits)?),
        };
        let (height, width) = self.steps.resized(whole.whole, &self.limits)?;
        let image = match self.steps.resize {
            Some((_, filter)) => self.resizer.resize_part(&whole, width, height, filter),
            None => &whole.image,
        };
        self.steps.lay_out(image, &self.tables, out)?;
        self.decoder.recycle(whole.image);
        Ok(())
    }
}

impl Preprocess {
    /// Height and width that an image of a width and a height is resized to.
    fn resized(&self, (width, height): (u32, u32), limits: &Limits) -> Result<(u32, u32)> {
        let Some((size, _)) = self.resize else {
            return Ok((height, width));
        };
        let (to_height, to_width) = size.of(height, width);
        if to_height == 0 || to_width == 0 || to_height.saturating_mul(to_width) > limits.pixels {
            return Err(Error::data(format!(
                "an image of {width} x {height} pixels can't be resized to {to_width} x {to_height}: {} pixels are the most, \
                 and none too few",
                limits.pixels
            )));
        }
        // Both are below the limit, which is of 32 bits.
        Ok((to_height as u32, to_width as u32))
    }

    /// Cuts out the middle of `image` and writes what `tables` make of it into `out`.
    fn lay_out(&self, image: &Rgb, tables: &[[f32; 256]; 3], out: &mut [f32]) -> Result<()> {
        let (height, width) = self.crop.unwrap_or((image.height, image.width));
        let plane = height as usize * width as usize;
        if out.len() != plane * 3 {
            return Err(Error::data(format!(
                "the image becomes {height} x {width} pixels, and the model takes another size"
            ))
            .with_hint("say in the model card to what size images are resized"));
        }
        if (height, width) != (image.height, image.width) {
            let black = tables.map(|table| table[0]);
            self.fill(out, plane, black);
        }
        let window = Window::middle((image.height, image.width), (height, width));
        for row in 0..window.rows {
            let from = (window.from.0 + row) * image.width as usize + window.from.1;
            let pixels = &image.pixels[from..from + window.columns];
            let to = (window.to.0 + row) * width as usize + window.to.1;
            self.write_row(pixels, tables, out, plane, to);
        }
        Ok(())
    }

    fn fill(&self, out: &mut [f32], plane: usize, color: [f32; 3]) {
        if self.channels_last {
            let (pixels, _) = out.as_chunks_mut::<3>();
            pixels.fill(color);
        } else {
            for (values, number) in out.chunks_exact_mut(plane.max(1)).zip(color) {
                values.fill(number);
            }
        }
    }

    /// Which of red, green and blue each channel of the tensor is.
    fn order(&self) -> [usize; 3] {
        if self.bgr { [2, 1, 0] } else { [0, 1, 2] }
    }

    fn write_row(
        &self,
        pixels: &[Pixel],
        tables: &[[f32; 256]; 3],
        out: &mut [f32],
        plane: usize,
        to: usize,
    ) {
        for (channel, color) in self.order().into_iter().enumerate() {
            let table = &tables[channel];
            if self.channels_last {
                let places = out[to * 3 + channel..].iter_mut().step_by(3);
                for (place, pixel) in places.zip(pixels) {
                    *place = table[usize::from(pixel[color])];
                }
            } else {
                let start = channel * plane + to;
                for (place, pixel) in out[start..start + pixels.len()].iter_mut().zip(pixels) {
                    *place = table[usize::from(pixel[color])];
                }
            }
        }
    }
}

impl Size {
    /// Height and width for an image of these; the longer side is cut off, not rounded.
    fn of(self, height: u32, width: u32) -> (u64, u64) {
        let scaled =
            |edge: u32, of: u32, other: u32| u64::from(edge) * u64::from(other) / u64::from(of.max(1));
        match self {
            Size::Exact { height, width } => (height.into(), width.into()),
            Size::ShortestEdge(edge) if width <= height => (scaled(edge, width, height), edge.into()),
            Size::ShortestEdge(edge) => (edge.into(), scaled(edge, height, width)),
            Size::LongestEdge(edge) if width >= height => (scaled(edge, width, height), edge.into()),
            Size::LongestEdge(edge) => (edge.into(), scaled(edge, height, width)),
        }
    }
}

/// Which part of an image goes where.
struct Window {
    from: (usize, usize),
    to: (usize, usize),
    rows: usize,
    columns: usize,
}

impl Window {
    /// The middle of an image of `has` for a tensor of `wants`.
    fn middle(has: (u32, u32), wants: (u32, u32)) -> Window {
        let (top, above, rows) = middle(has.0, wants.0);
        let (left, before, columns) = middle(has.1, wants.1);
        Window {
            from: (top, left),
            to: (above, before),
            rows,
            columns,
        }
    }
}

/// Along one axis: where to begin in the image and in the tensor, and how many.
///
/// Odd remainders are cut at the end; what is missing is added above first, as Hugging Face's `center_crop` does.
fn middle(has: u32, wants: u32) -> (usize, usize, usize) {
    let (has, wants) = (has as usize, wants as usize);
    if has >= wants {
        ((has - wants) / 2, 0, wants)
    } else {
        // Their crop window begins at floor((has - wants) / 2) and is moved by the rounded-up padding: always 0.
        (0, (wants - has).div_ceil(2), has)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};

    fn png(width: u32, height: u32, pixels: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        PngEncoder::new(&mut bytes)
            .write_image(pixels, width, height, ExtendedColorType::Rgb8)
            .unwrap();
        bytes
    }

    fn plain() -> Preprocess {
        Preprocess {
            jpeg_scale: JpegScale::Full,
            resize: None,
            crop: None,
            scale: 1.0,
            offset: 0.0,
            normalize: None,
            divide_again: None,
            bgr: false,
            channels_last: false,
        }
    }

    fn run(steps: Preprocess, bytes: &[u8], len: usize) -> Result<Vec<f32>> {
        let mut out = vec![-9.0; len];
        Preprocessor::new(&steps, Limits::default()).write(bytes, &mut out)?;
        Ok(out)
    }

    #[test]
    fn channels_are_laid_out_as_the_model_wants_them() {
        let image = png(2, 1, &[1, 2, 3, 4, 5, 6]);
        assert_eq!(run(plain(), &image, 6).unwrap(), [1., 4., 2., 5., 3., 6.]);
        let bgr = Preprocess { bgr: true, ..plain() };
        assert_eq!(run(bgr.clone(), &image, 6).unwrap(), [3., 6., 2., 5., 1., 4.]);
        let last = Preprocess {
            channels_last: true,
            ..plain()
        };
        assert_eq!(run(last, &image, 6).unwrap(), [1., 2., 3., 4., 5., 6.]);
        let both = Preprocess {
            channels_last: true,
            ..bgr
        };
        assert_eq!(run(both, &image, 6).unwrap(), [3., 2., 1., 6., 5., 4.]);
    }

    #[test]
    fn numbers_are_scaled_then_normalised_by_channel() {
        let steps = Preprocess {
            scale: 0.5,
            offset: 1.0,
            normalize: Some(([1.0, 2.0, 3.0], [1.0, 2.0, 4.0])),
            divide_again: Some([1.0, 1.0, 2.0]),
            ..plain()
        };
        assert_eq!(run(steps, &png(1, 1, &[4, 8, 12]), 3).unwrap(), [2.0, 1.5, 0.5]);
    }

    #[test]
    fn the_middle_is_cut_out_and_what_is_missing_is_black_after_normalising() {
        let grey = |values: &[u8]| -> Vec<u8> { values.iter().flat_map(|value| [*value; 3]).collect() };
        let crop = |width| Preprocess {
            crop: Some((1, width)),
            offset: 0.5,
            ..plain()
        };
        let wide = png(4, 1, &grey(&[1, 2, 3, 4]));
        assert_eq!(run(crop(3), &wide, 9).unwrap()[..3], [1.5, 2.5, 3.5]);
        assert_eq!(run(crop(2), &wide, 6).unwrap()[..2], [2.5, 3.5]);
        let narrow = png(2, 1, &grey(&[1, 2]));
        assert_eq!(run(crop(5), &narrow, 15).unwrap()[..5], [0.5, 0.5, 1.5, 2.5, 0.5]);
    }

    #[test]
    fn the_longer_side_is_cut_off_not_rounded_and_no_proportions_make_a_bomb() {
        assert_eq!(Size::ShortestEdge(224).of(333, 500), (224, 336));
        assert_eq!(Size::ShortestEdge(224).of(500, 333), (336, 224));
        assert_eq!(Size::LongestEdge(224).of(500, 333), (224, 149));
        let thin = png(1, 40_000, &vec![7; 120_000]);
        let steps = Preprocess {
            resize: Some((Size::ShortestEdge(224), Filter::Bilinear)),
            crop: Some((224, 224)),
            ..plain()
        };
        let error = run(steps, &thin, 3 * 224 * 224).unwrap_err();
        assert!(error.to_string().contains("can't be resized"), "{error}");
    }

    /// Smooth waves survive at every scale; a JPEG that is not to shrink is the same at both.
    #[test]
    fn a_reduced_jpeg_is_nearly_the_same_once_resized_and_the_same_where_nothing_shrinks() {
        let mut jpeg = Vec::new();
        let pixels: Vec<u8> = (0..120u32 * 90 * 3)
            .map(|place| ((place / 3 % 120) as f32 / 19.0 + (place / 360) as f32 / 23.0).sin())
            .map(|wave| (wave * 100.0 + 128.0) as u8)
            .collect();
        image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, 95)
            .write_image(&pixels, 120, 90, ExtendedColorType::Rgb8)
            .unwrap();
        let both = |side: u32| {
            let steps = |jpeg_scale| Preprocess {
                jpeg_scale,
                resize: Some((Size::ShortestEdge(side), Filter::Bilinear)),
                crop: Some((side, side)),
                ..plain()
            };
            let len = (side * side * 3) as usize;
            let [full, reduced] =
                [JpegScale::Full, JpegScale::Reduced].map(|scale| run(steps(scale), &jpeg, len).unwrap());
            let apart = full.iter().zip(&reduced).map(|(a, b)| (a - b).abs());
            apart.fold(0f32, f32::max)
        };
        assert_eq!([both(46), both(100)], [0.0, 0.0]);
        for side in [45, 30, 22, 11] {
            let apart = both(side);
            assert!(apart > 0.0 && apart < 4.0, "{side}: {apart}");
        }
    }

    #[test]
    fn an_image_of_another_size_than_the_model_takes_is_an_error() {
        let error = run(plain(), &png(2, 1, &[0; 6]), 12).unwrap_err();
        assert!(error.to_string().contains("takes another size"), "{error}");
    }
}
