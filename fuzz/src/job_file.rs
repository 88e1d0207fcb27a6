//! A job file, whatever its text: resolved to a job, or refused as `Config`, in words of bounded length.

use floe::config::overrides::{Environment, Overrides};
use floe::config::resolve::resolve;
use floe::error::ErrorKind;

/// Words of a refusal stay readable however long the text was.
const MAX_WORDS: usize = 64 * 1024;

pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let resolve = || {
        resolve(
            Some((text, "job.yaml")),
            &Overrides::default(),
            &Environment::default(),
        )
    };
    match resolve() {
        Ok(resolved) => {
            let job = &resolved.job;
            assert!(!job.input.location.is_empty() && !job.model.location.is_empty());
            assert!(job.replica.index < job.replica.count);
            // A name that was not given is made up anew each time.
            if job.name_given {
                assert_eq!(resolve().expect("the same text"), resolved);
            }
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Config, "{error}");
            assert!(
                error.to_string().len() <= MAX_WORDS,
                "{} bytes of words",
                error.to_string().len()
            );
        }
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    [
        "model: {location: echo}\ninput: {stage_location: in}\noutput: {stage_location: out}\n",
        r#"{"model": {"location": "echo"}, "input": {"stage_location": "in", "params": {"k": [1, 2.5, true, "x"]}}}"#,
        "job_name: night\nmodel:\n  location: models/flights\n  function_name: predict\ninput:\n  stage_location: '@db.s.stage/in'\n  \
         file_pattern: '**/*.parquet'\n  on_null: fill\noutput:\n  stage_location: out\n  mode: overwrite\n  partition_by: [a, b]\n  \
         compression: zstd\n  rename: {y: z}\nresources:\n  cpu_requests: 500m\n  memory_requests: 2Gi\ninference:\n  num_workers: 3\n  \
         max_batch_rows: 128\nreplicas: 4\n",
        "a: &x [1, 2]\nb: *x\nc: !!str 1\n? d\n: |\n  text\n",
        "model: echo\ninput: in\noutput: [out]\nreplicas: -1\n",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect()
}
