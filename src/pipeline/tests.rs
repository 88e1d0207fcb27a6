//! The whole pipeline with models that fail, panic, dawdle or count.

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema};
use bytes::Bytes;
use futures::TryStreamExt;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::properties::WriterProperties;
use proptest::prelude::*;
use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use tokio::sync::watch;

use super::*;
use crate::config::OnOutOfRange;
use crate::plan::{FORMAT, Plan, PlannedFile, units};
use crate::read::FooterReader;
use crate::signature::{Function, InputFeature, OnNull, OutputFeature, OutputKind, Source, bind};
use crate::storage::Location;
use crate::tensor::{DType, TensorBatch, TensorData, Value};
use crate::write::EncoderOptions;

mod arranged;

fn schema() -> Arc<Schema> {
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
type Behaviour = dyn Fn(&[i64]) -> Result<()> + Send + Sync;

struct Same(Arc<Behaviour>);

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

struct Setup {
    folder: tempfile::TempDir,
    plan: Arc<Plan>,
    pipeline: Pipeline,
}

async fn set_up(files: &[Vec<usize>], workers: usize, batch_rows: usize, behaviour: Arc<Behaviour>) -> Setup {
    set_up_windows(files, workers, (batch_rows, None), behaviour).await
}

/// Likewise, with blocks of at most so many rows.
async fn set_up_windows(
    files: &[Vec<usize>],
    workers: usize,
    (batch_rows, window_rows): (usize, Option<usize>),
    behaviour: Arc<Behaviour>,
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
    let models = (0..workers)
        .map(|_| Box::new(Same(behaviour.clone())) as Box<dyn Model>)
        .collect();
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

fn form(fields: Vec<FieldRef>) -> Arc<Form> {
    Form::new(EncoderOptions {
        schema: Arc::new(Schema::new(fields)),
        compression: None,
        partition_by: vec![],
        metadata: vec![],
        splice: true,
    })
    .unwrap()
}

fn never() -> watch::Receiver<bool> {
    watch::channel(false).1
}

/// The ids of a unit's files, in order; each must have come back from the model unchanged.
fn ids(files: &[EncodedFile]) -> Vec<i64> {
    let unchanged = |(id, same)| {
        assert_eq!(same, Some(id));
        id
    };
    columns(files).into_iter().map(unchanged).collect()
}

/// The ids of a unit's files, in order, and what the model made of them.
fn columns(files: &[EncodedFile]) -> Vec<(i64, Option<i64>)> {
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
async fn run(setup: Setup) -> Result<Vec<i64>> {
    let Setup {
        folder: _folder,
        plan,
        pipeline,
    } = setup;
    let done = Mutex::new(Vec::new());
    let ended = pipeline
        .run(plan.units.clone().into_iter(), never(), |unit| {
            done.lock().unwrap().push((unit.unit.id, ids(&unit.files)));
            async { Ok(()) }
        })
        .await?;
    assert_eq!(ended, Ended::Complete);
    let mut done = done.into_inner().unwrap();
    done.sort();
    Ok(done.into_iter().flat_map(|(_, ids)| ids).collect())
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_the_files_workers_and_batches_every_row_passes_once_and_in_order(
        files in proptest::collection::vec(proptest::collection::vec(0usize..3000, 0..5), 1..6),
        workers in 1usize..5,
        batch_rows in prop_oneof![Just(1usize), 2..700usize, Just(100_000)],
    ) {
        let total: usize = files.iter().flatten().sum();
        let most = Arc::new(AtomicUsize::new(0));
        let seen = most.clone();
        let behaviour = move |ids: &[i64]| {
            seen.fetch_max(ids.len(), Ordering::Relaxed);
            Ok(())
        };
        let rows = block_on(async { run(set_up(&files, workers, batch_rows, Arc::new(behaviour)).await).await });
        prop_assert_eq!(rows.unwrap(), (0..total as i64).collect::<Vec<_>>());
        prop_assert!(most.load(Ordering::Relaxed) <= batch_rows);
    }
}

/// A behaviour that lets nobody go on before `workers` of them have a batch in hand. Whoever waits for ever for the others
/// says so after a minute, which decides nothing when all is well.
fn together(workers: usize) -> Arc<Behaviour> {
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

#[test]
fn a_small_unit_is_work_for_every_worker() {
    let cases = [
        (vec![vec![4]], 4, 1),
        (vec![vec![700]], 4, 16),
        (vec![vec![90]; 8], 3, 16),
        (vec![vec![20_000]], 2, 10_000),
    ];
    for (files, workers, batch_rows) in cases {
        let total = files.iter().flatten().sum::<usize>() as i64;
        let rows =
            block_on(async { run(set_up(&files, workers, batch_rows, together(workers)).await).await });
        assert_eq!(rows.unwrap(), (0..total).collect::<Vec<_>>());
    }
}

/// The bytes of all files, and which batches the model met.
fn bytes_and_batches(files: &[Vec<usize>], workers: usize, batch_rows: usize) -> (Vec<Bytes>, Vec<Vec<i64>>) {
    let met = Arc::new(Mutex::new(Vec::new()));
    let meeting = met.clone();
    let behaviour = move |ids: &[i64]| {
        meeting.lock().unwrap().push(ids.to_vec());
        std::thread::yield_now();
        Ok(())
    };
    let done = Mutex::new(Vec::new());
    block_on(async {
        let Setup {
            folder: _folder,
            plan,
            pipeline,
        } = set_up(files, workers, batch_rows, Arc::new(behaviour)).await;
        let units = plan.units.clone().into_iter();
        let ended = pipeline.run(units, never(), |unit| {
            let bytes: Vec<Bytes> = unit.files.iter().map(|file| file.bytes.join()).collect();
            done.lock().unwrap().push((unit.unit.id, bytes));
            async { Ok(()) }
        });
        assert_eq!(ended.await.unwrap(), Ended::Complete);
    });
    let mut done = done.into_inner().unwrap();
    done.sort();
    let mut met = met.lock().unwrap().clone();
    met.sort();
    (done.into_iter().flat_map(|(_, bytes)| bytes).collect(), met)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn bytes_and_batches_are_the_same_however_many_workers_share_them(
        files in proptest::collection::vec(proptest::collection::vec(1usize..1500, 1..4), 1..4),
        workers in 2usize..6,
        batch_rows in 1..300usize,
    ) {
        let alone = bytes_and_batches(&files, 1, batch_rows);
        prop_assert_eq!(bytes_and_batches(&files, workers, batch_rows), alone);
    }
}

/// A model that says when its worker has ended.
struct Ending {
    same: Same,
    ended: Arc<(Mutex<bool>, Condvar)>,
}

impl Model for Ending {
    fn infer(&mut self, batch: &TensorBatch) -> Result<Vec<Value>> {
        self.same.infer(batch)
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        *self.ended.0.lock().unwrap() = true;
        self.ended.1.notify_all();
    }
}

/// The second to have a batch in hand fails; the first waits until that one's worker has ended, and leaves the rest of its share.
#[test]
fn after_an_error_nobody_goes_on_with_a_long_share() {
    let ended = Arc::new((Mutex::new(false), Condvar::new()));
    let met = Arc::new(AtomicUsize::new(0));
    let (worker, meeting) = (ended.clone(), met.clone());
    let behaviour: Arc<Behaviour> = Arc::new(move |_: &[i64]| match meeting.fetch_add(1, Ordering::SeqCst) {
        1 => Err(Error::model("no")),
        _ => {
            let limit = Duration::from_secs(60);
            let has_ended = worker.0.lock().unwrap();
            let (_ended, waited) = worker
                .1
                .wait_timeout_while(has_ended, limit, |has_ended| !*has_ended)
                .unwrap();
            assert!(!waited.timed_out(), "nobody failed");
            Ok(())
        }
    });
    let result = block_on(async {
        let mut setup = set_up(&[vec![10_000]], 2, 1, behaviour.clone()).await;
        for model in &mut setup.pipeline.models {
            let (same, ended) = (Same(behaviour.clone()), ended.clone());
            *model = Box::new(Ending { same, ended });
        }
        run(setup).await
    });
    assert_eq!(result.unwrap_err().message(), "no");
    assert_eq!(met.load(Ordering::SeqCst), 2);
}

/// Failure matrix: 56, 60.
#[test]
fn a_panic_in_a_model_ends_the_job_and_says_where() {
    let behaviour = |ids: &[i64]| -> Result<()> {
        assert!(!ids.contains(&2500), "the model is out of its depth");
        Ok(())
    };
    let error = block_on(async {
        run(set_up(&[vec![20_000], vec![2000, 20_000]], 2, 100, Arc::new(behaviour)).await).await
    });
    // Row 2500 lies in the first file; a block may hold more rows than the batch that failed.
    let text = error.unwrap_err().to_string();
    assert!(text.contains("out of its depth"), "{text}");
    assert!(text.contains("file 000.parquet, row group 0, rows 0-"), "{text}");
}

/// Failure matrix: 58.
#[test]
fn an_error_of_a_model_names_the_rows_of_its_batch() {
    let behaviour = |ids: &[i64]| match ids.contains(&25_500) {
        true => Err(Error::model("no")),
        false => Ok(()),
    };
    let error = block_on(async {
        run(set_up(
            &[vec![20_000], vec![20_000, 20_000]],
            3,
            1000,
            Arc::new(behaviour),
        )
        .await)
        .await
    });
    let text = error.unwrap_err().to_string();
    assert_eq!(text, "no (file 001.parquet, row group 0, rows 5000-5999)");
}

/// Failure matrix: 60.
#[test]
fn an_error_of_the_sink_ends_the_job() {
    let result = block_on(async {
        let Setup {
            folder: _folder,
            plan,
            pipeline,
        } = set_up(&vec![vec![50_000]; 8], 2, 4096, Arc::new(|_: &[i64]| Ok(()))).await;
        pipeline
            .run(plan.units.clone().into_iter(), never(), |_| async {
                Err(Error::storage("disk full"))
            })
            .await
    });
    assert_eq!(result.unwrap_err().to_string(), "disk full");
}

/// Row groups large enough that each file is a unit of its own.
fn units_of_their_own(count: usize) -> Vec<Vec<usize>> {
    vec![vec![200_000]; count]
}

/// Failure matrix: 59.
#[test]
fn a_stop_finishes_what_has_begun_and_leaves_the_rest() {
    let (stop, stopped) = watch::channel(false);
    let stop = Arc::new(stop);
    let asked = stop.clone();
    let behaviour = move |ids: &[i64]| {
        if ids.contains(&250_000) {
            asked.send_replace(true);
        }
        std::thread::sleep(Duration::from_millis(1));
        Ok(())
    };
    let done = Mutex::new(Vec::new());
    let (ended, units) = block_on(async {
        let Setup {
            folder: _folder,
            plan,
            pipeline,
        } = set_up(&units_of_their_own(6), 1, 4096, Arc::new(behaviour)).await;
        let ended = pipeline
            .run(plan.units.clone().into_iter(), stopped, |unit| {
                done.lock().unwrap().push(ids(&unit.files).len());
                async { Ok(()) }
            })
            .await;
        (ended.unwrap(), plan.units.len())
    });
    assert_eq!(ended, Ended::Stopped);
    let done = done.into_inner().unwrap();
    assert!(done.len() < units, "{done:?}");
    assert!(done.iter().all(|&rows| rows == 200_000), "{done:?}");
}

/// Failure matrix: 59.
#[test]
fn a_unit_that_takes_longer_than_the_grace_period_is_dropped() {
    let (stop, stopped) = watch::channel(true);
    let behaviour = |_: &[i64]| {
        std::thread::sleep(Duration::from_millis(50));
        Ok(())
    };
    let result = block_on(async {
        let Setup {
            folder: _folder,
            plan,
            mut pipeline,
        } = set_up(&[vec![200_000]], 1, 1000, Arc::new(behaviour)).await;
        pipeline.grace = Duration::from_millis(200);
        let run = pipeline.run(plan.units.clone().into_iter(), stopped, |_| async { Ok(()) });
        let ask = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            stop.send_replace(true);
        };
        tokio::join!(run, ask).0
    });
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert!(error.to_string().contains("grace period of 0.2 s"), "{error}");
}
