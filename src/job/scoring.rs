//! The model of a job, matched with its input: what is needed to plan and to score.

use arrow::datatypes::{FieldRef, Schema};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::budget::{self, WorkerPool};
use super::{Host, Survey, digest};
use crate::config::{Backend, Device, Job, ModelOptions, OnRowError};
use crate::decode::Decoder;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::model::{self, Engine, Loaded, Model, ModelFiles, OpenOptions, device};
use crate::pipeline::contents::{self, Contents};
use crate::plan::{self, Plan};
use crate::signature::{self, Function};
use crate::storage::{Referenced, Storage, StoreClass};
use crate::write::columns::{self, OutputColumn};
use crate::write::{EncoderOptions, Form, partition};

/// The model, the function to run and the digest of the job.
pub struct Scoring {
    /// The model.
    pub model: Arc<dyn Loaded>,
    /// The function that is run.
    pub function: Function,
    /// See [`digest`].
    pub config_digest: String,
    /// Who runs it, and on how much of the host.
    pub pool: WorkerPool,
    /// Where the files lie that columns of paths name, by column.
    files: BTreeMap<String, Arc<Referenced>>,
    /// A single-threaded worker's model that has been used for something else.
    spare: Mutex<Option<Spare>>,
}

type Spare = (Engine, Box<dyn Model>);

/// What the pipeline needs beside the models.
pub struct Bound {
    /// Makes tensors of the input.
    pub decoder: Decoder,
    /// The columns the model adds.
    pub outputs: Vec<OutputColumn>,
    /// The columns that the decoder takes; positions in the plan's schema.
    pub inputs: Vec<usize>,
    /// The columns of paths among them.
    pub contents: Option<Contents>,
    /// How files are written.
    pub form: Arc<Form>,
}

impl Scoring {
    /// Opens the model and chooses the function.
    ///
    /// # Errors
    /// `Model` when the model cannot be used; `Config` when the function does not exist or must be chosen.
    pub async fn open(job: &Job, host: &Host, storage: &Storage) -> Result<Scoring> {
        let gpus = device::Request {
            count: job.resources.gpus,
            models: job.inference.num_workers,
        };
        let model = open_model(&job.model, gpus, host, storage).await?;
        let function = choose(model.as_ref(), job.model.function_name.as_deref())?.clone();
        let function = function.fed_by(&job.input.columns)?;
        for note in model.notes() {
            tracing::info!(model = %job.model.location, "{note}");
        }
        let config_digest = digest::of(job, &function.name);
        Ok(Scoring {
            pool: WorkerPool::of(job, host, model.is_on_gpus()),
            model,
            function,
            config_digest,
            files: files_of(job, storage).await?,
            spare: Mutex::new(None),
        })
    }

    /// The same where the run computes its model. A job that leaves the device open takes what a replica has, and replicas
    /// may have different things: so whoever plans settles it for all.
    ///
    /// # Errors
    /// `Config`, when this replica has no GPU for a run that is computed on GPUs, or is kept from it.
    pub async fn placed_by(self, plan: &Plan, job: &Job, host: &Host, storage: &Storage) -> Result<Scoring> {
        if self.model.is_on_gpus() == plan.on_gpus {
            return Ok(self);
        }
        let mut job = job.clone();
        let planned = match (plan.on_gpus, job.model.device) {
            (true, Device::Cpu) => {
                return Err(Error::config(format!(
                    "model.device: cpu can't be had: the model of the run {} is computed on GPUs, as its plan says",
                    plan.run_id
                ))
                .with_hint("leave model.device out, as the replica did that planned the run, or begin another run"));
            }
            (true, _) => Device::Gpus,
            (false, _) => Device::Cpu,
        };
        job.model.device = planned;
        tracing::info!(
            on_gpus = plan.on_gpus,
            "the model is opened again, for the device that the run was planned on"
        );
        let placed = Scoring::open(&job, host, storage).await;
        let placed = match plan.on_gpus {
            true => placed.map_err(|cause| {
                Error::config(format!(
                    "the model of the run {} is computed on GPUs, as its plan says, and this replica has none for it",
                    plan.run_id
                ))
                .with_source(cause)
                .with_hint("give every replica of a run GPUs, or set model.device to cpu for a run of its own")
            })?,
            false => placed?,
        };
        Ok(Scoring {
            // The job is what it was.
            config_digest: self.config_digest,
            ..placed
        })
    }

