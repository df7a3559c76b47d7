//! The languages in which hosts speak with models. Each has what the model is offered, what its calls gave, how a call is
//! planned, and how it is said.

mod chat;
mod messages;
mod responses;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::model::{ModelCall, Say, Shown, Tool, Turn};

/// A language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Anthropic's messages, for Claude Code.
    Messages,
    /// OpenAI's responses, for Codex.
    Responses,
    /// Chat completions, for OpenCode.
    Chat,
}

/// What a request is answered with.
pub(super) enum Reply {
    /// One object.
    Whole(Value),
    /// Events, some with names.
    Events(Vec<(Option<&'static str>, String)>),
}

/// What a model does next to call a tool.
pub(super) enum Step {
    /// It asks for something before it can call it, so that this is known from then on.
    Load(ModelCall, String),
    /// It calls it.
    Call(ModelCall),
}

/// What a model wants to call, and what it has asked for before.
pub(super) struct Wish<'a> {
    pub(super) id: &'a str,
    pub(super) tool: &'a str,
    pub(super) arguments: &'a Value,
    pub(super) asked: &'a BTreeSet<String>,
}

impl Dialect {
    /// How the path of its requests ends.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Messages => "/messages",
            Self::Responses => "/responses",
            Self::Chat => "/chat/completions",
        }
    }

    /// What a request offers, and what calls gave.
    pub(super) fn read(self, body: &Value) -> (Vec<Tool>, BTreeMap<String, Shown>) {
        match self {
            Self::Messages => messages::read(body),
            Self::Responses => responses::read(body),
            Self::Chat => chat::read(body),
        }
    }

    /// What a model does next to have its wish, or nothing where the host has no such tool.
    pub(super) fn plan(self, turn: &Turn, wish: &Wish<'_>) -> Option<Step> {
        match self {
            Self::Messages => messages::plan(turn, wish),
            Self::Responses => responses::plan(turn, wish),
            Self::Chat => chat::plan(turn, wish),
        }
    }

    /// How what the model says is written down.
    pub(super) fn reply(self, body: &Value, say: &Say) -> Reply {
        match self {
            Self::Messages => messages::reply(body, say),
            Self::Responses => responses::reply(body, say),
            Self::Chat => chat::reply(body, say),
        }
    }
}

impl Tool {
    /// The name that pyro gave the tool, if it is one of pyro's.
    pub(super) fn own_name(&self) -> Option<&str> {
        match self.namespace.as_deref() {
            Some("mcp__pyro") => Some(&self.name),
            _ => self.name.strip_prefix("mcp__pyro__").or_else(|| self.name.strip_prefix("pyro_")),
        }
    }
}

impl Turn {
    /// The tool of pyro of this name.
    fn own_tool(&self, name: &str) -> Option<&Tool> {
        self.tools.iter().find(|tool| tool.own_name() == Some(name))
    }
}

/// The text of a result, which APIs write as a text or as blocks.
fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => {
            let texts: Vec<&str> = blocks.iter().filter_map(|block| block["text"].as_str()).collect();
            texts.join("\n")
        }
        _ => String::new(),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// An event that also says in its data what it is.
fn named(name: &'static str, mut data: Value) -> (Option<&'static str>, String) {
    data["type"] = Value::from(name);
    (Some(name), data.to_string())
}
