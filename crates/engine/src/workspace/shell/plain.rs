//! What a terminal printed as plain text: the lines as a person saw them when they were done.
//!
//! Escapes are gone; what a program rewrote on its line (a prompt that is edited, a progress bar) is there as it was at last. A
//! line that the terminal broke because it was too long is one line. Moves across the screen begin a new line: what a full-screen
//! program draws is better looked at as a screen.
//!
//! Bytes may come in any pieces. Memory is bounded by what its user takes away.

use unicode_width::UnicodeWidthChar;
use vte::{Params, Parser, Perform};

/// Cells of a line; a longer one is broken.
const LINE_CELLS_MAX: usize = 16 * 1024;

/// Most marks on one character.
const MARKS_MAX: usize = 8;

/// Columns between two stops of the tabulator.
const TAB_COLUMNS: usize = 8;

/// Turns what a terminal printed into text.
#[derive(Default)]
pub struct PlainText {
    parser: Parser,
    lines: Lines,
}

#[derive(Debug, Default)]
struct Lines {
    /// Whole lines.
    done: String,
    /// The line that is being printed, and where in it comes next.
    line: Vec<Cell>,
    at: usize,
    /// Where in it the terminal's last row of it begins.
    row: usize,
    cols: usize,
}

/// A column of a line.
#[derive(Debug, Clone)]
struct Cell {
    /// Nothing is the rest of the character before.
    base: Option<char>,
    marks: String,
}

impl PlainText {
    /// Begins with the text of a terminal that has so many columns.
    #[must_use]
    pub fn new(cols: u16) -> Self {
        Self { parser: Parser::new(), lines: Lines { cols: usize::from(cols).max(2), ..Lines::default() } }
    }

    /// Takes in what was printed.
    pub fn push(&mut self, bytes: &[u8]) {
        self.parser.advance(&mut self.lines, bytes);
    }

    /// The text until now, the line that is not done included.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = self.lines.done.clone();
        self.lines.write_line(&mut text);
        text
    }

    /// Forgets whole lines, the oldest first, until those that are left have at most so many bytes.
    pub fn forget_beyond(&mut self, bytes_max: usize) {
        let done = &mut self.lines.done;
        let surplus = done.len().saturating_sub(bytes_max);
        if surplus > 0 {
            let end = done.as_bytes().iter().skip(surplus - 1).position(|byte| *byte == b'\n');
            done.drain(..end.map_or(done.len(), |end| surplus + end));
        }
    }
}

impl std::fmt::Debug for PlainText {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("PlainText").field("lines", &self.lines).finish_non_exhaustive()
    }
}

impl Lines {
    fn write_line(&self, text: &mut String) {
        for Cell { base, marks } in &self.line {
            text.extend(*base);
            text.push_str(marks);
        }
    }

    fn end_line(&mut self) {
        let mut text = std::mem::take(&mut self.done);
        self.write_line(&mut text);
        text.push('\n');
        self.done = text;
        self.line.clear();
        (self.at, self.row) = (0, 0);
    }

    /// Something goes on elsewhere on the screen.
    fn move_away(&mut self) {
        if self.line.iter().any(|cell| cell.base.is_some_and(|base| base != ' ')) {
            self.end_line();
        } else {
            self.line.clear();
            (self.at, self.row) = (0, 0);
        }
    }

    fn put(&mut self, character: char) {
        // Terminals ignore the one control character that a parser takes for text.
        let Some(width) = character.width() else { return };
        if width == 0 {
            if let Some(cell) = self.at.checked_sub(1).and_then(|last| self.line.get_mut(last))
                && cell.marks.chars().count() < MARKS_MAX
            {
                cell.marks.push(character);
            }
            return;
        }
        if self.at + width > self.row + self.cols {
            self.row += self.cols;
            self.at = self.row;
        }
        if self.at + width > LINE_CELLS_MAX {
            self.end_line();
        }
        self.blank_to(self.at);
        for column in 0..width {
            let cell = Cell { base: (column == 0).then_some(character), marks: String::new() };
            match self.line.get_mut(self.at) {
                Some(place) => *place = cell,
                None => self.line.push(cell),
            }
            self.at += 1;
        }
    }

