//! Snapshots of a workspace's disk: taken while it runs, gone back to, removed, and what is left of them when something dies.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use vm_tests::{Home, Workspace};

fn names(workspace: &Workspace<'_>) -> Vec<String> {
    let list = workspace.verb("snapshot list", &["--json"]).finish().json();
    let rows = list["snapshots"].as_array().cloned().unwrap_or_default();
    rows.iter().filter_map(|row| row["name"].as_str().map(str::to_owned)).collect()
}

#[track_caller]
fn take(workspace: &Workspace<'_>, name: &str) -> Value {
    let outcome = workspace.verb("snapshot create", &[name, "--json"]).finish();
    outcome.assert_code(0);
    outcome.json()
}

#[track_caller]
fn reset(workspace: &Workspace<'_>, name: &str) -> Value {
    let outcome = workspace.verb("reset", &["--snapshot", name, "--json"]).finish();
    outcome.assert_code(0);
    outcome.json()
}

#[test]
fn a_snapshot_is_the_whole_disk_and_one_reset_repairs_everything() {
    let home = Home::shared();
    let workspace = Workspace::create(&home, &["--name", "fix"]);
    // What is installed is part of it, and what is written but not yet on the disk.
    assert_eq!(
        workspace.sh("printf '#!/bin/sh\\necho installed' > /usr/local/bin/tool; chmod +x /usr/local/bin/tool"),
        ""
    );
    let mut writer =
        workspace.verb("exec", &["--json", "--", "sh", "-c", "while :; do echo x >> /root/log; done"]).start();
    assert_eq!(workspace.sh("until [ -s /root/log ]; do sleep 0.1; done; echo one > file"), "");
    let taken = take(&workspace, "tests-pass");
    assert!(taken["pause_ms"].as_u64().is_some(), "{taken}");
    writer.assert_running();

    // A broken system is mended by one call, which says what ended with it.
    let remove = ["--timeout-seconds", "250", "--", "sh", "-c", "exec rm -rf /usr 2>/dev/null"];
    workspace.verb("exec", &remove).finish().assert_code(1);
    workspace.exec(&["ls"]).finish().assert_code(127);
    let was_reset = reset(&workspace, "tests-pass");
    let ended = was_reset["ended"]["commands"].as_array().map(Vec::len);
    assert_eq!(ended, Some(1), "the writer of the log, and nothing else: {was_reset}");
    assert_eq!((&was_reset["reset_to"], &was_reset["reset_count"]), (&json!("tests-pass"), &json!(1)));
    drop(writer.wait());
    assert_eq!(workspace.sh("tool; cat file; pgrep -x rm || true"), "installed\none\n");

    // One in the middle goes, the others stay what they were.
    for number in ["two", "three", "four"] {
        assert_eq!(workspace.sh(&format!("echo {number} > file")), "");
        take(&workspace, number);
    }
    workspace.verb("snapshot delete", &["three"]).finish().assert_code(0);
    assert_eq!(names(&workspace), ["baseline", "tests-pass", "two", "four"]);
    for (name, content) in [("two", "two"), ("four", "four"), ("tests-pass", "one"), ("four", "four")] {
        reset(&workspace, name);
        assert_eq!(workspace.sh("cat file"), format!("{content}\n"), "{name}");
    }

    // What changed since one of them is a patch that git takes; what was there before is none of it.
    assert_eq!(workspace.sh("echo five > file; mkdir -p sub; echo new > sub/new; echo four > other"), "");
    take(&workspace, "five");
    assert_eq!(workspace.sh("echo six > file; rm other; chmod +x sub/new"), "");
    let diff = workspace.verb("diff", &["--from", "five", "--name-status"]).finish();
    diff.assert_code(0).assert_stdout("M\tfile\nD\tother\nM\tsub/new\n");
    let patch = workspace.verb("diff", &["--from", "five", "file"]).finish();
    patch.assert_code(0).assert_stdout_has("-five\n+six\n");
    workspace.verb("diff", &["--from", "none"]).finish().assert_refused(1, &["'none'", "five"]);
    reset(&workspace, "five");
    workspace.verb("diff", &["--from", "five"]).finish().assert_code(0).assert_stdout("");
    workspace.verb("snapshot delete", &["five"]).finish().assert_code(0);
    reset(&workspace, "four");

    // The chain outlives the machine, and grows without one.
    workspace.verb("stop", &[]).finish().assert_code(0);
    let offline = take(&workspace, "offline");
    assert_eq!(offline.get("pause_ms"), None, "{offline}");
    workspace.verb("snapshot delete", &["two"]).finish().assert_code(0);
    workspace.verb("start", &[]).finish().assert_code(0);
    assert_eq!(workspace.sh("cat file; echo five > file; tool"), "four\ninstalled\n");
    workspace.verb("stop", &[]).finish().assert_code(0);
    reset(&workspace, "offline");
    workspace.verb("start", &[]).finish().assert_code(0);
    assert_eq!(workspace.sh("cat file"), "four\n");
    reset(&workspace, "baseline");
    workspace.exec(&["tool"]).finish().assert_code(127);
    assert_eq!(names(&workspace), ["baseline", "tests-pass", "four", "offline"]);

    // Mistakes.
    workspace.verb("snapshot create", &["four"]).finish().assert_refused(1, &["'four' already", "another name"]);
    workspace.verb("snapshot create", &["baseline"]).finish().assert_refused(1, &["'baseline' already"]);
    workspace.verb("snapshot create", &["a/b"]).finish().assert_refused(2, &["a/b", "letters"]);
    workspace.verb("snapshot delete", &["baseline"]).finish().assert_refused(1, &["cannot be deleted"]);
    workspace.verb("snapshot delete", &["fuor"]).finish().assert_refused(1, &["'fuor'", "there are four"]);
    workspace.verb("reset", &["--snapshot", "gone"]).finish().assert_refused(1, &["'gone'", "baseline", "tests-pass"]);
    workspace.delete();
    home.assert_nothing_left();
}

