//! Copies what a repository is made of into a seed as one plain `.git` directory, or the directory of a submodule.
//!
//! Left out: locks, unfinished objects, the file system monitor's socket, other worktrees, what points back at the host
//! (`gitdir`, `commondir`), and hooks unless everything is asked for, as they name programs of the host and would make the guest's
//! `git commit` fail. Borrowed objects (alternates) are put in. The configuration is edited: `user.name` and `user.email` of
//! the caller where it has none; no signing and no file system monitor, whose keys and programs are not in the guest; no
//! user name, password or token in a URL or header unless secrets are asked for; and `core.checkStat = minimal`,
//! `core.trustctime = false`, without which the guest's first `git status` would read every file, as owner, inode and time of
//! change are not those of the host.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::super::host_dir::{HostDir, Stat, bytes, os};
use super::super::notes::About;
use super::super::tree::{Attributes, Content, Moment, SeedKind, TreeBuilder, join, name, parent};
use super::super::{SeedError, SeedRequest};
use super::config::{CONFIG_BYTES_MAX, ConfigText, Entry, Fate, line};
use super::{POINTER_BYTES_MAX, Repository, Shape, resolved};

/// Directories within each other; a path of the kernel has no more.
const DEPTH_MAX: usize = 64;
/// Repositories that borrow from each other in a row, as many as git follows.
const BORROWED_DEPTH_MAX: usize = 5;

/// What an additional worktree shares with the repository it belongs to.
const SHARED: [&[u8]; 13] = [
    b"branches",
    b"config",
    b"description",
    b"grafts",
    b"hooks",
    b"info",
    b"lfs",
    b"logs",
    b"objects",
    b"packed-refs",
    b"refs",
    b"rr-cache",
    b"shallow",
];
/// What of that is nevertheless each worktree's own.
const OWN: [&[u8]; 5] = [b"logs/HEAD", b"refs/bisect", b"refs/rewritten", b"refs/worktree", b"info/sparse-checkout"];
/// What means nothing in a guest.
const LEFT_OUT: [&[u8]; 8] = [
    b"worktrees",
    b"commondir",
    b"gitdir",
    b"locked",
    b"gc.pid",
    b"fsmonitor--daemon",
    b"fsmonitor--daemon.ipc",
    b"objects/info/alternates",
];

/// Adds `repository` to the seed at the path `at` (`….git`).
pub(in super::super) fn copy_git_dir(
    tree: &mut TreeBuilder,
    request: &SeedRequest,
    repository: &Repository,
    at: &[u8],
) -> Result<(), SeedError> {
    let mut copy = Copy { tree, request, at, pieces: BTreeMap::new() };
    let own = copy.hold(&repository.git_dir)?;
    let Some(own) = own else { return Ok(()) };
    if repository.git_dir != repository.common_dir {
        let Some(common) = copy.hold(&repository.common_dir)? else { return Ok(()) };
        if common.dir.has_dir(b"reftable") {
            // Such a worktree's branches are spread over two tables, which only git can merge.
            copy.tree.note(About::RepositoryNotFollowed, at, repository.git_dir.display().to_string());
            return Ok(());
        }
        copy.collect(&common, b"", &|path| is_shared(path) && is_taken(path, request.all));
    }
    copy.collect(&own, b"", &|path| is_taken(path, request.all));
    if repository.shape != Shape::Own {
        // Submodules of a worktree are made whole where they are.
        copy.remove_below(b"modules");
    }
    copy.drop_hooks();
    copy.borrow(b"", &repository.common_dir.join("objects"), 0)?;
    let role = if repository.shape == Shape::Own { Role::AsItWas } else { Role::MadeWhole };
    copy.edit_config(b"", role)?;
    copy.finish_modules()?;
    copy.emit()
}

fn is_shared(path: &[u8]) -> bool {
    let top = path.split(|byte| *byte == b'/').next().unwrap_or_default();
    SHARED.contains(&top) && !OWN.contains(&path)
}

/// Whether a path within a git directory is of use in a guest.
fn is_taken(path: &[u8], all: bool) -> bool {
    let in_dir = |dir: &[u8]| {
        let in_module = path.starts_with(b"modules/") && path.windows(dir.len()).any(|part| part == dir);
        path.starts_with(&dir[1..]) || in_module
    };
    let unfinished = in_dir(b"/objects/") && (name(path).starts_with(b"tmp_") || name(path).starts_with(b"incoming-"));
    let is_hook = in_dir(b"/hooks/");
    let lock = path.ends_with(b".lock") && !is_hook;
    let sample = is_hook && path.ends_with(b".sample") && !all;
    !LEFT_OUT.contains(&path) && !unfinished && !lock && !sample
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// It stays where it was in relation to its working tree.
    AsItWas,
    /// It becomes the `.git` of the working tree it is for.
    MadeWhole,
}

