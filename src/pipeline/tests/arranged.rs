//! Blocks that the model arranges: rows come back to their places whoever scores which batch.

use arrow::datatypes::{DataType, Field, FieldRef};

use super::*;
use crate::model::{Arranged, Arranging};
use crate::origin::RowError;
use crate::tensor::{Tensor, TensorData};
use crate::write::columns::ROW_ERRORS;

/// The same model, which puts ids together by their last digits in batches of several sizes and fails on some of them.
struct Sorting {
    same: Same,
    most: usize,
    /// Multiples of it are no good; 0: all are.
    refuses: i64,
}

impl Model for Sorting {
    fn infer(&mut self, _batch: &TensorBatch) -> Result<Vec<Value>> {
        panic!("rows are arranged")
    }

    fn arranging(&mut self) -> Option<&mut dyn Arranging> {
        Some(self)
    }
}

impl Arranging for Sorting {
    fn arrange(&mut self, rows: TensorBatch) -> Result<Arranged> {
        let TensorData::I64(ids) = &rows.inputs[0].data else {
            panic!("ids are int64")
        };
        let is_good = |place: &usize| self.refuses == 0 || ids[*place] % self.refuses != 0;
        let (mut good, bad): (Vec<usize>, Vec<usize>) = (0..ids.len()).partition(is_good);
        good.sort_by_key(|&place| ids[place] * 7919 % 101);
        let mut batches = Vec::new();
        let mut rest = good.as_slice();
        while !rest.is_empty() {
            let rows = (1 + batches.len() % self.most).min(rest.len());
            let (batch, others) = rest.split_at(rows);
            batches.push(batch.to_vec());
            rest = others;
        }
        let failed = bad.into_iter().map(|row| RowError {
            row,
            error: Error::data("a multiple"),
        });
        Ok(Arranged {
            batches,
            failed: failed.collect(),
            state: Box::new(ids.clone()),
        })
    }

    fn infer_arranged(&mut self, arranged: &Arranged, batch: usize) -> Result<Vec<Value>> {
        let ids: &Vec<i64> = arranged.state.downcast_ref().unwrap();
        let ids: Vec<i64> = arranged.batches[batch].iter().map(|place| ids[*place]).collect();
        self.same.infer(&TensorBatch {
            rows: ids.len(),
            inputs: vec![Tensor::new(vec![ids.len()], ids)?],
        })
    }

    fn limit_rows(&mut self, rows: usize) {
        self.most = rows;
    }
}

/// A pipeline of such models, with blocks of at most `block_rows` rows.
async fn sorting(
    files: &[Vec<usize>],
    (workers, block_rows, most, refuses): (usize, usize, usize, i64),
    behaviour: &Arc<Behaviour>,
) -> Setup {
    let model = || {
        let same = Same(behaviour.clone());
        Box::new(Sorting { same, most, refuses }) as Box<dyn Model>
    };
    let models = (0..workers).map(|_| model()).collect();
    set_up_models(files, models, (1, Some(block_rows))).await
}

/// What came of every row, and which batches the model met. Rows that are refused are null, and a column says why.
fn arranged(files: &[Vec<usize>], sizes: (usize, usize, usize, i64)) -> (Vec<Option<i64>>, Vec<Vec<i64>>) {
    let met = Met::default();
    let rows = block_on(async {
        let mut setup = sorting(files, sizes, &met.behaviour()).await;
        let pipeline = &mut setup.pipeline;
        pipeline.outputs.push(OutputColumn {
            output: ROW_ERRORS,
            field: Arc::new(Field::new("why", DataType::Utf8, true)),
        });
        let fields = pipeline.form.schema().fields().iter().cloned();
        let fields: Vec<FieldRef> = fields.chain([pipeline.outputs[1].field.clone()]).collect();
        pipeline.form = form(fields);
        let (form, metrics) = (pipeline.form.clone(), pipeline.metrics.clone());
        setup.pipeline.reader = setup.pipeline.reader.splicing(form, vec![0]);
        let total = setup.plan.rows();
        let rows = run_taking(setup, |files| {
            let unchanged = |(ids, same): (i64, Option<i64>)| {
                assert!(same.is_none_or(|same| same == ids), "{same:?} for {ids}");
                same
            };
            columns(files).into_iter().map(unchanged).collect()
        });
        let rows = rows.await.unwrap();
        let (inferred, failed) = (metrics.rows_inferred.get(), metrics.rows_failed.get());
        assert_eq!(inferred + failed, total);
        rows
    });
    (rows, met.batches())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn arranged_rows_come_back_to_their_places_however_many_workers_share_their_batches(
        files in proptest::collection::vec(proptest::collection::vec(1usize..1500, 1..4), 1..4),
        workers in 2usize..6,
        block_rows in 1usize..2000,
        most in 1usize..30,
        refuses in prop_oneof![Just(0i64), Just(1i64), 2..9i64],
    ) {
        let sizes = |workers| (workers, block_rows, most, refuses);
        let (rows, met) = arranged(&files, sizes(workers));
        let total: usize = files.iter().flatten().sum();
        let expected = |id: i64| (refuses == 0 || id % refuses != 0).then_some(id);
        prop_assert_eq!(&rows, &(0..total as i64).map(expected).collect::<Vec<_>>());
        // Each of them once.
        let mut scored: Vec<i64> = met.iter().flatten().copied().collect();
        scored.sort_unstable();
        prop_assert_eq!(scored, rows.iter().flatten().copied().collect::<Vec<_>>());
        prop_assert!(met.iter().all(|batch| batch.len() <= most));
        // And the same ones together as if there were one worker.
        prop_assert_eq!(arranged(&files, sizes(1)), (rows, met));
    }
}

#[test]
fn a_block_that_is_arranged_is_work_for_every_worker() {
    for (rows, workers, most) in [(40, 4, 1), (700, 3, 16), (20_000, 2, 64)] {
        let behaviour = together(workers);
        let done = block_on(async {
            run(sorting(&[vec![rows]], (workers, 30_000, most, 0), &behaviour).await).await
        });
        assert_eq!(done.unwrap(), (0..rows as i64).collect::<Vec<_>>());
    }
}

/// Failure matrix: 58.
#[test]
fn an_error_of_an_arranged_batch_names_its_block() {
    let fails: Arc<Behaviour> = Arc::new(|ids: &[i64]| match ids.contains(&25_500) {
        true => Err(Error::model("no")),
        false => Ok(()),
    });
    let text = |refuses: i64| {
        let done = block_on(async {
            let files = [vec![20_000], vec![20_000, 20_000]];
            run(sorting(&files, (3, 1000, 10, refuses), &fails).await).await
        });
        done.unwrap_err().to_string()
    };
    assert_eq!(text(0), "no (file 001.parquet, row group 0, rows 5000-5999)");
    let row = text(60_000);
    assert!(
        row.starts_with("a multiple (file 000.parquet, row group 0, row 0"),
        "{row}"
    );
}
