//! The form of a file: its schema in Parquet's types and in Arrow's, shared by all files of one writer.
//!
//! Ten thousand small files have ten thousand footers that say the same of their columns, and decoding that costs more than
//! all the rest of them. So the bytes that decide the schema are compared first, and where they are equal to those of a file
//! before, that file's schema is taken. Equal bytes have equal meanings: nothing else can tell that this was done.

use arrow::datatypes::{Schema, SchemaRef};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::file::metadata::{FileMetaData, ParquetMetaData};
use parquet::schema::types::SchemaDescPtr;
use std::sync::{Arc, Mutex, PoisonError};

use super::group::null_bytes;
use super::int96;
use super::limits::{FIXED_BYTES, beyond};
use super::outline::SchemaBytes;
use crate::error::Result;

/// Forms that are remembered: writers of one folder are few.
const REMEMBERED: usize = 4;

/// The schema of a file.
pub(super) struct Form {
    descriptor: SchemaDescPtr,
    schema: SchemaRef,
    /// What it was made of, if that can be compared.
    made_of: Option<MadeOf>,
}

/// [`SchemaBytes`], kept.
struct MadeOf {
    elements: Box<[u8]>,
    arrow: Option<Box<[u8]>>,
    is_sparks: bool,
}

impl Form {
    /// The form of a file, whose footer says so in `bytes`.
    ///
    /// # Errors
    /// The crate's own, when it can't make Arrow types of the schema.
    pub fn of(file: &FileMetaData, bytes: Option<&SchemaBytes<'_>>) -> parquet::errors::Result<Form> {
        // The crate wants a whole footer, but looks at no row group.
        let alone = ParquetMetaData::new(file.clone(), Vec::new());
        let whole = ArrowReaderMetadata::try_new(Arc::new(alone), ArrowReaderOptions::new())?;
        let whole = int96::in_microseconds(whole)?;
        Ok(Form {
            descriptor: file.schema_descr_ptr(),
            // What else the file's writer left in the footer is that file's alone.
            schema: Arc::new(Schema::new(whole.schema().fields().clone())),
            made_of: bytes.map(|bytes| MadeOf {
                elements: bytes.elements.into(),
                arrow: bytes.arrow.map(Into::into),
                is_sparks: bytes.is_sparks,
            }),
        })
    }

    /// The columns in Parquet's types.
    pub fn descriptor(&self) -> &SchemaDescPtr {
        &self.descriptor
    }

    /// The columns in Arrow's types.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn is_of(&self, bytes: &SchemaBytes<'_>) -> bool {
        self.made_of.as_ref().is_some_and(|made_of| {
            *made_of.elements == *bytes.elements
                && made_of.arrow.as_deref() == bytes.arrow
                && made_of.is_sparks == bytes.is_sparks
        })
    }

    /// Values of a fixed length take it even when they are null.
    ///
    /// # Errors
    /// `Data`: there are values too long for that.
    pub fn check(&self) -> Result<()> {
        let too_long = |bytes: String| {
            let what = "a value of the column's fixed length takes";
            beyond(what, bytes, "fixed length", FIXED_BYTES)
        };
        for field in self.schema.fields() {
            let bytes = null_bytes(std::iter::once(field));
            if bytes > FIXED_BYTES {
                return Err(too_long(format!("{bytes} bytes")).with("column", field.name()));
            }
        }
        for column in self.descriptor.columns() {
            let bytes = i64::from(column.type_length());
            if bytes > FIXED_BYTES as i64 {
                return Err(too_long(format!("{bytes} bytes")).with("column", column.path().string()));
            }
        }
        Ok(())
    }
}

/// The forms met so far, as far as they are remembered.
#[derive(Default)]
pub(super) struct Forms(Mutex<Vec<Arc<Form>>>);

impl Forms {
    /// The form that a footer with these bytes has, if it was met.
    pub fn find(&self, bytes: &SchemaBytes<'_>) -> Option<Arc<Form>> {
        let forms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        forms.iter().find(|form| form.is_of(bytes)).cloned()
    }

    /// Takes note of a form.
    pub fn remember(&self, form: &Arc<Form>) {
        let mut forms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = forms.iter().any(|known| Arc::ptr_eq(known, form));
        if form.made_of.is_some() && !is_known && forms.len() < REMEMBERED {
            forms.push(form.clone());
        }
    }
}
