//! A pretrained model of images: its processor, its network and its tasks, as functions.

use std::sync::Arc;

use super::preprocess::Preprocess;
use super::processor;
use super::rows::{Images, append, bytes_of};
use super::task::{self, Task};
use crate::config::JpegScale;
use crate::error::{Error, Result};
use crate::model::network::{self, Named, Network, Networks};
use crate::model::opened::{Opened, Tasks};
use crate::model::pretrained::Pretrained;
use crate::model::{Engine, Loaded, Model, ModelFiles, OpenOptions, Outcome};
use crate::tensor::{Tensor, TensorBatch, Value};

/// The functions of a folder whose task is one of images.
///
/// # Errors
/// `Model`, for a processor that is missing or not known, weights that can't be read, or a network that fails; `Config`, for
/// a device, precision or execution provider that can't be had.
pub fn open(files: &ModelFiles, pretrained: &Pretrained, options: &OpenOptions) -> Result<Arc<dyn Loaded>> {
    let (networks, engine) = network::open(files, pretrained, options)?;
    let opened = ImageTasks::open(files, pretrained, networks, engine, options.jpeg_scale);
    Ok(Arc::new(
        opened.map_err(|error| error.with("model", &files.location))?,
    ))
}

/// The functions of a model of images.
pub struct ImageTasks {
    steps: Preprocess,
    extents: (u32, u32),
    /// One per function.
    tasks: Vec<Arc<dyn Task>>,
}

impl ImageTasks {
    /// The functions of `pretrained` over `networks`, tried on a black image.
    ///
    /// # Errors
    /// `Model`, for a processor that is missing or not known, or when the network fails.
    pub fn open(
        files: &ModelFiles,
        pretrained: &Pretrained,
        networks: Arc<dyn Networks>,
        engine: Engine,
        jpeg_scale: Option<JpegScale>,
    ) -> Result<Opened<ImageTasks>> {
        let settings = pretrained.image_processor.as_ref().ok_or_else(|| {
            Error::model(
                "the folder has no preprocessor_config.json, so nothing says how images become numbers",
            )
            .with_hint(
                "save it beside the weights: AutoImageProcessor.from_pretrained(…).save_pretrained(folder)",
            )
        })?;
        let mut steps = processor::read(settings)?;
        steps.jpeg_scale = jpeg_scale.unwrap_or_default();
        let extents = steps.extents().ok_or_else(|| {
            Error::model("preprocessor_config.json lets every image have another size")
                .with_hint("give size as a height and a width, or a crop_size")
        })?;
        let (height, width) = (extents.0 as usize, extents.1 as usize);
        let black = Named {
            name: "pixel_values".into(),
            tensor: Tensor::new(vec![1, 3, height, width], vec![0f32; 3 * height * width])?,
        };
        let seen = networks.clone().network(1)?.run(vec![black])?;
        let (mut functions, mut tasks) = (Vec::new(), Vec::<Arc<dyn Task>>::new());
        for (index, task) in task::tasks(pretrained)?.into_iter().enumerate() {
            match task.function(&seen) {
                Ok(function) => {
                    functions.push(function);
                    tasks.push(task.into());
                }
                // What only some networks can do (pooling) is left out for others.
                Err(_) if index > 0 => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Opened {
            networks,
            engine,
            functions,
            digest: crate::model::digest(files.files.iter().map(|(path, bytes)| (path.as_str(), bytes))),
            notes: vec![format!(
                "images become {height} x {width} pixels, as preprocessor_config.json says"
            )],
            tasks: ImageTasks {
                steps,
                extents,
                tasks,
            },
        })
    }

    /// How many functions there are.
    pub fn count(&self) -> usize {
        self.tasks.len()
    }
}

impl Tasks for ImageTasks {
    fn worker(&self, networks: &Arc<dyn Networks>, place: usize, threads: usize) -> Result<Box<dyn Model>> {
        Ok(Box::new(ImageWorker {
            images: Images::new(&self.steps, self.extents.0, self.extents.1),
            network: networks.clone().network(threads)?,
            task: self.tasks[place].clone(),
        }))
    }
}

struct ImageWorker {
    images: Images,
    network: Box<dyn Network>,
    task: Arc<dyn Task>,
}

impl Model for ImageWorker {
    fn infer(&mut self, batch: &TensorBatch) -> Result<Vec<Value>> {
        self.infer_rows(batch)?.all()
    }

    fn infer_rows(&mut self, batch: &TensorBatch) -> Result<Outcome> {
        let Some((images, params)) = batch.inputs.split_first() else {
            return Err(Error::internal("a model of images was given nothing"));
        };
        let images = bytes_of(images)?;
        let at_once = self.images.at_once();
        let mut outcome = Outcome::default();
        for (index, images) in images.chunks(at_once).enumerate() {
            let tensor = self
                .images
                .tensor_of(images, index * at_once, &mut outcome.failed)?;
            if tensor.rows() == 0 {
                continue;
            }
            let pixels = Named {
                name: "pixel_values".into(),
                tensor,
            };
            let outputs = self.network.run(vec![pixels])?;
            append(&mut outcome, self.task.values(outputs, params)?)?;
        }
        Ok(outcome)
    }
}
