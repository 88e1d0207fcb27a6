//! Where a stage really lies: what Snowflake answers to a PUT or GET statement → cloud, bucket, prefix, credentials.
//!
//! The answer (`stageInfo`) is meant for a client that then moves one file. Its credentials are good for everything
//! below the stage, so one PUT of a file that is never sent opens the whole stage. Field names and how endpoints follow
//! from them are those of the Python connector 4.8 (`file_transfer_agent.py`, `s3_`, `azure_`, `gcs_storage_client.py`).
//! An `endPoint` that begins with `http://` is a test's and may only name this machine.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AwsCredential;
use object_store::azure::AzureCredential;
use object_store::gcp::GcpCredential;
use percent_encoding::percent_decode_str;
use serde_json::Value;
use url::Url;

use super::connection::is_loopback;
use super::dates::iso_date;
use super::name::{Holder, StagePath};
use super::secret::Secret;
use super::session::Answer;
use crate::error::{Error, Result};

/// What a stage is to a store's client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    S3 {
        bucket: String,
        region: String,
        endpoint: String,
        /// Whether the endpoint has the bucket in its host, rather than before the path.
        is_virtual: bool,
    },
    Azure {
        account: String,
        container: String,
        endpoint: String,
    },
    Gcs {
        bucket: String,
        endpoint: String,
        is_virtual: bool,
    },
    /// A folder of this machine, which only a service on this machine may name.
    Folder(PathBuf),
}

/// What opens a stage's place for a while.
#[derive(Clone)]
pub(super) enum Keys {
    Aws(Arc<AwsCredential>),
    Azure(Arc<AzureCredential>),
    Gcs(Arc<GcpCredential>),
    /// Nothing: each file has a signed URL of its own.
    PerFile,
    /// Nothing is needed.
    Open,
}

/// The answer to a PUT or GET statement.
#[derive(Debug)]
pub(super) struct Transfer {
    pub(super) place: Place,
    /// Names of folders within the place.
    pub(super) prefix: Vec<String>,
    pub(super) keys: Keys,
    /// How long the keys are good for, if they say so.
    pub(super) lifetime: Option<Duration>,
    /// GET: the files that are meant.
    pub(super) sources: Vec<String>,
    /// Signed URLs: of the one file of a PUT, or of each source of a GET.
    pub(super) urls: Vec<Option<Secret>>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Keys::Aws(_) => "Aws",
            Keys::Azure(_) => "Azure",
            Keys::Gcs(_) => "Gcs",
            Keys::PerFile => "PerFile",
            Keys::Open => "Open",
        })
    }
}

impl Transfer {
    /// Reads an answer about `stage`; `is_local_service` allows what only a service on this machine may say.
    ///
    /// # Errors
    /// `Config` for stages whose files are encrypted by the client; `Storage` for an answer that is none.
    pub(super) fn read(answer: &Answer, stage: &StagePath, is_local_service: bool) -> Result<Transfer> {
        let odd = |why: &str| {
            Error::storage(format!("Snowflake's answer about the stage can't be used: {why}"))
                .with("location", stage)
                .with_hint("please report it, with the cloud and kind of the stage")
        };
        let info = Info(
            answer
                .data
                .get("stageInfo")
                .ok_or_else(|| odd("there is no stageInfo"))?,
        );
        if is_client_side_encrypted(info, &answer.data) {
            return Err(client_side_encrypted(stage));
        }
        let (place, prefix) = info.place(is_local_service).map_err(|why| odd(&why))?;
        let (keys, lifetime) = info.keys(&place, answer.date).map_err(|why| odd(&why))?;
        let texts = |key: &str| -> Vec<Option<String>> {
            let items = answer.data.get(key).and_then(Value::as_array);
            let text = |item: &Value| item.as_str().map(str::to_string);
            items
                .map(|items| items.iter().map(text).collect())
                .unwrap_or_default()
        };
        let secret = |url: String| Secret::new(url);
        let urls = match info.text("presignedUrl") {
            Some(url) => vec![Some(Secret::new(url))],
            None => texts("presignedUrls")
                .into_iter()
                .map(|url| url.map(secret))
                .collect(),
        };
        Ok(Transfer {
            place,
            prefix,
            keys,
            lifetime,
            sources: texts("src_locations").into_iter().flatten().collect(),
            urls,
        })
    }
}

impl Place {
    /// What tells the place from others: as for URLs of clouds, so that a URL that leads there is seen to.
    pub(super) fn root(&self) -> String {
        // Of the clouds' own endpoints all lead to the one store of that name.
        let at = |endpoint: &str| match endpoint.starts_with("http://") {
            true => format!("at {endpoint}"),
            false => "at ".to_string(),
        };
        match self {
            Place::S3 { bucket, endpoint, .. } => format!("AmazonS3({bucket}) {}", at(endpoint)),
            Place::Azure {
                account,
                container,
                endpoint,
            } => format!(
                "MicrosoftAzure {{ account: {account}, container: {container} }} {}",
                at(endpoint)
            ),
            Place::Gcs { bucket, endpoint, .. } => format!("GoogleCloudStorage({bucket}) {}", at(endpoint)),
            Place::Folder(_) => "file://".to_string(),
        }
    }
}

