//! What can be told of a message that cannot be read: whose answer is awaited, and what is wrong with it.
//!
//! A host that gets no answer waits for a minute, and its model learns nothing. So the id of a message is found even where the
//! message is too long to be kept, nested too deeply to be parsed, or no message at all: by looking at its bytes once, in a
//! memory that does not grow.

use rmcp::model::RequestId;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

/// Deepest nesting that the parser takes.
const DEPTH_MAX: usize = 127;

/// Longest id, and longest name of a member, that is looked at, in bytes.
const TOKEN_BYTES_MAX: usize = 256;

/// What was seen of a message.
#[derive(Debug, Default)]
pub(super) struct Envelope {
    depth: usize,
    deepest: usize,
    in_string: bool,
    escaped: bool,
    /// The message is a list.
    is_list: bool,
    /// What stands at the top level since the last comma or colon.
    token: Vec<u8>,
    key: Vec<u8>,
    id: Option<Vec<u8>>,
    has_method: bool,
}

/// What is wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    /// It is longer than this many MiB.
    TooLong {
        /// The limit.
        limit_mib: usize,
    },
    /// Its bytes are no text.
    NoText,
    /// It is no JSON.
    NoJson,
    /// It is JSON, but nested too deeply.
    TooDeep,
    /// It is a list of messages.
    Batch,
    /// Its id is neither text nor a whole number.
    BadId,
    /// It is JSON, but no message.
    NoMessage,
}

impl Envelope {
    /// What is seen of a whole message.
    pub(super) fn of(line: &[u8]) -> Self {
        let mut envelope = Self::default();
        envelope.look(line);
        envelope
    }

    /// Looks at the next bytes of the message.
    pub(super) fn look(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.step(*byte);
        }
    }

    fn step(&mut self, byte: u8) {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return self.keep(byte);
        }
        match byte {
            b'"' => {
                self.in_string = true;
                self.keep(byte);
            }
            b'{' | b'[' => {
                self.is_list |= self.depth == 0 && byte == b'[';
                self.keep(byte);
                self.depth += 1;
                self.deepest = self.deepest.max(self.depth);
            }
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                if self.depth == 0 {
                    self.member();
                }
            }
            b':' if self.depth == 1 => self.key = std::mem::take(&mut self.token),
            b',' if self.depth == 1 => self.member(),
            _ => self.keep(byte),
        }
    }

    /// Keeps a byte that stands at the top level.
    fn keep(&mut self, byte: u8) {
        if self.depth == 1 && self.token.len() < TOKEN_BYTES_MAX {
            self.token.push(byte);
        }
    }

    /// The end of a member.
    fn member(&mut self) {
        let value = std::mem::take(&mut self.token);
        match self.key.trim_ascii() {
            b"\"id\"" => self.id = Some(value),
            b"\"method\"" => self.has_method = true,
            _ => {}
        }
        self.key.clear();
    }

    /// The id, if it is one.
    fn id(&self) -> Option<RequestId> {
        serde_json::from_slice(self.id.as_deref()?.trim_ascii()).ok()
    }

    /// What is wrong with a line that is no message.
    pub(super) fn flaw(&self, line: &[u8]) -> Flaw {
        if std::str::from_utf8(line).is_err() {
            return Flaw::NoText;
        }
        if serde_json::from_slice::<IgnoredAny>(line).is_err() {
            return Flaw::NoJson;
        }
        match self {
            Self { deepest, .. } if *deepest > DEPTH_MAX => Flaw::TooDeep,
            Self { is_list: true, .. } => Flaw::Batch,
            Self { id: Some(_), has_method: true, .. } if self.id().is_none() => Flaw::BadId,
            _ => Flaw::NoMessage,
        }
    }

    /// The answer to a message with this flaw; none for what awaits none, and for noise.
    pub(super) fn answer(&self, flaw: Flaw) -> Option<Value> {
        let id = self.id();
        let silent = match flaw {
            // Answering noise can make two programs talk to each other for ever; other servers keep silent as well.
            Flaw::NoJson | Flaw::NoText => id.is_none(),
            // A notification, which is never answered, or an answer to something that was never asked.
            Flaw::NoMessage => self.id.is_none() && self.has_method || self.id.is_some() && !self.has_method,
            Flaw::TooLong { .. } | Flaw::TooDeep => self.id.is_none() && self.has_method,
            Flaw::Batch | Flaw::BadId => false,
        };
        let code = if matches!(flaw, Flaw::NoJson | Flaw::NoText) { -32700 } else { -32600 };
        let error = json!({"code": code, "message": flaw.words()});
        (!silent).then(|| json!({"jsonrpc": "2.0", "id": id, "error": error}))
    }
}

