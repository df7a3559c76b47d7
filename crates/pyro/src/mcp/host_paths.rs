//! Which paths of the host a model may name: those inside the directories that the server's user allowed, and nothing that
//! a link inside them leads out to.
//!
//! A path is opened step by step under the allowed directory by the kernel (`openat2` with `RESOLVE_BENEATH`), so that it
//! cannot be exchanged between the check and the use: what is opened is what was checked.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use crate::failure::{Failure, Kind};

/// Longest path that the kernel takes, in bytes.
const PATH_BYTES_MAX: usize = 4095;

/// The directories that may be reached.
#[derive(Debug)]
pub(super) struct HostPaths {
    roots: Vec<Root>,
}

#[derive(Debug)]
struct Root {
    /// As the kernel calls it, without links.
    path: PathBuf,
    dir: OwnedFd,
}

/// A path of the host that may be used, held open.
#[derive(Debug)]
pub(super) struct HostPath {
    /// Where it is, for people and for what is written down.
    pub(super) path: PathBuf,
    /// Keeps it what it was when it was checked.
    _file: File,
}

/// A place on the host where something may be made.
#[derive(Debug)]
pub(super) struct HostPlace {
    /// Where it will be.
    pub(super) path: PathBuf,
    /// The directory it will be in, which is there.
    pub(super) dir: File,
    /// Its name in there.
    pub(super) name: std::ffi::OsString,
}

impl HostPaths {
    /// The given directories.
    ///
    /// # Errors
    /// One is none.
    pub(super) fn new(dirs: &[PathBuf]) -> Result<Self, Failure> {
        let roots = dirs.iter().map(|dir| {
            let open = || -> io::Result<Root> {
                let path = std::fs::canonicalize(dir)?;
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let opened = rustix::fs::open(&path, flags, Mode::empty())?;
                Ok(Root { path, dir: opened })
            };
            open().map_err(|error| {
                Failure::new(Kind::Usage, format!("{} cannot be allowed", dir.display()))
                    .caused_by(error.to_string())
                    .hint("name a directory that is there")
            })
        });
        Ok(Self { roots: roots.collect::<Result<_, _>>()? })
    }

    /// The directories themselves.
    pub(super) fn dirs(&self) -> Vec<PathBuf> {
        self.roots.iter().map(|root| root.path.clone()).collect()
    }

    /// Opens what `word` names: an absolute path, or one relative to the first allowed directory.
    ///
    /// # Errors
    /// It is outside, or not there.
    pub(super) fn open(&self, word: &str) -> Result<HostPath, Failure> {
        let (root, inside) = self.locate(word)?;
        let opened =
            beneath(&root.dir, &inside, OFlags::RDONLY | OFlags::NONBLOCK).map_err(|errno| self.told(word, errno))?;
        Ok(HostPath { path: root.path.join(&inside), _file: opened.into() })
    }

