//! A full disk, a read-only output, a folder that may not be written.
//!
//! File systems are mounted in a mount namespace of the test's own, which ends with it, whatever happens. Where that is
//! not allowed, the test says so, and `make test` lists it as left out.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::{ROWS, completes_undisturbed, input};
use crate::support::{Run, Scenario, finish};

/// A shell in a namespace in which it may mount; `None` where none is to be had.
fn namespace(script: &str) -> Option<Command> {
    [&["-m"][..], &["-U", "-r", "-m"]].into_iter().find_map(|how| {
        let unshare = |script: &str| {
            let mut command = Command::new("unshare");
            command.args(how).args(["sh", "-euc", script]);
            command
        };
        let tried = unshare("mount -t tmpfs none /mnt").output();
        tried
            .is_ok_and(|tried| tried.status.success())
            .then(|| unshare(script))
    })
}

/// Runs `script` with `$run` and `$verify` as commands over the scenario's folders, and `$out` as the output's place.
fn mounted(scenario: &Scenario, script: &str) -> Option<Run> {
    std::fs::create_dir_all(scenario.output()).unwrap();
    let Some(mut command) = namespace(script) else {
        eprintln!("left out: file systems can't be mounted here");
        return None;
    };
    let quoted = |path: &std::path::Path| format!("'{}'", path.display());
    let (floe, output) = (env!("CARGO_BIN_EXE_floe"), quoted(&scenario.output()));
    let input = quoted(&scenario.input());
    command
        .env("out", scenario.output())
        .env(
            "run",
            format!("{floe} run --model echo --run-id r --input {input} --output {output}"),
        )
        .env("verify", format!("{floe} verify {output}"))
        .env("kept", scenario.path().join("kept"));
    Some(finish(command))
}

/// What the namespace's output was, copied out of it, has every row once.
fn check_kept(scenario: &Scenario) {
    assert_eq!(crate::support::rows_of(&scenario.path().join("kept")).len(), ROWS);
}

/// Failure matrix: 44.
#[test]
fn a_full_disk_ends_the_job_and_room_lets_it_go_on() {
    let scenario = input();
    let script = r#"
        mount -t tmpfs -o size=3m none "$out"
        code=0; eval "$run" || code=$?
        [ $code = 8 ] && [ ! -e "$out/_SUCCESS" ]
        done_before=$(ls "$out"/_floe/e1/c | wc -l)
        echo "units before: $done_before"
        [ "$done_before" -gt 0 ]
        mount -o remount,size=100m "$out"
        eval "$run --json"
        eval "$verify" >&2
        cp -r "$out" "$kept"
    "#;
    let Some(run) = mounted(&scenario, script) else {
        return;
    };
    let run = run.fails(0, &["No space left on device", "part-0000", "make room there"]);
    let (before, result) = run.stdout.split_once('\n').unwrap();
    let result: serde_json::Value = serde_json::from_str(result).unwrap();
    let skipped = &result["summary"]["metrics"]["units_skipped"];
    assert_eq!(before, format!("units before: {skipped}"), "what fitted counts");
    check_kept(&scenario);
}

/// Failure matrix: 44.
#[test]
fn a_disk_without_room_for_another_file_ends_the_job_and_room_lets_it_go_on() {
    let scenario = input();
    let script = r#"
        mount -t tmpfs -o nr_inodes=12 none "$out"
        code=0; eval "$run" || code=$?
        [ $code = 8 ] && [ ! -e "$out/_SUCCESS" ]
        mount -o remount,nr_inodes=1000 "$out"
        eval "$run"
        eval "$verify"
        cp -r "$out" "$kept"
    "#;
    let Some(run) = mounted(&scenario, script) else {
        return;
    };
    run.fails(0, &["No space left on device", "make room there"]);
    check_kept(&scenario);
}

/// Failure matrix: 45.
#[test]
fn a_read_only_output_is_found_before_any_work_and_once_writable_the_job_completes() {
    let scenario = input();
    let script = r#"
        mount --bind "$out" "$out"
        mount -o remount,bind,ro "$out"
        code=0; eval "$run" || code=$?
        [ $code = 8 ]
        mount -o remount,bind,rw "$out"
        [ -z "$(ls -A "$out")" ]
    "#;
    let Some(run) = mounted(&scenario, script) else {
        return;
    };
    let run = run.fails(0, &["Read-only file system", "mount it writable", "_floe/probe-"]);
    assert!(
        !run.stderr.contains("hard links"),
        "a wrong remedy: {}",
        run.stderr
    );
    completes_undisturbed(&scenario);
}

/// Failure matrix: 45.
#[test]
fn an_output_that_turns_read_only_ends_a_resumed_run_without_a_change() {
    let scenario = input();
    let script = r#"
        export SNOWFLAKE_JOB_INDEX=0 SNOWFLAKE_JOBS_COUNT=2
        eval "$run --no-help"
        unset SNOWFLAKE_JOB_INDEX SNOWFLAKE_JOBS_COUNT
        before=$(find "$out" | sort)
        mount --bind "$out" "$out"
        mount -o remount,bind,ro "$out"
        code=0; eval "$run" || code=$?
        [ $code = 8 ] && [ "$before" = "$(find "$out" | sort)" ]
    "#;
    let Some(run) = mounted(&scenario, script) else {
        return;
    };
    run.fails(0, &["Read-only file system", "mount it writable"]);
    completes_undisturbed(&scenario);
}

/// Failure matrix: 45.
#[test]
fn a_folder_that_may_not_be_written_is_an_error_with_its_name_and_what_to_check() {
    let scenario = input();
    std::fs::create_dir(scenario.output()).unwrap();
    let may_write =
        |mode| std::fs::set_permissions(scenario.output(), PermissionsExt::from_mode(mode)).unwrap();
    may_write(0o555);
    let mut command = scenario.command(&["--run-id", "r"]);
    // Root may write everywhere, unless this one of its capabilities is taken from it.
    const CAP_DAC_OVERRIDE: libc::c_ulong = 1;
    // SAFETY: prctl is async-signal-safe. Without root it fails, and there is nothing to take.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0);
            Ok(())
        })
    };
    let run = finish(command).fails(
        8,
        &["Permission denied", "_floe/probe-", "may read and write there"],
    );
    assert!(
        !run.stderr.contains("hard links"),
        "a wrong remedy: {}",
        run.stderr
    );
    may_write(0o755);
    completes_undisturbed(&scenario);
}
