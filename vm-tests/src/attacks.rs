//! What a hostile model passes to tools, and that it is refused in words that teach, or does no harm but to its own machine.

use serde_json::{Value, json};

use crate::mcp::ChatHost;

/// Characters that any answer may have.
const CHARS_MAX: usize = 36_500;

/// What comes of an attack.
#[derive(Debug, Clone, Copy)]
pub enum End {
    /// It is refused, in words that hold these.
    Refused(&'static [&'static str]),
    /// It is carried out in the machine, where it does no harm; the answer holds these words.
    Harmless(&'static [&'static str]),
}

/// An attack: its name, the tool, its arguments, what comes of it.
pub type Attack = (&'static str, &'static str, Value, End);

/// Carries all of them out, and has `after` look at the world after each.
#[track_caller]
pub fn carry_out(host: &mut ChatHost, attacks: Vec<Attack>, after: impl Fn(&str)) {
    for (name, tool, arguments, end) in attacks {
        let answer = host.call(tool, arguments);
        let (text, failed) = (answer.text(), answer.result["isError"] == json!(true));
        let words = match end {
            End::Refused(words) => {
                assert!(failed && text.starts_with("error: ") && text.contains("\nnext: "), "{name}: {text}");
                words
            }
            End::Harmless(words) => {
                assert!(!failed, "{name}: {text}");
                words
            }
        };
        for word in words {
            assert!(text.contains(word), "{name}: no {word:?} in {text}");
        }
        assert!(text.chars().count() <= CHARS_MAX, "{name}: an answer of {} characters", text.chars().count());
        assert!(!text.contains(['\u{1b}', '\u{202e}', '\0']), "{name}: {text:?}");
        after(name);
    }
}

/// Arguments, and more of them.
#[must_use]
pub fn with(mut arguments: Value, more: Value) -> Value {
    let (Value::Object(all), Value::Object(more)) = (&mut arguments, more) else { panic!("arguments are objects") };
    all.extend(more);
    arguments
}
