//! A session with Snowflake: it logs in when first needed, runs statements, and renews what expires.
//!
//! A session token lasts an hour or so; code 390112 says that it has expired, and the master token, which lasts longer,
//! buys a new one. When that is refused too, the way in is the one from outside again, with the token file or key as
//! they are then. However many tasks notice at once, one of them renews. Protocol: `auth/_auth.py`, `network.py` and
//! `cursor.py` of the Python connector 4.8.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tokio::sync::Mutex;
use uuid::Uuid;

use super::connection::{Connection, Login, read_identity};
use super::refusals::{advice, kind};
use super::secret::Secret;
use super::wire::{Reply, Request, Wire, pause};
use crate::config::StorageOptions;
use crate::error::{Error, Result};
use crate::redact::redact;

/// The statement is still running, and where its result will be.
const IN_PROGRESS: [&str; 2] = ["333333", "333334"];

/// The session's token has expired; the master token buys a new one.
const EXPIRED: &str = "390112";

/// The session is gone: unknown, closed or without a master token.
const GONE: [&str; 6] = ["390103", "390104", "390111", "390113", "390114", "390115"];

/// Sessions that one statement may see end before something is wrong with them.
const MOST_SESSIONS: u32 = 3;

/// A statement of ours is a look-up: longer than this, and more than one retry budget, none takes.
const LONGEST_STATEMENT: Duration = Duration::from_secs(600);

/// What Snowflake says is not repeated at any length.
const LONGEST_MESSAGE: usize = 600;

/// A connection, in use.
#[derive(Debug)]
pub(super) struct Session {
    wire: Wire,
    connection: Connection,
    tokens: Mutex<Option<Arc<Tokens>>>,
    statements: AtomicU64,
}

#[derive(Debug)]
struct Tokens {
    session: Secret,
    master: Secret,
}

/// The answer to a statement.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) data: Value,
    /// The server's clock, since 1970.
    pub(super) date: Option<Duration>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// Snowflake refuses the statement, with this code.
    Refused(String, Error),
    /// It was not even heard.
    Failed(Error),
}

impl From<Error> for NoAnswer {
    fn from(error: Error) -> NoAnswer {
        NoAnswer::Failed(error)
    }
}

impl From<NoAnswer> for Error {
    fn from(refusal: NoAnswer) -> Error {
        match refusal {
            NoAnswer::Refused(_, error) | NoAnswer::Failed(error) => error,
        }
    }
}

impl Session {
    /// Over a connection; nothing is asked yet.
    ///
    /// # Errors
    /// `Internal`.
    pub(super) fn new(connection: Connection, options: &StorageOptions) -> Result<Session> {
        Ok(Session {
            wire: Wire::new(&connection.base, options)?,
            connection,
            tokens: Mutex::new(None),
            statements: AtomicU64::new(1),
        })
    }

    /// The connection behind it.
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The way to Snowflake's host.
    pub(super) fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Runs one statement and waits for its answer.
    ///
    /// # Errors
    /// [`NoAnswer::Refused`] with Snowflake's code, or `Storage` and `Config` errors of reaching it.
    pub(super) async fn run(&self, statement: &str) -> Result<Answer, NoAnswer> {
        tracing::debug!(statement, "Snowflake");
        let id = Uuid::new_v4().to_string();
        let body = json!({
            "sqlText": statement,
            "asyncExec": false,
            "sequenceId": self.statements.fetch_add(1, Ordering::Relaxed),
            // Rows as text: what is listed needs no more.
            "parameters": {"PYTHON_CONNECTOR_QUERY_RESULT_FORMAT": "JSON"},
        });
        let started = Instant::now();
        let (mut result_path, mut looks, mut ended) = (None::<String>, 0, 0);
        loop {
            let tokens = self.tokens().await?;
            let request = match &result_path {
                None => Request {
                    path: "/queries/v1/query-request",
                    query: &[("requestId", &id)],
                    body: Some(&body),
                    token: Some(&tokens.session),
                    what: "run a statement",
                    hint: REACH,
                },
                Some(path) => Request {
                    path,
                    query: &[],
                    body: None,
                    token: Some(&tokens.session),
                    what: "wait for a statement",
                    hint: REACH,
                },
            };
            let reply = self.wire.ask(request).await?;
            let code = reply.code.as_str();
            if IN_PROGRESS.contains(&code) {
                if started.elapsed() > LONGEST_STATEMENT.max(self.wire.budget()) {
                    return Err(self.lost("does not finish a statement").into());
                }
                result_path = Some(self.result_path(&reply)?);
                tokio::time::sleep(pause(looks)).await;
                looks += 1;
            } else if code == EXPIRED || GONE.contains(&code) {
                ended += 1;
                if ended > MOST_SESSIONS {
                    return Err(self.lost("ends every session as soon as it has begun").into());
                }
                self.renew(&tokens, code == EXPIRED).await?;
            } else if reply.is_success {
                return Ok(Answer {
                    data: reply.data,
                    date: reply.date,
                });
            } else {
                let message = self.clean(&reply.message, Some(&tokens));
                let code = if code.is_empty() { "without a code" } else { code };
                let error = Error::new(kind(code), format!("Snowflake refuses: {message} ({code})"))
                    .with("connection", &self.connection.origin);
                let error = match advice(code) {
                    Some(hint) => error.with_hint(hint),
                    None => error,
                };
                return Err(NoAnswer::Refused(code.to_string(), error));
            }
        }
    }

