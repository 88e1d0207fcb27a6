//! Names of stages: what a user writes → what it means, and as SQL text again.
//!
//! `@db.schema.stage/path`, `@~/path` (the user's own stage), `@db.schema.%table/path` (a table's own), and
//! `snow://model/db.schema.model/versions/V1/path` for what Snowflake keeps in versions. Identifiers follow Snowflake's
//! rules: bare ones are letters, digits, `_` and `$` in any case, quoted ones hold anything, with `""` for a quote. The
//! whole may stand in single quotes, as in SQL. What is printed is one SQL token, and reads back as the same name.

use std::fmt;

use crate::error::{Error, Result};

/// One part of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identifier {
    /// As Snowflake stores it: upper case unless it was quoted.
    text: String,
    is_quoted: bool,
}

/// What holds the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// A stage: name, with schema and database before it if given.
    Stage(Vec<Identifier>),
    /// The stage of the user who logs in.
    User,
    /// The stage of a table: its name, with schema and database before it if given.
    Table(Vec<Identifier>),
    /// What a `snow://` URL names: a kind (`model`) and a name. Read-only.
    Url(String, Vec<Identifier>),
}

/// A holder of files and a path in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StagePath {
    pub(super) holder: Holder,
    /// Names of folders and file, none of them empty, `.` or `..`.
    pub(super) path: Vec<String>,
}

/// Most parts of a name: database, schema and the name itself.
const MOST_PARTS: usize = 3;

impl StagePath {
    /// Reads what the user wrote.
    ///
    /// # Errors
    /// `Config` for what can't be a stage, saying what is wrong with it.
    pub(super) fn parse(location: &str) -> Result<StagePath> {
        read(location).map_err(|why| {
            Error::config(format!("not a stage: {why}"))
                .with("location", location)
                .with_hint(
                    "write @db.schema.stage/path, @~/path, @db.schema.%table/path or \
                     snow://model/db.schema.model/versions/V1/path; names with other characters than letters, \
                     digits, _ and $ go in double quotes",
                )
        })
    }

    /// The same holder, another path.
    pub(super) fn at(&self, path: Vec<String>) -> StagePath {
        StagePath {
            holder: self.holder.clone(),
            path,
        }
    }

    /// The path as one text, `/` between the names.
    pub(super) fn key(&self) -> String {
        self.path.join("/")
    }

    /// As one token of an SQL statement; a folder ends with a slash, so that files whose names only begin alike are
    /// not meant.
    pub(super) fn to_sql(&self, is_folder: bool) -> String {
        let mut text = self.to_string();
        if is_folder && !self.path.is_empty() {
            text.push('/');
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '@' | '.' | '_' | '/');
        if text.starts_with('@') && text.chars().all(is_plain) {
            return text;
        }
        literal(&text)
    }

    /// How `LIST` begins the names of this holder's files.
    pub(super) fn listing_prefix(&self) -> String {
        match &self.holder {
            Holder::Stage(parts) => parts
                .last()
                .map_or(String::new(), |name| format!("{}/", name.text.to_lowercase())),
            Holder::User | Holder::Table(_) | Holder::Url(..) => String::new(),
        }
    }
}

/// Without quotes around it, as in a location.
impl fmt::Display for StagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.holder {
            Holder::Stage(parts) => write!(f, "@{}", dotted(parts))?,
            Holder::User => f.write_str("@~")?,
            Holder::Table(parts) => {
                let (name, before) = parts.split_last().expect("a table has a name");
                let before = before.iter().map(|part| format!("{part}.")).collect::<String>();
                write!(f, "@{before}%{name}")?;
            }
            Holder::Url(kind, parts) => write!(f, "snow://{kind}/{}", dotted(parts))?,
        }
        self.path.iter().try_for_each(|name| write!(f, "/{name}"))
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_quoted {
            true => write!(f, "\"{}\"", self.text.replace('"', "\"\"")),
            false => f.write_str(&self.text),
        }
    }
}

fn dotted(parts: &[Identifier]) -> String {
    let parts: Vec<String> = parts.iter().map(Identifier::to_string).collect();
    parts.join(".")
}

/// A text as an SQL literal. Snowflake reads backslashes in literals as escapes.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

