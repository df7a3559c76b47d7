//! Git's configuration files: a strict reader, and a copy of one that fits a guest.
//!
//! Includes are not followed, no command in them is run. A file that git would refuse is refused.

use std::ops::Range;
use std::path::{Path, PathBuf};

/// A configuration file larger than this is not read.
pub(super) const CONFIG_BYTES_MAX: u64 = 4 << 20;

/// The words of one configuration file.
#[derive(Debug, Clone)]
pub(super) struct ConfigText {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// In lower case.
    pub(super) section: String,
    pub(super) subsection: Option<Vec<u8>>,
    /// In lower case.
    pub(super) key: String,
    /// `None` when there is no `=`, which means true.
    pub(super) value: Option<Vec<u8>>,
    span: Range<usize>,
}

/// What becomes of an entry in a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// It stays as it is written.
    Keep,
    /// It goes.
    Drop,
    /// It gets another value.
    Value(Vec<u8>),
}

/// The text is none of git's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is not understood")]
pub(super) struct ConfigError {
    line: usize,
}

impl ConfigText {
    pub(super) fn parse(bytes: Vec<u8>) -> Result<Self, ConfigError> {
        let mut parser = Parser { text: &bytes, at: 0, section: None, entries: Vec::new() };
        if parser.text.starts_with(b"\xef\xbb\xbf") {
            parser.at = 3;
        }
        let read = parser.file();
        let line = 1 + bytes[..parser.at.min(bytes.len())].iter().filter(|byte| **byte == b'\n').count();
        let entries = parser.entries;
        read.map_or(Err(ConfigError { line }), |()| Ok(Self { bytes, entries }))
    }

    /// The last value of a setting without a subsection.
    pub(super) fn value(&self, section: &str, key: &str) -> Option<&[u8]> {
        let entry = self.entries.iter().rev().find(|entry| {
            entry.section == section && entry.subsection.is_none() && entry.key == key && entry.value.is_some()
        });
        entry.and_then(|entry| entry.value.as_deref())
    }

    /// The text with some entries gone or changed.
    pub(super) fn rewritten(&self, mut fate: impl FnMut(&Entry) -> Fate) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes.len());
        let mut copied = 0;
        for entry in &self.entries {
            match fate(entry) {
                Fate::Keep => continue,
                Fate::Drop => out.extend_from_slice(&self.bytes[copied..entry.span.start]),
                Fate::Value(value) => {
                    out.extend_from_slice(&self.bytes[copied..entry.span.start]);
                    out.extend_from_slice(&line(&entry.key, &value));
                }
            }
            copied = entry.span.end;
        }
        out.extend_from_slice(&self.bytes[copied..]);
        out
    }
}

/// `key = "value"` as a line.
pub(super) fn line(key: &str, value: &[u8]) -> Vec<u8> {
    let mut out = format!("{key} = \"").into_bytes();
    for byte in value {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\t' => out.extend_from_slice(b"\\t"),
            byte => out.push(*byte),
        }
    }
    out.extend_from_slice(b"\"\n");
    out
}

/// What of a user's own git configuration goes into a seed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GitUser {
    /// `user.name`.
    pub name: Option<Vec<u8>>,
    /// `user.email`.
    pub email: Option<Vec<u8>>,
    /// A file of patterns to ignore.
    pub excludes: Option<PathBuf>,
}

impl GitUser {
    /// Reads configuration files, the weakest first; those that are missing or not git's are passed over. `home_dir` is what `~` in
    /// a value means.
    #[must_use]
    pub fn read(files: &[PathBuf], home_dir: Option<&Path>) -> Self {
        let mut user = Self::default();
        for file in files {
            let small = std::fs::metadata(file).is_ok_and(|metadata| metadata.len() <= CONFIG_BYTES_MAX);
            let Some(text) = small.then(|| std::fs::read(file).ok()).flatten() else { continue };
            let Ok(text) = ConfigText::parse(text) else { continue };
            let value = |section, key| text.value(section, key).map(<[u8]>::to_vec);
            user.name = value("user", "name").or(user.name);
            user.email = value("user", "email").or(user.email);
            user.excludes = value("core", "excludesfile").and_then(|path| expanded(&path, home_dir)).or(user.excludes);
        }
        user
    }
}

