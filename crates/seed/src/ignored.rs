//! What is ignored: the `.gitignore` files of a tree, `.git/info/exclude` and the user's own excludes, as git reads them.
//!
//! A pattern in a deeper file wins over one further up, the last one of a file wins, and nothing below an ignored directory can be
//! taken back in.

use std::collections::HashMap;
use std::path::Path;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::git::Tracked;
use super::host_dir::os;
use super::secrets;
use super::tree::{join, parent};

/// A file of rules larger than this is not read.
pub(super) const RULES_BYTES_MAX: u64 = 4 << 20;

/// The rules of one repository, or of a tree that is in none.
#[derive(Debug, Default)]
pub(super) struct Ignored {
    /// By the directory of their file, relative to the repository's root.
    by_dir: HashMap<Vec<u8>, Gitignore>,
    /// Those of no directory, the strongest first.
    outer: Vec<Gitignore>,
}

impl Ignored {
    /// Adds the rules of a directory's `.gitignore`.
    ///
    /// # Errors
    /// The first line that is no pattern; the others count.
    pub(super) fn add_dir(&mut self, dir: &[u8], text: &[u8]) -> Result<(), String> {
        let (rules, error) = parse(text);
        if !rules.is_empty() {
            self.by_dir.insert(dir.to_vec(), rules);
        }
        error.map_or(Ok(()), Err)
    }

    /// Adds rules that are weaker than all before.
    ///
    /// # Errors
    /// The first line that is no pattern; the others count.
    pub(super) fn add_outer(&mut self, text: &[u8]) -> Result<(), String> {
        let (rules, error) = parse(text);
        if !rules.is_empty() {
            self.outer.push(rules);
        }
        error.map_or(Ok(()), Err)
    }

    /// Whether a path relative to the repository's root is ignored by itself. What is above it is not looked at.
    pub(super) fn is_ignored(&self, path: &[u8], is_dir: bool) -> bool {
        let mut dir = parent(path);
        loop {
            if let Some(rules) = self.by_dir.get(dir) {
                let below = if dir.is_empty() { path } else { &path[dir.len() + 1..] };
                match rules.matched(Path::new(os(below)), is_dir) {
                    Match::None => {}
                    found => return found.is_ignore(),
                }
            }
            if dir.is_empty() {
                break;
            }
            dir = parent(dir);
        }
        let found =
            self.outer.iter().map(|rules| rules.matched(Path::new(os(path)), is_dir)).find(|found| !found.is_none());
        found.is_some_and(|found| found.is_ignore())
    }

    /// Whether a path is ignored by itself or because a directory above it is.
    pub(super) fn is_ignored_anyhow(&self, path: &[u8], is_dir: bool) -> bool {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
        ends.into_iter().any(|end| self.is_ignored(&path[..end], true)) || self.is_ignored(path, is_dir)
    }
}

fn parse(text: &[u8]) -> (Gitignore, Option<String>) {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    // Paths are given relative to the directory of the rules, which the crate writes as a dot.
    let mut builder = GitignoreBuilder::new(".");
    builder.allow_unclosed_class(false);
    let mut first_error = None;
    for line in text.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let added = match std::str::from_utf8(line) {
            Ok(line) => builder.add_line(None, line).map(drop).map_err(|error| error.to_string()),
            Err(_) => Err(format!("{} is not UTF-8", String::from_utf8_lossy(line))),
        };
        first_error = first_error.or(added.err());
    }
    match builder.build() {
        Ok(rules) => (rules, first_error),
        Err(error) => (Gitignore::empty(), first_error.or(Some(error.to_string()))),
    }
}

/// What a whole seed leaves out: the rules of each repository in it.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// Nothing is left out as ignored.
    pub(super) all: bool,
    /// Nothing is left out as secret.
    pub(super) secrets: bool,
    pub(super) parts: Vec<Part>,
}

/// One repository in a seed, or all of a seed that is in none: its rules, and the names that these do not concern.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// Where its root, or the part of it that is the seed, lies in the seed.
    pub(super) at: Vec<u8>,
    /// Where the seed lies in the repository, when it is only a part of it.
    pub(super) prefix: Vec<u8>,
    pub(super) ignored: Ignored,
    pub(super) tracked: Tracked,
}

