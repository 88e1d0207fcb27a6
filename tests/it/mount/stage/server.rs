//! The process that serves a stage: this very program, started again to run the one test that is none.
//!
//! It answers the test's questions on a socket, a JSON document a line, and ends when the test is gone.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use fuser::{BackgroundSession, Config, MountOption, Session};
use serde_json::{Value, json};

use super::files::StageFiles;
use super::objects::Objects;
use super::{Question, Rules};

/// The test's name.
pub const TEST: &str = "mount::stage::server::serve";

/// The variable that names the stage's folder, and what lies in it.
pub const FOLDER: &str = "FLOE_TEST_STAGE";
pub const MOUNT: &str = "stage";
pub const SOCKET: &str = "socket";

/// What the file system and its keeper both see.
#[derive(Default)]
pub struct Shared {
    pub objects: Mutex<Objects>,
    pub rules: Mutex<Rules>,
    pub refused: Mutex<BTreeMap<&'static str, u64>>,
    pub torn: Mutex<Vec<String>>,
    pub in_hand: Mutex<BTreeMap<String, usize>>,
}

#[test]
#[ignore = "serves the stages of other tests, which start it"]
fn serve() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else {
        return;
    };
    let listener = UnixListener::bind(folder.join(SOCKET)).unwrap();
    let (mut line, _) = listener.accept().unwrap();
    let shared = Arc::new(Shared::default());
    let mounted = mount(shared.clone(), &folder.join(MOUNT));
    let told = mounted.as_ref().map(|_| ()).map_err(|error| error.to_string());
    writeln!(line, "{}", json!(told)).unwrap();
    let questions = BufReader::new(line.try_clone().unwrap()).lines();
    // Until the test is gone.
    for question in questions.map_while(Result::ok) {
        let answer = shared.answer(serde_json::from_str(&question).unwrap());
        if writeln!(line, "{answer}").is_err() {
            break;
        }
    }
    unmount(&folder.join(MOUNT));
}

fn mount(shared: Arc<Shared>, at: &Path) -> std::io::Result<BackgroundSession> {
    let mut config = Config::default();
    config.n_threads = Some(4);
    config.mount_options = vec![MountOption::FSName("floe-test-stage".to_string())];
    Session::new(StageFiles::new(shared), at, &config)?.spawn()
}

/// Even if a process still has something open there.
pub fn unmount(at: &Path) {
    let path = CString::new(at.as_os_str().as_bytes()).unwrap();
    // SAFETY: `path` is a NUL-terminated string.
    unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
}

impl Shared {
    fn answer(&self, question: Question) -> Value {
        match question {
            Question::Rules(rules) => {
                *self.rules.lock().unwrap() = rules;
                Value::Null
            }
            Question::Put(key, bytes) => {
                let bytes = BASE64_STANDARD.decode(bytes).unwrap();
                self.objects.lock().unwrap().publish(&key, bytes, Duration::ZERO);
                Value::Null
            }
            Question::Objects => {
                let objects = self.objects.lock().unwrap().all();
                let encoded = objects
                    .into_iter()
                    .map(|(key, bytes)| (key, BASE64_STANDARD.encode(bytes)));
                json!(encoded.collect::<BTreeMap<_, _>>())
            }
            Question::Refused => json!(std::mem::take(&mut *self.refused.lock().unwrap())),
            Question::Torn => json!(*self.torn.lock().unwrap()),
            Question::InHand => json!(*self.in_hand.lock().unwrap()),
        }
    }
}
