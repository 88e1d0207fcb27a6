//! The model card: what a model's own file does not say, in `floe.yaml` beside it.
//!
//! A card names the functions of a folder, the columns that feed each input, what to do with nulls, and what becomes of
//! each output. Everything in it is optional; whatever it leaves out follows from the model (see
//! `docs/models.md`). This module reads a card and checks it as far as that goes without the model; the backend
//! holds it against the model's own inputs and outputs.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::config::JpegScale;
use crate::config::check;
use crate::config::document::kind_of;
use crate::config::faults::Faults;
use crate::config::job_file::NullPolicy;
use crate::error::{Error, Result};
use crate::signature::OnNull;

#[cfg(test)]
mod tests;

/// The card's file name.
pub const FILE_NAME: &str = "floe.yaml";

/// Longest accepted card; a list of labels may be long.
pub const MAX_BYTES: usize = 4 << 20;

/// A model card: what Floe should know about the models of a folder.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Floe model card")]
pub struct Card {
    /// What the model is called, for people.
    #[schemars(example = &"flights")]
    pub name: Option<String>,
    /// What it does, for people.
    #[schemars(example = &"arrival delay in minutes, known at departure")]
    pub description: Option<String>,
    /// The functions of the model by name, as a job's `model.function_name` calls them.
    ///
    /// Default: one function, `predict`.
    pub functions: Option<Ordered<FunctionCard>>,
}

/// One function: a model file, and how it meets columns.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FunctionCard {
    /// The model file, relative to the card.
    ///
    /// Default: the folder's only model.
    #[schemars(example = &"flights.onnx", length(min = 1))]
    pub model: Option<String>,
    /// What feeds the model, by the model's own names for its inputs. Inputs left out follow the rules for models
    /// without a card.
    pub inputs: Option<Ordered<InputCard>>,
    /// What becomes a column: a list of the model's outputs, or a mapping from them to what is done with each.
    ///
    /// Default: every output, under its own name.
    pub outputs: Option<OutputsCard>,
}

/// What feeds one input of the model.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InputCard {
    /// The one column that feeds it: numbers or strings, or lists for an input with more than one axis.
    #[schemars(example = &"age", length(min = 1))]
    pub column: Option<String>,
    /// The columns that feed it, one per element of a row, in the model's order.
    #[schemars(example = ["sepal_length", "sepal_width"], length(min = 1))]
    pub columns: Option<Vec<String>>,
    /// What to do with nulls in those columns.
    ///
    /// Default: what the job says (`input.on_null`), and that is `fail`.
    #[schemars(example = &"nan")]
    pub on_null: Option<NullPolicy>,
    /// The number that takes the place of a null; only with `on_null: fill`.
    #[schemars(example = -1.0)]
    pub fill_value: Option<f64>,
    /// Each number is multiplied by this; only for floating-point inputs.
    ///
    /// Default: `1`.
    #[schemars(example = 0.00392156862745098)]
    pub scale: Option<f64>,
    /// Added to each number after `scale`.
    ///
    /// Default: `0`.
    #[schemars(example = -0.5)]
    pub offset: Option<f64>,
    /// The column holds images (bytes of JPEG, PNG, WebP, GIF, BMP or TIFF files), and this is how they become numbers; an
    /// empty mapping will do where the model says its size.
    pub image: Option<ImageCard>,
}

