//! The public shape of an export.

use std::path::Path;

use pyro_engine::workspace::export::{ExportNote, ExportNoteKind, ExportSummary, ExportedPatch, GuestNoteKind};
use serde::Serialize;

use super::clean::one_line;
use super::{Report, units};

/// Something that was taken home.
#[derive(Debug, Serialize)]
pub(crate) struct ExportReport {
    workspace: String,
    /// Where it is.
    output: String,
    /// `file`, `directory` or `patch`.
    kind: &'static str,
    /// Files written; of a patch, the paths in it.
    files: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    directories: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    links: Option<u64>,
    bytes: u64,
    /// SHA-256 of the file or the patch; of a directory, of names, modes and contents.
    sha256: String,
    /// What was left out, or is not as it was; the first ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<NoteRow>,
    /// How many notes there are in all.
    #[serde(skip_serializing_if = "is_zero")]
    note_count: u64,
}

/// Something that was left out, or is not as it was.
#[derive(Debug, Serialize)]
struct NoteRow {
    /// Relative to what was exported.
    path: String,
    /// Why.
    note: String,
}

impl ExportReport {
    /// A file or a directory.
    pub(crate) fn of_files(workspace: String, output: &Path, summary: &ExportSummary) -> Self {
        let directories = summary.is_directory;
        Self {
            workspace,
            output: output.display().to_string(),
            kind: if directories { "directory" } else { "file" },
            files: summary.files,
            directories: directories.then_some(summary.directories),
            links: directories.then_some(summary.links),
            bytes: summary.bytes,
            sha256: summary.sha256.clone(),
            notes: summary.notes.iter().map(NoteRow::from).collect(),
            note_count: summary.note_count,
        }
    }

    /// A patch.
    pub(crate) fn of_patch(workspace: String, output: &Path, patch: &ExportedPatch) -> Self {
        Self {
            workspace,
            output: output.display().to_string(),
            kind: "patch",
            files: patch.summary.files.len() as u64,
            directories: None,
            links: None,
            bytes: patch.bytes,
            sha256: patch.sha256.clone(),
            notes: Vec::new(),
            note_count: 0,
        }
    }

    /// What a person should know besides, a line each.
    pub(crate) fn note_lines(&self) -> Vec<String> {
        const SHOWN_MAX: usize = 10;
        let shown =
            self.notes.iter().take(SHOWN_MAX).map(|note| format!("{}: {}", one_line(&note.path), one_line(&note.note)));
        let mut lines: Vec<String> = shown.collect();
        let left = self.note_count.saturating_sub(lines.len() as u64);
        if left > 0 {
            lines.push(format!("and {left} more; --json names them"));
        }
        lines
    }
}

impl From<&ExportNote> for NoteRow {
    fn from(note: &ExportNote) -> Self {
        let words = match &note.kind {
            ExportNoteKind::LinkOut { target } => {
                format!("left out: a link that leads out, to {}", String::from_utf8_lossy(target))
            }
            ExportNoteKind::Guest(GuestNoteKind::Special) => "left out: a device, pipe or socket".to_owned(),
            ExportNoteKind::Guest(GuestNoteKind::Unreadable) => "left out: it could not be read".to_owned(),
            ExportNoteKind::Guest(GuestNoteKind::TooDeep) => "left out: too deep inside other directories".to_owned(),
            ExportNoteKind::Guest(GuestNoteKind::Shrunk) => {
                "it became shorter while it was read; zeros fill it up".to_owned()
            }
        };
        Self { path: String::from_utf8_lossy(&note.path).into_owned(), note: words }
    }
}

impl Report for ExportReport {
    fn text(&self, _: bool) -> String {
        let size = units::size(self.bytes);
        let output = one_line(&self.output);
        match self.kind {
            "patch" if self.files == 0 => format!("{output}: an empty patch, nothing changed\n"),
            "file" => format!("{output}: {size}\n"),
            kind => format!("{output}: a {kind} with {}, {size}\n", units::count(self.files, "file", "files")),
        }
    }
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use pyro_engine::workspace::export::{ExportNote, ExportNoteKind, ExportSummary, GuestNoteKind};

    use super::{ExportReport, Report};

    #[test]
    fn an_export_tells_what_arrived_and_what_did_not() {
        let note = |path: &str, kind| ExportNote { path: path.into(), kind };
        let summary = ExportSummary {
            is_directory: true,
            files: 2,
            directories: 1,
            links: 1,
            bytes: 4096,
            sha256: "abc".to_owned(),
            notes: vec![
                note("l\x1b", ExportNoteKind::LinkOut { target: b"/etc".to_vec() }),
                note("p", ExportNoteKind::Guest(GuestNoteKind::Special)),
            ],
            note_count: 5,
        };
        let report = ExportReport::of_files("w".to_owned(), Path::new("out"), &summary);
        insta::assert_snapshot!(report.text(false) + &report.note_lines().join("\n"));
        insta::assert_json_snapshot!(report);
    }
}
