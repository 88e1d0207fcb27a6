//! Every store keeps what the commit protocol asks of it: the six operations of `storage::Store`.

use std::collections::BTreeSet;

use floe::error::ErrorKind;
use floe::storage::{Created, Store};
use futures::StreamExt;

use super::{Cloud, Place, block_on, places};

/// Names that an encoding gets wrong easily.
const ODD: [&str; 9] = [
    "a b/c d.parquet",
    "100%/x%2Fy",
    "sharp#1/question?.x",
    "dt=2026-11-21/kind=a+b&c",
    "é/日本.parquet",
    "quote'\"<tag>",
    "comma,semi;colon:at@",
    "~tilde/(round)[square]{curly}",
    "_floe/e1/c/00000001.json",
];

#[test]
fn every_store_keeps_the_promises_of_the_trait() {
    for place in places() {
        block_on(async {
            let store = place.output("deep/out").await;
            let name = place.cloud;
            assert_eq!(store.list("").await.unwrap(), [], "{name:?}");
            assert_eq!(store.get("a/b").await.unwrap(), None);
            assert_eq!(store.head("a/b").await.unwrap(), None);
            store.delete("a/b").await.unwrap();
            assert_eq!(store.create("a/b", "one".into()).await.unwrap(), Created::Yes);
            assert_eq!(
                store.create("a/b", "two".into()).await.unwrap(),
                Created::Exists,
                "{name:?}"
            );
            assert_eq!(store.get("a/b").await.unwrap().unwrap(), "one");
            assert_eq!(store.head("a/b").await.unwrap(), Some(3));
            store.put("a/b", "three".into()).await.unwrap();
            assert_eq!(store.get("a/b").await.unwrap().unwrap(), "three");
            store.create("a/empty", "".into()).await.unwrap();
            assert_eq!(store.head("a/empty").await.unwrap(), Some(0));
            assert_eq!(store.get("a/empty").await.unwrap().unwrap(), "", "{name:?}");
            // A neighbour whose name only begins so is not below the folder.
            store.put("ab/c", "x".into()).await.unwrap();
            let keys = async |prefix: &str| {
                let entries = store.list(prefix).await.unwrap();
                entries
                    .into_iter()
                    .map(|entry| (entry.key, entry.size))
                    .collect::<Vec<_>>()
            };
            assert_eq!(
                keys("a").await,
                [("a/b".to_string(), 5), ("a/empty".to_string(), 0)]
            );
            assert_eq!(keys("a/").await.len(), 2);
            assert_eq!(keys("").await.len(), 3);
            assert_eq!(keys("nothing").await, []);
            // Outside of the location nobody sees it, from the bucket's root everybody.
            assert_eq!(place.output("deep/o").await.list("").await.unwrap(), []);
            assert_eq!(place.output("").await.list("").await.unwrap().len(), 3);
            store.delete("a/b").await.unwrap();
            store.delete("a/b").await.unwrap();
            assert_eq!(store.get("a/b").await.unwrap(), None);
        });
    }
}

#[test]
fn odd_names_come_back_as_they_went_in() {
    for place in places() {
        block_on(async {
            let store = place.output("out").await;
            for name in ODD {
                let created = store.create(name, name.as_bytes().to_vec().into()).await;
                assert_eq!(created.unwrap(), Created::Yes, "{:?}: {name}", place.cloud);
                assert_eq!(
                    store.create(name, "other".into()).await.unwrap(),
                    Created::Exists,
                    "{:?}: {name}",
                    place.cloud
                );
            }
            let listed = store.list("").await.unwrap();
            let listed: BTreeSet<&str> = listed.iter().map(|entry| entry.key.as_str()).collect();
            assert_eq!(listed, BTreeSet::from(ODD), "{:?}", place.cloud);
            for name in ODD {
                let found = store.get(name).await.unwrap();
                assert_eq!(
                    found.as_deref(),
                    Some(name.as_bytes()),
                    "{:?}: {name}",
                    place.cloud
                );
                store.delete(name).await.unwrap();
            }
            assert_eq!(store.list("").await.unwrap(), [], "{:?}", place.cloud);
        });
    }
}

