//! Bringing the files of a model: what may be a model or its card in full, of the rest as much as tells what it is.
//!
//! A model folder is as untrusted as the model in it, and often holds more than the model: weights in other formats,
//! libraries, a repository's history. Sizes are checked before anything is read, and links that lead out of the folder
//! are not followed. Everything is read once, so what was checked is what is run.

use bytes::Bytes;
use std::collections::BTreeSet;
use std::path::Path;

use super::{ModelFiles, card, foreign};
use crate::config::Backend;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::storage::{Listed, Location, Storage};

/// Largest ONNX file: protobuf allows no larger message.
pub const MAX_FILE_BYTES: u64 = (2 << 30) - 1;
/// Largest document of a pretrained model: vocabularies of a quarter million pieces have 20 MB.
const MAX_DOCUMENT_BYTES: u64 = 64 << 20;
/// Safetensors of so many bytes are read whoever computes: dense layers come with a graph, too.
const SMALL_WEIGHTS_BYTES: u64 = 64 << 20;
/// Documents of pretrained models, by the end of their paths.
const DOCUMENTS: &[&str] = &[
    "config.json",
    "modules.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "preprocessor_config.json",
    "model.safetensors.index.json",
    "config_sentence_transformers.json",
    "model.yaml",
    "manifest.yml",
];
/// Most bytes of all model files in a folder.
const MAX_TOTAL_BYTES: u64 = 16 << 30;
/// Most files in a folder.
const MAX_FILES: usize = 10_000;
/// Deepest folders.
const MAX_DEPTH: usize = 32;
/// What is read of either end of a file that can be no model: enough to tell its format.
const SAMPLE_BYTES: u64 = 64 << 10;

/// Reads the model at `location`, a folder or a file. Of a pretrained model the weights that `backend` computes with.
///
/// # Errors
/// `Config` when nothing is there; `Model` when the folder is not one that a model has; `Storage`.
pub async fn read(storage: &Storage, location: &str, backend: Option<Backend>) -> Result<ModelFiles> {
    read_within(storage, location, backend, MAX_FILES, MAX_FILE_BYTES)
        .await
        .map_err(|error| error.with("model", location))
}

async fn read_within(
    storage: &Storage,
    location: &str,
    backend: Option<Backend>,
    max_files: usize,
    max_file_bytes: u64,
) -> Result<ModelFiles> {
    let place = storage.open(location).await?;
    if let Some(folder) = place.local_path().filter(|path| path.is_dir()) {
        check_folder(folder, max_files)?;
    }
    let mut listed = place.list().await?;
    listed.retain(|file| !file.path.split('/').any(is_hidden));
    if listed.len() > max_files {
        return Err(too_many(max_files));
    }
    // A single file may be a model whatever it is called.
    let alone = listed.iter().filter(|file| file.path != card::FILE_NAME).count() == 1;
    let mut files = ModelFiles {
        location: location.to_string(),
        ..ModelFiles::default()
    };
    let mut total = 0;
    let wanted: Vec<Wanted> = {
        let paths = listed.iter().map(|file| file.path.as_str()).collect();
        let of = |file: &Listed| Wanted::of(file, &paths, backend, max_file_bytes);
        listed.iter().map(of).collect()
    };
    for (file, wanted) in std::iter::zip(listed, wanted) {
        let limit = match wanted {
            Wanted::Whole { limit } => limit,
            Wanted::Sample => max_file_bytes,
        };
        let is_whole = wanted != Wanted::Sample;
        if file.size > limit && is_whole {
            return Err(
                Error::model(format!("the file has {} bytes, and may have {limit}", file.size))
                    .with("file", &file.path),
            );
        }
        let sampled = match is_whole || alone && file.size <= limit {
            true => None,
            false => Some(sample(&place, &file).await?),
        };
        // Trees are told by their first bytes: their files are called .json and .txt like many others.
        let is_sample = sampled
            .as_ref()
            .is_some_and(|bytes| file.size > limit || !foreign::is_ensemble(bytes));
        let bytes = if !is_sample {
            total += file.size;
            if total > MAX_TOTAL_BYTES {
                return Err(Error::model(format!(
                    "the folder's model files have more than {MAX_TOTAL_BYTES} bytes in all"
                ))
                .with_hint("is it really the model's folder?"));
            }
            whole(&place, &file).await?
        } else {
            sampled.unwrap_or_default()
        };
        files.files.insert(file.path, bytes);
    }
    Ok(files)
}

