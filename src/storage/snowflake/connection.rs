//! How Snowflake is reached: host, account, and who logs in with what.
//!
//! Inside a container of Snowflake the platform gives host and account as variables and a token as a file that it
//! renews every few minutes; each login reads it anew. Outside, a connection of `connections.toml` says the same. Only
//! ways to log in that need nobody in front of a screen are taken.

use std::path::{Path, PathBuf};

use url::Url;

use super::files::{self, Written, expand};
use super::key_pair::KeyPair;
use super::secret::Secret;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::storage::variables::Variables;

/// Where the platform puts the tokens of a container.
const SESSION_FOLDER: &str = "/snowflake/session";

/// Names another folder than [`SESSION_FOLDER`], for tests.
const SESSION_FOLDER_VARIABLE: &str = "FLOE_SNOWFLAKE_SESSION_FOLDER";

/// What can be used instead of what can't.
const WAYS: &str = "use authenticator = \"SNOWFLAKE_JWT\" with private_key_file, \"PROGRAMMATIC_ACCESS_TOKEN\" or \
                    \"OAUTH\" with token_file_path, or \"snowflake\" with password";

/// One way into one account.
#[derive(Debug)]
pub(super) struct Connection {
    /// For messages: where this was found.
    pub(super) origin: String,
    /// `https://host:port/`.
    pub(super) base: Url,
    /// As it was given, with region.
    pub(super) account: String,
    pub(super) user: Option<String>,
    pub(super) role: Option<String>,
    pub(super) warehouse: Option<String>,
    pub(super) database: Option<String>,
    pub(super) schema: Option<String>,
    pub(super) login: Login,
    /// The container's own identity, sent beside the login.
    pub(super) identity: Option<PathBuf>,
}

/// What is shown at the door.
#[derive(Debug)]
pub(super) enum Login {
    Password(Secret),
    KeyPair(KeyPair),
    Token(TokenKind, TokenSource),
}

/// Tokens that others issue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    OAuth,
    ProgrammaticAccess,
}

/// Where a token is.
#[derive(Debug)]
pub(super) enum TokenSource {
    Given(Secret),
    /// Read at each login.
    File(PathBuf),
}

impl Connection {
    /// The connection called `name`, or that of the container this runs in, or the default one.
    ///
    /// # Errors
    /// `Config`.
    pub(super) fn find(name: Option<&str>, variables: &Variables) -> Result<Connection> {
        if name.is_none()
            && let Some(inside) = Connection::of_container(variables)?
        {
            return Ok(inside);
        }
        let found = files::connection(name, variables);
        let written = match found {
            // Without any file the variables may be enough.
            Err(_) if name.is_none() && variables.get("SNOWFLAKE_ACCOUNT").is_some() => {
                Written::of_variables(variables)
            }
            found => found?,
        };
        Connection::of(&written, variables)
    }

    /// As the platform describes it, if this is a container of Snowflake.
    fn of_container(variables: &Variables) -> Result<Option<Connection>> {
        let (Some(host), Some(account)) = (
            variables.get("SNOWFLAKE_HOST"),
            variables.get("SNOWFLAKE_ACCOUNT"),
        ) else {
            return Ok(None);
        };
        let token = session_folder(variables).join("token");
        if !token.exists() {
            return Ok(None);
        }
        let text = |name: &str| variables.get(name).map(str::to_string);
        Ok(Some(Connection {
            origin: format!("the container's token {}", token.display()),
            base: base(
                variables.get("SNOWFLAKE_PROTOCOL"),
                host,
                variables.get("SNOWFLAKE_PORT"),
            )?,
            account: account.to_string(),
            user: None,
            role: text("SNOWFLAKE_ROLE"),
            warehouse: text("SNOWFLAKE_WAREHOUSE"),
            database: text("SNOWFLAKE_DATABASE"),
            schema: text("SNOWFLAKE_SCHEMA"),
            login: Login::Token(TokenKind::OAuth, TokenSource::File(token)),
            identity: identity(variables),
        }))
    }

