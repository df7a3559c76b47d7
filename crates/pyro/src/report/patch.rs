//! The public shape of a patch that was applied, and why one was not.

use pyro_engine::workspace::patch::{PatchAction, PatchMode, PatchedFile, Rejection};
use serde::Serialize;

use super::Report;
use super::clean::{self, one_line};

/// A patch that was applied, or would be.
#[derive(Debug, Serialize)]
pub(crate) struct PatchReport {
    workspace: String,
    /// Whether nothing was changed.
    dry_run: bool,
    files: Vec<PatchedRow>,
}

/// What a patch did to one file.
#[derive(Debug, Serialize)]
struct PatchedRow {
    /// Relative to the workspace; what is not UTF-8 is replaced.
    path: String,
    /// `created`, `deleted`, `modified`, `renamed` or `copied`.
    status: &'static str,
    /// What it is a copy or the new name of.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    added: u64,
    removed: u64,
    hunks: Vec<HunkRow>,
}

/// Where a hunk went.
#[derive(Debug, Serialize)]
struct HunkRow {
    line: u64,
    /// How many lines further down than the patch says.
    offset: i64,
}

impl PatchReport {
    pub(crate) fn new(workspace: String, mode: PatchMode, files: Vec<PatchedFile>) -> Self {
        Self { workspace, dry_run: mode == PatchMode::DryRun, files: files.into_iter().map(PatchedRow::from).collect() }
    }
}

impl From<PatchedFile> for PatchedRow {
    fn from(file: PatchedFile) -> Self {
        Self {
            path: text(file.path.as_bytes()),
            status: match file.action {
                PatchAction::Create => "created",
                PatchAction::Delete => "deleted",
                PatchAction::Modify => "modified",
                PatchAction::Rename => "renamed",
                PatchAction::Copy => "copied",
            },
            from: file.from.map(|from| text(from.as_bytes())),
            added: file.added,
            removed: file.removed,
            hunks: file.hunks.iter().map(|hunk| HunkRow { line: hunk.line, offset: hunk.offset }).collect(),
        }
    }
}

impl Report for PatchReport {
    fn text(&self, _: bool) -> String {
        let mut text: String = self.files.iter().map(|file| file.line() + "\n").collect();
        if self.dry_run {
            text.push_str("nothing was changed: this was a dry run\n");
        }
        text
    }
}

impl PatchedRow {
    fn line(&self) -> String {
        let name = one_line(&self.path);
        let name = self.from.as_ref().map_or(name.clone(), |from| format!("{} => {name}", one_line(from)));
        let mut line = format!("{} {name} (+{} -{})", self.status, self.added, self.removed);
        let moved = self.hunks.iter().filter(|hunk| hunk.offset != 0).count();
        match (moved, &self.hunks[..]) {
            (0, _) => {}
            (_, [only]) => line.push_str(&format!(", {} lines from where it says", only.offset.unsigned_abs())),
            (_, all) => line.push_str(&format!(", {moved} of {} hunks not where they say", all.len())),
        }
        line
    }
}

/// What a hunk that did not fit expected, and what there is, a line each, safe to be shown. Nothing for other rejections.
pub(crate) fn rejection_lines(rejection: &Rejection) -> Vec<String> {
    let mut lines = vec![format!("{}: {}", one_line(&text(rejection.path.as_bytes())), one_line(&rejection.reason))];
    let Some(hunk) = &rejection.hunk else { return lines };
    lines.push(format!("  {}", shown(&hunk.header)));
    if !hunk.fits_at.is_empty() {
        let numbers: Vec<String> = hunk.fits_at.iter().map(u64::to_string).collect();
        lines.push(format!("  it fits at lines {}", numbers.join(", ")));
    }
    if !hunk.expected.is_empty() {
        lines.push("  it expects:".to_owned());
        lines.extend(hunk.expected.iter().map(|line| format!("          {}", shown(line))));
    }
    if !hunk.nearest.is_empty() {
        lines.push("  most like it is:".to_owned());
        lines.extend(hunk.nearest.iter().map(|line| format!("    {:>5} {}", line.number, shown(&line.text))));
    }
    lines
}

/// A line of a file, its blanks kept.
fn shown(line: &str) -> String {
    clean::lines(line.as_bytes()).replace('\n', " ")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use pyro_engine::workspace::files::NearLine;
    use pyro_engine::workspace::patch::{HunkPlace, MissedHunk, PatchAction, PatchMode, PatchedFile, Rejection};

    use super::{PatchReport, Report, rejection_lines};

    #[test]
    fn a_patch_tells_what_it_did() {
        let hunks = vec![HunkPlace { line: 3, offset: 0 }, HunkPlace { line: 9, offset: -2 }];
        let modified =
            PatchedFile { path: "x".into(), action: PatchAction::Modify, from: None, hunks, added: 2, removed: 1 };
        let renamed = PatchedFile {
            path: "new".into(),
            action: PatchAction::Rename,
            from: Some("old".into()),
            hunks: vec![HunkPlace { line: 9, offset: 4 }],
            added: 0,
            removed: 0,
        };
        let report = PatchReport::new("w".to_owned(), PatchMode::DryRun, vec![modified, renamed]);
        insta::assert_snapshot!(report.text(false));
        insta::assert_json_snapshot!(report);
    }

    #[test]
    fn a_rejection_shows_what_is_there() {
        let hunk = MissedHunk {
            number: 1,
            header: "@@ -1,2 +1,2 @@".to_owned(),
            expected: vec!["fn a() {".to_owned(), "    b\x1b".to_owned()],
            nearest: vec![NearLine { number: 12, text: "fn a() {".to_owned() }],
            difference: None,
            fits_at: Vec::new(),
        };
        let rejection = Rejection { path: "x".into(), reason: "hunk 1 does not fit".to_owned(), hunk: Some(hunk) };
        insta::assert_snapshot!(rejection_lines(&rejection).join("\n"));
    }
}
