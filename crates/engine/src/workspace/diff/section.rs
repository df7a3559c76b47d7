//! One change as a section of a git patch: what `git apply` takes.

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};

use super::names::{quoted, quoted_with_end};
use super::text::{LineCount, hunks, is_binary};
use super::{Change, Version, VersionKind, binary};
use crate::store::hex;

/// Digits of a blob's name where nobody depends on them.
const SHORT_NAME_DIGITS: usize = 12;

/// The name of the blob that is not there.
const NO_BLOB: &str = "0000000000000000000000000000000000000000";

/// The contents of the two versions of a change; empty where there is no version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) old: Vec<u8>,
    pub(super) new: Vec<u8>,
}

/// What a change amounts to, in lines or in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    Lines(LineCount),
    Binary,
}

/// Counts what a change amounts to.
pub(super) fn extent(contents: &Contents) -> Extent {
    match is_binary(&contents.old) || is_binary(&contents.new) {
        true => Extent::Binary,
        false => Extent::Lines(hunks(&contents.old, &contents.new, None)),
    }
}

/// Appends the patch of a change. `contents` is `None` when both versions have the same one.
///
/// A change of kind is a deletion and a creation, as git has it. A change that git knows nothing of (permissions other than
/// the owner's to execute) appends nothing.
pub(super) fn write(change: &Change, contents: Option<&Contents>, out: &mut Vec<u8>) -> Extent {
    let nothing = Extent::Lines(LineCount::default());
    match (git_mode(change.old.as_ref()), git_mode(change.new.as_ref())) {
        (Some(old), Some(new)) if old.is_link() != new.is_link() => {
            let Some(Contents { old: old_bytes, new: new_bytes }) = contents else { return nothing };
            let gone = Section { change, old: Some(old), new: None }.write(Some((old_bytes, b"")), out);
            let come = Section { change, old: None, new: Some(new) }.write(Some((b"", new_bytes)), out);
            sum(gone, come)
        }
        (old, new) => {
            let contents = contents.map(|contents| (contents.old.as_slice(), contents.new.as_slice()));
            if contents.is_none() && old == new && change.renamed_from.is_none() {
                return nothing;
            }
            Section { change, old, new }.write(contents, out)
        }
    }
}

/// Replaces what follows the head of a binary change by words.
pub(super) fn leave_binary_out(section: &mut Vec<u8>) {
    const BEGINS: &[u8] = b"\nGIT binary patch\n";
    if let Some(at) = section.windows(BEGINS.len()).position(|window| window == BEGINS) {
        section.truncate(at + 1);
        section.extend_from_slice(b"Binary files differ, and hold a secret\n");
    }
}

fn sum(one: Extent, other: Extent) -> Extent {
    match (one, other) {
        (Extent::Lines(one), Extent::Lines(other)) => {
            Extent::Lines(LineCount { added: one.added + other.added, removed: one.removed + other.removed })
        }
        _ => Extent::Binary,
    }
}

/// The modes that git knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GitMode {
    File,
    Executable,
    Link,
}

impl GitMode {
    fn digits(self) -> &'static str {
        match self {
            Self::File => "100644",
            Self::Executable => "100755",
            Self::Link => "120000",
        }
    }

    fn is_link(self) -> bool {
        self == Self::Link
    }
}

/// The mode git gives to a version; none for a directory, of which git knows nothing.
pub(super) fn git_mode(version: Option<&Version>) -> Option<GitMode> {
    let version = version?;
    match version.kind {
        VersionKind::File if version.mode & 0o100 != 0 => Some(GitMode::Executable),
        VersionKind::File => Some(GitMode::File),
        VersionKind::Symlink => Some(GitMode::Link),
        VersionKind::Directory => None,
    }
}

struct Section<'a> {
    change: &'a Change,
    old: Option<GitMode>,
    new: Option<GitMode>,
}

