//! Content that is text, as hunks of a unified diff.

use std::ops::Range;

use imara_diff::{Algorithm, Diff, InternedInput};

/// Unchanged lines around a change.
const CONTEXT_LINES: u32 = 3;

/// Most bytes of the line a hunk's header names for orientation.
const HEADING_BYTES_MAX: usize = 80;

/// Bytes at the start of a file in which git looks for a zero to tell whether it is binary.
const SNIFFED_BYTES: usize = 8000;

/// Lines added and removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LineCount {
    /// Lines that are new.
    pub added: u64,
    /// Lines that are gone.
    pub removed: u64,
}

/// Whether content is no text. git looks only at its beginning; a zero further on is text to it, but hard on others.
pub(super) fn is_binary(content: &[u8]) -> bool {
    content[..content.len().min(SNIFFED_BYTES)].contains(&0) || content.contains(&0)
}

/// Appends the hunks that turn `old` into `new`, if `out` is there; how many lines differ.
pub(super) fn hunks(old: &[u8], new: &[u8], out: Option<&mut Vec<u8>>) -> LineCount {
    let mut input = InternedInput::default();
    input.update_before(old.split_inclusive(|byte| *byte == b'\n'));
    input.update_after(new.split_inclusive(|byte| *byte == b'\n'));
    let mut diff = Diff::compute(Algorithm::Histogram, &input);
    let count = LineCount { added: diff.count_additions().into(), removed: diff.count_removals().into() };
    if let Some(out) = out {
        diff.postprocess_lines(&input);
        let changes = diff.hunks().map(|hunk| Change { before: hunk.before, after: hunk.after }).collect::<Vec<_>>();
        Printer { input: &input, heading: None, searched: 0, out }.print(&changes);
    }
    count
}

/// Lines that are replaced by others.
#[derive(Debug, Clone)]
struct Change {
    before: Range<u32>,
    after: Range<u32>,
}

struct Printer<'a, 'b> {
    input: &'a InternedInput<&'b [u8]>,
    /// The last line before the hunk that looks like the head of something, and how far it was looked for.
    heading: Option<&'b [u8]>,
    searched: u32,
    out: &'a mut Vec<u8>,
}

impl Printer<'_, '_> {
    fn print(mut self, changes: &[Change]) {
        let close = |one: &Change, next: &Change| next.before.start - one.before.end <= 2 * CONTEXT_LINES;
        for group in changes.chunk_by(close) {
            self.hunk(group);
        }
    }

    fn hunk(&mut self, group: &[Change]) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { return };
        let lead = first.before.start.min(CONTEXT_LINES);
        let lines_before = u32::try_from(self.input.before.len()).unwrap_or(u32::MAX);
        let trail = (lines_before - last.before.end).min(CONTEXT_LINES);
        let before = first.before.start - lead..last.before.end + trail;
        let after = first.after.start - lead..last.after.end + trail;
        self.header(&before, &after);
        let mut at = before.start;
        for change in group {
            self.lines(b' ', at..change.before.start, Side::Before);
            self.lines(b'-', change.before.clone(), Side::Before);
            self.lines(b'+', change.after.clone(), Side::After);
            at = change.before.end;
        }
        self.lines(b' ', at..before.end, Side::Before);
    }

    fn header(&mut self, before: &Range<u32>, after: &Range<u32>) {
        self.out.extend_from_slice(format!("@@ -{} +{} @@", range(before), range(after)).as_bytes());
        for line in self.searched..before.start {
            let line = self.line(line, Side::Before);
            if line.first().is_some_and(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'$')) {
                self.heading = Some(line);
            }
        }
        self.searched = self.searched.max(before.start);
        if let Some(heading) = self.heading {
            self.out.push(b' ');
            self.out.extend_from_slice(cut(heading.trim_ascii_end()));
        }
        self.out.push(b'\n');
    }

    fn lines(&mut self, sign: u8, range: Range<u32>, side: Side) {
        for number in range {
            let line = self.line(number, side);
            self.out.push(sign);
            self.out.extend_from_slice(line);
            if !line.ends_with(b"\n") {
                self.out.extend_from_slice(b"\n\\ No newline at end of file\n");
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Side {
    Before,
    After,
}

impl<'b> Printer<'_, 'b> {
    fn line(&self, number: u32, side: Side) -> &'b [u8] {
        let lines = match side {
            Side::Before => &self.input.before,
            Side::After => &self.input.after,
        };
        self.input.interner[lines[number as usize]]
    }
}

/// A range as a hunk's header has it: counted from one, or the line before an empty one; a length of one is left out.
fn range(lines: &Range<u32>) -> String {
    let start = u64::from(lines.start);
    match lines.len() {
        0 => format!("{start},0"),
        1 => format!("{}", start + 1),
        length => format!("{},{length}", start + 1),
    }
}

fn cut(line: &[u8]) -> &[u8] {
    if line.len() <= HEADING_BYTES_MAX {
        return line;
    }
    // Not in the middle of a character, if these are characters.
    let end = (HEADING_BYTES_MAX - 3..=HEADING_BYTES_MAX).rev().find(|end| line[*end] & 0xc0 != 0x80);
    line[..end.unwrap_or(HEADING_BYTES_MAX)].trim_ascii_end()
}

#[cfg(test)]
mod tests {
    use super::{LineCount, hunks};

    #[track_caller]
    fn check(old: &str, new: &str, expected: &str) {
        let mut out = Vec::new();
        let count = hunks(old.as_bytes(), new.as_bytes(), Some(&mut out));
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        assert_eq!(hunks(old.as_bytes(), new.as_bytes(), None), count);
    }

    #[test]
    fn hunks_are_what_git_prints() {
        check("", "a\n", "@@ -0,0 +1 @@\n+a\n");
        check("a\n", "", "@@ -1 +0,0 @@\n-a\n");
        check("a", "a\n", "@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+a\n");
        let old: String = (1..=20).map(|n| format!("{n}\n")).collect();
        let new = old.replace("\n4\n", "\nfour\n").replace("\n11\n", "\n").replace("\n18\n", "\n18\n18.5\n");
        check(
            &old,
            &new,
            "@@ -1,14 +1,13 @@\n 1\n 2\n 3\n-4\n+four\n 5\n 6\n 7\n 8\n 9\n 10\n-11\n 12\n 13\n 14\n@@ -16,5 +15,6 @@\n 16\n 17\n 18\n+18.5\n 19\n 20\n",
        );
    }

    #[test]
    fn a_hunk_names_the_line_it_belongs_to() {
        let old = format!("fn one() {{\n    a\n    b\n    c\n    d\n    {}\n    e\n    f\n}}\n", "x".repeat(9));
        let new = old.replace("xxxxxxxxx", "y");
        let mut out = Vec::new();
        assert_eq!(hunks(old.as_bytes(), new.as_bytes(), Some(&mut out)), LineCount { added: 1, removed: 1 });
        assert!(out.starts_with(b"@@ -3,7 +3,7 @@ fn one() {\n     b\n"), "{}", String::from_utf8_lossy(&out));
    }

    #[test]
    fn a_long_heading_is_cut_between_characters() {
        assert_eq!(super::cut("ü".repeat(50).as_bytes()), "ü".repeat(40).as_bytes());
        assert_eq!(super::cut(&[b'x'; 90]), [b'x'; 80]);
        assert_eq!(super::cut(&[0xbf; 90]).len(), 80);
    }
}
