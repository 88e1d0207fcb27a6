//! Buckets behind stages, on moto's S3 server and on Azurite, and the keys that the gateway lends for them.
//!
//! Azurite checks shared access signatures itself, and until when they are good. Before moto stands a gate that lets
//! only those in whom the gateway lent keys: it checks key and token of each request and that it stays within the
//! stage's prefix; keys can end after a number of requests. For Google it also translates: bearer tokens, generations,
//! encoded paths.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use object_store::ObjectStore;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::stores;
use crate::stores::servers::{self, AZURE_ACCOUNT, AZURE_KEY, Guard};

/// Whose cloud a bucket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cloud {
    Amazon,
    Azure,
    Google,
}

impl Cloud {
    pub const ALL: [Cloud; 3] = [Cloud::Amazon, Cloud::Azure, Cloud::Google];
}

/// A bucket and its gate.
pub struct Bucket {
    pub name: String,
    pub cloud: Cloud,
    /// Past the gate.
    pub store: Arc<dyn ObjectStore>,
    gate: Arc<Gate>,
    runtime: Option<Runtime>,
    _server: Guard,
}

struct Gate {
    address: SocketAddr,
    upstream: String,
    cloud: Cloud,
    client: reqwest::Client,
    state: Mutex<Keys>,
}

#[derive(Default)]
struct Keys {
    number: usize,
    /// How often each key was used, and the prefix that it is for.
    lent: HashMap<String, (usize, String)>,
    /// What a key is good for.
    uses: Option<usize>,
    /// Of Azure's signatures.
    lifetime: Option<Duration>,
    refused: usize,
}

impl Bucket {
    /// A new bucket; `None` where its server can't run here.
    pub fn new(cloud: Cloud) -> Option<Arc<Bucket>> {
        let name = format!("sfc-{}", uuid::Uuid::new_v4());
        let (server, kind) = match cloud {
            Cloud::Azure => (servers::azurite()?, stores::Cloud::Azure),
            _ => (servers::moto(), stores::Cloud::S3),
        };
        stores::make_bucket(kind, &server.address, &name);
        let store: Arc<dyn ObjectStore> = match cloud {
            Cloud::Azure => Arc::new(
                MicrosoftAzureBuilder::new()
                    .with_endpoint(format!("http://{}/{AZURE_ACCOUNT}", server.address))
                    .with_account(AZURE_ACCOUNT)
                    .with_access_key(AZURE_KEY)
                    .with_container_name(&name)
                    .with_allow_http(true)
                    .build()
                    .unwrap(),
            ),
            _ => Arc::new(
                AmazonS3Builder::new()
                    .with_endpoint(format!("http://{}", server.address))
                    .with_bucket_name(&name)
                    .with_access_key_id("direct")
                    .with_secret_access_key("direct")
                    .with_allow_http(true)
                    .build()
                    .unwrap(),
            ),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let gate = Arc::new(Gate {
            address: listener.local_addr().unwrap(),
            upstream: format!("http://{}", server.address),
            cloud,
            client: reqwest::Client::builder().no_proxy().no_gzip().build().unwrap(),
            state: Mutex::default(),
        });
        runtime.spawn(accept(listener, gate.clone()));
        Some(Arc::new(Bucket {
            name,
            cloud,
            store,
            gate,
            runtime: Some(runtime),
            _server: server,
        }))
    }

    /// `stageInfo` with fresh keys for `location`.
    pub fn info(&self, location: &str) -> Value {
        let mut keys = self.gate.state.lock().unwrap();
        keys.number += 1;
        let key = match self.cloud {
            Cloud::Amazon => format!("AKIAC4N4RY{:010}", keys.number),
            Cloud::Azure => signature(&self.name, keys.lifetime.unwrap_or(Duration::from_secs(3600))),
            Cloud::Google => format!("ya29.c4n4ry{:010}", keys.number),
        };
        keys.lent.insert(key.clone(), (0, location.to_string()));
        let endpoint = format!("http://{}", self.gate.address);
        match self.cloud {
            Cloud::Amazon => json!({
                "locationType": "S3", "location": location, "region": "us-west-2", "endPoint": endpoint,
                "useS3RegionalUrl": false,
                "creds": {
                    "AWS_KEY_ID": key, "AWS_ID": key, "AWS_SECRET_KEY": "c4n4ry/secret", "AWS_KEY": "c4n4ry/secret",
                    "AWS_TOKEN": format!("token-of-{key}"),
                },
            }),
            Cloud::Azure => json!({
                "locationType": "AZURE", "location": location, "region": "westus2", "endPoint": endpoint,
                "storageAccount": AZURE_ACCOUNT, "creds": {"AZURE_SAS_TOKEN": key},
            }),
            Cloud::Google => json!({
                "locationType": "GCS", "location": location, "region": "us-west1", "endPoint": endpoint,
                "creds": {"GCS_ACCESS_TOKEN": key},
            }),
        }
    }

    /// From now on signatures of Azure's are good for so long.
    pub fn limit_lifetime(&self, lifetime: Duration) {
        self.gate.state.lock().unwrap().lifetime = Some(lifetime);
    }

    /// Ends every key that is out.
    pub fn end_keys(&self) {
        self.gate.state.lock().unwrap().lent.clear();
    }

    /// Where its objects are, for whoever has a signature.
    pub fn url(&self) -> String {
        let account = if self.cloud == Cloud::Azure {
            format!("/{AZURE_ACCOUNT}")
        } else {
            String::new()
        };
        format!("http://{}{account}/{}", self.gate.address, self.name)
    }

    /// Every key that was lent.
    pub fn keys(&self) -> Vec<String> {
        self.gate.state.lock().unwrap().lent.keys().cloned().collect()
    }

    /// From now on each key is good for so many requests.
    pub fn limit_uses(&self, uses: usize) {
        self.gate.state.lock().unwrap().uses = Some(uses);
    }

    /// How many keys were lent, and how many requests came with one that had ended.
    pub fn lent_and_refused(&self) -> (usize, usize) {
        let keys = self.gate.state.lock().unwrap();
        (keys.number, keys.refused)
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn accept(listener: TcpListener, gate: Arc<Gate>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let gate = gate.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| answer(gate.clone(), request));
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // How it ends is the client's matter.
            let _ = connection.await;
        });
    }
}