/// A directory of the host and its number in the tree.
struct Held {
    dir: HostDir,
    number: usize,
}

enum Piece {
    Directory(Attributes),
    File(Stat, Content),
    Symlink(Attributes, Vec<u8>),
    Text(Attributes, Vec<u8>),
}

struct Copy<'a> {
    tree: &'a mut TreeBuilder,
    request: &'a SeedRequest,
    at: &'a [u8],
    /// By path within the git directory.
    pieces: BTreeMap<Vec<u8>, Piece>,
}

impl Copy<'_> {
    fn hold(&mut self, path: &Path) -> Result<Option<Held>, SeedError> {
        let opened = HostDir::open_resolved(path).and_then(|dir| Ok((dir.below(b"")?, dir)));
        match opened {
            Ok((second, dir)) => Ok(Some(Held { number: self.tree.hold_dir(second), dir })),
            Err(error) => {
                self.tree.note(About::Unreadable, self.at, error.to_string());
                Ok(None)
            }
        }
    }

    /// Takes what is in a directory and `wanted`; what was taken before is replaced.
    fn collect(&mut self, held: &Held, at: &[u8], wanted: &dyn Fn(&[u8]) -> bool) {
        if let Ok(stat) = held.dir.own_stat() {
            self.pieces.insert(at.to_vec(), Piece::Directory(stat.attributes));
        }
        self.collect_in(&held.dir, held.number, (b"", at), wanted);
    }

    /// `below` is the path within the held directory, `at` the one within the copy.
    fn collect_in(
        &mut self,
        dir: &HostDir,
        number: usize,
        (below, at): (&[u8], &[u8]),
        wanted: &dyn Fn(&[u8]) -> bool,
    ) {
        let names = match dir.names() {
            Ok(names) => names,
            Err(error) => return self.tree.note(About::Unreadable, &join(self.at, at), error.to_string()),
        };
        for entry in names {
            let (below, at) = (join(below, &entry), join(at, &entry));
            if !wanted(&at) {
                continue;
            }
            if let Err(error) = self.collect_entry(dir, number, (&below, &at), wanted) {
                self.tree.note(About::Unreadable, &join(self.at, &at), error.to_string());
            }
        }
    }

    fn collect_entry(
        &mut self,
        dir: &HostDir,
        number: usize,
        (below, at): (&[u8], &[u8]),
        wanted: &dyn Fn(&[u8]) -> bool,
    ) -> std::io::Result<()> {
        let stat = dir.stat(name(below))?;
        let piece = match stat.file_type {
            FileType::Directory => {
                self.pieces.insert(at.to_vec(), Piece::Directory(stat.attributes));
                if at.iter().filter(|byte| **byte == b'/').count() >= DEPTH_MAX {
                    self.tree.note(About::TooDeep, &join(self.at, at), "");
                    return Ok(());
                }
                let child = dir.child(name(below))?;
                self.collect_in(&child, number, (below, at), wanted);
                return Ok(());
            }
            FileType::RegularFile => Piece::File(stat, Content::Host { dir: number, path: below.to_vec() }),
            FileType::Symlink => Piece::Symlink(stat.attributes, dir.link_target(name(below))?),
            _ => return Ok(()),
        };
        self.pieces.insert(at.to_vec(), piece);
        Ok(())
    }

    fn remove_below(&mut self, dir: &[u8]) {
        self.pieces.retain(|path, _| path != dir && !path.strip_prefix(dir).is_some_and(|rest| rest.starts_with(b"/")));
    }

    fn drop_hooks(&mut self) {
        if self.request.all {
            return;
        }
        let is_hooks = |dir: &[u8]| dir == b"hooks" || dir.ends_with(b"/hooks");
        let in_hooks = |path: &[u8]| is_hooks(parent(path)) && is_module(parent(parent(path)));
        let found: Vec<Vec<u8>> = self.pieces.keys().filter(|path| in_hooks(path)).cloned().collect();
        for path in &found {
            self.tree.note(About::HooksLeftOut, &join(self.at, path), "");
            self.remove_below(path);
        }
    }

    /// Puts the objects in that the repository whose objects are at `objects` borrows; `at` is its place in the copy.
    fn borrow(&mut self, at: &[u8], objects: &Path, depth: usize) -> Result<(), SeedError> {
        let list = HostDir::open(&objects.join("info")).and_then(|dir| dir.read(b"alternates", POINTER_BYTES_MAX));
        let Ok(Some(list)) = list else { return Ok(()) };
        for path in list.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && !line.starts_with(b"#")) {
            let path = objects.join(PathBuf::from(os(&unquoted(path))));
            let shown = path.display().to_string();
            let place = resolved(&path).filter(|path| self.may_borrow(path)).filter(|_| depth < BORROWED_DEPTH_MAX);
            let Some(place) = place else {
                self.tree.note(About::RepositoryNotFollowed, self.at, shown);
                continue;
            };
            let Some(held) = self.hold(&place)? else { continue };
            self.tree.note(About::ObjectsBorrowed, self.at, shown);
            let into = join(at, b"objects");
            let is_file = |piece: &Piece| !matches!(piece, Piece::Directory(_));
            let files = self.pieces.iter().filter(|(path, piece)| path.starts_with(&into) && is_file(piece));
            let known: HashSet<Vec<u8>> = files.map(|(path, _)| path.clone()).collect();
            let skip = into.len() + 1;
            let wanted = |path: &[u8]| is_object(&path[skip..]) && !known.contains(path);
            self.collect_in(&held.dir, held.number, (b"", &into), &wanted);
            // A chain of commit graphs may go on in the place that was borrowed from.
            self.remove_below(&join(&into, b"info/commit-graphs"));
            self.borrow(at, &place, depth + 1)?;
        }
        Ok(())
    }

    fn may_borrow(&self, objects: &Path) -> bool {
        let inside = resolved(&self.request.source).is_some_and(|root| objects.starts_with(root));
        inside || self.request.reach.allows(objects)
    }

    /// Finishes the git directories of submodules that stay below `modules`.
    fn finish_modules(&mut self) -> Result<(), SeedError> {
        let heads: Vec<Vec<u8>> = self.pieces.keys().filter(|path| name(path) == b"HEAD").cloned().collect();
        for dir in heads.iter().map(|path| parent(path)).filter(|dir| !dir.is_empty() && is_module(dir)) {
            if !self.pieces.contains_key(&join(dir, b"objects")) {
                continue;
            }
            for gone in LEFT_OUT {
                self.remove_below(&join(dir, gone));
            }
            if let Some(objects) =
                self.host_path(&join(dir, b"HEAD")).and_then(|path| Some(path.parent()?.join("objects")))
            {
                self.borrow(dir, &objects, 0)?;
            }
            self.edit_config(dir, Role::AsItWas)?;
        }
        Ok(())
    }

    /// Where a file of the copy is read from.
    fn host_path(&self, path: &[u8]) -> Option<PathBuf> {
        match self.pieces.get(path)? {
            Piece::File(_, Content::Host { dir, path }) => Some(self.tree.dir_path(*dir).join(os(path))),
            _ => None,
        }
    }

    fn edit_config(&mut self, dir: &[u8], role: Role) -> Result<(), SeedError> {
        for (file, is_main) in [(&b"config"[..], true), (b"config.worktree", false)] {
            let at = join(dir, file);
            let path = self.host_path(&at);
            if path.is_none() && !is_main {
                continue;
            }
            let attributes = match self.pieces.get(&at) {
                Some(Piece::File(stat, _)) => stat.attributes,
                _ => Attributes { mode: 0o644, mtime: Moment { seconds: 0, nanoseconds: 0 } },
            };
            match read_config(path.as_deref()) {
                Ok(text) => {
                    let (text, keys) = for_guest(&text, role, self.request, is_main);
                    if !keys.is_empty() {
                        self.tree.note(About::CredentialsLeftOut, &join(self.at, &at), keys.join(", "));
                    }
                    self.pieces.insert(at, Piece::Text(attributes, text));
                }
                // Git itself will say what is wrong with it.
                Err(cause) => self.tree.note(About::Unreadable, &join(self.at, &at), cause),
            }
        }
        Ok(())
    }

    fn emit(self) -> Result<(), SeedError> {
        for (path, piece) in self.pieces {
            let path = join(self.at, &path);
            let path = path.strip_suffix(b"/").unwrap_or(&path).to_vec();
            let (attributes, kind) = match piece {
                Piece::Directory(attributes) => (attributes, SeedKind::Directory),
                Piece::Symlink(attributes, target) => (attributes, SeedKind::Symlink(target)),
                Piece::Text(attributes, text) => {
                    let size_bytes = text.len() as u64;
                    (attributes, SeedKind::File { size_bytes, content: Content::Bytes(text) })
                }
                Piece::File(stat, content) => {
                    // Objects never change, so that one that several repositories of the seed have can be one file.
                    let is_object = path.windows(9).any(|part| part == b"/objects/");
                    self.tree.add_host_file(path, &stat, content, is_object)?;
                    continue;
                }
            };
            self.tree.add(path, attributes, kind)?;
        }
        Ok(())
    }
}

