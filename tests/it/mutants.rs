//! Damaged copies of a model file, each made by a seed.
//!
//! Two kinds: bytes changed blindly, as a bad disk or a cut transfer does, and fields of the protobuf messages changed
//! with all lengths made right again, as somebody does who wants to get past the first reader.

use crate::dice::Dice;
use crate::onnx_bytes::encoded_varint;

/// `bytes` with one to three changes at places that nobody chose.
pub fn changed_bytes(bytes: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=dice.below(3) {
        let at = dice.below(bytes.len());
        let end = (at + 1 + dice.below(16)).min(bytes.len());
        match dice.below(6) {
            0..3 => bytes[at] ^= 1 << dice.below(8),
            3 => bytes[at] = *dice.pick(&[0, 0x7f, 0x80, 0xff]),
            4 if end - at < bytes.len() => drop(bytes.drain(at..end)),
            _ => {
                let piece = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, piece));
            }
        }
    }
    bytes
}

/// `bytes` with one to three fields changed, removed, doubled or moved, wherever in the nested messages they are.
pub fn changed_fields(bytes: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut message = parse(bytes, 0).expect("a model is protobuf");
    for _ in 0..=dice.below(3) {
        // Nothing may be left of a small model.
        let Some(last) = count(&message).checked_sub(1) else {
            break;
        };
        let mut place = dice.below(last + 1);
        change(&mut message, &mut place, dice);
    }
    encode(&message)
}

#[derive(Clone)]
struct Field {
    number: u64,
    value: Value,
}

#[derive(Clone)]
enum Value {
    Number(u64),
    /// Four or eight bytes, as the wire type says.
    Fixed(Vec<u8>),
    Bytes(Vec<u8>),
    Message(Vec<Field>),
}

/// Deepest messages looked into.
const MAX_DEPTH: usize = 24;

/// The fields of a message; `None` when the bytes are none that ONNX would have.
fn parse(mut bytes: &[u8], depth: usize) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let number = key >> 3;
        if number == 0 || number > 32 || depth > MAX_DEPTH {
            return None;
        }
        let value = match key & 7 {
            0 => Value::Number(varint(&mut bytes)?),
            1 => Value::Fixed(take(&mut bytes, 8)?.to_vec()),
            5 => Value::Fixed(take(&mut bytes, 4)?.to_vec()),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                let payload = take(&mut bytes, length)?;
                match parse(payload, depth + 1) {
                    Some(inner) if !inner.is_empty() => Value::Message(inner),
                    _ => Value::Bytes(payload.to_vec()),
                }
            }
            _ => return None,
        };
        fields.push(Field { number, value });
    }
    Some(fields)
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn encode(fields: &[Field]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for Field { number, value } in fields {
        let (wire_type, payload) = match value {
            Value::Number(value) => (0, encoded_varint(*value)),
            Value::Fixed(data) => (if data.len() == 8 { 1 } else { 5 }, data.clone()),
            Value::Bytes(data) => (2, with_length(data)),
            Value::Message(inner) => (2, with_length(&encode(inner))),
        };
        bytes.extend(encoded_varint(number << 3 | wire_type));
        bytes.extend(payload);
    }
    bytes
}

fn with_length(data: &[u8]) -> Vec<u8> {
    [encoded_varint(data.len() as u64), data.to_vec()].concat()
}

fn count(fields: &[Field]) -> usize {
    let inner = |field: &Field| match &field.value {
        Value::Message(inner) => 1 + count(inner),
        _ => 1,
    };
    fields.iter().map(inner).sum()
}

/// Changes the field that is `place` fields further on. Says whether it came to it.
fn change(fields: &mut Vec<Field>, place: &mut usize, dice: &mut Dice) -> bool {
    for index in 0..fields.len() {
        if *place == 0 {
            change_here(fields, index, dice);
            return true;
        }
        *place -= 1;
        if let Value::Message(inner) = &mut fields[index].value
            && change(inner, place, dice)
        {
            return true;
        }
    }
    false
}

fn change_here(fields: &mut Vec<Field>, index: usize, dice: &mut Dice) {
    let other = dice.below(fields.len());
    match dice.below(10) {
        0 => drop(fields.remove(index)),
        1 => fields.insert(index, fields[other].clone()),
        2 => fields.swap(index, other),
        3 => fields[index].value = fields[other].value.clone(),
        _ => change_value(&mut fields[index].value, dice),
    }
}

fn change_value(value: &mut Value, dice: &mut Dice) {
    match value {
        Value::Number(number) => {
            *number = match dice.below(4) {
                0 => number.wrapping_add(1),
                1 => number.wrapping_sub(1),
                2 => dice.below(64) as u64,
                _ => *dice.pick(&[
                    u64::MAX,
                    1 << 63,
                    (1 << 63) - 1,
                    1 << 31,
                    (1 << 31) - 1,
                    1 << 40,
                    0,
                ]),
            }
        }
        Value::Fixed(data) | Value::Bytes(data) if !data.is_empty() => {
            let at = dice.below(data.len());
            match dice.below(6) {
                0 => data[at] = *dice.pick(&[0, 0x7f, 0x80, 0xff]),
                1 if data.len() == 4 => {
                    data.copy_from_slice(&dice.pick(&[f32::NAN, f32::INFINITY, -0.0]).to_le_bytes())
                }
                _ => data[at] ^= 1 << dice.below(8),
            }
        }
        Value::Fixed(_) => {}
        Value::Bytes(data) => data.push(b'x'),
        Value::Message(inner) if !inner.is_empty() => {
            let at = dice.below(inner.len());
            change_here(inner, at, dice);
        }
        Value::Message(_) => {}
    }
}
