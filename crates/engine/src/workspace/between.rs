//! What changed between a snapshot and now: two guests are asked what each changed since the baseline, and the two answers
//! become one.
//!
//! The second guest is a machine of the moment on the snapshot's layers. What both changed in the same way did not change
//! in between; what only the first did was taken back. Contents are compared here, a file at a time. The answer is one as a single
//! guest would give it, and whoever reads it checks it as such.

use std::cmp::Ordering;

use pyro_wire::Tool;
use pyro_wire::changes::{
    CHANGES_MAX, CONTENT_BYTES_MAX, Change, ChangeContent, ChangeNote, Changes, ChangesEnd, ChangesLine, NOTES_MAX,
    Version, VersionKind,
};
use tokio::io::AsyncWriteExt;

use super::answer::{self, Answer};
use super::diff::FILE_BYTES_MAX;
use super::looker::Looker;
use super::tool::{ToolError, ToolHost, ToolInput, ToolOutput, garbled};
use crate::store::crossing_record::Crossing;

/// More kinds of notes than there are.
const NOTE_KINDS_MAX: u64 = 16;

/// Answers for two guests: what `now` holds that `before` did not.
#[derive(Debug)]
pub struct Between<'a, A, B> {
    /// The workspace as it was.
    pub before: &'a A,
    /// The workspace as it is.
    pub now: &'a B,
}

impl<A: ToolHost, B: ToolHost> ToolHost for Between<'_, A, B> {
    async fn call(&self, tool: Tool, input: Option<ToolInput<'_>>, output: ToolOutput<'_>) -> Result<(), ToolError> {
        let (Tool::Changes(asked), None) = (tool, input) else {
            return Err(garbled("two guests together can only be asked for changes"));
        };
        let names_only = asked.content_bytes_max.is_none();
        // What is at a path may be there for one of the two only, and so neither is asked for some paths.
        let scope = asked.paths.iter().map(|path| relative(path.as_bytes())).collect();
        let tool = Changes { paths: Vec::new(), content_bytes_max: Some(FILE_BYTES_MAX), apart: true, ..asked };
        let tool = Tool::Changes(tool);
        let (feed_before, before) = answer::pair();
        let (feed_now, now) = answer::pair();
        let merge = Merge { before: Side::new(before), now: Side::new(now), output, names_only, scope };
        answer::both(
            answer::feed(self.before, tool.clone(), None, feed_before),
            answer::both(answer::feed(self.now, tool, None, feed_now), merge.run()),
        )
        .await
    }

    async fn looker(&self) -> Result<Option<Looker>, ToolError> {
        self.now.looker().await
    }

    async fn cross(&self, crossing: Crossing) -> Result<(), ToolError> {
        self.now.cross(crossing).await
    }
}

/// One guest's answer.
struct Side {
    answer: Option<Answer>,
    next: Option<Item>,
    notes: Vec<ChangeNote>,
    ignored: u64,
    seen: usize,
}

/// A change and its contents.
struct Item {
    change: Change,
    old: Vec<u8>,
    new: Vec<u8>,
}

impl Side {
    fn new(answer: Answer) -> Self {
        Self { answer: Some(answer), next: None, notes: Vec::new(), ignored: 0, seen: 0 }
    }

    /// Reads on, to the next change or to the end.
    async fn advance(&mut self) -> Result<(), ToolError> {
        self.next = None;
        let Some(answer) = &mut self.answer else { return Ok(()) };
        loop {
            match answer.line().await? {
                ChangesLine::Change(change) => {
                    self.seen += 1;
                    let (mut old, mut new) = (Vec::new(), Vec::new());
                    if change.content == ChangeContent::Sent {
                        old = contents(answer, change.old.as_ref()).await?;
                        new = contents(answer, change.new.as_ref()).await?;
                    }
                    if self.seen > CHANGES_MAX || change.renamed_from.is_some() {
                        return Err(garbled("more changes than there may be, or a rename that nobody asked for"));
                    }
                    self.next = Some(Item { change, old, new });
                    return Ok(());
                }
                ChangesLine::Note(note) => {
                    if self.notes.len() as u64 >= NOTES_MAX * NOTE_KINDS_MAX {
                        return Err(garbled("more notes than there may be"));
                    }
                    self.notes.push(note);
                }
                ChangesLine::End(ChangesEnd { ignored, .. }) => {
                    self.ignored = ignored;
                    if let Some(answer) = self.answer.take() {
                        answer.end().await?;
                    }
                    return Ok(());
                }
            }
        }
    }
}

