//! The dense layers of sentence-transformers, which come after pooling: `2_Dense/config.json` and its weights.
//!
//! They are small and work on one vector per text, so they are computed right here. Weights are read from safetensors by
//! hand: eight bytes of length, a JSON header, numbers.

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::model::ModelFiles;

/// `activation(weight · x + bias)`
#[derive(Debug)]
pub struct Dense {
    inputs: usize,
    weight: Vec<f32>,
    bias: Vec<f32>,
    activation: Activation,
}

#[derive(Clone, Copy, Debug)]
enum Activation {
    Identity,
    Tanh,
    Relu,
    Sigmoid,
}

/// No header is longer than this: the format's own limit.
const MOST_HEADER_BYTES: u64 = 100 << 20;

impl Dense {
    /// The layer in `folder`.
    ///
    /// # Errors
    /// `Model`, for files that are missing or damaged, and an unknown activation.
    pub fn open(files: &ModelFiles, folder: &str) -> Result<Dense> {
        let folder = folder.trim_end_matches('/');
        let file = |name: &str| {
            let path = format!("{folder}/{name}");
            let found = files.files.get(&path);
            found.ok_or_else(|| {
                Error::model(format!("a dense layer of the folder has no {name}"))
                    .with("file", path)
                    .with_hint("save the model with safetensors: SentenceTransformer(...).save(folder, safe_serialization=True)")
            })
        };
        let wrong =
            |why: String| Error::model(format!("a dense layer can't be read: {why}")).with("file", folder);
        let config: Map<String, Value> =
            serde_json::from_slice(file("config.json")?).map_err(|cause| wrong(cause.to_string()))?;
        let size = |name: &str| {
            let size = config
                .get(name)
                .and_then(Value::as_u64)
                .filter(|size| (1..1 << 20).contains(size));
            size.map(|size| size as usize)
                .ok_or_else(|| wrong(format!("its config.json gives no usable {name}")))
        };
        let (inputs, outputs) = (size("in_features")?, size("out_features")?);
        let activation = config
            .get("activation_function")
            .and_then(Value::as_str)
            .unwrap_or("Tanh");
        let activation = match activation.rsplit('.').next().unwrap_or_default() {
            "Identity" => Activation::Identity,
            "Tanh" => Activation::Tanh,
            "ReLU" => Activation::Relu,
            "Sigmoid" => Activation::Sigmoid,
            other => return Err(wrong(format!("Floe has no activation {other}"))),
        };
        let bytes = file("model.safetensors")?;
        let weight = numbers(bytes, "linear.weight").map_err(&wrong)?;
        let has_bias = config.get("bias").and_then(Value::as_bool).unwrap_or(true);
        let bias = match has_bias {
            true => numbers(bytes, "linear.bias").map_err(&wrong)?,
            false => vec![0.0; outputs],
        };
        if weight.len() != inputs * outputs || bias.len() != outputs {
            return Err(wrong(format!(
                "its weights are not of {outputs} times {inputs} numbers"
            )));
        }
        Ok(Dense {
            inputs,
            weight,
            bias,
            activation,
        })
    }

    /// The layer's answer to a vector.
    ///
    /// # Errors
    /// `Model`, when the vector is of another length.
    pub fn apply(&self, vector: &[f32]) -> Result<Vec<f32>> {
        if vector.len() != self.inputs {
            return Err(Error::model(format!(
                "a dense layer takes {} numbers, and pooling gives {}",
                self.inputs,
                vector.len()
            )));
        }
        let row = |(weights, bias): (&[f32], &f32)| {
            let sum: f32 = std::iter::zip(weights, vector)
                .map(|(weight, number)| weight * number)
                .sum();
            let sum = sum + bias;
            match self.activation {
                Activation::Identity => sum,
                Activation::Tanh => sum.tanh(),
                Activation::Relu => sum.max(0.0),
                Activation::Sigmoid => 1.0 / (1.0 + (-sum).exp()),
            }
        };
        Ok(std::iter::zip(self.weight.chunks(self.inputs), &self.bias)
            .map(row)
            .collect())
    }
}

