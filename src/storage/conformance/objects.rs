//! Objects: written, replaced, read, listed, removed.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::BTreeSet;

use super::{AT_ONCE, Answer, Bench};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{Listed, Store};

/// Names that encodings, file systems and stores get wrong easily.
const ODD_NAMES: [&str; 12] = [
    "a b/c  d.parquet",
    "percent%25/100%/x%2Fy",
    "dt=2026-11-21/kind=a+b&c=d",
    "accents é à ü/日本語.parquet",
    "emoji 🙂.json",
    "quotes '\"`",
    "comma,semi;colon:at@",
    "~tilde/(round)[square]{curly}",
    "dots..in...it",
    "question?mark*star",
    "sharp#/x",
    "_floe/e1/c/000001.r10.b20.f1.x0123456789abcdef0123456789abcdef",
];

pub async fn read_after_write(bench: &Bench) -> Result<Answer> {
    let body = pattern(10_000, 1);
    bench.store.put("written/once", body.clone().into()).await?;
    wrong_at(bench, "written/once", &body).await.map(Answer::unless)
}

pub async fn overwrite_is_seen(bench: &Bench) -> Result<Answer> {
    // Longer, shorter, and of the same size as the one before, which is the hardest to tell apart.
    for (round, size) in [100, 5_000, 100, 100, 100].into_iter().enumerate() {
        let body = pattern(size, round as u8);
        bench.store.put("written/often", body.clone().into()).await?;
        if let Some(wrong) = wrong_at(bench, "written/often", &body).await? {
            return Ok(Answer::Fails(format!("after {} writes {wrong}", round + 1)));
        }
    }
    Ok(Answer::holds())
}

pub async fn list_after_write(bench: &Bench) -> Result<Answer> {
    for number in 0..8 {
        let key = format!("listed/{number}");
        bench.store.put(&key, "x".into()).await?;
        if !keys(bench, "listed").await?.contains(&key) {
            return Ok(Answer::Fails(format!("object {number} was missing")));
        }
    }
    Ok(Answer::holds())
}

pub async fn list_after_delete(bench: &Bench) -> Result<Answer> {
    for number in 0..8 {
        let key = format!("removed/{number}");
        bench.store.put(&key, "x".into()).await?;
        bench.store.delete(&key).await?;
        if keys(bench, "removed").await?.contains(&key) {
            return Ok(Answer::Fails(format!("object {number} was still listed")));
        }
        if bench.store.get(&key).await?.is_some() || bench.store.head(&key).await?.is_some() {
            return Ok(Answer::Fails(format!("object {number} could still be read")));
        }
    }
    Ok(Answer::holds())
}

pub async fn delete_of_absent(bench: &Bench) -> Result<Answer> {
    bench.store.delete("never/there").await?;
    Ok(Answer::holds())
}

pub async fn odd_names(bench: &Bench) -> Result<Answer> {
    let long = format!("long/{}", "n".repeat(180));
    let names = ODD_NAMES.into_iter().chain([long.as_str()]);
    let expected: BTreeSet<String> = names.map(|name| format!("odd/{name}")).collect();
    for key in &expected {
        let body = Bytes::from(key.clone().into_bytes());
        bench.store.put(key, body.clone().into()).await?;
        if let Some(wrong) = wrong_at(bench, key, &body).await? {
            return Ok(Answer::Fails(format!("{key}: {wrong}")));
        }
    }
    let listed = keys(bench, "odd").await?;
    let odd = listed.symmetric_difference(&expected).next();
    Ok(Answer::unless(
        odd.map(|key| format!("{key} is listed otherwise")),
    ))
}

pub async fn empty_object(bench: &Bench) -> Result<Answer> {
    bench.store.put("written/empty", Bytes::new().into()).await?;
    if !keys(bench, "written").await?.contains("written/empty") {
        return Ok(Answer::Fails("it is not listed".to_string()));
    }
    wrong_at(bench, "written/empty", &Bytes::new())
        .await
        .map(Answer::unless)
}

pub async fn large_object(bench: &Bench) -> Result<Answer> {
    let body = large(bench);
    bench.store.put("large/object", body.clone().into()).await?;
    Ok(match wrong_at(bench, "large/object", &body).await? {
        Some(wrong) => Answer::Fails(wrong),
        None => Answer::Holds(format!("{} KiB", body.len() >> 10)),
    })
}

