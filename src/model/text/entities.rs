//! Token classification: entities of a text, as `TokenClassificationPipeline` finds and groups them.
//!
//! Columns can't depend on params, so every strategy gives the same fields: `entity` is the label of a token or, grouped,
//! of the group; `index` is the place of the token, or of the group's first one. `start` and `end` count characters.

use std::sync::Arc;
use tokenizers::{Encoding, TruncationStrategy};

use super::records::Records;
use super::run::{Rows, Runner, Sequence};
use super::scores::{self, Function as Apply};
use super::tokenizer::Tokenizer;
use super::{CALL, Job, names_of_labels, output, params, text, text_input};
use crate::error::{Error, Result};
use crate::model::pretrained::Pretrained;
use crate::signature::{Function, OutputKind};
use crate::tensor::{DType, TensorBatch, Value};

const FIELDS: &[(&str, DType)] = &[
    ("word", DType::String),
    ("score", DType::F64),
    ("entity", DType::String),
    ("index", DType::I64),
    ("start", DType::I64),
    ("end", DType::I64),
];

/// The label of what is no entity.
const NOTHING: &str = "O";

/// The function of a model that labels tokens.
pub fn functions(mut tokenizer: Tokenizer, pretrained: &Pretrained) -> Result<Vec<(Function, Arc<dyn Job>)>> {
    tokenizer.truncate(tokenizer.most_tokens, TruncationStrategy::LongestFirst, 0)?;
    let function = Function {
        name: CALL.into(),
        inputs: vec![
            text_input("inputs"),
            params::param("aggregation_strategy", DType::String, "none"),
        ],
        outputs: vec![output(
            "outputs",
            DType::F64,
            &[],
            OutputKind::Records { fields: FIELDS },
        )],
        fixed_batch_rows: None,
    };
    let job = Entities {
        unknown: tokenizer.special("unk_token").map(|(_, id)| id),
        prefixed: tokenizer
            .continuing_prefix()
            .is_some_and(|prefix| !prefix.is_empty()),
        labels: names_of_labels(&pretrained.config),
        tokenizer,
    };
    Ok(vec![(function, Arc::new(job))])
}

/// How tokens become entities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strategy {
    None,
    Simple,
    First,
    Average,
    Max,
}

impl Strategy {
    fn named(name: &str) -> Result<Strategy> {
        Ok(match name {
            "" | "none" => Strategy::None,
            "simple" => Strategy::Simple,
            "first" => Strategy::First,
            "average" => Strategy::Average,
            "max" => Strategy::Max,
            other => {
                return Err(Error::config(format!(
                    "input.params.aggregation_strategy: {other} is none of none, simple, first, average, max"
                )));
            }
        })
    }
}

struct Entities {
    tokenizer: Tokenizer,
    labels: Vec<String>,
    unknown: Option<u32>,
    /// Pieces within words are marked as such.
    prefixed: bool,
}

/// A token of a text with the scores of its labels.
struct Piece {
    word: String,
    scores: Vec<f32>,
    index: usize,
    start: usize,
    end: usize,
    /// It goes on with a word.
    goes_on: bool,
}

#[derive(Clone, Debug, PartialEq)]
struct Entity {
    word: String,
    score: f32,
    label: String,
    index: usize,
    start: usize,
    end: usize,
}

impl Job for Entities {
    fn read(&self, batch: &TensorBatch, row: usize, cut: &mut u64) -> Result<Vec<Sequence>> {
        let Some(column) = batch.inputs.first() else {
            return Err(Error::internal("token classification takes a text"));
        };
        let encoding = self.tokenizer.placed(text(column, row)?, cut)?;
        Ok(vec![Sequence::placed(encoding)])
    }

    fn infer(&self, rows: &Rows, runner: &mut Runner) -> Result<Vec<Value>> {
        let [column, strategy] = rows.batch.inputs.as_slice() else {
            return Err(Error::internal(
                "token classification takes a text and a strategy",
            ));
        };
        let strategy = Strategy::named(params::word(strategy)?)?;
        let encoded = rows.all();
        let mut found: Vec<Vec<Entity>> = vec![Vec::new(); rows.len()];
        runner.run(&encoded, None, |mut outputs| {
            let (mut numbers, shape) = outputs.take(&["logits"], 3)?;
            let (longest, labels) = (shape[1], shape[2]);
            if labels != self.labels.len() {
                return Err(Error::model(format!(
                    "the network gives {labels} scores a token, and config.json names {} labels",
                    self.labels.len()
                )));
            }
            for (row, &place) in outputs.places.iter().enumerate() {
                let numbers = &mut numbers[row * longest * labels..(row + 1) * longest * labels];
                let sentence = text(column, rows.rows[place])?;
                let pieces = self.pieces(sentence, encoded[place].places()?, numbers);
                found[place] = self.entities(pieces, strategy)?;
            }
            Ok(())
        })?;
        let all = Records::of(&found);
        let fields = vec![
            all.texts(|one| &one.word),
            all.numbers(|one| f64::from(one.score)),
            all.texts(|one| &one.label),
            all.counts(|one| one.index),
            all.counts(|one| one.start),
            all.counts(|one| one.end),
        ];
        Ok(vec![all.column(fields)?])
    }
}

