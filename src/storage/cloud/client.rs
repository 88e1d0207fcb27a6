//! The HTTP client under every cloud store: patience and limits in one place.
//!
//! `object_store` asks its [`HttpConnector`] for clients, one for requests to the store and one for credentials. This
//! one puts [`Watchful`] around the crate's own: it waits for a place in the store's [`Throttle`], holds it until the
//! answer has been read to its end, and gives up on whatever is silent for too long. Repeating is done above: what the
//! crate repeats, by its `RetryConfig`; the rest in [`super::patient`].

use std::error::Error as StdError;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use http::StatusCode;
use object_store::client::{
    ClientOptions, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService, ReqwestConnector,
};
use object_store::{BackoffConfig, RetryConfig};
use tokio::time::Instant;

use super::throttle::Throttle;
use super::watch::{AnswerBody, Stalled, patience};
use crate::config::StorageOptions;

/// Longest time to a connection; a server that is there accepts at once.
const CONNECT: Duration = Duration::from_secs(10);

/// How long an endpoint is tried that has never answered: it is more likely written wrongly than down.
const FIRST_CONTACT: Duration = Duration::from_secs(15);

/// The services on a cloud machine that hand out its credentials. They are near: who does not hear them soon never will.
pub(in crate::storage) const METADATA_HOSTS: [&str; 5] = [
    "169.254.169.254",
    "169.254.170.2",
    "[fd00:ec2::254]",
    "metadata.google.internal",
    "metadata",
];

/// How often such a service is asked before it counts as absent, and for how long each time.
const METADATA_TRIES: usize = 3;
const METADATA_PATIENCE: Duration = Duration::from_secs(2);

/// How the page of a listing ends.
const LISTING_ENDS: [&str; 3] = [
    "</ListBucketResult>",
    "</EnumerationResults>",
    "<ListBucketResult/>",
];

/// How requests to one store are made. Cheap to clone; all clones share the limit on requests in flight.
#[derive(Clone, Debug)]
pub struct Client {
    throttle: Throttle,
    contact: Contact,
    retry: Duration,
    stall: Duration,
}

/// Whether anybody has answered yet, and since when nobody has. Clones share it.
#[derive(Clone, Debug, Default)]
struct Contact(Arc<Mutex<Meeting>>);

#[derive(Clone, Copy, Debug, Default)]
enum Meeting {
    #[default]
    Untried,
    /// No connection since then, and none before.
    Failed(Instant),
    Made,
}

/// There are no credentials in the settings, and nothing on this machine gives any.
#[derive(Debug)]
pub(in crate::storage) struct NoCredentials;

impl Client {
    /// With the limits of the job.
    pub fn new(options: &StorageOptions) -> Client {
        Client {
            throttle: Throttle::new(options.max_requests),
            contact: Contact::default(),
            retry: options.retry,
            stall: options.stall,
        }
    }

    /// Time limits: none on a whole request, whose size nobody knows; silence within it is [`Watchful`]'s matter, since
    /// reqwest's own limit on it counts the time that a request's body takes as silence.
    pub fn options(&self) -> ClientOptions {
        ClientOptions::new()
            .with_timeout_disabled()
            .with_read_timeout_disabled()
            .with_connect_timeout(CONNECT.min(self.stall))
    }

    /// Exponential pauses with jitter, until the time budget is spent.
    pub fn retry(&self) -> RetryConfig {
        RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(15).min(self.retry),
                // Each pause is drawn from the first to this many times the one before.
                base: 3.0,
            },
            // The budget ends it, long before.
            max_retries: 10_000,
            retry_timeout: self.retry,
        }
    }

    /// How long a request is repeated.
    pub fn budget(&self) -> Duration {
        self.retry
    }
}

impl HttpConnector for Client {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Watchful {
            client: ReqwestConnector::default().connect(options)?,
            throttle: self.throttle.clone(),
            contact: self.contact.clone(),
            stall: self.stall,
        }))
    }
}