    /// The plan of a run over the surveyed input.
    ///
    /// # Errors
    /// `Data` or `Config` when model, input and output options do not go together.
    pub fn plan(&self, job: &Job, run_id: &str, store_class: StoreClass, survey: Survey) -> Result<Plan> {
        let met = contents::handled(&survey.schema, &job.input.column_handling)?;
        let binding = signature::bind(&self.function, &met, &job.input.params)?;
        let outputs = self.outputs(job, &survey.schema)?;
        for note in &binding.notes {
            tracing::info!("{note}");
        }
        partition::bind(&survey.schema, &job.output.partition_by)?;
        let own = self.model.own_batch_rows(&self.function);
        let rows = survey.files.iter().map(|file| file.rows).sum();
        let auto = match own {
            Some(own) => own,
            None if self.model.rows_are_independent(&self.function) => {
                budget::batch_rows_for(&self.function, rows)
            }
            None => budget::batch_rows(&self.function),
        };
        Ok(Plan {
            format: plan::FORMAT,
            run_id: run_id.to_string(),
            job_name: job.name.clone(),
            mode: job.output.mode,
            store_class,
            config_digest: self.config_digest.clone(),
            model_digest: self.model.digest().to_string(),
            worker_version: env!("CARGO_PKG_VERSION").to_string(),
            batch_rows: job.inference.max_batch_rows.unwrap_or(auto),
            window_rows: own.map(|_| budget::window_rows(&self.function)),
            engine: self.model.engines(&self.function)[0],
            on_gpus: self.model.is_on_gpus(),
            input_schema: survey.schema,
            outputs: outputs
                .iter()
                .map(|column| column.field.as_ref().clone())
                .collect(),
            inputs: survey.files,
            units: survey.units,
        })
    }

    /// The columns that the model adds.
    fn outputs(&self, job: &Job, input: &Schema) -> Result<Vec<OutputColumn>> {
        let columns = columns::plan(&self.function.outputs, &job.output, input)?;
        match job.input.on_row_error {
            OnRowError::Fail => Ok(columns),
            OnRowError::Null => columns::with_row_errors(columns, &job.output, input),
        }
    }

    /// Everything the pipeline needs for a pinned plan.
    pub fn bind(&self, job: &Job, plan: &Plan) -> Result<Bound> {
        let schema = &plan.input_schema;
        let met = contents::handled(schema, &job.input.column_handling)?;
        let mut binding = signature::bind(&self.function, &met, &job.input.params)?;
        let inputs = binding.narrow();
        let taken = met.project(&inputs).context(
            ErrorKind::Internal,
            "the model is bound to columns that are not there",
        )?;
        let decoder = Decoder::new(&binding, &taken, job.input.on_null, job.input.on_out_of_range)?
            .sparing(job.input.on_row_error == OnRowError::Null);
        let outputs = self.outputs(job, schema)?;
        let added = outputs.iter().map(|column| &column.field);
        if !added.clone().map(AsRef::as_ref).eq(&plan.outputs) {
            return Err(
                Error::model("the model gives other columns than those the plan was made with")
                    .with_hint("all replicas of a run need the same version of Floe and of ONNX Runtime"),
            );
        }
        let fields: Vec<FieldRef> = schema.fields().iter().chain(added).cloned().collect();
        let encoder = EncoderOptions {
            schema: Arc::new(Schema::new(fields)),
            compression: job.output.compression,
            partition_by: partition::bind(schema, &job.output.partition_by)?,
            metadata: vec![
                ("floe.run_id".into(), plan.run_id.clone()),
                ("floe.model_digest".into(), plan.model_digest.clone()),
                ("floe.function".into(), self.function.name.clone()),
                ("floe.version".into(), plan.worker_version.clone()),
            ],
            splice: true,
        };
        Ok(Bound {
            decoder,
            outputs,
            inputs,
            contents: Contents::new(Arc::new(taken), &job.input.column_handling, &self.files)?,
            form: Form::new(encoder)?,
        })
    }

