//! Image classification: the best labels of each image with their scores.
//!
//! As `ImageClassificationPipeline` does it: scores go through a softmax, or a sigmoid where labels don't exclude each
//! other, and the best `top_k` are kept, best first.

use serde_json::{Map, Value as Json, json};

use super::task::{Task, image_input, named, output, param};
use crate::error::{Error, Result};
use crate::model::network::Named;
use crate::signature::{Function, OutputKind};
use crate::tensor::{DType, Items, Lists, Tensor, TensorData, Value};

/// Labels that the pipeline keeps when nothing is said.
const TOP_K: i64 = 5;

/// The task with the model's labels.
pub struct Classification {
    labels: Vec<String>,
    apply: Apply,
}

/// What makes scores of a network's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Apply {
    Softmax,
    Sigmoid,
    None,
}

impl Apply {
    fn named(name: &str) -> Option<Apply> {
        Some(match name.to_lowercase().as_str() {
            "softmax" => Apply::Softmax,
            "sigmoid" => Apply::Sigmoid,
            "none" => Apply::None,
            _ => return None,
        })
    }

    fn as_str(self) -> &'static str {
        match self {
            Apply::Softmax => "softmax",
            Apply::Sigmoid => "sigmoid",
            Apply::None => "none",
        }
    }

    fn scores(self, row: &mut [f32]) {
        match self {
            Apply::None => {}
            Apply::Sigmoid => row.iter_mut().for_each(|x| *x = 1.0 / (1.0 + (-*x).exp())),
            Apply::Softmax => {
                let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                row.iter_mut().for_each(|x| *x = (*x - most).exp());
                let sum: f32 = row.iter().sum();
                row.iter_mut().for_each(|x| *x /= sum);
            }
        }
    }
}

impl Classification {
    /// By the labels and the kind of problem in `config.json`.
    pub fn of(config: &Map<String, Json>) -> Classification {
        let given = config.get("id2label").and_then(Json::as_object);
        let count = match given {
            Some(labels) => labels.len(),
            None => config.get("num_labels").and_then(Json::as_u64).unwrap_or(2) as usize,
        };
        let label = |index: usize| {
            let known = given.and_then(|labels| labels.get(&index.to_string())?.as_str());
            known.map_or_else(|| format!("LABEL_{index}"), str::to_string)
        };
        let problem = config.get("problem_type").and_then(Json::as_str);
        let said = config.get("function_to_apply").and_then(Json::as_str);
        Classification {
            labels: (0..count).map(label).collect(),
            apply: match problem {
                Some("multi_label_classification") => Apply::Sigmoid,
                Some("single_label_classification") => Apply::Softmax,
                _ if count == 1 => Apply::Sigmoid,
                _ if count > 1 => Apply::Softmax,
                _ => said.and_then(Apply::named).unwrap_or(Apply::None),
            },
        }
    }
}

impl Task for Classification {
    fn function(&self, seen: &[Named]) -> Result<Function> {
        let logits = named(seen.to_vec(), "logits")?;
        if logits.shape != [1, self.labels.len()] {
            return Err(Error::model(format!(
                "the network scores {:?} labels, and config.json names {}",
                logits.shape,
                self.labels.len()
            )));
        }
        let fields = &[("label", DType::String), ("score", DType::F64)];
        Ok(Function {
            name: "__call__".into(),
            inputs: vec![
                image_input("images"),
                param("top_k", DType::I64, json!(TOP_K)),
                param("function_to_apply", DType::String, json!(self.apply.as_str())),
            ],
            outputs: vec![output("labels", DType::F64, OutputKind::Records { fields })],
            fixed_batch_rows: None,
        })
    }