    fn tabulate(&mut self) {
        let stop = ((self.at - self.row) / TAB_COLUMNS + 1) * TAB_COLUMNS;
        let stop = self.row + stop.min(self.cols - 1).max(self.at - self.row);
        if self.at == self.line.len() && self.at < stop {
            self.line.push(Cell { base: Some('\t'), marks: String::new() });
            self.line.resize(stop, Cell { base: None, marks: String::new() });
        }
        self.at = stop;
    }

    fn blank_to(&mut self, end: usize) {
        if self.line.len() < end {
            self.line.resize(end, Cell::blank());
        }
    }

    fn erase(&mut self, from: usize, to: usize) {
        if to >= self.line.len() {
            self.line.truncate(from);
        } else {
            self.line[from..to].fill(Cell::blank());
        }
    }

    fn erase_in_line(&mut self, mode: usize) {
        let row_end = self.row + self.cols;
        match mode {
            0 => self.erase(self.at.min(row_end), row_end),
            1 => self.erase(self.row.min(self.line.len()), (self.at + 1).min(self.line.len())),
            _ => self.erase(self.row.min(self.line.len()), row_end),
        }
    }

    /// Columns that a sequence moves by, within the row.
    fn column(&self, column: usize) -> usize {
        self.row + column.min(self.cols - 1)
    }

    fn sequence(&mut self, action: char, first: usize) {
        let count = first.max(1);
        let column = self.at - self.row;
        match action {
            'C' | 'a' => self.at = self.column(column.saturating_add(count)),
            'D' => self.at = self.column(column.saturating_sub(count)),
            'G' | '`' => self.at = self.column(count - 1),
            'K' => self.erase_in_line(first),
            'P' => {
                let end = self.at.saturating_add(count).min(self.line.len());
                drop(self.line.drain(self.at.min(end)..end));
            }
            '@' if self.at < self.line.len() => {
                let count = count.min(self.cols);
                drop(self.line.splice(self.at..self.at, std::iter::repeat_n(Cell::blank(), count)));
                self.line.truncate(LINE_CELLS_MAX);
            }
            'X' => self.erase(self.at.min(self.line.len()), self.at.saturating_add(count)),
            // Up and down in a line that the terminal broke, as its editor does.
            'A' if self.row > 0 => self.change_row(self.row.saturating_sub(count.saturating_mul(self.cols))),
            'B' if self.row + self.cols <= self.line.len() => self.change_row(self.row + self.cols),
            'J' if first == 0 => {
                self.line.truncate(self.at);
            }
            'A' | 'B' | 'E' | 'F' | 'H' | 'f' | 'd' | 'J' => self.move_away(),
            _ => {}
        }
    }

    fn change_row(&mut self, row: usize) {
        let column = self.at - self.row;
        self.row = row;
        self.at = row + column;
    }
}

impl Cell {
    fn blank() -> Self {
        Self { base: Some(' '), marks: String::new() }
    }
}

impl Perform for Lines {
    fn print(&mut self, character: char) {
        self.put(character);
    }

