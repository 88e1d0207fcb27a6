//! A first look at a footer, before it is decoded: how much it describes, and whether columns are encrypted.
//!
//! Decoding makes hundreds of bytes of memory from a few bytes of footer, and recurses as deep as the schema does. What
//! is counted here bounds both. The parquet crate is built without encryption: to it, a file with a plain footer and
//! encrypted columns is only a footer with gaps. What a footer says of the file's schema is found on the way, so that it
//! need not be decoded again for each of the files of one writer.

use super::int96::SPARK;
use super::limits::{COLUMN_CHUNKS, COLUMNS, SCHEMA_DEPTH, beyond};
use super::thrift::{Cursor, Field, Malformed, Result as Look, wire};
use crate::error::{Error, Result};

/// Names of encrypted columns that an error lists.
const NAMED_COLUMNS: usize = 5;

/// The key under which Arrow's writers keep the schema as they know it.
const ARROW: &[u8] = b"ARROW:schema";

/// The bytes of a footer that decide the file's schema, in Parquet's types and in Arrow's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SchemaBytes<'a> {
    /// The list of Parquet's schema elements.
    pub elements: &'a [u8],
    /// What Arrow's writer says.
    pub arrow: Option<&'a [u8]>,
    /// Whether Spark wrote the file (see [`int96`](super::int96)).
    pub is_sparks: bool,
}

/// Checks a footer's outline; answers with what decides the schema, unless it is said more than once.
///
/// # Errors
/// `Data`: it is malformed, describes more than the limits allow, or columns are encrypted.
pub(super) fn check(footer: &[u8]) -> Result<Option<SchemaBytes<'_>>> {
    let mut outline = Outline::default();
    outline.file(&mut Cursor::new(footer)).map_err(|Malformed(why)| {
        Error::data(format!("can't read the footer of the Parquet file: {why}"))
            .with_hint("the file is corrupt: write it again")
    })?;
    outline.judge()?;
    let once = !outline.is_repeated;
    let schema = outline.elements.map(|elements| SchemaBytes {
        elements,
        arrow: outline.arrow,
        is_sparks: outline.is_sparks,
    });
    Ok(schema.filter(|_| once))
}

/// The file's footer or some of its columns can't be read without keys.
pub(super) fn encrypted(what: &str) -> Error {
    Error::data(format!("{what} encrypted, and Floe holds no keys"))
        .with_hint("decrypt it with a program that has the keys, or write it again without encryption")
}

/// What a footer describes.
#[derive(Default)]
struct Outline<'a> {
    /// Names of the leaves of the schema, in order.
    leaves: Vec<&'a [u8]>,
    depth: usize,
    column_chunks: usize,
    /// Names of columns that are encrypted in some row group, a few of them.
    encrypted: Vec<&'a [u8]>,
    has_encrypted: bool,
    /// The list of schema elements.
    elements: Option<&'a [u8]>,
    /// What Arrow's writer says of the schema.
    arrow: Option<&'a [u8]>,
    /// Whether there was more than one of those.
    is_repeated: bool,
    is_sparks: bool,
}

impl<'a> Outline<'a> {
    fn judge(&self) -> Result<()> {
        if self.leaves.len() > COLUMNS {
            return Err(beyond(
                "the file has more columns than",
                COLUMNS,
                "columns",
                COLUMNS,
            ));
        }
        if self.depth > SCHEMA_DEPTH {
            return Err(beyond(
                "the schema is nested deeper than",
                SCHEMA_DEPTH,
                "schema depth",
                SCHEMA_DEPTH,
            ));
        }
        if self.column_chunks > COLUMN_CHUNKS {
            return Err(beyond(
                "columns times row groups are",
                self.column_chunks,
                "column chunks",
                COLUMN_CHUNKS,
            )
            .with_hint("write larger row groups, or fewer columns"));
        }
        if self.has_encrypted {
            let names: Vec<_> = self
                .encrypted
                .iter()
                .map(|name| String::from_utf8_lossy(name))
                .collect();
            return Err(encrypted("columns of the Parquet file are").with("column", names.join(", ")));
        }
        Ok(())
    }

