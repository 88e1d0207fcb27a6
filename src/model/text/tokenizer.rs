//! Texts as ids of tokens, as the folder's tokenizer makes them.
//!
//! `tokenizer.json` says everything. Where there is none, it is built from `vocab.txt` (BERT) or from `vocab.json` and
//! `merges.txt` (RoBERTa) with what `tokenizer_config.json` says. Texts longer than the model can take are cut, as the
//! Python library cuts them, and counted.

use serde_json::{Map, Value};
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::bert::BertProcessing;
use tokenizers::processors::roberta::RobertaProcessing;
use tokenizers::{
    AddedToken, Encoding, PostProcessor, TruncationDirection, TruncationParams, TruncationStrategy,
};

use crate::error::{Error, Result};
use crate::model::ModelFiles;
use crate::model::pretrained::Pretrained;

/// Texts become ids.
#[derive(Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// The id that fills up short texts.
    pub padding: i64,
    /// Most tokens of a text, special ones included.
    pub most_tokens: usize,
    /// Whether the library's tokenizer says which tokens are filling; else a network sees that as well.
    pub gives_mask: bool,
    /// Whether spaces before English punctuation are taken out of texts made of ids.
    cleans_up: bool,
    /// Special tokens by their role in `tokenizer_config.json`, e.g. `mask_token`.
    roles: Map<String, Value>,
}

/// More tokens than this are no limit: the Python library writes 10^30 for "none".
const NO_LIMIT: f64 = 1e9;

/// Longest text of a model that sets no limit, in tokens.
const OTHERWISE: usize = 512;

impl Tokenizer {
    /// The tokenizer of a folder.
    ///
    /// # Errors
    /// `Model`, when there is none that can be read, or its parts don't fit together.
    pub fn open(files: &ModelFiles, pretrained: &Pretrained) -> Result<Tokenizer> {
        let folder = Folder {
            files,
            root: &pretrained.root,
        };
        let config = folder.object("tokenizer_config.json")?;
        let mut roles = folder.object("special_tokens_map.json")?;
        roles.extend(config.clone());
        let mut inner = match (folder.file("tokenizer.json"), folder.file("vocab.txt")) {
            (Some(bytes), _) => tokenizers::Tokenizer::from_bytes(bytes)
                .map_err(|cause| unreadable(&folder, "tokenizer.json", &*cause))?,
            (None, Some(vocabulary)) => word_pieces(&folder, vocabulary, &config, &roles)?,
            (None, None) => byte_pairs(&folder, &roles)?,
        };
        inner.with_padding(None);
        // What the file says of truncation is what somebody did last, not what the model can take.
        inner
            .with_truncation(None)
            .map_err(|cause| unreadable(&folder, "tokenizer.json", &*cause))?;
        let padding = role(&roles, "pad_token")
            .and_then(|token| inner.token_to_id(token))
            .or_else(|| {
                let id = pretrained.config.get("pad_token_id").and_then(Value::as_u64);
                id.and_then(|id| u32::try_from(id).ok())
            })
            .unwrap_or(0);
        Ok(Tokenizer {
            inner,
            padding: i64::from(padding),
            most_tokens: most_tokens(pretrained, &config),
            gives_mask: gives_mask(&config),
            cleans_up: config.get("clean_up_tokenization_spaces") == Some(&Value::Bool(true)),
            roles,
        })
    }

    /// The special token that plays a role, e.g. `mask_token`, and its id.
    pub fn special(&self, name: &str) -> Option<(&str, u32)> {
        let token = role(&self.roles, name)?;
        Some((token, self.inner.token_to_id(token)?))
    }

    /// Sets how texts are cut.
    ///
    /// # Errors
    /// `Config`, when texts are to overlap by more than they may have.
    pub fn truncate(
        &mut self,
        most_tokens: usize,
        strategy: TruncationStrategy,
        stride: usize,
    ) -> Result<()> {
        let params = TruncationParams {
            direction: TruncationDirection::Right,
            max_length: most_tokens,
            strategy,
            stride,
        };
        match self.inner.with_truncation(Some(params)) {
            Ok(_) => Ok(()),
            Err(cause) => Err(Error::config(format!(
                "texts of {most_tokens} tokens can't overlap by {stride}: {cause}"
            ))),
        }
    }

    /// A text's tokens, without the places where they stand in it. Adds to `cut` if it was too long.
    ///
    /// # Errors
    /// `Model`, when the tokenizer fails.
    pub fn ids(&self, text: &str, cut: &mut u64) -> Result<Encoding> {
        self.counted(self.inner.encode_fast(text, true), cut)
    }

