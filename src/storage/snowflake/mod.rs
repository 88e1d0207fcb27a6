//! Snowflake stages by name: `@db.schema.stage/path`, `@~`, `@%table` and `snow://…` → the cloud store behind them.
//!
//! Snowflake tells its clients where a stage lies and lends them credentials for it; from then on Floe talks to the
//! cloud itself, through the same clients as for `s3://`, `gs://` and `az://`, so that everything else works unchanged.
//! The way: [`name`] reads the location, [`connection`] and [`files`] find out who logs in where, [`session`] logs in,
//! [`stage`] reads where the stage lies, [`lease`] keeps credentials fresh, [`stores`] and [`renewing`] make the store.
//! Where Snowflake lends no credentials, [`signed`] works by signed URLs. See docs/snowflake-stages.md.

use std::sync::Arc;

use object_store::path::Path as StorePath;
use tokio::sync::OnceCell;

use super::cloud::Client;
use super::location::{Location, parse};
use super::variables::Variables;
use crate::config::StorageOptions;
use crate::error::{Error, Result};

mod connection;
mod dates;
mod files;
mod key_pair;
mod lease;
mod name;
mod refusals;
mod renewing;
mod rows;
mod secret;
mod session;
mod signed;
mod stage;
mod stores;
mod wire;

use connection::Connection;
use lease::Lease;
use name::{Holder, StagePath, literal};
use session::{NoAnswer, Session};
use signed::SignedStore;
use stage::{Keys, Place, Transfer, prefix_of_sources};

/// A file that is never sent: a PUT of it makes Snowflake lend credentials for the stage.
const IMAGINARY_FILE: &str = "file:///tmp/floe";

/// Where a GET would put the files that it never fetches.
const IMAGINARY_FOLDER: &str = "file:///tmp/";

/// Why a role that may only read can't write.
const ONLY_READ: &str = "the role may only read this stage; GRANT WRITE ON STAGE … TO ROLE … lets it write";

/// Why nothing is written to `snow://`.
const ONLY_GET: &str = "snow:// locations can only be read; write to a stage";

/// The way to Snowflake, found and taken at the first stage: all stages of a process share one session.
#[derive(Debug, Default)]
pub(super) struct Stages {
    session: OnceCell<Arc<Session>>,
}

impl Stages {
    /// Looks a stage up and opens the store behind it.
    ///
    /// # Errors
    /// `Config` for what is no stage, an incomplete connection, or files encrypted by the client; `Storage` when
    /// Snowflake can't be reached or refuses.
    pub(super) async fn open(
        &self,
        location: &str,
        options: &StorageOptions,
        variables: &Variables,
    ) -> Result<Location> {
        let wanted = StagePath::parse(location)?;
        let connect = || async {
            let connection = Connection::find(options.connection.as_deref(), variables)?;
            Session::new(connection, options).map(Arc::new)
        };
        let session = self.session.get_or_try_init(connect).await?.clone();
        let found = Found::look_up(&session, &wanted)
            .await
            .map_err(|error| error.with("location", location))?;
        found.open(session, &wanted, location, options)
    }
}

/// A stage that was looked up.
struct Found {
    statement: String,
    transfer: Transfer,
    /// Where the wanted path lies within the place.
    prefix: Vec<String>,
    read_only: Option<&'static str>,
}

impl Found {
    /// As PUT sees the whole stage, or as GET sees the path, when PUT is not for this role or not for this kind.
    async fn look_up(session: &Session, wanted: &StagePath) -> Result<Found> {
        if matches!(wanted.holder, Holder::Url(..)) {
            return Ok(Found::by_get(session, wanted, ONLY_GET).await?);
        }
        match Found::by_put(session, wanted).await {
            Err(NoAnswer::Refused(code, refusal)) => {
                tracing::debug!(code, "Snowflake refuses a PUT, trying a GET");
                match Found::by_get(session, wanted, ONLY_READ).await {
                    Ok(found) => Ok(found),
                    // The first refusal says more: it was about the stage alone.
                    Err(NoAnswer::Refused(..)) => Err(refusal),
                    Err(NoAnswer::Failed(error)) => Err(error),
                }
            }
            found => Ok(found?),
        }
    }

    async fn by_put(session: &Session, wanted: &StagePath) -> Result<Found, NoAnswer> {
        let root = wanted.at(Vec::new());
        let statement = format!("PUT {} {}", literal(IMAGINARY_FILE), root.to_sql(true));
        let answer = session.run(&statement).await?;
        let transfer = Transfer::read(&answer, &root, session.connection().is_loopback())?;
        let mut prefix = transfer.prefix.clone();
        prefix.extend_from_slice(&wanted.path);
        Ok(Found {
            statement,
            transfer,
            prefix,
            read_only: None,
        })
    }

    async fn by_get(
        session: &Session,
        wanted: &StagePath,
        read_only: &'static str,
    ) -> Result<Found, NoAnswer> {
        // As a folder first; a file has nothing below it.
        let mut is_folder = true;
        loop {
            let statement = format!("GET {} {}", wanted.to_sql(is_folder), literal(IMAGINARY_FOLDER));
            let answer = session.run(&statement).await?;
            let transfer = Transfer::read(&answer, wanted, session.connection().is_loopback())?;
            if transfer.sources.is_empty() && is_folder && !wanted.path.is_empty() {
                is_folder = false;
                continue;
            }
            let prefix = prefix_of_sources(&transfer, &wanted.path).ok_or_else(|| {
                Error::storage("Snowflake names the files of the stage in no way that is understood")
                    .with("location", wanted)
                    .with_hint("please report it, with the kind of the stage")
            })?;
            return Ok(Found {
                statement,
                transfer,
                prefix,
                read_only: Some(read_only),
            });
        }
    }

    fn open(
        self,
        session: Arc<Session>,
        wanted: &StagePath,
        location: &str,
        options: &StorageOptions,
    ) -> Result<Location> {
        let place = &self.transfer.place;
        if let Place::Folder(folder) = place {
            let path = self
                .prefix
                .iter()
                .fold(folder.clone(), |path, name| path.join(name));
            return Location::at_path(&path, location, options.local_writer);
        }
        let prefix = match self.prefix.join("/") {
            key if key.is_empty() => StorePath::default(),
            key => parse(&key)?,
        };
        let root = place.root();
        tracing::debug!(root, prefix = %prefix, "the stage {wanted}");
        if let Keys::PerFile = self.transfer.keys {
            let within = self
                .prefix
                .strip_suffix(wanted.path.as_slice())
                .unwrap_or_default();
            let store = SignedStore::new(session, wanted, within.to_vec());
            return Ok(Location::in_store(Arc::new(store), prefix, root, location));
        }
        let lease = Arc::new(Lease::new(session, wanted, self.statement, &self.transfer));
        let store = stores::build(place, &lease, self.read_only, &Client::new(options)).map_err(|error| {
            Error::storage("can't make a client for the store behind the stage")
                .with("location", location)
                .with_source(error)
        })?;
        let store =
            store.ok_or_else(|| Error::storage("the stage has no store").with("location", location))?;
        Ok(Location::in_store(store, prefix, root, location))
    }
}
