//! Where a replica's units come from: its own share, then those of replicas that are slow or gone.
//!
//! [`plan::help`](crate::plan::help) decides; this is its eyes and hands: it lists what is committed and noted, waits,
//! and makes [notes]. Listings are spaced so that they never take more than a twentieth of the time.

use async_trait::async_trait;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::OutputStore;
use crate::commit::Claimed;
use crate::commit::layout::{Note, RecordName};
use crate::commit::notes::{self, Progress};
use crate::config;
use crate::error::{Error, Result};
use crate::pipeline::{Supply, UnitSource};
use crate::plan::Unit;
use crate::plan::help::{Next, Queue};
use crate::storage::StoreClass;
use crate::telemetry::metrics::Metrics;

/// While there is work, the listing is taken to be good for this long.
const LISTING_KEEPS: Duration = Duration::from_millis(100);

/// A waiting replica looks again after this long, then after twice as long, …
const FIRST_LOOK: Duration = Duration::from_millis(50);

/// … and at least so often.
const LAST_LOOK: Duration = Duration::from_secs(2);

/// A listing is repeated only after so many times as long as it took.
const LISTING_SHARE: u32 = 20;

/// A replica's units and what is known of everybody's, shared by who takes units and who commits them.
pub struct Board {
    state: Mutex<State>,
    committed_here: Notify,
    began: Instant,
    metrics: Arc<Metrics>,
}

struct State {
    queue: Queue,
    /// Units taken and not yet committed by this process.
    in_work: usize,
    /// Units of other shares that this replica took.
    helped: usize,
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock.
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// This process has seen to it that the unit is committed.
    pub fn committed(&self, unit: u32) {
        let mut state = self.lock();
        state.queue.committed(unit, self.now());
        state.in_work = state.in_work.saturating_sub(1);
        drop(state);
        self.committed_here.notify_one();
    }

    /// How long this process has had the unit in hand.
    pub fn held(&self, unit: u32) -> Duration {
        self.lock().queue.held(unit, self.now())
    }

    /// How many units of other replicas this one took.
    pub fn helped(&self) -> usize {
        self.lock().helped
    }
}

/// The source of a replica's units; see the [module](self) page.
pub struct UnitQueue {
    store: OutputStore,
    claimed: Claimed,
    replica: config::Replica,
    helps: bool,
    /// Whether this replica was started before.
    restarted: bool,
    board: Arc<Board>,
    listed: Instant,
    listing_took: Duration,
    pause: Duration,
    /// The record of a unit that somebody has committed.
    a_record: Option<RecordName>,
    /// The note of this start, while it is being made.
    noting: JoinSet<()>,
}

impl UnitQueue {
    /// Lists what is committed. `units_in_hand`: how many units a replica has in work at a time.
    pub async fn new(
        store: OutputStore,
        claimed: Claimed,
        replica: config::Replica,
        units_in_hand: usize,
        helps: bool,
        metrics: Arc<Metrics>,
    ) -> Result<UnitQueue> {
        let helps = helps && replica.count > 1;
        if helps && claimed.plan.store_class == StoreClass::B {
            tracing::info!(
                "replicas don't help each other on a store of class B: a unit may be in one hand at a time"
            );
        }
        let helps = helps && claimed.plan.store_class == StoreClass::A;
        let queue = Queue::new(
            &claimed.plan.units,
            replica.count,
            replica.index,
            units_in_hand,
            helps,
        );
        let board = Board {
            state: Mutex::new(State {
                queue,
                in_work: 0,
                helped: 0,
            }),
            committed_here: Notify::new(),
            began: Instant::now(),
            metrics,
        };
        let mut queue = UnitQueue {
            store,
            claimed,
            replica,
            helps,
            restarted: false,
            board: Arc::new(board),
            listed: Instant::now(),
            listing_took: Duration::ZERO,
            pause: FIRST_LOOK,
            a_record: None,
            noting: JoinSet::new(),
        };
        // Of an epoch that this process has just made nobody can have done much.
        let is_new = !queue.claimed.resumed && queue.claimed.plan.store_class == StoreClass::A;
        let progress = match is_new {
            true => Progress::default(),
            false => queue.look().await?,
        };
        let index = replica.index as u32;
        let starts = progress.starts.get(&index).copied().unwrap_or(0);
        queue.restarted = starts > 0;
        queue.board.lock().queue.saw_tries(progress.tried);
        let note = Note::Start { replica: index };
        if !is_new {
            queue.note(note, starts).await;
            return Ok(queue);
        }
        // Models and room in the output are made meanwhile.
        let (store, claimed) = (queue.store.clone(), queue.claimed.clone());
        queue.noting.spawn(async move {
            notes::make(&store, &claimed, note, starts, replica.index).await;
        });
        Ok(queue)
    }

    /// What takes note of commits.
    pub fn board(&self) -> Arc<Board> {
        self.board.clone()
    }

    /// The replica's own units, in the order of work, each with whether it is committed.
    pub fn own(&self) -> Vec<(Unit, bool)> {
        let state = self.board.lock();
        let own = state.queue.own().iter();
        own.map(|&id| (self.unit(id), state.queue.is_committed(id)))
            .collect()
    }

    fn unit(&self, id: u32) -> Unit {
        self.claimed.plan.units[id as usize].clone()
    }

