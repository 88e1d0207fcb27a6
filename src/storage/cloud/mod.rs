//! Cloud object stores: a URL and its settings → the client of S3, Azure or GCS.
//!
//! Settings have the names that the `object_store` crate gives them. They come, the later over the earlier, from the
//! environment (`AWS_REGION` is `aws_region`), from the job's `storage.options`, and from the entry of
//! `storage.by_location` with the longest URL that the location begins with.

use std::str::FromStr;
use std::sync::Arc;

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

mod client;

pub(super) use client::Client;

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

/// Opens the store of a URL. It is not asked for anything yet.
///
/// # Errors
/// `Config` for a URL that is none of the store's, or settings that do not go together.
pub(super) fn open(location: &str, options: &StorageOptions, variables: &Variables) -> Result<Location> {
    let refused = |why: &str| {
        Error::config(format!("not a usable URL of a store: {why}"))
            .with("location", shown(location))
            .with_hint("write s3://bucket/path, gs://bucket/path, az://container/path or abfss://container@account.dfs.core.windows.net/path")
    };
    // What the parsers say quotes the URL, which may carry a signature.
    let url = Url::parse(location).map_err(|_| refused("it can't be parsed"))?;
    let (scheme, path) = ObjectStoreScheme::parse(&url)
        .map_err(|_| refused("it has no bucket or container, or an odd path"))?;
    let client = Client::new(options);
    let settings = settings(location, options);
    let store = build(&scheme, &url, settings, variables, &client).map_err(|error| {
        Error::config("can't make a client for the store")
            .with("location", shown(location))
            .with_source(error)
            .with_hint("check the URL, storage.options and the AWS_…, AZURE_… or GOOGLE_… variables")
    })?;
    let Some(store) = store else {
        return Err(refused("it belongs to no known cloud"));
    };
    Ok(Location::in_store(
        store,
        path,
        root(&url, &scheme),
        &shown(location),
    ))
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
    scheme: &ObjectStoreScheme,
    url: &Url,
    settings: Settings,
    variables: &Variables,
    client: &Client,
) -> object_store::Result<Option<Arc<dyn ObjectStore>>> {
    // The URL goes last: what it names is what is meant.
    macro_rules! store {
        ($builder:ty, $key:ty, $prefixes:expr) => {{
            let mut builder = <$builder>::new()
                .with_client_options(client.options())
                .with_retry(client.retry())
                .with_http_connector(client.clone());
            for (key, value) in from_environment(variables, &$prefixes).chain(settings.0) {
                if let Ok(key) = <$key>::from_str(&key) {
                    builder = builder.with_config(key, value);
                }
            }
            Some(Arc::new(builder.with_url(url.as_str()).build()?) as Arc<dyn ObjectStore>)
        }};
    }
    Ok(match scheme {
        ObjectStoreScheme::AmazonS3 => store!(AmazonS3Builder, AmazonS3ConfigKey, ["AWS_"]),
        ObjectStoreScheme::MicrosoftAzure => store!(MicrosoftAzureBuilder, AzureConfigKey, ["AZURE_"]),
        ObjectStoreScheme::GoogleCloudStorage => {
            store!(
                GoogleCloudStorageBuilder,
                GoogleConfigKey,
                ["GOOGLE_", "SERVICE_ACCOUNT"]
            )
        }
        _ => None,
    })
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

/// What tells one store from another: scheme, account and bucket.
fn root(url: &Url, scheme: &ObjectStoreScheme) -> String {
    let kind = match scheme {
        ObjectStoreScheme::AmazonS3 => "s3",
        ObjectStoreScheme::MicrosoftAzure => "az",
        ObjectStoreScheme::GoogleCloudStorage => "gs",
        _ => url.scheme(),
    };
    let user = match url.username() {
        "" => String::new(),
        user => format!("{user}@"),
    };
    format!("{kind}://{user}{}", url.host_str().unwrap_or_default())
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