    /// A pair of texts' tokens, likewise.
    ///
    /// # Errors
    /// `Model`, when the tokenizer fails.
    pub fn pair_ids(&self, first: &str, second: &str, cut: &mut u64) -> Result<Encoding> {
        self.counted(self.inner.encode_fast((first, second), true), cut)
    }

    /// A text's tokens and where they stand in it, in characters.
    ///
    /// # Errors
    /// `Model`, when the tokenizer fails.
    pub fn placed(&self, text: &str, cut: &mut u64) -> Result<Encoding> {
        self.counted(self.inner.encode_char_offsets(text, true), cut)
    }

    /// A pair of texts in windows of at most `most_tokens`: all of the first, and parts of the second that overlap by
    /// `overlap` tokens. `bare` is this tokenizer [`without_marks`](Self::without_marks).
    ///
    /// Marks are put around each part by itself, since the library's own windows of RoBERTa lack their last tokens
    /// (tokenizers 0.23.2).
    ///
    /// # Errors
    /// `Data`, when the first text leaves no room; `Model`, when the tokenizer fails.
    pub fn windows(
        &self,
        bare: &Tokenizer,
        pair: (&str, &str),
        most_tokens: usize,
        overlap: usize,
    ) -> Result<Vec<Encoding>> {
        let failed = |cause| Error::model(format!("the tokenizer fails: {cause}"));
        let tokens = |text: &str| bare.inner.encode_char_offsets(text, false).map_err(failed);
        let (first, mut second) = (tokens(pair.0)?, tokens(pair.1)?);
        let marks = self.inner.get_post_processor();
        let marks = marks.map_or(0, |marks| marks.added_tokens(true));
        let room = most_tokens.saturating_sub(first.len() + marks);
        if room <= overlap {
            return Err(Error::data(format!(
                "a text of {} tokens leaves no room for another one in windows of {most_tokens} that overlap by {overlap}",
                first.len()
            )));
        }
        second.set_type_ids(vec![1; second.len()]);
        second.truncate(room, overlap, TruncationDirection::Right);
        let others = second.take_overflowing();
        std::iter::once(second)
            .chain(others)
            .map(|part| {
                self.inner
                    .post_process(first.clone(), Some(part), true)
                    .map_err(failed)
            })
            .collect()
    }

    /// The same tokenizer, which puts no marks around texts.
    pub fn without_marks(&self) -> Tokenizer {
        let mut bare = self.clone();
        bare.inner
            .with_post_processor(None::<tokenizers::PostProcessorWrapper>);
        bare
    }

    fn counted(&self, encoding: tokenizers::Result<Encoding>, cut: &mut u64) -> Result<Encoding> {
        let encoding = encoding.map_err(|cause| Error::model(format!("the tokenizer fails: {cause}")))?;
        *cut += u64::from(!encoding.get_overflowing().is_empty());
        Ok(encoding)
    }

    /// The token that a text is, else the first of those that it is made of; none for an empty text.
    ///
    /// # Errors
    /// `Model`, when the tokenizer fails.
    pub fn first_token(&self, text: &str) -> Result<Option<u32>> {
        if let Some(id) = self.inner.token_to_id(text) {
            return Ok(Some(id));
        }
        let encoding = self.counted(self.inner.encode_fast(text, false), &mut 0)?;
        Ok(encoding.get_ids().first().copied())
    }

    /// The text of some ids.
    ///
    /// # Errors
    /// `Model`, when the tokenizer fails.
    pub fn text(&self, ids: &[u32], without_special: bool) -> Result<String> {
        let text = self.inner.decode(ids, without_special);
        let text = text.map_err(|cause| Error::model(format!("the tokenizer fails: {cause}")))?;
        Ok(match self.cleans_up {
            true => cleaned_up(text),
            false => text,
        })
    }

    /// Whether words have other tokens for their beginnings than for what follows, marked by this prefix.
    pub fn continuing_prefix(&self) -> Option<String> {
        match self.inner.get_model() {
            tokenizers::ModelWrapper::WordPiece(model) => Some(model.continuing_subword_prefix.clone()),
            tokenizers::ModelWrapper::BPE(model) => model.continuing_subword_prefix.clone(),
            _ => None,
        }
    }

    /// Tokens as text.
    ///
    /// # Errors
    /// `Model`, when the tokenizer fails.
    pub fn joined(&self, tokens: impl Iterator<Item = String>) -> Result<String> {
        let tokens: Vec<String> = tokens.collect();
        match self.inner.get_decoder() {
            Some(decoder) => tokenizers::Decoder::decode(decoder, tokens)
                .map_err(|cause| Error::model(format!("the tokenizer fails: {cause}"))),
            None => Ok(tokens.join(" ")),
        }
    }
}

