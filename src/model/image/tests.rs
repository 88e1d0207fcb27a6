//! Decoding and preparing images beside what Pillow and `transformers` made of the same files, and hostile files.

use proptest::prelude::*;
use serde_json::Value;
use std::path::{Path, PathBuf};

use super::decode::{Decoder, Limits, Rgb, decode};
use super::preprocess::Preprocessor;
use super::processor;
use crate::error::ErrorKind;
#[cfg(feature = "candle")]
use crate::model::pretrained::{self, Pretrained};
#[cfg(feature = "candle")]
use crate::model::{ModelFiles, OpenOptions};
#[cfg(feature = "candle")]
use crate::signature::{Function, Source};
#[cfg(feature = "candle")]
use crate::tensor::{Tensor, TensorBatch, TensorData};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pretrained")
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn image(name: &str) -> Vec<u8> {
    std::fs::read(fixtures().join("images").join(name)).unwrap()
}

/// Every image of the fixtures.
fn images() -> Vec<(String, Vec<u8>)> {
    let folder = std::fs::read_dir(fixtures().join("images")).unwrap();
    let mut names: Vec<String> = folder
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let images = names.into_iter().map(|name| (name.clone(), image(&name)));
    images.collect()
}

/// How far a number may be from Python's, in steps of a byte: the last bits of a float.
const TOLERANCE: f64 = 1e-4;

#[test]
fn prepared_images_are_those_of_the_python_library() {
    let mut worst = Vec::new();
    for model in ["vit", "deit", "dinov2-features", "resnet"] {
        let folder = fixtures().join(model);
        let settings = json(&folder.join("model/preprocessor_config.json"));
        let steps = processor::read(settings.as_object().unwrap()).unwrap();
        let (_, std) = steps.normalize.unwrap();
        let mut preprocessor = Preprocessor::new(&steps, Limits::default());
        for (name, expected) in json(&folder.join("pixels.json")).as_object().unwrap() {
            let shape: Vec<usize> = serde_json::from_value(expected["shape"].clone()).unwrap();
            let mut found = vec![0f32; shape.iter().product()];
            preprocessor.write(&image(name), &mut found).unwrap();
            let samples: Vec<f64> = serde_json::from_value(expected["every_37th"].clone()).unwrap();
            let plane = shape[1] * shape[2];
            let mut most = 0f64;
            for (index, expected) in samples.iter().enumerate() {
                let place = index * 37;
                let step = steps.scale / std[place / plane];
                most = most.max((f64::from(found[place]) - expected).abs() / step);
            }
            let sum: f64 = found.iter().map(|number| f64::from(*number)).sum();
            let step = steps.scale / std[1];
            let bias = (sum - expected["sum"].as_f64().unwrap()).abs() / found.len() as f64 / step;
            println!("{model} {name}: {most:.2} steps of 255 at most, {bias:.3} on average");
            if most > TOLERANCE || bias > TOLERANCE {
                worst.push(format!(
                    "{model} {name}: {most:.2} steps at most, {bias:.3} on average"
                ));
            }
        }
    }
    assert!(worst.is_empty(), "{worst:#?}");
}

#[test]
fn images_are_turned_as_their_exif_data_says() {
    let Rgb { width, height, .. } = decode(&image("turned.jpg"), &Limits::default()).unwrap();
    assert_eq!((width, height), (40, 56));
}

/// The sizes are those of the image as it was held, also where the file has it lying on its side.
#[test]
fn an_image_that_was_turned_is_reduced_as_it_was_held() {
    let reduced = |enough: (u32, u32)| {
        let mut decoder = Decoder::default();
        let image = decoder.decode_reduced(&image("turned.jpg"), &Limits::default(), &|width, height| {
            assert_eq!((width, height), (40, 56));
            enough
        });
        let image = image.unwrap().image;
        (image.width, image.height)
    };
    assert_eq!(reduced((20, 28)), (20, 28));
    assert_eq!(reduced((21, 28)), (40, 56));
    assert_eq!(reduced((10, 14)), (10, 14));
    assert_eq!(reduced((28, 20)), (40, 56));
}

#[test]
fn what_is_no_image_or_too_large_is_refused_before_it_is_decoded() {
    let refused = |bytes: &[u8], limits: &Limits| {
        let error = decode(bytes, limits).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
        error.to_string()
    };
    let usual = Limits::default();
    assert!(refused(b"", &usual).contains("no bytes"));
    assert!(refused(b"<svg/>", &usual).contains("no image of a format that is read"));
    let few = Limits { pixels: 100, ..usual };
    let little = Limits { bytes: 100, ..usual };
    for (name, bytes) in images() {
        if name != "tiny.png" {
            assert!(
                refused(&bytes, &few).contains("pixels, and 100 are the most"),
                "{name}"
            );
            assert!(refused(&bytes, &little).contains("bytes to decode"), "{name}");
        }
    }
    // A header that promises 65,535 x 65,535 pixels in 13 bytes of a real file.
    let mut bomb = image("subsampled.jpg");
    let frame = bomb.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
    bomb[frame + 5..frame + 9].fill(0xff);
    assert!(refused(&bomb, &usual).contains("65535 x 65535 pixels"));
    let mut bomb = image("rgb.png");
    bomb[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]);
    refused(&bomb, &usual);
}

