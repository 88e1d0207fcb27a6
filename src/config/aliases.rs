//! The older names of keys, moved to where they belong.
//!
//! JobSpec 1.x was flat: `num_workers` stood beside `job_name`. Such a body, or a mix of old and new, becomes a
//! document of sections here, before anything is checked; giving the same thing twice with different values is a
//! mistake that names both keys.

use serde_json::{Map, Value};

use crate::config::check::given;
use crate::config::faults::Faults;
use crate::config::overrides::{get, put, take};

/// An older name of a key.
pub struct Alias {
    /// Key path as older clients write it.
    pub from: &'static str,
    /// Key path in the job file.
    pub to: &'static str,
}

/// Every alias. `job_name`, `job_name_prefix`, `replicas`, `warehouse`, `compute_pool` and `block` are spelt as before.
pub const ALIASES: &[Alias] = &[
    alias("function_name", "model.function_name"),
    alias("input_stage_location", "input.stage_location"),
    alias("input_file_pattern", "input.file_pattern"),
    alias("params", "input.params"),
    alias("column_handling", "input.column_handling"),
    alias("partition_column", "input.partition_column"),
    alias("stage_location", "output.stage_location"),
    alias("output_stage_location", "output.stage_location"),
    alias("base_stage_location", "output.base_stage_location"),
    alias("mode", "output.mode"),
    alias("cpu_requests", "resources.cpu_requests"),
    alias("memory_requests", "resources.memory_requests"),
    alias("gpu_requests", "resources.gpu_requests"),
    alias("num_workers", "inference.num_workers"),
    alias("max_batch_rows", "inference.max_batch_rows"),
    alias("inference_engine_options", "inference.engine_options"),
    alias("image_repo", "image_build.image_repo"),
    alias("force_rebuild", "image_build.force_rebuild"),
    alias("input.input_stage_location", "input.stage_location"),
    alias("input.input_file_pattern", "input.file_pattern"),
    alias("output.output_stage_location", "output.stage_location"),
];

const fn alias(from: &'static str, to: &'static str) -> Alias {
    Alias { from, to }
}

/// Moves every alias in `document` to its place. Mistakes go to `faults`.
pub fn settle(document: &mut Map<String, Value>, faults: &mut Faults) {
    // Which key a value was given under, for the case that a second alias disagrees with a first.
    let mut moved: Vec<(&str, &str)> = Vec::new();
    for Alias { from, to } in ALIASES {
        let section_is_wrong = to
            .split_once('.')
            .and_then(|(section, _)| document.get(section))
            .is_some_and(|section| !section.is_null() && !section.is_object());
        if section_is_wrong {
            // The check of sections says so; the alias itself must not be called unknown.
            take_top(document, from);
            continue;
        }
        let Some(value) = take(document, from).filter(|value| !value.is_null()) else {
            continue;
        };
        match get(document, to).filter(|present| !present.is_null()) {
            None => {
                put(document, to, value);
                moved.push((from, to));
            }
            Some(present) if *present == value => {}
            Some(present) => {
                let earlier = moved.iter().find(|(_, target)| target == to);
                let other = earlier.map_or(*to, |(from, _)| from);
                faults.push(
                    *from,
                    format!(
                        "{} given, but {other}, which is the same key, gives {}; give one of them",
                        given(&value),
                        given(present)
                    ),
                );
            }
        }
    }
}

fn take_top(document: &mut Map<String, Value>, key: &str) {
    if !key.contains('.') {
        document.shift_remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema;
    use serde_json::json;

    fn settled(mut document: Value) -> (Value, Vec<String>) {
        let mut faults = Faults::default();
        settle(document.as_object_mut().unwrap(), &mut faults);
        let found = faults.found().iter();
        (
            document,
            found
                .map(|fault| format!("{}: {}", fault.key, fault.text))
                .collect(),
        )
    }

    #[test]
    fn every_alias_leads_to_a_known_key_and_hides_none() {
        for Alias { from, to } in ALIASES {
            assert!(schema::node(to).is_some(), "{to}");
            assert!(schema::node(from).is_none(), "{from}");
        }
    }

    #[test]
    fn flat_keys_move_to_their_sections() {
        let (document, faults) = settled(json!({
            "function_name": "predict", "num_workers": 4, "mode": "overwrite", "replicas": 2,
            "stage_location": "@out/", "input": {"input_stage_location": "@in/"}, "cpu_requests": null,
        }));
        assert_eq!(faults, Vec::<String>::new());
        assert_eq!(
            document,
            json!({
                "model": {"function_name": "predict"},
                "inference": {"num_workers": 4},
                "output": {"mode": "overwrite", "stage_location": "@out/"},
                "input": {"stage_location": "@in/"},
                "replicas": 2,
            })
        );
    }

    #[test]
    fn the_same_value_twice_is_fine_and_different_ones_name_both_keys() {
        let (_, faults) = settled(json!({"num_workers": 4, "inference": {"num_workers": 4}}));
        assert_eq!(faults, Vec::<String>::new());
        let (_, faults) = settled(json!({"num_workers": 4, "inference": {"num_workers": null}}));
        assert_eq!(faults, Vec::<String>::new());
        let (_, faults) = settled(json!({"num_workers": 4, "inference": {"num_workers": 2}}));
        assert_eq!(
            faults,
            [
                "num_workers: 4 given, but inference.num_workers, which is the same key, gives 2; give one of them"
            ]
        );
        let (_, faults) = settled(json!({"stage_location": "a", "output_stage_location": "b"}));
        assert_eq!(
            faults,
            [
                "output_stage_location: \"b\" given, but stage_location, which is the same key, gives \"a\"; \
                 give one of them"
            ]
        );
    }
}
