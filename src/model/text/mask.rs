//! Fill-mask: what could stand where a text says `[MASK]`, as `FillMaskPipeline` tells it.
//!
//! A text with several masks gets the candidates of each, one mask after the other. `targets` are the only words that are
//! asked for, where there are some.

use std::sync::Arc;
use tokenizers::TruncationStrategy;

use super::records::Records;
use super::run::{Rows, Runner, Sequence, Tokens};
use super::scores::{self, Function as Apply};
use super::tokenizer::Tokenizer;
use super::{CALL, Job, output, params, text, text_input, texts};
use crate::error::{Error, Result};
use crate::signature::{Function, OutputKind};
use crate::tensor::{DType, Tensor, TensorBatch, Value};

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
        inputs: vec![
            text_input("inputs"),
            params::param("top_k", DType::I64, TOP_K),
            params::words("targets"),
        ],
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
        let [_, top_k, targets] = rows.batch.inputs.as_slice() else {
            return Err(Error::internal("fill-mask takes a text and two params"));
        };
        let top_k = params::count(top_k)?.unwrap_or(TOP_K as usize);
        let targets = self.targets(targets)?;
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
                    for (word, score) in best(scores, targets.as_deref(), top_k)? {
                        let alone = masks.len() == 1;
                        filled[place].push(self.candidate(ids, at, word, score, alone)?);
                    }
                }
            }
            Ok(())
        })?;
        let all = Records::of(&filled);
        let fields = vec![
            all.texts(|one| &one.sequence),
            all.numbers(|one| f64::from(one.score)),
            all.counts(|one| one.token as usize),
            all.texts(|one| &one.text),
        ];
        Ok(vec![all.column(fields)?])
    }
}

/// The best words and their scores: of all, or of `targets`.
fn best(scores: &[f32], targets: Option<&[u32]>, top_k: usize) -> Result<Vec<(u32, f32)>> {
    let Some(targets) = targets else {
        let best = scores::ranked(scores, top_k).into_iter();
        return Ok(best.map(|word| (word as u32, scores[word])).collect());
    };
    let of = |target: &u32| match scores.get(*target as usize) {
        Some(score) => Ok(*score),
        None => Err(Error::model(format!(
            "the tokenizer has a token {target}, and the network scores {} of them",
            scores.len()
        ))),
    };
    let scores: Vec<f32> = targets.iter().map(of).collect::<Result<_>>()?;
    let best = scores::ranked(&scores, top_k).into_iter();
    Ok(best.map(|place| (targets[place], scores[place])).collect())
}

impl Masks {
    /// The tokens of the param `targets`; `None` if there are none in it. A text that is no token stands for the first of those
    /// that it is made of.
    fn targets(&self, param: &Tensor) -> Result<Option<Vec<u32>>> {
        let names = texts(param)?;
        if names.is_empty() {
            return Ok(None);
        }
        let mut tokens = Vec::with_capacity(names.len());
        for name in names {
            tokens.extend(self.tokenizer.first_token(name)?);
        }
        tokens.sort_unstable();
        tokens.dedup();
        match tokens.is_empty() {
            true => Err(Error::config(
                "input.params.targets names nothing that the tokenizer makes a token of",
            )),
            false => Ok(Some(tokens)),
        }
    }

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
