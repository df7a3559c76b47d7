//! The public shape of what a workspace changed, its forms as text, and a patch on a terminal.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pyro_engine::workspace::diff::{
    ChangeExtent, ChangeStatus, Diff, DiffNotes, DiffSummary, FileChange, NoteKind, Version,
};
use pyro_engine::workspace::looker::SecretHolder;
use serde::Serialize;

use super::clean::{self, one_line};
use super::{Report, units};

/// Columns of the bar of a `--stat` line.
const BAR_COLUMNS: u64 = 40;

/// Most paths that one note names.
const NAMED_MAX: usize = 5;

/// Most paths with secrets that are named.
const SECRETS_NAMED_MAX: usize = 20;

/// What a workspace changed.
#[derive(Debug, Serialize)]
pub(crate) struct DiffReport {
    workspace: String,
    files: Vec<ChangeRow>,
    /// Lines added, where they were counted.
    added: u64,
    /// Lines removed.
    removed: u64,
    /// New files and directories that were left out because git ignores them.
    ignored: u64,
    /// What a patch cannot express.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<NoteRow>,
    /// Paths with secrets of the workspace in them, which are cut out of the patch.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    secrets: Vec<SecretRow>,
    /// The patch, as text; what is not UTF-8 in it is replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    /// The patch exactly, when it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_base64: Option<String>,
    /// How long the whole patch is.
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_bytes: Option<u64>,
    /// Whether the patch is longer than what is here.
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_truncated: Option<bool>,
    #[serde(skip)]
    form: DiffForm,
}

/// How a list of changes is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DiffForm {
    /// As `git diff --stat`.
    Stat,
    /// As `git diff --name-status`.
    NameStatus,
}

/// One path that changed.
#[derive(Debug, Serialize)]
struct ChangeRow {
    /// Relative to the workspace; what is not UTF-8 is replaced.
    path: String,
    /// `added`, `deleted`, `modified`, `renamed`, `retyped`, or `permissions` for those of which git knows nothing.
    status: &'static str,
    /// Where a renamed file was.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    added: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    removed: Option<u64>,
    /// It is no text.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    binary: bool,
    /// It is too large for a patch.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    too_large: bool,
    /// Permission bits, four octal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    old_mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new_mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    old_size_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new_size_bytes: Option<u64>,
}

/// Something that a patch cannot express.
#[derive(Debug, Serialize)]
struct NoteRow {
    /// `empty_directory`, `special`, `refused_name` or `unreadable`.
    kind: &'static str,
    count: u64,
    /// The first of the paths.
    paths: Vec<String>,
}

/// A path with secrets of the workspace in it.
#[derive(Debug, Serialize)]
struct SecretRow {
    path: String,
    secrets: Vec<String>,
}

impl From<&SecretHolder> for SecretRow {
    fn from(holder: &SecretHolder) -> Self {
        Self { path: text(&holder.path), secrets: holder.secrets.clone() }
    }
}

impl DiffReport {
    /// A list of changes.
    pub(crate) fn of_summary(workspace: String, summary: &DiffSummary, form: DiffForm) -> Self {
        let files: Vec<ChangeRow> = summary.files.iter().map(ChangeRow::from).collect();
        Self {
            workspace,
            added: files.iter().filter_map(|file| file.added).sum(),
            removed: files.iter().filter_map(|file| file.removed).sum(),
            files,
            ignored: summary.notes.ignored,
            notes: summary
                .notes
                .kinds
                .iter()
                .map(|note| NoteRow {
                    kind: note_kind(note.kind),
                    count: note.count,
                    paths: note.examples.iter().map(|path| text(path)).collect(),
                })
                .collect(),
            secrets: summary.secrets.iter().map(SecretRow::from).collect(),
            patch: None,
            patch_base64: None,
            patch_bytes: None,
            patch_truncated: None,
            form,
        }
    }

