//! `preprocessor_config.json`: what Hugging Face's image processors do, read from their settings.
//!
//! The file names a class and gives what differs from its defaults. Old files give sizes as numbers, new ones as mappings;
//! old ones call the class a feature extractor. A class that is not known here ends the job: guessing at its defaults
//! would give other numbers than the model was trained on.
//!
//! Source: the processors of `transformers` 4.57, `image_processing_*.py`.

use serde_json::{Map, Value};

use super::preprocess::{Preprocess, Size};
use super::resize::Filter;
use crate::config::JpegScale;
use crate::error::{Error, Result};

const STANDARD: [f64; 3] = [0.5; 3];
const CLIP_MEAN: [f64; 3] = [0.48145466, 0.4578275, 0.40821073];
const CLIP_STD: [f64; 3] = [0.26862954, 0.26130258, 0.27577711];

/// The defaults of a class.
struct Class {
    /// Its name without `ImageProcessor`, `ImageProcessorFast` or `FeatureExtractor`.
    name: &'static str,
    size: Size,
    filter: Filter,
    /// Side of the square that is cut out by default, if any is.
    crop: Option<u32>,
    /// Whether a single number as size is that of the shorter side.
    shortest: bool,
    normalize: Option<([f64; 3], [f64; 3])>,
    bgr: bool,
}

const fn square(side: u32) -> Size {
    Size::Exact {
        height: side,
        width: side,
    }
}

const HALVES: Option<([f64; 3], [f64; 3])> = Some((STANDARD, STANDARD));
const CLIP: Option<([f64; 3], [f64; 3])> = Some((CLIP_MEAN, CLIP_STD));

const fn class(name: &'static str, size: Size, filter: Filter, crop: Option<u32>) -> Class {
    Class {
        name,
        shortest: matches!(size, Size::ShortestEdge(_)),
        size,
        filter,
        crop,
        normalize: HALVES,
        bgr: false,
    }
}

const CLASSES: &[Class] = &[
    class("ViT", square(224), Filter::Bilinear, None),
    class("DeiT", square(256), Filter::Bicubic, Some(224)),
    class("Beit", square(256), Filter::Bicubic, Some(224)),
    Class {
        normalize: CLIP,
        ..class("CLIP", Size::ShortestEdge(224), Filter::Bicubic, Some(224))
    },
    Class {
        normalize: CLIP,
        ..class("Bit", Size::ShortestEdge(224), Filter::Bicubic, Some(224))
    },
    class("ConvNext", Size::ShortestEdge(384), Filter::Bilinear, None),
    class("Siglip", square(224), Filter::Bicubic, None),
    class("EfficientNet", square(346), Filter::Nearest, None),
    class(
        "MobileNetV1",
        Size::ShortestEdge(256),
        Filter::Bilinear,
        Some(224),
    ),
    class(
        "MobileNetV2",
        Size::ShortestEdge(256),
        Filter::Bilinear,
        Some(224),
    ),
    Class {
        normalize: None,
        bgr: true,
        ..class("MobileViT", Size::ShortestEdge(224), Filter::Bilinear, Some(256))
    },
];

/// What the image processor of `settings` does.
///
/// # Errors
/// `Model`, for a class that is not known, naming those that are, and for settings that make no sense.
pub fn read(settings: &Map<String, Value>) -> Result<Preprocess> {
    let class = class_of(settings)?;
    let settings = Settings(settings);
    let flag = |key: &str, default: bool| settings.flag(key).unwrap_or(default);
    let mut size = match settings.size("size", class.shortest)? {
        Some(size) => size,
        None => class.size,
    };
    let filter = settings.filter()?.unwrap_or(class.filter);
    let mut crop = flag("do_center_crop", class.crop.is_some())
        .then(|| settings.square("crop_size", class.crop.unwrap_or(289)))
        .transpose()?;
    if class.name == "ConvNext" {
        (size, crop) = convnext(size, settings.number("crop_pct").unwrap_or(224.0 / 256.0))?;
    }
    let rescale = flag("do_rescale", true);
    let normalize = flag("do_normalize", class.normalize.is_some())
        .then(|| {
            let (mean, std) = class.normalize.unwrap_or((STANDARD, STANDARD));
            Ok::<_, Error>((
                settings.three("image_mean")?.unwrap_or(mean),
                settings.three("image_std")?.unwrap_or(std),
            ))
        })
        .transpose()?;
    let is_efficient = class.name == "EfficientNet";
    Ok(Preprocess {
        jpeg_scale: JpegScale::default(),
        resize: flag("do_resize", true).then_some((size, filter)),
        crop,
        scale: match rescale {
            true => settings.number("rescale_factor").unwrap_or(1.0 / 255.0),
            false => 1.0,
        },
        offset: if is_efficient && rescale && flag("rescale_offset", false) {
            -1.0
        } else {
            0.0
        },
        divide_again: normalize
            .filter(|_| is_efficient && flag("include_top", true))
            .map(|(_, std)| std),
        normalize,
        bgr: class.bgr && flag("do_flip_channel_order", true),
        channels_last: false,
    })
}

