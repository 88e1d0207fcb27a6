//! Binary columns into elements that share the column's memory.
//!
//! An image is kilobytes or more: an element is a window into the Arrow buffer it was decoded to, which stays alive as
//! long as one of them does.

use arrow::array::{Array, ArrayRef, AsArray, GenericBinaryArray, OffsetSizeTrait};
use arrow::buffer::Buffer;
use arrow::datatypes::DataType;
use bytes::Bytes;

/// The elements of `leaves` row-major, nulls as nothing.
pub fn elements(leaves: &[ArrayRef]) -> Vec<Bytes> {
    let rows = leaves.first().map_or(0, |leaf| leaf.len());
    let width = leaves.len();
    let mut out = vec![Bytes::new(); rows * width];
    for (at, leaf) in leaves.iter().enumerate() {
        let mut place = |row: usize, element: Bytes| out[row * width + at] = element;
        match leaf.data_type() {
            DataType::Binary => offsets(leaf.as_binary::<i32>(), &mut place),
            DataType::LargeBinary => offsets(leaf.as_binary::<i64>(), &mut place),
            DataType::FixedSizeBinary(_) => {
                let array = leaf.as_fixed_size_binary();
                // Values start where the array does: a slice moves the buffer.
                let (shared, length) = (window(array.values()), array.value_length() as usize);
                for row in (0..array.len()).filter(|row| array.is_valid(*row)) {
                    place(row, shared.slice(row * length..(row + 1) * length));
                }
            }
            DataType::BinaryView => {
                let array = leaf.as_binary_view();
                let buffers: Vec<Bytes> = array.data_buffers().iter().map(window).collect();
                for row in (0..array.len()).filter(|row| array.is_valid(*row)) {
                    place(row, of_view(array.value(row), &buffers));
                }
            }
            // `accepts` lets nothing else through but a column of nulls.
            _ => {}
        }
    }
    out
}

fn offsets<O: OffsetSizeTrait>(array: &GenericBinaryArray<O>, place: &mut impl FnMut(usize, Bytes)) {
    let shared = window(array.values());
    for (row, ends) in array.value_offsets().windows(2).enumerate() {
        if array.is_valid(row) {
            place(row, shared.slice(ends[0].as_usize()..ends[1].as_usize()));
        }
    }
}

/// Long values lie in one of the buffers; short ones in the view itself, and are copied.
fn of_view(value: &[u8], buffers: &[Bytes]) -> Bytes {
    let start = value.as_ptr() as usize;
    let holds = |buffer: &&Bytes| {
        let first = buffer.as_ptr() as usize;
        start >= first && start + value.len() <= first + buffer.len() && !value.is_empty()
    };
    match buffers.iter().find(holds) {
        Some(buffer) => buffer.slice_ref(value),
        None => Bytes::copy_from_slice(value),
    }
}

/// An Arrow buffer as bytes, without a copy.
fn window(buffer: &Buffer) -> Bytes {
    struct Owner(Buffer);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            self.0.as_slice()
        }
    }
    Bytes::from_owner(Owner(buffer.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{BinaryArray, BinaryViewArray, FixedSizeBinaryArray, LargeBinaryArray};
    use std::sync::Arc;

    #[test]
    fn elements_of_every_encoding_are_the_values_and_share_their_memory() {
        let long = [7u8; 100];
        let values: Vec<Option<&[u8]>> = vec![Some(b"ab"), None, Some(&long), Some(b"")];
        let arrays: [ArrayRef; 3] = [
            Arc::new(BinaryArray::from(values.clone())),
            Arc::new(LargeBinaryArray::from(values.clone())),
            Arc::new(BinaryViewArray::from(values)),
        ];
        for array in arrays {
            let slice = array.slice(1, 3);
            let found = elements(std::slice::from_ref(&slice));
            assert_eq!(found, [&b""[..], &long, b""], "{}", array.data_type());
            let at = match array.data_type() {
                DataType::Binary => array.as_binary::<i32>().value(2).as_ptr(),
                DataType::LargeBinary => array.as_binary::<i64>().value(2).as_ptr(),
                _ => array.as_binary_view().value(2).as_ptr(),
            };
            assert_eq!(found[1].as_ptr(), at, "{} was copied", array.data_type());
        }
        let fixed = FixedSizeBinaryArray::try_from_iter([b"ab", b"cd", b"ef"].into_iter()).unwrap();
        let fixed: ArrayRef = Arc::new(fixed.slice(1, 2));
        assert_eq!(elements(&[fixed]), [&b"cd"[..], b"ef"]);
    }

    #[test]
    fn columns_side_by_side_take_turns() {
        let one: ArrayRef = Arc::new(BinaryArray::from(vec![&b"a"[..], b"b"]));
        let two: ArrayRef = Arc::new(BinaryViewArray::from(vec![Some(&b"c"[..]), None]));
        assert_eq!(elements(&[one, two]), [&b"a"[..], b"c", b"b", b""]);
    }
}