    /// A list of changes with their patch.
    pub(crate) fn of_patch(workspace: String, diff: Diff) -> Self {
        let truncated = diff.text_bytes > diff.text.len() as u64;
        let (patch, base64) = match String::from_utf8(diff.text) {
            Ok(patch) => (patch, None),
            Err(error) => (text(error.as_bytes()), Some(STANDARD.encode(error.as_bytes()))),
        };
        Self {
            patch: Some(patch),
            patch_base64: base64,
            patch_bytes: Some(diff.text_bytes),
            patch_truncated: Some(truncated),
            ..Self::of_summary(workspace, &diff.summary, DiffForm::NameStatus)
        }
    }
}

impl Report for DiffReport {
    fn text(&self, color: bool) -> String {
        match self.form {
            DiffForm::Stat => self.stat(color),
            DiffForm::NameStatus => self.files.iter().map(ChangeRow::name_status).collect(),
        }
    }
}

impl DiffReport {
    fn stat(&self, color: bool) -> String {
        let names: Vec<String> = self.files.iter().map(ChangeRow::name).collect();
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        let most = self.files.iter().map(ChangeRow::lines).max().unwrap_or(0);
        let digits = most.to_string().len().max(3);
        let mut text = String::new();
        for (file, name) in self.files.iter().zip(names) {
            let pad = " ".repeat(width - name.chars().count());
            text.push_str(&format!(" {name}{pad} | {}\n", file.amount(digits, most, color)));
        }
        if self.files.is_empty() {
            return text;
        }
        text.push_str(&format!(" {} changed", units::count(self.files.len() as u64, "file", "files")));
        for (count, word, sign) in [(self.added, "insertion", '+'), (self.removed, "deletion", '-')] {
            if count > 0 {
                text.push_str(&format!(", {count} {word}{}({sign})", if count == 1 { "" } else { "s" }));
            }
        }
        text.push('\n');
        text
    }
}

impl From<&FileChange> for ChangeRow {
    fn from(file: &FileChange) -> Self {
        let mode = |version: &Option<Version>| version.as_ref().map(|version| format!("{:04o}", version.mode & 0o7777));
        let size = |version: &Option<Version>| version.as_ref().map(|version| version.size_bytes);
        let lines = match file.extent {
            Some(ChangeExtent::Lines(count)) => Some(count),
            _ => None,
        };
        Self {
            path: text(&file.change.path),
            status: match file.status {
                ChangeStatus::Added => "added",
                ChangeStatus::Deleted => "deleted",
                ChangeStatus::Modified => "modified",
                ChangeStatus::Renamed => "renamed",
                ChangeStatus::Retyped => "retyped",
                ChangeStatus::Permissions => "permissions",
            },
            from: file.change.renamed_from.as_deref().map(text),
            added: lines.map(|count| count.added),
            removed: lines.map(|count| count.removed),
            binary: file.extent == Some(ChangeExtent::Binary),
            too_large: file.extent == Some(ChangeExtent::TooLarge),
            old_mode: mode(&file.change.old),
            new_mode: mode(&file.change.new),
            old_size_bytes: size(&file.change.old),
            new_size_bytes: size(&file.change.new),
        }
    }
}

impl ChangeRow {
    /// As git has it: one letter, a tab, the name or names.
    fn name_status(&self) -> String {
        let letter = match self.status {
            "added" => "A",
            "deleted" => "D",
            "renamed" => "R100",
            "retyped" => "T",
            // git would not list it at all.
            "permissions" => return String::new(),
            _ => "M",
        };
        let path = one_line(&self.path);
        match &self.from {
            Some(from) => format!("{letter}\t{}\t{path}\n", one_line(from)),
            None => format!("{letter}\t{path}\n"),
        }
    }

    fn name(&self) -> String {
        let path = one_line(&self.path);
        self.from.as_ref().map_or(path.clone(), |from| format!("{} => {path}", one_line(from)))
    }

    fn lines(&self) -> u64 {
        self.added.unwrap_or(0) + self.removed.unwrap_or(0)
    }

