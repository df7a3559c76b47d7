//! The public shapes of files of a workspace: a listing, a part of a file, what a write and an edit did.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pyro_engine::workspace::files::{Edited, Entry, EntryKind, FilePart, Listing, ReadRange, Written};
use pyro_engine::workspace::guest_path::GuestPath;
use serde::Serialize;

use super::clean::one_line;
use super::env::Moment;
use super::{Report, units};

/// What a directory of a workspace holds.
#[derive(Debug, Serialize)]
pub(crate) struct FileList {
    workspace: String,
    /// The directory.
    path: String,
    entries: Vec<FileRow>,
    /// Whether there is more than is listed.
    pub(crate) truncated: bool,
}

/// One entry of a listing.
#[derive(Debug, Serialize)]
struct FileRow {
    /// Relative to the directory; what is not UTF-8 is replaced.
    path: String,
    /// `file`, `directory`, `symlink`, `fifo`, `socket`, `character_device` or `block_device`.
    #[serde(rename = "type")]
    kind: &'static str,
    size_bytes: u64,
    /// The permission bits, four octal digits.
    mode: String,
    modified_at: Moment,
    /// Where a symbolic link leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

impl FileList {
    pub(crate) fn new(workspace: String, path: &GuestPath, listing: Listing) -> Self {
        let entries = listing.entries.into_iter().map(FileRow::from).collect();
        Self { workspace, path: path.to_string(), entries, truncated: listing.truncated }
    }