    fn of(written: &Written, variables: &Variables) -> Result<Connection> {
        let text = |key: &str| written.get(&[key]).map(str::to_string);
        let account = text("account").ok_or_else(|| incomplete(written, "account"))?;
        let host = match text("host") {
            Some(host) => host,
            None => host_of(&account, written.get(&["region"])),
        };
        let base = base(written.get(&["protocol"]), &host, written.get(&["port"]))
            .map_err(|error| error.with("location", &written.origin))?;
        let login = login(written, variables)?;
        let user = text("user");
        if user.is_none() && !matches!(login, Login::Token(..)) {
            return Err(incomplete(written, "user"));
        }
        Ok(Connection {
            origin: written.origin.clone(),
            base,
            account,
            user,
            role: text("role"),
            warehouse: text("warehouse"),
            database: text("database"),
            schema: text("schema"),
            login,
            identity: identity(variables),
        })
    }

    /// The account without its region, as a login names it.
    pub(super) fn account_name(&self) -> &str {
        match self.account.split_once('.') {
            Some((account, "global")) => account.rsplit_once('-').map_or(account, |(name, _)| name),
            Some((account, _)) => account,
            None => &self.account,
        }
    }

    /// Whether the service runs on this machine, as only a test's does.
    pub(super) fn is_loopback(&self) -> bool {
        is_loopback(&self.base)
    }
}

impl TokenKind {
    /// As a login's `AUTHENTICATOR` says it.
    pub(super) fn authenticator(self) -> &'static str {
        match self {
            TokenKind::OAuth => "OAUTH",
            TokenKind::ProgrammaticAccess => "PROGRAMMATIC_ACCESS_TOKEN",
        }
    }
}

impl TokenSource {
    /// The token as it is now.
    ///
    /// # Errors
    /// `Config` when the file can't be read or is empty.
    pub(super) fn read(&self) -> Result<Secret> {
        match self {
            TokenSource::Given(token) => Ok(token.clone()),
            TokenSource::File(path) => {
                let text = std::fs::read_to_string(path)
                    .context(ErrorKind::Config, "can't read the file of the Snowflake token")
                    .map_err(|error| error.with("location", path.display()))?;
                match text.trim() {
                    "" => Err(Error::config("the file of the Snowflake token is empty")
                        .with("location", path.display())),
                    token => Ok(Secret::new(token)),
                }
            }
        }
    }
}

/// Whether a URL's host is this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn session_folder(variables: &Variables) -> PathBuf {
    variables
        .path(SESSION_FOLDER_VARIABLE)
        .unwrap_or_else(|| PathBuf::from(SESSION_FOLDER))
}

fn identity(variables: &Variables) -> Option<PathBuf> {
    variables
        .get("SNOWFLAKE_RUNNING_INSIDE_SPCS")
        .map(|_| session_folder(variables).join("spcs_token"))
}

fn incomplete(written: &Written, key: &str) -> Error {
    Error::config(format!("a Snowflake connection has no {key}"))
        .with("location", &written.origin)
        .with_hint(format!("set {key} there, or SNOWFLAKE_{}", key.to_uppercase()))
}

/// The host of an account, as the connector derives it.
fn host_of(account: &str, region: Option<&str>) -> String {
    let domain = |region: &str| match region.to_lowercase().starts_with("cn-") {
        true => "cn",
        false => "com",
    };
    let (name, own_region) = account.split_once('.').unwrap_or((account, ""));
    match region {
        Some(region) if region != "us-west-2" => {
            format!("{name}.{region}.snowflakecomputing.{}", domain(region))
        }
        _ => format!("{account}.snowflakecomputing.{}", domain(own_region)),
    }
}

