//! The exact words a user sees for mistakes in a job: what was given, what is allowed, and the nearest known key.

use floe::config::overrides::{Environment, Overrides};
use floe::config::resolve::resolve;
use floe::error::ErrorKind;

/// A job that has all it needs, with `more` below it.
fn job(more: &str) -> String {
    format!("model: {{location: models/m}}\ninput: {{stage_location: data}}\n{more}")
}

/// The same with an output.
fn job_out(more: &str) -> String {
    job(&format!("output: {{stage_location: out}}\n{more}"))
}

/// The same with `keys` in the section `output`.
fn output(keys: &str) -> String {
    job(&format!("output: {{{keys}}}"))
}

/// The same with `keys` in the section `input`.
fn input(keys: &str) -> String {
    format!("model: {{location: models/m}}\noutput: {{stage_location: out}}\ninput: {{{keys}}}")
}

/// The same with `keys` in the section `model`.
fn model(keys: &str) -> String {
    format!("input: {{stage_location: data}}\noutput: {{stage_location: out}}\nmodel: {{{keys}}}")
}

fn refused(document: Option<&str>, flags: &Overrides, environment: &Environment) -> String {
    let document = document.map(|text| (text, "job.yaml"));
    let error = match resolve(document, flags, environment) {
        Ok(resolved) => panic!("taken: {document:?} {flags:?} {:?}", resolved.job),
        Err(error) => error,
    };
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_eq!(error.kind().exit_code(), 2);
    error.to_string()
}

fn check(document: &str, expected: &str) {
    let error = refused(Some(document), &Overrides::default(), &Environment::default());
    assert_eq!(error, expected, "\n{document}\n");
}

fn check_flags(flags: Overrides, expected: &str) {
    assert_eq!(
        refused(None, &flags, &Environment::default()),
        expected,
        "{flags:?}"
    );
}

fn check_environment(document: &str, environment: Environment, expected: &str) {
    let error = refused(Some(document), &Overrides::default(), &environment);
    assert_eq!(error, expected, "{environment:?}");
}

fn flags() -> Overrides {
    Overrides {
        model: Some("models/m".into()),
        input: Some("data".into()),
        output: Some("out".into()),
        ..Overrides::default()
    }
}

const INFERENCE: &str = "inference knows num_workers, max_batch_rows, grace_secs, help";

const TOP: &str = "a job file knows job_name, job_name_prefix, run_id, model, input, output, storage, resources, inference, replicas";

#[test]
fn unknown_keys_name_their_path_the_nearest_key_and_what_is_known() {
    check(
        &job_out("inference: {max_batch_row: 10}"),
        &format!(
            "job.yaml: inference.max_batch_row: unknown key, the nearest is max_batch_rows; {INFERENCE}"
        ),
    );
    check(
        &job_out("infrence: {num_workers: 1}"),
        &format!("job.yaml: infrence: unknown key, the nearest is inference; {TOP}"),
    );
    check(
        &job_out("num_worker: 1"),
        &format!("job.yaml: num_worker: unknown key, the nearest is num_workers; {TOP}"),
    );
    check(
        &job_out("partition_by: [A]"),
        &format!("job.yaml: partition_by: unknown key, it belongs to output; {TOP}"),
    );
    check(
        &job_out("inference: {replicas: 2}"),
        &format!("job.yaml: inference.replicas: unknown key, it belongs to the top level; {INFERENCE}"),
    );
    check(
        &job_out("inference: {xyz: 2}"),
        &format!("job.yaml: inference.xyz: unknown key; {INFERENCE}"),
    );
    check(
        &job_out("inference: {engine_options: {engin: x}}"),
        "job.yaml: inference.engine_options.engin: unknown key, the nearest is engine; \
         inference.engine_options knows engine, engine_args_override",
    );
}

#[test]
fn all_unknown_keys_and_wrong_values_are_told_at_once() {
    check(
        "model: {locatoin: m}\noutput: {mode: overwrit}\ninference: {num_workers: 0, foo: 1}\n",
        &format!(
            "job.yaml has 4 mistakes:\n  \
             model.locatoin: unknown key, the nearest is location; model knows location, backend, function_name, device, precision, execution_providers, jpeg_scale\n  \
             output.mode: \"overwrit\" given, error or overwrite allowed; the nearest is overwrite\n  \
             inference.num_workers: 0 given, a whole number from 1 to 4096 allowed\n  \
             inference.foo: unknown key; {INFERENCE}"
        ),
    );
}

