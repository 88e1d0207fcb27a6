//! Storage: the only module that names concrete stores.
//!
//! A [`Location`] is a folder (or one file) in a store, as the user wrote it: a path, `file://` or, in tests,
//! memory. Inputs and models are read through it in ranges with their pinned identity; the commit protocol
//! sees the output only through the small [`Store`] trait.

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::Result;

mod buffers;
mod class;
mod cloud;
pub mod conformance;
mod diagnosis;
mod disk;
mod fault;
mod local;
mod location;
mod mount;
mod open;
mod output;
mod referenced;
mod rope;
mod snowflake;
mod variables;

pub use class::{StoreClass, lacks_create};
pub use local::{Overlap, available_bytes, overlap, path_within};
pub use location::{Listed, Location};
pub use open::Storage;
pub use output::OutputStore;
pub use referenced::{Found, Referenced};
pub use rope::Rope;
pub use variables::Variables;

/// An object in a listing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Entry {
    /// Path relative to the store's root, with `/` between segments.
    pub key: String,
    /// Bytes.
    pub size: u64,
}

/// What an attempt to create an object came to. An `Err` means: unknown, it may or may not be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Created {
    /// This call stored the object.
    Yes,
    /// Something is stored under the key already (perhaps by an earlier try of this very call).
    Exists,
}

/// The six operations the commit protocol needs, over keys relative to the output folder.
///
/// On a store of [class A](StoreClass::A) strongly consistent: a list or get that starts after a create returned sees it.
#[async_trait]
pub trait Store: Send + Sync {
    /// Every object whose key starts with the folder `prefix` (`""`: all), recursively, sorted by key.
    async fn list(&self, prefix: &str) -> Result<Vec<Entry>>;
    /// The object's bytes, or `None`.
    async fn get(&self, key: &str) -> Result<Option<Bytes>>;
    /// The object's size, or `None`.
    async fn head(&self, key: &str) -> Result<Option<u64>>;
    /// Stores the object only if the key is free: put-if-absent, durable when it returns. On a store of class B no more
    /// than a look and then a put: it settles nothing between two writers, and the commit protocol doesn't use it there.
    async fn create(&self, key: &str, body: Rope) -> Result<Created>;
    /// Stores the object, replacing what is there.
    async fn put(&self, key: &str, body: Rope) -> Result<()>;
    /// Removes the object; fine when it is absent.
    async fn delete(&self, key: &str) -> Result<()>;
}