    /// How many entries it has.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

impl From<Entry> for FileRow {
    fn from(entry: Entry) -> Self {
        Self {
            path: text(entry.path.as_bytes()),
            kind: kind_word(entry.kind),
            size_bytes: entry.size_bytes,
            mode: octal(entry.mode),
            modified_at: moment(entry.modified_unix_ns),
            target: entry.target.map(|target| text(target.as_bytes())),
        }
    }
}

impl Report for FileList {
    fn text(&self, _: bool) -> String {
        let rows: Vec<_> = self.entries.iter().map(FileRow::cells).collect();
        if rows.is_empty() { "nothing is there\n".to_owned() } else { units::columns(&rows) }
    }
}

impl FileRow {
    fn cells(&self) -> [String; 4] {
        let size = if self.kind == "file" { units::size(self.size_bytes) } else { "-".to_owned() };
        let name = one_line(&self.path);
        let name = match (&self.target, self.kind) {
            (Some(target), _) => format!("{name} -> {}", one_line(target)),
            (None, "directory") => format!("{name}/"),
            (None, "file" | "symlink") => name,
            (None, kind) => format!("{name} ({})", kind.replace('_', " ")),
        };
        [self.mode.clone(), size, self.modified_at.ago(), name]
    }
}

/// A part of a file of a workspace.
#[derive(Debug, Serialize)]
pub(crate) struct FileRead {
    workspace: String,
    path: String,
    /// Size of the whole file.
    size_bytes: u64,
    mode: String,
    modified_at: Moment,
    /// Whether it is text, as far as was looked.
    is_text: bool,
    /// Lines of the whole file; not of binary and huge ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    line_count: Option<u64>,
    /// Where in the file the content begins.
    offset_bytes: u64,
    /// The number of its first line, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_line: Option<u64>,
    /// As text; what is not UTF-8 in it is replaced.
    content: String,
    /// Exactly, when it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    content_base64: Option<String>,
    content_bytes: usize,
    /// Names of the secrets that were cut out of the content.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    secrets: Vec<String>,
    /// Whether the content reaches the end of the file.
    at_end: bool,
    /// The line at which to read on, when one begins there.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_offset: Option<u64>,
    /// The byte at which to read on, when no line begins there.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_offset_bytes: Option<u64>,
}

impl FileRead {
    pub(crate) fn new(workspace: String, path: &GuestPath, part: FilePart) -> Self {
        let (next_offset, next_offset_bytes) = match part.next() {
            Some(ReadRange::Lines { first, .. }) => (Some(first), None),
            Some(ReadRange::Bytes { offset }) => (None, Some(offset)),
            None => (None, None),
        };
        let content_bytes = part.content.len();
        let (content, content_base64) = match String::from_utf8(part.content) {
            Ok(text) => (text, None),
            Err(error) => (text(error.as_bytes()), Some(STANDARD.encode(error.as_bytes()))),
        };
        Self {
            workspace,
            path: path.to_string(),
            size_bytes: part.size_bytes,
            mode: octal(part.mode),
            modified_at: moment(part.modified_unix_ns),
            is_text: part.is_text,
            line_count: part.line_count,
            offset_bytes: part.offset_bytes,
            first_line: part.first_line,
            content,
            content_base64,
            content_bytes,
            secrets: part.secrets,
            at_end: part.at_end,
            next_offset,
            next_offset_bytes,
        }
    }
}

/// What a part of a file leaves out, in a line for the person who sees it; nothing when that is nothing.
pub(crate) fn rest_words(part: &FilePart) -> Option<String> {
    let next = part.next()?;
    let shown = match (part.first_line, part.line_count) {
        _ if part.content.is_empty() => "nothing was shown".to_owned(),
        (Some(first), Some(count)) if part.lines() > 0 => {
            format!("lines {first} to {} of {count} were shown", first + part.lines() - 1)
        }
        _ => format!(
            "{} of {} were shown",
            units::size(part.content.len() as u64),
            units::size(part.size_bytes.max(part.offset_bytes + part.content.len() as u64))
        ),
    };
    Some(match next {
        ReadRange::Lines { first, .. } => format!("{shown}; --offset {first} goes on"),
        ReadRange::Bytes { offset } => format!("{shown}; --offset-bytes {offset} goes on"),
    })
}

/// A file that was written.
#[derive(Debug, Serialize)]
pub(crate) struct FileWritten {
    workspace: String,
    path: String,
    /// Whether there was no such file before.
    created: bool,
    size_bytes: u64,
    mode: String,
}

impl FileWritten {
    pub(crate) fn new(workspace: String, path: &GuestPath, written: &Written) -> Self {
        let Written { created, size_bytes, mode } = *written;
        Self { workspace, path: path.to_string(), created, size_bytes, mode: octal(mode) }
    }
}

impl Report for FileWritten {
    fn text(&self, _: bool) -> String {
        let what = if self.created { "created" } else { "replaced" };
        format!("{what} {}, {}\n", one_line(&self.path), units::size(self.size_bytes))
    }
}

/// A file that was edited.
#[derive(Debug, Serialize)]
pub(crate) struct FileEdited {
    workspace: String,
    path: String,
    /// How often the text was replaced.
    replacements: u64,
    /// Lines at which the new text begins; the first ones.
    lines: Vec<u64>,
    size_bytes: u64,
}

impl FileEdited {
    pub(crate) fn new(workspace: String, path: &GuestPath, edited: Edited) -> Self {
        let Edited { count, lines, size_bytes } = edited;
        Self { workspace, path: path.to_string(), replacements: count, lines, size_bytes }
    }
}

impl Report for FileEdited {
    fn text(&self, _: bool) -> String {
        let times = units::count(self.replacements, "time", "times");
        let lines = self.lines.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        let line = if self.lines.len() == 1 { "line" } else { "lines" };
        let more = if self.replacements > self.lines.len() as u64 && self.lines.len() > 1 { " and more" } else { "" };
        let path = one_line(&self.path);
        format!("replaced {times} in {path}, {line} {lines}{more}\n")
    }
}

fn kind_word(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::File => "file",
        EntryKind::Directory => "directory",
        EntryKind::Symlink => "symlink",
        EntryKind::Fifo => "fifo",
        EntryKind::Socket => "socket",
        EntryKind::CharacterDevice => "character_device",
        EntryKind::BlockDevice => "block_device",
    }
}

fn octal(mode: u32) -> String {
    format!("{:04o}", mode & 0o7777)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn moment(unix_ns: i64) -> Moment {
    Moment(u64::try_from(unix_ns / 1_000_000_000).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use pyro_engine::workspace::files::{Edited, Entry, EntryKind, FilePart, Listing, PartLength, Written};
    use pyro_engine::workspace::guest_path::GuestPath;

    use super::{FileEdited, FileList, FileRead, FileWritten, Report, rest_words};

    fn path() -> GuestPath {
        GuestPath::new("src").expect("a path")
    }

    fn json(report: &impl serde::Serialize) -> String {
        serde_json::to_string(report).expect("serialises")
    }

    fn entry(path: &str, kind: EntryKind, target: Option<&str>) -> Entry {
        let target = target.map(|target| target.as_bytes().to_vec().into());
        Entry {
            path: path.as_bytes().to_vec().into(),
            kind,
            size_bytes: 2048,
            mode: 0o644,
            modified_unix_ns: 1_795_432_325_000_000_001,
            target,
        }
    }

    #[test]
    fn a_listing_is_aligned_and_clean() {
        let entries = vec![
            entry("a\x1b[2J", EntryKind::File, None),
            entry("dir", EntryKind::Directory, None),
            entry("to", EntryKind::Symlink, Some("../x\ny")),
            entry("pipe", EntryKind::Fifo, None),
        ];
        let list = FileList::new("w1".to_owned(), &path(), Listing { entries, truncated: false });
        let ago = list.entries[0].modified_at.ago();
        let text = list.text(false).replace(&ago, "then");
        let expected = "0644  2.0 KiB  then  a\\u{1b}[2J\n0644  -        then  dir/\n\
            0644  -        then  to -> ../x y\n0644  -        then  pipe (fifo)\n";
        assert_eq!(text, expected);
        let list = FileList::new(
            "w1".to_owned(),
            &path(),
            Listing { entries: vec![entry("to", EntryKind::Symlink, Some("x"))], truncated: true },
        );
        assert_eq!(
            json(&list),
            r#"{"workspace":"w1","path":"/workspace/src","entries":[{"path":"to","type":"symlink","size_bytes":2048,"mode":"0644","modified_at":"2026-11-23T11:12:05Z","target":"x"}],"truncated":true}"#
        );
    }

    fn part(content: &[u8], first_line: Option<u64>, at_end: bool) -> FilePart {
        FilePart {
            size_bytes: 5000,
            mode: 0o755,
            modified_unix_ns: 0,
            is_text: true,
            line_count: Some(90),
            offset_bytes: 7,
            first_line,
            at_end,
            content: content.to_vec(),
            length: PartLength::of(content),
            secrets: Vec::new(),
        }
    }

    #[test]
    fn a_part_of_a_file_says_where_to_go_on() {
        assert_eq!(rest_words(&part(b"a\n", Some(3), true)), None);
        let words = |content: &[u8], first| rest_words(&part(content, first, false)).expect("there is more");
        assert_eq!(words(b"a\nb\n", Some(3)), "lines 3 to 4 of 90 were shown; --offset 5 goes on");
        assert_eq!(words(b"a\nb", None), "3 B of 4.8 KiB were shown; --offset-bytes 10 goes on");
        assert_eq!(words(b"", Some(3)), "nothing was shown; --offset 3 goes on");
        assert_eq!(
            json(&FileRead::new("w1".to_owned(), &path(), part(b"\xff\n", Some(3), false))),
            "{\"workspace\":\"w1\",\"path\":\"/workspace/src\",\"size_bytes\":5000,\"mode\":\"0755\",\
             \"modified_at\":\"1970-01-01T00:00:00Z\",\"is_text\":true,\"line_count\":90,\"offset_bytes\":7,\"first_line\":3,\
             \"content\":\"\u{fffd}\\n\",\"content_base64\":\"/wo=\",\"content_bytes\":2,\"at_end\":false,\"next_offset\":4}"
        );
    }

    #[test]
    fn what_changed_is_told_in_a_line() {
        let written = |created| {
            let written = Written { created, size_bytes: 3, mode: 0o644 };
            FileWritten::new("w1".to_owned(), &path(), &written)
        };
        assert_eq!(written(true).text(false), "created /workspace/src, 3 B\n");
        assert_eq!(written(false).text(false), "replaced /workspace/src, 3 B\n");
        assert_eq!(
            json(&written(true)),
            r#"{"workspace":"w1","path":"/workspace/src","created":true,"size_bytes":3,"mode":"0644"}"#
        );
        let edited = |count, lines: &[u64]| {
            let edited = Edited { count, lines: lines.to_vec(), size_bytes: 3 };
            FileEdited::new("w1".to_owned(), &path(), edited)
        };
        assert_eq!(edited(1, &[7]).text(false), "replaced 1 time in /workspace/src, line 7\n");
        assert_eq!(edited(20, &[7, 8]).text(false), "replaced 20 times in /workspace/src, lines 7, 8 and more\n");
        assert_eq!(
            json(&edited(1, &[7])),
            r#"{"workspace":"w1","path":"/workspace/src","replacements":1,"lines":[7],"size_bytes":3}"#
        );
    }
}
