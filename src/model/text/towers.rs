//! Models of two towers, one for texts and one for images, whose vectors lie in one space (CLIP, SigLIP): functions by the
//! names of the library's methods, `get_image_features` and `get_text_features`.
//!
//! Both towers are one network with its weights loaded once. Images are the model that `model/image` makes of it; what is
//! here is the function of texts and the choice between them. A folder that was saved without its tokenizer has images only.

use std::sync::Arc;
use tokenizers::TruncationStrategy;

use super::run::{Rows, Runner, Sequence, Tokens};
use super::tokenizer::Tokenizer;
use super::{Job, TextModel, output, text, text_input};
use crate::error::{Error, Result};
use crate::model::image::ImageModel;
use crate::model::network;
use crate::model::pretrained::Pretrained;
use crate::model::{Engine, Loaded, Model, ModelFiles, OpenOptions};
use crate::signature::{Dim, Function, OutputKind};
use crate::tensor::{DType, Tensor, TensorBatch, Value};

/// The function of texts.
const TEXT_FEATURES: &str = "get_text_features";

/// A model of two towers.
///
/// # Errors
/// `Model`, for files that are missing or damaged, and an architecture that Floe has no code for; `Config`, for a device or
/// precision that can't be had.
pub fn open(files: &ModelFiles, pretrained: &Pretrained, options: &OpenOptions) -> Result<Arc<dyn Loaded>> {
    let (networks, engine) = network::open(files, pretrained, options)?;
    let images = ImageModel::open(files, pretrained, networks.clone(), engine, options.jpeg_scale)
        .map_err(|error| error.with("model", &files.location))?;
    let has = |name: &str| files.files.contains_key(&format!("{}{name}", pretrained.root));
    let takes_texts = networks.inputs().iter().any(|name| name == "input_ids");
    if !takes_texts || !["tokenizer.json", "vocab.json", "vocab.txt"].into_iter().any(has) {
        return Ok(Arc::new(images));
    }
    let texts = TextModel::open(files, pretrained, networks, engine)?;
    let all = |of: &dyn Fn(&dyn Loaded) -> Vec<Function>| [of(&images), of(&texts)].concat();
    Ok(Arc::new(TwoTowers {
        functions: all(&|tower| tower.functions().to_vec()),
        notes: [images.notes(), texts.notes()].concat(),
        images,
        texts,
    }))
}

struct TwoTowers {
    images: ImageModel,
    texts: TextModel,
    functions: Vec<Function>,
    notes: Vec<String>,
}

impl TwoTowers {
    fn tower(&self, function: &Function) -> &dyn Loaded {
        match function.name == TEXT_FEATURES {
            true => &self.texts,
            false => &self.images,
        }
    }
}

impl Loaded for TwoTowers {
    fn describe(&self) -> String {
        self.images.describe()
    }

    fn functions(&self) -> &[Function] {
        &self.functions
    }

    fn default_function(&self) -> Option<&Function> {
        self.images.default_function()
    }

    /// Of all files, which is what an image's is of.
    fn digest(&self) -> &str {
        self.images.digest()
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }

    fn engines(&self, function: &Function) -> Vec<Engine> {
        self.tower(function).engines(function)
    }

    fn own_batch_rows(&self, function: &Function) -> Option<usize> {
        self.tower(function).own_batch_rows(function)
    }

    fn worker(&self, function: &Function, threads: usize) -> Result<Box<dyn Model>> {
        self.tower(function).worker(function, threads)
    }
}

/// The function of texts.
pub(super) fn functions(
    mut tokenizer: Tokenizer,
    pretrained: &Pretrained,
) -> Result<Vec<(Function, Arc<dyn Job>)>> {
    tokenizer.truncate(tokenizer.most_tokens, TruncationStrategy::LongestFirst, 0)?;
    let function = Function {
        name: TEXT_FEATURES.into(),
        inputs: vec![text_input("text")],
        outputs: vec![output("output", DType::F64, &[Dim::Dynamic], OutputKind::Tensor)],
        fixed_batch_rows: None,
    };
    // SigLIP was trained on texts filled up to its full length, and its last token stands for the text.
    let filled = (pretrained.model_type == "siglip").then_some(tokenizer.most_tokens);
    Ok(vec![(function, Arc::new(TextFeatures { tokenizer, filled }))])
}

struct TextFeatures {
    tokenizer: Tokenizer,
    /// The length that shorter texts are filled up to.
    filled: Option<usize>,
}

impl TextFeatures {
    fn tokens(&self, text: &str, cut: &mut u64) -> Result<Tokens> {
        let mut tokens = Tokens::from(&self.tokenizer.ids(text, cut)?);
        if let Some(length) = self.filled {
            let padding = u32::try_from(self.tokenizer.padding)
                .map_err(|_| Error::model("the token of padding has no id that a network takes"))?;
            tokens.ids.resize(length, padding);
            tokens.kinds.resize(length, 0);
            if !self.tokenizer.gives_mask {
                tokens.attended = length;
            }
        }
        Ok(tokens)
    }
}

impl Job for TextFeatures {
    fn read(&self, batch: &TensorBatch, row: usize, cut: &mut u64) -> Result<Vec<Sequence>> {
        let [column] = batch.inputs.as_slice() else {
            return Err(Error::internal("a tower of texts takes a text"));
        };
        Ok(vec![self.tokens(text(column, row)?, cut)?.into()])
    }

    fn infer(&self, rows: &Rows, runner: &mut Runner) -> Result<Vec<Value>> {
        let encoded = rows.all();
        let (mut vectors, mut width) = (Vec::new(), 0);
        runner.run(&encoded, None, |mut outputs| {
            let (numbers, shape) = outputs.take(&["text_embeds"], 2)?;
            if width == 0 {
                width = shape[1];
                vectors.resize(encoded.len() * width, 0.0);
            }
            for (vector, &place) in std::iter::zip(numbers.chunks_exact(width.max(1)), outputs.places) {
                let target = vectors[place * width..].iter_mut();
                std::iter::zip(target, vector).for_each(|(target, number)| *target = f64::from(*number));
            }
            Ok(())
        })?;
        Ok(vec![Value::Tensor(Tensor::new(
            vec![encoded.len(), width],
            vectors,
        )?)])
    }
}
