//! What XGBoost's JSON and UBJSON files are once they are read: nested objects and lists, and how to ask for parts of them.
//!
//! A model file is untrusted input. Nothing is allocated from a declared size, nesting and the number of values are
//! bounded, and lists of numbers stay what they are in the file (UBJSON) or take eight bytes each (JSON). An error says
//! where in the document something is missing or wrong.

use bytes::Bytes;

use crate::error::{Error, Result};

/// Deepest nesting.
pub const MAX_DEPTH: usize = 64;
/// Most values, those in lists of numbers not counted.
pub const MAX_VALUES: usize = 16 << 20;

/// A value of a document. `true` and `false` are 1 and 0: nothing here needs to tell them apart.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// A number.
    Number(f64),
    /// A string.
    Text(String),
    /// A list of nothing but numbers.
    Numbers(Numbers),
    /// A list.
    List(Vec<Value>),
    /// An object, in the order of the file.
    Object(Vec<(String, Value)>),
}

/// A list of numbers.
#[derive(Clone, Debug, PartialEq)]
pub enum Numbers {
    /// Numbers that were text.
    Parsed(Vec<f64>),
    /// Big-endian numbers, as they are in the file.
    Raw(Kind, Bytes),
}

/// A type of numbers in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 8 bits with a sign.
    I8,
    /// 8 bits.
    U8,
    /// 16 bits with a sign.
    I16,
    /// 32 bits with a sign.
    I32,
    /// 64 bits with a sign.
    I64,
    /// A 32-bit float.
    F32,
    /// A 64-bit float.
    F64,
}

impl Kind {
    /// Bytes of one number.
    pub fn width(self) -> usize {
        match self {
            Kind::I8 | Kind::U8 => 1,
            Kind::I16 => 2,
            Kind::I32 | Kind::F32 => 4,
            Kind::I64 | Kind::F64 => 8,
        }
    }

    /// The number that `bytes`, as many as its width, hold.
    pub fn number(self, bytes: &[u8]) -> f64 {
        let wide = bytes.iter().fold(0u64, |wide, &byte| wide << 8 | u64::from(byte));
        match self {
            Kind::I8 => f64::from(wide as u8 as i8),
            Kind::U8 => f64::from(wide as u8),
            Kind::I16 => f64::from(wide as u16 as i16),
            Kind::I32 => f64::from(wide as u32 as i32),
            Kind::I64 => wide as i64 as f64,
            Kind::F32 => f64::from(f32::from_bits(wide as u32)),
            Kind::F64 => f64::from_bits(wide),
        }
    }
}

impl Numbers {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Numbers::Parsed(numbers) => numbers.len(),
            Numbers::Raw(kind, bytes) => bytes.len() / kind.width(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number at `place`, if there is one.
    pub fn get(&self, place: usize) -> Option<f64> {
        match self {
            Numbers::Parsed(numbers) => numbers.get(place).copied(),
            Numbers::Raw(kind, bytes) => {
                let start = place.checked_mul(kind.width())?;
                Some(kind.number(bytes.get(start..start.checked_add(kind.width())?)?))
            }
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = f64> + '_ {
        (0..self.len()).filter_map(|place| self.get(place))
    }
}

/// A value with the way that leads to it.
#[derive(Clone, Debug)]
pub struct At<'a> {
    value: &'a Value,
    path: String,
}

impl<'a> At<'a> {
    /// The document itself.
    pub fn root(value: &'a Value) -> At<'a> {
        At {
            value,
            path: String::new(),
        }
    }

    /// The entry `key` of an object, if it has one that is not null.
    pub fn find(&self, key: &str) -> Option<At<'a>> {
        let Value::Object(entries) = self.value else {
            return None;
        };
        let (_, value) = entries
            .iter()
            .find(|(known, value)| known == key && *value != Value::Null)?;
        let path = match self.path.as_str() {
            "" => key.to_string(),
            path => format!("{path}.{key}"),
        };
        Some(At { value, path })
    }

    /// The entry `key` of an object.
    ///
    /// # Errors
    /// `Model`, when there is none.
    pub fn get(&self, key: &str) -> Result<At<'a>> {
        self.find(key)
            .ok_or_else(|| self.wrong(&format!("it has no {key}")))
    }

    /// The elements of a list of anything.
    ///
    /// # Errors
    /// `Model`, when it is none.
    pub fn list(&self) -> Result<impl Iterator<Item = At<'a>>> {
        let values: &[Value] = match self.value {
            Value::List(values) => values,
            Value::Numbers(numbers) if numbers.is_empty() => &[],
            _ => return Err(self.wrong("a list is needed")),
        };
        let path = self.path.clone();
        Ok(values.iter().enumerate().map(move |(index, value)| At {
            value,
            path: format!("{path}[{index}]"),
        }))
    }

    /// A list of numbers.
    ///
    /// # Errors
    /// `Model`, when it is none.
    pub fn numbers(&self) -> Result<Numbers> {
        match self.value {
            Value::Numbers(numbers) => Ok(numbers.clone()),
            Value::List(values) if values.is_empty() => Ok(Numbers::Parsed(vec![])),
            _ => Err(self.wrong("a list of numbers is needed")),
        }
    }

    /// A list of whole numbers that an i32 holds.
    ///
    /// # Errors
    /// `Model`, when it is none.
    pub fn integers(&self) -> Result<Vec<i32>> {
        let numbers = self.numbers()?;
        let mut integers = Vec::with_capacity(numbers.len());
        for (index, number) in numbers.iter().enumerate() {
            let integer = number as i32;
            if f64::from(integer) != number {
                return Err(self.wrong(&format!("element {index} is {number}, a whole number is needed")));
            }
            integers.push(integer);
        }
        Ok(integers)
    }

    /// A string.
    ///
    /// # Errors
    /// `Model`, when it is none.
    pub fn text(&self) -> Result<&'a str> {
        match self.value {
            Value::Text(text) => Ok(text),
            _ => Err(self.wrong("a string is needed")),
        }
    }

    /// A number, or a string that holds one: XGBoost writes parameters as strings.
    ///
    /// # Errors
    /// `Model`, when it is neither.
    pub fn number(&self) -> Result<f64> {
        match self.value {
            Value::Number(number) => Ok(*number),
            Value::Text(text) => text.trim().parse().map_err(|_| self.wrong("a number is needed")),
            _ => Err(self.wrong("a number is needed")),
        }
    }

    /// A whole number that is not negative, or a string that holds one.
    ///
    /// # Errors
    /// `Model`, when it is neither.
    pub fn count(&self) -> Result<usize> {
        let number = self.number()?;
        let count = number as usize;
        if count as f64 != number || number > f64::from(i32::MAX) {
            return Err(self.wrong("a whole number is needed"));
        }
        Ok(count)
    }

    /// An error about this value.
    pub fn wrong(&self, why: &str) -> Error {
        let place = if self.path.is_empty() {
            "the document"
        } else {
            &self.path
        };
        damaged(&format!("{place}: {why}"))
    }
}

/// The error for a file that is not what its kind should be.
pub fn damaged(why: &str) -> Error {
    Error::model(format!("the model is damaged: {why}"))
        .with_hint("compare its size with the original's, or save it again")
}
