//! Requests to Snowflake: JSON over HTTP, repeated while what goes wrong may pass.
//!
//! What is repeated (no connection, 5xx, 408, 429, an answer that is no JSON) and how a repetition is told
//! (`retryCount`, a `request_guid` of its own under the same `requestId`) follows the Python connector's `network.py`.
//! No error repeats a URL, a header or a body.

use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE, HeaderName, USER_AGENT};
use reqwest::{Method, Response, StatusCode, redirect};
use serde_json::Value;
use url::Url;
use uuid::Uuid;

use super::connection::is_loopback;
use super::dates::http_date;
use super::secret::Secret;
use crate::config::StorageOptions;
use crate::error::{Error, ErrorKind, Result, ResultExt};

/// Snowflake answers a statement that takes longer than 45 s with a ticket: silence may last so long.
const LEAST_PATIENCE: Duration = Duration::from_secs(60);

/// The first pause before a repetition; each further one is twice as long, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// An answer that is no JSON is asked for again only so often: what gives it is rarely Snowflake.
const MOST_GARBAGE: u32 = 3;

/// Answers are small, listings come in pieces: a larger one is no answer.
const MOST_BYTES: usize = 256 << 20;

/// How Snowflake says that it does not know a session's token.
const UNKNOWN_TOKEN: &str = "390104";

/// Redirects that are followed, within Snowflake.
const MOST_REDIRECTS: usize = 5;

/// The way to one host.
#[derive(Clone, Debug)]
pub(super) struct Wire {
    client: reqwest::Client,
    base: Url,
    budget: Duration,
}

/// What is asked.
pub(super) struct Request<'a> {
    /// Path, and query if it has one, from the host's root.
    pub(super) path: &'a str,
    pub(super) query: &'a [(&'a str, &'a str)],
    /// `None`: a GET.
    pub(super) body: Option<&'a Value>,
    pub(super) token: Option<&'a Secret>,
    /// What the request is, for messages.
    pub(super) what: &'static str,
    /// Said once it fails for good without an answer of Snowflake's own.
    pub(super) hint: &'static str,
}

/// Snowflake's answer to anything.
#[derive(Debug, Default)]
pub(super) struct Reply {
    pub(super) is_success: bool,
    pub(super) code: String,
    pub(super) message: String,
    pub(super) data: Value,
    /// The server's clock, since 1970.
    pub(super) date: Option<Duration>,
}

/// A failed attempt.
enum Fault {
    Final(Error),
    Passing(Error),
    Garbage(Error),
}

impl Wire {
    /// A client of the host at `base`, patient as the job says.
    ///
    /// # Errors
    /// `Internal` when no client can be made.
    pub(super) fn new(base: &Url, options: &StorageOptions) -> Result<Wire> {
        let host = base.host_str().unwrap_or_default().to_string();
        let follow = redirect::Policy::custom(move |attempt| {
            let is_ours = attempt.url().scheme() == "https"
                && attempt.url().host_str().is_some_and(|next| {
                    next == host
                        || next.ends_with(".snowflakecomputing.com")
                        || next.ends_with(".snowflakecomputing.cn")
                });
            match is_ours && attempt.previous().len() <= MOST_REDIRECTS {
                true => attempt.follow(),
                false => attempt.stop(),
            }
        });
        let client = reqwest::Client::builder()
            .redirect(follow)
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(options.stall.max(LEAST_PATIENCE))
            .build()
            .context(ErrorKind::Internal, "can't make an HTTP client")?;
        Ok(Wire {
            client,
            base: base.clone(),
            budget: options.retry,
        })
    }

