//! Neutral tensors: what `decode` hands to a model and what a model hands to `write`.
//!
//! A tensor is a dtype, a shape and one dense row-major buffer. No backend type shows here, so that ONNX,
//! Candle and tree models are fed and read in the same way. Axis 0 is always the batch: `[rows, ...]`.

use bytes::Bytes;
use half::f16;

use crate::error::{Error, Result};

/// Calls a macro with every dtype: variant, Rust element type, name.
macro_rules! for_each_dtype {
    ($call:ident) => {
        $call! {
            (Bool, bool, "bool"),
            (I8, i8, "int8"), (I16, i16, "int16"), (I32, i32, "int32"), (I64, i64, "int64"),
            (U8, u8, "uint8"), (U16, u16, "uint16"), (U32, u32, "uint32"), (U64, u64, "uint64"),
            (F16, f16, "float16"), (F32, f32, "float32"), (F64, f64, "float64"),
            (String, String, "string"), (Bytes, Bytes, "bytes"),
        }
    };
}

macro_rules! define {
    ($(($variant:ident, $element:ty, $name:literal)),* $(,)?) => {
        /// The type of one element of a tensor.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum DType { $(#[doc = $name] $variant),* }

        impl DType {
            /// Every dtype.
            pub const ALL: &[DType] = &[$(DType::$variant),*];

            /// The name used in messages and JSON, e.g. `float32`.
            pub fn as_str(self) -> &'static str {
                match self { $(DType::$variant => $name),* }
            }
        }

        /// The elements of a tensor in row-major order.
        #[derive(Clone, Debug, PartialEq)]
        pub enum TensorData { $(#[doc = $name] $variant(Vec<$element>)),* }

        impl TensorData {
            /// The element type.
            pub fn dtype(&self) -> DType {
                match self { $(TensorData::$variant(_) => DType::$variant),* }
            }

            /// How many elements there are.
            pub fn len(&self) -> usize {
                match self { $(TensorData::$variant(values) => values.len()),* }
            }

            /// `len` elements that are zero, false or empty.
            pub fn zeros(dtype: DType, len: usize) -> TensorData {
                match dtype { $(DType::$variant => TensorData::$variant(vec![Default::default(); len])),* }
            }

            /// Repeats or cuts: exactly `len` elements, missing ones zero, false or empty.
            pub fn resize(&mut self, len: usize) {
                match self { $(TensorData::$variant(values) => values.resize(len, Default::default())),* }
            }

            /// The elements `[start, start + len)`.
            pub fn slice(&self, start: usize, len: usize) -> TensorData {
                match self { $(TensorData::$variant(values) => TensorData::$variant(values[start..start + len].to_vec())),* }
            }

            /// Appends `other`, which must have the same dtype.
            pub fn append(&mut self, other: TensorData) -> Result<()> {
                match (self, other) {
                    $((TensorData::$variant(values), TensorData::$variant(more)) => values.extend(more),)*
                    (values, more) => {
                        return Err(Error::internal(format!(
                            "can't append {} elements to a {} tensor", more.dtype().as_str(), values.dtype().as_str()
                        )));
                    }
                }
                Ok(())
            }
        }

        $(impl From<Vec<$element>> for TensorData {
            fn from(values: Vec<$element>) -> Self { TensorData::$variant(values) }
        })*
    };
}
for_each_dtype!(define);

impl TensorData {
    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl DType {
    /// Bytes of one element; for strings and bytes the size of the handle.
    pub fn byte_width(self) -> usize {
        match self {
            DType::Bool | DType::I8 | DType::U8 => 1,
            DType::I16 | DType::U16 | DType::F16 => 2,
            DType::I32 | DType::U32 | DType::F32 => 4,
            DType::I64 | DType::U64 | DType::F64 => 8,
            DType::String => size_of::<String>(),
            DType::Bytes => size_of::<Bytes>(),
        }
    }

    /// Whether elements are numbers (booleans, strings and bytes are not).
    pub fn is_numeric(self) -> bool {
        !matches!(self, DType::Bool | DType::String | DType::Bytes)
    }

    /// Whether elements can hold NaN.
    pub fn is_float(self) -> bool {
        matches!(self, DType::F16 | DType::F32 | DType::F64)
    }
}

/// A dense tensor; `shape[0]` is the number of rows unless the tensor is a scalar parameter (`shape == []`).
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Extent of each axis.
    pub shape: Vec<usize>,
    /// Elements, row-major; as many as the product of `shape`.
    pub data: TensorData,
}

impl Tensor {
    /// A tensor; fails when `shape` and `data` do not agree.
    pub fn new(shape: Vec<usize>, data: impl Into<TensorData>) -> Result<Tensor> {
        let data = data.into();
        let elements: usize = shape.iter().product();
        if elements != data.len() {
            return Err(Error::internal(format!(
                "a tensor of shape {shape:?} holds {elements} elements, not {}",
                data.len()
            )));
        }
        Ok(Tensor { shape, data })
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.data.dtype()
    }

    /// Extent of axis 0; 1 for a scalar.
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Elements per row.
    pub fn row_len(&self) -> usize {
        self.shape.iter().skip(1).product()
    }

    /// Rows `[start, start + rows)` as a tensor of their own.
    pub fn slice_rows(&self, start: usize, rows: usize) -> Tensor {
        let width = self.row_len();
        let mut shape = self.shape.clone();
        shape[0] = rows;
        Tensor {
            shape,
            data: self.data.slice(start * width, rows * width),
        }
    }

    /// The same tensor with exactly `rows` rows: cut, or padded with zeros.
    pub fn resize_rows(mut self, rows: usize) -> Tensor {
        let width = self.row_len();
        self.data.resize(rows * width);
        self.shape[0] = rows;
        self
    }

    /// Appends the rows of `other`, whose other axes must be equal.
    pub fn append(&mut self, other: Tensor) -> Result<()> {
        if self.shape[1..] != other.shape[1..] {
            return Err(Error::model(format!(
                "shapes differ between batches: {:?} and {:?}",
                self.shape, other.shape
            ))
            .with_hint("every row of an output must have the same shape"));
        }
        self.shape[0] += other.shape[0];
        self.data.append(other.data)
    }
}

/// What a model returns for one output: a tensor, a map per row (ONNX `ZipMap`), or a list per row.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `[rows, ...]`
    Tensor(Tensor),
    /// One map per row.
    Maps(Maps),
    /// One list per row.
    Lists(Lists),
}

