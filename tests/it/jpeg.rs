//! JPEG files of every sort beside Pillow: the same pixels, bit for bit, the same when they are resized, and the same when they
//! are decoded at a smaller scale.
//!
//! `tests/peers/jpegs.py` writes the files, and reads them with the libjpeg-turbo that Pillow brings along.

use floe::model::image::decode::{Decoder, Limits, Rgb};
use floe::model::image::resize::{Filter, Resizer};
use std::collections::BTreeSet;
use std::path::Path;

use crate::support::{project, python};

const FILES: usize = 400;

/// What Pillow made of an image, and the number that comes with it.
fn theirs(path: &Path) -> (Rgb, u64) {
    let bytes = std::fs::read(path).unwrap();
    let (header, pixels) = bytes.split_at(12);
    let number = |place: usize| u32::from_le_bytes(header.as_chunks::<4>().0[place]);
    let pixels = pixels.as_chunks::<3>().0.iter();
    let image = Rgb {
        width: number(0),
        height: number(1),
        pixels: pixels
            .map(|[red, green, blue]| [*red, *green, *blue, 0])
            .collect(),
    };
    (image, number(2).into())
}

#[test]
fn pixels_of_a_jpeg_are_those_of_pillow_and_stay_so_at_other_sizes() {
    let folder = tempfile::tempdir().unwrap();
    let done = std::process::Command::new(python())
        .arg(project().join("tests/peers/jpegs.py"))
        .args([folder.path().as_os_str(), FILES.to_string().as_ref()])
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    // One of each for all: what a picture leaves in buffers must not show in the next.
    let (mut decoder, mut resizer) = (Decoder::default(), Resizer::default());
    let (mut different, mut scales) = (Vec::new(), BTreeSet::new());
    for number in 0..FILES {
        let path = folder.path().join(format!("{number:04}.jpg"));
        let ours = decoder.decode(&std::fs::read(&path).unwrap(), &Limits::default());
        let ours = ours.unwrap_or_else(|error| panic!("{number}: {error}"));
        let (image, _) = theirs(&path.with_extension("rgb"));
        if ours != image {
            different.push(format!("{number}: {} x {}", image.width, image.height));
        }
        let (resized, code) = theirs(&path.with_extension("resized"));
        let filter = Filter::of_code(code).unwrap();
        if *resizer.resize(&image, resized.width, resized.height, filter) != resized {
            different.push(format!(
                "{number}: {filter:?} to {} x {}",
                resized.width, resized.height
            ));
        }
        let whole = (ours.width, ours.height);
        decoder.recycle(ours);
        let (image, enough) = theirs(&path.with_extension("reduced"));
        let enough = ((enough >> 16) as u32, enough as u32 & 0xffff);
        let bytes = std::fs::read(&path).unwrap();
        let reduced = decoder.decode_reduced(&bytes, &Limits::default(), &|_, _| enough);
        let reduced = reduced.unwrap_or_else(|error| panic!("{number} for {enough:?}: {error}"));
        let ours = &reduced.image;
        let times = whole.0.div_ceil(ours.width).max(whole.1.div_ceil(ours.height));
        scales.insert(times.next_power_of_two());
        if *ours != image {
            different.push(format!(
                "{number}: {} x {} for {enough:?}",
                image.width, image.height
            ));
        }
        let (thumbnail, code) = theirs(&path.with_extension("thumbnail"));
        let filter = Filter::of_code(code).unwrap();
        if *resizer.resize_part(&reduced, enough.0, enough.1, filter) != thumbnail {
            different.push(format!("{number}: {filter:?} to {enough:?} of {whole:?}"));
        }
        decoder.recycle(reduced.image);
    }
    assert_eq!(scales.into_iter().collect::<Vec<_>>(), [1, 2, 4, 8]);
    assert!(different.is_empty(), "{different:#?}");
}
