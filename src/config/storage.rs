//! Section `storage`: how stores are reached.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::faults::Faults;
use crate::config::job_file::StorageSection;
use crate::config::nesting::shown;

/// Requests in flight at once when nothing is said: enough to fill the line of a cloud machine.
pub const DEFAULT_MAX_REQUESTS: usize = 64;

/// How long a request is repeated when nothing is said.
pub const DEFAULT_RETRY_SECS: f64 = 180.0;

/// How long nothing may arrive when nothing is said.
pub const DEFAULT_STALL_SECS: f64 = 30.0;

const ALLOWED: &str = "a text, number or true/false allowed";

/// Section `storage`.
#[derive(Clone, Debug, PartialEq)]
pub struct StorageOptions {
    /// Settings of the object store clients, by the names that the `object_store` crate gives them.
    pub options: Settings,
    /// Settings for locations that begin with a URL, laid over the others.
    pub by_location: BTreeMap<String, Settings>,
    /// Requests in flight at once, to each store.
    pub max_requests: usize,
    /// How long a request is repeated before it fails.
    pub retry: Duration,
    /// How long nothing may arrive before a request counts as stalled.
    pub stall: Duration,
    /// How files of the local file system are written.
    pub local_writer: LocalWriter,
    /// The connection of `connections.toml` that reaches Snowflake stages; `None`: the default one.
    pub connection: Option<String>,
}

/// Settings of a store's client. Some are secrets, so the values are never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Settings(pub BTreeMap<String, String>);

/// How files of the local file system are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LocalWriter {
    /// `sequential` where the folder is a mounted stage or can't do hard links, else `link`.
    #[default]
    Auto,
    /// Aside, then linked to its name: put only if absent, whole or not at all.
    Link,
    /// Under its own name from beginning to end, as a mounted stage wants it. The weaker protocol.
    Sequential,
}

impl Default for StorageOptions {
    fn default() -> Self {
        StorageOptions {
            options: Settings::default(),
            by_location: BTreeMap::new(),
            max_requests: DEFAULT_MAX_REQUESTS,
            retry: Duration::from_secs_f64(DEFAULT_RETRY_SECS),
            stall: Duration::from_secs_f64(DEFAULT_STALL_SECS),
            local_writer: LocalWriter::default(),
            connection: None,
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Section `storage` of a job file.
pub fn storage(section: StorageSection, faults: &mut Faults) -> StorageOptions {
    let by_location = section.by_location.unwrap_or_default().into_iter();
    let defaults = StorageOptions::default();
    StorageOptions {
        options: settings("storage.options", section.options.unwrap_or_default(), faults),
        by_location: by_location
            .map(|(location, values)| {
                let key = format!("storage.by_location.{}", shown(&location));
                (location, settings(&key, values, faults))
            })
            .collect(),
        max_requests: section
            .max_requests
            .map_or(defaults.max_requests, |count| count as usize),
        retry: section.retry_secs.map_or(defaults.retry, Duration::from_secs_f64),
        stall: section.stall_secs.map_or(defaults.stall, Duration::from_secs_f64),
        local_writer: section.local_writer.unwrap_or_default(),
        connection: section.connection,
    }
}

fn settings(key: &str, values: BTreeMap<String, Value>, faults: &mut Faults) -> Settings {
    let mut settings = BTreeMap::new();
    for (name, value) in values {
        let text = match value {
            Value::String(text) => text,
            Value::Bool(_) | Value::Number(_) => value.to_string(),
            // What was given is not repeated: it may be a secret.
            other => {
                let what = if other.is_array() { "a list" } else { "no value" };
                faults.push(format!("{key}.{name}"), format!("{what} given, {ALLOWED}"));
                continue;
            }
        };
        settings.insert(name.to_ascii_lowercase(), text);
    }
    Settings(settings)
}
