//! What lies on the stage: objects by key, and folders that were made and hold nothing yet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// An object. It is never changed: another takes its place.
pub struct Object {
    pub bytes: Vec<u8>,
    pub modified: SystemTime,
}

/// What lies at a path.
pub enum Found {
    Object(Arc<Object>),
    Folder,
    Nothing,
}

#[derive(Default)]
pub struct Objects {
    /// Versions of each object with the time from which they are seen, in the order in which they were published.
    versions: BTreeMap<String, Vec<(Instant, Arc<Object>)>>,
    folders: BTreeSet<String>,
}

impl Objects {
    /// Publishes an object that is seen after a while. Its folders are now there because of it, and no longer than it.
    pub fn publish(&mut self, key: &str, bytes: Vec<u8>, after: Duration) {
        let object = Arc::new(Object {
            bytes,
            modified: SystemTime::now(),
        });
        let versions = self.versions.entry(key.to_string()).or_default();
        versions.push((Instant::now() + after, object));
        self.folders.retain(|folder| !is_within(key, folder));
    }

    pub fn remove(&mut self, key: &str) {
        self.versions.remove(key);
    }

    pub fn make_folder(&mut self, key: &str) {
        self.folders.insert(key.to_string());
    }

    /// Removes a folder, if nothing lies in it.
    pub fn remove_folder(&mut self, key: &str) -> bool {
        self.children(key).is_empty() && self.folders.remove(key)
    }

    pub fn find(&self, key: &str) -> Found {
        if let Some(object) = self.object(key) {
            return Found::Object(object);
        }
        let made = self
            .folders
            .iter()
            .any(|folder| folder == key || is_within(folder, key));
        if key.is_empty() || made || self.seen().any(|(object, _)| is_within(object, key)) {
            return Found::Folder;
        }
        Found::Nothing
    }

    /// Names directly below a folder, with whether they are folders.
    pub fn children(&self, folder: &str) -> BTreeMap<String, bool> {
        let mut children = BTreeMap::new();
        let objects = self.seen().map(|(key, _)| (key, false));
        for (key, is_folder) in objects.chain(self.folders.iter().map(|key| (key.as_str(), true))) {
            if is_within(key, folder) {
                let below = key[folder.len()..].trim_start_matches('/');
                let (name, rest) = below.split_once('/').unwrap_or((below, ""));
                children.insert(name.to_string(), is_folder || !rest.is_empty());
            }
        }
        children
    }

    pub fn all(&self) -> BTreeMap<String, Vec<u8>> {
        self.seen()
            .map(|(key, object)| (key.to_string(), object.bytes.clone()))
            .collect()
    }

    fn object(&self, key: &str) -> Option<Arc<Object>> {
        latest(self.versions.get(key)?)
    }

    fn seen(&self) -> impl Iterator<Item = (&str, Arc<Object>)> {
        let versions = self.versions.iter();
        versions.filter_map(|(key, versions)| Some((key.as_str(), latest(versions)?)))
    }
}

fn latest(versions: &[(Instant, Arc<Object>)]) -> Option<Arc<Object>> {
    let now = Instant::now();
    let seen = versions.iter().rev().find(|(from, _)| *from <= now);
    seen.map(|(_, object)| object.clone())
}

/// Whether `key` lies below `folder`.
fn is_within(key: &str, folder: &str) -> bool {
    folder.is_empty() && !key.is_empty()
        || key
            .strip_prefix(folder)
            .is_some_and(|below| below.starts_with('/'))
}
