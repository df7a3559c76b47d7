//! What was said in a session, as a page that a person can read: what the model called, and what it was shown.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

/// How much of a text is kept at its beginning and at its end, in characters.
const KEPT_CHARS: usize = 3000;

/// A page that is written as the session goes on.
#[derive(Debug)]
pub(super) struct Transcript {
    file: File,
}

impl Transcript {
    pub(super) fn create(path: &Path, title: &str) -> Self {
        let mut page = Self { file: File::create(path).expect("the target directory takes files") };
        page.write(&format!("# {title}\n"));
        page
    }

    /// Something that is worth knowing.
    pub(super) fn note(&mut self, words: &str) {
        self.write(&format!("\n{words}\n"));
    }

    /// A call, and what the model was shown of it.
    pub(super) fn call(&mut self, tool: &str, arguments: &Value, shown: &str, took: Duration) {
        let seconds = took.as_secs_f64();
        self.write(&format!(
            "\n## {tool}\n\n```json\n{arguments:#}\n```\n\nshown after {seconds:.1} s:\n\n````text\n{}\n````\n",
            shortened(shown)
        ));
    }

    fn write(&mut self, text: &str) {
        self.file.write_all(text.as_bytes()).expect("the target directory takes files");
    }
}

fn shortened(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() <= 2 * KEPT_CHARS {
        return text.to_owned();
    }
    let (head, tail) = (&chars[..KEPT_CHARS], &chars[chars.len() - KEPT_CHARS..]);
    let left_out = chars.len() - 2 * KEPT_CHARS;
    let (head, tail): (String, String) = (head.iter().collect(), tail.iter().collect());
    format!("{head}\n[{left_out} characters, which the model was shown, are left out of this page]\n{tail}")
}
