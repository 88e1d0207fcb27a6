//! Mounted stage volumes: input, model and output on a file system that can neither rename, link, append nor write at
//! random (docs/storage.md, "Mounted stage volumes").

mod jobs;
mod kills;
mod stage;
mod store_check;
mod volume;

use std::time::{Duration, Instant};

/// Waits until something has happened.
#[track_caller]
fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let began = Instant::now();
    while !happened() {
        assert!(began.elapsed() < Duration::from_secs(60), "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