async fn contents(answer: &mut Answer, version: Option<&Version>) -> Result<Vec<u8>, ToolError> {
    match version {
        None => Ok(Vec::new()),
        Some(version) if version.size_bytes <= FILE_BYTES_MAX.min(CONTENT_BYTES_MAX) => {
            answer.bytes(version.size_bytes).await
        }
        Some(_) => Err(garbled("content that nobody asked for")),
    }
}

struct Merge<'a> {
    before: Side,
    now: Side,
    output: ToolOutput<'a>,
    names_only: bool,
    /// Only what is at or below these, relative to the workspace; empty for everything.
    scope: Vec<Vec<u8>>,
}

impl Merge<'_> {
    async fn run(mut self) -> Result<(), ToolError> {
        self.before.advance().await?;
        self.now.advance().await?;
        loop {
            let order = match (&self.before.next, &self.now.next) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(before), Some(now)) => before.change.path.as_bytes().cmp(now.change.path.as_bytes()),
            };
            let before = if order == Ordering::Greater { None } else { self.before.next.take() };
            let now = if order == Ordering::Less { None } else { self.now.next.take() };
            let (had_before, had_now) = (before.is_some(), now.is_some());
            let item = between(before, now).filter(|item| self.is_wanted(item.change.path.as_bytes()));
            if let Some(item) = item {
                self.send(item).await?;
            }
            if had_before {
                self.before.advance().await?;
            }
            if had_now {
                self.now.advance().await?;
            }
        }
        let known = std::mem::take(&mut self.before.notes);
        let notes: Vec<ChangeNote> = self.now.notes.iter().filter(|note| !known.contains(note)).cloned().collect();
        let mut counts = std::collections::BTreeMap::new();
        for note in notes {
            *counts.entry(note.kind).or_insert(0) += 1;
            self.line(&ChangesLine::Note(note)).await?;
        }
        let end = ChangesEnd { ignored: self.now.ignored, notes: counts.into_iter().collect() };
        self.line(&ChangesLine::End(end)).await
    }

    fn is_wanted(&self, path: &[u8]) -> bool {
        let holds = |top: &Vec<u8>| {
            let rest = path.strip_prefix(top.as_slice());
            top.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        self.scope.is_empty() || self.scope.iter().any(holds)
    }

    async fn send(&mut self, item: Item) -> Result<(), ToolError> {
        let Item { mut change, old, new } = item;
        if self.names_only && change.content == ChangeContent::Sent {
            change.content = ChangeContent::Withheld;
        }
        let is_sent = change.content == ChangeContent::Sent;
        self.line(&ChangesLine::Change(change)).await?;
        if is_sent {
            self.raw(&old).await?;
            self.raw(&new).await?;
        }
        Ok(())
    }

    async fn line(&mut self, line: &ChangesLine) -> Result<(), ToolError> {
        let mut bytes = serde_json::to_vec(line).map_err(|_| garbled("a line that cannot be told on"))?;
        bytes.push(b'\n');
        self.raw(&bytes).await
    }

    async fn raw(&mut self, bytes: &[u8]) -> Result<(), ToolError> {
        self.output.write_all(bytes).await.map_err(|source| ToolError::Output { source })
    }
}

/// A path of the guest as it is in the workspace.
fn relative(path: &[u8]) -> Vec<u8> {
    let inside = path.strip_prefix(pyro_wire::lifecycle::WORKSPACE_MOUNT.as_bytes());
    let parts = inside.unwrap_or(path).split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
    parts.collect::<Vec<_>>().join(&b'/')
}

