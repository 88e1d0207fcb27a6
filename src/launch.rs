//! All replicas of a job on this machine: one child process each, one progress display, one result.
//!
//! The children are the very program a cluster would start, each with its index; they share nothing but the output.
//! A child that is killed is started again, since its run goes on from its records; any other failure ends the job,
//! for all children.

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde::Deserialize;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Instant;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::sync::watch;

use floe::config::Job;
use floe::error::{Error, ErrorKind, Result, ResultExt};
use floe::job::{self, Host, Outcome};
use floe::telemetry::Telemetry;
use floe::telemetry::progress::CombinedProgress;
use floe::telemetry::progress::events::Event;
use floe::telemetry::summary::Summary;

use crate::cli::{JobArgs, run};

/// How often one replica is started again after it was killed.
const RESTARTS: usize = 3;

/// Runs `count` replicas as child processes and prints their combined result.
pub async fn run(
    args: &JobArgs,
    job: &Job,
    count: u32,
    host: &Host,
    telemetry: &Telemetry,
    stop: watch::Receiver<bool>,
) -> Result<()> {
    let started = Instant::now();
    let (end, ended) = watch::channel(false);
    let run_id = job::run_id(job, host, &Arc::default()).await?;
    let progress = telemetry.combined_progress(count);
    let family = Family {
        run_id,
        output: job.output.location.clone(),
        count,
        cpus: (host.cpus / count as usize).max(1),
        memory_bytes: host.memory_bytes / count as u64,
        telemetry,
        progress: &progress,
        stop,
        ended,
    };
    let mut replicas: FuturesUnordered<_> = (0..count).map(|index| family.run_replica(index)).collect();
    let mut parts = Vec::with_capacity(count as usize);
    let mut failed = None;
    while let Some(result) = replicas.next().await {
        match result {
            Ok(part) => parts.push(part),
            // The first error is the cause; what the others say when they are ended is not.
            Err(error) => {
                failed.get_or_insert(error);
                end.send_replace(true);
            }
        }
    }
    drop(replicas);
    progress.finish();
    telemetry.flush();
    if let Some(error) = failed {
        return Err(error);
    }
    let summaries: Vec<Summary> = parts.iter().filter_map(|part| part.summary.clone()).collect();
    let summary = Summary::combine(&summaries).with_wall(started.elapsed());
    let outcome = parts
        .into_iter()
        .map(|part| part.outcome)
        .reduce(|a, b| if b.complete { b } else { a })
        .ok_or_else(|| Error::internal("a job without replicas"))?;
    if !outcome.complete {
        return Err(Error::internal(
            "every replica is done, but nobody wrote _SUCCESS",
        ));
    }
    run::print(&outcome, &summary, &job.output.location, args.json);
    Ok(())
}

/// What the children have in common.
struct Family<'a> {
    run_id: String,
    output: String,
    count: u32,
    cpus: usize,
    memory_bytes: u64,
    telemetry: &'a Telemetry,
    progress: &'a CombinedProgress,
    /// The user asks for a stop.
    stop: watch::Receiver<bool>,
    /// A replica has failed.
    ended: watch::Receiver<bool>,
}

/// What one replica came to.
struct Part {
    outcome: Outcome,
    summary: Option<Summary>,
}

