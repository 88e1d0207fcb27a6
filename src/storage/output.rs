//! The output folder as the commit protocol sees it: [`Store`] over an object store.

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path as StorePath;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use std::sync::Arc;

use super::fault::{explain, is_not_found};
use super::location::{Location, parse};
use super::{Created, Entry, Rope, Store, StoreClass, local};
use crate::error::Result;

/// [`Store`] over the location of an output.
#[derive(Clone, Debug)]
pub struct OutputStore {
    store: Arc<dyn ObjectStore>,
    prefix: StorePath,
    location: Location,
    class: StoreClass,
}

impl OutputStore {
    /// The output at `location`, taken to be of class A until [`with_class`](Self::with_class) says otherwise. Nothing
    /// is created until something is stored.
    pub fn new(location: Location) -> OutputStore {
        let (store, prefix) = location.parts();
        OutputStore {
            store,
            prefix,
            location,
            class: StoreClass::A,
        }
    }

    /// The same output, as a store of this class: one of class B is not asked for what it doesn't have.
    pub fn with_class(self, class: StoreClass) -> OutputStore {
        OutputStore { class, ..self }
    }

    /// The location behind it.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// Removes what killed writers of this program left half-written (`name#1` files beside the real ones, which
    /// local object stores neither list nor address). Returns how many there were. Other stores leave nothing.
    pub fn sweep_leftovers(&self, is_ours: impl Fn(&str) -> bool) -> Result<usize> {
        match self.location.local_path() {
            Some(root) => local::sweep_leftovers(root, &is_ours),
            None => Ok(0),
        }
    }

    /// Whether the output's folder is there. A store without folders has none.
    pub fn folder_exists(&self) -> bool {
        self.location.local_path().is_some_and(|path| path.exists())
    }

    /// Removes the folders of `key` and the output's own, as far as they are empty: what storing and deleting one
    /// object leaves behind on a local file system.
    pub fn remove_empty_folders(&self, key: &str) {
        let Some(root) = self.location.local_path() else {
            return;
        };
        let folders = std::path::Path::new(key).ancestors().skip(1);
        for folder in folders {
            // Fails on the first folder that holds something, which is where it should end.
            if std::fs::remove_dir(root.join(folder)).is_err() {
                return;
            }
        }
    }

    fn path(&self, key: &str) -> Result<StorePath> {
        match (self.prefix.as_ref(), key) {
            ("", key) => parse(key),
            (prefix, "") => parse(prefix),
            (prefix, key) => parse(&format!("{prefix}/{key}")),
        }
    }

    fn fault(&self, error: object_store::Error, action: &str, key: &str) -> crate::error::Error {
        explain(error, action, key, self.location.display())
    }
}

#[async_trait]
impl Store for OutputStore {
    async fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        let folder = self.path(prefix.trim_end_matches('/'))?;
        let objects: Result<Vec<ObjectMeta>, _> = self.store.list(Some(&folder)).try_collect().await;
        let objects = match objects {
            Ok(objects) => objects,
            Err(error) if is_not_found(&error) => return Ok(Vec::new()),
            Err(error) => return Err(self.fault(error, "list", prefix)),
        };
        let depth = self.prefix.parts().count();
        let mut entries: Vec<Entry> = objects
            .into_iter()
            .map(|object| {
                let segments: Vec<_> = object.location.as_ref().split('/').skip(depth).collect();
                Entry {
                    key: segments.join("/"),
                    size: object.size,
                }
            })
            .collect();
        entries.sort();
        Ok(entries)
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        let read = async { self.store.get(&self.path(key)?).await.map_err(Fault::Store) };
        let result = match read.await {
            Ok(found) => found,
            Err(Fault::Store(error)) if is_not_found(&error) => return Ok(None),
            Err(Fault::Store(error)) => return Err(self.fault(error, "read", key)),
            Err(Fault::Name(error)) => return Err(error),
        };
        let bytes = result.bytes().await;
        Ok(Some(bytes.map_err(|error| self.fault(error, "read", key))?))
    }

    async fn head(&self, key: &str) -> Result<Option<u64>> {
        match self.store.head(&self.path(key)?).await {
            Ok(object) => Ok(Some(object.size)),
            Err(error) if is_not_found(&error) => Ok(None),
            Err(error) => Err(self.fault(error, "look at", key)),
        }
    }

    async fn create(&self, key: &str, body: Rope) -> Result<Created> {
        if self.class == StoreClass::B {
            if self.head(key).await?.is_some() {
                return Ok(Created::Exists);
            }
            return self.put(key, body).await.map(|()| Created::Yes);
        }
        let options = PutOptions::from(PutMode::Create);
        match self.store.put_opts(&self.path(key)?, body.into(), options).await {
            Ok(_) => Ok(Created::Yes),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(Created::Exists),
            Err(error) => Err(self.fault(error, "write", key)),
        }
    }

    async fn put(&self, key: &str, body: Rope) -> Result<()> {
        let stored = self.store.put(&self.path(key)?, body.into()).await;
        stored.map_err(|error| self.fault(error, "write", key))?;
        Ok(())
    }

    async fn delete(&self, key: &str) -> Result<()> {
        match self.store.delete(&self.path(key)?).await {
            Ok(()) => Ok(()),
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => Err(self.fault(error, "delete", key)),
        }
    }
}

