//! Columns of numbers, booleans, strings and bytes into one tensor.
//!
//! Scalar columns side by side become a row-major matrix `[rows, columns]`; one list column becomes
//! `[rows, extents...]`. Both are the same work: `k` flat columns written into every `k`-th place.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Schema};
use arrow::util::display::array_value_to_string;

use super::binary;
use super::element::{Element, Fault, Lane, Treatment, Why, with_element};
use super::lists::{Flat, ListFault, Ragged, depth, flatten, plain};
use super::nulls::stand_in;
use crate::config::OnOutOfRange;
use crate::error::{Error, Result};
use crate::origin::Origin;
use crate::signature::{BoundInput, Dim, OnNull, accepts, display_shape};
use crate::tensor::{DType, Tensor, TensorData};

/// A model input that is fed by columns.
#[derive(Clone, Debug)]
pub struct Tabular {
    /// The model's name for the input.
    name: String,
    dtype: DType,
    /// Positions and names of the columns.
    columns: Vec<(usize, String)>,
    layout: Layout,
    /// Stands in for nulls; `None`: a null is an error.
    fill: Option<f64>,
    treatment: Treatment,
}

/// How columns make up a row of the tensor.
#[derive(Clone, Debug, PartialEq)]
enum Layout {
    /// One scalar per column; the extents of a row, whose product is the number of columns.
    Scalars(Vec<usize>),
    /// One list column with a level of lists per axis.
    Lists(Vec<Dim>),
    /// One list column whose flat lists hold a row of these extents, row-major.
    FlatList(Vec<usize>),
}

impl Tabular {
    /// Prepares the input `bound` for columns of `schema`.
    ///
    /// # Errors
    /// `Data`, when the columns' types or list levels don't suit the input's dtype and shape; `Model`, when the
    /// model card names another number of columns than the input takes; `Config`, for a stand-in for nulls
    /// that the dtype can't hold.
    pub fn new(
        bound: &BoundInput,
        schema: &Schema,
        on_null: OnNull,
        on_out_of_range: OnOutOfRange,
    ) -> Result<Self> {
        let feature = &bound.feature;
        let mut columns = Vec::with_capacity(bound.columns.len());
        for &index in &bound.columns {
            let field = schema.fields().get(index).ok_or_else(|| {
                Error::internal(format!(
                    "input {} is bound to column {index}, which is not there",
                    feature.name
                ))
            })?;
            if !accepts(feature.dtype, field.data_type()) {
                return Err(Error::data(format!(
                    "a column of type {} can't feed the model's input {} of type {}",
                    field.data_type(),
                    feature.name,
                    feature.dtype.as_str()
                ))
                .with("column", field.name())
                .with_hint("see the table of conversions in docs/types.md"));
            }
            columns.push((index, field.name().clone()));
        }
        let types: Vec<_> = bound
            .columns
            .iter()
            .map(|&index| schema.field(index).data_type())
            .collect();
        let layout = Layout::new(&types, &feature.shape).map_err(|error| {
            let shape = display_shape(&feature.shape, true);
            let error = error.with_hint(format!("the model's input {} is of shape {shape}", feature.name));
            match columns.as_slice() {
                [(_, only)] => error.with("column", only),
                _ => error,
            }
        })?;
        let (scale, offset) = feature.affine;
        let affine = (feature.affine != (1.0, 0.0)).then_some((scale, offset));
        if affine.is_some() && !feature.dtype.is_float() {
            return Err(Error::config(format!(
                "the model card scales the input {}, but {} is no floating-point type",
                feature.name,
                feature.dtype.as_str()
            )));
        }
        Ok(Tabular {
            layout,
            name: feature.name.clone(),
            dtype: feature.dtype,
            columns,
            fill: stand_in(feature, on_null)?,
            treatment: Treatment {
                affine,
                saturate: on_out_of_range == OnOutOfRange::Saturate,
            },
        })
    }

