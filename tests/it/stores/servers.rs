//! Servers to talk to: moto's S3 server and Azurite. Each is started once, shared by the tests that run at the time, and
//! killed when the last of them is done. Of a test that fails, the end of its server's log is shown.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use crate::support::{project, python};

/// Far more than a server ever needs to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The account that Azurite has, and its well-known key.
pub const AZURE_ACCOUNT: &str = "devstoreaccount1";
pub const AZURE_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// A server that runs.
pub struct Server {
    process: Child,
    log: PathBuf,
    /// `127.0.0.1:port`.
    pub address: String,
    _folder: tempfile::TempDir,
}

/// A share in a server.
#[derive(Clone)]
pub struct Guard(Arc<Server>);

static MOTO: Mutex<Weak<Server>> = Mutex::new(Weak::new());
static AZURITE: Mutex<Weak<Server>> = Mutex::new(Weak::new());

/// moto's S3 server, one conditional request at a time.
pub fn moto() -> Guard {
    shared(&MOTO, |port| {
        let mut command = Command::new(python());
        command.arg(project().join("tests/peers/moto_server.py"));
        command.args(["-H", "127.0.0.1", "-p", port]);
        command
    })
}

/// Azurite, or `None` where there is no Node to run it; `FLOE_TEST_ALL=1` makes that a failure.
pub fn azurite() -> Option<Guard> {
    let found = Command::new(project().join("scripts/azurite")).output().unwrap();
    let said = String::from_utf8_lossy(&found.stderr).into_owned();
    if !found.status.success() {
        let is_absent = found.status.code() == Some(3) && std::env::var_os("FLOE_TEST_ALL").is_none();
        assert!(is_absent, "{said}");
        println!("left out: {said}");
        return None;
    }
    let program = String::from_utf8(found.stdout).unwrap();
    Some(shared(&AZURITE, |port| {
        let mut command = Command::new("node");
        command.arg(program.trim());
        command.args(["--blobHost", "127.0.0.1", "--blobPort", port]);
        command.args([
            "--inMemoryPersistence",
            "--disableTelemetry",
            "--skipApiVersionCheck",
        ]);
        command
    }))
}

fn shared(place: &Mutex<Weak<Server>>, command: impl Fn(&str) -> Command) -> Guard {
    // A test that panics while it starts a server leaves none behind.
    let mut place = place.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(server) = place.upgrade() {
        return Guard(server);
    }
    // Somebody may take the port between finding it free and using it.
    let server = (0..3)
        .find_map(|_| Server::start(&command))
        .expect("the server ended: see above");
    let server = Arc::new(server);
    *place = Arc::downgrade(&server);
    Guard(server)
}

impl Server {
    fn start(command: impl Fn(&str) -> Command) -> Option<Server> {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let file = File::create(&log).unwrap();
        let mut command = command(&port.to_string());
        command
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file);
        let server = Server {
            process: command.spawn().unwrap(),
            log,
            address: format!("127.0.0.1:{port}"),
            _folder: folder,
        };
        server.wait()
    }

    fn wait(mut self) -> Option<Server> {
        let began = Instant::now();
        while TcpStream::connect(&self.address).is_err() {
            if let Some(status) = self.process.try_wait().unwrap() {
                println!("a server ended with {status}: {}", self.tail());
                return None;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "a server does not start: {}",
                self.tail()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(self)
    }

    fn tail(&self) -> String {
        let log = String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl std::ops::Deref for Guard {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.0
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the server at {} said last:\n{}", self.address, self.tail());
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
