//! Repositories in a seed: where their data is, what they track, and how `.git` is made whole for the guest.
//!
//! No program of the host is run and no configuration is obeyed: git's files are only read. What lies outside the seed is
//! followed where the other side points back (a worktree's `gitdir`, a submodule's `core.worktree`), so that a tree that was
//! unpacked from somewhere cannot make its seed carry another repository of the user along; elsewhere it is followed within
//! [`Reach`].

mod config;
mod index;
mod whole;

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

pub use config::GitUser;
pub(super) use index::Tracked;
pub(super) use whole::copy_git_dir;

use self::config::{CONFIG_BYTES_MAX, ConfigText};
use super::host_dir::{HostDir, os};

/// A pointer file (`.git`, `commondir`, `gitdir`) larger than this is none.
const POINTER_BYTES_MAX: u64 = 8192;

/// Where a seed may lie, and where the data of its repositories that nothing but the seed itself points to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// Anywhere: a person named the seed.
    Anywhere,
    /// Below one of these directories.
    Within(Vec<PathBuf>),
}

impl Reach {
    /// Whether a path, with all links in it resolved, may be followed.
    pub(super) fn allows(&self, path: &Path) -> bool {
        match self {
            Self::Anywhere => true,
            Self::Within(dirs) => dirs.iter().any(|dir| resolved(dir).is_some_and(|dir| path.starts_with(dir))),
        }
    }
}

/// What is at the `.git` of a directory.
#[derive(Debug)]
pub(super) enum Found {
    /// Nothing of git's.
    Nothing,
    /// A repository whose data may not be followed to this place.
    NotFollowed(PathBuf),
    /// A repository.
    Repository(Repository),
}

/// A repository as one working tree sees it. Links in its paths are resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Repository {
    /// `HEAD`, the index and what else each working tree has of its own.
    pub(super) git_dir: PathBuf,
    /// Objects, branches, configuration; the same place but for additional worktrees.
    pub(super) common_dir: PathBuf,
    /// What `.git` is.
    pub(super) shape: Shape,
}

/// What the `.git` of a working tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// The directory with everything in it.
    Own,
    /// A file that leads by a relative path to a directory that is in the seed at the same relative place.
    Inside,
    /// Something that leads elsewhere.
    Elsewhere,
}

/// How to look for repositories in one seed.
#[derive(Debug)]
pub(super) struct Finder<'a> {
    /// The root of the seed, links resolved.
    pub(super) root: &'a Path,
    pub(super) reach: &'a Reach,
    /// `.git` directories that are in the seed as they are, links resolved.
    pub(super) own_dirs: Vec<PathBuf>,
}

impl Finder<'_> {
    /// What is at `.git` in the directory `dir`.
    pub(super) fn find(&self, dir: &HostDir) -> Found {
        let Ok(stat) = dir.stat(b".git") else { return Found::Nothing };
        let dot_git = dir.path().join(".git");
        match stat.file_type {
            FileType::Directory => self.at_own(&dot_git),
            FileType::Symlink => match resolved(&dot_git) {
                Some(target) => self.at_elsewhere(dir, target, None),
                None => Found::Nothing,
            },
            FileType::RegularFile => {
                let Some(target) = pointer(&dot_git, b"gitdir:") else { return Found::Nothing };
                let relative = target.is_relative();
                match resolved(&dir.path().join(&target)) {
                    Some(target) => self.at_elsewhere(dir, target, Some(relative)),
                    None => Found::NotFollowed(target),
                }
            }
            _ => Found::Nothing,
        }
    }

    fn at_own(&self, dot_git: &Path) -> Found {
        let Some(git_dir) = resolved(dot_git) else { return Found::Nothing };
        let Some(common_dir) = common_dir(&git_dir) else { return Found::Nothing };
        let shape = if common_dir == git_dir { Shape::Own } else { Shape::Elsewhere };
        if shape == Shape::Elsewhere && !self.may_enter(&common_dir) {
            return Found::NotFollowed(common_dir);
        }
        Found::Repository(Repository { git_dir, common_dir, shape })
    }

    /// `by_file` is `None` for a link, otherwise whether the path in the file is relative.
    fn at_elsewhere(&self, dir: &HostDir, git_dir: PathBuf, by_file: Option<bool>) -> Found {
        let Some(common_dir) = common_dir(&git_dir) else { return Found::NotFollowed(git_dir) };
        let work_tree = configured_work_tree(&git_dir);
        let points_back = worktree_points_back(&git_dir, &common_dir, dir.path())
            || work_tree.as_ref().is_some_and(|path| resolved(&git_dir.join(path)) == resolved(dir.path()));
        let may_enter = self.may_enter(&git_dir) && self.may_enter(&common_dir);
        if !points_back && !may_enter {
            return Found::NotFollowed(git_dir);
        }
        let inside = by_file == Some(true)
            && common_dir == git_dir
            && work_tree.is_none_or(|path| path.is_relative())
            && self.own_dirs.iter().any(|own| git_dir.starts_with(own) && git_dir != *own);
        let shape = if inside { Shape::Inside } else { Shape::Elsewhere };
        Found::Repository(Repository { git_dir, common_dir, shape })
    }

    fn may_enter(&self, path: &Path) -> bool {
        path.starts_with(self.root) || self.reach.allows(path)
    }
}

