//! Question answering: where a text answers a question, as `QuestionAnsweringPipeline` finds it.
//!
//! Long contexts are read in windows that overlap. `start` and `end` count characters of the context.

use std::sync::Arc;
use tokenizers::Encoding;

use super::run::{Rows, Runner, Sequence};
use super::tokenizer::Tokenizer;
use super::{CALL, Job, output, params, text, text_input};
use crate::error::{Error, Result};
use crate::signature::{Function, OutputKind};
use crate::tensor::{DType, Tensor, TensorBatch, Value};

/// Longest window that the library takes, in tokens.
const WINDOW: usize = 384;
/// Most tokens by which windows overlap.
const OVERLAP: usize = 128;
/// Longest answer that nobody asked to be longer, in tokens.
const LONGEST: i64 = 15;
/// What a token that is no part of the context gets for a score.
const MASKED: f32 = -10_000.0;
/// Candidates of a window: some may turn out to be the same words.
const CANDIDATES: usize = 12;

/// The function of a model that answers questions.
pub fn functions(tokenizer: Tokenizer) -> Result<Vec<(Function, Arc<dyn Job>)>> {
    let function = Function {
        name: CALL.into(),
        inputs: vec![
            text_input("question"),
            text_input("context"),
            params::param("max_seq_len", DType::I64, 0),
            params::param("doc_stride", DType::I64, 0),
            params::param("max_answer_len", DType::I64, LONGEST),
            params::param("handle_impossible_answer", DType::Bool, false),
        ],
        outputs: vec![
            output("score", DType::F64, &[], OutputKind::Tensor),
            output("start", DType::I64, &[], OutputKind::Tensor),
            output("end", DType::I64, &[], OutputKind::Tensor),
            output("answer", DType::String, &[], OutputKind::Tensor),
        ],
        fixed_batch_rows: None,
    };
    let begin = tokenizer.special("cls_token").map(|(_, id)| id);
    Ok(vec![(
        function,
        Arc::new(Answers {
            bare: tokenizer.without_marks(),
            tokenizer,
            begin,
        }),
    )])
}

struct Answers {
    tokenizer: Tokenizer,
    bare: Tokenizer,
    begin: Option<u32>,
}

#[derive(Clone, Debug, Default)]
struct Answer {
    score: f64,
    start: usize,
    end: usize,
    text: String,
}

impl Job for Answers {
    fn read(&self, batch: &TensorBatch, row: usize, _cut: &mut u64) -> Result<Vec<Sequence>> {
        let [questions, contexts, window, stride, ..] = batch.inputs.as_slice() else {
            return Err(Error::internal(
                "question answering takes two texts and four params",
            ));
        };
        let most = self.tokenizer.most_tokens;
        let window = params::count(window)?.unwrap_or(most.min(WINDOW)).min(most);
        let stride = params::count(stride)?.unwrap_or((window / 2).min(OVERLAP));
        let pair = (text(questions, row)?, text(contexts, row)?);
        let read = self.tokenizer.windows(&self.bare, pair, window, stride)?;
        Ok(read.into_iter().map(Sequence::placed).collect())
    }

