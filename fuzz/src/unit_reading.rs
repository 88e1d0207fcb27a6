//! A Parquet file, whatever its bytes: footer → chunks → blocks → echo → Parquet → the same rows again, or a refusal that
//! names the file.

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use bytes::Bytes;
use floe::config::OnOutOfRange;
use floe::decode::Decoder;
use floe::error::{Error, ErrorKind, Result};
use floe::model::Loaded;
use floe::model::echo::Echo;
use floe::origin::Origin;
use floe::plan::schema::InputSchema;
use floe::plan::{FORMAT, Plan, PlannedFile, units};
use floe::read::{Footer, Reader};
use floe::signature::{OnNull, bind};
use floe::storage::Location;
use floe::tensor::TensorData;
use floe::write::{EncoderOptions, Form, UnitEncoder};
use object_store::{ObjectStoreExt, memory::InMemory};
use std::sync::Arc;

thread_local! {
    /// A store in memory answers at once: this only polls.
    static RUNTIME: tokio::runtime::Runtime =
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime without I/O");
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.with(|runtime| runtime.block_on(future))
}

const FILE: &str = "f.parquet";
/// The column that the echo adds.
const ADDED: &str = "floe row hash";

const BATCH_ROWS: usize = 64;

/// Larger inputs only cost time: what is wrong with a file fits a small one.
const MAX_BYTES: usize = 256 * 1024;

/// Files of more rows are read no further than their footers: runs of one value make millions of rows of a few bytes,
/// which are no fault, but slow to write and read back.
const MAX_ROWS: u64 = 100_000;

pub fn run(bytes: &[u8]) {
    if bytes.len() > MAX_BYTES {
        return;
    }
    let first = match block_on(pass(Bytes::copy_from_slice(bytes), true)) {
        Ok(Some(passed)) => passed,
        Ok(None) => return,
        Err(error) => {
            assert!(
                matches!(error.kind(), ErrorKind::Data | ErrorKind::InputChanged),
                "{error:?}"
            );
            let names_file = error
                .context()
                .iter()
                .any(|(key, file)| *key == "file" && file == FILE);
            assert!(names_file, "no file named: {error}");
            return;
        }
    };
    // Rows of no column leave no trace in a file.
    let Some(written) = first.file else { return };
    let second = match block_on(pass(written, false)) {
        Ok(passed) => passed.expect("as few rows"),
        Err(error) => panic!("Floe can't read what it wrote: {error}"),
    };
    let stored = second.rows.iter().flat_map(|rows| {
        let hashes = rows.column(rows.num_columns() - 1).as_primitive::<Int64Type>();
        hashes.values().to_vec()
    });
    assert_eq!(
        stored.collect::<Vec<_>>(),
        first.hashes,
        "the echo is another one"
    );
    let columns: Vec<usize> = (0..first.schema.fields().len()).collect();
    let kept = second
        .rows
        .iter()
        .map(|rows| rows.project(&columns).expect("the columns of the input"));
    let types: Vec<_> = first
        .schema
        .fields()
        .iter()
        .map(|field| field.data_type())
        .collect();
    let mut hashes = Vec::new();
    for rows in kept {
        let schema = rows.schema();
        assert_eq!(
            schema
                .fields()
                .iter()
                .map(|field| field.data_type())
                .collect::<Vec<_>>(),
            types
        );
        hashes.extend(echo(&rows).expect("rows that were hashed before"));
    }
    assert_eq!(hashes, first.hashes, "the rows are other ones");
}

/// What came of a file.
struct Passed {
    schema: SchemaRef,
    rows: Vec<RecordBatch>,
    hashes: Vec<i64>,
    /// The rows with their hashes, as Parquet.
    file: Option<Bytes>,
}

