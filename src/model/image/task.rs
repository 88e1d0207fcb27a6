//! What a network of images is used for: which columns its outputs become.

use serde_json::Value as Json;

use super::classification::Classification;
use super::features::Features;
use crate::error::{Error, Result};
use crate::model::network::Named;
use crate::model::pretrained::{Pretrained, Task as Wanted};
use crate::signature::{Function, InputFeature, OutputFeature, OutputKind, Source};
use crate::tensor::{DType, Tensor, Value};

/// One function of a model of images.
pub trait Task: Send + Sync {
    /// As a user calls it; the columns it takes and gives. `seen` is what the network gave for a black image.
    fn function(&self, seen: &[Named]) -> Result<Function>;

    /// The columns of some rows. `params` are the inputs of the function after the image.
    fn values(&self, outputs: Vec<Named>, params: &[Tensor]) -> Result<Vec<Value>>;
}

/// The functions of a pretrained model; the first is the one that is meant when none is named.
pub fn tasks(pretrained: &Pretrained) -> Result<Vec<Box<dyn Task>>> {
    Ok(match pretrained.task {
        Wanted::ImageClassification => vec![Box::new(Classification::of(&pretrained.config))],
        Wanted::ImageFeatureExtraction => {
            vec![Box::new(Features::of_patches()), Box::new(Features::pooled())]
        }
        Wanted::TextImageEmbedding => vec![Box::new(Features::of_clip())],
        other => {
            return Err(Error::internal(format!("{other:?} is no task of images")));
        }
    })
}

/// The input that images come by.
pub fn image_input(name: &str) -> InputFeature {
    InputFeature {
        name: name.into(),
        dtype: DType::Bytes,
        shape: vec![],
        source: Source::Column(name.into()),
        on_null: None,
        affine: (1.0, 0.0),
    }
}

/// A parameter that a job may give.
pub fn param(name: &str, dtype: DType, otherwise: Json) -> InputFeature {
    InputFeature {
        dtype,
        source: Source::Optional(otherwise),
        ..image_input(name)
    }
}

/// An output that becomes a column of its own name.
pub fn output(name: &str, dtype: DType, kind: OutputKind) -> OutputFeature {
    OutputFeature {
        name: name.into(),
        column: name.into(),
        dtype,
        shape: vec![],
        kind,
    }
}

/// The output `name` of a network.
pub fn named(outputs: Vec<Named>, name: &str) -> Result<Tensor> {
    let found = outputs.into_iter().find(|output| output.name == name);
    found
        .map(|output| output.tensor)
        .ok_or_else(|| Error::model(format!("the network gives no {name}")))
}
