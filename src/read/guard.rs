//! The parquet crate on foreign bytes: whatever it does is a result.
//!
//! Decoders have panicked on corrupt files before and will again. A panic there is one more way of saying "corrupt", so
//! every step of the crate runs in here, on whichever thread; what a panic leaves half done is dropped, never used again.

use std::panic::AssertUnwindSafe;

use crate::error::{Error, Result};

/// Runs a step of the parquet crate; `what` says what can't be done when it fails.
///
/// # Errors
/// `Data`, with the crate's own words or with those of its panic.
pub(super) fn guarded<T>(what: &str, step: impl FnOnce() -> parquet::errors::Result<T>) -> Result<T> {
    let corrupt = || Error::data(what).with_hint("the file is corrupt: write it again");
    match std::panic::catch_unwind(AssertUnwindSafe(step)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(corrupt().with_source(error)),
        Err(panic) => {
            let words = panic
                .downcast_ref::<&str>()
                .copied()
                .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
                .unwrap_or("no message");
            Err(corrupt().with_source(format!("the decoder gave up: {words}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use parquet::errors::ParquetError;

    #[test]
    fn an_error_and_a_panic_are_both_corrupt_data() {
        let said = guarded::<()>("can't look", || Err(ParquetError::General("no end".into()))).unwrap_err();
        assert_eq!(said.kind(), ErrorKind::Data);
        assert!(said.to_string().contains("no end"), "{said}");
        let panicked = guarded::<()>("can't look", || panic!("out of range: {}", 7)).unwrap_err();
        assert_eq!(panicked.kind(), ErrorKind::Data);
        assert!(
            panicked.to_string().starts_with("can't look")
                && panicked
                    .to_string()
                    .contains("the decoder gave up: out of range: 7"),
            "{panicked}"
        );
    }
}
