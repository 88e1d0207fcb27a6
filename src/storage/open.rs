//! The one place that opens a location: what the user wrote → the store behind it and the place within.
//!
//! A [`Storage`] holds what opening depends on beside the location's text: the job's `storage` section, the variables
//! that this process was given, and the clients that are open already, so that locations in one store share one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cloud::{self, Clouds};
use super::location::Location;
use super::snowflake::Stages;
use super::variables::Variables;
use crate::config::StorageOptions;
use crate::config::nesting::shown;
use crate::error::{Error, Result};

/// The stores a process can reach, and how. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Storage {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: StorageOptions,
    variables: Variables,
    clouds: Clouds,
    stages: Stages,
}

/// What a location is, by its text alone.
enum Scheme<'a> {
    Path(&'a str),
    File,
    Cloud,
    Snowflake,
}

impl Storage {
    /// With the job's options and the variables of this process.
    ///
    /// # Errors
    /// `Config` when an option is none that a store knows.
    pub fn new(options: StorageOptions, variables: Variables) -> Result<Storage> {
        cloud::check_options(&options)?;
        Ok(Storage {
            inner: Arc::new(Inner {
                options,
                variables,
                clouds: Clouds::default(),
                stages: Stages::default(),
            }),
        })
    }

    /// Only what needs neither options nor variables: the local file system.
    pub fn local() -> Storage {
        let inner = Inner {
            options: StorageOptions::default(),
            variables: Variables::default(),
            clouds: Clouds::default(),
            stages: Stages::default(),
        };
        Storage {
            inner: Arc::new(inner),
        }
    }

    /// Opens what the user wrote: a path, `file://`, `s3://`, `gs://`, `az://` and `abfss://` URLs, `@stage/path`,
    /// `snow://…`. Cloud stores are not asked for anything yet; a stage is looked up.
    ///
    /// # Errors
    /// `Config` for a location that can't be one, or an incomplete set of options; `Storage` when a stage can't be
    /// looked up.
    pub async fn open(&self, location: &str) -> Result<Location> {
        let Inner {
            options,
            variables,
            clouds,
            stages,
        } = &*self.inner;
        match scheme(location)? {
            Scheme::Path(path) => Location::at_path(Path::new(path), location, options.local_writer),
            Scheme::File => Location::at_path(&file_url_path(location)?, location, options.local_writer),
            Scheme::Cloud => clouds.open(location, options, variables),
            Scheme::Snowflake => stages.open(location, options, variables).await,
        }
    }
}

fn scheme(location: &str) -> Result<Scheme<'_>> {
    // As in SQL, a stage may stand in single quotes.
    let unquoted = location.strip_prefix('\'').unwrap_or(location);
    if unquoted.starts_with('@') || unquoted.starts_with("snow://") {
        return Ok(Scheme::Snowflake);
    }
    match location.split_once("://") {
        None => Ok(Scheme::Path(location)),
        Some(("file", _)) => Ok(Scheme::File),
        Some((scheme, _)) if cloud::SCHEMES.contains(&scheme) => Ok(Scheme::Cloud),
        Some((scheme, _)) => Err(Error::config(format!("there is no store for {scheme}://"))
            .with("location", shown(location))
            .with_hint(
                "there are: paths, file://, s3://, gs://, az://, abfss://, https:// URLs of Amazon, Azure or \
                     Cloudflare R2, @stage/path and snow://",
            )),
    }
}

fn file_url_path(location: &str) -> Result<PathBuf> {
    url::Url::parse(location)
        .ok()
        .and_then(|url| url.to_file_path().ok())
        .ok_or_else(|| {
            Error::config("not a file URL")
                .with("location", location)
                .with_hint("write file:///absolute/path")
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[tokio::test]
    async fn a_location_that_no_store_has_is_refused_without_its_secrets() {
        for location in [
            "ftp://host/x?sig=secret",
            "https://user:secret@example.org/x?sig=secret",
            "s3://?sig=secret",
        ] {
            let error = Storage::local().open(location).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[tokio::test]
    async fn paths_and_file_urls_are_the_same_place() {
        let by_path = Storage::local().open("/some/place").await.unwrap();
        let by_url = Storage::local().open("file:///some/place").await.unwrap();
        assert_eq!(by_path.local_path(), by_url.local_path());
        assert!(Storage::local().open("file://host/some/place").await.is_err());
    }
}
