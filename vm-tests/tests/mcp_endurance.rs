//! `pyro mcp serve` over a long day: many calls, many at once. How fast it is, `make bench` shows.

use serde_json::{Value, json};
use vm_tests::Home;
use vm_tests::mcp::ChatHost;

/// Most memory of a server that has nothing to do, in KiB: what it maps of its program included.
const IDLE_KIB_MAX: u64 = 20 << 10;

/// How much more a server may hold after a thousand calls, in KiB.
const GROWTH_KIB_MAX: u64 = 1 << 10;

#[test]
fn a_thousand_calls_leave_the_server_as_small_as_it_was() {
    let (home, dir) = (Home::shared(), tempfile::tempdir().expect("a temporary directory"));
    let mut host = ChatHost::start(&home, dir.path(), &[]);
    host.ask("tools/list", json!({}));
    let idle = memory(&host, "VmRSS");
    assert!(idle <= IDLE_KIB_MAX, "an idle server has {idle} KiB");

    let id = host.tool("workspace_create", json!({})).record()["id"].clone();
    // The first of each kind take what all later ones use again.
    (0..60).for_each(|number| call(&mut host, &id, number));
    let before = memory(&host, "RssAnon");
    (0..1000).for_each(|number| call(&mut host, &id, number));
    let after = memory(&host, "RssAnon");
    assert!(after <= before + GROWTH_KIB_MAX, "{before} KiB became {after} KiB");
    host.tool("workspace_delete", json!({"workspace": id, "discard": true}));
    host.hang_up(std::time::Duration::from_secs(5));
    home.assert_nothing_left();
}

#[test]
fn while_ten_commands_run_everything_else_is_answered_first() {
    let (home, dir) = (Home::shared(), tempfile::tempdir().expect("a temporary directory"));
    let mut host = ChatHost::start(&home, dir.path(), &[]);
    let id = host.tool("workspace_create", json!({"name": "busy"})).record()["id"].clone();
    // They wait for a lock, which is given up when all else was answered.
    let hold = "flock lock sh -c 'touch held; until test -e go; do sleep 1; done'";
    host.tool("workspace_exec", json!({"workspace": id, "command": hold, "wait_seconds": 0}));
    host.tool("workspace_exec", json!({"workspace": id, "command": "until test -e held; do sleep 1; done"}));
    let arguments = json!({"workspace": id, "command": "flock -s lock bash -c 'echo $$'"});
    let commands: Vec<u64> = (0..10)
        .map(|_| host.request("tools/call", json!({"name": "workspace_exec", "arguments": arguments})))
        .collect();
    for _ in 0..20 {
        let ping = host.request("ping", json!({}));
        assert_eq!(host.message()["id"], json!(ping), "a ping waits for a command");
    }
    let status = host.tool("workspace_status", json!({"workspace": id}));
    assert_eq!(status.record()["state"], "running");
    let go = host.tool("workspace_file_write", json!({"workspace": id, "path": "go", "content": ""}));
    assert!(go.result.get("isError") != Some(&json!(true)));
    let mut said: Vec<String> = commands.into_iter().map(|request| last_line(&host.answer(request))).collect();
    said.sort();
    said.dedup();
    assert_eq!(said.len(), 10, "each ran for itself: {said:?}");
    host.tool("workspace_delete", json!({"workspace": id, "discard": true}));
    host.hang_up(std::time::Duration::from_secs(5));
    home.assert_nothing_left();
}

/// One of many calls: mostly small ones, some that fail, some that a guest answers at length.
fn call(host: &mut ChatHost, id: &Value, number: usize) {
    match number % 20 {
        0 => drop(host.tool("workspace_exec", json!({"workspace": id, "command": "seq 1 2000"}))),
        1 => drop(host.tool("workspace_file_list", json!({"workspace": id, "path": "/etc"}))),
        2 => drop(host.tool("workspace_logs", json!({"workspace": id}))),
        3 => host.refused("workspace_exec", json!({"workspace": "nobody", "command": "true"}), &["nobody"]),
        4 => host.refused("workspace_list", json!({"nonsense": "x".repeat(100_000)}), &["nonsense"]),
        5..=9 => drop(host.tool("workspace_list", json!({}))),
        _ => drop(host.tool("workspace_status", json!({"workspace": id}))),
    }
}

#[track_caller]
fn last_line(answer: &Value) -> String {
    let text = answer["result"]["content"][0]["text"].as_str().unwrap_or_default();
    assert!(text.contains("[exit code 0 "), "{answer}");
    text.lines().last().unwrap_or_default().to_owned()
}

/// A figure of the server's memory, in KiB.
fn memory(host: &ChatHost, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", host.server_pid())).expect("the server runs");
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let figure = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    figure.expect("the kernel tells it")
}
