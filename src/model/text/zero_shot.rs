//! Zero-shot classification: labels that are only known when the job runs, by asking a model of entailment about each.
//!
//! After `ZeroShotClassificationPipeline`. `candidate_labels` is a column of lists or a param: a list, or one text with
//! commas. The labels of a row come best first.

use serde_json::Value as Json;
use std::sync::Arc;
use tokenizers::TruncationStrategy;

use super::labels::offsets;
use super::run::{Runner, Tokens};
use super::tokenizer::Tokenizer;
use super::{CALL, Job, output, params, text_input, texts};
use crate::error::{Error, Result};
use crate::model::pretrained::Pretrained;
use crate::signature::{Dim, Function, InputFeature, OutputKind};
use crate::tensor::{DType, Items, Lists, Tensor, TensorBatch, TensorData, Value};

const TEMPLATE: &str = "This example is {}.";

/// The function of a model of entailment.
pub fn functions(mut tokenizer: Tokenizer, pretrained: &Pretrained) -> Result<Vec<(Function, Arc<dyn Job>)>> {
    tokenizer.truncate(tokenizer.most_tokens, TruncationStrategy::OnlyFirst, 0)?;
    let labels = pretrained.config.get("label2id").and_then(Json::as_object);
    let entailment = labels
        .into_iter()
        .flatten()
        .find(|(name, _)| name.to_lowercase().starts_with("entail"))
        .and_then(|(_, id)| id.as_u64());
    let function = Function {
        name: CALL.into(),
        inputs: vec![
            text_input("sequences"),
            InputFeature {
                shape: vec![Dim::Dynamic],
                ..text_input("candidate_labels")
            },
            params::param("hypothesis_template", DType::String, TEMPLATE),
            params::param("multi_label", DType::Bool, false),
        ],
        outputs: vec![
            output("sequence", DType::String, &[], OutputKind::Tensor),
            output("labels", DType::String, &[], OutputKind::List),
            output("scores", DType::F64, &[], OutputKind::List),
        ],
        fixed_batch_rows: None,
    };
    let job = ZeroShot {
        tokenizer,
        entailment: entailment.map(|id| id as usize),
    };
    Ok(vec![(function, Arc::new(job))])
}

struct ZeroShot {
    tokenizer: Tokenizer,
    /// The score of entailment; the last one, where no label is called so.
    entailment: Option<usize>,
}

impl Job for ZeroShot {
    fn infer(&self, batch: &TensorBatch, runner: &mut Runner, cut: &mut u64) -> Result<Vec<Value>> {
        let [sequences, labels, template, multi_label] = batch.inputs.as_slice() else {
            return Err(Error::internal(
                "zero-shot classification takes a text, labels and two params",
            ));
        };
        let (template, multi_label) = (params::word(template)?, params::flag(multi_label)?);
        if !template.contains("{}") {
            return Err(Error::config(format!(
                "input.params.hypothesis_template: {template:?} has no {{}} for a label to stand in"
            )));
        }
        let sequences = texts(sequences)?;
        let labels = of_each_row(labels, batch.rows)?;
        let mut pairs = Vec::new();
        for (sequence, labels) in std::iter::zip(sequences, &labels) {
            for label in labels {
                let hypothesis = template.replacen("{}", label, 1);
                pairs.push(Tokens::from(&self.tokenizer.pair_ids(
                    sequence,
                    &hypothesis,
                    cut,
                )?));
            }
        }
        // Of each pair: the score of what is against it, and of what is for it.
        let mut judged = vec![(0f32, 0f32); pairs.len()];
        runner.run(&pairs, None, |mut outputs| {
            let (numbers, shape) = outputs.take(&["logits"], 2)?;
            let last = shape[1].saturating_sub(1);
            let entailment = self.entailment.unwrap_or(last).min(last);
            let contradiction = if entailment == 0 { last } else { 0 };
            for (row, &place) in outputs.places.iter().enumerate() {
                let scores = &numbers[row * shape[1]..(row + 1) * shape[1]];
                judged[place] = (scores[contradiction], scores[entailment]);
            }
            Ok(())
        })?;
        let offsets = offsets(labels.iter().map(Vec::len));
        let (mut names, mut scores) = (Vec::new(), Vec::new());
        for (row, labels) in labels.iter().enumerate() {
            let row = probabilities(&judged[offsets[row]..offsets[row + 1]], multi_label);
            for label in super::scores::ranked(&row, usize::MAX) {
                names.push(labels[label].clone());
                scores.push(f64::from(row[label]));
            }
        }
        let list = |items: TensorData| -> Result<Value> {
            let items = Tensor::new(vec![items.len()], items)?;
            Ok(Value::Lists(Lists::new(offsets.clone(), Items::Tensor(items))?))
        };
        Ok(vec![
            Value::Tensor(Tensor::new(vec![batch.rows], sequences.to_vec())?),
            list(names.into())?,
            list(scores.into())?,
        ])
    }
}

/// Each label against its contradiction, or all against one another.
fn probabilities(judged: &[(f32, f32)], multi_label: bool) -> Vec<f32> {
    let softmax = super::scores::Function::Softmax;
    if multi_label || judged.len() == 1 {
        let each = judged.iter().map(|&(against, entailed)| {
            let mut pair = [against, entailed];
            softmax.apply(&mut pair);
            pair[1]
        });
        return each.collect();
    }
    let mut scores: Vec<f32> = judged.iter().map(|(_, entailed)| *entailed).collect();
    softmax.apply(&mut scores);
    scores
}

/// The labels of each row: of a column of lists, or of a param that is repeated.
fn of_each_row(labels: &Tensor, rows: usize) -> Result<Vec<Vec<String>>> {
    let all = texts(labels)?;
    let each = all.len() / rows.max(1);
    let split = |texts: &[String]| -> Vec<String> {
        let labels = texts.iter().flat_map(|text| text.split(','));
        labels
            .map(|label| label.trim().to_string())
            .filter(|label| !label.is_empty())
            .collect()
    };
    (0..rows)
        .map(|row| {
            let texts = &all[row * each..(row + 1) * each];
            // One text with commas is a list, as the library reads it; labels of a list may have commas.
            let labels = match texts {
                [one] => split(std::slice::from_ref(one)),
                several => several.to_vec(),
            };
            match labels.is_empty() {
                true => Err(Error::data(format!(
                    "row {row} of a batch has no candidate_labels"
                ))),
                false => Ok(labels),
            }
        })
        .collect()
}