/// Sides below 384 are resized to more and cut; others are resized to a square, whatever their proportions.
fn convnext(size: Size, crop_pct: f64) -> Result<(Size, Option<(u32, u32)>)> {
    let side = match size {
        Size::ShortestEdge(side) => side,
        Size::Exact { height, width } if height == width => height,
        _ => return Err(wrong("size", "one number")),
    };
    if side >= 384 {
        return Ok((square(side), None));
    }
    let larger = f64::from(side) / crop_pct;
    if !(1.0..=65_535.0).contains(&larger) {
        return Err(wrong("crop_pct", "a number above 0 and at most 1"));
    }
    Ok((Size::ShortestEdge(larger as u32), Some((side, side))))
}

fn class_of(settings: &Map<String, Value>) -> Result<&'static Class> {
    let keys = ["image_processor_type", "feature_extractor_type"];
    let named = keys.iter().find_map(|key| settings.get(*key)?.as_str());
    let bare = |name: &str| {
        let name = name.strip_suffix("Fast").unwrap_or(name);
        let name = name.strip_suffix("ImageProcessor").unwrap_or(name);
        name.strip_suffix("FeatureExtractor").unwrap_or(name).to_string()
    };
    let found = named
        .map(bare)
        .and_then(|name| CLASSES.iter().find(|class| class.name == name));
    found.ok_or_else(|| {
        let known: Vec<_> = CLASSES
            .iter()
            .map(|class| format!("{}ImageProcessor", class.name))
            .collect();
        Error::model(format!(
            "preprocessor_config.json: image_processor_type: {} is not known",
            named.unwrap_or("nothing")
        ))
        .with_hint(format!(
            "known are {}; or export the model to ONNX and describe its images in a model card",
            known.join(", ")
        ))
    })
}

fn wrong(key: &str, wanted: &str) -> Error {
    Error::model(format!("preprocessor_config.json: {key} must be {wanted}"))
}

struct Settings<'a>(&'a Map<String, Value>);

