//! Least and greatest values of joined columns, for the output's footer and page index.
//!
//! They are found among the values themselves, so nothing that the input's footers say is believed. Numbers are compared
//! through keys of 64 bits in the order of their type; floats in the total order of IEEE 754, NaN left out and counted, as
//! the crate's writer does it.

use parquet::basic::{ColumnOrder, SortOrder, Type as Physical};
use parquet::data_type::ByteArray;
use parquet::file::statistics::{Statistics, ValueStatistics};
use parquet::schema::types::ColumnDescriptor;

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
        Values::Narrow(numbers) => {
            let bits = places.map(|at| numbers.words.0[at]);
            let (least, greatest, nans) = match order {
                Order::Signed => extremes(bits.map(|bits| Some(bits ^ (1 << 31)))),
                Order::Unsigned => extremes(bits.map(Some)),
                Order::Floats => extremes(bits.map(|bits| {
                    let key = bits ^ (((bits as i32) >> 31) as u32 | 1 << 31);
                    (!f32::from_bits(bits).is_nan()).then_some(key)
                })),
                Order::None => return Bounds::default(),
            };
            let back = |key: u32| match order {
                Order::Signed => key ^ (1 << 31),
                Order::Floats if key >> 31 == 0 => !key,
                Order::Floats => key ^ (1 << 31),
                _ => key,
            };
            Bounds {
                are_known: least.is_some(),
                least: least.map_or(Vec::new(), |key| back(key).to_le_bytes().to_vec()),
                greatest: greatest.map_or(Vec::new(), |key| back(key).to_le_bytes().to_vec()),
                nans,
            }
        }
        Values::Wide(numbers) => {
            let bits = places.map(|at| numbers.words.0[at]);
            let (least, greatest, nans) = match order {
                Order::Signed => extremes(bits.map(|bits| Some(bits ^ (1 << 63)))),
                Order::Unsigned => extremes(bits.map(Some)),
                Order::Floats => extremes(bits.map(|bits| {
                    let key = bits ^ (((bits as i64) >> 63) as u64 | 1 << 63);
                    (!f64::from_bits(bits).is_nan()).then_some(key)
                })),
                Order::None => return Bounds::default(),
            };
            let back = |key: u64| match order {
                Order::Signed => key ^ (1 << 63),
                Order::Floats if key >> 63 == 0 => !key,
                Order::Floats => key ^ (1 << 63),
                _ => key,
            };
            Bounds {
                are_known: least.is_some(),
                least: least.map_or(Vec::new(), |key| back(key).to_le_bytes().to_vec()),
                greatest: greatest.map_or(Vec::new(), |key| back(key).to_le_bytes().to_vec()),
                nans,
            }
        }
        Values::Bits(bits) => {
            let (least, greatest, _) = extremes(places.map(|at| Some(bits.words.0[at])));
            Bounds {
                are_known: least.is_some(),
                least: least.map_or(Vec::new(), |bit| vec![bit.into()]),
                greatest: greatest.map_or(Vec::new(), |bit| vec![bit.into()]),
                nans: 0,
            }
        }
        Values::Texts(texts) => {
            if order != Order::Unsigned {
                return Bounds::default();
            }
            let (least, greatest, _) = extremes(places.map(|at| Some(texts.words.get(at))));
            let is_short = |text: Option<&[u8]>| text.is_some_and(|text| text.len() <= LONGEST_BOUND);
            if !is_short(least) || !is_short(greatest) {
                return Bounds::default();
            }
            Bounds {
                are_known: true,
                least: least.unwrap_or_default().to_vec(),
                greatest: greatest.unwrap_or_default().to_vec(),
                nans: 0,
            }
        }
    }
}

/// Least and greatest key, and how many values have none.
fn extremes<K: Ord + Copy>(keys: impl Iterator<Item = Option<K>>) -> (Option<K>, Option<K>, u64) {
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
