//! Trees of files: made at random, changed at random, compared, and handed to the host's git, which is the judge of patches.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use proptest::prelude::*;

/// What is at a path, as far as git knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Thing {
    File { content: Vec<u8>, executable: bool },
    Link(Vec<u8>),
}

pub(crate) type Tree = BTreeMap<Vec<u8>, Thing>;

/// Reads a tree, without git's own directory.
pub(crate) fn read(top: &Path) -> Tree {
    fn walk(dir: &Path, prefix: &[u8], tree: &mut Tree) {
        for entry in std::fs::read_dir(dir).expect("a folder") {
            let entry = entry.expect("an entry");
            if entry.file_name() == ".git" {
                continue;
            }
            let path = [prefix, entry.file_name().as_bytes()].concat();
            let metadata = std::fs::symlink_metadata(entry.path()).expect("there");
            if metadata.is_dir() {
                walk(&entry.path(), &[&path, &b"/"[..]].concat(), tree);
            } else if metadata.is_symlink() {
                let target = std::fs::read_link(entry.path()).expect("a link");
                tree.insert(path, Thing::Link(target.as_os_str().as_bytes().to_vec()));
            } else {
                let content = std::fs::read(entry.path()).expect("a file");
                tree.insert(path, Thing::File { content, executable: metadata.mode() & 0o100 != 0 });
            }
        }
    }
    let mut tree = Tree::new();
    walk(top, b"", &mut tree);
    tree
}

/// Whether a link leads back to itself.
pub(crate) fn has_loop(top: &Path) -> bool {
    let is_loop = |path: &Vec<u8>| {
        let error = std::fs::metadata(top.join(OsStr::from_bytes(path))).err();
        error.and_then(|error| error.raw_os_error()) == Some(rustix::io::Errno::LOOP.raw_os_error())
    };
    read(top).keys().any(is_loop)
}

/// The bytes at each path, whatever they are.
pub(crate) fn contents(tree: Tree) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let bytes = |thing| match thing {
        Thing::File { content, .. } => content,
        Thing::Link(target) => target,
    };
    tree.into_iter().map(|(path, thing)| (path, bytes(thing))).collect()
}

/// Writes a tree into an empty directory.
pub(crate) fn write(top: &Path, tree: &Tree) {
    for (path, thing) in tree {
        let path = top.join(OsStr::from_bytes(path));
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        match thing {
            Thing::Link(target) => symlink(OsStr::from_bytes(target), &path).expect("a link"),
            Thing::File { content, executable } => {
                std::fs::write(&path, content).expect("written");
                let mode = if *executable { 0o755 } else { 0o644 };
                std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("a mode");
            }
        }
    }
}

/// One change to a tree. Those that make no sense where they meet it do nothing.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Write(PathBuf, Vec<u8>),
    Append(PathBuf, Vec<u8>),
    /// Replaces the line of this number by another.
    Edit(PathBuf, usize, Vec<u8>),
    Link(PathBuf, PathBuf),
    Remove(PathBuf),
    MakeDirectory(PathBuf),
    Rename(PathBuf, PathBuf),
    Executable(PathBuf),
    Permissions(PathBuf, u32),
}

impl Step {
    pub(crate) fn apply(&self, top: &Path) {
        match self {
            Self::Write(path, content) => {
                let path = top.join(path);
                drop(path.parent().map(std::fs::create_dir_all));
                if !path.is_symlink() {
                    drop(std::fs::write(path, content));
                }
            }
            Self::Append(path, more) => change(&top.join(path), |content| content.extend_from_slice(more)),
            Self::Edit(path, number, line) => change(&top.join(path), |content| {
                let mut lines: Vec<Vec<u8>> = content.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
                let count = lines.len();
                lines[number % count].clone_from(line);
                *content = lines.join(&b'\n');
            }),
            Self::Link(path, target) => drop(symlink(target, top.join(path))),
            Self::Remove(path) => {
                let path = top.join(path);
                match path.is_dir() && !path.is_symlink() {
                    true => drop(std::fs::remove_dir_all(path)),
                    false => drop(std::fs::remove_file(path)),
                }
            }
            Self::MakeDirectory(path) => drop(std::fs::create_dir(top.join(path))),
            Self::Rename(from, to) => drop(std::fs::rename(top.join(from), top.join(to))),
            Self::Executable(path) => {
                let path = top.join(path);
                if let Some(metadata) = std::fs::symlink_metadata(&path).ok().filter(std::fs::Metadata::is_file) {
                    let mode = metadata.mode() ^ 0o111;
                    drop(std::fs::set_permissions(path, PermissionsExt::from_mode(mode)));
                }
            }
            Self::Permissions(path, mode) => {
                let path = top.join(path);
                if path.is_file() && !path.is_symlink() {
                    drop(std::fs::set_permissions(path, PermissionsExt::from_mode(*mode)));
                }
            }
        }
    }
}

