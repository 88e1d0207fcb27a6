//! Fill-mask: what could stand where a text says `[MASK]`, as `FillMaskPipeline` tells it.
//!
//! A text with several masks gets the candidates of each, one mask after the other.

use std::sync::Arc;
use tokenizers::TruncationStrategy;

use super::labels::offsets;
use super::run::{Rows, Runner, Sequence, Tokens};
use super::scores::{self, Function as Apply};
use super::tokenizer::Tokenizer;
use super::{CALL, Job, output, params, text, text_input};
use crate::error::{Error, Result};
use crate::signature::{Function, OutputKind};
use crate::tensor::{DType, Items, Lists, TensorBatch, Value};

const FIELDS: &[(&str, DType)] = &[
    ("sequence", DType::String),
    ("score", DType::F64),
    ("token", DType::I64),
    ("token_str", DType::String),
];

/// Candidates for a mask that nobody asked for more of.
const TOP_K: i64 = 5;

/// The function of a model that knows words.
pub fn functions(mut tokenizer: Tokenizer) -> Result<Vec<(Function, Arc<dyn Job>)>> {
    tokenizer.truncate(tokenizer.most_tokens, TruncationStrategy::LongestFirst, 0)?;
    let Some((token, mask)) = tokenizer.special("mask_token") else {
        return Err(Error::model(
            "the folder's tokenizer names no mask token, so no mask can be filled",
        ));
    };
    let token = token.to_string();
    let function = Function {
        name: CALL.into(),
        inputs: vec![text_input("inputs"), params::param("top_k", DType::I64, TOP_K)],
        outputs: vec![output(
            "outputs",
            DType::F64,
            &[],
            OutputKind::Records { fields: FIELDS },
        )],
        fixed_batch_rows: None,
    };
    Ok(vec![(
        function,
        Arc::new(Masks {
            tokenizer,
            token,
            mask,
        }),
    )])
}

struct Masks {
    tokenizer: Tokenizer,
    token: String,
    mask: u32,
}

#[derive(Clone)]
struct Candidate {
    sequence: String,
    score: f32,
    token: u32,
    text: String,
}

impl Job for Masks {
    fn trial(&self) -> String {
        self.token.clone()
    }

    fn most_tokens(&self, usual: usize) -> usize {
        // Each token gets a score for every word there is.
        usual / 2
    }

    fn read(&self, batch: &TensorBatch, row: usize, cut: &mut u64) -> Result<Vec<Sequence>> {
        let Some(column) = batch.inputs.first() else {
            return Err(Error::internal("fill-mask takes a text"));
        };
        let tokens = Tokens::from(&self.tokenizer.ids(text(column, row)?, cut)?);
        match tokens.ids.contains(&self.mask) {
            true => Ok(vec![tokens.into()]),
            false => Err(Error::data(format!(
                "a text has no {}, and so nothing to fill",
                self.token
            ))),
        }
    }

    fn infer(&self, rows: &Rows, runner: &mut Runner) -> Result<Vec<Value>> {
        let [_, top_k] = rows.batch.inputs.as_slice() else {
            return Err(Error::internal("fill-mask takes a text and top_k"));
        };
        let top_k = params::count(top_k)?.unwrap_or(TOP_K as usize);
        let encoded = rows.all();
        let mut filled: Vec<Vec<Candidate>> = vec![Vec::new(); rows.len()];
        runner.run(&encoded, None, |mut outputs| {
            let (mut numbers, shape) = outputs.take(&["logits"], 3)?;
            let (longest, words) = (shape[1], shape[2]);
            for (row, &place) in outputs.places.iter().enumerate() {
                let ids = &encoded[place].tokens.ids;
                let masks: Vec<usize> = (0..ids.len()).filter(|at| ids[*at] == self.mask).collect();
                for &at in &masks {
                    let start = (row * longest + at) * words;
                    let scores = &mut numbers[start..start + words];
                    Apply::Softmax.apply(scores);
                    for word in scores::ranked(scores, top_k) {
                        filled[place].push(self.candidate(
                            ids,
                            at,
                            word as u32,
                            scores[word],
                            masks.len() == 1,
                        )?);
                    }
                }
            }
            Ok(())
        })?;
        let offsets = offsets(filled.iter().map(Vec::len));
        let all = || filled.iter().flatten();
        let items = Items::Records(vec![
            all().map(|one| one.sequence.clone()).collect::<Vec<_>>().into(),
            all().map(|one| f64::from(one.score)).collect::<Vec<_>>().into(),
            all().map(|one| i64::from(one.token)).collect::<Vec<_>>().into(),
            all().map(|one| one.text.clone()).collect::<Vec<_>>().into(),
        ]);
        Ok(vec![Value::Lists(Lists::new(offsets, items)?)])
    }
}

impl Masks {
    fn candidate(&self, ids: &[u32], at: usize, token: u32, score: f32, alone: bool) -> Result<Candidate> {
        let mut whole = ids.to_vec();
        whole[at] = token;
        whole.retain(|id| i64::from(*id) != self.tokenizer.padding);
        Ok(Candidate {
            sequence: self.tokenizer.text(&whole, alone)?,
            score,
            token,
            text: self.tokenizer.text(&[token], false)?,
        })
    }
}
