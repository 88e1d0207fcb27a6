//! A service that speaks Snowflake's protocol as far as clients need it to reach stages: login, statements, renewal,
//! heartbeat; and, where told, wrongly. What it checks, it checks as Snowflake does: passwords, tokens, the signature and
//! claims of a key pair's token, session and master tokens. `connector.rs` has Snowflake's own client drive it.

mod bucket;
mod sessions;
mod statements;

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::stages::Stage;

/// The account of every gateway, its user, and that user's default place.
pub const ACCOUNT: &str = "testacct";
pub const USER: &str = "FLOE_USER";
pub const PASSWORD: &str = "pw-c4n4ry-zeile";

/// A gateway that runs until it is dropped.
pub struct Gateway {
    address: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

pub struct Shared {
    state: Mutex<State>,
    address: SocketAddr,
}

/// What the gateway knows, and how it misbehaves.
#[derive(Default)]
pub struct State {
    /// RSA public key (PKCS#1) and fingerprint of the user.
    pub public_key: Option<(Vec<u8>, String)>,
    /// OAuth and programmatic access tokens that are accepted now, with their authenticator.
    pub tokens: Vec<(&'static str, String)>,
    /// Stages by name, `DB.SCHEMA.STAGE`.
    pub stages: BTreeMap<String, Stage>,
    /// Statements that a session token is good for.
    pub token_uses: Option<usize>,
    /// Renewals are refused.
    pub is_master_refused: bool,
    /// How often a statement is said to be running before its result is there.
    pub looks: usize,
    /// What goes wrong next, by the path of the request.
    pub wrongs: Vec<(&'static str, Wrong)>,
    /// Changes the answers to PUT and GET.
    pub twist: Option<fn(&mut Value)>,
    /// Listings of several files come one row with the answer, the others in a piece behind a signed URL.
    pub is_in_pieces: bool,
    pub pieces_read: usize,
    /// So many uses of signed URLs are refused, as when their time is over.
    pub refused_urls: usize,
    /// Everything that came.
    pub seen: Vec<Seen>,
    sessions: HashMap<String, Session>,
    masters: HashMap<String, usize>,
    running: HashMap<String, (usize, Value)>,
    signed: HashMap<String, Signed>,
    pieces: HashMap<String, Vec<u8>>,
    number: usize,
}

/// A fault, once.
#[derive(Clone, Copy, Debug)]
pub enum Wrong {
    Status(u16),
    Garbage,
    Code(&'static str),
    /// The connection ends without an answer.
    Hangup,
}

/// A request that came: the last part of its path, and what it was about.
#[derive(Clone, Debug)]
pub struct Seen {
    pub route: String,
    pub what: String,
    pub query: HashMap<String, String>,
    pub body: Value,
}

#[derive(Clone, Debug)]
struct Session {
    uses: usize,
    database: Option<String>,
    schema: Option<String>,
}

#[derive(Clone, Debug)]
struct Signed {
    method: Method,
    path: std::path::PathBuf,
}

impl Gateway {
    pub fn new() -> Gateway {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            address,
        });
        runtime.spawn(accept(listener, shared.clone()));
        Gateway {
            address,
            shared,
            runtime: Some(runtime),
        }
    }

    pub fn port(&self) -> String {
        self.address.port().to_string()
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }

    /// A stage that anybody who logs in may use.
    pub fn with_stage(self, name: &str, stage: Stage) -> Gateway {
        self.state().stages.insert(name.to_string(), stage);
        self
    }

    /// How many requests came to a route.
    pub fn count(&self, route: &str) -> usize {
        self.state()
            .seen
            .iter()
            .filter(|seen| seen.route == route)
            .count()
    }

    /// The statements that came, in their order.
    pub fn statements(&self) -> Vec<String> {
        let state = self.state();
        let queries = state.seen.iter().filter(|seen| seen.route == "query-request");
        queries.map(|seen| seen.what.clone()).collect()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for seen in self.state().seen.iter().rev().take(30).rev() {
                println!("{}: {}", seen.route, seen.what);
            }
        }
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let shared = shared.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| answer(shared.clone(), request));
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // How it ends is the client's matter.
            let _ = connection.await;
        });
    }
}