#[test]
fn wrong_values_say_what_was_given_and_what_is_allowed() {
    for (document, expected) in [
        (
            job_out("inference: {max_batch_rows: many}"),
            "inference.max_batch_rows: \"many\" given, a whole number from 1 to 16777216 allowed",
        ),
        (
            job_out("inference: {max_batch_rows: 0}"),
            "inference.max_batch_rows: 0 given, a whole number from 1 to 16777216 allowed",
        ),
        (
            job_out("inference: {num_workers: -4}"),
            "inference.num_workers: -4 given, a whole number from 1 to 4096 allowed",
        ),
        (
            job_out("inference: {num_workers: 2.5}"),
            "inference.num_workers: 2.5 given, a whole number from 1 to 4096 allowed",
        ),
        (
            job_out("inference: {grace_secs: soon}"),
            "inference.grace_secs: \"soon\" given, a number from 0 to 3600 allowed",
        ),
        (
            job_out("inference: [1]"),
            "inference: [1] given, a mapping with the keys num_workers, max_batch_rows, grace_secs, help allowed",
        ),
        (
            job_out("replicas: 0"),
            "replicas: 0 given, a whole number from 1 to 10000 allowed",
        ),
        (
            job_out("replicas: 10001"),
            "replicas: 10001 given, a whole number from 1 to 10000 allowed",
        ),
        (
            job_out("run_id: 42"),
            "run_id: 42 given, text of 1 to 255 characters allowed; put it in quotes",
        ),
        (
            output("stage_location: out, take_over: yes"),
            "output.take_over: \"yes\" given, true or false allowed",
        ),
        (
            output("stage_location: out, compression: zst"),
            "output.compression: \"zst\" given, zstd, snappy, gzip, lz4 or none allowed; the nearest is zstd",
        ),
        (
            output("stage_location: out, partition_by: ORIGIN"),
            "output.partition_by: \"ORIGIN\" given, a list of text that is not empty allowed",
        ),
        (
            output("stage_location: out, partition_by: [A, 1]"),
            "output.partition_by[1]: 1 given, text that is not empty allowed; put it in quotes",
        ),
        (
            output("stage_location: out, rename: {a: 1}"),
            "output.rename.a: 1 given, text allowed; put it in quotes",
        ),
        (
            output("stage_location: ''"),
            "output.stage_location: \"\" given, text that is not empty allowed",
        ),
        (
            output("stage_location: out, columns: []"),
            "output.columns: [] given, a list, not empty, of text that is not empty allowed",
        ),
        (
            input("stage_location: data, file_pattern: ''"),
            "input.file_pattern: \"\" given, text that is not empty allowed",
        ),
        (
            input("stage_location: data, on_null: zero"),
            "input.on_null: \"zero\" given, fail, nan or fill allowed",
        ),
        (
            model("location: m, backend: onxx"),
            "model.backend: \"onxx\" given, onnx, trees, candle or echo allowed; the nearest is onnx",
        ),
        (
            model("location: m, device: gpu"),
            "model.device: \"gpu\" given, auto, cpu, cuda or cuda:<number> allowed",
        ),
        (
            model("location: m, device: 'cuda:+1'"),
            "model.device: \"cuda:+1\" given, auto, cpu, cuda or cuda:<number> allowed",
        ),
        (
            model("location: m, precision: fp16, execution_providers: [openvino]"),
            "model.precision: \"fp16\" given, f32, bf16 or f16 allowed; the nearest is f16",
        ),
        (
            model("location: m, execution_providers: [openvin]"),
            "model.execution_providers[0]: \"openvin\" given, openvino, cuda or tensorrt allowed; the nearest is openvino",
        ),
        (
            job_out("resources: {cpu_requests: two}"),
            "resources.cpu_requests: \"two\" given, cores up to 4096 such as 2, 1.5 or \"500m\" allowed",
        ),
        (
            job_out("resources: {memory_requests: 8}"),
            "resources.memory_requests: 8 given, a number with its unit such as \"8GiB\", \"512Mi\" or \"1.5GB\" allowed",
        ),
        (
            job_out("resources: {gpu_requests: '1.5'}"),
            "resources.gpu_requests: \"1.5\" given, a whole number from 0 to 64 allowed",
        ),
        (
            job_out("resources: {gpu_requests: [1]}"),
            "resources.gpu_requests: [1] given, a whole number from 0 to 64 allowed",
        ),
        (
            job_out("storage: {options: {aws_region: [s3cret]}}"),
            "storage.options.aws_region: a list given, a text, number or true/false allowed",
        ),
        (
            job_out("storage: {max_requests: 0}"),
            "storage.max_requests: 0 given, a whole number from 1 to 4096 allowed",
        ),
        (
            job_out("storage: {local_writer: rename}"),
            "storage.local_writer: \"rename\" given, auto, link or sequential allowed",
        ),
    ] {
        check(&document, &format!("job.yaml: {expected}"));
    }
}

