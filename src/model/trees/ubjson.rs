//! Universal Binary JSON (draft 12), as XGBoost writes it: sizes are stated, numbers are big-endian.
//!
//! Read from untrusted files: a length that the file does not back with bytes is refused before anything is kept of it,
//! and nesting is bounded. High-precision numbers are not read; XGBoost writes none.

use bytes::Bytes;

use super::document::{Kind, MAX_DEPTH, MAX_VALUES, Numbers, Value, damaged};
use crate::error::{Error, Result};

/// Reads a document. What follows it is not looked at.
///
/// # Errors
/// `Model`, for bytes that are none.
pub fn parse(bytes: &Bytes) -> Result<Value> {
    let mut reader = Reader {
        bytes,
        at: 0,
        values: 0,
    };
    let marker = reader.marker()?;
    reader.value(marker, 0)
}

struct Reader<'a> {
    bytes: &'a Bytes,
    at: usize,
    values: usize,
}

/// What stands before the elements of a list or an object.
struct Header {
    /// The type of every element, if they have one.
    kind: Option<u8>,
    /// How many elements there are; `None` when an end is marked.
    count: Option<usize>,
}

impl Reader<'_> {
    fn wrong(&self, why: &str) -> Error {
        damaged(&format!("at byte {} of the UBJSON file: {why}", self.at))
    }

    fn take(&mut self, length: usize) -> Result<Bytes> {
        if length > self.bytes.len() - self.at {
            return Err(self.wrong(&format!("{length} bytes are announced, and the file ends before")));
        }
        let taken = self.bytes.slice(self.at..self.at + length);
        self.at += length;
        Ok(taken)
    }

    /// The next byte that means something.
    fn marker(&mut self) -> Result<u8> {
        loop {
            match self.take(1)?[0] {
                b'N' => {}
                marker => return Ok(marker),
            }
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// A number that says how many bytes or elements follow.
    fn length(&mut self) -> Result<usize> {
        let marker = self.marker()?;
        let Some(kind) = integer(marker) else {
            return Err(self.wrong("a length is needed"));
        };
        let number = kind.number(&self.take(kind.width())?);
        if !(0.0..=self.bytes.len() as f64).contains(&number) {
            return Err(self.wrong(&format!("a length of {number} can't be")));
        }
        Ok(number as usize)
    }

    fn text(&mut self) -> Result<String> {
        let length = self.length()?;
        let bytes = self.take(length)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| self.wrong("a string is no UTF-8"))
    }

    fn value(&mut self, marker: u8, depth: usize) -> Result<Value> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(self.wrong(&format!("there are more than {MAX_VALUES} values")));
        }
        if depth > MAX_DEPTH {
            return Err(self.wrong(&format!("values are nested more than {MAX_DEPTH} deep")));
        }
        if let Some(kind) = number(marker) {
            return Ok(Value::Number(kind.number(&self.take(kind.width())?)));
        }
        Ok(match marker {
            b'Z' => Value::Null,
            b'T' => Value::Number(1.0),
            b'F' => Value::Number(0.0),
            b'S' => Value::Text(self.text()?),
            b'C' => Value::Text(char::from(self.take(1)?[0]).to_string()),
            b'[' => self.list(depth)?,
            b'{' => self.object(depth)?,
            other => return Err(self.wrong(&format!("{:?} is no type of a value", char::from(other)))),
        })
    }

    fn header(&mut self) -> Result<Header> {
        let mut header = Header {
            kind: None,
            count: None,
        };
        if self.peek() == Some(b'$') {
            self.at += 1;
            header.kind = Some(self.take(1)?[0]);
            if self.peek() != Some(b'#') {
                return Err(self.wrong("a type of elements is given without their number"));
            }
        }
        if self.peek() == Some(b'#') {
            self.at += 1;
            header.count = Some(self.length()?);
        }
        Ok(header)
    }

    fn list(&mut self, depth: usize) -> Result<Value> {
        let header = self.header()?;
        if let (Some(kind), Some(count)) = (header.kind.and_then(number), header.count) {
            let length = count.saturating_mul(kind.width());
            return Ok(Value::Numbers(Numbers::Raw(kind, self.take(length)?)));
        }
        let mut values = Vec::new();
        while self.goes_on(&header, values.len(), b']')? {
            let marker = self.element(&header)?;
            values.push(self.value(marker, depth + 1)?);
        }
        let all: Option<Vec<f64>> = values
            .iter()
            .map(|value| match value {
                Value::Number(number) => Some(*number),
                _ => None,
            })
            .collect();
        Ok(all.map_or(Value::List(values), |numbers| {
            Value::Numbers(Numbers::Parsed(numbers))
        }))
    }

    fn object(&mut self, depth: usize) -> Result<Value> {
        let header = self.header()?;
        let mut entries = Vec::new();
        while self.goes_on(&header, entries.len(), b'}')? {
            let key = self.text()?;
            let marker = self.element(&header)?;
            entries.push((key, self.value(marker, depth + 1)?));
        }
        Ok(Value::Object(entries))
    }

    /// Whether another element follows the first `seen`.
    fn goes_on(&mut self, header: &Header, seen: usize, end: u8) -> Result<bool> {
        if let Some(count) = header.count {
            return Ok(seen < count);
        }
        while self.peek() == Some(b'N') {
            self.at += 1;
        }
        if self.peek() == Some(end) {
            self.at += 1;
            return Ok(false);
        }
        Ok(true)
    }

    fn element(&mut self, header: &Header) -> Result<u8> {
        match header.kind {
            Some(kind) => Ok(kind),
            None => self.marker(),
        }
    }
}

