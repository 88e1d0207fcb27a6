//! Reading through trouble: the right bytes of the pinned object, or an error that says what is the matter.

use std::time::Duration;

use floe::error::ErrorKind;
use floe::storage::{Listed, Location, Overlap, Store, overlap, path_within};

use super::faults::Fault;
use super::{Cloud, Place, block_on, places};
use crate::dice::Dice;

const SIZE: usize = 3_000_000;

fn bytes(seed: u64) -> Vec<u8> {
    let mut dice = Dice::new(seed);
    (0..SIZE).map(|_| dice.below(256) as u8).collect()
}

/// An object in the place, and what its listing says.
async fn put(place: &Place, bytes: &[u8]) -> (Location, Listed) {
    let store = place.output("in").await;
    store.put("a b/file.bin", bytes.to_vec().into()).await.unwrap();
    let location = place.open("in").await;
    let listed = location.list().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (listed[0].path.as_str(), listed[0].size),
        ("a b/file.bin", SIZE as u64)
    );
    let listed = listed.into_iter().next().unwrap();
    (location, listed)
}

#[test]
fn ranges_are_read_as_asked_and_close_ones_in_one_request() {
    for place in places() {
        block_on(async {
            let bytes = bytes(1);
            let (location, listed) = put(&place, &bytes).await;
            place.front.set_rule(|_| Fault::None);
            let ranges = [10..20, 0..1, 2_999_990..3_000_000, 15..900, 700_000..700_001];
            let read = location
                .read_ranges(&listed.path, listed.etag.as_deref(), &ranges)
                .await
                .unwrap();
            for (range, read) in ranges.iter().zip(read) {
                assert!(
                    read == bytes[range.start as usize..range.end as usize],
                    "{:?}: {range:?}",
                    place.cloud
                );
            }
            assert_eq!(place.front.seen().len(), 2, "{:?}", place.cloud);
            assert!(
                location.read_all(&listed, u64::MAX).await.unwrap() == bytes,
                "{:?}",
                place.cloud
            );
            // A read beyond the end is one of another object than the one that was listed.
            let beyond = std::slice::from_ref(&(2_999_999..3_000_001));
            let beyond = location
                .read_ranges(&listed.path, listed.etag.as_deref(), beyond)
                .await;
            assert!(beyond.is_err(), "{:?}", place.cloud);
        });
    }
}

#[test]
fn a_location_may_be_one_object_also_for_whoever_did_not_list_it() {
    for place in places() {
        block_on(async {
            let bytes = bytes(2);
            put(&place, &bytes).await;
            let location = place.open("in/a b/file.bin").await;
            assert!(location.is_object().await.unwrap(), "{:?}", place.cloud);
            let listed = location.list().await.unwrap().remove(0);
            assert_eq!(listed.path, "file.bin");
            let other = place.open("in/a b/file.bin").await;
            assert!(
                other.read_all(&listed, u64::MAX).await.unwrap() == bytes,
                "{:?}",
                place.cloud
            );
            let folder = place.open("in/a b").await;
            assert!(!folder.is_object().await.unwrap(), "{:?}", place.cloud);
            // A name that only begins like the object's is none.
            let error = place.open("in/a b/file").await.list().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{:?}: {error}", place.cloud);
        });
    }
}

/// Failure matrix: 43.
#[test]
fn an_object_that_was_replaced_or_deleted_is_input_changed() {
    for place in places() {
        block_on(async {
            let (location, listed) = put(&place, &bytes(3)).await;
            let store = place.output("in").await;
            store.put(&listed.path, bytes(4).into()).await.unwrap();
            let replaced = location.read_all(&listed, u64::MAX).await.unwrap_err();
            assert_eq!(
                replaced.kind(),
                ErrorKind::InputChanged,
                "{:?}: {replaced}",
                place.cloud
            );
            store.delete(&listed.path).await.unwrap();
            let deleted = location.read_all(&listed, u64::MAX).await.unwrap_err();
            assert_eq!(
                deleted.kind(),
                ErrorKind::InputChanged,
                "{:?}: {deleted}",
                place.cloud
            );
        });
    }
}

