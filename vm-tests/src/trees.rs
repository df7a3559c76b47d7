//! What is in a directory, line by line, so that two can be compared and the difference be read.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use ring::digest::{SHA256, digest};

/// How closely a tree is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Everything of every entry, its inode and its change time included: whether anything was touched.
    Everything,
    /// What git keeps: files with their content and whether they can be executed, and links.
    AsGit,
}

/// The entries of a tree, a line each. What is called as one of `but` is left out with all that is in it.
///
/// # Panics
/// Something in it cannot be read.
#[must_use]
pub fn tree(top: &Path, look: Look, but: &[&str]) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    walk(top, Path::new(""), look, but, &mut lines);
    lines
}

/// Fails the test, with the lines that only one of them has, unless both are the same.
#[track_caller]
pub fn assert_same(one: &BTreeSet<String>, other: &BTreeSet<String>, what: &str) {
    let only = |these: &BTreeSet<String>, those: &BTreeSet<String>| {
        these.difference(those).map(|line| format!("\n    {line}")).collect::<String>()
    };
    let (first, second) = (only(one, other), only(other, one));
    assert!(
        first.is_empty() && second.is_empty(),
        "{what}\n  only in the first:{first}\n  only in the second:{second}"
    );
    assert!(!one.is_empty(), "{what}: there is nothing at all");
}

fn walk(top: &Path, at: &Path, look: Look, but: &[&str], lines: &mut BTreeSet<String>) {
    for entry in fs::read_dir(top.join(at)).expect("the tree can be read") {
        let entry = entry.expect("the tree can be read");
        let name = entry.file_name();
        if but.iter().any(|left_out| name == *left_out) {
            continue;
        }
        let path = at.join(&name);
        let metadata = entry.metadata().expect("the tree can be read");
        let kind = metadata.file_type();
        let shown = path.as_os_str().as_bytes().escape_ascii().to_string();
        let what = match () {
            () if kind.is_dir() => "directory".to_owned(),
            () if kind.is_symlink() => {
                let target = fs::read_link(entry.path()).expect("the tree can be read");
                format!("link to {}", target.as_os_str().as_bytes().escape_ascii())
            }
            () if kind.is_file() => format!("file {} {}", metadata.len(), content(&entry.path(), &metadata)),
            () if kind.is_fifo() || kind.is_socket() => "pipe or socket".to_owned(),
            () => "device".to_owned(),
        };
        match look {
            Look::Everything => lines.insert(format!(
                "{shown}: {what}, mode {:o}, owner {}:{}, {} names, inode {}, modified {}.{:09}, changed {}.{:09}",
                metadata.mode(),
                metadata.uid(),
                metadata.gid(),
                metadata.nlink(),
                metadata.ino(),
                metadata.mtime(),
                metadata.mtime_nsec(),
                metadata.ctime(),
                metadata.ctime_nsec()
            )),
            Look::AsGit if kind.is_dir() => false,
            Look::AsGit => {
                let executable = kind.is_file() && metadata.mode() & 0o100 != 0;
                lines.insert(format!("{shown}: {what}{}", if executable { ", executable" } else { "" }))
            }
        };
        if kind.is_dir() {
            walk(top, &path, look, but, lines);
        }
    }
}

/// A hash of the content; of a large file with holes only its place says that it is the same.
fn content(path: &Path, metadata: &fs::Metadata) -> String {
    if metadata.len() > 64 << 20 {
        return format!("of {} blocks", metadata.blocks());
    }
    let bytes = fs::read(path).expect("the tree can be read");
    digest(&SHA256, &bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
