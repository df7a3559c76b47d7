//! Anthropic's messages API. Claude Code names the tools of servers only; the model has them loaded by `ToolSearch`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Reply, Step, Wish, list, text, text_of};
use crate::hosts::model::{CallKind, ModelCall, Say, Shown, Tool, Turn};

/// The tool that loads others.
const SEARCH: &str = "ToolSearch";

pub(super) fn read(body: &Value) -> (Vec<Tool>, BTreeMap<String, Shown>) {
    let tools = list(&body["tools"]).filter(|tool| tool["name"].is_string()).map(|tool| Tool {
        name: text(&tool["name"]),
        namespace: None,
        kind: "function".to_owned(),
        deferred: tool["defer_loading"] == json!(true),
    });
    let blocks = list(&body["messages"]).flat_map(|message| list(&message["content"]));
    let results = blocks.filter(|block| block["type"] == "tool_result").map(|block| {
        let shown = text_of(&block["content"]);
        let is_error = Some(block["is_error"] == json!(true));
        (text(&block["tool_use_id"]), Shown { text: without_reminders(&shown), is_error })
    });
    (tools.collect(), results.collect())
}

pub(super) fn plan(turn: &Turn, wish: &Wish<'_>) -> Option<Step> {
    let whole = format!("mcp__pyro__{}", wish.tool);
    let call = |id: String, name: &str, input: Value| ModelCall {
        id,
        name: name.to_owned(),
        namespace: None,
        kind: CallKind::Function,
        input,
    };
    let asked = wish.asked.contains(wish.tool);
    match turn.own_tool(wish.tool) {
        Some(tool) if asked || !tool.deferred => {
            Some(Step::Call(call(wish.id.to_owned(), &whole, wish.arguments.clone())))
        }
        _ if asked || !turn.tools.iter().any(|tool| tool.name == SEARCH) => None,
        _ => {
            let query = json!({"query": format!("select:{whole}"), "max_results": 5});
            Some(Step::Load(call(format!("{}_load", wish.id), SEARCH, query), wish.tool.to_owned()))
        }
    }
}

pub(super) fn reply(body: &Value, say: &Say) -> Reply {
    let block = match say {
        Say::Words(words) => json!({"type": "text", "text": words}),
        Say::Call(call) => json!({"type": "tool_use", "id": call.id, "name": call.name, "input": call.input}),
    };
    let stop = if matches!(say, Say::Call(_)) { "tool_use" } else { "end_turn" };
    let mut message = json!({
        "id": "msg_scripted", "type": "message", "role": "assistant", "model": body["model"], "content": [],
        "stop_reason": null, "stop_sequence": null,
        "usage": {"input_tokens": 10, "output_tokens": 1, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0},
    });
    if body["stream"] != json!(true) {
        message["content"] = json!([block]);
        message["stop_reason"] = json!(stop);
        return Reply::Whole(message);
    }
    let (begin, delta) = match say {
        Say::Words(words) => (json!({"type": "text", "text": ""}), json!({"type": "text_delta", "text": words})),
        Say::Call(call) => {
            let mut begin = block;
            begin["input"] = json!({});
            (begin, json!({"type": "input_json_delta", "partial_json": call.input.to_string()}))
        }
    };
    let events = [
        ("message_start", json!({"message": message})),
        ("content_block_start", json!({"index": 0, "content_block": begin})),
        ("content_block_delta", json!({"index": 0, "delta": delta})),
        ("content_block_stop", json!({"index": 0})),
        (
            "message_delta",
            json!({"delta": {"stop_reason": stop, "stop_sequence": null}, "usage": {"output_tokens": 20}}),
        ),
        ("message_stop", json!({})),
    ];
    Reply::Events(events.map(|(name, data)| super::named(name, data)).into())
}

/// A result without what Claude Code itself puts behind it for the model.
fn without_reminders(shown: &str) -> String {
    let (mut rest, mut kept) = (shown, String::new());
    while let Some((before, after)) = rest.split_once("<system-reminder>") {
        kept.push_str(before.trim_end_matches('\n'));
        rest = after.split_once("</system-reminder>").map_or("", |(_, behind)| behind);
    }
    kept + rest
}
