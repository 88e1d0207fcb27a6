//! Which run is this? Restarts and replicas of one launch must agree on its id; a new launch needs a new one.
//!
//! The launcher knows best and gives a `run_id`, or the platform's own job name tells launches apart. Without either
//! the id is derived from what the job *is*, so that the same command typed again resumes what was interrupted. That
//! can't tell a restart from a second launch, which only matters where a second launch would redo finished work:
//! overwrite mode. There one process may settle it by looking at the output; several could not.

use crate::config::SaveMode;
use crate::error::{Error, Result};
use crate::storage::Store;

use super::epochs::{epoch_owner, read_epochs};
use super::layout::{EPOCHS, MARKER, epoch_key};
use super::success::Owner;
use super::{digest, refusal};

/// Longest run id.
const MAX_CHARS: usize = 200;

/// What a run id can be made from.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// `run_id` of the job.
    pub given: Option<&'a str>,
    /// The platform's own name for this launch; the same for its replicas and restarts.
    pub platform_job: Option<&'a str>,
    /// The job's name, if the user gave one (a made-up default differs at every start).
    pub job_name: Option<&'a str>,
    /// The output, in a form that doesn't depend on the working directory.
    pub output: &'a str,
    /// Digest of everything in the job that decides output bytes.
    pub config_digest: &'a str,
    /// Digest of the model.
    pub model_digest: &'a str,
    /// What to do with what is in the output already.
    pub mode: SaveMode,
    /// How many processes derive the id on their own.
    pub replicas: u32,
}

/// A run id, or what one will be made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunId {
    /// The id.
    Fixed(String),
    /// The same job started again may be the same run or the next one: [`settle`] finds out.
    Derived(String),
}

/// Takes the id that was given, or derives one.
pub fn derive(known: &Known<'_>) -> Result<RunId> {
    if let Some(given) = known.given {
        let chars = given.chars().count();
        if chars == 0 || chars > MAX_CHARS || given.chars().any(char::is_control) {
            return Err(Error::config(format!(
                "run_id must have 1 to {MAX_CHARS} characters and no control characters"
            )));
        }
        return Ok(RunId::Fixed(given.to_string()));
    }
    let id = |platform_job: &str| {
        let parts = [
            platform_job,
            known.job_name.unwrap_or_default(),
            known.output,
            known.config_digest,
            known.model_digest,
        ];
        let text = serde_json::json!(parts).to_string();
        let hash = digest::sha256(text.as_bytes());
        format!("run-{}", &hash["sha256:".len()..][..32])
    };
    match known.platform_job {
        Some(platform_job) => Ok(RunId::Fixed(id(platform_job))),
        None if known.mode == SaveMode::Overwrite && known.replicas > 1 => Err(Error::config(
            "output.mode overwrite with several replicas needs a run_id: a restarted replica could not be told from \
             a new launch, and would remove finished results",
        )
        .with_hint("set run_id (or FLOE_RUN_ID) to a new value for every launch, the same for all replicas")),
        None => Ok(RunId::Derived(id(""))),
    }
}

