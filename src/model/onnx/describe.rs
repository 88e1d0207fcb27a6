//! From what a model file declares and a model card says to a function's inputs and outputs.
//!
//! Models are exported in many ways: one input per column or one matrix for all, with or without a batch axis of
//! fixed length, with scalars that are the same for every row. The rules here (`docs/models.md` has them for users)
//! decide what each input is without looking at data; [`bind`](crate::signature::bind) then finds the columns.
//! Pure: facts and card in, features out.

use super::graph::{Declared, Facts, Kind};
use super::size;
use crate::error::{Error, Result};
use crate::model::card::{FILE_NAME, FunctionCard, InputCard, OutputCard, OutputsCard};
use crate::signature::{Dim, InputFeature, OnNull, OutputFeature, OutputKind, Source, display_shape};
use crate::tensor::DType;

/// The inputs of a function.
#[derive(Clone, Debug, PartialEq)]
pub struct Inputs {
    /// In the model's order.
    pub features: Vec<InputFeature>,
    /// The one number of rows that the model takes, if it takes only one.
    pub fixed_batch_rows: Option<usize>,
    /// Positions of those that declare no shape and that no card explains: they may be parameters as well.
    pub unranked: Vec<usize>,
    /// What was inferred.
    pub notes: Vec<String>,
}

impl Inputs {
    /// The same with the inputs at `positions` as single values for all rows.
    pub fn with_parameters(&self, positions: &[usize]) -> Inputs {
        let mut inputs = self.clone();
        for &position in positions {
            let feature = &mut inputs.features[position];
            feature.source = Source::Param;
            feature.shape = Vec::new();
        }
        inputs
    }
}

/// An output that becomes a column, before post-processing.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// The model's name for it.
    pub name: String,
    /// What the file declares.
    pub declared: Kind,
    /// What the card says about it.
    pub card: OutputCard,
}

/// An input tensor with all its axes, the batch included.
struct Axes<'a> {
    name: &'a str,
    dtype: DType,
    dims: Vec<Dim>,
    /// It declares no shape; `dims` are a guess.
    unranked: bool,
    card: Option<&'a InputCard>,
}

impl Axes<'_> {
    /// The card says that columns feed it, so its first axis is the batch whatever its extent.
    fn is_bound_to_columns(&self) -> bool {
        self.card
            .is_some_and(|card| card.column.is_some() || card.columns.is_some())
    }
}

/// The inputs of the function that `card` describes.
///
/// # Errors
/// `Model`, when an input is of a type that nothing can feed, when the inputs disagree about the batch, or when card or
/// metadata contradict the model.
pub fn inputs(facts: &Facts, function: &str, card: Option<&FunctionCard>) -> Result<Inputs> {
    let cards = card.and_then(|card| card.inputs.as_ref());
    let names: Vec<&str> = facts.inputs.iter().map(|input| input.name.as_str()).collect();
    for name in cards.iter().flat_map(|cards| cards.keys()) {
        known(
            name,
            &names,
            "input",
            &format!("functions.{function}.inputs.{name}"),
        )?;
    }
    let mut notes = Vec::new();
    if facts.quantises_by_batch {
        notes.push(
            "the model quantises each batch by its own range: results depend a little on inference.max_batch_rows"
                .to_string(),
        );
    }
    let mut all = Vec::with_capacity(facts.inputs.len());
    for input in &facts.inputs {
        let card = cards.and_then(|cards| cards.get(&input.name));
        all.push(axes(input, card, facts)?);
    }
    let batch = batch_axis(&all)?;
    let is_row = |input: &Axes| match (input.dims.first(), batch) {
        (None, _) => false,
        (Some(first), Dim::Dynamic) => input.is_bound_to_columns() || *first == Dim::Dynamic,
        (Some(first), Dim::Fixed(rows)) => matches!(first, Dim::Dynamic) || *first == Dim::Fixed(rows),
    };
    let rows: Vec<bool> = all.iter().map(is_row).collect();
    if !rows.contains(&true) {
        return Err(
            Error::model("no input of the model has a batch axis, so it can't be fed rows")
                .with_hint("export it with a first axis for the rows, left open"),
        );
    }
    let matrices = std::iter::zip(&all, &rows)
        .filter(|(input, is_row)| **is_row && is_matrix(&input.dims[1..]))
        .count();
    let only_row_input = rows.iter().filter(|is_row| **is_row).count() == 1;
    let place = Place {
        facts,
        function,
        only_matrix: matrices <= 1,
        only_row_input,
    };
    let mut features = Vec::with_capacity(all.len());
    for (input, is_row) in std::iter::zip(&all, rows) {
        features.push(if is_row {
            place.row_input(input, &mut notes)?
        } else {
            place.parameter(input, &mut notes)?
        });
    }
    let fixed_batch_rows = match batch {
        Dim::Fixed(rows) => Some(rows),
        Dim::Dynamic => None,
    };
    size::check(&features, fixed_batch_rows)?;
    let is_open = |(_, input): &(usize, &Axes)| input.unranked && !input.is_bound_to_columns();
    let unranked = all
        .iter()
        .enumerate()
        .filter(is_open)
        .map(|(position, _)| position);
    Ok(Inputs {
        unranked: unranked.collect(),
        features,
        fixed_batch_rows,
        notes,
    })
}

