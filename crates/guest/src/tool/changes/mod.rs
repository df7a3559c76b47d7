//! Changes: what the workspace holds that its seed does not, and what it no longer holds.
//!
//! The two layers of the workspace's overlay are compared ([`layers`]), so that the cost grows with what changed: what
//! is not in the upper layer is as it was. What git would ignore is left out before it is entered ([`ignored`]), unless
//! the seed had it: that is somebody's file. What is gone and what is new with the same content is a rename ([`renames`]).

mod content;
mod ignored;
mod layers;
mod renames;
mod scope;

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use pyro_wire::changes::{
    CHANGES_MAX, CONTENT_BYTES_MAX, Change, ChangeContent, ChangeNote, ChangeNoteKind, Changes, ChangesEnd,
    ChangesLine, NOTES_MAX, Version, VersionKind,
};
use pyro_wire::exec::Word;
use pyro_wire::{Fault, FaultKind};

use super::stage::STAGE_NAME;
use super::{Answer, Ground, shown};
use ignored::Rules;
use layers::{Directory, Layers, Leaf, LeafKind, Node};
use scope::{Place, Scope};

/// Directories inside each other that are looked into.
const DEPTH_MAX: usize = 1024;

/// Tells what changed.
pub(super) fn changes(request: &Changes, ground: &Ground, answer: &mut Answer<impl Write>) -> Result<(), Fault> {
    let mut comparison = compare(request, ground)?;
    comparison.found.sort_unstable_by(|one, other| one.path.cmp(&other.path));
    let limit = request.content_bytes_max.map(|limit| limit.min(CONTENT_BYTES_MAX));
    for found in &comparison.found {
        if !send(found, limit, answer)? {
            comparison.notes.add(ChangeNoteKind::Unreadable, &found.path);
        }
    }
    comparison.notes.shown.sort_by_key(|note| note.kind);
    for note in comparison.notes.shown {
        answer.line(&ChangesLine::Note(note))?;
    }
    let notes = comparison.notes.counts.into_iter().collect();
    answer.line(&ChangesLine::End(ChangesEnd { ignored: comparison.ignored, notes }))
}

/// A path that is not as it was.
#[derive(Debug)]
struct Found {
    /// Relative to the workspace.
    path: Vec<u8>,
    renamed_from: Option<Vec<u8>>,
    old: Option<Leaf>,
    new: Option<Leaf>,
    /// The two have the same content.
    same_content: bool,
}

#[derive(Debug, Default)]
struct Notes {
    shown: Vec<ChangeNote>,
    counts: BTreeMap<ChangeNoteKind, u64>,
}

impl Notes {
    fn add(&mut self, kind: ChangeNoteKind, path: &[u8]) {
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        if *count <= NOTES_MAX {
            self.shown.push(ChangeNote { path: Word::from(path.to_vec()), kind });
        }
    }
}

fn compare<'a>(request: &Changes, ground: &'a Ground) -> Result<Comparison<'a>, Fault> {
    if !ground.lower.is_dir() || !ground.upper.is_dir() {
        return Err(Fault::new(FaultKind::WrongPhase, "this machine has no workspace to compare"));
    }
    let layers = Layers { lower: &ground.lower };
    let scope = Scope::read(&request.paths)?;
    let top = Directory { upper: Some(ground.upper.clone()), lower: Some(ground.lower.clone()) };
    let base = Directory { upper: None, lower: Some(ground.lower.clone()) };
    for path in scope.paths() {
        if !exists(layers, &top, path) && !exists(layers, &base, path) {
            let message = format!("{} is neither in the workspace nor in its baseline", shown(path));
            return Err(Fault::new(FaultKind::NotFound, message));
        }
    }
    let mut comparison =
        Comparison { layers, scope, all: request.all, found: Vec::new(), notes: Notes::default(), ignored: 0 };
    let rules = (!request.all).then(|| Rules::of_repository(layers, &top));
    let pair = Pair { view: &top, base: &base, rules: rules.as_ref(), ignored: false, depth: 0 };
    comparison.directory(&mut Vec::new(), pair)?;
    if !request.apart {
        renames::pair(&mut comparison.found);
    }
    Ok(comparison)
}

/// Whether there is something at a path.
fn exists(layers: Layers<'_>, top: &Directory, path: &[u8]) -> bool {
    let mut dir = top.clone();
    let mut parts = path.split(|byte| *byte == b'/').peekable();
    while let Some(part) = parts.next() {
        match layers.node(&dir, std::ffi::OsStr::from_bytes(part)) {
            Ok(Node::Directory { layers, .. }) => dir = layers,
            Ok(Node::Leaf(_)) => return parts.peek().is_none(),
            Ok(Node::Absent) | Err(_) => return false,
        }
    }
    true
}