/// Failure matrix: 46, 47, 51.
#[test]
fn a_reading_that_meets_any_trouble_ends_with_the_right_bytes() {
    let faults = [
        &Fault::BRIEF[..],
        &Fault::SILENT[..],
        &[Fault::Delay(Duration::from_millis(300))],
    ]
    .concat();
    for place in places() {
        block_on(async {
            let bytes = bytes(5);
            let (location, listed) = put(&place, &bytes).await;
            for &fault in &faults {
                place
                    .front
                    .set_rule(move |seen| if seen.number == 1 { fault } else { Fault::None });
                let read = location.read_all(&listed, u64::MAX).await;
                let read = read.unwrap_or_else(|error| panic!("{:?}: {fault:?}: {error}", place.cloud));
                assert!(read == bytes, "{:?}: {fault:?}", place.cloud);
                assert_eq!(place.front.seen()[0].fault, fault);
            }
        });
    }
}

/// Failure matrix: 47.
#[test]
fn success_that_is_none_of_the_object_is_not_taken_for_it() {
    for place in places() {
        block_on(async {
            let store = place.output("whole").await;
            store.put("key", "content".into()).await.unwrap();
            place.front.set_rule(|seen| match seen.number {
                1 | 3 => Fault::Garbage,
                _ => Fault::None,
            });
            let read = store.get("key").await.unwrap();
            assert_eq!(read.as_deref(), Some(&b"content"[..]), "{:?}", place.cloud);
            assert_eq!(store.head("key").await.unwrap(), Some(7), "{:?}", place.cloud);
            place.front.set_rule(|_| Fault::Garbage);
            let error = store.get("key").await.unwrap_err().to_string();
            let is_told = error.contains("has no ETag") || error.contains("missing from response");
            assert!(is_told, "{:?}: {error}", place.cloud);
        });
    }
}

/// Failure matrix: 46, 47.
#[test]
fn a_listing_of_which_every_page_breaks_once_is_complete() {
    for place in places() {
        block_on(async {
            let store = place.output("pages").await;
            let writes = (0..1_020).map(|number| {
                let store = store.clone();
                async move { store.put(&format!("k-{number:04}"), "x".into()).await.unwrap() }
            });
            use futures::StreamExt;
            futures::stream::iter(writes)
                .buffer_unordered(16)
                .collect::<Vec<_>>()
                .await;
            for fault in [
                Fault::Truncate,
                Fault::Garbage,
                Fault::Expired,
                Fault::Busy,
                Fault::ResetAfter,
            ] {
                place
                    .front
                    .set_rule(move |seen| if seen.number % 2 == 1 { fault } else { Fault::None });
                let listed = store.list("").await;
                let listed = listed.unwrap_or_else(|error| panic!("{:?}: {fault:?}: {error}", place.cloud));
                assert_eq!(listed.len(), 1_020, "{:?}: {fault:?}", place.cloud);
            }
        });
    }
}

/// Failure matrix: 47.
#[test]
fn an_object_that_is_replaced_between_two_halves_of_a_reading_is_never_mixed() {
    for place in places() {
        block_on(async {
            let (location, listed) = put(&place, &bytes(6)).await;
            // The rest is asked for when the object is another one already.
            place.front.set_rule(|seen| match seen.number {
                1 => Fault::Truncate,
                _ if seen.method == "GET" => Fault::Delay(Duration::from_millis(700)),
                _ => Fault::None,
            });
            let store = place.output("in").await;
            let (read, ()) = tokio::join!(location.read_all(&listed, u64::MAX), async {
                while place.front.seen().is_empty() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                store.put(&listed.path, bytes(7).into()).await.unwrap();
            });
            let error = read.expect_err("half of one object and half of another");
            assert_eq!(
                error.kind(),
                ErrorKind::InputChanged,
                "{:?}: {error}",
                place.cloud
            );
        });
    }
}

/// Failure matrix: 46, 47.
#[test]
fn a_store_that_stays_in_trouble_is_given_up_when_the_budget_is_spent() {
    let place = Place::new(Cloud::S3).unwrap();
    block_on(async {
        let (_, listed) = put(&place, &bytes(8)).await;
        let mut options = place.options();
        (options.retry, options.stall) = (Duration::from_secs(1), Duration::from_millis(300));
        let storage = floe::storage::Storage::new(options, Default::default()).unwrap();
        let location = storage.open(&format!("{}/in", place.url)).await.unwrap();
        for (fault, hint) in [
            (Fault::Busy, "the store is busy"),
            (Fault::Stall, "raise storage.stall_secs"),
            (Fault::Halt, "raise storage.stall_secs"),
            (Fault::Expired, "the credentials have expired"),
        ] {
            place.front.set_rule(move |_| fault);
            let error = location.read_all(&listed, u64::MAX).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Storage, "{fault:?}: {error}");
            assert!(error.to_string().contains(hint), "{fault:?}: {error}");
            assert!(!error.to_string().contains("http"), "no address: {error}");
        }
    });
}

