//! What a tool answers: one payload, in the size that every chat host passes on whole.

use rmcp::model::{CallToolResult, ContentBlock};
use serde::Serialize;
use serde_json::Value;

use super::words::for_model;
use crate::failure::Failure;

/// Characters of text that an answer has when nothing else is asked for.
pub(super) const CHARS_DEFAULT: usize = 16_000;
/// Characters that every host passes on whole: the least of them keeps 40,000, with words of its own around.
pub(super) const CHARS_MAX: usize = 36_000;
/// Lines that every host passes on: the least of them keeps 2,000.
pub(super) const LINES_MAX: usize = 1_900;

/// Characters of a line in a failure.
const LINE_CHARS_MAX: usize = 600;

/// What a tool answers.
#[derive(Debug)]
pub(super) enum Answer {
    /// Text, for what is read.
    Text(String),
    /// One object, which is both text and structured content: hosts show one of the two, and not the same one.
    Record(Value),
}

impl Answer {
    /// A record.
    pub(super) fn record(record: &impl Serialize) -> Self {
        Self::Record(Self::value(record))
    }

    /// A record, or a part of one, as it is sent.
    pub(super) fn value(record: &impl Serialize) -> Value {
        serde_json::to_value(record).expect("reports have string keys and no failing part")
    }

    /// The answer on the wire.
    pub(super) fn into_result(self) -> CallToolResult {
        match self {
            Self::Text(text) => CallToolResult::success(vec![ContentBlock::text(text)]),
            Self::Record(record) => CallToolResult::structured(record),
        }
    }
}

/// A failure on the wire: what failed, why, what to call next. What was asked for may be part of it, at any length.
pub(super) fn failed(failure: &Failure) -> CallToolResult {
    let text = cut_lines(&failure.for_model(for_model));
    CallToolResult::error(vec![ContentBlock::text(cut(&text, CHARS_DEFAULT, ""))])
}

/// Text whose lines are as long as somebody reads them: of a longer one the beginning and the end are kept.
fn cut_lines(text: &str) -> String {
    let shorter = |line: &str| match line.chars().count() {
        ..=LINE_CHARS_MAX => line.to_owned(),
        count => {
            let (head, tail) = (LINE_CHARS_MAX * 2 / 3, LINE_CHARS_MAX / 4);
            let first: String = line.chars().take(head).collect();
            let last: String = line.chars().skip(count - tail).collect();
            format!("{first}[… {} characters …]{last}", count - head - tail)
        }
    };
    text.lines().map(shorter).collect::<Vec<_>>().join("\n")
}

/// Text cut to `chars_max` characters and [`LINES_MAX`] lines: its beginning and its end are kept, and a line in the middle says
/// how much is missing and, with `more`, how to read it.
pub(super) fn cut(text: &str, chars_max: usize, more: &str) -> String {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let fits = text.chars().count() <= chars_max && lines.len() <= LINES_MAX;
    if fits {
        return text.to_owned();
    }
    // The end of an output says more than its beginning: errors stand there.
    let (head_chars, head_lines) = (chars_max * 2 / 5, LINES_MAX * 2 / 5);
    let (tail_chars, tail_lines) = (chars_max - head_chars, LINES_MAX - head_lines);
    let head = take(lines.iter().copied(), head_chars, head_lines);
    let mut tail = take(lines.iter().rev().copied(), tail_chars, tail_lines);
    if head.lines + tail.lines >= lines.len() {
        // A line longer than its share: what is left of it is cut inside.
        tail.lines = lines.len() - head.lines;
    }
    let middle = &lines[head.lines..lines.len() - tail.lines];
    let mut cut = lines[..head.lines].concat();
    let (first, last) = match middle {
        [] => return cut + &lines[head.lines..].concat(),
        [only] => (*only, *only),
        [first, .., last] => (*first, *last),
    };
    // The rest of each share goes to the lines at the edges, so that one endless line is not lost whole.
    let first: String = first.trim_end_matches('\n').chars().take(head_chars - head.chars).collect();
    let after: Vec<char> = last.chars().rev().take(tail_chars - tail.chars).collect();
    let after: String = after.into_iter().rev().collect();
    let missing_chars =
        middle.iter().map(|line| line.chars().count()).sum::<usize>() - first.chars().count() - after.chars().count();
    if !first.is_empty() {
        cut.push_str(&first);
        cut.push('\n');
    }
    let count = middle.len();
    cut.push_str(&format!("[… {missing_chars} characters in {count} lines left out{more} …]\n"));
    cut.push_str(&after);
    cut.push_str(&lines[lines.len() - tail.lines..].concat());
    cut
}