fn is_client_side_encrypted(info: Info<'_>, data: &Value) -> bool {
    let has_material = match data.get("encryptionMaterial") {
        None | Some(Value::Null) => false,
        Some(Value::Array(items)) => items.iter().any(|item| !item.is_null()),
        Some(_) => true,
    };
    has_material || info.flag("isClientSideEncrypted")
}

fn client_side_encrypted(stage: &StagePath) -> Error {
    let hint = match &stage.holder {
        Holder::User | Holder::Table(_) => {
            "the stages of users and tables are always encrypted by the client: use a named stage, made with \
             CREATE STAGE … ENCRYPTION = (TYPE = 'SNOWFLAKE_SSE')"
        }
        Holder::Stage(_) => {
            "make another stage with ENCRYPTION = (TYPE = 'SNOWFLAKE_SSE'), which is encrypted by the cloud, and copy \
             the files there; a stage's encryption can't be changed"
        }
        Holder::Url(..) => "copy the files to a named stage, made with ENCRYPTION = (TYPE = 'SNOWFLAKE_SSE')",
    };
    Error::config("the stage's files are encrypted by the client (SNOWFLAKE_FULL), which is not supported")
        .with("location", stage)
        .with_hint(hint)
}

/// The object `stageInfo`. Texts may be missing, null or empty, which is all the same.
#[derive(Clone, Copy)]
struct Info<'a>(&'a Value);

impl<'a> Info<'a> {
    fn text(self, key: &str) -> Option<&'a str> {
        self.0.get(key)?.as_str().filter(|text| !text.is_empty())
    }

    fn flag(self, key: &str) -> bool {
        self.0.get(key).and_then(Value::as_bool).unwrap_or(false)
    }

    fn credential(self, key: &str) -> Option<&'a str> {
        self.0
            .get("creds")?
            .get(key)?
            .as_str()
            .filter(|text| !text.is_empty())
    }

    fn place(self, is_local_service: bool) -> Result<(Place, Vec<String>), String> {
        let kind = self
            .text("locationType")
            .ok_or("it has no locationType")?
            .to_uppercase();
        let location = self.text("location").ok_or("it has no location")?;
        if kind == "LOCAL_FS" {
            return match is_local_service && location.starts_with('/') {
                true => Ok((Place::Folder(PathBuf::from(location)), Vec::new())),
                false => Err("it names a folder of this machine".to_string()),
            };
        }
        let (bucket, path) = location.split_once('/').unwrap_or((location, ""));
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '$');
        if bucket.is_empty() || !bucket.chars().all(is_name) {
            return Err("its location begins with no bucket or container".to_string());
        }
        let bucket = bucket.to_string();
        let place = match kind.as_str() {
            "S3" => self.s3(bucket)?,
            "AZURE" => self.azure(bucket)?,
            "GCS" => self.gcs(bucket)?,
            _ => return Err(format!("its locationType {:.20?} is unknown", kind)),
        };
        let names = path.split('/').filter(|name| !name.is_empty());
        Ok((place, names.map(str::to_string).collect()))
    }

    fn s3(self, bucket: String) -> Result<Place, String> {
        let region = self.text("region").ok_or("it has no region")?.to_string();
        let is_regional = self.flag("useS3RegionalUrl") || self.flag("useRegionalUrl");
        let (endpoint, is_virtual) = match self.text("endPoint") {
            Some(url) if url.contains("://") => (url_endpoint(url)?, false),
            _ if region.starts_with("cn-") => {
                (format!("https://{bucket}.s3.{region}.amazonaws.com.cn"), true)
            }
            Some(host) => (format!("https://{bucket}.{host}"), true),
            None if is_regional => (format!("https://{bucket}.s3.{region}.amazonaws.com"), true),
            None => (format!("https://{bucket}.s3.amazonaws.com"), true),
        };
        Ok(Place::S3 {
            bucket,
            region,
            endpoint,
            is_virtual,
        })
    }

    fn azure(self, container: String) -> Result<Place, String> {
        let account = self
            .text("storageAccount")
            .ok_or("it has no storageAccount")?
            .to_string();
        let endpoint = match self.text("endPoint") {
            Some(url) if url.contains("://") => format!("{}/{account}", url_endpoint(url)?),
            Some(host) => format!(
                "https://{account}.blob.{}",
                host.strip_prefix("blob.").unwrap_or(host)
            ),
            None => format!("https://{account}.blob.core.windows.net"),
        };
        Ok(Place::Azure {
            account,
            container,
            endpoint,
        })
    }

    fn gcs(self, bucket: String) -> Result<Place, String> {
        /// The region whose files may only be reached through its own host.
        const ALWAYS_REGIONAL: &str = "me-central2";
        let region = self.text("region").unwrap_or_default().to_lowercase();
        let is_virtual = self.flag("useVirtualUrl");
        let is_regional = region == ALWAYS_REGIONAL || (self.flag("useRegionalUrl") && !region.is_empty());
        let endpoint = match self.text("endPoint") {
            Some(url) if url.contains("://") => url_endpoint(url)?,
            Some(host) => format!("https://{}", host.trim_end_matches('/')),
            None if is_virtual => format!("https://{bucket}.storage.googleapis.com"),
            None if is_regional => format!("https://storage.{region}.rep.googleapis.com"),
            None => "https://storage.googleapis.com".to_string(),
        };
        Ok(Place::Gcs {
            bucket,
            endpoint,
            is_virtual,
        })
    }

    fn keys(self, place: &Place, now: Option<Duration>) -> Result<(Keys, Option<Duration>), String> {
        match place {
            Place::S3 { .. } => {
                let missing = "it has no AWS credentials";
                let keys = AwsCredential {
                    key_id: self.credential("AWS_KEY_ID").ok_or(missing)?.to_string(),
                    secret_key: self.credential("AWS_SECRET_KEY").ok_or(missing)?.to_string(),
                    token: self.credential("AWS_TOKEN").map(str::to_string),
                };
                Ok((Keys::Aws(Arc::new(keys)), None))
            }
            Place::Azure { .. } => {
                let token = self
                    .credential("AZURE_SAS_TOKEN")
                    .ok_or("it has no AZURE_SAS_TOKEN")?;
                let pairs = signature_pairs(token).ok_or("its AZURE_SAS_TOKEN is none")?;
                let lifetime = lifetime(&pairs, now);
                Ok((Keys::Azure(Arc::new(AzureCredential::SASToken(pairs))), lifetime))
            }
            Place::Gcs { .. } => Ok(match self.credential("GCS_ACCESS_TOKEN") {
                Some(token) => {
                    let bearer = token.to_string();
                    (Keys::Gcs(Arc::new(GcpCredential { bearer })), None)
                }
                None => (Keys::PerFile, None),
            }),
            Place::Folder(_) => Ok((Keys::Open, None)),
        }
    }
}