enum Fault {
    Store(object_store::Error),
    Name(crate::error::Error),
}

impl From<crate::error::Error> for Fault {
    fn from(error: crate::error::Error) -> Self {
        Fault::Name(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    fn stores() -> Vec<(OutputStore, Option<tempfile::TempDir>)> {
        let memory = Location::within(Arc::new(InMemory::new()), "out", "memory").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("not/yet there");
        let local = Location::local(path.to_str().unwrap()).unwrap();
        vec![
            (OutputStore::new(memory), None),
            (OutputStore::new(local), Some(folder)),
        ]
    }

    #[tokio::test]
    async fn every_store_keeps_the_promises_of_the_trait() {
        for (store, _folder) in stores() {
            assert_eq!(store.list("").await.unwrap(), []);
            assert_eq!(store.get("a/b").await.unwrap(), None);
            assert_eq!(store.head("a/b").await.unwrap(), None);
            store.delete("a/b").await.unwrap();
            assert_eq!(store.create("a/b", "one".into()).await.unwrap(), Created::Yes);
            assert_eq!(store.create("a/b", "two".into()).await.unwrap(), Created::Exists);
            assert_eq!(store.get("a/b").await.unwrap().unwrap(), "one");
            assert_eq!(store.head("a/b").await.unwrap(), Some(3));
            store.put("k=%2F x/b", "three".into()).await.unwrap();
            let keys = |entries: Vec<Entry>| entries.into_iter().map(|entry| entry.key).collect::<Vec<_>>();
            assert_eq!(keys(store.list("").await.unwrap()), ["a/b", "k=%2F x/b"]);
            assert_eq!(keys(store.list("a").await.unwrap()), ["a/b"]);
            assert_eq!(keys(store.list("a/").await.unwrap()), ["a/b"]);
            assert_eq!(keys(store.list("nothing").await.unwrap()), Vec::<String>::new());
            store.delete("a/b").await.unwrap();
            assert_eq!(store.get("a/b").await.unwrap(), None);
        }
    }

    #[tokio::test]
    async fn a_store_of_class_b_is_looked_at_before_it_is_written_to() {
        for (store, _folder) in stores() {
            let store = store.with_class(StoreClass::B);
            assert_eq!(store.create("a/b", "one".into()).await.unwrap(), Created::Yes);
            assert_eq!(store.create("a/b", "two".into()).await.unwrap(), Created::Exists);
            assert_eq!(store.get("a/b").await.unwrap().unwrap(), "one");
        }
    }

    /// Failure matrix: 9.
    #[tokio::test]
    async fn of_many_creators_of_a_key_exactly_one_wins() {
        for (store, _folder) in stores() {
            let attempts = (0..16).map(|writer| {
                let store = store.clone();
                async move {
                    store
                        .create("key", format!("writer {writer}").into())
                        .await
                        .unwrap()
                }
            });
            let outcomes = futures::future::join_all(attempts).await;
            let winners = outcomes.iter().filter(|outcome| **outcome == Created::Yes);
            assert_eq!(winners.count(), 1);
        }
    }

    /// Failure matrix: 5.
    #[tokio::test]
    async fn leftovers_of_killed_writers_are_swept_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "part-1.parquet",
            "part-1.parquet#2",
            "notes#1.txt",
            "other.parquet#1",
        ] {
            std::fs::write(folder.path().join(name), b"x").unwrap();
        }
        let store = OutputStore::new(Location::local(folder.path().to_str().unwrap()).unwrap());
        let swept = store.sweep_leftovers(|name| name.starts_with("part-")).unwrap();
        assert_eq!(swept, 1);
        assert!(!folder.path().join("part-1.parquet#2").exists());
        assert!(folder.path().join("notes#1.txt").exists());
        assert!(folder.path().join("other.parquet#1").exists());
    }
}