/// What is known of the content of a version.
#[derive(Clone, PartialEq, Eq)]
enum Content {
    Bytes(Vec<u8>),
    /// That of the baseline, which was not sent.
    Baseline,
    /// It is too large; its size, and when it was last changed, tell it apart.
    Large(u64, Option<i64>),
}

/// A path that at least one of the two changed since the baseline: how it differs between them, if it does.
fn between(before: Option<Item>, now: Option<Item>) -> Option<Item> {
    match (before, now) {
        (None, now) => now,
        // It was taken back.
        (Some(Item { change, old, new }), None) => {
            let change = Change { old: change.new, new: change.old, changed_unix_ns: None, ..change };
            Some(Item { change, old: new, new: old })
        }
        (Some(before), Some(now)) => both_changed(before, now),
    }
}

fn both_changed(before: Item, now: Item) -> Option<Item> {
    let baseline = [&before, &now].into_iter().find(|item| item.change.content == ChangeContent::Sent);
    let baseline = baseline.map(|item| item.old.clone());
    let resolve = |content| match (content, &baseline) {
        (Content::Baseline, Some(bytes)) => Content::Bytes(bytes.clone()),
        (content, _) => content,
    };
    let (mut old, mut new) = (resolve(content_now(&before)), resolve(content_now(&now)));
    let (mut before, mut now) = (before.change, now.change);
    // A patch tells of a directory only that its permissions are others.
    let is_directory =
        |version: &Option<Version>| version.as_ref().is_some_and(|version| version.kind == VersionKind::Directory);
    match (is_directory(&before.new), is_directory(&now.new)) {
        (true, false) => (before.new, old) = (None, Content::nothing()),
        (false, true) => (now.new, new) = (None, Content::nothing()),
        _ => {}
    }
    let (content, old, new) = match (old, new, &before.new, &now.new) {
        (_, _, None, None) => return None,
        (old, new, Some(one), Some(other)) if old == new && one.kind == other.kind => {
            if one.mode == other.mode {
                return None;
            }
            (ChangeContent::Unchanged, Vec::new(), Vec::new())
        }
        (Content::Bytes(old), Content::Bytes(new), ..) => (ChangeContent::Sent, old, new),
        _ => (ChangeContent::TooLarge, Vec::new(), Vec::new()),
    };
    if content == ChangeContent::Sent {
        for (version, bytes) in [(&mut before.new, &old), (&mut now.new, &new)] {
            version.iter_mut().for_each(|version| version.size_bytes = bytes.len() as u64);
        }
    }
    let changed_unix_ns = now.changed_unix_ns.filter(|_| content == ChangeContent::TooLarge);
    let change = Change { old: before.new, new: now.new, content, changed_unix_ns, ..now };
    Some(Item { change, old, new })
}

impl Content {
    fn nothing() -> Self {
        Self::Bytes(Vec::new())
    }
}