/// How images become the numbers of a float32 input with channels, height and width.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageCard {
    /// Height and width that images are resized to, whatever their proportions. Not together with `shortest_edge`.
    ///
    /// Default: the model's own height and width, unless `shortest_edge` is given.
    #[schemars(example = [224, 224], length(min = 2, max = 2), inner(range(min = 1, max = 16_384)))]
    pub size: Option<Vec<u32>>,
    /// What the shorter side is resized to; the longer one keeps the proportions. Needs a `crop`, or a model with a size.
    #[schemars(example = 256, range(min = 1, max = 16_384))]
    pub shortest_edge: Option<u32>,
    /// Height and width of the middle that is cut out after resizing.
    ///
    /// Default: with `shortest_edge` the model's own, else everything.
    #[schemars(example = [224, 224], length(min = 2, max = 2), inner(range(min = 1, max = 16_384)))]
    pub crop: Option<Vec<u32>>,
    /// At which scale JPEG images are decoded that are resized to less: `reduced` is faster, and not what Python's pipelines
    /// see. The job's `model.jpeg_scale` goes before it.
    ///
    /// Default: `full`.
    #[schemars(example = &"reduced")]
    pub jpeg_scale: Option<JpegScale>,
    /// How pixels between pixels are found, as Pillow does.
    ///
    /// Default: `bilinear`.
    #[schemars(example = &"bicubic")]
    pub resample: Option<Resample>,
    /// Each byte (0 to 255) is multiplied by this.
    ///
    /// Default: `1/255`.
    #[schemars(example = 1.0)]
    pub rescale: Option<f64>,
    /// Subtracted after `rescale`: one number for each channel.
    ///
    /// Default: zeros.
    #[schemars(example = [0.485, 0.456, 0.406], length(min = 3, max = 3))]
    pub mean: Option<Vec<f64>>,
    /// Divided by after `mean`: one number for each channel.
    ///
    /// Default: ones.
    #[schemars(example = [0.229, 0.224, 0.225], length(min = 3, max = 3))]
    pub std: Option<Vec<f64>>,
    /// Where the channels are.
    ///
    /// Default: where the model's input has an axis of 3; `channels_first` if that is open.
    #[schemars(example = &"channels_last")]
    pub layout: Option<Layout>,
    /// Which colour comes first.
    ///
    /// Default: `rgb`.
    #[schemars(example = &"bgr")]
    pub colors: Option<Colors>,
}

/// Pillow's filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Resample {
    /// The nearest pixel.
    Nearest,
    /// Averages.
    Box,
    /// Straight lines.
    Bilinear,
    /// As sharp as bicubic, as cheap as bilinear.
    Hamming,
    /// Cubic curves.
    Bicubic,
    /// Six pixels wide.
    Lanczos,
}

/// Where the channels of an image's tensor are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// `[channels, height, width]`
    ChannelsFirst,
    /// `[height, width, channels]`
    ChannelsLast,
}

/// The order of an image's channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Colors {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
}

/// What is done with one output of the model.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutputCard {
    /// Name of the column.
    ///
    /// Default: the output's own name.
    #[schemars(example = &"probability", length(min = 1))]
    pub name: Option<String>,
    /// Applied to the numbers of each row.
    ///
    /// Default: `none`.
    #[schemars(example = &"softmax")]
    pub activation: Option<Activation>,
    /// What is taken from each row.
    ///
    /// Default: everything.
    #[schemars(example = &"argmax")]
    pub select: Option<Select>,
    /// Names of the places in a row, for `select: argmax`: the column then holds these instead of numbers.
    #[schemars(example = ["cat", "dog"], length(min = 1))]
    pub labels: Option<Vec<String>>,
    /// Name of a second column, for `select: argmax`: the largest number itself, after `activation`.
    #[schemars(example = &"score", length(min = 1))]
    pub score: Option<String>,
}

/// A function of the numbers of one row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// Leave them as they are.
    #[default]
    None,
    /// Positive numbers that sum to 1 along the last axis.
    Softmax,
    /// Each number between 0 and 1.
    Sigmoid,
}

/// What is taken from each row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Select {
    /// The place of the largest number along the last axis: an int64, or its label.
    Argmax,
}

/// Which outputs become columns.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum OutputsCard {
    /// These, as they are.
    Names(Vec<String>),
    /// These, with what is done to each; nothing (`label:`) leaves it as it is.
    Each(Ordered<Option<OutputCard>>),
}

/// A mapping that keeps the order of the text.
#[derive(Clone, Debug, PartialEq)]
pub struct Ordered<T>(pub Vec<(String, T)>);