/// Reads a file; with `scores` also writes it again, with the echo. `None` for a file of too many rows.
async fn pass(file: Bytes, scores: bool) -> Result<Option<Passed>> {
    let store = Arc::new(InMemory::new());
    let path = format!("in/{FILE}");
    store
        .put(&path.as_str().into(), file.into())
        .await
        .expect("memory");
    let location = Location::within(store, "in", "memory")?;
    let listed = location.list().await?.remove(0);
    let footer = Footer::read(&location, &listed).await?;
    if footer.rows() > MAX_ROWS {
        return Ok(None);
    }
    let mut schema = InputSchema::of(FILE, footer.schema())?;
    schema.merge(FILE, footer.schema())?;
    let schema = schema.finish();
    // The program refuses it when it plans the output.
    if scores && schema.fields().iter().any(|field| field.name() == ADDED) {
        return Ok(None);
    }
    let plan = Arc::new(Plan {
        units: units::cut(&[footer.shapes()]),
        inputs: vec![PlannedFile::new(listed, footer.rows())],
        engine: floe::model::Engine::Echo,
        on_gpus: false,
        batch_rows: BATCH_ROWS,
        window_rows: None,
        input_schema: schema,
        format: FORMAT,
        run_id: "run".into(),
        job_name: "job".into(),
        mode: Default::default(),
        store_class: Default::default(),
        config_digest: String::new(),
        model_digest: String::new(),
        worker_version: String::new(),
        outputs: vec![],
    });
    let promised = footer.rows();
    let mut reader = Reader::new(location, plan.clone(), vec![Arc::new(footer)]);
    let form = form(reader.schema())?;
    if scores {
        // The echo takes all columns; those that can be are copied all the same.
        let all = (0..reader.schema().fields().len()).collect();
        reader = reader.splicing(form.clone(), all);
    }
    let mut passed = Passed {
        schema: reader.schema().clone(),
        rows: vec![],
        hashes: vec![],
        file: None,
    };
    let mut files = Vec::new();
    for unit in &plan.units {
        let layout = reader.open(unit).await?;
        let Some(chunk) = layout.chunks.first() else {
            continue;
        };
        let like = &chunk.pieces[0];
        let mut encoder = UnitEncoder::new(form.clone(), Some(&like.footer.row_groups()[like.row_group]));
        for chunk in &layout.chunks {
            let mut blocks = reader.fetch(chunk).await?;
            let mut count = 0;
            while let Some(block) = blocks.next_block()? {
                count += 1;
                assert!(
                    block.rows.num_rows() <= chunk.block_rows,
                    "a block of too many rows"
                );
                assert_eq!(block.rows.num_rows(), block.origin.rows());
                if scores {
                    let hashes = echo(&block.rows).map_err(|error| block.origin.at(error))?;
                    let rewritten = &block.columns.rewritten;
                    let scored = with_hashes(&block.project(rewritten)?, &hashes);
                    let mut columns = rewritten.clone();
                    columns.push(passed.schema.fields().len());
                    encoder
                        .write(&scored, &columns, None)
                        .map_err(|error| block.origin.at(error))?;
                    passed.hashes.extend(hashes);
                }
                passed.rows.push(block.rows);
            }
            assert_eq!(count, chunk.blocks(), "another number of blocks than announced");
            let spliced = blocks.take_spliced();
            encoder
                .end_chunk(spliced)
                .map_err(|error| error.with("file", FILE))?;
        }
        files.extend(encoder.finish().map_err(|error| error.with("file", FILE))?);
    }
    let rows: usize = passed.rows.iter().map(RecordBatch::num_rows).sum();
    assert_eq!(rows as u64, promised, "another number of rows than promised");
    if let [file] = files.as_slice()
        && scores
    {
        assert_eq!(file.rows, promised);
        passed.file = Some(file.bytes.join());
    }
    Ok(Some(passed))
}

fn form(schema: &Schema) -> Result<Arc<Form>> {
    let mut fields = schema.fields().to_vec();
    fields.push(Arc::new(Field::new(ADDED, DataType::Int64, false)));
    Form::new(EncoderOptions {
        schema: Arc::new(Schema::new(fields)),
        compression: None,
        partition_by: vec![],
        metadata: vec![],
        splice: true,
    })
}

fn with_hashes(rows: &RecordBatch, hashes: &[i64]) -> RecordBatch {
    let mut fields = rows.schema_ref().fields().to_vec();
    fields.push(Arc::new(Field::new(ADDED, DataType::Int64, false)));
    let mut columns = rows.columns().to_vec();
    columns.push(Arc::new(arrow::array::Int64Array::from(hashes.to_vec())));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("the rows' own schema")
}

fn echo(rows: &RecordBatch) -> Result<Vec<i64>> {
    let function = Echo::new().functions()[0].clone();
    let binding = bind(&function, rows.schema_ref(), &Default::default())?;
    let decoder = Decoder::new(&binding, rows.schema_ref(), OnNull::Fail, OnOutOfRange::Fail)?;
    let origin = Origin::of(&Arc::from(FILE), 0, 0, rows.num_rows());
    let mut batch = decoder.decode(rows, &origin)?;
    match batch.inputs.remove(0).data {
        TensorData::I64(hashes) => Ok(hashes),
        _ => Err(Error::internal("hashes are int64")),
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    super::parquet_seeds::all()
}
