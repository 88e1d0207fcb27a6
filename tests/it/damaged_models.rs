//! Models that were sound once: cut off anywhere, or changed by seeds, blindly and with knowledge of the format.
//!
//! Each copy goes through the pre-check; what that lets pass is opened and run by real processes in bounds of time and
//! memory, since what must not happen (a hang, a crash in ONNX Runtime) would end the test.

use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::bounded;
use crate::dice::Dice;
use crate::model_trial::{MEMORY, Trial, fixtures};
use crate::mutants::{changed_bytes, changed_fields};
use crate::support::floe;
use floe::model::onnx::graph;

/// Failure matrix: 53.
#[test]
fn a_model_cut_anywhere_is_refused_in_words() {
    for name in ["pipeline_columns", "if_and_loop", "fixed_batch_zipmap"] {
        let whole = std::fs::read(fixtures().join("scored").join(name).join("model.onnx")).unwrap();
        let mut sound = 0;
        for length in 0..whole.len() {
            let cut = Bytes::copy_from_slice(&whole[..length]);
            sound += usize::from(graph::read(&cut).is_ok());
        }
        // Where the last fields (metadata) are cut off as a whole, what is left is a model.
        assert!(sound <= 4, "{name}: {sound} of {} cuts were taken", whole.len());
        for tenth in 0..10 {
            let trial = Trial::of(&whole[..whole.len() * tenth / 10]);
            trial.refused(&format!("{name} cut to {tenth} tenths"), &[]);
        }
    }
}

/// How many mutants of each kind are made of each model: more by hand, with `FLOE_MUTANTS`.
fn mutants_per_model() -> usize {
    std::env::var("FLOE_MUTANTS").map_or(8, |count| count.parse().unwrap())
}

/// Failure matrix: 53, 56.
#[test]
fn damaged_models_end_in_words_or_work_and_never_in_a_crash() {
    let cases: Vec<serde_json::Value> =
        serde_json::from_slice(&std::fs::read(fixtures().join("cases.json")).unwrap()).unwrap();
    let mut mutants = Vec::new();
    for (place, case) in cases.iter().filter(|case| case["expect"] == "ok").enumerate() {
        let path = fixtures()
            .join(case["model"].as_str().unwrap())
            .join("model.onnx");
        let Ok(whole) = std::fs::read(&path) else {
            continue;
        };
        for mutant in 0..mutants_per_model() {
            let seed = (place * 1_000_000 + mutant) as u64;
            let name = |kind: &str| format!("{kind} of {}, seed {seed}", case["name"]);
            mutants.push((name("bytes"), case, changed_bytes(&whole, &mut Dice::new(seed))));
            mutants.push((name("fields"), case, changed_fields(&whole, &mut Dice::new(seed))));
        }
    }
    let next = AtomicUsize::new(0);
    let ends = Mutex::new(BTreeMap::<&str, usize>::new());
    let faults = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some((name, case, bytes)) = mutants.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let end = try_mutant(case, bytes).unwrap_or_else(|fault| {
                        faults.lock().unwrap().push(format!("{name}: {fault}"));
                        "faults"
                    });
                    *ends.lock().unwrap().entry(end).or_default() += 1;
                }
            });
        }
    });
    let (ends, faults) = (ends.into_inner().unwrap(), faults.into_inner().unwrap());
    println!("{} mutants: {ends:?}", mutants.len());
    assert!(
        faults.is_empty(),
        "{} faults:\n{}",
        faults.len(),
        faults.join("\n")
    );
    // Else the mutants are too coarse to show anything.
    assert!(ends.len() >= 4, "{ends:?}");
}

/// Checks, opens and runs a mutant as far as it goes; says how far that was.
fn try_mutant(case: &serde_json::Value, bytes: &[u8]) -> Result<&'static str, String> {
    let trial = Trial::of(bytes);
    if graph::read(&Bytes::copy_from_slice(bytes)).is_err() {
        // What the pre-check refuses it refuses in the program, too.
        return Ok("refused by the pre-check");
    }
    let inspected = bounded::run(floe(["inspect".as_ref(), trial.model().as_os_str()]));
    if !matches!(inspected.code, Some(0 | 7)) || inspected.peak_bytes > MEMORY {
        return Err(format!("inspect: {inspected:?} {}", inspected.said()));
    }
    let mut document = serde_json::json!({
        "job_name": "mutant",
        "model": {"location": trial.model()},
        "input": {"stage_location": fixtures().join(case["input"].as_str().unwrap())},
        "output": {"stage_location": trial.output()},
    });
    if let Some(params) = case.get("params").filter(|params| !params.is_null()) {
        document["input"]["params"] = params.clone();
    }
    let job = trial.folder.path().join("job.json");
    std::fs::write(&job, document.to_string()).unwrap();
    let ended = bounded::run(floe(["run".as_ref(), job.as_os_str()]));
    let has_marker = trial.output().join("_SUCCESS").exists();
    let is_ended_in_words = matches!(ended.code, Some(2 | 6 | 7)) && !ended.said().contains("panicked");
    let end = match (inspected.code, ended.code) {
        (Some(7), Some(7)) if !trial.output().exists() => "refused by ONNX Runtime",
        (Some(0), Some(0)) if has_marker => "scored",
        (Some(0), _) if is_ended_in_words && !has_marker && !trial.output().exists() => {
            "refused before the output"
        }
        (Some(0), _) if is_ended_in_words && !has_marker => "failed on a batch",
        _ => return Err(format!("run: {ended:?} {}", ended.said())),
    };
    Ok(end)
}
