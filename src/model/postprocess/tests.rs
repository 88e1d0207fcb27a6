//! Each step alone, and what is refused.

use super::*;

fn output(dtype: DType, shape: &[Dim]) -> OutputFeature {
    OutputFeature {
        name: "logits".into(),
        column: "logits".into(),
        dtype,
        shape: shape.to_vec(),
        kind: OutputKind::Tensor,
    }
}

fn card(activation: Option<Activation>, select: Option<Select>, labels: Option<&[&str]>) -> OutputCard {
    let labels = labels.map(|labels| labels.iter().map(|label| label.to_string()).collect());
    OutputCard {
        name: None,
        activation,
        select,
        labels,
        score: None,
    }
}

fn run(card: &OutputCard, value: Tensor) -> Result<Tensor> {
    let shape: Vec<_> = value.shape[1..]
        .iter()
        .map(|&extent| Dim::Fixed(extent))
        .collect();
    let mut results = run_all(card, output(value.dtype(), &shape), value)?;
    assert_eq!(results.len(), 1);
    Ok(results.remove(0))
}

/// The tensors that become columns, each of the type and shape that was promised.
fn run_all(card: &OutputCard, output: OutputFeature, value: Tensor) -> Result<Vec<Tensor>> {
    let (step, after) = plan(card, output)?;
    let results = apply(&step, Value::Tensor(value))?;
    assert_eq!(results.len(), after.len());
    let mut tensors = Vec::new();
    for (result, after) in results.into_iter().zip(after) {
        let Value::Tensor(result) = result else {
            panic!("a tensor stays a tensor")
        };
        assert_eq!(result.dtype(), after.dtype);
        let extents = result.shape[1..].iter();
        let promised: Vec<_> = extents.map(|&extent| Dim::Fixed(extent)).collect();
        assert_eq!(promised, after.shape);
        tensors.push(result);
    }
    Ok(tensors)
}

#[test]
fn a_score_is_the_number_of_the_place_that_argmax_names() {
    let card = |activation| OutputCard {
        name: Some("label".into()),
        score: Some("score".into()),
        ..card(activation, Some(Select::Argmax), None)
    };
    let logits = output(DType::F32, &[Dim::Fixed(3)]);
    let (_, columns) = plan(&card(None), logits.clone()).unwrap();
    let names: Vec<_> = columns
        .iter()
        .map(|output| (output.column.as_str(), output.dtype))
        .collect();
    assert_eq!(names, [("label", DType::I64), ("score", DType::F32)]);
    for (activation, expected) in [
        (None, [3.0, 1000.0]),
        (Some(Activation::Softmax), [0.665_240_96, 0.5]),
        (Some(Activation::Sigmoid), [0.952_574_13, 1.0]),
    ] {
        let values = Tensor::new(vec![2, 3], vec![1f32, 2., 3., 1000., 1000., -1000.]).unwrap();
        let columns = run_all(&card(activation), logits.clone(), values).unwrap();
        assert_eq!(columns[0].data, vec![2i64, 0].into());
        let TensorData::F32(scores) = &columns[1].data else {
            panic!("float32 stays float32")
        };
        for (score, expected) in scores.iter().zip(expected) {
            assert!((score - expected).abs() < 1e-6, "{activation:?}: {scores:?}");
        }
    }
}

#[test]
fn softmax_sums_to_one_along_each_row_and_survives_large_numbers() {
    let logits = Tensor::new(vec![2, 3], vec![1f32, 2., 3., 1000., 1000., -1000.]).unwrap();
    let result = run(&card(Some(Activation::Softmax), None, None), logits).unwrap();
    let TensorData::F32(values) = result.data else {
        panic!("float32 stays float32")
    };
    let expected = [0.090_030_57, 0.244_728_47, 0.665_240_96, 0.5, 0.5, 0.0];
    for (value, expected) in values.iter().zip(expected) {
        assert!((value - expected).abs() < 1e-6, "{values:?}");
    }
}

