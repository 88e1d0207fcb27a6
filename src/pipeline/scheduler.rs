//! The scheduler: which piece of work a free worker takes.
//!
//! All state is behind one lock that is held for microseconds; pieces of work take milliseconds. What a worker works
//! on (a chunk's reader, a unit's encoder) is moved out of the state and back, so nobody ever waits for a lock while
//! somebody computes. Urgency: encode what is next in order in the oldest unit; else decode and score the next block of
//! the oldest chunk that is not being decoded; else help with a block that somebody else is scoring; else wait.
//!
//! Channels would fix *which* queue a worker waits on; here it must be able to take whatever is most urgent.

use arrow::array::RecordBatch;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use super::gauge::{Reservation, Slot};
use super::shares::{InHand, Share};
use crate::plan::Unit;
use crate::read::ChunkReader;
use crate::write::UnitEncoder;
use crate::write::splice::Spliced;

/// A chunk whose bytes are here.
pub(super) struct ReadyChunk {
    pub(super) reader: ChunkReader,
    pub(super) blocks: usize,
    /// Given back with the chunk, after its last block.
    pub(super) _reservation: Reservation,
}

/// A block with its predictions, waiting for its turn to be encoded.
pub(super) struct ScoredBlock {
    /// Rows of the columns to encode.
    pub(super) rows: RecordBatch,
    /// What their columns are: positions in the output's schema.
    pub(super) columns: Vec<usize>,
    /// The columns that are copied, with the last block of the chunk, which ends a row group.
    pub(super) ends_chunk: Option<Spliced>,
}

/// A unit in work.
pub(super) struct OpenUnit {
    unit: Unit,
    /// Moved out while a worker encodes.
    encoder: Option<UnitEncoder>,
    /// The chunks that have arrived and are not yet decoded to the end.
    chunks: VecDeque<ChunkSlot>,
    /// Index of the first block of each chunk, and one past the last block.
    first_blocks: Vec<usize>,
    arrived: usize,
    /// Blocks that are being scored, oldest first as a rule.
    in_hand: Vec<Arc<InHand>>,
    scored: BTreeMap<usize, ScoredBlock>,
    next_to_encode: usize,
    started: bool,
    stage_secs: Vec<(&'static str, f64)>,
    /// Given back when the unit is encoded; its bytes only when it is stored.
    _slot: Slot,
    output: Reservation,
}

struct ChunkSlot {
    /// Moved out while a worker decodes.
    chunk: Option<ReadyChunk>,
    next_block: usize,
    end_block: usize,
}

impl OpenUnit {
    pub(super) fn new(
        unit: Unit,
        encoder: UnitEncoder,
        block_counts: Vec<usize>,
        slot: Slot,
        output: Reservation,
    ) -> Self {
        let mut first_blocks = vec![0];
        for count in block_counts {
            first_blocks.push(first_blocks[first_blocks.len() - 1] + count);
        }
        OpenUnit {
            unit,
            encoder: Some(encoder),
            chunks: VecDeque::new(),
            first_blocks,
            arrived: 0,
            in_hand: Vec::new(),
            scored: BTreeMap::new(),
            next_to_encode: 0,
            started: false,
            stage_secs: Vec::new(),
            _slot: slot,
            output,
        }
    }

