//! Image features: vectors, one per image or one per patch.

use super::task::{Task, image_input, named, output};
use crate::error::Result;
use crate::model::network::Named;
use crate::signature::{Dim, Function, OutputFeature, OutputKind};
use crate::tensor::{DType, Tensor, TensorData, Value};

/// One output of the network as a column.
pub struct Features {
    function: &'static str,
    input: &'static str,
    /// What the network calls it.
    from: &'static str,
    column: &'static str,
    dtype: DType,
}

impl Features {
    /// A vector per patch, as the pipeline `image-feature-extraction` gives them.
    pub fn of_patches() -> Features {
        Features {
            function: "__call__",
            input: "images",
            from: "last_hidden_state",
            column: "feature_extraction",
            dtype: DType::F64,
        }
    }

    /// One vector per image: the same pipeline with `pool`.
    pub fn pooled() -> Features {
        Features {
            function: "pool",
            from: "pooler_output",
            ..Features::of_patches()
        }
    }

    /// The image in the space that CLIP's texts lie in; not scaled to any length.
    pub fn of_clip() -> Features {
        Features {
            function: "get_image_features",
            input: "images",
            from: "image_embeds",
            column: "output",
            dtype: DType::F64,
        }
    }
}

impl Task for Features {
    fn function(&self, seen: &[Named]) -> Result<Function> {
        let one = named(seen.to_vec(), self.from)?;
        let feature = OutputFeature {
            shape: one
                .shape
                .iter()
                .skip(1)
                .map(|extent| Dim::Fixed(*extent))
                .collect(),
            ..output(self.column, self.dtype, OutputKind::Tensor)
        };
        Ok(Function {
            name: self.function.into(),
            inputs: vec![image_input(self.input)],
            outputs: vec![feature],
            fixed_batch_rows: None,
        })
    }

    fn values(&self, outputs: Vec<Named>, _params: &[Tensor]) -> Result<Vec<Value>> {
        let Tensor { shape, data } = named(outputs, self.from)?;
        let data = match data {
            TensorData::F32(numbers) if self.dtype == DType::F64 => {
                numbers.into_iter().map(f64::from).collect::<Vec<_>>().into()
            }
            other => other,
        };
        Ok(vec![Value::Tensor(Tensor::new(shape, data)?)])
    }
}
