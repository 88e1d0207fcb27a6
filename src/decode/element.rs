//! From an Arrow array to elements of a tensor: one typed loop per pair of types.
//!
//! The values of one column go into every `width`-th place of a row-major matrix (its [`Lane`]). The loops
//! have no branch per value: they convert everything, nulls and misfits included, and note whether something
//! didn't fit. Only then a second, slow pass looks at each value that is not null: it fails, or saturates.

use arrow::array::{Array, AsArray, PrimitiveArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::*;
use half::f16;
use std::ops::Range;

use super::convert::{Holds, Misfit};
use super::decimal::{Decimals, FromDecimal};
use super::rule::{Affine, Nanos, Plain, Rule};
use crate::tensor::{DType, TensorData};

/// Where the values of one column go: `out[index * width + at]`.
pub struct Lane<'a, T> {
    /// The rows of the matrix, row-major.
    pub out: &'a mut [T],
    /// Elements per row.
    pub width: usize,
    /// Position in the row.
    pub at: usize,
}

impl<T: Copy + Default> Lane<'_, T> {
    /// Writes `values`, one per row; says whether all of them fitted.
    #[inline(always)]
    fn fill<S: Copy>(&mut self, values: &[S], cast: impl Fn(S) -> (T, bool)) -> bool {
        if self.width == 1 {
            return convert_all(values, self.out, cast);
        }
        // Converting runs of values side by side and scattering them then lets the first be vectorised.
        const RUN: usize = 256;
        let mut run = [T::default(); RUN];
        let mut all_fit = true;
        for (values, rows) in values.chunks(RUN).zip(self.out.chunks_mut(RUN * self.width)) {
            all_fit &= convert_all(values, &mut run, &cast);
            for (row, &element) in rows.chunks_exact_mut(self.width).zip(&run) {
                row[self.at] = element;
            }
        }
        all_fit
    }

    fn set(&mut self, index: usize, element: T) {
        self.out[index * self.width + self.at] = element;
    }
}

/// Without a branch, so that it is vectorised; between equal types it is a memcpy.
#[inline(always)]
fn convert_all<S: Copy, T>(values: &[S], out: &mut [T], cast: impl Fn(S) -> (T, bool)) -> bool {
    let mut all_fit = true;
    for (place, &value) in out.iter_mut().zip(values) {
        let (element, fits) = cast(value);
        *place = element;
        all_fit &= fits;
    }
    all_fit
}

/// What applies to every value of a column.
#[derive(Clone, Copy, Debug, Default)]
pub struct Treatment {
    /// `(scale, offset)`; `None` leaves values as they are. Only for floating-point elements.
    pub affine: Option<(f64, f64)>,
    /// Whether values out of range become the nearest that fits.
    pub saturate: bool,
}

/// A value that doesn't fit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fault {
    /// Its position in the column.
    pub index: usize,
    /// Why it doesn't fit.
    pub why: Why,
}

/// Why a value doesn't fit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Why {
    /// Beyond the ends of the type.
    Range,
    /// A fraction for a type of whole numbers.
    Fraction,
    /// Not-a-number for a type of whole numbers.
    NotANumber,
    /// The type of the column can't feed the dtype at all.
    Type,
}

/// An element of a numeric or boolean tensor.
pub trait Element: Holds<f64> + Holds<i128> + Default + 'static {
    /// Its dtype.
    const DTYPE: DType;

    /// The elements as a tensor's data.
    fn data(elements: Vec<Self>) -> TensorData;

    /// Writes the values `range` of `column` into `lane`; what it writes for nulls is arbitrary.
    ///
    /// `column` must not be a dictionary or a list.
    fn write(
        column: &dyn Array,
        range: Range<usize>,
        treatment: Treatment,
        lane: Lane<'_, Self>,
    ) -> Result<(), Fault>;
}

macro_rules! elements {
    ($(($variant:ident, $element:ty)),*) => {$(
        impl Element for $element {
            const DTYPE: DType = DType::$variant;

            fn data(elements: Vec<Self>) -> TensorData {
                elements.into()
            }

            fn write(column: &dyn Array, range: Range<usize>, treatment: Treatment, lane: Lane<'_, Self>) -> Result<(), Fault> {
                write_number(column, range, treatment, lane)
            }
        }
    )*};
}
elements!(
    (I8, i8),
    (I16, i16),
    (I32, i32),
    (I64, i64),
    (U8, u8),
    (U16, u16),
    (U32, u32),
    (U64, u64),
    (F16, f16),
    (F32, f32),
    (F64, f64)
);

