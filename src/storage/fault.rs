//! Errors of stores, as Floe's errors: what the user should do differently decides the kind.

use object_store::Error as StoreError;

use crate::error::{Error, ErrorKind};

/// An error of a store while doing `action` on `key` in `location`.
pub(super) fn explain(error: StoreError, action: &str, key: &str, location: &str) -> Error {
    let (kind, hint) = match &error {
        StoreError::NotFound { .. } => (ErrorKind::Storage, Some("check the path")),
        StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => (
            ErrorKind::Storage,
            Some("check that the process may read and write there"),
        ),
        StoreError::InvalidPath { .. } => (
            ErrorKind::Data,
            Some("rename it: names may not hold control characters, nor be . or .."),
        ),
        StoreError::Precondition { .. } => (ErrorKind::InputChanged, None),
        other => (ErrorKind::Storage, io_hint(other)),
    };
    let mut explained = Error::new(kind, format!("can't {action}"))
        .with("key", if key.is_empty() { "." } else { key })
        .with("location", location);
    if let Some(hint) = hint {
        explained = explained.with_hint(hint);
    }
    explained.with_source(error)
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
