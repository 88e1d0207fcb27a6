//! A service that speaks Snowflake's protocol as far as clients need it to reach stages: login, statements, renewal,
//! heartbeat; and, where told, wrongly. What it checks, it checks as Snowflake does: passwords, tokens, the signature and
//! claims of a key pair's token, session and master tokens. `connector.rs` has Snowflake's own client drive it.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::sql::{Statement, parse};
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

    fn log_in(&self, query: &HashMap<String, String>, body: &Value) -> Value {
        let mut state = self.state();
        let data = |name: &str| body["data"][name].as_str().unwrap_or_default();
        if data("ACCOUNT_NAME") != ACCOUNT {
            return refusal("390201", "The requested account does not exist");
        }
        let token = data("TOKEN");
        let refused = match data("AUTHENTICATOR") {
            "" | "SNOWFLAKE" => {
                let is_user = data("LOGIN_NAME").eq_ignore_ascii_case(USER) && data("PASSWORD") == PASSWORD;
                (!is_user).then_some(("390100", "Incorrect username or password was specified."))
            }
            "SNOWFLAKE_JWT" => match state.check_key_pair(token) {
                Ok(()) => None,
                Err(code) => Some((code, "JWT token is invalid.")),
            },
            kind => {
                let is_known = state
                    .tokens
                    .iter()
                    .any(|(known, text)| *known == kind && text == token);
                let code = if kind == "OAUTH" { "390303" } else { "394400" };
                (!is_known).then_some((code, "the token is not accepted"))
            }
        };
        if let Some((code, message)) = refused {
            // As careless a service as can be: its message repeats what it was shown.
            return refusal(code, &format!("{message} [{}{}]", data("PASSWORD"), token));
        }
        let session = Session {
            uses: 0,
            database: query.get("databaseName").map(|name| name.to_uppercase()),
            schema: query.get("schemaName").map(|name| name.to_uppercase()),
        };
        let info = json!({
            "databaseName": session.database, "schemaName": session.schema, "warehouseName": null, "roleName": "FLOE",
        });
        let (token, master) = state.new_tokens(session);
        json!({"success": true, "data": {
            "token": token, "masterToken": master, "validityInSeconds": 3600, "masterValidityInSeconds": 14400,
            "sessionId": 17, "displayUserName": USER, "serverVersion": "9.0.0",
            "parameters": [{"name": "AUTOCOMMIT", "value": true}, {"name": "CLIENT_TELEMETRY_ENABLED", "value": false}],
            "sessionInfo": info,
        }})
    }

    fn renew(&self, body: &Value, token: &str) -> Value {
        let mut state = self.state();
        let old = body["oldSessionToken"].as_str().unwrap_or_default();
        let is_known = state.masters.remove(token).is_some();
        let session = state.sessions.remove(old);
        match (session, is_known && !state.is_master_refused) {
            (Some(mut session), true) if body["requestType"] == "RENEW" => {
                session.uses = 0;
                let (token, master) = state.new_tokens(session);
                json!({"success": true, "data": {
                    "sessionToken": token, "validityInSecondsST": 3600, "masterToken": master, "validityInSecondsMT": 14400,
                    "sessionId": 17,
                }})
            }
            _ => refusal(
                "390114",
                "Authentication token has expired. The user must authenticate again.",
            ),
        }
    }

    /// A refusal, unless the session token is good for one more request.
    fn use_token(&self, token: &str) -> Option<Value> {
        let mut state = self.state();
        let most = state.token_uses;
        let Some(session) = state.sessions.get_mut(token) else {
            return Some(refusal("390104", "User must login again to access the service."));
        };
        session.uses += 1;
        most.is_some_and(|most| session.uses > most)
            .then(|| refusal("390112", "Your session has expired. Please login again."))
    }

    async fn query(&self, body: &Value, token: &str) -> Value {
        if let Some(refused) = self.use_token(token) {
            return refused;
        }
        let text = body["sqlText"].as_str().unwrap_or_default();
        let answer = match parse(text) {
            Ok(statement) => self.run(&statement, token).await,
            Err(why) => refusal("001003", &format!("SQL compilation error: {why}")),
        };
        let mut state = self.state();
        if state.looks == 0 || answer["success"] != true {
            return answer;
        }
        state.number += 1;
        let id = format!("query-{}", state.number);
        let looks = state.looks;
        state.running.insert(id.clone(), (looks, answer));
        running(&id)
    }

    fn result(&self, id: &str) -> Value {
        let mut state = self.state();
        let Some((looks, _)) = state.running.get_mut(id) else {
            return refusal("000709", "Statement not found");
        };
        *looks -= 1;
        match *looks {
            0 => state.running.remove(id).unwrap().1,
            _ => running(id),
        }
    }

    async fn run(&self, statement: &Statement, token: &str) -> Value {
        let place = match statement {
            Statement::Select(value) => return rows(&["1"], vec![json!([value])]),
            Statement::Put { target, .. } => target,
            Statement::Get { source, .. } => source,
            Statement::List(source) | Statement::Remove(source) => source,
        };
        let (stage, name) = {
            let state = self.state();
            let session = &state.sessions[token];
            let Some(name) = place.full_name(session.database.as_deref(), session.schema.as_deref()) else {
                return refusal(
                    "090105",
                    "Cannot perform operation. This session does not have a current database.",
                );
            };
            (state.stages.get(&name).cloned(), name)
        };
        let missing = || {
            refusal(
                "002003",
                &format!("Stage '{name}' does not exist or not authorized."),
            )
        };
        let Some(stage) = stage else { return missing() };
        if !stage.may_read {
            return missing();
        }
        let writes = matches!(statement, Statement::Put { .. } | Statement::Remove(_));
        if writes && !stage.may_write {
            return refusal(
                "003001",
                "SQL access control error: Insufficient privileges to operate on stage",
            );
        }
        match statement {
            Statement::Put { file, .. } => {
                let mut data = json!({
                    "command": "UPLOAD", "src_locations": [file], "parallel": 4, "threshold": 209715200,
                    "autoCompress": !statement.says("AUTO_COMPRESS", "FALSE"), "sourceCompression": "auto_detect",
                    "overwrite": statement.says("OVERWRITE", "TRUE"), "queryId": "q-1", "clientShowEncryptionParameter": true,
                    "stageInfo": stage.info(&place.path), "encryptionMaterial": stage.material(),
                });
                if stage.is_signed() {
                    let name = file.rsplit('/').next().unwrap_or_default();
                    let path = stage.file(&format!("{}/{name}", place.path));
                    data["stageInfo"]["presignedUrl"] = self.sign(Method::PUT, path).into();
                }
                self.transferred(data)
            }
            Statement::Get { folder, .. } => {
                let files = stage.list(&place.path).await;
                let sources: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
                let materials: Vec<Value> = files.iter().map(|_| stage.material()).collect();
                let mut data = json!({
                    "command": "DOWNLOAD", "src_locations": sources, "localLocation": folder, "parallel": 4,
                    "queryId": "q-2", "stageInfo": stage.info(""), "encryptionMaterial": materials,
                });
                if stage.is_signed() {
                    let urls = sources
                        .iter()
                        .map(|source| self.sign(Method::GET, stage.file(source)));
                    data["presignedUrls"] = urls.collect::<Vec<_>>().into();
                }
                self.transferred(data)
            }
            Statement::List(_) => {
                let files = stage.list(&place.path).await;
                let begin = place.listing_prefix();
                let row = |file: super::stages::File| {
                    json!([
                        format!("{begin}{}", file.path),
                        file.size,
                        file.md5,
                        file.modified
                    ])
                };
                let rows = rows(
                    &["name", "size", "md5", "last_modified"],
                    files.into_iter().map(row).collect(),
                );
                self.in_pieces(rows)
            }
            Statement::Remove(_) => {
                let files = stage.list(&place.path).await;
                for file in &files {
                    stage.remove(&file.path).await;
                }
                let row = |file: super::stages::File| json!([file.path, "removed"]);
                rows(&["name", "result"], files.into_iter().map(row).collect())
            }
            Statement::Select(_) => unreachable!("answered above"),
        }
    }

    fn transferred(&self, mut data: Value) -> Value {
        if let Some(twist) = self.state().twist {
            twist(&mut data);
        }
        json!({"success": true, "data": data})
    }

    /// All rows but the first behind a URL, as Snowflake does with long results.
    fn in_pieces(&self, mut answer: Value) -> Value {
        let mut state = self.state();
        let rows = answer["data"]["rowset"].as_array_mut().unwrap();
        if !state.is_in_pieces || rows.len() < 2 {
            return answer;
        }
        let rest = Value::from(rows.split_off(1)).to_string();
        let count = answer["data"]["total"].as_u64().unwrap() - 1;
        // A list without its brackets.
        let text = &rest.as_bytes()[1..rest.len() - 1];
        state.number += 1;
        let signature = format!("c4n4ry{}", state.number);
        let url = format!(
            "http://{}/bucket/piece?X-Goog-Signature={signature}",
            self.address
        );
        state.pieces.insert(signature, zip(text));
        let data = &mut answer["data"];
        data["returned"] = 1.into();
        data["chunks"] =
            json!([{"url": url, "rowCount": count, "uncompressedSize": text.len(), "compressedSize": 1}]);
        data["chunkHeaders"] = json!({"x-piece-key": "c4n4ry"});
        answer
    }

    /// A URL good for one method and one file.
    fn sign(&self, method: Method, path: std::path::PathBuf) -> String {
        let mut state = self.state();
        state.number += 1;
        let signature = format!("c4n4ry{}", state.number);
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let name: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
        let url = format!(
            "http://{}/bucket/{name}?X-Goog-Signature={signature}",
            self.address
        );
        state.signed.insert(signature, Signed { method, path });
        url
    }

    /// The store behind signed URLs.
    fn bucket(&self, parts: &hyper::http::request::Parts, body: &Bytes) -> Response<Full<Bytes>> {
        let mut answer = Response::new(Full::default());
        let query = parts.uri.query().unwrap_or_default();
        let signature = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("X-Goog-Signature="));
        if let Some(piece) = signature.and_then(|signature| self.state().pieces.get(signature).cloned()) {
            let has_key = parts
                .headers
                .get("x-piece-key")
                .is_some_and(|key| key == "c4n4ry");
            assert!(
                has_key,
                "a piece is asked for without the headers that were given"
            );
            self.state().pieces_read += 1;
            answer
                .headers_mut()
                .insert("content-encoding", "gzip".parse().unwrap());
            *answer.body_mut() = Full::from(piece);
            return answer;
        }
        let signed = signature.and_then(|signature| self.state().signed.get(signature).cloned());
        let is_over = {
            let mut state = self.state();
            let is_over = state.refused_urls > 0;
            state.refused_urls = state.refused_urls.saturating_sub(1);
            is_over
        };
        let Some(signed) = signed.filter(|signed| signed.method == parts.method && !is_over) else {
            *answer.status_mut() = StatusCode::BAD_REQUEST;
            return answer;
        };
        if parts.method == Method::PUT {
            std::fs::create_dir_all(signed.path.parent().unwrap()).unwrap();
            std::fs::write(&signed.path, body).unwrap();
            return answer;
        }
        let Ok(bytes) = std::fs::read(&signed.path) else {
            *answer.status_mut() = StatusCode::NOT_FOUND;
            return answer;
        };
        let range = parts
            .headers
            .get("range")
            .and_then(|range| range.to_str().ok()?.strip_prefix("bytes="));
        if let Some((first, last)) = range.and_then(|range| range.split_once('-')) {
            let first: usize = first.parse().unwrap();
            let end = last
                .parse()
                .map_or(bytes.len(), |last: usize| bytes.len().min(last + 1));
            let range = format!("bytes {first}-{}/{}", end - 1, bytes.len());
            *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
            answer
                .headers_mut()
                .insert("content-range", range.parse().unwrap());
            *answer.body_mut() = Full::from(bytes[first..end].to_vec());
        } else {
            *answer.body_mut() = Full::from(bytes);
        }
        answer
    }
}

