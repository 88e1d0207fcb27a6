//! The built-in model `echo`: gives back a 64-bit hash of each row, and nothing else.
//!
//! It takes part in everything a real model does (reading, decoding, batching, writing, committing) and costs almost
//! nothing, so tests can see that every row arrived once and unchanged, and benches can see what the rest costs.

use sha2::{Digest, Sha256};

use super::{Engine, Loaded, Model, hex};
use crate::error::{Error, Result};
use crate::signature::{Function, InputFeature, OutputFeature, OutputKind, Source};
use crate::tensor::{DType, Tensor, TensorBatch, TensorData, Value};

/// The location that stands for this model.
pub const LOCATION: &str = "echo";

/// Raised when the hash or the output changes: results of two versions must not pass for the same model's.
const VERSION: u32 = 1;

/// The built-in model.
pub struct Echo {
    functions: Vec<Function>,
    digest: String,
}

impl Echo {
    /// The one echo model.
    pub fn new() -> Echo {
        let input = InputFeature {
            name: "row".into(),
            dtype: DType::I64,
            shape: vec![],
            source: Source::RowHash,
            on_null: None,
            affine: (1.0, 0.0),
        };
        let output = OutputFeature {
            name: "row_hash".into(),
            column: "row_hash".into(),
            dtype: DType::I64,
            shape: vec![],
            kind: OutputKind::Tensor,
        };
        let function = Function {
            name: "echo".into(),
            inputs: vec![input],
            outputs: vec![output],
            fixed_batch_rows: None,
        };
        Echo {
            functions: vec![function],
            digest: format!("sha256:{}", hex(&Sha256::digest(format!("floe echo {VERSION}")))),
        }
    }
}

impl Default for Echo {
    fn default() -> Self {
        Echo::new()
    }
}

impl Loaded for Echo {
    fn describe(&self) -> String {
        format!("echo (built in, version {VERSION})")
    }

    fn functions(&self) -> &[Function] {
        &self.functions
    }

    fn digest(&self) -> &str {
        &self.digest
    }

    fn notes(&self) -> &[String] {
        &[]
    }

    fn engines(&self, _function: &Function) -> Vec<Engine> {
        vec![Engine::Echo]
    }

    fn worker(&self, _function: &Function, _threads: usize) -> Result<Box<dyn Model>> {
        Ok(Box::new(EchoWorker))
    }
}

struct EchoWorker;

impl Model for EchoWorker {
    fn infer(&mut self, batch: &TensorBatch) -> Result<Vec<Value>> {
        match batch.inputs.as_slice() {
            [
                Tensor {
                    shape,
                    data: TensorData::I64(hashes),
                },
            ] if shape[..] == [batch.rows] => {
                let hashes = Tensor::new(vec![batch.rows], hashes.clone())?;
                Ok(vec![Value::Tensor(hashes)])
            }
            other => Err(Error::internal(format!(
                "the echo model takes int64[{}], not {} tensors of shapes {:?}",
                batch.rows,
                other.len(),
                other.iter().map(|tensor| &tensor.shape).collect::<Vec<_>>()
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_gets_its_own_hash_back() {
        let echo = Echo::new();
        let mut worker = echo.worker(&echo.functions()[0], 1).unwrap();
        let hashes = Tensor::new(vec![3], vec![7i64, i64::MIN, -1]).unwrap();
        let batch = TensorBatch {
            rows: 3,
            inputs: vec![hashes.clone()],
        };
        assert_eq!(worker.infer(&batch).unwrap(), [Value::Tensor(hashes)]);
    }

    #[test]
    fn a_batch_of_another_shape_is_a_bug_and_said_to_be_one() {
        let mut worker = EchoWorker;
        let batch = TensorBatch {
            rows: 2,
            inputs: vec![Tensor::new(vec![1], vec![7i64]).unwrap()],
        };
        assert_eq!(
            worker.infer(&batch).unwrap_err().kind(),
            crate::error::ErrorKind::Internal
        );
    }

    #[test]
    fn the_digest_is_fixed_for_a_version() {
        let digest = "sha256:2a8daa16b6f4822b6b026496646f940a217b17ea33f0a8d9886d30c643f25de9";
        assert_eq!(Echo::new().digest(), digest);
    }
}
