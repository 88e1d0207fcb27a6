//! Colours of a row: libjpeg's `jdcolor.c` with 16 bits behind the point, and what Pillow makes of four inks.

use super::segments::State;
use crate::model::image::wide::wide;

/// What the components of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    Grey,
    Rgb,
    /// Brightness and two differences.
    YCbCr,
    /// Four inks, as Adobe writes them: inverted.
    Cmyk,
    /// Brightness, two differences, black.
    Ycck,
}

impl Space {
    /// As libjpeg guesses it: by what JFIF and Adobe segments say, else by the names of the components.
    pub fn of(state: &State) -> Space {
        let ids = state
            .frame
            .iter()
            .flat_map(|frame| &frame.components)
            .map(|component| component.id);
        let ids: Vec<u8> = ids.collect();
        match (ids.as_slice(), state.jfif, state.adobe) {
            ([_], ..) => Space::Grey,
            ([_, _, _], true, _) => Space::YCbCr,
            ([_, _, _], false, Some(0)) | (b"RGB", false, None) => Space::Rgb,
            ([_, _, _], ..) => Space::YCbCr,
            (_, _, Some(0) | None) => Space::Cmyk,
            _ => Space::Ycck,
        }
    }
}

/// Red, green and blue of a pixel, each between 0 and 255.
#[inline(always)]
fn rgb(y: u8, cb: u8, cr: u8) -> [i32; 3] {
    const HALF: i32 = 1 << 15;
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    [
        y + ((91_881 * cr + HALF) >> 16),
        y + ((-22_554 * cb - 46_802 * cr + HALF) >> 16),
        y + ((116_130 * cb + HALF) >> 16),
    ]
    .map(|color| color.clamp(0, 255))
}

wide! {
    /// Writes the pixels of a row of `space` whose components are `planes`, each as long as the row at least.
    pub fn row(space: Space, planes: [&[u8]; 4], out: &mut [[u8; 4]]) {
        let width = out.len();
        let [a, b, c, d] = planes;
        match space {
            Space::Grey => {
                for (pixel, grey) in out.iter_mut().zip(a) {
                    *pixel = [*grey, *grey, *grey, 0];
                }
            }
            Space::Rgb => {
                let (a, b, c) = (&a[..width], &b[..width], &c[..width]);
                for (place, pixel) in out.iter_mut().enumerate() {
                    *pixel = [a[place], b[place], c[place], 0];
                }
            }
            Space::YCbCr => {
                let (a, b, c) = (&a[..width], &b[..width], &c[..width]);
                for (place, pixel) in out.iter_mut().enumerate() {
                    let [red, green, blue] = rgb(a[place], b[place], c[place]);
                    *pixel = ((red | green << 8 | blue << 16) as u32).to_le_bytes();
                }
            }
            Space::Cmyk | Space::Ycck => {
                let (a, b, c, d) = (&a[..width], &b[..width], &c[..width], &d[..width]);
                for (place, pixel) in out.iter_mut().enumerate() {
                    let mut inks = [a[place], b[place], c[place]];
                    if space == Space::Ycck {
                        inks = rgb(inks[0], inks[1], inks[2]).map(|color| 255 - color as u8);
                    }
                    let [red, green, blue] = inks.map(|ink| with_black(255 - ink, d[place]));
                    *pixel = [red, green, blue, 0];
                }
            }
        }
    }
}

/// A colour of an ink on paper that lets so much light through: Pillow's `cmyk2rgb`.
#[inline(always)]
fn with_black(ink: u8, light: u8) -> u8 {
    let product = u32::from(ink) * u32::from(light) + 128;
    let lost = ((product >> 8) + product) >> 8;
    (u32::from(light).saturating_sub(lost)) as u8
}