impl State {
    fn new_tokens(&mut self, session: Session) -> (String, String) {
        self.number += 1;
        let token = format!("ver:1-hint:17-c4n4ry-session-{}", self.number);
        let master = format!("ver:1-hint:17-c4n4ry-master-{}", self.number);
        self.sessions.insert(token.clone(), session);
        self.masters.insert(master.clone(), self.number);
        (token, master)
    }

    /// Forgets every session, as when an administrator ends them.
    pub fn end_sessions(&mut self) {
        self.sessions.clear();
        self.masters.clear();
    }

    /// Whether a token is signed by the user's key, names it, and is of now; else Snowflake's code.
    fn check_key_pair(&self, token: &str) -> Result<(), &'static str> {
        let (key, fingerprint) = self.public_key.as_ref().ok_or("394304")?;
        let parts: Vec<&str> = token.split('.').collect();
        let [head, claims, signature] = parts[..] else {
            return Err("394306");
        };
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| "394306");
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key);
        public
            .verify(format!("{head}.{claims}").as_bytes(), &decode(signature)?)
            .map_err(|_| "394304")?;
        let head: Value = serde_json::from_slice(&decode(head)?).map_err(|_| "394306")?;
        let claims: Value = serde_json::from_slice(&decode(claims)?).map_err(|_| "394306")?;
        let subject = format!("{}.{USER}", ACCOUNT.to_uppercase());
        if head["alg"] != "RS256" {
            return Err("394305");
        }
        if claims["sub"] != *subject || claims["iss"] != *format!("{subject}.{fingerprint}") {
            return Err("394304");
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        match (claims["iat"].as_u64(), claims["exp"].as_u64()) {
            (Some(issued), Some(end)) if issued <= now + 5 && now <= end && end <= issued + 3600 => Ok(()),
            _ => Err("394301"),
        }
    }
}

