//! Sentence embedding: one vector per text, as sentence-transformers make it.
//!
//! After `SentenceTransformer.encode`: prompt and text, network, pooling, dense layers, scaling to length 1, and last the
//! cut to `truncate_dim`.

use std::sync::Arc;
use tokenizers::TruncationStrategy;

use super::run::{Runner, Tokens};
use super::tokenizer::Tokenizer;
use super::{Job, output, params, pooling, text_input, texts};
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

/// Names of the vectors of tokens: the library's, and those of exported graphs.
const TOKENS: &[&str] = &["last_hidden_state", "token_embeddings"];

/// The functions of a sentence-transformers folder.
pub fn functions(
    mut tokenizer: Tokenizer,
    _files: &ModelFiles,
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
    let one = |&(name, prompts): &(&str, &[&str])| -> Result<(Function, Arc<dyn Job>)> {
        let prompt = prompt(&sentence, prompts);
        let prompt_tokens = match sentence.include_prompt || prompt.is_empty() {
            true => 0,
            // All but the special token at the end, which comes after the text.
            false => tokenizer.ids(&prompt, &mut 0)?.len().saturating_sub(1),
        };
        let function = Function {
            name: name.into(),
            inputs: vec![
                text_input("sentence"),
                params::param("batch_size", DType::I64, 0),
                params::param("truncate_dim", DType::I64, sentence.truncate_dim.unwrap_or(0)),
            ],
            outputs: vec![output("output", DType::F64, &[Dim::Dynamic], OutputKind::Tensor)],
            fixed_batch_rows: None,
        };
        let job = Embedding {
            tokenizer: Arc::clone(&tokenizer),
            sentence: sentence.clone(),
            prompt,
            prompt_tokens,
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
    prompt_tokens: usize,
}

impl Job for Embedding {
    fn infer(&self, batch: &TensorBatch, runner: &mut Runner, cut: &mut u64) -> Result<Vec<Value>> {
        let [sentences, batch_size, truncate_dim] = batch.inputs.as_slice() else {
            return Err(Error::internal(
                "sentence embedding takes texts and two parameters",
            ));
        };
        let (rows, dim) = (params::count(batch_size)?, params::count(truncate_dim)?);
        let sentences = texts(sentences)?.iter();
        let tokens: Vec<Tokens> = sentences
            .map(|text| Ok(Tokens::from(&self.tokenizer.ids(&self.whole(text), cut)?)))
            .collect::<Result<_>>()?;
        let (mut vectors, mut width) = (Vec::new(), 0);
        let mut vector = Vec::new();
        runner.run(&tokens, rows, |mut outputs| {
            let (numbers, shape) = outputs.take(TOKENS, 3)?;
            let (longest, hidden) = (shape[1], shape[2]);
            for (row, &place) in outputs.places.iter().enumerate() {
                vector.clear();
                let numbers = &numbers[row * longest * hidden..(row + 1) * longest * hidden];
                let length = tokens[place].ids.len();
                let ways = &self.sentence.pooling;
                pooling::pool(numbers, hidden, self.prompt_tokens, length, ways, &mut vector);
                if self.sentence.normalize {
                    pooling::normalize(&mut vector);
                }
                vector.truncate(dim.unwrap_or(usize::MAX));
                if width == 0 {
                    width = vector.len();
                    vectors.resize(batch.rows * width, 0.0);
                }
                let target = &mut vectors[place * width..(place + 1) * width];
                for (target, number) in std::iter::zip(target, &vector) {
                    *target = f64::from(*number);
                }
            }
            Ok(())
        })?;
        Ok(vec![Value::Tensor(Tensor::new(
            vec![batch.rows, width],
            vectors,
        )?)])
    }
}

impl Embedding {
    fn whole(&self, text: &str) -> String {
        let whole = format!("{}{text}", self.prompt);
        let whole = whole.trim();
        match self.sentence.lower_case {
            true => whole.to_lowercase(),
            false => whole.to_string(),
        }
    }
}