impl Element for bool {
    const DTYPE: DType = DType::Bool;

    fn data(elements: Vec<Self>) -> TensorData {
        elements.into()
    }

    fn write(
        column: &dyn Array,
        range: Range<usize>,
        _: Treatment,
        mut lane: Lane<'_, Self>,
    ) -> Result<(), Fault> {
        match column.data_type() {
            DataType::Null => {}
            DataType::Boolean => {
                lane.fill(&bits(column, &range), Holds::<u8>::cast);
            }
            _ => {
                return Err(Fault {
                    index: range.start,
                    why: Why::Type,
                });
            }
        }
        Ok(())
    }
}

/// A number that every sort of column can become.
trait Number:
    Element
    + FromDecimal
    + Holds<i8>
    + Holds<i16>
    + Holds<i32>
    + Holds<i64>
    + Holds<u8>
    + Holds<u16>
    + Holds<u32>
    + Holds<u64>
    + Holds<f16>
    + Holds<f32>
{
}

impl<T> Number for T where
    T: Element
        + FromDecimal
        + Holds<i8>
        + Holds<i16>
        + Holds<i32>
        + Holds<i64>
        + Holds<u8>
        + Holds<u16>
        + Holds<u32>
        + Holds<u64>
        + Holds<f16>
        + Holds<f32>
{
}

fn write_number<T: Number>(
    column: &dyn Array,
    range: Range<usize>,
    treatment: Treatment,
    lane: Lane<'_, T>,
) -> Result<(), Fault> {
    use TimeUnit::{Microsecond, Millisecond, Nanosecond, Second};
    let write = Write {
        column,
        range,
        treatment,
        lane,
    };
    match column.data_type() {
        DataType::Null => Ok(()),
        DataType::Boolean => {
            let bits = bits(write.column, &write.range);
            write.numbers(&bits, Plain)
        }
        DataType::Int8 => write.native::<Int8Type>(),
        DataType::Int16 => write.native::<Int16Type>(),
        DataType::Int32 => write.native::<Int32Type>(),
        DataType::Int64 => write.native::<Int64Type>(),
        DataType::UInt8 => write.native::<UInt8Type>(),
        DataType::UInt16 => write.native::<UInt16Type>(),
        DataType::UInt32 => write.native::<UInt32Type>(),
        DataType::UInt64 => write.native::<UInt64Type>(),
        DataType::Float16 => write.native::<Float16Type>(),
        DataType::Float32 => write.native::<Float32Type>(),
        DataType::Float64 => write.native::<Float64Type>(),
        DataType::Date32 => write.native::<Date32Type>(),
        DataType::Date64 => write.native::<Date64Type>(),
        DataType::Decimal32(_, scale) => write.column::<Decimal32Type, _>(Decimals { scale: *scale }),
        DataType::Decimal64(_, scale) => write.column::<Decimal64Type, _>(Decimals { scale: *scale }),
        DataType::Decimal128(_, scale) => write.column::<Decimal128Type, _>(Decimals { scale: *scale }),
        DataType::Decimal256(_, scale) => write.column::<Decimal256Type, _>(Decimals { scale: *scale }),
        DataType::Timestamp(Second, _) => write.instants::<TimestampSecondType>(1_000_000_000),
        DataType::Timestamp(Millisecond, _) => write.instants::<TimestampMillisecondType>(1_000_000),
        DataType::Timestamp(Microsecond, _) => write.instants::<TimestampMicrosecondType>(1_000),
        DataType::Timestamp(Nanosecond, _) => write.native::<TimestampNanosecondType>(),
        _ => Err(Fault {
            index: write.range.start,
            why: Why::Type,
        }),
    }
}

