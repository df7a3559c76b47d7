//! The public shape of what `sync push` did.

use pyro_engine::workspace::guest_path::GuestPath;
use pyro_engine::workspace::sync::Pushed;
use serde::Serialize;

use super::clean::one_line;
use super::seed::NoteReport;
use super::{Report, units};

/// Names in one line of text.
const NAMED_MAX: usize = 8;

/// What a push did.
#[derive(Debug, Serialize)]
pub(crate) struct PushReport {
    workspace: String,
    /// The path on this host.
    source: String,
    /// The directory in the guest.
    destination: String,
    /// Put where nothing had been.
    created: u64,
    /// Put in the place of something, or given another mode.
    replaced: u64,
    /// Removed.
    removed: u64,
    /// The same on both sides.
    same: u64,
    /// Bytes of content that were sent.
    sent_bytes: u64,
    /// What had been there and is not any more; the first thousand.
    overwritten: Vec<OverwrittenRow>,
    overwritten_count: u64,
    /// How much of it somebody in the guest had made or changed.
    guest_changes: u64,
    /// What could not be done; the first thousand.
    failed: Vec<FailedRow>,
    failed_count: u64,
    /// The `.git` of repositories in the guest that were left as they are.
    repositories_kept: Vec<String>,
    /// SHA-256 of what was sent.
    digest: String,
    /// What should be known of the source.
    pub(crate) notes: Vec<NoteReport>,
}

/// Something of the guest that is not any more.
#[derive(Debug, Serialize)]
struct OverwrittenRow {
    /// Below the destination; what is not UTF-8 is replaced.
    path: String,
    /// Nothing is there now; otherwise what the source has.
    removed: bool,
    /// Somebody in the guest had made or changed it.
    guest_change: bool,
}

/// Something that could not be put or removed.
#[derive(Debug, Serialize)]
struct FailedRow {
    path: String,
    reason: String,
}

impl PushReport {
    pub(crate) fn new(workspace: String, source: String, destination: &GuestPath, pushed: Pushed) -> Self {
        let overwritten = pushed.overwritten.iter().map(|gone| OverwrittenRow {
            path: text(&gone.path),
            removed: gone.removed,
            guest_change: gone.guest_change,
        });
        let failed = pushed.failed.iter().map(|one| FailedRow { path: text(&one.path), reason: one_line(&one.reason) });
        Self {
            workspace,
            source,
            destination: destination.to_string(),
            created: pushed.created,
            replaced: pushed.replaced,
            removed: pushed.removed,
            same: pushed.same,
            sent_bytes: pushed.sent_bytes,
            overwritten: overwritten.collect(),
            overwritten_count: pushed.overwritten_count,
            guest_changes: pushed.guest_changes,
            failed: failed.collect(),
            failed_count: pushed.failed_count,
            repositories_kept: pushed.repositories_kept.iter().map(|path| text(path)).collect(),
            digest: pushed.digest,
            notes: NoteReport::of(&pushed.notes),
        }
    }

    /// The names of those that are wanted, cut to what a line can hold.
    fn named<'a>(count: u64, paths: impl Iterator<Item = &'a str>) -> String {
        let mut names: Vec<String> = paths.take(NAMED_MAX).map(one_line).collect();
        if count > names.len() as u64 {
            names.push("…".to_owned());
        }
        names.join(", ")
    }
}

impl Report for PushReport {
    fn text(&self, _: bool) -> String {
        let mut text = if self.created + self.replaced + self.removed + self.failed_count == 0 {
            format!("{} is up to date: nothing was sent\n", one_line(&self.destination))
        } else {
            let Self { created, replaced, removed, same, .. } = self;
            let sent = units::size(self.sent_bytes);
            let place = one_line(&self.destination);
            format!("sent {sent} to {place}: {created} new, {replaced} replaced, {removed} removed, {same} the same\n")
        };
        if self.guest_changes > 0 {
            let changed = self.overwritten.iter().filter(|row| row.guest_change).map(|row| row.path.as_str());
            let names = Self::named(self.guest_changes, changed);
            text.push_str(&format!("changes of the guest are gone ({}): {names}\n", self.guest_changes));
        }
        for kept in &self.repositories_kept {
            text.push_str(&format!("{} stays as it is in the guest\n", one_line(kept)));
        }
        for failed in self.failed.iter().take(NAMED_MAX) {
            text.push_str(&format!("failed: {}: {}\n", one_line(&failed.path), failed.reason));
        }
        if self.failed_count > NAMED_MAX as u64 {
            text.push_str(&format!("failed: {} more\n", self.failed_count - NAMED_MAX as u64));
        }
        text
    }

    fn ok(&self) -> bool {
        self.failed_count == 0
    }
}

fn text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

#[cfg(test)]
mod tests {
    use pyro_engine::workspace::guest_path::GuestPath;
    use pyro_engine::workspace::seed::SeedNotes;
    use pyro_engine::workspace::sync::{Failed, Overwritten, Pushed};

    use super::{PushReport, Report};

    fn report(pushed: Pushed) -> PushReport {
        PushReport::new("0123456789ab".to_owned(), "src".to_owned(), &GuestPath::workspace(), pushed)
    }

    fn nothing() -> Pushed {
        Pushed {
            created: 0,
            replaced: 0,
            removed: 0,
            same: 7,
            sent_bytes: 0,
            overwritten: Vec::new(),
            overwritten_count: 0,
            guest_changes: 0,
            failed: Vec::new(),
            failed_count: 0,
            repositories_kept: Vec::new(),
            digest: "e3b0".to_owned(),
            notes: SeedNotes::default(),
        }
    }

    #[test]
    fn a_push_of_nothing_says_so() {
        let report = report(nothing());
        assert!(report.ok());
        assert_eq!(report.text(false), "/workspace is up to date: nothing was sent\n");
    }

    #[test]
    fn what_was_lost_and_what_failed_is_named() {
        let gone = |path: &str, guest_change| Overwritten { path: path.into(), removed: false, guest_change };
        let report = report(Pushed {
            created: 2,
            replaced: 2,
            sent_bytes: 3 << 20,
            overwritten: vec![gone("a", true), gone("b\x1b[2J", false)],
            overwritten_count: 2,
            guest_changes: 1,
            failed: vec![Failed { path: b"d\n".to_vec(), reason: "a directory\nis there".to_owned() }],
            failed_count: 1,
            repositories_kept: vec![b".git".to_vec()],
            ..nothing()
        });
        assert!(!report.ok());
        insta::assert_snapshot!(report.text(false));
        insta::assert_snapshot!(serde_json::to_string(&report).unwrap());
    }
}
