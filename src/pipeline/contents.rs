//! Columns of paths: what the files hold takes the place of the paths.
//!
//! [`arriving`](super::arriving) fetches the files of a block while rows before them are scored; here is which columns they are,
//! which type each becomes, and how contents of rows become columns, with rows left out whose file can't be had.

use arrow::array::{ArrayRef, AsArray, BinaryViewBuilder, BooleanArray, LargeStringBuilder, RecordBatch};
use arrow::buffer::Buffer;
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::StreamExt;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::arriving::PARALLEL_FILES;
use crate::config::{ColumnHandling, FileEncoding};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::origin::RowError;
use crate::signature::find_column;
use crate::storage::{Found, Referenced};

/// Most bytes of the files of a trial.
const TRIAL_BYTES: u64 = 64 << 20;

/// What reaches the worker for a row: nothing for a null, else a file's content.
pub(super) type Content = Option<Result<Bytes>>;

/// The columns of paths among a model's inputs.
#[derive(Clone)]
pub struct Contents {
    columns: Vec<Column>,
    /// The inputs with contents for paths.
    schema: SchemaRef,
}

#[derive(Clone)]
struct Column {
    /// Position among the inputs.
    place: usize,
    name: String,
    convert_to: FileEncoding,
    files: Arc<Referenced>,
}

/// The rows of a batch with contents for paths.
#[derive(Debug)]
pub struct Filled {
    /// The rows whose files could be had.
    pub rows: RecordBatch,
    /// Their indices in the batch, when some are missing.
    pub kept: Option<Vec<usize>>,
    /// The others.
    pub failed: Vec<RowError>,
}

impl Filled {
    /// All rows, none of which names a file.
    pub(super) fn all(rows: RecordBatch) -> Filled {
        Filled {
            rows,
            kept: None,
            failed: Vec::new(),
        }
    }
}

