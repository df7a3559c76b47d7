//! Text of others, made safe for a terminal: what comes from a guest or an archive may hold escapes that move the
//! cursor, rewrite what stands above, or hide behind look-alikes of the reading direction.

use std::fmt::Write as _;

/// The text as one line without control characters: line breaks and tabs become spaces, the rest its escape.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.trim().chars() {
        match character {
            '\n' | '\t' => line.push(' '),
            '\r' => {}
            _ if is_dangerous(character) => {
                let _ = write!(line, "{}", character.escape_default());
            }
            _ => line.push(character),
        }
    }
    line
}

/// Bytes of a guest's output as text whose line breaks and tabs stay and in which nothing else moves the cursor.
pub(crate) fn lines(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for character in String::from_utf8_lossy(bytes).chars() {
        match character {
            '\n' | '\t' => text.push(character),
            '\r' => {}
            _ if is_dangerous(character) => {
                let _ = write!(text, "{}", character.escape_default());
            }
            _ => text.push(character),
        }
    }
    text
}

/// Control characters, and those that change the direction of text or take no room.
fn is_dangerous(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::{lines, one_line};

    #[test]
    fn escapes_lose_their_power() {
        assert_eq!(one_line("a\x1b]0;x\x07b\r\nc\td\n"), "a\\u{1b}]0;x\\u{7}b c d");
        assert_eq!(one_line("safe\u{202e}fdp"), "safe\\u{202e}fdp");
        assert_eq!(one_line("\u{9b}31m größe"), "\\u{9b}31m größe");
        assert_eq!(lines(b"a\tb\r\nc\x1b[2J"), "a\tb\nc\\u{1b}[2J");
    }
}