/// An HTTP client that keeps to the limits.
#[derive(Debug)]
struct Watchful {
    client: HttpClient,
    throttle: Throttle,
    contact: Contact,
    stall: Duration,
}

#[async_trait]
impl HttpService for Watchful {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if request
            .uri()
            .host()
            .is_some_and(|host| METADATA_HOSTS.contains(&host))
        {
            return self.ask_for_credentials(request).await;
        }
        let permit = self.throttle.acquire().await;
        let is_listing = is_listing(&request);
        let limit = patience(self.stall, request.body().content_length());
        let answer = tokio::time::timeout(limit, self.client.execute(request)).await;
        let answer = answer
            .unwrap_or_else(|_| Err(HttpError::new(HttpErrorKind::Timeout, Stalled(limit))))
            .map_err(|error| self.contact.judge(error))?;
        self.contact.made();
        match answer.status() {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => permit.refused(),
            status if !status.is_server_error() => permit.succeeded(),
            _ => {}
        }
        let (parts, body) = answer.into_parts();
        let body = HttpResponseBody::new(AnswerBody::new(body, permit, self.stall));
        let body = match is_listing && parts.status.is_success() {
            true => whole_listing(body).await?.into(),
            false => body,
        };
        Ok(HttpResponse::from_parts(parts, body))
    }
}

/// Whether a request asks for a page of a listing: S3's and Google's way, or Azure's.
fn is_listing(request: &HttpRequest) -> bool {
    let query = request.uri().query().unwrap_or_default();
    request.method() == http::Method::GET && (query.contains("list-type=2") || query.contains("comp=list"))
}

/// The body of a page, if it is one from beginning to end. The crate takes any XML for a listing, and one without
/// objects, as an error sent with status 200 is, for an empty one; files would be overlooked.
async fn whole_listing(body: HttpResponseBody) -> Result<bytes::Bytes, HttpError> {
    let body = body.bytes().await?;
    let text = body.trim_ascii_end();
    if LISTING_ENDS.iter().any(|end| text.ends_with(end.as_bytes())) {
        return Ok(body);
    }
    // Of a kind that is repeated: asking for a list changes nothing.
    Err(HttpError::new(HttpErrorKind::Interrupted, NoListing))
}

impl Contact {
    fn made(&self) {
        *self.state() = Meeting::Made;
    }

    /// Makes an error one that is not repeated for minutes, if it is one of a wrong setting rather than of bad luck: a
    /// server whose certificate is not trusted, a proxy that refuses, an endpoint that nobody ever answered at.
    fn judge(&self, error: HttpError) -> HttpError {
        let mut is_final = false;
        let mut cause: Option<&(dyn StdError + 'static)> = Some(&error);
        while let Some(at) = cause {
            let text = at.to_string();
            is_final |= text.contains("certificate") || text.contains("tunnel");
            cause = at.source();
        }
        if error.kind() == HttpErrorKind::Connect {
            let mut state = self.state();
            match *state {
                Meeting::Untried => *state = Meeting::Failed(Instant::now()),
                Meeting::Failed(since) => is_final |= since.elapsed() > FIRST_CONTACT,
                Meeting::Made => {}
            }
        }
        match is_final {
            true => HttpError::new(HttpErrorKind::Unknown, error),
            false => error,
        }
    }

    fn state(&self) -> MutexGuard<'_, Meeting> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Watchful {
    async fn ask_for_credentials(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        for _ in 0..METADATA_TRIES {
            let asked = self.client.execute(request.clone());
            if let Ok(Ok(answer)) = tokio::time::timeout(METADATA_PATIENCE, asked).await {
                return Ok(answer);
            }
        }
        // Of an unknown kind: not to be repeated for minutes.
        Err(HttpError::new(HttpErrorKind::Unknown, NoCredentials))
    }
}

/// The store was asked for a list and sent something else.
#[derive(Debug)]
struct NoListing;

impl fmt::Display for NoListing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the store's answer is no listing, or not a whole one")
    }
}

impl StdError for NoListing {}

impl fmt::Display for NoCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no credentials were given, and nothing on this machine hands out any")
    }
}

