//! OpenAI's responses API. Codex gives some models plain functions, which they find by a search; others one tool that runs a
//! script of theirs, in which the tools of servers are functions.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Reply, Step, Wish, list, text, text_of};
use crate::hosts::model::{CallKind, ModelCall, Say, Shown, Tool, Turn};

/// What a model asks for in the two ways: a search, and a list of what a script can call.
const SEARCHED: &str = "search";

/// Prints what a script can call. The line before it raises the limit of what Codex shows of a script's output.
const LIST: &str = "// @exec: {\"max_output_tokens\": 100000}\n\
    text(JSON.stringify(ALL_TOOLS.filter(tool => tool.name.startsWith(\"mcp__pyro__\")).map(tool => tool.name)));\n";

pub(super) fn read(body: &Value) -> (Vec<Tool>, BTreeMap<String, Shown>) {
    let mut tools = Vec::new();
    offered(&body["tools"], None, &mut tools);
    let mut results = BTreeMap::new();
    for item in list(&body["input"]) {
        let shown = match item["type"].as_str() {
            Some("function_call_output" | "custom_tool_call_output") => without_heading(&text_of(&item["output"])),
            _ => {
                offered(&item["tools"], None, &mut tools);
                item["tools"].to_string()
            }
        };
        let is_output = item["type"].as_str().is_some_and(|kind| kind.ends_with("_output"));
        if let Some(id) = item["call_id"].as_str().filter(|_| is_output) {
            results.insert(id.to_owned(), Shown { text: shown, is_error: None });
        }
    }
    (tools, results)
}

fn offered(source: &Value, namespace: Option<&str>, tools: &mut Vec<Tool>) {
    for tool in list(source) {
        if tool["type"] == "namespace" {
            offered(&tool["tools"], tool["name"].as_str(), tools);
            continue;
        }
        let kind = text(&tool["type"]);
        let name = tool["name"].as_str().unwrap_or(&kind).to_owned();
        let deferred = tool["defer_loading"] == json!(true);
        tools.push(Tool { name, namespace: namespace.map(str::to_owned), kind, deferred });
    }
}

pub(super) fn plan(turn: &Turn, wish: &Wish<'_>) -> Option<Step> {
    let call =
        |id: String, name: &str, kind, input| ModelCall { id, name: name.to_owned(), namespace: None, kind, input };
    if let Some(tool) = turn.own_tool(wish.tool) {
        let mut call = call(wish.id.to_owned(), &tool.name, CallKind::Function, wish.arguments.clone());
        call.namespace.clone_from(&tool.namespace);
        return Some(Step::Call(call));
    }
    let asked = wish.asked.contains(SEARCHED);
    let load = format!("{}_load", wish.id);
    if turn.tools.iter().any(|tool| tool.kind == "tool_search") && !asked {
        let query = json!({"query": "pyro workspace", "limit": 50});
        return Some(Step::Load(call(load, SEARCHED, CallKind::Search, query), SEARCHED.to_owned()));
    }
    if !turn.tools.iter().any(|tool| tool.name == "exec" && tool.kind == "custom") {
        return None;
    }
    if !asked {
        return Some(Step::Load(call(load, "exec", CallKind::Script, json!(LIST)), SEARCHED.to_owned()));
    }
    let name = json!(format!("mcp__pyro__{}", wish.tool));
    let script = format!("const result = await tools[{name}]({});\ntext(JSON.stringify(result));\n", wish.arguments);
    Some(Step::Call(call(wish.id.to_owned(), "exec", CallKind::Script, json!(script))))
}

pub(super) fn reply(body: &Value, say: &Say) -> Reply {
    let item = match say {
        Say::Words(words) => json!({
            "type": "message", "role": "assistant", "id": "msg_scripted", "status": "completed",
            "content": [{"type": "output_text", "text": words, "annotations": []}],
        }),
        Say::Call(call) => call_item(call),
    };
    let mut response = json!({
        "id": "resp_scripted", "object": "response", "created_at": 1, "status": "in_progress", "model": body["model"],
        "output": [],
    });
    let mut begun = item.clone();
    begun["status"] = json!("in_progress");
    let mut events = vec![
        ("response.created", json!({"response": response})),
        ("response.output_item.added", json!({"output_index": 0, "item": begun})),
    ];
    if let Say::Words(words) = say {
        let delta = json!({"output_index": 0, "content_index": 0, "item_id": "msg_scripted", "delta": words});
        events.push(("response.output_text.delta", delta));
    }
    events.push(("response.output_item.done", json!({"output_index": 0, "item": item})));
    response["status"] = json!("completed");
    response["output"] = json!([item]);
    response["usage"] = json!({
        "input_tokens": 10, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 15,
    });
    events.push(("response.completed", json!({"response": response})));
    Reply::Events(events.into_iter().map(|(name, data)| super::named(name, data)).collect())
}

fn call_item(call: &ModelCall) -> Value {
    let mut item = json!({"id": format!("fc_{}", call.id), "call_id": call.id, "status": "completed"});
    match call.kind {
        CallKind::Script => {
            item["type"] = json!("custom_tool_call");
            item["name"] = json!(call.name);
            item["input"] = call.input.clone();
        }
        CallKind::Search => {
            item["type"] = json!("tool_search_call");
            item["execution"] = json!("client");
            item["arguments"] = call.input.clone();
        }
        CallKind::Function => {
            item["type"] = json!("function_call");
            item["name"] = json!(call.name);
            item["arguments"] = json!(call.input.to_string());
            if let Some(namespace) = &call.namespace {
                item["namespace"] = json!(namespace);
            }
        }
    }
    item
}

/// A result without the lines that Codex puts before each: how it ended and how long it took.
fn without_heading(shown: &str) -> String {
    match shown.split_once("Output:\n") {
        Some((heading, result)) if heading.contains("Wall time") && heading.lines().count() <= 3 => {
            let running = heading.lines().find(|line| line.starts_with("Script running"));
            running.map(|line| format!("{line}\n")).unwrap_or_default() + result.trim_start_matches('\n')
        }
        _ => shown.to_owned(),
    }
}
