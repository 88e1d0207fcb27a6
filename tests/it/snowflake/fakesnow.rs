//! fakesnow, which others wrote: Floe logs in there and PUTs a result, and Snowflake's connector loads it into a table.

use std::ffi::OsStr;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use floe::storage::{OutputStore, Store};

use super::jobs::block_on;
use super::storage_of;
use crate::support::{Scenario, check_with, python};

struct Fakesnow {
    process: Child,
    port: String,
}

impl Fakesnow {
    fn start() -> Fakesnow {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let process = Command::new(python())
            .args(["-m", "fakesnow", "-s", "-p", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Fakesnow {
            process,
            port: port.to_string(),
        };
        let began = Instant::now();
        while TcpStream::connect(format!("127.0.0.1:{port}")).is_err() {
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "fakesnow does not start"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }
}

impl Drop for Fakesnow {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_result_put_on_a_stage_of_fakesnow_is_copied_into_a_table_row_by_row() {
    let scenario = Scenario::with_files(&[120, 80], 50);
    scenario.run(&[]).ok();
    let files = scenario.contents();
    let server = Fakesnow::start();
    let script = |step: &str| check_with("fakesnow_copy.py", &[&server.port, step].map(OsStr::new));
    assert_eq!(script("prepare")["ready"], true);
    let storage = storage_of("localhost", &server.port, "fakesnow", "fake", "snow");
    block_on(async {
        for location in ["@results/out", "@db.s.results/out"] {
            let output = OutputStore::new(storage.open(location).await.unwrap());
            for (name, bytes) in &files {
                output.put(name, bytes.clone().into()).await.unwrap();
            }
        }
        let error = storage.open("@db.s.nothing").await.unwrap_err().to_string();
        assert!(error.contains("does not exist or not authorized"), "{error}");
    });
    let copied = script("copy");
    let sum: i64 = scenario.rows().keys().sum();
    assert_eq!(
        (&copied["rows"], &copied["sum"]),
        (&200.into(), &sum.into()),
        "{copied}"
    );
}