/// The repository that `dir`, which has no `.git` of its own, is a part of, and where in it `dir` is.
///
/// Only its rules and the names it tracks are read, so nothing of it gets into a seed by this.
pub(super) fn enclosing(dir: &Path) -> Option<(PathBuf, Repository)> {
    for above in dir.ancestors().skip(1) {
        let finder = Finder { root: above, reach: &Reach::Anywhere, own_dirs: Vec::new() };
        let Ok(opened) = HostDir::open(above) else { continue };
        if let Found::Repository(repository) = finder.find(&opened) {
            return Some((above.to_owned(), repository));
        }
    }
    None
}

/// What the working tree of a repository tracks.
///
/// # Errors
/// Why its index was not read, in words.
pub(super) fn tracked(repository: &Repository) -> Result<Tracked, String> {
    let git_dir = HostDir::open(&repository.git_dir).map_err(|error| error.to_string())?;
    let hash_bytes = if is_sha256(&repository.common_dir) { 32 } else { 20 };
    let read = |name: &str| {
        let bytes = git_dir.read(name.as_bytes(), index::INDEX_BYTES_MAX).map_err(|error| error.to_string())?;
        bytes.map(|bytes| index::read(&bytes, hash_bytes).map_err(|error| error.to_string())).transpose()
    };
    let mut indexes: Vec<index::Index> = read("index")?.into_iter().collect();
    if let Some(shared) = indexes.first().and_then(|index| index.shared.clone()) {
        // What the split index takes away from the shared one is counted as tracked here: it only keeps more.
        indexes.extend(read(&format!("sharedindex.{shared}"))?);
    }
    Ok(Tracked::new(indexes))
}

/// The user's own excludes of a repository.
pub(super) fn info_exclude(repository: &Repository, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    match HostDir::open(&repository.common_dir.join("info")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        dir => dir?.read(b"exclude", bytes_max),
    }
}

fn is_sha256(common_dir: &Path) -> bool {
    let format = config_of(common_dir).and_then(|text| text.value("extensions", "objectformat").map(<[u8]>::to_vec));
    format.is_some_and(|format| format.eq_ignore_ascii_case(b"sha256"))
}

fn config_of(dir: &Path) -> Option<ConfigText> {
    let bytes = HostDir::open(dir).ok()?.read(b"config", CONFIG_BYTES_MAX).ok()??;
    ConfigText::parse(bytes).ok()
}

fn configured_work_tree(git_dir: &Path) -> Option<PathBuf> {
    config_of(git_dir)?.value("core", "worktree").map(|path| PathBuf::from(os(path)))
}

/// Whether an additional worktree's directory says that it belongs to `work_tree`.
fn worktree_points_back(git_dir: &Path, common_dir: &Path, work_tree: &Path) -> bool {
    let own_place = git_dir.parent() == Some(&common_dir.join("worktrees"));
    let back = pointer(&git_dir.join("gitdir"), b"").and_then(|path| git_dir.join(path).parent().and_then(resolved));
    own_place && back.is_some() && back == resolved(work_tree)
}

/// The directory with the objects; `None` when this is no repository at all.
fn common_dir(git_dir: &Path) -> Option<PathBuf> {
    let dir = HostDir::open(git_dir).ok()?;
    dir.stat(b"HEAD").ok()?;
    let common_dir = match pointer(&git_dir.join("commondir"), b"") {
        Some(path) => resolved(&git_dir.join(path))?,
        None => git_dir.to_owned(),
    };
    let is_whole = common_dir.join("objects").is_dir() && common_dir.join("refs").is_dir();
    is_whole.then_some(common_dir)
}

/// The path in a file that holds one, after a word.
fn pointer(file: &Path, word: &[u8]) -> Option<PathBuf> {
    let name = file.file_name()?;
    let bytes = HostDir::open(file.parent()?).ok()?.read(name.as_encoded_bytes(), POINTER_BYTES_MAX).ok()??;
    let path = bytes.strip_prefix(word)?.trim_ascii();
    (!path.is_empty() && !path.contains(&0)).then(|| PathBuf::from(os(path)))
}

fn resolved(path: &Path) -> Option<PathBuf> {
    std::fs::canonicalize(path).ok()
}

#[cfg(test)]
mod tests;