#[test]
fn what_contradicts_itself_is_refused() {
    for (document, expected) in [
        (
            job_out("num_workers: 4\ninference: {num_workers: 2}"),
            "num_workers: 4 given, but inference.num_workers, which is the same key, gives 2; give one of them",
        ),
        (
            output("stage_location: out, base_stage_location: base"),
            "output.base_stage_location: \"base\" given beside output.stage_location; give one of them",
        ),
        (
            job_out("job_name: a\njob_name_prefix: b"),
            "job_name_prefix: \"b\" given beside job_name \"a\"; give one of them",
        ),
        (
            input("stage_location: data, fill_value: 1"),
            "input.fill_value: 1 given, only allowed with on_null: fill",
        ),
        (
            input("stage_location: data, on_null: fill"),
            "input.fill_value: missing; on_null: fill needs a number to fill with",
        ),
        (
            output("stage_location: out, take_over: true"),
            "output.take_over: true given, only allowed with mode: overwrite",
        ),
        (
            output("stage_location: out, partition_by: [A, B, A]"),
            "output.partition_by[2]: \"A\" given twice, each column once allowed",
        ),
        (
            output("stage_location: out, rename: {a: x, b: x}"),
            "output.rename.b: \"x\" given, which a is renamed to already",
        ),
        (
            output("stage_location: out, columns: [a, b], rename: {a: b}"),
            "output.rename.a: \"b\" given, which is the name of the column b already",
        ),
        (
            output("stage_location: out, columns: [a], rename: {b: c}"),
            "output.rename.b: given, but output.columns leaves that column out",
        ),
        (
            output("stage_location: out, rename: {a: ''}"),
            "output.rename.a: \"\" given, a column name allowed",
        ),
        (
            output("stage_location: ./data/"),
            "output.stage_location: \"./data/\" given, so the output is the input; choose another folder",
        ),
        (
            output("stage_location: ."),
            "output.stage_location: \".\" given, so the output contains the input \"data\"; overwriting would remove it",
        ),
        (
            output("stage_location: models"),
            "output.stage_location: \"models\" given, so the output contains the model \"models/m\"; overwriting would remove it",
        ),
        (
            model("location: m, backend: echo"),
            "model.location: \"m\" given, but the backend echo is built in; leave the location or the backend out",
        ),
        (
            model("backend: echo, device: cuda"),
            "model.device: a GPU given, but the backend echo runs on the cpu only",
        ),
        (
            model("location: m, precision: bf16"),
            "model.precision: bf16 given, but on processors ONNX Runtime's own kernels and Candle compute in f32 only; name \
             who can do it, execution_providers: [openvino] or device: cuda, or leave the precision out",
        ),
        (
            model("location: m, precision: f16"),
            "model.precision: f16 given, but on processors ONNX Runtime's own kernels and Candle compute in f32 only; name \
             who can do it, device: cuda, or leave the precision out",
        ),
        (
            model("location: m, device: cpu, execution_providers: [tensorrt, cuda]"),
            "model.execution_providers: tensorrt given, but model.device is cpu; leave one of them out",
        ),
        (
            model("location: m, execution_providers: [cuda, openvino]"),
            "model.execution_providers: cuda and openvino given, but one computes on GPUs and the other on processors; \
             leave one of them out",
        ),
        (
            model("location: m, execution_providers: [openvino, openvino]"),
            "model.execution_providers[1]: openvino given twice, each provider once allowed",
        ),
        (
            job_out("job_name: my-job"),
            "job_name: \"my-job\" given, up to 255 letters, digits and underscores, not beginning with a digit, allowed",
        ),
    ] {
        // `.` holds the model as well as the input: two mistakes, both told.
        if document.contains("stage_location: .}") {
            let error = refused(Some(&document), &Overrides::default(), &Environment::default());
            assert!(error.starts_with("job.yaml has 2 mistakes:\n"), "{error}");
            assert!(error.contains(expected), "{error}");
            continue;
        }
        check(&document, &format!("job.yaml: {expected}"));
    }
}

/// Failure matrix: 62.
#[test]
fn what_this_version_cannot_do_is_refused_and_not_skipped() {
    for (document, expected) in [
        (
            job_out("inference: {engine_options: {engine: VLLM}}"),
            "inference.engine_options.engine: \"VLLM\" given, only PYTHON_GENERIC or nothing allowed; \
             this worker runs models itself",
        ),
        (
            job_out("inference: {adapters: [{name: a, version: v1}]}"),
            "inference.adapters: [{\"name\":\"a\",\"version\":\"v1\"}] given, but adapters are not in this version; leave it out",
        ),
        (
            job_out("partition_column: REGION"),
            "input.partition_column: \"REGION\" given, but partitioned model functions are not in this version; leave it out",
        ),
    ] {
        check(&document, &format!("job.yaml: {expected}"));
    }
}

