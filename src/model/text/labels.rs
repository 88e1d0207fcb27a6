//! Text classification: the best label of a text and its score, or the best labels.
//!
//! After `TextClassificationPipeline`. `__call__` gives `label` and `score`; `top_k` gives a list of both, since the columns
//! of a job can't depend on its params.

use serde_json::Value as Json;
use std::sync::Arc;
use tokenizers::TruncationStrategy;

use super::run::{Rows, Runner, Sequence, Tokens};
use super::scores::{self, Function as Apply};
use super::tokenizer::Tokenizer;
use super::{CALL, Job, names_of_labels, output, params, text, text_input};
use crate::error::{Error, Result};
use crate::model::pretrained::Pretrained;
use crate::signature::{Function, OutputKind};
use crate::tensor::{DType, Items, Lists, Tensor, TensorBatch, Value};

/// The fields of a label in a list.
const FIELDS: &[(&str, DType)] = &[("label", DType::String), ("score", DType::F64)];

/// The functions of a model that classifies texts.
pub fn functions(mut tokenizer: Tokenizer, pretrained: &Pretrained) -> Result<Vec<(Function, Arc<dyn Job>)>> {
    tokenizer.truncate(tokenizer.most_tokens, TruncationStrategy::LongestFirst, 0)?;
    let labels = names_of_labels(&pretrained.config);
    let job = Classification {
        tokenizer: Arc::new(tokenizer),
        usual: usual(pretrained, labels.len()),
        labels,
        lists: false,
    };
    let apply = params::param("function_to_apply", DType::String, "");
    let one = Function {
        name: CALL.into(),
        inputs: vec![
            text_input("text"),
            apply.clone(),
            params::param("top_k", DType::I64, 1),
        ],
        outputs: vec![
            output("label", DType::String, &[], OutputKind::Tensor),
            output("score", DType::F64, &[], OutputKind::Tensor),
        ],
        fixed_batch_rows: None,
    };
    let several = Function {
        name: "top_k".into(),
        inputs: vec![text_input("text"), apply, params::param("top_k", DType::I64, 0)],
        outputs: vec![output(
            "labels",
            DType::F64,
            &[],
            OutputKind::Records { fields: FIELDS },
        )],
        fixed_batch_rows: None,
    };
    let lists = Classification {
        lists: true,
        ..job.clone()
    };
    Ok(vec![(one, Arc::new(job)), (several, Arc::new(lists))])
}

/// What the library applies when nobody says.
fn usual(pretrained: &Pretrained, labels: usize) -> Apply {
    match pretrained.config.get("problem_type").and_then(Json::as_str) {
        Some("regression") => Apply::None,
        Some("multi_label_classification") => Apply::Sigmoid,
        _ if labels == 1 => Apply::Sigmoid,
        _ => Apply::Softmax,
    }
}

#[derive(Clone)]
struct Classification {
    tokenizer: Arc<Tokenizer>,
    labels: Vec<String>,
    usual: Apply,
    lists: bool,
}

impl Job for Classification {
    fn read(&self, batch: &TensorBatch, row: usize, cut: &mut u64) -> Result<Vec<Sequence>> {
        let Some(column) = batch.inputs.first() else {
            return Err(Error::internal("text classification takes a text"));
        };
        let encoding = self.tokenizer.ids(text(column, row)?, cut)?;
        Ok(vec![Tokens::from(&encoding).into()])
    }

    fn infer(&self, rows: &Rows, runner: &mut Runner) -> Result<Vec<Value>> {
        let [_, apply, top_k] = rows.batch.inputs.as_slice() else {
            return Err(Error::internal("text classification takes a text and its params"));
        };
        let top_k = match self.lists {
            true => params::count(top_k)?,
            false => Some(params::only_one(top_k, "label", "labels")?),
        };
        let apply = match params::word(apply)? {
            "" => self.usual,
            name => Apply::named(name)?,
        };
        let mut ranked: Vec<Vec<(usize, f32)>> = vec![Vec::new(); rows.len()];
        runner.run(&rows.all(), None, |mut outputs| {
            let (mut numbers, shape) = outputs.take(&["logits"], 2)?;
            if shape[1] != self.labels.len() {
                return Err(Error::model(format!(
                    "the network gives {} scores, and config.json names {} labels",
                    shape[1],
                    self.labels.len()
                )));
            }
            for (row, &place) in outputs.places.iter().enumerate() {
                let scores = &mut numbers[row * shape[1]..(row + 1) * shape[1]];
                apply.apply(scores);
                let best = scores::ranked(scores, top_k.unwrap_or(usize::MAX));
                ranked[place] = best.into_iter().map(|label| (label, scores[label])).collect();
            }
            Ok(())
        })?;
        let offsets = offsets(ranked.iter().map(Vec::len));
        let (labels, scores): (Vec<String>, Vec<f64>) = ranked
            .into_iter()
            .flatten()
            .map(|(label, score)| (self.labels[label].clone(), f64::from(score)))
            .unzip();
        if self.lists {
            let items = Items::Records(vec![labels.into(), scores.into()]);
            return Ok(vec![Value::Lists(Lists::new(offsets, items)?)]);
        }
        Ok(vec![
            Value::Tensor(Tensor::new(vec![rows.len()], labels)?),
            Value::Tensor(Tensor::new(vec![rows.len()], scores)?),
        ])
    }
}

/// Where lists of these lengths begin and end.
pub fn offsets(lengths: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut offsets = vec![0];
    let mut end = 0;
    offsets.extend(lengths.map(|length| {
        end += length;
        end
    }));
    offsets
}