/// An answer, or an error that closes the connection without one.
async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    let path = parts.uri.path().to_string();
    if path.starts_with("/bucket/") {
        return Ok(shared.bucket(&parts, &body));
    }
    let is_gzip = parts
        .headers
        .get("content-encoding")
        .is_some_and(|encoding| encoding == "gzip");
    let body = if is_gzip { unzip(&body) } else { body.to_vec() };
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let query: HashMap<String, String> =
        url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes())
            .into_owned()
            .collect();
    let authorization = parts
        .headers
        .get("authorization")
        .and_then(|value| value.to_str().ok());
    let token = authorization
        .and_then(|value| value.strip_prefix("Snowflake Token=\"")?.strip_suffix('"'))
        .unwrap_or_default()
        .to_string();
    let wrong = shared.note(&path, &query, &body);
    let mut answer = match wrong {
        Some(Wrong::Hangup) => return Err(std::io::Error::other("hung up on purpose")),
        Some(Wrong::Status(status)) => {
            let mut answer = Response::new(Full::from("c4n4ry on purpose"));
            *answer.status_mut() = StatusCode::from_u16(status).unwrap();
            return Ok(answer);
        }
        Some(Wrong::Garbage) => return Ok(Response::new(Full::from("<html>c4n4ry</html>"))),
        Some(Wrong::Code(code)) => refusal(code, "on purpose"),
        None => shared.route(&path, &query, &body, &token).await,
    };
    let fields = answer.as_object_mut().unwrap();
    for name in ["data", "code", "message"] {
        fields.entry(name).or_insert(Value::Null);
    }
    let mut answer = Response::new(Full::from(answer.to_string()));
    let headers = answer.headers_mut();
    headers.insert("content-type", "application/json".parse().unwrap());
    headers.insert("date", http_date().parse().unwrap());
    Ok(answer)
}

impl Shared {
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn note(&self, path: &str, query: &HashMap<String, String>, body: &Value) -> Option<Wrong> {
        let mut state = self.state();
        let route = path.rsplit('/').next().unwrap_or_default().to_string();
        let what = ["sqlText", "requestType"]
            .iter()
            .find_map(|key| body.get(*key)?.as_str());
        let what = what.unwrap_or(path).to_string();
        let index = state.wrongs.iter().position(|(wanted, _)| *wanted == route);
        let wrong = index.map(|index| state.wrongs.remove(index).1);
        state.seen.push(Seen {
            route,
            what,
            query: query.clone(),
            body: body.clone(),
        });
        wrong
    }

    async fn route(&self, path: &str, query: &HashMap<String, String>, body: &Value, token: &str) -> Value {
        match path {
            "/session/v1/login-request" => self.log_in(query, body),
            "/session/token-request" => self.renew(body, token),
            "/session/heartbeat" | "/session" | "/telemetry/send" => match self.state().sessions.get(token) {
                Some(_) => json!({"success": true}),
                None => refusal("390104", "User must login again to access the service."),
            },
            "/queries/v1/query-request" => self.query(body, token).await,
            path if path.starts_with("/queries/") && path.ends_with("/result") => {
                if let Some(refused) = self.use_token(token) {
                    return refused;
                }
                let id = path.trim_start_matches("/queries/").trim_end_matches("/result");
                self.result(id)
            }
            "/queries/v1/abort-request" => json!({"success": true}),
            _ => refusal("404000", "no such route"),
        }
    }
}

fn refusal(code: &str, message: &str) -> Value {
    json!({"success": false, "code": code, "message": message, "data": {"errorCode": code, "queryId": "q-0"}})
}

fn unzip(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(body)
        .read_to_end(&mut bytes)
        .unwrap();
    bytes
}

/// Now, as HTTP writes it.
fn http_date() -> String {
    let format = time::format_description::parse_borrowed::<2>(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT",
    );
    time::OffsetDateTime::now_utc().format(&format.unwrap()).unwrap()
}
