//! What the stage of these tests refuses and allows: were it a plain folder, nothing here would show anything.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::Duration;

use super::stage::{Rules, Stage};
use super::until;
use crate::support::signal;

#[test]
fn what_a_stage_refuses_is_refused_and_counted() {
    let Some(stage) = Stage::mount(Rules::default()) else {
        return;
    };
    let (here, there) = (stage.path("here"), stage.path("there"));
    std::fs::write(&here, "some bytes").unwrap();
    assert_eq!(
        stage.refused().len(),
        0,
        "a file written from beginning to end is all it takes"
    );

    let mut file = File::create(stage.path("other")).unwrap();
    file.write_all(b"begun").unwrap();
    let refused = [
        std::fs::rename(&here, &there).is_err(),
        std::fs::hard_link(&here, &there).is_err(),
        std::os::unix::fs::symlink(&here, &there).is_err(),
        OpenOptions::new().append(true).open(&here).is_err(),
        OpenOptions::new().write(true).open(&here).is_err(),
        file.write_at(b"x", 1).is_err(),
        file.set_len(100).is_err(),
        file.set_modified(std::time::SystemTime::now()).is_err(),
    ];
    assert_eq!(refused, [true; 8]);
    let counted = stage.refused();
    let names: Vec<_> = counted.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "append",
            "hard link",
            "random write",
            "rename",
            "set attributes",
            "symbolic link",
            "truncate",
            "write into a file"
        ]
    );
    assert!(counted.values().all(|&times| times == 1), "{counted:?}");
    drop(file);
    assert_eq!(stage.objects()["here"], b"some bytes");
    assert_eq!(stage.objects()["other"], b"begun");
}

#[test]
fn an_object_is_seen_when_its_file_is_closed_and_not_before_and_is_read_anywhere() {
    let Some(stage) = Stage::mount(Rules::default()) else {
        return;
    };
    std::fs::create_dir_all(stage.path("a/b")).unwrap();
    let path = stage.path("a/b/c");
    let mut file = File::create(&path).unwrap();
    let body: Vec<u8> = (0..3_000_000).map(|at| (at % 251) as u8).collect();
    file.write_all(&body).unwrap();
    assert!(!path.exists());
    assert!(std::fs::read_dir(stage.path("a/b")).unwrap().next().is_none());
    let exclusive = || {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(stage.path("once"))
    };
    let both = (exclusive(), exclusive());
    assert!(both.0.is_ok() && both.1.is_ok(), "O_EXCL sees only what is seen");
    drop(file);
    assert_eq!(std::fs::read(&path).unwrap(), body);
    let mut reader = File::open(&path).unwrap();
    reader.seek(SeekFrom::Start(2_000_000)).unwrap();
    let mut part = [0; 5];
    reader.read_exact(&mut part).unwrap();
    assert_eq!(part, body[2_000_000..2_000_005]);
    let inode = || std::fs::metadata(&path).unwrap().ino();
    assert_ne!(inode(), inode(), "each look finds another inode");

    std::fs::write(&path, "new").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"new");
    reader.read_exact(&mut part).unwrap();
    assert_eq!(
        part,
        body[2_000_005..2_000_010],
        "who reads the old one goes on reading it"
    );
    std::fs::remove_file(&path).unwrap();
    assert!(
        !stage.path("a").exists(),
        "a folder is there because of what lies in it"
    );
}

#[test]
fn a_stage_may_show_late_fail_at_the_close_and_refuse_to_sync() {
    let rules = Rules {
        shows_after: Duration::from_millis(300),
        close_fails: Some("bad".to_string()),
        refuses_sync: true,
        ..Rules::default()
    };
    let Some(stage) = Stage::mount(rules) else {
        return;
    };
    let path = stage.path("late");
    std::fs::write(&path, "late").unwrap();
    assert!(!path.exists());
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(std::fs::read(&path).unwrap(), b"late");
    let file = File::create(stage.path("bad")).unwrap();
    assert!(file.sync_all().is_err());
    drop(file);
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(stage.objects().keys().collect::<Vec<_>>(), ["late"]);
}

#[test]
fn what_a_killed_writer_had_written_is_dropped_or_published_as_the_stage_likes() {
    for publishes_torn in [false, true] {
        let rules = Rules {
            publishes_torn,
            ..Rules::default()
        };
        let Some(stage) = Stage::mount(rules) else {
            return;
        };
        let mut command = std::process::Command::new("sh");
        command
            .stdin(std::process::Stdio::piped())
            .args(["-c", r#"exec cat > "$1""#, "sh"])
            .arg(stage.path("torn"));
        let mut writer = command.spawn().unwrap();
        writer.stdin.as_mut().unwrap().write_all(b"half").unwrap();
        until("the half is written", || stage.in_hand().get("torn") == Some(&4));
        signal(&writer, libc::SIGKILL);
        writer.wait().unwrap();
        let expected = publishes_torn.then_some(b"half".to_vec());
        assert_eq!(stage.objects().get("torn"), expected.as_ref());
        assert_eq!(stage.torn().len(), usize::from(publishes_torn));
    }
}
