//! Files of a workspace: listed, read, written, edited.
//!
//! What a guest answers is checked against what was asked: more entries or bytes than were wanted, or an answer without its
//! end, is no answer. Names and content stay bytes here; whoever shows them cleans them.

use pyro_wire::files::{Edited as EditedOnWire, List, ListLine, Read, ReadHead, Write};
use pyro_wire::files::{LIST_ENTRIES_MAX, READ_BYTES_MAX};

use super::guest_path::GuestPath;
use super::tool::{ANSWER_BYTES_MAX, Tool, ToolError, ToolHost, collect, garbled, parse_line, parse_lines};

pub use pyro_wire::files::{Difference, Entry, EntryKind, NearLine, ReadRange, WRITE_BYTES_MAX, Written};

/// Most entries of a listing.
pub const ENTRIES_MAX: u32 = LIST_ENTRIES_MAX;

/// Most bytes read at once.
pub const READ_MAX: u32 = READ_BYTES_MAX;

/// Room for what precedes the content of a read.
const HEAD_BYTES_MAX: usize = 4096;

/// What is in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Each directory's by name, each followed by what is in it.
    pub entries: Vec<Entry>,
    /// There is more.
    pub truncated: bool,
}

/// Lists a directory, or shows the one thing at `path`.
///
/// # Errors
/// See [`ToolError`].
pub async fn list(
    host: &impl ToolHost,
    path: &GuestPath,
    recursive: bool,
    entries_max: u32,
) -> Result<Listing, ToolError> {
    let tool = Tool::List(List { path: path.to_word(), recursive, entries_max });
    let mut lines = parse_lines(&collect(host, tool, None, ANSWER_BYTES_MAX).await?)?;
    let Some(ListLine::End { truncated }) = lines.pop() else { return Err(garbled("a listing without an end")) };
    let entry = |line| match line {
        ListLine::Entry(entry) => Ok(entry),
        ListLine::End { .. } => Err(garbled("a listing with two ends")),
    };
    let entries = lines.into_iter().map(entry).collect::<Result<Vec<_>, _>>()?;
    if entries.len() > entries_max as usize {
        return Err(garbled("more entries than were asked for"));
    }
    Ok(Listing { entries, truncated })
}

/// A part of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePart {
    /// Size of the whole file.
    pub size_bytes: u64,
    /// The permission bits.
    pub mode: u32,
    /// Nanoseconds since 1970-01-01 UTC.
    pub modified_unix_ns: i64,
    /// It holds no NUL byte, as far as was looked.
    pub is_text: bool,
    /// Lines of the whole file, of text that is not huge.
    pub line_count: Option<u64>,
    /// Where in the file the content begins.
    pub offset_bytes: u64,
    /// The number of the line with which it begins, where that is known.
    pub first_line: Option<u64>,
    /// The content reaches the end of the file.
    pub at_end: bool,
    /// The bytes.
    pub content: Vec<u8>,
    /// How long the content is in the file.
    pub length: PartLength,
    /// Names of the secrets that were cut out of it.
    pub secrets: Vec<String>,
}

/// How long a part of a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartLength {
    /// In bytes.
    pub bytes: u64,
    /// In lines, a last one without an end included.
    pub lines: u64,
    /// It ends with a line.
    pub is_whole_lines: bool,
}

impl PartLength {
    /// Measures a content.
    #[must_use]
    pub fn of(content: &[u8]) -> Self {
        let ends = content.iter().filter(|byte| **byte == b'\n').count() as u64;
        let is_whole_lines = content.last().is_none_or(|last| *last == b'\n');
        Self { bytes: content.len() as u64, lines: ends + u64::from(!is_whole_lines), is_whole_lines }
    }
}

impl FilePart {
    /// How many lines of the file it is, a last one without an end included.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.length.lines
    }

    /// Where to read on: a line if one begins there, otherwise a byte. `None` at the end of the file.
    #[must_use]
    pub fn next(&self) -> Option<ReadRange> {
        if self.at_end {
            return None;
        }
        Some(match self.first_line {
            Some(first) if self.length.is_whole_lines => {
                ReadRange::Lines { first: first.saturating_add(self.lines()), count: None }
            }
            _ => ReadRange::Bytes { offset: self.offset_bytes.saturating_add(self.length.bytes) },
        })
    }
}

/// Reads a part of a file, at most `bytes_max` and [`READ_MAX`] bytes. Secrets of the workspace are cut out of it.
///
/// # Errors
/// See [`ToolError`].
pub async fn read(
    host: &impl ToolHost,
    path: &GuestPath,
    range: ReadRange,
    bytes_max: u32,
) -> Result<FilePart, ToolError> {
    let bytes_max = bytes_max.min(READ_MAX);
    let tool = Tool::Read(Read { path: path.to_word(), range, bytes_max });
    let mut answer = collect(host, tool, None, bytes_max as usize + HEAD_BYTES_MAX).await?;
    let (head, content): (ReadHead, &[u8]) = parse_line(&answer)?;
    if content.len() != head.content_bytes as usize || head.content_bytes > bytes_max {
        return Err(garbled("another length of content than it says"));
    }
    // The content is moved, not copied: it may be long.
    let length = answer.len() - content.len();
    answer.drain(..length);
    let length = PartLength::of(&answer);
    let mut secrets = Vec::new();
    if let Some(mut looker) = host.looker().await? {
        secrets = looker.find(&[&answer]).await?;
        if !secrets.is_empty() {
            answer = looker.cut(&answer).await?;
        }
    }
    Ok(FilePart {
        size_bytes: head.size_bytes,
        mode: head.mode & 0o7777,
        modified_unix_ns: head.modified_unix_ns,
        is_text: head.is_text,
        line_count: head.line_count,
        offset_bytes: head.offset_bytes,
        first_line: head.first_line,
        at_end: head.at_end,
        content: answer,
        length,
        secrets,
    })
}