/// The URL that requests go to. Tokens are sent there, so only this machine may be spoken to in plain.
fn base(protocol: Option<&str>, host: &str, port: Option<&str>) -> Result<Url> {
    let refused = |why: &str| {
        Error::config(format!("not a usable host of Snowflake: {why}"))
            .with("host", host)
            .with_hint("host is a bare name such as org-account.snowflakecomputing.com; port and protocol are settings of their own")
    };
    let protocol = protocol.unwrap_or("https").to_lowercase();
    if !matches!(protocol.as_str(), "https" | "http") {
        return Err(refused("the protocol is neither https nor http"));
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    if host.is_empty() || !host.chars().all(is_name) {
        return Err(refused("it holds characters that no host name has"));
    }
    let port = match port.map(str::parse::<u16>) {
        None => String::new(),
        Some(Ok(port)) => format!(":{port}"),
        Some(Err(_)) => return Err(refused("its port is no number up to 65535")),
    };
    let url =
        Url::parse(&format!("{protocol}://{host}{port}/")).map_err(|_| refused("it can't be parsed"))?;
    if protocol == "http" && !is_loopback(&url) {
        return Err(refused(
            "tokens would be sent in plain; only https is spoken to other machines",
        ));
    }
    Ok(url)
}

fn login(written: &Written, variables: &Variables) -> Result<Login> {
    let home = variables.path("HOME");
    let path = |text: &str| expand(text, home.as_deref()).unwrap_or_else(|| PathBuf::from(text));
    let passphrase = written
        .get(&["private_key_file_pwd", "private_key_passphrase"])
        .or(variables.get("PRIVATE_KEY_PASSPHRASE"))
        .map(Secret::new);
    let refused = |what: String, hint: String| {
        Err(Error::config(what)
            .with("location", &written.origin)
            .with_hint(hint))
    };
    // As in the connector, a private key decides, whatever else is said.
    if let Some(file) = written.get(&["private_key_file", "private_key_path"]) {
        return KeyPair::from_file(&path(file), passphrase.as_ref()).map(Login::KeyPair);
    }
    if let Some(pem) = written.get(&["private_key_raw", "private_key"]) {
        return KeyPair::from_pem(&Secret::new(pem), passphrase.as_ref(), &written.origin)
            .map(Login::KeyPair);
    }
    let authenticator = written
        .get(&["authenticator"])
        .unwrap_or("snowflake")
        .to_uppercase();
    let kind = match authenticator.as_str() {
        "SNOWFLAKE" => {
            return match written.get(&["password"]) {
                Some(password) => Ok(Login::Password(Secret::new(password))),
                None => refused(
                    "a Snowflake connection has no password".to_string(),
                    format!("set it, or {WAYS}"),
                ),
            };
        }
        "SNOWFLAKE_JWT" => return Err(incomplete(written, "private_key_file")),
        "OAUTH" => TokenKind::OAuth,
        "PROGRAMMATIC_ACCESS_TOKEN" => TokenKind::ProgrammaticAccess,
        "EXTERNALBROWSER" | "USERNAME_PASSWORD_MFA" | "OAUTH_AUTHORIZATION_CODE" => {
            return refused(
                format!("the authenticator {authenticator} needs somebody in front of a screen"),
                WAYS.to_string(),
            );
        }
        _ => {
            // An identity provider's URL is not repeated: it may carry more than a name.
            let shown = if authenticator.contains("://") {
                "of a URL"
            } else {
                &authenticator
            };
            return refused(
                format!("the authenticator {shown} is not supported"),
                WAYS.to_string(),
            );
        }
    };
    // As in the connector, the file goes before the text.
    if let Some(file) = written.get(&["token_file_path"]) {
        return Ok(Login::Token(kind, TokenSource::File(path(file))));
    }
    match written.get(&["token"]) {
        Some(token) => Ok(Login::Token(kind, TokenSource::Given(Secret::new(token.trim())))),
        None => Err(incomplete(written, "token_file_path")),
    }
}

/// The container's identity, or `None` when it can't be had: logins work without it on some clouds.
pub(super) fn read_identity(path: &Path) -> Option<Secret> {
    match std::fs::read_to_string(path) {
        Ok(text) if text.trim().is_empty() => None,
        Ok(text) => Some(Secret::new(text.trim())),
        Err(error) => {
            tracing::warn!("can't read the container's identity {}: {error}", path.display());
            None
        }
    }
}

#[cfg(test)]
mod tests;
