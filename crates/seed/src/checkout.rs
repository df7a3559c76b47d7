//! Walks a directory as its user sees it: what git tracks and what is neither tracked nor ignored, `.git` made whole.
//!
//! Outside of a repository the `.gitignore` files of the directory count as well. A directory that is a part of a repository
//! is taken as that part: the rules and the tracked names of the whole apply, its history stays away.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::git::{self, Finder, Found, Repository, Shape};
use super::host_dir::{HostDir, Stat, bytes};
use super::ignored::{Ignored, Part, RULES_BYTES_MAX, Rules};
use super::notes::About;
use super::secrets::{self, LOOK_BYTES};
use super::tree::{Content, SeedKind, SeedTree, TreeBuilder, join, name, parent};
use super::{SeedError, SeedRequest};

/// Directories within each other.
const DEPTH_MAX: usize = 200;

/// Surveys the directory `root`, whose path has no links left in it.
pub(super) fn survey(request: &SeedRequest, root: &Path) -> Result<SeedTree, SeedError> {
    let source_error = |source| SeedError::Source { path: root.to_owned(), source };
    let dir = HostDir::open_resolved(root).map_err(source_error)?;
    let attributes = dir.own_stat().map_err(source_error)?.attributes;
    let mut tree = TreeBuilder::default();
    let number = tree.hold_dir(dir.below(b"").map_err(source_error)?);
    let finder = Finder { root, reach: &request.reach, own_dirs: Vec::new() };
    let mut walk = Walk { request, number, tree, finder, parts: Vec::new() };
    let here = walk.begin(&dir);
    walk.directory(&dir, b"", here)?;
    let rules = Rules { all: request.all, secrets: request.secrets, parts: walk.parts };
    Ok(walk.tree.finish(attributes, rules))
}

struct Walk<'a> {
    request: &'a SeedRequest,
    /// The root's number in the tree.
    number: usize,
    tree: TreeBuilder,
    finder: Finder<'a>,
    /// The repositories met so far.
    parts: Vec<Part>,
}

/// Where the walk is.
#[derive(Debug, Clone, Copy)]
struct Here {
    /// The repository it is in.
    part: usize,
    /// Whether the directory is ignored, so that only what is tracked counts in it.
    ignored: bool,
    depth: usize,
}

