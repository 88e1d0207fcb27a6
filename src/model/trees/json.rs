//! JSON as XGBoost writes it: with bare `NaN` and `Infinity`, which the standard does not know and a model with
//! categorical splits is full of.
//!
//! Lists of numbers take eight bytes a number, so that a model's arrays cost less than their text.

use bytes::Bytes;

use super::document::{MAX_DEPTH, MAX_VALUES, Numbers, Value, damaged};
use crate::error::{Error, Result};

/// Reads a document.
///
/// # Errors
/// `Model`, for bytes that are none.
pub fn parse(bytes: &Bytes) -> Result<Value> {
    let mut reader = Reader {
        bytes,
        at: 0,
        values: 0,
    };
    let value = reader.value(0)?;
    reader.skip_space();
    match reader.peek() {
        None => Ok(value),
        Some(_) => Err(reader.wrong("something follows the end of the document")),
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    values: usize,
}

impl Reader<'_> {
    fn wrong(&self, why: &str) -> Error {
        damaged(&format!("at byte {} of the JSON file: {why}", self.at))
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn takes(&mut self, wanted: u8) -> bool {
        self.skip_space();
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn count(&mut self) -> Result<()> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(self.wrong(&format!("there are more than {MAX_VALUES} values")));
        }
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Result<Value> {
        self.count()?;
        if depth > MAX_DEPTH {
            return Err(self.wrong(&format!("values are nested more than {MAX_DEPTH} deep")));
        }
        if let Some(number) = self.number()? {
            return Ok(Value::Number(number));
        }
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.list(depth),
            Some(b'"') => self.text().map(Value::Text),
            Some(b'n') if self.word(b"null") => Ok(Value::Null),
            Some(_) => Err(self.wrong("a value is needed")),
            None => Err(self.wrong("the file ends within the document")),
        }
    }

    fn word(&mut self, word: &[u8]) -> bool {
        let found = self.bytes[self.at..].starts_with(word);
        self.at += if found { word.len() } else { 0 };
        found
    }

    /// A number, if one comes next.
    fn number(&mut self) -> Result<Option<f64>> {
        self.skip_space();
        let start = self.at;
        let sign = if self.word(b"-") { -1.0 } else { 1.0 };
        for (word, number) in [
            (&b"NaN"[..], f64::NAN),
            (b"Infinity", f64::INFINITY),
            (b"inf", f64::INFINITY),
            (b"nan", f64::NAN),
            (b"true", 1.0),
            (b"false", 0.0),
        ] {
            if self.word(word) {
                return Ok(Some(sign * number));
            }
        }
        while matches!(self.peek(), Some(b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')) {
            self.at += 1;
        }
        if start == self.at {
            return Ok(None);
        }
        let text = std::str::from_utf8(&self.bytes[start..self.at]).unwrap_or_default();
        match text.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => {
                self.at = start;
                Err(self.wrong("a number can't be read"))
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value> {
        self.at += 1;
        let mut numbers: Vec<f64> = Vec::new();
        let mut values: Vec<Value> = Vec::new();
        if self.takes(b']') {
            return Ok(Value::List(values));
        }
        loop {
            match self.number()? {
                Some(number) if values.is_empty() => numbers.push(number),
                Some(number) => {
                    self.count()?;
                    values.push(Value::Number(number));
                }
                None => {
                    for number in numbers.drain(..) {
                        self.values += 1;
                        values.push(Value::Number(number));
                    }
                    values.push(self.value(depth + 1)?);
                }
            }
            if self.takes(b']') {
                break;
            }
            if !self.takes(b',') {
                return Err(self.wrong("a comma or the end of a list is needed"));
            }
        }
        Ok(match values.is_empty() {
            true => Value::Numbers(Numbers::Parsed(numbers)),
            false => Value::List(values),
        })
    }

    fn object(&mut self, depth: usize) -> Result<Value> {
        self.at += 1;
        let mut entries = Vec::new();
        if self.takes(b'}') {
            return Ok(Value::Object(entries));
        }
        loop {
            self.skip_space();
            if self.peek() != Some(b'"') {
                return Err(self.wrong("a key is needed"));
            }
            let key = self.text()?;
            if !self.takes(b':') {
                return Err(self.wrong("a colon is needed"));
            }
            entries.push((key, self.value(depth + 1)?));
            if self.takes(b'}') {
                return Ok(Value::Object(entries));
            }
            if !self.takes(b',') {
                return Err(self.wrong("a comma or the end of an object is needed"));
            }
        }
    }

    /// A string. Its end is found here, what is in it is `serde_json`'s to read.
    fn text(&mut self) -> Result<String> {
        let start = self.at;
        self.at += 1;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => self.at += 2,
                Some(_) => self.at += 1,
                None => return Err(self.wrong("the file ends within a string")),
            }
        }
        self.at += 1;
        serde_json::from_slice(&self.bytes[start..self.at]).map_err(|_| {
            self.at = start;
            self.wrong("a string can't be read")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Value> {
        parse(&Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn documents_are_read_with_the_numbers_that_the_standard_lacks() {
        let value = read(
            r#" {"a": [1, -2.5E-1, NaN, -Infinity], "b": "x\u00e9\"", "c": [], "d": [1, "y", {"e": null}], "f": [true, false]} "#,
        )
        .unwrap();
        let Value::Object(entries) = value else {
            panic!("an object")
        };
        let Value::Numbers(Numbers::Parsed(numbers)) = &entries[0].1 else {
            panic!("numbers")
        };
        assert_eq!(&numbers[..2], &[1.0, -0.25]);
        assert!(numbers[2].is_nan() && numbers[3] == f64::NEG_INFINITY);
        assert_eq!(entries[1].1, Value::Text("xé\"".into()));
        assert_eq!(entries[2].1, Value::List(vec![]));
        let inner = Value::Object(vec![("e".into(), Value::Null)]);
        assert_eq!(
            entries[3].1,
            Value::List(vec![Value::Number(1.0), Value::Text("y".into()), inner])
        );
        assert_eq!(entries[4].1, Value::Numbers(Numbers::Parsed(vec![1.0, 0.0])));
    }

    #[test]
    fn text_that_is_none_is_refused_with_its_place() {
        for (text, words) in [
            ("", "at byte 0 of the JSON file: the file ends"),
            ("{\"a\": 1", "at byte 7"),
            ("{\"a\" 1}", "a colon is needed"),
            ("[1 2]", "at byte 3"),
            ("[1] 2", "something follows"),
            ("[1e]", "a number can't be read"),
            ("\"\\q\"", "at byte 0 of the JSON file: a string can't be read"),
            ("\"abc\\", "ends within a string"),
            ("{1: 2}", "a key is needed"),
            ("nul", "a value is needed"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
        let error = read(&"[".repeat(100_000)).unwrap_err().to_string();
        assert!(error.contains("more than 64 deep"), "{error}");
        let error = read(&"{\"a\":".repeat(100_000)).unwrap_err().to_string();
        assert!(error.contains("more than 64 deep"), "{error}");
    }
}
