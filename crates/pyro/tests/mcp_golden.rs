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

/// As [`LIST_BYTES_MAX`], for those who ask for everything.
const FULL_LIST_BYTES_MAX: usize = 52_000;

/// What a server tells of itself.
struct Told {
    server: Value,
    tools: Value,
    /// Each with the text it has when its arguments are left out; null where there are none.
    prompts: Value,
}

/// What `initialize`, `tools/list` and the prompts answer in a home in which nothing is installed.
#[expect(clippy::disallowed_methods, reason = "the test drives the program itself")]
fn told(profile: &str) -> Told {
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
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut ask = |method: &str, params: Value| -> Value {
        writeln!(stdin, "{}", json!({"jsonrpc": "2.0", "id": method, "method": method, "params": params})).unwrap();
        serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap()["result"].take()
    };
    let hello = json!({
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "golden", "version": "1"},
    });
    let server = ask("initialize", hello);
    let tools = ask("tools/list", json!({}))["tools"].take();
    let mut prompts = ask("prompts/list", json!({}))["prompts"].take();
    for prompt in prompts.as_array_mut().into_iter().flatten() {
        let filled = ask("prompts/get", json!({"name": prompt["name"]}));
        prompt["text"] = filled["messages"][0]["content"]["text"].clone();
    }
    drop(stdin);
    assert!(child.wait().unwrap().success());
    assert!(std::fs::read_dir(home.path()).unwrap().next().is_none(), "something was created");
    Told { server, tools, prompts }
}

#[track_caller]
fn check(profile: &str) {
    let Told { server, tools, prompts } = told(profile);
    let bytes_max = if profile == "workspace-full" { FULL_LIST_BYTES_MAX } else { LIST_BYTES_MAX };
    assert!(tools.to_string().len() <= bytes_max, "{profile}: {} bytes", tools.to_string().len());
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
    insta::assert_json_snapshot!(
        format!("mcp-{profile}"),
        json!({"server": server, "tools": tools, "prompts": prompts})
    );
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
fn profile_workspace_full() {
    check("workspace-full");
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
    let core = told("workspace-core");
    for (profile, words) in [
        ("workspace-core", "The default: the whole loop of a coding task."),
        (
            "workspace-full",
            "All of `workspace-core`, and the tools below; those of core that stand here have more arguments.",
        ),
        ("vm-run", "One tool, for a host that only wants to run a command somewhere else."),
    ] {
        let Told { server, tools, prompts } = told(profile);
        let told = server["instructions"].as_str().unwrap();
        writeln!(text, "\n## Profile `{profile}`\n\n{words} The model is told:\n\n```text\n{told}\n```").unwrap();
        let told_before = |list: &Value, one: &Value| {
            profile == "workspace-full" && list.as_array().is_some_and(|list| list.contains(one))
        };
        for tool in tools.as_array().unwrap().iter().filter(|tool| !told_before(&core.tools, tool)) {
            describe(&mut text, tool);
        }
        for prompt in prompts.as_array().into_iter().flatten().filter(|prompt| !told_before(&core.prompts, prompt)) {
            describe_prompt(&mut text, prompt);
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

fn describe_prompt(text: &mut String, prompt: &Value) {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    writeln!(text, "\n### Prompt `{}`\n\n{}\n", word(&prompt["name"]), word(&prompt["description"])).unwrap();
    for argument in prompt["arguments"].as_array().into_iter().flatten() {
        writeln!(text, "- `{}`: {}", word(&argument["name"]), word(&argument["description"])).unwrap();
    }
    writeln!(text, "\n```text\n{}\n```", word(&prompt["text"])).unwrap();
}