impl Value {
    /// How many rows there are.
    pub fn rows(&self) -> usize {
        match self {
            Value::Tensor(tensor) => tensor.rows(),
            Value::Maps(maps) => maps.rows(),
            Value::Lists(lists) => lists.rows(),
        }
    }

    /// Cuts to the first `rows` rows.
    pub fn truncate_rows(self, rows: usize) -> Value {
        match self {
            Value::Tensor(tensor) => Value::Tensor(tensor.resize_rows(rows)),
            Value::Maps(maps) => Value::Maps(maps.truncate_rows(rows)),
            Value::Lists(lists) => Value::Lists(lists.truncate_rows(rows)),
        }
    }

    /// Appends the rows of `other`, which must be of the same sort.
    pub fn append(&mut self, other: Value) -> Result<()> {
        match (self, other) {
            (Value::Tensor(tensor), Value::Tensor(more)) => tensor.append(more),
            (Value::Maps(maps), Value::Maps(more)) => maps.append(more),
            (Value::Lists(lists), Value::Lists(more)) => lists.append(more),
            _ => Err(Error::model(
                "an output is of one sort in one batch and of another in the next",
            )),
        }
    }
}

/// A map per row, flattened: row `r` owns the entries `[offsets[r], offsets[r + 1])`, sorted by key.
#[derive(Clone, Debug, PartialEq)]
pub struct Maps {
    /// `rows + 1` positions into `keys` and `values`, starting at 0.
    pub offsets: Vec<usize>,
    /// Keys: int64 or string.
    pub keys: TensorData,
    /// Values: any numeric dtype.
    pub values: TensorData,
}

