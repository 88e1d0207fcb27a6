//! A million equal warnings make a handful of lines and a count.
//!
//! Each place in the program that logs (and, where its entries have a field `kind`, each kind) may write
//! [`BURST`] entries in [`WINDOW`]; the rest is counted and told when the window ends. Levels below `INFO` are not
//! limited: who asks for them wants all of them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::{Level, Metadata};

use super::entry::{Entry, prefix};

/// Most entries of one place in one window.
pub const BURST: u64 = 20;
/// The length of a window.
pub const WINDOW: Duration = Duration::from_secs(10);
/// Kinds beyond this number share one window, so that a field with endless values can't fill the memory.
const MAX_PLACES: usize = 4096;
/// Bytes of a message that are repeated with the count.
const SAMPLE_BYTES: usize = 200;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    callsite: Identifier,
    kind: Option<String>,
}

struct Window {
    opened: Instant,
    written: u64,
    left_out: u64,
    metadata: &'static Metadata<'static>,
    sample: String,
}

/// Decides which entries are written. See the [module](self) page.
#[derive(Default)]
pub struct Limiter {
    windows: Mutex<HashMap<Place, Window>>,
}

impl Limiter {
    /// Whether `entry` may be written at `now`. The counts of windows that ended come from [`Limiter::ended`].
    pub fn admits(&self, metadata: &'static Metadata<'static>, entry: &Entry, now: Instant) -> bool {
        if entry.level > Level::INFO {
            return true;
        }
        let kind = entry.get("kind").and_then(|kind| kind.as_str());
        let mut place = Place {
            callsite: metadata.callsite(),
            kind: kind.map(str::to_string),
        };
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.len() >= MAX_PLACES && !windows.contains_key(&place) {
            place.kind = None;
        }
        let window = windows.entry(place).or_insert_with(|| Window {
            opened: now,
            written: 0,
            left_out: 0,
            metadata,
            sample: prefix(&entry.body, SAMPLE_BYTES).to_string(),
        });
        // A window with a count stays until `ended` has told it, at most a moment later.
        if window.left_out == 0 && now.duration_since(window.opened) >= WINDOW {
            window.opened = now;
            window.written = 0;
        }
        if window.written < BURST {
            window.written += 1;
            return true;
        }
        window.left_out += 1;
        false
    }

    /// Forgets the windows that ended by `now` (all of them with `None`) and returns an entry for each that left
    /// something out.
    pub fn ended(&self, now: Option<Instant>) -> Vec<Entry> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let mut entries = Vec::new();
        windows.retain(|place, window| {
            let is_open = now.is_some_and(|now| now.duration_since(window.opened) < WINDOW);
            if is_open || window.left_out == 0 {
                return is_open;
            }
            let body = format!(
                "{} more entries like this were left out: {}",
                window.left_out, window.sample
            );
            let mut entry = Entry::plain(window.metadata, body);
            entry.fields.push(("left_out", window.left_out.into()));
            if let Some(kind) = &place.kind {
                entry.fields.push(("kind", kind.clone().into()));
            }
            entries.push(entry);
            false
        });
        entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tracing::field::FieldSet;
    use tracing::metadata::Kind;

    struct Callsite;
    static CALLSITE: Callsite = Callsite;
    static WARNING: Metadata<'static> = Metadata::new(
        "event",
        "floe::read",
        Level::WARN,
        None,
        None,
        None,
        FieldSet::new(&[], Identifier(&CALLSITE)),
        Kind::EVENT,
    );
    impl tracing::Callsite for Callsite {
        fn set_interest(&self, _: tracing::subscriber::Interest) {}
        fn metadata(&self) -> &Metadata<'static> {
            &WARNING
        }
    }

    fn entry(kind: Option<&str>) -> Entry {
        let mut entry = Entry::plain(&WARNING, "slow request".to_string());
        if let Some(kind) = kind {
            entry.fields.push(("kind", kind.into()));
        }
        entry
    }

    #[test]
    fn a_million_equal_warnings_make_a_burst_and_a_count() {
        let limiter = Limiter::default();
        let start = Instant::now();
        let warning = entry(None);
        let written = (0..1_000_000)
            .filter(|_| limiter.admits(&WARNING, &warning, start))
            .count();
        assert_eq!(written, 20);
        assert!(limiter.ended(Some(start + WINDOW / 2)).is_empty());
        let counts = limiter.ended(Some(start + WINDOW));
        assert_eq!(counts.len(), 1);
        assert_eq!(
            counts[0].body,
            "999980 more entries like this were left out: slow request"
        );
        assert_eq!(counts[0].fields, [("left_out", json!(999_980))]);
        assert!(limiter.ended(Some(start + 2 * WINDOW)).is_empty(), "told once");
    }

    #[test]
    fn a_new_window_writes_again() {
        let limiter = Limiter::default();
        let start = Instant::now();
        for _ in 0..BURST {
            assert!(limiter.admits(&WARNING, &entry(None), start));
        }
        assert!(!limiter.admits(&WARNING, &entry(None), start));
        assert_eq!(limiter.ended(Some(start + WINDOW)).len(), 1);
        assert!(limiter.admits(&WARNING, &entry(None), start + WINDOW));
    }

    #[test]
    fn a_full_window_that_left_nothing_out_opens_again_by_itself() {
        let limiter = Limiter::default();
        let start = Instant::now();
        for _ in 0..BURST {
            assert!(limiter.admits(&WARNING, &entry(None), start));
        }
        assert!(limiter.admits(&WARNING, &entry(None), start + WINDOW));
    }

    #[test]
    fn kinds_are_limited_apart_and_named_with_their_count() {
        let limiter = Limiter::default();
        let start = Instant::now();
        for _ in 0..BURST + 1 {
            limiter.admits(&WARNING, &entry(Some("storage")), start);
        }
        assert!(limiter.admits(&WARNING, &entry(Some("data")), start));
        let counts = limiter.ended(None);
        assert_eq!(counts.len(), 1);
        assert_eq!(counts[0].get("kind"), Some(&json!("storage")));
    }

    #[test]
    fn endless_kinds_do_not_fill_the_memory() {
        let limiter = Limiter::default();
        let start = Instant::now();
        for number in 0..2 * MAX_PLACES {
            limiter.admits(&WARNING, &entry(Some(&number.to_string())), start);
        }
        assert!(limiter.windows.lock().unwrap().len() <= MAX_PLACES + 1);
    }

    #[test]
    fn debug_entries_are_not_limited() {
        let limiter = Limiter::default();
        let start = Instant::now();
        let mut detail = entry(None);
        detail.level = Level::DEBUG;
        assert!((0..10 * BURST).all(|_| limiter.admits(&WARNING, &detail, start)));
    }
}
