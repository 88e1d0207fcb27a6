//! What is in a model's folder: its card, the functions that the card names, and the file of each.
//!
//! Shared by the backends that read models from files.

use super::ModelFiles;
use super::card::{self, Card, FunctionCard};
use crate::error::{Error, Result};

/// The function of a model without a card.
pub const DEFAULT_FUNCTION: &str = "predict";

/// A function as the card describes it.
#[derive(Clone, Debug)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// What the card says about it.
    pub card: FunctionCard,
    /// The path of its model file.
    pub path: String,
}

/// The folder's card; an empty one if it has none.
///
/// # Errors
/// `Model`, for a card that is wrong or has another name.
pub fn read_card(files: &ModelFiles) -> Result<Card> {
    if let Some(bytes) = files.files.get(card::FILE_NAME) {
        return card::parse(bytes);
    }
    for other in ["floe.yml", "floe.json", "Floe.yaml"] {
        if files.files.contains_key(other) {
            return Err(Error::model(format!("the model card is called {other}"))
                .with_hint(format!("call it {}", card::FILE_NAME)));
        }
    }
    Ok(Card::default())
}

/// The functions that the card names, `None` if it names none. `only` finds the model file that needs no name; `models`
/// are the files that could be named.
///
/// # Errors
/// `Model`, when a file is not there or can't be told.
pub fn functions(
    files: &ModelFiles,
    card: &Card,
    models: &[&str],
    only: impl Fn() -> Result<String>,
) -> Result<Option<Vec<Named>>> {
    let Some(functions) = &card.functions else {
        return Ok(None);
    };
    let mut named = Vec::with_capacity(functions.0.len());
    for (name, function) in &functions.0 {
        let path = match &function.model {
            Some(path) => named_model(files, name, path, models)?,
            None => only()?,
        };
        named.push(Named {
            name: name.clone(),
            card: function.clone(),
            path,
        });
    }
    Ok(Some(named))
}

/// The file that the card names.
fn named_model(files: &ModelFiles, function: &str, path: &str, models: &[&str]) -> Result<String> {
    let key = format!("{}: functions.{function}.model", card::FILE_NAME);
    let plain = path.strip_prefix("./").unwrap_or(path);
    if plain.starts_with('/') || plain.split(['/', '\\']).any(|part| part == "..") {
        return Err(Error::model(format!(
            "{key}: {path} given, a file in the folder of the card allowed"
        )));
    }
    if files.files.contains_key(plain) {
        return Ok(plain.to_string());
    }
    Err(
        Error::model(format!("{key}: there is no file {path} beside the card"))
            .with_hint(format!("the folder has {}", listed(models))),
    )
}

/// The error for a folder with `several` models and nothing that chooses.
pub fn choose_one(several: &[&str]) -> Error {
    Error::model(format!("the folder has several models: {}", listed(several))).with_hint(format!(
        "choose in a model card: write a file {} with \"functions: {{predict: {{model: {}}}}}\", or give the path of one file",
        card::FILE_NAME,
        several.first().copied().unwrap_or_default()
    ))
}

/// Paths for a message, the first dozen of many.
pub fn listed(paths: &[&str]) -> String {
    const SHOWN: usize = 12;
    match paths {
        [] => "no files".to_string(),
        _ if paths.len() > SHOWN => format!("{} and {} more", paths[..SHOWN].join(", "), paths.len() - SHOWN),
        _ => paths.join(", "),
    }
}

/// Location and path as one, for messages.
pub fn label(location: &str, path: &str) -> String {
    let location = location.trim_end_matches('/');
    if location == path || location.ends_with(&format!("/{path}")) {
        location.to_string()
    } else {
        format!("{location}/{path}")
    }
}
