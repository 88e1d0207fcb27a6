//! What a `config.json` says, asked by name.

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::model::pretrained::{Pretrained, Task};

/// The settings of a pretrained model.
pub struct Settings<'a> {
    pretrained: &'a Pretrained,
}

/// Numbers of one head of attention.
///
/// # Errors
/// `Model`, when heads don't share the numbers of a token.
pub fn head(hidden: usize, heads: usize) -> Result<usize> {
    if heads == 0 || !hidden.is_multiple_of(heads) {
        return Err(Error::model(format!(
            "config.json: {hidden} numbers a token can't be shared by {heads} heads"
        )));
    }
    Ok(hidden / heads)
}

/// Largest size that a setting may have: beyond it the file is damaged.
const MOST: u64 = 1 << 31;

impl<'a> Settings<'a> {
    /// Those of `pretrained`.
    pub fn of(pretrained: &'a Pretrained) -> Settings<'a> {
        Settings { pretrained }
    }

    /// Whether `config.json` says anything about it.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Settings within a setting.
    pub fn below(&self, name: &str) -> Option<&Map<String, Value>> {
        self.get(name).and_then(Value::as_object)
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.pretrained.config.get(name).filter(|value| !value.is_null())
    }

    /// A size that must be there.
    pub fn size(&self, name: &str) -> Result<usize> {
        match self.get(name).and_then(Value::as_u64) {
            Some(size) if (1..MOST).contains(&size) => Ok(size as usize),
            _ => Err(Error::model(format!(
                "config.json of a {} gives no usable {name}",
                self.pretrained.model_type
            ))),
        }
    }

    /// A size, or what the library takes when there is none.
    pub fn size_or(&self, name: &str, otherwise: usize) -> Result<usize> {
        match self.get(name) {
            None => Ok(otherwise),
            Some(value) => match value.as_u64() {
                Some(size) if size < MOST => Ok(size as usize),
                _ => self.size(name),
            },
        }
    }

    /// A list of sizes that must be there.
    pub fn sizes(&self, name: &str) -> Result<Vec<usize>> {
        let items = self.get(name).and_then(Value::as_array);
        let size = |item: &Value| {
            item.as_u64()
                .filter(|size| (1..MOST).contains(size))
                .map(|size| size as usize)
        };
        let sizes = items.and_then(|items| items.iter().map(size).collect::<Option<Vec<_>>>());
        sizes.filter(|sizes| !sizes.is_empty()).ok_or_else(|| {
            Error::model(format!(
                "config.json of a {} gives no usable {name}",
                self.pretrained.model_type
            ))
        })
    }

    /// Whether a list has this number; a list that isn't there has none.
    pub fn lists(&self, name: &str, number: usize) -> bool {
        let items = self.get(name).and_then(Value::as_array);
        items.is_some_and(|items| items.iter().any(|item| item.as_u64() == Some(number as u64)))
    }

    /// A number, or what the library takes when there is none.
    pub fn number_or(&self, name: &str, otherwise: f64) -> f64 {
        self.get(name).and_then(Value::as_f64).unwrap_or(otherwise)
    }

    /// A word, or what the library takes when there is none.
    pub fn word_or<'s>(&'s self, name: &str, otherwise: &'s str) -> &'s str {
        self.get(name).and_then(Value::as_str).unwrap_or(otherwise)
    }

    /// A switch, or what the library takes when there is none.
    pub fn flag_or(&self, name: &str, otherwise: bool) -> bool {
        self.get(name).and_then(Value::as_bool).unwrap_or(otherwise)
    }

    /// The class of the Python library that wrote the folder, e.g. `BertForMaskedLM`.
    pub fn architecture(&self) -> &str {
        self.pretrained.architecture.as_deref().unwrap_or_default()
    }

    /// What the model is used for.
    pub fn task(&self) -> Task {
        self.pretrained.task
    }

    /// How many labels there are.
    pub fn labels(&self) -> usize {
        match self.get("id2label").and_then(Value::as_object) {
            Some(labels) => labels.len().max(1),
            None => self.get("num_labels").and_then(Value::as_u64).unwrap_or(2) as usize,
        }
    }
}
