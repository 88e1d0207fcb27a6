//! Secrets never reach a log line.
//!
//! Foreign errors like to print the URL or the headers of the request that failed, and those carry signatures,
//! tokens and passwords. Every text that leaves through the log sink passes [`redact`]; errors of stores do so where
//! they are born. It cuts query strings and user-info of URLs, values of keys that name a secret (`sig=…`,
//! `"token": "…"`, `Snowflake Token="…"`), authorization headers, bare JSON web tokens and private keys. It would
//! rather cut too much than too little, is linear in the length of the text, and changes nothing the second time.

use serde_json::Value;
use std::borrow::Cow;

/// A log line must not hold up the program, whatever it says.
const MOST_PASSES: usize = 8;

/// What is put in place of a secret.
pub const REDACTED: &str = "[redacted]";

/// `text` without secrets; borrowed when there was none.
pub fn redact(text: &str) -> Cow<'_, str> {
    let Cow::Owned(mut clean) = cut(text) else {
        return Cow::Borrowed(text);
    };
    // What is cut may uncover more: the query of a URL behind its user-info. Two passes do; the bound is a guard.
    for _ in 0..MOST_PASSES {
        match cut(&clean) {
            Cow::Owned(next) if next != clean => clean = next,
            _ => break,
        }
    }
    Cow::Owned(clean)
}

