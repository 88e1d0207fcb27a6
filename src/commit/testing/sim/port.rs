//! A process of the simulator: the public functions of [`commit`](crate::commit), called as `job` calls them, over a
//! store whose operations wait until the simulator serves them.
//!
//! Each life has a runtime and a paused clock of its own, and is polled by the simulator alone: so nothing but the
//! simulator's choices decides what happens when.

use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::super::*;
use super::rng::Rng;
use crate::commit::machine::Answer;

/// What a process asks of the simulator; `None` is time to think, in which anything may happen elsewhere.
pub struct Request {
    pub op: Option<Op>,
    pub answer: oneshot::Sender<Result<Answer>>,
}

/// Where a process leaves its requests.
#[derive(Clone, Default)]
pub struct Port(Arc<Mutex<Vec<Request>>>);

impl Port {
    async fn ask(&self, op: Option<Op>) -> Result<Answer> {
        let (answer, answered) = oneshot::channel();
        self.0.lock().unwrap().push(Request { op, answer });
        answered
            .await
            .expect("the simulator answers or drops the whole process")
    }

    fn waiting(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

#[async_trait]
impl Store for Port {
    async fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        match self.ask(Some(Op::list(prefix))).await? {
            Answer::Listed(listing) => Ok(listing),
            other => unreachable!("{other:?}"),
        }
    }
    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        match self.ask(Some(Op::get(key))).await? {
            Answer::Got(body) => Ok(body),
            other => unreachable!("{other:?}"),
        }
    }
    async fn head(&self, key: &str) -> Result<Option<u64>> {
        match self.ask(Some(Op::head(key))).await? {
            Answer::Size(size) => Ok(size),
            other => unreachable!("{other:?}"),
        }
    }
    async fn create(&self, key: &str, body: Rope) -> Result<Created> {
        let key = key.to_string();
        match self.ask(Some(Op::Create { key, body })).await? {
            Answer::Created(Creation::Yes) => Ok(Created::Yes),
            Answer::Created(Creation::Exists) => Ok(Created::Exists),
            other => unreachable!("{other:?}"),
        }
    }
    async fn put(&self, key: &str, body: Rope) -> Result<()> {
        let key = key.to_string();
        self.ask(Some(Op::Put { key, body })).await.map(|_| ())
    }
    async fn delete(&self, key: &str) -> Result<()> {
        self.ask(Some(Op::delete(key))).await.map(|_| ())
    }
}

/// What a process of the simulator is started with.
#[derive(Clone, Debug)]
pub struct Role {
    pub start: Start,
    /// Whether outputs are partitioned, by a hash of the row.
    pub partitioned: bool,
    /// How many units it commits at a time.
    pub width: usize,
}

/// One life of a process.
pub struct Life {
    pub role: Role,
    pub port: Port,
    future: Pin<Box<dyn Future<Output = Result<Finished>>>>,
    runtime: Runtime,
    /// What it came to.
    pub end: Option<Result<Finished>>,
    /// As in [`Process`].
    pub read_marker: Option<Bytes>,
    pub saw_unprepared: bool,
}

impl Life {
    pub fn new(role: Role, input: &Arc<Mutex<Vec<u64>>>, seed: u64) -> Life {
        let port = Port::default();
        let future = Box::pin(live(port.clone(), role.clone(), input.clone(), Rng(seed)));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        Life {
            role,
            port,
            future,
            runtime,
            end: None,
            read_marker: None,
            saw_unprepared: false,
        }
    }

    /// Lets it go on as far as it can without an answer.
    pub fn poll(&mut self) {
        let future = &mut self.future;
        let polled = self.runtime.block_on(std::future::poll_fn(|context| {
            Poll::Ready(future.as_mut().poll(context))
        }));
        if let Poll::Ready(end) = polled {
            self.end = Some(end);
        }
    }

    /// Requests that wait for an answer. None: it has ended, or sleeps.
    pub fn waiting(&self) -> usize {
        self.port.waiting()
    }

    pub fn take(&mut self, request: usize) -> Request {
        self.port.0.lock().unwrap().remove(request)
    }

    /// Its clock jumps over the pause it makes.
    pub fn wake(&mut self) {
        // No pause is longer than this.
        let pause = tokio::time::advance(Duration::from_secs(4));
        self.runtime.block_on(pause);
        self.poll();
    }
}

/// As `job::run` goes about it.
async fn live(port: Port, role: Role, input: Arc<Mutex<Vec<u64>>>, mut rng: Rng) -> Result<Finished> {
    let Start {
        request,
        help,
        replicas,
        ..
    } = &role.start;
    let build = || async {
        port.ask(None).await?;
        Ok(plan_for(request, &input.lock().unwrap()))
    };
    let claimed = match claim(&port, request.clone(), build).await? {
        ClaimOutcome::Claimed(claimed) => claimed,
        ClaimOutcome::AlreadyComplete(success) => return Ok(Finished::Complete(success)),
    };
    let done = committed(&port, &claimed).await?;
    let share = plan::assign::assign(&claimed.plan.units, *replicas as usize)
        .swap_remove(request.replica_index as usize);
    let to_do: Vec<u32> = share
        .into_iter()
        .filter(|unit| !done.contains_key(unit))
        .collect();
    stream::iter(to_do)
        .map(|unit| score(&port, &claimed, unit, &role))
        .buffer_unordered(role.width)
        .try_collect::<()>()
        .await?;
    if *help {
        help_others(&port, &claimed, &role, &mut rng).await?;
    }
    finish(&port, &claimed).await
}

/// Takes open units, any of them, until there are none.
async fn help_others(port: &Port, claimed: &Claimed, role: &Role, rng: &mut Rng) -> Result<()> {
    loop {
        let done = committed(port, claimed).await?;
        let mut open: Vec<u32> = (0..claimed.plan.units.len() as u32).collect();
        open.retain(|unit| !done.contains_key(unit));
        if open.is_empty() {
            return Ok(());
        }
        score(port, claimed, open[rng.below(open.len())], role).await?;
    }
}

async fn score(port: &Port, claimed: &Claimed, unit: u32, role: &Role) -> Result<()> {
    port.ask(None).await?;
    let files = match role.partitioned {
        true => partitions_of(claimed, unit, &role.start.word),
        false => rows_of(claimed, unit, "", &role.start.word),
    };
    commit_unit(port, claimed, unit, files, Map::new(), &count_rows).await?;
    Ok(())
}

/// A unit's output, partitioned by a hash of the row.
fn partitions_of(claimed: &Claimed, unit: u32, word: &str) -> Vec<NewFile> {
    let mut parts: BTreeMap<u64, (String, u64)> = BTreeMap::new();
    for row in 0..claimed.plan.units[unit as usize].rows {
        let row = row_id(unit, row);
        let (text, rows) = parts.entry(xxh3_64(row.as_bytes()) % 3).or_default();
        *text += &(predicted(word, &row) + "\n");
        *rows += 1;
    }
    let file = |(part, (text, rows)): (u64, (String, u64))| {
        new_file(
            data_key(&format!("part={part}"), unit, &claimed.plan.run_id),
            text,
            rows,
        )
    };
    parts.into_iter().map(file).collect()
}
