//! The chat completions API, for OpenCode, which offers every tool whole.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Reply, Step, Wish, list, text, text_of};
use crate::hosts::model::{CallKind, ModelCall, Say, Shown, Tool, Turn};

pub(super) fn read(body: &Value) -> (Vec<Tool>, BTreeMap<String, Shown>) {
    let tools = list(&body["tools"]).filter(|tool| tool["type"] == "function").map(|tool| Tool {
        name: text(&tool["function"]["name"]),
        namespace: None,
        kind: "function".to_owned(),
        deferred: false,
    });
    let messages = list(&body["messages"]).filter(|message| message["role"] == "tool");
    let results = messages
        .map(|message| (text(&message["tool_call_id"]), Shown { text: text_of(&message["content"]), is_error: None }));
    (tools.collect(), results.collect())
}

pub(super) fn plan(turn: &Turn, wish: &Wish<'_>) -> Option<Step> {
    let tool = turn.own_tool(wish.tool)?;
    Some(Step::Call(ModelCall {
        id: wish.id.to_owned(),
        name: tool.name.clone(),
        namespace: None,
        kind: CallKind::Function,
        input: wish.arguments.clone(),
    }))
}

pub(super) fn reply(body: &Value, say: &Say) -> Reply {
    let (words, calls, stop) = match say {
        Say::Words(words) => (words.as_str(), Vec::new(), "stop"),
        Say::Call(call) => {
            let function = json!({"name": call.name, "arguments": call.input.to_string()});
            ("", vec![json!({"index": 0, "id": call.id, "type": "function", "function": function})], "tool_calls")
        }
    };
    let usage = json!({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15});
    let base = |object: &str, choices: Value| json!({"id": "chatcmpl-scripted", "created": 1, "model": body["model"], "object": object, "choices": choices, "usage": null});
    if body["stream"] != json!(true) {
        let mut message = json!({"role": "assistant", "content": words});
        if !calls.is_empty() {
            message["tool_calls"] = json!(calls);
        }
        let mut whole = base("chat.completion", json!([{"index": 0, "message": message, "finish_reason": stop}]));
        whole["usage"] = usage;
        return Reply::Whole(whole);
    }
    let chunk = |delta: Value, finish: Value| {
        base("chat.completion.chunk", json!([{"index": 0, "delta": delta, "finish_reason": finish}]))
    };
    let mut chunks = vec![chunk(json!({"role": "assistant", "content": words}), Value::Null)];
    chunks.extend(calls.into_iter().map(|call| chunk(json!({"tool_calls": [call]}), Value::Null)));
    chunks.push(chunk(json!({}), json!(stop)));
    let mut last = base("chat.completion.chunk", json!([]));
    last["usage"] = usage;
    chunks.push(last);
    let mut events: Vec<_> = chunks.into_iter().map(|chunk| (None, chunk.to_string())).collect();
    events.push((None, "[DONE]".to_owned()));
    Reply::Events(events)
}
