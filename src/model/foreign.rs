//! Files that are models, or look like it, and that Floe does not read: how each is recognised and the way out.
//!
//! Recognition goes by bytes first and by name only where the bytes say little. Formats that run code when they are
//! read (pickle and all that wrap it) are refused in any case; nothing here parses them.

use crate::error::Error;

/// A format that is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// What it is, with its article.
    pub name: &'static str,
    /// What the user can do.
    pub way_out: &'static str,
}

impl Format {
    /// Whether it says no more than that the file is text, or empty: a reason only if it should be a model.
    pub fn is_text(self) -> bool {
        self == TEXT || self == EMPTY
    }
}

const fn format(name: &'static str, way_out: &'static str) -> Format {
    Format { name, way_out }
}

const EMPTY: Format = format("an empty file", "copy or export the model again");
const LFS_POINTER: Format = format(
    "a Git LFS pointer, not the model itself",
    "fetch the file with `git lfs pull`",
);
const TORCH: Format = format(
    "a PyTorch archive, which holds pickled Python code",
    "save a pretrained model again as safetensors (model.save_pretrained(folder, safe_serialization=True)); export any \
     other with torch.onnx.export(model, example, 'model.onnx', dynamo=True)",
);
/// Code.
pub const PICKLE: Format = format(
    "a Python pickle, which runs code when it is read",
    "load it in Python and export to ONNX: skl2onnx for scikit-learn pipelines, onnxmltools for XGBoost and \
     LightGBM, torch.onnx.export for PyTorch; save pretrained models with save_pretrained",
);
const HDF5: Format = format(
    "an HDF5 file (Keras)",
    "export it with model.export('model.onnx', format='onnx') or tf2onnx",
);
const KERAS: Format = format(
    "a Keras archive",
    "export it with model.export('model.onnx', format='onnx')",
);
/// An XGBoost model in JSON or UBJSON.
pub const XGBOOST: Format = format("an XGBoost model", "leave model.backend out, or set it to trees");
const XGBOOST_OLD: Format = format(
    "an XGBoost model in the binary format that XGBoost gave up in 3.1",
    "load it with an XGBoost before that and save it again: booster.save_model('model.ubj')",
);
/// A LightGBM model in text.
pub const LIGHTGBM: Format = format("a LightGBM model", "leave model.backend out, or set it to trees");
const CATBOOST: Format = format(
    "a CatBoost model",
    "save it with model.save_model('model.onnx', format='onnx')",
);
const SAVED_MODEL: Format = format(
    "a TensorFlow model",
    "convert it with tf2onnx (python -m tf2onnx.convert --saved-model FOLDER --output model.onnx)",
);
const TFLITE: Format = format(
    "a TensorFlow Lite model",
    "convert it with tf2onnx (python -m tf2onnx.convert --tflite FILE --output model.onnx)",
);
const ORT_FORMAT: Format = format(
    "a model in ONNX Runtime's own format (.ort)",
    "give the .onnx file that it was made from",
);
/// Weights as `save_pretrained` writes them.
pub const SAFETENSORS: Format = format(
    "weights in safetensors format, without the config.json that says what they are of",
    "give the folder that save_pretrained wrote, with config.json and the tokenizer or image processor",
);
/// Weights for llama.cpp.
pub const GGUF: Format = format(
    "a GGUF model",
    "give the original model as save_pretrained writes it, or export that to ONNX",
);
const PMML: Format = format("a PMML document", "export the original model to ONNX");
const MLMODEL: Format = format("a Core ML model", "export the original model to ONNX");
const ARCHIVE: Format = format(
    "an archive",
    "unpack it and give the folder that holds the .onnx file",
);
const TEXT: Format = format(
    "a text file",
    "check that the download or copy worked; an ONNX model is binary",
);

