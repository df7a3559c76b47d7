//! What only the profile workspace-full has of MCP: snapshots and what goes back to one, a workspace that is stopped, its disk, and
//! the record of what crossed its border. Shells and services are in `stories.rs`, secrets in `secrets.rs`.

#![expect(clippy::disallowed_methods, reason = "the host's own tools judge what pyro wrote")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use vm_tests::Home;
use vm_tests::mcp::ChatHost;

const SOON: Duration = Duration::from_secs(5);

/// A chat host whose model has all tools, in a project of one file that is the seed of a workspace with a disk of this size.
fn begin(home: &Home, disk_gib: u32) -> (tempfile::TempDir, ChatHost) {
    let project = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(project.path().join("file"), "one\n").expect("our own directory");
    let mut host = ChatHost::start(home, project.path(), &["--profile", "workspace-full"]);
    host.tool("workspace_create", json!({"seed_path": ".", "name": "w", "disk_gib": disk_gib}));
    (project, host)
}

/// Runs a command, which must succeed, and gives what it printed.
#[track_caller]
fn sh(host: &mut ChatHost, command: &str) -> String {
    let answer = host.tool("workspace_exec", json!({"workspace": "w", "command": command}));
    let (head, printed) = answer.text().split_once('\n').expect("the first line is pyro's");
    assert!(head.contains("[exit code 0 "), "{}", answer.text());
    if printed == "(no output)" { String::new() } else { printed.to_owned() }
}

fn names(list: &Value) -> Vec<&str> {
    let rows = list["snapshots"].as_array().expect("a list");
    rows.iter().map(|row| row["name"].as_str().expect("a name")).collect()
}

#[test]
fn a_snapshot_is_taken_compared_with_gone_back_to_and_deleted() {
    let home = Home::shared();
    let (_project, mut host) = begin(&home, 16);
    assert_eq!(sh(&mut host, "echo two > file; echo kept > /root/kept"), "");
    let taken = host.tool("snapshot_create", json!({"workspace": "w", "name": "two"}));
    let id = taken.record()["workspace"].clone();
    assert_eq!((&taken.record()["name"], &taken.record()["current"]), (&json!("two"), &json!(true)));
    assert!(taken.record()["pause_ms"].is_u64(), "{}", taken.text());
    host.refused("snapshot_create", json!({"workspace": "w", "name": "two"}), &["'two' already"]);
    host.refused("snapshot_create", json!({"workspace": "w", "name": "a/b"}), &["a/b", "letters"]);

    assert_eq!(sh(&mut host, "echo three > file; echo new > more; rm /root/kept"), "");
    let listed = host.tool("snapshot_list", json!({"workspace": "w"}));
    assert_eq!(names(listed.record()), ["baseline", "two"]);
    assert_eq!(listed.record()["workspace"], id);

    // Since the snapshot, and since the beginning.
    let since = host.tool("workspace_diff", json!({"workspace": "w", "from": "two"}));
    assert!(since.text().contains("-two\n+three\n") && since.text().contains("+new\n"), "{}", since.text());
    let since_create = host.tool("workspace_diff", json!({"workspace": "w"}));
    assert!(since_create.text().contains("-one\n+three\n"), "{}", since_create.text());
    host.refused("workspace_diff", json!({"workspace": "w", "from": "tow"}), &["'tow'", "two"]);

    // Going back tells what ended, and is told as data, not as words.
    let sleeping = json!({"workspace": "w", "command": "sleep 1000", "wait_seconds": 1});
    assert!(host.tool("workspace_exec", sleeping).text().contains("still running"));
    let reset = host.tool("workspace_reset", json!({"workspace": "w", "snapshot": "two"}));
    let record = reset.record();
    assert_eq!((&record["reset_to"], &record["reset_count"]), (&json!("two"), &json!(1)));
    assert_eq!(record["ended"]["commands"].as_array().map(Vec::len), Some(1), "{}", reset.text());
    assert_eq!((&record["state"], &record["id"]), (&json!("running"), &id));
    assert_eq!(sh(&mut host, "cat file /root/kept; ls"), "two\nkept\nfile\n");
    let nothing = host.tool("workspace_diff", json!({"workspace": "w", "from": "two"}));
    assert!(nothing.text().starts_with("[nothing changed"), "{}", nothing.text());

    host.tool("workspace_reset", json!({"workspace": "w"}));
    assert_eq!(sh(&mut host, "cat file; ls /root"), "one\n");
    let gone = host.tool("snapshot_delete", json!({"workspace": "w", "name": "two"}));
    assert_eq!(gone.record(), &json!({"workspace": id, "name": "two", "deleted": true}));
    assert_eq!(names(host.tool("snapshot_list", json!({"workspace": "w"})).record()), ["baseline"]);
    host.refused("workspace_reset", json!({"workspace": "w", "snapshot": "two"}), &["'two'", "baseline"]);
    host.refused("snapshot_delete", json!({"workspace": "w", "name": "two"}), &["'two'"]);
    host.refused("snapshot_delete", json!({"workspace": "w", "name": "baseline"}), &["cannot be deleted"]);
    host.tool("workspace_delete", json!({"workspace": "w"}));
    host.hang_up(SOON);
    home.assert_nothing_left();
}