#[test]
fn what_is_missing_is_listed_with_key_and_flag() {
    check(
        "job_name: x",
        "job.yaml: missing model.location or --model (what to run), \
         input.stage_location or --input (what to run it over), \
         output.stage_location or --output (where results go)",
    );
    check_flags(
        Overrides {
            output: None,
            ..flags()
        },
        "missing output.stage_location or --output (where results go)",
    );
}

#[test]
fn mistakes_in_flags_name_the_flag() {
    check_flags(
        Overrides {
            num_workers: Some(0),
            ..flags()
        },
        "--num-workers: 0 given, a whole number from 1 to 4096 allowed",
    );
    check_flags(
        Overrides {
            mode: Some("append".into()),
            ..flags()
        },
        "--mode: \"append\" given, error or overwrite allowed",
    );
    check_flags(
        Overrides {
            partition_by: Some(vec!["A".into(), String::new()]),
            ..flags()
        },
        "--partition-by: \"\" given, text that is not empty allowed",
    );
    check_flags(
        Overrides {
            replicas: Some(3),
            replica_index: Some(3),
            ..flags()
        },
        "--replica-index: 3 given, 0 to 2 allowed with 3 replicas",
    );
    check_flags(
        Overrides {
            replica_index: Some(0),
            ..flags()
        },
        "--replica-index: 0 given, but not of how many; give --replicas too",
    );
    check_flags(
        Overrides {
            run_id: Some("a b".into()),
            ..flags()
        },
        "--run-id: \"a b\" given, up to 255 characters without spaces allowed",
    );
    check_flags(
        Overrides {
            input: Some("out/part".into()),
            ..flags()
        },
        "--output: \"out\" given, so the output contains the input \"out/part\"; overwriting would remove it",
    );
}

#[test]
fn the_platforms_variables_are_checked_too() {
    let document = job_out("");
    check_environment(
        &document,
        Environment {
            job_index: Some("3".into()),
            jobs_count: Some("3".into()),
            ..Environment::default()
        },
        "SNOWFLAKE_JOB_INDEX: 3 given, 0 to 2 allowed with 3 replicas",
    );
    check_environment(
        &document,
        Environment {
            completion_index: Some("1".into()),
            ..Environment::default()
        },
        "JOB_COMPLETION_INDEX: 1 given, but not of how many; \
         set replicas (--replicas) to the job's completions",
    );
    check_environment(
        &output("base_stage_location: base"),
        Environment {
            job_index: Some("0".into()),
            jobs_count: Some("2".into()),
            ..Environment::default()
        },
        "job.yaml: output.base_stage_location: \"base\" given, but the 2 replicas share no job name; set job_name",
    );
}

#[test]
fn a_text_that_is_no_document_says_where_it_breaks() {
    check(
        "[model, input]",
        "job.yaml: a list given, a mapping of sections allowed; \
         a job file begins like \"model: {location: models/flights}\"",
    );
    check(
        "{\"model\": {\"location\": \"m\"}",
        "job.yaml: not a job file: EOF while parsing an object at line 1 column 27",
    );
    check(
        "replicas: 1\nreplicas: 2\n",
        "job.yaml: not a job file: the key replicas is given twice at line 2 column 1",
    );
    check(
        "replicas: 1\n---\nreplicas: 2\n",
        "job.yaml: not a job file: several YAML documents given, one allowed",
    );
    check(
        "model: {location: m\ninput: x\n",
        "job.yaml: not a job file: while parsing a flow mapping, did not find expected ',' or '}' at line 2, column 6",
    );

    check(
        "model:\n  location: m\n input: x\n",
        "job.yaml: not a job file: while parsing a block mapping, did not find expected key at line 3, column 2",
    );
    check(
        "model: {location: @db.s.stage/m}\n",
        "job.yaml: not a job file: unexpected character: `@' at line 1, column 19; \
         put a value that begins with @ in quotes",
    );
}

#[test]
fn the_mistakes_in_the_documentation_read_as_documented() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/job-file.md")).unwrap();
    let document = "model: {locatoin: m}\ninference: {num_workers: 0}\nnum_workers: 4\n";
    let error = refused(Some(document), &Overrides::default(), &Environment::default());
    assert!(page.contains(&format!("```text\n{error}\n```")), "{error}");
}
