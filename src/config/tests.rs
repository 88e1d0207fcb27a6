//! Jobs that resolve: what the user wrote on one side, what the program uses on the other. The mistakes and the
//! exact words about them are in `tests/it/config_errors.rs`.

use serde_json::json;

use super::overrides::{Environment, Overrides};
use super::resolve::{Launch, Resolved, resolve};
use super::schema::job_schema;
use super::*;

fn resolved(text: &str) -> Resolved {
    resolve(
        Some((text, "job.yaml")),
        &Overrides::default(),
        &Environment::default(),
    )
    .unwrap_or_else(|error| panic!("{error}\n{text}"))
}

const SMALLEST: &str = "{model: {location: m}, input: {stage_location: in}, output: {stage_location: out}}";

fn smallest() -> Overrides {
    Overrides {
        model: Some("m".into()),
        input: Some("in".into()),
        output: Some("out".into()),
        ..Overrides::default()
    }
}

#[test]
fn the_smallest_job_gets_every_default_that_the_documentation_states() {
    let Resolved { job, launch } = resolved(SMALLEST);
    assert!(
        job.name.starts_with("BATCH_INFERENCE_") && job.name.len() == 16 + 36,
        "{}",
        job.name
    );
    assert!(
        job.name
            .chars()
            .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
    );
    assert_eq!(launch, Launch::Replica(Replica::ONLY));
    let expected = Job {
        name: job.name.clone(),
        name_given: false,
        run_id: None,
        platform_job: None,
        model: ModelOptions {
            location: "m".into(),
            backend: None,
            function_name: None,
            device: Device::Auto,
            precision: Precision::F32,
            execution_providers: vec![],
            jpeg_scale: None,
        },
        input: InputOptions {
            location: "in".into(),
            file_pattern: "**/*.parquet".into(),
            params: Default::default(),
            columns: Default::default(),
            on_null: OnNull::Fail,
            on_out_of_range: OnOutOfRange::Fail,
            on_row_error: OnRowError::Fail,
            column_handling: Default::default(),
        },
        output: OutputOptions {
            location: "out".into(),
            mode: SaveMode::Error,
            partition_by: vec![],
            compression: None,
            columns: None,
            rename: Default::default(),
            prefix: String::new(),
            take_over: false,
        },
        storage: StorageOptions::default(),
        resources: Resources::default(),
        inference: InferenceOptions {
            num_workers: None,
            max_batch_rows: None,
            grace_secs: 25.0,
            help: true,
        },
        replica: Replica::ONLY,
        notes: vec![],
    };
    assert_eq!(job, expected);
}

#[test]
fn flags_alone_are_a_job() {
    let from_flags = resolve(None, &smallest(), &Environment::default()).unwrap();
    let mut from_file = resolved(SMALLEST);
    from_file.job.name = from_flags.job.name.clone();
    assert_eq!(from_flags, from_file);
}

#[test]
fn a_full_job_file_is_taken_word_for_word() {
    let job = resolved(
        r#"
job_name: score_flights
run_id: "42"
model: {location: models/flights, backend: onnx, function_name: predict, device: "cuda:1", precision: bf16, execution_providers: [openvino], jpeg_scale: reduced}
input:
  stage_location: data/flights
  file_pattern: "2013/*.parquet"
  params: {threshold: 0.5, labels: [a, b]}
  on_null: fill
  fill_value: -1
  on_out_of_range: saturate
  column_handling: {}
  partition_column: null
output:
  stage_location: out/flights
  mode: overwrite
  take_over: true
  partition_by: [ORIGIN, NO]
  compression: zstd
  columns: [label, score]
  rename: {label: DELAYED}
  prefix: p_
resources: {cpu_requests: "1500m", memory_requests: 8GiB, gpu_requests: "1"}
inference: {num_workers: 4, max_batch_rows: 8192, grace_secs: 7.5, help: false}
replicas: 1
"#,
    )
    .job;
    assert_eq!((job.name.as_str(), job.name_given), ("score_flights", true));
    assert_eq!(job.run_id.as_deref(), Some("42"));
    assert_eq!(job.model.backend, Some(Backend::Onnx));
    assert_eq!(job.model.device, Device::Cuda(1));
    assert_eq!(job.model.precision, Precision::Bf16);
    assert_eq!(job.model.execution_providers, [ExecutionProvider::Openvino]);
    assert_eq!(job.model.jpeg_scale, Some(JpegScale::Reduced));
    assert_eq!(job.model.function_name.as_deref(), Some("predict"));
    assert_eq!(job.input.file_pattern, "2013/*.parquet");
    assert_eq!(job.input.params["labels"], json!(["a", "b"]));
    assert_eq!(job.input.on_null, OnNull::Fill(-1.0));
    assert_eq!(job.input.on_out_of_range, OnOutOfRange::Saturate);
    assert_eq!(job.output.mode, SaveMode::Overwrite);
    assert!(job.output.take_over);
    assert_eq!(job.output.partition_by, ["ORIGIN", "NO"]);
    assert_eq!(job.output.compression, Some(Compression::Zstd));
    assert_eq!(job.output.columns, Some(vec!["label".into(), "score".into()]));
    assert_eq!(job.output.rename["label"], "DELAYED");
    assert_eq!(job.output.prefix, "p_");
    assert_eq!(job.resources.cpus, Some(1.5));
    assert_eq!(job.resources.memory_bytes, Some(8 << 30));
    assert_eq!(job.resources.gpus, Some(1));
    assert_eq!(job.inference.num_workers, Some(4));
    assert_eq!(job.inference.max_batch_rows, Some(8192));
    assert_eq!(job.inference.grace_secs, 7.5);
    assert!(!job.inference.help);
    assert_eq!(job.notes, Vec::<String>::new());
}

