//! Secrets stay where they are: whatever a process is told, of what it says and writes every byte is searched.
//!
//! And text from outside (names of files and columns, cells, a model's own names) can't pretend to be Floe's: it
//! neither begins a line nor moves a terminal's cursor.

use arrow::array::{ArrayRef, Float32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use crate::onnx_bytes::{FLOAT, field, model as onnx_model, node, number, value};
use crate::support::{Run, Scenario, finish, floe, project, write_parquet};

/// Part of every secret here, and of nothing else.
const CANARY: &str = "c4n4ry";

/// What a platform, a cloud's tools or a careless user leave in the environment.
const VARIABLES: [(&str, &str); 16] = [
    ("AWS_SECRET_ACCESS_KEY", "c4n4ry/Zm9vYmFy+Zm9v"),
    ("AWS_SESSION_TOKEN", "FwoGZXIvYXdzEc4n4ry=="),
    ("AZURE_STORAGE_ACCOUNT_KEY", "c4n4ryZm9vYmFyZm9v=="),
    ("AZURE_STORAGE_SAS_TOKEN", "sv=2024-11-04&sig=c4n4ry%3D"),
    ("AZURE_CLIENT_SECRET", "c4n4ry~8Q"),
    (
        "GOOGLE_SERVICE_ACCOUNT_KEY",
        "{\"private_key\": \"-----BEGIN PRIVATE KEY-----\\nc4n4ry\"}",
    ),
    ("GOOGLE_APPLICATION_CREDENTIALS", "/run/secrets/c4n4ry.json"),
    ("SNOWFLAKE_TOKEN", "ver:1-hint:c4n4ry-ETMs"),
    ("SNOWFLAKE_TOKEN_FILE_PATH", "/run/secrets/c4n4ry/token"),
    ("SNOWFLAKE_PASSWORD", "c4n4ry"),
    ("DATABASE_URL", "postgres://me:c4n4ry@db/x"),
    ("HTTPS_PROXY", "http://me:c4n4ry@proxy:3128"),
    ("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Bearer c4n4ryc4n4ry"),
    ("GITHUB_TOKEN", "ghp_c4n4ryc4n4ryc4n4ry"),
    ("FLOE_SECRET", "c4n4ry"),
    ("MY_API_KEY", "c4n4ry"),
];

/// Locations that carry a secret.
const LOCATIONS: [&str; 8] = [
    "https://me:c4n4ry@host/folder",
    "https://c4n4rytoken@host/folder",
    "s3://AKIAX:c4n4ry@bucket/folder",
    "https://account.blob.core.windows.net/c/folder?sv=2024&sig=c4n4ry%2Bx",
    "https://b.s3.amazonaws.com/k?X-Amz-Credential=c4n4ry%2F2026&X-Amz-Signature=c4n4ry",
    "s3://bucket/folder?token=c4n4ry",
    "file://me:c4n4ry@host/folder",
    "snowflake://me:c4n4ry/with/slashes@account/db",
];

/// Job documents that hold a secret where none belongs, each with a mistake that is complained about.
const DOCUMENTS: [&str; 12] = [
    "input: {stage_location: in, storage_options: {aws_secret_access_key: c4n4ry}}",
    "input: {stage_location: {url: in, token: c4n4ry}}",
    "input: {stage_location: [{sig: c4n4ry}]}",
    "output: {stage_location: out, mode: 'https://me:c4n4ry@host/'}",
    "output: {stage_location: out, password: c4n4ry}",
    "inference: {engine_options: {engine_args_override: {api_key: c4n4ry}}}",
    "inference: {num_workers: 'password=c4n4ry'}",
    "env: {SNOWFLAKE_PASSWORD: c4n4ry}\nreplicas: x",
    "password: c4n4ry\ninput: [",
    "token: 'c4n4ry",
    "secret: c4n4ry\nsecret: c4n4ry",
    "{\"token\": \"c4n4ry\", ",
];

/// A command with secrets all around it.
fn among_secrets(mut command: Command) -> Command {
    command.envs(VARIABLES);
    command
}

/// A store that knows nothing and repeats all that it was sent. Ends with the test's process.
fn store_that_repeats() -> Vec<(&'static str, String)> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            std::thread::spawn(move || answer(connection.unwrap()));
        }
    });
    let text = str::to_string;
    vec![
        ("AWS_ENDPOINT", endpoint.clone()),
        ("AWS_ALLOW_HTTP", text("true")),
        ("AWS_ACCESS_KEY_ID", text("AKIAX")),
        ("AWS_SECRET_ACCESS_KEY", text("c4n4ry/Zm9vYmFy+Zm9v")),
        ("AWS_SESSION_TOKEN", text("FwoGZXIvYXdzEc4n4ry==")),
        ("AZURE_STORAGE_ENDPOINT", endpoint),
        ("AZURE_ALLOW_HTTP", text("true")),
        ("AZURE_STORAGE_SAS_TOKEN", text("sv=2024-11-04&sig=c4n4ry%3D")),
    ]
}

