//! Decimals of more digits than their type has.
//!
//! A `FIXED_LEN_BYTE_ARRAY` of eleven bytes can hold twenty-six digits and be called a decimal of nine. The decoder believes
//! bytes, a writer believes the type and cuts off what nine digits don't need: the number that comes out is another one.

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray, make_array};
use arrow::datatypes::*;

use crate::error::{Error, Result};
use crate::origin::Origin;

/// Checks the decimals of a block's column, nested ones too.
///
/// # Errors
/// `Data`, naming type and column, and the row where it is not inside of something.
pub(super) fn check(column: &ArrayRef, name: &str, origin: &Origin) -> Result<()> {
    let Some((place, data_type)) = first_too_long(column) else {
        return Ok(());
    };
    let error = Error::data(format!("a decimal has more digits than its type {data_type}"))
        .with("column", name)
        .with_hint("the file is corrupt, or was written with too small a precision: write it again");
    Err(match place {
        Some(row) => origin.at_row(error, row),
        None => origin.at(error),
    })
}

/// The type of the first decimal that is too long, and its row where `array` itself holds it.
fn first_too_long(array: &ArrayRef) -> Option<(Option<usize>, DataType)> {
    let data_type = array.data_type();
    let found = match data_type {
        DataType::Decimal32(precision, _) => beyond::<Decimal32Type>(array.as_primitive(), *precision),
        DataType::Decimal64(precision, _) => beyond::<Decimal64Type>(array.as_primitive(), *precision),
        DataType::Decimal128(precision, _) => beyond::<Decimal128Type>(array.as_primitive(), *precision),
        DataType::Decimal256(precision, _) => beyond::<Decimal256Type>(array.as_primitive(), *precision),
        nested if nested.is_nested() || matches!(nested, DataType::Dictionary(..)) => {
            let data = array.to_data();
            let mut children = data.child_data().iter().map(|child| make_array(child.clone()));
            return children.find_map(|child| Some((None, first_too_long(&child)?.1)));
        }
        _ => None,
    };
    Some((Some(found?), data_type.clone()))
}

fn beyond<T: DecimalType>(array: &PrimitiveArray<T>, precision: u8) -> Option<usize> {
    let fits = |value: &<T as ArrowPrimitiveType>::Native| T::is_valid_decimal_precision(*value, precision);
    // What lies under a null is nobody's value.
    let mut values = array.values().iter().enumerate();
    values
        .find(|(row, value)| !fits(value) && array.is_valid(*row))
        .map(|(row, _)| row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Decimal128Array, ListArray};
    use arrow::buffer::OffsetBuffer;
    use std::sync::Arc;

    #[test]
    fn decimals_are_found_wherever_they_are_and_nulls_passed_over() {
        let decimals = |values: Vec<Option<i128>>| -> ArrayRef {
            let array = Decimal128Array::from(values);
            Arc::new(array.with_precision_and_scale(3, 1).unwrap())
        };
        let origin = Origin::of(&Arc::from("f"), 2, 100, 3);
        let good = decimals(vec![Some(999), None, Some(-999)]);
        assert!(check(&good, "c", &origin).is_ok());
        // A null over a number that is too long.
        let over = Decimal128Array::new(vec![1, 5000].into(), Some(vec![true, false].into()));
        let over: ArrayRef = Arc::new(over.with_precision_and_scale(3, 1).unwrap());
        assert!(check(&over, "c", &origin).is_ok());
        let bad = decimals(vec![Some(1), Some(-1000), Some(2)]);
        let error = check(&bad, "c", &origin).unwrap_err().to_string();
        assert!(
            error.contains("Decimal128(3, 1)") && error.contains("row 101"),
            "{error}"
        );
        let item = Arc::new(Field::new("item", bad.data_type().clone(), true));
        let lists: ArrayRef = Arc::new(ListArray::new(
            item,
            OffsetBuffer::from_lengths([1, 2, 0]),
            bad,
            None,
        ));
        let error = check(&lists, "lists", &origin).unwrap_err().to_string();
        assert!(
            error.contains("column lists") && error.contains("rows 100-102"),
            "{error}"
        );
    }
}
