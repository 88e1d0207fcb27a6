//! Zero-shot classification: labels that are only known when the job runs, by asking a model of entailment about each.
//!
//! After `ZeroShotClassificationPipeline`. `candidate_labels` is a column of lists or a param: a list, or one text with
//! commas. The labels of a row come best first.

use serde_json::Value as Json;
use std::sync::Arc;
use tokenizers::TruncationStrategy;

use super::labels::offsets;
use super::run::{Rows, Runner, Sequence, Tokens};
use super::tokenizer::Tokenizer;
use super::{CALL, Job, output, params, text, text_input, texts};
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
    fn read(&self, batch: &TensorBatch, row: usize, cut: &mut u64) -> Result<Vec<Sequence>> {
        let [sequences, labels, template, _] = batch.inputs.as_slice() else {
            return Err(Error::internal(
                "zero-shot classification takes a text, labels and two params",
            ));
        };
        let template = params::word(template)?;
        if !template.contains("{}") {
            return Err(Error::config(format!(
                "input.params.hypothesis_template: {template:?} has no {{}} for a label to stand in"
            )));
        }
        let sequence = text(sequences, row)?;
        let mut pair = |label: String| {
            let hypothesis = template.replacen("{}", &label, 1);
            let encoding = self.tokenizer.pair_ids(sequence, &hypothesis, cut)?;
            Ok(Tokens::from(&encoding).into())
        };
        let labels = of_row(labels, batch.rows, row)?;
        labels.into_iter().map(&mut pair).collect()
    }

    fn infer(&self, rows: &Rows, runner: &mut Runner) -> Result<Vec<Value>> {
        let [sequences, labels, _, multi_label] = rows.batch.inputs.as_slice() else {
            return Err(Error::internal(
                "zero-shot classification takes a text, labels and two params",
            ));
        };
        let multi_label = params::flag(multi_label)?;
        let labels = rows.rows.iter().map(|&row| of_row(labels, rows.batch.rows, row));
        let labels: Vec<Vec<String>> = labels.collect::<Result<_>>()?;
        let pairs = rows.all();
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
        let sequences = rows.rows.iter().map(|&row| Ok(text(sequences, row)?.to_string()));
        let sequences: Vec<String> = sequences.collect::<Result<_>>()?;
        let list = |items: TensorData| -> Result<Value> {
            let items = Tensor::new(vec![items.len()], items)?;
            Ok(Value::Lists(Lists::new(offsets.clone(), Items::Tensor(items))?))
        };
        Ok(vec![
            Value::Tensor(Tensor::new(vec![rows.len()], sequences)?),
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

/// The labels of a row: of a column of lists, or of a param that is repeated.
fn of_row(labels: &Tensor, rows: usize, row: usize) -> Result<Vec<String>> {
    let all = texts(labels)?;
    let each = all.len() / rows.max(1);
    let split = |texts: &[String]| -> Vec<String> {
        let labels = texts.iter().flat_map(|text| text.split(','));
        labels
            .map(|label| label.trim().to_string())
            .filter(|label| !label.is_empty())
            .collect()
    };
    // One text with commas is a list, as the library reads it; labels of a list may have commas.
    let labels = match &all[row * each..(row + 1) * each] {
        [one] => split(std::slice::from_ref(one)),
        several => several.to_vec(),
    };
    match labels.is_empty() {
        true => Err(Error::data("a row has no candidate_labels")),
        false => Ok(labels),
    }
}