struct Comparison<'a> {
    layers: Layers<'a>,
    scope: Scope,
    all: bool,
    found: Vec<Found>,
    notes: Notes,
    ignored: u64,
}

/// A directory now and in the baseline.
#[derive(Clone, Copy)]
struct Pair<'a> {
    view: &'a Directory,
    base: &'a Directory,
    /// What git ignores here, unless that is not asked.
    rules: Option<&'a Rules<'a>>,
    /// Something above is ignored, and so is all that is new in here.
    ignored: bool,
    depth: usize,
}

impl Comparison<'_> {
    /// Compares what the directory at `path` holds.
    fn directory(&mut self, path: &mut Vec<u8>, pair: Pair<'_>) -> Result<(), Fault> {
        if pair.view.is_baseline(pair.base) {
            return Ok(());
        }
        let Ok(names) = pair.view.names_to_compare(pair.base) else { return self.unreadable(path) };
        if pair.depth > DEPTH_MAX {
            return self.unreadable(path);
        }
        let own = pair
            .rules
            .filter(|_| !pair.ignored && !names.is_empty())
            .map(|above| Rules::inside(above, self.layers, pair.view, path));
        let pair = Pair { rules: own.as_ref().or(pair.rules), ..pair };
        let length = path.len();
        for name in names {
            if length > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(name.as_bytes());
            let is_stages = length == 0 && name == STAGE_NAME;
            if name != ".git" && !is_stages && self.scope.place(path) != Place::Outside {
                let nodes =
                    self.layers.node(pair.view, &name).and_then(|now| Ok((now, self.layers.node(pair.base, &name)?)));
                match nodes {
                    Ok((now, before)) => self.entry(path, pair, now, before)?,
                    Err(_) => self.unreadable(path)?,
                }
            }
            path.truncate(length);
        }
        Ok(())
    }

    fn entry(&mut self, path: &mut Vec<u8>, pair: Pair<'_>, now: Node, before: Node) -> Result<(), Fault> {
        let is_dir = matches!(now, Node::Directory { .. });
        let by_itself = || pair.rules.is_some_and(|rules| rules.ignore(as_path(path), is_dir));
        let ignored = !self.all && (pair.ignored || by_itself());
        let is_new = matches!(before, Node::Absent) && !matches!(now, Node::Absent);
        if ignored && is_new {
            self.ignored += u64::from(self.scope.place(path) == Place::Inside);
            return Ok(());
        }
        if is_new && is_refused_by_git(path) {
            self.notes.add(ChangeNoteKind::RefusedName, path);
            return Ok(());
        }
        let (now_dir, now_mode, now_leaf) = take_apart(now);
        let (before_dir, before_mode, before_leaf) = take_apart(before);
        if self.scope.place(path) == Place::Inside {
            // A file where a directory was is new, and may be ignored.
            let now_leaf = now_leaf.filter(|_| !ignored || before_leaf.is_some());
            self.leaf(path, before_leaf, now_leaf)?;
            if let (Some(before), Some(now)) = (before_mode, now_mode)
                && before != now
            {
                self.permissions(path, (before, now))?;
            }
            self.emptiness(path, now_dir.as_ref(), before_dir.as_ref());
        }
        if now_dir.is_some() || before_dir.is_some() {
            let (view, base) = (now_dir.unwrap_or_default(), before_dir.unwrap_or_default());
            let inner = Pair { view: &view, base: &base, rules: pair.rules, ignored, depth: pair.depth + 1 };
            self.directory(path, inner)?;
        }
        Ok(())
    }

    /// Compares what is no directory.
    fn leaf(&mut self, path: &[u8], old: Option<Leaf>, new: Option<Leaf>) -> Result<(), Fault> {
        if new.as_ref().is_some_and(|leaf| leaf.kind == LeafKind::Special) {
            self.notes.add(ChangeNoteKind::Special, path);
        }
        let known = |leaf: Option<Leaf>| leaf.filter(|leaf| leaf.kind != LeafKind::Special);
        let (old, new) = (known(old), known(new));
        let same_content = match (&old, &new) {
            (None, None) => return Ok(()),
            (Some(old), Some(new)) => match content::same(old, new) {
                Ok(same) => same,
                Err(_) => return self.unreadable(path),
            },
            _ => false,
        };
        if let (true, Some(old), Some(new)) = (same_content, &old, &new)
            && (old.mode == new.mode || old.kind == LeafKind::Symlink)
        {
            return Ok(());
        }
        self.push(Found { path: path.to_vec(), renamed_from: None, old, new, same_content })
    }

    fn permissions(&mut self, path: &[u8], (before, now): (u32, u32)) -> Result<(), Fault> {
        let version = |mode| {
            let kind = LeafKind::Directory;
            Some(Leaf { place: Path::new("").to_owned(), kind, mode, size_bytes: 0, identity: (0, 0) })
        };
        let (old, new) = (version(before), version(now));
        self.push(Found { path: path.to_vec(), renamed_from: None, old, new, same_content: true })
    }

    /// Notes a directory that came to be empty, or was and is gone.
    fn emptiness(&mut self, path: &[u8], now: Option<&Directory>, before: Option<&Directory>) {
        let is_empty = |dir: Option<&Directory>| dir.map(|dir| self.layers.is_empty(dir).unwrap_or(false));
        let differs = match (now, before) {
            (Some(now), Some(before)) if now.is_baseline(before) => false,
            (now, before) => (is_empty(now) == Some(true)) != (is_empty(before) == Some(true)),
        };
        if differs {
            self.notes.add(ChangeNoteKind::EmptyDirectory, path);
        }
    }

    fn push(&mut self, found: Found) -> Result<(), Fault> {
        if self.found.len() >= CHANGES_MAX {
            let message = format!("more than {CHANGES_MAX} paths changed; name those that matter");
            return Err(Fault::new(FaultKind::LimitReached, message));
        }
        self.found.push(found);
        Ok(())
    }

    fn unreadable(&mut self, path: &[u8]) -> Result<(), Fault> {
        self.notes.add(ChangeNoteKind::Unreadable, path);
        Ok(())
    }
}