/// A tensor of a safetensors file as f32.
fn numbers(file: &[u8], name: &str) -> std::result::Result<Vec<f32>, String> {
    let damaged = || "the file is no safetensors, or damaged".to_string();
    let (length, rest) = file.split_first_chunk::<8>().ok_or_else(damaged)?;
    let length = u64::from_le_bytes(*length);
    if length > MOST_HEADER_BYTES || length > rest.len() as u64 {
        return Err(damaged());
    }
    let (header, data) = rest.split_at(length as usize);
    let header: Map<String, Value> = serde_json::from_slice(header).map_err(|_| damaged())?;
    let tensor = header
        .get(name)
        .ok_or_else(|| format!("it has no tensor {name}"))?;
    let offset = |at: usize| {
        let offset = tensor.get("data_offsets")?.get(at)?.as_u64()?;
        usize::try_from(offset).ok()
    };
    let (start, end) = offset(0).zip(offset(1)).ok_or_else(damaged)?;
    let bytes = data.get(start..end).ok_or_else(damaged)?;
    let dtype = tensor.get("dtype").and_then(Value::as_str).unwrap_or_default();
    let halves = || bytes.as_chunks::<2>().0.iter();
    Ok(match dtype {
        "F32" => bytes
            .as_chunks::<4>()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect(),
        "F16" => halves()
            .map(|bytes| half::f16::from_le_bytes(*bytes).to_f32())
            .collect(),
        "BF16" => halves()
            .map(|bytes| half::bf16::from_le_bytes(*bytes).to_f32())
            .collect(),
        other => return Err(format!("its tensor {name} is of {other}, not F32, F16 or BF16")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn file(header: &str, data: &[u8]) -> Bytes {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes.into()
    }

    fn layer(config: &str, weights: Bytes) -> Result<Dense> {
        let mut files = ModelFiles::default();
        files.files.insert(
            "2_Dense/config.json".into(),
            Bytes::copy_from_slice(config.as_bytes()),
        );
        files.files.insert("2_Dense/model.safetensors".into(), weights);
        Dense::open(&files, "2_Dense")
    }

    #[test]
    fn a_layer_multiplies_adds_and_bends() {
        let numbers: Vec<u8> = [1f32, 2.0, -3.0, 0.5, 0.25, -1.0]
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect();
        let header = r#"{"linear.weight":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"linear.bias":{"dtype":"F32","shape":[2],"data_offsets":[16,24]}}"#;
        let config = |activation: &str| {
            format!(
                r#"{{"in_features":2,"out_features":2,"bias":true,"activation_function":"torch.nn.{activation}"}}"#
            )
        };
        let dense = layer(&config("Identity"), file(header, &numbers)).unwrap();
        assert_eq!(dense.apply(&[1.0, 10.0]).unwrap(), [21.25, 1.0]);
        let dense = layer(&config("modules.activation.ReLU"), file(header, &numbers)).unwrap();
        assert_eq!(dense.apply(&[-1.0, 0.0]).unwrap(), [0.0, 2.0]);
        assert!(dense.apply(&[1.0]).is_err());
    }

    #[test]
    fn damaged_weights_are_refused() {
        let config = r#"{"in_features":1,"out_features":1,"bias":false}"#;
        let tensor = |from: usize, to: usize, dtype: &str| {
            format!(r#"{{"linear.weight":{{"dtype":"{dtype}","shape":[1,1],"data_offsets":[{from},{to}]}}}}"#)
        };
        assert!(layer(config, file(&tensor(0, 4, "F32"), &[0; 4])).is_ok());
        for bytes in [
            Bytes::from_static(b"short"),
            file("{", &[]),
            file("{}", &[]),
            file(&tensor(0, 8, "F32"), &[0; 4]),
            file(&tensor(4, 0, "F32"), &[0; 4]),
            file(&tensor(0, 4, "I32"), &[0; 4]),
            file(&tensor(0, 2, "F32"), &[0; 4]),
            Bytes::copy_from_slice(&u64::MAX.to_le_bytes()),
        ] {
            assert!(layer(config, bytes.clone()).is_err(), "{bytes:?}");
        }
    }
}
