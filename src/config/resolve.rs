//! From what was said (job file, flags, environment) to the [`Job`] that the program uses.
//!
//! Aliases are moved, the document and the flags are checked against the schema, flags are laid over the document,
//! and what only makes sense together is checked together. The user sees every mistake of a step at once, and
//! nothing later has to ask again: a [`Job`] is complete and possible as far as its text tells.

use serde_json::{Map, Value};

use crate::config::aliases::{self, ALIASES};
use crate::config::check::{self, given};
use crate::config::document;
use crate::config::faults::Faults;
use crate::config::job_file::{JobFile, OutputSection};
use crate::config::naming::{self, Name};
use crate::config::nesting::{Nesting, below, nesting, shown};
use crate::config::overrides::{self, Environment, Overrides, lay_over};
use crate::config::replica::{self, Replica, Wanted};
use crate::config::schema::{NO_EFFECT, NOT_YET, inline_schema};
use crate::config::sections;
use crate::config::storage::storage;
use crate::config::{Backend, Job};
use crate::error::{Error, ErrorKind, Result};

pub use crate::config::replica::Launch;

/// A checked job and what this process is to do about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// The job; its `replica` is this process's, or the first one when all are to be started here.
    pub job: Job,
    /// Be one replica, or start all of them.
    pub launch: Launch,
}

/// Resolves a job. `document` is the job file's text and where it came from (a path, or a variable's name).
///
/// # Errors
/// `Config`, naming every mistake found: the key's path or the flag, what was given, what is allowed.
pub fn resolve(
    document: Option<(&str, &str)>,
    overrides: &Overrides,
    environment: &Environment,
) -> Result<Resolved> {
    let origin = document.map(|(_, origin)| origin);
    let mut notes = Vec::new();
    let job_file = merge(document, overrides, &mut notes)?;

    let flags = overrides.given();
    let mut faults = Faults::new(flags.iter().map(|(key, _)| *key).collect());
    check_required(&job_file, origin)?;
    let wanted = Wanted {
        index: overrides.replica_index,
        count: job_file.replicas.map(|count| count as usize),
    };
    let launch = replica::launch(wanted, environment, &mut faults, &mut notes);
    let name = naming::name(&job_file, environment, &mut faults);
    let run_id = naming::run_id(&job_file, overrides, environment, &mut faults, &mut notes);
    let output = job_file.output.unwrap_or_default();
    let location = output_location(&output, &name, launch, &mut faults);
    let mut job = Job {
        model: sections::model(job_file.model.unwrap_or_default(), &mut faults),
        input: sections::input(job_file.input.unwrap_or_default(), &mut faults),
        output: sections::output(output, location, &mut faults),
        storage: storage(job_file.storage.unwrap_or_default(), &mut faults),
        resources: sections::resources(job_file.resources.unwrap_or_default(), &mut faults),
        inference: sections::inference(job_file.inference.unwrap_or_default()),
        name: name.text,
        name_given: name.given,
        run_id,
        platform_job: naming::platform_job(environment),
        replica: match launch {
            Launch::Replica(replica) => replica,
            Launch::Local { count } => Replica { index: 0, count },
        },
        notes,
    };
    check_places(&mut job, &mut faults);
    faults.into_result(origin)?;
    Ok(Resolved { job, launch })
}

/// The document with aliases moved, checked, and flags laid over it.
fn merge(document: Option<(&str, &str)>, overrides: &Overrides, notes: &mut Vec<String>) -> Result<JobFile> {
    let origin = document.map(|(_, origin)| origin);
    let mut merged = match document {
        Some((text, origin)) => document::parse(text, origin)?,
        None => Map::new(),
    };
    let mut faults = Faults::default();
    aliases::settle(&mut merged, &mut faults);
    take_null_for_a_word(&mut merged);
    let aliases: Vec<&str> = ALIASES.iter().map(|alias| alias.from).collect();
    check::check(inline_schema(), &merged, &aliases, &mut faults);
    say_what_has_no_effect(&merged, notes, &mut faults);
    faults.into_result(origin)?;

    let flags = overrides.given();
    let mut only_flags = Map::new();
    for (key, value) in &flags {
        overrides::put(&mut only_flags, key, value.clone());
    }
    let mut faults = Faults::new(flags.iter().map(|(key, _)| *key).collect());
    check::check(inline_schema(), &only_flags, &[], &mut faults);
    faults.into_result(origin)?;

    lay_over(&mut merged, &flags);
    serde_path_to_error::deserialize(Value::Object(merged)).map_err(|error| {
        let path = error.path().to_string();
        Error::new(
            ErrorKind::Config,
            format!("{path}: not as the job file's schema says"),
        )
        .with_source(error.into_inner())
    })
}

