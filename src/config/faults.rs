//! Mistakes in a job, collected so that the user sees all of them at once.
//!
//! Each [`Fault`] names the key by its path (`inference.max_batch_rows`, or the flag that set it) and says what
//! was given and what is allowed.

use crate::config::overrides;
use crate::error::{Error, Result};

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Path of the key, e.g. `output.partition_by[1]`.
    pub key: String,
    /// What is wrong with it: what was given, what is allowed.
    pub text: String,
}

/// Every mistake found so far, in the order of the document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    found: Vec<Fault>,
    from_flags: Vec<&'static str>,
}

impl Faults {
    /// Nothing found yet; `from_flags` are the keys whose values come from flags.
    pub fn new(from_flags: Vec<&'static str>) -> Self {
        Faults {
            found: Vec::new(),
            from_flags,
        }
    }

    /// Notes a mistake at `key`.
    pub fn push(&mut self, key: impl Into<String>, text: impl Into<String>) {
        let key: String = key.into();
        self.found.push(Fault {
            // Keys may come from a stranger's document: they must not forge lines of the message.
            key: key.replace(char::is_control, "�"),
            text: text.into(),
        });
    }

    /// What was found.
    pub fn found(&self) -> &[Fault] {
        &self.found
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Whether something was found at `key` or below it.
    pub fn has(&self, key: &str) -> bool {
        let below = |path: &str| matches!(path.as_bytes().first(), None | Some(b'.' | b'['));
        self.found
            .iter()
            .any(|fault| fault.key.strip_prefix(key).is_some_and(below))
    }

    /// Ends with an error that lists every mistake, if there is one; `origin` is the document's, if there is one.
    ///
    /// # Errors
    /// `Config`.
    pub fn into_result(self, origin: Option<&str>) -> Result<()> {
        let mut lines = Vec::with_capacity(self.found.len());
        let mut any_in_document = false;
        for fault in &self.found {
            let flag = self.flag_of(&fault.key);
            any_in_document |= flag.is_none() && !is_outside(&fault.key);
            let key = flag.unwrap_or(&fault.key);
            lines.push(format!("{key}: {}", fault.text));
        }
        let origin = origin.filter(|_| any_in_document);
        match lines.as_slice() {
            [] => Ok(()),
            [only] => Err(Error::config(match origin {
                Some(origin) => format!("{origin}: {only}"),
                None => only.clone(),
            })),
            several => {
                let place = origin.unwrap_or("the job");
                let head = format!("{place} has {} mistakes", several.len());
                Err(Error::config(format!("{head}:\n  {}", lines.join("\n  "))))
            }
        }
    }

    fn flag_of(&self, key: &str) -> Option<&'static str> {
        let whole = key.split('[').next().unwrap_or(key);
        if self.from_flags.contains(&whole) {
            overrides::flag_of(whole)
        } else {
            None
        }
    }
}

/// Whether a key is a flag or a variable; keys of the document are never all upper case.
fn is_outside(key: &str) -> bool {
    key.starts_with("--") || key.chars().all(|c| c.is_ascii_uppercase() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_mistake_is_one_line_and_several_are_a_list() {
        let mut faults = Faults::default();
        assert!(faults.clone().into_result(Some("job.yaml")).is_ok());
        faults.push("replicas", "0 given");
        assert_eq!(
            faults
                .clone()
                .into_result(Some("job.yaml"))
                .unwrap_err()
                .to_string(),
            "job.yaml: replicas: 0 given"
        );
        faults.push("output.mode", "1 given");
        assert_eq!(
            faults.into_result(Some("job.yaml")).unwrap_err().to_string(),
            "job.yaml has 2 mistakes:\n  replicas: 0 given\n  output.mode: 1 given"
        );
    }

    #[test]
    fn a_mistake_in_a_flag_names_the_flag_and_not_the_document() {
        let mut faults = Faults::new(vec!["output.partition_by"]);
        faults.push("output.partition_by[1]", "\"\" given");
        assert_eq!(
            faults.into_result(Some("job.yaml")).unwrap_err().to_string(),
            "--partition-by: \"\" given"
        );
    }

    #[test]
    fn a_mistake_in_a_variable_does_not_blame_the_document() {
        let mut faults = Faults::default();
        faults.push("SNOWFLAKE_JOB_INDEX", "7 given");
        assert_eq!(
            faults.into_result(Some("job.yaml")).unwrap_err().to_string(),
            "SNOWFLAKE_JOB_INDEX: 7 given"
        );
    }

    #[test]
    fn a_key_with_line_breaks_stays_on_its_line() {
        let mut faults = Faults::default();
        faults.push("a\nb: fine\n", "unknown key");
        assert_eq!(
            faults.into_result(None).unwrap_err().to_string(),
            "a�b: fine�: unknown key"
        );
    }

    #[test]
    fn a_key_has_a_mistake_when_something_below_it_has_one() {
        let mut faults = Faults::default();
        faults.push("output.partition_by[1]", "");
        assert!(faults.has("output") && faults.has("output.partition_by"));
        assert!(!faults.has("output.partition") && !faults.has("out"));
    }
}
