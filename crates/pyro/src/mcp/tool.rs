//! What a tool is: its name and words, what it promises, its arguments, its work.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pyro_engine::store::workspace_record::Origin;
use rmcp::RoleServer;
use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use rmcp::schemars::JsonSchema;
use rmcp::schemars::generate::SchemaSettings;
use rmcp::service::RequestContext;
use serde_json::Value;

use super::answer::Answer;
use super::server::Server;
use crate::failure::Failure;

/// What is left of a call's time for its answer when its waiting is over.
const TIME_TO_ANSWER: Duration = Duration::from_secs(2);

/// A tool.
#[derive(Clone, Copy)]
pub(super) struct ToolDef {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) description: &'static str,
    pub(super) promise: Promise,
    pub(super) schema: fn() -> JsonObject,
    pub(super) call: Handler,
}

/// What a tool does, given its arguments.
pub(super) type Handler = for<'a> fn(&'a Server, JsonObject, &'a Call) -> Work<'a>;

/// A tool at work.
pub(super) type Work<'a> = Pin<Box<dyn Future<Output = Result<Answer, Failure>> + Send + 'a>>;

/// A call, as far as a tool cares.
pub(super) struct Call {
    /// Cancellation and progress.
    pub(super) context: RequestContext<RoleServer>,
    /// Which chat host and session it comes from.
    pub(super) by: Origin,
    /// When it must be answered.
    pub(super) answer_by: Instant,
}

impl Call {
    /// How long the call may still wait for something, when it is to have a moment for its answer.
    pub(super) fn time_left(&self) -> Duration {
        self.answer_by.saturating_duration_since(Instant::now()).saturating_sub(TIME_TO_ANSWER)
    }
}

/// What a tool promises about its effects: the hints that a host decides by whether to ask its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Promise {
    /// It changes nothing.
    Looks,
    /// It changes a disposable machine and nothing else; again is no different.
    ChangesGuestOnce,
    /// It changes a disposable machine and nothing else.
    ChangesGuest,
    /// It makes a disposable machine that may reach what is outside.
    OpensGuest,
    /// It makes files on the host where none were.
    AddsToHost,
}

impl ToolDef {
    /// The tool as a host sees it; `environments` are the names of those that are installed.
    pub(super) fn describe(&self, environments: &str) -> Tool {
        let description = self.description.replace("{environments}", environments);
        let (read_only, idempotent) = match self.promise {
            Promise::Looks => (true, true),
            Promise::ChangesGuestOnce => (false, true),
            Promise::ChangesGuest | Promise::OpensGuest | Promise::AddsToHost => (false, false),
        };
        let annotations = ToolAnnotations::with_title(self.title)
            .read_only(read_only)
            .destructive(false)
            .idempotent(idempotent)
            .open_world(self.promise == Promise::OpensGuest);
        Tool::new(self.name, description, Arc::new((self.schema)()))
            .with_title(self.title)
            .with_annotations(annotations)
    }
}

/// The schema of a tool's arguments: one flat object, in as few bytes as say it.
pub(super) fn schema_of<T: JsonSchema>() -> JsonObject {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.meta_schema = None;
        settings.inline_subschemas = true;
    });
    let schema = settings.into_generator().into_root_schema_for::<T>();
    let mut value = schema.to_value();
    tidy(&mut value);
    match value {
        Value::Object(object) => object,
        _ => JsonObject::new(),
    }
}

/// A schema with the properties of another one, which requires none of them.
pub(super) fn with_properties(mut schema: JsonObject, mut more: JsonObject) -> JsonObject {
    if let (Some(Value::Object(properties)), Some(Value::Object(more))) =
        (schema.get_mut("properties"), more.get_mut("properties"))
    {
        properties.append(more);
    }
    schema
}

/// Leaves out what says nothing to a model: titles, formats of numbers, that what may be left out may be null.
fn tidy(value: &mut Value) {
    match value {
        Value::Object(object) => {
            // A property may be called `title`; what is a schema's own is text.
            if object.get("title").is_some_and(Value::is_string) {
                object.remove("title");
            }
            if object.get("format").is_some_and(Value::is_string) {
                object.remove("format");
            }
            if let Some(Value::String(words)) = object.get_mut("description") {
                // Where a line of the source ended means nothing.
                *words = words.replace('\n', " ");
            }
            if object.get("default").is_some_and(Value::is_null) {
                object.remove("default");
            }
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|one| one != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    object.insert("type".to_owned(), only);
                }
            }
            object.values_mut().for_each(tidy);
        }
        Value::Array(values) => values.iter_mut().for_each(tidy),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