fn role<'a>(roles: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    match roles.get(name)? {
        Value::String(token) => Some(token),
        Value::Object(token) => token.get("content")?.as_str(),
        _ => None,
    }
}

/// What the library's `clean_up_tokenization` makes of a text, in its order.
fn cleaned_up(text: String) -> String {
    const SPACED: &[(&str, &str)] = &[
        (" .", "."),
        (" ?", "?"),
        (" !", "!"),
        (" ,", ","),
        (" ' ", "'"),
        (" n't", "n't"),
        (" 'm", "'m"),
        (" 's", "'s"),
        (" 've", "'ve"),
        (" 're", "'re"),
    ];
    let clean = |text: String, (spaced, tight): &(&str, &str)| text.replace(spaced, tight);
    SPACED.iter().fold(text, clean)
}

/// Whether `attention_mask` is among what the library's tokenizer gives: SigLIP's is the one that gives none.
fn gives_mask(config: &Map<String, Value>) -> bool {
    match config.get("model_input_names").and_then(Value::as_array) {
        Some(names) => names.iter().any(|name| name == "attention_mask"),
        None => {
            let class = config.get("tokenizer_class").and_then(Value::as_str);
            !class.is_some_and(|class| class.starts_with("Siglip"))
        }
    }
}

/// The least of what tokenizer, network and sentence-transformers allow.
fn most_tokens(pretrained: &Pretrained, config: &Map<String, Value>) -> usize {
    let stated = |value: Option<&Value>| {
        let number = value.and_then(Value::as_f64).filter(|number| *number < NO_LIMIT);
        number.map(|number| number as usize).filter(|number| *number > 0)
    };
    // Of models with a tower for images too, the tower for texts says so.
    let tower = pretrained.config.get("text_config").and_then(Value::as_object);
    let network = tower.unwrap_or(&pretrained.config);
    let positions = ["max_position_embeddings", "n_positions"]
        .into_iter()
        .find_map(|name| stated(network.get(name)))
        .map(|positions| match pretrained.model_type.as_str() {
            // Positions begin after that of the padding token.
            "roberta" | "xlm-roberta" | "camembert" | "mpnet" => {
                let padding = pretrained.config.get("pad_token_id").and_then(Value::as_u64);
                positions.saturating_sub(padding.unwrap_or(1) as usize + 1).max(1)
            }
            _ => positions,
        });
    let sentence = pretrained
        .sentence
        .as_ref()
        .and_then(|sentence| sentence.max_tokens);
    [positions, sentence.or(stated(config.get("model_max_length")))]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(OTHERWISE)
}

/// Files below a folder.
struct Folder<'a> {
    files: &'a ModelFiles,
    root: &'a str,
}

impl<'a> Folder<'a> {
    fn file(&self, name: &str) -> Option<&'a bytes::Bytes> {
        self.files.files.get(&format!("{}{name}", self.root))
    }

    /// A JSON object; empty where there is no such file.
    fn object(&self, name: &str) -> Result<Map<String, Value>> {
        match self.file(name) {
            None => Ok(Map::new()),
            Some(bytes) => serde_json::from_slice(bytes).map_err(|cause| unreadable(self, name, &cause)),
        }
    }
}

fn unreadable(folder: &Folder, name: &str, cause: &dyn std::fmt::Display) -> Error {
    Error::model(format!("the file can't be read: {cause}")).with("file", format!("{}{name}", folder.root))
}

/// BERT's tokenizer, from a list of word pieces, one a line.
fn word_pieces(
    folder: &Folder,
    vocabulary: &[u8],
    config: &Map<String, Value>,
    roles: &Map<String, Value>,
) -> Result<tokenizers::Tokenizer> {
    let failed = |cause: &dyn std::fmt::Display| unreadable(folder, "vocab.txt", cause);
    let vocabulary = std::str::from_utf8(vocabulary).map_err(|cause| failed(&cause))?;
    let pieces = vocabulary
        .lines()
        .enumerate()
        .map(|(id, piece)| (piece.trim_end().to_string(), id as u32));
    let unknown = role(roles, "unk_token").unwrap_or("[UNK]");
    let model = WordPiece::builder()
        .vocab(pieces.collect::<Vocab>())
        .unk_token(unknown.to_string())
        .build()
        .map_err(|cause| failed(&cause))?;
    let flag = |name: &str, otherwise: bool| config.get(name).and_then(Value::as_bool).unwrap_or(otherwise);
    let lower = flag("do_lower_case", true);
    let accents = config.get("strip_accents").and_then(Value::as_bool);
    let mut tokenizer = tokenizers::Tokenizer::new(model);
    tokenizer
        .with_normalizer(Some(BertNormalizer::new(
            true,
            flag("tokenize_chinese_chars", true),
            accents,
            lower,
        )))
        .map_err(|cause| failed(&cause))?
        .with_pre_tokenizer(Some(BertPreTokenizer))
        .with_decoder(Some(tokenizers::decoders::wordpiece::WordPiece::default()));
    let special = |name: &str, otherwise: &str| -> Result<(String, u32)> {
        let token = role(roles, name).unwrap_or(otherwise).to_string();
        let id = tokenizer.token_to_id(&token);
        let id = id.ok_or_else(|| failed(&format!("it has no {token}")))?;
        Ok((token, id))
    };
    let (sep, cls) = (special("sep_token", "[SEP]")?, special("cls_token", "[CLS]")?);
    tokenizer.with_post_processor(Some(BertProcessing::new(sep, cls)));
    add_special(
        &mut tokenizer,
        roles,
        &["[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]"],
    )?;
    Ok(tokenizer)
}

