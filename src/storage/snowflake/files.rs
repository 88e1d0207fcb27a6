//! Where the Snowflake CLI and the connector keep connections: `connections.toml` and `config.toml`.
//!
//! Both lie in `$SNOWFLAKE_HOME`, or `~/.snowflake` if that folder is there, or else in the user's folder for
//! configuration. A `connections.toml` takes the place of the section `connections` of `config.toml`. Over them come
//! `SNOWFLAKE_CONNECTIONS` (TOML), `SNOWFLAKE_DEFAULT_CONNECTION_NAME` and, for one setting of one connection,
//! `SNOWFLAKE_CONNECTIONS_<NAME>_<KEY>`; under them, for what a connection leaves open, `SNOWFLAKE_<KEY>`. The rules
//! are those of the Python connector 4.8 (`config_manager.py`, `sf_dirs.py`) and of the CLI's documentation.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::storage::variables::Variables;

/// The connection that is meant when nobody names one.
const DEFAULT_NAME: &str = "default";

/// Larger files are no list of connections.
const MOST_BYTES: u64 = 1 << 20;

/// One connection as it is written; some values are secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Written {
    /// For messages: which connection this is, and from where.
    pub(super) origin: String,
    values: BTreeMap<String, String>,
}

impl Written {
    /// The value of the first of `keys` that is given and not empty.
    pub(super) fn get(&self, keys: &[&str]) -> Option<&str> {
        let mut values = keys.iter().filter_map(|key| self.values.get(*key));
        values.find(|value| !value.is_empty()).map(String::as_str)
    }

    /// Settings that stand in variables alone: `SNOWFLAKE_<KEY>`.
    pub(super) fn of_variables(variables: &Variables) -> Written {
        let mut written = Written {
            origin: "the SNOWFLAKE_… variables".to_string(),
            ..Written::default()
        };
        written.fill_from(variables);
        written
    }

    /// What is still open comes from `SNOWFLAKE_<KEY>`.
    fn fill_from(&mut self, variables: &Variables) {
        for (name, value) in variables.iter() {
            let Some(key) = name.strip_prefix("SNOWFLAKE_") else {
                continue;
            };
            if !key.starts_with("CONNECTIONS") {
                self.values
                    .entry(key.to_ascii_lowercase())
                    .or_insert_with(|| value.to_string());
            }
        }
    }
}

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        f.debug_set().entries(self.values.keys()).finish()
    }
}

/// Looks up a connection, by name or the default one.
///
/// # Errors
/// `Config` when there is none, naming those that there are, and for files that are no TOML or that others may write.
pub(super) fn connection(name: Option<&str>, variables: &Variables) -> Result<Written> {
    let folder = folder(variables);
    let mut found = Found::default();
    if let Some(folder) = &folder {
        found.read_config(&folder.join("config.toml"))?;
        found.read_connections(&folder.join("connections.toml"))?;
    }
    if let Some(text) = variables.get("SNOWFLAKE_CONNECTIONS") {
        found.connections = tables(parse(text, "SNOWFLAKE_CONNECTIONS")?);
        found.origin = "SNOWFLAKE_CONNECTIONS".to_string();
    }
    let name = name
        .or(variables.get("SNOWFLAKE_DEFAULT_CONNECTION_NAME"))
        .or(found.default_name.as_deref())
        .unwrap_or(DEFAULT_NAME)
        .to_string();
    let mut values = found.connections.remove(&name);
    let prefix = format!("SNOWFLAKE_CONNECTIONS_{}_", name.to_uppercase());
    for (variable, value) in variables.iter() {
        if let Some(key) = variable.strip_prefix(&prefix) {
            let values = values.get_or_insert_default();
            values.insert(key.to_ascii_lowercase(), value.to_string());
        }
    }
    let Some(values) = values else {
        let known: Vec<&str> = found.connections.keys().map(String::as_str).collect();
        let known = match known.as_slice() {
            [] => "there is none".to_string(),
            names => format!("there are: {}", names.join(", ")),
        };
        let place = folder.map_or("the user's folder for configuration".to_string(), |folder| {
            folder.display().to_string()
        });
        return Err(Error::config(format!("there is no Snowflake connection {name:?}; {known}"))
            .with("location", &place)
            .with_hint(format!(
                "write a section [{name}] with account, user and a way to log in into {place}/connections.toml, or \
                 name another with --connection or storage.connection"
            )));
    };
    let mut written = Written {
        origin: format!("{name} of {}", found.origin),
        values,
    };
    written.fill_from(variables);
    Ok(written)
}

