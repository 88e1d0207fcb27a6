//! What a replica does side by side at its start, since each takes a while and none needs the others: surveying the input
//! while the output is claimed, and making room in the output while the first units are scored.

use std::sync::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::Instrument;

use super::{OutputStore, Places, Survey, asked_to_stop};
use crate::commit::{self, ClaimOutcome, Claimed, Success};
use crate::config::Job;
use crate::error::{Error, ErrorKind, Result, ResultExt};

/// A survey that was begun before anybody knows whether it will be wanted. It ends when it is given up
/// or dropped.
pub(super) struct EarlySurvey(Mutex<JoinSet<Result<Survey>>>);

impl EarlySurvey {
    /// Begins, if this replica is the one that plans.
    pub fn begin(job: &Job, places: &Places, plans: bool) -> EarlySurvey {
        let mut task = JoinSet::new();
        if plans {
            let (job, places) = (job.clone(), places.clone());
            task.spawn(async move { Survey::of(&job, &places).await }.in_current_span());
        }
        EarlySurvey(Mutex::new(task))
    }

    /// What the survey found; it is made now if it was not begun.
    pub async fn finish(&self, job: &Job, places: &Places) -> Result<Survey> {
        match self.take().join_next().await {
            Some(survey) => survey.context(ErrorKind::Internal, "looking at the input was cut off")?,
            None => Survey::of(job, places).await,
        }
    }

    /// Ends it: somebody else has planned.
    pub fn give_up(&self) {
        drop(self.take());
    }

    fn take(&self) -> JoinSet<Result<Survey>> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }
}

/// Room for a run in its output. Nothing is stored there before it is made.
pub(super) struct Room {
    /// `None` until that is known.
    is_made: watch::Sender<Option<bool>>,
}

impl Room {
    /// Room that is still to be made, or has been.
    pub fn new(is_made: bool) -> Room {
        Room {
            is_made: watch::Sender::new(is_made.then_some(true)),
        }
    }

    /// Makes it, unless it is there. `Some`: there is no need, since the run is complete.
    pub async fn make(&self, store: &OutputStore, claimed: &Claimed) -> Result<Option<Success>> {
        if *self.is_made.borrow() == Some(true) {
            return Ok(None);
        }
        let made = commit::prepare(store, claimed.clone()).await;
        let is_made = matches!(made, Ok(ClaimOutcome::Claimed(_)));
        self.is_made.send_replace(Some(is_made));
        Ok(match made? {
            ClaimOutcome::Claimed(_) => None,
            ClaimOutcome::AlreadyComplete(success) => Some(success),
        })
    }

    /// Waits until it is made.
    ///
    /// # Errors
    /// `Interrupted`: it can't be made, or is not needed. Whoever makes it knows why.
    pub async fn wait(&self) -> Result<()> {
        let mut is_made = self.is_made.subscribe();
        let known = is_made.wait_for(Option::is_some).await;
        match known.is_ok_and(|known| *known == Some(true)) {
            true => Ok(()),
            false => Err(Error::new(
                ErrorKind::Interrupted,
                "the output was not made ready",
            )),
        }
    }

    /// Makes room while `work` goes on, which is told to stop if there will be none, or when `stop` says so.
    pub async fn make_during<T, F>(
        &self,
        store: &OutputStore,
        claimed: &Claimed,
        mut stop: watch::Receiver<bool>,
        work: impl FnOnce(watch::Receiver<bool>) -> F,
    ) -> Result<Worked<T>>
    where
        F: Future<Output = Result<T>>,
    {
        let (end, ended) = watch::channel(false);
        let making = async {
            let made = self.make(store, claimed).await;
            if !matches!(made, Ok(None)) {
                end.send_replace(true);
            }
            made
        };
        let told = async {
            asked_to_stop(&mut stop).await;
            end.send_replace(true);
            std::future::pending::<()>().await;
        };
        let (made, worked) = tokio::select! {
            both = futures::future::join(making, work(ended)) => both,
            () = told => return Err(Error::internal("a stop that was passed on returned")),
        };
        // Without room the work failed for that reason.
        match made? {
            Some(success) => Ok(Worked::Needless(Box::new(success))),
            None => worked.map(Worked::Done),
        }
    }
}

/// What came of work in a room that was still to be made.
pub(super) enum Worked<T> {
    /// The work's result.
    Done(T),
    /// The run was complete already.
    Needless(Box<Success>),
}