/// What becomes of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Take,
    LeaveOut,
    /// It would be taken, but for its looking secret.
    Secret(&'static str),
    /// It is taken though it looks secret.
    TakeSecret(&'static str),
}

impl Walk<'_> {
    /// The repository around the root, if it has none of its own.
    fn begin(&mut self, dir: &HostDir) -> Here {
        let here = Here { part: 0, ignored: false, depth: 0 };
        let root = dir.path();
        let has_own = !matches!(self.finder.find(dir), Found::Nothing);
        let around = if has_own { None } else { git::enclosing(root) };
        let Some((top, repository)) = around else {
            self.parts.push(Part::default());
            return here;
        };
        let prefix = bytes(root.strip_prefix(&top).unwrap_or(root)).to_vec();
        let mut part = Part { prefix: prefix.clone(), ..Part::default() };
        self.read_rules_above(&mut part.ignored, &top, &prefix);
        self.read_outer_rules(&mut part.ignored, &repository);
        if part.ignored.is_ignored_anyhow(&prefix, true) {
            // To that repository it is no part, such as a project below a home directory whose settings are kept in git.
            self.parts.push(Part::default());
            return here;
        }
        self.tree.note(About::PartOfRepository, b"", top.display().to_string());
        self.add_repository(part, &repository);
        here
    }

    fn add_repository(&mut self, mut part: Part, repository: &Repository) -> usize {
        match git::tracked(repository) {
            Ok(tracked) => part.tracked = tracked,
            Err(cause) => self.tree.note(About::IndexUnread, &part.at, cause),
        }
        self.parts.push(part);
        self.parts.len() - 1
    }

    /// Reads the `.gitignore` files from the top of a repository down to the directory above the seed.
    fn read_rules_above(&mut self, ignored: &mut Ignored, top: &Path, prefix: &[u8]) {
        let mut dir = parent(prefix);
        loop {
            let place: PathBuf = top.join(super::host_dir::os(dir));
            let text = HostDir::open(&place).and_then(|opened| opened.read(b".gitignore", RULES_BYTES_MAX));
            self.take_rules(b"", text, |text| ignored.add_dir(dir, text));
            if dir.is_empty() {
                return;
            }
            dir = parent(dir);
        }
    }

    fn read_outer_rules(&mut self, ignored: &mut Ignored, repository: &Repository) {
        let text = git::info_exclude(repository, RULES_BYTES_MAX);
        self.take_rules(b"", text, |text| ignored.add_outer(text));
        if let Some(path) = &self.request.git.excludes
            && let (Some(dir), Some(name)) = (path.parent(), path.file_name())
        {
            // Where the user's own file is missing, git says nothing either.
            let text = HostDir::open(dir).and_then(|dir| dir.read(name.as_encoded_bytes(), RULES_BYTES_MAX));
            self.take_rules(b"", text, |text| ignored.add_outer(text));
        }
    }

    fn take_rules(
        &mut self,
        at: &[u8],
        text: io::Result<Option<Vec<u8>>>,
        add: impl FnOnce(&[u8]) -> Result<(), String>,
    ) {
        let cause = match text {
            Ok(Some(text)) => add(&text).err(),
            Ok(None) => None,
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => Some(error.to_string()),
        };
        if let Some(cause) = cause {
            self.tree.note(About::RulesUnread, at, cause);
        }
    }

    fn directory(&mut self, dir: &HostDir, at: &[u8], here: Here) -> Result<(), SeedError> {
        let names = match dir.names() {
            Ok(names) => names,
            Err(error) => {
                self.tree.note(About::Unreadable, at, error.to_string());
                return Ok(());
            }
        };
        let has = |name: &[u8]| names.binary_search_by(|known| known[..].cmp(name)).is_ok();
        let (here, dot_git) = if has(b".git") { self.repository(dir, at, here)? } else { (here, DotGit::Entry) };
        if has(b".gitignore") && !here.ignored && !self.request.all {
            let own = self.parts[here.part].own_path(at);
            let text = dir.read(b".gitignore", RULES_BYTES_MAX);
            let mut ignored = std::mem::take(&mut self.parts[here.part].ignored);
            self.take_rules(&join(at, b".gitignore"), text, |text| ignored.add_dir(&own, text));
            self.parts[here.part].ignored = ignored;
        }
        for name in names.iter().filter(|name| name[..] != *b".git" || dot_git == DotGit::Entry) {
            self.entry(dir, join(at, name), here)?;
        }
        Ok(())
    }

    /// Looks at `.git` in a directory, and takes it into the seed if there is a repository.
    fn repository(&mut self, dir: &HostDir, at: &[u8], here: Here) -> Result<(Here, DotGit), SeedError> {
        let repository = match self.finder.find(dir) {
            Found::Nothing => return Ok((here, DotGit::Entry)),
            Found::NotFollowed(place) => {
                self.tree.note(About::RepositoryNotFollowed, at, place.display().to_string());
                return Ok((here, DotGit::Done));
            }
            Found::Repository(repository) => repository,
        };
        let dot_git = join(at, b".git");
        let mut ignored = Ignored::default();
        self.read_outer_rules(&mut ignored, &repository);
        let part = self.add_repository(Part { at: at.to_vec(), ignored, ..Part::default() }, &repository);
        let here = Here { part, ignored: false, ..here };
        match repository.shape {
            Shape::Inside => return Ok((here, DotGit::Entry)),
            Shape::Own => self.finder.own_dirs.push(repository.git_dir.clone()),
            Shape::Elsewhere => {
                self.tree.note(About::RepositoryMadeWhole, at, repository.git_dir.display().to_string());
            }
        }
        git::copy_git_dir(&mut self.tree, self.request, &repository, &dot_git)?;
        Ok((here, DotGit::Done))
    }

    fn entry(&mut self, dir: &HostDir, path: Vec<u8>, here: Here) -> Result<(), SeedError> {
        let stat = match dir.stat(name(&path)) {
            Ok(stat) => stat,
            // It was there a moment ago.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => {
                self.tree.note(About::Unreadable, &path, error.to_string());
                return Ok(());
            }
        };
        if stat.file_type == FileType::Directory {
            return self.subdirectory(dir, &path, stat, here);
        }
        match self.verdict(dir, &path, stat, here) {
            Verdict::LeaveOut => return Ok(()),
            Verdict::Secret(reason) => {
                self.tree.note(About::SecretLeftOut, &path, reason);
                return Ok(());
            }
            Verdict::TakeSecret(reason) => self.tree.note(About::SecretKept, &path, reason),
            Verdict::Take => {}
        }
        match stat.file_type {
            FileType::RegularFile => {
                let content = Content::Host { dir: self.number, path: path.clone() };
                self.tree.add_host_file(path, &stat, content, false)
            }
            FileType::Symlink => match dir.link_target(name(&path)) {
                Ok(target) => self.tree.add(path, stat.attributes, SeedKind::Symlink(target)).map(drop),
                Err(error) => {
                    self.tree.note(About::Unreadable, &path, error.to_string());
                    Ok(())
                }
            },
            other => {
                self.tree.note(About::SpecialLeftOut, &path, special(other));
                Ok(())
            }
        }
    }

    fn subdirectory(&mut self, dir: &HostDir, path: &[u8], stat: Stat, here: Here) -> Result<(), SeedError> {
        let part = &self.parts[here.part];
        let own = part.own_path(path);
        let ignored = !self.request.all && (here.ignored || part.ignored.is_ignored(&own, true));
        if ignored && !part.tracked.has_below(&own) {
            return Ok(());
        }
        self.tree.add(path.to_vec(), stat.attributes, SeedKind::Directory)?;
        if here.depth >= DEPTH_MAX {
            self.tree.note(About::TooDeep, path, "");
            return Ok(());
        }
        match dir.child(name(path)) {
            Ok(child) => self.directory(&child, path, Here { ignored, depth: here.depth + 1, ..here }),
            Err(error) => {
                self.tree.note(About::Unreadable, path, error.to_string());
                Ok(())
            }
        }
    }

    fn verdict(&self, dir: &HostDir, path: &[u8], stat: Stat, here: Here) -> Verdict {
        let part = &self.parts[here.part];
        let own = part.own_path(path);
        let tracked = part.tracked.has(&own);
        let secret = if stat.file_type == FileType::RegularFile { suspicion(dir, path) } else { None };
        if tracked {
            return secret.map_or(Verdict::Take, Verdict::TakeSecret);
        }
        if here.ignored {
            return Verdict::LeaveOut;
        }
        match secret {
            Some(reason) if self.request.secrets => Verdict::TakeSecret(reason),
            Some(reason) => Verdict::Secret(reason),
            None if !self.request.all && part.ignored.is_ignored(&own, false) => Verdict::LeaveOut,
            None => Verdict::Take,
        }
    }
}

/// What to do with the name `.git` in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DotGit {
    /// As with any other.
    Entry,
    /// Nothing more.
    Done,
}

fn suspicion(dir: &HostDir, path: &[u8]) -> Option<&'static str> {
    let found = secrets::suspicion(path)?;
    if found.clearing == secrets::Clearing::Never {
        return Some(found.reason);
    }
    // What cannot be read, or is too large to be looked at, is not cleared.
    let content = dir.read(name(path), LOOK_BYTES).ok().flatten();
    let cleared = content.is_some_and(|content| secrets::is_cleared(found.clearing, &content));
    (!cleared).then_some(found.reason)
}

fn special(file_type: FileType) -> &'static str {
    match file_type {
        FileType::Socket => "a socket",
        FileType::Fifo => "a named pipe",
        FileType::BlockDevice | FileType::CharacterDevice => "a device",
        _ => "of an unknown type",
    }
}