    fn execute(&mut self, byte: u8) {
        match byte {
            b'\n' | 0x0b | 0x0c => self.end_line(),
            b'\r' => self.at = self.row,
            0x08 => self.at = self.at.saturating_sub(1).max(self.row),
            b'\t' => self.tabulate(),
            _ => {}
        }
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], _: bool, action: char) {
        // What is private to a kind of terminal moves nothing, but for the change to its other screen.
        match intermediates {
            [] => {
                let first = params.iter().next().and_then(|one| one.first()).copied().unwrap_or(0);
                self.sequence(action, usize::from(first));
            }
            [b'?'] if params.iter().any(|one| matches!(one, [47 | 1047 | 1049])) => self.move_away(),
            _ => {}
        }
    }

    fn esc_dispatch(&mut self, intermediates: &[u8], _: bool, byte: u8) {
        if intermediates.is_empty() && matches!(byte, b'c' | b'D' | b'E' | b'M') {
            self.move_away();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::PlainText;

    #[track_caller]
    fn check(printed: &str, text: &str) {
        let mut whole = PlainText::new(20);
        whole.push(printed.as_bytes());
        assert_eq!(whole.text(), text);
        let mut pieces = PlainText::new(20);
        printed.as_bytes().iter().for_each(|byte| pieces.push(&[*byte]));
        assert_eq!(pieces.text(), text, "in single bytes");
    }

    #[test]
    fn escapes_are_gone_and_lines_are_as_they_were_at_last() {
        check("\x1b[1;31mred\x1b[0m\r\nplain\x1b]0;title\x07\r\n>>> ", "red\nplain\n>>> ");
        check("10%\r50%\r100%\r\n", "100%\n");
        check("downloading\r\x1b[Kdone\r\n", "done\n");
        check("$ lss\x08\x1b[K -l\r\n", "$ ls -l\n");
        check("abc\x1b[2Dx\x1b[1@y\r\n", "axyc\n");
        check("a\tb\r\n", "a\tb\n");
        check("e\u{301}漢字\r\n", "e\u{301}漢字\n");
    }

    #[test]
    fn a_line_that_the_terminal_broke_is_one() {
        check("0123456789012345678901234\r\n", "0123456789012345678901234\n");
        // As an editor of lines breaks it: a blank in the next row, and back.
        check("01234567890123456789 \rabc\r\n", "01234567890123456789abc\n");
        check("01234567890123456789 \rabc\x1b[A\rX\x1b[B\r\x1b[K\r\n", "X1234567890123456789\n");
    }

    #[test]
    fn what_a_program_draws_elsewhere_is_another_line() {
        check("$ top\r\n\x1b[?1049h\x1b[H\x1b[2JTasks: 3\x1b[5;1Hload\x1b[?1049l$ ", "$ top\nTasks: 3\nload\n$ ");
    }

    #[test]
    fn old_lines_are_forgotten_whole() {
        let mut plain = PlainText::new(80);
        plain.push(b"one\r\ntwo\r\nthree\r\n$ ");
        plain.forget_beyond(9);
        assert_eq!(plain.text(), "three\n$ ");
        plain.forget_beyond(6);
        assert_eq!(plain.text(), "three\n$ ");
        plain.forget_beyond(0);
        assert_eq!(plain.text(), "$ ");
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(
            pieces in prop::collection::vec(
                prop_oneof![
                    "[ -~äあ\u{301}\t\r\n\x08]{0,60}".prop_map(String::into_bytes),
                    "\x1b\\[[?]?[0-9;]{0,9}[@-~]".prop_map(String::into_bytes),
                    prop::collection::vec(any::<u8>(), 0..30),
                ],
                0..60,
            ),
        ) {
            let mut plain = PlainText::new(13);
            pieces.iter().for_each(|piece| plain.push(piece));
            let text = plain.text();
            prop_assert!(text.chars().all(|one| one == '\n' || one == '\t' || !one.is_control()));
        }

        #[test]
        fn plain_text_stays_as_it_is(lines in prop::collection::vec("[ -~ä漢]{0,90}", 0..20)) {
            let mut plain = PlainText::new(30);
            lines.iter().for_each(|line| plain.push(format!("{line}\r\n").as_bytes()));
            let text = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
            // A wide character that does not fit into a row leaves a column of it empty.
            let without = |text: &str| text.replace(' ', "");
            prop_assert_eq!(without(&plain.text()), without(&text));
        }
    }
}