fn answer(mut connection: TcpStream) {
    let mut head = Vec::new();
    let mut piece = [0; 4096];
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        match connection.read(&mut piece) {
            Ok(0) | Err(_) => return,
            Ok(read) => head.extend_from_slice(&piece[..read]),
        }
    }
    let said = String::from_utf8_lossy(&head);
    let body = format!("<Error><Code>NoSuchBucket</Code><Message>{said}</Message></Error>");
    let _ = write!(
        connection,
        "HTTP/1.1 404 Not Found\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
}

#[track_caller]
fn no_canary(name: &str, run: &Run) {
    for (stream, text) in [("stdout", &run.stdout), ("stderr", &run.stderr)] {
        assert!(!text.contains(CANARY), "{name}: on {stream}:\n{text}");
    }
}

/// Searches names and contents of all files below `folder`.
#[track_caller]
fn no_canary_below(name: &str, folder: &Path) -> usize {
    let mut searched = 0;
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            searched += no_canary_below(name, &path);
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let has_canary = bytes
            .windows(CANARY.len())
            .any(|window| window == CANARY.as_bytes());
        assert!(!has_canary, "{name}: in {}", path.display());
        searched += 1;
    }
    searched
}

/// Every way of logging: all of it, as text and as JSON.
const LOGGING: [[&str; 4]; 2] = [
    ["--log", "trace", "--log-format", "text"],
    ["--log", "trace", "--log-format", "json"],
];

/// Failure matrix: 64.
#[test]
fn what_lies_in_the_environment_is_in_nothing_that_is_said_or_written() {
    let flights = project().join("examples/flights");
    let (model, data) = (flights.join("model"), flights.join("data"));
    let text = |path: &Path| path.to_str().unwrap().to_string();
    for logging in LOGGING {
        let scenario = Scenario::with_files(&[2000, 10], 500);
        std::fs::write(scenario.path().join("not.parquet"), "no").unwrap();
        let (input, output) = (text(&scenario.input()), text(&scenario.output()));
        let job = ["--model", "echo", "--input", &input, "--output", &output];
        let scored = text(&scenario.path().join("scored"));
        let real = [
            "--model",
            &text(&model),
            "--input",
            &text(&data),
            "--output",
            &scored,
        ];
        let bad = [
            "--model",
            "echo",
            "--input",
            &text(&scenario.path().join("not.parquet")),
            "--output",
            "nowhere",
        ];
        let cases: Vec<(&str, Vec<&str>, i32)> = vec![
            ("plan", [&["plan"][..], &job].concat(), 0),
            ("plan", [&["plan", "--json"][..], &job].concat(), 0),
            ("check", [&["check"][..], &real].concat(), 0),
            ("check", [&["check", "--json"][..], &job].concat(), 0),
            ("run", [&["run", "--progress", "line"][..], &real].concat(), 0),
            (
                "run",
                [&["run", "--json", "--progress", "json"][..], &job].concat(),
                0,
            ),
            ("run again", [&["run", "--json"][..], &job].concat(), 0),
            (
                "run as another",
                [&["run", "--run-id", "other", "--json"][..], &job].concat(),
                3,
            ),
            (
                "run in two",
                [&["run", "--replicas", "2", "--mode", "overwrite"][..], &job].concat(),
                0,
            ),
            ("run of no file", [&["run", "--json"][..], &bad].concat(), 6),
            (
                "run with a wrong flag",
                [&["run", "--compression", "x"][..], &job].concat(),
                2,
            ),
            ("verify", vec!["verify", &output], 0),
            ("verify", vec!["verify", "--json", &scored], 0),
            ("verify of nothing", vec!["verify", "--json", &input], 6),
            ("inspect", vec!["inspect", &scenario.path().to_str().unwrap()], 7),
            ("inspect", vec!["inspect", "--json", model.to_str().unwrap()], 0),
            ("head", vec!["head", &input], 0),
            ("schema", vec!["schema"], 0),
        ];
        for (name, arguments, code) in cases {
            let run = finish(among_secrets(floe([&arguments[..], &logging].concat())));
            assert_eq!(run.code, Some(code), "{name}: {}{}", run.stdout, run.stderr);
            no_canary(name, &run);
        }
        let searched = no_canary_below("environment", scenario.path());
        assert!(searched > 10, "only {searched} files were written");
    }
}

