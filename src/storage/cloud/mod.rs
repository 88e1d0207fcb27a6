//! Cloud object stores: a URL and its settings → the client of S3, Azure or GCS.
//!
//! Settings have the names that the `object_store` crate gives them. They come, the later over the earlier, from the
//! environment (`AWS_REGION` is `aws_region`), from the job's `storage.options`, and from the entry of
//! `storage.by_location` with the longest URL that the location begins with.

use std::str::FromStr;
use std::sync::{Arc, Mutex};

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::{ObjectStore, ObjectStoreScheme};
use url::Url;

use super::location::Location;
use super::variables::Variables;
use crate::config::nesting::shown;
use crate::config::{Settings, StorageOptions};
use crate::error::{Error, Result};
use crate::redact::redact;

mod client;
mod patient;
mod throttle;
mod watch;

pub(super) use client::{Client, METADATA_HOSTS, NoCredentials};
pub(super) use patient::Patient;
pub(super) use watch::Stalled;

/// What a URL of a cloud store may begin with.
pub(super) const SCHEMES: [&str; 9] = ["s3", "s3a", "gs", "az", "adl", "azure", "abfs", "abfss", "https"];

/// Checks that every option is one that some store knows.
///
/// # Errors
/// `Config`, naming the option and the nearest known one.
pub(super) fn check_options(options: &StorageOptions) -> Result<()> {
    let mut groups = vec![("storage.options".to_string(), &options.options)];
    for (location, settings) in &options.by_location {
        groups.push((format!("storage.by_location.{}", shown(location)), settings));
    }
    for (key, Settings(settings)) in groups {
        for name in settings.keys() {
            let known = AmazonS3ConfigKey::from_str(name).is_ok()
                || AzureConfigKey::from_str(name).is_ok()
                || GoogleConfigKey::from_str(name).is_ok();
            if !known {
                return Err(Error::config("no store has a setting of this name")
                    .with("key", format!("{key}.{name}"))
                    .with_hint("the names are those of the object_store crate, e.g. aws_region, azure_storage_account_name"));
            }
        }
    }
    Ok(())
}

/// The clouds' stores that are open. Locations in the same store share its client, and so the limit on requests.
#[derive(Debug, Default)]
pub(super) struct Clouds(Mutex<Vec<(Key, Opened)>>);

/// What makes two locations share a client.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    /// The URL without its path.
    host: String,
    /// The bucket, where the path begins with it.
    bucket: Option<String>,
    settings: Settings,
}

#[derive(Clone, Debug)]
struct Opened {
    store: Arc<dyn ObjectStore>,
    /// What tells one store from another: endpoint, account and bucket.
    root: String,
}

impl Clouds {
    /// Opens the store of a URL. It is not asked for anything yet.
    ///
    /// # Errors
    /// `Config` for a URL that is none of a store's, or settings that do not go together.
    pub(super) fn open(
        &self,
        location: &str,
        options: &StorageOptions,
        variables: &Variables,
    ) -> Result<Location> {
        // What the parsers say quotes the URL, which may carry a signature.
        let url = Url::parse(location).map_err(|_| refused(location, "it can't be parsed"))?;
        let (scheme, path) = ObjectStoreScheme::parse(&url)
            .map_err(|_| refused(location, "it has no bucket or container, or an odd path"))?;
        let mut settings = settings(location, options);
        take_apart(location, &url, &scheme, &mut settings)?;
        let first = url.path_segments().and_then(|mut segments| segments.next());
        let key = Key {
            host: url[..url::Position::BeforePath].to_string(),
            bucket: first.filter(|_| url.scheme() == "https").map(str::to_string),
            settings,
        };
        // Nothing panics while it is held.
        let mut open = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let found = open.iter().find(|(known, _)| *known == key);
        let opened = match found {
            Some((_, opened)) => opened.clone(),
            None => {
                let settings = key.settings.clone();
                let opened = build(location, &scheme, &url, settings, variables, options)?;
                open.push((key, opened.clone()));
                opened
            }
        };
        Ok(Location::in_store(
            opened.store,
            path,
            opened.root,
            &shown(location),
        ))
    }
}

fn refused(location: &str, why: &str) -> Error {
    Error::config(format!("not a usable URL of a store: {why}"))
        .with("location", shown(location))
        .with_hint("write s3://bucket/path, gs://bucket/path, az://container/path or abfss://container@account.dfs.core.windows.net/path")
}

/// What a URL says beside store and path: a shared access signature becomes a setting, nothing else is understood.
fn take_apart(location: &str, url: &Url, scheme: &ObjectStoreScheme, settings: &mut Settings) -> Result<()> {
    if url.fragment().is_some() {
        return Err(refused(location, "it has a #; write %23 if a name holds one"));
    }
    let is_container = *scheme == ObjectStoreScheme::MicrosoftAzure && url.password().is_none();
    if !(url.username().is_empty() && url.password().is_none() || is_container) {
        return Err(refused(
            location,
            "it holds credentials; put them into storage.options or the environment",
        ));
    }
    match url.query() {
        None => Ok(()),
        Some(query) if *scheme == ObjectStoreScheme::MicrosoftAzure && query.contains("sig=") => {
            let sas = "azure_storage_sas_key".to_string();
            settings.0.insert(sas, query.to_string());
            Ok(())
        }
        Some(_) => Err(refused(
            location,
            "it has a ?; write %3F if a name holds one. Presigned URLs are no locations",
        )),
    }
}

