//! Models of two towers, one for texts and one for images, whose vectors lie in one space (CLIP, SigLIP): functions by the
//! names of the library's methods, `get_image_features` and `get_text_features`.
//!
//! Both towers are one network with its weights loaded once. Images are the model that `model/image` makes of it; what is
//! here is the function of texts and the choice between them. A folder that was saved without its tokenizer has images only.

use std::sync::Arc;
use tokenizers::TruncationStrategy;

use super::run::{Rows, Runner, Sequence, Tokens};
use super::tokenizer::Tokenizer;
use super::{Job, Texts, output, text, text_input};
use crate::error::{Error, Result};
use crate::model::image::ImageTasks;
use crate::model::network::{self, Networks};
use crate::model::opened::{Opened, Tasks};
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
    over(networks, engine, files, pretrained, options)
}

fn over(
    networks: Arc<dyn Networks>,
    engine: Engine,
    files: &ModelFiles,
    pretrained: &Pretrained,
    options: &OpenOptions,
) -> Result<Arc<dyn Loaded>> {
    let images = ImageTasks::open(files, pretrained, networks.clone(), engine, options.jpeg_scale)
        .map_err(|error| error.with("model", &files.location))?;
    let has = |name: &str| files.files.contains_key(&format!("{}{name}", pretrained.root));
    let takes_texts = networks.inputs().iter().any(|name| name == "input_ids");
    if !takes_texts || !["tokenizer.json", "vocab.json", "vocab.txt"].into_iter().any(has) {
        return Ok(Arc::new(images));
    }
    let texts = Texts::open(files, pretrained, networks, engine)?;
    Ok(Arc::new(Opened {
        functions: [images.functions, texts.functions].concat(),
        notes: [images.notes, texts.notes].concat(),
        tasks: TwoTowers {
            images: images.tasks,
            texts: texts.tasks,
        },
        networks: images.networks,
        engine,
        // Of all files, which is what an image's is of.
        digest: images.digest,
    }))
}

/// The functions of images, and then that of texts.
struct TwoTowers {
    images: ImageTasks,
    texts: Texts,
}

impl TwoTowers {
    fn tower(&self, place: usize) -> (&dyn Tasks, usize) {
        match place.checked_sub(self.images.count()) {
            Some(place) => (&self.texts, place),
            None => (&self.images, place),
        }
    }
}

impl Tasks for TwoTowers {
    fn worker(&self, networks: &Arc<dyn Networks>, place: usize, threads: usize) -> Result<Box<dyn Model>> {
        let (tower, place) = self.tower(place);
        tower.worker(networks, place, threads)
    }

    fn own_batch_rows(&self, place: usize) -> Option<usize> {
        let (tower, place) = self.tower(place);
        tower.own_batch_rows(place)
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

#[cfg(all(test, feature = "candle"))]
mod tests {
    use super::*;
    use crate::model::network::Network;
    use crate::model::pretrained;
    use std::path::Path;

    /// Networks that say that they are on GPUs.
    struct OnGpus(Arc<dyn Networks>);

    impl Networks for OnGpus {
        fn describe(&self) -> String {
            self.0.describe()
        }

        fn is_on_gpus(&self) -> bool {
            true
        }

        fn inputs(&self) -> &[String] {
            self.0.inputs()
        }

        fn network(self: Arc<Self>, threads: usize) -> Result<Box<dyn Network>> {
            self.0.clone().network(threads)
        }
    }

    #[test]
    fn two_towers_are_on_gpus_if_their_network_is_and_only_texts_are_arranged() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pretrained/clip/model");
        let mut files = ModelFiles::default();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_string();
            files.files.insert(name, std::fs::read(path).unwrap().into());
        }
        let pretrained = pretrained::find(&files, None).unwrap().unwrap();
        let options = OpenOptions::default();
        let (networks, engine) = network::open(&files, &pretrained, &options).unwrap();
        let of = |networks| over(networks, engine, &files, &pretrained, &options).unwrap();
        assert!(!of(networks.clone()).is_on_gpus());
        let model = of(Arc::new(OnGpus(networks)));
        assert!(model.is_on_gpus());
        let functions = model.functions().iter();
        let arranged =
            functions.map(|function| (function.name.as_str(), model.own_batch_rows(function).is_some()));
        let arranged: Vec<_> = arranged.collect();
        assert_eq!(arranged, [("get_image_features", false), (TEXT_FEATURES, true)]);
        assert!(
            model
                .functions()
                .iter()
                .all(|function| model.worker(function, 1).is_ok())
        );
    }
}