/// `schema` as the model meets it: contents for paths.
///
/// # Errors
/// `Config`, for a column that is not there; `Data`, for one that is not of text.
pub fn handled(schema: &Schema, handling: &BTreeMap<String, ColumnHandling>) -> Result<Schema> {
    let mut fields = schema.fields().to_vec();
    for (name, handling) in handling {
        let key = || format!("input.column_handling.{name}");
        let place = find_column(schema, name)?
            .ok_or_else(|| Error::config(format!("{}: the input has no such column", key())))?;
        let field = &fields[place];
        let is_text = |data_type: &DataType| {
            matches!(
                data_type,
                DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
            )
        };
        let holds_text = match field.data_type() {
            DataType::Dictionary(_, value) => is_text(value),
            other => is_text(other),
        };
        if !holds_text {
            return Err(Error::data(format!(
                "{}: the column is of type {}, and paths are text",
                key(),
                field.data_type()
            ))
            .with("column", field.name()));
        }
        fields[place] = Arc::new(Field::new(field.name(), type_of(handling.convert_to), true));
    }
    Ok(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

fn type_of(encoding: FileEncoding) -> DataType {
    match encoding {
        FileEncoding::RawBytes => DataType::BinaryView,
        FileEncoding::Base64 | FileEncoding::Base64DataUrl => DataType::LargeUtf8,
    }
}

impl Contents {
    /// Those among `inputs`, the model's inputs with contents for paths; `None` if there are none. `files` are by the
    /// column's name in `handling`.
    ///
    /// # Errors
    /// `Data`, when several columns answer to a name.
    pub fn new(
        inputs: SchemaRef,
        handling: &BTreeMap<String, ColumnHandling>,
        files: &BTreeMap<String, Arc<Referenced>>,
    ) -> Result<Option<Contents>> {
        let mut columns = Vec::new();
        for (name, handling) in handling {
            if let (Some(place), Some(files)) = (find_column(&inputs, name)?, files.get(name)) {
                columns.push(Column {
                    place,
                    name: inputs.field(place).name().clone(),
                    convert_to: handling.convert_to,
                    files: files.clone(),
                });
            }
        }
        Ok((!columns.is_empty()).then_some(Contents {
            columns,
            schema: inputs,
        }))
    }

    /// How many columns there are.
    pub(super) fn columns(&self) -> usize {
        self.columns.len()
    }

    /// The paths in `rows`, row by row and in each by column.
    ///
    /// # Errors
    /// `Internal`, for a column that is no text.
    pub(super) fn paths(&self, rows: &RecordBatch) -> Result<Vec<Option<String>>> {
        let columns = self.columns.iter();
        let mut columns: Vec<_> = columns
            .map(|column| Ok(paths(rows.column(column.place))?.into_iter()))
            .collect::<Result<_>>()?;
        let row = |_| columns.iter_mut().map(Iterator::next).collect::<Vec<_>>();
        Ok((0..rows.num_rows()).flat_map(row).map(Option::flatten).collect())
    }

    /// Where the file lies whose path is at `place` among [`paths`](Self::paths).
    pub(super) fn files(&self, place: usize) -> &Referenced {
        &self.columns[place % self.columns.len()].files
    }

    /// The first of `rows`, for a trial of the model: as many as have files of at most [`TRIAL_BYTES`], and one at least. The others
    /// count as left out, but not as failed.
    ///
    /// # Errors
    /// `Storage`, when a store fails; what is wrong with single files is in the answer.
    pub async fn fill(&self, rows: &RecordBatch) -> Result<Filled> {
        self.fill_within(TRIAL_BYTES, rows).await
    }

    async fn fill_within(&self, most_bytes: u64, rows: &RecordBatch) -> Result<Filled> {
        let columns = self.columns.len();
        let mut bytes = 0;
        let fetched = futures::stream::iter(self.paths(rows)?.into_iter().enumerate())
            .map(|(place, path)| find(self.files(place), path))
            .buffered(PARALLEL_FILES)
            .enumerate()
            .take_while(|(place, found)| {
                if let Some(Ok(found)) = found {
                    bytes += found.size();
                }
                std::future::ready(bytes <= most_bytes || *place < columns)
            })
            .map(|(_, found)| read(found))
            .buffered(PARALLEL_FILES);
        let mut fetched = fetched.collect::<Vec<Content>>().await;
        let count = fetched.len() / columns;
        fetched.truncate(count * columns);
        let mut contents: Vec<Vec<Content>> = (0..columns).map(|_| Vec::with_capacity(count)).collect();
        for (place, content) in fetched.into_iter().enumerate() {
            contents[place % columns].push(content);
        }
        let mut filled = self.put(&rows.slice(0, count), contents)?;
        if count < rows.num_rows() {
            filled.kept.get_or_insert_with(|| (0..count).collect());
        }
        Ok(filled)
    }

    /// `rows` with these contents, by column and row.
    ///
    /// # Errors
    /// `Storage`, when a store failed; what is wrong with single files is in the answer.
    pub(super) fn put(&self, rows: &RecordBatch, contents: Vec<Vec<Content>>) -> Result<Filled> {
        let mut arrays = rows.columns().to_vec();
        let mut errors: BTreeMap<usize, Error> = BTreeMap::new();
        for (column, contents) in self.columns.iter().zip(contents) {
            let mut found = Vec::with_capacity(contents.len());
            for (row, content) in contents.into_iter().enumerate() {
                found.push(match content {
                    None => None,
                    Some(Ok(bytes)) => Some(bytes),
                    Some(Err(error)) => {
                        let error = error.with("column", &column.name);
                        // A store that fails would fail every row.
                        if error.kind() != ErrorKind::Data {
                            return Err(error);
                        }
                        errors.entry(row).or_insert(error);
                        None
                    }
                });
            }
            let paths = paths(rows.column(column.place))?;
            arrays[column.place] = array(column.convert_to, found, &paths)?;
        }
        let rows = RecordBatch::try_new(self.schema.clone(), arrays)
            .context(ErrorKind::Internal, "can't put contents in the place of paths")?;
        if errors.is_empty() {
            return Ok(Filled {
                rows,
                kept: None,
                failed: Vec::new(),
            });
        }
        let is_kept: Vec<bool> = (0..rows.num_rows())
            .map(|row| !errors.contains_key(&row))
            .collect();
        let kept = (0..rows.num_rows()).filter(|row| is_kept[*row]).collect();
        Ok(Filled {
            rows: filter_record_batch(&rows, &BooleanArray::from(is_kept))
                .context(ErrorKind::Internal, "can't leave out rows")?,
            kept: Some(kept),
            failed: errors
                .into_iter()
                .map(|(row, error)| RowError { row, error })
                .collect(),
        })
    }
}

async fn find(files: &Referenced, path: Option<String>) -> Option<Result<Found>> {
    match path {
        Some(path) => Some(files.find(&path).await),
        None => None,
    }
}

async fn read(found: Option<Result<Found>>) -> Content {
    match found? {
        Ok(found) => Some(found.read().await),
        Err(error) => Some(Err(error)),
    }
}

fn paths(column: &ArrayRef) -> Result<Vec<Option<String>>> {
    let texts = cast(column, &DataType::LargeUtf8).context(ErrorKind::Internal, "paths are no text")?;
    let texts = texts.as_string::<i64>();
    Ok(texts.iter().map(|text| text.map(str::to_string)).collect())
}

fn array(encoding: FileEncoding, contents: Vec<Option<Bytes>>, paths: &[Option<String>]) -> Result<ArrayRef> {
    if encoding == FileEncoding::RawBytes {
        // Each file stays where it was fetched to.
        let mut views = BinaryViewBuilder::with_capacity(contents.len());
        for content in contents {
            match content {
                None => views.append_null(),
                Some(bytes) => {
                    let length = u32::try_from(bytes.len())
                        .map_err(|_| Error::internal("a file beyond the largest that is fetched"))?;
                    let block = views.append_block(Buffer::from(bytes));
                    views
                        .try_append_view(block, 0, length)
                        .context(ErrorKind::Internal, "can't keep a file's content")?;
                }
            }
        }
        return Ok(Arc::new(views.finish()));
    }
    let mut texts = LargeStringBuilder::new();
    for (content, path) in contents.into_iter().zip(paths) {
        let text = content.map(|bytes| match encoding {
            FileEncoding::Base64DataUrl => {
                let kind = media_type(path.as_deref().unwrap_or_default(), &bytes);
                format!("data:{kind};base64,{}", STANDARD.encode(&bytes))
            }
            _ => STANDARD.encode(&bytes),
        });
        texts.append_option(text);
    }
    Ok(Arc::new(texts.finish()))
}

/// By the ending of the path, else by the first bytes.
fn media_type(path: &str, bytes: &[u8]) -> &'static str {
    let ending = path.rsplit('/').next().and_then(|name| name.rsplit_once('.'));
    let by_ending = match ending.map(|(_, ending)| ending.to_ascii_lowercase()).as_deref() {
        Some("jpg" | "jpeg" | "jpe") => Some("image/jpeg"),
        Some("png") => Some("image/png"),
        Some("gif") => Some("image/gif"),
        Some("webp") => Some("image/webp"),
        Some("bmp") => Some("image/bmp"),
        Some("tif" | "tiff") => Some("image/tiff"),
        Some("wav") => Some("audio/x-wav"),
        Some("mp3") => Some("audio/mpeg"),
        Some("mp4") => Some("video/mp4"),
        Some("pdf") => Some("application/pdf"),
        Some("txt") => Some("text/plain"),
        Some("json") => Some("application/json"),
        _ => None,
    };
    by_ending.unwrap_or(match bytes {
        [0xff, 0xd8, 0xff, ..] => "image/jpeg",
        [0x89, b'P', b'N', b'G', ..] => "image/png",
        [b'G', b'I', b'F', b'8', ..] => "image/gif",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => "image/webp",
        [b'%', b'P', b'D', b'F', ..] => "application/pdf",
        _ => "application/octet-stream",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::InputFormat;
    use crate::storage::{Location, Storage};
    use arrow::array::{Array, Int32Array, StringArray};

    fn handling(convert_to: FileEncoding) -> BTreeMap<String, ColumnHandling> {
        let handling = ColumnHandling {
            input_format: InputFormat::FullStagePath,
            convert_to,
            location: None,
        };
        BTreeMap::from([("IMAGE".to_string(), handling)])
    }

    fn rows(paths: Vec<Option<&str>>) -> RecordBatch {
        let numbers: ArrayRef = Arc::new(Int32Array::from_iter_values(0..paths.len() as i32));
        let paths: ArrayRef = Arc::new(StringArray::from(paths));
        RecordBatch::try_from_iter_with_nullable([("id", numbers, false), ("image", paths, true)]).unwrap()
    }

    fn contents(folder: &std::path::Path, rows: &RecordBatch, convert_to: FileEncoding) -> Contents {
        let root = Location::local(folder.to_str().unwrap()).unwrap();
        let files = Arc::new(Referenced::new(Storage::local(), root));
        let handling = handling(convert_to);
        let schema = Arc::new(handled(&rows.schema(), &handling).unwrap());
        let files = BTreeMap::from([("IMAGE".to_string(), files)]);
        Contents::new(schema, &handling, &files).unwrap().unwrap()
    }

    #[tokio::test]
    async fn contents_can_be_text() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.PNG"), [0xfb, 0xff]).unwrap();
        std::fs::write(folder.path().join("b"), b"%PDF-").unwrap();
        let rows = rows(vec![Some("a.PNG"), Some("b"), None]);
        for (encoding, expected) in [
            (FileEncoding::Base64, ["+/8=", "JVBERi0="]),
            (
                FileEncoding::Base64DataUrl,
                [
                    "data:image/png;base64,+/8=",
                    "data:application/pdf;base64,JVBERi0=",
                ],
            ),
        ] {
            let filled = contents(folder.path(), &rows, encoding)
                .fill(&rows)
                .await
                .unwrap();
            let texts = filled.rows.column(1).as_string::<i64>();
            assert_eq!([texts.value(0), texts.value(1)], expected);
            assert!(texts.is_null(2));
        }
    }

    #[tokio::test]
    async fn a_trial_takes_as_many_rows_as_have_files_of_some_bytes_and_one_at_least() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c"] {
            std::fs::write(folder.path().join(name), name.repeat(10)).unwrap();
        }
        let rows = rows(vec![Some("a"), Some("none"), None, Some("b"), Some("c")]);
        let contents = contents(folder.path(), &rows, FileEncoding::RawBytes);
        let all = (vec![0, 2, 3, 4], 1);
        for (most, expected) in [
            (0, (vec![0], 0)),
            (19, (vec![0, 2], 1)),
            (20, (vec![0, 2, 3], 1)),
            (30, all),
        ] {
            let filled = contents.fill_within(most, &rows).await.unwrap();
            assert_eq!(filled.rows.num_rows(), expected.0.len());
            assert_eq!((filled.kept.unwrap(), filled.failed.len()), expected);
        }
        let first = rows.slice(3, 2);
        let filled = contents.fill_within(0, &first).await.unwrap();
        assert_eq!((filled.rows.num_rows(), filled.kept), (1, Some(vec![0])));
    }

    #[test]
    fn a_column_that_holds_no_paths_is_refused_by_name() {
        let rows = rows(vec![]);
        let of = |name: &str| {
            let handling = handling(FileEncoding::Base64).remove("IMAGE").unwrap();
            handled(&rows.schema(), &BTreeMap::from([(name.to_string(), handling)]))
                .unwrap_err()
                .to_string()
        };
        assert!(of("photo").contains("input.column_handling.photo: the input has no such column"));
        assert!(of("ID").contains("of type Int32, and paths are text"));
    }
}
