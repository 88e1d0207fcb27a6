//! Images, one core: a JPEG of 640 x 480 to pixels, and to the numbers of a network that takes 224 x 224.

use criterion::{Criterion, Throughput};
use image::{ExtendedColorType, ImageEncoder, codecs::jpeg::JpegEncoder};

use floe::config::JpegScale;
use floe::model::image::decode::{Decoder, Limits};
use floe::model::image::preprocess::{Preprocess, Preprocessor, Size};
use floe::model::image::resize::Filter;

const WIDTH: u32 = 640;
const HEIGHT: u32 = 480;
const SIDE: u32 = 224;

/// Waves with some grain, at quality 90: about as many bytes as a photograph.
fn jpeg() -> Vec<u8> {
    let mut grain = 1u32;
    let mut pixels = Vec::with_capacity((WIDTH * HEIGHT * 3) as usize);
    for place in 0..WIDTH * HEIGHT {
        let (x, y) = ((place % WIDTH) as f32, (place / WIDTH) as f32);
        for channel in 1..=3 {
            grain = grain.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let wave = (x / 17.0 / channel as f32).sin() * (y / 23.0 * channel as f32).cos();
            pixels.push((wave * 90.0 + 128.0 + (grain >> 28) as f32) as u8);
        }
    }
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 90)
        .write_image(&pixels, WIDTH, HEIGHT, ExtendedColorType::Rgb8)
        .expect("a JPEG");
    bytes
}

pub fn images(criterion: &mut Criterion) {
    let bytes = jpeg();
    let mut group = criterion.benchmark_group("images");
    group.throughput(Throughput::Elements(1));
    let mut decoder = Decoder::default();
    group.bench_function("jpeg_640_x_480_to_pixels", |bencher| {
        bencher.iter(|| {
            let image = decoder.decode(&bytes, &Limits::default()).expect("pixels");
            decoder.recycle(image);
        });
    });
    let mut steps = Preprocess {
        jpeg_scale: JpegScale::Full,
        resize: Some((
            Size::Exact {
                height: SIDE,
                width: SIDE,
            },
            Filter::Bilinear,
        )),
        crop: None,
        scale: 1.0 / 255.0,
        offset: 0.0,
        normalize: Some(([0.5; 3], [0.5; 3])),
        divide_again: None,
        bgr: false,
        channels_last: false,
    };
    let mut preprocessor = Preprocessor::new(&steps, Limits::default());
    let mut numbers = vec![0f32; (SIDE * SIDE * 3) as usize];
    group.bench_function("jpeg_640_x_480_to_224_x_224_numbers", |bencher| {
        bencher.iter(|| preprocessor.write(&bytes, &mut numbers).expect("numbers"));
    });
    steps.jpeg_scale = JpegScale::Reduced;
    let mut preprocessor = Preprocessor::new(&steps, Limits::default());
    group.bench_function("jpeg_640_x_480_reduced_to_224_x_224_numbers", |bencher| {
        bencher.iter(|| preprocessor.write(&bytes, &mut numbers).expect("numbers"));
    });
    group.finish();
}