/// Of what [`large_object`] has stored.
pub async fn range_reads(bench: &Bench) -> Result<Answer> {
    let body = large(bench);
    let size = body.len() as u64;
    let ranges = [size / 2..size / 2 + 4096, 0..1, size - 1..size, 5..5_000, 0..size];
    let object = listed(bench, "large/object").await?;
    let parts = bench
        .place
        .read_ranges(&object.path, object.etag.as_deref(), &ranges)
        .await?;
    for (range, part) in ranges.iter().zip(parts) {
        if part != body[range.start as usize..range.end as usize] {
            return Ok(Answer::Fails(format!("bytes {range:?} are others")));
        }
    }
    Ok(Answer::holds())
}

pub async fn many_objects(bench: &Bench) -> Result<Answer> {
    let count = bench.effort.many_objects;
    let expected: BTreeSet<String> = (0..count).map(|number| format!("many/{number:06}")).collect();
    let writes = expected
        .clone()
        .into_iter()
        .map(|key| async move { bench.store.put(&key, "x".into()).await });
    stream::iter(writes)
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<()>>()
        .await?;
    let listed = keys(bench, "many").await?;
    Ok(match listed == expected {
        true => Answer::Holds(format!("{count} objects")),
        false => Answer::Fails(format!(
            "{} of {count} are listed",
            listed.intersection(&expected).count()
        )),
    })
}

pub async fn pinned_read(bench: &Bench) -> Result<Answer> {
    is_pinned(bench, "pinned/other-size", "after the change").await
}

pub async fn pinned_read_same_size(bench: &Bench) -> Result<Answer> {
    is_pinned(bench, "pinned/same-size", "after").await
}

/// Whether a reader who knows an object's etag hears that `after` is there now.
async fn is_pinned(bench: &Bench, key: &str, after: &'static str) -> Result<Answer> {
    bench.store.put(key, "first".into()).await?;
    let before = listed(bench, key).await?;
    let Some(etag) = before.etag.as_deref() else {
        return Ok(Answer::Fails("listings have no etags".to_string()));
    };
    let whole = std::slice::from_ref(&(0..5));
    let read = bench.place.read_ranges(key, Some(etag), whole).await?;
    if read != ["first"] {
        return Ok(Answer::Fails(
            "the object was read otherwise than it was written".to_string(),
        ));
    }
    bench.store.put(key, after.into()).await?;
    match bench.place.read_ranges(key, Some(etag), whole).await {
        Ok(_) => Ok(Answer::Fails(
            "the new object was read as if it were the old one".to_string(),
        )),
        Err(error) if error.kind() == ErrorKind::InputChanged => Ok(Answer::holds()),
        Err(error) => Err(error),
    }
}

/// What is wrong with an object that should hold `body`.
async fn wrong_at(bench: &Bench, key: &str, body: &Bytes) -> Result<Option<String>> {
    let size = bench.store.head(key).await?;
    if size != Some(body.len() as u64) {
        return Ok(Some(format!("its size is {size:?}, not {}", body.len())));
    }
    Ok(match bench.store.get(key).await? {
        None => Some("it isn't there".to_string()),
        Some(stored) if stored != body => Some("its bytes are others".to_string()),
        Some(_) => None,
    })
}

async fn keys(bench: &Bench, prefix: &str) -> Result<BTreeSet<String>> {
    let entries = bench.store.list(prefix).await?;
    Ok(entries.into_iter().map(|entry| entry.key).collect())
}

/// An object as readers of an input find it.
async fn listed(bench: &Bench, key: &str) -> Result<Listed> {
    let objects = bench.place.list().await?;
    let found = objects.into_iter().find(|object| object.path == key);
    found.ok_or_else(|| Error::storage("the listing lacks the object").with("key", key))
}

fn large(bench: &Bench) -> Bytes {
    pattern(bench.effort.large_bytes, 7)
}

/// Bytes that repeat at no distance that a block or part has.
fn pattern(size: usize, seed: u8) -> Bytes {
    const PERIOD: usize = 65_521;
    let period: Vec<u8> = (0..PERIOD.min(size))
        .map(|at| (at * 31 + at / 251) as u8 ^ seed)
        .collect();
    period.into_iter().cycle().take(size).collect()
}