impl Family<'_> {
    /// Runs one replica to its end, starting it again when it is killed.
    async fn run_replica(&self, index: u32) -> Result<Part> {
        let mut restarts = 0;
        loop {
            let mut child = self.start(index)?;
            let stdout = child.stdout.take();
            let stderr = child.stderr.take();
            let (heard, (), status) = tokio::join!(
                self.listen(index, stdout),
                pass_on(index, stderr, self.telemetry),
                self.wait(child)
            );
            let status = status?;
            match heard {
                Heard::Result(part) if status.success() => return Ok(*part),
                Heard::Error(message) => return Err(failure(index, status, Some(message))),
                _ if status.signal().is_some() && restarts < RESTARTS && !self.is_over() => {
                    restarts += 1;
                    tracing::warn!(replica = index, %status, restarts, "a replica was killed: starting it again");
                }
                _ => return Err(failure(index, status, None)),
            }
        }
    }

    fn is_over(&self) -> bool {
        *self.stop.borrow() || *self.ended.borrow()
    }

    fn start(&self, index: u32) -> Result<Child> {
        let program = std::env::current_exe().context(ErrorKind::Internal, "can't find this program")?;
        let arguments = std::env::args_os().skip(1);
        let mut command = Command::new(program);
        // Later flags override earlier ones.
        command
            .args(arguments)
            .args(["--replica-index", &index.to_string()])
            .args(["--replicas", &self.count.to_string()])
            .args(["--run-id", &self.run_id])
            .args(["--output", &self.output])
            .args(["--cpus", &self.cpus.to_string()])
            .args(["--memory", &self.memory_bytes.to_string()])
            .args(["--progress", "json", "--json"])
            .args(["--log-format", self.telemetry.log_format().as_str()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own: Ctrl-C reaches the parent alone, which passes it on.
            .process_group(0)
            .kill_on_drop(true);
        die_with_parent(&mut command);
        command
            .spawn()
            .context(ErrorKind::Internal, "can't start a replica")
    }

    /// Reads the child's events until it closes stdout; answers with its last word.
    async fn listen(&self, index: u32, stdout: Option<ChildStdout>) -> Heard {
        let mut summary = None;
        let mut heard = Heard::Nothing;
        let Some(stdout) = stdout else { return heard };
        let mut lines = BufReader::new(stdout).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            match Event::parse(&line) {
                Some(Event::Progress { position, .. }) => self.progress.update(index, position),
                Some(Event::Summary { summary: last, .. }) => summary = Some(*last),
                None => heard = Heard::parse(&line, summary.take()).unwrap_or(heard),
            }
        }
        heard
    }

    /// Waits for the child; passes a stop on to it.
    async fn wait(&self, mut child: Child) -> Result<ExitStatus> {
        let (mut stop, mut ended) = (self.stop.clone(), self.ended.clone());
        let pid = child.id();
        let told = async {
            // An error means that nobody will ask for a stop any more.
            tokio::select! {
                Ok(_) = stop.wait_for(|stop| *stop) => {}
                Ok(_) = ended.wait_for(|ended| *ended) => {}
                else => std::future::pending().await,
            }
            terminate(pid);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            status = child.wait() => status.context(ErrorKind::Internal, "can't wait for a replica"),
            () = told => Err(Error::internal("a stop that was passed on returned")),
        }
    }
}

/// The last word of a child on stdout.
enum Heard {
    Nothing,
    Result(Box<Part>),
    Error(String),
}

impl Heard {
    fn parse(line: &str, summary: Option<Summary>) -> Option<Heard> {
        #[derive(Deserialize)]
        struct Line {
            outcome: Option<Outcome>,
            error: Option<Fault>,
        }
        #[derive(Deserialize)]
        struct Fault {
            message: String,
        }
        let line: Line = serde_json::from_str(line).ok()?;
        match line {
            Line {
                outcome: Some(outcome),
                ..
            } => Some(Heard::Result(Box::new(Part { outcome, summary }))),
            Line {
                error: Some(fault), ..
            } => Some(Heard::Error(fault.message)),
            _ => None,
        }
    }
}

/// Prints what a child logs, line by line, so that it does not tear the progress bar.
async fn pass_on(index: u32, stderr: Option<ChildStderr>, telemetry: &Telemetry) {
    let Some(stderr) = stderr else { return };
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        // JSON lines name their replica in a field, and must stay JSON.
        let line = if line.starts_with('{') {
            line
        } else {
            format!("[replica {index}] {line}")
        };
        telemetry.relay(&line);
    }
}

fn failure(index: u32, status: ExitStatus, message: Option<String>) -> Error {
    let kind = status
        .code()
        .and_then(ErrorKind::from_exit_code)
        .unwrap_or(ErrorKind::Internal);
    let message = message.unwrap_or_else(|| format!("it ended with {status} and said nothing"));
    Error::new(kind, format!("replica {index} failed: {message}"))
}

#[allow(unsafe_code)]
fn terminate(pid: Option<u32>) {
    let Some(pid) = pid else { return };
    // SAFETY: kill has no memory effects; the child is ours and not yet reaped.
    unsafe { libc::kill(pid as libc::pid_t, libc::SIGTERM) };
}

/// Children must not outlive a parent that is killed.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn die_with_parent(command: &mut Command) {
    let parent = std::process::id() as libc::pid_t;
    // SAFETY: prctl and getppid are async-signal-safe and touch nothing but the child's own setting.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            // A parent that died before that call sends no signal.
            if libc::getppid() != parent {
                return Err(std::io::ErrorKind::Interrupted.into());
            }
            Ok(())
        })
    };
}

#[cfg(not(target_os = "linux"))]
fn die_with_parent(_command: &mut Command) {}
