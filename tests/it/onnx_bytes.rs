//! ONNX files written byte by byte: what no exporter would write.
//!
//! Nothing here is shared with the reader under test; field numbers are those of `onnx.proto`.

/// A field that holds bytes: a message, a text or data.
pub fn field(number: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut bytes = encoded_varint(u64::from(number << 3 | 2));
    bytes.extend(encoded_varint(payload.len() as u64));
    bytes.extend(payload);
    bytes
}

/// A field that holds a number.
pub fn number(number: u32, value: i64) -> Vec<u8> {
    [
        encoded_varint(u64::from(number << 3)),
        encoded_varint(value as u64),
    ]
    .concat()
}

/// A number as protobuf writes it.
pub fn encoded_varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// ONNX's number for float32.
pub const FLOAT: i64 = 1;
/// ONNX's number for int64.
pub const INT64: i64 = 7;

/// A tensor of `element` with its data as raw bytes.
pub fn tensor(name: &str, element: i64, dims: &[i64], data: &[u8]) -> Vec<u8> {
    [tensor_without_data(name, element, dims), field(9, data)].concat()
}

pub fn tensor_without_data(name: &str, element: i64, dims: &[i64]) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|&dim| number(1, dim)).collect();
    [dims, number(2, element), field(8, name)].concat()
}

/// A float32 `[4]` whose values lie in the file `location`.
pub fn external(name: &str, location: &str) -> Vec<u8> {
    let entry = |key: &str, value: &str| field(13, [field(1, key), field(2, value)].concat());
    [
        tensor_without_data(name, FLOAT, &[4]),
        entry("location", location),
        entry("offset", "0"),
        entry("length", "16"),
        number(14, 1),
    ]
    .concat()
}

/// A node, as a field of a graph.
pub fn node(operator: &str, inputs: &[&str], outputs: &[&str], attributes: &[Vec<u8>]) -> Vec<u8> {
    node_of("", operator, inputs, outputs, attributes)
}

pub fn node_of(
    domain: &str,
    operator: &str,
    inputs: &[&str],
    outputs: &[&str],
    attributes: &[Vec<u8>],
) -> Vec<u8> {
    field(1, node_body(domain, operator, inputs, outputs, attributes))
}

/// A node without inputs, as a field of a function.
pub fn node_in_function(domain: &str, operator: &str, outputs: &[&str], attributes: &[Vec<u8>]) -> Vec<u8> {
    field(7, node_body(domain, operator, &[], outputs, attributes))
}

fn node_body(
    domain: &str,
    operator: &str,
    inputs: &[&str],
    outputs: &[&str],
    attributes: &[Vec<u8>],
) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(inputs.iter().flat_map(|name| field(1, name)));
    bytes.extend(outputs.iter().flat_map(|name| field(2, name)));
    bytes.extend(field(4, operator));
    bytes.extend(attributes.iter().flat_map(|attribute| field(5, attribute)));
    bytes.extend(field(7, domain));
    bytes
}

/// An attribute whose value is the field `place` of `AttributeProto`; `kind` is its declared type.
pub fn attribute(name: &str, place: u32, kind: i64, value: impl AsRef<[u8]>) -> Vec<u8> {
    [field(1, name), field(place, value), number(20, kind)].concat()
}

pub fn attribute_number(name: &str, value: i64) -> Vec<u8> {
    [field(1, name), number(3, value), number(20, 2)].concat()
}

pub fn tensor_attribute(name: &str, value: &[u8]) -> Vec<u8> {
    attribute(name, 5, 4, value)
}

pub fn graph_attribute(name: &str, value: &[u8]) -> Vec<u8> {
    attribute(name, 6, 5, value)
}

/// The declaration of an input or output; an extent below zero is open.
pub fn value(name: &str, element: i64, dims: &[i64]) -> Vec<u8> {
    let dim = |&extent: &i64| {
        let extent = if extent < 0 {
            field(2, "n")
        } else {
            number(1, extent)
        };
        field(1, extent)
    };
    let shape: Vec<u8> = dims.iter().flat_map(dim).collect();
    let of = [number(1, element), field(2, shape)].concat();
    [field(1, name), field(2, field(1, of))].concat()
}

/// `float X[n, 4]` to `float y[n, 4]`, with `parts` as what the graph holds beside.
pub fn graph(parts: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = parts.concat();
    bytes.extend(field(2, "graph"));
    bytes.extend(field(11, value("X", FLOAT, &[-1, 4])));
    bytes.extend(field(12, value("y", FLOAT, &[-1, 4])));
    bytes
}

/// A model around `graph` that the iris columns feed, with `parts` beside it.
pub fn model(graph: &[u8], parts: &[Vec<u8>]) -> Vec<u8> {
    let names = r#"["sepal_length","sepal_width","petal_length","petal_width"]"#;
    let mut bytes = [number(1, 8), field(2, "hand"), field(7, graph)].concat();
    bytes.extend(field(8, number(2, 17)));
    bytes.extend(field(14, [field(1, "feature_names"), field(2, names)].concat()));
    bytes.extend(parts.concat());
    bytes
}