    fn values(&self, outputs: Vec<Named>, params: &[Tensor]) -> Result<Vec<Value>> {
        let (top_k, apply) = match params {
            [
                Tensor {
                    data: TensorData::I64(top_k),
                    ..
                },
                Tensor {
                    data: TensorData::String(apply),
                    ..
                },
            ] if top_k.len() == 1 && apply.len() == 1 => (top_k[0], &apply[0]),
            _ => {
                return Err(Error::internal(
                    "image classification takes top_k and function_to_apply",
                ));
            }
        };
        let top_k = usize::try_from(top_k)
            .ok()
            .filter(|top_k| *top_k > 0)
            .ok_or_else(|| Error::config(format!("input.params.top_k: {top_k} given, at least 1 allowed")))?;
        let apply = Apply::named(apply).ok_or_else(|| {
            Error::config(format!(
                "input.params.function_to_apply: {apply:?} given, softmax, sigmoid or none allowed"
            ))
        })?;
        let logits = named(outputs, "logits")?;
        let width = self.labels.len();
        let (rows, TensorData::F32(mut scores)) = (logits.rows(), logits.data) else {
            return Err(Error::model("the network's logits are not float32"));
        };
        if scores.len() != rows * width {
            return Err(Error::model(
                "the network scores another number of labels in each batch",
            ));
        }
        let kept = top_k.min(width);
        let (mut labels, mut best) = (Vec::with_capacity(rows * kept), Vec::with_capacity(rows * kept));
        for row in scores.chunks_exact_mut(width.max(1)) {
            apply.scores(row);
            let mut order: Vec<usize> = (0..width).collect();
            // Stable: of equal scores the first label comes first. A score that is no number comes last.
            order.sort_by(|a, b| {
                row[*b]
                    .partial_cmp(&row[*a])
                    .unwrap_or(row[*a].is_nan().cmp(&row[*b].is_nan()))
            });
            for &index in &order[..kept] {
                labels.push(self.labels[index].clone());
                best.push(f64::from(row[index]));
            }
        }
        let offsets = (0..=rows).map(|row| row * kept).collect();
        let lists = Lists::new(offsets, Items::Records(vec![labels.into(), best.into()]))?;
        Ok(vec![Value::Lists(lists)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(config: Json) -> Classification {
        Classification::of(config.as_object().unwrap())
    }

    fn run(task: &Classification, logits: Vec<f32>, top_k: i64, apply: &str) -> Result<Lists> {
        let rows = logits.len() / task.labels.len();
        let logits = Named {
            name: "logits".into(),
            tensor: Tensor::new(vec![rows, task.labels.len()], logits).unwrap(),
        };
        let params = [
            Tensor::new(vec![], vec![top_k]).unwrap(),
            Tensor::new(vec![], vec![apply.to_string()]).unwrap(),
        ];
        match task.values(vec![logits], &params)?.remove(0) {
            Value::Lists(lists) => Ok(lists),
            _ => panic!("lists"),
        }
    }

    #[test]
    fn the_best_labels_come_first_and_never_more_than_there_are() {
        let task = task(json!({"id2label": {"0": "cat", "2": "owl", "1": "dog"}}));
        assert_eq!(task.apply, Apply::Softmax);
        let lists = run(&task, vec![0.0, 2.0, 1.0, 5.0, 5.0, 0.0], 2, "none").unwrap();
        assert_eq!(lists.offsets, [0, 2, 4]);
        let Items::Records(columns) = lists.items else {
            panic!()
        };
        assert_eq!(
            columns[0],
            ["dog", "owl", "cat", "dog"].map(String::from).to_vec().into()
        );
        assert_eq!(columns[1], vec![2.0f64, 1.0, 5.0, 5.0].into());
        assert_eq!(run(&task, vec![0.0; 3], 99, "softmax").unwrap().offsets, [0, 3]);
    }

    #[test]
    fn scores_sum_to_one_or_stand_alone_as_the_problem_says() {
        let many = task(json!({"num_labels": 2, "problem_type": "multi_label_classification"}));
        assert_eq!((many.apply, many.labels[1].as_str()), (Apply::Sigmoid, "LABEL_1"));
        let mut row = [0.0, 0.0];
        Apply::Sigmoid.scores(&mut row);
        assert_eq!(row, [0.5, 0.5]);
        let mut row = [1000.0, 1000.0, -1000.0];
        Apply::Softmax.scores(&mut row);
        assert_eq!(row, [0.5, 0.5, 0.0]);
        assert_eq!(task(json!({"id2label": {"0": "x"}})).apply, Apply::Sigmoid);
    }

    #[test]
    fn wrong_parameters_are_named() {
        let task = task(json!({}));
        for (top_k, apply, words) in [
            (0, "none", "top_k: 0 given"),
            (1, "tanh", "function_to_apply: \"tanh\" given"),
        ] {
            let error = run(&task, vec![0.0; 2], top_k, apply).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
