//! The statements that the gateway understands, read by other code than Floe's own.

/// `@…` and the path behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// As the gateway's stages are called: parts joined by dots, in the case that Snowflake gives them.
    parts: Vec<String>,
    is_named: bool,
    /// Without slashes around it; a slash at the end is kept.
    pub path: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    Select(String),
    Put {
        file: String,
        target: Place,
        options: Vec<String>,
    },
    Get {
        source: Place,
        folder: String,
    },
    List(Place),
    Remove(Place),
}

impl Statement {
    /// Whether a PUT has an option of this value.
    pub fn says(&self, option: &str, value: &str) -> bool {
        let Statement::Put { options, .. } = self else {
            return false;
        };
        let wanted = format!("{option}={value}");
        options.iter().any(|option| option.eq_ignore_ascii_case(&wanted))
    }
}

impl Place {
    /// With what the session fills in; `None` when it has nothing to fill in.
    pub fn full_name(&self, database: Option<&str>, schema: Option<&str>) -> Option<String> {
        if self.parts == ["~"] {
            return Some("~".to_string());
        }
        let mut parts = self.parts.clone();
        if parts.len() == 1 {
            parts.insert(0, schema?.to_string());
        }
        if parts.len() == 2 {
            parts.insert(0, database?.to_string());
        }
        Some(parts.join("."))
    }

    /// How LIST begins names.
    pub fn listing_prefix(&self) -> String {
        match self.parts.last() {
            Some(name) if self.is_named => format!("{}/", name.to_lowercase()),
            _ => String::new(),
        }
    }
}

pub fn parse(text: &str) -> Result<Statement, String> {
    let tokens = tokens(text)?;
    let words: Vec<&str> = tokens.iter().map(String::as_str).collect();
    match words.as_slice() {
        [verb, value] if is(verb, "select") => Ok(Statement::Select(value.to_string())),
        [verb, file, target, options @ ..] if is(verb, "put") => Ok(Statement::Put {
            file: file.strip_prefix("file://").ok_or("no file://")?.to_string(),
            target: place(target)?,
            options: options.iter().map(|option| option.to_string()).collect(),
        }),
        [verb, source, folder, ..] if is(verb, "get") => Ok(Statement::Get {
            source: place(source)?,
            folder: folder.strip_prefix("file://").ok_or("no file://")?.to_string(),
        }),
        [verb, source] if is(verb, "list") || is(verb, "ls") => Ok(Statement::List(place(source)?)),
        [verb, source] if is(verb, "remove") || is(verb, "rm") => Ok(Statement::Remove(place(source)?)),
        _ => Err(format!("unexpected {text:?}")),
    }
}

fn is(word: &str, verb: &str) -> bool {
    word.eq_ignore_ascii_case(verb)
}

/// Words, with what stands in single quotes as one word. A double quote outside of them holds spaces together.
fn tokens(text: &str) -> Result<Vec<String>, String> {
    let bytes: Vec<char> = text.chars().collect();
    let (mut tokens, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        if bytes[at].is_whitespace() || bytes[at] == ';' {
            at += 1;
            continue;
        }
        let mut token = String::new();
        if bytes[at] == '\'' {
            at += 1;
            loop {
                match (bytes.get(at), bytes.get(at + 1)) {
                    (Some('\\'), Some(next)) => (token.push(*next), at += 2).1,
                    (Some('\''), Some('\'')) => (token.push('\''), at += 2).1,
                    (Some('\''), _) => break at += 1,
                    (Some(c), _) => (token.push(*c), at += 1).1,
                    (None, _) => return Err("unclosed quote".to_string()),
                }
            }
        } else {
            let mut in_name = false;
            while at < bytes.len() && (in_name || !(bytes[at].is_whitespace() || bytes[at] == ';')) {
                in_name ^= bytes[at] == '"';
                token.push(bytes[at]);
                at += 1;
            }
        }
        tokens.push(token);
    }
    Ok(tokens)
}

fn place(token: &str) -> Result<Place, String> {
    if let Some(rest) = token.strip_prefix("snow://") {
        let (kind, rest) = rest.split_once('/').ok_or("snow:// without a name")?;
        let (name, path) = rest.split_once('/').unwrap_or((rest, ""));
        let name = name.to_uppercase();
        return Ok(Place {
            parts: [
                &[kind.to_string()],
                name.split('.').map(str::to_string).collect::<Vec<_>>().as_slice(),
            ]
            .concat(),
            is_named: false,
            path: path.to_string(),
        });
    }
    let rest = token
        .strip_prefix('@')
        .ok_or_else(|| format!("{token:?} is no stage"))?;
    let (mut parts, mut name, mut is_quoted, mut was_quoted) = (Vec::new(), String::new(), false, false);
    let mut end = rest.len();
    let mut chars = rest.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' if is_quoted && chars.peek().is_some_and(|(_, next)| *next == '"') => {
                chars.next();
                name.push('"');
            }
            '"' => (is_quoted, was_quoted) = (!is_quoted, true),
            '.' if !is_quoted => (parts.push(std::mem::take(&mut name)), was_quoted = false).1,
            '/' if !is_quoted => {
                end = at;
                break;
            }
            c if is_quoted => name.push(c),
            c => name.extend(c.to_uppercase()),
        }
    }
    if is_quoted {
        return Err("unclosed double quote".to_string());
    }
    let is_named = was_quoted || !(name.starts_with('%') || name == "~");
    parts.push(name);
    Ok(Place {
        parts,
        is_named,
        path: rest[end..].trim_start_matches('/').to_string(),
    })
}