#[test]
fn a_snapshot_that_was_acknowledged_survives_every_kill() {
    let home = Home::shared();
    let workspace = Workspace::create(&home, &[]);
    let mut acknowledged = Vec::new();
    for (round, after_ms) in [0, 30, 60, 90, 130, 180, 250, 400].into_iter().enumerate() {
        let name = format!("s{round}");
        assert_eq!(workspace.sh(&format!("echo {name} > /root/file; sync")), "");
        let taking = workspace.verb("snapshot create", &[&name]).start();
        std::thread::sleep(Duration::from_millis(after_ms));
        workspace.kill(if round % 2 == 0 { "supervisor_pid" } else { "machine_pid" });
        if taking.wait().code == Some(0) {
            acknowledged.push(name.clone());
        }
        // A supervisor may still be writing down that its machine is lost.
        let mut started = workspace.verb("start", &[]).finish();
        for _ in 0..100 {
            if started.code == Some(0) {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
            started = workspace.verb("start", &[]).finish();
        }
        started.assert_code(0);
        assert_eq!(workspace.sh("cat /root/file"), format!("{name}\n"), "nothing that was written is lost");
    }
    let known = names(&workspace);
    for name in &acknowledged {
        assert!(known.contains(name), "{name} was acknowledged, there are {known:?}");
    }
    // Those that were not acknowledged, and are there, are whole all the same.
    for name in known.iter().skip(1) {
        reset(&workspace, name);
        assert_eq!(workspace.sh("cat /root/file"), format!("{name}\n"));
    }
    workspace.delete();
    home.assert_nothing_left();
}

#[test]
fn a_caller_that_leaves_leaves_no_half_snapshot() {
    let home = Home::shared();
    let workspace = Workspace::create(&home, &[]);
    for (round, after_ms) in [10, 40, 80, 150].into_iter().enumerate() {
        let name = format!("s{round}");
        let taking = workspace.verb("snapshot create", &[&name]).start();
        std::thread::sleep(Duration::from_millis(after_ms));
        taking.signal(Signal::KILL);
        drop(taking.wait());
        assert_eq!(workspace.sh("echo goes on > /root/file; cat /root/file"), "goes on\n", "the guest was let go on");
    }
    for name in names(&workspace) {
        reset(&workspace, &name);
    }
    workspace.delete();
    home.assert_nothing_left();
}