/// What snowflake-ml-python 2.x puts into `WITH SPECIFICATION`; input and model are clauses of its SQL command,
/// so here they come as flags.
const PYTHON_CLIENT_2: &str = r#"
input:
  params:
    temperature: 0.2
    top_k: 5
  layout: partitioned
output:
  stage_location: '@DB.SCHEMA.RESULTS/flights/'
  mode: overwrite
resources:
  cpu_requests: '2'
  memory_requests: 8GiB
inference:
  num_workers: 4
  max_batch_rows: 1024
  engine_options:
    engine: PYTHON_GENERIC
image_build:
  image_repo: DB.SCHEMA.IMAGES
  force_rebuild: false
"#;

#[test]
fn a_body_of_the_python_client_2_is_taken_unchanged() {
    let flags = Overrides {
        model: Some("@DB.SCHEMA.MODELS/flights".into()),
        input: Some("@DB.SCHEMA.RESULTS/_snowflake_temporary/5f0c/".into()),
        ..Overrides::default()
    };
    let document = Some((PYTHON_CLIENT_2, "FLOE_JOB"));
    let job = resolve(document, &flags, &Environment::default()).unwrap().job;
    assert_eq!(job.output.location, "@DB.SCHEMA.RESULTS/flights/");
    assert_eq!(job.output.mode, SaveMode::Overwrite);
    assert_eq!(job.input.params["top_k"], json!(5));
    assert_eq!(job.resources.cpus, Some(2.0));
    assert_eq!(job.inference.max_batch_rows, Some(1024));
    assert_eq!(
        job.notes,
        [
            "input.layout has no effect: the layout is seen from the files",
            "inference.engine_options has no effect: this worker is the engine",
            "image_build has no effect: this worker's image is built beforehand",
        ]
    );
}

#[test]
fn a_flat_body_of_job_spec_1_is_taken_and_its_idle_keys_are_said() {
    let job = resolved(
        r#"{
  "job_name": "SCORE", "function_name": "predict", "num_workers": 8, "max_batch_rows": 1024,
  "cpu_requests": "500m", "memory_requests": "512Mi", "gpu_requests": null, "replicas": 1,
  "stage_location": "@DB.S.OUT/x", "mode": "error", "input_stage_location": "@DB.S.IN/y/",
  "params": {"threshold": 0.5}, "column_handling": {}, "partition_column": null,
  "image_repo": "DB.S.IMAGES", "force_rebuild": true, "warehouse": "WH", "block": true,
  "model": {"location": "@DB.S.MODELS/m"}
}"#,
    )
    .job;
    assert_eq!(job.name, "SCORE");
    assert_eq!(job.model.function_name.as_deref(), Some("predict"));
    assert_eq!(job.inference.num_workers, Some(8));
    assert_eq!(job.resources.cpus, Some(0.5));
    assert_eq!(job.resources.memory_bytes, Some(512 << 20));
    assert_eq!(job.input.location, "@DB.S.IN/y/");
    assert_eq!(job.output.location, "@DB.S.OUT/x");
    assert_eq!(
        job.notes,
        [
            "warehouse has no effect: this worker runs no SQL",
            "block has no effect: waiting is the launcher's business",
            "image_build has no effect: this worker's image is built beforehand",
        ]
    );
}

#[test]
fn names_come_from_the_file_before_the_platform_before_chance() {
    let environment = Environment {
        service_name: Some("NIGHTLY_7".into()),
        ..Environment::default()
    };
    let platform = resolve(Some((SMALLEST, "job")), &Overrides::default(), &environment)
        .unwrap()
        .job;
    assert_eq!(
        (platform.name.as_str(), platform.name_given),
        ("NIGHTLY_7", false)
    );
    assert_eq!(platform.platform_job.as_deref(), Some("NIGHTLY_7"));
    let named = Overrides {
        job_name: Some("mine".into()),
        ..Overrides::default()
    };
    let given = resolve(Some((SMALLEST, "job")), &named, &environment)
        .unwrap()
        .job;
    assert_eq!((given.name.as_str(), given.name_given), ("mine", true));
    assert_eq!(given.platform_job.as_deref(), Some("NIGHTLY_7"));
    let prefixed = format!("job_name_prefix: nightly_\n{}", block(SMALLEST));
    let prefixed = resolved(&prefixed).job;
    assert!(
        prefixed.name.starts_with("nightly_") && prefixed.name.len() == 8 + 36,
        "{}",
        prefixed.name
    );
    assert!(!prefixed.name_given);
}