/// The folder of the files, as far as the variables tell where it is.
fn folder(variables: &Variables) -> Option<PathBuf> {
    let home = variables.path("HOME");
    let given = variables.get("SNOWFLAKE_HOME").unwrap_or("~/.snowflake");
    let single = expand(given, home.as_deref());
    if let Some(single) = single.filter(|folder| folder.exists()) {
        return Some(single);
    }
    if cfg!(target_os = "macos") {
        return Some(home?.join("Library/Application Support/snowflake"));
    }
    let config = variables
        .path("XDG_CONFIG_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| Some(home?.join(".config")))?;
    Some(config.join("snowflake"))
}

/// A path with `~` for the home folder.
pub(super) fn expand(path: &str, home: Option<&Path>) -> Option<PathBuf> {
    match (path.strip_prefix('~'), home) {
        (Some(""), Some(home)) => Some(home.to_path_buf()),
        (Some(rest), home) if rest.starts_with('/') => Some(home?.join(&rest[1..])),
        _ => Some(PathBuf::from(path)),
    }
}

#[derive(Default)]
struct Found {
    origin: String,
    default_name: Option<String>,
    connections: BTreeMap<String, BTreeMap<String, String>>,
}

impl Found {
    fn read_config(&mut self, path: &Path) -> Result<()> {
        let Some(mut table) = read(path)? else {
            return Ok(());
        };
        self.default_name = table
            .get("default_connection_name")
            .and_then(toml::Value::as_str)
            .map(str::to_string);
        if let Some(toml::Value::Table(connections)) = table.remove("connections") {
            self.connections = tables(connections);
        }
        self.origin = path.display().to_string();
        Ok(())
    }

    fn read_connections(&mut self, path: &Path) -> Result<()> {
        if let Some(table) = read(path)? {
            self.connections = tables(table);
            self.origin = path.display().to_string();
        }
        Ok(())
    }
}

fn read(path: &Path) -> Result<Option<toml::Table>> {
    let place = path.display().to_string();
    let unreadable = |error: std::io::Error| {
        Error::config("can't read the file of Snowflake connections")
            .with("location", &place)
            .with_source(error)
    };
    let Ok(metadata) = path.metadata() else {
        return Ok(None);
    };
    let mode = metadata.permissions().mode();
    if mode & 0o022 != 0 {
        return Err(Error::config(
            "others may write the file of Snowflake connections, so it can't be trusted",
        )
        .with("location", &place)
        .with_hint(format!("chmod 0600 {place:?}")));
    }
    if mode & 0o044 != 0 {
        tracing::warn!("others may read the Snowflake connections in {place}; chmod 0600 {place:?}");
    }
    if metadata.len() > MOST_BYTES {
        return Err(
            Error::config("the file of Snowflake connections is larger than 1 MiB").with("location", &place),
        );
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    parse(&text, &place).map(Some)
}

/// What the parser says quotes the line, which may hold a password: only the line's number is repeated.
fn parse(text: &str, place: &str) -> Result<toml::Table> {
    text.parse::<toml::Table>().map_err(|error| {
        let end = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = text.as_bytes()[..end]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
            + 1;
        Error::config(format!(
            "the file of Snowflake connections is no TOML: line {line} can't be read"
        ))
        .with("location", place)
    })
}

/// The connections of a table: each of its tables is one.
fn tables(table: toml::Table) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut connections = BTreeMap::new();
    for (name, value) in table {
        if let toml::Value::Table(values) = value {
            let values = values.into_iter().filter_map(|(key, value)| match value {
                toml::Value::String(text) => Some((key.to_ascii_lowercase(), text)),
                toml::Value::Integer(number) => Some((key.to_ascii_lowercase(), number.to_string())),
                toml::Value::Boolean(truth) => Some((key.to_ascii_lowercase(), truth.to_string())),
                _ => None,
            });
            connections.insert(name, values.collect());
        }
    }
    connections
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Home {
        folder: tempfile::TempDir,
    }

    impl Home {
        fn new() -> Home {
            Home {
                folder: tempfile::tempdir().unwrap(),
            }
        }

        fn write(&self, path: &str, text: &str) -> PathBuf {
            let path = self.folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
            path
        }

        fn variables(&self, more: &[(&str, &str)]) -> Variables {
            let home = (
                "HOME".to_string(),
                self.folder.path().to_str().unwrap().to_string(),
            );
            let more = more
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_string()));
            Variables::of(std::iter::once(home).chain(more))
        }
    }

    fn user(name: Option<&str>, variables: &Variables) -> String {
        let written = connection(name, variables).unwrap();
        written.get(&["user"]).unwrap_or_default().to_string()
    }

    #[test]
    fn connections_are_found_where_the_cli_finds_them() {
        let home = Home::new();
        home.write(
            ".config/snowflake/config.toml",
            "default_connection_name = 'b'\n[connections.a]\nuser = 'xdg a'\n[connections.b]\nuser = 'xdg b'\n",
        );
        assert_eq!(user(None, &home.variables(&[])), "xdg b");
        assert_eq!(user(Some("a"), &home.variables(&[])), "xdg a");
        let named = [("SNOWFLAKE_DEFAULT_CONNECTION_NAME", "a")];
        assert_eq!(user(None, &home.variables(&named)), "xdg a");
        // A folder .snowflake goes before the other, and connections.toml before the section of config.toml.
        home.write(".snowflake/config.toml", "[connections.b]\nuser = 'config b'\n");
        assert_eq!(user(Some("b"), &home.variables(&[])), "config b");
        home.write(
            ".snowflake/connections.toml",
            "[default]\nuser = 'me'\nport = 8080\n",
        );
        assert_eq!(user(None, &home.variables(&[])), "me");
        assert_eq!(
            connection(None, &home.variables(&[])).unwrap().get(&["port"]),
            Some("8080")
        );
        let error = connection(Some("b"), &home.variables(&[]))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("no Snowflake connection \"b\"; there are: default"),
            "{error}"
        );
        let elsewhere = home.write("elsewhere/connections.toml", "[default]\nuser = 'else'\n");
        let elsewhere = elsewhere.parent().unwrap().to_str().unwrap();
        assert_eq!(
            user(None, &home.variables(&[("SNOWFLAKE_HOME", elsewhere)])),
            "else"
        );
        assert_eq!(
            user(None, &home.variables(&[("SNOWFLAKE_HOME", "~/elsewhere")])),
            "else"
        );
    }

    #[test]
    fn variables_lie_over_the_files_and_fill_what_they_leave_open() {
        let home = Home::new();
        home.write(".snowflake/connections.toml", "[dev]\nuser = 'me'\nrole = ''\n");
        let variables = home.variables(&[
            ("SNOWFLAKE_CONNECTIONS_DEV_USER", "over"),
            ("SNOWFLAKE_USER", "under"),
            ("SNOWFLAKE_ACCOUNT", "under"),
        ]);
        let written = connection(Some("dev"), &variables).unwrap();
        assert_eq!(written.get(&["user"]), Some("over"));
        assert_eq!(written.get(&["account"]), Some("under"));
        assert_eq!(written.get(&["role"]), None);
        let whole = home.variables(&[("SNOWFLAKE_CONNECTIONS", "[x]\nuser = 'toml'\n")]);
        assert_eq!(user(Some("x"), &whole), "toml");
        assert!(connection(Some("dev"), &whole).is_err());
        let alone = home.variables(&[("SNOWFLAKE_CONNECTIONS_CI_ACCOUNT", "a")]);
        assert_eq!(
            connection(Some("ci"), &alone).unwrap().get(&["account"]),
            Some("a")
        );
    }

    #[test]
    fn a_file_that_others_may_write_or_that_is_no_toml_is_refused_without_its_secrets() {
        let home = Home::new();
        let path = home.write(".snowflake/connections.toml", "[default]\npassword = 'c4n4ry\n");
        let error = connection(None, &home.variables(&[])).unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(text.contains("line 2") && !text.contains("c4n4ry"), "{text}");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o620)).unwrap();
        let error = connection(None, &home.variables(&[])).unwrap_err().to_string();
        assert!(
            error.contains("others may write") && error.contains("chmod 0600"),
            "{error}"
        );
        let written = Written::of_variables(&home.variables(&[("SNOWFLAKE_PASSWORD", "c4n4ry")]));
        assert!(!format!("{written:?}").contains("c4n4ry"));
    }
}
