//! The disk of a workspace: looked at and taken home while it does not run; and a host whose own disk is full.

#![expect(clippy::disallowed_methods, reason = "the host's own tools judge what pyro wrote")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use vm_tests::{Home, Workspace};

/// Looks until it is so, for as long as a busy host may take.
#[track_caller]
fn until(what: &str, mut look: impl FnMut() -> bool) {
    for _ in 0..300 {
        if look() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("not within 30 s: {what}");
}

#[test]
fn a_disk_is_looked_at_and_taken_home_while_nothing_runs() {
    let home = Home::shared();
    let workspace = Workspace::create(&home, &[]);
    assert_eq!(workspace.sh("mkdir dir; echo one > dir/file; echo two > /root/file; head -c 20M /dev/zero > big"), "");
    workspace.verb("snapshot create", &["s"]).finish().assert_code(0);
    assert_eq!(workspace.sh("rm big; echo three >> dir/file; sync"), "");
    workspace.verb("disk list", &[]).finish().assert_refused(1, &["runs", "file list", "stop"]);
    // As its supervisor leaves it when it is killed: nothing was unmounted.
    workspace.kill("supervisor_pid");
    until("its end is noticed", || workspace.status()["state"] == "stopped");

    let list = workspace.verb("disk list", &["--recursive", "--json"]).finish().json();
    let names: Vec<_> = list["entries"].as_array().into_iter().flatten().map(|entry| entry["path"].clone()).collect();
    assert_eq!(names, [json!("dir"), json!("dir/file")], "{list}");
    workspace.verb("disk read", &["dir/file"]).finish().assert_code(0).assert_stdout("one\nthree\n");
    workspace.verb("disk read", &["/root/file"]).finish().assert_stdout("two\n");
    workspace.verb("disk read", &["/root/none"]).finish().assert_refused(1, &["/root/none"]);

    let image = home.path().join("disk.img");
    let output = image.to_str().expect("paths of tests are text");
    let exported = workspace.verb("disk export", &["--output", output, "--json"]).finish();
    exported.assert_code(0);
    let exported = exported.json();
    assert_eq!(exported["size_bytes"], json!(16_u64 << 30));
    assert!(exported["allocated_bytes"].as_u64().is_some_and(|bytes| bytes < 64 << 20), "not sparse: {exported}");
    let checked = Command::new("e2fsck").args(["-f", "-n", output]).output().expect("e2fsprogs is installed");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    let read = |path: &str| {
        let shown = Command::new("debugfs").args(["-R", &format!("cat {path}"), output]).output();
        String::from_utf8_lossy(&shown.expect("e2fsprogs is installed").stdout).into_owned()
    };
    assert_eq!(
        (read("/workspace/upper/dir/file").as_str(), read("/upper/root/file").as_str()),
        ("one\nthree\n", "two\n")
    );
    workspace.verb("disk export", &["--output", output]).finish().assert_refused(1, &["is there already"]);

    // Nothing of the disk was changed by all this.
    workspace.verb("start", &[]).finish().assert_code(0);
    assert_eq!(workspace.sh("cat dir/file; ls"), "one\nthree\ndir\n");
    workspace.verb("reset", &["--snapshot", "s"]).finish().assert_code(0);
    assert_eq!(workspace.sh("ls; rm -rf *"), "big\ndir\n");
    workspace.delete();
    home.assert_nothing_left();
}

/// A small disk of its own at a directory, which is empty.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    #[track_caller]
    fn mount(dir: &'a Path) -> Self {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=96m,mode=700", "small"]).arg(dir).status();
        // Nothing is shown by a test that does nothing.
        assert!(mounted.is_ok_and(|status| status.success()), "a small disk cannot be mounted: run this test as root");
        Self(dir)
    }

    fn grow(&self) {
        let grown = Command::new("mount").args(["-o", "remount,size=512m"]).arg(self.0).status();
        assert!(grown.is_ok_and(|status| status.success()));
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.0).status());
    }
}

#[test]
fn a_full_host_pauses_the_guest_which_goes_on_when_there_is_room() {
    const LINES: &str = "yes 0123456789abcdef | head -c 200000000";
    let home = Home::shared();
    let state = home.path().join("state");
    let disk = SmallDisk::mount(&state);
    let workspace = Workspace::create(&home, &[]);
    let writing =
        workspace.verb("exec", &["--timeout-seconds", "250", "--", "sh", "-c", &format!("{LINES} > big && sync")]);
    let writing = writing.start();
    until("it is paused", || workspace.status()["paused"].is_string());
    assert_eq!(workspace.status()["paused"], "the host's disk is full");
    workspace.verb("status", &[]).finish().assert_code(0).assert_stdout_has("paused");
    workspace.exec(&["true"]).finish().assert_refused(125, &["paused", "the host's disk is full", "make room"]);
    workspace.verb("snapshot create", &["s"]).finish().assert_refused(1, &["paused"]);
    // It stays so for as long as it takes.
    std::thread::sleep(Duration::from_secs(3));
    assert!(workspace.status()["paused"].is_string());
    disk.grow();
    until("it goes on", || workspace.status().get("paused").is_none());
    writing.wait().assert_code(0);
    let compare = format!("{LINES} | cmp - big && dmesg | grep -ci 'i/o error' || true");
    let same = workspace.verb("exec", &["--timeout-seconds", "250", "--", "sh", "-c", &compare]).finish();
    same.assert_code(0).assert_stdout("0\n");

    // What is removed gives its room back.
    let used = || workspace.status()["disk_bytes"].as_u64().expect("status tells it");
    assert!(used() > 200_000_000, "{}", used());
    assert_eq!(workspace.sh("rm big; sync"), "");
    until("the room is given back", || used() < 50_000_000);
    workspace.delete();
    drop(disk);
    home.assert_nothing_left();
}
