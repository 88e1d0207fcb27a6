//! The conformance suite: what a location really does, found out by doing it.
//!
//! Documentation says little about mounts, gateways and stores that resemble S3, and what it says of one version may
//! not hold for the next. So every property that the commit protocol builds on is tried, in a folder of its own that is
//! removed at the end, and what was found comes to a [store class](StoreClass) and to what Floe can promise there.
//! `floe store-check` prints it; the tests run the same suite over every store they know. The list of properties is
//! [`PROPERTIES`]; a new one is a line there and a function.

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::{Location, OutputStore, Store, StoreClass};
use crate::error::Result;

mod creation;
mod folder;
mod killed;
mod objects;
mod report;

pub use report::{Finding, Outcome, Report, Verdict, Weight};

/// Objects that are written or removed at once.
const AT_ONCE: usize = 16;

/// How thoroughly to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Bytes of the large object.
    pub large_bytes: usize,
    /// Objects of the long listing.
    pub many_objects: usize,
    /// Races of creators.
    pub races: usize,
}

impl Effort {
    /// Enough for a listing of two pages and an object of several parts.
    pub const FULL: Effort = Effort {
        large_bytes: 32 << 20,
        many_objects: 1_001,
        races: 8,
    };
    /// A few seconds on a slow store.
    pub const QUICK: Effort = Effort {
        large_bytes: 1 << 20,
        many_objects: 50,
        races: 2,
    };
}

/// The suite, over a scratch folder of a location.
pub struct Check {
    bench: Bench,
    location: String,
    /// Folders that were not there before, the innermost first.
    missing: Vec<PathBuf>,
}

/// What a property is tried on.
struct Bench {
    store: OutputStore,
    place: Location,
    effort: Effort,
}

/// What came of trying a property. An error counts as a property that does not hold.
enum Answer {
    Holds(String),
    Fails(String),
    /// It can't be tried here.
    Skipped(String),
}

impl Answer {
    fn holds() -> Answer {
        Answer::Holds(String::new())
    }

    /// Fails with the first thing that is wrong.
    fn unless(wrong: Option<String>) -> Answer {
        wrong.map_or_else(Answer::holds, Answer::Fails)
    }
}

/// Something a location may do.
struct Property {
    name: &'static str,
    /// What is done, in words.
    says: &'static str,
    weight: Weight,
    /// Only file systems can be asked.
    of_folders: bool,
    probe: for<'a> fn(&'a Bench) -> BoxFuture<'a, Result<Answer>>,
}

/// Lists properties: name, weight, function, words.
macro_rules! properties {
    ($($of_folders:literal $weight:ident $name:ident = $probe:path, $says:literal;)*) => {
        &[$(Property {
            name: stringify!($name),
            says: $says,
            weight: Weight::$weight,
            of_folders: $of_folders,
            probe: |bench| $probe(bench).boxed(),
        }),*]
    };
}

/// Every property, in the order in which it is tried.
const PROPERTIES: &[Property] = properties! {
    false Needed read_after_write = objects::read_after_write, "an object is read as it was written";
    false Needed overwrite_is_seen = objects::overwrite_is_seen, "an object that is replaced is read as it is now";
    false Needed list_after_write = objects::list_after_write, "a listing has an object as soon as it is written";
    false Needed list_after_delete = objects::list_after_delete, "a listing and a read miss an object as soon as it is removed";
    false Needed delete_of_absent = objects::delete_of_absent, "removing what isn't there is no error";
    false Decides create_if_absent = creation::one_after_the_other, "put-if-absent: the second creator of a name is told so";
    false Decides create_race = creation::at_once, "put-if-absent: of 16 creators at once, one wins";
    false Needed odd_names = objects::odd_names, "names with spaces, signs and letters of all kinds";
    false Needed large_object = objects::large_object, "a large object comes back whole";
    false Needed range_reads = objects::range_reads, "parts of an object are read";
    false Needed many_objects = objects::many_objects, "a listing of more than one page is complete";
    false Tells pinned_read = objects::pinned_read, "a read of a replaced object by its old etag is refused";
    false Tells pinned_read_same_size = objects::pinned_read_same_size, "the same, though the new object has the size of the old one";
    false Tells empty_object = objects::empty_object, "an empty object";
    true Tells file_system = folder::file_system, "the kind of file system";
    true Tells seen_at_close = folder::seen_at_close, "a file is seen when it is closed, and not before";
    true Tells file_sync = folder::file_sync, "a file can be synced";
    true Tells folder_sync = folder::folder_sync, "a folder can be synced";
    true Tells hard_link = folder::hard_link, "a file can be linked to a second name";
    true Tells rename = folder::rename, "a file can be renamed over another";
    true Tells exclusive_open = folder::exclusive_open, "of 16 that open a new name exclusively at once, one succeeds";
    true Tells append = folder::append, "a file can be appended to";
    true Tells random_write = folder::random_write, "a file can be written to in the middle";
    true Tells stable_inode = folder::stable_inode, "a file keeps its inode number";
    true Tells folder_removal = folder::folder_removal, "an empty folder can be removed";
    true Tells killed_writer = folder::killed_writer, "a writer that is killed leaves no object cut short";
};

