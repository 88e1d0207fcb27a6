//! The one error type of Floe.
//!
//! An error says what failed, where (file, row group, row, column), why, and what to do about it. Its
//! [`ErrorKind`] is what a caller or an operator would do differently, so it alone decides the exit code and
//! whether a new attempt can help. Errors are built where they are born, gain context on the way up, and are
//! logged once, where they are handled.

use std::error::Error as StdError;
use std::fmt;

/// The result of anything that can fail in Floe.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn StdError + Send + Sync + 'static>;

/// What a caller would do differently about an error. Every kind has its own process exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorKind {
    /// A bug in Floe: please report it.
    Internal,
    /// The job file, a flag or the environment asks for something impossible.
    Config,
    /// The output already holds something and `mode: error` protects it.
    NotEmpty,
    /// A newer run owns the output.
    Superseded,
    /// An input object changed or vanished after the plan was pinned.
    InputChanged,
    /// The input data cannot be read or do not fit the model.
    Data,
    /// The model cannot be loaded or run.
    Model,
    /// A store cannot be reached, refuses access, or is full.
    Storage,
    /// A signal ended the process before its part was done.
    Interrupted,
}

impl ErrorKind {
    /// Every kind, in the order of the documentation.
    pub const ALL: [ErrorKind; 9] = [
        ErrorKind::Internal,
        ErrorKind::Config,
        ErrorKind::NotEmpty,
        ErrorKind::Superseded,
        ErrorKind::InputChanged,
        ErrorKind::Data,
        ErrorKind::Model,
        ErrorKind::Storage,
        ErrorKind::Interrupted,
    ];

    /// The process exit code, part of the public interface (0 means: this replica's part is done).
    pub fn exit_code(self) -> u8 {
        match self {
            ErrorKind::Internal => 1,
            ErrorKind::Config => 2,
            ErrorKind::NotEmpty => 3,
            ErrorKind::Superseded => 4,
            ErrorKind::InputChanged => 5,
            ErrorKind::Data => 6,
            ErrorKind::Model => 7,
            ErrorKind::Storage => 8,
            ErrorKind::Interrupted => 143,
        }
    }

    /// Whether the same job may succeed when it is simply started again.
    pub fn is_retryable(self) -> bool {
        matches!(
            self,
            ErrorKind::Internal | ErrorKind::Storage | ErrorKind::Interrupted
        )
    }