/// What `bytes` are, if they are certainly no ONNX model.
pub fn by_bytes(bytes: &[u8]) -> Option<Format> {
    let starts = |magic: &[u8]| bytes.starts_with(magic);
    let at_4 = bytes.get(4..8).unwrap_or_default();
    if bytes.is_empty() {
        return Some(EMPTY);
    }
    if starts(b"version https://git-lfs") {
        return Some(LFS_POINTER);
    }
    if starts(b"PK\x03\x04") {
        return Some(archive(bytes));
    }
    // Protocol 2 to 5; protocol 0 and 1 have no header and are found as text or by name.
    if bytes.len() > 2 && bytes[0] == 0x80 && (2..=5).contains(&bytes[1]) {
        return Some(PICKLE);
    }
    if starts(b"\x89HDF\r\n\x1a\n") {
        return Some(HDF5);
    }
    if starts(b"CBM1") {
        return Some(CATBOOST);
    }
    if starts(b"GGUF") {
        return Some(GGUF);
    }
    if at_4 == b"TFL3" {
        return Some(TFLITE);
    }
    if at_4 == b"ORTM" {
        return Some(ORT_FORMAT);
    }
    if is_safetensors(bytes) {
        return Some(SAFETENSORS);
    }
    if starts(b"{L") || (starts(b"{") && contains(head(bytes, 4096), b"\"learner\"")) {
        return Some(XGBOOST);
    }
    if starts(b"binf") || starts(b"bs64") {
        return Some(XGBOOST_OLD);
    }
    if starts(b"tree\nversion=") || starts(b"tree\r\nversion=") {
        return Some(LIGHTGBM);
    }
    if contains(head(bytes, 1024), b"<PMML") {
        return Some(PMML);
    }
    if starts(b"\x1f\x8b") || starts(b"BZh") || starts(b"\xfd7zXZ\0") || starts(b"\x28\xb5\x2f\xfd") {
        return Some(ARCHIVE);
    }
    if is_text(bytes) {
        return Some(if is_old_pickle(bytes) { PICKLE } else { TEXT });
    }
    None
}

/// What a file of this name usually is, for files whose bytes were not looked at or said nothing.
pub fn by_name(path: &str) -> Option<Format> {
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    Some(match extension {
        "pt" | "pth" | "ckpt" => TORCH,
        "pkl" | "pickle" | "joblib" | "dill" | "cloudpickle" => PICKLE,
        "bin" if name == "pytorch_model.bin" => TORCH,
        "h5" | "hdf5" => HDF5,
        "keras" => KERAS,
        "ubj" | "xgb" => XGBOOST,
        "lgb" => LIGHTGBM,
        "cbm" => CATBOOST,
        "pb" => SAVED_MODEL,
        "tflite" => TFLITE,
        "ort" => ORT_FORMAT,
        "safetensors" => SAFETENSORS,
        "gguf" => GGUF,
        "pmml" => PMML,
        "mlmodel" | "mlpackage" => MLMODEL,
        "zip" | "tar" | "gz" | "tgz" | "mar" => ARCHIVE,
        _ => return None,
    })
}

/// What this version reads, for messages.
pub const READS: &str = "this version reads ONNX models (.onnx), trees of XGBoost (.ubj, .json) and LightGBM (.txt), and \
                         pretrained models of texts and images (folders with config.json and safetensors)";

/// Whether these bytes, or the first kilobytes of them, are a model of trees that is read without ONNX Runtime.
pub fn is_ensemble(bytes: &[u8]) -> bool {
    matches!(by_bytes(bytes), Some(XGBOOST | LIGHTGBM))
}

/// The error for a file of such a format.
pub fn refused(format: Format, path: &str) -> Error {
    Error::model(format!("{path} is {}; {READS}", format.name)).with_hint(format.way_out)
}

fn archive(bytes: &[u8]) -> Format {
    // File names stand in plain text before each entry and in the directory at the end.
    let (first, last) = (head(bytes, 64 << 10), tail(bytes, 64 << 10));
    let names = |name: &[u8]| contains(first, name) || contains(last, name);
    if names(b"data.pkl") || names(b"/data/0") {
        TORCH
    } else if names(b"model.weights.h5") {
        KERAS
    } else {
        ARCHIVE
    }
}

/// Eight bytes of length, then a JSON object of that length.
fn is_safetensors(bytes: &[u8]) -> bool {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return false;
    };
    let length = u64::from_le_bytes(*length);
    // Of a large file there may be no more than its ends; the format allows no longer headers.
    rest.starts_with(b"{")
        && (2..=100_000_000).contains(&length)
        && (length <= rest.len() as u64 || rest.len() > 64 << 10)
}

/// Printable ASCII throughout its first kilobytes. An ONNX file begins with the bytes 08 and a small number.
fn is_text(bytes: &[u8]) -> bool {
    let printable = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | 0x20..=0x7e | 0x80..);
    let start = head(bytes, 2048)
        .strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(head(bytes, 2048));
    start.iter().all(printable)
        && std::str::from_utf8(start).map_or_else(|cut| cut.valid_up_to() + 4 > start.len(), |_| true)
}

