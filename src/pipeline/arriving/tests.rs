//! Files on their way to several workers, from a store that counts what it is asked for.

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, StringArray};
use arrow::datatypes::Int32Type;
use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path as StorePath;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use proptest::prelude::*;
use std::collections::BTreeMap;

use super::*;
use crate::config::{ColumnHandling, FileEncoding, InputFormat};
use crate::origin::Origin;
use crate::pipeline::contents::handled;
use crate::pipeline::gauge::Gauge;
use crate::pipeline::shares::{Share, Work};
use crate::read::Block;
use crate::read::chunk::Decoded;
use crate::storage::{Location, Referenced, Storage};
use crate::telemetry::metrics::Metrics;

/// The columns of paths.
const COLUMNS: [&str; 2] = ["image", "mask"];

/// A store in memory, and how often each object was asked for.
#[derive(Debug, Default)]
struct Counting {
    memory: InMemory,
    gets: Mutex<BTreeMap<String, usize>>,
}

impl std::fmt::Display for Counting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Counting")
    }
}

#[async_trait]
impl ObjectStore for Counting {
    async fn put_opts(
        &self,
        at: &StorePath,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.memory.put_opts(at, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        at: &StorePath,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.memory.put_multipart_opts(at, options).await
    }

    async fn get_opts(&self, at: &StorePath, options: GetOptions) -> object_store::Result<GetResult> {
        *self.gets.lock().unwrap().entry(at.to_string()).or_default() += 1;
        self.memory.get_opts(at, options).await
    }

    fn delete_stream(
        &self,
        places: BoxStream<'static, object_store::Result<StorePath>>,
    ) -> BoxStream<'static, object_store::Result<StorePath>> {
        self.memory.delete_stream(places)
    }

    fn list(&self, prefix: Option<&StorePath>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.memory.list(prefix)
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

/// What a cell names: nothing, a file of so many bytes, or one that is not there.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cell {
    Null,
    File(usize),
    Missing,
}

fn name(row: usize, column: usize) -> String {
    format!("{row}-{column}")
}

fn bytes(row: usize, column: usize, size: usize) -> Vec<u8> {
    vec![(2 * row + column) as u8; size]
}

struct World {
    store: Arc<Counting>,
    contents: Contents,
    rows: RecordBatch,
    admission: Arc<Admission>,
    metrics: Arc<Metrics>,
}

async fn world(cells: &[[Cell; 2]], limit: u64) -> World {
    let store = Arc::new(Counting::default());
    let mut columns: Vec<(String, ArrayRef)> = vec![(
        "id".into(),
        Arc::new(Int32Array::from_iter_values(0..cells.len() as i32)),
    )];
    for (column, title) in COLUMNS.iter().enumerate() {
        let mut paths = Vec::new();
        for (row, cells) in cells.iter().enumerate() {
            if let Cell::File(size) = cells[column] {
                let at = format!("in/{}", name(row, column)).into();
                store.put(&at, bytes(row, column, size).into()).await.unwrap();
            }
            paths.push((cells[column] != Cell::Null).then(|| name(row, column)));
        }
        columns.push((title.to_string(), Arc::new(StringArray::from(paths))));
    }
    let rows = RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, array)| (name, array, true)),
    );
    let rows = rows.unwrap();
    let root = Location::within(store.clone(), "in", "memory://in").unwrap();
    let files = Arc::new(Referenced::new(Storage::local(), root));
    let handling = COLUMNS.map(|column| {
        let handling = ColumnHandling {
            input_format: InputFormat::FullStagePath,
            convert_to: FileEncoding::RawBytes,
            location: None,
        };
        (column.to_string(), handling)
    });
    let handling = BTreeMap::from(handling);
    let schema = Arc::new(handled(&rows.schema(), &handling).unwrap());
    let files = COLUMNS.map(|column| (column.to_string(), files.clone())).into();
    let metrics = Arc::new(Metrics::default());
    let gauge = Gauge::new(0, 1, metrics.clone());
    World {
        store,
        contents: Contents::new(schema, &handling, &files).unwrap().unwrap(),
        rows,
        admission: Admission::new(limit, gauge.in_flight()),
        metrics,
    }
}

impl World {
    fn arriving(&self) -> Arriving {
        Arriving::new(&self.contents, &self.rows, &self.admission).unwrap()
    }

    /// The whole block as a share.
    fn share(&self, batch_rows: usize) -> Share {
        let block = Block {
            columns: Arc::new(Decoded {
                columns: vec![0, 1, 2],
                rewritten: vec![0],
            }),
            origin: Origin::of(&"a.parquet".into(), 0, 0, self.rows.num_rows()),
            rows: self.rows.clone(),
        };
        let work = Work::InOrder {
            inputs: self.rows.clone(),
            batch_rows,
            files: Some(self.arriving()),
        };
        Share::new((0, 0), block, work, None)
    }

    /// Goes through a share as a worker does, then through what it can take from others; the rows it has met.
    fn work(
        &self,
        share: Option<Share>,
        of: &Arc<crate::pipeline::shares::InHand>,
        runtime: &Handle,
    ) -> Vec<Met> {
        let Work::InOrder {
            files: Some(files), ..
        } = &of.work
        else {
            panic!("rows in their order name files");
        };
        let mut met = Vec::new();
        let mut mine = share;
        while let Some(share) = mine.take().or_else(|| of.split()) {
            files.begin(share.all(), share.still_has(), runtime);
            while let Some(batch) = share.next() {
                let rows = of.rows(batch..batch + 1);
                let given = self.rows.slice(rows.start, rows.len());
                met.extend(meet(rows.start, files.fill(rows, &given).unwrap()));
            }
        }
        met
    }
}