impl<T> Default for Ordered<T> {
    fn default() -> Self {
        Ordered(Vec::new())
    }
}

impl<T> Ordered<T> {
    /// The keys in the order of the text.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(key, _)| key.as_str())
    }

    /// The value of a key.
    pub fn get(&self, wanted: &str) -> Option<&T> {
        self.0
            .iter()
            .find(|(key, _)| key == wanted)
            .map(|(_, value)| value)
    }
}

impl<'de, T: serde::de::DeserializeOwned> Deserialize<'de> for Ordered<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // serde_json's map keeps the order of the text (feature preserve_order).
        let map = Map::<String, Value>::deserialize(deserializer)?;
        let entry = |(key, value)| {
            Ok((
                key,
                serde_json::from_value(value).map_err(serde::de::Error::custom)?,
            ))
        };
        map.into_iter().map(entry).collect::<Result<_, _>>().map(Ordered)
    }
}

impl<T: JsonSchema> JsonSchema for Ordered<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Mapping_of_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        BTreeMap::<String, T>::json_schema(generator)
    }
}

impl JsonSchema for OutputsCard {
    fn schema_name() -> Cow<'static, str> {
        "Outputs".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let names = generator.subschema_for::<Vec<String>>();
        let each = generator.subschema_for::<Ordered<Option<OutputCard>>>();
        json_schema!({ "anyOf": [names, each] })
    }
}

impl InputCard {
    /// The policy for nulls; `None` leaves it to the job. Meaningful after [`parse`] has checked the card.
    pub fn on_null(&self) -> Option<OnNull> {
        Some(match self.on_null? {
            NullPolicy::Fail => OnNull::Fail,
            NullPolicy::Nan => OnNull::Nan,
            NullPolicy::Fill => OnNull::Fill(self.fill_value.unwrap_or_default()),
        })
    }

    /// `(scale, offset)`
    pub fn affine(&self) -> (f64, f64) {
        (self.scale.unwrap_or(1.0), self.offset.unwrap_or(0.0))
    }
}

/// The JSON schema of a card (draft 2020-12), for `spec/model-card.schema.json`.
pub fn card_schema() -> Value {
    SCHEMA.clone()
}

static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings
        .into_generator()
        .into_root_schema_for::<Card>()
        .to_value()
});

/// Reads a card.
///
/// # Errors
/// `Model`, naming every unknown key with the nearest known one, every value of a wrong sort, and keys that
/// contradict each other.
pub fn parse(bytes: &[u8]) -> Result<Card> {
    let document = document(bytes)?;
    let mut faults = Faults::default();
    check::check(&SCHEMA, &document, &[], &mut faults);
    report(&faults)?;
    let card: Card = serde_json::from_value(Value::Object(document))
        .map_err(|cause| Error::model(format!("{FILE_NAME}: not a model card")).with_source(cause))?;
    check_contradictions(&card, &mut faults);
    report(&faults)?;
    Ok(card)
}

fn document(bytes: &[u8]) -> Result<Map<String, Value>> {
    let refused = |why: String| Error::model(format!("{FILE_NAME}: not a model card: {why}"));
    if bytes.len() > MAX_BYTES {
        return Err(refused(format!(
            "{} bytes given, at most {MAX_BYTES} allowed",
            bytes.len()
        )));
    }
    let text = std::str::from_utf8(bytes).map_err(|cause| refused(cause.to_string()))?;
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 16,
            flow_nesting_limit: 16,
            max_anchors: 100,
            max_aliases: 100,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 50_000,
        },
        // A label or a column named `no` is text.
        strict_booleans: true,
        with_snippet: false,
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match serde_saphyr::from_str_with_options(text, options) {
        Ok(Value::Object(document)) => Ok(document),
        Ok(Value::Null) => Ok(Map::new()),
        Ok(other) => Err(refused(format!("{} given, a mapping allowed", kind_of(&other)))),
        Err(cause) => {
            // Advice to whoever calls the parser is none to whoever writes the card.
            let text = cause.to_string().replace('\n', " ");
            Err(refused(
                text.replace(", set DuplicateKeyPolicy in Options if acceptable", ""),
            ))
        }
    }
}

