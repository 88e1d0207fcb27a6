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
mod tests {
    use super::*;
    use crate::config::nesting::{Nesting, nesting};
    use crate::error::ErrorKind;
    use proptest::prelude::*;

    #[test]
    fn every_way_to_write_a_stage_is_understood() {
        for (written, sql) in [
            ("@db.schema.stage/in", "@DB.SCHEMA.STAGE/in"),
            ("@stage", "@STAGE"),
            ("@s.stage//in/./x/", "@S.STAGE/in/x"),
            ("@~", "'@~'"),
            ("@~/in/x", "'@~/in/x'"),
            ("@%t/in", "'@%T/in'"),
            ("@db.s.%t", "'@DB.S.%T'"),
            ("@s.%\"my t\"/x", "'@S.%\"my t\"/x'"),
            (
                "@\"My DB\".s.\"st\"\"a/ge.x\"/p q",
                "'@\"My DB\".S.\"st\"\"a/ge.x\"/p q'",
            ),
            ("'@\"o''brien\"/it''s'", "'@\"o''brien\"/it''s'"),
            ("'@stage/a\\\\b'", "'@STAGE/a\\\\b'"),
            ("@stage/k=1/part-0.parquet", "'@STAGE/k=1/part-0.parquet'"),
            (
                "snow://model/db.s.\"m.x\"/versions/V1/model",
                "'snow://model/DB.S.\"m.x\"/versions/V1/model'",
            ),
        ] {
            let parsed = StagePath::parse(written).unwrap();
            assert_eq!(parsed.to_sql(false), sql, "{written}");
            assert_eq!(
                StagePath::parse(&parsed.to_sql(false)).unwrap(),
                parsed,
                "{written}"
            );
        }
    }

    #[test]
    fn what_is_no_stage_is_refused_with_the_reason() {
        for (written, reason) in [
            ("@", "missing"),
            ("@db..stage", "missing"),
            ("@a.b.c.d", "more than three"),
            ("@my-stage/x", "'-' can't stand"),
            ("@1stage", "can't begin with '1'"),
            ("@\"open", "not closed"),
            ("@\"\"/x", "empty"),
            ("@\"a\"b/x", "'b' can't stand"),
            ("@stage/../secret", "holds .."),
            ("@stage/a\nb", "control character \\n"),
            ("@~x", "follows @~"),
            ("@%t.x", "follows the name of the table"),
            ("'@stage", "closing quote is missing"),
            ("'@stage' x", "follows the closing quote"),
            ("'@stage\\n'", "backslash"),
            ("snow://model", "no name"),
            ("snow://Model/m", "small letters"),
            ("@stage; drop table x", "';' can't stand"),
        ] {
            let error = StagePath::parse(written).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(reason), "{written}: {error}");
        }
    }

    #[test]
    fn a_folder_is_not_what_only_begins_alike() {
        let stage = StagePath::parse("@s/in").unwrap();
        assert_eq!(stage.to_sql(true), "@S/in/");
        assert_eq!(StagePath::parse("@s").unwrap().to_sql(true), "@S");
        assert_eq!(stage.at(vec!["it's".into()]).to_sql(true), "'@S/it''s/'");
    }

    /// The texts of the literals of a statement, read as Snowflake reads them; `None` when they don't add up.
    fn sql_tokens(sql: &str) -> Option<Vec<String>> {
        let mut tokens = Vec::new();
        let mut chars = sql.chars().peekable();
        while let Some(c) = chars.next() {
            if c != '\'' {
                let mut bare = String::from(c);
                while chars.peek().is_some_and(|c| *c != ' ') {
                    bare.push(chars.next()?);
                }
                chars.next();
                tokens.push(bare);
                continue;
            }
            let mut text = String::new();
            loop {
                match chars.next()? {
                    '\\' => text.push(chars.next()?),
                    '\'' if chars.peek() == Some(&'\'') => text.extend(chars.next()),
                    '\'' => break,
                    other => text.push(other),
                }
            }
            tokens.push(text);
            chars.next();
        }
        Some(tokens)
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back_as_the_same_name(
            parts in proptest::collection::vec(("[ -~é]{1,8}", any::<bool>()), 1..4),
            path in proptest::collection::vec("[ -.0-~é]{1,8}", 0..4),
            table in any::<bool>(),
        ) {
            let parts: Vec<Identifier> = parts
                .into_iter()
                .map(|(text, bare)| match bare {
                    true => Identifier { text: format!("N{}", text.len()), is_quoted: false },
                    false => Identifier { text, is_quoted: true },
                })
                .collect();
            prop_assume!(path.iter().all(|name| name != "." && name != ".."));
            let holder = if table { Holder::Table(parts) } else { Holder::Stage(parts) };
            let stage = StagePath { holder, path };
            prop_assert_eq!(&StagePath::parse(&stage.to_string()).unwrap(), &stage);
            prop_assert_eq!(&StagePath::parse(&stage.to_sql(false)).unwrap(), &stage);
        }

        /// The configuration compares locations by their text alone.
        #[test]
        fn places_are_the_same_by_their_text_when_they_are_by_their_meaning(
            first in "@[abAB\"]{1,4}[.]?[abAB\"]{0,4}(/[ab'\"]{1,2}){0,2}",
            second in "@[abAB\"]{1,4}[.]?[abAB\"]{0,4}(/[ab'\"]{1,2}){0,2}",
        ) {
            let (Ok(one), Ok(other)) = (StagePath::parse(&first), StagePath::parse(&second)) else {
                return Ok(());
            };
            let quoted = literal(&second);
            prop_assert_eq!(nesting(&second, &quoted), Nesting::Same);
            let names = |stage: &StagePath| -> Vec<String> {
                let Holder::Stage(parts) = &stage.holder else { return Vec::new() };
                parts.iter().map(|part| part.text.clone()).collect()
            };
            let is_same = names(&one) == names(&other) && one.path == other.path;
            prop_assert_eq!(nesting(&first, &quoted) == Nesting::Same, is_same);
        }

        #[test]
        fn no_name_ends_the_token_it_stands_in(location in "[@'][ -~é]{0,24}") {
            let Ok(stage) = StagePath::parse(&location) else { return Ok(()) };
            let sql = format!("PUT {} {}", literal("file:///x"), stage.to_sql(true));
            let tokens = sql_tokens(&sql).unwrap();
            let slash = if stage.path.is_empty() { "" } else { "/" };
            prop_assert_eq!(tokens, ["PUT".to_string(), "file:///x".into(), format!("{stage}{slash}")]);
        }
    }
}
