//! What is said outside the job file: flags and the environment, handed in as plain values.
//!
//! Flags are laid over the document key by key, so that they pass the same checks and the job file's rules are
//! written once. A mistake in a flag is reported under the flag's name.

use serde_json::{Map, Value};

/// Flags of `floe run` and its siblings. `None`: not given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides {
    /// `--model`; drops the document's `model.backend` unless `--backend` is given too.
    pub model: Option<String>,
    /// `--backend`
    pub backend: Option<String>,
    /// `--function-name`
    pub function_name: Option<String>,
    /// `--device`
    pub device: Option<String>,
    /// `--precision`
    pub precision: Option<String>,
    /// `--execution-providers`
    pub execution_providers: Option<Vec<String>>,
    /// `--input`
    pub input: Option<String>,
    /// `--pattern`
    pub pattern: Option<String>,
    /// `--output`; drops the document's `output.base_stage_location`.
    pub output: Option<String>,
    /// `--mode`
    pub mode: Option<String>,
    /// `--partition-by`
    pub partition_by: Option<Vec<String>>,
    /// `--compression`
    pub compression: Option<String>,
    /// `--take-over`
    pub take_over: Option<bool>,
    /// `--num-workers`
    pub num_workers: Option<u64>,
    /// `--max-batch-rows`
    pub max_batch_rows: Option<u64>,
    /// `--grace-secs`
    pub grace_secs: Option<f64>,
    /// `--no-help`
    pub help: Option<bool>,
    /// `--connection`
    pub connection: Option<String>,
    /// `--cpus`
    pub cpus: Option<String>,
    /// `--memory`
    pub memory: Option<String>,
    /// `--replicas`
    pub replicas: Option<u64>,
    /// `--replica-index`
    pub replica_index: Option<u64>,
    /// `--job-name`; drops the document's `job_name_prefix`.
    pub job_name: Option<String>,
    /// `--run-id`
    pub run_id: Option<String>,
}

/// What the platform says, each variable as it stands. `None` or empty: not set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// `SNOWFLAKE_JOB_INDEX`
    pub job_index: Option<String>,
    /// `SNOWFLAKE_JOBS_COUNT`
    pub jobs_count: Option<String>,
    /// `JOB_COMPLETION_INDEX` (Kubernetes Indexed Job)
    pub completion_index: Option<String>,
    /// `SNOWFLAKE_SERVICE_NAME`
    pub service_name: Option<String>,
    /// `FLOE_RUN_ID`
    pub run_id: Option<String>,
}

/// How a flag's value is taken out of the overrides.
type Taker = fn(&Overrides) -> Option<Value>;

/// Every key that a flag can set: its path, the flag, the value.
const FLAGS: &[(&str, &str, Taker)] = &[
    ("model.location", "--model", |o| json(&o.model)),
    ("model.backend", "--backend", |o| json(&o.backend)),
    ("model.function_name", "--function-name", |o| {
        json(&o.function_name)
    }),
    ("model.device", "--device", |o| json(&o.device)),
    ("model.precision", "--precision", |o| json(&o.precision)),
    ("model.execution_providers", "--execution-providers", |o| {
        json(&o.execution_providers)
    }),
    ("input.stage_location", "--input", |o| json(&o.input)),
    ("input.file_pattern", "--pattern", |o| json(&o.pattern)),
    ("output.stage_location", "--output", |o| json(&o.output)),
    ("output.mode", "--mode", |o| json(&o.mode)),
    ("output.partition_by", "--partition-by", |o| json(&o.partition_by)),
    ("output.compression", "--compression", |o| json(&o.compression)),
    ("output.take_over", "--take-over", |o| json(&o.take_over)),
    ("inference.num_workers", "--num-workers", |o| json(&o.num_workers)),
    ("inference.max_batch_rows", "--max-batch-rows", |o| {
        json(&o.max_batch_rows)
    }),
    ("inference.grace_secs", "--grace-secs", |o| json(&o.grace_secs)),
    ("inference.help", "--no-help", |o| json(&o.help)),
    ("storage.connection", "--connection", |o| json(&o.connection)),
    ("resources.cpu_requests", "--cpus", |o| json(&o.cpus)),
    ("resources.memory_requests", "--memory", |o| json(&o.memory)),
    ("replicas", "--replicas", |o| json(&o.replicas)),
    ("job_name", "--job-name", |o| json(&o.job_name)),
    ("run_id", "--run-id", |o| json(&o.run_id)),
];

fn json<T: Clone + Into<Value>>(flag: &Option<T>) -> Option<Value> {
    flag.clone().map(Into::into)
}

/// A flag that answers a question makes the document's other answer to it void: `(flag's key, dropped key)`.
const SUPERSEDES: &[(&str, &str)] = &[
    ("model.location", "model.backend"),
    ("output.stage_location", "output.base_stage_location"),
    ("job_name", "job_name_prefix"),
];

