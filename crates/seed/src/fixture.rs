//! For the tests of this room: repositories made by the host's own git, and seeds laid out as the guest would see them.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::content::Contents;
use super::host_dir::os;
use super::notes::About;
use super::tree::{SeedKind, SeedTree};
use super::{GitUser, Reach, SeedRequest, survey};

/// A place for a test, and what stands for the user's home in it.
pub(super) struct Place {
    dir: TempDir,
}

impl Place {
    pub(super) fn new() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(place.path("home")).unwrap();
        fs::create_dir(place.path("scratch")).unwrap();
        place
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        // Links are resolved, so that paths in git's own files and ours are the same.
        self.dir.path().canonicalize().unwrap().join(name)
    }

    /// Writes a file and makes its parents.
    pub(super) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(super) fn request(&self, name: &str) -> SeedRequest {
        SeedRequest {
            source: self.path(name),
            all: false,
            secrets: false,
            git: GitUser {
                name: Some(b"Some \"One\"".to_vec()),
                email: Some(b"one@x.example".to_vec()),
                excludes: None,
            },
            reach: Reach::Anywhere,
            archive_bytes_max: 1 << 30,
            scratch_dir: self.path("scratch"),
        }
    }

    pub(super) fn survey(&self, name: &str) -> SeedTree {
        survey(&self.request(name)).unwrap()
    }

    /// Runs git in a directory; what it prints. `None` when the host has no git.
    pub(super) fn git_in(&self, dir: &Path, words: &[&str]) -> Option<String> {
        #[expect(clippy::disallowed_methods, reason = "fixtures are made, and results judged, by the host's own git")]
        let mut command = std::process::Command::new("git");
        let configured =
            ["user.name=T", "user.email=t@x.example", "protocol.file.allow=always", "init.defaultBranch=main"];
        command.env("HOME", self.path("home")).env("GIT_CONFIG_NOSYSTEM", "1").env_remove("XDG_CONFIG_HOME");
        command.current_dir(dir).args(configured.iter().flat_map(|pair| ["-c", pair])).args(words);
        match command.output() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            output => {
                let output = output.unwrap();
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                let errors = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "git {words:?}: {text}{errors}");
                Some(text)
            }
        }
    }

    pub(super) fn git(&self, name: &str, words: &[&str]) -> Option<String> {
        self.git_in(&self.path(name), words)
    }

    /// A repository with one commit of `a`, `sub/b` and a rule that ignores `*.log` and `build/`. `None` without git.
    pub(super) fn repository(&self, name: &str) -> Option<()> {
        self.write(&format!("{name}/a"), "a\n");
        self.write(&format!("{name}/sub/b"), "b\n");
        self.write(&format!("{name}/.gitignore"), "*.log\nbuild/\n.env\n");
        self.git(name, &["init", "-q"])?;
        self.git(name, &["add", "-A"])?;
        self.git(name, &["commit", "-qm", "first"])?;
        Some(())
    }

    /// Lays a seed out in a directory, as it is in a guest.
    pub(super) fn lay_out(&self, tree: &SeedTree) -> Laid {
        let dir = tempfile::tempdir_in(self.dir.path()).unwrap();
        lay_out(tree, dir.path());
        Laid { path: dir.path().canonicalize().unwrap(), _dir: dir }
    }
}

/// A seed that was laid out.
pub(super) struct Laid {
    pub(super) path: PathBuf,
    _dir: TempDir,
}

fn lay_out(tree: &SeedTree, root: &Path) {
    let mut contents = Contents::new(tree);
    for entry in &tree.entries {
        let path = root.join(os(&entry.path));
        match &entry.kind {
            SeedKind::Directory => fs::create_dir(&path).unwrap(),
            SeedKind::Symlink(target) => symlink(os(target), &path).unwrap(),
            SeedKind::HardLink(first) => fs::hard_link(root.join(os(&tree.entries[*first].path)), &path).unwrap(),
            SeedKind::File { size_bytes, content } => {
                let mut opened = contents.open(content, *size_bytes).unwrap();
                let mut bytes = Vec::new();
                opened.read_to_end(&mut bytes).unwrap();
                assert_eq!(opened.fault(), None);
                fs::write(&path, bytes).unwrap();
                let mtime = std::time::UNIX_EPOCH
                    + std::time::Duration::new(
                        entry.attributes.mtime.seconds as u64,
                        entry.attributes.mtime.nanoseconds,
                    );
                File::options().write(true).open(&path).unwrap().set_modified(mtime).unwrap();
                fs::set_permissions(&path, PermissionsExt::from_mode(entry.attributes.mode.into())).unwrap();
            }
        }
    }
}

/// The paths in a tree, but not what is in `.git`.
pub(super) fn paths(tree: &SeedTree) -> Vec<String> {
    let paths = tree.entries.iter().map(|entry| String::from_utf8_lossy(&entry.path).into_owned());
    paths.filter(|path| !path.split('/').any(|part| part == ".git")).collect()
}

/// The paths and details of the notes about something.
pub(super) fn noted(tree: &SeedTree, about: About) -> Vec<(String, String)> {
    let groups = tree.notes.groups().filter(|(found, ..)| *found == about);
    let notes = groups.flat_map(|(_, _, notes)| notes);
    notes.map(|note| (String::from_utf8_lossy(&note.path).into_owned(), note.detail.clone())).collect()
}
