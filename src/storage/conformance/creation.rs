//! Put-if-absent: what the store class rests on.

use bytes::Bytes;
use futures::future::join_all;

use super::{Answer, Bench};
use crate::error::Result;
use crate::storage::{Created, Store, lacks_create};

/// Creators of a race.
const CREATORS: usize = 16;

pub async fn one_after_the_other(bench: &Bench) -> Result<Answer> {
    let mut outcomes = Vec::new();
    for body in ["first", "second"] {
        match bench.store.create("create/once", body.into()).await {
            Ok(created) => outcomes.push(created),
            Err(error) if lacks_create(&error) => {
                return Ok(Answer::Fails("it has no such operation".to_string()));
            }
            Err(error) => return Err(error),
        }
    }
    let stored = bench.store.get("create/once").await?;
    Ok(match (outcomes[0], outcomes[1], stored.as_deref()) {
        (Created::Yes, Created::Exists, Some(b"first")) => Answer::holds(),
        (first, second, stored) => Answer::Fails(format!(
            "the creators were told {first:?} and {second:?}, and {} is stored",
            stored.map_or("nothing".into(), String::from_utf8_lossy)
        )),
    })
}

pub async fn at_once(bench: &Bench) -> Result<Answer> {
    for race in 0..bench.effort.races {
        let key = format!("create/race-{race}");
        let creators = (0..CREATORS).map(|creator| {
            let key = &key;
            async move {
                let body = Bytes::from(format!("creator {creator}"));
                (body.clone(), bench.store.create(key, body.into()).await)
            }
        });
        let mut winners = Vec::new();
        for (body, outcome) in join_all(creators).await {
            match outcome {
                Ok(Created::Yes) => winners.push(body),
                Ok(Created::Exists) => {}
                Err(error) if lacks_create(&error) => {
                    return Ok(Answer::Fails("it has no such operation".to_string()));
                }
                Err(error) => return Err(error),
            }
        }
        let stored = bench.store.get(&key).await?;
        match winners.as_slice() {
            [winner] if stored.as_ref() == Some(winner) => {}
            [_] => {
                return Ok(Answer::Fails(
                    "what is stored is not what the winner wrote".to_string(),
                ));
            }
            // An answer that was lost may leave none who knows; the protocol reads back then.
            [] if stored.is_some() => {}
            winners => {
                return Ok(Answer::Fails(format!(
                    "{} of {CREATORS} were told that they won",
                    winners.len()
                )));
            }
        }
    }
    Ok(Answer::Holds(format!("{} races", bench.effort.races)))
}
