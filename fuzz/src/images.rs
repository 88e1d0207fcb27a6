//! An image: pixels within the limits or an error of the data, never a panic that leaves the decoder; and what was decoded
//! before never shows.

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