impl Entities {
    fn pieces(&self, sentence: &str, encoding: &Encoding, numbers: &mut [f32]) -> Vec<Piece> {
        let characters: Vec<char> = sentence.chars().collect();
        let part = |start: usize, end: usize| -> String {
            characters
                .get(start..end.min(characters.len()))
                .unwrap_or_default()
                .iter()
                .collect()
        };
        let mut pieces = Vec::with_capacity(encoding.len());
        for (index, scores) in numbers
            .chunks_mut(self.labels.len())
            .take(encoding.len())
            .enumerate()
        {
            if encoding.get_special_tokens_mask()[index] == 1 {
                continue;
            }
            Apply::Softmax.apply(scores);
            let (start, end) = encoding.get_offsets()[index];
            let word = encoding.get_tokens()[index].clone();
            let written = part(start, end);
            let is_unknown = Some(encoding.get_ids()[index]) == self.unknown;
            let goes_on = match self.prefixed {
                true => word.chars().count() != written.chars().count(),
                // The library's guess for tokenizers that know no words.
                false => start > 0 && !part(start - 1, start + 1).contains(' '),
            };
            pieces.push(Piece {
                word: if is_unknown { written } else { word },
                scores: scores.to_vec(),
                index,
                start,
                end,
                goes_on: goes_on && !is_unknown,
            });
        }
        pieces
    }

    fn entities(&self, pieces: Vec<Piece>, strategy: Strategy) -> Result<Vec<Entity>> {
        let entities = match strategy {
            Strategy::None | Strategy::Simple => pieces.iter().map(|piece| self.alone(piece)).collect(),
            _ => self.words(&pieces, strategy)?,
        };
        let entities = match strategy {
            Strategy::None => entities,
            _ => self.grouped(entities)?,
        };
        Ok(entities
            .into_iter()
            .filter(|entity| entity.label != NOTHING)
            .collect())
    }

    fn alone(&self, piece: &Piece) -> Entity {
        let best = scores::greatest(&piece.scores);
        Entity {
            word: piece.word.clone(),
            score: piece.scores[best],
            label: self.labels[best].clone(),
            index: piece.index,
            start: piece.start,
            end: piece.end,
        }
    }

    /// One entity per word: pieces within a word agree.
    fn words(&self, pieces: &[Piece], strategy: Strategy) -> Result<Vec<Entity>> {
        let mut words = Vec::new();
        let mut start = 0;
        for end in 1..=pieces.len() {
            if end == pieces.len() || !pieces[end].goes_on {
                words.push(self.word(&pieces[start..end], strategy)?);
                start = end;
            }
        }
        Ok(words)
    }

    fn word(&self, pieces: &[Piece], strategy: Strategy) -> Result<Entity> {
        let scores = match strategy {
            Strategy::Max => {
                let best = |piece: &Piece| piece.scores[scores::greatest(&piece.scores)];
                let better = |a: usize, b: usize| if best(&pieces[b]) > best(&pieces[a]) { b } else { a };
                pieces[(1..pieces.len()).fold(0, better)].scores.clone()
            }
            Strategy::Average => {
                let sum = |label: usize| pieces.iter().map(|piece| piece.scores[label]).sum::<f32>();
                (0..self.labels.len())
                    .map(|label| sum(label) / pieces.len() as f32)
                    .collect()
            }
            _ => pieces[0].scores.clone(),
        };
        let best = scores::greatest(&scores);
        Ok(Entity {
            word: self
                .tokenizer
                .joined(pieces.iter().map(|piece| piece.word.clone()))?,
            score: scores[best],
            label: self.labels[best].clone(),
            index: pieces[0].index,
            start: pieces[0].start,
            end: pieces[pieces.len() - 1].end,
        })
    }

    /// Neighbours of one sort become one; `B-` begins a new one.
    fn grouped(&self, entities: Vec<Entity>) -> Result<Vec<Entity>> {
        let tag = |label: &str| match label.split_at_checked(2) {
            Some(("B-", tag)) => (true, tag.to_string()),
            Some(("I-", tag)) => (false, tag.to_string()),
            _ => (false, label.to_string()),
        };
        let mut groups: Vec<Vec<Entity>> = Vec::new();
        for entity in entities {
            let (begins, sort) = tag(&entity.label);
            match groups.last_mut() {
                Some(group) if !begins && group.last().is_some_and(|last| tag(&last.label).1 == sort) => {
                    group.push(entity);
                }
                _ => groups.push(vec![entity]),
            }
        }
        groups.iter().map(|group| self.group(group)).collect()
    }

    fn group(&self, group: &[Entity]) -> Result<Entity> {
        let first = &group[0];
        let label = first
            .label
            .split_once('-')
            .map_or(first.label.as_str(), |(_, sort)| sort);
        Ok(Entity {
            word: self
                .tokenizer
                .joined(group.iter().map(|entity| entity.word.clone()))?,
            score: group.iter().map(|entity| entity.score).sum::<f32>() / group.len() as f32,
            label: label.to_string(),
            index: first.index,
            start: first.start,
            end: group[group.len() - 1].end,
        })
    }
}
