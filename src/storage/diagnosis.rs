//! What is behind an error of a store: the answer it gave, or how the way to it failed.
//!
//! The errors of `object_store` carry the request's URL and the whole body of the answer, and those may hold
//! signatures and tokens (S3 repeats the signed request when a signature is wrong). So nothing of their text is passed
//! on but the status, the code and the first line of the message, as the stores' documentations define them:
//! `<Code>` and `<Message>` in XML, or `code` and `message` in JSON.

use std::error::Error as StdError;
use std::fmt;

use object_store::Error as StoreError;
use object_store::client::{HttpError, HttpErrorKind};

use super::cloud::{METADATA_HOSTS, NoCredentials, Stalled};
use crate::redact::redact;

/// What the crate's errors begin with when a server answered with another status than it should.
const STATUS: &str = "Server returned non-2xx status code: ";
/// … when it answered with success and an error in the body.
const ERROR_BODY: &str = "Server returned error response: ";
const BARE_REDIRECT: &str = "Received redirect without LOCATION";

/// Names of cloud stores in the crate's errors.
const CLOUDS: [&str; 3] = ["S3", "MicrosoftAzure", "GCS"];

const LONGEST_MESSAGE: usize = 300;

/// What is known about an error.
#[derive(Debug, Default)]
pub(super) struct Diagnosis {
    /// The status of the answer, e.g. 403.
    pub status: Option<u16>,
    /// The store's own word for it, e.g. `AccessDenied`.
    pub code: Option<String>,
    /// The store's own sentence.
    message: Option<String>,
    /// No answer, or a broken one.
    pub transport: Option<HttpErrorKind>,
    /// There was no connection at all.
    pub is_unreachable: bool,
    /// Nothing came for too long.
    pub is_stall: bool,
    /// There is nobody to ask for credentials.
    pub lacks_credentials: bool,
    /// The bucket is somewhere else.
    pub is_redirect: bool,
    /// The innermost cause, in words.
    cause: String,
    is_cloud: bool,
}

/// Whether a request that failed is worth another try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Worth {
    /// The store means what it says, or was asked often enough already.
    Nothing,
    /// The credentials may have just expired, and others be there now.
    FreshCredentials,
    /// The answer makes no sense; the next one may.
    FewTries,
    /// The way to the store failed.
    Patience,
}

impl Diagnosis {
    /// Looks through an error and its causes.
    pub(super) fn of(error: &StoreError) -> Diagnosis {
        let mut found = Diagnosis {
            is_cloud: matches!(error, StoreError::Generic { store, .. } if CLOUDS.contains(store)),
            ..Diagnosis::default()
        };
        let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
        while let Some(error) = cause {
            let text = error.to_string();
            if let Some(answer) = text.strip_prefix(STATUS) {
                found.read_answer(answer);
            } else if let Some(body) = text.strip_prefix(ERROR_BODY) {
                found.status = Some(200);
                found.read_body(body);
            }
            found.is_redirect |= text.starts_with(BARE_REDIRECT);
            found.is_stall |= error.is::<Stalled>();
            found.lacks_credentials |= error.is::<NoCredentials>();
            // Whatever such a service answers but credentials.
            found.lacks_credentials |= METADATA_HOSTS
                .iter()
                .any(|host| text.contains(&format!("://{host}/")));
            if let Some(http) = error.downcast_ref::<HttpError>() {
                // One may be wrapped in another that says how to take it.
                found.transport.get_or_insert(http.kind());
                found.is_unreachable |= http.kind() == HttpErrorKind::Connect;
            }
            found.cause = text;
            cause = error.source();
        }
        found.is_redirect |= found
            .status
            .is_some_and(|status| (300..400).contains(&status) && status != 304);
        found.is_cloud |= found.status.is_some()
            || found.transport.is_some()
            || found.lacks_credentials
            || found.is_redirect;
        found
    }