/// What no schema can say.
fn check_contradictions(card: &Card, faults: &mut Faults) {
    let functions = card.functions.iter().flat_map(|functions| &functions.0);
    for (function, card) in functions {
        let inputs = card.inputs.iter().flat_map(|inputs| &inputs.0);
        for (input, card) in inputs {
            let key = |name: &str| format!("functions.{function}.inputs.{input}.{name}");
            if card.column.is_some() && card.columns.is_some() {
                faults.push(key("columns"), "column and columns given, one of them allowed");
            }
            if let Some(image) = &card.image {
                let numbers = [
                    ("columns", card.columns.is_some()),
                    ("scale", card.scale.is_some()),
                    ("offset", card.offset.is_some()),
                ];
                for (name, _) in numbers.iter().filter(|(_, given)| *given) {
                    faults.push(
                        key(name),
                        "given beside image, and it has a meaning only for numbers",
                    );
                }
                if image.size.is_some() && image.shortest_edge.is_some() {
                    faults.push(
                        key("image.size"),
                        "size and shortest_edge given, one of them allowed",
                    );
                }
                if image.std.iter().flatten().any(|std| *std == 0.0) {
                    faults.push(key("image.std"), "0 given, which nothing can be divided by");
                }
            }
            match (card.on_null, card.fill_value) {
                (Some(NullPolicy::Fill), None) => faults.push(
                    key("fill_value"),
                    "nothing given, a number needed for on_null: fill",
                ),
                (Some(NullPolicy::Fill), Some(_)) | (_, None) => {}
                (_, Some(_)) => faults.push(
                    key("fill_value"),
                    "a number given, and it has a meaning only with on_null: fill",
                ),
            }
        }
        match &card.outputs {
            Some(OutputsCard::Names(names)) => {
                for (index, name) in names.iter().enumerate() {
                    if names[..index].contains(name) {
                        faults.push(
                            format!("functions.{function}.outputs[{index}]"),
                            format!("{name} is given twice"),
                        );
                    }
                }
            }
            Some(OutputsCard::Each(outputs)) => {
                for (output, card) in &outputs.0 {
                    let Some(card) = card else { continue };
                    if card.labels.is_some() && card.select.is_none() {
                        let key = format!("functions.{function}.outputs.{output}.labels");
                        faults.push(
                            key,
                            "labels given, and they have a meaning only with select: argmax",
                        );
                    }
                    let key = || format!("functions.{function}.outputs.{output}.score");
                    if card.score.is_some() && card.select.is_none() {
                        faults.push(
                            key(),
                            "a name given, and it has a meaning only with select: argmax",
                        );
                    }
                    if card.score.as_ref() == Some(card.name.as_ref().unwrap_or(output)) {
                        faults.push(key(), "the name of the first column given, another one needed");
                    }
                }
            }
            None => {}
        }
        let none = match &card.outputs {
            Some(OutputsCard::Names(names)) => names.is_empty(),
            Some(OutputsCard::Each(outputs)) => outputs.0.is_empty(),
            None => false,
        };
        if none {
            faults.push(
                format!("functions.{function}.outputs"),
                "nothing given, at least one output needed",
            );
        }
    }
    if card
        .functions
        .as_ref()
        .is_some_and(|functions| functions.0.is_empty())
    {
        faults.push("functions", "nothing given, at least one function needed");
    }
}

fn report(faults: &Faults) -> Result<()> {
    let lines: Vec<_> = faults
        .found()
        .iter()
        .map(|fault| format!("{}: {}", fault.key, fault.text))
        .collect();
    match lines.as_slice() {
        [] => Ok(()),
        [only] => Err(Error::model(format!("{FILE_NAME}: {only}"))),
        several => Err(Error::model(format!(
            "{FILE_NAME} has {} mistakes:\n  {}",
            several.len(),
            several.join("\n  ")
        ))),
    }
}