/// How much of a file is brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// All of it, if it has no more bytes than this.
    Whole { limit: u64 },
    /// Its ends, unless they are those of trees.
    Sample,
}

impl Wanted {
    /// Goes by names alone: nothing has been read yet.
    fn of(file: &Listed, all: &BTreeSet<&str>, backend: Option<Backend>, max_file_bytes: u64) -> Wanted {
        let path = file.path.to_ascii_lowercase();
        let name = path.rsplit('/').next().unwrap_or(&path);
        if is_card(&path) {
            return Wanted::Whole {
                limit: card::MAX_BYTES as u64,
            };
        }
        let is_setting = name.starts_with("sentence_") && name.ends_with("_config.json");
        if DOCUMENTS.contains(&name) || is_setting {
            return Wanted::Whole {
                limit: MAX_DOCUMENT_BYTES,
            };
        }
        let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let beside = |folder: &str, name: &str| match folder {
            "" => all.contains(name),
            folder => all.contains(format!("{folder}/{name}").as_str()),
        };
        let has_weights = |folder: &str| {
            ["model.safetensors", "model.safetensors.index.json"]
                .iter()
                .any(|name| beside(folder, name))
        };
        let is_pretrained = |folder: &str| beside(folder, "config.json");
        let by_graph = backend == Some(Backend::Onnx);
        if name.ends_with(".onnx") {
            // A repository has several exports of what its safetensors hold.
            let above = folder
                .strip_suffix("onnx")
                .map(|above| above.trim_end_matches('/'));
            let is_left_aside =
                above.is_some_and(|above| is_pretrained(above) && has_weights(above)) && !by_graph;
            return match is_left_aside {
                true => Wanted::Sample,
                false => Wanted::Whole {
                    limit: max_file_bytes,
                },
            };
        }
        if name.ends_with(".safetensors") && is_pretrained(folder) {
            let has_graph = beside(folder, "model.onnx") || beside(folder, "onnx/model.onnx");
            return match by_graph && has_graph && file.size > SMALL_WEIGHTS_BYTES {
                true => Wanted::Sample,
                false => Wanted::Whole {
                    limit: MAX_TOTAL_BYTES,
                },
            };
        }
        Wanted::Sample
    }
}

fn is_hidden(segment: &str) -> bool {
    segment.starts_with('.')
}

/// A card by its name or by one that is easily mistaken for it.
fn is_card(path: &str) -> bool {
    ["floe.yaml", "floe.yml", "floe.json"].contains(&path.to_ascii_lowercase().as_str())
}

async fn whole(place: &Location, file: &Listed) -> Result<Bytes> {
    place.read_all(file, u64::MAX).await.map_err(changed)
}

/// Both ends of a file, one behind the other.
async fn sample(place: &Location, file: &Listed) -> Result<Bytes> {
    if file.size <= 2 * SAMPLE_BYTES {
        return whole(place, file).await;
    }
    let ends = [0..SAMPLE_BYTES, file.size - SAMPLE_BYTES..file.size];
    let ends = place
        .read_ranges(&file.path, file.etag.as_deref(), &ends)
        .await
        .map_err(changed)?;
    Ok(ends.concat().into())
}

/// For a model there is no plan that a change would contradict.
fn changed(error: Error) -> Error {
    match error.kind() {
        ErrorKind::InputChanged => Error::model("the model's files changed while they were read")
            .with_source(error)
            .with_hint("start again when they are complete"),
        _ => error,
    }
}