    /// Whether the error has to do with a store in a cloud, and so may quote secrets.
    pub(super) fn is_cloud(&self) -> bool {
        self.is_cloud
    }

    /// Whether the store's word for it is one of `codes`.
    pub(super) fn says(&self, codes: &[&str]) -> bool {
        self.code.as_deref().is_some_and(|code| codes.contains(&code))
    }

    /// Whether the innermost cause says `text`.
    pub(super) fn cause_says(&self, text: &str) -> bool {
        self.cause.contains(text)
    }

    /// Whether the credentials that were used are too old.
    pub(super) fn is_expired(&self) -> bool {
        self.says(&[
            "ExpiredToken",
            "TokenRefreshRequired",
            "ExpiredTokenException",
            "RequestExpired",
        ])
    }

    /// What is set up wrongly stays so.
    fn is_set_up_wrongly(&self) -> bool {
        ["certificate", "scheme is not allowed", "tunnel"]
            .iter()
            .any(|text| self.cause_says(text))
    }

    /// What another try is worth after `error`.
    pub(super) fn worth(&self, error: &StoreError) -> Worth {
        if self.lacks_credentials || self.is_set_up_wrongly() {
            return Worth::Nothing;
        }
        match error {
            StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => {
                Worth::FreshCredentials
            }
            StoreError::Generic { .. } if self.is_expired() || matches!(self.status, Some(401 | 403)) => {
                Worth::FreshCredentials
            }
            // Whatever was worth it has been asked again by the crate, for as long as it may.
            StoreError::Generic { .. }
                if self.status.is_some_and(|status| status >= 300) || self.is_redirect =>
            {
                Worth::Nothing
            }
            StoreError::Generic { .. } => match self.transport {
                Some(HttpErrorKind::Unknown) => Worth::FewTries,
                Some(_) => Worth::Patience,
                None if self.is_cloud => Worth::FewTries,
                None => Worth::Nothing,
            },
            _ => Worth::Nothing,
        }
    }

    /// `403 Forbidden: <body>`.
    fn read_answer(&mut self, answer: &str) {
        self.status = answer.get(..3).and_then(|digits| digits.parse().ok());
        self.read_body(answer);
    }

    fn read_body(&mut self, body: &str) {
        self.code = element(body, "Code").or_else(|| member(body, "code"));
        self.message = element(body, "Message").or_else(|| member(body, "message"));
    }
}

/// The text of an XML element without attributes.
fn element(body: &str, name: &str) -> Option<String> {
    let (_, rest) = body.split_once(&format!("<{name}>"))?;
    short(rest.split_once('<')?.0)
}

/// A text member of the first JSON object that has it, on any level.
fn member(body: &str, name: &str) -> Option<String> {
    let (_, json) = body.split_once('{')?;
    let document: serde_json::Value = serde_json::from_str(&format!("{{{json}")).ok()?;
    let inner = document
        .get("error")
        .filter(|inner| inner.is_object())
        .unwrap_or(&document);
    short(inner.get(name)?.as_str()?)
}

/// The first line, of sensible length and without secrets.
fn short(text: &str) -> Option<String> {
    let line = text.trim().lines().next().filter(|line| !line.is_empty())?;
    Some(redact(line).chars().take(LONGEST_MESSAGE).collect())
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.lacks_credentials {
            return NoCredentials.fmt(f);
        }
        let Some(status) = self.status else {
            return match self.transport {
                _ if self.is_redirect => f.write_str("the store says that the bucket is somewhere else"),
                _ if self.is_unreachable => write!(f, "no connection: {}", redact(&self.cause)),
                _ => f.write_str(&redact(&self.cause)),
            };
        };
        write!(f, "the store answered {status}")?;
        for part in [&self.code, &self.message].into_iter().flatten() {
            write!(f, ": {part}")?;
        }
        Ok(())
    }
}

impl StdError for Diagnosis {}

#[cfg(test)]
mod tests {
    use super::*;

