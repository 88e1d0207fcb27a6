//! A stage volume of our own: a FUSE file system that refuses what the mounted stages of Snowflake refuse.
//!
//! Files are written once, from beginning to end; what was written becomes an object when the file is closed, and until
//! then nobody sees it. There are no renames, links, appends, writes at other places, locks or attributes, and a file
//! has another inode number at each look. A folder is there as long as something lies in it. What such mounts are
//! *likely* to do as well, a test can ask for: [`Rules`].
//!
//! A process of its own serves it ([`server`]): one that waits for a file system which it serves itself can't even be
//! killed. It mounts in the mount namespace of the test's thread, so nothing stays mounted, whatever happens.

mod files;
mod objects;
mod server;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

/// What a stage does beyond what all stages do.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Rules {
    /// A writer that is killed leaves an object of what it had written; else it leaves nothing.
    pub publishes_torn: bool,
    /// How long after the close an object is seen.
    pub shows_after: Duration,
    /// Closing a file whose path holds this text fails, and nothing is published.
    pub close_fails: Option<String>,
    /// How long each write takes.
    pub write_takes: Duration,
    /// Syncing a file is an error.
    pub refuses_sync: bool,
}

/// What a test asks the process that serves a stage.
#[derive(Serialize, Deserialize)]
enum Question {
    Rules(Rules),
    /// Key and bytes in Base64.
    Put(String, String),
    Objects,
    Refused,
    Torn,
    InHand,
}

/// A mounted stage.
pub struct Stage {
    folder: TempDir,
    line: Mutex<BufReader<UnixStream>>,
    server: Child,
}

impl Stage {
    /// Mounts an empty stage. `None`, after saying so, where that can't be done; with `FLOE_TEST_ALL=1` that is a
    /// failure.
    pub fn mount(rules: Rules) -> Option<Stage> {
        match Stage::try_mount() {
            Ok(stage) => {
                stage.set_rules(rules);
                Some(stage)
            }
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

    fn try_mount() -> Result<Stage, String> {
        enter_own_namespace();
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(server::MOUNT)).unwrap();
        let server = Command::new(std::env::current_exe().unwrap())
            .args([server::TEST, "--exact", "--ignored", "--test-threads=1"])
            .env(server::FOLDER, folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let line = connect(&folder.path().join(server::SOCKET));
        let stage = Stage {
            folder,
            line: Mutex::new(BufReader::new(line)),
            server,
        };
        let mounted: Result<(), String> = stage.hear();
        mounted.map(|()| stage)
    }

    /// A path on the stage.
    pub fn path(&self, key: &str) -> PathBuf {
        self.folder.path().join(server::MOUNT).join(key)
    }

    /// Changes what the stage does from now on.
    pub fn set_rules(&self, rules: Rules) {
        self.ask(&Question::Rules(rules))
    }

    /// How often what was refused, since this was asked last.
    pub fn refused(&self) -> BTreeMap<String, u64> {
        self.ask(&Question::Refused)
    }

    /// Objects that were published although their writer had been killed.
    pub fn torn(&self) -> Vec<String> {
        self.ask(&Question::Torn)
    }

    /// Files that are being written, with their bytes so far.
    pub fn in_hand(&self) -> BTreeMap<String, usize> {
        self.ask(&Question::InHand)
    }

    /// Stores an object, as somebody would who puts it to the stage elsewhere.
    pub fn put(&self, key: &str, bytes: &[u8]) {
        self.ask(&Question::Put(key.to_string(), BASE64_STANDARD.encode(bytes)))
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
        let objects: BTreeMap<String, String> = self.ask(&Question::Objects);
        objects
            .into_iter()
            .map(|(key, bytes)| (key, BASE64_STANDARD.decode(bytes).unwrap()))
            .collect()
    }

    fn ask<T: DeserializeOwned>(&self, question: &Question) -> T {
        let mut words = serde_json::to_string(question).unwrap();
        words.push('\n');
        let mut line = self.line.lock().unwrap();
        line.get_mut().write_all(words.as_bytes()).unwrap();
        drop(line);
        self.hear()
    }

    fn hear<T: DeserializeOwned>(&self) -> T {
        let mut words = String::new();
        self.line.lock().unwrap().read_line(&mut words).unwrap();
        serde_json::from_str(&words)
            .unwrap_or_else(|error| panic!("the stage's server says {words:?}: {error}"))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // The mount ends with its server.
        let _ = self.server.kill();
        let _ = self.server.wait();
        server::unmount(&self.path(""));
    }
}

/// The line to a server that is just starting.
fn connect(socket: &Path) -> UnixStream {
    let began = Instant::now();
    loop {
        match UnixStream::connect(socket) {
            Ok(line) => return line,
            Err(error) if began.elapsed() > Duration::from_secs(60) => {
                panic!("no server of the stage: {error}")
            }
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
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
