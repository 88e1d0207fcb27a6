//! Where a replica's units come from: its own share, then those of replicas that are slow or gone.
//!
//! [`plan::help`](crate::plan::help) decides; this is its eyes and hands: it lists what is committed and noted, waits,
//! and makes notes. Listings are spaced so that they never take more than a twentieth of the time.

use async_trait::async_trait;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

use crate::commit::{self, Claimed};
use crate::config;
use crate::error::Result;
use crate::pipeline::{Supply, UnitSource};
use crate::plan::Unit;
use crate::plan::help::{Next, Queue};
use crate::storage::OutputStore;
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
    board: Arc<Board>,
    listed: Instant,
    listing_took: Duration,
    pause: Duration,
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
            board: Arc::new(board),
            listed: Instant::now(),
            listing_took: Duration::ZERO,
            pause: FIRST_LOOK,
        };
        queue.look().await?;
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

    async fn look(&mut self) -> Result<()> {
        let began = Instant::now();
        let progress = commit::help::progress(&self.store, &self.claimed).await?;
        self.listed = Instant::now();
        self.listing_took = self.listed - began;
        let now = self.board.now();
        self.board
            .lock()
            .queue
            .saw(progress.committed, progress.notes, now);
        Ok(())
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
        let pause = self.pause.max(self.listing_took * LISTING_SHARE).min(at_most);
        let board = self.board.clone();
        tokio::select! {
            () = tokio::time::sleep(pause) => {
                self.pause = (self.pause * 2).min(LAST_LOOK);
                self.look().await
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
                Next::Own(unit) => return Ok(self.take(unit, false)),
                Next::Help { unit, note } => {
                    let index = self.replica.index;
                    if commit::help::announce(&self.store, &self.claimed, unit, note, index).await {
                        return Ok(self.take(unit, true));
                    }
                    let now = self.board.now();
                    self.board.lock().queue.lost(unit, note, now);
                }
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
            Some(first) => Ok(first),
            None => self.queue.next().await,
        }
    }
}
