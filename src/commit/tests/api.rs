//! The async functions over a store in memory: what `job` calls.

use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::storage::{Location, OutputStore, StoreClass};

fn claimed(outcome: ClaimOutcome) -> Claimed {
    match outcome {
        ClaimOutcome::Claimed(claimed) => claimed,
        ClaimOutcome::AlreadyComplete(success) => panic!("complete: {success:?}"),
    }
}

#[test]
fn a_job_claims_commits_and_finishes() {
    block_on(async {
        let store = MapStore::default();
        let plans = AtomicUsize::new(0);
        let build = async || {
            plans.fetch_add(1, Ordering::Relaxed);
            Ok(plan_of(RUN, SaveMode::Error, &[2, 0]))
        };
        assert_eq!(probe(&store, "t").await.unwrap(), StoreClass::A);
        assert!(store.0.lock().unwrap().0.is_empty(), "the probe is removed again");

        let first = claimed(claim(&store, request(RUN, SaveMode::Error), build).await.unwrap());
        assert_eq!((first.epoch, first.resumed, first.cleared), (1, false, 0));
        let again = claimed(claim(&store, request(RUN, SaveMode::Error), build).await.unwrap());
        assert!(again.resumed);
        assert_eq!(again.plan_digest, first.plan_digest);
        assert_eq!(plans.load(Ordering::Relaxed), 1);

        assert_eq!(
            finish(&store, &first).await.unwrap(),
            Finished::Incomplete { missing: vec![0, 1] }
        );
        for unit in [0, 1] {
            let stats = Map::from_iter([("replica".to_string(), 3.into())]);
            let files = rows_of(&first, unit, "", "row");
            let outcome = commit_unit(&store, &first, unit, files, stats, &count_rows)
                .await
                .unwrap();
            assert_eq!(outcome, CommitOutcome::Committed);
        }
        let records = committed(&store, &first).await.unwrap();
        assert_eq!(
            records.values().map(|record| record.rows).collect::<Vec<_>>(),
            [2, 0]
        );
        let key = records[&0].key(1);
        let record = Record::read(&store.get(&key).await.unwrap().unwrap(), records[&0], 1).unwrap();
        assert_eq!(record.stats["replica"], 3);

        let Finished::Complete(success) = finish(&store, &again).await.unwrap() else {
            panic!("not complete")
        };
        assert_eq!((success.rows, success.units, success.files.len()), (2, 2, 1));
        assert_eq!(
            Success::read(&store.get(MARKER).await.unwrap().unwrap()).unwrap(),
            success
        );
        let after = claim(&store, request(RUN, SaveMode::Error), build).await.unwrap();
        assert_eq!(after, ClaimOutcome::AlreadyComplete(success));
    });
}

#[test]
fn an_error_of_the_plan_builder_leaves_the_output_untouched() {
    let store = MapStore::default();
    let build = async || Err(Error::data("no input"));
    let error = block_on(claim(&store, request(RUN, SaveMode::Overwrite), build)).unwrap_err();
    assert_eq!(error.to_string(), "no input");
    assert!(store.0.lock().unwrap().0.is_empty());
}

/// Failure matrix: 6.
#[test]
fn an_unreadable_object_of_an_earlier_attempt_names_unit_and_object() {
    block_on(async {
        let store = MapStore::default();
        let build = async || Ok(plan_of(RUN, SaveMode::Error, &[2]));
        let claimed = claimed(claim(&store, request(RUN, SaveMode::Error), build).await.unwrap());
        let key = data_key("", 0, RUN);
        store.insert(&key, "torn");
        let files = rows_of(&claimed, 0, "", "row");
        let error = commit_unit(&store, &claimed, 0, files, Map::new(), &count_rows)
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(text.contains("unit 0") && text.contains(&key), "{text}");
    });
}

/// One life of a process of a job with `replicas` replicas, as `job` runs it.
async fn live(store: OutputStore, index: u32, replicas: u32) -> Result<Finished> {
    let request = ClaimRequest {
        replica_index: index,
        ..request(RUN, SaveMode::Overwrite)
    };
    let rows = vec![3; 12];
    let build = || std::future::ready(Ok(plan_of(RUN, SaveMode::Overwrite, &rows)));
    let claimed = match claim(&store, request, build).await? {
        ClaimOutcome::Claimed(claimed) => claimed,
        ClaimOutcome::AlreadyComplete(success) => return Ok(Finished::Complete(success)),
    };
    let done = committed(&store, &claimed).await?;
    for unit in (index..12)
        .step_by(replicas as usize)
        .filter(|unit| !done.contains_key(unit))
    {
        let folder = if unit % 2 == 0 {
            ""
        } else {
            "city=S%C3%A3o %2F=1/b=__HIVE_DEFAULT_PARTITION__"
        };
        let text: String = (0..3).map(|row| format!("row f{unit}#{row}\n")).collect();
        let files = vec![new_file(data_key(folder, unit, RUN), text, 3)];
        commit_unit(&store, &claimed, unit, files, Map::new(), &count_rows).await?;
    }
    finish(&store, &claimed).await
}

/// Failure matrix: 9.
#[test]
fn twins_of_two_replicas_at_once_on_a_real_folder_end_in_one_sound_output() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("old.parquet"), "x").unwrap();
    let store = OutputStore::new(Location::local(folder.path().to_str().unwrap()).unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let lives: Vec<_> = [0, 1, 0, 1]
            .map(|index| tokio::spawn(live(store.clone(), index, 2)))
            .into();
        let mut complete = 0;
        for life in lives {
            complete += u32::from(matches!(life.await.unwrap().unwrap(), Finished::Complete(_)));
        }
        assert!(complete > 0, "somebody saw every record");
        let report = verify(&store, verify::Depth::Contents(&count_rows))
            .await
            .unwrap();
        assert!(report.ok, "{:?}", report.problems);
        assert_eq!((report.rows, report.files), (36, 12));
    });
    assert!(!folder.path().join("old.parquet").exists());
}

#[test]
fn the_futures_can_be_sent_to_another_thread() {
    fn sendable<T: Send>(_: &T) {}
    let store = MapStore::default();
    let build = || std::future::ready(Ok(plan_of(RUN, SaveMode::Error, &[])));
    sendable(&claim(&store, request(RUN, SaveMode::Error), build));
    sendable(&probe(&store, "t"));
    sendable(&verify(&store, verify::Depth::Contents(&count_rows)));
    let world = finished(RUN, &[]);
    let claimed = Claimed {
        epoch: 1,
        plan: Arc::new(plan_of(RUN, SaveMode::Error, &[])),
        plan_digest: digest::sha256(&world.objects.0[&epoch_key(1)]),
        function: None,
        resumed: true,
        cleared: 0,
    };
    sendable(&committed(&store, &claimed));
    sendable(&commit_unit(
        &store,
        &claimed,
        0,
        Vec::new(),
        Map::new(),
        &count_rows,
    ));
    sendable(&finish(&store, &claimed));
}
