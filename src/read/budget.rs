//! How much the rows of a block may take when they are decoded, and what was said when they took more.
//!
//! All columns of a row group share one budget. Pages spend from it when they are opened; it is filled up again for every
//! step of decoding.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::limits::{BLOCK_BYTES, beyond};
use crate::error::{Error, Result};

/// See the [module](self) page.
#[derive(Debug)]
pub(super) struct Budget {
    limit: u64,
    left: AtomicU64,
    refusal: Mutex<Option<Error>>,
}

impl Budget {
    /// A budget for a row group whose pages hold `page_bytes`: what lies in them as it is is never too much.
    pub fn new(page_bytes: u64) -> Budget {
        let limit = BLOCK_BYTES.max(page_bytes.saturating_mul(2));
        Budget {
            limit,
            left: AtomicU64::new(limit),
            refusal: Mutex::new(None),
        }
    }

    /// For the next step.
    pub fn refill(&self) {
        self.left.store(self.limit, Ordering::Relaxed);
    }

    /// Whether `bytes` need not be measured more exactly: half of the budget is for what is only estimated.
    pub fn has_plenty(&self, bytes: u64) -> bool {
        self.left.load(Ordering::Relaxed).saturating_sub(bytes) >= self.limit / 2
    }

    /// Takes `bytes`.
    ///
    /// # Errors
    /// `Data`, when there are not so many left.
    pub fn spend(&self, bytes: u64) -> Result<()> {
        let left = self.left.load(Ordering::Relaxed);
        self.left.store(left.saturating_sub(bytes), Ordering::Relaxed);
        if bytes <= left {
            return Ok(());
        }
        Err(too_large((self.limit - left).saturating_add(bytes), self.limit))
    }

    /// Keeps what the decoder is about to fail with.
    pub fn refuse(&self, error: Error) {
        let mut refusal = self.refusal.lock().unwrap_or_else(PoisonError::into_inner);
        refusal.get_or_insert(error);
    }

    /// What was refused since the last time.
    pub fn refusal(&self) -> Option<Error> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Rows that are decoded at once take more than the limit.
pub(super) fn too_large(bytes: u64, limit: u64) -> Error {
    let found = format!("{bytes} bytes");
    beyond("rows that are decoded at once take up to", found, "decoded bytes of a block", limit).with_hint(
        "a few bytes of the file stand for very many or very long values: set a smaller inference.max_batch_rows, or write \
         the column without a dictionary",
    )
}
