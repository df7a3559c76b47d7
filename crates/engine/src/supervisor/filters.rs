//! What stands between the output of something that runs in the guest and whoever reads it, where the workspace has
//! secrets: they are cut out of a command's bytes, and out of the words in a tool's answer. Without secrets nothing stands
//! there.

use pyro_wire::exec::Program;
use pyro_wire::{Stream, Tool};
use serde_json::Value;

use super::secrets::{RedactedStream, Vault};

/// Longest line of an answer that is read as one. A guest that keeps to its own limits sends none.
const LINE_BYTES_MAX: usize = 8 << 20;

/// The filters of both streams.
#[derive(Debug)]
pub(super) struct Filters {
    stdout: Filter,
    stderr: Filter,
}

/// What is done with a stream.
#[derive(Debug)]
enum Filter {
    /// It passes as it is.
    None,
    /// Secrets are cut out of its bytes.
    Bytes(Box<RedactedStream>),
    /// Secrets are cut out of the words in its lines of JSON.
    Lines(Lines),
}

#[derive(Debug)]
struct Lines {
    vault: Vault,
    begun: Vec<u8>,
}

impl Filters {
    /// Those for what a program prints.
    pub(super) fn of(vault: &Vault, program: &Program) -> Self {
        let bytes = || vault.stream().map_or(Filter::None, |stream| Filter::Bytes(Box::new(stream)));
        let lines = || match vault.is_empty() {
            true => Filter::None,
            false => Filter::Lines(Lines { vault: vault.clone(), begun: Vec::new() }),
        };
        let Program::Tool(tool) = program else { return Self { stdout: bytes(), stderr: bytes() } };
        let stdout = match **tool {
            Tool::List(_)
            | Tool::Search(_)
            | Tool::Edit(_)
            | Tool::Write(_)
            | Tool::ApplyPatch(_)
            | Tool::Receive(_) => lines(),
            // Lengths in them are of contents that follow, or they are compared with what the host has: whoever asked for them
            // has them looked through when it knows what they are.
            _ => Filter::None,
        };
        Self { stdout, stderr: lines() }
    }

    /// Takes what was printed, and gives what is to be passed on now.
    pub(super) fn push(&mut self, stream: Stream, bytes: Vec<u8>) -> Vec<u8> {
        match self.of_stream(stream) {
            Filter::None => bytes,
            Filter::Bytes(stream) => stream.push(&bytes),
            Filter::Lines(lines) => lines.push(&bytes),
        }
    }

    /// Gives what was held back, at the end of a stream.
    pub(super) fn finish(&mut self, stream: Stream) -> Vec<u8> {
        match self.of_stream(stream) {
            Filter::None => Vec::new(),
            Filter::Bytes(stream) => stream.finish(),
            Filter::Lines(lines) => lines.finish(),
        }
    }

    fn of_stream(&mut self, stream: Stream) -> &mut Filter {
        match stream {
            Stream::Stderr => &mut self.stderr,
            Stream::Stdout | Stream::Stdin => &mut self.stdout,
        }
    }
}

impl Lines {
    fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.begun.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.begun.len() > LINE_BYTES_MAX {
                out.extend(self.finish());
            }
        }
        out
    }

    fn finish(&mut self) -> Vec<u8> {
        let line = std::mem::take(&mut self.begun);
        let cut = self.vault.cut_bytes(&line);
        if cut == line {
            return line;
        }
        // Only words may change: a number or a key that looks like a secret is part of the form.
        let Ok(mut value) = serde_json::from_slice::<Value>(&line) else { return cut };
        self.words(&mut value);
        let mut cut = value.to_string().into_bytes();
        cut.extend(line.ends_with(b"\n").then_some(b'\n'));
        cut
    }

    fn words(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.vault.cut(text),
            Value::Array(values) => values.iter_mut().for_each(|value| self.words(value)),
            Value::Object(fields) => fields.values_mut().for_each(|value| self.words(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use pyro_wire::exec::Program;
    use pyro_wire::files::List;
    use pyro_wire::{Stream, Tool};

    use super::super::secrets::{Secrets, Vault};
    use super::Filters;

    fn vault() -> Vault {
        let mut secrets = Secrets::default();
        secrets.insert("S", b"12345\"".to_vec().into()).unwrap();
        secrets.insert("NUMBER", b"1234567".to_vec().into()).unwrap();
        Vault::new(secrets)
    }

    #[track_caller]
    fn check(program: &Program, stream: Stream, printed: &str, expected: &str) {
        let mut filters = Filters::of(&vault(), program);
        let mut out = Vec::new();
        for byte in printed.bytes() {
            out.extend(filters.push(stream, vec![byte]));
        }
        out.extend(filters.finish(stream));
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn words_lose_their_secrets_and_forms_stay() {
        let list = Program::Tool(Box::new(Tool::List(List { path: "/".into(), recursive: false, entries_max: 1 })));
        let line = r#"{"entry":{"path":"a12345\"b","size_bytes":1234567}}"#;
        let expected = r#"{"entry":{"path":"a[secret S]b","size_bytes":1234567}}"#;
        check(&list, Stream::Stdout, &format!("{line}\n{line}\n"), &format!("{expected}\n{expected}\n"));
        check(&list, Stream::Stderr, r#"{"message":"no 1234567"}"#, r#"{"message":"no [secret NUMBER]"}"#);
        check(&list, Stream::Stdout, "no json 1234567", "no json [secret NUMBER]");
        let argv = Program::Argv(vec!["sh".into()]);
        check(&argv, Stream::Stderr, "a12345\"b 1234567", "a[secret S]b [secret NUMBER]");
        let none = Filters::of(&Vault::new(Secrets::default()), &argv).push(Stream::Stdout, b"1234567".to_vec());
        assert_eq!(none, b"1234567");
    }
}
