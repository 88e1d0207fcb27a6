//! A first look at protobuf bytes, without decoding: how many fields there are, and how long.
//!
//! Decoding makes a few dozen bytes of memory from two bytes of file (an empty node, an empty axis), so a small
//! file could ask for much memory. What is counted here bounds that before anything is decoded.

use bytes::Buf;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use std::fmt;

use super::walk::MAX_NODES;
use crate::error::{Error, Result};

/// Most fields directly in one message: nodes of a graph, attributes of a node, tensors of a graph.
const MAX_ENTRIES: usize = 2 * MAX_NODES;
/// Longest list of extents, and longest declaration of an input or output.
const MAX_DECLARATION_BYTES: usize = 64 << 10;

/// Most pieces of the main graph; a real file has one.
const MAX_PIECES: usize = 8;

/// A message whose fields are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The whole file; its main graph is checked along with it.
    Model,
    /// A graph or subgraph.
    Graph,
    /// A function that the model defines.
    Function,
    /// A node.
    Node,
    /// An attribute of a node.
    Attribute,
    /// A tensor.
    Tensor,
    /// A sparse tensor.
    SparseTensor,
}

impl Part {
    /// Whether the field `tag` is data that is skipped, however many there are: numbers and texts of a tensor or of an
    /// attribute, one field each in files of most exporters.
    fn is_data(self, tag: u32) -> bool {
        match self {
            Part::Attribute => (7..=9).contains(&tag), // floats, ints, strings
            Part::Tensor => (4..=7).contains(&tag) || tag == 10 || tag == 11, // …_data
            _ => false,
        }
    }

    /// Whether the field `tag` is decoded in full, so that its length matters.
    fn is_declaration(self, tag: u32) -> bool {
        match self {
            Part::Graph => tag == 11 || tag == 12, // input, output
            Part::Tensor => tag == 1,              // dims
            Part::SparseTensor => tag == 3,        // dims
            _ => false,
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Part::Model => "model",
            Part::Graph => "graph",
            Part::Function => "function",
            Part::Node => "node",
            Part::Attribute => "attribute",
            Part::Tensor => "tensor",
            Part::SparseTensor => "sparse tensor",
        })
    }
}

/// Checks how many fields the message `bytes` has.
///
/// # Errors
/// `Model`, when there are more, or longer ones, than in any real model.
pub fn check(bytes: &[u8], part: Part) -> Result<()> {
    const MODEL_GRAPH: u32 = 7;
    let mut entries = 0;
    let mut too_long = false;
    let mut pieces = Vec::new();
    each_field(bytes, |Field { tag, payload, .. }| {
        entries += usize::from(!part.is_data(tag));
        too_long |= part.is_declaration(tag) && payload.len() > MAX_DECLARATION_BYTES;
        if part == Part::Model && tag == MODEL_GRAPH {
            pieces.push(payload);
        }
        entries <= MAX_ENTRIES && !too_long && pieces.len() <= MAX_PIECES
    });
    if entries > MAX_ENTRIES || too_long || pieces.len() > MAX_PIECES {
        return Err(Error::model(format!(
            "a {part} in the model has more than {MAX_ENTRIES} parts, or a part that is far too long"
        )));
    }
    pieces.into_iter().try_for_each(|piece| check(piece, Part::Graph))
}

/// One field as it stands in the bytes.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    /// Its number.
    pub tag: u32,
    /// Key, length and payload.
    pub whole: &'a [u8],
    /// What it holds; empty for a field without a length.
    pub payload: &'a [u8],
}

/// Calls `visit` for each field until it says no. Stops where the bytes are no protobuf: decoding will say so.
pub fn each_field<'a>(mut bytes: &'a [u8], mut visit: impl FnMut(Field<'a>) -> bool) {
    while bytes.has_remaining() {
        let start = bytes;
        let Ok((tag, wire_type)) = decode_key(&mut bytes) else {
            return;
        };
        let mut payload: &[u8] = &[];
        if wire_type == WireType::LengthDelimited {
            let Ok(length) = decode_varint(&mut bytes) else {
                return;
            };
            let length = usize::try_from(length).ok();
            let Some((inside, rest)) = length.and_then(|length| bytes.split_at_checked(length)) else {
                return;
            };
            (payload, bytes) = (inside, rest);
        } else if skip_field(wire_type, tag, &mut bytes, DecodeContext::default()).is_err() {
            return;
        }
        let whole = &start[..start.len() - bytes.len()];
        if !visit(Field { tag, whole, payload }) {
            return;
        }
    }
}
