//! Names in a job: the job's own, the run's, and those of the output columns.
//!
//! A job name that was given, or that the platform gave, is the same in every replica and restart. An invented one
//! is not, so it must not decide where results go or which run this is.

use crate::config::OutputOptions;
use crate::config::faults::Faults;
use crate::config::job_file::JobFile;
use crate::config::overrides::{Environment, Overrides};

/// Longest job name that Snowflake takes.
pub const MAX_NAME_CHARS: usize = 255;

/// What is allowed for a job's name.
pub const NAME: &str = "up to 255 letters, digits and underscores, not beginning with a digit";

/// What an invented job name begins with, as the Python client's do.
pub const DEFAULT_PREFIX: &str = "BATCH_INFERENCE";

/// A job's name and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// Letters, digits and underscores.
    pub text: String,
    /// The user gave it.
    pub given: bool,
    /// It was invented just now: another process of the same run would invent another.
    pub is_random: bool,
}

/// The job's name: as given, else the platform's service name, else `<prefix>_<UUID>`.
pub fn name(job_file: &JobFile, environment: &Environment, faults: &mut Faults) -> Name {
    if let (Some(name), Some(prefix)) = (&job_file.job_name, &job_file.job_name_prefix) {
        faults.push(
            "job_name_prefix",
            format!("{prefix:?} given beside job_name {name:?}; give one of them"),
        );
    }
    if let Some(prefix) = &job_file.job_name_prefix {
        // An underscore and a UUID follow.
        check_name("job_name_prefix", prefix, MAX_NAME_CHARS - 37, faults);
    }
    if let Some(name) = &job_file.job_name {
        check_name("job_name", name, MAX_NAME_CHARS, faults);
        return Name {
            text: name.clone(),
            given: true,
            is_random: false,
        };
    }
    if let Some(service) = platform_job(environment) {
        check_name("SNOWFLAKE_SERVICE_NAME", &service, MAX_NAME_CHARS, faults);
        return Name {
            text: service,
            given: false,
            is_random: false,
        };
    }
    let prefix = job_file.job_name_prefix.as_deref().unwrap_or(DEFAULT_PREFIX);
    let unique = uuid::Uuid::new_v4().to_string().to_uppercase().replace('-', "_");
    let text = format!("{}_{unique}", prefix.trim_end_matches('_'));
    Name {
        text,
        given: false,
        is_random: true,
    }
}

/// The platform's own name for this launch.
pub fn platform_job(environment: &Environment) -> Option<String> {
    let service = environment.service_name.as_deref()?.trim();
    (!service.is_empty()).then(|| service.to_string())
}

/// The run's name, if anything gives one: flag, else `FLOE_RUN_ID`, else the job file.
pub fn run_id(
    job_file: &JobFile,
    overrides: &Overrides,
    environment: &Environment,
    faults: &mut Faults,
    notes: &mut Vec<String>,
) -> Option<String> {
    let launcher = environment.run_id.as_deref().map(str::trim);
    let launcher = launcher.filter(|run_id| !run_id.is_empty());
    // The merged job file holds the flag's value already.
    let (key, run_id) = match (&overrides.run_id, launcher, &job_file.run_id) {
        (None, Some(launcher), in_file) => {
            if in_file.as_deref().is_some_and(|in_file| in_file != launcher) {
                notes.push(format!(
                    "run_id is overruled by FLOE_RUN_ID, which is {launcher:?}"
                ));
            }
            ("FLOE_RUN_ID", launcher)
        }
        (_, _, Some(run_id)) => ("run_id", run_id.as_str()),
        (_, _, None) => return None,
    };
    let too_long = run_id.chars().count() > MAX_NAME_CHARS;
    if too_long || run_id.chars().any(|c| c.is_control() || c.is_whitespace()) {
        faults.push(
            key,
            format!("{run_id:?} given, up to {MAX_NAME_CHARS} characters without spaces allowed"),
        );
    }
    Some(run_id.to_string())
}

fn check_name(key: &str, name: &str, most: usize, faults: &mut Faults) {
    let good_start = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let good = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !good_start || !good || name.len() > most {
        faults.push(
            key,
            format!("{name:?} given, up to {most} letters, digits and underscores, not beginning with a digit, allowed"),
        );
    }
}

/// Checks `columns`, `rename` and `prefix` against each other; the model's own names are not known here.
pub fn check_columns(output: &OutputOptions, faults: &mut Faults) {
    let columns = output.columns.as_deref().unwrap_or_default();
    for (index, column) in columns.iter().enumerate() {
        if columns[..index].contains(column) {
            faults.push(
                format!("output.columns[{index}]"),
                format!("{column:?} given twice, each column once allowed"),
            );
        }
    }
    for (from, to) in &output.rename {
        let key = format!("output.rename.{from}");
        if to.is_empty() || to.chars().any(char::is_control) {
            faults.push(&key, format!("{to:?} given, a column name allowed"));
        }
        if !columns.is_empty() && !columns.contains(from) {
            faults.push(&key, "given, but output.columns leaves that column out");
        }
        let twin = output
            .rename
            .iter()
            .find(|(other, name)| *other < from && *name == to);
        if let Some((other, _)) = twin {
            faults.push(&key, format!("{to:?} given, which {other} is renamed to already"));
        }
        let kept = columns.iter().find(|column| {
            !output.rename.contains_key(*column) && format!("{}{column}", output.prefix) == *to
        });
        if let Some(kept) = kept {
            faults.push(
                &key,
                format!("{to:?} given, which is the name of the column {kept} already"),
            );
        }
    }
    if output.prefix.chars().any(char::is_control) {
        faults.push(
            "output.prefix",
            format!(
                "{:?} given, the beginning of a column name allowed",
                output.prefix
            ),
        );
    }
}
