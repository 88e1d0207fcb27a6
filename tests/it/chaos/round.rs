//! One round: the replicas of a run, twins among them, are killed, stopped and misled, and started again; at the end
//! the output must be that of an undisturbed run.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::tally::Tally;
use super::world::{REPLICAS, ROWS, RUN, World};
use crate::dice::Dice;
use crate::support::{contents_of, finish, floe, signal};

/// Far more than a round ever needs on a busy machine: what takes longer hangs. The longest pause that the protocol
/// allows, a minute for whoever knows of no unit that was ever committed, fits in several times.
const PATIENCE: Duration = Duration::from_secs(400);

/// What a round is to be.
pub struct Spec {
    /// Names the round, and says how to play it again.
    pub name: String,
    pub partitioned: bool,
    /// Overwrite mode, with an old output in the way.
    pub overwrite: bool,
    /// Fail points of the first process of each replica.
    pub armed: Option<String>,
    /// Disturbances are drawn from it; without, only fail points disturb.
    pub dice: Option<Dice>,
}

/// Plays a round in a folder of its own; panics when the output is not what it must be.
pub fn play(world: &World, spec: Spec) -> Tally {
    let folder = tempfile::Builder::new().tempdir_in(world.path()).unwrap();
    let mut round = Round {
        output: folder.path().join("out"),
        logs: folder.path().to_path_buf(),
        world,
        crew: Vec::new(),
        succeeded: [false; REPLICAS],
        tally: Tally {
            rounds: 1,
            ..Tally::default()
        },
        spec,
    };
    if round.spec.overwrite {
        world.lay_old_output(&round.output);
    }
    let mut dice = round.spec.dice.take();
    for replica in 0..REPLICAS {
        let points = match &mut dice {
            Some(dice) => armed(dice),
            None => round.spec.armed.clone(),
        };
        round.start(replica, points);
    }
    let sleeper = dice.and_then(|dice| round.disturb(dice));
    round.run_to_the_end(sleeper);
    round.check();
    round.wake(sleeper);
    std::mem::take(&mut round.tally)
}

struct Round<'a> {
    world: &'a World,
    spec: Spec,
    output: PathBuf,
    logs: PathBuf,
    /// Every process that was started, in order.
    crew: Vec<Process>,
    /// Replicas of which some process came to its end.
    succeeded: [bool; REPLICAS],
    tally: Tally,
}

struct Process {
    replica: usize,
    child: Child,
    log: PathBuf,
    armed: Option<String>,
    was_killed: bool,
    was_termed: bool,
    ended: Option<ExitStatus>,
}

impl Process {
    fn is_alive(&self) -> bool {
        self.ended.is_none()
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap()).into_owned()
    }
}