/// Failure matrix: 52.
#[test]
fn refusals_are_told_with_what_to_do() {
    let place = Place::new(Cloud::S3).unwrap();
    block_on(async {
        let storage = floe::storage::Storage::new(place.options(), Default::default()).unwrap();
        let location = storage.open(&format!("{}/in", place.url)).await.unwrap();
        for (status, code, hint) in [
            (403, "AccessDenied", "these credentials may not do that"),
            (403, "RequestTimeTooSkewed", "set the clock"),
            (403, "SignatureDoesNotMatch", "does not accept these credentials"),
            (400, "AuthorizationHeaderMalformed", "another region"),
            (301, "PermanentRedirect", "another region"),
            (404, "NoSuchBucket", "no such bucket"),
        ] {
            place.front.set_rule(move |_| Fault::Refuse(status, code));
            let error = location.list().await.unwrap_err().to_string();
            assert!(error.contains(hint), "{error}");
        }
        drop(place);
        // Nobody listens there any more.
        let mut options = floe::config::StorageOptions {
            retry: Duration::from_millis(500),
            ..Default::default()
        };
        for (name, value) in [
            ("aws_endpoint", "http://127.0.0.1:9"),
            ("aws_access_key_id", "k"),
            ("aws_secret_access_key", "s"),
        ] {
            options.options.0.insert(name.to_string(), value.to_string());
        }
        for (allow, hint) in [
            ("true", "check the endpoint, the network"),
            ("false", "set allow_http to true"),
        ] {
            options
                .options
                .0
                .insert("aws_allow_http".to_string(), allow.to_string());
            let storage = floe::storage::Storage::new(options.clone(), Default::default()).unwrap();
            let error = storage
                .open("s3://b/x")
                .await
                .unwrap()
                .list()
                .await
                .unwrap_err()
                .to_string();
            assert!(error.contains(hint), "{error}");
        }
    });
}

/// Failure matrix: 70.
#[test]
fn locations_in_one_store_know_how_they_lie_to_each_other() {
    let storage = floe::storage::Storage::new(
        floe::config::StorageOptions {
            options: floe::config::Settings(
                [
                    ("azure_storage_account_name", "acc"),
                    ("azure_storage_account_key", "a2V5"),
                ]
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .into(),
            ),
            ..Default::default()
        },
        Default::default(),
    )
    .unwrap();
    block_on(async {
        let cases = [
            ("s3://b/in", "s3://b/in/", Overlap::Same),
            ("s3://b/in", "s3a://b/in/out", Overlap::Contains),
            ("s3://b/in", "s3://b/input", Overlap::None),
            ("s3://b/in", "s3://c/in", Overlap::None),
            ("s3://b/in", "gs://b/in", Overlap::None),
            ("s3://b", "s3://b/in", Overlap::Contains),
            (
                "az://c/x",
                "abfss://c@acc.dfs.core.windows.net/x/y",
                Overlap::Contains,
            ),
            (
                "https://acc.blob.core.windows.net/c/x/y",
                "az://c/x",
                Overlap::Within,
            ),
            (
                "https://acc.blob.core.windows.net/c/x",
                "https://acc.blob.core.windows.net/d/x",
                Overlap::None,
            ),
            ("s3://b/in", "/b/in", Overlap::None),
        ];
        for (first, second, expected) in cases {
            let (one, other) = (
                storage.open(first).await.unwrap(),
                storage.open(second).await.unwrap(),
            );
            assert_eq!(overlap(&one, &other), expected, "{first} {second}");
        }
        let (inner, outer) = (
            storage.open("s3://b/in/x/out").await.unwrap(),
            storage.open("s3://b/in").await.unwrap(),
        );
        assert_eq!(path_within(&inner, &outer).as_deref(), Some("x/out"));
        assert_eq!(path_within(&outer, &inner), None);
    });
}