/// The id to run under. A derived id stands for the newest run of the same job in the output, if it is unfinished or
/// may not be redone; else for a new run, whose id ends in `fresh` (random).
pub async fn settle(store: &dyn Store, id: RunId, mode: SaveMode, fresh: &str) -> Result<String> {
    let base = match id {
        RunId::Fixed(id) => return Ok(id),
        RunId::Derived(base) => base,
    };
    let epochs = read_epochs(&store.list(EPOCHS).await?)?;
    let newest = match epochs.last() {
        Some(&epoch) => match store.get(&epoch_key(epoch)).await? {
            Some(body) => epoch_owner(&body),
            None => return Err(refusal::state_lost(epoch)),
        },
        None => None,
    };
    let marker = store.get(MARKER).await?;
    let finished = marker.as_deref().and_then(Owner::of).map(|owner| owner.run_id);
    // Without state the marker alone tells whose output this is.
    let newest = newest.or_else(|| epochs.is_empty().then(|| finished.clone()).flatten());
    let same_job =
        |run: &String| *run == base || run.strip_prefix(&base).is_some_and(|rest| rest.starts_with('.'));
    let next = format!("{base}.{fresh}");
    Ok(match (newest.filter(same_job), mode) {
        (Some(run), SaveMode::Overwrite) if finished.as_ref() == Some(&run) => next,
        (Some(run), _) => run,
        // An epoch of this job may lie below another's; its id must not come back.
        (None, SaveMode::Overwrite) if !epochs.is_empty() => next,
        (None, _) => base,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit::testing::{MapStore, plan_of};
    use crate::error::ErrorKind;

    const JOB: Known<'static> = Known {
        given: None,
        platform_job: None,
        job_name: None,
        output: "/out",
        config_digest: "c",
        model_digest: "m",
        mode: SaveMode::Error,
        replicas: 1,
    };

    fn derived(known: Known<'_>) -> String {
        match derive(&known).unwrap() {
            RunId::Derived(id) => id,
            RunId::Fixed(id) => panic!("{id} is fixed"),
        }
    }

    #[test]
    fn what_the_job_is_decides_the_derived_id() {
        let base = derived(JOB);
        assert_eq!(base.len(), 36);
        assert_eq!(base, derived(JOB));
        let others = [
            Known {
                job_name: Some("a"),
                ..JOB
            },
            Known {
                output: "/other",
                ..JOB
            },
            Known {
                config_digest: "c2",
                ..JOB
            },
            Known {
                model_digest: "m2",
                ..JOB
            },
            // The same letters in other places.
            Known {
                config_digest: "",
                model_digest: "cm",
                ..JOB
            },
        ];
        for other in others {
            assert_ne!(derived(other), base, "{other:?}");
        }
    }

    #[test]
    fn a_given_id_and_the_platforms_job_are_fixed() {
        let given = Known {
            given: Some("night-1"),
            platform_job: Some("p"),
            ..JOB
        };
        assert_eq!(derive(&given).unwrap(), RunId::Fixed("night-1".into()));
        let overwrite = Known {
            mode: SaveMode::Overwrite,
            replicas: 3,
            ..JOB
        };
        let one = derive(&Known {
            platform_job: Some("p1"),
            ..overwrite
        })
        .unwrap();
        let two = derive(&Known {
            platform_job: Some("p2"),
            ..overwrite
        })
        .unwrap();
        assert!(matches!((&one, &two), (RunId::Fixed(a), RunId::Fixed(b)) if a != b));
        for bad in ["", "a\nb", &"x".repeat(201)] {
            let error = derive(&Known {
                given: Some(bad),
                ..JOB
            })
            .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{bad:?}");
        }
    }

    #[test]
    fn overwrite_by_several_replicas_needs_an_id() {
        let several = Known {
            mode: SaveMode::Overwrite,
            replicas: 2,
            ..JOB
        };
        assert_eq!(derive(&several).unwrap_err().kind(), ErrorKind::Config);
        assert!(
            derive(&Known {
                replicas: 1,
                ..several
            })
            .is_ok()
        );
        assert!(
            derive(&Known {
                mode: SaveMode::Error,
                ..several
            })
            .is_ok()
        );
    }

    /// The id that `mode` settles on when the output's epochs belong to `runs` and its marker to `finished`.
    fn settled(runs: &[&str], finished: Option<&str>, mode: SaveMode) -> String {
        let store = MapStore::default();
        for (run, epoch) in runs.iter().zip(1..) {
            let plan = serde_json::to_vec(&plan_of(run, mode, &[1])).unwrap();
            store.insert(&epoch_key(epoch), plan);
        }
        if let Some(run) = finished {
            store.insert(MARKER, serde_json::json!({"run_id": run, "epoch": 1}).to_string());
        }
        let settled = settle(&store, RunId::Derived("job".into()), mode, "new");
        crate::commit::testing::block_on(settled).unwrap()
    }

    #[test]
    fn the_same_command_typed_again_resumes_and_after_success_starts_anew_only_in_overwrite_mode() {
        use SaveMode::{Error, Overwrite};
        type Case = (
            &'static [&'static str],
            Option<&'static str>,
            SaveMode,
            &'static str,
        );
        let cases: [Case; 15] = [
            (&[], None, Error, "job"),
            (&[], None, Overwrite, "job"),
            (&["job"], None, Error, "job"),
            (&["job"], None, Overwrite, "job"),
            (&["job"], Some("job"), Error, "job"),
            (&["job"], Some("job"), Overwrite, "job.new"),
            (&["job", "job.a"], None, Overwrite, "job.a"),
            (&["job", "job.a"], Some("job"), Overwrite, "job.a"),
            (&["job", "job.a"], Some("job.a"), Overwrite, "job.new"),
            (&["job", "job.a"], Some("job.a"), Error, "job.a"),
            (&["job", "else"], Some("else"), Overwrite, "job.new"),
            (&["jobs"], Some("jobs"), Overwrite, "job.new"),
            (&["else"], Some("else"), Error, "job"),
            // The state was removed after success.
            (&[], Some("job.a"), Error, "job.a"),
            (&[], Some("job.a"), Overwrite, "job.new"),
        ];
        for (runs, finished, mode, expected) in cases {
            assert_eq!(
                settled(runs, finished, mode),
                expected,
                "{runs:?} {finished:?} {mode:?}"
            );
        }
    }

    #[test]
    fn a_fixed_id_is_used_as_it_is() {
        let store = MapStore::default();
        let settled = settle(&store, RunId::Fixed("x".into()), SaveMode::Overwrite, "new");
        assert_eq!(crate::commit::testing::block_on(settled).unwrap(), "x");
    }
}
