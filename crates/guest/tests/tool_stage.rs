//! What is on its way into the guest: nobody sees it, and what a killed tool left of it is removed by the next one.

mod ground;

use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pyro_wire::Tool;
use pyro_wire::changes::Changes;
use pyro_wire::export::Export;
use pyro_wire::files::List;
use pyro_wire::search::{Query, Search};
use pyro_wire::sync::{Inventory, Item, Receive};

use crate::ground::{Ground, parse_lines, run};

/// Where the workspace is in a ground.
const WORKSPACE: &str = "root/workspace";

/// A tool that was sent half of a file for a directory, and waits for the rest; what it works on is below `top`.
fn half_sent(ground: &Ground, dir: &str, top: &str) -> Child {
    let tool = Tool::Receive(Receive { path: dir.into() });
    #[expect(clippy::disallowed_methods, reason = "the test starts the tool itself")]
    let mut child = Command::new(env!("CARGO_BIN_EXE_pyro-guest"))
        .args(["--tool", &serde_json::to_string(&tool).expect("serialises"), "--ground"])
        .arg(ground.path(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("the tool starts");
    let file = Item::File { path: "deep.txt".into(), mode: 0o644, modified_unix_ns: 0, size_bytes: 1 << 20 };
    let sent = format!("{}\nhalf of it", serde_json::to_string(&file).expect("serialises"));
    child.stdin.as_mut().expect("a pipe").write_all(sent.as_bytes()).expect("sent");
    let begun = Instant::now();
    while left(ground, top).is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it begins");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

/// What is below the directory of all stages of a top.
fn left(ground: &Ground, top: &str) -> Vec<PathBuf> {
    let below = |dir: PathBuf| std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    below(ground.path(top).join(".pyro-stage")).flat_map(below).collect()
}

/// All that can be asked about what is in the workspace.
fn questions() -> Vec<(Tool, &'static [u8])> {
    let query = Query::Files;
    vec![
        (Tool::List(List { path: "/workspace".into(), recursive: true, entries_max: 100 }), b""),
        (Tool::List(List { path: "/".into(), recursive: true, entries_max: 100 }), b""),
        (
            Tool::Search(Search {
                path: "/workspace".into(),
                query,
                globs: vec![],
                ignored_too: true,
                results_max: 100,
            }),
            b"",
        ),
        (Tool::Export(Export { path: "/workspace".into() }), b""),
        (Tool::Inventory(Inventory { path: "/workspace".into() }), b"\"\"\n"),
        (Tool::Changes(Changes { paths: vec![], all: true, apart: false, content_bytes_max: Some(1000) }), b""),
    ]
}

#[test]
fn what_is_on_its_way_is_nobodys_business_and_goes_with_its_tool() {
    let ground = Ground::new();
    ground.put("kept.txt", "kept");
    std::os::unix::fs::symlink(ground.workspace(".pyro-stage"), ground.path("upper/.pyro-stage")).expect("linked");
    let mut child = half_sent(&ground, "/workspace", WORKSPACE);
    for (tool, input) in questions() {
        let answer = String::from_utf8(ground.run(&tool, input).expect("answered")).expect("text");
        assert!(!answer.contains("pyro-"), "{}: {answer}", tool.name());
    }
    assert_eq!(left(&ground, WORKSPACE).len(), 1, "a tool that lives keeps what it works on");
    child.kill().expect("killed");
    child.wait().expect("ended");
    assert_eq!(left(&ground, WORKSPACE).len(), 1);
    let (list, _) = questions().remove(0);
    assert_eq!(ground.lines::<serde_json::Value>(&list).expect("listed").len(), 2);
    assert!(!ground.workspace(".pyro-stage").exists(), "{:?}", left(&ground, WORKSPACE));
}

#[test]
fn what_a_killed_push_was_sending_elsewhere_goes_with_the_next_tool() {
    let ground = Ground::new();
    // As on a machine, whose root is another file system than its workspace.
    std::fs::remove_dir(ground.path(WORKSPACE)).expect("it is empty");
    let mut child = half_sent(&ground, "/srv/data", "root");
    child.kill().expect("killed");
    child.wait().expect("ended");
    assert_eq!(left(&ground, "root").len(), 1);
    let in_place = std::fs::read_dir(ground.path("root/srv/data")).expect("it was made");
    assert_eq!(in_place.count(), 0, "half a file is in its place");
    let list = Tool::List(List { path: "/".into(), recursive: true, entries_max: 100 });
    let answer = String::from_utf8(ground.run(&list, b"").expect("listed")).expect("text");
    assert!(answer.contains("srv/data") && !answer.contains("pyro-"), "{answer}");
    assert!(!ground.path("root/.pyro-stage").exists(), "{:?}", left(&ground, "root"));
}

#[test]
fn what_is_only_called_so_is_somebodys_own() {
    let ground = Ground::new();
    ground.put("dir/.pyro-stage/1", "mine");
    ground.put(".pyro-stage/notes", "mine");
    ground.put(".pyro-stage/7/deep", "mine");
    let list = Tool::List(List { path: "/workspace/dir".into(), recursive: true, entries_max: 100 });
    let answer = run(&list, b"", &["--ground".as_ref(), ground.path("").as_os_str()]).expect("listed");
    assert_eq!(parse_lines::<serde_json::Value>(&answer).len(), 3);
    assert!(ground.workspace(".pyro-stage/notes").exists() && !ground.workspace(".pyro-stage/7").exists());
}