impl Maps {
    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.offsets.len() - 1
    }

    fn truncate_rows(mut self, rows: usize) -> Maps {
        self.offsets.truncate(rows + 1);
        let entries = self.offsets.last().copied().unwrap_or(0);
        self.keys.resize(entries);
        self.values.resize(entries);
        self
    }

    fn append(&mut self, other: Maps) -> Result<()> {
        let base = self.offsets.last().copied().unwrap_or(0);
        self.offsets
            .extend(other.offsets.iter().skip(1).map(|offset| base + offset));
        self.keys.append(other.keys)?;
        self.values.append(other.values)
    }
}

/// A list per row, of any length, flattened: row `r` owns the items `[offsets[r], offsets[r + 1])`.
#[derive(Clone, Debug, PartialEq)]
pub struct Lists {
    /// `rows + 1` positions into the items, starting at 0.
    pub offsets: Vec<usize>,
    /// What lies in the lists.
    pub items: Items,
}

/// What lies in lists.
#[derive(Clone, Debug, PartialEq)]
pub enum Items {
    /// Numbers or texts, or tensors of them that are all of one shape: `[items, ...]`.
    Tensor(Tensor),
    /// Records: one column per field, each of as many values as there are items.
    Records(Vec<TensorData>),
}

impl Items {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Items::Tensor(tensor) => tensor.rows(),
            Items::Records(columns) => columns.first().map_or(0, TensorData::len),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Lists {
    /// Lists; fails when lengths and items do not agree.
    pub fn new(offsets: Vec<usize>, items: Items) -> Result<Lists> {
        let grows = offsets.first() == Some(&0) && offsets.windows(2).all(|pair| pair[0] <= pair[1]);
        let even = match &items {
            Items::Tensor(_) => true,
            Items::Records(columns) => columns.iter().all(|column| column.len() == items.len()),
        };
        if !grows || !even || offsets.last() != Some(&items.len()) {
            return Err(Error::internal(format!(
                "lists of {} rows do not agree with their {} items",
                offsets.len().saturating_sub(1),
                items.len()
            )));
        }
        Ok(Lists { offsets, items })
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.offsets.len() - 1
    }

    fn truncate_rows(mut self, rows: usize) -> Lists {
        self.offsets.truncate(rows + 1);
        let items = self.offsets.last().copied().unwrap_or(0);
        self.items = match self.items {
            Items::Tensor(tensor) => Items::Tensor(tensor.resize_rows(items)),
            Items::Records(mut columns) => {
                columns.iter_mut().for_each(|column| column.resize(items));
                Items::Records(columns)
            }
        };
        self
    }

    fn append(&mut self, other: Lists) -> Result<()> {
        let base = self.items.len();
        match (&mut self.items, other.items) {
            (Items::Tensor(tensor), Items::Tensor(more)) => tensor.append(more)?,
            (Items::Records(columns), Items::Records(more)) if columns.len() == more.len() => {
                for (column, more) in columns.iter_mut().zip(more) {
                    column.append(more)?;
                }
            }
            _ => {
                return Err(Error::internal(
                    "lists of one output hold different things in different batches",
                ));
            }
        }
        self.offsets
            .extend(other.offsets.iter().skip(1).map(|offset| base + offset));
        Ok(())
    }
}

/// The inputs of a model for the rows of one batch, in the order of its function's `inputs`.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorBatch {
    /// Rows in the batch: axis 0 of every tensor that is not a parameter.
    pub rows: usize,
    /// One tensor per input.
    pub inputs: Vec<Tensor>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_can_be_cut_padded_sliced_and_joined() {
        let tensor = Tensor::new(vec![3, 2], vec![1f32, 2., 3., 4., 5., 6.]).unwrap();
        assert_eq!(tensor.slice_rows(1, 1).data, vec![3f32, 4.].into());
        let padded = tensor.clone().resize_rows(4);
        assert_eq!(padded.shape, [4, 2]);
        assert_eq!(padded.data.slice(6, 2), vec![0f32, 0.].into());
        let mut joined = tensor.slice_rows(0, 1);
        joined.append(tensor.slice_rows(1, 2)).unwrap();
        assert_eq!(joined, tensor);
    }

