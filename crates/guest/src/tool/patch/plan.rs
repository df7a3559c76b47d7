//! What a patch comes to: each file's part worked out on what is there and on what the parts before it made, before anything
//! is written.
//!
//! As `git apply` has it, parts of a patch do not depend on their order where they move files: what a rename or copy is made
//! of is what was there before the patch, and a path that some part removes can be taken by any other.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use pyro_wire::exec::Word;
use pyro_wire::files::NearLine;
use pyro_wire::patch::{
    HunkPlace, MissedHunk, PATCHED_FILE_BYTES_MAX, PatchAction, PatchedFile, Rejection, SHOWN_LINES_MAX,
};

use super::super::files::nearest;
use super::super::shown;
use super::disk::{Beyond, Disk, FileContent, Thing, above};
use super::parse::{FilePatch, GitMode, Hunk, Origin, Sign};
use super::place::{Image, Miss};

/// What a patch comes to.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// What is to be at each path that changes.
    pub(super) after: BTreeMap<Vec<u8>, Thing>,
    pub(super) files: Vec<PatchedFile>,
    pub(super) rejections: Vec<Rejection>,
}

/// Works out a patch.
pub(super) fn plan(disk: &Disk, patch: &[FilePatch<'_>]) -> Plan {
    let mut planner = Planner { disk, plan: Plan::default(), leaving: BTreeSet::new(), made: BTreeSet::new() };
    let patch = patch.iter().map(|file| planner.settle(file)).collect::<Vec<_>>();
    for file in &patch {
        if let (Some(old), true) = (&file.old, file.new.is_none() || file.origin == Origin::Renamed) {
            planner.leaving.insert(old.clone());
        }
    }
    for file in &patch {
        match planner.file(file) {
            Ok(done) => planner.plan.files.push(done),
            Err(rejection) => planner.plan.rejections.push(*rejection),
        }
    }
    planner.check_directories();
    planner.plan
}

struct Planner<'a> {
    disk: &'a Disk,
    plan: Plan,
    /// Paths that some part of the patch removes or renames.
    leaving: BTreeSet<Vec<u8>>,
    /// Paths that a part of the patch has put something at.
    made: BTreeSet<Vec<u8>>,
}

