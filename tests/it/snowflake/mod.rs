//! Snowflake stages by name, against a gateway of ours that Snowflake's own connector drives as well, and fakesnow.

mod clouds;
mod connector;
mod failures;
mod fakesnow;
mod gateway;
mod jobs;
mod keys;
mod sql;
mod stages;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use floe::config::StorageOptions;
use floe::storage::{Storage, Variables};

use gateway::{ACCOUNT, Gateway, PASSWORD, USER};

use crate::support::{Run, finish, floe};

/// Part of every secret here, and of nothing else.
const CANARY: &str = "c4n4ry";

/// `floe` with `arguments` and every log line, in a world where `home` is the user's folder for settings.
fn program(home: &Path, arguments: &[&str]) -> Command {
    let mut command = floe(arguments);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if ["SNOWFLAKE_", "XDG_", "AWS_", "AZURE_", "GOOGLE_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
        {
            command.env_remove(name);
        }
    }
    let folders = [("SNOWFLAKE_HOME", ".snowflake"), ("XDG_CONFIG_HOME", ".config")];
    for (name, folder) in folders {
        command.env(name, home.join(folder));
    }
    command.env("FLOE_LOG", "trace");
    command
}

/// Writes a `connections.toml` whose default connection logs in by password, with more lines.
fn write_connection(home: &Path, gateway: &Gateway, more: &str) {
    let lines = format!("user = {USER:?}\npassword = {PASSWORD:?}\n{more}");
    write_connection_of(home, gateway, &lines);
}

/// Writes a `connections.toml` whose default connection has these lines beside account and address.
fn write_connection_of(home: &Path, gateway: &Gateway, lines: &str) {
    use std::os::unix::fs::PermissionsExt;
    let folder = home.join(".snowflake");
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("connections.toml");
    let text = format!(
        "[default]\naccount = {ACCOUNT:?}\nhost = \"127.0.0.1\"\nport = {}\nprotocol = \"http\"\n{lines}\n",
        gateway.port()
    );
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
}

/// The stores that the library reaches through a gateway, without any file and with little patience.
fn storage_of(host: &str, port: &str, account: &str, user: &str, password: &str) -> Storage {
    let variables = [
        ("SNOWFLAKE_ACCOUNT", account),
        ("SNOWFLAKE_USER", user),
        ("SNOWFLAKE_PASSWORD", password),
        ("SNOWFLAKE_HOST", host),
        ("SNOWFLAKE_PORT", port),
        ("SNOWFLAKE_PROTOCOL", "http"),
        ("SNOWFLAKE_DATABASE", "DB"),
        ("SNOWFLAKE_SCHEMA", "S"),
        ("HOME", "/nowhere"),
    ];
    let variables = variables.map(|(name, value)| (name.to_string(), value.to_string()));
    let options = StorageOptions {
        retry: Duration::from_secs(1),
        ..StorageOptions::default()
    };
    Storage::new(options, Variables::of(variables)).unwrap()
}

/// Runs it, and searches what it says for secrets.
#[track_caller]
fn run(command: Command) -> Run {
    let mut run = finish(command);
    for (stream, text) in [("stdout", &run.stdout), ("stderr", &run.stderr)] {
        assert!(!text.contains(CANARY), "a secret on {stream}:\n{text}");
    }
    // What is left is for the reader of a failure.
    let is_ours = |line: &&str| !line.contains("\"name\":\"") || line.contains("\"name\":\"floe");
    let lines = run.stderr.lines().filter(is_ours);
    run.stderr = lines.collect::<Vec<_>>().join("\n");
    run
}