/// Whether a directory of the copy is a git directory's: the copy itself, or one below `modules`.
fn is_module(dir: &[u8]) -> bool {
    dir.is_empty() || dir.starts_with(b"modules/")
}

/// Whether a path below `objects` is an object, a pack or what describes a pack.
fn is_object(path: &[u8]) -> bool {
    let (dir, file) = (parent(path), name(path));
    let is_hex = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_hexdigit);
    match dir {
        b"" => file == b"pack" || (file.len() == 2 && is_hex(file)),
        b"pack" => {
            file.starts_with(b"pack-") && [&b".pack"[..], b".idx", b".rev"].iter().any(|end| file.ends_with(end))
        }
        _ => dir.len() == 2 && is_hex(dir) && (file.len() == 38 || file.len() == 62) && is_hex(file),
    }
}

/// A path of an alternates file; in quotes it is written as in C.
fn unquoted(path: &[u8]) -> Vec<u8> {
    let Some(inner) = path.strip_prefix(b"\"").and_then(|path| path.strip_suffix(b"\"")) else { return path.to_vec() };
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner.iter().copied();
    while let Some(byte) = rest.next() {
        match byte {
            b'\\' => out.push(match rest.next() {
                Some(b'n') => b'\n',
                Some(b't') => b'\t',
                Some(digit @ b'0'..=b'3') => {
                    let digits = [Some(digit), rest.next(), rest.next()];
                    digits.iter().flatten().fold(0_u8, |sum, digit| sum.wrapping_mul(8).wrapping_add(digit & 7))
                }
                Some(byte) => byte,
                None => b'\\',
            }),
            byte => out.push(byte),
        }
    }
    out
}