/// Failure matrix: 64.
#[test]
fn what_a_location_carries_is_in_nothing_that_is_said() {
    let scenario = Scenario::with_files(&[10], 10);
    let (input, output) = (scenario.input(), scenario.output());
    let (input, output) = (input.to_str().unwrap(), output.to_str().unwrap());
    let store = store_that_repeats();
    for location in LOCATIONS {
        let places = [
            ["--model", "echo", "--input", location, "--output", output],
            ["--model", "echo", "--input", input, "--output", location],
            ["--model", location, "--input", input, "--output", output],
        ];
        let mut commands: Vec<Vec<&str>> = vec![
            vec!["inspect", location],
            vec!["verify", location],
            vec!["head", location],
            // What is wrong already on the command line.
            vec!["run", location],
            vec!["run", "--model", "echo", "--inptu", location],
            vec!["run", "--model", "echo", "--replicas", location],
            vec![
                "run", "--mode", location, "--model", "echo", "--input", input, "--output", output,
            ],
            vec!["run", "--job-name", "x", "--progress", location],
            vec!["inspect", "m", location],
        ];
        for place in &places {
            for command in ["run", "plan", "check"] {
                commands.push([&[command][..], place].concat());
            }
            commands.push([&["run", "--replicas", "2"][..], place].concat());
        }
        for command in commands {
            for logging in LOGGING {
                for json in [&[][..], &["--json"]] {
                    let mut process = floe([&command[..], &logging, json].concat());
                    process.envs(store.clone());
                    let run = finish(process);
                    let name = format!("{command:?}");
                    // `plan` never looks at model and output.
                    assert!(run.code != Some(0) || command[0] == "plan", "{name} succeeded");
                    no_canary(&name, &run);
                }
            }
        }
    }
    assert_eq!(
        no_canary_below("locations", scenario.path()),
        1,
        "the input alone"
    );
}

/// Failure matrix: 64.
#[test]
fn what_writers_noted_in_a_file_is_not_passed_on() {
    // Notebooks and pipelines note their connection strings there.
    let noted = HashMap::from([("source".to_string(), "postgres://me:c4n4ry@db/x".to_string())]);
    let field = Field::new("id", DataType::Int64, false).with_metadata(noted.clone());
    let schema = Arc::new(Schema::new_with_metadata(vec![field], noted));
    let rows = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(vec![1, 2]))]).unwrap();
    let scenario = Scenario::new();
    write_parquet(&scenario.input().join("a.parquet"), &rows, 10);
    for logging in LOGGING {
        let run = scenario.run(&[&["--json", "--mode", "overwrite"][..], &logging].concat());
        no_canary("run", &run);
        run.ok();
        assert!(no_canary_below("metadata", &scenario.output()) >= 4);
    }
}

/// Failure matrix: 64.
#[test]
fn what_a_job_file_or_a_card_holds_by_mistake_is_not_repeated() {
    let scenario = Scenario::with_files(&[10], 10);
    let job = scenario.path().join("job.yaml");
    let flags = ["--model", "echo", "--input", "in", "--output", "out"];
    for document in DOCUMENTS {
        std::fs::write(&job, document).unwrap();
        for command in ["run", "plan", "check"] {
            for logging in LOGGING {
                for json in [&[][..], &["--json"]] {
                    let arguments =
                        [&[command, job.to_str().unwrap()][..], &flags[..2], &logging, json].concat();
                    let by_file = finish(floe(&arguments));
                    let mut command = floe([&arguments[..1], &arguments[2..]].concat());
                    command.env("FLOE_JOB", document);
                    let by_variable = finish(command);
                    for run in [by_file, by_variable] {
                        assert_eq!(run.code, Some(2), "{document}: {}", run.stderr);
                        no_canary(document, &run);
                    }
                }
            }
        }
    }
    let card_folder = scenario.path().join("model");
    std::fs::create_dir(&card_folder).unwrap();
    let example = std::fs::read_dir(project().join("examples/flights/model")).unwrap();
    for file in example.map(|entry| entry.unwrap().path()) {
        std::fs::copy(&file, card_folder.join(file.file_name().unwrap())).unwrap();
    }
    for card in [
        "password: c4n4ry",
        "functions: {predict: {token: c4n4ry}}",
        "token: 'c4n4ry",
        "a: b: 'password=c4n4ry'",
    ] {
        std::fs::write(card_folder.join("floe.yaml"), card).unwrap();
        for json in [&[][..], &["--json"]] {
            let run = finish(floe(
                [&["inspect", card_folder.to_str().unwrap()][..], json].concat(),
            ));
            assert_eq!(run.code, Some(7), "{card}: {}", run.stdout);
            no_canary(card, &run);
        }
    }
}