    /// How much changed: a count and a bar, sizes of what is no text, modes.
    fn amount(&self, digits: usize, most: u64, color: bool) -> String {
        let size = |size: Option<u64>| units::size(size.unwrap_or(0));
        let sizes = || format!("{} -> {}", size(self.old_size_bytes), size(self.new_size_bytes));
        let modes = match (&self.old_mode, &self.new_mode) {
            (Some(old), Some(new)) if old != new && self.status != "retyped" => format!("mode {old} -> {new}"),
            _ => String::new(),
        };
        let amount = if self.status == "permissions" {
            return modes;
        } else if self.too_large {
            format!("Large {}", sizes())
        } else if self.binary {
            format!("Bin {}", sizes())
        } else {
            let part = |count: u64| (count * BAR_COLUMNS.min(most)).div_ceil(most.max(1)) as usize;
            let bar = |count: Option<u64>, sign: &str, paint: &str| {
                let bar = sign.repeat(part(count.unwrap_or(0)));
                if color && !bar.is_empty() { format!("{paint}{bar}\x1b[0m") } else { bar }
            };
            let (plus, minus) = (bar(self.added, "+", "\x1b[32m"), bar(self.removed, "-", "\x1b[31m"));
            format!("{:>digits$} {plus}{minus}", self.lines())
        };
        [amount.trim_end().to_owned(), modes].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
    }
}

/// What a person should know of a diff besides the patch, a line each.
pub(crate) fn note_lines(summary: &DiffSummary) -> Vec<String> {
    let DiffNotes { ignored, kinds } = &summary.notes;
    let mut lines = Vec::new();
    let large: Vec<&[u8]> = summary
        .files
        .iter()
        .filter(|file| file.extent == Some(ChangeExtent::TooLarge))
        .map(|file| file.change.path.as_slice())
        .collect();
    if !large.is_empty() {
        let words = "too large for a patch; 'pyro workspace export' takes it home";
        lines.push(named(words, large.len() as u64, &large));
    }
    let permissions = summary.files.iter().filter(|file| file.status == ChangeStatus::Permissions);
    let permissions: Vec<&[u8]> = permissions.map(|file| file.change.path.as_slice()).collect();
    if !permissions.is_empty() {
        lines.push(named("only other permissions, of which git knows nothing", permissions.len() as u64, &permissions));
    }
    for SecretHolder { path, secrets } in summary.secrets.iter().take(SECRETS_NAMED_MAX) {
        let path = one_line(&String::from_utf8_lossy(path));
        lines.push(format!(
            "warning: {path} holds the secret {}; it is cut out here, so that this does not apply as a patch",
            secrets.join(", ")
        ));
    }
    if let Some(more) = summary.secrets.len().checked_sub(SECRETS_NAMED_MAX).filter(|more| *more > 0) {
        lines.push(format!("warning: {more} more paths hold secrets"));
    }
    for note in kinds {
        let paths: Vec<&[u8]> = note.examples.iter().map(Vec::as_slice).collect();
        lines.push(named(note_words(note.kind), note.count, &paths));
    }
    if *ignored > 0 {
        lines.push(format!("left out what git ignores ({ignored}); --all shows it"));
    }
    lines
}

fn named(words: &str, count: u64, paths: &[&[u8]]) -> String {
    let mut names: Vec<String> = paths.iter().take(NAMED_MAX).map(|path| one_line(&text(path))).collect();
    if count > names.len() as u64 {
        names.push("…".to_owned());
    }
    format!("{words} ({count}): {}", names.join(", "))
}

fn note_words(kind: NoteKind) -> &'static str {
    match kind {
        NoteKind::EmptyDirectory => "empty directories that came or went, which git does not know",
        NoteKind::Special => "devices, pipes and sockets, which git does not know",
        NoteKind::RefusedName => "names that git refuses",
        NoteKind::Unreadable => "what could not be read",
    }
}

