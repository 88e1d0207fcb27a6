//! Reading the protocol's JSON back: bounded, strict, and with its format checked first.
//!
//! Another version of Floe may have written the object, so the format number is looked at before anything else;
//! unknown keys are then errors. A size limit bounds what a damaged or hostile object can make us allocate.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind, Result, ResultExt};

/// Largest plan or marker that is read or written: both grow with the number of files.
pub const MAX_PLAN_BYTES: u64 = 256 << 20;
/// Largest commit record that is read or written.
pub const MAX_RECORD_BYTES: u64 = 64 << 20;

#[derive(Deserialize)]
struct Head {
    format: u32,
}

/// Reads `body`, the object under `key`, as a `T` of format `format`.
pub fn read<T: DeserializeOwned>(body: &[u8], key: &str, format: u32, limit: u64) -> Result<T> {
    check_size(body.len() as u64, key, limit)?;
    let head: Head = parse(body, key)?;
    if head.format != format {
        return Err(Error::storage(format!(
            "written in format {} by another version of floe; this one reads format {format}",
            head.format
        ))
        .with("key", key)
        .with_hint("use the same version of floe for every replica and restart of a run"));
    }
    parse(body, key)
}

/// Refuses an object that is too large to be what its name says.
pub fn check_size(size: u64, key: &str, limit: u64) -> Result<()> {
    if size > limit {
        return Err(Error::storage(format!(
            "{size} bytes are too many for this object (limit {limit})"
        ))
        .with("key", key));
    }
    Ok(())
}

/// Reads only the keys that `T` names; other keys and other formats are fine.
pub fn peek<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    serde_json::from_slice(body).ok()
}

fn parse<T: DeserializeOwned>(body: &[u8], key: &str) -> Result<T> {
    serde_json::from_slice(body)
        .context(
            ErrorKind::Storage,
            "the object is not what floe stores under this name",
        )
        .map_err(|error| error.with("key", key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Thing {
        format: u32,
        name: String,
    }

    fn refusal(body: &str, limit: u64) -> String {
        read::<Thing>(body.as_bytes(), "k", 1, limit)
            .unwrap_err()
            .to_string()
    }

    /// Failure matrix: 68.
    #[test]
    fn only_the_known_format_is_read() {
        let body = br#"{"format": 1, "name": "a"}"#;
        let thing = read::<Thing>(body, "k", 1, 100).unwrap();
        assert_eq!(
            thing,
            Thing {
                format: 1,
                name: "a".into()
            }
        );
        assert!(refusal(r#"{"format": 2, "new": {}}"#, 100).contains("format 2"));
        assert!(refusal(r#"{"name": "a"}"#, 100).contains("missing field `format`"));
        assert!(refusal(r#"{"format": 1, "name": "a", "x": 1}"#, 100).contains("unknown field `x`"));
        assert!(refusal(r#"{"format": 1, "na"#, 100).contains("key k"));
        assert!(refusal(r#"{"format": 1, "name": "a"}"#, 25).contains("26 bytes are too many"));
    }
}
