//! The layers of the workspace as overlayfs keeps them: a directory of the baseline, one of what was changed above it, and what
//! the two amount to.
//!
//! The upper layer says what is gone (whiteouts), which directories hide what is below (opaque) and which stand for
//! a directory that was elsewhere (redirect). With that, the merged directory need not be read: a directory that
//! nobody touched is in the upper layer not at all.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::lgetxattr;
use rustix::io::Errno;

/// Says that a directory of the upper layer hides the one below it.
const OPAQUE: &str = "trusted.overlay.opaque";
/// Says where below the content of a renamed directory lies.
const REDIRECT: &str = "trusted.overlay.redirect";
/// Marks an empty file as the absence of one, where devices cannot be.
const WHITEOUT: &str = "trusted.overlay.whiteout";

/// Longest value of a redirect: a path.
const REDIRECT_BYTES_MAX: usize = 4096;

/// A directory as the layers it is made of; of none, it is an empty one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Directory {
    pub(super) upper: Option<PathBuf>,
    pub(super) lower: Option<PathBuf>,
}

/// What is under a name.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Absent,
    Directory { layers: Directory, mode: u32 },
    Leaf(Leaf),
}

/// Anything but a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leaf {
    /// Where it lies, in whichever layer.
    pub(super) place: PathBuf,
    pub(super) kind: LeafKind,
    /// Permission bits.
    pub(super) mode: u32,
    pub(super) size_bytes: u64,
    /// Device and inode: two with the same are the same.
    pub(super) identity: (u64, u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LeafKind {
    File,
    Symlink,
    /// A device, pipe or socket.
    Special,
    /// A directory, of which only the permissions are meant.
    Directory,
}

/// Reads the two layers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layers<'a> {
    /// The top of the lower layer, from which redirects are counted.
    pub(super) lower: &'a Path,
}

impl Directory {
    /// Whether it is the very same as in the baseline.
    pub(super) fn is_baseline(&self, base: &Self) -> bool {
        self.upper.is_none() && self.lower == base.lower
    }

    /// The names under which this directory can differ from `base`, in order.
    pub(super) fn names_to_compare(&self, base: &Self) -> io::Result<BTreeSet<OsString>> {
        if self.lower.is_some() && self.lower == base.lower {
            return names(self.upper.as_deref());
        }
        let mut all = self.names()?;
        all.extend(base.names()?);
        Ok(all)
    }

    /// All names in either layer, those of what is gone included.
    fn names(&self) -> io::Result<BTreeSet<OsString>> {
        let mut all = names(self.upper.as_deref())?;
        all.extend(names(self.lower.as_deref())?);
        Ok(all)
    }
}

impl Layers<'_> {
    /// What is under `name` of a directory.
    pub(super) fn node(&self, dir: &Directory, name: &OsStr) -> io::Result<Node> {
        if let Some(upper) = &dir.upper {
            let place = upper.join(name);
            if let Some(metadata) = stat(&place)? {
                return self.upper_node(dir, name, place, &metadata);
            }
        }
        let Some(lower) = &dir.lower else { return Ok(Node::Absent) };
        let place = lower.join(name);
        Ok(match stat(&place)? {
            None => Node::Absent,
            Some(metadata) if metadata.is_dir() => Node::Directory {
                mode: metadata.mode() & 0o7777,
                layers: Directory { upper: None, lower: Some(place) },
            },
            Some(metadata) => Node::Leaf(Leaf::new(place, &metadata)),
        })
    }

    /// Whether nothing is left in a directory. Looks no further than the first thing it finds.
    pub(super) fn is_empty(&self, dir: &Directory) -> io::Result<bool> {
        for layer in [&dir.upper, &dir.lower].into_iter().flatten() {
            for entry in std::fs::read_dir(layer)? {
                if !matches!(self.node(dir, &entry?.file_name())?, Node::Absent) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn upper_node(&self, dir: &Directory, name: &OsStr, place: PathBuf, metadata: &Metadata) -> io::Result<Node> {
        if is_whiteout(&place, metadata)? {
            return Ok(Node::Absent);
        }
        if !metadata.is_dir() {
            return Ok(Node::Leaf(Leaf::new(place, metadata)));
        }
        let lower = match self.lower_of(dir, name, &place)? {
            Some(lower) if stat(&lower)?.is_some_and(|metadata| metadata.is_dir()) => Some(lower),
            _ => None,
        };
        let layers = Directory { upper: Some(place), lower };
        Ok(Node::Directory { layers, mode: metadata.mode() & 0o7777 })
    }

    /// Where the lower layer of a directory in the upper one lies, if it shows through.
    fn lower_of(&self, dir: &Directory, name: &OsStr, place: &Path) -> io::Result<Option<PathBuf>> {
        if xattr(place, OPAQUE)?.is_some_and(|value| value == b"y") {
            return Ok(None);
        }
        let Some(redirect) = xattr(place, REDIRECT)? else { return Ok(dir.lower.as_ref().map(|dir| dir.join(name))) };
        let path = Path::new(OsStr::from_bytes(&redirect));
        let names = || path.components().filter(|part| matches!(part, Component::Normal(_)));
        Ok(match redirect.starts_with(b"/") {
            true => Some(self.lower.join(names().collect::<PathBuf>())),
            // A name beside its old one.
            false => dir.lower.as_ref().map(|dir| dir.join(names().collect::<PathBuf>())),
        })
    }
}

impl Leaf {
    fn new(place: PathBuf, metadata: &Metadata) -> Self {
        let kind = if metadata.is_file() {
            LeafKind::File
        } else if metadata.is_symlink() {
            LeafKind::Symlink
        } else {
            LeafKind::Special
        };
        Self {
            place,
            kind,
            mode: metadata.mode() & 0o7777,
            size_bytes: metadata.len(),
            identity: (metadata.dev(), metadata.ino()),
        }
    }
}

fn is_whiteout(place: &Path, metadata: &Metadata) -> io::Result<bool> {
    if metadata.file_type().is_char_device() {
        return Ok(metadata.rdev() == 0);
    }
    Ok(metadata.is_file() && metadata.len() == 0 && xattr(place, WHITEOUT)?.is_some())
}

fn names(dir: Option<&Path>) -> io::Result<BTreeSet<OsString>> {
    let Some(dir) = dir else { return Ok(BTreeSet::new()) };
    std::fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name())).collect()
}

/// What is at a path; nothing, when it is not there.
fn stat(path: &Path) -> io::Result<Option<Metadata>> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// An attribute of a file; none, where there are none of its kind.
fn xattr(path: &Path, name: &str) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0; REDIRECT_BYTES_MAX];
    match lgetxattr(path, name, &mut value) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
