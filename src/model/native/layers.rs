//! Dense layers in a graph: `MatMul` or `Gemm` with weights that are constant, the bias behind it, and `Relu`.

use std::collections::HashMap;

use super::Uncovered;
use super::proto::{Node, TensorProto};
use crate::model::dense::{Layer, MOST_WEIGHTS};
use crate::tensor::{Tensor, TensorData};

/// Layers that follow each other.
pub struct Chain<'a> {
    pub layers: Vec<Layer>,
    /// What the first one takes.
    pub takes: &'a str,
    /// What the last one gives.
    pub gives: &'a str,
    /// How many nodes they are.
    pub nodes: Vec<&'a Node>,
}

/// Who needs which tensor.
pub struct Needs<'a> {
    by: HashMap<&'a str, Vec<&'a Node>>,
    outputs: &'a [&'a str],
}

impl<'a> Needs<'a> {
    pub fn of(nodes: &[&'a Node], outputs: &'a [&'a str]) -> Needs<'a> {
        let mut by: HashMap<&str, Vec<&Node>> = HashMap::new();
        for node in nodes {
            for input in &node.input {
                by.entry(input).or_default().push(node);
            }
        }
        Needs { by, outputs }
    }

    /// The only node that needs `tensor`.
    fn only(&self, tensor: &str) -> Option<&'a Node> {
        match self.by.get(tensor)?.as_slice() {
            [only] if !self.outputs.contains(&tensor) => Some(only),
            _ => None,
        }
    }
}

/// The layers from `first` on; `None`, if it is not one.
///
/// # Errors
/// In words, for a layer that is not covered.
pub fn chain<'a>(
    first: &'a Node,
    needs: &Needs<'a>,
    constants: &HashMap<String, &TensorProto>,
) -> Result<Option<Chain<'a>>, Uncovered> {
    let constant = |name: &str| -> Result<Option<Tensor>, Uncovered> {
        constants.get(name).map(|tensor| tensor.tensor()).transpose()
    };
    let Some(layer) = product(first, constant)? else {
        return Ok(None);
    };
    let mut chain = Chain {
        layers: vec![layer],
        takes: &first.input[0],
        gives: &first.output[0],
        nodes: vec![first],
    };
    while let Some(next) = needs.only(chain.gives) {
        let last = chain.layers.len() - 1;
        let layer = &mut chain.layers[last];
        let is_bare = !layer.is_rectified;
        match kind(next) {
            "Relu" => layer.is_rectified = true,
            "Add" if is_bare => {
                let other = next.input.iter().find(|input| *input != chain.gives);
                let other = other.map(|name| constant(name)).transpose()?.flatten();
                match other.and_then(|bias| spread(&bias, layer.units)) {
                    Some(bias) => std::iter::zip(&mut layer.bias, bias).for_each(|(sum, more)| *sum += more),
                    None => break,
                }
            }
            "MatMul" | "Gemm" if next.input[0] == chain.gives => match product(next, constant)? {
                Some(product) => chain.layers.push(product),
                None => break,
            },
            _ => break,
        }
        let [output] = next.output.as_slice() else {
            return Err("several outputs".to_string());
        };
        chain.gives = output;
        chain.nodes.push(next);
    }
    Ok(Some(chain))
}

/// The operator, if it is one of ONNX itself.
fn kind(node: &Node) -> &str {
    match node.domain.as_str() {
        "" | "ai.onnx" => &node.op_type,
        _ => "",
    }
}

/// A row times constant weights, and what is added to it at once.
fn product(
    node: &Node,
    constant: impl Fn(&str) -> Result<Option<Tensor>, Uncovered>,
) -> Result<Option<Layer>, Uncovered> {
    let is_gemm = match kind(node) {
        "MatMul" => false,
        "Gemm" => true,
        _ => return Ok(None),
    };
    let ([_, weights, rest @ ..], [_]) = (node.input.as_slice(), node.output.as_slice()) else {
        return Err("an unusual number of inputs or outputs".to_string());
    };
    let Some(weights) = constant(weights)? else {
        return Err("weights that are no constant".to_string());
    };
    let is_plain = |name: &str| node.attribute(name).is_none_or(|attribute| attribute.f == 1.0);
    if node.int("transA").unwrap_or(0) != 0 || !is_plain("alpha") || !is_plain("beta") {
        return Err("a product that is turned or scaled".to_string());
    }
    let is_turned = is_gemm && node.int("transB").unwrap_or(0) != 0;
    let (&[rows, columns], TensorData::F32(values)) = (weights.shape.as_slice(), &weights.data) else {
        return Err("weights that are no matrix of float32".to_string());
    };
    if values.len() > MOST_WEIGHTS {
        return Err(format!("a layer of more than {MOST_WEIGHTS} weights"));
    }
    let (inputs, units) = if is_turned {
        (columns, rows)
    } else {
        (rows, columns)
    };
    let weights = match is_turned {
        false => values.clone(),
        true => (0..inputs)
            .flat_map(|input| (0..units).map(move |unit| values[unit * inputs + input]))
            .collect(),
    };
    let bias = match rest {
        [] => vec![0.0; units],
        [name] if name.is_empty() => vec![0.0; units],
        [name] => {
            let bias = constant(name)?.and_then(|bias| spread(&bias, units));
            bias.ok_or("a bias that is no constant, or of another width")?
        }
        _ => return Err("several biases".to_string()),
    };
    Ok(Some(Layer {
        inputs,
        units,
        weights,
        bias,
        is_rectified: false,
    }))
}

/// A constant as one number for each of `units` units.
fn spread(constant: &Tensor, units: usize) -> Option<Vec<f32>> {
    let (_, before) = constant.shape.split_last().unwrap_or((&1, &[]));
    let TensorData::F32(values) = &constant.data else {
        return None;
    };
    match values.as_slice() {
        _ if before.len() > 1 || before.iter().any(|&extent| extent != 1) => None,
        [only] => Some(vec![*only; units]),
        values => (values.len() == units).then(|| values.to_vec()),
    }
}
