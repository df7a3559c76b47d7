//! The log of a workspace while it grows: what commands print at the same time, line by line, and whose it is.

use std::collections::BTreeMap;

use super::clean::lines;
use super::exec::LogRow;

/// Most bytes of one character.
const CHARACTER_BYTES_MAX: usize = 4;

/// What was printed so far, as far as it matters for what comes next.
#[derive(Debug, Default)]
pub(crate) struct LogPage {
    /// The command that the last line is of.
    last: Option<u64>,
    /// The last line has no end yet.
    mid_line: bool,
    /// What came of characters that are not whole yet, by command.
    held: BTreeMap<u64, Vec<u8>>,
}

impl LogPage {
    /// A command begins.
    pub(crate) fn head(&mut self, row: &LogRow) -> String {
        let text = self.fresh_line() + &row.head();
        self.last = Some(row.exec);
        text
    }

    /// A command printed something.
    pub(crate) fn output(&mut self, exec: u64, bytes: &[u8]) -> String {
        let mut came = self.held.remove(&exec).unwrap_or_default();
        came.extend_from_slice(bytes);
        let rest = came.split_off(whole(&came));
        if !rest.is_empty() {
            self.held.insert(exec, rest);
        }
        self.lines_of(exec, &came)
    }

    /// A command ended.
    pub(crate) fn foot(&mut self, row: &LogRow) -> String {
        let rest = self.held.remove(&row.exec).unwrap_or_default();
        let text = self.lines_of(row.exec, &rest) + &self.fresh_line() + &row.foot();
        self.last = None;
        text
    }

    fn lines_of(&mut self, exec: u64, bytes: &[u8]) -> String {
        let mut text = String::new();
        if bytes.is_empty() {
            return text;
        }
        if self.last != Some(exec) {
            text = format!("{}[{exec}] goes on\n", self.fresh_line());
            self.last = Some(exec);
        }
        for line in lines(&broken_lines(bytes)).split_inclusive('\n') {
            if !self.mid_line {
                text.push_str("    ");
            }
            text.push_str(line);
            self.mid_line = !line.ends_with('\n');
        }
        text
    }

    fn fresh_line(&mut self) -> String {
        if std::mem::take(&mut self.mid_line) { "\n".to_owned() } else { String::new() }
    }
}

/// Each state of a line that rewrites itself as a line of its own: what was printed cannot be taken back.
fn broken_lines(bytes: &[u8]) -> Vec<u8> {
    let next = bytes.iter().skip(1).map(Some).chain([None]);
    let is_return = |byte: u8, next: Option<&u8>| byte == b'\r' && next != Some(&b'\n');
    bytes.iter().zip(next).map(|(byte, next)| if is_return(*byte, next) { b'\n' } else { *byte }).collect()
}

/// How many bytes there are before a character, or the end of a line, of which more must come.
fn whole(bytes: &[u8]) -> usize {
    if bytes.last() == Some(&b'\r') {
        return bytes.len() - 1;
    }
    let from = bytes.len().saturating_sub(CHARACTER_BYTES_MAX - 1);
    let begins = |byte: u8| byte & 0b1100_0000 != 0b1000_0000;
    let Some(at) = bytes[from..].iter().rposition(|byte| begins(*byte)).map(|at| from + at) else { return bytes.len() };
    let is_broken_off = std::str::from_utf8(&bytes[at..]).is_err_and(|error| error.error_len().is_none());
    if is_broken_off { at } else { bytes.len() }
}

#[cfg(test)]
mod tests {
    use pyro_engine::store::workspace_record::{CommandEndRecord, CommandEnded, CommandStarted, Origin};
    use pyro_engine::workspace::logs::LoggedCommand;

    use super::super::captured::Capture;
    use super::{LogPage, LogRow, whole};

    fn row(sequence: u64) -> LogRow {
        let (argv, cwd, by) = (vec!["make".to_owned()], String::new(), Origin::default());
        let started = CommandStarted { sequence, argv, cwd, at_ms: 0, by };
        let end = CommandEndRecord::Exited(0);
        let ended = Some(CommandEnded { sequence, end, duration_ms: 1000, output_bytes: 0, kept_bytes: 0 });
        LogRow::new(LoggedCommand { started, ended }, Capture::default())
    }

    #[test]
    fn what_comes_at_once_is_told_apart_and_every_line_has_an_end() {
        let mut page = LogPage::default();
        page.head(&row(1));
        assert_eq!(page.output(1, b"one\ntw"), "    one\n    tw");
        assert_eq!(page.output(1, b"o\n\n"), "o\n    \n");
        assert_eq!(page.output(1, b"half a li"), "    half a li");
        assert!(page.head(&row(2)).starts_with("\n[2] make"));
        assert_eq!(page.output(2, b"other\n"), "    other\n");
        assert_eq!(page.output(1, b"ne"), "[1] goes on\n    ne");
        assert!(page.foot(&row(2)).starts_with("\n[2] exited 0"));
        assert_eq!(page.output(1, b"\xc3"), "");
        assert!(page.foot(&row(1)).starts_with("[1] goes on\n    \u{fffd}\n[1] exited 0"));
    }

    #[test]
    fn a_line_that_rewrites_itself_is_several() {
        let mut page = LogPage::default();
        page.head(&row(1));
        let pieces = [&b"10%\r50"[..], b"%\r", b"100%\r", b"\nwindows\r\n"];
        let text: String = pieces.into_iter().map(|piece| page.output(1, piece)).collect();
        assert_eq!(text, "    10%\n    50%\n    100%\n    windows\n");
    }

    #[test]
    fn a_character_that_comes_in_two_pieces_is_one() {
        let mut page = LogPage::default();
        page.head(&row(1));
        let text: String = "größe €𝄞".bytes().map(|byte| page.output(1, &[byte])).collect();
        assert_eq!(text, "    größe €𝄞");
        let check = |bytes: &[u8], length: usize| assert_eq!(whole(bytes), length, "{bytes:?}");
        check(b"", 0);
        check(b"abc", 3);
        check(b"a\xe2\x82", 1);
        check(b"a\xff", 2);
        check(b"\x80\x80\x80\x80", 4);
        check(b"a\xc3\xa4", 3);
        check(b"50%\r", 3);
    }
}