impl Planner<'_> {
    /// Decides what was left open by a patch that is not git's own: which names are meant, and whether a file is new.
    fn settle<'p>(&self, file: &FilePatch<'p>) -> FilePatch<'p> {
        let mut file = file.clone();
        let is_there = |name: &[u8]| !matches!(self.disk.thing(name), Ok(Thing::Absent));
        if let (true, Some(name)) = (file.unsure_names, &file.old)
            && !is_there(name)
            && let Some(rest) = super::names::strip_one(name).map(<[u8]>::to_vec)
            && is_there(&rest)
        {
            (file.old, file.new) = (file.old.as_ref().map(|_| rest.clone()), file.new.as_ref().map(|_| rest));
        }
        if file.may_be_new && file.new.is_some() && file.old.as_ref().is_some_and(|name| !is_there(name)) {
            file.old = None;
        }
        file
    }

    fn file(&mut self, patch: &FilePatch<'_>) -> Result<PatchedFile, Box<Rejection>> {
        let name = patch.new.as_ref().or(patch.old.as_ref()).map(Vec::as_slice).unwrap_or_default();
        let reject = |reason: String| Box::new(Rejection { path: Word::from(name.to_vec()), reason, hunk: None });
        for name in [&patch.old, &patch.new].into_iter().flatten() {
            check_name(name).map_err(|reason| reject(reason.to_owned()))?;
        }
        let before = self.source(patch).map_err(reject)?;
        let (bytes, hunks) = apply(patch, &content(&before)).map_err(|unfit| {
            let Unfit { reason, hunk } = *unfit;
            Box::new(Rejection { hunk, ..*reject(reason) })
        })?;
        let after = after(patch, &before, bytes).map_err(reject)?;
        if let Some(new) = &patch.new {
            self.check_target(patch, new).map_err(reject)?;
        }
        self.record(patch, after);
        let count =
            |sign| patch.hunks.iter().flat_map(|hunk| &hunk.lines).filter(|line| line.sign == sign).count() as u64;
        Ok(PatchedFile {
            path: Word::from(name.to_vec()),
            action: action(patch),
            from: patch.old.clone().filter(|_| patch.origin != Origin::Own).map(Word::from),
            hunks,
            added: count(Sign::Added),
            removed: count(Sign::Removed),
        })
    }

    /// What a part of the patch starts from.
    fn source(&self, patch: &FilePatch<'_>) -> Result<Thing, String> {
        let Some(old) = &patch.old else { return Ok(Thing::Absent) };
        // What moves is what was there; what changes or goes is what the parts before have made of it.
        let original = patch.origin != Origin::Own || patch.new.is_none() && self.made.contains(old);
        let thing = if original { self.on_disk(old)? } else { self.now(old)? };
        match &thing {
            Thing::Absent => Err(format!("there is no {}", shown(old))),
            Thing::Directory => Err(format!("{} is a directory", shown(old))),
            Thing::Special => Err(format!("{} is no regular file", shown(old))),
            Thing::TooLarge => Err(format!("{} has more than {PATCHED_FILE_BYTES_MAX} bytes", shown(old))),
            Thing::Link(_) if patch.old_mode.is_some_and(|mode| mode != GitMode::Link) => {
                Err(format!("{} is a symbolic link", shown(old)))
            }
            Thing::File(_) if patch.old_mode == Some(GitMode::Link) => {
                Err(format!("{} is no symbolic link", shown(old)))
            }
            Thing::File(_) | Thing::Link(_) => Ok(thing),
        }
    }

    /// Sees to it that something can be put at a path.
    fn check_target(&self, patch: &FilePatch<'_>, new: &[u8]) -> Result<(), String> {
        for dir in above(new) {
            match self.now(dir)? {
                Thing::Absent | Thing::Directory => {}
                _ if self.leaving.contains(dir) && !self.made.contains(dir) => {}
                Thing::Link(_) => return Err(format!("{} is a symbolic link", shown(dir))),
                _ => return Err(format!("{} is no directory", shown(dir))),
            }
        }
        if patch.old.as_deref() == Some(new) || self.leaving.contains(new) && !self.made.contains(new) {
            return Ok(());
        }
        match self.now(new)? {
            // Whether all that is in the directory goes is seen at the end.
            Thing::Absent | Thing::Directory => Ok(()),
            _ => Err("it is there already".to_owned()),
        }
    }

    fn record(&mut self, patch: &FilePatch<'_>, after: Thing) {
        if let Some(old) = &patch.old
            && (patch.new.is_none() || patch.origin == Origin::Renamed)
            && !self.made.contains(old)
        {
            self.plan.after.insert(old.clone(), Thing::Absent);
        }
        if let Some(new) = &patch.new {
            self.plan.after.insert(new.clone(), after);
            self.made.insert(new.clone());
        }
    }

    /// Where a file takes the place of a directory, all that is in it must go.
    fn check_directories(&mut self) {
        let goes = |path: &[u8]| self.plan.after.get(path) == Some(&Thing::Absent);
        let mut rejections = Vec::new();
        for (path, thing) in &self.plan.after {
            if !matches!(thing, Thing::Absent)
                && matches!(self.disk.thing(path), Ok(Thing::Directory))
                && !self.disk.holds_only(path, &goes).unwrap_or(false)
            {
                let reason = "a directory is there, with more in it than the patch removes".to_owned();
                rejections.push(Rejection { path: Word::from(path.clone()), reason, hunk: None });
            }
        }
        self.plan.rejections.extend(rejections);
    }

    /// What is at a path after the parts so far.
    fn now(&self, path: &[u8]) -> Result<Thing, String> {
        match self.plan.after.get(path) {
            Some(thing) => Ok(thing.clone()),
            None => self.on_disk(path),
        }
    }

    fn on_disk(&self, path: &[u8]) -> Result<Thing, String> {
        match self.disk.thing(path) {
            Ok(thing) => Ok(thing),
            // A link that goes can make way for a directory.
            Err(Beyond::Link) if above(path).any(|dir| self.leaving.contains(dir)) => Ok(Thing::Absent),
            Err(Beyond::Link) => Err(format!("{} leads through a symbolic link", shown(path))),
            Err(Beyond::Failed(error)) => Err(format!("cannot look at {}: {error}", shown(path))),
        }
    }
}

/// Paths of a patch stay in the workspace, and out of git's own directory.
fn check_name(name: &[u8]) -> Result<(), &'static str> {
    if name.starts_with(b"/") {
        return Err("its path is not in the workspace");
    }
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => return Err("its path has an empty part"),
            b".." => return Err("its path leads up"),
            _ if part.eq_ignore_ascii_case(b".git") => return Err("its path is in git's own directory"),
            _ if part.contains(&0) => return Err("its path holds a zero byte"),
            _ => {}
        }
    }
    Ok(())
}

fn action(patch: &FilePatch<'_>) -> PatchAction {
    match (&patch.old, &patch.new, patch.origin) {
        (_, _, Origin::Renamed) => PatchAction::Rename,
        (_, _, Origin::Copied) => PatchAction::Copy,
        (None, _, _) => PatchAction::Create,
        (_, None, _) => PatchAction::Delete,
        _ => PatchAction::Modify,
    }
}

fn content(thing: &Thing) -> Cow<'_, [u8]> {
    match thing {
        Thing::File(file) => Cow::Borrowed(&file.bytes),
        Thing::Link(target) => Cow::Borrowed(target),
        Thing::Absent | Thing::Directory | Thing::Special | Thing::TooLarge => Cow::Borrowed(b""),
    }
}