    #[test]
    fn shape_and_elements_must_agree() {
        assert!(Tensor::new(vec![2, 2], vec![1i64, 2, 3]).is_err());
    }

    /// Lists of these lengths, of records `(number, text)` or of vectors of two numbers.
    fn lists(lengths: &[usize], of_records: bool) -> Lists {
        let mut offsets = vec![0];
        for length in lengths {
            offsets.push(offsets[offsets.len() - 1] + length);
        }
        let items = offsets[lengths.len()];
        let numbers: Vec<i64> = (0..items as i64).collect();
        let items = match of_records {
            true => {
                let texts: Vec<String> = numbers.iter().map(i64::to_string).collect();
                Items::Records(vec![numbers.into(), texts.into()])
            }
            false => {
                let pairs: Vec<i64> = numbers.iter().flat_map(|number| [*number, -number]).collect();
                Items::Tensor(Tensor::new(vec![items, 2], pairs).unwrap())
            }
        };
        Lists::new(offsets, items).unwrap()
    }

    /// The rows `[start, start + rows)`.
    fn part(lists: &Lists, start: usize, rows: usize) -> Lists {
        let (first, last) = (lists.offsets[start], lists.offsets[start + rows]);
        let offsets = lists.offsets[start..=start + rows]
            .iter()
            .map(|offset| offset - first)
            .collect();
        let items = match &lists.items {
            Items::Tensor(tensor) => Items::Tensor(tensor.slice_rows(first, last - first)),
            Items::Records(columns) => Items::Records(
                columns
                    .iter()
                    .map(|column| column.slice(first, last - first))
                    .collect(),
            ),
        };
        Lists::new(offsets, items).unwrap()
    }

    proptest::proptest! {
        #[test]
        fn lists_of_batches_are_joined_and_cut_as_if_they_had_never_been_apart(
            lengths in proptest::collection::vec(0usize..4, 0..12), cut in 0usize..12, of_records: bool,
        ) {
            let whole = lists(&lengths, of_records);
            let cut = cut.min(lengths.len());
            let mut joined = Value::Lists(part(&whole, 0, cut));
            joined.append(Value::Lists(part(&whole, cut, lengths.len() - cut))).unwrap();
            proptest::prop_assert_eq!(&joined, &Value::Lists(whole.clone()));
            proptest::prop_assert_eq!(joined.rows(), lengths.len());
            proptest::prop_assert_eq!(joined.truncate_rows(cut), Value::Lists(part(&whole, 0, cut)));
        }
    }

    #[test]
    fn lists_must_have_the_items_that_their_offsets_say() {
        let items = || Items::Records(vec![vec![1i64, 2].into(), vec![1f64, 2.].into()]);
        for offsets in [vec![], vec![1, 2], vec![0, 1], vec![0, 2, 1, 2]] {
            assert!(Lists::new(offsets.clone(), items()).is_err(), "{offsets:?}");
        }
        let uneven = Items::Records(vec![vec![1i64, 2].into(), vec![1f64].into()]);
        assert!(Lists::new(vec![0, 2], uneven).is_err());
        assert!(Lists::new(vec![0, 0, 2], items()).is_ok());
    }

    #[test]
    fn maps_of_batches_are_joined_by_moving_offsets() {
        let one = |key: &str, value: f32| Maps {
            offsets: vec![0, 1],
            keys: vec![key.to_string()].into(),
            values: vec![value].into(),
        };
        let mut joined = Value::Maps(one("a", 1.));
        joined.append(Value::Maps(one("b", 2.))).unwrap();
        assert_eq!(joined.rows(), 2);
        let Value::Maps(maps) = joined.truncate_rows(1) else {
            panic!("still maps")
        };
        assert_eq!(maps, one("a", 1.));
    }
}