/// The outputs of the function that `card` describes, in the card's order, else the model's.
///
/// # Errors
/// `Model`, when the card names an output that the model has not, or one is of a type that no column can hold.
pub fn outputs(facts: &Facts, function: &str, card: Option<&FunctionCard>) -> Result<Vec<Wanted>> {
    let names: Vec<&str> = facts.outputs.iter().map(|output| output.name.as_str()).collect();
    let path = format!("functions.{function}.outputs");
    let chosen: Vec<(&str, OutputCard)> = match card.and_then(|card| card.outputs.as_ref()) {
        None => names.iter().map(|name| (*name, OutputCard::default())).collect(),
        Some(OutputsCard::Names(chosen)) => chosen
            .iter()
            .map(|name| (name.as_str(), OutputCard::default()))
            .collect(),
        Some(OutputsCard::Each(each)) => {
            let cards = each.0.iter();
            cards
                .map(|(name, card)| (name.as_str(), card.clone().unwrap_or_default()))
                .collect()
        }
    };
    let mut wanted: Vec<Wanted> = Vec::with_capacity(chosen.len());
    for (name, card) in chosen {
        known(name, &names, "output", &format!("{path}.{name}"))?;
        let declared = facts.outputs.iter().find(|output| output.name == name);
        let declared = declared.map_or(Kind::Undeclared, |output| output.kind.clone());
        let output = Wanted {
            name: name.to_string(),
            declared,
            card,
        };
        declared_output(&output)?;
        wanted.push(output);
    }
    Ok(wanted)
}

/// The feature of an output as declared: right for most models, and made exact by a trial run.
///
/// # Errors
/// `Model`, when it is of a type that no column can hold.
pub fn declared_output(wanted: &Wanted) -> Result<OutputFeature> {
    let (dtype, shape, kind) = match &wanted.declared {
        Kind::Tensor { dtype, shape } => {
            let per_row = shape
                .as_ref()
                .map(|shape| shape.iter().skip(1).copied().collect());
            (*dtype, per_row.unwrap_or_default(), OutputKind::Tensor)
        }
        Kind::Maps { key, value } => (*value, vec![], OutputKind::Map { key: *key }),
        // ONNX Runtime will say; it accepts no model in which a type can't be told.
        Kind::Undeclared => (DType::F32, vec![], OutputKind::Tensor),
        Kind::Other(words) => {
            return Err(Error::model(format!("the model's output {} is a {words}, which no column can hold", wanted.name))
                .with_hint(format!(
                    "list the outputs to keep in a model card ({FILE_NAME}: functions.<name>.outputs), or cast it in the model"
                )));
        }
    };
    Ok(OutputFeature {
        name: wanted.name.clone(),
        column: wanted.card.name.clone().unwrap_or_else(|| wanted.name.clone()),
        dtype,
        shape,
        kind,
    })
}

