//! What the scenarios share: folders of Parquet, the program, and a second look at what it wrote.

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use tempfile::TempDir;

/// Where the project lies.
pub fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Python that `make test` sets up.
pub fn python() -> PathBuf {
    let python = project().join(".venv/bin/python");
    assert!(
        python.exists(),
        "no Python environment: run `make python` first, or `make test`"
    );
    python
}

/// A scratch folder with an input and an output in it.
pub struct Scenario {
    folder: TempDir,
}

impl Scenario {
    /// An empty input.
    pub fn new() -> Scenario {
        let scenario = Scenario {
            folder: tempfile::tempdir().unwrap(),
        };
        std::fs::create_dir(scenario.input()).unwrap();
        scenario
    }

    /// Files of so many rows each, with row groups of at most `group_rows`; ids count on through all files.
    pub fn with_files(rows: &[usize], group_rows: usize) -> Scenario {
        let scenario = Scenario::new();
        let mut first = 0;
        for (index, &count) in rows.iter().enumerate() {
            let path = scenario.input().join(format!("part-{index:04}.parquet"));
            write_parquet(&path, &table(first, count), group_rows);
            first += count;
        }
        scenario
    }

    /// `files` files of 40 rows whose cells are so long that each file is a unit of its own: many units, little work.
    pub fn with_long_rows(files: usize) -> Scenario {
        let scenario = Scenario::new();
        for index in 0..files {
            let path = scenario.input().join(format!("part-{index:04}.parquet"));
            let rows = long_table(index * LONG_ROWS, LONG_ROWS);
            write_parquet_as(&path, &rows, 8, Compression::UNCOMPRESSED);
        }
        scenario
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn input(&self) -> PathBuf {
        self.path().join("in")
    }

    pub fn output(&self) -> PathBuf {
        self.path().join("out")
    }

    /// `floe run --model echo` over this scenario's folders, with more arguments.
    pub fn run(&self, arguments: &[&str]) -> Run {
        finish(self.command(arguments))
    }

    /// The same, as a command to start.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = floe(["run", "--model", "echo"]);
        command
            .arg("--input")
            .arg(self.input())
            .arg("--output")
            .arg(self.output())
            .args(arguments);
        command
    }

    /// The rows of the output, by id: `(name, value, hash)`.
    pub fn rows(&self) -> BTreeMap<i64, (Option<String>, f64, i64)> {
        rows_of(&self.output())
    }

    /// Relative paths of all files of the output, sorted.
    pub fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        collect(&self.output(), &self.output(), &mut files);
        files.sort();
        files
    }

    /// The Parquet files of the output with their bytes.
    pub fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        contents_of(&self.output())
    }

    /// How many units have a commit record. A name with # is one that is being written, or was when its writer died.
    pub fn records(&self) -> usize {
        self.files()
            .iter()
            .filter(|file| file.starts_with("_floe/e") && file.contains("/c/") && !file.contains('#'))
            .count()
    }

    pub fn marker(&self) -> Option<serde_json::Value> {
        let bytes = std::fs::read(self.output().join("_SUCCESS")).ok()?;
        Some(serde_json::from_slice(&bytes).unwrap())
    }
}

