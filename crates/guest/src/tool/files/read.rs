//! Reading a range of a regular file.

use std::fs::File;
use std::io::{self, Read as _, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use pyro_wire::files::{COUNTED_BYTES_MAX, READ_BYTES_MAX, Read, ReadHead, ReadRange};
use pyro_wire::{Fault, FaultKind};

use super::{modified_ns, open_regular, size};
use crate::tool::{Answer, Ground, io_fault};

/// Bytes at a file's beginning that show whether it is text; as many as git looks at.
const SNIFFED_BYTES: usize = 8 * 1024;

const SCAN_BYTES: usize = 64 * 1024;

/// Reads what was asked for.
pub(crate) fn read(request: &Read, ground: &Ground, answer: &mut Answer<impl Write>) -> Result<(), Fault> {
    let (mut file, stat) = open_regular(ground, &request.path)?;
    let fault = |error: io::Error| io_fault("read", request.path.as_bytes(), &error);
    let bytes_max = request.bytes_max.min(READ_BYTES_MAX) as usize;
    let part = match request.range {
        ReadRange::Bytes { offset } => bytes(&mut file, offset, bytes_max).map_err(fault)?,
        ReadRange::Lines { first: 0, .. } => {
            return Err(Fault::new(FaultKind::InvalidArgument, "lines count from 1"));
        }
        ReadRange::Lines { first, count } => lines(&mut file, first, count, bytes_max).map_err(fault)?,
    };
    let is_text = !part.content.contains(&0) && !begins_binary(&file).map_err(fault)?;
    let line_count = if is_text { count_lines(&mut file).map_err(fault)? } else { None };
    answer.line(&ReadHead {
        size_bytes: size(&stat),
        mode: stat.st_mode & 0o7777,
        modified_unix_ns: modified_ns(&stat),
        is_text,
        line_count,
        offset_bytes: part.offset,
        first_line: part.first_line,
        at_end: part.at_end,
        content_bytes: u32::try_from(part.content.len()).expect("the limit fits 32 bits"),
    })?;
    answer.raw(&part.content)
}

/// A part of a file.
struct Part {
    content: Vec<u8>,
    offset: u64,
    first_line: Option<u64>,
    at_end: bool,
}

fn bytes(file: &mut File, offset: u64, bytes_max: usize) -> io::Result<Part> {
    // The kernel's offsets are signed; nothing is behind the largest.
    let offset = offset.min(i64::MAX.unsigned_abs());
    let (content, at_end) = fill(file, offset, bytes_max)?;
    Ok(Part { content, offset, first_line: (offset == 0).then_some(1), at_end })
}

fn lines(file: &mut File, first: u64, count: Option<u64>, bytes_max: usize) -> io::Result<Part> {
    let offset = skip_lines(file, first - 1)?;
    let (mut content, mut at_end) = fill(file, offset, bytes_max)?;
    let wanted = usize::try_from(count.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
    let end = match end_of_line(&content, wanted) {
        Some(end) => end,
        None if at_end => content.len(),
        // A line that was cut comes whole with the next range, unless it alone is more than fits.
        None => match memchr::memrchr(b'\n', &content) {
            Some(last) => last + 1,
            None => without_half_letter(&content),
        },
    };
    at_end &= end == content.len();
    content.truncate(end);
    Ok(Part { content, offset, first_line: Some(first), at_end })
}

/// Up to `bytes_max` bytes from `offset` on, and whether they reach the end of the file.
fn fill(file: &mut File, offset: u64, bytes_max: usize) -> io::Result<(Vec<u8>, bool)> {
    let mut content = Vec::new();
    let read =
        file.seek(SeekFrom::Start(offset)).and_then(|_| (&*file).take(bytes_max as u64 + 1).read_to_end(&mut content));
    match read {
        // No file of this file system can be so long.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Ok((Vec::new(), true)),
        result => result?,
    };
    let at_end = content.len() <= bytes_max;
    content.truncate(bytes_max);
    Ok((content, at_end))
}

/// Where the line after the first `count` begins; the end of the file when there is none.
fn skip_lines(file: &mut File, mut count: u64) -> io::Result<u64> {
    let mut buffer = vec![0; SCAN_BYTES];
    let mut offset = 0;
    while count > 0 {
        let read = read_some(file, &mut buffer)?;
        if read == 0 {
            break;
        }
        let ends = memchr::memchr_iter(b'\n', &buffer[..read]);
        match usize::try_from(count - 1).ok().and_then(|skipped| ends.clone().nth(skipped)) {
            Some(end) => return Ok(offset + end as u64 + 1),
            None => count -= ends.count() as u64,
        }
        offset += read as u64;
    }
    Ok(offset)
}

fn count_lines(file: &mut File) -> io::Result<Option<u64>> {
    file.seek(SeekFrom::Start(0))?;
    let mut buffer = vec![0; SCAN_BYTES];
    let (mut count, mut total, mut last) = (0, 0, b'\n');
    loop {
        let read = read_some(file, &mut buffer)?;
        if read == 0 {
            return Ok(Some(count + u64::from(last != b'\n')));
        }
        count += memchr::memchr_iter(b'\n', &buffer[..read]).count() as u64;
        last = buffer[read - 1];
        total += read as u64;
        if total > COUNTED_BYTES_MAX {
            return Ok(None);
        }
    }
}

fn begins_binary(file: &File) -> io::Result<bool> {
    let mut head = [0; SNIFFED_BYTES];
    let read = file.read_at(&mut head, 0)?;
    Ok(head[..read].contains(&0))
}

fn read_some(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Where the `wanted`th line of `content` ends, if it does.
fn end_of_line(content: &[u8], wanted: usize) -> Option<usize> {
    match wanted.checked_sub(1) {
        Some(before) => memchr::memchr_iter(b'\n', content).nth(before).map(|end| end + 1),
        None => Some(0),
    }
}

/// The length of `content` without a UTF-8 sequence that is cut at its end.
fn without_half_letter(content: &[u8]) -> usize {
    let tail = content.len().saturating_sub(3);
    let lead = content[tail..].iter().rposition(|byte| *byte >= 0xC0).map(|at| tail + at);
    let needs = |lead: u8| {
        if lead >= 0xF0 {
            4
        } else if lead >= 0xE0 {
            3
        } else {
            2
        }
    };
    match lead {
        Some(at) if at > 0 && content.len() - at < needs(content[at]) => at,
        _ => content.len(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{end_of_line, without_half_letter};

    #[test]
    fn a_letter_is_not_cut_in_half() {
        let text = "aä€😀".as_bytes();
        for (length, whole) in [(1, 1), (2, 1), (3, 3), (4, 3), (5, 3), (6, 6), (7, 6), (9, 6), (10, 10)] {
            assert_eq!(without_half_letter(&text[..length]), whole, "{length}");
        }
        assert_eq!(without_half_letter(b""), 0);
        assert_eq!(without_half_letter(b"\xff"), 1);
        assert_eq!(without_half_letter(b"\x80\x80\x80\x80"), 4);
    }

    proptest! {
        #[test]
        fn text_that_is_cut_stays_text(text in "\\PC{0,20}", cut in 0_usize..60) {
            let cut = &text.as_bytes()[..cut.min(text.len())];
            let whole = without_half_letter(cut);
            // Only a first letter that does not fit is cut in half.
            prop_assert!(whole <= cut.len() && cut.len() - whole < 4);
            prop_assert!(std::str::from_utf8(&cut[..whole]).is_ok() || whole < 4);
        }
    }

    #[test]
    fn lines_end_behind_their_line_feed() {
        assert_eq!(end_of_line(b"a\nb\nc", 0), Some(0));
        assert_eq!(end_of_line(b"a\nb\nc", 2), Some(4));
        assert_eq!(end_of_line(b"a\nb\nc", 3), None);
    }
}