/// Looks through a local folder before it is listed: a listing follows links.
fn check_folder(root: &Path, max_files: usize) -> Result<()> {
    let canonical = root
        .canonicalize()
        .context(ErrorKind::Storage, "can't find the model's folder")?;
    let mut folders = vec![(root.to_path_buf(), 0)];
    let mut files = 0;
    while let Some((folder, depth)) = folders.pop() {
        let unreadable = || "can't look through the model's folder";
        for entry in std::fs::read_dir(&folder).context(ErrorKind::Storage, unreadable())? {
            let entry = entry.context(ErrorKind::Storage, unreadable())?;
            let path = entry.path();
            if entry.file_name().to_str().is_some_and(is_hidden) {
                continue;
            }
            let kind = entry.file_type().context(ErrorKind::Storage, unreadable())?;
            files += 1;
            if files > max_files {
                return Err(too_many(max_files));
            }
            if kind.is_symlink() {
                check_link(&path, root, &canonical)?;
            } else if kind.is_dir() && depth == MAX_DEPTH {
                return Err(Error::model(format!(
                    "the model's folder has folders more than {MAX_DEPTH} deep"
                ))
                .with_hint("is it really the model's folder?"));
            } else if kind.is_dir() {
                folders.push((path, depth + 1));
            }
        }
    }
    Ok(())
}

/// A link may lead to a file of the folder, or to a folder in it that is not above the link.
fn check_link(link: &Path, root: &Path, canonical: &Path) -> Result<()> {
    let shown = link.strip_prefix(root).unwrap_or(link).display();
    let refused = |why: &str| {
        Error::model(format!("{shown} in the model's folder is a link {why}"))
            .with_hint("put the file itself there (cp -L), or give the path of the model file alone")
    };
    let Ok(target) = link.canonicalize() else {
        return Err(refused("to nothing"));
    };
    if !target.starts_with(canonical) {
        return Err(refused("that leads out of it"));
    }
    let is_round = link
        .parent()
        .and_then(|folder| folder.canonicalize().ok())
        .is_some_and(|folder| folder.starts_with(&target));
    if is_round {
        return Err(refused("that leads back to where it is"));
    }
    Ok(())
}

