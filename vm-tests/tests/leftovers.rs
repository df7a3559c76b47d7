//! What is left when processes die, what takes room, and what gives it back: `doctor`, `df`, `prune`.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use vm_tests::mcp::ChatHost;
use vm_tests::tiny::TINY;
use vm_tests::trees::{Look, assert_same, tree};
use vm_tests::{Home, Mirror, Workspace};

fn create<'a>(home: &'a Home, name: &str) -> Workspace<'a> {
    let call = home.pyro(&["workspace", "create", TINY, "--id-only", "--name", name]).finish();
    call.assert_code(0);
    Workspace::known(home, call.stdout_text().trim())
}

fn dir_of(home: &Home, workspace: &Workspace<'_>) -> PathBuf {
    home.path().join("state/workspaces").join(&workspace.id)
}

/// The state of a stopped workspace, as if it had been stopped so long ago.
fn age(dir: &Path, days: u64) {
    let path = dir.join("state.json");
    let mut state: Value = serde_json::from_slice(&std::fs::read(&path).expect("it is there")).expect("it is JSON");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is past 1970").as_secs();
    state["since_seconds"] = json!(now - days * 86_400);
    std::fs::write(path, state.to_string()).expect("our own state");
}

/// What `doctor` says of leftovers, and how the check came out.
fn doctor(home: &Home) -> (String, String) {
    let checks = home.pyro(&["doctor", "--json"]).finish().json()["checks"].as_array().cloned().unwrap_or_default();
    let check = checks.into_iter().find(|check| check["name"] == "leftovers").expect("it looks for them");
    (check["status"].to_string(), check["found"].to_string())
}

/// Kinds of what a prune removes, sorted, but for what is of the cache alone.
fn kinds(pruned: &Value) -> Vec<String> {
    let rows = pruned["removed"].as_array().cloned().unwrap_or_default();
    let kinds = rows.iter().filter_map(|row| row["kind"].as_str().map(str::to_owned));
    let mut kinds: Vec<String> = kinds.filter(|kind| kind != "template" && kind != "initramfs").collect();
    kinds.sort_unstable();
    kinds
}

#[test]
fn what_dead_processes_left_is_named_and_removed() {
    let mirror = Mirror::with_tiny_installed();
    let home = &mirror.home;
    let (kept, killed, old) = (create(home, "kept"), create(home, "killed"), create(home, "old"));
    assert_eq!(kept.sh("echo kept > file"), "");
    for stopped in [&kept, &old] {
        stopped.verb("stop", &[]).finish().assert_code(0);
    }
    assert_eq!(doctor(home), ("\"ok\"".to_owned(), "\"none\"".to_owned()));

    // As kills at bad moments leave things.
    let all = home.path().join("state/workspaces");
    killed.kill("supervisor_pid");
    std::fs::write(dir_of(home, &kept).join("layer-99.qcow2"), [1; 100_000]).expect("our own state");
    std::fs::write(dir_of(home, &kept).join("supervisor.sock"), "").expect("our own state");
    std::fs::create_dir(all.join("0123456789ab")).expect("our own state");
    std::fs::create_dir(all.join("deleting-fedcba987654")).expect("our own state");
    std::fs::write(all.join("deleting-fedcba987654/base.raw"), [1; 100_000]).expect("our own state");
    std::fs::create_dir_all(home.cache().join("staging/template-1-0")).expect("our own cache");
    age(&dir_of(home, &old), 8);
    std::thread::sleep(Duration::from_millis(200));

    // Looking changes nothing.
    let before = tree(home.path(), Look::Everything, &["tmp", "run"]);
    let (status, found) = doctor(home);
    assert_eq!(status, "\"warn\"");
    let expected = [
        "half-made workspace",
        "half-removed workspace",
        "layer of no disk",
        "socket of no supervisor",
        "staging",
        "workspace past its time",
        "workspace without a supervisor",
    ];
    for kind in expected {
        assert!(found.contains(kind), "{kind} is not in {found}");
    }
    let named = home.pyro(&["prune", "--dry-run", "--json"]).finish();
    assert_eq!(kinds(&named.assert_code(0).json()), expected);
    assert_same(&before, &tree(home.path(), Look::Everything, &["tmp", "run"]), "a look changes nothing");

    let pruned = home.pyro(&["prune", "--json"]).finish();
    assert_eq!(kinds(&pruned.assert_code(0).json()), expected);
    assert!(pruned.json()["freed_bytes"].as_u64().is_some_and(|bytes| bytes >= 200_000), "{pruned:?}");
    assert_eq!(doctor(home), ("\"ok\"".to_owned(), "\"none\"".to_owned()));
    home.pyro(&["prune"]).finish().assert_code(0).assert_stdout("nothing to remove\n");

    // The one that is gone is remembered, by its name and in the list.
    home.pyro(&["workspace", "start", "old"]).finish().assert_refused(1, &["old", "stopped for 8 days", "just now"]);
    let listed = home.pyro(&["workspace", "list"]).finish();
    listed.assert_stdout_has("old was removed just now: it had been stopped for 8 days");
    let mut host = ChatHost::start(home, home.path(), &[]);
    let told = host.tool("workspace_list", json!({}));
    let removed = told.record()["removed"].as_array().cloned().expect("a list");
    assert_eq!((removed.len(), &removed[0]["id"], &removed[0]["name"]), (1, &json!(old.id), &json!("old")));
    host.hang_up(Duration::from_secs(5));
    assert_eq!(killed.status()["state"], "stopped");

    // What takes room is told, and what is kept still works, also when all that can be made again is gone.
    let usage = home.pyro(&["df", "--json"]).finish();
    let rows = usage.assert_code(0).json()["workspaces"].as_array().cloned().expect("a list");
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| row["disk_bytes"].as_u64().is_some_and(|bytes| bytes > 0)), "{rows:?}");
    let environments = &usage.json()["cache"][0];
    assert_eq!((&environments["kind"], &environments["count"]), (&json!("environments"), &json!(1)));
    home.pyro(&["df"]).finish().assert_code(0).assert_stdout_has("WORKSPACE");
    home.pyro(&["prune", "--all"]).finish().assert_code(0).assert_stdout_has("template");
    kept.verb("start", &[]).finish().assert_code(0);
    assert_eq!(kept.sh("cat file"), "kept\n");
    // Nothing that is in use is ever removed.
    home.pyro(&["prune", "--all"]).finish().assert_code(0);
    assert_eq!(kept.sh("cat file"), "kept\n");
    kept.delete();
    // A supervisor whose files somebody removed by hand ends by itself.
    killed.verb("start", &[]).finish().assert_code(0);
    std::fs::remove_dir_all(dir_of(home, &killed)).expect("our own state");
    std::fs::remove_file(home.path().join("state/removed.jsonl")).expect("one was removed");
    home.assert_nothing_left();
}