/// An endpoint that is a whole URL: `https://`, or this machine.
fn url_endpoint(text: &str) -> Result<String, String> {
    let url = Url::parse(text).map_err(|_| "its endPoint can't be parsed")?;
    match url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url)) {
        true => Ok(text.trim_end_matches('/').to_string()),
        false => Err("its endPoint is not https".to_string()),
    }
}

/// The names and values of a shared access signature.
fn signature_pairs(token: &str) -> Option<Vec<(String, String)>> {
    let token = token.strip_prefix('?').unwrap_or(token);
    let pairs = token.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=')?;
            let value = percent_decode_str(value).decode_utf8().ok()?;
            Some((name.to_string(), value.into_owned()))
        })
        .collect::<Option<Vec<_>>>()
        .filter(|pairs| pairs.iter().any(|(name, _)| name == "sig"))
}

/// From the server's clock (else from when the signature begins) to when it ends.
fn lifetime(pairs: &[(String, String)], now: Option<Duration>) -> Option<Duration> {
    let time = |name: &str| iso_date(&pairs.iter().find(|(key, _)| key == name)?.1);
    Some(time("se")?.saturating_sub(now.or_else(|| time("st"))?))
}

/// Where the files of a GET lie that was asked for `path`: the prefix of that path within the place.
///
/// Sources may be named from the stage's root or from the path itself. A source that begins with the end of the path
/// tells which: so many names of it are already part of the path.
pub(super) fn prefix_of_sources(transfer: &Transfer, path: &[String]) -> Option<Vec<String>> {
    let mut shared = None;
    for source in &transfer.sources {
        let names: Vec<&str> = source.split('/').filter(|name| !name.is_empty()).collect();
        let overlap = (0..=path.len().min(names.len()))
            .rev()
            .find(|count| path[path.len() - count..].iter().zip(&names).all(|(a, b)| a == b))?;
        if *shared.get_or_insert(overlap) != overlap {
            return None;
        }
    }
    let mut prefix = transfer.prefix.clone();
    // Without any source nothing is there to be misplaced.
    let shared = shared.unwrap_or(path.len());
    prefix.extend_from_slice(&path[path.len() - shared..]);
    Some(prefix)
}

#[cfg(test)]
mod tests;
