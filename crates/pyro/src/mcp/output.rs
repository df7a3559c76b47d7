//! What a command printed, read back from the workspace's log: its two ends, a page of it, or the lines that match.

use pyro_engine::workspace::Workspace;
use pyro_engine::workspace::logs::read_output;
use regex::Regex;

use super::answer::{LINES_MAX, cut, readable};
use super::server::teach;
use crate::failure::Failure;
use crate::report::captured::Capture;

/// Bytes of a command's output that are read from the disk at a time.
const PIECE_BYTES: u64 = 1 << 20;

/// Bytes of a line that are looked at as one; a longer line is looked at in parts.
const LINE_BYTES_MAX: usize = 1 << 20;

/// A position in a file that every kernel takes, and no output reaches.
const POSITION_MAX: u64 = 1 << 40;

/// What of an output is to be shown.
pub(super) enum View {
    /// Its beginning and its end.
    Ends,
    /// What follows this position.
    From(u64),
    /// The lines that match.
    Matching(Regex),
}

/// Reads it. Takes as long as the disk does: not for a thread that others wait for.
///
/// # Errors
/// It cannot be read.
pub(super) fn read_back(workspace: &Workspace, exec_id: u64, view: View, max_chars: usize) -> Result<String, Failure> {
    match view {
        View::Matching(pattern) => {
            let mut sieve = Sieve::new(pattern);
            each_piece(workspace, exec_id, |piece| sieve.push(piece))?;
            Ok(sieve.into_text(max_chars))
        }
        View::From(cursor) => page(workspace, exec_id, cursor, max_chars),
        View::Ends => {
            let mut output = Capture::default();
            each_piece(workspace, exec_id, |piece| output.push(piece))?;
            Ok(body(exec_id, output, max_chars))
        }
    }
}

/// The beginning and the end of an output.
pub(super) fn body(exec_id: u64, output: Capture, max_chars: usize) -> String {
    let total_bytes = output.total_bytes();
    let (bytes, whole) = output.into_bytes();
    let text = readable(&bytes);
    if text.is_empty() {
        return "(no output)".to_owned();
    }
    let all = if whole { String::new() } else { format!(" of {total_bytes} bytes in all") };
    let more = format!("{all}; workspace_exec_wait with exec_id {exec_id} and a cursor or a pattern reads them");
    cut(&text, max_chars, &more)
}

fn each_piece(workspace: &Workspace, exec_id: u64, mut take: impl FnMut(&[u8])) -> Result<(), Failure> {
    let mut position = 0;
    loop {
        let piece = read_output(workspace, exec_id, position, PIECE_BYTES).map_err(teach)?;
        if piece.bytes.is_empty() {
            return Ok(());
        }
        position += piece.bytes.len() as u64;
        take(&piece.bytes);
    }
}

/// The output from a position on, as much as is asked for.
fn page(workspace: &Workspace, exec_id: u64, cursor: u64, max_chars: usize) -> Result<String, Failure> {
    // A position beyond the end is answered with the end, however far beyond it is.
    let piece = read_output(workspace, exec_id, cursor.min(POSITION_MAX), max_chars as u64).map_err(teach)?;
    let lines = piece.bytes.split_inclusive(|byte| *byte == b'\n').take(LINES_MAX - 10);
    let mut length: usize = lines.map(<[u8]>::len).sum();
    let cursor = cursor.min(piece.kept_bytes);
    if cursor + (length as u64) < piece.kept_bytes {
        // A page ends with a line, where it holds one.
        length = piece.bytes[..length].iter().rposition(|byte| *byte == b'\n').map_or(length, |at| at + 1);
    }
    let next = cursor + length as u64;
    let foot = match next < piece.kept_bytes {
        true => format!("\n[bytes {cursor} to {next} of {}; go on with cursor {next}]", piece.kept_bytes),
        false => format!("\n[the end, at byte {next}]"),
    };
    Ok(readable(&piece.bytes[..length]) + &foot)
}

/// Keeps the lines of a stream that match, in a bounded memory.
struct Sieve {
    pattern: Regex,
    /// A line whose end has not come yet.
    rest: Vec<u8>,
    lines: usize,
    found: usize,
    kept: Capture,
}

impl Sieve {
    fn new(pattern: Regex) -> Self {
        Self { pattern, rest: Vec::new(), lines: 0, found: 0, kept: Capture::default() }
    }

    fn push(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.rest.extend_from_slice(part);
            if part.ends_with(b"\n") || self.rest.len() >= LINE_BYTES_MAX {
                self.line();
            }
        }
    }

    fn line(&mut self) {
        let text = readable(&std::mem::take(&mut self.rest));
        let line = text.trim_end_matches('\n');
        self.lines += 1;
        if self.pattern.is_match(line) {
            self.found += 1;
            self.kept.push(format!("{}: {line}\n", self.lines).as_bytes());
        }
    }

    fn into_text(mut self, max_chars: usize) -> String {
        if !self.rest.is_empty() {
            self.line();
        }
        if self.found == 0 {
            return format!("(none of {} lines matches)", self.lines);
        }
        let (bytes, _) = self.kept.into_bytes();
        cut(&String::from_utf8_lossy(&bytes), max_chars, "; a narrower pattern shows fewer")
    }
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::{LINE_BYTES_MAX, Sieve};

    #[track_caller]
    fn check(pieces: &[&[u8]], text: &str) {
        let mut sieve = Sieve::new(Regex::new("^a.*z$").unwrap());
        pieces.iter().for_each(|piece| sieve.push(piece));
        assert_eq!(sieve.into_text(1000), text);
    }

    #[test]
    fn lines_are_found_wherever_the_pieces_end() {
        check(&[b"a1", b"z\nb\n", b"a2z"], "1: a1z\n3: a2z\n");
        check(&[b"b\r\n", b"a\x1b[31mz\r\n"], "2: az\n");
        check(&[b"x\n", b"y\n"], "(none of 2 lines matches)");
        check(&[], "(none of 0 lines matches)");
    }

    #[test]
    fn an_endless_line_is_looked_at_in_parts() {
        let mut sieve = Sieve::new(Regex::new("needle").unwrap());
        for _ in 0..5 {
            sieve.push(&vec![b'x'; LINE_BYTES_MAX / 2]);
        }
        sieve.push(b"needle");
        assert!(sieve.rest.len() < LINE_BYTES_MAX);
        assert!(sieve.into_text(1000).contains("needle"));
    }
}