fn read_config(path: Option<&Path>) -> Result<ConfigText, String> {
    let bytes = match path {
        Some(path) => {
            let dir = HostDir::open(path.parent().unwrap_or(path)).map_err(|error| error.to_string())?;
            let file = bytes(path);
            dir.read(name(file), CONFIG_BYTES_MAX).map_err(|error| error.to_string())?.unwrap_or_default()
        }
        None => Vec::new(),
    };
    ConfigText::parse(bytes).map_err(|error| error.to_string())
}

/// The configuration for the guest, and the keys that credentials were taken out of.
fn for_guest(text: &ConfigText, role: Role, request: &SeedRequest, is_main: bool) -> (Vec<u8>, Vec<String>) {
    let mut keys = Vec::new();
    let mut out = text.rewritten(|entry| {
        if is_of_host(entry, role) {
            return Fate::Drop;
        }
        let fate = if request.secrets { Fate::Keep } else { without_credentials(entry) };
        if fate != Fate::Keep {
            let part =
                entry.subsection.as_deref().map(|part| [b".", &without_user(part)[..]].concat()).unwrap_or_default();
            keys.push(format!("{}{}.{}", entry.section, String::from_utf8_lossy(&part), entry.key));
        }
        fate
    });
    if !request.secrets {
        out = without_credentials_in_headers(&out, &mut keys);
    }
    if is_main {
        append(&mut out, text, role, request);
    }
    (out, keys)
}

fn append(out: &mut Vec<u8>, text: &ConfigText, role: Role, request: &SeedRequest) {
    let mut lines = Vec::new();
    if role == Role::MadeWhole {
        lines.push(("core", "bare", b"false".to_vec()));
    }
    for (key, value) in [("checkStat", &b"minimal"[..]), ("trustctime", b"false")] {
        if text.value("core", &key.to_ascii_lowercase()).is_none() {
            lines.push(("core", key, value.to_vec()));
        }
    }
    for (key, value) in [("name", &request.git.name), ("email", &request.git.email)] {
        if let (None, Some(value)) = (text.value("user", key), value) {
            lines.push(("user", key, value.clone()));
        }
    }
    if out.last().is_some_and(|last| *last != b'\n') {
        out.push(b'\n');
    }
    let mut section = "";
    for (of, key, value) in lines {
        if section != of {
            out.extend_from_slice(format!("[{of}]\n").as_bytes());
            section = of;
        }
        out.push(b'\t');
        out.extend_from_slice(&line(key, &value));
    }
}

