//! Workers that take turns at sessions on GPUs, and do for themselves what needs no GPU.
//!
//! ```text
//! worker:  scale ─▶ copy to pinned memory ─▶ wait ─▶│ copy in ─▶ kernels ─▶ copy out │─▶ read, make columns of it
//!                                                    └──────────── its turn ─────────┘
//! ```
//!
//! Memory that is pinned a GPU reads and writes by itself, at the speed of the bus; any other, the driver copies to such
//! memory first, piece by piece, on the thread whose turn it is. So what a batch consists of is put there before its turn,
//! by the worker, while others compute, and results are read from there after it. Only the turn touches a session or the
//! memory of its GPU. Pinned memory is ONNX Runtime's (`CudaPinned`): an arena with a lock of its own.

use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::Session;
use ort::value::{DynValue, TensorElementType, ValueType};
use std::collections::BTreeMap;
use std::sync::Arc;

use super::providers::Providers;
use super::session::{self, Program};
use super::values;
use crate::error::Result;
use crate::model::Model;
use crate::model::device::turns::Turns;
use crate::tensor::{TensorBatch, Value};

/// What a worker gets for its turn.
pub struct Taken {
    session: Session,
    /// What is asked for, and the memory that it is put into.
    outputs: Vec<(String, MemoryInfo<'static>)>,
    /// The memory that the GPU copies from and to by itself, if it has any, else ordinary.
    memory: MemoryInfo<'static>,
}

impl Taken {
    /// `session`, which gives tensors of numbers in `memory` and everything else in ordinary.
    pub fn new(session: Session, program: &Program, memory: MemoryInfo<'static>) -> Taken {
        let is_numbers = |name: &str| {
            let found = session.outputs().iter().find(|output| output.name() == name);
            found.is_some_and(|output| {
                matches!(output.dtype(), ValueType::Tensor { ty, .. } if *ty != TensorElementType::String)
            })
        };
        let put_into = |name: &str| match is_numbers(name) {
            true => memory.clone(),
            false => MemoryInfo::default(),
        };
        let outputs = program.asked().into_iter();
        Taken {
            outputs: outputs.map(|name| (name.to_string(), put_into(name))).collect(),
            session,
            memory,
        }
    }

    /// The outputs by name; they stay what they are when the turn is over.
    fn run(&mut self, names: &[&str], inputs: &[DynValue]) -> ort::Result<BTreeMap<String, DynValue>> {
        // A new one for each run: a binding keeps the outputs of the last, and would write over them.
        let mut binding = self.session.create_binding()?;
        for (name, input) in std::iter::zip(names, inputs) {
            // Never one that borrows its numbers: of such a one `ort` binds a copy, and its way to copy waits for itself.
            binding.bind_input(*name, input)?;
        }
        for (name, memory) in &self.outputs {
            binding.bind_output_to_device(name, memory)?;
        }
        // It ends when everything is computed and copied.
        let outputs = self.session.run_binding(&binding)?;
        let owned = outputs.into_iter().map(|(name, value)| (name.to_string(), value));
        Ok(owned.collect())
    }
}

/// The memory that a session on the GPU `ordinal` pins; ordinary, if it doesn't.
fn pinned(session: &Session, ordinal: i32) -> MemoryInfo<'static> {
    // CUDA's provider has it under the GPU's number; earlier ones, and TensorRT's, under 0.
    let found = [ordinal, 0].into_iter().find_map(|ordinal| {
        let (device, kind) = (AllocationDevice::CUDA_PINNED, AllocatorType::Device);
        let memory = MemoryInfo::new(device, ordinal, kind, MemoryType::CPUOutput).ok()?;
        Allocator::new(session, memory.clone()).ok().map(|_| memory)
    });
    found.unwrap_or_else(|| {
        tracing::warn!(
            "ONNX Runtime has no pinned memory for cuda:{ordinal}: copies to and from it are slower"
        );
        MemoryInfo::default()
    })
}

/// Makes the sessions of `program`, one after the other.
pub fn sessions(
    providers: &Providers,
    program: &Arc<Program>,
    mut session: impl FnMut(&Providers) -> Result<Session>,
) -> Result<Arc<Turns<Taken>>> {
    let made = (0..providers.models()).map(|model| {
        let providers = providers.of_model(model);
        let session = session(&providers)?;
        let ordinal = providers.gpu();
        let memory = ordinal.map_or_else(MemoryInfo::default, |ordinal| pinned(&session, ordinal));
        Ok(Taken::new(session, program, memory))
    });
    Ok(Turns::of(made.collect::<Result<Vec<_>>>()?))
}

/// A worker at such sessions.
pub struct InTurn {
    /// Goes before the sessions, which it belongs to one of.
    inputs: Allocator,
    turns: Arc<Turns<Taken>>,
    program: Arc<Program>,
}

impl InTurn {
    /// A worker of `program`, which the sessions were made for.
    pub fn new(turns: Arc<Turns<Taken>>, program: Arc<Program>) -> InTurn {
        // Memory that is pinned for one GPU is so for all.
        let inputs = turns.with(|taken| Allocator::new(&taken.session, taken.memory.clone()));
        InTurn {
            inputs: inputs.unwrap_or_default(),
            turns,
            program,
        }
    }
}

impl Model for InTurn {
    fn infer(&mut self, batch: &TensorBatch) -> Result<Vec<Value>> {
        let program = &self.program;
        let names: Vec<&str> = program.inputs.iter().map(|slot| slot.name.as_str()).collect();
        session::infer(program, batch, |inputs, rows| {
            let scaled = program.scaled(inputs)?;
            let each = std::iter::zip(&program.inputs, &scaled);
            let values =
                each.map(|(slot, tensor)| values::to_owned(&self.inputs, &slot.name, slot.axes, tensor));
            let values = values.collect::<Result<Vec<_>>>()?;
            let outputs = self.turns.with(|taken| taken.run(&names, &values));
            let outputs = outputs.map_err(|cause| program.failed(&cause, inputs, rows))?;
            session::take(program, |name| outputs.get(name), rows)
        })
    }
}