/// The bits `range` of a boolean column as 0 and 1.
fn bits(column: &dyn Array, range: &Range<usize>) -> Vec<u8> {
    let bits = column.as_boolean().values().slice(range.start, range.len());
    let chunks = bits.bit_chunks();
    let mut bytes = Vec::with_capacity(range.len() + 64);
    for word in chunks.iter().chain([chunks.remainder_bits()]) {
        bytes.extend((0..64).map(|bit| (word >> bit) as u8 & 1));
    }
    bytes.truncate(range.len());
    bytes
}

struct Write<'a, 'b, T> {
    column: &'a dyn Array,
    range: Range<usize>,
    treatment: Treatment,
    lane: Lane<'b, T>,
}

impl<T: Number> Write<'_, '_, T> {
    fn native<P: ArrowPrimitiveType>(self) -> Result<(), Fault>
    where
        T: Holds<P::Native>,
        f64: Holds<P::Native>,
    {
        self.column::<P, Plain>(Plain)
    }

    /// Instants as nanoseconds; no scaling, they only feed integers.
    fn instants<P: ArrowPrimitiveType<Native = i64>>(self, per_unit: i64) -> Result<(), Fault> {
        let column: &PrimitiveArray<P> = self.column.as_primitive();
        let values = &column.values()[self.range.clone()];
        self.each(values, Nanos { per_unit })
    }

    fn column<P: ArrowPrimitiveType, R>(self, rule: R) -> Result<(), Fault>
    where
        R: Rule<P::Native, T> + Rule<P::Native, f64>,
    {
        let column: &PrimitiveArray<P> = self.column.as_primitive();
        let values = &column.values()[self.range.clone()];
        self.numbers(values, rule)
    }

    fn numbers<S: Copy, R: Rule<S, T> + Rule<S, f64>>(self, values: &[S], rule: R) -> Result<(), Fault> {
        match self.treatment.affine {
            None => self.each(values, rule),
            Some((scale, offset)) => self.each(
                values,
                Affine {
                    inner: rule,
                    scale,
                    offset,
                },
            ),
        }
    }

    fn each<S: Copy, R: Rule<S, T>>(mut self, values: &[S], rule: R) -> Result<(), Fault> {
        if self.lane.fill(values, |value| rule.cast(value)) {
            return Ok(());
        }
        self.mend(values, rule)
    }

    /// Saturates or refuses the values that didn't fit. Whatever lies under a null doesn't matter.
    #[cold]
    fn mend<S: Copy, R: Rule<S, T>>(mut self, values: &[S], rule: R) -> Result<(), Fault> {
        let nulls = self
            .column
            .nulls()
            .map(|nulls| nulls.slice(self.range.start, self.range.len()));
        let is_null = |index| {
            nulls
                .as_ref()
                .is_some_and(|nulls: &NullBuffer| nulls.is_null(index))
        };
        for (index, &value) in values.iter().enumerate() {
            if rule.cast(value).1 || is_null(index) {
                continue;
            }
            let why = match rule.convert(value) {
                Ok(element) => {
                    self.lane.set(index, element);
                    continue;
                }
                Err(Misfit::Range(nearest)) if self.treatment.saturate => {
                    self.lane.set(index, nearest);
                    continue;
                }
                Err(Misfit::Range(_)) => Why::Range,
                Err(Misfit::Fraction) => Why::Fraction,
                Err(Misfit::NotANumber) => Why::NotANumber,
            };
            return Err(Fault {
                index: self.range.start + index,
                why,
            });
        }
        Ok(())
    }
}

/// Runs the body with `$element` as the Rust type of a dtype; the others are for strings and bytes.
macro_rules! with_element {
    ($dtype:expr, $element:ident => $numbers:expr, $strings:expr, $bytes:expr) => {{
        use $crate::tensor::DType;
        macro_rules! body {
            ($rust:ty) => {{
                type $element = $rust;
                $numbers
            }};
        }
        match $dtype {
            DType::Bool => body!(bool),
            DType::I8 => body!(i8),
            DType::I16 => body!(i16),
            DType::I32 => body!(i32),
            DType::I64 => body!(i64),
            DType::U8 => body!(u8),
            DType::U16 => body!(u16),
            DType::U32 => body!(u32),
            DType::U64 => body!(u64),
            DType::F16 => body!(half::f16),
            DType::F32 => body!(f32),
            DType::F64 => body!(f64),
            DType::String => $strings,
            DType::Bytes => $bytes,
        }
    }};
}
pub(super) use with_element;