fn read(location: &str) -> Result<StagePath, String> {
    let unquoted;
    let location = match location.strip_prefix('\'') {
        Some(rest) => {
            unquoted = unquote(rest)?;
            &unquoted
        }
        None => location,
    };
    if let Some(c) = location.chars().find(|c| c.is_control()) {
        return Err(format!("it holds the control character {}", c.escape_default()));
    }
    let (holder, path) = if let Some(rest) = location.strip_prefix("snow://") {
        read_url(rest)?
    } else if let Some(rest) = location.strip_prefix('@') {
        read_stage(rest)?
    } else {
        return Err("it begins with neither @ nor snow://".into());
    };
    Ok(StagePath {
        holder,
        path: read_path(path)?,
    })
}

/// What stands in single quotes; `rest` begins behind the first one.
fn unquote(rest: &str) -> Result<String, String> {
    let mut text = String::new();
    let mut chars = rest.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(escaped @ ('\\' | '\'' | '"')) => text.push(escaped),
                _ => return Err("a backslash in single quotes may only stand before \\, ' or \"".into()),
            },
            '\'' => match (chars.as_str().strip_prefix('\''), chars.as_str()) {
                (Some(_), _) => {
                    chars.next();
                    text.push('\'');
                }
                (None, "") => return Ok(text),
                (None, _) => return Err("something follows the closing quote".into()),
            },
            other => text.push(other),
        }
    }
    Err("the closing quote is missing".into())
}

fn read_stage(rest: &str) -> Result<(Holder, &str), String> {
    if let Some(path) = rest.strip_prefix('~') {
        return match path.is_empty() || path.starts_with('/') {
            true => Ok((Holder::User, path)),
            false => Err("something other than a path follows @~".into()),
        };
    }
    let mut parts = Vec::new();
    let mut rest = rest;
    loop {
        let is_table = rest.starts_with('%');
        let (part, behind) = identifier(if is_table { &rest[1..] } else { rest })?;
        parts.push(part);
        match behind.strip_prefix('.') {
            Some(_) if is_table => {
                return Err("something other than a path follows the name of the table".into());
            }
            Some(next) if parts.len() < MOST_PARTS => rest = next,
            Some(_) => return Err("the name has more than three parts".into()),
            None => {
                let path = path_behind(behind)?;
                let holder = if is_table {
                    Holder::Table(parts)
                } else {
                    Holder::Stage(parts)
                };
                return Ok((holder, path));
            }
        }
    }
}

fn read_url(rest: &str) -> Result<(Holder, &str), String> {
    let (kind, mut rest) = rest.split_once('/').ok_or("there is no name behind the kind")?;
    if kind.is_empty() || !kind.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
        return Err("the kind behind snow:// is no word in small letters".into());
    }
    let mut parts = Vec::new();
    loop {
        let (part, behind) = identifier(rest)?;
        parts.push(part);
        match behind.strip_prefix('.') {
            Some(next) if parts.len() < MOST_PARTS => rest = next,
            Some(_) => return Err("the name has more than three parts".into()),
            None => return Ok((Holder::Url(kind.to_string(), parts), path_behind(behind)?)),
        }
    }
}

fn path_behind(rest: &str) -> Result<&str, String> {
    match rest.chars().next() {
        None | Some('/') => Ok(rest),
        Some(c) => Err(format!("{c:?} can't stand in a name without quotes")),
    }
}

/// One identifier, and what follows it.
fn identifier(text: &str) -> Result<(Identifier, &str), String> {
    if let Some(quoted) = text.strip_prefix('"') {
        return quoted_identifier(quoted);
    }
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '$');
    let length = text.find(|c| !is_part(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at(length);
    match name.chars().next() {
        None => Err(match rest.chars().next() {
            None | Some('/' | '.') => "a part of its name is missing".into(),
            Some(c) => format!("{c:?} can't stand in a name without quotes"),
        }),
        Some(c) if c.is_ascii_digit() || c == '$' => {
            Err(format!("a name without quotes can't begin with {c:?}"))
        }
        Some(_) => {
            let part = Identifier {
                text: name.to_ascii_uppercase(),
                is_quoted: false,
            };
            Ok((part, rest))
        }
    }
}

fn quoted_identifier(text: &str) -> Result<(Identifier, &str), String> {
    let mut name = String::new();
    let mut rest = text;
    loop {
        let end = rest.find('"').ok_or("a double quote is not closed")?;
        name.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(behind) => {
                name.push('"');
                rest = behind;
            }
            None if name.is_empty() => return Err("a part of its name is empty".into()),
            None => {
                let part = Identifier {
                    text: name,
                    is_quoted: true,
                };
                return Ok((part, rest));
            }
        }
    }
}

fn read_path(path: &str) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => return Err("its path holds ..".into()),
            name => names.push(name.to_string()),
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests;
