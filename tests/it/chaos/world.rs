//! What all rounds share: the input, the output of an undisturbed run, an old output that is in the way, and a
//! Python process that reads every round's result with pyarrow.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;

use crate::support::{LONG_ROWS, Scenario, contents_of, finish, floe, project, python};

/// The run of every round: data names depend on it, and must be those of the undisturbed run.
pub const RUN: &str = "chaos";
pub const REPLICAS: usize = 4;
pub const UNITS: usize = 14;
pub const ROWS: usize = UNITS * LONG_ROWS;

pub struct World {
    scenario: Scenario,
    /// Without and with partitions.
    expected: [BTreeMap<String, Vec<u8>>; 2],
    checker: Mutex<Checker>,
}

impl World {
    pub fn new() -> World {
        let scenario = Scenario::with_long_rows(UNITS);
        let expected = [false, true].map(|partitioned| {
            let output = scenario.path().join(format!("undisturbed-{partitioned}"));
            let mut command = run(&scenario.input(), &output, partitioned);
            command.args(["--run-id", RUN]);
            finish(command).ok();
            contents_of(&output)
        });
        let world = World {
            expected,
            checker: Mutex::new(Checker::start(&scenario.input())),
            scenario,
        };
        world.make_old_output();
        world
    }

    pub fn path(&self) -> &Path {
        self.scenario.path()
    }

    pub fn expected(&self, partitioned: bool) -> &BTreeMap<String, Vec<u8>> {
        &self.expected[usize::from(partitioned)]
    }

    /// `floe run` from the input to `output`.
    pub fn command(&self, output: &Path, partitioned: bool) -> Command {
        run(&self.scenario.input(), output, partitioned)
    }

    /// A finished run's output with a stranger's file beside it.
    fn make_old_output(&self) {
        let old = Scenario::with_files(&[20, 20], 20);
        old.run(&["--run-id", "old"]).ok();
        std::fs::write(old.output().join("strangers.parquet"), b"not even Parquet").unwrap();
        copy(&old.output(), &self.path().join("old"));
    }

    /// Puts the old output at `output`.
    pub fn lay_old_output(&self, output: &Path) {
        copy(&self.path().join("old"), output);
    }

    /// What pyarrow makes of an output: every row once, every column equal.
    pub fn check(&self, output: &Path) -> serde_json::Value {
        self.checker.lock().unwrap().check(output)
    }
}

fn run(input: &Path, output: &Path, partitioned: bool) -> Command {
    let mut command = floe(["run", "--model", "echo", "--num-workers", "1"]);
    command.arg("--input").arg(input).arg("--output").arg(output);
    if partitioned {
        command.args(["--partition-by", "kind"]);
    }
    command
}

/// Copies a folder, as links: nothing changes a file in place.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (entry, target) = (
            entry.as_ref().unwrap(),
            to.join(entry.as_ref().unwrap().file_name()),
        );
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else if std::fs::hard_link(entry.path(), &target).is_err() {
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
}

/// `check_each.py`, kept running.
struct Checker {
    process: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Checker {
    fn start(input: &Path) -> Checker {
        let mut process = Command::new(python())
            .arg(project().join("tests/peers/check_each.py"))
            .args(["--key", "id", "--input"])
            .arg(input)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Checker {
            questions: process.stdin.take().unwrap(),
            answers: BufReader::new(process.stdout.take().unwrap()),
            process,
        }
    }

    fn check(&mut self, output: &Path) -> serde_json::Value {
        writeln!(self.questions, "{}", output.display()).unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("check_each.py: {error}: {answer:?}"))
    }
}

impl Drop for Checker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