/// What is known of what a guest has at a path now.
fn content_now(item: &Item) -> Content {
    match (item.change.content, &item.change.new) {
        (_, None) => Content::nothing(),
        (ChangeContent::Unchanged, Some(_)) => Content::Baseline,
        (ChangeContent::Sent, Some(_)) => Content::Bytes(item.new.clone()),
        (ChangeContent::TooLarge | ChangeContent::Withheld, Some(new)) => {
            Content::Large(new.size_bytes, item.change.changed_unix_ns)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use super::super::diff::{DiffRequest, Secrecy, names, patch};
    use super::super::tool::CannedHost;
    use super::Between;

    const END: &str = r#"{"end":{"ignored":0,"notes":[]}}"#;

    /// One change of a file whose content travels; a version that is not there is `None`.
    fn change(path: &str, old: Option<&str>, new: Option<&str>) -> String {
        let version = |name: &str, text: Option<&str>| {
            text.map(|text| format!(r#""{name}":{{"kind":"file","mode":420,"size_bytes":{}}},"#, text.len()))
        };
        let versions = version("old", old).unwrap_or_default() + &version("new", new).unwrap_or_default();
        let line = format!(r#"{{"change":{{"path":"{path}",{versions}"content":"sent"}}}}"#);
        format!("{line}\n{}{}", old.unwrap_or_default(), new.unwrap_or_default())
    }

    fn mode_change(path: &str, old: u32, new: u32) -> String {
        let version = |mode| format!(r#"{{"kind":"file","mode":{mode},"size_bytes":2}}"#);
        let (old, new) = (version(old), version(new));
        format!("{{\"change\":{{\"path\":\"{path}\",\"old\":{old},\"new\":{new},\"content\":\"unchanged\"}}}}\n")
    }

    async fn patch_of(before: &[String], now: &[String]) -> String {
        let host = |changes: &[String]| CannedHost::answering(format!("{}{END}\n", changes.concat()));
        let (before, now) = (host(before), host(now));
        let between = Between { before: &before, now: &now };
        let mut text = Vec::new();
        let request = DiffRequest::default();
        let summary = patch(&between, &request, Secrecy::Cut, &mut text).await.unwrap();
        let named = names(&between, &request).await.unwrap();
        let paths = |files: &[super::super::diff::FileChange]| -> Vec<_> {
            files.iter().map(|file| (file.change.path.clone(), file.status)).collect()
        };
        assert_eq!(paths(&summary.files), paths(&named.files), "the names say what the patch says");
        let text = String::from_utf8(text).unwrap();
        text.lines().filter(|line| !line.starts_with("index ")).map(|line| format!("{line}\n")).collect()
    }

    #[track_caller]
    fn check(before: &[String], now: &[String], expected: &[&str]) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let patch = runtime.block_on(patch_of(before, now));
        let changed: Vec<&str> =
            patch.lines().filter(|line| !line.starts_with("diff ") && !line.starts_with("@@")).collect();
        assert_eq!(changed, expected, "{patch}");
    }

    #[test]
    fn what_both_did_is_no_change_and_what_only_the_first_did_is_taken_back() {
        let same = change("same", Some("1\n"), Some("2\n"));
        check(from_ref(&same), from_ref(&same), &[]);
        let seed = |text| change("f", Some("1\n"), text);
        check(&[seed(Some("2\n"))], &[], &["--- a/f", "+++ b/f", "-2", "+1"]);
        check(&[], &[seed(Some("3\n"))], &["--- a/f", "+++ b/f", "-1", "+3"]);
        check(&[seed(Some("2\n"))], &[seed(Some("3\n"))], &["--- a/f", "+++ b/f", "-2", "+3"]);
        check(&[seed(Some("2\n"))], &[seed(None)], &["deleted file mode 100644", "--- a/f", "+++ /dev/null", "-2"]);
        check(&[seed(None)], &[seed(Some("2\n"))], &["new file mode 100644", "--- /dev/null", "+++ b/f", "+2"]);
        check(&[seed(None)], &[seed(None)], &[]);
        let new = |text| change("n", None, Some(text));
        check(&[new("1\n")], &[], &["deleted file mode 100644", "--- a/n", "+++ /dev/null", "-1"]);
        check(&[new("1\n")], &[new("1\n")], &[]);
    }

    #[test]
    fn the_baseline_is_known_from_whoever_sent_it() {
        let mode = mode_change("f", 0o644, 0o755);
        let text = change("f", Some("1\n"), Some("2\n"));
        let modes = ["old mode 100755", "new mode 100644"];
        check(from_ref(&mode), from_ref(&text), &[&modes[..], &["--- a/f", "+++ b/f", "-1", "+2"]].concat());
        let modes = ["old mode 100644", "new mode 100755"];
        check(from_ref(&text), from_ref(&mode), &[&modes[..], &["--- a/f", "+++ b/f", "-2", "+1"]].concat());
        check(from_ref(&mode), from_ref(&mode), &[]);
    }
}