async fn answer(
    gate: Arc<Gate>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let (mut parts, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    if let Some((status, code)) = gate.refuses(&parts) {
        let text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>on purpose</Message></Error>"
        );
        let mut answer = Response::new(Full::from(text));
        *answer.status_mut() = status;
        return Ok(answer);
    }
    let mut path = parts.uri.path_and_query().unwrap().to_string();
    if gate.cloud == Cloud::Google {
        // A client of Google's encodes what S3's leaves as it is.
        path = path.replace("%2F", "/").replace("%2D", "-");
        // What comes unsigned, moto takes for a stranger's.
        let signed = "AWS4-HMAC-SHA256 Credential=direct/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
        parts.headers.insert("authorization", signed.parse().unwrap());
        if parts.headers.remove("x-goog-if-generation-match").is_some() {
            parts.headers.insert("if-none-match", "*".parse().unwrap());
        }
    }
    let mut forwarded = reqwest::Request::new(
        parts.method.clone(),
        format!("{}{path}", gate.upstream).parse().unwrap(),
    );
    *forwarded.headers_mut() = parts.headers;
    *forwarded.body_mut() = Some(body.into());
    let answered = gate
        .client
        .execute(forwarded)
        .await
        .map_err(std::io::Error::other)?;
    let (status, mut headers) = (answered.status(), answered.headers().clone());
    headers.remove("transfer-encoding");
    headers.remove("connection");
    if gate.cloud == Cloud::Google && headers.contains_key("etag") {
        headers.insert("x-goog-generation", "1".parse().unwrap());
    }
    let body = answered.bytes().await.map_err(std::io::Error::other)?;
    let mut answer = Response::new(Full::from(body));
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    Ok(answer)
}

impl Gate {
    fn refuses(&self, parts: &Parts) -> Option<(StatusCode, &'static str)> {
        if self.cloud == Cloud::Azure {
            return None;
        }
        let header = |name: &str| {
            parts
                .headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
        };
        let authorization = header("authorization");
        let key = match self.cloud {
            Cloud::Amazon => authorization
                .split("Credential=")
                .nth(1)
                .and_then(|rest| rest.split('/').next()),
            Cloud::Azure | Cloud::Google => authorization.strip_prefix("Bearer "),
        };
        let key = key.unwrap_or_default();
        let mut keys = self.state.lock().unwrap();
        let has_token =
            self.cloud == Cloud::Google || header("x-amz-security-token") == format!("token-of-{key}");
        let most = keys.uses.unwrap_or(usize::MAX);
        let Some((uses, location)) = keys.lent.get_mut(key).filter(|_| has_token) else {
            keys.refused += 1;
            return Some(self.expired());
        };
        *uses += 1;
        let is_over = *uses > most;
        let is_within = within(parts, location);
        if is_over {
            keys.refused += 1;
            return Some(self.expired());
        }
        (!is_within).then_some((StatusCode::FORBIDDEN, "AccessDenied"))
    }

    fn expired(&self) -> (StatusCode, &'static str) {
        match self.cloud {
            Cloud::Amazon => (StatusCode::BAD_REQUEST, "ExpiredToken"),
            Cloud::Azure | Cloud::Google => (StatusCode::UNAUTHORIZED, "AuthenticationRequired"),
        }
    }
}

/// Whether a request stays within `bucket/prefix/`.
fn within(parts: &Parts, location: &str) -> bool {
    let path = percent_decode_str(parts.uri.path())
        .decode_utf8_lossy()
        .into_owned();
    let path = path.trim_start_matches('/');
    let query = parts.uri.query().unwrap_or_default();
    let listed = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "prefix");
    let bucket = location.split('/').next().unwrap();
    match listed {
        Some((_, prefix)) => format!("{bucket}/{prefix}").starts_with(location),
        // Deleting many names them in the body.
        None if query == "delete" => path == bucket,
        None => path.starts_with(location),
    }
}

/// A shared access signature for a container, signed with Azurite's key
/// (learn.microsoft.com/rest/api/storageservices/create-service-sas).
fn signature(container: &str, lifetime: Duration) -> String {
    let format =
        time::format_description::parse_borrowed::<2>("[year]-[month]-[day]T[hour]:[minute]:[second]Z")
            .unwrap();
    let end = (time::OffsetDateTime::now_utc() + lifetime)
        .format(&format)
        .unwrap();
    let (permissions, version) = ("racwdl", "2021-12-02");
    let resource = format!("/blob/{AZURE_ACCOUNT}/{container}");
    let text = format!("{permissions}\n\n{end}\n{resource}\n\n\n\n{version}\nc\n\n\n\n\n\n\n");
    let key = hmac::Key::new(hmac::HMAC_SHA256, &BASE64_STANDARD.decode(AZURE_KEY).unwrap());
    let signature = BASE64_STANDARD.encode(hmac::sign(&key, text.as_bytes()));
    let mut token = url::form_urlencoded::Serializer::new(String::from("?"));
    for (name, value) in [
        ("sv", version),
        ("sr", "c"),
        ("sp", permissions),
        ("se", &end),
        ("sig", &signature),
    ] {
        token.append_pair(name, value);
    }
    token.finish()
}
