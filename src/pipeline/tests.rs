//! The whole pipeline with models that fail, panic, dawdle or count.

use bytes::Bytes;
use proptest::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use tokio::sync::watch;

use self::setup::*;
use super::*;
use crate::tensor::{TensorBatch, Value};

mod arranged;
mod setup;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_the_files_workers_and_batches_every_row_passes_once_and_in_order(
        files in proptest::collection::vec(proptest::collection::vec(0usize..3000, 0..5), 1..6),
        workers in 1usize..5,
        batch_rows in prop_oneof![Just(1usize), 2..700usize, Just(100_000)],
    ) {
        let total: usize = files.iter().flatten().sum();
        let most = Arc::new(AtomicUsize::new(0));
        let seen = most.clone();
        let behaviour = move |ids: &[i64]| {
            seen.fetch_max(ids.len(), Ordering::Relaxed);
            Ok(())
        };
        let rows = block_on(async { run(set_up(&files, workers, batch_rows, Arc::new(behaviour)).await).await });
        prop_assert_eq!(rows.unwrap(), (0..total as i64).collect::<Vec<_>>());
        prop_assert!(most.load(Ordering::Relaxed) <= batch_rows);
    }
}

#[test]
fn a_small_unit_is_work_for_every_worker() {
    let cases = [
        (vec![vec![4]], 4, 1),
        (vec![vec![700]], 4, 16),
        (vec![vec![90]; 8], 3, 16),
        (vec![vec![20_000]], 2, 10_000),
    ];
    for (files, workers, batch_rows) in cases {
        let total = files.iter().flatten().sum::<usize>() as i64;
        let rows =
            block_on(async { run(set_up(&files, workers, batch_rows, together(workers)).await).await });
        assert_eq!(rows.unwrap(), (0..total).collect::<Vec<_>>());
    }
}

/// The bytes of all files, and which batches the model met.
fn bytes_and_batches(files: &[Vec<usize>], workers: usize, batch_rows: usize) -> (Vec<Bytes>, Vec<Vec<i64>>) {
    let met = Met::default();
    let bytes = |files: &[EncodedFile]| files.iter().map(|file| file.bytes.join()).collect();
    let setup = set_up(files, workers, batch_rows, met.behaviour());
    let files = block_on(async { run_taking(setup.await, bytes).await });
    (files.unwrap(), met.batches())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn bytes_and_batches_are_the_same_however_many_workers_share_them(
        files in proptest::collection::vec(proptest::collection::vec(1usize..1500, 1..4), 1..4),
        workers in 2usize..6,
        batch_rows in 1..300usize,
    ) {
        let alone = bytes_and_batches(&files, 1, batch_rows);
        prop_assert_eq!(bytes_and_batches(&files, workers, batch_rows), alone);
    }
}

/// A model that says when its worker has ended.
struct Ending {
    same: Same,
    ended: Arc<(Mutex<bool>, Condvar)>,
}

impl Model for Ending {
    fn infer(&mut self, batch: &TensorBatch) -> Result<Vec<Value>> {
        self.same.infer(batch)
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        *self.ended.0.lock().unwrap() = true;
        self.ended.1.notify_all();
    }
}

/// The second to have a batch in hand fails; the first waits until that one's worker has ended, and leaves the rest of its share.
#[test]
fn after_an_error_nobody_goes_on_with_a_long_share() {
    let ended = Arc::new((Mutex::new(false), Condvar::new()));
    let met = Arc::new(AtomicUsize::new(0));
    let (worker, meeting) = (ended.clone(), met.clone());
    let behaviour: Arc<Behaviour> = Arc::new(move |_: &[i64]| match meeting.fetch_add(1, Ordering::SeqCst) {
        1 => Err(Error::model("no")),
        _ => {
            let limit = Duration::from_secs(60);
            let has_ended = worker.0.lock().unwrap();
            let (_ended, waited) = worker
                .1
                .wait_timeout_while(has_ended, limit, |has_ended| !*has_ended)
                .unwrap();
            assert!(!waited.timed_out(), "nobody failed");
            Ok(())
        }
    });
    let result = block_on(async {
        let model = || {
            let (same, ended) = (Same(behaviour.clone()), ended.clone());
            Box::new(Ending { same, ended }) as Box<dyn Model>
        };
        run(set_up_models(&[vec![10_000]], vec![model(), model()], (1, None)).await).await
    });
    assert_eq!(result.unwrap_err().message(), "no");
    assert_eq!(met.load(Ordering::SeqCst), 2);
}