/// What a file becomes.
fn after(patch: &FilePatch<'_>, before: &Thing, bytes: Vec<u8>) -> Result<Thing, String> {
    if patch.new.is_none() {
        return if bytes.is_empty() {
            Ok(Thing::Absent)
        } else {
            Err("it holds more than the patch removes".to_owned())
        };
    }
    let was_link = matches!(before, Thing::Link(_));
    let old = match before {
        Thing::File(file) => Some(file),
        _ => None,
    };
    match patch.new_mode {
        None if was_link => Ok(Thing::Link(bytes)),
        Some(GitMode::Link) if old.is_none() => Ok(Thing::Link(bytes)),
        Some(GitMode::File | GitMode::Executable) if was_link => {
            Err("a link cannot become a file in one step".to_owned())
        }
        Some(GitMode::Link) => Err("a file cannot become a link in one step".to_owned()),
        new_mode => {
            let executable = new_mode.map(|mode| mode == GitMode::Executable);
            let mode = match (old, executable) {
                (None, Some(true)) => 0o755,
                (None, _) => 0o644,
                (Some(old), None) => old.mode,
                // Who may read it may execute it.
                (Some(old), Some(true)) => old.mode | (old.mode & 0o444) >> 2,
                (Some(old), Some(false)) => old.mode & !0o111,
            };
            let owner = old.and_then(|old| old.owner).filter(|_| patch.origin == Origin::Own);
            Ok(Thing::File(FileContent { bytes, mode, owner }))
        }
    }
}

/// A file's content with all hunks in it, and where they went.
type Applied = (Vec<u8>, Vec<HunkPlace>);

/// Why hunks do not fit, and the first that does not.
struct Unfit {
    reason: String,
    hunk: Option<MissedHunk>,
}

/// Applies hunks as they stand, or with the ends of lines that the file has, where a patch got others on its way.
fn apply(patch: &FilePatch<'_>, content: &[u8]) -> Result<Applied, Box<Unfit>> {
    let first = put_all(&patch.hunks, content);
    if first.is_ok() || patch.hunks.is_empty() {
        return first;
    }
    let file_has_returns =
        content.split_inclusive(|byte| *byte == b'\n').next().is_some_and(|line| line.ends_with(b"\r\n"));
    let other = if file_has_returns && !patch.carriage_returns {
        with_line_ends(&patch.hunks, LineEnds::Returns)
    } else if !file_has_returns && patch.carriage_returns {
        with_line_ends(&patch.hunks, LineEnds::Plain)
    } else {
        return first;
    };
    put_all(&other, content).or(first)
}

fn put_all(hunks: &[Hunk<'_>], content: &[u8]) -> Result<Applied, Box<Unfit>> {
    let mut image = Image::new(content);
    let mut places = Vec::with_capacity(hunks.len());
    for (number, hunk) in hunks.iter().enumerate() {
        match image.put(hunk) {
            Ok(place) => places.push(place),
            Err(miss) => return Err(missed(number, hunk, miss, &image.content())),
        }
    }
    let bytes = image.content();
    if bytes.len() as u64 > PATCHED_FILE_BYTES_MAX {
        let reason = format!("it would have more than {PATCHED_FILE_BYTES_MAX} bytes");
        return Err(Box::new(Unfit { reason, hunk: None }));
    }
    Ok((bytes, places))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum LineEnds {
    Plain,
    Returns,
}

fn with_line_ends<'a>(hunks: &[Hunk<'a>], ends: LineEnds) -> Vec<Hunk<'a>> {
    let mut hunks = hunks.to_vec();
    for line in hunks.iter_mut().flat_map(|hunk| &mut hunk.lines) {
        let Some(text) = line.text.strip_suffix(b"\n") else { continue };
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let end: &[u8] = if ends == LineEnds::Returns { b"\r\n" } else { b"\n" };
        line.text = Cow::Owned([text, end].concat());
    }
    hunks
}

/// Says what a hunk that does not fit looked for, and what is there.
fn missed(index: usize, hunk: &Hunk<'_>, miss: Miss, content: &[u8]) -> Box<Unfit> {
    let number = index as u64 + 1;
    let old: Vec<u8> =
        hunk.lines.iter().filter(|line| line.sign != Sign::Added).flat_map(|line| line.text.iter().copied()).collect();
    let (reason, fits_at) = match miss {
        Miss::Nowhere => (format!("hunk {number} does not fit: its lines are not in the file"), Vec::new()),
        Miss::Several(lines) => (format!("hunk {number} fits in several places: give it more context"), lines),
        Miss::NotEmpty => (format!("hunk {number} takes the file for a new one, but it is there"), Vec::new()),
        Miss::NoContext => (format!("hunk {number} has no lines to tell where it belongs"), Vec::new()),
    };
    let (nearest, difference): (Vec<NearLine>, _) =
        if fits_at.is_empty() && !old.is_empty() { nearest(content, &old) } else { (Vec::new(), None) };
    let expected =
        old.strip_suffix(b"\n").unwrap_or(&old).split(|byte| *byte == b'\n').take(SHOWN_LINES_MAX).map(shown).collect();
    let header = shown(hunk.header);
    Box::new(Unfit { reason, hunk: Some(MissedHunk { number, header, expected, nearest, difference, fits_at }) })
}