fn take_apart(node: Node) -> (Option<Directory>, Option<u32>, Option<Leaf>) {
    match node {
        Node::Absent => (None, None, None),
        Node::Directory { layers, mode } => (Some(layers), Some(mode), None),
        Node::Leaf(leaf) => (None, None, Some(leaf)),
    }
}

fn as_path(bytes: &[u8]) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

/// Whether git takes the last part of a path for its own directory on some system, and so refuses it everywhere.
fn is_refused_by_git(path: &[u8]) -> bool {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
    name.split(|byte| *byte == b'\\').any(|part| {
        let part = part.split(|byte| *byte == b':').next().unwrap_or(part);
        let end = part.iter().rposition(|byte| !matches!(byte, b' ' | b'.')).map_or(0, |last| last + 1);
        part[..end].eq_ignore_ascii_case(b".git") || part[..end].eq_ignore_ascii_case(b"git~1")
    })
}

/// Sends one change; whether it could be read.
fn send(found: &Found, limit: Option<u64>, answer: &mut Answer<impl Write>) -> Result<bool, Fault> {
    let mut contents = [Vec::new(), Vec::new()];
    let content = match limit {
        _ if found.same_content => ChangeContent::Unchanged,
        None => ChangeContent::Withheld,
        Some(limit) => {
            let mut content = ChangeContent::Sent;
            for (bytes, leaf) in contents.iter_mut().zip([&found.old, &found.new]) {
                match leaf.as_ref().map(|leaf| content::read(leaf, limit)) {
                    None => {}
                    Some(Ok(Some(read))) => *bytes = read,
                    Some(Ok(None)) => content = ChangeContent::TooLarge,
                    Some(Err(_)) => return Ok(false),
                }
            }
            content
        }
    };
    let [old, new] = &contents;
    let version = |leaf: &Option<Leaf>, bytes: &[u8]| {
        leaf.as_ref().map(|leaf| Version {
            kind: match leaf.kind {
                LeafKind::Symlink => VersionKind::Symlink,
                LeafKind::Directory => VersionKind::Directory,
                LeafKind::File | LeafKind::Special => VersionKind::File,
            },
            mode: leaf.mode,
            size_bytes: if content == ChangeContent::Sent { bytes.len() as u64 } else { leaf.size_bytes },
        })
    };
    let is_large = content == ChangeContent::TooLarge;
    answer.line(&ChangesLine::Change(Change {
        path: Word::from(found.path.clone()),
        renamed_from: found.renamed_from.clone().map(Word::from),
        old: version(&found.old, old),
        new: version(&found.new, new),
        content,
        changed_unix_ns: found.new.as_ref().filter(|_| is_large).and_then(content::changed_unix_ns),
    }))?;
    if content == ChangeContent::Sent {
        answer.raw(old)?;
        answer.raw(new)?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    #[track_caller]
    fn check(path: &str, refused: bool) {
        assert_eq!(super::is_refused_by_git(path.as_bytes()), refused, "{path}");
    }

    #[test]
    fn names_that_git_keeps_to_itself_are_known() {
        for path in ["a/.GIT", ".git ", ".git...", "GIT~1", ".git:stream", "a\\.git"] {
            check(path, true);
        }
        for path in ["a/.github", ".gitignore", "git", "git~2", ".git/x", "..git"] {
            check(path, false);
        }
    }
}
