//! Sparse files: private copies that take only the space of their data, and vanish with their last descriptor.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, OFlags, SeekFrom, copy_file_range, ftruncate, ioctl_ficlone, linkat, seek};
use rustix::io::Errno;

/// Creates a file without a name in `dir`: no crash can leave it behind.
///
/// # Errors
/// As `open`; filesystems without `O_TMPFILE` get a file that is created and unlinked at once.
pub fn unnamed_file(dir: &Path) -> io::Result<File> {
    super::home::create_private_dir(dir)?;
    let flags = i32::try_from(OFlags::TMPFILE.bits()).map_err(io::Error::other)?;
    match OpenOptions::new().read(true).write(true).mode(0o600).custom_flags(flags).open(dir) {
        Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::OPNOTSUPP | Errno::ISDIR)) => {
            let path = dir.join(format!("unnamed-{}", std::process::id()));
            let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
            std::fs::remove_file(&path)?;
            Ok(file)
        }
        result => result,
    }
}

/// Copies `source` into an unnamed file in `dir`, sharing blocks where the filesystem can, keeping holes in any case.
///
/// # Errors
/// As the system calls.
pub fn unnamed_copy(source: &File, dir: &Path) -> io::Result<File> {
    let copy = unnamed_file(dir)?;
    if ioctl_ficlone(&copy, source).is_err() {
        copy_data(source, &copy)?;
    }
    Ok(copy)
}

/// Gives a file of [`unnamed_file`] the name `path`, which must be free.
///
/// # Errors
/// As `link`; a filesystem without unnamed files gets a copy.
pub fn give_name(file: &File, path: &Path) -> io::Result<()> {
    let own = format!("/proc/self/fd/{}", file.as_raw_fd());
    match linkat(CWD, own.as_str(), CWD, path, AtFlags::SYMLINK_FOLLOW) {
        Err(Errno::NOENT) => {
            let named = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            copy_data(file, &named)
        }
        result => Ok(result?),
    }
}

fn copy_data(source: &File, target: &File) -> io::Result<()> {
    let length = source.metadata()?.len();
    ftruncate(target, length)?;
    let mut position = 0;
    while position < length {
        let start = match seek(source, SeekFrom::Data(position)) {
            Ok(start) => start,
            // Only a hole is left.
            Err(Errno::NXIO) => break,
            Err(errno) => return Err(errno.into()),
        };
        let end = seek(source, SeekFrom::Hole(start))?;
        let (mut from, mut to) = (start, start);
        while from < end {
            let count = usize::try_from(end - from).unwrap_or(usize::MAX);
            if copy_file_range(source, Some(&mut from), target, Some(&mut to), count)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        position = end;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::{FileExt, MetadataExt};

    #[test]
    fn a_copy_has_the_content_and_the_holes_and_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("source");
        let source = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        source.set_len(64 << 20).unwrap();
        source.write_all_at(b"superblock", 1024).unwrap();
        source.write_all_at(b"tail", (40 << 20) + 7).unwrap();

        let copy = super::unnamed_copy(&source, dir.path()).unwrap();

        let mut read = [0; 10];
        copy.read_exact_at(&mut read, 1024).unwrap();
        assert_eq!(&read, b"superblock");
        copy.read_exact_at(&mut read[..4], (40 << 20) + 7).unwrap();
        assert_eq!(&read[..4], b"tail");
        assert_eq!(copy.metadata().unwrap().len(), 64 << 20);
        assert!(copy.metadata().unwrap().blocks() * 512 < 1 << 20, "holes were filled");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