impl StdError for NoCredentials {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers by a function of the request; the crate's own client is not in it.
    struct Server<F>(F);

    impl<F> fmt::Debug for Server<F> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Server")
        }
    }

    #[async_trait]
    impl<F, A> HttpService for Server<F>
    where
        F: Fn(HttpRequest) -> A + Send + Sync + 'static,
        A: Future<Output = Result<HttpResponse, HttpError>> + Send + 'static,
    {
        async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
            (self.0)(request).await
        }
    }

    fn watchful<F, A>(answer: F) -> Watchful
    where
        F: Fn(HttpRequest) -> A + Send + Sync + 'static,
        A: Future<Output = Result<HttpResponse, HttpError>> + Send + 'static,
    {
        Watchful {
            client: HttpClient::new(Server(answer)),
            throttle: Throttle::new(2),
            contact: Contact::default(),
            stall: Duration::from_secs(30),
        }
    }

    fn get(uri: &str) -> HttpRequest {
        let body = object_store::client::HttpRequestBody::empty();
        http::Request::get(uri).body(body).unwrap()
    }

    /// Failure matrix: 47.
    #[tokio::test(start_paused = true)]
    async fn a_server_that_never_answers_is_given_up_as_a_timeout() {
        let client = watchful(|_| std::future::pending());
        let error = client.call(get("http://store/x")).await.unwrap_err();
        assert_eq!(error.kind(), HttpErrorKind::Timeout);
        // Its place is free again.
        assert!(format!("{:?}", client.throttle).contains("in_flight: 0"));
    }

    #[tokio::test]
    async fn a_place_is_held_until_the_answer_was_read() {
        let client = watchful(|_| async { Ok(HttpResponse::new("body".to_string().into())) });
        let first = client.call(get("http://store/1")).await.unwrap();
        let _second = client.call(get("http://store/2")).await.unwrap();
        let mut third = client.call(get("http://store/3"));
        assert!(futures::poll!(&mut third).is_pending());
        assert_eq!(first.into_body().bytes().await.unwrap(), "body");
        third.await.unwrap();
    }

    /// Failure matrix: 46.
    #[tokio::test]
    async fn a_busy_store_is_asked_less() {
        let client = watchful(|_| async {
            let mut answer = HttpResponse::new(Vec::new().into());
            *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            Ok(answer)
        });
        client.call(get("http://store/1")).await.unwrap();
        assert!(
            format!("{:?}", client.throttle).contains("limit: 1.0"),
            "{:?}",
            client.throttle
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_never_answered_is_given_up_sooner_than_one_that_did() {
        #[derive(Debug, Clone, Copy)]
        struct Refused;
        impl fmt::Display for Refused {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("connection refused")
            }
        }
        impl StdError for Refused {}
        let refused = |_| async { Err(HttpError::new(HttpErrorKind::Connect, Refused)) };
        let client = watchful(refused);
        let kind = async |client: &Watchful| client.call(get("http://store/x")).await.unwrap_err().kind();
        assert_eq!(kind(&client).await, HttpErrorKind::Connect);
        tokio::time::advance(FIRST_CONTACT + Duration::from_secs(1)).await;
        assert_eq!(kind(&client).await, HttpErrorKind::Unknown);
        let client = watchful(refused);
        client.contact.made();
        assert_eq!(kind(&client).await, HttpErrorKind::Connect);
        tokio::time::advance(FIRST_CONTACT * 2).await;
        assert_eq!(kind(&client).await, HttpErrorKind::Connect);
    }

    #[tokio::test(start_paused = true)]
    async fn a_machine_without_a_metadata_service_is_known_within_seconds() {
        let client = watchful(|_| std::future::pending());
        let began = tokio::time::Instant::now();
        let error = client
            .call(get("http://169.254.169.254/latest"))
            .await
            .unwrap_err();
        assert!(std::error::Error::source(&error).unwrap().is::<NoCredentials>());
        assert!(began.elapsed() < Duration::from_secs(10));
        assert_eq!(error.kind(), HttpErrorKind::Unknown);
    }
}
