//! Where a job reads and writes, and that the two do not get in each other's way.

use crate::config::Job;
use crate::error::{Error, Result};
use crate::storage::{Location, Overlap, Storage, overlap, path_within};

/// The opened locations of a job.
#[derive(Clone)]
pub struct Places {
    /// The input.
    pub input: Location,
    /// The output.
    pub output: Location,
    /// The output's path within the input, when it lies there: its files are left out of the listing.
    pub output_in_input: Option<String>,
}

impl Places {
    /// Opens and compares the locations. Nothing is read or written; Snowflake stages are looked up.
    ///
    /// # Errors
    /// `Config` when a location can't be opened, when the output is a root, or when the output contains the input or
    /// the model: overwriting it would delete them.
    pub async fn open(job: &Job, storage: &Storage) -> Result<Places> {
        let in_key = |key: &'static str| move |error: Error| error.with("key", key);
        let input = storage
            .open(&job.input.location)
            .await
            .map_err(in_key("input.stage_location"))?;
        let output = storage
            .open(&job.output.location)
            .await
            .map_err(in_key("output.stage_location"))?;
        refuse_root(&output)?;
        match overlap(&output, &input) {
            Overlap::Same => return Err(clash("the output is the input", &output, &input)),
            Overlap::Contains => return Err(clash("the output contains the input", &output, &input)),
            Overlap::Within | Overlap::None => {}
        }
        if job.model.location != "echo" {
            let model = storage
                .open(&job.model.location)
                .await
                .map_err(in_key("model.location"))?;
            if matches!(overlap(&output, &model), Overlap::Same | Overlap::Contains) {
                return Err(clash("the output contains the model", &output, &model));
            }
        }
        let output_in_input = path_within(&output, &input);
        Ok(Places {
            input,
            output,
            output_in_input,
        })
    }
}

fn refuse_root(output: &Location) -> Result<()> {
    let is_root = output.local_path().is_some_and(|path| path.parent().is_none());
    if is_root {
        return Err(Error::config("the output is the root of a store")
            .with("location", output.display())
            .with_hint("write to a folder below it"));
    }
    Ok(())
}

fn clash(what: &str, output: &Location, other: &Location) -> Error {
    Error::config(format!("{what}, and clearing the output would delete it"))
        .with("output", output.display())
        .with("other", other.display())
        .with_hint("write to a folder of its own")
}
