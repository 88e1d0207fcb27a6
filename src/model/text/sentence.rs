//! Sentence embedding: one vector per text, as sentence-transformers make it.
//!
//! After `SentenceTransformer.encode`: prompt and text, network, pooling, dense layers, scaling to length 1, and last the
//! cut to `truncate_dim`.

use std::sync::Arc;
use tokenizers::TruncationStrategy;

use super::dense::Dense;
use super::run::{Rows, Runner, Sequence, Tokens};
use super::tokenizer::Tokenizer;
use super::{Job, VECTORS, output, params, pooling, text, text_input};
use crate::error::{Error, Result};
use crate::model::ModelFiles;
use crate::model::pretrained::{Pretrained, Sentence};
use crate::signature::{Dim, Function, OutputKind};
use crate::tensor::{DType, Tensor, TensorBatch, Value};

/// The functions of the registry, and the prompts that the library looks for.
const FUNCTIONS: &[(&str, &[&str])] = &[
    ("encode", &[]),
    ("encode_query", &["query"]),
    ("encode_document", &["document", "passage", "corpus"]),
];

/// The functions of a sentence-transformers folder.
pub fn functions(
    mut tokenizer: Tokenizer,
    files: &ModelFiles,
    pretrained: &Pretrained,
) -> Result<Vec<(Function, Arc<dyn Job>)>> {
    let sentence = pretrained.sentence.clone().unwrap_or_default();
    if sentence.pooling.is_empty() {
        return Err(
            Error::model("the folder does not say how vectors of tokens become one")
                .with_hint("1_Pooling/config.json says so in folders of sentence-transformers"),
        );
    }
    tokenizer.truncate(tokenizer.most_tokens, TruncationStrategy::LongestFirst, 0)?;
    let tokenizer = Arc::new(tokenizer);
    let dense = sentence.dense.iter().map(|folder| Dense::open(files, folder));
    let dense = Arc::new(dense.collect::<Result<Vec<_>>>()?);
    let one = |&(name, prompts): &(&str, &[&str])| -> Result<(Function, Arc<dyn Job>)> {
        let function = Function {
            name: name.into(),
            inputs: vec![
                text_input("sentence"),
                params::param("batch_size", DType::I64, 0),
                params::param("truncate_dim", DType::I64, sentence.truncate_dim.unwrap_or(0)),
                params::param("prompt_name", DType::String, ""),
            ],
            outputs: vec![output("output", DType::F64, &[Dim::Dynamic], OutputKind::Tensor)],
            fixed_batch_rows: None,
        };
        let job = Embedding {
            tokenizer: Arc::clone(&tokenizer),
            prompt: prompt(&sentence, prompts),
            sentence: sentence.clone(),
            dense: Arc::clone(&dense),
        };
        Ok((function, Arc::new(job)))
    };
    FUNCTIONS.iter().map(one).collect()
}

/// The first of the prompts that the folder has, else its default one.
fn prompt(sentence: &Sentence, names: &[&str]) -> String {
    let named = |name: &str| sentence.prompts.iter().find(|(known, _)| known == name);
    let found = names.iter().find_map(|name| named(name));
    let found = found.or_else(|| sentence.default_prompt.as_deref().and_then(named));
    found.map(|(_, prompt)| prompt.clone()).unwrap_or_default()
}

struct Embedding {
    tokenizer: Arc<Tokenizer>,
    sentence: Sentence,
    prompt: String,
    dense: Arc<Vec<Dense>>,
}

impl Job for Embedding {
    fn read(&self, batch: &TensorBatch, row: usize, cut: &mut u64) -> Result<Vec<Sequence>> {
        let [sentences, _, _, prompt_name] = batch.inputs.as_slice() else {
            return Err(Error::internal("sentence embedding takes texts and three params"));
        };
        let prompt = self.prompt(params::word(prompt_name)?)?;
        let whole = self.whole(prompt, text(sentences, row)?);
        Ok(vec![Tokens::from(&self.tokenizer.ids(&whole, cut)?).into()])
    }

    fn infer(&self, rows: &Rows, runner: &mut Runner) -> Result<Vec<Value>> {
        let [_, batch_size, truncate_dim, prompt_name] = rows.batch.inputs.as_slice() else {
            return Err(Error::internal("sentence embedding takes texts and three params"));
        };
        let prompt = self.prompt(params::word(prompt_name)?)?;
        let prompt_tokens = match self.sentence.include_prompt || prompt.is_empty() {
            true => 0,
            // All but the special token at the end, which comes after the text.
            false => self.tokenizer.ids(prompt.trim(), &mut 0)?.len().saturating_sub(1),
        };
        let (most, dim) = (params::count(batch_size)?, params::count(truncate_dim)?);
        let sequences = rows.all();
        let (mut vectors, mut width) = (Vec::new(), 0);
        let mut vector = Vec::new();
        runner.run(&sequences, most, |mut outputs| {
            let (numbers, shape) = outputs.take(VECTORS, 3)?;
            let (longest, hidden) = (shape[1], shape[2]);
            for (row, &place) in outputs.places.iter().enumerate() {
                vector.clear();
                let numbers = &numbers[row * longest * hidden..(row + 1) * longest * hidden];
                let length = sequences[place].tokens.ids.len();
                let ways = &self.sentence.pooling;
                pooling::pool(numbers, hidden, prompt_tokens, length, ways, &mut vector);
                for dense in self.dense.iter() {
                    vector = dense.apply(&vector)?;
                }
                if self.sentence.normalize {
                    pooling::normalize(&mut vector);
                }
                vector.truncate(dim.unwrap_or(usize::MAX));
                if width == 0 {
                    width = vector.len();
                    vectors.resize(rows.len() * width, 0.0);
                }
                let target = &mut vectors[place * width..(place + 1) * width];
                for (target, number) in std::iter::zip(target, &vector) {
                    *target = f64::from(*number);
                }
            }
            Ok(())
        })?;
        Ok(vec![Value::Tensor(Tensor::new(
            vec![rows.len(), width],
            vectors,
        )?)])
    }
}

impl Embedding {
    /// The prompt of that name; without a name the function's own.
    fn prompt(&self, name: &str) -> Result<&str> {
        if name.is_empty() {
            return Ok(&self.prompt);
        }
        let prompts = &self.sentence.prompts;
        let found = prompts.iter().find(|(known, _)| known == name);
        found.map(|(_, prompt)| prompt.as_str()).ok_or_else(|| {
            let known: Vec<&str> = prompts.iter().map(|(name, _)| name.as_str()).collect();
            Error::config(format!(
                "input.params.prompt_name: the model has no prompt {name}; it has: {}",
                known.join(", ")
            ))
        })
    }

    fn whole(&self, prompt: &str, text: &str) -> String {
        let whole = format!("{prompt}{text}");
        let whole = whole.trim();
        match self.sentence.lower_case {
            true => whole.to_lowercase(),
            false => whole.to_string(),
        }
    }
}
