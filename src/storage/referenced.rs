//! Files that cells of a column name: fetched one by one, from nowhere but where they may lie.
//!
//! A cell is foreign text. It may name a file below one location that the job gives (relative to it, or by its full path or
//! URL), or on a Snowflake stage; nothing else: no `..`, no other host or bucket, no link that leads out of a local folder,
//! no device or pipe, no file above a size. What is wrong with one cell is `Data`; a store that fails is not.
//!
//! A file is found first and read then: between the two its size is known and nothing of it in memory.

use bytes::Bytes;
use object_store::{GetResult, ObjectStoreExt};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OnceCell;

use super::fault::{explain, is_not_found};
use super::location::Location;
use super::open::Storage;
use crate::error::{Error, ErrorKind, Result, ResultExt};

/// Largest file that is fetched.
pub const MAX_FILE_BYTES: u64 = 64 << 20;

/// Longest path that is taken for one.
const MAX_PATH_BYTES: usize = 4096;

/// Where files may lie, and how they are reached.
pub struct Referenced {
    storage: Storage,
    root: Location,
    /// Stages that cells named, opened once each.
    stages: Mutex<BTreeMap<String, Arc<OnceCell<Location>>>>,
}

/// A file that a cell names, asked for and not read yet.
pub struct Found {
    size: u64,
    body: Body,
}

enum Body {
    Local(std::fs::File),
    Object {
        answer: Box<GetResult>,
        path: String,
        location: String,
    },
}

/// Where a cell says that its file is.
#[derive(Debug, PartialEq, Eq)]
enum Place<'a> {
    /// Below the location.
    Below(&'a str),
    /// On a stage: its name, and the path there.
    Stage(&'a str, &'a str),
}

impl Referenced {
    /// Files below `root` and on stages.
    pub fn new(storage: Storage, root: Location) -> Referenced {
        Referenced {
            storage,
            root,
            stages: Mutex::default(),
        }
    }

    /// The file that a cell names.
    ///
    /// # Errors
    /// `Data`, for a name that is not allowed, a file that is not there or too large; else what the store says.
    pub async fn find(&self, name: &str) -> Result<Found> {
        match self.place(name)? {
            Place::Below(path) => find_in(&self.root, path).await,
            Place::Stage(stage, path) => {
                let cell = {
                    let mut stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
                    stages.entry(stage.to_string()).or_default().clone()
                };
                let location = cell.get_or_try_init(|| self.storage.open(stage)).await?;
                find_in(location, path).await
            }
        }
    }

    fn place<'a>(&self, name: &'a str) -> Result<Place<'a>> {
        if name.is_empty() || name.len() > MAX_PATH_BYTES {
            return Err(refused("it is empty, or too long for a path"));
        }
        let (place, path) = if name.starts_with('@') {
            let end = end_of_stage(name).ok_or_else(|| refused("a stage is named, but no file on it"))?;
            let path = &name[end + 1..];
            (Place::Stage(&name[..end], path), path)
        } else {
            let path = self.below_root(name)?;
            (Place::Below(path), path)
        };
        let is_plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
        match path.split('/').all(is_plain) {
            true => Ok(place),
            false => Err(refused("it has an empty part, . or ..")),
        }
    }

    /// The path relative to the location.
    fn below_root<'a>(&self, name: &'a str) -> Result<&'a str> {
        let outside = || {
            refused("it lies outside of the location")
                .with_hint("give the folder that holds the files: input.column_handling.<column>.location")
        };
        let inside = |root: &str| {
            let rest = name.strip_prefix(root.trim_end_matches('/'))?;
            rest.strip_prefix('/')
        };
        if name.starts_with('/') {
            let local = self.root.local_path().and_then(Path::to_str);
            return local.and_then(inside).ok_or_else(outside);
        }
        if name.contains("://") {
            let local = self.root.local_path().and_then(Path::to_str);
            let by_file_url = local.and_then(|local| inside(&format!("file://{local}")));
            return by_file_url
                .or_else(|| inside(self.root.display()))
                .ok_or_else(outside);
        }
        Ok(name)
    }
}