/// Failure matrix: 64.
#[test]
#[cfg(target_os = "linux")]
fn a_process_that_crashes_leaves_no_core_dump_with_rows_and_tokens() {
    let scenario = Scenario::with_files(&[200_000; 4], 50_000);
    let floe = scenario.command(&["--num-workers", "1", "--max-batch-rows", "10"]);
    // As large as allowed here, whatever this test was started with.
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -S -c \"$(ulimit -H -c)\"; exec \"$0\" \"$@\""]);
    shell.arg(floe.get_program()).args(floe.get_args());
    let mut child = crate::support::start(shell);
    let (limits, name) = (
        format!("/proc/{}/limits", child.id()),
        format!("/proc/{}/comm", child.id()),
    );
    let began = std::time::Instant::now();
    let is_zero = loop {
        let page = std::fs::read_to_string(&limits).unwrap();
        let line = page
            .lines()
            .find(|line| line.starts_with("Max core file size"))
            .unwrap();
        // Before that it is the shell's.
        let is_floe = std::fs::read_to_string(&name).is_ok_and(|name| name.trim() == "floe");
        let soft = line.split_whitespace().nth(4).filter(|_| is_floe);
        if soft == Some("0") || began.elapsed().as_secs() > 20 || child.try_wait().unwrap().is_some() {
            break soft == Some("0");
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    };
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(is_zero, "core dumps are allowed");
}

/// A name that a file may have: other control characters are refused, see the last of the tests.
const MARKED: &str = "x\u{9b}31mred\u{202e}der";

/// A name that tries to begin a log line of its own, and to clear and colour a terminal.
const HOSTILE: &str =
    "x\n{\"severity_text\":\"INFO\",\"body\":\"forged\"}\r\u{1b}[2J\u{1b}[31m\u{9b}1mred\u{7}";

#[track_caller]
fn is_harmless(name: &str, run: &Run) {
    for text in [&run.stdout, &run.stderr] {
        let control = text.chars().find(|c| c.is_control() && *c != '\n');
        assert_eq!(control, None, "{name}: {text:?}");
        for line in text.lines() {
            assert!(
                !line.starts_with("{\"severity_text\":\"INFO\",\"body\":\"forged\""),
                "{name}: {text}"
            );
        }
    }
}