fn axes<'a>(input: &'a Declared, card: Option<&'a InputCard>, facts: &Facts) -> Result<Axes<'a>> {
    let name = &input.name;
    let (dtype, dims) = match &input.kind {
        Kind::Tensor { dtype, shape } => (*dtype, shape.clone()),
        Kind::Maps { key, value } => {
            return Err(unfeedable(
                name,
                &format!("sequence of map from {} to {}", key.as_str(), value.as_str()),
            ));
        }
        Kind::Other(words) => return Err(unfeedable(name, words)),
        Kind::Undeclared => return Err(unfeedable(name, "value of undeclared type")),
    };
    let unranked = dims.is_none();
    let dims = dims.unwrap_or_else(|| {
        let alone = facts.inputs.len() == 1 && facts.feature_names.is_some();
        let matrix = alone || card.is_some_and(|card| card.columns.is_some());
        vec![Dim::Dynamic; if matrix { 2 } else { 1 }]
    });
    if dims.is_empty() && card.is_some_and(|card| card.column.is_some() || card.columns.is_some()) {
        return Err(Error::model(format!(
            "the model card feeds the input {name} from columns, and it is one value for all rows (no axis)"
        ))
        .with_hint(format!(
            "leave it out of {FILE_NAME} and set input.params.{name} in the job"
        )));
    }
    Ok(Axes {
        name,
        dtype,
        dims,
        unranked,
        card,
    })
}

fn unfeedable(name: &str, words: &str) -> Error {
    Error::model(format!(
        "the model's input {name} is a {words}, which no column can feed"
    ))
    .with_hint("export the model with tensors of numbers or strings as its inputs")
}

/// The extent of the batch. Inputs whose first axis has another fixed extent are the same for all rows.
fn batch_axis(inputs: &[Axes]) -> Result<Dim> {
    let bound: Vec<Dim> = inputs
        .iter()
        .filter(|input| input.is_bound_to_columns())
        .map(|input| input.dims[0])
        .collect();
    let firsts: Vec<Dim> = match bound.is_empty() {
        false => bound.clone(),
        true => inputs
            .iter()
            .filter(|input| !input.unranked)
            .filter_map(|input| input.dims.first().copied())
            .collect(),
    };
    let mut fixed: Vec<usize> = Vec::new();
    for first in &firsts {
        if let Dim::Fixed(rows) = first
            && !fixed.contains(rows)
        {
            fixed.push(*rows);
        }
    }
    let any_open = firsts.contains(&Dim::Dynamic);
    match fixed.as_slice() {
        [] => Ok(Dim::Dynamic),
        // With the batch open in one input, a fixed first axis is not the batch, unless the card says so.
        _ if any_open && bound.is_empty() => Ok(Dim::Dynamic),
        [rows] => Ok(Dim::Fixed(*rows)),
        _ => {
            let lists: Vec<_> = inputs
                .iter()
                .map(|input| format!("{}{}", input.name, display_shape(&input.dims, false)))
                .collect();
            Err(Error::model(format!(
                "the model's inputs have first axes of different lengths, so the batch can't be told: {}",
                lists.join(", ")
            ))
            .with_hint(format!(
                "name the columns of those that are fed by columns in {FILE_NAME}; the others become parameters"
            )))
        }
    }
}

/// One axis per row, of more than one element or an open number of them.
fn is_matrix(per_row: &[Dim]) -> bool {
    matches!(per_row, [Dim::Dynamic]) || matches!(per_row, [Dim::Fixed(width)] if *width > 1)
}

/// What decides about one input apart from the input itself.
struct Place<'a> {
    facts: &'a Facts,
    function: &'a str,
    /// No other input takes several columns, so `feature_names` can only mean this one.
    only_matrix: bool,
    /// All other inputs are parameters.
    only_row_input: bool,
}