impl Check {
    /// Prepares a check of `location`; nothing is done yet. `token` names the scratch folder: random, so that no two
    /// checks share it.
    ///
    /// # Errors
    /// When the location can have no folder of that name.
    pub fn new(location: &Location, token: &str, effort: Effort) -> Result<Check> {
        let place = location.below(&format!("_floe-check-{token}"))?;
        let ancestors = location.local_path().into_iter().flat_map(Path::ancestors);
        Ok(Check {
            location: location.display().to_string(),
            missing: ancestors
                .take_while(|folder| !folder.exists())
                .map(Path::to_path_buf)
                .collect(),
            bench: Bench {
                store: OutputStore::new(place.clone()),
                place,
                effort,
            },
        })
    }

    /// Tries every property. Whatever comes of it, [`clean_up`](Check::clean_up) is to be called next.
    pub async fn run(&self) -> Report {
        let is_folder = self.bench.place.local_path().is_some();
        let mut findings = Vec::new();
        for property in PROPERTIES
            .iter()
            .filter(|property| is_folder || !property.of_folders)
        {
            let began = Instant::now();
            let answer = (property.probe)(&self.bench).await;
            let finding = Finding::new(property, answer, began.elapsed());
            tracing::debug!(property = finding.property, outcome = ?finding.outcome, "{}", finding.detail);
            findings.push(finding);
            if self.is_out_of_reach(&findings) {
                break;
            }
        }
        Report::new(self.location.clone(), findings)
    }

    /// Where not even an object can be written, the rest would say the same thing many times.
    fn is_out_of_reach(&self, findings: &[Finding]) -> bool {
        matches!(findings, [first] if first.outcome != Outcome::Holds)
    }

    /// Removes what the check has written; answers with what is left of it.
    ///
    /// # Errors
    /// When it can't be listed or removed.
    pub async fn clean_up(&self) -> Result<Vec<String>> {
        /// A listing may lag behind.
        const ROUNDS: usize = 3;
        let store = &self.bench.store;
        let mut left = store.list("").await?;
        for _ in 0..ROUNDS {
            if left.is_empty() {
                break;
            }
            let removals = left
                .into_iter()
                .map(|entry| async move { store.delete(&entry.key).await });
            let removed: Vec<Result<()>> = stream::iter(removals).buffer_unordered(AT_ONCE).collect().await;
            removed.into_iter().collect::<Result<()>>()?;
            left = store.list("").await?;
        }
        if let Some(folder) = self.bench.place.local_path() {
            let (folder, missing) = (folder.to_path_buf(), self.missing.clone());
            // Folders, and names that a listing of objects leaves out. On a mount they may be gone with the objects.
            let _ = tokio::task::spawn_blocking(move || {
                let _ = std::fs::remove_dir_all(folder);
                missing.iter().try_for_each(std::fs::remove_dir)
            })
            .await;
        }
        Ok(left.into_iter().map(|entry| entry.key).collect())
    }
}

/// The folder that a check of `location` has written to, for a person to look after.
impl std::fmt::Display for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.bench.place.display())
    }
}

/// The class that commits go by, where the findings allow one: see [`Report::verdict`].
impl From<Verdict> for Option<StoreClass> {
    fn from(verdict: Verdict) -> Option<StoreClass> {
        match verdict {
            Verdict::A => Some(StoreClass::A),
            Verdict::B => Some(StoreClass::B),
            Verdict::None => None,
        }
    }
}

#[cfg(test)]
mod tests;