fn note_kind(kind: NoteKind) -> &'static str {
    match kind {
        NoteKind::EmptyDirectory => "empty_directory",
        NoteKind::Special => "special",
        NoteKind::RefusedName => "refused_name",
        NoteKind::Unreadable => "unreadable",
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// One line of a patch for a terminal, its end included: without what could move the cursor, and in colour if wanted.
pub(crate) fn terminal_line(line: &[u8], color: bool) -> String {
    let clean = clean::lines(line.strip_suffix(b"\n").unwrap_or(line));
    let paint = match line {
        _ if !color => "",
        [b'+', b'+', b'+', b' ', ..] | [b'-', b'-', b'-', b' ', ..] | [b'd', b'i', b'f', b'f', ..] => "\x1b[1m",
        [b'@', b'@', ..] => "\x1b[36m",
        [b'+', ..] => "\x1b[32m",
        [b'-', ..] => "\x1b[31m",
        _ => "",
    };
    if paint.is_empty() { format!("{clean}\n") } else { format!("{paint}{clean}\x1b[0m\n") }
}

#[cfg(test)]
mod tests {
    use pyro_engine::workspace::diff::{
        Change, ChangeExtent, ChangeStatus, Diff, DiffNotes, DiffSummary, FileChange, LineCount, NoteCount, NoteKind,
        Version, VersionKind,
    };
    use pyro_engine::workspace::looker::SecretHolder;

    use super::{DiffForm, DiffReport, Report, note_lines, terminal_line};

    fn file(path: &str, status: ChangeStatus, modes: [u32; 2], extent: Option<ChangeExtent>) -> FileChange {
        let version = |mode| Some(Version { kind: VersionKind::File, mode, size_bytes: 2048 });
        let change = Change {
            path: path.into(),
            renamed_from: (status == ChangeStatus::Renamed).then(|| b"old\x1b".to_vec()),
            old: version(modes[0]).filter(|_| status != ChangeStatus::Added),
            new: version(modes[1]).filter(|_| status != ChangeStatus::Deleted),
        };
        FileChange { change, status, extent, changed_unix_ns: None }
    }

    fn summary() -> DiffSummary {
        let lines = |added, removed| Some(ChangeExtent::Lines(LineCount { added, removed }));
        let plain = [0o644, 0o644];
        DiffSummary {
            files: vec![
                file("added", ChangeStatus::Added, plain, lines(120, 0)),
                file("binary", ChangeStatus::Modified, plain, Some(ChangeExtent::Binary)),
                file("large", ChangeStatus::Deleted, plain, Some(ChangeExtent::TooLarge)),
                file("mode", ChangeStatus::Permissions, [0o644, 0o600], lines(0, 0)),
                file("new", ChangeStatus::Renamed, [0o644, 0o755], lines(0, 0)),
                file("src/main.rs", ChangeStatus::Modified, plain, lines(1, 3)),
            ],
            notes: DiffNotes {
                ignored: 2,
                kinds: vec![NoteCount { kind: NoteKind::EmptyDirectory, count: 9, examples: vec![b"e".to_vec()] }],
            },
            secrets: vec![SecretHolder { path: b"added".to_vec(), secrets: vec!["TOKEN".to_owned()] }],
            digest: None,
        }
    }

    #[test]
    fn the_forms_are_those_of_git() {
        let text = |form| DiffReport::of_summary("w".to_owned(), &summary(), form).text(false);
        insta::assert_snapshot!(text(DiffForm::Stat));
        insta::assert_snapshot!(text(DiffForm::NameStatus));
        assert_eq!(DiffReport::of_summary("w".to_owned(), &DiffSummary::default(), DiffForm::Stat).text(true), "");
    }

    #[test]
    fn notes_say_what_the_patch_does_not() {
        insta::assert_snapshot!(note_lines(&summary()).join("\n"));
    }

    #[test]
    fn json_has_the_patch_and_the_files() {
        let mut summary = summary();
        summary.files.truncate(1);
        let diff = Diff { summary, text: b"diff\xff".to_vec(), text_bytes: 9 };
        insta::assert_json_snapshot!(DiffReport::of_patch("w".to_owned(), diff));
    }

    #[test]
    fn a_terminal_gets_no_escapes_but_ours() {
        assert_eq!(terminal_line(b"+a\x1b[2J\tb\n", false), "+a\\u{1b}[2J\tb\n");
        assert_eq!(terminal_line(b"-a\n", true), "\x1b[31m-a\x1b[0m\n");
        assert_eq!(terminal_line(b"+++ b/x\n", true), "\x1b[1m+++ b/x\x1b[0m\n");
        assert_eq!(terminal_line(b" a", true), " a\n");
    }
}