/// The flag that sets `key`, if there is one.
pub fn flag_of(key: &str) -> Option<&'static str> {
    let found = FLAGS.iter().find(|(known, _, _)| *known == key);
    found.map(|(_, flag, _)| *flag)
}

impl Overrides {
    /// The flags that were given, as `(key path, value)`.
    pub fn given(&self) -> Vec<(&'static str, Value)> {
        let flags = FLAGS.iter();
        flags
            .filter_map(|(key, _, value)| Some((*key, value(self)?)))
            .collect()
    }
}

/// Lays flags over a document that has passed its own checks: sections are mappings or null.
pub fn lay_over(document: &mut Map<String, Value>, flags: &[(&'static str, Value)]) {
    let set_by_flag = |key: &str| flags.iter().any(|(given, _)| *given == key);
    for (key, dropped) in SUPERSEDES {
        if set_by_flag(key) && !set_by_flag(dropped) {
            take(document, dropped);
        }
    }
    for (key, value) in flags {
        put(document, key, value.clone());
    }
}

/// Removes the value at a key path of one or two names.
pub fn take(document: &mut Map<String, Value>, key: &str) -> Option<Value> {
    match key.split_once('.') {
        None => document.shift_remove(key),
        Some((section, name)) => document.get_mut(section)?.as_object_mut()?.shift_remove(name),
    }
}

/// The value at a key path of one or two names.
pub fn get<'a>(document: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    match key.split_once('.') {
        None => document.get(key),
        Some((section, name)) => document.get(section)?.get(name),
    }
}

/// Sets the value at a key path of one or two names, making the section if needed. False when the section is
/// something else than a mapping.
pub fn put(document: &mut Map<String, Value>, key: &str, value: Value) -> bool {
    let Some((section, name)) = key.split_once('.') else {
        document.insert(key.to_string(), value);
        return true;
    };
    let section = document.entry(section).or_insert(Value::Null);
    if section.is_null() {
        *section = Value::Object(Map::new());
    }
    match section.as_object_mut() {
        Some(section) => {
            section.insert(name.to_string(), value);
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn flags_replace_the_documents_values_and_what_they_make_void() {
        let mut document = json!({
            "job_name_prefix": "nightly",
            "model": {"location": "m", "backend": "onnx"},
            "output": {"base_stage_location": "out", "mode": "error"},
            "inference": null,
        });
        let flags = Overrides {
            model: Some("echo".into()),
            output: Some("elsewhere".into()),
            num_workers: Some(3),
            job_name: Some("one".into()),
            ..Overrides::default()
        };
        lay_over(document.as_object_mut().unwrap(), &flags.given());
        assert_eq!(
            document,
            json!({
                "model": {"location": "echo"},
                "output": {"mode": "error", "stage_location": "elsewhere"},
                "inference": {"num_workers": 3},
                "job_name": "one",
            })
        );
    }

    #[test]
    fn a_backend_flag_survives_a_model_flag() {
        let mut document = Map::new();
        let flags = Overrides {
            model: Some("m".into()),
            backend: Some("onnx".into()),
            ..Overrides::default()
        };
        lay_over(&mut document, &flags.given());
        assert_eq!(
            Value::from(document),
            json!({"model": {"location": "m", "backend": "onnx"}})
        );
    }

    #[test]
    fn every_flag_reaches_its_own_key() {
        let all = Overrides {
            model: Some("model".into()),
            backend: Some("backend".into()),
            function_name: Some("function-name".into()),
            device: Some("device".into()),
            precision: Some("precision".into()),
            execution_providers: Some(vec!["execution-providers".into()]),
            input: Some("input".into()),
            pattern: Some("pattern".into()),
            output: Some("output".into()),
            mode: Some("mode".into()),
            partition_by: Some(vec!["partition-by".into()]),
            compression: Some("compression".into()),
            take_over: Some(true),
            num_workers: Some(1),
            max_batch_rows: Some(2),
            grace_secs: Some(3.0),
            help: Some(false),
            connection: Some("connection".into()),
            cpus: Some("cpus".into()),
            memory: Some("memory".into()),
            replicas: Some(4),
            replica_index: None,
            job_name: Some("job-name".into()),
            run_id: Some("run-id".into()),
        };
        let given = all.given();
        assert_eq!(given.len(), FLAGS.len());
        for (key, value) in given {
            let flag = flag_of(key).unwrap();
            let named = match &value {
                Value::Array(items) => items[0].as_str(),
                other => other.as_str(),
            };
            if let Some(text) = named {
                assert_eq!(flag, format!("--{text}"), "{key}");
            }
        }
    }
}