    /// The tensor `[rows, ...]` of the rows of `batch`, which come from `origin`.
    ///
    /// # Errors
    /// `Data`, naming column, file, row group and row of the first null or value that doesn't fit.
    pub fn decode(&self, batch: &RecordBatch, origin: &Origin) -> Result<Tensor> {
        let rows = batch.num_rows();
        let mut shape = vec![rows];
        let mut leaves = Vec::with_capacity(self.columns.len());
        match &self.layout {
            Layout::Scalars(extents) => {
                for (index, _) in &self.columns {
                    leaves.push(plain(batch.column(*index))?);
                }
                shape.extend(extents);
            }
            Layout::Lists(dims) => {
                let (leaf, extents) = self.unpack(batch, dims, origin)?;
                leaves.push(leaf);
                shape.extend(extents);
            }
            Layout::FlatList(extents) => {
                let (leaf, _) = self.unpack(batch, &[Dim::Fixed(extents.iter().product())], origin)?;
                leaves.push(leaf);
                shape.extend(extents);
            }
        }
        let row_len: usize = shape[1..].iter().product();
        let cells_per_row = (row_len / leaves.len()).max(1);
        let at = |column: usize, index: usize, error: Error| {
            origin.at_row(
                error.with("column", &self.columns[column].1),
                index / cells_per_row,
            )
        };
        if self.fill.is_none() {
            for (column, leaf) in leaves.iter().enumerate() {
                if let Some(index) = first_null(leaf) {
                    return Err(at(column, index, self.null("a null value")));
                }
            }
        }
        let data = with_element!(
            self.dtype,
            T => self.numbers::<T>(&leaves).map_err(|(column, fault)| {
                at(column, fault.index, self.misfit(&leaves[column], fault))
            })?,
            TensorData::String(strings(&leaves)),
            TensorData::Bytes(binary::elements(&leaves))
        );
        Tensor::new(shape, data)
    }

    fn unpack(&self, batch: &RecordBatch, dims: &[Dim], origin: &Origin) -> Result<(ArrayRef, Vec<usize>)> {
        let (index, name) = &self.columns[0];
        match flatten(batch.column(*index), dims, self.fill.is_some())? {
            Ok(Flat { leaf, extents }) => Ok((leaf, extents)),
            Err(Ragged { row, fault }) => {
                let error = match fault {
                    ListFault::Null => self.null("a null list"),
                    ListFault::Length(error) => error,
                };
                Err(origin.at_row(error.with("column", name), row))
            }
        }
    }

    fn numbers<T: Element>(&self, leaves: &[ArrayRef]) -> Result<TensorData, (usize, Fault)> {
        let rows = leaves.first().map_or(0, |leaf| leaf.len());
        let width = leaves.len();
        let mut out = vec![T::default(); rows * width];
        let rows_per_block = rows_per_block(width * size_of::<T>());
        for (block, out) in out.chunks_mut((rows_per_block * width).max(1)).enumerate() {
            let start = block * rows_per_block;
            let end = start + out.len() / width;
            for (at, leaf) in leaves.iter().enumerate() {
                let lane = Lane { out, width, at };
                T::write(leaf, start..end, self.treatment, lane).map_err(|fault| (at, fault))?;
            }
        }
        if let Some(fill) = self.fill {
            // That the number fits was checked when the decoder was made.
            let (element, _) = T::cast(fill);
            for (at, leaf) in leaves.iter().enumerate() {
                for_each_null(leaf, |row| out[row * width + at] = element);
            }
        }
        Ok(T::data(out))
    }

    fn null(&self, what: &str) -> Error {
        Error::data(format!(
            "{what} in a column that feeds the model's input {}",
            self.name
        ))
        .with_hint(if self.dtype.is_float() {
            "set input.on_null: nan, or fill with a fill_value, or on_null for this input in the model card"
        } else {
            "set input.on_null: fill with a fill_value, or on_null for this input in the model card"
        })
    }

    fn misfit(&self, leaf: &ArrayRef, fault: Fault) -> Error {
        let (name, dtype) = (&self.name, self.dtype.as_str());
        let value = array_value_to_string(leaf, fault.index).unwrap_or_default();
        match fault.why {
            Why::Range => Error::data(format!(
                "{value} is out of the range of {dtype}, the type of the model's input {name}"
            ))
            .with_hint("set input.on_out_of_range: saturate to take the nearest value that fits"),
            Why::Fraction => Error::data(format!(
                "{value} is no whole number, and the model's input {name} is {dtype}"
            ))
            .with_hint("round the column in the input"),
            Why::NotANumber => Error::data(format!(
                "NaN has no equal in {dtype}, the type of the model's input {name}"
            ))
            .with_hint("replace NaN in the input"),
            Why::Type => Error::internal(format!(
                "a column of type {} reached the model's input {name} of type {dtype}",
                leaf.data_type()
            )),
        }
    }
}

impl Layout {
    fn new(types: &[&DataType], shape: &[Dim]) -> Result<Layout> {
        match types {
            [only] if depth(only) > 0 => Layout::of_lists(only, shape),
            _ => {
                if let Some(list) = types.iter().find(|column| depth(column) > 0) {
                    return Err(Error::data(format!(
                        "a column of type {list} stands among the columns that make up one input; they must be scalars"
                    )));
                }
                Layout::of_scalars(types.len(), shape)
            }
        }
    }

