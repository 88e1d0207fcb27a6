//! Feature extraction: the vectors of a text's tokens, special ones included, as `FeatureExtractionPipeline` gives them.

use std::sync::Arc;
use tokenizers::TruncationStrategy;

use super::labels::offsets;
use super::run::{Rows, Runner, Sequence, Tokens};
use super::tokenizer::Tokenizer;
use super::{CALL, Job, VECTORS, output, text, text_input};
use crate::error::{Error, Result};
use crate::signature::{Dim, Function, OutputKind};
use crate::tensor::{DType, Items, Lists, Tensor, TensorBatch, Value};

/// The function of a model without a head.
pub fn functions(mut tokenizer: Tokenizer) -> Result<Vec<(Function, Arc<dyn Job>)>> {
    tokenizer.truncate(tokenizer.most_tokens, TruncationStrategy::LongestFirst, 0)?;
    let function = Function {
        name: CALL.into(),
        inputs: vec![text_input("inputs")],
        outputs: vec![output(
            "feature_extraction",
            DType::F64,
            &[Dim::Dynamic],
            OutputKind::List,
        )],
        fixed_batch_rows: None,
    };
    Ok(vec![(function, Arc::new(Features { tokenizer }))])
}

struct Features {
    tokenizer: Tokenizer,
}

impl Job for Features {
    fn read(&self, batch: &TensorBatch, row: usize, cut: &mut u64) -> Result<Vec<Sequence>> {
        let [column] = batch.inputs.as_slice() else {
            return Err(Error::internal("feature extraction takes a text"));
        };
        let encoding = self.tokenizer.ids(text(column, row)?, cut)?;
        Ok(vec![Tokens::from(&encoding).into()])
    }

    fn infer(&self, rows: &Rows, runner: &mut Runner) -> Result<Vec<Value>> {
        let encoded = rows.all();
        let offsets = offsets(encoded.iter().map(|one| one.tokens.ids.len()));
        let items = offsets.last().copied().unwrap_or(0);
        let (mut vectors, mut width) = (Vec::new(), 0);
        runner.run(&encoded, None, |mut outputs| {
            let (numbers, shape) = outputs.take(VECTORS, 3)?;
            let (longest, hidden) = (shape[1], shape[2]);
            if width == 0 {
                width = hidden;
                vectors.resize(items * width, 0.0);
            }
            for (row, &place) in outputs.places.iter().enumerate() {
                let source = &numbers[row * longest * hidden..];
                let target = &mut vectors[offsets[place] * width..offsets[place + 1] * width];
                for (target, number) in std::iter::zip(target, source) {
                    *target = f64::from(*number);
                }
            }
            Ok(())
        })?;
        let items = Items::Tensor(Tensor::new(vec![items, width], vectors)?);
        Ok(vec![Value::Lists(Lists::new(offsets, items)?)])
    }
}