fn integer(marker: u8) -> Option<Kind> {
    Some(match marker {
        b'i' => Kind::I8,
        b'U' => Kind::U8,
        b'I' => Kind::I16,
        b'l' => Kind::I32,
        b'L' => Kind::I64,
        _ => return None,
    })
}

fn number(marker: u8) -> Option<Kind> {
    match marker {
        b'd' => Some(Kind::F32),
        b'D' => Some(Kind::F64),
        other => integer(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &'static [u8]) -> Result<Value> {
        parse(&Bytes::from_static(bytes))
    }

    #[test]
    fn every_sort_of_value_is_read() {
        let read = read(b"{U\x01ai\xffU\x01b[$d#U\x02\x3f\x80\0\0\x40\0\0\0U\x01c[TFZ]U\x01dSU\x02hiU\x01e[#i\x02I\x01\0l\0\0\0\x07U\x01f[$U#i\0U\x01g{$U#i\x01U\x01h\x09}").unwrap();
        let Value::Object(entries) = &read else {
            panic!("{read:?}")
        };
        let shown: Vec<String> = entries
            .iter()
            .map(|(key, value)| match value {
                Value::Numbers(numbers) => format!("{key} {:?}", numbers.iter().collect::<Vec<_>>()),
                other => format!("{key} {other:?}"),
            })
            .collect();
        assert_eq!(
            shown,
            [
                "a Number(-1.0)",
                "b [1.0, 2.0]",
                "c List([Number(1.0), Number(0.0), Null])",
                "d Text(\"hi\")",
                "e [256.0, 7.0]",
                "f []",
                "g Object([(\"h\", Number(9.0))])",
            ]
        );
    }

    #[test]
    fn lengths_nesting_and_counts_that_can_not_be_are_refused() {
        for (bytes, words) in [
            (&b"{U\x05ab"[..], "5 bytes are announced"),
            (b"SL\x7f\xff\xff\xff\xff\xff\xff\xff", "can't be"),
            (b"Si\xff", "a length of -1 can't be"),
            (b"[$d#L\0\0\0\0\0\0\0\x09", "36 bytes are announced"),
            (b"[$d", "without their number"),
            (b"[$Z#U\x09", ""),
            (b"", "1 bytes are announced"),
            (b"?", "'?' is no type of a value"),
            (b"SU\x01\xff", "no UTF-8"),
        ] {
            match read(bytes) {
                Err(error) => assert!(error.to_string().contains(words), "{error}"),
                Ok(value) => assert_eq!(value, Value::List(vec![Value::Null; 9])),
            }
        }
        let deep = Bytes::from(vec![b'['; 100_000]);
        let error = parse(&deep).unwrap_err().to_string();
        assert!(error.contains("more than 64 deep"), "{error}");
    }
}