impl Settings<'_> {
    /// `null` is as good as nothing.
    fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    fn flag(&self, key: &str) -> Option<bool> {
        self.get(key)?.as_bool()
    }

    fn number(&self, key: &str) -> Option<f64> {
        self.get(key)?.as_f64().filter(|number| number.is_finite())
    }

    fn filter(&self) -> Result<Option<Filter>> {
        let Some(value) = self.get("resample") else {
            return Ok(None);
        };
        let filter = value.as_u64().and_then(Filter::of_code);
        filter
            .map(Some)
            .ok_or_else(|| wrong("resample", "one of Pillow's codes, 0 to 5"))
    }

    fn three(&self, key: &str) -> Result<Option<[f64; 3]>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        if let Some(number) = value.as_f64() {
            return Ok(Some([number; 3]));
        }
        let numbers = value
            .as_array()
            .map(|items| items.iter().filter_map(Value::as_f64));
        let numbers: Vec<f64> = numbers.into_iter().flatten().collect();
        <[f64; 3]>::try_from(numbers)
            .map(Some)
            .map_err(|_| wrong(key, "three numbers"))
    }

    fn square(&self, key: &str, default: u32) -> Result<(u32, u32)> {
        match self.size(key, false)? {
            None => Ok((default, default)),
            Some(Size::Exact { height, width }) => Ok((height, width)),
            // Old files of CLIP say so.
            Some(Size::ShortestEdge(side)) => Ok((side, side)),
            Some(Size::LongestEdge(_)) => Err(wrong(key, "a height and a width")),
        }
    }

    fn size(&self, key: &str, shortest: bool) -> Result<Option<Size>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let refused = || {
            wrong(
                key,
                "a number of pixels, a height and a width, or a shortest_edge",
            )
        };
        let side = |value: &Value| {
            let side = value.as_u64().filter(|side| (1..=16_384).contains(side));
            side.map(|side| side as u32).ok_or_else(refused)
        };
        let size = match value {
            Value::Number(_) if shortest => Size::ShortestEdge(side(value)?),
            Value::Number(_) => square(side(value)?),
            Value::Array(items) => match items.as_slice() {
                [height, width] => Size::Exact {
                    height: side(height)?,
                    width: side(width)?,
                },
                _ => return Err(refused()),
            },
            Value::Object(map) => match (
                map.get("height").zip(map.get("width")),
                map.get("shortest_edge").filter(|value| !value.is_null()),
                map.get("longest_edge").filter(|value| !value.is_null()),
            ) {
                (Some((height, width)), _, _) => Size::Exact {
                    height: side(height)?,
                    width: side(width)?,
                },
                (None, Some(edge), None) => Size::ShortestEdge(side(edge)?),
                (None, None, Some(edge)) => Size::LongestEdge(side(edge)?),
                _ => return Err(refused()),
            },
            _ => return Err(refused()),
        };
        Ok(Some(size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(settings: Value) -> Result<Preprocess> {
        read(settings.as_object().unwrap())
    }

    #[test]
    fn old_and_new_forms_of_a_processor_say_the_same() {
        let new = json!({"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 30},
            "crop_size": {"height": 24, "width": 24}, "resample": 3, "do_convert_rgb": true});
        let old = json!({"feature_extractor_type": "CLIPFeatureExtractor", "size": 30, "crop_size": 24});
        let new = of(new).unwrap();
        assert_eq!(new, of(old).unwrap());
        assert_eq!(new.resize, Some((Size::ShortestEdge(30), Filter::Bicubic)));
        assert_eq!(new.crop, Some((24, 24)));
        assert_eq!(new.normalize, CLIP);
        // A single number is a square for ViT.
        let vit =
            of(json!({"image_processor_type": "ViTImageProcessorFast", "size": 32, "image_mean": null}))
                .unwrap();
        assert_eq!(vit.resize, Some((square(32), Filter::Bilinear)));
        assert_eq!((vit.crop, vit.extents()), (None, Some((32, 32))));
    }

    #[test]
    fn flags_switch_steps_off() {
        let off = of(
            json!({"image_processor_type": "DeiTImageProcessor", "do_resize": false,
            "do_center_crop": false, "do_rescale": false, "do_normalize": false}),
        )
        .unwrap();
        assert_eq!(
            (off.resize, off.crop, off.normalize, off.scale),
            (None, None, None, 1.0)
        );
    }

    #[test]
    fn convnext_resizes_small_images_to_more_and_cuts_and_others_to_a_square() {
        let small =
            of(json!({"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 224}}))
                .unwrap();
        assert_eq!(small.resize, Some((Size::ShortestEdge(256), Filter::Bilinear)));
        assert_eq!(small.crop, Some((224, 224)));
        let large = of(json!({"image_processor_type": "ConvNextImageProcessor"})).unwrap();
        assert_eq!(
            (large.resize, large.crop),
            (Some((square(384), Filter::Bilinear)), None)
        );
    }

    #[test]
    fn efficientnet_divides_twice() {
        let settings = json!({"image_processor_type": "EfficientNetImageProcessor", "image_std": [0.1, 0.2, 0.3],
            "rescale_offset": true});
        let steps = of(settings).unwrap();
        assert_eq!(steps.divide_again, Some([0.1, 0.2, 0.3]));
        assert_eq!(steps.offset, -1.0);
    }

    #[test]
    fn what_is_not_known_or_makes_no_sense_is_refused_by_name() {
        for (settings, words) in [
            (json!({}), "nothing is not known"),
            (
                json!({"image_processor_type": "SamImageProcessor"}),
                "SamImageProcessor is not known",
            ),
            (
                json!({"image_processor_type": "ViTImageProcessor", "size": 0}),
                "size must be",
            ),
            (
                json!({"image_processor_type": "ViTImageProcessor", "size": {"height": 5}}),
                "size must be",
            ),
            (
                json!({"image_processor_type": "ViTImageProcessor", "size": 1_000_000}),
                "size must be",
            ),
            (
                json!({"image_processor_type": "ViTImageProcessor", "resample": 6}),
                "resample must be",
            ),
            (
                json!({"image_processor_type": "ViTImageProcessor", "image_mean": [1, 2]}),
                "image_mean must be",
            ),
        ] {
            let error = of(settings).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
