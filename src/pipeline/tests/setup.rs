//! Pipelines for tests: files of ids, a function that gives each id back, and models that do so and something besides.

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema};
use futures::TryStreamExt;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::properties::WriterProperties;
use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use tokio::sync::watch;

use super::super::*;
use crate::config::OnOutOfRange;
use crate::plan::{FORMAT, Plan, PlannedFile, units};
use crate::read::FooterReader;
use crate::signature::{Function, InputFeature, OnNull, OutputFeature, OutputKind, Source, bind};
use crate::storage::Location;
use crate::tensor::{DType, TensorBatch, TensorData, Value};
use crate::write::EncoderOptions;

pub fn schema() -> Arc<Schema> {
    Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]))
}

/// Files of the given row group sizes; ids count on through all of them.
fn write_input(folder: &Path, files: &[Vec<usize>]) {
    let mut id = 0i64;
    for (index, groups) in files.iter().enumerate() {
        let properties = WriterProperties::builder()
            .set_max_row_group_row_count(None)
            .build();
        let file = std::fs::File::create(folder.join(format!("{index:03}.parquet"))).unwrap();
        let mut writer = ArrowWriter::try_new(file, schema(), Some(properties)).unwrap();
        for &rows in groups {
            let ids = Int64Array::from_iter_values(id..id + rows as i64);
            writer
                .write(&RecordBatch::try_new(schema(), vec![Arc::new(ids)]).unwrap())
                .unwrap();
            writer.flush().unwrap();
            id += rows as i64;
        }
        writer.close().unwrap();
    }
}

/// A function that takes the id and gives it back.
fn function() -> Function {
    Function {
        name: "same".into(),
        inputs: vec![InputFeature {
            name: "id".into(),
            dtype: DType::I64,
            shape: vec![],
            source: Source::Column("id".into()),
            on_null: None,
            affine: (1.0, 0.0),
        }],
        outputs: vec![OutputFeature {
            name: "same".into(),
            column: "same".into(),
            dtype: DType::I64,
            shape: vec![],
            kind: OutputKind::Tensor,
        }],
        fixed_batch_rows: None,
    }
}

/// What a test model does with a batch of ids.
pub type Behaviour = dyn Fn(&[i64]) -> Result<()> + Send + Sync;

pub struct Same(pub Arc<Behaviour>);

impl Model for Same {
    fn infer(&mut self, batch: &TensorBatch) -> Result<Vec<Value>> {
        let input = batch.inputs[0].clone();
        let TensorData::I64(ids) = &input.data else {
            panic!("ids are int64")
        };
        (self.0)(ids)?;
        Ok(vec![Value::Tensor(input)])
    }
}

pub struct Setup {
    pub folder: tempfile::TempDir,
    pub plan: Arc<Plan>,
    pub pipeline: Pipeline,
}

/// With models that behave like this.
pub async fn set_up(
    files: &[Vec<usize>],
    workers: usize,
    batch_rows: usize,
    behaviour: Arc<Behaviour>,
) -> Setup {
    let same = || Box::new(Same(behaviour.clone())) as Box<dyn Model>;
    set_up_models(files, (0..workers).map(|_| same()).collect(), (batch_rows, None)).await
}

/// With a worker for each of these models, and blocks of at most so many rows.
pub async fn set_up_models(
    files: &[Vec<usize>],
    models: Vec<Box<dyn Model>>,
    (batch_rows, window_rows): (usize, Option<usize>),
) -> Setup {
    let folder = tempfile::tempdir().unwrap();
    write_input(folder.path(), files);
    let location = Location::local(folder.path().to_str().unwrap()).unwrap();
    let mut listed = location.list().await.unwrap();
    listed.sort_by(|a, b| a.path.cmp(&b.path));
    let footers = FooterReader::new(location.clone())
        .read(listed.clone())
        .map_ok(Arc::new);
    let footers: Vec<_> = footers.try_collect().await.unwrap();
    let shapes: Vec<_> = footers.iter().map(|footer| footer.shapes()).collect();
    let planned = listed
        .into_iter()
        .zip(&footers)
        .map(|(file, footer)| PlannedFile::new(file, footer.rows()));
    let plan = Arc::new(Plan {
        format: FORMAT,
        run_id: "test".into(),
        job_name: "test".into(),
        mode: Default::default(),
        store_class: Default::default(),
        config_digest: String::new(),
        model_digest: String::new(),
        worker_version: String::new(),
        engine: crate::model::Engine::Echo,
        on_gpus: false,
        batch_rows,
        window_rows,
        input_schema: schema().as_ref().clone(),
        outputs: vec![Field::new("same", DataType::Int64, true)],
        inputs: planned.collect(),
        units: units::cut(&shapes),
    });
    let binding = bind(&function(), &schema(), &Default::default()).unwrap();
    let added: FieldRef = Arc::new(plan.outputs[0].clone());
    let fields: Vec<FieldRef> = schema().fields().iter().cloned().chain([added.clone()]).collect();
    let form = form(fields);
    let pipeline = Pipeline {
        reader: Reader::new(location, plan.clone(), footers).splicing(form.clone(), vec![0]),
        decoder: Decoder::new(&binding, &schema(), OnNull::Fail, OnOutOfRange::Fail).unwrap(),
        contents: None,
        outputs: vec![OutputColumn {
            output: 0,
            field: added,
        }],
        inputs: vec![0],
        form,
        batch_rows,
        models,
        memory_bytes: 1 << 20,
        grace: Duration::from_secs(20),
        metrics: Default::default(),
        job_began: std::time::Instant::now(),
    };
    Setup {
        folder,
        plan,
        pipeline,
    }
}