async fn find_in(location: &Location, path: &str) -> Result<Found> {
    if let Some(folder) = location.local_path() {
        let (folder, path) = (folder.to_path_buf(), path.to_string());
        return apart(move || find_local(&folder, &path)).await;
    }
    let (store, prefix) = location.parts();
    let key = match prefix.as_ref() {
        "" => super::location::parse(path),
        prefix => super::location::parse(&format!("{prefix}/{path}")),
    };
    // What the store can't have as a name is the cell's fault, not the store's.
    let key = key.map_err(|_| refused("it is no name that an object can have"))?;
    let answer = store.get(&key).await;
    let answer = answer.map_err(|error| failed(error, path, location.display()))?;
    Ok(Found {
        size: allowed(answer.meta.size)?,
        body: Body::Object {
            answer: Box::new(answer),
            path: path.to_string(),
            location: location.display().to_string(),
        },
    })
}

impl Found {
    /// How many bytes it has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Its content.
    ///
    /// # Errors
    /// `Data`, when it is not as long any more as it was; else what the store says.
    pub async fn read(self) -> Result<Bytes> {
        let size = self.size;
        let content = match self.body {
            Body::Local(file) => apart(move || read_local(file, size)).await?,
            Body::Object {
                answer,
                path,
                location,
            } => answer
                .bytes()
                .await
                .map_err(|error| failed(error, &path, &location))?,
        };
        match content.len() as u64 == size {
            true => Ok(content),
            false => Err(Error::data(
                "the file that the cell names changed while it was read",
            )),
        }
    }
}

/// Where a call of the operating system may take its time.
async fn apart<T: Send + 'static>(call: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(call)
        .await
        .context(ErrorKind::Internal, "reading a file was cut off")?
}

fn failed(error: object_store::Error, path: &str, location: &str) -> Error {
    match is_not_found(&error) {
        true => missing(),
        false => explain(error, "read", path, location),
    }
}

/// Where the name of a stage ends: at the first slash outside of quotes.
fn end_of_stage(name: &str) -> Option<usize> {
    let mut quoted = false;
    name.char_indices().find_map(|(at, letter)| {
        quoted ^= letter == '"';
        (letter == '/' && !quoted).then_some(at)
    })
}

/// A file below a folder of the local file system, with all links followed first: what counts is where they lead.
fn find_local(folder: &Path, path: &str) -> Result<Found> {
    let root = folder.canonicalize().map_err(failed_here)?;
    let file: PathBuf = root.join(path).canonicalize().map_err(failed_here)?;
    if !file.starts_with(&root) {
        return Err(refused("a link leads out of the location"));
    }
    // Opening a pipe would wait for somebody to write to it.
    let known = file.symlink_metadata().map_err(failed_here)?;
    if !known.is_file() {
        return Err(refused("it is no regular file"));
    }
    let opened = std::fs::File::open(&file).map_err(failed_here)?;
    Ok(Found {
        size: allowed(opened.metadata().map_err(failed_here)?.len())?,
        body: Body::Local(opened),
    })
}

/// No more than one byte beyond `size`, which shows that it has grown.
fn read_local(file: std::fs::File, size: u64) -> Result<Bytes> {
    let mut content = Vec::with_capacity(size as usize + 1);
    file.take(size + 1)
        .read_to_end(&mut content)
        .map_err(failed_here)?;
    Ok(content.into())
}

fn failed_here(error: std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => missing(),
        _ => Error::storage("can't read a file that a cell names").with_source(error),
    }
}

fn refused(why: &str) -> Error {
    Error::data(format!("the cell names no file that may be read: {why}"))
}

fn missing() -> Error {
    Error::data("the file that the cell names is not there")
}

