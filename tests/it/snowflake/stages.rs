//! What lies behind the gateway's stages: a folder, a bucket with keys that it checks, or signed URLs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::path::Path as StorePath;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::{Value, json};

use super::clouds::Bucket;

/// A stage and what the role may do there.
#[derive(Clone)]
pub struct Stage {
    behind: Behind,
    pub may_read: bool,
    pub may_write: bool,
    /// Files are encrypted by clients.
    pub is_encrypted: bool,
}

#[derive(Clone)]
enum Behind {
    Folder(PathBuf),
    Signed(PathBuf),
    Bucket(Arc<Bucket>, String),
}

/// A file of a stage.
pub struct File {
    /// From the stage's root.
    pub path: String,
    pub size: u64,
    pub md5: String,
    pub modified: String,
}

impl Stage {
    fn new(behind: Behind) -> Stage {
        Stage {
            behind,
            may_read: true,
            may_write: true,
            is_encrypted: false,
        }
    }

    /// A folder that both gateway and client see.
    pub fn folder(path: &Path) -> Stage {
        Stage::new(Behind::Folder(path.to_path_buf()))
    }

    /// A folder that clients reach through signed URLs.
    pub fn signed(path: &Path) -> Stage {
        Stage::new(Behind::Signed(path.to_path_buf()))
    }

    /// A prefix of a bucket.
    pub fn bucket(bucket: &Arc<Bucket>, prefix: &str) -> Stage {
        Stage::new(Behind::Bucket(bucket.clone(), prefix.to_string()))
    }

    pub fn read_only(mut self) -> Stage {
        self.may_write = false;
        self
    }

    /// Not for this role.
    pub fn closed(mut self) -> Stage {
        self.may_read = false;
        self
    }

    pub fn encrypted(mut self) -> Stage {
        self.is_encrypted = true;
        self
    }

    pub fn is_signed(&self) -> bool {
        matches!(self.behind, Behind::Signed(_))
    }

    /// `stageInfo` for a path of the stage.
    pub fn info(&self, path: &str) -> Value {
        let below = |root: &str| format!("{}/", format!("{root}/{path}").trim_end_matches('/'));
        let mut info = match &self.behind {
            Behind::Folder(folder) => {
                json!({"locationType": "LOCAL_FS", "location": below(folder.to_str().unwrap()), "creds": {}})
            }
            Behind::Signed(_) => {
                json!({"locationType": "GCS", "location": below("signed/stages/id"), "creds": {}})
            }
            Behind::Bucket(bucket, prefix) => bucket.info(&below(&format!("{}/{prefix}", bucket.name))),
        };
        let fields = info.as_object_mut().unwrap();
        fields.insert("isClientSideEncrypted".into(), self.is_encrypted.into());
        for (name, value) in [
            ("path", json!("")),
            ("region", json!("")),
            ("endPoint", Value::Null),
            ("storageAccount", Value::Null),
        ] {
            fields.entry(name).or_insert(value);
        }
        info
    }

    pub fn material(&self) -> Value {
        match self.is_encrypted {
            true => {
                json!({"queryStageMasterKey": "c4n4ryMDEyMzQ1Njc4OWFiY2RlZg==", "queryId": "q-1", "smkId": 92019681909886u64})
            }
            false => Value::Null,
        }
    }

    /// Where a file of a folder lies.
    pub fn file(&self, path: &str) -> PathBuf {
        match &self.behind {
            Behind::Folder(folder) | Behind::Signed(folder) => folder.join(path.trim_start_matches('/')),
            Behind::Bucket(..) => panic!("a bucket has no files here"),
        }
    }

    /// Files whose paths begin so, sorted.
    pub async fn list(&self, begin: &str) -> Vec<File> {
        let mut files = match &self.behind {
            Behind::Folder(folder) | Behind::Signed(folder) => files_below(folder),
            Behind::Bucket(bucket, prefix) => {
                let prefix = StorePath::parse(prefix).unwrap();
                let objects: Vec<_> = bucket.store.list(Some(&prefix)).try_collect().await.unwrap();
                let depth = prefix.parts().count();
                let file = |object: &object_store::ObjectMeta| File {
                    path: object
                        .location
                        .as_ref()
                        .split('/')
                        .skip(depth)
                        .collect::<Vec<_>>()
                        .join("/"),
                    size: object.size,
                    md5: object
                        .e_tag
                        .clone()
                        .unwrap_or_default()
                        .trim_matches('"')
                        .to_string(),
                    modified: object
                        .last_modified
                        .format("%a, %d %b %Y %H:%M:%S GMT")
                        .to_string(),
                };
                objects.iter().map(file).collect()
            }
        };
        files.retain(|file| file.path.starts_with(begin));
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files
    }

    pub async fn remove(&self, path: &str) {
        match &self.behind {
            Behind::Bucket(bucket, prefix) => {
                let path = StorePath::parse(format!("{prefix}/{path}")).unwrap();
                bucket.store.delete(&path).await.unwrap();
            }
            _ => std::fs::remove_file(self.file(path)).unwrap(),
        }
    }
}

fn files_below(folder: &Path) -> Vec<File> {
    fn walk(root: &Path, folder: &Path, files: &mut Vec<File>) {
        let Ok(entries) = std::fs::read_dir(folder) else {
            return;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, files);
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            files.push(File {
                path: path.strip_prefix(root).unwrap().to_str().unwrap().to_string(),
                size: bytes.len() as u64,
                // Any checksum of the content does.
                md5: format!("{:016x}", xxhash_rust::xxh3::xxh3_64(&bytes)),
                modified: "Sat, 21 Nov 2026 10:00:00 GMT".to_string(),
            });
        }
    }
    let mut files = Vec::new();
    walk(folder, folder, &mut files);
    files
}
