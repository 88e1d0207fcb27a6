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
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use serde_json::json;

    fn read(data: Value) -> Result<Transfer> {
        read_at(data, "@db.s.st")
    }

    fn read_at(data: Value, stage: &str) -> Result<Transfer> {
        let date = iso_date("2026-11-21T10:00:00Z");
        Transfer::read(&Answer { data, date }, &StagePath::parse(stage).unwrap(), true)
    }

    fn s3(more: Value) -> Value {
        let mut info = json!({
            "locationType": "S3", "location": "bucket/stages/id/", "region": "us-west-2", "endPoint": null,
            "isClientSideEncrypted": false,
            "creds": {"AWS_KEY_ID": "AK", "AWS_SECRET_KEY": "c4n4ry", "AWS_TOKEN": "c4n4ry"},
        });
        info.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        json!({"command": "UPLOAD", "src_locations": ["/x"], "stageInfo": info, "encryptionMaterial": null})
    }

    #[test]
    fn endpoints_of_s3_follow_as_in_the_connector() {
        for (more, expected) in [
            (json!({}), "https://bucket.s3.amazonaws.com"),
            (
                json!({"useS3RegionalUrl": true}),
                "https://bucket.s3.us-west-2.amazonaws.com",
            ),
            (
                json!({"useRegionalUrl": true}),
                "https://bucket.s3.us-west-2.amazonaws.com",
            ),
            (
                json!({"region": "cn-north-1"}),
                "https://bucket.s3.cn-north-1.amazonaws.com.cn",
            ),
            (
                json!({"endPoint": "s3-fips.us-west-2.amazonaws.com"}),
                "https://bucket.s3-fips.us-west-2.amazonaws.com",
            ),
            (
                json!({"endPoint": "http://127.0.0.1:5000/"}),
                "http://127.0.0.1:5000",
            ),
        ] {
            let transfer = read(s3(more)).unwrap();
            let Place::S3 {
                endpoint, is_virtual, ..
            } = &transfer.place
            else {
                panic!()
            };
            assert_eq!(endpoint, expected);
            assert_eq!(*is_virtual, !expected.starts_with("http:"));
            assert_eq!(transfer.prefix.join("/"), "stages/id");
            assert!(!format!("{transfer:?}").contains("c4n4ry"));
        }
    }

    #[test]
    fn azure_says_until_when_its_signature_is_good() {
        let azure = |end_point: Value, token: &str| {
            json!({"stageInfo": {
                "locationType": "AZURE", "location": "container/stages/id", "storageAccount": "acct",
                "endPoint": end_point, "creds": {"AZURE_SAS_TOKEN": token},
            }})
        };
        let token = "?sv=2024&st=2026-11-21T09%3A00%3A00Z&se=2026-11-21T11%3A30%3A00Z&sig=c4n4ry%2Bx%3D";
        for (end_point, expected) in [
            (
                json!("blob.core.windows.net"),
                "https://acct.blob.core.windows.net",
            ),
            (json!("core.windows.net"), "https://acct.blob.core.windows.net"),
            (json!(null), "https://acct.blob.core.windows.net"),
            (json!("http://127.0.0.1:10000"), "http://127.0.0.1:10000/acct"),
        ] {
            let transfer = read(azure(end_point, token)).unwrap();
            let Place::Azure { endpoint, .. } = &transfer.place else {
                panic!()
            };
            assert_eq!(endpoint, expected);
            assert_eq!(transfer.lifetime, Some(Duration::from_secs(5400)));
            let Keys::Azure(keys) = &transfer.keys else {
                panic!()
            };
            let AzureCredential::SASToken(pairs) = &**keys else {
                panic!()
            };
            assert_eq!(pairs.last().unwrap().1, "c4n4ry+x=");
            assert!(!format!("{transfer:?}").contains("c4n4ry"));
        }
        let error = read(azure(json!(null), "c4n4ry")).unwrap_err().to_string();
        assert!(
            error.contains("AZURE_SAS_TOKEN is none") && !error.contains("c4n4ry"),
            "{error}"
        );
    }

    #[test]
    fn gcs_has_a_token_or_a_signed_url_for_each_file() {
        let gcs = |more: Value| {
            let mut info = json!({"locationType": "GCS", "location": "bucket/stages/id/", "creds": {"GCS_ACCESS_TOKEN": "t"}});
            info.as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            json!({"stageInfo": info})
        };
        for (more, expected) in [
            (json!({}), "https://storage.googleapis.com"),
            (
                json!({"region": "ME-CENTRAL2"}),
                "https://storage.me-central2.rep.googleapis.com",
            ),
            (json!({"region": "us-west1"}), "https://storage.googleapis.com"),
            (
                json!({"region": "us-west1", "useRegionalUrl": true}),
                "https://storage.us-west1.rep.googleapis.com",
            ),
            (
                json!({"useVirtualUrl": true}),
                "https://bucket.storage.googleapis.com",
            ),
            (
                json!({"endPoint": "storage.example.com/"}),
                "https://storage.example.com",
            ),
        ] {
            let transfer = read(gcs(more)).unwrap();
            let Place::Gcs { endpoint, .. } = &transfer.place else {
                panic!()
            };
            assert_eq!(endpoint, expected);
            assert!(matches!(transfer.keys, Keys::Gcs(_)));
        }
        let signed = read(gcs(
            json!({"creds": {}, "presignedUrl": "https://h/x?sig=c4n4ry"}),
        ))
        .unwrap();
        assert!(matches!(signed.keys, Keys::PerFile));
        assert_eq!(signed.urls.len(), 1);
        assert!(!format!("{signed:?}").contains("c4n4ry"));
    }

    #[test]
    fn files_encrypted_by_the_client_are_refused_with_what_to_do() {
        for (stage, remedy) in [
            ("@db.s.st", "ENCRYPTION = (TYPE = 'SNOWFLAKE_SSE')"),
            ("@~", "use a named stage"),
            ("@%t", "use a named stage"),
        ] {
            let mut with_material = s3(json!({}));
            with_material["encryptionMaterial"] =
                json!({"queryStageMasterKey": "c4n4ry", "queryId": "q", "smkId": 1});
            let mut of_get = s3(json!({}));
            of_get["encryptionMaterial"] = json!([null, {"queryStageMasterKey": "c4n4ry"}]);
            for data in [with_material, of_get, s3(json!({"isClientSideEncrypted": true}))] {
                let error = read_at(data, stage).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Config);
                assert!(
                    error.to_string().contains(remedy) && !error.to_string().contains("c4n4ry"),
                    "{error}"
                );
            }
        }
        let mut of_get = s3(json!({}));
        of_get["encryptionMaterial"] = json!([null, null]);
        read(of_get).unwrap();
    }

    #[test]
    fn an_answer_that_makes_no_sense_is_refused_in_words() {
        for (data, reason) in [
            (json!({}), "no stageInfo"),
            (json!({"stageInfo": {}}), "no locationType"),
            (json!({"stageInfo": {"locationType": "S3"}}), "no location"),
            (s3(json!({"locationType": "TAPE"})), "\"TAPE\" is unknown"),
            (s3(json!({"location": "/x"})), "no bucket"),
            (s3(json!({"location": "b@evil/x"})), "no bucket"),
            (s3(json!({"region": ""})), "no region"),
            (s3(json!({"creds": {}})), "no AWS credentials"),
            (s3(json!({"creds": null})), "no AWS credentials"),
            (s3(json!({"endPoint": "http://evil.example.com"})), "not https"),
            (
                s3(json!({"locationType": "LOCAL_FS", "location": "relative"})),
                "folder of this machine",
            ),
        ] {
            let error = read(data).unwrap_err().to_string();
            assert!(error.contains(reason), "{reason}: {error}");
        }
        let folder = s3(json!({"locationType": "LOCAL_FS", "location": "/tmp/x"}));
        assert_eq!(
            read(folder.clone()).unwrap().place,
            Place::Folder("/tmp/x".into())
        );
        let answer = Answer {
            data: folder,
            date: None,
        };
        assert!(Transfer::read(&answer, &StagePath::parse("@s").unwrap(), false).is_err());
    }

    #[test]
    fn sources_are_found_whether_named_from_the_stage_or_from_the_path() {
        let prefix = |sources: &[&str], path: &[&str]| {
            let mut transfer = read(s3(json!({}))).unwrap();
            transfer.sources = sources.iter().map(|source| source.to_string()).collect();
            let path: Vec<String> = path.iter().map(|name| name.to_string()).collect();
            prefix_of_sources(&transfer, &path).map(|prefix| prefix.join("/"))
        };
        let found = |text: &str| Some(text.to_string());
        assert_eq!(
            prefix(&["in/a.parquet", "in/x/b.parquet"], &["in"]),
            found("stages/id/in")
        );
        assert_eq!(prefix(&["a.parquet"], &["in"]), found("stages/id"));
        assert_eq!(
            prefix(&["versions/V1/m.onnx"], &["versions", "V1"]),
            found("stages/id/versions/V1")
        );
        assert_eq!(prefix(&["V1/m.onnx"], &["versions", "V1"]), found("stages/id/V1"));
        assert_eq!(
            prefix(&["in/a.parquet"], &["in", "a.parquet"]),
            found("stages/id/in/a.parquet")
        );
        assert_eq!(prefix(&["in/a", "b"], &["in"]), None);
        assert_eq!(prefix(&[], &["in"]), found("stages/id/in"));
        assert_eq!(prefix(&["a"], &[]), found("stages/id"));
    }
}
