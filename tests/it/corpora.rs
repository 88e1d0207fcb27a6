//! Foreign Parquet, good and bad: passed through as pyarrow reads it, or refused in words; in little memory and time.
//!
//! The files are Apache's parquet-testing, which is not part of the project: without `../shared/corpora` the tests say
//! that they were left out (`.ci/run` fails instead). Every file that is refused is listed here, with the words that it
//! must be refused with; a file that changes sides fails the test, whichever way it goes. `docs/types.md` says the same
//! in the user's words.

use crate::support::{Run, check_with, floe, project, read_parquet};
use arrow::array::AsArray;
use arrow::datatypes::TimestampMicrosecondType;
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

const ENCRYPTED: &str = "encrypted, and Floe holds no keys";
const CHECKSUM: &str = "Page CRC checksum mismatch";

/// The bombs of the reader's own tests, made by hand.
#[path = "../../src/read/tests/bomb_files.rs"]
mod bomb_files;
#[path = "../../src/read/tests/maker.rs"]
#[allow(dead_code)]
mod maker;

/// Files that must be refused, each with words of the error.
const REFUSED: [(&str, &str); 26] = [
    // Broken, as their folder says.
    ("bad_data/ARROW-GH-41317.parquet", "can't read the footer"),
    (
        "bad_data/ARROW-GH-41321.parquet",
        "can't read page 2 of the column: it ends too early (column large_binary",
    ),
    (
        "bad_data/ARROW-GH-45185.parquet",
        "first repetition level of batch must be 0",
    ),
    ("bad_data/ARROW-GH-47662.parquet", "can't decode the row group"),
    (
        "bad_data/ARROW-RS-GH-6229-DICTHEADER.parquet",
        "points past the end of the file",
    ),
    (
        "bad_data/ARROW-RS-GH-6229-LEVELS.parquet",
        "Insufficient repetition levels",
    ),
    ("bad_data/PARQUET-1481.parquet", "Unexpected Type -7"),
    // Damaged on purpose, to see whether anybody looks.
    ("data/datapage_v1-corrupt-checksum.parquet", CHECKSUM),
    ("data/rle-dict-uncompressed-corrupt-checksum.parquet", CHECKSUM),
    // Encrypted: whole, only the footer readable, one key for all, long keys.
    ("data/encrypt_columns_and_footer.parquet.encrypted", ENCRYPTED),
    ("data/encrypt_columns_and_footer_aad.parquet.encrypted", ENCRYPTED),
    (
        "data/encrypt_columns_and_footer_bloom_filter.parquet.encrypted",
        ENCRYPTED,
    ),
    ("data/encrypt_columns_and_footer_ctr.parquet.encrypted", ENCRYPTED),
    (
        "data/encrypt_columns_and_footer_disable_aad_storage.parquet.encrypted",
        ENCRYPTED,
    ),
    (
        "data/encrypt_columns_plaintext_footer.parquet.encrypted",
        "column float_field, double_field",
    ),
    ("data/external_key_material_java.parquet.encrypted", ENCRYPTED),
    ("data/uniform_encryption.parquet.encrypted", ENCRYPTED),
    (
        "data/aes256/encrypt_columns_and_footer.parquet.encrypted",
        ENCRYPTED,
    ),
    (
        "data/aes256/encrypt_columns_and_footer_ctr.parquet.encrypted",
        ENCRYPTED,
    ),
    (
        "data/aes256/encrypt_columns_and_footer_disable_aad_storage.parquet.encrypted",
        ENCRYPTED,
    ),
    (
        "data/aes256/encrypt_columns_plaintext_footer.parquet.encrypted",
        "columns of the Parquet file are encrypted",
    ),
    ("data/aes256/uniform_encryption.parquet.encrypted", ENCRYPTED),
    // Two gibibytes of one letter in three kilobytes: a bomb, if a friendly one.
    ("data/large_string_map.brotli.parquet", "limit open pages"),
    // The footer contradicts itself: no rows in all, six in its row group.
    (
        "data/repeated_no_annotation.parquet",
        "declares 0 rows, its row groups hold 6",
    ),
    // Written with the wrong size of a column, which some readers make allowance for.
    (
        "data/nation.dict-malformed.parquet",
        "the page is longer than its column chunk (column name",
    ),
    // Lists of 64-bit numbers in the footer are said to be of 16-bit ones.
    ("data/dict-page-offset-zero.parquet", "can't read the footer"),
];

/// Healthy siblings of damaged ones, and the one file of `bad_data` that is only odd: they must pass.
const HEALTHY: [&str; 5] = [
    "data/datapage_v1-uncompressed-checksum.parquet",
    "data/datapage_v1-snappy-compressed-checksum.parquet",
    "data/plain-dict-uncompressed-checksum.parquet",
    "data/rle-dict-snappy-checksum.parquet",
    "bad_data/ARROW-GH-43605.parquet",
];

