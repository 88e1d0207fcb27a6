//! Can this location do put-if-absent? Everything rests on it, so it is tried before any work.

use bytes::Bytes;

use super::layout::probe_key;
use crate::error::{Error, Result};
use crate::storage::{Created, Store};

const WHICH_CAN: &str = "choose an output on a store that can: a local disk or NFS folder on a file system with hard \
                         links; a mounted stage volume can't";

/// Creates one object twice under a name made from `token` (random, so that no two processes share it) and removes it
/// again: the first must win and the second must be told so. An error says what the location does instead.
pub async fn probe(store: &dyn Store, token: &str) -> Result<()> {
    let key = probe_key(token);
    let verdict = try_twice(store, &key).await;
    let removed = store.delete(&key).await;
    verdict.map_err(|error| error.with("key", key))?;
    removed.map_err(|error| error.with_hint("the output must allow objects to be removed"))
}

async fn try_twice(store: &dyn Store, key: &str) -> Result<()> {
    let first = create(store, key, b"first").await?;
    let second = create(store, key, b"second").await?;
    let stored = store.get(key).await?;
    if (first, second) == (Created::Yes, Created::Exists) && stored.as_deref() == Some(b"first") {
        return Ok(());
    }
    Err(Error::storage("the output location lets two writers create the same object").with_hint(WHICH_CAN))
}

async fn create(store: &dyn Store, key: &str, body: &'static [u8]) -> Result<Created> {
    store
        .create(key, Bytes::from_static(body))
        .await
        .map_err(|error| {
            Error::storage("the output location can't create an object only if its name is free")
                .with_source(error)
                .with_hint(WHICH_CAN)
        })
}
