//! Which columns of a chunk are decoded, and which are copied as they are.
//!
//! Decided when a unit is laid out, from footers and plan alone. Whether a column that might be copied really can be is
//! known when its page headers have been read; [`super::splicing`] decides it then, from the file's bytes alone.

use arrow::datatypes::SchemaRef;
use std::sync::Arc;

use super::footer::Footer;
use crate::write::Form;
use crate::write::splice::Origins;

/// What the rest of the pipeline wants of the input's columns.
#[derive(Clone)]
pub(super) struct Selection {
    /// The plan's schema.
    pub schema: SchemaRef,
    /// The output that columns may be copied to, and the columns whose values are needed; `None`: all values are.
    pub splicing: Option<(Arc<Form>, Vec<usize>)>,
}

/// What becomes of the columns of a chunk; positions in the plan's schema, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Columns {
    /// Their values are read.
    pub decoded: Vec<usize>,
    /// They are copied, if their pages let them be. Some may be decoded as well.
    pub spliced: Vec<usize>,
}

impl Selection {
    /// Where a file has the columns, as far as they may be copied.
    pub fn origins(&self, footer: &Footer) -> Option<Arc<Origins>> {
        let (form, _) = self.splicing.as_ref()?;
        let file = footer.metadata().metadata().file_metadata();
        let origins = form.origins(self.schema.fields().len(), file, footer.schema());
        origins
            .columns
            .iter()
            .any(Option::is_some)
            .then(|| Arc::new(origins))
    }

    /// All columns are decoded.
    pub fn decode_all(&self) -> Columns {
        Columns {
            decoded: (0..self.schema.fields().len()).collect(),
            spliced: Vec::new(),
        }
    }

    /// What becomes of the columns of a row group that is a chunk by itself.
    pub fn columns(&self, footer: &Footer, row_group: usize, origins: &Origins) -> Columns {
        let Some((form, needed)) = &self.splicing else {
            return self.decode_all();
        };
        let chunks = footer.row_groups()[row_group].columns();
        let mut columns = Columns::default();
        for (column, source) in origins.columns.iter().enumerate() {
            let is_spliced = source.as_ref().is_some_and(|source| {
                chunks[source.leaves.clone()]
                    .iter()
                    .all(|chunk| form.keeps_codec(chunk))
            });
            if is_spliced {
                columns.spliced.push(column);
            }
            if !is_spliced || needed.binary_search(&column).is_ok() {
                columns.decoded.push(column);
            }
        }
        columns
    }
}