/// A row by its number: what its files hold, or the error of one.
type Met = (usize, std::result::Result<[Option<Vec<u8>>; 2], String>);

fn meet(start: usize, filled: Filled) -> Vec<Met> {
    let ids = filled.rows.column(0).as_primitive::<Int32Type>();
    let content = |row: usize, column: usize| {
        let files = filled.rows.column(1 + column).as_binary_view();
        files.is_valid(row).then(|| files.value(row).to_vec())
    };
    let there = (0..filled.rows.num_rows()).map(|row| {
        (
            ids.value(row) as usize,
            Ok([0, 1].map(|column| content(row, column))),
        )
    });
    let failed = filled.failed.iter();
    let failed = failed.map(|failed| (start + failed.row, Err(failed.error.to_string())));
    there.chain(failed).collect()
}

fn cell() -> impl Strategy<Value = Cell> {
    prop_oneof![
        1 => Just(Cell::Null),
        1 => Just(Cell::Missing),
        8 => (0usize..400).prop_map(Cell::File),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Failure matrix: 57.
    #[test]
    fn each_file_is_asked_for_once_whoever_scores_its_row_and_no_more_than_one_is_beyond_the_limit(
        cells in proptest::collection::vec([cell(), cell()], 1..150),
        batch_rows in 1usize..20,
        workers in 1usize..5,
        limit in prop_oneof![Just(0u64), 1u64..300, 1000u64..20_000],
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let world = runtime.block_on(world(&cells, limit));
        let whole = world.share(batch_rows);
        let of = whole.of.clone();
        let mut shares = vec![Some(whole)];
        shares.resize_with(workers, || None);
        let mut met: Vec<Met> = std::thread::scope(|scope| {
            let (world, of, runtime) = (&world, &of, &runtime);
            let work = |share| scope.spawn(move || world.work(share, of, runtime.handle()));
            let threads: Vec<_> = shares.into_iter().map(work).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        met.sort_by_key(|(row, _)| *row);
        prop_assert_eq!(met.len(), cells.len());
        for ((row, met), (expected, cells)) in met.into_iter().zip(cells.iter().enumerate()) {
            prop_assert_eq!(row, expected);
            match met {
                Ok(files) => for (column, file) in files.into_iter().enumerate() {
                    let size = match cells[column] {
                        Cell::File(size) => Some(size),
                        _ => None,
                    };
                    prop_assert_eq!(file, size.map(|size| bytes(row, column, size)));
                    prop_assert_ne!(cells[column], Cell::Missing);
                },
                Err(error) => {
                    prop_assert!(cells.contains(&Cell::Missing));
                    prop_assert!(error.contains("is not there"), "{}", error);
                }
            }
        }
        let named = cells.iter().flatten().filter(|cell| **cell != Cell::Null).count();
        let gets = world.store.gets.lock().unwrap();
        prop_assert_eq!(gets.len(), named);
        prop_assert!(gets.values().all(|gets| *gets == 1), "{:?}", gets);
        let size = |cell: &Cell| if let Cell::File(size) = cell { *size as u64 } else { 0 };
        let largest = cells.iter().flatten().map(size).max().unwrap_or(0);
        prop_assert!(world.metrics.memory_peak_bytes.get() <= limit + largest);
    }
}

/// Lets all that can happen happen.
async fn settle() {
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
}

fn here(files: &Arriving) -> Vec<usize> {
    let state = files.of.lock();
    let places = state.places.iter().enumerate();
    let here = places.filter(|(_, place)| matches!(place, Place::Here(_)));
    here.map(|(place, _)| place).collect()
}

#[tokio::test]
async fn files_get_in_by_the_order_of_rows_and_what_a_worker_waits_for_gets_in_at_once() {
    let sizes = [[40, 40], [30, 5], [5, 5]];
    let world = world(&sizes.map(|sizes| sizes.map(Cell::File)), 100).await;
    let files = Arc::new(world.arriving());
    files.begin(0..3, |_| true, &Handle::current());
    settle().await;
    // The third doesn't fit, and nothing goes past it.
    assert_eq!(here(&files), [0, 1]);
    assert_eq!(world.store.gets.lock().unwrap().len(), 6);
    // Another worker has got the last row.
    files.begin(2..3, |_| true, &Handle::current());
    settle().await;
    assert_eq!(here(&files), [0, 1]);
    let last = {
        let (files, given) = (files.clone(), world.rows.slice(2, 1));
        tokio::task::spawn_blocking(move || files.fill(2..3, &given).unwrap())
    };
    let last = meet(2, last.await.unwrap());
    assert_eq!(last, [(2, Ok([Some(bytes(2, 0, 5)), Some(bytes(2, 1, 5))]))]);
    assert!(world.store.gets.lock().unwrap().values().all(|gets| *gets == 1));
}

#[tokio::test]
async fn a_block_that_is_given_up_gives_its_bytes_back() {
    let world = world(&[[Cell::File(60); 2]; 50], 100).await;
    let files = world.arriving();
    files.begin(0..50, |_| true, &Handle::current());
    settle().await;
    assert_eq!(here(&files), [0]);
    assert!(world.admission.admit(41, false).is_none());
    drop(files);
    settle().await;
    assert!(world.admission.admit(100, false).is_some());
}