/// What a file may take, in a build without optimisation, on a busy machine. A hang ends there.
const TIME: Duration = Duration::from_secs(60);

/// What the process may take, all told.
const MEMORY_BYTES: u64 = 512 << 20;

/// Files that pyarrow can't read, so that there is nothing to compare with: a map whose keys may be null.
const PYARROW_CAN_NOT: [&str; 1] = ["incorrect_map_schema.parquet"];

/// What pyarrow reads wrongly, with the microseconds that the corpus's own description gives: far dates of Spark's.
const FAR_DATES: (&str, [Option<i64>; 6]) = (
    "data/int96_from_spark.parquet",
    [
        Some(1_704_141_296_123_456),
        Some(1_704_070_800_000_000),
        Some(253_402_225_200_000_000),
        Some(1_735_599_600_000_000),
        None,
        Some(9_089_380_393_200_000_000),
    ],
);

fn corpus(name: &str) -> Option<PathBuf> {
    let folder = project().parent()?.join("shared/corpora").join(name);
    folder.is_dir().then_some(folder)
}

/// Every file below a folder, sorted.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// How a process ended and what it took.
struct Measured {
    run: Run,
    status: ExitStatus,
    peak_bytes: u64,
    took: Duration,
}

/// Runs a command to its end, or kills it when its time is over. Its words go to files, since nobody reads along.
#[allow(clippy::zombie_processes)] // wait4 waits for it
fn measure(mut command: Command) -> Measured {
    let words = tempfile::tempdir().unwrap();
    let (stdout, stderr) = (words.path().join("out"), words.path().join("err"));
    command
        .stdout(File::create(&stdout).unwrap())
        .stderr(File::create(&stderr).unwrap());
    let began = Instant::now();
    let mut child = command.spawn().unwrap();
    let (mut status, mut usage) = (0, std::mem::MaybeUninit::<libc::rusage>::zeroed());
    loop {
        // SAFETY: both pointers are to places of our own, and the child is ours and not waited for elsewhere.
        let ended = unsafe { libc::wait4(child.id() as i32, &mut status, libc::WNOHANG, usage.as_mut_ptr()) };
        match ended {
            0 if began.elapsed() > TIME => child.kill().unwrap(),
            0 => {}
            _ => break,
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let status = ExitStatus::from_raw(status);
    // SAFETY: all zeroes is a valid value, and wait4 has filled it in.
    let peak_kib = unsafe { usage.assume_init() }.ru_maxrss;
    Measured {
        run: Run {
            code: status.code(),
            stdout: String::from_utf8_lossy(&std::fs::read(stdout).unwrap()).into_owned(),
            stderr: String::from_utf8_lossy(&std::fs::read(stderr).unwrap()).into_owned(),
        },
        status,
        peak_bytes: peak_kib as u64 * 1024,
        took: began.elapsed(),
    }
}

/// Passes a file through the echo model, within the bounds. `Err` says which bound it broke.
fn pass_through(file: &Path, output: &Path) -> Result<Measured, String> {
    let mut command = floe(["run", "--model", "echo"]);
    command.arg("--input").arg(file).arg("--output").arg(output);
    let measured = measure(command);
    let Measured {
        run,
        status,
        peak_bytes,
        took,
    } = &measured;
    let broken = match run.code {
        None => Some(format!("ended with {status}")),
        _ if *took > TIME => Some(format!("took {took:?}")),
        _ if *peak_bytes > MEMORY_BYTES => Some(format!("took {} MiB", peak_bytes >> 20)),
        Some(0 | 6) => None,
        Some(code) => Some(format!("ended with code {code}")),
    };
    match broken {
        Some(broken) => Err(format!("{}: {broken}: {}", file.display(), run.stderr)),
        None => Ok(measured),
    }
}

/// Whether a refusal names its file and why, was not a panic, and left no marker.
fn is_in_words(run: &Run, file: &Path, output: &Path) -> bool {
    let name = file.file_name().unwrap().to_str().unwrap();
    run.stderr.contains("\"severity_text\":\"ERROR\"")
        && run.stderr.contains(&format!("file {name}"))
        && !run.stderr.contains("panicked")
        && !output.join("_SUCCESS").exists()
}

/// Failure matrix: 21, 22, 23, 24, 25, 31.
#[test]
fn every_foreign_file_passes_as_pyarrow_reads_it_or_is_refused_in_words() {
    let Some(corpus) = corpus("parquet-testing") else {
        println!("left out: no ../shared/corpora");
        return;
    };
    let mut all = files(&corpus);
    all.retain(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.ends_with(".parquet") || name.ends_with(".parquet.encrypted")
    });
    let folder = tempfile::tempdir().unwrap();
    let (mut failures, mut pairs, mut refused) = (Vec::new(), Vec::<OsString>::new(), Vec::new());
    let (mut peak, mut longest) = (0, Duration::ZERO);
    let mut passed = Vec::new();
    for (index, file) in all.iter().enumerate() {
        let name = file.strip_prefix(&corpus).unwrap().to_str().unwrap();
        let output = folder.path().join(format!("{index:03}"));
        let measured = match pass_through(file, &output) {
            Ok(measured) => measured,
            Err(broken) => {
                failures.push(broken);
                continue;
            }
        };
        peak = peak.max(measured.peak_bytes);
        longest = longest.max(measured.took);
        let words = REFUSED
            .iter()
            .find(|(refused, _)| *refused == name)
            .map(|(_, words)| *words);
        let run = &measured.run;
        match (run.code, words) {
            (Some(0), None) => {
                passed.push(name);
                if name == FAR_DATES.0 {
                    assert_eq!(instants(&output), FAR_DATES.1);
                } else {
                    pairs.extend([file.into(), output.into()]);
                }
            }
            (Some(6), Some(words)) if is_in_words(run, file, &output) && run.stderr.contains(words) => {
                refused.push(name);
            }
            (code, Some(words)) => failures.push(format!("{name}: {code:?}, not {words:?}: {}", run.stderr)),
            (code, None) => failures.push(format!("{name}: {code:?}, and is not listed: {}", run.stderr)),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!(
        refused.len(),
        REFUSED.len(),
        "a listed file is missing from the corpus"
    );
    for healthy in HEALTHY {
        assert!(passed.contains(&healthy), "{healthy} is missing from the corpus");
    }
    let arguments: Vec<_> = pairs.iter().map(OsString::as_os_str).collect();
    let report = check_with("check_equal.py", &arguments);
    assert_eq!(
        report["unreadable"],
        serde_json::json!(PYARROW_CAN_NOT),
        "{report}"
    );
    let compared = report["compared"].as_u64().unwrap() as usize;
    let others = PYARROW_CAN_NOT.len() + 1; // and the far dates
    assert_eq!(compared + others, passed.len(), "{report}");
    println!(
        "{} files: {compared} equal to pyarrow's, {} refused; at most {} MiB and {longest:?} for one",
        all.len(),
        refused.len(),
        peak >> 20
    );
}

/// The one column of an output, in microseconds.
fn instants(output: &Path) -> Vec<Option<i64>> {
    let mut all = Vec::new();
    for file in files(output) {
        if file.extension().is_some_and(|extension| extension == "parquet") {
            for rows in read_parquet(&file) {
                all.extend(rows.column(0).as_primitive::<TimestampMicrosecondType>());
            }
        }
    }
    all
}

/// Failure matrix: 24.
#[test]
fn a_bomb_takes_little_memory_before_it_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (index, bomb) in bomb_files::all().into_iter().enumerate() {
        let file = folder.path().join(format!("bomb-{index}.parquet"));
        std::fs::write(&file, &bomb.file).unwrap();
        let output = folder.path().join(format!("out-{index}"));
        let measured =
            pass_through(&file, &output).unwrap_or_else(|broken| panic!("{}: {broken}", bomb.what));
        assert!(
            is_in_words(&measured.run, &file, &output),
            "{}: {}",
            bomb.what,
            measured.run.stderr
        );
        for word in bomb.words {
            assert!(
                measured.run.stderr.contains(word),
                "no {word:?}: {}",
                measured.run.stderr
            );
        }
        let (bytes, peak) = (bomb.file.len(), measured.peak_bytes >> 20);
        println!(
            "{}: {bytes} bytes, at most {peak} MiB, {:?}",
            bomb.what, measured.took
        );
    }
}

/// Files that fuzzing of other readers has found, where somebody has put them beside the corpus: nothing is known about
/// them but that they must not hurt.
///
/// Failure matrix: 23.
#[test]
fn what_broke_other_readers_breaks_nothing_here() {
    let Some(corpus) = corpus("arrow-testing") else {
        println!("left out: no ../shared/corpora/arrow-testing");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let mut failures = Vec::new();
    let all = files(&corpus);
    for (index, file) in all.iter().enumerate() {
        let output = folder.path().join(format!("{index:04}"));
        match pass_through(file, &output) {
            Ok(measured) if measured.run.code == Some(0) || is_in_words(&measured.run, file, &output) => {}
            Ok(measured) => failures.push(format!("{}: {}", file.display(), measured.run.stderr)),
            Err(broken) => failures.push(broken),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    println!("{} files broke nothing", all.len());
}
