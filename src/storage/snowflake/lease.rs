//! A stage's credentials, renewed before they end and whenever they are refused.
//!
//! They are good for an hour or so. Azure's say until when; for the others forty minutes are safe, as long as other
//! clients of Snowflake's keep them. Renewing is the same statement again. However many requests find the credentials
//! old, one statement is run; none of them waits for it as long as the old ones are good, nor fails when Snowflake can't
//! be reached for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;
use object_store::azure::AzureCredential;
use object_store::gcp::GcpCredential;
use tokio::sync::Mutex;

use super::name::StagePath;
use super::session::Session;
use super::stage::{Keys, Place, Transfer};
use crate::error::{Error, Result};

/// How long credentials are used that don't say how long they are good for.
const USUAL_LIFETIME: Duration = Duration::from_secs(40 * 60);

/// And how long, if Snowflake can't be reached for others.
const LONGEST_LIFETIME: Duration = Duration::from_secs(55 * 60);

/// Credentials that say when they end are renewed this much earlier, or for the last fifth if that is less.
const MARGIN: Duration = Duration::from_secs(5 * 60);

/// Credentials that are refused so early, and never worked, are not expired: others would be refused too.
const FRESH: Duration = Duration::from_secs(2);

/// How long to wait after credentials could not be renewed.
const PAUSE: Duration = Duration::from_secs(10);

/// The right to use a stage's place.
#[derive(Debug)]
pub(super) struct Lease {
    session: Arc<Session>,
    stage: StagePath,
    statement: String,
    place: Place,
    held: Mutex<Held>,
    /// Whether a request succeeded with the keys that are held.
    worked: AtomicBool,
}

#[derive(Debug)]
struct Held {
    keys: Keys,
    since: Instant,
    renew_from: Instant,
    good_until: Instant,
    /// Somebody is asking for others.
    is_renewing: bool,
}

impl Held {
    fn new(keys: Keys, lifetime: Option<Duration>) -> Held {
        let since = Instant::now();
        let (renew, good) = match lifetime {
            Some(lifetime) => (lifetime - MARGIN.min(lifetime / 5), lifetime),
            None => (USUAL_LIFETIME, LONGEST_LIFETIME),
        };
        Held {
            keys,
            since,
            renew_from: since + renew,
            good_until: since + good,
            is_renewing: false,
        }
    }
}

impl Lease {
    /// The lease that the answer to `statement` about `stage` gave.
    pub(super) fn new(
        session: Arc<Session>,
        stage: &StagePath,
        statement: String,
        transfer: &Transfer,
    ) -> Lease {
        Lease {
            session,
            stage: stage.clone(),
            statement,
            place: transfer.place.clone(),
            held: Mutex::new(Held::new(transfer.keys.clone(), transfer.lifetime)),
            worked: AtomicBool::new(false),
        }
    }

    /// Keys that are good now.
    async fn keys(self: &Arc<Self>) -> Result<Keys> {
        let mut held = self.held.lock().await;
        let now = Instant::now();
        if now >= held.good_until {
            self.replace(&mut held).await?;
        } else if now >= held.renew_from && !held.is_renewing {
            held.is_renewing = true;
            tokio::spawn(self.clone().renew_meanwhile());
        }
        Ok(held.keys.clone())
    }

    /// Asks for other keys while those that are held are good.
    async fn renew_meanwhile(self: Arc<Self>) {
        let asked = self.ask().await;
        let mut held = self.held.lock().await;
        match asked {
            Ok(fresh) => {
                *held = fresh;
                self.worked.store(false, Ordering::Relaxed);
            }
            Err(error) => {
                tracing::warn!("can't renew the credentials of {} yet: {error}", self.stage);
                held.renew_from = Instant::now() + PAUSE;
                held.is_renewing = false;
            }
        }
    }

    async fn replace(&self, held: &mut Held) -> Result<()> {
        *held = self.ask().await?;
        self.worked.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Takes note that a request succeeded.
    pub(super) fn works(&self) {
        self.worked.store(true, Ordering::Relaxed);
    }

    /// Other keys, because a request that began at `asked` was refused. `false`: there are none to be had.
    pub(super) async fn renew_refused(&self, asked: Instant) -> Result<bool> {
        let mut held = self.held.lock().await;
        if held.since > asked {
            return Ok(true);
        }
        if held.since.elapsed() < FRESH && !self.worked.load(Ordering::Relaxed) {
            return Ok(false);
        }
        tracing::debug!("the credentials of {} are refused, renewing them", self.stage);
        self.replace(&mut held).await?;
        Ok(true)
    }

    async fn ask(&self) -> Result<Held> {
        let answer = self.session.run(&self.statement).await?;
        let transfer = Transfer::read(&answer, &self.stage, self.session.connection().is_loopback())?;
        if transfer.place != self.place {
            return Err(
                Error::storage("the stage has moved to another place during the run")
                    .with("location", &self.stage)
                    .with_hint("was it replaced? start the run again"),
            );
        }
        Ok(Held::new(transfer.keys, transfer.lifetime))
    }
}

/// The lease of a stage on Amazon.
#[derive(Debug)]
pub(super) struct AwsKeys(pub(super) Arc<Lease>);

/// The lease of a stage on Azure.
#[derive(Debug)]
pub(super) struct AzureKeys(pub(super) Arc<Lease>);

/// The lease of a stage on Google.
#[derive(Debug)]
pub(super) struct GcsKeys(pub(super) Arc<Lease>);

macro_rules! provide {
    ($provider:ty, $credential:ty, $keys:path) => {
        #[async_trait]
        impl CredentialProvider for $provider {
            type Credential = $credential;

            async fn get_credential(&self) -> object_store::Result<Arc<$credential>> {
                match self.0.keys().await {
                    Ok($keys(keys)) => Ok(keys),
                    Ok(_) => Err(store_error(
                        Error::storage("Snowflake gave credentials of another kind")
                            .with("location", &self.0.stage),
                    )),
                    Err(error) => Err(store_error(error)),
                }
            }
        }
    };
}

provide!(AwsKeys, AwsCredential, Keys::Aws);
provide!(AzureKeys, AzureCredential, Keys::Azure);
provide!(GcsKeys, GcpCredential, Keys::Gcs);

/// An error of ours, passed on through a store's client.
pub(super) fn store_error(error: Error) -> object_store::Error {
    object_store::Error::Generic {
        store: "Snowflake",
        source: Box::new(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_renewed_before_they_end() {
        let held = Held::new(Keys::Open, Some(Duration::from_secs(3600)));
        assert_eq!(held.renew_from - held.since, Duration::from_secs(3300));
        assert_eq!(held.good_until - held.since, Duration::from_secs(3600));
        let short = Held::new(Keys::Open, Some(Duration::from_secs(10)));
        assert_eq!(short.renew_from - short.since, Duration::from_secs(8));
        let silent = Held::new(Keys::Open, None);
        assert!(silent.renew_from < silent.good_until);
    }
}