    /// One model per worker, made side by side, for a pinned plan.
    pub async fn workers(&self, count: usize, threads: usize, plan: &Plan) -> Result<Vec<Box<dyn Model>>> {
        let engine = plan.engine;
        let spare = self.spare().take();
        let spare = spare
            .filter(|(known, _)| threads == 1 && *known == engine)
            .map(|(_, model)| model);
        let missing = count - usize::from(spare.is_some()).min(count);
        let making: Vec<_> = (0..missing).map(|_| self.worker(threads, engine)).collect();
        let made = futures::future::try_join_all(making).await?;
        let mut models: Vec<_> = spare.into_iter().chain(made).take(count).collect();
        for model in models.iter_mut().filter_map(|model| model.arranging()) {
            model.limit_rows(plan.batch_rows);
        }
        Ok(models)
    }

    /// A model for one worker that uses `threads` cores.
    ///
    /// # Errors
    /// `Model`, when the plan of another version names an engine that is not to be had.
    pub async fn worker(&self, threads: usize, engine: Engine) -> Result<Box<dyn Model>> {
        let (model, function) = (self.model.clone(), self.function.clone());
        if !model.engines(&function).contains(&engine) {
            return Err(Error::model(format!(
                "the plan wants the model computed by {engine}, which can't do it here"
            ))
            .with_hint("all replicas of a run need the same version of Floe and of ONNX Runtime"));
        }
        tokio::task::spawn_blocking(move || model.worker_on(&function, threads, engine))
            .await
            .context(ErrorKind::Internal, "making a worker's model was cut off")?
    }

    /// Keeps a single-threaded model that was used for something else for the first worker.
    pub fn keep(&self, engine: Engine, model: Box<dyn Model>) {
        *self.spare() = Some((engine, model));
    }

