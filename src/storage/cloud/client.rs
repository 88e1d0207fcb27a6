//! The HTTP client under every cloud store: patience and limits in one place.

use object_store::client::{ClientOptions, HttpClient, HttpConnector, ReqwestConnector};
use object_store::{BackoffConfig, RetryConfig};
use std::time::Duration;

use crate::config::StorageOptions;

/// How requests are made. Cheap to clone; all clones share the limit on requests in flight.
#[derive(Clone, Debug)]
pub struct Client {
    retry: Duration,
    stall: Duration,
}

impl Client {
    /// With the limits of the job.
    pub fn new(options: &StorageOptions) -> Client {
        Client {
            retry: options.retry,
            stall: options.stall,
        }
    }

    /// Time limits: none on a whole request, whose size nobody knows, but on the silence within it.
    pub fn options(&self) -> ClientOptions {
        ClientOptions::new()
            .with_timeout_disabled()
            .with_connect_timeout(Duration::from_secs(10).min(self.stall))
            .with_read_timeout(self.stall)
    }

    /// Exponential pauses with jitter, until the time budget is spent.
    pub fn retry(&self) -> RetryConfig {
        RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(15),
                base: 2.0,
            },
            max_retries: usize::MAX,
            retry_timeout: self.retry,
        }
    }
}

impl HttpConnector for Client {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        ReqwestConnector::default().connect(options)
    }
}