impl Flaw {
    fn words(self) -> String {
        match self {
            Self::TooLong { limit_mib } => format!(
                "the message is longer than {limit_mib} MiB: send less at a time, such as a large file by \
                 workspace_sync_push or in parts"
            ),
            Self::NoText => "the message is not UTF-8: send text only".to_owned(),
            Self::NoJson => "the message is not JSON".to_owned(),
            Self::TooDeep => format!("the message is nested deeper than {DEPTH_MAX} levels: call with plain values"),
            Self::Batch => "the message is a list: send one message a line, the protocol has no batches".to_owned(),
            Self::BadId => "the id of a request is a text or a whole number".to_owned(),
            Self::NoMessage => {
                "the message is not a JSON-RPC 2.0 request: it needs \"jsonrpc\": \"2.0\", an id, a method and, if any, \
                 an object as params"
                    .to_owned()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{Envelope, Flaw};

    #[track_caller]
    fn check(line: &[u8], flaw: Flaw, id: Option<Value>) {
        let envelope = Envelope::of(line);
        assert_eq!(envelope.flaw(line), flaw);
        let answer = envelope.answer(flaw);
        assert_eq!(answer.as_ref().map(|answer| answer["id"].clone()), id, "{answer:?}");
    }

    #[test]
    fn the_id_is_found_wherever_it_stands() {
        let deep = |before: &str, after: &str| {
            format!("{{{before}\"params\":{}{}{after}}}", "[".repeat(10_000), "]".repeat(10_000)).into_bytes()
        };
        check(&deep(r#""id":7,"method":"ping","#, ""), Flaw::TooDeep, Some(json!(7)));
        check(&deep(r#""method":"ping","#, r#","id":"a,}\"b""#), Flaw::TooDeep, Some(json!("a,}\"b")));
        check(br#"{"jsonrpc":"1.0","method":"ping", "id" : 3 }"#, Flaw::NoMessage, Some(json!(3)));
        check(br#"{"params":{"id":9},"method":"x","id":4,}"#, Flaw::NoJson, Some(json!(4)));
        check(b"{\"id\":5,\"method\":\"\xff\"}", Flaw::NoText, Some(json!(5)));
    }

    #[test]
    fn what_has_no_id_is_answered_without_one_or_not_at_all() {
        check(b"this is no JSON", Flaw::NoJson, None);
        check(b"\xff\xfe", Flaw::NoText, None);
        check(br#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, Flaw::Batch, Some(Value::Null));
        check(br#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#, Flaw::BadId, Some(Value::Null));
        check(br#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, Flaw::BadId, Some(Value::Null));
        check(br#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":5}"#, Flaw::NoMessage, None);
        check(br#"{"jsonrpc":"2.0","id":5,"error":{}}"#, Flaw::NoMessage, None);
        check(b"5", Flaw::NoMessage, Some(Value::Null));
    }

    proptest! {
        #[test]
        fn pieces_tell_the_same_as_the_whole(line in "[{}\\[\\]:,\"\\\\ a1]{0,60}", at in 0_usize..60) {
            let (bytes, at) = (line.as_bytes(), at.min(line.len()));
            let mut pieces = Envelope::default();
            pieces.look(&bytes[..at]);
            pieces.look(&bytes[at..]);
            let whole = Envelope::of(bytes);
            prop_assert_eq!(pieces.id(), whole.id());
            prop_assert_eq!(pieces.deepest, whole.deepest);
        }

        #[test]
        fn the_parser_and_the_look_agree(id in any::<i64>(), text in ".{0,40}", first in any::<bool>()) {
            let params = json!({"id": text, "more": [text, {"method": text}]});
            let line = match first {
                true => format!(r#"{{"id":{id},"params":{params}}}"#),
                false => format!(r#"{{"params":{params},"id":{id}}}"#),
            };
            let found = Envelope::of(line.as_bytes()).id().map(|id| serde_json::to_value(id).unwrap());
            prop_assert_eq!(found, Some(json!(id)));
        }
    }
}
