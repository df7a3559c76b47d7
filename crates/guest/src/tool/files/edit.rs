//! Replacing one text by another in a file.

use std::io::{Read, Write};

use memchr::memmem::Finder;
use pyro_wire::files::{EDIT_LINES_MAX, Edit, Edited, WRITE_BYTES_MAX};
use pyro_wire::{Fault, FaultKind};

use super::nearest::nearest;
use super::open_regular;
use super::write::{Place, too_large};
use crate::tool::{Answer, Ground, input, io_fault, shown};

/// Edits a file; the two texts come as `texts`.
pub(crate) fn edit(
    request: &Edit,
    ground: &Ground,
    texts: impl Read,
    answer: &mut Answer<impl Write>,
) -> Result<(), Fault> {
    let (old, new) = read_texts(request, texts)?;
    let content = read_content(request, ground)?;
    let finder = Finder::new(&old);
    let count = finder.find_iter(&content).count();
    let first = || finder.find_iter(&content).take(EDIT_LINES_MAX);
    let edited = match count {
        0 => {
            let (nearest, difference) = nearest(&content, &old);
            Edited::Missing { nearest, difference }
        }
        2.. if !request.replace_all => {
            Edited::Ambiguous { count: count as u64, lines: line_numbers(&content, first()) }
        }
        _ => {
            let size_bytes = size_after(content.len(), count, (old.len(), new.len()));
            if size_bytes > u64::from(WRITE_BYTES_MAX) {
                return Err(too_large(request.path.as_bytes(), size_bytes));
            }
            let after = replaced(&content, &finder, &new);
            Place::find(ground, &request.path)?.fill(&after)?;
            let lines = line_numbers(&after, starts_after(first(), old.len(), new.len()));
            Edited::Done { count: count as u64, lines, size_bytes }
        }
    };
    answer.line(&edited)
}

fn read_texts(request: &Edit, texts: impl Read) -> Result<(Vec<u8>, Vec<u8>), Fault> {
    let invalid = |message: &str| Err(Fault::new(FaultKind::InvalidArgument, message));
    if request.old_bytes > WRITE_BYTES_MAX || request.new_bytes > WRITE_BYTES_MAX {
        let message = format!("a text of an edit has at most {WRITE_BYTES_MAX} bytes");
        return Err(Fault::new(FaultKind::TooLarge, message));
    }
    let mut old = input::exactly(texts, u64::from(request.old_bytes) + u64::from(request.new_bytes))?;
    let new = old.split_off(request.old_bytes as usize);
    if old.is_empty() {
        return invalid("the text to replace is empty");
    }
    if old == new {
        return invalid("the text to replace and its replacement are the same");
    }
    Ok((old, new))
}

fn read_content(request: &Edit, ground: &Ground) -> Result<Vec<u8>, Fault> {
    let path = request.path.as_bytes();
    let (file, _) = open_regular(ground, &request.path)?;
    let mut content = Vec::new();
    file.take(u64::from(WRITE_BYTES_MAX) + 1)
        .read_to_end(&mut content)
        .map_err(|error| io_fault("read", path, &error))?;
    if content.len() > WRITE_BYTES_MAX as usize {
        let message = format!("{} has more than the {WRITE_BYTES_MAX} bytes that can be edited", shown(path));
        return Err(Fault::new(FaultKind::TooLarge, message));
    }
    Ok(content)
}

/// `content` with `new` in each place at which `finder` finds its text.
fn replaced(content: &[u8], finder: &Finder<'_>, new: &[u8]) -> Vec<u8> {
    let mut after = Vec::new();
    let mut rest = 0;
    for start in finder.find_iter(content) {
        after.extend_from_slice(&content[rest..start]);
        after.extend_from_slice(new);
        rest = start + finder.needle().len();
    }
    after.extend_from_slice(&content[rest..]);
    after
}

fn size_after(content: usize, count: usize, (old, new): (usize, usize)) -> u64 {
    (content as u64 - (old as u64 * count as u64)).saturating_add((new as u64).saturating_mul(count as u64))
}

/// Where what replaced a text of `old` bytes, found at `starts`, begins.
fn starts_after(starts: impl Iterator<Item = usize>, old: usize, new: usize) -> impl Iterator<Item = usize> {
    starts.enumerate().map(move |(index, start)| start - index * old + index * new)
}

/// The numbers of the lines in which `starts` are, each once.
fn line_numbers(content: &[u8], starts: impl Iterator<Item = usize>) -> Vec<u64> {
    let (mut line, mut from) = (1, 0);
    let mut numbers: Vec<u64> = Vec::new();
    for start in starts {
        line += memchr::memchr_iter(b'\n', &content[from..start]).count() as u64;
        from = start;
        if numbers.last() != Some(&line) {
            numbers.push(line);
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use memchr::memmem::Finder;

    use super::{line_numbers, replaced, size_after, starts_after};

    #[test]
    fn lines_are_those_of_the_new_text() {
        let (content, finder) = (b"a\nb\na a\n", Finder::new(b"a"));
        assert_eq!(line_numbers(content, finder.find_iter(content)), [1, 3]);
        let after = replaced(content, &finder, b"x\ny");
        assert_eq!(after, b"x\ny\nb\nx\ny x\ny\n");
        let starts = || starts_after(finder.find_iter(content), 1, 3);
        assert!(starts().all(|start| after[start..].starts_with(b"x\ny")));
        assert_eq!(line_numbers(&after, starts()), [1, 4, 5]);
        assert_eq!(size_after(content.len(), 3, (1, 3)), after.len() as u64);
    }
}
