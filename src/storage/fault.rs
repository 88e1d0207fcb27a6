//! Errors of stores, as Floe's errors: what the user should do differently decides the kind.

use object_store::Error as StoreError;
use object_store::client::HttpErrorKind;

use super::diagnosis::Diagnosis;
use crate::error::{Error, ErrorKind};

/// An error of a store while doing `action` on `key` in `location`.
pub(super) fn explain(error: StoreError, action: &str, key: &str, location: &str) -> Error {
    let diagnosis = Diagnosis::of(&error);
    let (kind, hint) = advise(&error, &diagnosis);
    let mut explained = Error::new(kind, format!("can't {action}"))
        .with("key", if key.is_empty() { "." } else { key })
        .with("location", location);
    if let Some(hint) = hint {
        explained = explained.with_hint(hint);
    }
    match diagnosis.is_cloud() {
        // In its place: the error itself quotes URLs and answers, with signatures and tokens.
        true => explained.with_source(diagnosis),
        false => explained.with_source(error),
    }
}

/// What kind of error it is to the user, and what to do about it.
fn advise(error: &StoreError, diagnosis: &Diagnosis) -> (ErrorKind, Option<&'static str>) {
    match error {
        StoreError::InvalidPath { .. } => {
            let hint = "rename it: names may not hold control characters, nor be . or ..";
            return (ErrorKind::Data, Some(hint));
        }
        StoreError::Precondition { .. } => return (ErrorKind::InputChanged, None),
        _ => {}
    }
    if diagnosis.says(&["NoSuchBucket", "ContainerNotFound", "InvalidBucketName"]) {
        let hint = "there is no such bucket or container: check its name and the endpoint, or make it";
        return (ErrorKind::Config, Some(hint));
    }
    let hint = match error {
        _ if diagnosis.is_cloud() => cloud_hint(error, diagnosis),
        StoreError::NotFound { .. } => Some("check the path"),
        StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => {
            Some("check that the process may read and write there")
        }
        other => io_hint(other),
    };
    (ErrorKind::Storage, hint)
}

fn cloud_hint(error: &StoreError, diagnosis: &Diagnosis) -> Option<&'static str> {
    if diagnosis.lacks_credentials {
        return Some(
            "give some by the AWS_…, AZURE_… or GOOGLE_… variables or in storage.options; see docs/storage.md",
        );
    }
    if diagnosis.says(&["RequestTimeTooSkewed", "RequestNotYetValid"]) {
        return Some(
            "this machine's clock differs from the store's by more than it tolerates: set the clock",
        );
    }
    if diagnosis.is_expired() {
        return Some("the credentials have expired: give new ones, or a source that renews them");
    }
    if diagnosis.is_redirect
        || diagnosis.says(&[
            "PermanentRedirect",
            "AuthorizationHeaderMalformed",
            "IllegalLocationConstraintException",
        ])
    {
        return Some("the bucket is in another region: set aws_region (or AWS_REGION) to its own");
    }
    if diagnosis.says(&[
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "InvalidToken",
        "AuthenticationFailed",
        "InvalidAuthenticationInfo",
        "NoAuthenticationInformation",
        "AuthenticationRequired",
    ]) || diagnosis.status == Some(401)
    {
        return Some(
            "the store does not accept these credentials: check the key, and that it is for this store",
        );
    }
    if diagnosis.status == Some(403) {
        return Some("these credentials may not do that there: they need to list, read, write and delete");
    }
    if matches!(diagnosis.status, Some(429 | 503)) || diagnosis.says(&["SlowDown", "ServerBusy"]) {
        return Some(
            "the store is busy: start again later, lower storage.max_requests or raise storage.retry_secs",
        );
    }
    if diagnosis.cause_says("certificate") {
        return Some(
            "the server's certificate is not one this machine trusts: check the endpoint, or give the issuer's \
             certificate (SSL_CERT_FILE)",
        );
    }
    if diagnosis.cause_says("tunnel") {
        return Some("the proxy does not let it through: check HTTPS_PROXY and NO_PROXY, and the endpoint");
    }
    if diagnosis.cause_says("URL scheme is not allowed") {
        return Some("the endpoint is http://, not https://: set allow_http to true if that is meant");
    }
    if diagnosis.is_stall {
        return Some("start again later; if the line is slow, raise storage.stall_secs");
    }
    if diagnosis.is_unreachable || diagnosis.transport == Some(HttpErrorKind::Timeout) {
        return Some("check the endpoint, the network and the proxy settings");
    }
    matches!(error, StoreError::NotFound { .. }).then_some("check the path")
}

/// Whether the store says that the object is not there.
pub(super) fn is_not_found(error: &StoreError) -> bool {
    matches!(error, StoreError::NotFound { .. })
}

fn io_hint(error: &StoreError) -> Option<&'static str> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return hint_for(io);
        }
        cause = error.source();
    }
    None
}

fn hint_for(error: &std::io::Error) -> Option<&'static str> {
    use std::io::ErrorKind as Io;
    // These have no kind of their own.
    if let Some(libc::EMFILE | libc::ENFILE) = error.raw_os_error() {
        return Some("the process may not open so many files (ulimit -n); raise the limit");
    }
    Some(match error.kind() {
        Io::StorageFull | Io::QuotaExceeded => "make room there, or write somewhere else",
        Io::FileTooLarge => "the process may not write files this large (ulimit -f); raise the limit",
        Io::ReadOnlyFilesystem => {
            "the file system is mounted read-only; write somewhere else or mount it writable"
        }
        Io::PermissionDenied => "check that the process may read and write there",
        Io::Unsupported => {
            "the file system can't do hard links, so nothing can be put there only if absent; \
             write to a local disk or block volume"
        }
        Io::NotADirectory => "a part of the path is a file, not a folder",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Failure matrix: 44.
    #[test]
    fn a_full_disk_is_told_with_what_to_do() {
        let error = StoreError::Generic {
            store: "LocalFileSystem",
            source: Box::new(std::io::Error::from(std::io::ErrorKind::StorageFull)),
        };
        let text = explain(error, "write", "part-0.parquet", "/out").to_string();
        assert!(text.starts_with("can't write: "), "{text}");
        assert!(text.contains("make room there"), "{text}");
        assert!(text.contains("key part-0.parquet, location /out"), "{text}");
    }
}