fn allowed(size: u64) -> Result<u64> {
    match size <= MAX_FILE_BYTES {
        true => Ok(size),
        false => Err(Error::data(format!(
            "the file that the cell names has {size} bytes, and {MAX_FILE_BYTES} are the most"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    fn local(folder: &Path) -> Referenced {
        let root = Location::local(folder.to_str().unwrap()).unwrap();
        Referenced::new(Storage::local(), root)
    }

    async fn content(files: &Referenced, name: &str) -> Bytes {
        let found = files.find(name).await.unwrap();
        let size = found.size();
        let content = found.read().await.unwrap();
        assert_eq!(content.len() as u64, size, "{name}");
        content
    }

    async fn refusal(files: &Referenced, name: &str) -> String {
        let error = files.find(name).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Data, "{name}: {error}");
        error.to_string()
    }

    #[tokio::test]
    async fn a_local_file_is_found_by_its_relative_and_its_full_path() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("a b")).unwrap();
        std::fs::write(folder.path().join("a b/é#%2F.jpg"), b"photo").unwrap();
        let files = local(folder.path());
        let full = format!("{}/a b/é#%2F.jpg", folder.path().display());
        for name in ["a b/é#%2F.jpg", &full, &format!("file://{full}")] {
            assert_eq!(content(&files, name).await, &b"photo"[..], "{name}");
        }
    }

    #[tokio::test]
    async fn nothing_outside_of_the_location_is_read_however_it_is_named() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("in");
        std::fs::create_dir(&folder).unwrap();
        std::fs::create_dir(outer.path().join("in_too")).unwrap();
        for secret in ["secret", "in_too/secret"] {
            std::fs::write(outer.path().join(secret), b"secret").unwrap();
        }
        std::os::unix::fs::symlink(outer.path(), folder.join("up")).unwrap();
        std::os::unix::fs::symlink(outer.path().join("secret"), folder.join("link")).unwrap();
        let files = local(&folder);
        let secret = format!("{}/secret", outer.path().display());
        let beside = format!("{}_too/secret", folder.display());
        let through = format!("{}/../secret", folder.display());
        for name in [
            "../secret",
            "a/../../secret",
            "/etc/passwd",
            &secret,
            &beside,
            &through,
            "up/secret",
            "link",
            "",
            ".",
            "a//b",
            "./link",
            "file:///etc/passwd",
            "http://169.254.169.254/latest",
            "s3://bucket/x",
            "@stage",
            "\0",
        ] {
            let error = refusal(&files, name).await;
            assert!(!error.contains("is not there"), "{name}: {error}");
        }
        assert!(refusal(&files, "none").await.contains("is not there"));
        assert!(refusal(&files, "none/none").await.contains("is not there"));
    }

    #[tokio::test]
    async fn only_regular_files_of_some_size_are_read() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("folder")).unwrap();
        let large = std::fs::File::create(folder.path().join("large")).unwrap();
        large.set_len(MAX_FILE_BYTES + 1).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
        let files = local(folder.path());
        assert!(refusal(&files, "folder").await.contains("no regular file"));
        assert!(refusal(&files, "socket").await.contains("no regular file"));
        assert!(refusal(&files, "large").await.contains("are the most"));
    }

    #[tokio::test]
    async fn a_file_that_grows_or_shrinks_between_finding_and_reading_is_an_error_of_its_row() {
        let folder = tempfile::tempdir().unwrap();
        let files = local(folder.path());
        for now in [&b"longer"[..], b"", b"foto"] {
            std::fs::write(folder.path().join("a"), b"photo").unwrap();
            let found = files.find("a").await.unwrap();
            std::fs::write(folder.path().join("a"), now).unwrap();
            let error = found.read().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Data);
            assert!(error.to_string().contains("changed while it was read"), "{error}");
        }
    }

    #[tokio::test]
    async fn objects_of_a_store_are_found_below_the_location_alone() {
        let store = Arc::new(InMemory::new());
        store
            .put(&"bucket/in/a.png".into(), "photo".into())
            .await
            .unwrap();
        store
            .put(&"bucket/out/a.png".into(), "secret".into())
            .await
            .unwrap();
        let root = Location::within(store, "bucket/in", "s3://bucket/in/").unwrap();
        let files = Referenced::new(Storage::local(), root);
        for name in ["a.png", "s3://bucket/in/a.png"] {
            assert_eq!(content(&files, name).await, &b"photo"[..], "{name}");
        }
        for name in [
            "../out/a.png",
            "s3://bucket/out/a.png",
            "s3://bucket/in/../out/a.png",
            "s3://other/in/a.png",
        ] {
            assert!(refusal(&files, name).await.contains("may be read"), "{name}");
        }
        assert!(refusal(&files, "b.png").await.contains("is not there"));
    }

    #[test]
    fn a_stage_ends_at_the_first_slash_outside_of_quotes() {
        assert_eq!(end_of_stage("@db.s.stage/a/b.png"), Some(11));
        assert_eq!(end_of_stage("@\"my/db\".s.stage/a"), Some(16));
        assert_eq!(end_of_stage("@db.s.stage"), None);
    }
}