/// Failure matrix: 56, 60.
#[test]
fn a_panic_in_a_model_ends_the_job_and_says_where() {
    let behaviour = |ids: &[i64]| -> Result<()> {
        assert!(!ids.contains(&2500), "the model is out of its depth");
        Ok(())
    };
    let error = block_on(async {
        run(set_up(&[vec![20_000], vec![2000, 20_000]], 2, 100, Arc::new(behaviour)).await).await
    });
    // Row 2500 lies in the first file; a block may hold more rows than the batch that failed.
    let text = error.unwrap_err().to_string();
    assert!(text.contains("out of its depth"), "{text}");
    assert!(text.contains("file 000.parquet, row group 0, rows 0-"), "{text}");
}

/// Failure matrix: 58.
#[test]
fn an_error_of_a_model_names_the_rows_of_its_batch() {
    let behaviour = |ids: &[i64]| match ids.contains(&25_500) {
        true => Err(Error::model("no")),
        false => Ok(()),
    };
    let error = block_on(async {
        run(set_up(
            &[vec![20_000], vec![20_000, 20_000]],
            3,
            1000,
            Arc::new(behaviour),
        )
        .await)
        .await
    });
    let text = error.unwrap_err().to_string();
    assert_eq!(text, "no (file 001.parquet, row group 0, rows 5000-5999)");
}

/// Failure matrix: 60.
#[test]
fn an_error_of_the_sink_ends_the_job() {
    let result = block_on(async {
        let Setup {
            folder: _folder,
            plan,
            pipeline,
        } = set_up(&vec![vec![50_000]; 8], 2, 4096, Arc::new(|_: &[i64]| Ok(()))).await;
        pipeline
            .run(plan.units.clone().into_iter(), never(), |_| async {
                Err(Error::storage("disk full"))
            })
            .await
    });
    assert_eq!(result.unwrap_err().to_string(), "disk full");
}

/// Row groups large enough that each file is a unit of its own.
fn units_of_their_own(count: usize) -> Vec<Vec<usize>> {
    vec![vec![200_000]; count]
}

/// Failure matrix: 59.
#[test]
fn a_stop_finishes_what_has_begun_and_leaves_the_rest() {
    let (stop, stopped) = watch::channel(false);
    let stop = Arc::new(stop);
    let asked = stop.clone();
    let behaviour = move |ids: &[i64]| {
        if ids.contains(&250_000) {
            asked.send_replace(true);
        }
        std::thread::sleep(Duration::from_millis(1));
        Ok(())
    };
    let done = Mutex::new(Vec::new());
    let (ended, units) = block_on(async {
        let Setup {
            folder: _folder,
            plan,
            pipeline,
        } = set_up(&units_of_their_own(6), 1, 4096, Arc::new(behaviour)).await;
        let ended = pipeline
            .run(plan.units.clone().into_iter(), stopped, |unit| {
                done.lock().unwrap().push(ids(&unit.files).len());
                async { Ok(()) }
            })
            .await;
        (ended.unwrap(), plan.units.len())
    });
    assert_eq!(ended, Ended::Stopped);
    let done = done.into_inner().unwrap();
    assert!(done.len() < units, "{done:?}");
    assert!(done.iter().all(|&rows| rows == 200_000), "{done:?}");
}

/// Failure matrix: 59.
#[test]
fn a_unit_that_takes_longer_than_the_grace_period_is_dropped() {
    let (stop, stopped) = watch::channel(true);
    let behaviour = |_: &[i64]| {
        std::thread::sleep(Duration::from_millis(50));
        Ok(())
    };
    let result = block_on(async {
        let Setup {
            folder: _folder,
            plan,
            mut pipeline,
        } = set_up(&[vec![200_000]], 1, 1000, Arc::new(behaviour)).await;
        pipeline.grace = Duration::from_millis(200);
        let run = pipeline.run(plan.units.clone().into_iter(), stopped, |_| async { Ok(()) });
        let ask = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            stop.send_replace(true);
        };
        tokio::join!(run, ask).0
    });
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert!(error.to_string().contains("grace period of 0.2 s"), "{error}");
}
