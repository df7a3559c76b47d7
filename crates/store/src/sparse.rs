//! Sparse files: private copies that take only the space of their data, and vanish with their last descriptor.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use ring::digest::{Context, SHA256};
use rustix::fs::{AtFlags, CWD, OFlags, SeekFrom, copy_file_range, ftruncate, ioctl_ficlone, linkat, seek};
use rustix::io::Errno;

use super::hex;

/// Bytes copied at a time where the kernel does not do it.
const COPY_BYTES: usize = 1 << 20;

/// Creates a file without a name in `dir`: no crash can leave it behind.
///
/// # Errors
/// As `open`; filesystems without `O_TMPFILE` get a file that is created and unlinked at once.
pub fn unnamed_file(dir: &Path) -> io::Result<File> {
    super::home::create_private_dir(dir)?;
    let flags = i32::try_from(OFlags::TMPFILE.bits()).map_err(io::Error::other)?;
    match OpenOptions::new().read(true).write(true).mode(0o600).custom_flags(flags).open(dir) {
        Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::OPNOTSUPP | Errno::ISDIR)) => {
            static COUNTER: AtomicU32 = AtomicU32::new(0);
            let count = COUNTER.fetch_add(1, Ordering::Relaxed);
            let path = dir.join(format!("unnamed-{}-{count}", std::process::id()));
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
    let file = unnamed_file(dir)?;
    copy(source, &file)?;
    Ok(file)
}

/// Copies `source` into `target`, which is empty, sharing blocks where the filesystem can, keeping holes in any case.
///
/// # Errors
/// As the system calls.
pub fn copy(source: &File, target: &File) -> io::Result<()> {
    if ioctl_ficlone(target, source).is_ok() { Ok(()) } else { copy_data(source, target) }
}

/// Gives a file of [`unnamed_file`] the name `path`, which must be free.
///
/// # Errors
/// As `link`; a filesystem without unnamed files gets a copy.
pub fn give_name(file: &File, path: &Path) -> io::Result<()> {
    match link(file, path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let named = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            copy_data(file, &named).inspect_err(|_| drop(std::fs::remove_file(path)))
        }
        result => result,
    }
}

/// Gives `target` in `dir` the content of `source`, which never changes: the same file where that can be, otherwise a copy.
///
/// # Errors
/// As the system calls.
pub fn share(source: &File, target: &Path, dir: &Path) -> io::Result<()> {
    // Another file system takes no further name of it; one whose last name is gone takes none either.
    if link(source, target).is_ok() {
        return Ok(());
    }
    give_name(&unnamed_copy(source, dir)?, target)
}

fn link(file: &File, path: &Path) -> io::Result<()> {
    let own = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(linkat(CWD, own.as_str(), CWD, path, AtFlags::SYMLINK_FOLLOW)?)
}

/// The SHA-256 of a file's content. Its holes are not read.
///
/// # Errors
/// As the system calls.
pub fn sha256(file: &File) -> io::Result<String> {
    let length = file.metadata()?.len();
    let (mut digest, mut buffer, zeros) = (Context::new(&SHA256), vec![0; COPY_BYTES], vec![0; COPY_BYTES]);
    let mut at = 0;
    while at < length {
        let (start, end) = next_data(file, at)?.unwrap_or((length, length));
        while at < start {
            let count = zeros.len().min(usize::try_from(start - at).unwrap_or(usize::MAX));
            digest.update(&zeros[..count]);
            at += count as u64;
        }
        while at < end {
            let wanted = buffer.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
            file.read_exact_at(&mut buffer[..wanted], at)?;
            digest.update(&buffer[..wanted]);
            at += wanted as u64;
        }
    }
    Ok(hex::encode(digest.finish().as_ref()))
}

/// Where the next data from `position` on begins and ends; none if only a hole is left.
fn next_data(file: &File, position: u64) -> io::Result<Option<(u64, u64)>> {
    match seek(file, SeekFrom::Data(position)) {
        Ok(start) => Ok(Some((start, seek(file, SeekFrom::Hole(start))?))),
        Err(Errno::NXIO) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn copy_data(source: &File, target: &File) -> io::Result<()> {
    let length = source.metadata()?.len();
    ftruncate(target, length)?;
    let mut position = 0;
    while position < length {
        let Some((start, end)) = next_data(source, position)? else { break };
        let (mut from, mut to) = (start, start);
        while from < end {
            let count = usize::try_from(end - from).unwrap_or(usize::MAX);
            match copy_file_range(source, Some(&mut from), target, Some(&mut to), count) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                // The kernel does not copy from one kind of file system to another.
                Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => {
                    copy_bytes(source, target, from, end)?;
                    from = end;
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        position = end;
    }
    Ok(())
}

/// Copies a range by reading and writing it.
fn copy_bytes(source: &File, target: &File, from: u64, end: u64) -> io::Result<()> {
    let mut buffer = vec![0; COPY_BYTES];
    let mut at = from;
    while at < end {
        let wanted = buffer.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
        let count = source.read_at(&mut buffer[..wanted], at)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        target.write_all_at(&buffer[..count], at)?;
        at += count as u64;
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

    #[test]
    fn a_digest_is_of_the_holes_too() {
        let file = tempfile::tempfile().unwrap();
        let check = |expected: &str| assert_eq!(super::sha256(&file).unwrap(), expected);
        check("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        let mut content = vec![0; (3 << 20) + 5];
        content[2 << 20..(2 << 20) + 4].copy_from_slice(b"data");
        file.set_len(content.len() as u64).unwrap();
        file.write_all_at(b"data", 2 << 20).unwrap();
        let whole = ring::digest::digest(&ring::digest::SHA256, &content);
        check(&super::hex::encode(whole.as_ref()));
    }

    #[test]
    fn what_the_kernel_does_not_copy_is_read_and_written() {
        let dir = tempfile::tempdir().unwrap();
        let make =
            |name: &str| File::options().read(true).write(true).create_new(true).open(dir.path().join(name)).unwrap();
        let (source, target) = (make("source"), make("target"));
        source.write_all_at(&vec![7; (2 << 20) + 3], 5).unwrap();
        super::copy_bytes(&source, &target, 0, source.metadata().unwrap().len()).unwrap();
        assert_eq!(
            std::fs::read(dir.path().join("source")).unwrap(),
            std::fs::read(dir.path().join("target")).unwrap()
        );
        super::copy_bytes(&source, &target, 0, 1 << 30).unwrap_err();
    }
}
