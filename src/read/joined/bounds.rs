//! Least and greatest values of joined columns, for the output's footer and page index.
//!
//! They are found among the values themselves, so nothing that the input's footers say is believed. Numbers are compared
//! through keys of 64 bits in the order of their type; floats in the total order of IEEE 754, NaN left out and counted, as
//! the crate's writer does it.

use parquet::basic::{ColumnOrder, SortOrder, Type as Physical};
use parquet::data_type::ByteArray;
use parquet::file::statistics::{Statistics, ValueStatistics};
use parquet::schema::types::ColumnDescriptor;
use std::ops::{BitXor, Not};

use super::pages::Values;

/// Longer texts are no bounds: footers hold them for every chunk.
const LONGEST_BOUND: usize = 64;

/// How the values of a column are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Signed,
    Unsigned,
    Floats,
    /// Not at all, or in a way that is not worth the trouble.
    None,
}

impl Order {
    pub fn of(column: &ColumnDescriptor) -> Order {
        let natural = ColumnOrder::column_order_for_type(
            column.logical_type_ref(),
            column.converted_type(),
            column.physical_type(),
        );
        match (natural, column.physical_type()) {
            (ColumnOrder::IEEE_754_TOTAL_ORDER, Physical::FLOAT | Physical::DOUBLE) => Order::Floats,
            (ColumnOrder::TYPE_DEFINED_ORDER(SortOrder::SIGNED), Physical::INT32 | Physical::INT64) => {
                Order::Signed
            }
            (
                ColumnOrder::TYPE_DEFINED_ORDER(SortOrder::UNSIGNED),
                Physical::INT32 | Physical::INT64 | Physical::BOOLEAN | Physical::BYTE_ARRAY,
            ) => Order::Unsigned,
            _ => Order::None,
        }
    }
}

/// Least and greatest of some values, laid out plainly; texts without their lengths.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Bounds {
    pub least: Vec<u8>,
    pub greatest: Vec<u8>,
    /// Whether the two are there. They are not when all values are NaN, or one of the bounds is too long.
    pub are_known: bool,
    pub nans: u64,
}

/// The bounds of the values at `places`: places among the words.
pub(super) fn of(values: &Values, order: Order, places: impl Iterator<Item = usize>) -> Bounds {
    match values {
        Values::Narrow(numbers) => of_numbers(places.map(|at| numbers.words.0[at]), order),
        Values::Wide(numbers) => of_numbers(places.map(|at| numbers.words.0[at]), order),
        Values::Bits(bits) => Bounds::between(extremes(places.map(|at| Some(bits.words.0[at]))), |bit| {
            vec![bit.into()]
        }),
        Values::Texts(texts) => {
            if order != Order::Unsigned {
                return Bounds::default();
            }
            let extremes = extremes(places.map(|at| Some(texts.words.get(at))));
            let is_short = |text: Option<&[u8]>| text.is_some_and(|text| text.len() <= LONGEST_BOUND);
            match is_short(extremes.0) && is_short(extremes.1) {
                true => Bounds::between(extremes, <[u8]>::to_vec),
                false => Bounds::default(),
            }
        }
    }
}

fn of_numbers<B: Bits>(bits: impl Iterator<Item = B>, order: Order) -> Bounds {
    let extremes = match order {
        Order::Signed => extremes(bits.map(|bits| Some(bits ^ B::SIGN))),
        Order::Unsigned => extremes(bits.map(Some)),
        Order::Floats => extremes(bits.map(B::float_key)),
        Order::None => return Bounds::default(),
    };
    Bounds::between(extremes, |key| match order {
        Order::Signed => (key ^ B::SIGN).bytes(),
        Order::Floats if key < B::SIGN => (!key).bytes(),
        Order::Floats => (key ^ B::SIGN).bytes(),
        _ => key.bytes(),
    })
}

impl Bounds {
    /// Of least and greatest key, and the number of NaNs; `plain` lays out what a key stands for.
    fn between<K>((least, greatest, nans): Extremes<K>, plain: impl Fn(K) -> Vec<u8>) -> Bounds {
        Bounds {
            are_known: least.is_some(),
            least: least.map_or(Vec::new(), &plain),
            greatest: greatest.map_or(Vec::new(), &plain),
            nans,
        }
    }
}

/// The bits of a number.
trait Bits: Copy + Ord + BitXor<Output = Self> + Not<Output = Self> {
    /// That of the sign.
    const SIGN: Self;

    /// A float's key in the total order; `None` for NaN.
    fn float_key(self) -> Option<Self>;

    /// As it is laid out plainly.
    fn bytes(self) -> Vec<u8>;
}

macro_rules! bits {
    ($bits:ty, $signed:ty, $float:ty) => {
        impl Bits for $bits {
            const SIGN: $bits = 1 << (<$bits>::BITS - 1);

            fn float_key(self) -> Option<$bits> {
                let negative = (self as $signed >> (<$bits>::BITS - 1)) as $bits;
                let key = self ^ (negative | <$bits>::SIGN);
                (!<$float>::from_bits(self).is_nan()).then_some(key)
            }

            fn bytes(self) -> Vec<u8> {
                self.to_le_bytes().to_vec()
            }
        }
    };
}
bits!(u32, i32, f32);
bits!(u64, i64, f64);

/// Least and greatest key, and how many values have none.
type Extremes<K> = (Option<K>, Option<K>, u64);

fn extremes<K: Ord + Copy>(keys: impl Iterator<Item = Option<K>>) -> Extremes<K> {
    let (mut least, mut greatest, mut without) = (None, None, 0);
    for key in keys {
        let Some(key) = key else {
            without += 1;
            continue;
        };
        match (least, greatest) {
            (Some(low), Some(high)) => {
                if key < low {
                    least = Some(key);
                } else if key > high {
                    greatest = Some(key);
                }
            }
            _ => (least, greatest) = (Some(key), Some(key)),
        }
    }
    (least, greatest, without)
}

/// A chunk's bounds and nulls, as its footer says them.
pub(super) fn statistics(physical: Physical, bounds: &Bounds, nulls: u64) -> Statistics {
    let (least, greatest) = match bounds.are_known {
        true => (Some(&bounds.least[..]), Some(&bounds.greatest[..])),
        false => (None, None),
    };
    let nulls = Some(nulls);
    macro_rules! number {
        ($native:ty) => {{
            let number = |bytes: &[u8]| Some(<$native>::from_le_bytes(bytes.try_into().ok()?));
            let (least, greatest) = (least.and_then(number), greatest.and_then(number));
            ValueStatistics::new(least, greatest, None, nulls, false)
        }};
    }
    match physical {
        Physical::INT32 => Statistics::Int32(number!(i32)),
        Physical::FLOAT => Statistics::Float(number!(f32).with_nan_count(Some(bounds.nans))),
        Physical::INT64 => Statistics::Int64(number!(i64)),
        Physical::DOUBLE => Statistics::Double(number!(f64).with_nan_count(Some(bounds.nans))),
        Physical::BOOLEAN => {
            let bit = |bytes: &[u8]| bytes == [1];
            Statistics::boolean(least.map(bit), greatest.map(bit), None, nulls, false)
        }
        _ => {
            let text = |bytes: &[u8]| ByteArray::from(bytes.to_vec());
            Statistics::byte_array(least.map(text), greatest.map(text), None, nulls, false)
        }
    }
}