pub fn form(fields: Vec<FieldRef>) -> Arc<Form> {
    Form::new(EncoderOptions {
        schema: Arc::new(Schema::new(fields)),
        compression: None,
        partition_by: vec![],
        metadata: vec![],
        splice: true,
    })
    .unwrap()
}

pub fn never() -> watch::Receiver<bool> {
    watch::channel(false).1
}

/// The ids of a unit's files, in order; each must have come back from the model unchanged.
pub fn ids(files: &[EncodedFile]) -> Vec<i64> {
    let unchanged = |(id, same)| {
        assert_eq!(same, Some(id));
        id
    };
    columns(files).into_iter().map(unchanged).collect()
}

/// The ids of a unit's files, in order, and what the model made of them.
pub fn columns(files: &[EncodedFile]) -> Vec<(i64, Option<i64>)> {
    let mut ids = Vec::new();
    for file in files {
        let reader = ParquetRecordBatchReaderBuilder::try_new(file.bytes.join())
            .unwrap()
            .build()
            .unwrap();
        for rows in reader {
            let rows = rows.unwrap();
            let column = |place: usize| rows.column(place).as_primitive::<Int64Type>();
            ids.extend(std::iter::zip(column(0).values().iter().copied(), column(1)));
        }
    }
    ids
}

/// Runs everything; the ids of all units, joined in the order of the units.
pub async fn run(setup: Setup) -> Result<Vec<i64>> {
    run_taking(setup, ids).await
}

/// Runs everything; what is taken of the files of all units, joined in the order of the units.
pub async fn run_taking<T>(setup: Setup, take: impl Fn(&[EncodedFile]) -> Vec<T>) -> Result<Vec<T>> {
    let Setup {
        folder: _folder,
        plan,
        pipeline,
    } = setup;
    let done = Mutex::new(Vec::new());
    let ended = pipeline
        .run(plan.units.clone().into_iter(), never(), |unit| {
            done.lock().unwrap().push((unit.unit.id, take(&unit.files)));
            async { Ok(()) }
        })
        .await?;
    assert_eq!(ended, Ended::Complete);
    let mut done = done.into_inner().unwrap();
    done.sort_by_key(|(id, _)| *id);
    Ok(done.into_iter().flat_map(|(_, taken)| taken).collect())
}

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// A behaviour that lets nobody go on before `workers` of them have a batch in hand. Whoever waits for ever for the others
/// says so after a minute, which decides nothing when all is well.
pub fn together(workers: usize) -> Arc<Behaviour> {
    let (here, arrived) = (Mutex::new(HashSet::new()), Condvar::new());
    Arc::new(move |_: &[i64]| {
        let mut here = here.lock().unwrap();
        here.insert(std::thread::current().id());
        arrived.notify_all();
        let limit = Duration::from_secs(60);
        let (_here, waited) = arrived
            .wait_timeout_while(here, limit, |here| here.len() < workers)
            .unwrap();
        match waited.timed_out() {
            true => Err(Error::model("a worker has nothing to do while there is work")),
            false => Ok(()),
        }
    })
}

/// The batches that models have met.
#[derive(Clone, Default)]
pub struct Met(Arc<Mutex<Vec<Vec<i64>>>>);

impl Met {
    /// A behaviour that takes note of its batches, and lets others go first.
    pub fn behaviour(&self) -> Arc<Behaviour> {
        let met = self.clone();
        Arc::new(move |ids: &[i64]| {
            met.0.lock().unwrap().push(ids.to_vec());
            std::thread::yield_now();
            Ok(())
        })
    }

    /// In an order that does not depend on who met them when.
    pub fn batches(&self) -> Vec<Vec<i64>> {
        let mut met = self.0.lock().unwrap().clone();
        met.sort();
        met
    }
}