    /// The word used in logs and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorKind::Internal => "internal",
            ErrorKind::Config => "config",
            ErrorKind::NotEmpty => "not_empty",
            ErrorKind::Superseded => "superseded",
            ErrorKind::InputChanged => "input_changed",
            ErrorKind::Data => "data",
            ErrorKind::Model => "model",
            ErrorKind::Storage => "storage",
            ErrorKind::Interrupted => "interrupted",
        }
    }

    /// The kind behind an exit code, if it is one of Floe's.
    pub fn from_exit_code(code: i32) -> Option<ErrorKind> {
        if code == 130 {
            return Some(ErrorKind::Interrupted);
        }
        Self::ALL
            .into_iter()
            .find(|kind| i32::from(kind.exit_code()) == code)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What failed, where, why, and what to do. See the [module](self) page.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    context: Vec<(&'static str, String)>,
    hint: Option<String>,
    source: Option<Source>,
}

impl Error {
    /// An error of `kind`; `message` says what failed, lower case, without a full stop.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner {
            kind,
            message: message.into(),
            context: Vec::new(),
            hint: None,
            source: None,
        }))
    }

    /// A bug in Floe.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// A wrong job file, flag or environment.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Config, message)
    }

    /// Input data that cannot be used.
    pub fn data(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Data, message)
    }

    /// A model that cannot be used.
    pub fn model(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Model, message)
    }

    /// A store that cannot be used.
    pub fn storage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Storage, message)
    }

    /// Adds the cause; its own text is printed after the message.
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Adds where it happened. Keys are fixed words: `file`, `row_group`, `row`, `rows`, `column`, `unit`,
    /// `location`, `key`, `model`. The first value given for a key stays: it is the closest to the fault.
    pub fn with(mut self, key: &'static str, value: impl ToString) -> Self {
        if !self.0.context.iter().any(|(known, _)| *known == key) {
            self.0.context.push((key, value.to_string()));
        }
        self
    }

    /// Adds what the user can do about it.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// What a caller would do differently.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The message alone, without cause, place and hint.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Where it happened, as key and value.
    pub fn context(&self) -> &[(&'static str, String)] {
        &self.0.context
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The error as a JSON object, for `--json` and for structured logs.
    pub fn to_json(&self) -> serde_json::Value {
        let context: serde_json::Map<_, _> = self
            .0
            .context
            .iter()
            .map(|(key, value)| (key.to_string(), value.clone().into()))
            .collect();
        serde_json::json!({
            "kind": self.0.kind.as_str(),
            "exit_code": self.0.kind.exit_code(),
            "retryable": self.0.kind.is_retryable(),
            "message": self.what_and_why(),
            "context": context,
            "hint": self.0.hint,
        })
    }

    fn what_and_why(&self) -> String {
        let mut text = self.0.message.clone();
        let mut cause: Option<&dyn StdError> = self.source();
        while let Some(error) = cause {
            let line = error.to_string();
            // Many libraries repeat their source in their own text: print each fact once.
            if !line.is_empty() && !text.contains(&line) {
                text.push_str(": ");
                text.push_str(&line);
            }
            cause = error.source();
        }
        escape_control(&text)
    }
}

/// Control characters (line breaks, terminal escapes) of foreign text must not reach a log line.
fn escape_control(text: &str) -> String {
    if !text.chars().any(|c| c.is_control() && c != '\n') {
        return text.to_string();
    }
    text.chars()
        .map(|c| {
            if c.is_control() && c != '\n' {
                c.escape_default().to_string()
            } else {
                c.to_string()
            }
        })
        .collect()
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what_and_why())?;
        if !self.0.context.is_empty() {
            f.write_str(" (")?;
            for (index, (key, value)) in self.0.context.iter().enumerate() {
                let comma = if index > 0 { ", " } else { "" };
                write!(f, "{comma}{} {}", key.replace('_', " "), escape_control(value))?;
            }
            f.write_str(")")?;
        }
        if let Some(hint) = &self.0.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {self}", self.0.kind)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0
            .source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static))
    }
}

/// Adds place or kind to foreign errors on their way up.
pub trait ResultExt<T> {
    /// Wraps a foreign error: `message` says what was being done.
    fn context(self, kind: ErrorKind, message: impl Into<String>) -> Result<T>;
}

impl<T, E: Into<Source>> ResultExt<T> for std::result::Result<T, E> {
    fn context(self, kind: ErrorKind, message: impl Into<String>) -> Result<T> {
        self.map_err(|source| Error::new(kind, message).with_source(source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_reads_as_what_why_where_and_what_to_do() {
        let error = Error::data("can't read row group")
            .with_source(std::io::Error::other("page checksum mismatch"))
            .with("file", "a.parquet")
            .with("row_group", 3)
            .with("file", "outer.parquet")
            .with_hint("write the file again");
        assert_eq!(
            error.to_string(),
            "can't read row group: page checksum mismatch (file a.parquet, row group 3); write the file again"
        );
        assert_eq!(error.kind().exit_code(), 6);
    }

    #[test]
    fn exit_codes_are_distinct_and_map_back() {
        for kind in ErrorKind::ALL {
            assert_eq!(ErrorKind::from_exit_code(kind.exit_code().into()), Some(kind));
        }
    }

    /// Failure matrix: 63.
    #[test]
    fn terminal_escapes_of_foreign_text_are_made_harmless() {
        let error = Error::data("bad name").with("column", "a\u{1b}[31m\r");
        assert_eq!(error.to_string(), "bad name (column a\\u{1b}[31m\\r)");
    }
}