/// The settings of a location: the general ones, and over them those for its own URL.
fn settings(location: &str, options: &StorageOptions) -> Settings {
    let mut settings = options.options.clone();
    let own = options
        .by_location
        .iter()
        .filter(|(begin, _)| location.starts_with(begin.as_str()))
        .max_by_key(|(begin, _)| begin.len());
    if let Some((_, Settings(own))) = own {
        settings.0.extend(own.clone());
    }
    settings
}

fn build(
    location: &str,
    scheme: &ObjectStoreScheme,
    url: &Url,
    settings: Settings,
    variables: &Variables,
    options: &StorageOptions,
) -> Result<Opened> {
    let unusable = |error: object_store::Error| {
        Error::config("can't make a client for the store")
            .with("location", shown(location))
            // What the crate says may quote the URL and the settings.
            .with_source(redact(&error.to_string()).into_owned())
            .with_hint("check the URL, storage.options and the AWS_…, AZURE_… or GOOGLE_… variables")
    };
    let client = Client::new(options);
    // Without its query, which is taken care of.
    let bare = &url[..url::Position::AfterPath];
    // The URL goes last: what it names is what is meant.
    macro_rules! store {
        ($builder:ty, $key:ty, $prefixes:expr, $defaults:expr, $endpoint:expr) => {{
            let mut builder = <$builder>::new()
                .with_client_options(client.options())
                .with_retry(client.retry())
                .with_http_connector(client.clone());
            for (key, value) in $defaults {
                builder = builder.with_config(key, value);
            }
            for (key, value) in from_environment(variables, &$prefixes).chain(settings.0) {
                if let Ok(key) = <$key>::from_str(&key) {
                    builder = builder.with_config(key, value);
                }
            }
            let endpoint = builder.get_config_value(&$endpoint).unwrap_or_default();
            let store = builder.with_url(bare).build().map_err(unusable)?;
            // The crate shows account and bucket, which the URL may not name by themselves.
            let root = format!("{store} at {endpoint}");
            let store = Arc::new(Patient::new(store, client.budget()));
            Ok(Opened { store, root })
        }};
    }
    match scheme {
        ObjectStoreScheme::AmazonS3 => store!(
            AmazonS3Builder,
            AmazonS3ConfigKey,
            ["AWS_"],
            // Deleting in bulk needs a request that not every store has.
            [(AmazonS3ConfigKey::DisableBulkDelete, "true")],
            AmazonS3ConfigKey::Endpoint
        ),
        ObjectStoreScheme::MicrosoftAzure => store!(
            MicrosoftAzureBuilder,
            AzureConfigKey,
            ["AZURE_"],
            [(AzureConfigKey::UseEmulator, "false")],
            AzureConfigKey::Endpoint
        ),
        ObjectStoreScheme::GoogleCloudStorage => store!(
            GoogleCloudStorageBuilder,
            GoogleConfigKey,
            ["GOOGLE_", "SERVICE_ACCOUNT"],
            [(GoogleConfigKey::SkipSignature, "false")],
            GoogleConfigKey::BaseUrl
        ),
        _ => Err(refused(location, "it belongs to no known cloud")),
    }
}

fn from_environment<'a>(
    variables: &'a Variables,
    prefixes: &'a [&str],
) -> impl Iterator<Item = (String, String)> + 'a {
    variables
        .iter()
        .filter(|(name, _)| prefixes.iter().any(|prefix| name.starts_with(prefix)))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn options(pairs: &[(&str, &str)]) -> Settings {
        Settings(
            pairs
                .iter()
                .map(|(key, value)| (key.to_string(), value.to_string()))
                .collect(),
        )
    }

    #[test]
    fn an_unknown_option_is_refused_by_name_and_without_its_value() {
        let given = StorageOptions {
            options: options(&[("aws_regoin", "s3cret")]),
            ..StorageOptions::default()
        };
        let error = check_options(&given).unwrap_err().to_string();
        assert!(error.contains("storage.options.aws_regoin"), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
        let known = StorageOptions {
            options: options(&[
                ("aws_region", "x"),
                ("azure_storage_account_name", "x"),
                ("google_bucket", "x"),
            ]),
            ..StorageOptions::default()
        };
        check_options(&known).unwrap();
    }

    #[test]
    fn the_longest_url_that_a_location_begins_with_has_the_last_word() {
        let given = StorageOptions {
            options: options(&[("aws_region", "a"), ("aws_endpoint", "e")]),
            by_location: BTreeMap::from([
                ("s3://bucket".to_string(), options(&[("aws_region", "b")])),
                ("s3://bucket/deep".to_string(), options(&[("aws_region", "c")])),
            ]),
            ..StorageOptions::default()
        };
        let region = |location: &str| settings(location, &given).0["aws_region"].clone();
        assert_eq!(region("s3://other/x"), "a");
        assert_eq!(region("s3://bucket/x"), "b");
        assert_eq!(region("s3://bucket/deep/x"), "c");
        assert_eq!(settings("s3://bucket/x", &given).0["aws_endpoint"], "e");
    }
}