    /// Asks until there is an answer or the time for repetitions is spent.
    ///
    /// # Errors
    /// `Storage`.
    pub(super) async fn ask(&self, request: Request<'_>) -> Result<Reply> {
        let started = Instant::now();
        let (mut repetitions, mut garbage) = (0, 0);
        loop {
            let error = match self.attempt(&request, repetitions).await {
                Ok(reply) => return Ok(reply),
                Err(Fault::Final(error)) => return Err(error),
                Err(Fault::Garbage(error)) if garbage == MOST_GARBAGE => return Err(error),
                Err(Fault::Garbage(error)) => {
                    garbage += 1;
                    error
                }
                Err(Fault::Passing(error)) => error,
            };
            let pause = pause(repetitions);
            if started.elapsed() + pause > self.budget {
                return Err(error);
            }
            repetitions += 1;
            tracing::debug!(repetitions, "asking Snowflake again: {error}");
            tokio::time::sleep(pause).await;
        }
    }

    async fn attempt(&self, request: &Request<'_>, repetitions: u32) -> Result<Reply, Fault> {
        let failed = |error: reqwest::Error| {
            let error = Error::storage(format!("can't reach Snowflake to {}", request.what))
                .with_source(error.without_url())
                .with("host", self.host())
                .with_hint(request.hint);
            Fault::Passing(error)
        };
        let mut response = self.build(request, repetitions)?.send().await.map_err(failed)?;
        let date = response
            .headers()
            .get(DATE)
            .and_then(|date| http_date(date.to_str().ok()?));
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > MOST_BYTES {
                return Err(Fault::Final(
                    self.error(request, "answers without end".to_string()),
                ));
            }
            body.extend_from_slice(&chunk);
        }
        let reply = Reply::read(&body, date);
        self.judge(request, &response, reply)
    }

    fn build(&self, request: &Request<'_>, repetitions: u32) -> Result<reqwest::RequestBuilder, Fault> {
        let odd = |_| Fault::Final(self.error(request, "names a result by what is no path".to_string()));
        let mut url = self.base.join(request.path).map_err(odd)?;
        if url.origin() != self.base.origin() {
            return Err(odd(url::ParseError::InvalidDomainCharacter));
        }
        let guid = Uuid::new_v4().to_string();
        let count = repetitions.to_string();
        for (name, value) in request.query {
            url.query_pairs_mut().append_pair(name, value);
        }
        if repetitions > 0 {
            url.query_pairs_mut().append_pair("retryCount", &count);
        }
        url.query_pairs_mut().append_pair("request_guid", &guid);
        let method = if request.body.is_some() {
            Method::POST
        } else {
            Method::GET
        };
        let mut builder = self
            .client
            .request(method, url)
            .header(ACCEPT, "application/snowflake")
            .header(USER_AGENT, concat!("Floe/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = request.token {
            builder = builder.header(AUTHORIZATION, format!("Snowflake Token=\"{}\"", token.reveal()));
        }
        if let Some(body) = request.body {
            builder = builder
                .header(CONTENT_TYPE, "application/json")
                .body(body.to_string());
        }
        Ok(builder)
    }

    /// Whether an answer is Snowflake's, and if not whether asking again may help.
    fn judge(
        &self,
        request: &Request<'_>,
        response: &Response,
        reply: Option<Reply>,
    ) -> Result<Reply, Fault> {
        let status = response.status();
        match reply {
            _ if is_passing(status) => Err(Fault::Passing(self.error(request, format!("answers {status}")))),
            // Some refusals come with a status of their own and the usual answer; that of a token sometimes without.
            Some(reply) if status.is_success() || !reply.code.is_empty() => Ok(reply),
            _ if status == StatusCode::UNAUTHORIZED && request.token.is_some() => Ok(Reply {
                code: UNKNOWN_TOKEN.to_string(),
                message: "the token is not accepted".to_string(),
                ..Reply::default()
            }),
            _ if status.is_success() => Err(Fault::Garbage(
                self.error(request, "answers what is no JSON of Snowflake's".to_string()),
            )),
            _ => Err(Fault::Final(self.error(request, format!("answers {status}")))),
        }
    }

    fn error(&self, request: &Request<'_>, what: String) -> Error {
        Error::storage(format!("can't {}: Snowflake {what}", request.what))
            .with("host", self.host())
            .with_hint(request.hint)
    }

    /// The host, for messages.
    pub(super) fn host(&self) -> &str {
        self.base.host_str().unwrap_or_default()
    }

    /// The time in which requests are repeated.
    pub(super) fn budget(&self) -> Duration {
        self.budget
    }

    /// A request to a URL that Snowflake signed, without its token. Repeated like the others; an answer that refuses
    /// is an answer.
    ///
    /// # Errors
    /// `Storage`, without the URL.
    pub(super) async fn follow(
        &self,
        method: &Method,
        url: &Secret,
        headers: &[(HeaderName, String)],
        body: Option<Bytes>,
    ) -> Result<Response> {
        let odd = || Error::storage("Snowflake gave a signed URL that is none");
        let url = Url::parse(url.reveal()).map_err(|_| odd())?;
        if url.scheme() != "https" && !(url.scheme() == "http" && is_loopback(&url)) {
            return Err(odd());
        }
        let started = Instant::now();
        let mut repetitions = 0;
        loop {
            let mut builder = self.client.request(method.clone(), url.clone());
            for (name, value) in headers {
                builder = builder.header(name, value);
            }
            if let Some(body) = &body {
                builder = builder.body(body.clone());
            }
            let error = match builder.send().await {
                Ok(response) if !is_passing(response.status()) => return Ok(response),
                Ok(response) => Error::storage(format!("the store answers {}", response.status())),
                Err(error) => Error::storage("can't reach the store").with_source(error.without_url()),
            };
            let pause = pause(repetitions);
            if started.elapsed() + pause > self.budget {
                return Err(error.with("host", url.host_str().unwrap_or_default()));
            }
            repetitions += 1;
            tokio::time::sleep(pause).await;
        }
    }
}