    /// An error as the crate makes them: each level has a text of its own.
    #[derive(Debug)]
    struct Level(String, Option<Box<Level>>);

    impl fmt::Display for Level {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(&self.0)
        }
    }

    impl StdError for Level {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            self.1.as_deref().map(|level| level as _)
        }
    }

    fn answered(status: &str, body: &str) -> StoreError {
        let inner = Level(format!("{STATUS}{status}: {body}"), None);
        let outer =
            format!("Error performing GET https://b.s3.amazonaws.com/k?X-Amz-Signature=c4n4ry - {inner}");
        StoreError::Generic {
            store: "S3",
            source: Box::new(Level(outer, Some(Box::new(inner)))),
        }
    }

    /// Failure matrix: 64.
    #[test]
    fn of_an_answer_only_status_code_and_message_are_told() {
        let body = "<?xml version=\"1.0\"?>\n<Error><Code>SignatureDoesNotMatch</Code><Message>The request signature \
                    we calculated does not match</Message><CanonicalRequest>x-amz-security-token:c4n4ry\n\
                    </CanonicalRequest></Error>";
        let diagnosis = Diagnosis::of(&answered("403 Forbidden", body));
        assert_eq!(
            diagnosis.to_string(),
            "the store answered 403: SignatureDoesNotMatch: The request signature we calculated does not match"
        );
        assert!(diagnosis.is_cloud());
        let json = r#"{"error": {"code": "AuthenticationFailed", "message": "no\nRequestId: 1"}}"#;
        assert_eq!(
            Diagnosis::of(&answered("401 Unauthorized", json)).to_string(),
            "the store answered 401: AuthenticationFailed: no"
        );
        let page = "<html>sig=c4n4ry</html>";
        assert_eq!(
            Diagnosis::of(&answered("502 Bad Gateway", page)).to_string(),
            "the store answered 502"
        );
    }

    #[test]
    fn what_the_store_means_is_not_asked_again_and_what_got_lost_is() {
        let worth = |error: StoreError| Diagnosis::of(&error).worth(&error);
        let lost = |kind| StoreError::Generic {
            store: "S3",
            source: Box::new(HttpError::new(kind, Level("broken".into(), None))),
        };
        assert_eq!(worth(lost(HttpErrorKind::Timeout)), Worth::Patience);
        assert_eq!(worth(lost(HttpErrorKind::Interrupted)), Worth::Patience);
        assert_eq!(worth(lost(HttpErrorKind::Unknown)), Worth::FewTries);
        let none = StoreError::Generic {
            store: "S3",
            source: Box::new(HttpError::new(HttpErrorKind::Unknown, NoCredentials)),
        };
        assert_eq!(worth(none), Worth::Nothing);
        // An endpoint that never answered: marked by whoever knows that.
        let inner = HttpError::new(HttpErrorKind::Connect, Level("refused".into(), None));
        let never_met = StoreError::Generic {
            store: "S3",
            source: Box::new(HttpError::new(HttpErrorKind::Unknown, inner)),
        };
        assert_eq!(worth(never_met), Worth::FewTries);
        assert_eq!(
            worth(answered(
                "400 Bad Request",
                "<Error><Code>InvalidArgument</Code></Error>"
            )),
            Worth::Nothing
        );
        assert_eq!(
            worth(answered(
                "400 Bad Request",
                "<Error><Code>ExpiredToken</Code></Error>"
            )),
            Worth::FreshCredentials
        );
        let garbage = StoreError::Generic {
            store: "S3",
            source: Box::new(Level("Got invalid list response".into(), None)),
        };
        assert_eq!(worth(garbage), Worth::FewTries);
        let local = StoreError::Generic {
            store: "LocalFileSystem",
            source: Box::new(std::io::Error::from(std::io::ErrorKind::StorageFull)),
        };
        assert_eq!(worth(local), Worth::Nothing);
    }
}
