//! What a shell or a service printed, as much of it as an answer holds. It is kept by positions, so what is left out can be asked
//! for.
//!
//! Of very much the beginning and the end are shown: who waits for something that was just printed must see it, and a flood must not
//! have to be paged through.

use super::answer::cut;

/// Characters that the words about what was left out may have besides.
const WORDS_CHARS: usize = 200;

/// What of it is to be shown.
pub(super) struct Excerpt {
    /// The tool that is called to read on.
    pub(super) tool: &'static str,
    /// Where to begin.
    pub(super) cursor: u64,
    /// Where it ends so far.
    pub(super) end: u64,
    /// Most characters to show, about.
    pub(super) chars_max: usize,
}

impl Excerpt {
    /// All from the cursor on, and where it goes on then. `read` gives up to so many bytes from a position on, or from where what
    /// is kept begins; `shown` makes text of them.
    ///
    /// # Errors
    /// As `read`.
    pub(super) fn text<E>(
        &self,
        read: impl Fn(u64, usize) -> Result<(u64, Vec<u8>), E>,
        shown: impl Fn(&[u8]) -> String,
    ) -> Result<(String, u64), E> {
        let (head_bytes, tail_bytes) = (self.chars_max * 2 / 5, self.chars_max * 3 / 5);
        let (begin, mut first) = read(self.cursor, self.chars_max)?;
        let end = self.end.max(begin + first.len() as u64);
        let mut text = String::new();
        if begin > self.cursor {
            let missing = begin - self.cursor;
            text.push_str(&format!("[… {missing} bytes before this are not kept any more]\n"));
        }
        if begin + first.len() as u64 >= end {
            text.push_str(&shown(&first));
            let more = format!("; {} with a later cursor shows more", self.tool);
            return Ok((cut(&text, self.chars_max + WORDS_CHARS, &more), end));
        }
        first.truncate(line_end(&first[..head_bytes.min(first.len())]));
        let left_out = begin + first.len() as u64;
        let from = left_out.max(end.saturating_sub(tail_bytes as u64));
        // One more than there should be: a page that is full ends with a line, and this one is to end where everything does.
        let (again, mut last) = read(from, tail_bytes + 1)?;
        let skipped = line_begin(&last);
        last.drain(..skipped);
        let again = again + skipped as u64;
        text.push_str(&shown(&first));
        if again > left_out {
            let tool = self.tool;
            text.push_str(&format!(
                "[… bytes {left_out} to {again} left out; {tool} with cursor {left_out} shows them …]\n"
            ));
        }
        text.push_str(&shown(&last));
        Ok((cut(&text, self.chars_max + WORDS_CHARS, ""), again + last.len() as u64))
    }
}

/// Where the last whole line ends, or all of it where there is none.
fn line_end(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1)
}

/// Where the first whole line begins, or all of it where there is none.
fn line_begin(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::Excerpt;

    /// What is shown of `kept`, whose first byte is at position 100, from a cursor on.
    #[track_caller]
    fn check(kept: &str, cursor: u64, expected: &str, expected_next: u64) {
        let read = |position: u64, count: usize| {
            let begin = position.clamp(100, 100 + kept.len() as u64);
            let rest = &kept.as_bytes()[usize::try_from(begin - 100).unwrap()..];
            Ok::<_, Infallible>((begin, rest[..rest.len().min(count)].to_vec()))
        };
        let excerpt = Excerpt { tool: "read_on", cursor, end: 100 + kept.len() as u64, chars_max: 50 };
        let (text, next) = excerpt.text(read, |bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap();
        assert_eq!((text.as_str(), next), (expected, expected_next));
    }

    #[test]
    fn what_fits_is_whole() {
        check("one\ntwo", 100, "one\ntwo", 107);
        check("one\ntwo", 104, "two", 107);
        check("one\ntwo", 107, "", 107);
        check("one\ntwo", u64::MAX, "", 107);
        check("one\ntwo", 90, "[… 10 bytes before this are not kept any more]\none\ntwo", 107);
    }

    #[test]
    fn of_very_much_both_ends_are_shown_and_where_the_rest_is() {
        let lines: String = (10..50).map(|number| format!("line {number}\n")).collect();
        let head = "line 10\nline 11\n";
        let tail = "line 47\nline 48\nline 49\n";
        let between = "[… bytes 116 to 396 left out; read_on with cursor 116 shows them …]\n";
        check(&lines, 100, &[head, between, tail].concat(), 420);
    }
}