fn refusal(code: &str, message: &str) -> Value {
    json!({"success": false, "code": code, "message": message, "data": {"errorCode": code, "queryId": "q-0"}})
}

fn running(id: &str) -> Value {
    json!({"success": true, "code": "333334", "message": "Query execution in progress.", "data": {
        "queryId": id, "getResultUrl": format!("/queries/{id}/result"), "queryAbortsAfterSecs": 300,
    }})
}

fn rows(names: &[&str], rows: Vec<Value>) -> Value {
    let column = |name: &&str| {
        json!({
            "name": name, "type": "text", "nullable": true, "length": 16777216, "byteLength": 16777216, "precision": null,
            "scale": null, "database": "", "schema": "", "table": "",
        })
    };
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_string);
    let row = |row: &Value| row.as_array().unwrap().iter().map(text).collect::<Vec<_>>();
    let rows: Vec<Vec<String>> = rows.iter().map(row).collect();
    json!({"success": true, "data": {
        "rowtype": names.iter().map(column).collect::<Vec<_>>(), "total": rows.len(), "returned": rows.len(),
        "rowset": rows, "queryId": "q-3", "queryResultFormat": "json", "parameters": [], "statementTypeId": 4096,
        "finalDatabaseName": null, "finalSchemaName": null,
    }})
}

fn zip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
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