    fn blocks(&self) -> usize {
        self.first_blocks[self.first_blocks.len() - 1]
    }
}

/// What a worker is to do next.
pub(super) enum Task {
    /// Decode the next block of a chunk and score it.
    Score(Box<ScoreTask>),
    /// Score some batches of a block that somebody else has decoded.
    Help(Share),
    /// Encode blocks, in this order.
    Encode(Box<EncodeTask>),
    /// There is nothing left.
    Exit,
}

/// A block to decode and score.
pub(super) struct ScoreTask {
    pub(super) order: usize,
    pub(super) chunk: ReadyChunk,
    /// The block's index within the unit.
    pub(super) block: usize,
    pub(super) ends_chunk: bool,
    slot: usize,
}

/// Blocks to encode.
pub(super) struct EncodeTask {
    pub(super) order: usize,
    pub(super) encoder: UnitEncoder,
    pub(super) blocks: Vec<ScoredBlock>,
    /// Whether other workers have nothing to do and could help.
    pub(super) others_are_idle: bool,
}

/// A unit with all blocks encoded.
pub(super) struct EncodedUnit {
    pub(super) unit: Unit,
    pub(super) encoder: UnitEncoder,
    pub(super) stage_secs: Vec<(&'static str, f64)>,
    pub(super) output: Reservation,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Take new units.
    Run,
    /// Finish units that have begun, start none.
    Drain,
    /// Stop now.
    Abort,
}

struct State {
    units: BTreeMap<usize, OpenUnit>,
    feed_is_done: bool,
    mode: Mode,
    idle_workers: usize,
}

/// See the [module](self) page.
pub(super) struct Scheduler {
    state: Mutex<State>,
    wake: Condvar,
    max_ahead: usize,
    /// Asked before every batch, and so beside the lock.
    is_aborted: AtomicBool,
}

impl Scheduler {
    /// A scheduler that lets blocks of a unit be scored up to `max_ahead` before the next one to encode.
    pub(super) fn new(max_ahead: usize) -> Scheduler {
        Scheduler {
            state: Mutex::new(State {
                units: BTreeMap::new(),
                feed_is_done: false,
                mode: Mode::Run,
                idle_workers: 0,
            }),
            wake: Condvar::new(),
            max_ahead,
            is_aborted: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock.
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// A unit begins; its chunks follow.
    pub(super) fn open(&self, order: usize, unit: OpenUnit) {
        self.lock().units.insert(order, unit);
    }

    /// The next chunk of the unit is here.
    pub(super) fn submit(&self, order: usize, chunk: ReadyChunk) {
        let mut state = self.lock();
        // A unit is only gone when the pipeline was aborted.
        if let Some(unit) = state.units.get_mut(&order) {
            let first = unit.first_blocks[unit.arrived];
            unit.arrived += 1;
            unit.chunks.push_back(ChunkSlot {
                next_block: first,
                end_block: first + chunk.blocks,
                chunk: Some(chunk),
            });
        }
        drop(state);
        self.wake.notify_all();
    }

    /// Every unit has been opened and every chunk submitted.
    pub(super) fn no_more_units(&self) {
        self.lock().feed_is_done = true;
        self.wake.notify_all();
    }

    /// Finish what has begun, begin nothing.
    pub(super) fn drain(&self) {
        let mut state = self.lock();
        if state.mode == Mode::Run {
            state.mode = Mode::Drain;
        }
        drop(state);
        self.wake.notify_all();
    }

    /// Stop as soon as the work in hand is done.
    pub(super) fn abort(&self) {
        let mut state = self.lock();
        state.mode = Mode::Abort;
        self.is_aborted.store(true, Ordering::Relaxed);
        // Dropping units gives their memory back to a feed that may still wait for it.
        state.units.clear();
        drop(state);
        self.wake.notify_all();
    }

    /// The most urgent piece of work; waits until there is one.
    pub(super) fn next(&self) -> Task {
        let mut state = self.lock();
        loop {
            if let Some(task) = state.pick(self.max_ahead) {
                return task;
            }
            state.idle_workers += 1;
            state = self
                .wake
                .wait(state)
                .unwrap_or_else(|poisoned| poisoned.into_inner());
            state.idle_workers -= 1;
        }
    }

    /// The task's block is decoded: others may go on with the chunk. `None` when it was the chunk's last block.
    pub(super) fn decoded(&self, order: usize, slot: usize, chunk: Option<ReadyChunk>) {
        let mut state = self.lock();
        if let Some(unit) = state.units.get_mut(&order) {
            match chunk {
                Some(chunk) => {
                    if let Some(own) = unit.chunks.iter_mut().find(|other| other.end_block == slot) {
                        own.chunk = Some(chunk);
                    }
                }
                None => unit.chunks.retain(|other| other.end_block != slot),
            }
        }
        drop(state);
        self.wake.notify_one();
    }

    /// It is clear what the batches of a block are: others may help with them.
    pub(super) fn deal(&self, block: &Arc<InHand>) {
        if !block.can_be_split() {
            return;
        }
        let mut state = self.lock();
        if let Some(unit) = state.units.get_mut(&block.order) {
            unit.in_hand.push(block.clone());
        }
        drop(state);
        self.wake.notify_all();
    }

    /// Whether what is in work is not needed any more.
    pub(super) fn is_aborted(&self) -> bool {
        self.is_aborted.load(Ordering::Relaxed)
    }

    /// A block is scored. `stage_secs` is what it cost.
    pub(super) fn scored(
        &self,
        order: usize,
        block: usize,
        scored: ScoredBlock,
        stage_secs: &[(&'static str, f64)],
    ) {
        let mut state = self.lock();
        if let Some(unit) = state.units.get_mut(&order) {
            unit.in_hand.retain(|other| other.index != block);
            unit.scored.insert(block, scored);
            unit.spend(stage_secs);
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Blocks are encoded. Answers with the unit when they were its last.
    pub(super) fn encoded(
        &self,
        order: usize,
        encoder: UnitEncoder,
        blocks: usize,
        stage_secs: &[(&'static str, f64)],
    ) -> Option<EncodedUnit> {
        let mut state = self.lock();
        let unit = state.units.get_mut(&order)?;
        unit.next_to_encode += blocks;
        unit.spend(stage_secs);
        let is_last = unit.next_to_encode == unit.blocks();
        let finished = if is_last {
            state.units.remove(&order).map(|unit| EncodedUnit {
                unit: unit.unit,
                encoder,
                stage_secs: unit.stage_secs,
                output: unit.output,
            })
        } else {
            unit.encoder = Some(encoder);
            None
        };
        drop(state);
        self.wake.notify_all();
        finished
    }
}

impl OpenUnit {
    fn spend(&mut self, stage_secs: &[(&'static str, f64)]) {
        for (stage, secs) in stage_secs {
            match self.stage_secs.iter_mut().find(|(known, _)| known == stage) {
                Some((_, total)) => *total += secs,
                None => self.stage_secs.push((stage, *secs)),
            }
        }
    }

    fn take_encode(&mut self) -> Option<(UnitEncoder, Vec<ScoredBlock>)> {
        if !self.scored.contains_key(&self.next_to_encode) {
            return None;
        }
        let encoder = self.encoder.take()?;
        let mut blocks = Vec::new();
        while let Some(block) = self.scored.remove(&(self.next_to_encode + blocks.len())) {
            blocks.push(block);
        }
        Some((encoder, blocks))
    }

    fn take_score(&mut self, order: usize, max_ahead: usize) -> Option<ScoreTask> {
        // A window rather than a count: the block that everybody waits for is always inside it.
        let window_end = self.next_to_encode + max_ahead;
        let slot = self
            .chunks
            .iter_mut()
            .find(|slot| slot.chunk.is_some() && slot.next_block < window_end)?;
        let chunk = slot.chunk.take()?;
        let block = slot.next_block;
        slot.next_block += 1;
        let task = ScoreTask {
            order,
            chunk,
            block,
            ends_chunk: slot.next_block == slot.end_block,
            slot: slot.end_block,
        };
        self.started = true;
        Some(task)
    }
}

impl ScoreTask {
    /// Names the chunk within its unit, for [`Scheduler::decoded`].
    pub(super) fn slot(&self) -> usize {
        self.slot
    }
}

impl State {
    fn pick(&mut self, max_ahead: usize) -> Option<Task> {
        if self.mode == Mode::Abort {
            return Some(Task::Exit);
        }
        let others_are_idle = self.idle_workers > 0;
        for (&order, unit) in &mut self.units {
            if let Some((encoder, blocks)) = unit.take_encode() {
                return Some(Task::Encode(Box::new(EncodeTask {
                    order,
                    encoder,
                    blocks,
                    others_are_idle,
                })));
            }
        }
        let draining = self.mode == Mode::Drain;
        for (&order, unit) in &mut self.units {
            if draining && !unit.can_finish() {
                continue;
            }
            if let Some(task) = unit.take_score(order, max_ahead) {
                return Some(Task::Score(Box::new(task)));
            }
        }
        let blocks = self
            .units
            .values()
            .filter(|unit| !draining || unit.can_finish())
            .flat_map(|unit| &unit.in_hand);
        if let Some(share) = blocks.into_iter().find_map(InHand::split) {
            return Some(Task::Help(share));
        }
        let is_done = match self.mode {
            Mode::Drain => !self.units.values().any(OpenUnit::can_finish),
            _ => self.feed_is_done && self.units.is_empty(),
        };
        is_done.then_some(Task::Exit)
    }
}

impl OpenUnit {
    /// Whether a unit that has begun will come to its end although the feed was cut off: all its chunks are here.
    fn can_finish(&self) -> bool {
        self.started && self.arrived + 1 == self.first_blocks.len()
    }
}