    fn file(&mut self, cursor: &mut Cursor<'a>) -> Look<()> {
        each_field(cursor, |cursor, field| match field.id {
            2 => {
                let first = cursor.position();
                self.schema(cursor, field)?;
                self.is_repeated |= self.elements.replace(cursor.since(first)).is_some();
                Ok(())
            }
            4 => {
                for _ in 0..cursor.structs(field)? {
                    self.row_group(cursor)?;
                }
                Ok(())
            }
            5 => {
                for _ in 0..cursor.structs(field)? {
                    self.pair(cursor)?;
                }
                Ok(())
            }
            _ => cursor.skip(field),
        })
    }

    /// A key and its value, which somebody left in the footer.
    fn pair(&mut self, cursor: &mut Cursor<'a>) -> Look<()> {
        let (mut key, mut value) = (&[][..], &[][..]);
        each_field(cursor, |cursor, field| {
            match field.id {
                1 => key = cursor.binary(field)?,
                2 => value = cursor.binary(field)?,
                _ => cursor.skip(field)?,
            }
            Ok(())
        })?;
        if key == ARROW {
            self.is_repeated |= self.arrow.replace(value).is_some();
        }
        self.is_sparks |= key == SPARK.as_bytes();
        Ok(())
    }

    /// Elements in the order of a walk through the tree, each with the number of its children.
    fn schema(&mut self, cursor: &mut Cursor<'a>, field: Field) -> Look<()> {
        // How many children of each group on the way down are still to come.
        let mut open: Vec<i64> = Vec::new();
        for _ in 0..cursor.structs(field)? {
            let (mut name, mut children) = (&[][..], 0);
            each_field(cursor, |cursor, field| {
                match field.id {
                    4 => name = cursor.binary(field)?,
                    5 => children = cursor.number(field, wire::I32)?,
                    _ => cursor.skip(field)?,
                }
                Ok(())
            })?;
            if let Some(left) = open.last_mut() {
                *left -= 1;
            }
            if children > 0 {
                open.push(children);
                self.depth = self.depth.max(open.len());
                if open.len() > SCHEMA_DEPTH {
                    open.clear();
                }
            } else if self.leaves.len() <= COLUMNS {
                self.leaves.push(name);
            }
            while open.last() == Some(&0) {
                open.pop();
            }
        }
        Ok(())
    }

    fn row_group(&mut self, cursor: &mut Cursor<'a>) -> Look<()> {
        each_field(cursor, |cursor, field| {
            if field.id != 1 {
                return cursor.skip(field);
            }
            let columns = cursor.structs(field)?;
            self.column_chunks = self.column_chunks.saturating_add(columns);
            for column in 0..columns {
                self.column_chunk(cursor, column)?;
            }
            Ok(())
        })
    }

    fn column_chunk(&mut self, cursor: &mut Cursor<'a>, column: usize) -> Look<()> {
        let mut is_encrypted = false;
        each_field(cursor, |cursor, field| {
            // Which key, and the column's own metadata, encrypted.
            is_encrypted |= field.id == 8 || field.id == 9;
            cursor.skip(field)
        })?;
        self.has_encrypted |= is_encrypted;
        if is_encrypted && self.encrypted.len() < NAMED_COLUMNS {
            let name = self.leaves.get(column).copied().unwrap_or_default();
            if !self.encrypted.contains(&name) {
                self.encrypted.push(name);
            }
        }
        Ok(())
    }
}

fn each_field<'a>(
    cursor: &mut Cursor<'a>,
    mut value: impl FnMut(&mut Cursor<'a>, Field) -> Look<()>,
) -> Look<()> {
    let mut last = 0;
    while let Some(field) = cursor.field(&mut last)? {
        value(cursor, field)?;
    }
    Ok(())
}
