//! Workspaces: made, used, stopped, reset, removed, and what is left when something dies over one.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use vm_tests::leftovers::{self, Leftover};
use vm_tests::{Home, Workspace};

/// Looks until it is so, for as long as a busy host may take.
#[track_caller]
fn until(what: &str, mut look: impl FnMut() -> bool) {
    for _ in 0..200 {
        if look() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("not within 10 s: {what}");
}

#[test]
fn a_workspace_keeps_what_is_done_in_it_until_it_is_reset() {
    let home = Home::shared();
    let workspace = Workspace::create(&home, &["--name", "fix", "--label", "task=42"]);
    assert_eq!(workspace.sh("pwd; echo one > file; echo two > /root/file"), "/workspace\n");
    home.pyro(&["ws", "exec", "fix", "--", "cat", "file", "/root/file"]).finish().assert_stdout("one\ntwo\n");

    workspace.verb("stop", &[]).finish().assert_code(0);
    workspace.exec(&["true"]).finish().assert_refused(125, &["is stopped", "pyro workspace start"]);
    let prefix = &workspace.id[..6];
    home.pyro(&["workspace", "start", prefix]).finish().assert_code(0);
    assert_eq!(workspace.sh("cat file /root/file; hostname"), format!("one\ntwo\npyro-{}\n", workspace.id));

    workspace.verb("reset", &[]).finish().assert_code(0);
    workspace.exec(&["sh", "-c", "ls -A /workspace; cat /root/file"]).finish().assert_code(1).assert_stdout("");
    let status = workspace.status();
    assert_eq!(
        (&status["reset_count"], &status["labels"], &status["state"]),
        (&json!(1), &json!({"task": "42"}), &json!("running"))
    );

    workspace.delete();
    home.assert_nothing_left();
}

#[test]
fn commands_pass_streams_codes_limits_and_variables() {
    let home = Home::shared();
    let workspace = Workspace::create(&home, &[]);
    workspace
        .exec(&["sh", "-c", "echo out; echo err >&2; exit 7"])
        .finish()
        .assert_code(7)
        .assert_stdout("out\n")
        .assert_stderr_has("err\n");
    let bytes: Vec<u8> = (0..=255).cycle().take(3_000_000).collect();
    let echoed = workspace.verb("exec", &["-i", "--", "cat"]).stdin(bytes.clone()).finish();
    assert!(echoed.code == Some(0) && echoed.stdout == bytes, "{echoed:?}");
    workspace
        .verb("exec", &["--cwd", "/tmp", "--env", "A=b c", "--", "sh", "-c", "pwd; echo $A"])
        .finish()
        .assert_stdout("/tmp\nb c\n");
    let late = workspace.verb("exec", &["--timeout-seconds", "1", "--", "sh", "-c", "echo early; sleep 60"]).finish();
    late.assert_code(124).assert_stdout("early\n");
    workspace.exec(&["no-such-program"]).finish().assert_refused(127, &["no-such-program"]);
    workspace.verb("exec", &["--cwd", "/nowhere", "--", "true"]).finish().assert_refused(125, &["/nowhere"]);
    let json = workspace.verb("exec", &["--json", "--", "sh", "-c", "echo out; echo err >&2"]).finish().json();
    assert_eq!((&json["stdout"], &json["stderr"], &json["exit_code"]), (&json!("out\n"), &json!("err\n"), &json!(0)));
    workspace.delete();
    home.assert_nothing_left();
}

#[test]
fn a_command_ends_with_its_caller_unless_it_is_detached() {
    let home = Home::shared();
    let workspace = Workspace::create(&home, &[]);
    let mut running = workspace.exec(&["sh", "-c", "echo begun; sleep 1000"]).start();
    running.wait_for_stdout("begun\n");
    running.signal(Signal::INT);
    running.wait().assert_code(130);
    until("the command is killed", || workspace.sh("pgrep -x sleep || true").is_empty());
    // A caller that dies without a word is no different, nor is one in the middle of a transfer.
    let mut running = workspace.exec(&["sh", "-c", "echo begun; sleep 1000"]).start();
    running.wait_for_stdout("begun\n");
    running.signal(Signal::KILL);
    drop(running.wait());
    until("the command is killed", || workspace.sh("pgrep -x sleep || true").is_empty());
    let large = tempfile::tempdir().expect("a temporary directory");
    std::fs::File::create(large.path().join("file")).and_then(|file| file.set_len(300 << 20)).expect("our own");
    let writing = workspace.verb("sync push", &[large.path().to_str().expect("text"), "--dest", "sent"]).start();
    std::thread::sleep(Duration::from_millis(300));
    writing.signal(Signal::KILL);
    drop(writing.wait());
    // Nobody sees what was half sent, and the next tool that writes removes it.
    workspace.verb("diff", &["--name-status"]).finish().assert_code(0).assert_stdout("");
    workspace.verb("file write", &["note", "--text", "x"]).finish().assert_code(0);
    assert_eq!(workspace.sh("find . -type f"), "./note\n");

    let detached =
        workspace.verb("exec", &["--detach", "--json", "--", "sh", "-c", "for i in 1 2 3; do echo $i; sleep 1; done"]);
    let exec = detached.finish().json()["exec"].clone();
    let log = |state: &str| {
        let logs = workspace.verb("logs", &["--json"]).finish().json();
        let row = logs["commands"].as_array().into_iter().flatten().find(|row| row["exec"] == exec).cloned();
        row.filter(|row| row["state"] == state)
    };
    log("running").expect("it goes on without its caller");
    until("it ends by itself", || log("exited").is_some());
    assert_eq!(log("exited").expect("it ended")["output"], "1\n2\n3\n");
    workspace.delete();
    home.assert_nothing_left();
}

#[test]
fn a_workspace_outlives_its_supervisor() {
    let home = Home::shared();
    let workspace = Workspace::create(&home, &[]);
    assert_eq!(workspace.sh("echo kept > file; sync"), "");
    workspace.kill("supervisor_pid");
    until("its end is noticed", || workspace.status()["state"] == "stopped");
    workspace.verb("start", &[]).finish().assert_code(0);
    assert_eq!(workspace.sh("cat file"), "kept\n");

    // And its hypervisor.
    workspace.kill("machine_pid");
    until("its end is noticed", || workspace.status()["state"] == "failed");
    workspace.exec(&["true"]).finish().assert_refused(125, &["has no machine"]);
    workspace.verb("start", &[]).finish().assert_code(0);
    assert_eq!(workspace.sh("cat file"), "kept\n");
    workspace.delete();
    home.assert_nothing_left();
}

#[test]
fn a_workspace_outlives_its_host() {
    let home = Home::shared();
    let workspace = Workspace::create(&home, &["--name", "kept"]);
    let other = Workspace::create(&home, &[]);
    assert_eq!(workspace.sh("echo kept > file; echo installed > /etc/installed; sync"), "");
    let long = workspace.exec(&["sleep", "1000"]).start();
    until("it runs", || workspace.status()["running_commands"] == json!([2]));
    // What a host loses when it goes down without a word: all its processes at once, and its sockets.
    for left in home.leftovers() {
        if let Leftover::Process { pid, .. } = left {
            leftovers::kill(pid);
        }
    }
    leftovers::kill(long.pid());
    drop(long);
    for one in [&workspace, &other] {
        let socket = home.path().join("state/workspaces").join(&one.id).join("supervisor.sock");
        std::fs::remove_file(socket).expect("it had a supervisor");
    }
    until("no process is left", || !home.leftovers().iter().any(|left| matches!(left, Leftover::Process { .. })));

    let listed = home.pyro(&["workspace", "list", "--json"]).finish().json();
    let states: Vec<_> =
        listed["workspaces"].as_array().into_iter().flatten().map(|one| one["state"].clone()).collect();
    assert_eq!(states, ["stopped", "stopped"]);
    assert!(workspace.status()["reason"].as_str().is_some_and(|reason| reason.contains("the host was restarted")));
    workspace.exec(&["true"]).finish().assert_refused(125, &["is stopped", "pyro workspace start"]);
    let logs = workspace.verb("logs", &["--json"]).finish().json();
    assert_eq!(logs["commands"][1]["state"], "lost");
    home.pyro(&["workspace", "start", "kept"]).finish().assert_code(0);
    assert_eq!(workspace.sh("cat file /etc/installed"), "kept\ninstalled\n");
    workspace.delete();
    other.delete();
    home.assert_nothing_left();
}

#[test]
fn a_maker_that_is_interrupted_leaves_nothing() {
    let home = Home::shared();
    for (after_ms, signal) in [(20, Signal::INT), (150, Signal::KILL), (300, Signal::INT), (500, Signal::KILL)] {
        let running = home.pyro(&["workspace", "create", vm_tests::DEBIAN, "--json"]).start();
        std::thread::sleep(Duration::from_millis(after_ms));
        running.signal(signal);
        let outcome = running.wait();
        if outcome.code == Some(0) {
            // It was quicker than the signal.
            let id = outcome.json()["id"].as_str().expect("an id").to_owned();
            home.pyro(&["workspace", "delete", "--force", &id]).finish().assert_code(0);
        }
    }
    // What a killed maker left is removed by whoever looks next. One that ran already is a workspace like any other.
    until("nothing is left", || {
        let listed = home.pyro(&["workspace", "list", "--json"]).finish().json();
        for one in listed["workspaces"].as_array().into_iter().flatten().filter(|one| one["state"] == "running") {
            let id = one["id"].as_str().expect("an id");
            // Or its supervisor notices just now that its maker is gone.
            drop(home.pyro(&["workspace", "delete", "--force", id]).finish());
        }
        home.leftovers().is_empty()
    });
}

#[test]
fn names_are_unique_and_mistakes_are_told() {
    let home = Home::shared();
    let workspace = Workspace::create(&home, &["--name", "one"]);
    let create = |flags: &[&str]| home.pyro(&["workspace", "create", vm_tests::DEBIAN]).args(flags).finish();
    create(&["--name", "one"]).assert_refused(1, &["one", &workspace.id]);
    create(&["--name", "-x y"]).assert_code(2);
    create(&["--ttl-seconds", "5"]).assert_refused(2, &["time to live", "60 s"]);
    create(&["--seed-path", "/no/such/place"]).assert_refused(1, &["/no/such/place"]);
    home.pyro(&["workspace", "create", "debian:99"]).finish().assert_refused(1, &["debian:99", "debian:12"]);
    home.pyro(&["workspace", "status", "two"]).finish().assert_refused(1, &["two", "one"]);
    home.pyro(&["workspace", "exec", "two", "--", "true"]).finish().assert_refused(125, &["two"]);
    workspace.verb("start", &[]).finish().assert_refused(1, &["runs already"]);
    let renamed = workspace
        .verb("update", &["--name", "two", "--label", "a=b", "--ttl-seconds", "120", "--json"])
        .finish()
        .json();
    assert_eq!(
        (&renamed["name"], &renamed["ttl_seconds"], &renamed["labels"]),
        (&json!("two"), &json!(120), &json!({"a": "b"}))
    );
    let listed = home.pyro(&["workspace", "list", "--label", "a=b", "--json"]).finish().json();
    assert_eq!(listed["workspaces"][0]["id"], json!(workspace.id));
    home.pyro(&["workspace", "list", "--label", "a=c"]).finish().assert_code(0);
    workspace.delete();
    home.assert_nothing_left();
}

#[test]
fn an_unused_workspace_stops_at_its_time_and_keeps_its_disk() {
    let home = Home::shared();
    let workspace = Workspace::create(&home, &["--ttl-seconds", "60"]);
    assert_eq!(workspace.sh("echo kept > file"), "");
    std::thread::sleep(Duration::from_secs(58));
    until("it is stopped", || workspace.status()["state"] == "stopped");
    assert!(workspace.status()["reason"].as_str().is_some_and(|reason| reason.contains("time to live")));
    let crossed = workspace.verb("crossings", &["--json"]).finish().json()["crossings"][0].clone();
    assert_eq!(
        (&crossed["kind"], &crossed["action"], &crossed["seconds"]),
        (&json!("time_to_live"), &json!("stopped"), &json!(60))
    );
    workspace.verb("start", &[]).finish().assert_code(0);
    assert_eq!(workspace.sh("cat file"), "kept\n");
    workspace.delete();
    home.assert_nothing_left();
}