#[test]
fn a_stopped_workspace_is_looked_at_taken_home_and_started_again() {
    let home = Home::shared();
    // The host's own tools read all of it, holes too.
    let (project, mut host) = begin(&home, 1);
    assert_eq!(sh(&mut host, "mkdir dir; seq 1 500 > dir/lines; ln -s lines dir/link; echo root > /root/notes"), "");
    for tool in ["workspace_disk_list", "workspace_disk_read", "workspace_disk_export"] {
        let arguments = match tool {
            "workspace_disk_read" => json!({"workspace": "w", "path": "file"}),
            "workspace_disk_export" => json!({"workspace": "w", "output_path": "w.img"}),
            _ => json!({"workspace": "w"}),
        };
        host.refused(tool, arguments, &["runs", "workspace_stop"]);
    }
    let stopped = host.tool("workspace_stop", json!({"workspace": "w"}));
    assert_eq!(stopped.record()["state"], "stopped");
    assert!(stopped.record()["kept_until"].is_string(), "{}", stopped.text());
    host.refused("workspace_stop", json!({"workspace": "w"}), &["stopped"]);

    let top = host.tool("workspace_disk_list", json!({"workspace": "w"}));
    assert_eq!(top.text(), "[/workspace: 2 entries]\ndir/\nfile  (4 B)\n");
    let all = host.tool("workspace_disk_list", json!({"workspace": "w", "path": "dir", "recursive": true}));
    assert!(all.text().contains("lines  (1.8 KiB)\n") && all.text().contains("link -> lines\n"), "{}", all.text());
    host.refused("workspace_disk_list", json!({"workspace": "w", "path": "none"}), &["none"]);
    let read = host.tool("workspace_disk_read", json!({"workspace": "w", "path": "dir/lines", "start_line": 499}));
    assert!(read.text().ends_with("   499\t499\n   500\t500\n"), "{}", read.text());
    let part = host.tool("workspace_disk_read", json!({"workspace": "w", "path": "dir/lines", "line_count": 2}));
    assert!(
        part.text().contains("read on with start_line 3") && part.text().ends_with("     2\t2\n"),
        "{}",
        part.text()
    );
    let notes = host.tool("workspace_disk_read", json!({"workspace": "w", "path": "/root/notes"}));
    assert!(notes.text().ends_with("     1\troot\n"), "{}", notes.text());

    let exported = export(&mut host);
    let image = project.path().join("w.img");
    assert_eq!(exported["output_path"], json!(image.canonicalize().expect("it was written")));
    assert_eq!(exported["size_bytes"], json!(1_u64 << 30));
    assert!(exported["allocated_bytes"].as_u64().is_some_and(|bytes| bytes < 64 << 20), "{exported}");
    check_image(&image, exported["sha256"].as_str().expect("it has a digest"));
    let again = json!({"workspace": "w", "output_path": "w.img"});
    host.refused("workspace_disk_export", again, &["w.img", "there already", "output_path"]);
    host.refused("workspace_disk_export", json!({"workspace": "w", "output_path": "../w.img"}), &["host path"]);
    host.refused("workspace_disk_export", json!({"workspace": "w", "output_path": "no/w.img"}), &["does not exist"]);

    let started = host.tool("workspace_start", json!({"workspace": "w"}));
    assert_eq!(started.record()["state"], "running");
    host.refused("workspace_start", json!({"workspace": "w"}), &["runs"]);
    assert_eq!(sh(&mut host, "cat file /root/notes; ls"), "one\nroot\ndir\nfile\n");

    // All of it was written down, and nothing that was refused.
    let crossed = host.tool("workspace_crossings", json!({"workspace": "w"}));
    let lines: Vec<&str> = crossed.text().lines().collect();
    assert_eq!(lines.len(), 2, "{}", crossed.text());
    assert!(lines[0].contains("seed") && lines[0].contains("1 entry, 4 B, "), "{}", lines[0]);
    let digest = exported["sha256"].as_str().and_then(|digest| digest.get(..12)).expect("it has a digest");
    assert!(
        lines[1].contains("the whole disk -> ") && lines[1].ends_with(&format!("1.0 GiB, {digest}")),
        "{}",
        lines[1]
    );
    let later = host.tool("workspace_crossings", json!({"workspace": "w", "since": 1}));
    assert_eq!(later.text().lines().collect::<Vec<_>>(), lines[1..]);
    let none = host.tool("workspace_crossings", json!({"workspace": "w", "since": 2}));
    assert!(none.text().starts_with("nothing crossed"), "{}", none.text());
    host.tool("workspace_delete", json!({"workspace": "w", "discard": true}));
    host.refused("workspace_crossings", json!({"workspace": "w"}), &["workspace"]);
    host.hang_up(SOON);
    home.assert_nothing_left();
}

/// Exports the disk. On a slow host it takes longer than a call: then it is asked for again.
#[track_caller]
fn export(host: &mut ChatHost) -> Value {
    loop {
        let answer = host.tool("workspace_disk_export", json!({"workspace": "w", "output_path": "w.img"}));
        match answer.record()["state"].as_str() {
            Some("running") => assert!(answer.text().contains("call workspace_disk_export again"), "{}", answer.text()),
            _ => {
                assert_eq!(answer.record()["state"], "written", "{}", answer.text());
                return answer.record().clone();
            }
        }
    }
}

/// Has the host's own tools look at an image.
#[track_caller]
fn check_image(image: &Path, sha256: &str) {
    let run = |program: &str, arguments: &[&str]| {
        let ran = Command::new(program).args(arguments).arg(image).output().expect("it is installed");
        assert!(ran.status.success(), "{program}: {}", String::from_utf8_lossy(&ran.stdout));
        String::from_utf8_lossy(&ran.stdout).into_owned()
    };
    run("e2fsck", &["-f", "-n"]);
    assert_eq!(run("debugfs", &["-R", "cat /upper/root/notes"]), "root\n");
    assert!(run("sha256sum", &[]).starts_with(&format!("{sha256} ")), "another digest than {sha256}");
}