    /// The place that `word` names, in a directory that is there.
    ///
    /// # Errors
    /// It is outside, or its directory is not there.
    pub(super) fn place(&self, word: &str) -> Result<HostPlace, Failure> {
        let (root, inside) = self.locate(word)?;
        let (Some(name), parent) = (inside.file_name(), inside.parent().unwrap_or(Path::new(""))) else {
            return Err(Failure::new(Kind::Usage, format!("{word} is an allowed directory itself"))
                .hint("name a file or directory to make in it"));
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let dir = beneath(&root.dir, parent, flags).map_err(|errno| self.told(word, errno))?;
        Ok(HostPlace { path: root.path.join(&inside), dir: dir.into(), name: name.to_owned() })
    }

    /// The allowed directory that holds a path, and the path in it.
    fn locate(&self, word: &str) -> Result<(&Root, PathBuf), Failure> {
        let first = self.roots.first().ok_or_else(|| self.refused(word))?;
        if word.is_empty() || word.contains('\0') || word.len() > PATH_BYTES_MAX {
            let why = match word {
                "" => "is empty".to_owned(),
                _ if word.contains('\0') => "holds a NUL byte".to_owned(),
                _ => format!("is longer than {PATH_BYTES_MAX} bytes"),
            };
            let words = format!("the host path {:?} {why}", word.chars().take(80).collect::<String>());
            return Err(Failure::new(Kind::Usage, words).hint("name a file or directory, such as \".\" or \"src\""));
        }
        let path = Path::new(word);
        if path.is_relative() {
            return Ok((first, plain(path).ok_or_else(|| self.refused(word))?));
        }
        let within = |root: &Root| {
            // The user's own way of naming the directory may lead through links.
            let inside = path.strip_prefix(&root.path).ok().map(Path::to_owned);
            inside.or_else(|| outward(path, &root.path))
        };
        let found = self.roots.iter().find_map(|root| Some((root, plain(&within(root)?)?)));
        found.ok_or_else(|| self.refused(word))
    }

    fn refused(&self, word: &str) -> Failure {
        let roots: Vec<String> = self.roots.iter().map(|root| root.path.display().to_string()).collect();
        let shown: String = word.chars().take(200).collect();
        Failure::new(Kind::Usage, format!("the host path {shown:?} is outside of what this server may reach"))
            .hint(format!("use a path in {}; the user can allow more with --allow-path", roots.join(", ")))
    }

    fn told(&self, word: &str, errno: Errno) -> Failure {
        match errno {
            Errno::XDEV | Errno::LOOP => self.refused(word),
            Errno::NOENT | Errno::NOTDIR => {
                Failure::new(Kind::NotFound, format!("the host path {word:?} does not exist"))
                    .hint("name one that is there, relative to the server's directory or absolute")
            }
            Errno::NXIO => Failure::new(Kind::Usage, format!("the host path {word:?} is a socket or a device"))
                .hint("name a directory or an archive"),
            errno => Failure::new(Kind::HostNotReady, format!("the host path {word:?} cannot be opened: {errno}"))
                .hint("name another one"),
        }
    }
}

/// A path without `.` and `..`; none if it leads up.
fn plain(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(plain)
}

/// The rest of `path` after the ancestor that is `root` under another name.
fn outward(path: &Path, root: &Path) -> Option<PathBuf> {
    let ancestor = path.ancestors().find(|one| std::fs::canonicalize(one).is_ok_and(|real| real == root))?;
    path.strip_prefix(ancestor).ok().map(Path::to_owned)
}

fn beneath(dir: &OwnedFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    if path.as_os_str().is_empty() {
        let again = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(dir));
        return rustix::fs::openat(CWD, again, flags | OFlags::CLOEXEC, Mode::empty());
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    openat2(dir, path, flags | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty(), resolve)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::HostPaths;

    fn allowed() -> (tempfile::TempDir, HostPaths) {
        let dir = tempfile::tempdir().unwrap();
        let project = dir.path().join("project");
        std::fs::create_dir_all(project.join("src")).unwrap();
        std::fs::write(project.join("src/main.rs"), "fn main() {}").unwrap();
        std::fs::write(dir.path().join("secret"), "secret").unwrap();
        symlink("../secret", project.join("out")).unwrap();
        symlink(dir.path(), project.join("up")).unwrap();
        symlink("src", project.join("in")).unwrap();
        symlink("/proc/self/root", project.join("magic")).unwrap();
        symlink(&project, dir.path().join("alias")).unwrap();
        let paths = HostPaths::new(&[project]).unwrap();
        (dir, paths)
    }

    #[test]
    fn what_is_inside_is_found_by_every_name() {
        let (dir, paths) = allowed();
        for word in ["src/main.rs", "./src/main.rs", "in/main.rs", "."] {
            paths.open(word).unwrap();
        }
        paths.open(dir.path().join("project/src").to_str().unwrap()).unwrap();
        paths.open(dir.path().join("alias/src/main.rs").to_str().unwrap()).unwrap();
        let place = paths.place("src/new.patch").unwrap();
        assert_eq!(place.name, "new.patch");
    }

    #[test]
    fn nothing_leads_out() {
        let (dir, paths) = allowed();
        let outside = dir.path().join("secret").to_str().unwrap().to_owned();
        let words =
            ["../secret", "src/../../secret", "out", "up/secret", "magic/etc/passwd", "/etc/passwd", "/", &outside];
        for word in words {
            let told = paths.open(word).unwrap_err().in_one_line();
            assert!(told.contains("outside"), "{word}: {told}");
        }
        paths.place("up/new").unwrap_err();
        paths.place("magic/tmp/new").unwrap_err();
        paths.place(".").unwrap_err();
    }

    #[test]
    fn what_is_not_there_or_no_path_is_told_apart() {
        let (_dir, paths) = allowed();
        assert!(paths.open("").unwrap_err().in_one_line().contains("is empty"));
        assert!(paths.place("a\0b").unwrap_err().in_one_line().contains("holds a NUL byte"));
        assert!(paths.open(&"x".repeat(5000)).unwrap_err().in_one_line().contains("is longer than 4095 bytes"));
        assert!(paths.open("src/none").unwrap_err().in_one_line().contains("does not exist"));
    }
}