struct Taken {
    lines: usize,
    chars: usize,
}

/// How many whole lines fit.
fn take<'a>(lines: impl Iterator<Item = &'a str>, chars_max: usize, lines_max: usize) -> Taken {
    let mut taken = Taken { lines: 0, chars: 0 };
    for line in lines.take(lines_max.saturating_sub(1)) {
        let count = line.chars().count();
        if taken.chars + count > chars_max {
            break;
        }
        taken.lines += 1;
        taken.chars += count;
    }
    taken
}

/// Bytes of a guest as text for a model: what is no UTF-8 is replaced, escapes of terminals and other control characters
/// are left out, and of a line that rewrote itself its last state is kept.
pub(super) fn readable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::with_capacity(text.len());
    let mut line_start = 0;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\n' => {
                out.push('\n');
                line_start = out.len();
            }
            '\r' if characters.peek() == Some(&'\n') => {}
            '\r' => out.truncate(line_start),
            '\t' => out.push('\t'),
            '\u{1b}' => skip_escape(&mut characters),
            _ if character.is_control() => {}
            _ => out.push(character),
        }
    }
    out
}

/// Passes over the rest of an escape sequence: `[` up to a letter, `]` up to its end, otherwise one character.
fn skip_escape(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match characters.next() {
        Some('[') => while characters.next_if(|one| !('\u{40}'..='\u{7e}').contains(one) && *one != '\n').is_some() {},
        Some(']') => {
            while characters.next_if(|one| !matches!(one, '\u{7}' | '\u{1b}' | '\n')).is_some() {}
            if characters.peek() == Some(&'\u{1b}') {
                characters.next();
            }
        }
        _ => return,
    }
    if characters.peek().is_some_and(|one| *one != '\n') {
        characters.next();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{CHARS_MAX, LINES_MAX, cut, readable};

    #[test]
    fn what_fits_is_whole() {
        assert_eq!(cut("a\nb\n", 100, ""), "a\nb\n");
    }

    #[test]
    fn the_middle_is_left_out_and_counted() {
        let text: String = (0..1000).map(|number| format!("{number}\n")).collect();
        let cut = cut(&text, 200, "; ask for more");
        assert!(cut.starts_with("0\n1\n2\n") && cut.ends_with("998\n999\n"), "{cut}");
        assert!(cut.contains("lines left out; ask for more …]"), "{cut}");
    }

    proptest! {
        #[test]
        fn no_text_is_ever_too_long(lines in prop::collection::vec("[a-zé]{0,60}", 0..3000), chars_max in 200_usize..5000) {
            let text = lines.join("\n");
            let cut = cut(&text, chars_max, "");
            prop_assert!(cut.chars().count() <= chars_max + 80);
            prop_assert!(cut.lines().count() <= LINES_MAX + 3);
        }
    }

    #[test]
    fn one_endless_line_keeps_both_its_ends() {
        let text = format!("begin{}end", "x".repeat(100_000));
        let cut = cut(&text, CHARS_MAX, "");
        assert!(cut.starts_with("begin") && cut.ends_with("end") && cut.chars().count() < CHARS_MAX + 100);
    }

    #[test]
    fn terminal_escapes_are_no_text() {
        let check = |bytes: &[u8], text: &str| assert_eq!(readable(bytes), text);
        check(b"\x1b[1;31mred\x1b[0m\r\n", "red\n");
        check(b"\x1b]0;title\x07plain", "plain");
        check(b"10%\r50%\r100%\n", "100%\n");
        check(b"\xff\x00a\x1b", "\u{fffd}a");
        check(b"\x1b[", "");
    }
}