    fn poison(&self, unit: u32, taken: u32) -> Error {
        let plan = &self.claimed.plan;
        let parts = &plan.units[unit as usize].parts;
        let files: Vec<&str> = parts
            .iter()
            .map(|part| plan.inputs[part.file as usize].path.as_str())
            .collect();
        let more = match files.len() {
            0 | 1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        Error::model(format!(
            "a unit was begun by at least {} processes that ended before it was committed",
            taken + 1
        ))
        .with("unit", unit)
        .with("file", format!("{}{more}", files.first().unwrap_or(&"none")))
        .with_hint(
            "if they were killed for memory, give them more or lower max_batch_rows; if they crashed, look at the model \
             and these rows; other units are done or in work, and a new run tries again",
        )
    }

    async fn note(&self, note: Note, nth: u32) -> bool {
        notes::make(&self.store, &self.claimed, note, nth, self.replica.index).await
    }

    async fn look(&mut self) -> Result<Progress> {
        let began = Instant::now();
        let progress = notes::progress(&self.store, &self.claimed).await?;
        self.listed = Instant::now();
        self.listing_took = self.listed - began;
        let now = self.board.now();
        let committed = progress.committed.keys().copied();
        self.a_record = progress.committed.values().next().copied();
        let helped = progress.helped.iter().map(|(&unit, &count)| (unit, count));
        self.board.lock().queue.saw(committed, helped, now);
        Ok(progress)
    }

    fn is_stale(&self) -> bool {
        self.helps && self.listed.elapsed() > LISTING_KEEPS.max(self.listing_took * LISTING_SHARE)
    }

    fn take(&mut self, id: u32, is_help: bool) -> Supply {
        let unit = self.unit(id);
        let now = self.board.now();
        let mut state = self.board.lock();
        state.queue.take(id, now);
        state.in_work += 1;
        if is_help {
            state.helped += 1;
            let metrics = &self.board.metrics;
            metrics.units_helped.add(1);
            metrics.units_total.add(1);
            metrics.rows_total.add(unit.rows);
            tracing::debug!(unit = id, "taking a unit of another replica");
        }
        drop(state);
        self.pause = FIRST_LOOK;
        Supply::Unit(unit)
    }

    /// Waits until something is committed here, or until it is time to look what others have done.
    async fn wait(&mut self, at_most: Duration) -> Result<()> {
        if let Some(record) = self.a_record.filter(|_| self.board.lock().queue.is_blind()) {
            let took = notes::took(&self.store, &self.claimed, record).await;
            // Without an answer another record may be the next listing's first, or this one is asked again.
            if let Some(took) = took {
                self.board.lock().queue.learned(record.unit, took);
                return Ok(());
            }
        }
        let pause = self.pause.max(self.listing_took * LISTING_SHARE).min(at_most);
        let board = self.board.clone();
        tokio::select! {
            () = tokio::time::sleep(pause) => {
                self.pause = (self.pause * 2).min(LAST_LOOK);
                self.look().await.map(drop)
            }
            () = board.committed_here.notified() => Ok(()),
        }
    }
}

#[async_trait]
impl UnitSource for UnitQueue {
    async fn next(&mut self) -> Result<Supply> {
        loop {
            if self.is_stale() {
                self.look().await?;
            }
            let now = self.board.now();
            let next = self.board.lock().queue.next(now);
            match next {
                Next::Own(unit) => {
                    if self.restarted {
                        let replica = self.replica.index as u32;
                        let tries = self.board.lock().queue.tries(unit);
                        self.note(Note::Try { unit, replica }, tries).await;
                    }
                    return Ok(self.take(unit, false));
                }
                Next::Help { unit, note } => {
                    if self.note(Note::Help { unit }, note).await {
                        return Ok(self.take(unit, true));
                    }
                    let now = self.board.now();
                    self.board.lock().queue.lost(unit, note, now);
                }
                // What is in work is worth finishing before this ends.
                Next::Poison { .. } if self.board.lock().in_work > 0 => self.wait(LAST_LOOK).await?,
                Next::Poison { unit, taken } => return Err(self.poison(unit, taken)),
                Next::Wait(at_most) => self.wait(at_most).await?,
                Next::Done => {
                    let state = self.board.lock();
                    let is_enough = state.in_work > 0 && state.queue.is_complete();
                    return Ok(if is_enough { Supply::Enough } else { Supply::NoMore });
                }
            }
        }
    }
}

/// A queue whose first unit has been taken already, to know whether there is any.
pub struct Primed {
    first: Option<Supply>,
    queue: UnitQueue,
}

impl Primed {
    /// Nothing taken yet.
    pub fn new(queue: UnitQueue) -> Primed {
        Primed { first: None, queue }
    }

    /// Waits for the first unit; false if there is none.
    pub async fn prime(&mut self) -> Result<bool> {
        let first = self.queue.next().await?;
        let is_unit = matches!(first, Supply::Unit(_));
        self.first = Some(first);
        Ok(is_unit)
    }
}

#[async_trait]
impl UnitSource for Primed {
    async fn next(&mut self) -> Result<Supply> {
        match self.first.take() {
            Some(first) => {
                // A unit that kills this process must find the note of its start made.
                while self.queue.noting.join_next().await.is_some() {}
                Ok(first)
            }
            None => self.queue.next().await,
        }
    }
}
