//! Question answering: where a text answers a question, as `QuestionAnsweringPipeline` finds it.
//!
//! Long contexts are read in windows that overlap. `start` and `end` count characters of the context. `__call__` gives the
//! best answer; `top_k` a list of the best, since the columns of a job can't depend on its params.

use std::sync::Arc;
use tokenizers::Encoding;

use super::records::Records;
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
/// Tokens of a question that the library's slow tokenizers keep; its fast ones, like this, cut contexts only.
const QUESTION: i64 = 64;

/// The fields of an answer, in a list or as columns.
const FIELDS: &[(&str, DType)] = &[
    ("score", DType::F64),
    ("start", DType::I64),
    ("end", DType::I64),
    ("answer", DType::String),
];

/// The functions of a model that answers questions.
pub fn functions(tokenizer: Tokenizer) -> Result<Vec<(Function, Arc<dyn Job>)>> {
    let one = Function {
        name: CALL.into(),
        inputs: vec![
            text_input("question"),
            text_input("context"),
            params::param("top_k", DType::I64, 1),
            params::param("doc_stride", DType::I64, 0),
            params::param("max_answer_len", DType::I64, LONGEST),
            params::param("max_seq_len", DType::I64, 0),
            params::param("max_question_len", DType::I64, QUESTION),
            params::param("handle_impossible_answer", DType::Bool, false),
            params::param("align_to_words", DType::Bool, true),
        ],
        outputs: FIELDS
            .iter()
            .map(|(name, dtype)| output(name, *dtype, &[], OutputKind::Tensor))
            .collect(),
        fixed_batch_rows: None,
    };
    let kind = OutputKind::Records { fields: FIELDS };
    let several = Function {
        name: "top_k".into(),
        outputs: vec![output("answers", DType::F64, &[], kind)],
        ..one.clone()
    };
    let begin = tokenizer.special("cls_token").map(|(_, id)| id);
    let answers = Answers {
        bare: Arc::new(tokenizer.without_marks()),
        tokenizer: Arc::new(tokenizer),
        begin,
        lists: false,
    };
    let lists = Answers {
        lists: true,
        ..answers.clone()
    };
    Ok(vec![(one, Arc::new(answers)), (several, Arc::new(lists))])
}

#[derive(Clone)]
struct Answers {
    tokenizer: Arc<Tokenizer>,
    bare: Arc<Tokenizer>,
    begin: Option<u32>,
    /// Whether a row gets a list of answers.
    lists: bool,
}

/// What the params of a job ask for.
#[derive(Clone, Copy)]
struct Wanted {
    /// Answers of a question.
    top_k: usize,
    /// Longest answer, in tokens.
    longest: usize,
    /// Whether answers are whole words.
    words: bool,
    /// Whether there may be none.
    impossible: bool,
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
        let [questions, contexts, _, stride, _, window, ..] = batch.inputs.as_slice() else {
            return Err(Error::internal(
                "question answering takes two texts and seven params",
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
        let [_, contexts, top_k, _, longest, _, _, impossible, words] = rows.batch.inputs.as_slice() else {
            return Err(Error::internal(
                "question answering takes two texts and seven params",
            ));
        };
        let wanted = Wanted {
            top_k: match self.lists {
                true => params::at_least_one(top_k, "top_k")?,
                false => params::only_one(top_k, "answer", "answers")?,
            },
            longest: params::count(longest)?.unwrap_or(LONGEST as usize),
            words: params::flag(words)?,
            impossible: params::flag(impossible)?,
        };
        let windows = rows.all();
        let mut candidates: Vec<(Vec<Candidate>, f64)> = vec![Default::default(); windows.len()];
        runner.run(&windows, None, |mut outputs| {
            let (starts, shape) = outputs.take(&["start_logits"], 2)?;
            let (ends, _) = outputs.take(&["end_logits"], 2)?;
            for (at, &place) in outputs.places.iter().enumerate() {
                let window = windows[place].places()?;
                let part = at * shape[1]..at * shape[1] + window.len();
                candidates[place] = self.candidates(window, &starts[part.clone()], &ends[part], wanted);
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
                    add(&mut found[at], window.places()?, candidate, context, wanted.words);
                }
            }
        }
        for (answers, none) in std::iter::zip(&mut found, no_answer) {
            if wanted.impossible {
                answers.push(Answer {
                    score: none,
                    ..Answer::default()
                });
            }
            answers.sort_by(|a, b| b.score.total_cmp(&a.score));
            answers.truncate(wanted.top_k);
            if answers.is_empty() && !self.lists {
                answers.push(Answer::default());
            }
        }
        let all = Records::of(&found);
        let fields = vec![
            all.numbers(|one| one.score),
            all.counts(|one| one.start),
            all.counts(|one| one.end),
            all.texts(|one| &one.text),
        ];
        if self.lists {
            return Ok(vec![all.column(fields)?]);
        }
        let column = |field| Ok(Value::Tensor(Tensor::new(vec![rows.len()], field)?));
        fields.into_iter().map(column).collect()
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
        wanted: Wanted,
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
            for (last, end) in ends.iter().enumerate().skip(first).take(wanted.longest) {
                let score = start * end;
                spans.push(Candidate { first, last, score });
            }
        }
        // The library takes the best of all spans first, and drops those outside of the context then.
        spans.sort_by(|a, b| b.score.total_cmp(&a.score));
        spans.truncate(match wanted.words {
            // Some may turn out to be the same words.
            true => 2 * wanted.top_k + 10,
            false => wanted.top_k,
        });
        spans.retain(|span| is_open[span.first] && is_open[span.last]);
        if self.lists {
            // Where there are fewer spans than candidates the library lists impossible ones as well.
            spans.retain(|span| span.score > 0.0);
        }
        (spans, none)
    }
}

/// Adds a span as an answer; the same words in another place count together.
fn add(answers: &mut Vec<Answer>, window: &Encoding, span: &Candidate, context: &str, words: bool) {
    let (start, end) = place(window, span, words);
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

/// Where a span lies in the context: its whole words, if they are wanted and the tokenizer knows words.
fn place(window: &Encoding, span: &Candidate, words: bool) -> (usize, usize) {
    let word = |token: usize| {
        let (_, word) = window.token_to_word(token).filter(|_| words)?;
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
