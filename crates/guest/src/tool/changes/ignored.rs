//! What git would ignore: the `.gitignore` files from a directory up to the workspace, and `.git/info/exclude`.
//!
//! A directory that is ignored is not entered, so what is in it costs nothing; a deeper rule cannot bring it back,
//! as git has it.

use std::ffi::OsStr;
use std::io::Read;
use std::path::Path;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::layers::{Directory, Layers, LeafKind, Node};

/// Longest file of rules that is read.
const RULES_BYTES_MAX: u64 = 1024 * 1024;

/// The rules that hold in one directory.
#[derive(Debug)]
pub(super) struct Rules<'a> {
    above: Option<&'a Self>,
    /// Bytes of a path that name the directory and the slash after it.
    prefix_bytes: usize,
    own: Option<Gitignore>,
}

impl<'a> Rules<'a> {
    /// The rules of the workspace's own repository, which come last.
    pub(super) fn of_repository(layers: Layers<'_>, top: &Directory) -> Self {
        let mut dir = top.clone();
        for name in [".git", "info"] {
            match layers.node(&dir, OsStr::new(name)) {
                Ok(Node::Directory { layers, .. }) => dir = layers,
                _ => return Self { above: None, prefix_bytes: 0, own: None },
            }
        }
        Self { above: None, prefix_bytes: 0, own: read(layers, &dir, OsStr::new("exclude")) }
    }

    /// The rules inside `dir`, whose path from the workspace is `path`.
    pub(super) fn inside(above: &'a Self, layers: Layers<'_>, dir: &Directory, path: &[u8]) -> Self {
        let prefix_bytes = if path.is_empty() { 0 } else { path.len() + 1 };
        Self { above: Some(above), prefix_bytes, own: read(layers, dir, OsStr::new(".gitignore")) }
    }

    /// Whether what is at `path`, which lies in the directory of these rules, is ignored by itself.
    pub(super) fn ignore(&self, path: &Path, is_dir: bool) -> bool {
        let mut rules = Some(self);
        while let Some(here) = rules {
            let relative = &path.as_os_str().as_encoded_bytes()[here.prefix_bytes..];
            if let Some(own) = &here.own {
                match own.matched(Path::new(from_bytes(relative)), is_dir) {
                    Match::Ignore(_) => return true,
                    Match::Whitelist(_) => return false,
                    Match::None => {}
                }
            }
            rules = here.above;
        }
        false
    }
}

fn from_bytes(bytes: &[u8]) -> &OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(bytes)
}

/// Reads a file of rules. One that is a link or cannot be read holds none, and neither does a line that is no rule.
fn read(layers: Layers<'_>, dir: &Directory, name: &OsStr) -> Option<Gitignore> {
    let Ok(Node::Leaf(leaf)) = layers.node(dir, name) else { return None };
    if leaf.kind != LeafKind::File {
        return None;
    }
    let mut bytes = Vec::new();
    std::fs::File::open(&leaf.place).ok()?.take(RULES_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes));
    let mut builder = GitignoreBuilder::new("");
    for line in text.lines() {
        drop(builder.add_line(None, line));
    }
    builder.build().ok().filter(|rules| !rules.is_empty())
}
