//! The files of a workspace, as a person uses them, in a real guest: what the tools' own tests cannot show is that the agent
//! runs them, that `/workspace` is an overlay over the seed, and that the guest and the tools see the same.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use serde_json::json;
use vm_tests::{Home, Workspace};

fn seed(dir: &Path) {
    std::fs::create_dir(dir.join("src")).expect("made");
    std::fs::write(dir.join("src/main.rs"), "fn main() {\n    run();\n}\n").expect("written");
    std::fs::set_permissions(dir.join("src/main.rs"), PermissionsExt::from_mode(0o755)).expect("permitted");
    std::fs::write(dir.join("data"), [vec![0, 255, 10], vec![b'x'; 100_000]].concat()).expect("written");
    symlink("src", dir.join("link")).expect("linked");
}

#[test]
fn files_are_listed_read_written_edited_and_searched() {
    let home = Home::shared();
    let dir = tempfile::tempdir().expect("a folder");
    seed(dir.path());
    let workspace = Workspace::seeded(&home, dir.path());
    let file = |verb: &str, words: &[&str]| workspace.verb(&format!("file {verb}"), words);

    let listed = file("list", &["--recursive", "--json"]).finish().json();
    let names: Vec<_> = listed["entries"].as_array().into_iter().flatten().map(|entry| entry["path"].clone()).collect();
    assert_eq!(names, ["data", "link", "src", "src/main.rs"]);
    assert_eq!((&listed["entries"][1]["target"], &listed["entries"][3]["mode"]), (&json!("src"), &json!("0755")));

    let data = file("read", &["data", "--content-only", "--max-bytes", "1000000"]).finish();
    assert!(data.code == Some(0) && data.stdout == std::fs::read(dir.path().join("data")).expect("there"));
    file("read", &["src/main.rs", "--offset", "2", "--lines", "1"]).finish().assert_stdout("    run();\n");

    let edit = ["link/main.rs", "--old", "run()", "--new", "walk()"];
    file("edit", &edit).finish().assert_stdout("replaced 1 time in /workspace/link/main.rs, line 2\n");
    let missed = file("edit", &["src/main.rs", "--old", "walk(1)", "--new", "x"]).finish();
    missed.assert_refused(1, &["line 2", "walk();"]);
    file("write", &["new/notes.txt", "--text-file", "-"]).stdin("noted\n").finish().assert_code(0);
    let seen = workspace.sh("cat new/notes.txt; grep -n walk src/main.rs; stat -c %a src/main.rs");
    assert_eq!(seen, "noted\n2:    walk();\n755\n");
    let found = file("search", &["walk|noted"]).finish();
    found.assert_stdout("new/notes.txt:1:noted\nsrc/main.rs:2:    walk();\n");

    assert_eq!(workspace.sh("mkfifo pipe; mkdir deep && touch deep/a deep/b; rm data"), "");
    file("read", &["pipe"]).finish().assert_refused(2, &["named pipe"]);
    file("read", &["data"]).finish().assert_refused(1, &["data", "not there"]);
    file("search", &["--files", "deep/*"]).finish().assert_stdout("deep/a\ndeep/b\n");
    file("search", &["("]).finish().assert_refused(2, &["pattern", "unclosed group"]);

    // The changes are on the disk and above the seed, which a reset brings back.
    workspace.verb("stop", &[]).finish().assert_code(0);
    workspace.verb("start", &[]).finish().assert_code(0);
    file("read", &["new/notes.txt"]).finish().assert_stdout("noted\n");
    workspace.verb("reset", &[]).finish().assert_code(0);
    file("read", &["src/main.rs", "--offset", "2", "--lines", "1"]).finish().assert_stdout("    run();\n");
    file("search", &["--files", "*"]).finish().assert_stdout("data\nsrc/main.rs\n");
    workspace.delete();
    home.assert_nothing_left();
}
