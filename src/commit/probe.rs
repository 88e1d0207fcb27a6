//! What can the output's store do? The protocol goes by its class, so that is found out before any work.
//!
//! Two creates of one object with exactly one winner: class A. A store that says it has no such operation, or lets both
//! of them win, is of class B, provided that the last writer's bytes stay. Anything else is an error: no room, no
//! permission, a store that doesn't keep what it is given.

use bytes::Bytes;

use super::layout::probe_key;
use crate::error::{Error, Result};
use crate::storage::{Created, Store, StoreClass, lacks_create};

/// How often a try that was not answered is repeated. A process that fails while this one starts may take the output's
/// folder away under it, since it leaves none behind that it did not find.
const TRIES: u32 = 8;

/// Finds the class of the store with a small object under a name made from `token` (random, so that no two processes
/// share it), which is removed again. An error says what the location does instead.
pub async fn probe(store: &dyn Store, token: &str) -> Result<StoreClass> {
    let mut attempt = 1;
    loop {
        // A name of its own: of an earlier try it is not known what was stored.
        let key = probe_key(&format!("{token}-{attempt}"));
        let class = class_of(store, &key).await;
        let removed = store.delete(&key).await;
        match class {
            Ok(class) => {
                removed.map_err(|error| error.with_hint("the output must allow objects to be removed"))?;
                return Ok(class);
            }
            Err(error) if attempt == TRIES => return Err(error.with("probe", key)),
            Err(error) => tracing::debug!(key, attempt, "probing the output again: {error}"),
        }
        attempt += 1;
    }
}

/// An error says that the store didn't answer, or doesn't keep what it is given.
async fn class_of(store: &dyn Store, key: &str) -> Result<StoreClass> {
    match create_twice(store, key).await {
        Ok([Created::Yes, Created::Exists]) => {
            keeps(store, key, b"first").await?;
            Ok(StoreClass::A)
        }
        Ok([Created::Yes, Created::Yes]) => {
            keeps(store, key, b"second").await?;
            Ok(StoreClass::B)
        }
        Ok([Created::Exists, _]) => Err(broken("says that an object exists which nobody has stored")),
        Err(error) if lacks_create(&error) => {
            for body in [b"first", b"other"] {
                store.put(key, Bytes::from_static(body).into()).await?;
                keeps(store, key, body).await?;
            }
            Ok(StoreClass::B)
        }
        Err(error) if error.hint().is_some() => Err(error),
        Err(error) => Err(broken("can't create an object").with_source(error)),
    }
}

async fn create_twice(store: &dyn Store, key: &str) -> Result<[Created; 2]> {
    let first = store.create(key, Bytes::from_static(b"first").into()).await?;
    let second = store.create(key, Bytes::from_static(b"second").into()).await?;
    Ok([first, second])
}

async fn keeps(store: &dyn Store, key: &str, body: &[u8]) -> Result<()> {
    if store.get(key).await?.as_deref() == Some(body) {
        return Ok(());
    }
    Err(broken("does not keep an object as it was stored"))
}

fn broken(what: &str) -> Error {
    Error::storage(format!("the output location {what}")).with_hint(
        "the output must let a job create, read, replace and remove objects; choose another location",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit::testing::MapStore;
    use crate::storage::Entry;
    use async_trait::async_trait;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// What a store does when it is to create an object.
    #[derive(Clone, Copy, Debug)]
    enum Habit {
        /// Stores it and says that it could not, so many times; then it is of class A.
        Unsteady(u32),
        /// Takes no notice of what is there.
        Overwrites,
        /// Says that it can't do that.
        Lacks,
        /// Refuses, and gives no reason.
        Refuses,
        /// Refuses for want of room.
        Full,
        /// Stores nothing, and says that it did.
        DoesNotKeep,
        /// Says that what isn't there exists.
        SaysExists,
    }

    struct Odd {
        map: MapStore,
        habit: Habit,
        creates: AtomicU32,
    }

    impl Odd {
        fn new(habit: Habit) -> Odd {
            Odd {
                map: MapStore::default(),
                habit,
                creates: AtomicU32::new(0),
            }
        }

        fn is_empty(&self) -> bool {
            self.map.0.lock().unwrap().0.is_empty()
        }
    }

    #[async_trait]
    impl Store for Odd {
        async fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
            self.map.list(prefix).await
        }
        async fn get(&self, key: &str) -> Result<Option<Bytes>> {
            self.map.get(key).await
        }
        async fn head(&self, key: &str) -> Result<Option<u64>> {
            self.map.head(key).await
        }
        async fn create(&self, key: &str, body: crate::storage::Rope) -> Result<Created> {
            let earlier = self.creates.fetch_add(1, Ordering::Relaxed);
            match self.habit {
                Habit::Unsteady(failures) => {
                    let created = self.map.create(key, body).await;
                    if earlier < failures {
                        return Err(Error::storage("the folder is gone"));
                    }
                    created
                }
                Habit::Overwrites => self.map.put(key, body).await.map(|()| Created::Yes),
                Habit::Lacks => {
                    let lacks = object_store::Error::NotImplemented {
                        operation: "put_opts(Create)".into(),
                        implementer: "mount".into(),
                    };
                    Err(Error::storage("can't write").with_source(lacks))
                }
                Habit::Refuses => Err(Error::storage("connection refused")),
                Habit::Full => Err(Error::storage("no room").with_hint("make room there")),
                Habit::DoesNotKeep => self.map.create(key, Bytes::new().into()).await,
                Habit::SaysExists => Ok(Created::Exists),
            }
        }
        async fn put(&self, key: &str, body: crate::storage::Rope) -> Result<()> {
            self.map.put(key, body).await
        }
        async fn delete(&self, key: &str) -> Result<()> {
            self.map.delete(key).await
        }
    }

    /// Failure matrix: 69.
    #[tokio::test]
    async fn what_a_store_does_with_two_creators_of_a_name_tells_its_class() {
        for (habit, class) in [
            (Habit::Unsteady(0), StoreClass::A),
            (Habit::Overwrites, StoreClass::B),
            (Habit::Lacks, StoreClass::B),
        ] {
            let store = Odd::new(habit);
            assert_eq!(probe(&store, "t").await.unwrap(), class, "{habit:?}");
            assert!(store.is_empty(), "the probe is removed again");
        }
    }

    #[tokio::test]
    async fn a_store_that_can_be_of_no_class_is_refused_with_the_reason() {
        for (habit, words) in [
            (Habit::Refuses, "connection refused"),
            (Habit::Full, "make room there"),
            (Habit::DoesNotKeep, "does not keep"),
            (Habit::SaysExists, "nobody has stored"),
        ] {
            let store = Odd::new(habit);
            let error = probe(&store, "t").await.unwrap_err();
            assert_eq!(error.kind(), crate::error::ErrorKind::Storage);
            let text = format!("{error} {}", error.hint().unwrap_or_default());
            assert!(text.contains(words), "{habit:?}: {text}");
            assert!(store.is_empty(), "the probe is removed again");
        }
    }

    #[tokio::test]
    async fn a_try_that_was_not_answered_is_repeated_under_another_name() {
        for (failures, passes) in [(1, true), (TRIES - 1, true), (TRIES, false)] {
            let store = Odd::new(Habit::Unsteady(failures));
            let class = probe(&store, "t").await;
            assert_eq!(class.is_ok(), passes, "{failures}: {class:?}");
            assert!(store.is_empty(), "the probe is removed again");
        }
    }
}