/// Whether an entry names something of the host that a guest has not.
fn is_of_host(entry: &Entry, role: Role) -> bool {
    let value = entry.value.as_deref().unwrap_or_default();
    match (entry.section.as_str(), entry.key.as_str()) {
        _ if entry.subsection.is_some() => false,
        ("core", "worktree") => role == Role::MadeWhole || value.starts_with(b"/"),
        ("core", "bare") => role == Role::MadeWhole,
        ("core", "fsmonitor") | ("commit" | "tag", "gpgsign") => true,
        _ => false,
    }
}

fn without_credentials(entry: &Entry) -> Fate {
    match (entry.section.as_str(), entry.key.as_str()) {
        (_, "extraheader" | "cookiefile" | "password" | "smtppass" | "token") | ("credential", "helper") => Fate::Drop,
        (_, "url" | "pushurl" | "proxy" | "insteadof" | "pushinsteadof") => {
            let value = entry.value.as_deref().unwrap_or_default();
            let cleaned = without_user(value);
            if cleaned == value { Fate::Keep } else { Fate::Value(cleaned) }
        }
        _ => Fate::Keep,
    }
}

/// Cleans the URLs that are names of sections, such as `[url "https://token@host/"]`.
fn without_credentials_in_headers(text: &[u8], keys: &mut Vec<String>) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let cleaned = if line.trim_ascii_start().starts_with(b"[") { without_user(line) } else { line.to_vec() };
        if cleaned != line {
            keys.push(String::from_utf8_lossy(&cleaned).trim().to_owned());
        }
        out.extend_from_slice(&cleaned);
    }
    out
}

/// A URL of HTTP or FTP without the user and password in it; other text as it is.
fn without_user(text: &[u8]) -> Vec<u8> {
    for scheme in [&b"https://"[..], b"http://", b"ftp://", b"ftps://"] {
        let Some(start) = text.windows(scheme.len()).position(|part| part.eq_ignore_ascii_case(scheme)) else {
            continue;
        };
        let (before, rest) = text.split_at(start + scheme.len());
        let host_end = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
        if let Some(at) = rest[..host_end].iter().rposition(|byte| *byte == b'@') {
            return [before, &rest[at + 1..]].concat();
        }
    }
    text.to_vec()
}

#[cfg(test)]
mod tests {
    use super::{is_object, is_shared, is_taken, unquoted, without_user};

    #[test]
    fn what_is_taken_of_a_git_directory() {
        let check = |path: &str, expected| assert_eq!(is_taken(path.as_bytes(), false), expected, "{path}");
        check("HEAD", true);
        check("index.lock", false);
        check("refs/heads/x.lock", false);
        check("objects/pack/tmp_pack_x", false);
        check("objects/info/alternates", false);
        check("modules/x/objects/tmp_obj_1", false);
        check("refs/heads/objects/tmp_x", true);
        check("worktrees", false);
        check("hooks/pre-commit", true);
        check("hooks/pre-commit.sample", false);
        assert!(is_shared(b"refs/heads/x") && !is_shared(b"refs/bisect") && !is_shared(b"HEAD"));
    }

    #[test]
    fn only_objects_are_borrowed() {
        let hex = "0123456789abcdef0123456789abcdef012345";
        let check = |path: &str, expected| assert_eq!(is_object(path.as_bytes()), expected, "{path}");
        check("ab", true);
        check("pack", true);
        check("info", false);
        check(&format!("ab/{hex}"), true);
        check(&format!("ab/{hex}.bak"), false);
        check(&format!("pack/pack-{hex}00.idx"), true);
        check("pack/multi-pack-index", false);
        check("../secret", false);
    }

    #[test]
    fn users_and_passwords_leave_urls() {
        let check = |url: &str, expected: &str| assert_eq!(without_user(url.as_bytes()), expected.as_bytes(), "{url}");
        check("https://u:p@h.example/x@y", "https://h.example/x@y");
        check("http://token@h.example", "http://h.example");
        check("git@h.example:x/y", "git@h.example:x/y");
        check("ssh://git@h.example/x", "ssh://git@h.example/x");
        check("https://h.example/a@b", "https://h.example/a@b");
    }

    #[test]
    fn alternates_in_quotes_are_read_as_in_c() {
        assert_eq!(unquoted(b"/plain"), b"/plain");
        assert_eq!(unquoted(br#""/a\"b\\c\303\251\n""#), b"/a\"b\\c\xc3\xa9\n");
    }
}