impl Section<'_> {
    fn write(&self, contents: Option<(&[u8], &[u8])>, out: &mut Vec<u8>) -> Extent {
        let path = &self.change.path;
        let old_path = self.change.renamed_from.as_ref().unwrap_or(path);
        line(out, &[b"diff --git ", &quoted("a/", old_path), b" ", &quoted("b/", path)]);
        match (self.old, self.new) {
            (None, Some(new)) => line(out, &[b"new file mode ", new.digits().as_bytes()]),
            (Some(old), None) => line(out, &[b"deleted file mode ", old.digits().as_bytes()]),
            (Some(old), Some(new)) if old != new => {
                line(out, &[b"old mode ", old.digits().as_bytes()]);
                line(out, &[b"new mode ", new.digits().as_bytes()]);
            }
            _ => {}
        }
        if self.change.renamed_from.is_some() {
            line(out, &[b"similarity index 100%"]);
            line(out, &[b"rename from ", &quoted("", old_path)]);
            line(out, &[b"rename to ", &quoted("", path)]);
        }
        match contents {
            Some((old, new)) => self.content(old_path, old, new, out),
            None => Extent::Lines(LineCount::default()),
        }
    }

    fn content(&self, old_path: &[u8], old: &[u8], new: &[u8], out: &mut Vec<u8>) -> Extent {
        let binary = is_binary(old) || is_binary(new);
        self.index(old, new, if binary { NO_BLOB.len() } else { SHORT_NAME_DIGITS }, out);
        if binary {
            binary::patch(old, new, out);
            return Extent::Binary;
        }
        if old.is_empty() && new.is_empty() {
            return Extent::Lines(LineCount::default());
        }
        let old_name = self.old.map(|_| quoted_with_end("a/", old_path));
        let new_name = self.new.map(|_| quoted_with_end("b/", &self.change.path));
        line(out, &[b"--- ", old_name.as_deref().unwrap_or(b"/dev/null")]);
        line(out, &[b"+++ ", new_name.as_deref().unwrap_or(b"/dev/null")]);
        Extent::Lines(hunks(old, new, Some(out)))
    }

    fn index(&self, old: &[u8], new: &[u8], digits: usize, out: &mut Vec<u8>) {
        let name = |mode: Option<GitMode>, content: &[u8]| {
            mode.map_or_else(|| NO_BLOB[..digits].to_owned(), |_| blob_name(content)[..digits].to_owned())
        };
        let mut words = format!("index {}..{}", name(self.old, old), name(self.new, new));
        if let (Some(old), Some(new)) = (self.old, self.new)
            && old == new
        {
            words.push(' ');
            words.push_str(new.digits());
        }
        line(out, &[words.as_bytes()]);
    }
}

fn line(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
    out.push(b'\n');
}

/// The name under which git stores content. It protects from nothing here; `git apply` asks for it with binary patches.
fn blob_name(content: &[u8]) -> String {
    let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    context.update(format!("blob {}\0", content.len()).as_bytes());
    context.update(content);
    hex::encode(context.finish().as_ref())
}

#[cfg(test)]
mod tests {
    use super::{Change, Contents, Version, VersionKind, write};

    fn file(mode: u32) -> Option<Version> {
        Some(Version { kind: VersionKind::File, mode, size_bytes: 0 })
    }

    fn link() -> Option<Version> {
        Some(Version { kind: VersionKind::Symlink, mode: 0o777, size_bytes: 0 })
    }

    #[track_caller]
    fn check(old: Option<Version>, new: Option<Version>, contents: Option<(&str, &str)>, expected: &str) {
        let change = Change { path: b"x".to_vec(), renamed_from: None, old, new };
        let contents = contents.map(|(old, new)| Contents { old: old.into(), new: new.into() });
        let mut out = Vec::new();
        write(&change, contents.as_ref(), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn sections_are_what_git_prints() {
        check(
            file(0o644),
            file(0o600),
            Some(("a\n", "b\n")),
            "diff --git a/x b/x\nindex 78981922613b..61780798228d 100644\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n",
        );
        check(
            None,
            file(0o755),
            Some(("", "")),
            "diff --git a/x b/x\nnew file mode 100755\nindex 000000000000..e69de29bb2d1\n",
        );
        check(file(0o644), file(0o755), None, "diff --git a/x b/x\nold mode 100644\nnew mode 100755\n");
        check(file(0o644), file(0o664), None, "");
        check(
            file(0o644),
            link(),
            Some(("a\n", "t")),
            "diff --git a/x b/x\ndeleted file mode 100644\nindex 78981922613b..000000000000\n--- a/x\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n\
             diff --git a/x b/x\nnew file mode 120000\nindex 000000000000..32f64f4d8367\n--- /dev/null\n+++ b/x\n@@ -0,0 +1 @@\n+t\n\\ No newline at end of file\n",
        );
    }

    #[test]
    fn a_rename_has_no_content() {
        let change =
            Change { path: b"d/new".to_vec(), renamed_from: Some(b"old".to_vec()), old: file(0o644), new: file(0o755) };
        let mut out = Vec::new();
        write(&change, None, &mut out);
        let expected = "diff --git a/old b/d/new\nold mode 100644\nnew mode 100755\nsimilarity index 100%\nrename from old\nrename to d/new\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
