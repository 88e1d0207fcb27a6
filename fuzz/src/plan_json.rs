//! A pinned plan as it lies in the store: what is read is written and read back the same, and can be shared out.

use floe::commit::epochs::{epoch_owner, read_plan};
use floe::commit::layout::{epoch_key, parse_epoch_key};
use floe::plan::assign::assign;
use floe::plan::{FORMAT, Part, Plan, PlannedFile, Unit};

pub fn run(bytes: &[u8]) {
    if let Ok(key) = std::str::from_utf8(bytes)
        && let Some(epoch) = parse_epoch_key(key)
    {
        assert_eq!(epoch_key(epoch), key);
    }
    let owner = epoch_owner(bytes);
    let Ok(plan) = read_plan(bytes, "plan") else {
        return;
    };
    assert_eq!(owner.as_deref(), Some(plan.run_id.as_str()));
    let written = serde_json::to_vec(&plan).expect("a plan has only string keys");
    assert_eq!(read_plan(&written, "plan").expect("written by Floe"), plan);
    let mut ids = assign(&plan.units, 3).concat();
    ids.sort_unstable();
    assert_eq!(ids, (0..plan.units.len() as u32).collect::<Vec<_>>());
    let (rows, bytes) = (plan.rows(), plan.bytes());
    assert!(
        plan.units
            .iter()
            .all(|unit| unit.rows <= rows && unit.bytes <= bytes)
    );
}

/// A small plan.
pub fn plan() -> Plan {
    use arrow::datatypes::{DataType, Field, Schema};
    let file = |path: &str| PlannedFile {
        path: path.into(),
        size: 1000,
        etag: Some("\"e\"".into()),
        modified: "2026-01-01T00:00:00+00:00".into(),
        rows: 10,
    };
    let part = |file, first, end| Part { file, first, end };
    Plan {
        format: FORMAT,
        run_id: "run".into(),
        job_name: "job".into(),
        mode: Default::default(),
        store_class: Default::default(),
        config_digest: "sha256:0".into(),
        model_digest: "sha256:1".into(),
        worker_version: "0.1.0".into(),
        engine: floe::model::Engine::Echo,
        on_gpus: false,
        batch_rows: 16,
        window_rows: None,
        input_schema: Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("tags", DataType::new_list(DataType::Utf8, true), true),
        ]),
        outputs: vec![Field::new("y", DataType::Float32, false)],
        inputs: vec![file("a.parquet"), file("b/c.parquet")],
        units: vec![
            Unit {
                id: 0,
                parts: vec![part(0, 0, 1)],
                rows: 10,
                bytes: 900,
            },
            Unit {
                id: 1,
                parts: vec![part(1, 0, 1)],
                rows: 10,
                bytes: 900,
            },
        ],
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut bare = plan();
    bare.units.clear();
    bare.inputs.clear();
    vec![
        serde_json::to_vec(&plan()).expect("a plan has only string keys"),
        serde_json::to_vec(&bare).expect("a plan has only string keys"),
        epoch_key(1).into_bytes(),
    ]
}