impl Place<'_> {
    fn parameter(&self, input: &Axes, notes: &mut Vec<String>) -> Result<InputFeature> {
        if !input.dims.is_empty() {
            notes.push(format!(
                "the model's input {} {}{} has no batch axis: it is a parameter, the same for all rows",
                input.name,
                input.dtype.as_str(),
                display_shape(&input.dims, false)
            ));
        }
        self.feature(input, input.dims.clone(), Source::Param)
    }

    fn row_input(&self, input: &Axes, notes: &mut Vec<String>) -> Result<InputFeature> {
        let mut shape = input.dims[1..].to_vec();
        let source = match input.card {
            Some(InputCard {
                column: Some(column), ..
            }) => Source::Column(column.clone()),
            Some(InputCard {
                columns: Some(columns),
                ..
            }) => {
                let key = format!(
                    "{FILE_NAME}: functions.{}.inputs.{}.columns",
                    self.function, input.name
                );
                fit_names(&mut shape, columns.len(), &key, input.name)?;
                Source::Columns(columns.clone())
            }
            _ => self.inferred(input, &mut shape, notes)?,
        };
        self.feature(input, shape, source)
    }

    /// Where the values come from when no card says it.
    fn inferred(&self, input: &Axes, shape: &mut Vec<Dim>, notes: &mut Vec<String>) -> Result<Source> {
        let own_column = || Source::Column(input.name.to_string());
        if shape.len() > 1 {
            return Ok(own_column());
        }
        let matrix = is_matrix(shape);
        if let Some(text) = &self.facts.feature_names {
            if matrix && self.only_matrix || !matrix && self.only_row_input {
                let names = feature_names(text)?;
                // A name for one value says nothing new where the shape has no place for several.
                if matrix || names.len() == 1 {
                    fit_names(shape, names.len(), "the metadata key feature_names", input.name)?;
                    return Ok(Source::Columns(names));
                }
            } else if matrix {
                notes.push(format!(
                    "the metadata key feature_names is not used: several inputs take several columns, {} among them",
                    input.name
                ));
            }
        }
        // Only numbers are taken by count: any other type says too little about what is meant.
        if input.dtype.is_numeric() && (matrix || self.only_row_input) {
            return Ok(Source::NumericColumns);
        }
        Ok(own_column())
    }

    fn feature(&self, input: &Axes, shape: Vec<Dim>, source: Source) -> Result<InputFeature> {
        let card = input.card.cloned().unwrap_or_default();
        let key = |name: &str| {
            format!(
                "{FILE_NAME}: functions.{}.inputs.{}.{name}",
                self.function, input.name
            )
        };
        let on_null = card.on_null();
        if on_null == Some(OnNull::Nan) && !input.dtype.is_float() {
            return Err(Error::model(format!(
                "{}: nan given, and {} has no NaN",
                key("on_null"),
                input.dtype.as_str()
            ))
            .with_hint("use on_null: fill with a fill_value, or fail"));
        }
        let affine = card.affine();
        if affine != (1.0, 0.0) && !input.dtype.is_float() {
            let name = if card.scale.is_some() { "scale" } else { "offset" };
            return Err(Error::model(format!(
                "{}: given for an input of {}",
                key(name),
                input.dtype.as_str()
            ))
            .with_hint("scale and offset are for floating-point inputs"));
        }
        Ok(InputFeature {
            name: input.name.to_string(),
            dtype: input.dtype,
            shape,
            source,
            on_null,
            affine,
        })
    }
}

/// Checks that `count` columns fill a row of `shape`, and makes an open row that wide.
fn fit_names(shape: &mut Vec<Dim>, count: usize, whose: &str, input: &str) -> Result<()> {
    let takes = match shape.as_slice() {
        [] => Some(1),
        [Dim::Fixed(width)] => Some(*width),
        [Dim::Dynamic] => None,
        several => {
            return Err(Error::model(format!(
                "{whose}: a row of the input {input} has {} axes, and columns of single values fill one",
                several.len()
            ))
            .with_hint("feed it from one column of nested lists (column)"));
        }
    };
    match takes {
        Some(width) if width != count => Err(Error::model(format!(
            "{whose} names {count} columns, and the model's input {input} takes {width}"
        ))
        .with_hint(format!(
            "name its columns in the model card ({FILE_NAME}: functions.<name>.inputs.{input}.columns)"
        ))),
        Some(_) => Ok(()),
        None => {
            *shape = vec![Dim::Fixed(count)];
            Ok(())
        }
    }
}

fn feature_names(text: &str) -> Result<Vec<String>> {
    serde_json::from_str(text).map_err(|cause| {
        Error::model("the metadata key feature_names of the model is not a JSON array of column names")
            .with_source(cause)
            .with_hint(format!(
                "write it as [\"a\", \"b\"], or name the columns in {FILE_NAME}"
            ))
    })
}

fn known(name: &str, names: &[&str], what: &str, key: &str) -> Result<()> {
    if names.contains(&name) {
        return Ok(());
    }
    let error = Error::model(format!(
        "{FILE_NAME}: {key}: the model has no such {what}; its {what}s are {}",
        names.join(", ")
    ));
    Err(match crate::config::check::nearest(name, names.iter().copied()) {
        Some(nearest) => error.with_hint(format!("the nearest is {nearest}")),
        None => error,
    })
}