/// A flow mapping as block YAML, so that keys can be put before it.
fn block(flow: &str) -> String {
    let document = document::parse(flow, "test").unwrap();
    serde_saphyr::to_string(&document).unwrap()
}

#[test]
fn the_run_id_comes_from_the_flag_before_the_launcher_before_the_file() {
    let file = format!("run_id: from-file\n{}", block(SMALLEST));
    let launcher = Environment {
        run_id: Some("from-launcher".into()),
        ..Environment::default()
    };
    let flag = Overrides {
        run_id: Some("from-flag".into()),
        ..Overrides::default()
    };
    let run_id = |overrides: &Overrides, environment: &Environment| {
        let job = resolve(Some((&file, "job")), overrides, environment).unwrap().job;
        (job.run_id.unwrap(), job.notes.len())
    };
    assert_eq!(run_id(&flag, &launcher), ("from-flag".to_string(), 0));
    assert_eq!(
        run_id(&Overrides::default(), &launcher),
        ("from-launcher".to_string(), 1)
    );
    assert_eq!(
        run_id(&Overrides::default(), &Environment::default()),
        ("from-file".to_string(), 0)
    );
}

#[test]
fn a_base_location_holds_a_folder_per_job_and_a_flag_makes_it_void() {
    let text = "{job_name: nightly, model: {location: m}, input: {stage_location: in}, \
                output: {base_stage_location: out/}}";
    assert_eq!(resolved(text).job.output.location, "out/nightly");
    let flag = Overrides {
        output: Some("elsewhere".into()),
        ..Overrides::default()
    };
    let job = resolve(Some((text, "job")), &flag, &Environment::default())
        .unwrap()
        .job;
    assert_eq!(job.output.location, "elsewhere");
}

#[test]
fn the_echo_model_needs_no_location_and_its_name_is_enough() {
    for text in [
        "{model: {backend: echo}, input: {stage_location: in}, output: {stage_location: out}}",
        "{model: {location: echo}, input: {stage_location: in}, output: {stage_location: out}}",
    ] {
        let model = resolved(text).job.model;
        assert_eq!(
            (model.location.as_str(), model.backend),
            ("echo", Some(Backend::Echo))
        );
    }
    // A folder may be called echo too.
    let folder = "{model: {location: echo, backend: onnx}, input: {stage_location: in}, output: {stage_location: out}}";
    assert_eq!(resolved(folder).job.model.backend, Some(Backend::Onnx));
}

#[test]
fn an_output_inside_the_input_is_noted() {
    let flags = Overrides {
        output: Some("in/results".into()),
        ..smallest()
    };
    let job = resolve(None, &flags, &Environment::default()).unwrap().job;
    assert_eq!(
        job.notes,
        [
            "the output \"in/results\" lies inside the input \"in\": a job that writes elsewhere would read these \
          results as input"
        ]
    );
}

#[test]
fn several_replicas_without_an_index_are_all_started_here() {
    let flags = Overrides {
        replicas: Some(3),
        ..smallest()
    };
    let all = resolve(None, &flags, &Environment::default()).unwrap();
    assert_eq!(all.launch, Launch::Local { count: 3 });
    assert_eq!(all.job.replica, Replica { index: 0, count: 3 });
    let one = Overrides {
        replica_index: Some(2),
        ..flags
    };
    let one = resolve(None, &one, &Environment::default()).unwrap();
    assert_eq!(one.launch, Launch::Replica(Replica { index: 2, count: 3 }));
    assert_eq!(one.job.replica, Replica { index: 2, count: 3 });
}

#[test]
fn the_published_schema_knows_every_key_and_alias() {
    let schema = job_schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert!(schema.to_string().starts_with("{\"$schema\":"));
    assert_eq!(schema["title"], "Floe job");
    assert_eq!(schema["additionalProperties"], false);
    let properties = schema["properties"].as_object().unwrap();
    for alias in aliases::ALIASES {
        let found = match alias.from.split_once('.') {
            None => &properties[alias.from],
            Some((section, name)) => &schema::properties(&properties[section]).unwrap()[name],
        };
        assert_eq!(found["deprecated"], true, "{}", alias.from);
    }
    assert_eq!(properties["num_workers"]["maximum"], 4096);
    assert!(!schema.to_string().contains("$ref"));
}