fn change(path: &Path, how: impl FnOnce(&mut Vec<u8>)) {
    if !path.is_symlink()
        && let Ok(mut content) = std::fs::read(path)
    {
        how(&mut content);
        drop(std::fs::write(path, content));
    }
}

/// A name of a file, odd ones included.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let odd: [&[u8]; 14] = [
        b"a",
        b"b",
        b"c",
        b"lib",
        b"src",
        b"x.txt",
        b"-dash",
        b"sp ace",
        b"trailing ",
        b"qu\"ote\\",
        b"new\nline",
        b"t\tab",
        b"\xff\xfe",
        "gr\u{f6}\u{df}e".as_bytes(),
    ];
    prop::sample::select(odd.to_vec()).prop_map(<[u8]>::to_vec)
}

/// A path of one to three names.
fn path() -> impl Strategy<Value = PathBuf> {
    prop::collection::vec(name(), 1..=3).prop_map(|names| PathBuf::from(OsStr::from_bytes(&names.join(&b'/'))))
}

/// A file's content: empty, text with and without a last line break, other line ends, bytes that are no text.
fn content() -> impl Strategy<Value = Vec<u8>> {
    let line = prop::sample::select(vec![
        "one",
        "two",
        "three",
        "",
        "    four",
        "fn five() {",
        "}",
        "\\ six",
        "-- seven",
        "+eight",
    ]);
    let text = prop::collection::vec(line, 0..30);
    prop_oneof![
        6 => text.clone().prop_map(|lines| lines.iter().map(|line| format!("{line}\n")).collect::<String>().into_bytes()),
        2 => text.clone().prop_map(|lines| lines.join("\n").into_bytes()),
        1 => text.prop_map(|lines| lines.iter().map(|line| format!("{line}\r\n")).collect::<String>().into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..200),
        1 => Just(Vec::new()),
    ]
}

/// A tree of a few files and links.
pub(crate) fn tree() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(
        prop_oneof![8 => (path(), content()).prop_map(|(path, content)| Step::Write(path, content)), 1 => link()],
        0..12,
    )
}

fn link() -> impl Strategy<Value = Step> {
    (path(), path()).prop_map(|(path, target)| Step::Link(path, target))
}

/// What happens to a tree.
pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (path(), content()).prop_map(|(path, content)| Step::Write(path, content)),
        1 => (path(), content()).prop_map(|(path, content)| Step::Append(path, content)),
        3 => (path(), any::<usize>(), content()).prop_map(|(path, number, line)| Step::Edit(path, number, line)),
        1 => link(),
        3 => path().prop_map(Step::Remove),
        1 => path().prop_map(Step::MakeDirectory),
        4 => (path(), path()).prop_map(|(from, to)| Step::Rename(from, to)),
        2 => path().prop_map(Step::Executable),
        1 => (path(), prop::sample::select(vec![0o600, 0o664, 0o700])).prop_map(|(path, mode)| Step::Permissions(path, mode)),
    ];
    prop::collection::vec(step, 1..12)
}

/// A git repository of the host's git, with one commit of all that is in it.
pub(crate) struct Repository {
    home: tempfile::TempDir,
}

impl Repository {
    /// None where there is no git: the caller says so.
    pub(crate) fn new() -> Option<Self> {
        let repository = Self { home: tempfile::tempdir().expect("a folder") };
        std::fs::create_dir(repository.top()).expect("a folder");
        repository.git(&["init", "--quiet"]).then_some(repository)
    }

    pub(crate) fn top(&self) -> PathBuf {
        self.home.path().join("tree")
    }

    pub(crate) fn commit(&self) {
        assert!(self.git(&["add", "--all", "--force", "."]), "added");
        assert!(
            self.git(&["-c", "user.name=x", "-c", "user.email=x", "commit", "--quiet", "--allow-empty", "-m", "x"]),
            "committed"
        );
    }

    /// Whether git takes a patch.
    pub(crate) fn apply(&self, arguments: &[&str], patch: &[u8]) -> bool {
        let file = self.home.path().join("patch");
        std::fs::write(&file, patch).expect("written");
        let file = file.to_str().expect("text");
        self.git(&[&["apply", "--whitespace=nowarn"], arguments, &[file]].concat())
    }

    /// What git prints.
    pub(crate) fn output(&self, arguments: &[&str]) -> Vec<u8> {
        let output = self.command(arguments).output().expect("git starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    fn git(&self, arguments: &[&str]) -> bool {
        self.command(arguments).stdout(Stdio::null()).status().is_ok_and(|status| status.success())
    }

    #[expect(clippy::disallowed_methods, reason = "the test asks the host's git")]
    fn command(&self, arguments: &[&str]) -> Command {
        let mut git = Command::new("git");
        git.args(arguments).current_dir(self.top()).env("HOME", self.home.path());
        git.env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CEILING_DIRECTORIES", self.home.path());
        git
    }
}
