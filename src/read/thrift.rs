//! Thrift's compact protocol, as far as a first look needs it: fields, lists, numbers, and skipping the rest.
//!
//! Footers and page headers are looked at here before the parquet crate decodes them and allocates by what they say.
//! Nothing is allocated, every step takes at least one byte of the input, and recursion is bounded, so whatever the
//! bytes are, a look ends soon. What this module can't read, the crate must not see.

/// Deepest nesting: a footer needs 8.
const MAX_DEPTH: usize = 32;

/// The bytes are not what they should be; says what is wrong with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

pub(super) type Result<T> = std::result::Result<T, Malformed>;

/// Types of values, as the wire numbers them.
pub(super) mod wire {
    pub const TRUE: u8 = 1;
    pub const FALSE: u8 = 2;
    pub const BYTE: u8 = 3;
    pub const I16: u8 = 4;
    pub const I32: u8 = 5;
    pub const I64: u8 = 6;
    pub const DOUBLE: u8 = 7;
    pub const BINARY: u8 = 8;
    pub const LIST: u8 = 9;
    pub const SET: u8 = 10;
    pub const MAP: u8 = 11;
    pub const STRUCT: u8 = 12;
    pub const UUID: u8 = 13;
}

/// A field of a struct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub id: i16,
    pub kind: u8,
}

