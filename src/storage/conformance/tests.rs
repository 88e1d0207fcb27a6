//! The suite over stores that are known: good ones, and ones with a fault each, which it must find.

use super::*;
use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path as StorePath;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use std::sync::Arc;

const SMALL: Effort = Effort {
    large_bytes: 200_000,
    many_objects: 30,
    races: 2,
};

async fn check(location: &Location) -> Report {
    let check = Check::new(location, "test", SMALL).unwrap();
    let report = check.run().await;
    assert_eq!(check.clean_up().await.unwrap(), Vec::<String>::new());
    report
}

fn failing(report: &Report) -> Vec<&str> {
    let findings = report.findings.iter();
    let failing = findings.filter(|finding| finding.outcome != Outcome::Holds);
    failing.map(|finding| finding.property).collect()
}

#[tokio::test]
async fn a_store_in_memory_is_of_class_a_and_nothing_stays_there() {
    let memory = Arc::new(InMemory::new());
    memory.put(&"out/own".into(), "kept".into()).await.unwrap();
    let report = check(&Location::within(memory.clone(), "out", "memory").unwrap()).await;
    assert_eq!(failing(&report), Vec::<&str>::new(), "{report:#?}");
    assert_eq!(report.verdict, Verdict::A);
    assert!(
        report.promises[0].contains("every guarantee holds"),
        "{:?}",
        report.promises
    );
    let left: Vec<_> = memory.list(None).collect().await;
    assert_eq!(left.len(), 1, "what was there before, and no more: {left:?}");
}

#[tokio::test]
async fn a_local_folder_is_of_class_a_and_folders_that_were_made_are_gone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("not/yet there");
    let report = check(&Location::local(path.to_str().unwrap()).unwrap()).await;
    // A local file is seen from its first byte, and so is what a killed writer leaves: Floe writes aside there.
    assert_eq!(
        failing(&report),
        ["seen_at_close", "killed_writer"],
        "{report:#?}"
    );
    let killed = report.finding("killed_writer").unwrap();
    assert!(
        killed.detail.contains("1048576 of 2097152 bytes"),
        "{}",
        killed.detail
    );
    assert_eq!(report.verdict, Verdict::A);
    assert!(!folder.path().join("not").exists());
    assert!(folder.path().exists());
}

#[tokio::test]
async fn a_location_that_can_not_be_written_to_is_found_out_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let location = Location::local(file.to_str().unwrap()).unwrap();
    let report = Check::new(&location, "test", SMALL).unwrap().run().await;
    assert_eq!(failing(&report), ["read_after_write"]);
    assert_eq!(report.findings.len(), 1);
    assert_eq!(report.verdict, Verdict::None);
    assert!(report.promises[0].contains("can't work here"));
}

/// What is wrong with a store.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    NoCreate,
    CreateOverwrites,
    /// Each looks first and then writes.
    CreateRaces,
    ListsOnePage,
    ListsLackOne,
    CutsRanges,
    NoEtags,
    IgnoresEtags,
    DeletesNothing,
    /// The first version is what is read.
    KeepsTheFirst,
}

/// A store in memory with one fault.
#[derive(Debug)]
struct Faulty {
    memory: InMemory,
    fault: Fault,
}

impl std::fmt::Display for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(
        &self,
        at: &StorePath,
        payload: PutPayload,
        mut options: PutOptions,
    ) -> object_store::Result<PutResult> {
        if options.mode == PutMode::Create {
            match self.fault {
                Fault::NoCreate => {
                    return Err(object_store::Error::NotImplemented {
                        operation: "create".to_string(),
                        implementer: "Faulty".to_string(),
                    });
                }
                Fault::CreateOverwrites => options.mode = PutMode::Overwrite,
                Fault::CreateRaces if self.memory.head(at).await.is_err() => {
                    tokio::task::yield_now().await;
                    options.mode = PutMode::Overwrite;
                }
                _ => {}
            }
        } else if self.fault == Fault::KeepsTheFirst && self.memory.head(at).await.is_ok() {
            let stored = self.memory.head(at).await?;
            return Ok(PutResult {
                e_tag: stored.e_tag,
                version: None,
                extensions: Default::default(),
            });
        }
        self.memory.put_opts(at, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        at: &StorePath,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.memory.put_multipart_opts(at, options).await
    }

    async fn get_opts(&self, at: &StorePath, mut options: GetOptions) -> object_store::Result<GetResult> {
        if self.fault == Fault::IgnoresEtags {
            options.if_match = None;
        }
        if self.fault == Fault::CutsRanges
            && let Some(object_store::GetRange::Bounded(range)) = &mut options.range
            && range.end - range.start > 4096
        {
            *range = range.start..range.end - 1;
        }
        self.memory.get_opts(at, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<StorePath>>,
    ) -> BoxStream<'static, object_store::Result<StorePath>> {
        match self.fault {
            Fault::DeletesNothing => locations,
            _ => self.memory.delete_stream(locations),
        }
    }

    fn list(&self, prefix: Option<&StorePath>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let fault = self.fault;
        let lacks = usize::from(fault == Fault::ListsLackOne);
        let page = if fault == Fault::ListsOnePage {
            20
        } else {
            usize::MAX
        };
        let objects = self.memory.list(prefix).skip(lacks).take(page);
        let tagged = objects.map(move |object| {
            object.map(|object| ObjectMeta {
                e_tag: object.e_tag.filter(|_| fault != Fault::NoEtags),
                ..object
            })
        });
        tagged.boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&StorePath>) -> object_store::Result<ListResult> {
        self.memory.list_with_delimiter(prefix).await
    }

    async fn copy_opts(
        &self,
        from: &StorePath,
        to: &StorePath,
        options: CopyOptions,
    ) -> object_store::Result<()> {
        self.memory.copy_opts(from, to, options).await
    }
}

#[tokio::test]
async fn every_fault_of_a_store_is_found_and_decides_what_it_must() {
    let cases: [(Fault, &[&str], Verdict); 10] = [
        (Fault::NoCreate, &["create_if_absent", "create_race"], Verdict::B),
        (
            Fault::CreateOverwrites,
            &["create_if_absent", "create_race"],
            Verdict::B,
        ),
        (Fault::CreateRaces, &["create_race"], Verdict::None),
        (Fault::ListsOnePage, &["many_objects"], Verdict::None),
        (Fault::ListsLackOne, &["list_after_write"], Verdict::None),
        (Fault::CutsRanges, &["range_reads"], Verdict::None),
        (
            Fault::NoEtags,
            &["pinned_read", "pinned_read_same_size"],
            Verdict::A,
        ),
        (
            Fault::IgnoresEtags,
            &["pinned_read", "pinned_read_same_size"],
            Verdict::A,
        ),
        (Fault::DeletesNothing, &["list_after_delete"], Verdict::None),
        (Fault::KeepsTheFirst, &["overwrite_is_seen"], Verdict::None),
    ];
    for (fault, found, verdict) in cases {
        let store = Arc::new(Faulty {
            memory: InMemory::new(),
            fault,
        });
        let location = Location::within(store, "out", "faulty").unwrap();
        let report = Check::new(&location, "test", SMALL).unwrap().run().await;
        let failing = failing(&report);
        assert!(
            found.iter().all(|name| failing.contains(name)),
            "{fault:?}: {report:#?}"
        );
        assert_eq!(report.verdict, verdict, "{fault:?}: {report:#?}");
    }
}