/// The program with arguments, its environment free of anything a job would listen to.
pub fn floe<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_floe"));
    for name in [
        "FLOE_JOB",
        "FLOE_RUN_ID",
        "FLOE_LOG",
        "SNOWFLAKE_JOB_INDEX",
        "SNOWFLAKE_JOBS_COUNT",
        "JOB_COMPLETION_INDEX",
        "SNOWFLAKE_SERVICE_NAME",
    ] {
        command.env_remove(name);
    }
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// How a run ended.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    /// Fails the test unless the run succeeded.
    #[track_caller]
    pub fn ok(self) -> Run {
        assert_eq!(
            self.code,
            Some(0),
            "stdout: {}\nstderr: {}",
            self.stdout,
            self.stderr
        );
        self
    }

    /// Fails the test unless the run ended with `code` and said all of `texts`.
    #[track_caller]
    pub fn fails(self, code: i32, texts: &[&str]) -> Run {
        assert_eq!(
            self.code,
            Some(code),
            "stdout: {}\nstderr: {}",
            self.stdout,
            self.stderr
        );
        for text in texts {
            let said = self.stderr.contains(text) || self.stdout.contains(text);
            assert!(
                said,
                "no {text:?} in stdout: {}\nstderr: {}",
                self.stdout, self.stderr
            );
        }
        self
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Run {
        Run {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

pub fn finish(mut command: Command) -> Run {
    command.output().unwrap().into()
}

/// Starts a process that nobody will read the words of.
pub fn start(mut command: Command) -> Child {
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

pub fn schema() -> Arc<Schema> {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("name", DataType::Utf8, true),
        Field::new("value", DataType::Float64, false),
    ]))
}

/// `count` rows with ids from `first`: every tenth name is null.
pub fn table(first: usize, count: usize) -> RecordBatch {
    let ids: Vec<i64> = (first..first + count).map(|id| id as i64).collect();
    let names = ids
        .iter()
        .map(|id| (id % 10 != 0).then(|| format!("name {}", id % 97)));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(ids.clone())),
        Arc::new(StringArray::from_iter(names)),
        Arc::new(Float64Array::from_iter_values(
            ids.iter().map(|&id| (id * 7919 % 10_007) as f64 / 3.0),
        )),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

/// Rows of a file of [`Scenario::with_long_rows`].
pub const LONG_ROWS: usize = 40;

/// As [`table`], with names of 15,000 characters and a column of three values beside.
fn long_table(first: usize, count: usize) -> RecordBatch {
    let short = table(first, count);
    let ids = first..first + count;
    let kinds = ids.clone().map(|id| ["red", "green", "blue"][id % 3]);
    let kinds: ArrayRef = Arc::new(StringArray::from_iter_values(kinds));
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(
        ids.map(|id| format!("{id:0>15000}")),
    ));
    RecordBatch::try_from_iter([
        ("id", short.column(0).clone()),
        ("kind", kinds),
        ("name", names),
        ("value", short.column(2).clone()),
    ])
    .unwrap()
}

pub fn write_parquet(path: &Path, rows: &RecordBatch, group_rows: usize) {
    write_parquet_as(path, rows, group_rows, Compression::SNAPPY);
}

fn write_parquet_as(path: &Path, rows: &RecordBatch, group_rows: usize, compression: Compression) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(group_rows))
        .set_compression(compression)
        .build();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, rows.schema(), Some(properties)).unwrap();
    writer.write(rows).unwrap();
    writer.close().unwrap();
}

/// All rows of all Parquet files below a folder, by id; a row that is there twice fails the test.
pub fn rows_of(folder: &Path) -> BTreeMap<i64, (Option<String>, f64, i64)> {
    let mut files = Vec::new();
    collect(folder, folder, &mut files);
    let mut rows = BTreeMap::new();
    for file in files.iter().filter(|file| file.ends_with(".parquet")) {
        for batch in read_parquet(&folder.join(file)) {
            let column = |name: &str| batch.column_by_name(name).unwrap().clone();
            let (ids, names) = (column("id"), column("name"));
            let (values, hashes) = (column("value"), column("row_hash"));
            let ids: &Int64Array = ids.as_any().downcast_ref().unwrap();
            let names: &StringArray = names.as_any().downcast_ref().unwrap();
            let values: &Float64Array = values.as_any().downcast_ref().unwrap();
            let hashes: &Int64Array = hashes.as_any().downcast_ref().unwrap();
            for row in 0..batch.num_rows() {
                let name = names.iter().nth(row).unwrap().map(str::to_string);
                let old = rows.insert(ids.value(row), (name, values.value(row), hashes.value(row)));
                assert!(old.is_none(), "row {} is there twice", ids.value(row));
            }
        }
    }
    rows
}

/// The Parquet files below a folder with their bytes.
pub fn contents_of(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = Vec::new();
    collect(folder, folder, &mut files);
    files.retain(|file| file.ends_with(".parquet"));
    let read = |file: String| {
        let bytes = std::fs::read(folder.join(&file)).unwrap();
        (file, bytes)
    };
    files.into_iter().map(read).collect()
}

/// Sends a signal to a child that has not been reaped.
#[track_caller]
pub fn signal(child: &Child, signal: i32) {
    // SAFETY: has no memory effects, and a child that has not been reaped keeps its id.
    let sent = unsafe { libc::kill(child.id() as libc::pid_t, signal) };
    assert_eq!(sent, 0, "{}", std::io::Error::last_os_error());
}

pub fn read_parquet(path: &Path) -> Vec<RecordBatch> {
    let file = std::fs::File::open(path).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)
        .unwrap()
        .build()
        .unwrap();
    reader.map(|batch| batch.unwrap()).collect()
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, files);
        } else {
            files.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_string());
        }
    }
}

/// Runs one of the Python checkers; answers with the JSON it prints.
#[track_caller]
pub fn check_with(script: &str, arguments: &[&OsStr]) -> serde_json::Value {
    let output = Command::new(python())
        .arg(project().join("tests/peers").join(script))
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{script} {arguments:?}: {said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_str(said.lines().last().unwrap_or_default()).unwrap()
}