/// Failure matrix: 9.
#[test]
fn of_sixteen_creators_of_a_key_exactly_one_wins_and_its_bytes_are_there() {
    for place in places() {
        block_on(async {
            let store = place.output("race").await;
            for round in 0..5 {
                let key = format!("key-{round}");
                let attempts = (0..16).map(|writer| {
                    let (store, key) = (store.clone(), key.clone());
                    // Each a task of its own, so that they are at it at once.
                    tokio::spawn(async move {
                        store
                            .create(&key, format!("writer {writer}").into())
                            .await
                            .unwrap()
                    })
                });
                let outcomes = futures::future::join_all(attempts).await;
                let winners: Vec<usize> = (0..16)
                    .filter(|&writer| *outcomes[writer].as_ref().unwrap() == Created::Yes)
                    .collect();
                assert_eq!(winners.len(), 1, "{:?}: {winners:?}", place.cloud);
                let found = store.get(&key).await.unwrap().unwrap();
                assert_eq!(found, format!("writer {}", winners[0]), "{:?}", place.cloud);
            }
        });
    }
}

#[test]
fn a_store_that_ignores_the_condition_is_one_that_the_protocol_must_not_trust() {
    let place = Place::new(Cloud::S3Unconditional).unwrap();
    block_on(async {
        let store = place.output("out").await;
        assert_eq!(store.create("a", "one".into()).await.unwrap(), Created::Yes);
        assert_eq!(store.create("a", "two".into()).await.unwrap(), Created::Yes);
        assert_eq!(store.get("a").await.unwrap().unwrap(), "two");
    });
}

#[test]
fn a_listing_of_many_pages_is_complete_and_sorted() {
    const KEYS: usize = 1_234;
    for place in places() {
        block_on(async {
            let store = place.output("many").await;
            let writes = (0..KEYS).map(|number| {
                let store = store.clone();
                async move {
                    store
                        .put(&format!("{:03}/k-{number:05}", number % 7), "x".into())
                        .await
                        .unwrap()
                }
            });
            futures::stream::iter(writes)
                .buffer_unordered(16)
                .collect::<Vec<_>>()
                .await;
            place.front.set_rule(|_| super::faults::Fault::None);
            let listed = store.list("").await.unwrap();
            assert_eq!(listed.len(), KEYS, "{:?}", place.cloud);
            assert!(listed.is_sorted(), "{:?}", place.cloud);
            // Azure's pages are of 5,000 names.
            let pages = place.front.seen().len();
            assert!(
                pages >= if place.cloud == Cloud::Azure { 1 } else { 2 },
                "{:?}: {pages}",
                place.cloud
            );
        });
    }
}

#[test]
fn a_bucket_or_folder_that_is_not_there_is_said_to_be_missing() {
    for place in places() {
        block_on(async {
            let missing = place.open("nothing/here").await.list().await.unwrap_err();
            assert_eq!(missing.kind(), ErrorKind::Config, "{:?}: {missing}", place.cloud);
            assert!(
                missing.to_string().contains("no such folder or file"),
                "{missing}"
            );
            // A bucket may be empty, a folder can't.
            assert_eq!(
                place.open("").await.list().await.unwrap(),
                [],
                "{:?}",
                place.cloud
            );
            let storage = floe::storage::Storage::new(place.options(), Default::default()).unwrap();
            let scheme = place.url.split_once("://").unwrap().0;
            let elsewhere = storage
                .open(&format!("{scheme}://no-such-bucket/x"))
                .await
                .unwrap();
            for error in [
                elsewhere.list().await.unwrap_err(),
                floe::storage::OutputStore::new(elsewhere)
                    .put("x", "x".into())
                    .await
                    .unwrap_err(),
            ] {
                assert_eq!(error.kind(), ErrorKind::Config, "{:?}: {error}", place.cloud);
                assert!(
                    error.to_string().contains("no such bucket or container"),
                    "{error}"
                );
            }
        });
    }
}