    fn infer(&self, rows: &Rows, runner: &mut Runner) -> Result<Vec<Value>> {
        let [_, contexts, _, _, longest, impossible] = rows.batch.inputs.as_slice() else {
            return Err(Error::internal(
                "question answering takes two texts and four params",
            ));
        };
        let longest = params::count(longest)?.unwrap_or(LONGEST as usize);
        let windows = rows.all();
        let mut candidates: Vec<(Vec<Candidate>, f64)> = vec![Default::default(); windows.len()];
        runner.run(&windows, None, |mut outputs| {
            let (starts, shape) = outputs.take(&["start_logits"], 2)?;
            let (ends, _) = outputs.take(&["end_logits"], 2)?;
            for (at, &place) in outputs.places.iter().enumerate() {
                let window = windows[place].places()?;
                let part = at * shape[1]..at * shape[1] + window.len();
                candidates[place] = self.candidates(window, &starts[part.clone()], &ends[part], longest);
            }
            Ok(())
        })?;
        let mut found: Vec<Vec<Answer>> = vec![Vec::new(); rows.len()];
        let mut no_answer = vec![1e6f64; rows.len()];
        let mut judged = std::iter::zip(&windows, &candidates);
        for (at, &row) in rows.rows.iter().enumerate() {
            let context = text(contexts, row)?;
            for (window, (candidates, none)) in judged.by_ref().take(rows.sequences[row].len()) {
                no_answer[at] = no_answer[at].min(*none);
                for candidate in candidates {
                    add(&mut found[at], window.places()?, candidate, context);
                }
            }
        }
        let may_be_impossible = params::flag(impossible)?;
        let best: Vec<Answer> = std::iter::zip(found, no_answer)
            .map(|(mut answers, none)| {
                if may_be_impossible {
                    answers.push(Answer {
                        score: none,
                        ..Answer::default()
                    });
                }
                let better = |best: Answer, next: Answer| if next.score > best.score { next } else { best };
                answers.into_iter().reduce(better).unwrap_or_default()
            })
            .collect();
        let shape = || vec![rows.len()];
        Ok(vec![
            Value::Tensor(Tensor::new(
                shape(),
                best.iter().map(|one| one.score).collect::<Vec<_>>(),
            )?),
            Value::Tensor(Tensor::new(
                shape(),
                best.iter().map(|one| one.start as i64).collect::<Vec<_>>(),
            )?),
            Value::Tensor(Tensor::new(
                shape(),
                best.iter().map(|one| one.end as i64).collect::<Vec<_>>(),
            )?),
            Value::Tensor(Tensor::new(
                shape(),
                best.into_iter().map(|one| one.text).collect::<Vec<_>>(),
            )?),
        ])
    }
}

/// A span of tokens and its probability.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    first: usize,
    last: usize,
    score: f32,
}

impl Answers {
    /// The best spans of a window, and the probability of no answer at all.
    fn candidates(
        &self,
        window: &Encoding,
        starts: &[f32],
        ends: &[f32],
        longest: usize,
    ) -> (Vec<Candidate>, f64) {
        let sequences = window.get_sequence_ids();
        let ids = window.get_ids();
        let is_open: Vec<bool> = (0..window.len())
            .map(|at| sequences[at] == Some(1) || Some(ids[at]) == self.begin)
            .collect();
        let probabilities = |scores: &[f32]| -> Vec<f32> {
            let mut scores: Vec<f32> = std::iter::zip(scores, &is_open)
                .map(|(score, open)| if *open { *score } else { MASKED })
                .collect();
            super::scores::Function::Softmax.apply(&mut scores);
            scores
        };
        let (mut starts, mut ends) = (probabilities(starts), probabilities(ends));
        let none = f64::from(starts[0] * ends[0]);
        (starts[0], ends[0]) = (0.0, 0.0);
        let mut spans = Vec::new();
        for (first, start) in starts.iter().enumerate() {
            for (last, end) in ends.iter().enumerate().skip(first).take(longest) {
                let score = start * end;
                spans.push(Candidate { first, last, score });
            }
        }
        // The library takes the best of all spans first, and drops those outside of the context then.
        spans.sort_by(|a, b| b.score.total_cmp(&a.score));
        spans.truncate(CANDIDATES);
        spans.retain(|span| is_open[span.first] && is_open[span.last]);
        (spans, none)
    }
}

/// Adds a span as an answer, whole words; the same words in another place count together.
fn add(answers: &mut Vec<Answer>, window: &Encoding, span: &Candidate, context: &str) {
    let (start, end) = whole_words(window, span);
    let text: String = context
        .chars()
        .skip(start)
        .take(end.saturating_sub(start))
        .collect();
    let folded = text.to_lowercase();
    let score = f64::from(span.score);
    match answers
        .iter_mut()
        .find(|answer| answer.text.to_lowercase() == folded)
    {
        Some(answer) => answer.score += score,
        None => answers.push(Answer {
            score,
            start,
            end,
            text,
        }),
    }
}

fn whole_words(window: &Encoding, span: &Candidate) -> (usize, usize) {
    let word = |token: usize| {
        let (_, word) = window.token_to_word(token)?;
        window.word_to_chars(word, 1)
    };
    match (word(span.first), word(span.last)) {
        (Some((start, _)), Some((_, end))) => (start, end),
        _ => (
            window.get_offsets()[span.first].0,
            window.get_offsets()[span.last].1,
        ),
    }
}
