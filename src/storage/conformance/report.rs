//! What was found, and what it comes to.

use serde::Serialize;
use std::fmt;
use std::time::Duration;

use super::{Answer, Property};
use crate::error::Result;
use crate::storage::StoreClass;

/// What a property is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Weight {
    /// Without it Floe can't work there.
    Needed,
    /// It decides the store class.
    Decides,
    /// Good to know.
    Tells,
}

/// What came of a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It holds.
    Holds,
    /// It does not.
    Fails,
    /// It could not be tried.
    Skipped,
}

/// A property and what came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// Its name.
    pub property: &'static str,
    /// What was tried, in words.
    pub says: &'static str,
    /// What it is worth.
    pub weight: Weight,
    /// What came of it.
    pub outcome: Outcome,
    /// What was seen, where there is more to say.
    pub detail: String,
    /// How long it took.
    pub millis: u64,
}

impl Finding {
    pub(super) fn new(property: &Property, answer: Result<Answer>, took: Duration) -> Finding {
        let (outcome, detail) = match answer {
            Ok(Answer::Holds(detail)) => (Outcome::Holds, detail),
            Ok(Answer::Fails(detail)) => (Outcome::Fails, detail),
            Ok(Answer::Skipped(detail)) => (Outcome::Skipped, detail),
            Err(error) => (Outcome::Fails, error.to_string()),
        };
        Finding {
            property: property.name,
            says: property.says,
            weight: property.weight,
            outcome,
            detail,
            millis: took.as_millis() as u64,
        }
    }
}

/// Whether Floe can work at a location, and how well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Verdict {
    /// As a store of class A.
    A,
    /// As a store of class B.
    B,
    /// Not at all.
    #[serde(rename = "none")]
    None,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::A => "A",
            Verdict::B => "B",
            Verdict::None => "none",
        })
    }
}

/// All that was found at a location.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The location, as the user wrote it.
    pub location: String,
    /// What was found, in the order in which it was tried.
    pub findings: Vec<Finding>,
    /// The store class, or `none`.
    #[serde(rename = "store_class")]
    pub verdict: Verdict,
    /// What Floe can and can't promise there, in words.
    pub promises: Vec<String>,
}

impl Report {
    pub(super) fn new(location: String, findings: Vec<Finding>) -> Report {
        let verdict = verdict(&findings);
        Report {
            promises: promises(verdict, &findings),
            location,
            findings,
            verdict,
        }
    }

    /// The finding about a property.
    pub fn finding(&self, property: &str) -> Option<&Finding> {
        find(&self.findings, property)
    }
}

fn find<'a>(findings: &'a [Finding], property: &str) -> Option<&'a Finding> {
    findings.iter().find(|finding| finding.property == property)
}

fn holds(findings: &[Finding], property: &str) -> bool {
    find(findings, property).is_some_and(|finding| finding.outcome == Outcome::Holds)
}

/// Properties that must hold and don't.
fn lacking(findings: &[Finding]) -> impl Iterator<Item = &Finding> {
    let needed = findings.iter().filter(|finding| finding.weight == Weight::Needed);
    needed.filter(|finding| finding.outcome != Outcome::Holds)
}

fn verdict(findings: &[Finding]) -> Verdict {
    if lacking(findings).next().is_some() {
        return Verdict::None;
    }
    match (
        holds(findings, "create_if_absent"),
        holds(findings, "create_race"),
    ) {
        (true, true) => Verdict::A,
        (false, false) => Verdict::B,
        // A job tries creators one after the other, and would take the store for one of class A.
        _ => Verdict::None,
    }
}

fn promises(verdict: Verdict, findings: &[Finding]) -> Vec<String> {
    let mut promises = Vec::new();
    match verdict {
        Verdict::A => promises.push(format!("{}: every guarantee holds", StoreClass::A.meaning())),
        Verdict::B => promises.push(StoreClass::B.meaning().to_string()),
        Verdict::None => {
            promises.push("Floe can't work here, and a job would be refused or unsafe:".to_string());
            promises
                .extend(lacking(findings).map(|finding| format!("it doesn't hold that {}", finding.says)));
            if holds(findings, "create_if_absent") && !holds(findings, "create_race") {
                promises.push(
                    "creators who come one after the other are told apart, but not those who come at once: jobs would \
                     trust what can't be trusted"
                        .to_string(),
                );
            }
            return promises;
        }
    }
    promises.push(match holds(findings, "pinned_read") {
        true if holds(findings, "pinned_read_same_size") => {
            "as an input: a file that changes while a job runs ends the job (exit 5)".to_string()
        }
        true => "as an input: a file that changes while a job runs ends the job (exit 5), unless size and time of \
                 change stay the same"
            .to_string(),
        false => "as an input: a file that changes while a job runs may go unnoticed; don't change inputs then".to_string(),
    });
    if let Some(killed) = find(findings, "killed_writer") {
        promises.push(match (killed.outcome, verdict) {
            (Outcome::Holds, _) => {
                "a replica that is killed leaves no object cut short here, as far as this try shows".to_string()
            }
            (Outcome::Fails, Verdict::A) => {
                "a file is seen before it is whole here, so Floe writes aside and links: a replica that is killed \
                 leaves no object cut short"
                    .to_string()
            }
            (Outcome::Fails, _) => {
                "a replica that is killed may leave an object cut short: without _SUCCESS trust no file; the replica's \
                 restart puts it right"
                    .to_string()
            }
            (Outcome::Skipped, _) => format!("what a killed replica leaves behind was not tried: {}", killed.detail),
        });
    }
    promises
}