#[test]
fn a_file_that_ends_early_is_an_error_in_every_format() {
    for (name, bytes) in images() {
        let whole = decode(&bytes, &Limits::default()).unwrap();
        for length in (0..bytes.len() * 9 / 10).step_by(bytes.len().div_ceil(40)) {
            match decode(&bytes[..length], &Limits::default()) {
                Err(error) => assert_eq!(error.kind(), ErrorKind::Data, "{name}"),
                // Padding and metadata may stand at the end of a file; pixels may not be missing.
                Ok(image) => assert_eq!(image, whole, "{name} cut to {length} of {}", bytes.len()),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Damaged files are errors or other pixels; never a panic that leaves the decoder, never more than the limits allow.
    #[test]
    fn damaged_files_are_errors_or_images(
        which in 0usize..64, damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut: bool,
    ) {
        let images = images();
        let (_, mut bytes) = images[which % images.len()].clone();
        for (place, byte) in &damage {
            let place = place.index(bytes.len());
            bytes[place] = *byte;
        }
        if cut {
            let length = damage[0].0.index(bytes.len());
            bytes.truncate(length);
        }
        let limits = Limits { pixels: 1 << 20, bytes: 16 << 20 };
        match decode(&bytes, &limits) {
            Err(error) => prop_assert_eq!(error.kind(), ErrorKind::Data),
            Ok(image) => {
                prop_assert_eq!(image.pixels.len(), image.width as usize * image.height as usize);
                prop_assert!(image.pixels.len() <= 1 << 20);
            }
        }
    }

    #[test]
    fn bytes_that_only_begin_like_an_image_are_errors_or_images(
        which in 0usize..64, bytes in prop::collection::vec(any::<u8>(), 0..400), kept in 2usize..40,
    ) {
        let images = images();
        let (_, whole) = &images[which % images.len()];
        let mut start = whole[..kept.min(whole.len())].to_vec();
        start.extend(bytes);
        let limits = Limits { pixels: 1 << 20, bytes: 16 << 20 };
        if let Err(error) = decode(&start, &limits) {
            prop_assert_eq!(error.kind(), ErrorKind::Data);
        }
    }
}

/// The folder of a fixture and what is found in it.
#[cfg(feature = "candle")]
fn pretrained(name: &str) -> (ModelFiles, Pretrained) {
    let folder = fixtures().join(name).join("model");
    let mut files = ModelFiles {
        location: name.into(),
        ..ModelFiles::default()
    };
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        files.files.insert(name, std::fs::read(&path).unwrap().into());
    }
    let pretrained = pretrained::find(&files, None)
        .unwrap()
        .expect("a pretrained model");
    (files, pretrained)
}

/// The inputs of a function for these images, with its parameters as given or else by default.
#[cfg(feature = "candle")]
fn batch(function: &Function, names: &[String], params: &Value) -> TensorBatch {
    let images: Vec<bytes::Bytes> = names.iter().map(|name| image(name).into()).collect();
    let mut inputs = vec![Tensor::new(vec![images.len()], images).unwrap()];
    for input in &function.inputs[1..] {
        let Source::Optional(otherwise) = &input.source else {
            panic!("{input:?}")
        };
        let value = params.get(&input.name).unwrap_or(otherwise);
        inputs.push(match value {
            Value::String(text) => Tensor::new(vec![], vec![text.clone()]).unwrap(),
            number => Tensor::new(vec![], vec![number.as_i64().unwrap()]).unwrap(),
        });
    }
    TensorBatch {
        rows: names.len(),
        inputs,
    }
}

/// The scores of each row, best first.
#[cfg(feature = "candle")]
fn scores(labels: &crate::tensor::Value) -> Vec<Vec<f64>> {
    let crate::tensor::Value::Lists(lists) = labels else {
        panic!("{labels:?}")
    };
    let crate::tensor::Items::Records(columns) = &lists.items else {
        panic!()
    };
    let TensorData::F64(scores) = &columns[1] else {
        panic!()
    };
    let rows = lists.offsets.windows(2);
    rows.map(|bounds| scores[bounds[0]..bounds[1]].to_vec()).collect()
}

/// One damaged image among others: their answers are as without it.
#[cfg(feature = "candle")]
#[test]
fn a_row_that_is_no_image_fails_alone() {
    let (files, pretrained) = pretrained("vit");
    let model = super::open(&files, &pretrained, &OpenOptions::default()).unwrap();
    let function = &model.functions()[0];
    let names = ["rgb.png", "grey.png", "palette.gif"].map(String::from);
    let whole = batch(function, &names, &Value::Null);
    let mut damaged = whole.clone();
    let TensorData::Bytes(images) = &mut damaged.inputs[0].data else {
        panic!()
    };
    images[1] = images[1].slice(..40);
    let mut worker = model.worker(function, 1).unwrap();
    assert!(worker.infer(&damaged).is_err());
    let outcome = worker.infer_rows(&damaged).unwrap();
    assert_eq!(
        outcome.failed.iter().map(|failed| failed.row).collect::<Vec<_>>(),
        [1]
    );
    assert_eq!(outcome.values[0].rows(), 2);
    let among_others = scores(&worker.infer(&whole).unwrap()[0]);
    let without = scores(&outcome.values[0]);
    for (mine, row) in without.iter().zip([0, 2]) {
        assert!(std::iter::zip(mine, &among_others[row]).all(|(a, b)| (a - b).abs() < 1e-5));
    }
}