/// `on_row_error: null` without quotes is YAML's null, and means the word all the same: elsewhere a null is as good as a key
/// that is left out, which here would be the opposite of what was asked for.
fn take_null_for_a_word(document: &mut Map<String, Value>) {
    let input = document.get_mut("input").and_then(Value::as_object_mut);
    if let Some(policy) = input.and_then(|input| input.get_mut("on_row_error"))
        && policy.is_null()
    {
        *policy = "null".into();
    }
}

fn say_what_has_no_effect(document: &Map<String, Value>, notes: &mut Vec<String>, faults: &mut Faults) {
    check::marked(inline_schema(), document, NO_EFFECT, &mut |key, reason, _| {
        notes.push(format!("{key} has no effect: {reason}"));
    });
    check::marked(inline_schema(), document, NOT_YET, &mut |key, reason, value| {
        let asks_for_nothing = match value {
            Value::Object(map) => map.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::String(text) => text.is_empty(),
            _ => false,
        };
        if !asks_for_nothing && !faults.has(key) {
            faults.push(key, format!("{} given, but {reason}; leave it out", given(value)));
        }
    });
    let engine = document
        .get("inference")
        .and_then(|inference| inference.get("engine_options")?.get("engine")?.as_str());
    if let Some(engine) = engine
        && !engine.eq_ignore_ascii_case("PYTHON_GENERIC")
    {
        faults.push(
            "inference.engine_options.engine",
            format!(
                "{engine:?} given, only PYTHON_GENERIC or nothing allowed; this worker runs models itself"
            ),
        );
    }
}

fn check_required(job_file: &JobFile, origin: Option<&str>) -> Result<()> {
    let model = job_file.model.clone().unwrap_or_default();
    let input = job_file.input.clone().unwrap_or_default();
    let output = job_file.output.clone().unwrap_or_default();
    let has_model = model.location.is_some() || model.backend == Some(Backend::Echo);
    let has_output = output.stage_location.is_some() || output.base_stage_location.is_some();
    let missing: Vec<String> = [
        (has_model, "model.location", "what to run"),
        (
            input.stage_location.is_some(),
            "input.stage_location",
            "what to run it over",
        ),
        (has_output, "output.stage_location", "where results go"),
    ]
    .into_iter()
    .filter(|(is_there, _, _)| !is_there)
    .map(|(_, key, meaning)| match overrides::flag_of(key) {
        Some(flag) => format!("{key} or {flag} ({meaning})"),
        None => format!("{key} ({meaning})"),
    })
    .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let place = origin.map_or(String::new(), |origin| format!("{origin}: "));
    Err(Error::config(format!("{place}missing {}", missing.join(", "))))
}

fn output_location(section: &OutputSection, name: &Name, launch: Launch, faults: &mut Faults) -> String {
    match (&section.stage_location, &section.base_stage_location) {
        (Some(location), None) => location.clone(),
        (Some(_), Some(base)) => {
            faults.push(
                "output.base_stage_location",
                format!(
                    "{:?} given beside output.stage_location; give one of them",
                    shown(base)
                ),
            );
            String::new()
        }
        (None, Some(base)) => {
            // Replicas that each invent a name would each write to a folder of their own.
            let invented = name.is_random && matches!(launch, Launch::Replica(_)) && launch.count() > 1;
            if invented {
                faults.push(
                    "output.base_stage_location",
                    format!(
                        "{:?} given, but the {} replicas share no job name; set job_name",
                        shown(base),
                        launch.count()
                    ),
                );
            }
            below(base, &name.text)
        }
        (None, None) => String::new(),
    }
}

fn check_places(job: &mut Job, faults: &mut Faults) {
    if job.output.location.is_empty() {
        return;
    }
    let key = "output.stage_location";
    let (output, input) = (shown(&job.output.location), shown(&job.input.location));
    match nesting(&job.output.location, &job.input.location) {
        Nesting::Apart => {}
        Nesting::Same => faults.push(key, format!("{output:?} given, so the output is the input; choose another folder")),
        // Its files are left out of the listing; those of a later run elsewhere would not know them.
        Nesting::Inside => job.notes.push(format!(
            "the output {output:?} lies inside the input {input:?}: a job that writes elsewhere would read these \
             results as input"
        )),
        Nesting::Around => faults.push(
            key,
            format!("{output:?} given, so the output contains the input {input:?}; overwriting would remove it"),
        ),
    }
    let is_echo = job.model.backend == Some(Backend::Echo);
    let held = nesting(&job.output.location, &job.model.location);
    if !is_echo && matches!(held, Nesting::Same | Nesting::Around) {
        let model = shown(&job.model.location);
        faults.push(
            key,
            format!(
                "{output:?} given, so the output contains the model {model:?}; overwriting would remove it"
            ),
        );
    }
}