impl Round<'_> {
    fn start(&mut self, replica: usize, armed: Option<String>) {
        let log = self.logs.join(format!("process-{}.log", self.crew.len()));
        let mut command = self.world.command(&self.output, self.spec.partitioned);
        command
            .args(["--run-id", RUN, "--mode"])
            .arg(if self.spec.overwrite { "overwrite" } else { "error" })
            .env("SNOWFLAKE_JOB_INDEX", replica.to_string())
            .env("SNOWFLAKE_JOBS_COUNT", REPLICAS.to_string())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap());
        if let Some(points) = &armed {
            command.env("FLOE_FAIL_POINT", points);
        }
        self.tally.processes += 1;
        self.crew.push(Process {
            replica,
            child: command.spawn().unwrap(),
            log,
            armed,
            was_killed: false,
            was_termed: false,
            ended: None,
        });
    }

    /// Notices who has ended, and how; whoever ended in a way nobody caused fails the round.
    fn reap(&mut self) {
        for at in 0..self.crew.len() {
            if !self.crew[at].is_alive() {
                continue;
            }
            if let Some(status) = self.crew[at].child.try_wait().unwrap() {
                self.crew[at].ended = Some(status);
                self.judge_end(at, status);
            }
        }
    }

    fn judge_end(&mut self, at: usize, status: ExitStatus) {
        let process = &self.crew[at];
        let log = process.log();
        let mut fired = Vec::new();
        for line in log.lines() {
            if let Some(point) = line.strip_prefix("fail point ") {
                let (name, action) = point.split_once('#').unwrap();
                let action = action.split_once(' ').unwrap().1.to_string();
                if !action.starts_with("Delay") {
                    *self.tally.points.entry(name.to_string()).or_default() += 1;
                }
                fired.push(action);
            }
        }
        self.tally.lost_races += log.matches("another attempt stored this unit first").count() as u64;
        assert!(
            !log.contains("nondeterministic_model"),
            "{}: {log}",
            self.spec.name
        );
        let misled = fired.iter().any(|action| action == "Error" || action == "Lose");
        let is_explained = match (status.code(), status.signal()) {
            (Some(0), _) => {
                self.succeeded[process.replica] = true;
                true
            }
            (Some(143), _) | (_, Some(libc::SIGTERM)) => process.was_termed,
            (Some(8), _) => misled,
            (_, Some(libc::SIGKILL)) => process.was_killed || fired.iter().any(|action| action == "Kill"),
            _ => false,
        };
        assert!(
            is_explained,
            "{}: process {at} of replica {}, armed with {:?}, ended with {status}: {log}",
            self.spec.name, process.replica, process.armed
        );
    }

    fn living(&self) -> Vec<usize> {
        (0..self.crew.len())
            .filter(|&at| self.crew[at].is_alive())
            .collect()
    }

    fn has_living(&self, replica: usize, besides: Option<usize>) -> bool {
        let mut living = self.living().into_iter().filter(|&at| Some(at) != besides);
        living.any(|at| self.crew[at].replica == replica)
    }

    /// Draws disturbances. Answers with a stopped process that is to sleep until all is over, if there is one.
    fn disturb(&mut self, mut dice: Dice) -> Option<usize> {
        for _ in 0..dice.below(4) {
            self.start(dice.below(REPLICAS), armed(&mut dice));
            self.tally.twins += 1;
        }
        let mut stopped = Vec::new();
        let mut restarts_left = 8;
        for _ in 0..2 + dice.below(8) {
            std::thread::sleep(dice.millis(60));
            self.reap();
            let living = self.living();
            stopped.retain(|at| living.contains(at));
            if !living.is_empty() {
                let victim = *dice.pick(&living);
                let process = &mut self.crew[victim];
                match dice.below(10) {
                    0..=4 => {
                        signal(&process.child, libc::SIGKILL);
                        process.was_killed = true;
                        self.tally.kills += 1;
                        self.check_marker();
                    }
                    5..=6 => {
                        signal(&process.child, libc::SIGTERM);
                        process.was_termed = true;
                        self.tally.terms += 1;
                    }
                    7..=8 => {
                        signal(&process.child, libc::SIGSTOP);
                        self.tally.stops += 1;
                        stopped.push(victim);
                    }
                    _ => {
                        for at in stopped.drain(..) {
                            signal(&self.crew[at].child, libc::SIGCONT);
                        }
                    }
                }
            }
            for replica in 0..REPLICAS {
                let is_missing = !self.succeeded[replica] && !self.has_living(replica, None);
                if is_missing && restarts_left > 0 && dice.chance(3, 4) {
                    restarts_left -= 1;
                    self.tally.restarts += 1;
                    self.start(replica, armed(&mut dice));
                }
            }
        }
        stopped.pop().filter(|_| dice.chance(1, 2))
    }

    /// Starts, undisturbed, whatever replica has no process that came to its end, until all have. The sleeper stays
    /// stopped, everybody else is woken.
    fn run_to_the_end(&mut self, sleeper: Option<usize>) {
        let started = Instant::now();
        loop {
            self.reap();
            let others: Vec<usize> = self
                .living()
                .into_iter()
                .filter(|&at| Some(at) != sleeper)
                .collect();
            if others.is_empty() && self.succeeded == [true; REPLICAS] {
                return;
            }
            if !others.is_empty() && self.tally.early_markers == 0 {
                self.check_marker();
            }
            for at in others {
                // A fail point may have stopped it, at any time.
                signal(&self.crew[at].child, libc::SIGCONT);
            }
            for replica in 0..REPLICAS {
                if !self.succeeded[replica] && !self.has_living(replica, sleeper) {
                    self.tally.restarts += 1;
                    self.start(replica, None);
                }
            }
            if started.elapsed() > PATIENCE {
                let logs: Vec<String> = self.living().iter().map(|&at| self.crew[at].log()).collect();
                panic!("{}: no end in sight: {}", self.spec.name, logs.join("\n"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// While processes are at work: this run's marker, if it is there, must hold.
    fn check_marker(&mut self) {
        let marker = || std::fs::read(self.output.join("_SUCCESS")).ok();
        let is_ours = |marker: &Vec<u8>| {
            let marker: serde_json::Value = serde_json::from_slice(marker).unwrap();
            marker["run_id"] == RUN
        };
        if !marker().is_some_and(|marker| is_ours(&marker)) {
            return;
        }
        let report = verify(&self.output);
        // A process that slept since it read the old run's marker may have removed it just now; it puts it back.
        let is_gone = marker().is_none();
        assert!(
            report["ok"] == true || is_gone,
            "{}: there is a marker, but {report}",
            self.spec.name
        );
        self.tally.early_markers += u64::from(!is_gone);
    }

    /// When every replica came to its end, the output is complete.
    fn check(&self) {
        let name = &self.spec.name;
        assert!(self.output.join("_SUCCESS").exists(), "{name}: no _SUCCESS");
        let report = verify(&self.output);
        assert_eq!(report["ok"], true, "{name}: {report}");
        assert_eq!(
            (&report["run_id"], &report["rows"]),
            (&RUN.into(), &ROWS.into()),
            "{name}"
        );
        let (found, expected) = (
            contents_of(&self.output),
            self.world.expected(self.spec.partitioned),
        );
        let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&found), names(expected), "{name}");
        for (file, bytes) in &found {
            assert!(*bytes == expected[file], "{name}: {file} has other bytes");
        }
        let report = self.world.check(&self.output);
        assert_eq!(report["ok"], true, "{name}: {report}");
        assert_eq!(report["rows"], ROWS, "{name}");
    }

    /// Whoever slept through it all wakes up now, and must not change a thing.
    fn wake(&mut self, sleeper: Option<usize>) {
        let Some(at) = sleeper.filter(|&at| self.crew[at].is_alive()) else {
            return;
        };
        self.tally.late_wakers += 1;
        signal(&self.crew[at].child, libc::SIGCONT);
        let started = Instant::now();
        while self.crew[at].is_alive() {
            // It may stop itself, at a fail point.
            signal(&self.crew[at].child, libc::SIGCONT);
            std::thread::sleep(Duration::from_millis(5));
            assert!(
                started.elapsed() < PATIENCE,
                "{}: the sleeper hangs",
                self.spec.name
            );
            self.reap();
        }
        self.check();
    }
}

impl Drop for Round<'_> {
    /// After a failure: nobody is left behind.
    fn drop(&mut self) {
        for process in self.crew.iter_mut().filter(|process| process.is_alive()) {
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
    }
}

/// Fail points for a process, or none; often slowed down, so that signals find it between two steps.
fn armed(dice: &mut Dice) -> Option<String> {
    let names = floe::job::failpoint::names();
    let mut points = Vec::new();
    if dice.chance(1, 2) {
        let step = *dice.pick(&["before:create:data", "after:create:data", "before:create:record"]);
        points.push(format!("{step}=delay={}", 1 + dice.below(60)));
    }
    if dice.chance(2, 5) {
        let name = dice.pick(&names);
        let misled = if name.starts_with("before") {
            "error"
        } else {
            "lose"
        };
        let action = *dice.pick(&["kill", "kill", "stop", misled, misled]);
        points.push(format!("{name}#{}={action}", 1 + dice.below(4)));
    }
    (!points.is_empty()).then(|| points.join(","))
}

fn verify(output: &Path) -> serde_json::Value {
    let run = finish(floe(["verify".as_ref(), output.as_os_str(), "--json".as_ref()]));
    // Beside the report, an error has a line of its own.
    let mut values = serde_json::Deserializer::from_str(&run.stdout).into_iter();
    values.next().unwrap_or_else(|| panic!("{}", run.stderr)).unwrap()
}