    /// The session's tokens; logs in if there are none.
    async fn tokens(&self) -> Result<Arc<Tokens>> {
        let mut held = self.tokens.lock().await;
        if let Some(tokens) = &*held {
            return Ok(tokens.clone());
        }
        let tokens = Arc::new(self.log_in().await?);
        *held = Some(tokens.clone());
        Ok(tokens)
    }

    /// Puts other tokens in the place of `old`, unless somebody did already.
    async fn renew(&self, old: &Arc<Tokens>, may_buy: bool) -> Result<()> {
        let mut held = self.tokens.lock().await;
        if !held.as_ref().is_some_and(|tokens| Arc::ptr_eq(tokens, old)) {
            return Ok(());
        }
        if may_buy && let Some(tokens) = self.buy(old).await? {
            *held = Some(Arc::new(tokens));
            return Ok(());
        }
        tracing::debug!("Snowflake's session has ended, logging in again");
        *held = None;
        *held = Some(Arc::new(self.log_in().await?));
        Ok(())
    }

    /// A new session token for the master token, or `None` when that is refused.
    async fn buy(&self, old: &Tokens) -> Result<Option<Tokens>> {
        tracing::debug!("Snowflake's session token has expired, renewing it");
        let body = json!({"oldSessionToken": old.session.reveal(), "requestType": "RENEW"});
        let request = Request {
            path: "/session/token-request",
            query: &[("requestId", &Uuid::new_v4().to_string())],
            body: Some(&body),
            token: Some(&old.master),
            what: "renew a session",
            hint: REACH,
        };
        let reply = self.wire.ask(request).await?;
        let text = |key: &str| reply.data.get(key).and_then(Value::as_str).map(Secret::new);
        Ok(text("sessionToken")
            .filter(|_| reply.is_success)
            .map(|session| Tokens {
                session,
                master: text("masterToken").unwrap_or_else(|| old.master.clone()),
            }))
    }

    async fn log_in(&self) -> Result<Tokens> {
        let connection = &self.connection;
        let id = Uuid::new_v4().to_string();
        let mut query = vec![("requestId", id.as_str())];
        for (name, value) in [
            ("databaseName", &connection.database),
            ("schemaName", &connection.schema),
            ("warehouse", &connection.warehouse),
            ("roleName", &connection.role),
        ] {
            query.extend(value.as_deref().map(|value| (name, value)));
        }
        let (shown, body) = self.login_body()?;
        let request = Request {
            path: "/session/v1/login-request",
            query: &query,
            body: Some(&body),
            token: None,
            what: "log in",
            hint: "check host and account; a network policy or a proxy may also stand between",
        };
        let reply = self
            .wire
            .ask(request)
            .await
            .map_err(|error| error.with("connection", &connection.origin))?;
        let text = |key: &str| reply.data.get(key).and_then(Value::as_str).map(Secret::new);
        if let (true, Some(session)) = (reply.is_success, text("token")) {
            tracing::debug!(connection = connection.origin, "logged in to Snowflake");
            return Ok(Tokens {
                session,
                master: text("masterToken").unwrap_or_default(),
            });
        }
        Err(self.refused_login(&reply, &shown))
    }