#[test]
fn sigmoid_works_on_single_scores_and_far_from_zero() {
    let scores = Tensor::new(vec![4], vec![0f64, 1., -800., 800.]).unwrap();
    let result = run(&card(Some(Activation::Sigmoid), None, None), scores).unwrap();
    assert_eq!(result.data, vec![0.5, 0.731_058_578_630_004_9, 0.0, 1.0].into());
}

#[test]
fn half_precision_stays_half_precision() {
    let scores = Tensor::new(vec![1], vec![f16::from_f32(0.0)]).unwrap();
    let result = run(&card(Some(Activation::Sigmoid), None, None), scores).unwrap();
    assert_eq!(result.data, vec![f16::from_f32(0.5)].into());
}

#[test]
fn argmax_gives_places_or_labels_the_first_of_equals_and_passes_over_nan() {
    let scores = Tensor::new(vec![3, 2], vec![1f32, 2., 5., 5., f32::NAN, -1.]).unwrap();
    let places = run(&card(None, Some(Select::Argmax), None), scores.clone()).unwrap();
    assert_eq!((places.shape, places.data), (vec![3], vec![1i64, 0, 1].into()));
    let labels = run(
        &card(
            Some(Activation::Softmax),
            Some(Select::Argmax),
            Some(&["no", "yes"]),
        ),
        scores,
    )
    .unwrap();
    assert_eq!(
        labels.data,
        ["yes", "no", "yes"].map(String::from).to_vec().into()
    );
}

#[test]
fn argmax_looks_along_the_last_axis_only() {
    let scores = Tensor::new(vec![1, 2, 2], vec![1f64, 0., 0., 1.]).unwrap();
    let places = run(&card(None, Some(Select::Argmax), None), scores).unwrap();
    assert_eq!((places.shape, places.data), (vec![1, 2], vec![0i64, 1].into()));
}

#[test]
fn a_row_of_nothing_but_nan_is_an_error_that_names_it() {
    let scores = Tensor::new(vec![2, 2], vec![1f32, 2., f32::NAN, f32::NAN]).unwrap();
    let error = run(&card(None, Some(Select::Argmax), None), scores)
        .unwrap_err()
        .to_string();
    assert_eq!(error, "argmax of row 1 of a batch: every score is NaN");
}

#[test]
fn what_an_output_can_not_do_is_refused_before_any_batch() {
    let argmax = card(None, Some(Select::Argmax), Some(&["a", "b"]));
    for (card, output, part) in [
        (&argmax, output(DType::I64, &[Dim::Fixed(2)]), "holds int64"),
        (&argmax, output(DType::F32, &[]), "at least two numbers"),
        (
            &argmax,
            output(DType::F32, &[Dim::Fixed(1)]),
            "at least two numbers",
        ),
        (
            &argmax,
            output(DType::F32, &[Dim::Fixed(3)]),
            "3 places, and the card has 2 labels",
        ),
        (
            &argmax,
            OutputFeature {
                kind: OutputKind::Map { key: DType::I64 },
                ..output(DType::F32, &[])
            },
            "holds maps",
        ),
    ] {
        let error = plan(card, output).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    let open = plan(&argmax, output(DType::F32, &[Dim::Dynamic])).unwrap();
    assert_eq!(open.1[0].dtype, DType::String);
    let wide = Value::Tensor(Tensor::new(vec![1, 3], vec![0f32, 0., 1.]).unwrap());
    let error = apply(&open.0, wide).unwrap_err().to_string();
    assert!(
        error.contains("place 2, and the model card has 2 labels"),
        "{error}"
    );
}

#[test]
fn renaming_alone_leaves_values_alone() {
    let renamed = OutputCard {
        name: Some("score".into()),
        ..OutputCard::default()
    };
    let (step, after) = plan(&renamed, output(DType::String, &[])).unwrap();
    assert!(step.is_nothing());
    assert_eq!(
        (after[0].name.as_str(), after[0].column.as_str()),
        ("logits", "score")
    );
}
