//! What a front speaks, over a server that speaks something close.
//!
//! **An S3 without conditional put**: `If-None-Match` is dropped on its way, as old S3-compatible stores ignore it.
//!
//! **Google Cloud Storage**: its XML API is S3's in paths, listings and bodies. What differs is translated: bearer tokens
//! instead of signatures, `x-goog-if-generation-match: 0` instead of `If-None-Match: *`, generations in the answers, and
//! object names that are percent-encoded as one segment
//! (cloud.google.com/storage/docs/xml-api/reference-headers). No emulator in a package registry speaks that API: those
//! for Python have the JSON API alone.

use bytes::Bytes;
use hyper::header::{AUTHORIZATION, HeaderValue, IF_NONE_MATCH};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};

/// A store may repeat in a refusal what it was sent, with signature and token.
pub const SECRET: &str = "c4n4ry";

/// What the front's clients speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// What the server speaks.
    Same,
    /// S3 without conditional put.
    Unconditional,
    /// Google's XML API, over S3.
    Google,
    /// The server's, which is Azure's: its refusals are called otherwise.
    Azure,
}

impl Dialect {
    /// Makes a request one that the server understands; answers with path and query.
    pub fn translate(self, request: &mut Parts) -> String {
        let path = request.uri.path_and_query().unwrap().to_string();
        match self {
            Dialect::Same | Dialect::Azure => path,
            Dialect::Unconditional => {
                request.headers.remove(IF_NONE_MATCH);
                path
            }
            Dialect::Google => {
                let token = request.headers.remove(AUTHORIZATION);
                let is_bearer = token.is_some_and(|token| token.as_bytes().starts_with(b"Bearer"));
                assert!(is_bearer, "a request without a token: {path}");
                // moto takes any signature, but treats who has none as a stranger.
                let signed = "AWS4-HMAC-SHA256 Credential=k/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, \
                              Signature=0";
                request
                    .headers
                    .insert(AUTHORIZATION, HeaderValue::from_static(signed));
                if let Some(generation) = request.headers.remove("x-goog-if-generation-match") {
                    assert_eq!(generation, "0", "only putting if absent is known");
                    request
                        .headers
                        .insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
                }
                // A client of Google's encodes what S3's leaves as it is.
                path.replace("%2F", "/").replace("%2D", "-")
            }
        }
    }

    /// Makes an answer what the client expects.
    pub fn translate_back(self, _: &Parts, answer: &mut Response<Bytes>) {
        if self == Dialect::Google
            && let Some(etag) = answer.headers().get("etag")
        {
            // Another object, another number.
            let number = etag
                .as_bytes()
                .iter()
                .fold(1u64, |sum, &byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
            answer
                .headers_mut()
                .insert("x-goog-generation", HeaderValue::from(number >> 1));
        }
    }

    /// An answer with an error in its body.
    pub fn refusal(self, status: StatusCode, code: &str) -> Response<Bytes> {
        let code = match (self, code) {
            (Dialect::Azure, "SlowDown") => "ServerBusy",
            (Dialect::Azure, "ExpiredToken") => "AuthenticationFailed",
            (_, code) => code,
        };
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>on purpose</Message>\
             <StringToSign>x-amz-security-token:{SECRET}</StringToSign></Error>"
        );
        let mut answer = Response::new(Bytes::from(body));
        *answer.status_mut() = status;
        answer
            .headers_mut()
            .insert("content-type", HeaderValue::from_static("application/xml"));
        answer
    }
}