/// Pickle protocol 0: its first instruction is `c<module>\n<name>\n` (or comes soon after), its last a full stop.
fn is_old_pickle(bytes: &[u8]) -> bool {
    let start = head(bytes, 256);
    let is_path = |line: &[u8]| {
        !line.is_empty()
            && line
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_.".contains(byte))
    };
    let mut lines = start.split(|byte| *byte == b'\n');
    let imports_first = lines
        .next()
        .and_then(|line| line.strip_prefix(b"c"))
        .is_some_and(is_path)
        && lines.next().is_some_and(is_path);
    let imports = [
        &b"copy_reg\n"[..],
        b"__builtin__\n",
        b"builtins\n",
        b"sklearn.",
        b"numpy.",
    ];
    let imports_soon = imports.iter().any(|import| contains(start, import));
    bytes.trim_ascii_end().ends_with(b".") && (imports_first || imports_soon)
}

fn head(bytes: &[u8], length: usize) -> &[u8] {
    &bytes[..bytes.len().min(length)]
}

fn tail(bytes: &[u8], length: usize) -> &[u8] {
    &bytes[bytes.len().saturating_sub(length)..]
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_recognised_by_their_bytes() {
        let safetensors = [&16u64.to_le_bytes()[..], br#"{"a":{"dtype":1}}"#].concat();
        let torch = [&b"PK\x03\x04\0\0\0\0"[..], b"archive/data.pkl", &[0; 99]].concat();
        for (bytes, expected) in [
            (&b""[..], EMPTY),
            (
                b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n",
                LFS_POINTER,
            ),
            (b"\x80\x04\x95\x10\0\0\0", PICKLE),
            (b"\x80\x02ccollections\nOrderedDict\n", PICKLE),
            (b"ccopy_reg\n_reconstructor\np0\n(csklearn.x\nY\np1\n.", PICKLE),
            (b"cposix\nsystem\np0\n(S'true'\np1\ntp2\nRp3\n.\n", PICKLE),
            (&torch, TORCH),
            (b"PK\x03\x04\0\0model.weights.h5", KERAS),
            (b"PK\x03\x04\0\0saved/model.onnx", ARCHIVE),
            (b"\x89HDF\r\n\x1a\n\0", HDF5),
            (b"{L\0\0\0\0\0\0\0\x07learner", XGBOOST),
            (b"{\"learner\": {\"attributes\": {}}}", XGBOOST),
            (b"tree\nversion=v4\nnum_class=1\n", LIGHTGBM),
            (b"binf\0\0\0\x3f", XGBOOST_OLD),
            (b"CBM1\x10\0\0\0", CATBOOST),
            (b"\x1c\0\0\0TFL3", TFLITE),
            (b"\x18\0\0\0ORTM", ORT_FORMAT),
            (&safetensors, SAFETENSORS),
            (b"GGUF\x03\0\0\0", GGUF),
            (b"<?xml version=\"1.0\"?>\n<PMML xmlns=\"x\">", PMML),
            (b"\x1f\x8b\x08\0", ARCHIVE),
            (b"<!DOCTYPE html><html>not found</html>", TEXT),
            ("une page d\u{e9}j\u{e0} vue\n".as_bytes(), TEXT),
        ] {
            assert_eq!(
                by_bytes(bytes),
                Some(expected),
                "{:?}",
                String::from_utf8_lossy(bytes)
            );
        }
    }

    #[test]
    fn the_start_of_an_onnx_file_is_none_of_them() {
        assert_eq!(by_bytes(b"\x08\x08\x12\x07skl2onnx\x1a\x061.19.1"), None);
        assert_eq!(by_bytes(&[0x0a, 0x05, 0x00, 0xff, 0x10]), None);
    }

    #[test]
    fn names_help_where_bytes_say_nothing() {
        assert_eq!(by_name("sub/model.PKL"), Some(PICKLE));
        assert_eq!(by_name("pytorch_model.bin"), Some(TORCH));
        assert_eq!(by_name("weights.bin"), None);
        assert_eq!(by_name("model.onnx"), None);
    }

    #[test]
    fn the_refusal_names_file_format_and_way_out() {
        let text = refused(PICKLE, "model.pkl").to_string();
        assert!(
            text.starts_with("model.pkl is a Python pickle, which runs code"),
            "{text}"
        );
        assert!(
            text.contains("; load it in Python and export to ONNX: skl2onnx"),
            "{text}"
        );
    }
}