/// Redacts every text of a JSON document, and the values of keys that name a secret.
pub fn redact_values(document: &mut Value) {
    match document {
        Value::String(text) => {
            if let Cow::Owned(clean) = redact(text) {
                *text = clean;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact_values),
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Value::String(text) if names_secret(key) && !text.is_empty() => {
                        *text = REDACTED.to_string()
                    }
                    other => redact_values(other),
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// One pass over the text.
fn cut(text: &str) -> Cow<'_, str> {
    let mut output = String::new();
    let mut copied = 0;
    let mut at = 0;
    while at < text.len() {
        match secret_at(text, at) {
            Found::Secret { start, end } => {
                if &text[start..end] != REDACTED {
                    output.push_str(&text[copied..start]);
                    output.push_str(REDACTED);
                    copied = end;
                }
                at = end;
            }
            Found::Nothing { resume } => at = resume,
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    output.push_str(&text[copied..]);
    Cow::Owned(output)
}

/// Whether a key (of a query, a header, a JSON object, a log field) names a secret.
pub fn names_secret(key: &str) -> bool {
    const PREFIXES: [&str; 2] = ["x_amz_", "x_goog_"];
    // Compared with the last words of a key, so that `AWS_SECRET_ACCESS_KEY` is found by `access_key`.
    const ENDINGS: [&str; 18] = [
        "password",
        "passwd",
        "pwd",
        "passphrase",
        "secret",
        "token",
        "sig",
        "signature",
        "apikey",
        "api_key",
        "access_key",
        "accesskey",
        "account_key",
        "private_key",
        "credential",
        "credentials",
        "authorization",
        "cookie",
    ];
    let key = in_snake_case(key);
    PREFIXES.iter().any(|prefix| key.starts_with(prefix))
        || ENDINGS.iter().any(|ending| {
            key.strip_suffix(ending)
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('_'))
        })
}

/// `Api-Key`, `api.key` and `apiKey` as `api_key`.
fn in_snake_case(key: &str) -> String {
    let mut snake = String::with_capacity(key.len() + 4);
    let mut is_after_small = false;
    for c in key.chars() {
        if c.is_ascii_uppercase() && is_after_small {
            snake.push('_');
        }
        is_after_small = c.is_ascii_lowercase() || c.is_ascii_digit();
        match c {
            '-' | '.' => snake.push('_'),
            other => snake.push(other.to_ascii_lowercase()),
        }
    }
    snake
}

enum Found {
    /// Cut these bytes and go on behind them.
    Secret { start: usize, end: usize },
    /// Nothing starts here; go on at `resume`, which is behind the place looked at.
    Nothing { resume: usize },
}

/// Looks at one place: a word with what follows it, or a single character.
fn secret_at(text: &str, at: usize) -> Found {
    let rest = &text[at..];
    if let Some(end) = private_key(rest) {
        return secret(at, at + end);
    }
    let word = word_length(rest);
    if word == 0 {
        let step = rest.chars().next().map_or(1, char::len_utf8);
        return Found::Nothing { resume: at + step };
    }
    let (name, after) = rest.split_at(word);
    let after_at = at + word;
    if after.starts_with("://") {
        return in_url(text, after_at + 3);
    }
    if name.starts_with("eyJ") && name.len() >= 20 {
        return secret(at, at + json_web_token(rest));
    }
    if name.eq_ignore_ascii_case("bearer")
        && let Some(credentials) = after.strip_prefix(' ')
    {
        let length = credentials.len() - credentials.trim_start_matches(is_token_char).len();
        if length >= 8 {
            return secret(after_at + 1, after_at + 1 + length);
        }
    }
    // Most words are followed by nothing like a separator: they need no second look.
    let behind_quotes = after.trim_start_matches(['\\', '"', '\'', ' ']);
    if behind_quotes.starts_with(['=', ':', ',', '%'])
        && names_secret(name)
        && let Some((start, end)) = value_of(name, after)
    {
        return secret(after_at + start, after_at + end);
    }
    Found::Nothing { resume: after_at }
}

fn secret(start: usize, end: usize) -> Found {
    Found::Secret { start, end }
}

/// Inside a URL whose authority starts at `at`: user-info first, then, on the next call, the query.
///
/// The user of `abfss://container@account…` is a container, not a secret, so user-info is cut only where it has a
/// password, or where the scheme sends it as one.
fn in_url(text: &str, at: usize) -> Found {
    let url = &text[at..];
    let end = url.find(ends_url).unwrap_or(url.len());
    let url = &url[..end];
    let authority = url.find(['/', '?', '#']).unwrap_or(url.len());
    let is_http = text[..at].ends_with("http://") || text[..at].ends_with("https://");
    // A password may itself hold `/`, `?` or `@`: where the authority has no `@`, one in front of which only a
    // `user:password` fits is taken as well.
    let user_info = match url[..authority].rfind('@') {
        Some(length) => Some(length),
        None if has_password_shape(&url[..authority]) => url.rfind('@'),
        None => None,
    };
    if let Some(length) = user_info.filter(|length| *length > 0)
        && (is_http || url[..length].contains(':'))
        && &url[..length] != REDACTED
    {
        return secret(at, at + length);
    }
    match url.find('?') {
        Some(mark) if mark + 1 < url.len() => secret(at + mark + 1, at + url.len()),
        _ => Found::Nothing { resume: at + end },
    }
}

/// `user:secret` rather than `host:443`.
fn has_password_shape(authority: &str) -> bool {
    authority.split_once(':').is_some_and(|(_, port)| {
        !port.is_empty() && !port.starts_with('[') && !port.bytes().all(|b| b.is_ascii_digit())
    })
}

fn ends_url(c: char) -> bool {
    c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | '`' | '<' | '>' | '\\' | '|')
}

/// Where the value of a secret key lies in the text behind the key, if a value follows.
fn value_of(name: &str, after: &str) -> Option<(usize, usize)> {
    // The key's own closing quote: `"token": …`, in a string inside a string `\"token\": …`.
    let unquoted = after.trim_start_matches('\\');
    let is_quoted_key = unquoted.starts_with(['"', '\'']);
    let behind_quote = if is_quoted_key { &unquoted[1..] } else { after };
    let behind_space = behind_quote.trim_start_matches(' ');
    let separator = ["%3D", "%3d", "=>", "=", ":", ","]
        .into_iter()
        .find(|mark| behind_space.starts_with(mark))?;
    let is_header = is_header(name);
    let value = behind_space[separator.len()..].trim_start_matches(' ');
    // `Some("…")` is how Rust prints an optional value.
    let value = value.strip_prefix("Some(").unwrap_or(value);
    let start = after.len() - value.len();
    let opening = value.trim_start_matches('\\');
    let escapes = value.len() - opening.len();
    let is_quoted_value = opening.starts_with(['"', '\'']);
    let is_assignment = match separator {
        // `token: "…"` of a printed struct is one, `expected token: comma` is not.
        ":" => is_quoted_key || is_quoted_value || is_header || is_never_prose(name),
        // A printed pair of a header's name and value.
        "," => is_header && is_quoted_key && is_quoted_value,
        _ => true,
    };
    if !is_assignment {
        return None;
    }
    if let Some(quote) = opening.chars().next().filter(|c| matches!(c, '"' | '\'')) {
        let inner_at = escapes + 1;
        let inner = &value[inner_at..];
        let end = closing_quote(inner, quote, escapes);
        return Some((start + inner_at, start + inner_at + end)).filter(|_| end > 0);
    }
    let end = if is_header {
        value.find(['\n', '\r']).unwrap_or(value.len())
    } else {
        value
            .find(|c: char| ends_url(c) || matches!(c, '&' | ';' | ',' | ')' | '}'))
            .unwrap_or(value.len())
    };
    Some((start, start + end)).filter(|_| end > 0)
}

/// The length up to the quote that closes the value: one with as many backslashes before it as the opening had.
fn closing_quote(inner: &str, quote: char, escapes: usize) -> usize {
    let mut backslashes = 0;
    for (index, c) in inner.char_indices() {
        match c {
            '\\' => backslashes += 1,
            _ if c == quote && backslashes <= escapes => return index - backslashes,
            _ => backslashes = 0,
        }
    }
    inner.len()
}

/// Headers whose whole line is secret.
fn is_header(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.ends_with("authorization") || name.ends_with("cookie")
}

/// Keys that may stand before `: value` without quotes. Others, such as `signature`, are words of plain sentences.
fn is_never_prose(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.contains(['_', '-']) || matches!(name.as_str(), "password" | "passwd" | "pwd" | "apikey")
}

fn word_length(text: &str) -> usize {
    text.len() - text.trim_start_matches(is_word_char).len()
}

fn is_word_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
}

fn is_token_char(c: char) -> bool {
    is_word_char(c) || matches!(c, '.' | '~' | '+' | '/' | '=' | ':')
}

/// The length of three base64url words with dots between; fewer when the text was cut.
fn json_web_token(text: &str) -> usize {
    text.len() - text.trim_start_matches(|c| is_word_char(c) || c == '.').len()
}

/// The length of a PEM private key, up to the end of the text when its last line is missing.
fn private_key(text: &str) -> Option<usize> {
    let head = text.strip_prefix("-----BEGIN ")?;
    let label = &head[..head.find("-----")?];
    if !label.ends_with("PRIVATE KEY") {
        return None;
    }
    let end = format!("-----END {label}-----");
    Some(text.find(&end).map_or(text.len(), |at| at + end.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CANARY: &str = "c4n4ry/Zm9v+YmFy==";

    /// Failure matrix: 64.
    #[test]
    fn secrets_are_cut_and_the_rest_stays() {
        let cases = [
            (
                "GET https://acct.blob.core.windows.net/c/a.parquet?sv=2024&sig=CANARY%2B failed",
                "GET https://acct.blob.core.windows.net/c/a.parquet?[redacted] failed",
            ),
            (
                "s3://bucket/key?X-Amz-Signature=CANARY&X-Amz-Credential=AKIA/x",
                "s3://bucket/key?[redacted]",
            ),
            (
                "/c/a.parquet?sv=1&sig=CANARY&se=2",
                "/c/a.parquet?sv=1&sig=[redacted]&se=2",
            ),
            (
                "x-amz-security-token: CANARY, next",
                "x-amz-security-token: [redacted], next",
            ),
            ("https://me:CANARY@host:8443/x", "https://[redacted]@host:8443/x"),
            (
                "https://CANARYTOKEN@github.com/x",
                "https://[redacted]@github.com/x",
            ),
            ("postgres://me:p/CANARY@host/db", "postgres://[redacted]@host/db"),
            (
                "Authorization: Snowflake Token=\"CANARY\"\nHost: x",
                "Authorization: [redacted]\nHost: x",
            ),
            (
                "Snowflake Token=\"CANARY\" rejected",
                "Snowflake Token=\"[redacted]\" rejected",
            ),
            (
                r#"header \"Snowflake Token=\\\"CANARY\\\"\" sent"#,
                r#"header \"Snowflake Token=\\\"[redacted]\\\"\" sent"#,
            ),
            (
                r#"{"token": "CAN\"ARY", "n": 1}"#,
                r#"{"token": "[redacted]", "n": 1}"#,
            ),
            (
                r#"{"authorization": "Bearer CANARY"}"#,
                r#"{"authorization": "[redacted]"}"#,
            ),
            ("sent Bearer CANARYCANARY to x", "sent Bearer [redacted] to x"),
            (
                "AWS_SECRET_ACCESS_KEY=CANARY b=1",
                "AWS_SECRET_ACCESS_KEY=[redacted] b=1",
            ),
            (
                "AccountName=a;AccountKey=CANARY==;Suffix=b",
                "AccountName=a;AccountKey=[redacted];Suffix=b",
            ),
            ("password: CANARY", "password: [redacted]"),
            (
                "jwt eyJhbGciOiJIUzI1NiIsInR5cCI6.eyJzdWIiOiIxIn0.CANARY here",
                "jwt [redacted] here",
            ),
            (
                "key -----BEGIN RSA PRIVATE KEY-----\nCANARY\n-----END RSA PRIVATE KEY----- ok",
                "key [redacted] ok",
            ),
            ("-----BEGIN PRIVATE KEY-----\nCANARY cut here", "[redacted]"),
            ("sig%3DCANARY b", "sig%3D[redacted] b"),
            (
                "Auth { token: \"CANARY\", n: 1 }",
                "Auth { token: \"[redacted]\", n: 1 }",
            ),
            (
                "Auth { secret: Some(\"CANARY\") }",
                "Auth { secret: Some(\"[redacted]\") }",
            ),
            (
                r#"[("authorization", "Basic CANARY")]"#,
                r#"[("authorization", "[redacted]")]"#,
            ),
        ];
        for (input, expected) in cases {
            assert_eq!(redact(input), *expected);
            assert!(!redact(input).contains("CANARY"), "{input}");
        }
    }

    #[test]
    fn plain_sentences_and_addresses_are_left_alone() {
        let cases = [
            "",
            "the model's signature: missing column DEP_DELAY",
            "unexpected token: expected a comma",
            "read abfss://container@account.dfs.core.windows.net/dir/a.parquet",
            "read s3://bucket/a/b=c/part-0.parquet in 3.5 s",
            "rows=10 tokens=512 max_tokens=4",
            "host https://example.com:8443/a#b is down",
            "Bearer token missing",
            "columns \"token\", \"name\"",
            "naïve ☃ = 1, a::b::c, C:\\dir?",
        ];
        for text in cases {
            assert!(
                matches!(redact(text), Cow::Borrowed(same) if same == text),
                "{text}"
            );
        }
    }

    #[test]
    fn keys_that_name_a_secret_are_told_from_others() {
        for key in [
            "SecretAccessKey",
            "sessionToken",
            "clientSecret",
            "AccountKey",
            "Set-Cookie",
            "sig",
            "X-Amz-Signature",
            "access_token",
            "db.password",
            "Api-Key",
            "SAS_TOKEN",
        ] {
            assert!(names_secret(key), "{key}");
        }
        for key in [
            "tokens",
            "file",
            "signature_name",
            "design",
            "key",
            "passwords_checked",
            "",
        ] {
            assert!(!names_secret(key), "{key}");
        }
    }

    /// Failure matrix: 64.
    #[test]
    fn documents_are_redacted_text_by_text() {
        let mut document = serde_json::json!({
            "location": "https://me:CANARY@host/x?sig=CANARY",
            "token": "CANARY",
            "tokens": 3,
            "max_token": 3,
            "hints": [{"text": "Bearer CANARYCANARY"}, "password: CANARY", null],
        });
        redact_values(&mut document);
        let expected = serde_json::json!({
            "location": "https://[redacted]@host/x?[redacted]",
            "token": "[redacted]",
            "tokens": 3,
            "max_token": 3,
            "hints": [{"text": "Bearer [redacted]"}, "password: [redacted]", null],
        });
        assert_eq!(document, expected);
    }

    proptest! {
        /// Failure matrix: 64.
        #[test]
        fn a_canary_never_survives(before in "[^\\\\]{0,24}", after in ".{0,24}", form in 0..6usize) {
            let secret = match form {
                0 => format!(" https://h/p?sig={CANARY}"),
                1 => format!(" token={CANARY}"),
                2 => format!(" Snowflake Token=\"{CANARY}\""),
                3 => format!("\nAuthorization: Basic {CANARY}"),
                4 => format!(" {{\"client_secret\":\"{CANARY}\"}}"),
                _ => format!(" https://user:{CANARY}@host/"),
            };
            let text = format!("{before}{secret}{after}");
            let clean = redact(&text).into_owned();
            prop_assert!(!clean.contains(CANARY), "{} -> {}", text, clean);
        }

        #[test]
        fn a_query_behind_user_info_is_cut_at_once(host in "[a-z]{0,5}") {
            let text = format!("https://user:pass@{host}?key={CANARY}");
            prop_assert_eq!(redact(&text).into_owned(), format!("https://[redacted]@{host}?[redacted]"));
            prop_assert_eq!(redact("https://:@?:").into_owned(), "https://[redacted]@?[redacted]");
        }

        #[test]
        fn any_text_is_redacted_without_panic_and_only_once(text in ".{0,80}") {
            let once = redact(&text).into_owned();
            prop_assert_eq!(redact(&once).into_owned(), once);
        }

        #[test]
        fn text_made_of_dangerous_pieces_is_stable(pieces in prop::collection::vec(
            prop::sample::select(vec![
                "token", "=", "\"", "\\", ":", " ", "https://", "@", "?", "a", "sig", "Bearer ", "&",
                "eyJ", "x-amz-", "authorization", "\n", "%3D", "'", "é", "[redacted]", "cookie",
            ]), 0..16)) {
            let text = pieces.concat();
            let once = redact(&text).into_owned();
            prop_assert_eq!(redact(&once).into_owned(), once);
        }
    }
}
