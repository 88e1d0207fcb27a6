//! Cloud stores, as real servers: moto's S3, Azurite, and fronts of ours that speak other dialects and make trouble.

mod canary;
mod chaos;
mod conformance;
mod dialect;
mod every_request;
mod faults;
mod front;
mod jobs;
mod reads;
pub mod servers;
mod store_check;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use floe::config::{Settings, StorageOptions};
use floe::storage::{Location, OutputStore, Storage, Variables};

use dialect::Dialect;
use front::Front;
use servers::{AZURE_ACCOUNT, AZURE_KEY, Guard};

/// A kind of store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cloud {
    S3,
    /// S3 that ignores `If-None-Match`.
    S3Unconditional,
    Azure,
    Google,
}

impl Cloud {
    /// Those that put if absent.
    pub const CONDITIONAL: [Cloud; 3] = [Cloud::S3, Cloud::Azure, Cloud::Google];
}

/// A fresh bucket or container, behind a front.
pub struct Place {
    pub cloud: Cloud,
    /// The bucket's URL, without a slash at the end.
    pub url: String,
    pub front: Front,
    _server: Guard,
}

impl Place {
    /// A new bucket; `None` where its server can't run here.
    pub fn new(cloud: Cloud) -> Option<Place> {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let bucket = format!("bucket-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let server = match cloud {
            Cloud::Azure => servers::azurite()?,
            _ => servers::moto(),
        };
        let (scheme, dialect) = match cloud {
            Cloud::S3 => ("s3", Dialect::Same),
            Cloud::S3Unconditional => ("s3", Dialect::Unconditional),
            Cloud::Azure => ("az", Dialect::Azure),
            Cloud::Google => ("gs", Dialect::Google),
        };
        make_bucket(cloud, &server.address, &bucket);
        Some(Place {
            cloud,
            url: format!("{scheme}://{bucket}"),
            front: Front::new(&server.address, dialect),
            _server: server,
        })
    }

    /// What a client must be told to find the store, by the names of `storage.options`.
    pub fn settings(&self) -> BTreeMap<String, String> {
        let endpoint = format!("http://{}", self.front.address());
        let pairs: Vec<(&str, String)> = match self.cloud {
            Cloud::S3 | Cloud::S3Unconditional => vec![
                ("aws_endpoint", endpoint),
                ("aws_access_key_id", "key".to_string()),
                ("aws_secret_access_key", "secret".to_string()),
                ("aws_allow_http", "true".to_string()),
            ],
            Cloud::Azure => vec![
                ("azure_storage_endpoint", format!("{endpoint}/{AZURE_ACCOUNT}")),
                ("azure_storage_account_name", AZURE_ACCOUNT.to_string()),
                ("azure_storage_account_key", AZURE_KEY.to_string()),
                ("azure_allow_http", "true".to_string()),
            ],
            Cloud::Google => vec![
                ("google_base_url", endpoint),
                ("google_bearer_token", "token".to_string()),
                ("google_allow_http", "true".to_string()),
            ],
        };
        pairs
            .into_iter()
            .map(|(name, value)| (name.to_string(), value))
            .collect()
    }

    /// Options with little patience.
    pub fn options(&self) -> StorageOptions {
        StorageOptions {
            options: Settings(self.settings()),
            retry: Duration::from_secs(20),
            stall: Duration::from_secs(2),
            ..StorageOptions::default()
        }
    }

    /// Opens `path` in the bucket.
    pub async fn open(&self, path: &str) -> Location {
        let storage = Storage::new(self.options(), Variables::default()).unwrap();
        storage.open(&format!("{}/{path}", self.url)).await.unwrap()
    }

    pub async fn output(&self, path: &str) -> OutputStore {
        OutputStore::new(self.open(path).await)
    }
}

/// Every store that puts if absent and runs here.
pub fn places() -> Vec<Place> {
    Cloud::CONDITIONAL.into_iter().filter_map(Place::new).collect()
}

/// A runtime like the program's.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(future)
}

/// Makes a bucket or container on a server.
pub fn make_bucket(cloud: Cloud, address: &str, bucket: &str) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = match cloud {
        Cloud::Azure => {
            // en.wikipedia.org/wiki/Epoch would do for a date, if Azurite did not compare it with its clock.
            let path = format!("/{AZURE_ACCOUNT}/{bucket}");
            let (date, version) = (http_date(), "2023-11-03");
            let text = format!(
                "PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:{date}\nx-ms-version:{version}\n\
                 /{AZURE_ACCOUNT}{path}\nrestype:container"
            );
            let key = hmac::Key::new(hmac::HMAC_SHA256, &BASE64_STANDARD.decode(AZURE_KEY).unwrap());
            let signature = BASE64_STANDARD.encode(hmac::sign(&key, text.as_bytes()));
            client
                .put(format!("http://{address}{path}?restype=container"))
                .header("x-ms-date", date)
                .header("x-ms-version", version)
                .header("authorization", format!("SharedKey {AZURE_ACCOUNT}:{signature}"))
        }
        _ => client.put(format!("http://{address}/{bucket}")),
    };
    let request = request.header("content-length", 0);
    block_on(async move {
        // A server that has only just come up may drop a connection before it takes the request.
        let mut answer = request.try_clone().unwrap().send().await;
        for _ in 0..3 {
            if answer.is_err() {
                answer = request.try_clone().unwrap().send().await;
            }
        }
        let answer = answer.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    });
}

/// Now, as HTTP writes it.
fn http_date() -> String {
    let format = time::format_description::parse_borrowed::<2>(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT",
    );
    time::OffsetDateTime::now_utc().format(&format.unwrap()).unwrap()
}