    fn of_scalars(columns: usize, shape: &[Dim]) -> Result<Layout> {
        let fixed: usize = shape
            .iter()
            .map(|dim| if let Dim::Fixed(extent) = dim { *extent } else { 1 })
            .product();
        let open = shape.iter().filter(|dim| **dim == Dim::Dynamic).count();
        let rest = match (columns.checked_rem(fixed), open) {
            (Some(0), 0 | 2..) if columns == fixed => 1,
            (Some(0), 1) if columns > 0 => columns / fixed,
            _ => {
                let noun = if columns == 1 { "column" } else { "columns" };
                return Err(Error::model(format!(
                    "{columns} scalar {noun} can't make up a row of shape {}",
                    display_shape(shape, false)
                )));
            }
        };
        let extents = shape.iter().map(|dim| {
            if let Dim::Fixed(extent) = dim {
                *extent
            } else {
                rest
            }
        });
        Ok(Layout::Scalars(extents.collect()))
    }

    fn of_lists(list: &DataType, shape: &[Dim]) -> Result<Layout> {
        let fixed: Vec<usize> = shape
            .iter()
            .filter_map(|dim| {
                if let Dim::Fixed(extent) = dim {
                    Some(*extent)
                } else {
                    None
                }
            })
            .collect();
        let layout = match depth(list) {
            levels if levels == shape.len() => Layout::Lists(shape.to_vec()),
            1 if fixed.len() == shape.len() && shape.len() > 1 => Layout::FlatList(fixed),
            levels => {
                return Err(Error::data(format!(
                    "a column of type {list} has {levels} levels of lists, and a row of the input has {} axes",
                    shape.len()
                )));
            }
        };
        let expected = match &layout {
            Layout::FlatList(extents) => vec![Dim::Fixed(extents.iter().product())],
            _ => shape.to_vec(),
        };
        check_fixed_sizes(list, &expected)?;
        Ok(layout)
    }
}

/// Lists of a fixed size are compared with the declared extents before any data is read.
fn check_fixed_sizes(list: &DataType, dims: &[Dim]) -> Result<()> {
    let (Some((dim, inner)), Some(item)) = (dims.split_first(), item_type(list)) else {
        return Ok(());
    };
    if let (DataType::FixedSizeList(_, size), Dim::Fixed(extent)) = (list, dim)
        && usize::try_from(*size) != Ok(*extent)
    {
        return Err(Error::data(format!(
            "the column's lists are of length {size} where the model takes {extent}"
        )));
    }
    check_fixed_sizes(item, inner)
}

fn item_type(list: &DataType) -> Option<&DataType> {
    match list {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            Some(item.data_type())
        }
        _ => None,
    }
}

/// Rows are written block by block, so that the places of a block stay in the core's cache while one column
/// after the other fills its own.
///
/// A narrow matrix stays in the second level whole; of a wide one the cache lines that neighbouring columns
/// share stay in the first: 64 bytes in each of 512 rows.
fn rows_per_block(row_bytes: usize) -> usize {
    const BLOCK_BYTES: usize = 256 << 10;
    const FEWEST_ROWS: usize = 512;
    (BLOCK_BYTES / row_bytes.max(1)).max(FEWEST_ROWS)
}

fn first_null(leaf: &ArrayRef) -> Option<usize> {
    let nulls = leaf.logical_nulls().filter(|nulls| nulls.null_count() > 0)?;
    nulls.iter().position(|valid| !valid)
}

fn for_each_null(leaf: &ArrayRef, mut visit: impl FnMut(usize)) {
    if let Some(nulls) = leaf.logical_nulls().filter(|nulls| nulls.null_count() > 0) {
        for (row, valid) in nulls.iter().enumerate() {
            if !valid {
                visit(row);
            }
        }
    }
}

/// Strings row-major, nulls as the empty string.
fn strings(leaves: &[ArrayRef]) -> Vec<String> {
    fn place<'a>(texts: impl Iterator<Item = Option<&'a str>>, at: usize, width: usize, out: &mut [String]) {
        for (text, place) in texts.zip(out.iter_mut().skip(at).step_by(width)) {
            if let Some(text) = text {
                *place = text.to_owned();
            }
        }
    }
    let rows = leaves.first().map_or(0, |leaf| leaf.len());
    let width = leaves.len();
    let mut out = vec![String::new(); rows * width];
    for (at, leaf) in leaves.iter().enumerate() {
        match leaf.data_type() {
            DataType::Utf8 => place(leaf.as_string::<i32>().iter(), at, width, &mut out),
            DataType::LargeUtf8 => place(leaf.as_string::<i64>().iter(), at, width, &mut out),
            DataType::Utf8View => place(leaf.as_string_view().iter(), at, width, &mut out),
            // `accepts` lets nothing else through but a column of nulls.
            _ => {}
        }
    }
    out
}