fn expanded(path: &[u8], home_dir: Option<&Path>) -> Option<PathBuf> {
    match path.strip_prefix(b"~/") {
        Some(below) => Some(home_dir?.join(super::super::host_dir::os(below))),
        None => Some(PathBuf::from(super::super::host_dir::os(path))).filter(|path| path.is_absolute()),
    }
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    section: Option<(String, Option<Vec<u8>>)>,
    entries: Vec<Entry>,
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn take(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn file(&mut self) -> Option<()> {
        loop {
            match self.peek() {
                None => return Some(()),
                Some(byte) if byte.is_ascii_whitespace() => self.at += 1,
                Some(b'#' | b';') => self.rest_of_line(),
                Some(b'[') => self.header()?,
                Some(byte) if byte.is_ascii_alphabetic() => self.entry()?,
                Some(_) => return None,
            }
        }
    }

    fn rest_of_line(&mut self) {
        while self.take().is_some_and(|byte| byte != b'\n') {}
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.at += 1;
        }
    }

    fn word(&mut self, also: &[u8]) -> String {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_alphanumeric() || also.contains(&byte)) {
            self.at += 1;
        }
        String::from_utf8_lossy(&self.text[start..self.at]).to_ascii_lowercase()
    }

    fn header(&mut self) -> Option<()> {
        self.at += 1;
        let name = self.word(b"-.");
        if name.is_empty() {
            return None;
        }
        let mut section = match name.split_once('.') {
            Some((name, below)) => (name.to_owned(), Some(below.as_bytes().to_vec())),
            None => (name, None),
        };
        self.blanks();
        if self.peek() == Some(b'"') {
            self.at += 1;
            section.1 = Some(self.subsection()?);
        }
        self.section = Some(section);
        (self.take()? == b']').then_some(())
    }

    fn subsection(&mut self) -> Option<Vec<u8>> {
        let mut name = Vec::new();
        loop {
            match self.take()? {
                b'"' => return Some(name),
                b'\n' => return None,
                b'\\' => name.push(self.take().filter(|byte| *byte != b'\n')?),
                byte => name.push(byte),
            }
        }
    }

    fn entry(&mut self) -> Option<()> {
        let start = self.at;
        let key = self.word(b"-");
        self.blanks();
        let value = match self.peek() {
            Some(b'=') => {
                self.at += 1;
                Some(self.value()?)
            }
            None | Some(b'\n' | b'\r' | b'#' | b';') => {
                self.rest_of_line();
                None
            }
            Some(_) => return None,
        };
        let (section, subsection) = self.section.clone()?;
        self.entries.push(Entry { section, subsection, key, value, span: start..self.at });
        Some(())
    }

    fn value(&mut self) -> Option<Vec<u8>> {
        let mut value = Vec::new();
        // What stands at the end without quotes is no part of the value when it is blank.
        let mut whole = 0;
        let mut quoted = false;
        self.blanks();
        loop {
            let byte = self.take();
            match byte {
                None | Some(b'\n') if quoted => return None,
                None | Some(b'\n') => break,
                Some(b'\r') if self.peek() == Some(b'\n') => continue,
                Some(b'#' | b';') if !quoted => {
                    self.rest_of_line();
                    break;
                }
                Some(b'"') => {
                    quoted = !quoted;
                    whole = value.len();
                    continue;
                }
                Some(b'\\') => value.extend(self.escaped()?),
                Some(byte) => value.push(byte),
            }
            let blank = matches!(byte, Some(b' ' | b'\t' | b'\r'));
            if quoted || !blank {
                whole = value.len();
            }
        }
        value.truncate(whole);
        Some(value)
    }

    /// The byte after a backslash; none when the line goes on in the next.
    fn escaped(&mut self) -> Option<Option<u8>> {
        match self.take()? {
            b'\n' => Some(None),
            b'\r' => (self.take()? == b'\n').then_some(None),
            b'n' => Some(Some(b'\n')),
            b't' => Some(Some(b'\t')),
            b'b' => Some(Some(8)),
            byte @ (b'\\' | b'"') => Some(Some(byte)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{ConfigText, Fate, GitUser};

    const TEXT: &str = "\u{feff}# mine\n[core]\n\tbare = false ; why not\n\tworktree = ../../..\r\n[User]\n name = \"Åsa \\\"x\\\"\" y  \n\
        email=a@b.example\n[remote \"or\\\"igin\"] url = https://u:p@h.example/x\n[alias]\n l = !git log \\\n  --oneline\n[a.B]c\n";

    fn text() -> ConfigText {
        ConfigText::parse(TEXT.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn values_are_read_as_git_reads_them() {
        let text = text();
        assert_eq!(text.value("core", "bare"), Some(&b"false"[..]));
        assert_eq!(text.value("core", "worktree"), Some(&b"../../.."[..]));
        assert_eq!(text.value("user", "name"), Some("Åsa \"x\" y".as_bytes()));
        assert_eq!(text.value("alias", "l"), Some(&b"!git log   --oneline"[..]));
        let entry = text.entries.iter().find(|entry| entry.section == "remote").unwrap();
        assert_eq!((entry.subsection.as_deref(), entry.key.as_str()), (Some(&b"or\"igin"[..]), "url"));
        let entry = text.entries.last().unwrap();
        assert_eq!((entry.section.as_str(), entry.subsection.as_deref(), &entry.value), ("a", Some(&b"b"[..]), &None));
    }

    #[test]
    fn a_copy_differs_only_where_it_should() {
        let copy = text().rewritten(|entry| match entry.key.as_str() {
            "worktree" => Fate::Drop,
            "url" => Fate::Value(b"a\"\\b".to_vec()),
            _ => Fate::Keep,
        });
        let copied = ConfigText::parse(copy.clone()).unwrap();
        assert_eq!(copied.entries.len(), text().entries.len() - 1);
        assert_eq!(
            copied.entries.iter().find(|entry| entry.key == "url").unwrap().value.as_deref(),
            Some(&b"a\"\\b"[..])
        );
        assert!(copy.starts_with("\u{feff}# mine\n[core]\n\tbare = false ; why not\n\t[User]".as_bytes()));
    }

    #[test]
    fn what_git_refuses_is_refused_by_its_line() {
        for bad in [
            "x = 1\n",
            "[core\n",
            "[core]\n=\n",
            "[a \"b\n\"]\n",
            "[core]\nx = \"y\n",
            "[core]\nx = \\q\n",
            "[core]\nx y\n",
        ] {
            assert!(ConfigText::parse(bad.as_bytes().to_vec()).is_err(), "{bad:?}");
        }
        let error = ConfigText::parse(b"[core]\n\n?\n".to_vec()).unwrap_err();
        assert_eq!(error.to_string(), "line 3 is not understood");
    }

    #[test]
    fn a_later_file_of_the_user_wins() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        std::fs::write(&one, "[user]\nname = One\nemail = one@x.example\n[core]\nexcludesFile = ~/ignore\n").unwrap();
        std::fs::write(&two, "[user]\nname = Two\n").unwrap();
        let user = GitUser::read(&[one, dir.path().join("missing"), two], Some(dir.path()));
        assert_eq!(user.name.as_deref(), Some(&b"Two"[..]));
        assert_eq!(user.email.as_deref(), Some(&b"one@x.example"[..]));
        assert_eq!(user.excludes, Some(dir.path().join("ignore")));
    }

    proptest! {
        #[test]
        fn junk_is_read_or_refused(text in prop::collection::vec(prop_oneof![
            Just(b'['), Just(b']'), Just(b'"'), Just(b'\\'), Just(b'\n'), Just(b'='), Just(b' '), Just(b';'), any::<u8>(),
        ], 0..200)) {
            if let Ok(text) = ConfigText::parse(text.clone()) {
                prop_assert_eq!(text.rewritten(|_| Fate::Keep), text.bytes.clone());
                let copy = text.rewritten(|entry| entry.value.clone().map_or(Fate::Keep, Fate::Value));
                let again = ConfigText::parse(copy).expect("what is written here can be read");
                let values = |text: &ConfigText| text.entries.iter().map(|entry| entry.value.clone()).collect::<Vec<_>>();
                prop_assert_eq!(values(&again), values(&text));
            }
        }
    }
}