fn too_many(limit: usize) -> Error {
    Error::model(format!("the model's folder holds more than {limit} files"))
        .with_hint("is it really the model's folder?")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn read_folder(folder: &Path) -> Result<ModelFiles> {
        read_limited(folder, MAX_FILES, MAX_FILE_BYTES)
    }

    fn read_limited(folder: &Path, max_files: usize, max_file_bytes: u64) -> Result<ModelFiles> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(read_within(
            &Storage::local(),
            folder.to_str().unwrap(),
            None,
            max_files,
            max_file_bytes,
        ))
    }

    #[test]
    fn of_files_that_are_no_model_only_both_ends_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
        let large = [&b"first"[..], &vec![0; 1 << 20], b"last"].concat();
        write("model.onnx", &large);
        write("libonnxruntime.so", &large);
        write("floe.yaml", &vec![b'#'; 1 << 20]);
        write(".hidden", &large);
        let files = read_folder(folder.path()).unwrap().files;
        let sizes: Vec<_> = files
            .iter()
            .map(|(path, bytes)| (path.as_str(), bytes.len()))
            .collect();
        assert_eq!(
            sizes,
            [
                ("floe.yaml", 1 << 20),
                ("libonnxruntime.so", 128 << 10),
                ("model.onnx", large.len())
            ]
        );
        let sample = &files["libonnxruntime.so"];
        assert!(sample.starts_with(b"first") && sample.ends_with(b"last"));
    }

    #[test]
    fn a_file_alone_is_read_in_full_whatever_it_is_called() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("model"), vec![8; 1 << 20]).unwrap();
        let by_folder = read_folder(folder.path()).unwrap();
        let by_file = read_folder(&folder.path().join("model")).unwrap();
        assert_eq!(by_folder.files["model"].len(), 1 << 20);
        assert_eq!(by_folder.files, by_file.files);
    }

    #[test]
    fn of_a_pretrained_model_documents_and_the_weights_of_the_backend_are_read() {
        let paths = [
            "README.md",
            "config.json",
            "model.safetensors",
            "pytorch_model.bin",
            "onnx/model.onnx",
            "onnx/model_quantized.onnx",
            "2_Dense/config.json",
            "2_Dense/model.safetensors",
            "sentence_bert_config.json",
            "elsewhere/model.safetensors",
            "elsewhere/model.onnx",
        ];
        let read = |backend: Option<Backend>| -> Vec<&str> {
            let of = |path: &&str| {
                let file = Listed {
                    path: path.to_string(),
                    size: if path.starts_with("2_") { 1 << 10 } else { 1 << 30 },
                    etag: None,
                    modified: String::new(),
                };
                Wanted::of(&file, &paths.into(), backend, MAX_FILE_BYTES) != Wanted::Sample
            };
            paths.into_iter().filter(of).collect()
        };
        let documents = [
            "config.json",
            "2_Dense/config.json",
            "2_Dense/model.safetensors",
            "sentence_bert_config.json",
        ];
        let with = |more: &[&'static str]| -> Vec<&str> {
            let is_read = |path: &&str| {
                documents.contains(path) || more.contains(path) || *path == "elsewhere/model.onnx"
            };
            paths.into_iter().filter(is_read).collect()
        };
        for backend in [None, Some(Backend::Candle)] {
            assert_eq!(read(backend), with(&["model.safetensors"]));
        }
        assert_eq!(
            read(Some(Backend::Onnx)),
            with(&["onnx/model.onnx", "onnx/model_quantized.onnx"])
        );
    }

    #[test]
    fn too_much_is_refused_before_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        // A hole: it takes no room on the disk, and would take three gibibytes of memory.
        let file = std::fs::File::create(folder.path().join("model.onnx")).unwrap();
        file.set_len(3 << 30).unwrap();
        let error = read_folder(folder.path()).unwrap_err().to_string();
        assert!(
            error.contains("3221225472 bytes, and may have 2147483647"),
            "{error}"
        );
        assert!(error.contains("file model.onnx"), "{error}");
        for index in 0..3 {
            std::fs::write(folder.path().join(format!("{index}.txt")), "x").unwrap();
        }
        std::fs::write(folder.path().join("floe.yaml"), vec![b'#'; (4 << 20) + 1]).unwrap();
        let error = read_limited(folder.path(), 9, u64::MAX).unwrap_err().to_string();
        assert!(error.contains("may have 4194304 (file floe.yaml)"), "{error}");
        let error = read_limited(folder.path(), 3, u64::MAX).unwrap_err().to_string();
        assert!(error.contains("more than 3 files"), "{error}");
        let deep: std::path::PathBuf = std::iter::repeat_n("d", MAX_DEPTH + 1).collect();
        std::fs::create_dir_all(folder.path().join(deep)).unwrap();
        let error = read_folder(folder.path()).unwrap_err().to_string();
        assert!(error.contains("more than 32 deep"), "{error}");
    }

    #[test]
    fn links_that_lead_out_of_the_folder_or_round_in_it_are_refused() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "x").unwrap();
        for (target, words) in [
            (outside.path().join("secret"), "leads out of it"),
            (outside.path().to_path_buf(), "leads out of it"),
            ("/".into(), "leads out of it"),
            ("../..".into(), "leads out of it"),
            ("nowhere".into(), "to nothing"),
            (".".into(), "leads back to where it is"),
            ("..".into(), "leads back to where it is"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            std::fs::create_dir(folder.path().join("sub")).unwrap();
            symlink(&target, folder.path().join("sub/link")).unwrap();
            let error = read_folder(folder.path()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Model);
            let text = error.to_string();
            assert!(
                text.contains("sub/link") && text.contains(words),
                "{target:?}: {text}"
            );
        }
    }

    #[test]
    fn links_within_the_folder_are_followed() {
        // As Kubernetes mounts a ConfigMap.
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("..2026_01")).unwrap();
        std::fs::write(folder.path().join("..2026_01/model.onnx"), "x").unwrap();
        symlink("..2026_01", folder.path().join("..data")).unwrap();
        symlink("..data/model.onnx", folder.path().join("model.onnx")).unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let link = elsewhere.path().join("way in");
        symlink(folder.path(), &link).unwrap();
        for location in [folder.path(), &folder.path().join("model.onnx"), &link] {
            let files = read_folder(location).unwrap().files;
            assert_eq!(files.keys().collect::<Vec<_>>(), ["model.onnx"], "{location:?}");
        }
    }
}