    fn spare(&self) -> MutexGuard<'_, Option<Spare>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the files of each column of paths lie.
async fn files_of(job: &Job, storage: &Storage) -> Result<BTreeMap<String, Arc<Referenced>>> {
    let mut files = BTreeMap::new();
    for (column, handling) in &job.input.column_handling {
        let location = handling.location.as_deref().unwrap_or(&job.input.location);
        let root = storage
            .open(location)
            .await
            .map_err(|error| error.with("column", column))?;
        files.insert(column.clone(), Arc::new(Referenced::new(storage.clone(), root)));
    }
    Ok(files)
}

/// Reads and opens a model.
///
/// # Errors
/// `Model` when there is no model or it cannot be used; `Config` when backend, device, precision or an execution
/// provider cannot be had.
pub async fn open_model(
    wanted: &ModelOptions,
    gpus: device::Request,
    host: &Host,
    storage: &Storage,
) -> Result<Arc<dyn Loaded>> {
    let (location, backend) = (wanted.location.as_str(), wanted.backend);
    let files = if location == "echo" || backend == Some(Backend::Echo) {
        ModelFiles {
            location: location.to_string(),
            files: BTreeMap::new(),
        }
    } else {
        model::files::read(storage, location, backend).await?
    };
    let options = OpenOptions {
        backend,
        device: wanted.device,
        gpus,
        precision: wanted.precision,
        execution_providers: wanted.execution_providers.clone(),
        jpeg_scale: wanted.jpeg_scale,
        onnxruntime_paths: host.onnxruntime_paths.clone(),
    };
    tokio::task::spawn_blocking(move || model::open(files, &options))
        .await
        .context(ErrorKind::Internal, "opening the model was cut off")?
}

/// The function called `name`, or the one that needs no name.
fn choose<'a>(model: &'a dyn Loaded, name: Option<&str>) -> Result<&'a Function> {
    let functions = model.functions();
    let known = || {
        let names: Vec<_> = functions.iter().map(|function| function.name.as_str()).collect();
        names.join(", ")
    };
    match (name, model.default_function()) {
        (Some(name), _) => functions
            .iter()
            .find(|function| function.name == name)
            .or_else(|| {
                functions
                    .iter()
                    .find(|function| function.name.eq_ignore_ascii_case(name))
            })
            .ok_or_else(|| {
                Error::config(format!("model.function_name: the model has no function {name:?}"))
                    .with_hint(format!("it has: {}", known()))
            }),
        (None, Some(function)) => Ok(function),
        (None, None) => Err(
            Error::config(format!("the model has several functions: {}", known()))
                .with_hint("choose one with model.function_name (--function-name)"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit::testing::plan_of;
    use crate::config::SaveMode;
    use crate::config::overrides::{Environment, Overrides};
    use crate::config::resolve::resolve;
    use crate::model::echo::Echo;
    use crate::storage::Variables;

    /// The test model as if it were on GPUs.
    struct OnGpus(Echo);

    impl Loaded for OnGpus {
        fn describe(&self) -> String {
            "echo on cuda:0".into()
        }

        fn functions(&self) -> &[Function] {
            self.0.functions()
        }

        fn digest(&self) -> &str {
            self.0.digest()
        }

        fn notes(&self) -> &[String] {
            self.0.notes()
        }

        fn is_on_gpus(&self) -> bool {
            true
        }

        fn worker(&self, function: &Function, threads: usize) -> Result<Box<dyn Model>> {
            self.0.worker(function, threads)
        }

        fn engines(&self, function: &Function) -> Vec<Engine> {
            self.0.engines(function)
        }
    }

    /// A job with the test model on `device`, of two workers on a host of four cores.
    fn job(device: Device) -> (Job, Host) {
        let flags = Overrides {
            model: Some("echo".into()),
            input: Some("in".into()),
            output: Some("out".into()),
            ..Overrides::default()
        };
        let mut job = resolve(None, &flags, &Environment::default()).unwrap().job;
        job.model.device = device;
        job.inference.num_workers = Some(2);
        let host = Host {
            cpus: 4,
            memory_bytes: 1 << 30,
            onnxruntime_paths: Vec::new(),
            variables: Variables::default(),
        };
        (job, host)
    }

    fn plan(on_gpus: bool) -> Plan {
        Plan {
            on_gpus,
            ..plan_of("run1", SaveMode::Error, &[3])
        }
    }

    #[tokio::test]
    async fn a_replica_with_gpus_computes_a_run_on_processors_that_was_planned_so() {
        let (job, host) = job(Device::Auto);
        let storage = Storage::local();
        let on_processors = Scoring::open(&job, &host, &storage).await.unwrap();
        let digest = on_processors.config_digest.clone();
        let found = Scoring {
            model: Arc::new(OnGpus(Echo::new())),
            pool: WorkerPool::of(&job, &host, true),
            ..on_processors
        };
        let same = found.placed_by(&plan(true), &job, &host, &storage).await.unwrap();
        assert!(same.model.is_on_gpus());
        assert_eq!(same.pool.workers, 4);
        let moved = same.placed_by(&plan(false), &job, &host, &storage).await.unwrap();
        assert!(!moved.model.is_on_gpus());
        assert_eq!((moved.pool.workers, moved.config_digest), (2, digest));
    }

    #[tokio::test]
    async fn a_replica_without_gpus_takes_no_part_in_a_run_on_gpus() {
        let storage = Storage::local();
        for (device, why) in [
            (
                Device::Auto,
                "the model of the run run1 is computed on GPUs, as its plan says, and this replica has none for it",
            ),
            (
                Device::Cpu,
                "model.device: cpu can't be had: the model of the run run1 is computed on GPUs",
            ),
        ] {
            let (job, host) = job(device);
            let scoring = Scoring::open(&job, &host, &storage).await.unwrap();
            let refused = scoring.placed_by(&plan(true), &job, &host, &storage).await;
            let error = refused.err().expect("refused");
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[test]
    fn a_plan_says_so_where_it_is_on_gpus_and_only_there() {
        for (on_gpus, says) in [(true, true), (false, false)] {
            let text = serde_json::to_string(&plan(on_gpus)).unwrap();
            assert_eq!(text.contains("on_gpus"), says, "{text}");
            assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan(on_gpus));
        }
    }
}
