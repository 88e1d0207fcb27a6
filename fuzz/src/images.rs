//! An image: pixels within the limits or an error of the data, never a panic that leaves the decoder; and what was decoded
//! before never shows. Then the same for a smaller size, which the last bytes say.

use std::cell::RefCell;

use floe::error::ErrorKind;
use floe::model::image::decode::{Decoder, Limits, decode};

const LIMITS: Limits = Limits {
    pixels: 1 << 20,
    bytes: 16 << 20,
};

thread_local! {
    static USED: RefCell<Decoder> = RefCell::default();
}

pub fn run(bytes: &[u8]) {
    let fresh = decode(bytes, &LIMITS);
    let again = USED.with_borrow_mut(|decoder| decoder.decode(bytes, &LIMITS));
    match (fresh, again) {
        (Ok(image), Ok(again)) => {
            let pixels = u64::from(image.width) * u64::from(image.height);
            assert!((1..=LIMITS.pixels).contains(&pixels));
            assert_eq!(image.pixels.len() as u64, pixels);
            assert_eq!(image, again);
            USED.with_borrow_mut(|decoder| decoder.recycle(again));
        }
        (Err(error), Err(again)) => {
            assert_eq!(error.kind(), ErrorKind::Data, "{error}");
            assert_eq!(error.to_string(), again.to_string());
        }
        (one, other) => panic!("{one:?}, and the second time {other:?}"),
    }
    reduced(bytes);
}

/// A smaller image is one wherever the whole is, and no smaller than what is enough.
fn reduced(bytes: &[u8]) {
    let sides = bytes.iter().rev().take(2).map(|byte| u32::from(*byte) + 1);
    let [across, down] = sides.collect::<Vec<_>>().try_into().unwrap_or([1, 1]);
    let enough = |width: u32, height: u32| (width.div_ceil(across), height.div_ceil(down));
    let decoded = USED.with_borrow_mut(|decoder| decoder.decode_reduced(bytes, &LIMITS, &enough));
    match decoded {
        Ok(reduced) => {
            let (image, whole) = (&reduced.image, reduced.whole);
            assert_eq!(image.pixels.len(), image.width as usize * image.height as usize);
            assert!(image.width <= whole.0 && image.height <= whole.1);
            // That an image lies on its side may be said too late.
            let least = [enough(whole.0, whole.1), enough(whole.1, whole.0)];
            let [upright, lying] = [least[0], (least[1].1, least[1].0)];
            let is_enough = |least: (u32, u32)| least.0 <= image.width && least.1 <= image.height;
            assert!(is_enough(upright) || is_enough(lying));
            assert!(reduced.across.0 >= 0.0 && reduced.across.1 <= f64::from(image.width));
            assert!(reduced.down.0 >= 0.0 && reduced.down.1 <= f64::from(image.height));
            USED.with_borrow_mut(|decoder| decoder.recycle(reduced.image));
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::Data, "{error}"),
    }
}

/// The small images of the project's tests, of every format.
pub fn seeds() -> Vec<Vec<u8>> {
    let images = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/pretrained/images");
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/pretrained/images");
    let mut found = Vec::new();
    for folder in [images, beside] {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        found.extend(entries.filter_map(|entry| std::fs::read(entry.path()).ok()));
    }
    found.sort();
    found.dedup();
    found
}