/// A table whose column, and whose first cell, is `HOSTILE`.
fn hostile_table() -> RecordBatch {
    let columns: [(&str, ArrayRef); 3] = [
        ("id", Arc::new(Int64Array::from(vec![1, 2]))),
        (HOSTILE, Arc::new(StringArray::from(vec![Some(HOSTILE), None]))),
        ("f", Arc::new(Float32Array::from(vec![0.5, 1.5]))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

/// Failure matrix: 63.
#[test]
fn names_and_cells_can_neither_forge_a_line_nor_move_the_cursor() {
    for format in ["text", "json"] {
        let scenario = Scenario::new();
        let file = MARKED;
        write_parquet(
            &scenario.input().join(format!("{file}.parquet")),
            &hostile_table(),
            10,
        );
        let logging = ["--log", "trace", "--log-format", format];
        let (input, output) = (scenario.input(), scenario.output());
        let (input, output) = (input.to_str().unwrap(), output.to_str().unwrap());
        let job = ["--model", "echo", "--input", input, "--output", output];
        let by_column = [
            &[
                "run",
                "--partition-by",
                HOSTILE,
                "--run-id",
                HOSTILE,
                "--job-name",
                HOSTILE,
            ][..],
            &job,
        ]
        .concat();
        let commands: Vec<Vec<&str>> = vec![
            [&["plan"][..], &job].concat(),
            [&["plan", "--json"][..], &job].concat(),
            [&["check"][..], &job].concat(),
            [&["check", "--json"][..], &job].concat(),
            [&["run"][..], &job].concat(),
            vec!["verify", output],
            vec!["head", input],
            vec!["head", input, "--json"],
            vec!["head", input, "--columns", HOSTILE],
            vec!["head", input, "--columns", "no such\n\u{1b}[31m"],
            [&["run", "--json", "--mode", "overwrite"][..], &job].concat(),
            by_column,
            vec!["verify", HOSTILE],
            vec!["inspect", HOSTILE],
            vec!["run", HOSTILE],
            vec!["run", "--model", HOSTILE, "--input", HOSTILE, "--output", HOSTILE],
            vec!["run", "--inptu", HOSTILE],
        ];
        let mut succeeded = 0;
        for command in commands {
            let run = finish(floe([&command[..], &logging].concat()));
            succeeded += usize::from(run.code == Some(0));
            let name = format!("{format} {command:?}");
            is_harmless(&name, &run);
            let is_usage = run.stderr.starts_with("error: ");
            if format == "json" && !is_usage {
                for line in run.stderr.lines() {
                    let line: serde_json::Value =
                        serde_json::from_str(line).unwrap_or_else(|error| panic!("{name}: {error}: {line}"));
                    assert_ne!(line["body"], "forged", "{name}");
                }
            }
        }
        assert!(succeeded >= 9, "only {succeeded} commands succeeded");
        // Damaged: now errors and problems name the file and the column.
        let marker = scenario.output().join("_SUCCESS");
        let stranger = scenario.output().join(format!("{file}.parquet"));
        std::fs::write(&stranger, "x").unwrap();
        for json in [&[][..], &["--json"]] {
            let run = finish(floe([&["verify", output][..], json, &logging].concat()));
            assert_eq!(run.code, Some(6), "{}", run.stderr);
            is_harmless("verify", &run);
        }
        let elsewhere = format!("{output}-too");
        std::fs::remove_file(marker).unwrap();
        let run = finish(floe(
            [&["run", "--run-id", "another"][..], &job, &logging].concat(),
        ));
        assert_eq!(run.code, Some(3), "{}", run.stderr);
        is_harmless("a stranger", &run);
        std::fs::write(scenario.input().join(format!("{file}2.parquet")), "no Parquet").unwrap();
        let run = finish(floe(
            [&["run"][..], &job, &["--output", &elsewhere], &logging].concat(),
        ));
        assert_eq!(run.code, Some(6), "{}", run.stderr);
        is_harmless("no Parquet", &run);
    }
}

/// Failure matrix: 63.
#[test]
fn a_file_name_with_control_characters_is_refused_on_one_line() {
    let scenario = Scenario::new();
    let file = HOSTILE.replace('/', "-");
    write_parquet(
        &scenario.input().join(format!("{file}.parquet")),
        &hostile_table(),
        10,
    );
    for format in ["text", "json"] {
        let run = scenario.run(&["--log-format", format, "--json"]);
        run.fails(6, &["illegal character", "rename it"]);
        is_harmless(format, &scenario.run(&["--log-format", format, "--json"]));
    }
    assert_eq!(scenario.files(), Vec::<String>::new());
}

/// Failure matrix: 63.
#[test]
fn a_models_own_names_are_harmless_too() {
    let scenario = Scenario::with_files(&[10], 10);
    let graph = [
        node("Relu", &[HOSTILE], &["out\u{1b}[31m\nforged"], &[]),
        field(11, value(HOSTILE, FLOAT, &[-1, 4])),
        field(12, value("out\u{1b}[31m\nforged", FLOAT, &[-1, 4])),
    ]
    .concat();
    let named = [
        number(1, 8),
        field(2, HOSTILE),
        field(7, &graph),
        field(8, number(2, 17)),
    ]
    .concat();
    let custom = crate::onnx_bytes::node_of("evil\n\u{1b}[31m", HOSTILE, &["X"], &["y"], &[]);
    let refused = onnx_model(&crate::onnx_bytes::graph(&[custom]), &[]);
    for (name, bytes, code) in [("named", named, 0), ("refused", refused, 7)] {
        let path = scenario.path().join(format!("{name}.onnx"));
        std::fs::write(&path, bytes).unwrap();
        for format in ["text", "json"] {
            for json in [&[][..], &["--json"]] {
                let logging = ["--log", "trace", "--log-format", format];
                let run = finish(floe(
                    [&["inspect", path.to_str().unwrap()][..], json, &logging].concat(),
                ));
                assert_eq!(run.code, Some(code), "{name}: {}{}", run.stdout, run.stderr);
                is_harmless(name, &run);
                let forged = run
                    .stdout
                    .lines()
                    .chain(run.stderr.lines())
                    .any(|line| line.starts_with("forged"));
                assert!(!forged, "{name}: {}", run.stdout);
            }
        }
        let run = scenario.run(&["--model", path.to_str().unwrap(), "--log-format", "text"]);
        assert_ne!(run.code, Some(0));
        is_harmless(name, &run);
    }
}
