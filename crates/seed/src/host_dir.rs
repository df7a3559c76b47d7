//! A directory of the host, held open. What lies below is reached by its descriptor and never through a link, so that
//! nothing that changes meanwhile leads out of it.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, readlinkat, statat};

use super::tree::{Attributes, Moment};

/// An open directory, with its path for messages.
#[derive(Debug)]
pub(super) struct HostDir {
    path: PathBuf,
    fd: OwnedFd,
}

/// What the host says of an entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stat {
    pub(super) file_type: FileType,
    pub(super) attributes: Attributes,
    pub(super) size_bytes: u64,
    pub(super) links: u64,
    /// Device and inode.
    pub(super) inode: (u64, u64),
}

const DIR_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// A pipe that was put in the place of a file must not block.
const FILE_FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

impl HostDir {
    /// Opens a directory by a path that the caller trusts; links in it are followed.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let fd = rustix::fs::open(path, DIR_FLAGS, Mode::empty())?;
        Ok(Self { path: path.to_owned(), fd })
    }

    /// Opens a directory by a path without links in it, and sees to it that it is the one at that path: that nobody put a link
    /// into the path since it was looked at.
    pub(super) fn open_resolved(path: &Path) -> io::Result<Self> {
        let dir = Self::open(path)?;
        let opened = readlinkat(CWD, format!("/proc/self/fd/{}", dir.fd.as_raw_fd()), Vec::new())?;
        if opened.as_bytes() == bytes(path) { Ok(dir) } else { Err(io::Error::other("it was moved meanwhile")) }
    }

    /// Opens a directory in this one; a link is refused.
    pub(super) fn child(&self, name: &[u8]) -> io::Result<Self> {
        let fd = openat(&self.fd, name, DIR_FLAGS | OFlags::NOFOLLOW, Mode::empty())?;
        Ok(Self { path: self.path.join(os(name)), fd })
    }

    /// Opens the directory at a path below this one; no part of it may be a link.
    pub(super) fn below(&self, path: &[u8]) -> io::Result<Self> {
        let mut dir = Self { path: self.path.clone(), fd: rustix::io::fcntl_dupfd_cloexec(&self.fd, 3)? };
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            dir = dir.child(name)?;
        }
        Ok(dir)
    }

    /// Where it was when it was opened.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The names in it, sorted.
    pub(super) fn names(&self) -> io::Result<Vec<Vec<u8>>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.fd)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(name.to_vec());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// What an entry is; of a link, what the link is.
    pub(super) fn stat(&self, name: &[u8]) -> io::Result<Stat> {
        Ok(statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).map(|stat| Stat::of(&stat))?)
    }

    /// What the directory itself is.
    pub(super) fn own_stat(&self) -> io::Result<Stat> {
        Ok(rustix::fs::fstat(&self.fd).map(|stat| Stat::of(&stat))?)
    }

    /// Where a link leads.
    pub(super) fn link_target(&self, name: &[u8]) -> io::Result<Vec<u8>> {
        Ok(readlinkat(&self.fd, name, Vec::new())?.into_bytes())
    }

    /// Opens a regular file for reading, and says what it is; anything else is refused.
    pub(super) fn open_file(&self, name: &[u8]) -> io::Result<(File, Metadata)> {
        let file = File::from(openat(&self.fd, name, FILE_FLAGS, Mode::empty())?);
        let metadata = file.metadata()?;
        if metadata.is_file() { Ok((file, metadata)) } else { Err(io::ErrorKind::InvalidInput.into()) }
    }

    /// The content of a regular file; `None` when there is none of that name.
    pub(super) fn read(&self, name: &[u8], bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
        let file = match self.open_file(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            result => result?.0,
        };
        let mut bytes = Vec::new();
        file.take(bytes_max + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > bytes_max { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(Some(bytes)) }
    }

    /// Whether there is a directory of this name.
    pub(super) fn has_dir(&self, name: &[u8]) -> bool {
        self.stat(name).is_ok_and(|stat| stat.file_type == FileType::Directory)
    }
}

impl Stat {
    fn of(stat: &rustix::fs::Stat) -> Self {
        let mtime = Moment { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec as u32 };
        Self {
            file_type: FileType::from_raw_mode(stat.st_mode),
            attributes: Attributes { mode: (stat.st_mode & 0o7777) as u16, mtime },
            size_bytes: stat.st_size.cast_unsigned(),
            links: stat.st_nlink,
            inode: (stat.st_dev, stat.st_ino),
        }
    }
}

/// Bytes as a path of the host.
pub(super) fn os(bytes: &[u8]) -> &std::ffi::OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(bytes)
}

/// A path of the host as bytes.
pub(super) fn bytes(path: &Path) -> &[u8] {
    std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str())
}