impl Part {
    /// A path of the seed as this repository knows it.
    pub(super) fn own_path(&self, path: &[u8]) -> Vec<u8> {
        let below = path.get(self.at.len()..).unwrap_or_default();
        join(&self.prefix, below.strip_prefix(b"/").unwrap_or(below))
    }

    fn holds(&self, path: &[u8]) -> bool {
        self.at.is_empty() || path.strip_prefix(&self.at[..]).is_some_and(|rest| rest.starts_with(b"/"))
    }
}

impl Rules {
    /// Whether a path of the seed is left out, were it in the source.
    pub(super) fn leave_out(&self, path: &[u8], is_dir: bool) -> bool {
        // Of repositories in each other the inner one decides.
        let part = self.parts.iter().filter(|part| part.holds(path)).max_by_key(|part| part.at.len());
        let own = part.map(|part| part.own_path(path)).unwrap_or_default();
        if part.is_some_and(|part| if is_dir { part.tracked.has_below(&own) } else { part.tracked.has(&own) }) {
            return false;
        }
        let secret = !is_dir && !self.secrets && secrets::suspicion(path).is_some();
        secret || (!self.all && part.is_some_and(|part| part.ignored.is_ignored_anyhow(&own, is_dir)))
    }
}

#[cfg(test)]
mod tests {
    use super::{Ignored, Part, Rules};

    fn ignored() -> Ignored {
        let mut ignored = Ignored::default();
        ignored.add_dir(b"", b"\xef\xbb\xbf*.log\r\n/build/\n!keep.log\ndocs/*.html\n\\#x\ntrailing \n").unwrap();
        ignored.add_dir(b"sub", b"!a.log\n/only-here\n").unwrap();
        ignored.add_outer(b"*.swp\n").unwrap();
        ignored.add_outer(b"!x.swp\n*.bak\n").unwrap();
        ignored
    }

    #[track_caller]
    fn check(path: &[u8], is_dir: bool, expected: bool) {
        assert_eq!(ignored().is_ignored_anyhow(path, is_dir), expected, "{}", String::from_utf8_lossy(path));
    }

    #[test]
    fn patterns_are_read_as_git_reads_them() {
        check(b"x.log", false, true);
        check(b"keep.log", false, false);
        check(b"deep/er/x.log", false, true);
        check(b"sub/a.log", false, false);
        check(b"sub/deeper/a.log", false, false);
        check(b"sub/b.log", false, true);
        check(b"build", true, true);
        check(b"build", false, false);
        check(b"build/keep.log", false, true);
        check(b"other/build", true, false);
        check(b"docs/a.html", false, true);
        check(b"docs/deep/a.html", false, false);
        check(b"only-here", false, false);
        check(b"sub/only-here", false, true);
        check(b"#x", false, true);
        check(b"trailing", false, true);
        check(b"x.swp", false, true);
        check(b"x.bak", false, true);
        check(b"\xff\xfe.log", false, true);
    }

    #[test]
    fn a_bad_line_is_told_and_the_others_count() {
        let mut ignored = Ignored::default();
        assert!(ignored.add_dir(b"", b"[z-a]\n*.log\n\xff\n").is_err());
        assert!(ignored.is_ignored(b"a.log", false));
    }

    #[test]
    fn the_innermost_repository_decides() {
        let mut inner = Ignored::default();
        inner.add_dir(b"", b"target\n").unwrap();
        let parts = vec![
            Part { prefix: b"part".to_vec(), ignored: ignored(), ..Part::default() },
            Part { at: b"vendor/x".to_vec(), ignored: inner, ..Part::default() },
        ];
        let rules = Rules { parts, ..Rules::default() };
        let check = |path: &[u8], is_dir, expected| {
            assert_eq!(rules.leave_out(path, is_dir), expected, "{}", String::from_utf8_lossy(path));
        };
        check(b"a.log", false, true);
        check(b"build", true, false);
        check(b"vendor/x/a.log", false, false);
        check(b"vendor/x/target/y", false, true);
        check(b"vendor/x/.env", false, true);
    }
}