/// Why a file was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// There is more content than one write takes.
    #[error("the text is larger than the {} MiB that one write takes", WRITE_BYTES_MAX >> 20)]
    TooLarge,
    /// The text to replace is not in the file.
    #[error("the text is not in {path}{}", nearest_words(nearest, *difference))]
    Missing {
        /// The file.
        path: GuestPath,
        /// The lines that are most like it.
        nearest: Vec<NearLine>,
        /// In what they differ, when that is plain.
        difference: Option<Difference>,
    },
    /// The text to replace is there more than once.
    #[error("the text is {count} times in {path}, {}", lines_words(lines, *count))]
    Ambiguous {
        /// The file.
        path: GuestPath,
        /// How often.
        count: u64,
        /// Lines at which it begins; the first ones.
        lines: Vec<u64>,
    },
    /// The guest did not do it.
    #[error(transparent)]
    Tool(#[from] ToolError),
}

/// Makes a file, or replaces the content of one in one step; it keeps mode and owner then.
///
/// # Errors
/// See [`ChangeError`].
pub async fn write(host: &impl ToolHost, path: &GuestPath, content: &[u8]) -> Result<Written, ChangeError> {
    let tool = Tool::Write(Write { path: path.to_word(), size_bytes: size_on_wire(content.len())? });
    let mut content = content;
    let answer = collect(host, tool, Some(&mut content), HEAD_BYTES_MAX).await?;
    one_line(&answer)
}

/// A text to be replaced by another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replacement<'a> {
    /// The text as it is in the file.
    pub old: &'a [u8],
    /// What to put in its place.
    pub new: &'a [u8],
    /// Everywhere; otherwise it must be there exactly once.
    pub everywhere: bool,
}

/// What an edit changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    /// How often the text was replaced.
    pub count: u64,
    /// Lines at which the new text begins; the first ones.
    pub lines: Vec<u64>,
    /// Size of the file now.
    pub size_bytes: u64,
}

/// Replaces a text in a file.
///
/// # Errors
/// See [`ChangeError`].
pub async fn edit(host: &impl ToolHost, path: &GuestPath, replacement: Replacement<'_>) -> Result<Edited, ChangeError> {
    let Replacement { old, new, everywhere } = replacement;
    let (old_bytes, new_bytes) = (size_on_wire(old.len())?, size_on_wire(new.len())?);
    let tool =
        Tool::Edit(pyro_wire::files::Edit { path: path.to_word(), old_bytes, new_bytes, replace_all: everywhere });
    let texts = [old, new].concat();
    let answer = collect(host, tool, Some(&mut &texts[..]), ANSWER_BYTES_MAX).await?;
    match one_line(&answer)? {
        EditedOnWire::Done { count, lines, size_bytes } => Ok(Edited { count, lines, size_bytes }),
        EditedOnWire::Missing { nearest, difference } => {
            Err(ChangeError::Missing { path: path.clone(), nearest, difference })
        }
        EditedOnWire::Ambiguous { count, lines } => Err(ChangeError::Ambiguous { path: path.clone(), count, lines }),
    }
}

fn size_on_wire(size_bytes: usize) -> Result<u32, ChangeError> {
    let fits = |size: &u32| *size <= WRITE_BYTES_MAX;
    u32::try_from(size_bytes).ok().filter(fits).ok_or(ChangeError::TooLarge)
}

/// The answer that is one line and nothing else.
fn one_line<T: serde::de::DeserializeOwned>(answer: &[u8]) -> Result<T, ChangeError> {
    match parse_line(answer)? {
        (value, []) => Ok(value),
        _ => Err(garbled("more than one line").into()),
    }
}

fn nearest_words(nearest: &[NearLine], difference: Option<Difference>) -> String {
    let (Some(first), Some(last)) = (nearest.first(), nearest.last()) else {
        return ", and nothing is like it".to_owned();
    };
    let place = if first.number == last.number {
        format!("line {}", first.number)
    } else {
        format!("lines {} to {}", first.number, last.number)
    };
    match difference {
        None => format!("; most like it: {place}"),
        Some(Difference::LineEnds) => {
            format!("; it is at {place} but for the line ends, with or without carriage return")
        }
        Some(Difference::Blanks) => format!("; it is at {place} but for spaces and tabs"),
    }
}

fn lines_words(lines: &[u64], count: u64) -> String {
    let numbers = lines.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    let more = if count > lines.len() as u64 { " and more" } else { "" };
    if lines.len() == 1 { format!("line {numbers}") } else { format!("lines {numbers}{more}") }
}

#[cfg(test)]
mod tests;