/// A place in the bytes.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, at: 0 }
    }

    /// Bytes read so far.
    pub fn position(&self) -> usize {
        self.at
    }

    /// The bytes from the position `first` to here.
    pub fn since(&self, first: usize) -> &'a [u8] {
        &self.bytes[first..self.at]
    }

    #[inline]
    fn byte(&mut self) -> Result<u8> {
        let byte = *self.bytes.get(self.at).ok_or(Malformed("it ends too early"))?;
        self.at += 1;
        Ok(byte)
    }

    fn advance(&mut self, count: u64) -> Result<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let count = usize::try_from(count).ok().filter(|count| *count <= rest.len());
        let count = count.ok_or(Malformed("it ends too early"))?;
        self.at += count;
        Ok(&rest[..count])
    }

    #[inline]
    fn varint(&mut self) -> Result<u64> {
        // Most numbers of a footer have one digit.
        match self.byte()? {
            digit @ ..0x80 => Ok(digit.into()),
            first => self.digits_after(first),
        }
    }

    fn digits_after(&mut self, first: u8) -> Result<u64> {
        let mut value = u64::from(first & 0x7f);
        for shift in (7..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed("a number has too many digits"))
    }

    fn zigzag(&mut self) -> Result<i64> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// The next field of a struct, or `None` at its end. `last` is the id of the field before, 0 at first.
    pub fn field(&mut self, last: &mut i16) -> Result<Option<Field>> {
        let byte = self.byte()?;
        let kind = byte & 0x0f;
        if byte == 0 {
            return Ok(None);
        }
        let id = match byte >> 4 {
            0 => i16::try_from(self.zigzag()?).map_err(|_| Malformed("a field's number is too large"))?,
            step => last
                .checked_add(step.into())
                .ok_or(Malformed("a field's number is too large"))?,
        };
        *last = id;
        match kind {
            wire::TRUE..=wire::UUID => Ok(Some(Field { id, kind })),
            _ => Err(Malformed("a field is of an unknown type")),
        }
    }

    /// A field's value, a number of type `kind`.
    pub fn number(&mut self, field: Field, kind: u8) -> Result<i64> {
        if field.kind != kind {
            return Err(Malformed("a field is of another type than it should be"));
        }
        let value = self.zigzag()?;
        if kind == wire::I32 && i32::try_from(value).is_err() {
            return Err(Malformed("a number is too large"));
        }
        Ok(value)
    }

    /// A field's value, text or bytes.
    pub fn binary(&mut self, field: Field) -> Result<&'a [u8]> {
        if field.kind != wire::BINARY {
            return Err(Malformed("a field is of another type than it should be"));
        }
        let length = self.varint()?;
        self.advance(length)
    }

    /// The number of structs in the list that is a field's value. Each takes a byte at least.
    pub fn structs(&mut self, field: Field) -> Result<usize> {
        if field.kind != wire::LIST {
            return Err(Malformed("a field is of another type than it should be"));
        }
        match self.list()? {
            (wire::STRUCT, count) | (_, count @ 0) => Ok(count),
            _ => Err(Malformed("a list is of another type than it should be")),
        }
    }

    /// The type of a list's items, and how many there are.
    fn list(&mut self) -> Result<(u8, usize)> {
        let byte = self.byte()?;
        let count = match byte >> 4 {
            15 => self.varint()?,
            count => count.into(),
        };
        // Every item takes a byte at least, so what follows bounds them.
        match usize::try_from(count) {
            Ok(count) if count <= self.bytes.len() - self.at => Ok((byte & 0x0f, count)),
            _ => Err(Malformed("a list is longer than what follows")),
        }
    }

    /// Passes over the value of a field.
    pub fn skip(&mut self, field: Field) -> Result<()> {
        match field.kind {
            // Their value is in the type.
            wire::TRUE | wire::FALSE => Ok(()),
            kind => self.skip_value(kind, 0),
        }
    }

    fn skip_value(&mut self, kind: u8, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(Malformed("it is nested too deep"));
        }
        match kind {
            wire::TRUE | wire::FALSE | wire::BYTE => self.byte().map(drop),
            wire::I16 | wire::I32 | wire::I64 => self.varint().map(drop),
            wire::DOUBLE => self.advance(8).map(drop),
            wire::UUID => self.advance(16).map(drop),
            wire::BINARY => {
                let length = self.varint()?;
                self.advance(length).map(drop)
            }
            wire::LIST | wire::SET => {
                let (item, count) = self.list()?;
                (0..count).try_for_each(|_| self.skip_value(item, depth + 1))
            }
            wire::MAP => {
                let count = self.varint()?;
                if count == 0 {
                    return Ok(());
                }
                let kinds = self.byte()?;
                (0..count).try_for_each(|_| {
                    self.skip_value(kinds >> 4, depth + 1)?;
                    self.skip_value(kinds & 0x0f, depth + 1)
                })
            }
            wire::STRUCT => {
                let mut last = 0;
                while let Some(field) = self.field(&mut last)? {
                    match field.kind {
                        wire::TRUE | wire::FALSE => {}
                        kind => self.skip_value(kind, depth + 1)?,
                    }
                }
                Ok(())
            }
            _ => Err(Malformed("a value is of an unknown type")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STRUCT: Field = Field {
        id: 1,
        kind: wire::STRUCT,
    };

    #[test]
    fn numbers_texts_and_lists_are_read() {
        // 1: i32 -3; 2: "ab"; 4: list of 2 structs, each 1: i64 300; 40: true
        let bytes = [
            0x15, 0x05, 0x18, 2, b'a', b'b', 0x29, 0x2c, 0x16, 0xd8, 0x04, 0, 0x16, 0xd8, 0x04, 0, 0x01, 80,
            0,
        ];
        let (mut cursor, mut last) = (Cursor::new(&bytes), 0);
        let field = cursor.field(&mut last).unwrap().unwrap();
        assert_eq!(cursor.number(field, wire::I32), Ok(-3));
        let field = cursor.field(&mut last).unwrap().unwrap();
        assert_eq!(cursor.binary(field), Ok(&b"ab"[..]));
        let field = cursor.field(&mut last).unwrap().unwrap();
        assert_eq!((field.id, cursor.structs(field)), (4, Ok(2)));
        for _ in 0..2 {
            let mut last = 0;
            let field = cursor.field(&mut last).unwrap().unwrap();
            assert_eq!(cursor.number(field, wire::I64), Ok(300));
            assert_eq!(cursor.field(&mut last), Ok(None));
        }
        let field = cursor.field(&mut last).unwrap().unwrap();
        assert_eq!((field.id, cursor.skip(field)), (40, Ok(())));
        assert_eq!(cursor.field(&mut last), Ok(None));
        assert_eq!(cursor.position(), bytes.len());
        assert_eq!(Cursor::new(&bytes).skip(STRUCT), Ok(()));
    }

    #[test]
    fn a_list_that_can_not_be_there_is_refused_at_once() {
        // A list of 2^31 - 1 booleans, which a careless reader counts through one by one.
        let bytes = [0x19, 0xf1, 0xff, 0xff, 0xff, 0xff, 0x07, 0];
        assert_eq!(
            Cursor::new(&bytes).skip(STRUCT),
            Err(Malformed("a list is longer than what follows"))
        );
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = [0x1c].repeat(1_000_000);
        assert_eq!(
            Cursor::new(&deep).skip(STRUCT),
            Err(Malformed("it is nested too deep"))
        );
        let lists = [0x19]
            .iter()
            .chain([0x19].repeat(1_000_000).iter())
            .copied()
            .collect::<Vec<u8>>();
        assert_eq!(
            Cursor::new(&lists).skip(STRUCT),
            Err(Malformed("it is nested too deep"))
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_passed_over_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut cursor = Cursor::new(&bytes);
            let _ = cursor.skip(STRUCT);
            prop_assert!(cursor.position() <= bytes.len());
        }
    }
}
