//! What a machine says in plain text: its console and the hypervisor's own words, kept within bounds and made safe to show.
//!
//! Everything here was written by a guest and is hostile: only the end of it is kept, and terminal escapes, control
//! characters and characters that turn text around are cut out before anyone sees it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

/// Bytes kept of a transcript; older ones are dropped.
const TRANSCRIPT_BYTES_MAX: usize = 64 << 10;

/// Characters shown of one line.
const LINE_CHARS_MAX: usize = 400;

const READ_BYTES: usize = 4096;

/// The end of a stream of text, collected in the background.
#[derive(Debug, Clone)]
pub(super) struct Transcript {
    kept: Arc<Mutex<VecDeque<u8>>>,
}

impl Transcript {
    /// Collects `stream` until it ends; the task is over then.
    pub(super) fn collect(stream: UnixStream) -> (Self, JoinHandle<()>) {
        let transcript = Self { kept: Arc::default() };
        let task = tokio::spawn(transcript.clone().read_all(stream));
        (transcript, task)
    }

    /// The last lines, cleaned for a terminal.
    pub(super) fn tail(&self, lines: usize) -> String {
        last_lines(&self.text(), lines)
    }

    /// Everything that is kept, cleaned for a terminal.
    pub(super) fn text(&self) -> String {
        let bytes: Vec<u8> = self.kept.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
        clean(&bytes)
    }

    /// The last line with these words, from the words on.
    pub(super) fn last_line_with(&self, words: &str) -> Option<String> {
        self.text().lines().rev().find_map(|line| Some(line[line.find(words)?..].trim_end().to_owned()))
    }

    async fn read_all(self, mut stream: UnixStream) {
        let mut buffer = [0; READ_BYTES];
        // A reset at the other end is an end like any other.
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let surplus = (kept.len() + count).saturating_sub(TRANSCRIPT_BYTES_MAX).min(kept.len());
            kept.drain(..surplus);
            kept.extend(&buffer[..count]);
        }
    }
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Text without anything that could steer a terminal or mislead its reader.
pub(super) fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut cleaned = String::with_capacity(text.len());
    let mut line_chars = 0;
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '\u{1b}' => skip_escape(&mut chars),
            '\n' => {
                cleaned.push('\n');
                line_chars = 0;
            }
            '\t' => cleaned.push(' '),
            _ if char.is_control() || turns_text(char) => {}
            _ if line_chars >= LINE_CHARS_MAX => {}
            _ => {
                cleaned.push(char);
                line_chars += 1;
            }
        }
    }
    cleaned
}

/// Characters that are not seen but change how their neighbours are.
fn turns_text(char: char) -> bool {
    matches!(char, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Skips what follows an escape character: a control sequence up to its final byte, a string up to its terminator, or
/// one character. Anything longer than a line is not a sequence, and is left to be seen.
fn skip_escape(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match chars.peek() {
        Some('[') => {
            chars.next();
            for _ in 0..LINE_CHARS_MAX {
                match chars.peek() {
                    Some('\u{20}'..='\u{3f}') => chars.next(),
                    Some('\u{40}'..='\u{7e}') => {
                        chars.next();
                        return;
                    }
                    _ => return,
                };
            }
        }
        Some(']' | 'P' | '_' | '^' | 'X') => {
            for _ in 0..LINE_CHARS_MAX {
                match chars.peek() {
                    None | Some('\n') => return,
                    Some('\u{7}') => {
                        chars.next();
                        return;
                    }
                    Some('\u{1b}') => {
                        chars.next();
                        chars.next_if_eq(&'\\');
                        return;
                    }
                    Some(_) => chars.next(),
                };
            }
        }
        Some(char) if !char.is_control() => {
            chars.next();
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt;

    use super::{TRANSCRIPT_BYTES_MAX, Transcript, clean};

    #[track_caller]
    fn check(bytes: &[u8], expected: &str) {
        assert_eq!(clean(bytes), expected);
    }

    #[test]
    fn text_is_left_as_it_is() {
        check(b"[    0.1] Linux version\r\n", "[    0.1] Linux version\n");
        check("Grüße\tx".as_bytes(), "Grüße x");
    }

    #[test]
    fn what_steers_a_terminal_is_cut_out() {
        check(b"\x1bc\x1b[?7l\x1b[2J\x1b[0mSeaBIOS\x1b[31m!", "SeaBIOS!");
        check(b"a\x1b]0;title\x07b\x1b]8;;http://x\x1b\\c", "abc");
        check(b"a\x1bPq#0\x1b\\b\x08\x7fc\x9b", "abc\u{fffd}");
        check("a\u{202e}b\u{9b}31mc".as_bytes(), "ab31mc");
        check(b"cut \x1b[", "cut ");
        check(b"cut \x1b", "cut ");
    }

    #[test]
    fn a_string_without_an_end_does_not_hide_the_next_line() {
        check(b"a\x1b]0;never ended\nb", "a\nb");
    }

    #[tokio::test]
    async fn only_the_end_is_kept() {
        let (mut writer, reader) = tokio::net::UnixStream::pair().unwrap();
        let (transcript, task) = Transcript::collect(reader);
        for number in 0..40_000 {
            writer.write_all(format!("line {number}\n").as_bytes()).await.unwrap();
        }
        drop(writer);
        task.await.unwrap();
        assert_eq!(transcript.tail(2), "line 39998\nline 39999");
        assert_eq!(transcript.last_line_with("39998").as_deref(), Some("39998"));
        assert_eq!(transcript.last_line_with("line 1 "), None);
        assert!(transcript.text().len() <= TRANSCRIPT_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn any_bytes_come_out_harmless(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let kept = clean(&bytes);
            prop_assert!(kept.chars().all(|char| char == '\n' || !char.is_control()), "{:?}", kept);
            prop_assert_eq!(clean(kept.as_bytes()), kept);
        }
    }
}