/// Whether a status may pass by itself.
fn is_passing(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
        )
}

impl Reply {
    /// An answer of Snowflake's, if the bytes are one.
    fn read(body: &[u8], date: Option<Duration>) -> Option<Reply> {
        let mut value: Value = serde_json::from_slice(body).ok()?;
        let fields = value.as_object_mut()?;
        let is_success = match fields.get("success")? {
            Value::Bool(success) => *success,
            Value::String(success) => success == "true",
            _ => return None,
        };
        let code = match fields.get("code") {
            Some(Value::String(code)) => code.clone(),
            Some(Value::Number(code)) => format!("{:0>6}", code.to_string()),
            _ => String::new(),
        };
        let message = fields
            .get("message")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_string();
        Some(Reply {
            is_success,
            code,
            message,
            data: fields.remove("data").unwrap_or_default(),
            date,
        })
    }
}

/// How long to wait before the next repetition: twice as long each time, somewhere between half of that and all.
pub(super) fn pause(repetitions: u32) -> Duration {
    let longest = FIRST_PAUSE
        .saturating_mul(1 << repetitions.min(16))
        .min(LONGEST_PAUSE);
    // A random id is random enough to keep replicas from asking in step.
    let share = (Uuid::new_v4().as_u128() & 0xffff) as u32;
    longest / 2 + longest / 2 * share / 0xffff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_bounded() {
        for repetitions in 0..40 {
            let most = FIRST_PAUSE
                .saturating_mul(1 << repetitions.min(16))
                .min(LONGEST_PAUSE);
            let pause = pause(repetitions);
            assert!(most / 2 <= pause && pause <= most, "{repetitions}: {pause:?}");
        }
    }

    #[test]
    fn an_answer_is_known_by_its_success_and_its_code_by_its_digits() {
        let reply = Reply::read(
            br#"{"success": false, "code": "390112", "message": "m", "data": null}"#,
            None,
        );
        let reply = reply.unwrap();
        assert_eq!(
            (reply.code.as_str(), reply.message.as_str(), reply.is_success),
            ("390112", "m", false)
        );
        assert_eq!(
            Reply::read(br#"{"success": false, "code": 2003}"#, None)
                .unwrap()
                .code,
            "002003"
        );
        assert!(Reply::read(br#"{"success": true}"#, None).unwrap().is_success);
        for garbage in [&b"<html>"[..], b"[]", b"{}", b"{\"success\": 1}", b""] {
            assert!(Reply::read(garbage, None).is_none());
        }
    }
}