/// RoBERTa's tokenizer, from byte-level pieces and the merges that make them.
fn byte_pairs(folder: &Folder, roles: &Map<String, Value>) -> Result<tokenizers::Tokenizer> {
    let (Some(vocabulary), Some(merges)) = (folder.file("vocab.json"), folder.file("merges.txt")) else {
        return Err(Error::model(
            "the folder has no tokenizer: neither tokenizer.json, nor vocab.txt, nor vocab.json with merges.txt",
        )
        .with_hint("write tokenizer.json in Python: AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"));
    };
    let vocabulary: std::collections::BTreeMap<String, u32> =
        serde_json::from_slice(vocabulary).map_err(|cause| unreadable(folder, "vocab.json", &cause))?;
    let failed = |cause: &dyn std::fmt::Display| unreadable(folder, "merges.txt", cause);
    let merges = std::str::from_utf8(merges).map_err(|cause| failed(&cause))?;
    let pairs = merges
        .lines()
        .filter(|line| !line.starts_with("#version") && !line.is_empty());
    let pairs = pairs
        .map(|line| match line.split_once(' ') {
            Some((left, right)) => Ok((left.to_string(), right.to_string())),
            None => Err(failed(&format!("{line:?} is no pair"))),
        })
        .collect::<Result<Vec<_>>>()?;
    let model = BPE::builder()
        .vocab_and_merges(vocabulary.into_iter().collect::<Vocab>(), pairs)
        .build()
        .map_err(|cause| failed(&cause))?;
    let mut tokenizer = tokenizers::Tokenizer::new(model);
    let space = roles
        .get("add_prefix_space")
        .and_then(Value::as_bool)
        .unwrap_or(false);
    tokenizer
        .with_pre_tokenizer(Some(ByteLevel::new(space, true, true)))
        .with_decoder(Some(ByteLevel::default()));
    let special = |name: &str, otherwise: &str| -> Result<(String, u32)> {
        let token = role(roles, name).unwrap_or(otherwise).to_string();
        let id = tokenizer.token_to_id(&token);
        let id = id.ok_or_else(|| unreadable(folder, "vocab.json", &format!("it has no {token}")))?;
        Ok((token, id))
    };
    let (sep, cls) = (special("sep_token", "</s>")?, special("cls_token", "<s>")?);
    tokenizer.with_post_processor(Some(
        RobertaProcessing::new(sep, cls)
            .trim_offsets(true)
            .add_prefix_space(space),
    ));
    add_special(
        &mut tokenizer,
        roles,
        &["<s>", "</s>", "<unk>", "<pad>", "<mask>"],
    )?;
    Ok(tokenizer)
}

fn add_special(
    tokenizer: &mut tokenizers::Tokenizer,
    roles: &Map<String, Value>,
    usual: &[&str],
) -> Result<()> {
    let named = [
        "unk_token",
        "sep_token",
        "pad_token",
        "cls_token",
        "mask_token",
        "bos_token",
        "eos_token",
    ];
    let tokens = named
        .iter()
        .filter_map(|name| role(roles, name))
        .chain(usual.iter().copied());
    let mut tokens: Vec<&str> = tokens
        .filter(|token| tokenizer.token_to_id(token).is_some())
        .collect();
    tokens.sort_unstable();
    tokens.dedup();
    // RoBERTa's mask takes the space before it.
    let added = tokens
        .into_iter()
        .map(|token| AddedToken::from(token, true).lstrip(token == "<mask>"));
    tokenizer
        .add_special_tokens(added.collect::<Vec<_>>())
        .map_err(|cause| Error::model(format!("the special tokens don't fit the vocabulary: {cause}")))?;
    Ok(())
}
