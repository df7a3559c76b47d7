//! The screen of a shell's terminal: what a person would see of what was printed, and the escapes that show it again.
//!
//! Kept by the `vt100` crate, without lines that scrolled off. It is fed as output comes, so that it is right however much was
//! printed, and takes a bounded memory: [`within`] bounds its size.

use std::num::NonZeroU16;

use pyro_wire::exec::TerminalSize;
use vt100::Parser;

use crate::supervisor::shell_protocol::{SHELL_COLS_MAX, SHELL_ROWS_MAX, ShellScreen};

/// Least lines and columns: characters may be two columns wide.
const CELLS_MIN: u16 = 2;

/// What enters the other screen of a terminal, which full-screen programs draw on.
const ENTER_ALTERNATE: &str = "\x1b[?1049h";

/// A screen.
pub(super) struct Screen {
    parser: Parser,
}

impl Screen {
    /// An empty one of this size, which is within bounds.
    pub(super) fn new(size: TerminalSize) -> Self {
        Self { parser: Parser::new(cells(size.rows), cells(size.cols), 0) }
    }

    /// Takes in what was printed.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.parser.process(bytes);
    }

    /// Gives it another size, which is within bounds.
    pub(super) fn resize(&mut self, size: TerminalSize) {
        self.parser.screen_mut().set_size(cells(size.rows), cells(size.cols));
    }

    /// What a terminal of the same size has to be sent to look like it, and to send keys as the program wants them.
    pub(super) fn escapes(&self) -> String {
        let screen = self.parser.screen();
        let enter = if screen.alternate_screen() { ENTER_ALTERNATE } else { "" };
        enter.to_owned() + &screen.state_formatted()
    }

    /// What is on it, when `printed_bytes` had been printed.
    pub(super) fn look(&self, printed_bytes: u64) -> ShellScreen {
        let screen = self.parser.screen();
        let cols = screen.size().1.get();
        ShellScreen {
            lines: screen.rows(0, cols).map(|line| line.trim_end().to_owned()).collect(),
            cols,
            cursor: (!screen.hide_cursor()).then(|| screen.cursor_position()),
            alternate: screen.alternate_screen(),
            printed_bytes,
        }
    }
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Screen").field("size", &self.parser.screen().size()).finish_non_exhaustive()
    }
}

/// The nearest size that a shell's terminal may have.
pub(super) fn within(size: TerminalSize) -> TerminalSize {
    TerminalSize { rows: size.rows.clamp(CELLS_MIN, SHELL_ROWS_MAX), cols: size.cols.clamp(CELLS_MIN, SHELL_COLS_MAX) }
}

fn cells(count: u16) -> NonZeroU16 {
    NonZeroU16::new(count).unwrap_or(NonZeroU16::MIN)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use pyro_wire::exec::TerminalSize;

    use super::{Screen, within};

    fn screen(rows: u16, cols: u16) -> Screen {
        Screen::new(within(TerminalSize { rows, cols }))
    }

    #[test]
    fn a_full_screen_program_is_seen_as_it_drew() {
        let mut screen = screen(4, 20);
        screen.feed(b"$ less file\r\n\x1b[?1049h\x1b[H\x1b[2Jfirst\r\nsecond\x1b[4;1H\x1b[7m(END)\x1b[0m");
        let seen = screen.look(9);
        assert_eq!(seen.lines, ["first", "second", "", "(END)"]);
        assert_eq!((seen.alternate, seen.cursor, seen.cols, seen.printed_bytes), (true, Some((3, 5)), 20, 9));
        screen.feed(b"\x1b[?1049l\x1b[?25l");
        let seen = screen.look(0);
        assert_eq!((seen.lines[0].as_str(), seen.alternate, seen.cursor), ("$ less file", false, None));
    }

    #[test]
    fn sizes_are_bounded() {
        let size = within(TerminalSize { rows: 0, cols: u16::MAX });
        assert_eq!((size.rows, size.cols), (2, 400));
    }

    /// Pieces of what programs print, and of what they should not.
    fn any_piece() -> impl Strategy<Value = Vec<u8>> {
        let text = prop::sample::select(vec!["abc", "漢字", "👍", "e\u{301}", "한글 x", "\u{200d}", " "]);
        let single = prop::sample::select(b"\r\n\t\x08\x07\x0b\x0c\x0e\x0f\x1b".to_vec());
        let number = prop_oneof![Just(0_u32), Just(1), 0..300_u32, Just(65_535), any::<u32>()];
        let finals = prop::sample::select(b"ABCDEFGHIJKLMPSTXZ@`abcdefghlmnpqrsu".to_vec());
        let prefix = prop::sample::select(vec!["", "?", "!", ">"]);
        let sequence = (prefix, prop::collection::vec(number, 0..4), finals).prop_map(|(prefix, numbers, last)| {
            let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
            format!("\x1b[{prefix}{}{}", numbers.join(";"), char::from(last)).into_bytes()
        });
        let mode = prop::sample::select(vec!["1049h", "1049l", "6h", "7l", "47h", "25l", "2004h", "1006h"]);
        prop_oneof![
            3 => prop::collection::vec(text, 1..30).prop_map(|parts| parts.concat().into_bytes()),
            1 => single.prop_map(|one| vec![one]),
            4 => sequence,
            1 => mode.prop_map(|mode| format!("\x1b[?{mode}").into_bytes()),
            1 => prop::collection::vec(any::<u8>(), 0..20),
        ]
    }

    proptest! {
        /// What a guest prints, and how its user pulls at the window meanwhile, never brings the supervisor down; and what
        /// is sent to a terminal that attaches shows the same there.
        #[test]
        fn no_output_is_too_strange(
            pieces in prop::collection::vec((any_piece(), prop::option::weighted(0.1, (1_u16..50, 1_u16..90))), 0..150),
        ) {
            let mut one = screen(10, 30);
            for (piece, size) in pieces {
                one.feed(&piece);
                if let Some((rows, cols)) = size {
                    one.resize(within(TerminalSize { rows, cols }));
                }
            }
            let seen = one.look(0);
            let rows = u16::try_from(seen.lines.len()).unwrap();
            let mut other = screen(rows, seen.cols);
            other.feed(one.escapes().as_bytes());
            prop_assert_eq!(other.look(0).lines, seen.lines);
        }
    }
}
