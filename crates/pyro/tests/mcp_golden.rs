//! What a chat host is told of the server and its tools, word for word; it needs no guest. Also `docs/mcp-reference.md`,
//! which is written from the same words.
//!
//! `INSTA_UPDATE=always cargo test -p pyro --test mcp_golden` writes the golden files anew, `PYRO_UPDATE=1` the reference.

#![expect(clippy::unwrap_used, reason = "a test that cannot begin may end in any way")]

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

/// Most bytes of a profile's tool list: it is in every model's context.
const LIST_BYTES_MAX: usize = 26_000;

/// What `initialize` and `tools/list` answer in a home in which nothing is installed.
#[expect(clippy::disallowed_methods, reason = "the test drives the program itself")]
fn told(profile: &str) -> (Value, Value) {
    let home = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_pyro"))
        .args(["mcp", "serve", "--profile", profile])
        .env_clear()
        .env("HOME", home.path())
        .current_dir(home.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let hello = json!({
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "golden", "version": "1"},
    });
    for message in [
        json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}),
        json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
        json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list"}),
    ] {
        writeln!(stdin, "{message}").unwrap();
    }
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    let (server, tools) = (next()["result"].clone(), next()["result"]["tools"].clone());
    drop(stdin);
    assert!(child.wait().unwrap().success());
    assert!(std::fs::read_dir(home.path()).unwrap().next().is_none(), "something was created");
    (server, tools)
}

#[track_caller]
fn check(profile: &str) {
    let (server, tools) = told(profile);
    assert!(tools.to_string().len() <= LIST_BYTES_MAX, "{profile}: {} bytes", tools.to_string().len());
    for tool in tools.as_array().unwrap() {
        let hints = tool["annotations"].as_object().unwrap();
        for hint in ["readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"] {
            assert!(hints[hint].is_boolean(), "{}: {hint}", tool["name"]);
        }
        for (name, property) in tool["inputSchema"]["properties"].as_object().unwrap() {
            assert!(property["description"].is_string(), "{}: {name} is not described", tool["name"]);
        }
        assert_eq!(tool["inputSchema"]["additionalProperties"], false, "{}", tool["name"]);
    }
    insta::assert_json_snapshot!(format!("mcp-{profile}"), json!({"server": server, "tools": tools}));
}

#[test]
fn profile_vm_run() {
    check("vm-run");
}

#[test]
fn profile_workspace_core() {
    check("workspace-core");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test is told by its environment to write its golden file")]
fn the_reference_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/mcp-reference.md");
    let text = reference();
    if std::env::var_os("PYRO_UPDATE").is_some() {
        std::fs::write(&path, text).unwrap();
        return;
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == text, "docs/mcp-reference.md is out of date; PYRO_UPDATE=1 cargo test -p pyro writes it");
}

fn reference() -> String {
    let mut text =
        "# MCP reference\n\nWritten from the server's own words; `cargo xtask references` writes it anew.\n".to_owned();
    for (profile, words) in [
        ("workspace-core", "The default: the whole loop of a coding task."),
        ("vm-run", "One tool, for a host that only wants to run a command somewhere else."),
    ] {
        let (server, tools) = told(profile);
        let told = server["instructions"].as_str().unwrap();
        writeln!(text, "\n## Profile `{profile}`\n\n{words} The model is told:\n\n```text\n{told}\n```").unwrap();
        for tool in tools.as_array().unwrap() {
            describe(&mut text, tool);
        }
    }
    text
}

fn describe(text: &mut String, tool: &Value) {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let hints = &tool["annotations"];
    let promise = match (hints["readOnlyHint"] == true, hints["idempotentHint"] == true) {
        (true, _) => "changes nothing",
        (false, true) => "again is no different",
        (false, false) => "each call acts",
    };
    writeln!(text, "\n### `{}`\n\n{} ({promise})\n", word(&tool["name"]), word(&tool["description"])).unwrap();
    let schema = &tool["inputSchema"];
    let properties = schema["properties"].as_object().unwrap();
    if properties.is_empty() {
        return;
    }
    writeln!(text, "| argument | type | | meaning |\n|---|---|---|---|").unwrap();
    for (name, property) in properties {
        let required = schema["required"].as_array().is_some_and(|names| names.iter().any(|one| one == name));
        let range = match (&property["minimum"], &property["maximum"]) {
            (Value::Number(low), Value::Number(high)) => format!(", {low} to {high}"),
            (Value::Number(low), _) => format!(", from {low}"),
            _ => String::new(),
        };
        let given = match &property["default"] {
            _ if required => "required".to_owned(),
            Value::Null => String::new(),
            value => format!("`{value}`"),
        };
        let kind = word(&property["type"]);
        writeln!(text, "| `{name}` | {kind}{range} | {given} | {} |", word(&property["description"])).unwrap();
    }
}
