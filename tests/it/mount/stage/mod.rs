//! A stage volume of our own: a FUSE file system that refuses what the mounted stages of Snowflake refuse.
//!
//! Files are written once, from beginning to end; what was written becomes an object when the file is closed, and until
//! then nobody sees it. There are no renames, links, appends, writes at other places, locks or attributes, and a file
//! has another inode number at each look. A folder is there as long as something lies in it. What such mounts are
//! *likely* to do as well, a test can ask for: [`Rules`].
//!
//! Each test mounts in a mount namespace of its own thread, so nothing stays mounted, whatever happens to it.

mod files;
mod objects;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use fuser::{BackgroundSession, Config, MountOption, Session};
use tempfile::TempDir;

use files::StageFiles;
use objects::Objects;

/// What a stage does beyond what all stages do.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// A writer that is killed leaves an object of what it had written; else it leaves nothing.
    pub publishes_torn: bool,
    /// How long after the close an object is seen.
    pub shows_after: Duration,
    /// Closing a file whose path holds this text fails, and nothing is published.
    pub close_fails: Option<&'static str>,
    /// How long each write takes.
    pub write_takes: Duration,
    /// Syncing a file is an error.
    pub refuses_sync: bool,
}

/// A mounted stage.
pub struct Stage {
    folder: TempDir,
    state: Arc<Shared>,
    _session: BackgroundSession,
}

/// What the file system and the test both see.
#[derive(Default)]
struct Shared {
    objects: Mutex<Objects>,
    rules: Mutex<Rules>,
    refused: Mutex<BTreeMap<&'static str, u64>>,
    torn: Mutex<Vec<String>>,
    in_hand: Mutex<BTreeMap<String, usize>>,
}

impl Stage {
    /// Mounts an empty stage. `None`, after saying so, where that can't be done; with `FLOE_TEST_ALL=1` that is a
    /// failure.
    pub fn mount(rules: Rules) -> Option<Stage> {
        match Stage::try_mount(rules) {
            Ok(stage) => Some(stage),
            Err(error) => {
                let needed = std::env::var("FLOE_TEST_ALL").is_ok_and(|all| all == "1");
                assert!(
                    !needed,
                    "FLOE_TEST_ALL=1, but FUSE can't be mounted here: {error}"
                );
                eprintln!("left out: FUSE can't be mounted here: {error}");
                None
            }
        }
    }

    fn try_mount(rules: Rules) -> std::io::Result<Stage> {
        enter_own_namespace();
        let folder = tempfile::tempdir()?;
        let state = Arc::new(Shared::default());
        *state.rules.lock().unwrap() = rules;
        let mut config = Config::default();
        config.n_threads = Some(4);
        config.mount_options = vec![MountOption::FSName("floe-test-stage".to_string())];
        let session = Session::new(StageFiles::new(state.clone()), folder.path(), &config)?;
        Ok(Stage {
            folder,
            state,
            _session: session.spawn()?,
        })
    }

    /// A path on the stage.
    pub fn path(&self, key: &str) -> PathBuf {
        self.folder.path().join(key)
    }

    /// Changes what the stage does from now on.
    pub fn rules(&self) -> MutexGuard<'_, Rules> {
        self.state.rules.lock().unwrap()
    }

    /// How often what was refused, since this was asked last.
    pub fn refused(&self) -> BTreeMap<&'static str, u64> {
        std::mem::take(&mut self.state.refused.lock().unwrap())
    }

    /// Objects that were published although their writer had been killed.
    pub fn torn(&self) -> Vec<String> {
        self.state.torn.lock().unwrap().clone()
    }

    /// Files that are being written, with their bytes so far.
    pub fn in_hand(&self) -> BTreeMap<String, usize> {
        self.state.in_hand.lock().unwrap().clone()
    }

    /// Stores an object, as somebody would who puts it to the stage elsewhere.
    pub fn put(&self, key: &str, bytes: &[u8]) {
        let mut objects = self.state.objects.lock().unwrap();
        objects.publish(key, bytes.to_vec(), Duration::ZERO);
    }

    /// Stores every file below a folder.
    pub fn put_folder(&self, key: &str, folder: &Path) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let key = format!("{key}/{}", path.file_name().unwrap().to_str().unwrap());
            if path.is_dir() {
                self.put_folder(&key, &path);
            } else {
                self.put(&key, &std::fs::read(&path).unwrap());
            }
        }
    }

    /// The objects that are seen now, by key.
    pub fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        self.state.objects.lock().unwrap().all()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Even if a process still has something open there.
        let path = CString::new(self.folder.path().as_os_str().as_bytes()).unwrap();
        // SAFETY: `path` is a NUL-terminated string.
        unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
    }
}

/// Gives this thread mounts of its own, which the processes it starts share and which end with them. Only root may;
/// others mount for all to see, by `fusermount3`.
fn enter_own_namespace() {
    // SAFETY: changes what this thread sees mounted, and no memory.
    unsafe {
        if libc::unshare(libc::CLONE_NEWNS) == 0 {
            let flags = libc::MS_REC | libc::MS_PRIVATE;
            let nothing = std::ptr::null();
            libc::mount(nothing, c"/".as_ptr(), nothing, flags, nothing.cast());
        }
    }
}
