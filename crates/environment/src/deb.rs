//! Reads `.deb` files: an `ar` archive with a tar of control files and a tar of content. Knows nothing of where they go.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use liblzma::read::XzDecoder;

/// A control file larger than this is refused; the largest in Debian are a few hundred KiB.
const CONTROL_FILE_BYTES_MAX: u64 = 16 << 20;

/// A maintainer script or another control file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlFile {
    /// Its name, such as `postinst`.
    pub name: String,
    /// Its content.
    pub bytes: Vec<u8>,
    /// Whether it is a program.
    pub executable: bool,
}

/// One entry of a package's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataEntry {
    /// Path without a leading `./` or `/`; empty for the root itself.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: DataKind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time in seconds since 1970.
    pub mtime_seconds: i64,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataKind {
    /// A directory.
    Directory,
    /// A regular file of so many bytes.
    File(u64),
    /// A symbolic link to this target.
    Symlink(Vec<u8>),
    /// Another name of the entry at this path (cleaned as [`DataEntry::path`]).
    HardLink(Vec<u8>),
    /// A named pipe.
    Fifo,
}

/// Why a package file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DebError {
    /// The file cannot be opened or read, or its archives are malformed.
    #[error("cannot read the package {}", file.display())]
    Read {
        /// The package.
        file: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A part every package has is not there.
    #[error("the package {} has no {member} that can be read (only .tar and .tar.xz can)", file.display())]
    MissingMember {
        /// The package.
        file: PathBuf,
        /// `control.tar` or `data.tar`.
        member: &'static str,
    },
    /// A control file is too large.
    #[error("the control file {name} of {} is larger than {CONTROL_FILE_BYTES_MAX} bytes", file.display())]
    LargeControlFile {
        /// The package.
        file: PathBuf,
        /// The control file.
        name: String,
    },
    /// An entry is of a type that packages do not have.
    #[error("{path} in the package {} is of an unknown type", file.display())]
    UnknownEntry {
        /// The package.
        file: PathBuf,
        /// The entry.
        path: String,
    },
}

/// Reads the control files, in the order of the archive.
///
/// # Errors
/// As [`DebError`] says.
pub fn control_files(file: &Path) -> Result<Vec<ControlFile>, DebError> {
    let read_error = |source| DebError::Read { file: file.to_owned(), source };
    let mut files = Vec::new();
    with_member(file, "control.tar", &mut |content| {
        let mut archive = tar::Archive::new(content);
        for entry in archive.entries().map_err(read_error)? {
            let mut entry = entry.map_err(read_error)?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let name = String::from_utf8_lossy(&clean(&entry.path_bytes())).into_owned();
            if entry.size() > CONTROL_FILE_BYTES_MAX {
                return Err(DebError::LargeControlFile { file: file.to_owned(), name });
            }
            let executable = entry.header().mode().map_err(read_error)? & 0o111 != 0;
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(read_error)?;
            files.push(ControlFile { name, bytes, executable });
        }
        Ok(())
    })?;
    Ok(files)
}

/// Calls `visit` with each entry of the content, and a reader of its bytes, in the order of the archive.
///
/// # Errors
/// As [`DebError`] says, or what `visit` answers.
pub fn for_each_entry<E: From<DebError>>(
    file: &Path,
    visit: &mut dyn FnMut(DataEntry, &mut dyn Read) -> Result<(), E>,
) -> Result<(), E> {
    let read_error = |source| DebError::Read { file: file.to_owned(), source };
    with_member(file, "data.tar", &mut |content| {
        let mut archive = tar::Archive::new(content);
        for entry in archive.entries().map_err(read_error)? {
            let mut entry = entry.map_err(read_error)?;
            let described = describe(file, &entry)?;
            visit(described, &mut entry)?;
        }
        Ok(())
    })
}

/// When the package was packed, in seconds since 1970: the time of its first member.
///
/// # Errors
/// [`DebError::Read`].
pub fn packed_seconds(file: &Path) -> Result<i64, DebError> {
    let read_error = |source| DebError::Read { file: file.to_owned(), source };
    let mut archive = ar::Archive::new(File::open(file).map_err(read_error)?);
    match archive.next_entry() {
        Some(entry) => Ok(entry.map_err(read_error)?.header().mtime().cast_signed()),
        None => Err(DebError::MissingMember { file: file.to_owned(), member: "control.tar" }),
    }
}

fn describe<R: Read>(file: &Path, entry: &tar::Entry<'_, R>) -> Result<DataEntry, DebError> {
    let read_error = |source| DebError::Read { file: file.to_owned(), source };
    let header = entry.header();
    let path = clean(&entry.path_bytes());
    let link = || entry.link_name_bytes().unwrap_or_default().into_owned();
    let kind = match header.entry_type() {
        tar::EntryType::Directory => DataKind::Directory,
        tar::EntryType::Regular | tar::EntryType::Continuous => DataKind::File(entry.size()),
        tar::EntryType::Symlink => DataKind::Symlink(link()),
        tar::EntryType::Link => DataKind::HardLink(clean(&link())),
        tar::EntryType::Fifo => DataKind::Fifo,
        _ => {
            let path = String::from_utf8_lossy(&path).escape_debug().to_string();
            return Err(DebError::UnknownEntry { file: file.to_owned(), path });
        }
    };
    Ok(DataEntry {
        path,
        kind,
        mode: (header.mode().map_err(read_error)? & 0o7777) as u16,
        uid: header.uid().map_err(read_error)? as u32,
        gid: header.gid().map_err(read_error)? as u32,
        mtime_seconds: header.mtime().map_err(read_error)?.cast_signed(),
    })
}

fn with_member<E: From<DebError>>(
    file: &Path,
    member: &'static str,
    visit: &mut dyn FnMut(&mut dyn Read) -> Result<(), E>,
) -> Result<(), E> {
    let read_error = |source| DebError::Read { file: file.to_owned(), source };
    let mut archive = ar::Archive::new(BufReader::new(File::open(file).map_err(read_error)?));
    while let Some(entry) = archive.next_entry() {
        let mut entry = entry.map_err(read_error)?;
        let name = entry.header().identifier().to_owned();
        match name.strip_prefix(member.as_bytes()) {
            Some(b".xz") => return visit(&mut BufReader::new(XzDecoder::new_multi_decoder(&mut entry))),
            Some(b"") => return visit(&mut entry),
            _ => {}
        }
    }
    Err(DebError::MissingMember { file: file.to_owned(), member }.into())
}

fn clean(path: &[u8]) -> Vec<u8> {
    let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    parts.join(&b'/')
}
