//! File systems: what a folder allows beyond what objects need.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Answer, Bench, killed};
use crate::error::{Error, Result};
use crate::storage::mount::{close, file_system as kind_of};

/// How long a closed file is waited for.
const SEEN_WITHIN: Duration = Duration::from_secs(10);

pub async fn file_system(bench: &Bench) -> Result<Answer> {
    in_folder(bench, "kind", |folder| {
        let kind = kind_of(folder).unwrap_or_else(|| "unknown".to_string());
        Ok(Answer::Holds(kind))
    })
    .await
}

pub async fn seen_at_close(bench: &Bench) -> Result<Answer> {
    in_folder(bench, "close", |folder| {
        let path = folder.join("file");
        let mut file = File::create(&path)?;
        file.write_all(b"written")?;
        let before = std::fs::metadata(&path).map(|metadata| metadata.len());
        close(file)?;
        let closed = Instant::now();
        while std::fs::read(&path).ok().as_deref() != Some(b"written") {
            if closed.elapsed() > SEEN_WITHIN {
                return Ok(Answer::Fails(format!("not seen {SEEN_WITHIN:?} after the close")));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(match (before, closed.elapsed()) {
            (Ok(size), _) => Answer::Fails(format!("seen before the close already, with {size} of 7 bytes")),
            (Err(_), late) if late > Duration::from_millis(20) => {
                Answer::Holds(format!("{late:.1?} after the close"))
            }
            (Err(_), _) => Answer::holds(),
        })
    })
    .await
}

pub async fn file_sync(bench: &Bench) -> Result<Answer> {
    in_folder(bench, "sync", |folder| {
        let mut file = File::create(folder.join("file"))?;
        file.write_all(b"x")?;
        allows(file.sync_all())
    })
    .await
}

pub async fn folder_sync(bench: &Bench) -> Result<Answer> {
    in_folder(bench, "sync-folder", |folder| {
        allows(File::open(folder).and_then(|folder| folder.sync_all()))
    })
    .await
}

pub async fn hard_link(bench: &Bench) -> Result<Answer> {
    in_folder(bench, "link", |folder| {
        std::fs::write(folder.join("one"), "linked")?;
        allows(std::fs::hard_link(folder.join("one"), folder.join("other")))
    })
    .await
}

pub async fn rename(bench: &Bench) -> Result<Answer> {
    in_folder(bench, "rename", |folder| {
        std::fs::write(folder.join("new"), "new")?;
        std::fs::write(folder.join("old"), "old")?;
        if let Err(error) = std::fs::rename(folder.join("new"), folder.join("old")) {
            return allows(Err(error));
        }
        Ok(
            match (
                folder.join("new").exists(),
                std::fs::read(folder.join("old"))?.as_slice(),
            ) {
                (false, b"new") => Answer::holds(),
                _ => Answer::Fails("both names are there, or the old file".to_string()),
            },
        )
    })
    .await
}

pub async fn exclusive_open(bench: &Bench) -> Result<Answer> {
    const OPENERS: usize = 16;
    in_folder(bench, "exclusive", |folder| {
        let path = folder.join("file");
        let open = || {
            let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
            file.write_all(b"x")?;
            // The others come while it is open.
            std::thread::sleep(Duration::from_millis(20));
            close(file)
        };
        let winners = std::thread::scope(|scope| {
            let openers: Vec<_> = (0..OPENERS).map(|_| scope.spawn(open)).collect();
            let opened = openers.into_iter().map(|opener| opener.join());
            opened.filter(|opened| matches!(opened, Ok(Ok(())))).count()
        });
        Ok(match winners {
            1 => Answer::holds(),
            winners => Answer::Fails(format!("{winners} of {OPENERS} succeeded")),
        })
    })
    .await
}

pub async fn append(bench: &Bench) -> Result<Answer> {
    in_folder(bench, "append", |folder| {
        let path = folder.join("file");
        std::fs::write(&path, "one")?;
        let appended = OpenOptions::new().append(true).open(&path).and_then(|mut file| {
            file.write_all(b"two")?;
            close(file)
        });
        holds_after(appended, &path, b"onetwo")
    })
    .await
}

pub async fn random_write(bench: &Bench) -> Result<Answer> {
    in_folder(bench, "random", |folder| {
        let path = folder.join("file");
        std::fs::write(&path, "0123456789")?;
        let written = OpenOptions::new().write(true).open(&path).and_then(|file| {
            file.write_all_at(b"x", 5)?;
            close(file)
        });
        holds_after(written, &path, b"01234x6789")
    })
    .await
}

pub async fn stable_inode(bench: &Bench) -> Result<Answer> {
    in_folder(bench, "inode", |folder| {
        let path = folder.join("file");
        std::fs::write(&path, "x")?;
        let first = std::fs::metadata(&path)?.ino();
        let mut read = String::new();
        File::open(&path)?.read_to_string(&mut read)?;
        let second = std::fs::metadata(&path)?.ino();
        Ok(Answer::unless(
            (first != second).then(|| "each look finds another".to_string()),
        ))
    })
    .await
}

pub async fn folder_removal(bench: &Bench) -> Result<Answer> {
    in_folder(bench, "folders", |folder| {
        let path = folder.join("empty");
        std::fs::create_dir(&path)?;
        allows(std::fs::remove_dir(&path))
    })
    .await
}

pub async fn killed_writer(bench: &Bench) -> Result<Answer> {
    in_folder(bench, "killed", |folder| {
        let path = folder.join("file");
        if !killed::write_and_die(&path)? {
            return Ok(Answer::Skipped("no process could be started".to_string()));
        }
        // What a mount publishes it may publish late.
        let killed = Instant::now();
        while killed.elapsed() < Duration::from_secs(1) {
            if let Ok(metadata) = std::fs::metadata(&path) {
                let whole = killed::WHOLE_BYTES;
                return Ok(Answer::Fails(format!(
                    "it left {} of {whole} bytes",
                    metadata.len()
                )));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Answer::holds())
    })
    .await
}

/// Tries something in a folder of its own.
async fn in_folder(
    bench: &Bench,
    name: &str,
    work: impl FnOnce(&Path) -> io::Result<Answer> + Send + 'static,
) -> Result<Answer> {
    let Some(root) = bench.place.local_path() else {
        return Ok(Answer::Skipped("not a folder".to_string()));
    };
    let folder: PathBuf = root.join("files").join(name);
    let tried = tokio::task::spawn_blocking(move || {
        std::fs::create_dir_all(&folder)?;
        // On a mount a folder may be there only because of what lies in it.
        std::fs::write(folder.join("kept"), "x")?;
        work(&folder)
    });
    let answer = tried
        .await
        .unwrap_or_else(|stopped| Err(io::Error::other(stopped)));
    answer.map_err(|error| Error::storage("the folder could not be tried").with_source(error))
}

/// An operation that works or is refused.
fn allows(outcome: io::Result<()>) -> io::Result<Answer> {
    Ok(Answer::unless(outcome.err().map(|error| error.to_string())))
}

/// An operation that works, and then the file holds `body`; or is refused, and then the file may hold anything.
fn holds_after(outcome: io::Result<()>, path: &Path, body: &[u8]) -> io::Result<Answer> {
    if let Err(error) = outcome {
        return allows(Err(error));
    }
    Ok(match std::fs::read(path) {
        Ok(stored) if stored == body => Answer::holds(),
        Ok(_) => Answer::Fails("no error, and the file was not changed so".to_string()),
        Err(error) if error.kind() == ErrorKind::NotFound => Answer::Fails("the file is gone".to_string()),
        Err(error) => return Err(error),
    })
}