    /// The body of a login, and the secret in it.
    fn login_body(&self) -> Result<(Secret, Value)> {
        let connection = &self.connection;
        let mut data = Map::new();
        let mut set = |key: &str, value: Value| data.insert(key.to_string(), value);
        set("CLIENT_APP_ID", "Floe".into());
        set("CLIENT_APP_VERSION", env!("CARGO_PKG_VERSION").into());
        set(
            "CLIENT_ENVIRONMENT",
            json!({"APPLICATION": "Floe", "OS": std::env::consts::OS}),
        );
        set("SESSION_PARAMETERS", json!({}));
        set("ACCOUNT_NAME", connection.account_name().into());
        if let Some(user) = &connection.user {
            set("LOGIN_NAME", user.as_str().into());
        }
        let secret = match &connection.login {
            Login::Password(password) => {
                set("PASSWORD", password.reveal().into());
                password.clone()
            }
            Login::KeyPair(pair) => {
                let user = connection.user.as_deref().unwrap_or_default();
                let token = pair.token(&connection.account, user)?;
                set("AUTHENTICATOR", "SNOWFLAKE_JWT".into());
                set("TOKEN", token.reveal().into());
                token
            }
            Login::Token(kind, source) => {
                let token = source.read()?;
                set("AUTHENTICATOR", kind.authenticator().into());
                set("TOKEN", token.reveal().into());
                token
            }
        };
        if let Some(identity) = connection.identity.as_deref().and_then(read_identity) {
            set("SPCS_TOKEN", identity.reveal().into());
        }
        Ok((secret, json!({"data": data})))
    }

    fn refused_login(&self, reply: &Reply, shown: &Secret) -> Error {
        let connection = &self.connection;
        let code = match reply.code.as_str() {
            "" => "without a code",
            code => code,
        };
        let what = match (
            &*reply.message,
            reply.data.get("nextAction").and_then(Value::as_str),
        ) {
            (_, Some("PWD_CHANGE")) => "the password must be changed first".to_string(),
            (_, Some(action)) if action.starts_with("EXT_AUTHN") => {
                "a second factor is asked for, which nobody is here to give".to_string()
            }
            ("", _) if reply.is_success => "it answers without a token".to_string(),
            (message, _) => shown.cut_from(&self.clean(message, None)),
        };
        let mut error = Error::new(
            kind(code),
            format!("Snowflake refuses the login: {what} ({code})"),
        )
        .with("host", self.wire.host())
        .with("account", &connection.account)
        .with("connection", &connection.origin);
        if let Some(user) = &connection.user {
            error = error.with("user", user);
        }
        let hint = match (code, &connection.login) {
            ("390144" | "394300" | "394304", Login::KeyPair(pair)) => format!(
                "the user's RSA_PUBLIC_KEY_FP (DESC USER) must be {}, and account and user those of the key",
                pair.fingerprint()
            ),
            (code, _) => advice(code)
                .unwrap_or("check account, user and what is logged in with")
                .to_string(),
        };
        error.with_hint(hint)
    }

    /// Where the result of a running statement will be: a path on the same host.
    fn result_path(&self, reply: &Reply) -> Result<String> {
        let path = reply.data.get("getResultUrl").and_then(Value::as_str);
        path.filter(|path| path.starts_with('/') && !path.starts_with("//"))
            .map(str::to_string)
            .ok_or_else(|| self.lost("says that a statement is running, but not where its result will be"))
    }

    fn lost(&self, what: &str) -> Error {
        Error::storage(format!("Snowflake {what}"))
            .with("host", self.wire.host())
            .with("connection", &self.connection.origin)
            .with_hint("start again later; if it stays, ask whoever runs the account")
    }

    /// What Snowflake says, in one line of bounded length and without secrets, those of this session first.
    fn clean(&self, message: &str, tokens: Option<&Tokens>) -> String {
        let mut text = message.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some(tokens) = tokens {
            text = tokens.master.cut_from(&tokens.session.cut_from(&text));
        }
        if let Login::Password(secret) = &self.connection.login {
            text = secret.cut_from(&text);
        }
        let mut text = redact(&text).into_owned();
        if text.chars().count() > LONGEST_MESSAGE {
            text = text.chars().take(LONGEST_MESSAGE).collect::<String>() + "…";
        }
        text
    }
}

const REACH: &str = "check the network, and that the host may be reached from here";
