//! Store classes: what the commit protocol may expect of the store under an output.
//!
//! The protocol finds the class with a small object before any work ([`commit::probe`](fn@crate::commit::probe)) and then
//! goes by it; `docs/guarantees.md` says what each class comes to for the user.

use object_store::Error as StoreError;
use serde::{Deserialize, Serialize};
use std::fmt;

use super::diagnosis::Diagnosis;
use crate::error::Error;

/// What a store can promise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum StoreClass {
    /// Put-if-absent is atomic: of several who create one name, one wins. Objects are whole or absent. Whoever looks
    /// after an operation returned sees it. S3, GCS, Azure, a local disk, a network file system with hard links.
    #[default]
    A,
    /// No creation to be trusted: the last writer of a name wins, a writer that is killed may leave an object cut short
    /// (mounts that publish what was written when the file is closed), and listings may lag. Whoever asks for an object by
    /// its name gets what was stored under it last. Mounted stage volumes,
    /// S3-compatible stores without conditional put, file systems without hard links.
    B,
}

impl StoreClass {
    /// What it means for a job, in a line.
    pub fn meaning(self) -> &'static str {
        match self {
            StoreClass::A => {
                "store class A: the output's store can create an object only if its name is free, so doubled, late and \
                 killed replicas are all harmless"
            }
            StoreClass::B => {
                "store class B: the output's store can't create an object only if its name is free; killed and \
                 restarted replicas are harmless as long as no replica index runs twice at once, only replica 0 plans, \
                 and replicas don't help each other (docs/guarantees.md, store by store)"
            }
        }
    }
}

impl fmt::Display for StoreClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StoreClass::A => "A",
            StoreClass::B => "B",
        })
    }
}

/// Whether a failed [`create`](super::Store::create) means that the store can't do such a thing at all, rather than
/// that it went wrong.
pub fn lacks_create(error: &Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let lacks = if let Some(error) = error.downcast_ref::<StoreError>() {
            matches!(
                error,
                StoreError::NotImplemented { .. } | StoreError::NotSupported { .. }
            )
        } else if let Some(error) = error.downcast_ref::<std::io::Error>() {
            is_without_links(error)
        } else if let Some(answer) = error.downcast_ref::<Diagnosis>() {
            answer.status == Some(501) || answer.says(&["NotImplemented"])
        } else {
            false
        };
        if lacks {
            return true;
        }
        cause = error.source();
    }
    false
}

/// A local file is created by a hard link. `link(2)` says EPERM where the file system has none; a folder that may not
/// be written to is EACCES.
fn is_without_links(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::Unsupported
        || matches!(
            error.raw_os_error(),
            Some(libc::EPERM | libc::ENOSYS | libc::EOPNOTSUPP)
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::fault::explain;

    fn explained(error: StoreError) -> Error {
        explain(error, "write", "key", "/out")
    }

    fn generic(
        store: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> StoreError {
        StoreError::Generic {
            store,
            source: source.into(),
        }
    }

    /// Failure matrix: 69.
    #[test]
    fn what_a_store_does_not_have_is_told_from_what_went_wrong() {
        let os = |code| generic("LocalFileSystem", std::io::Error::from_raw_os_error(code));
        let not_implemented = StoreError::NotImplemented {
            operation: "put_opts(Create)".into(),
            implementer: "mount".into(),
        };
        for lacks in [
            not_implemented,
            generic(
                "S3",
                "Server returned non-2xx status code: 501 Not Implemented: <Code>NotImplemented</Code>",
            ),
            os(libc::EPERM),
            os(libc::EOPNOTSUPP),
        ] {
            let error = explained(lacks);
            assert!(lacks_create(&error), "{error}");
        }
        for fails in [
            generic("S3", "Server returned non-2xx status code: 503 Slow Down"),
            os(libc::EACCES),
            os(libc::ENOSPC),
            os(libc::EROFS),
        ] {
            let error = explained(fails);
            assert!(!lacks_create(&error), "{error}");
        }
        assert!(!lacks_create(&Error::storage("reset")));
    }

    #[test]
    fn a_class_reads_back_as_it_was_written() {
        for class in [StoreClass::A, StoreClass::B] {
            let text = serde_json::to_string(&class).unwrap();
            assert_eq!(text, format!("\"{class}\""));
            assert_eq!(serde_json::from_str::<StoreClass>(&text).unwrap(), class);
            assert!(class.meaning().starts_with(&format!("store class {class}:")));
        }
    }
}
