//! The content of files in the layers: compared, and read within a limit.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{Mode, OFlags};

use super::layers::{Leaf, LeafKind};

/// Bytes compared at once.
const COMPARED_BYTES: usize = 64 * 1024;

/// Whether two are of one kind and have the same content.
pub(super) fn same(one: &Leaf, other: &Leaf) -> io::Result<bool> {
    if one.kind != other.kind {
        return Ok(false);
    }
    if one.identity == other.identity {
        return Ok(true);
    }
    match one.kind {
        LeafKind::Symlink => Ok(std::fs::read_link(&one.place)? == std::fs::read_link(&other.place)?),
        LeafKind::File if one.size_bytes == other.size_bytes => same_bytes(open(one)?, open(other)?),
        LeafKind::File => Ok(false),
        LeafKind::Special | LeafKind::Directory => Ok(true),
    }
}

/// The content of a file, or a link's target; none, when it is longer than `limit_bytes`.
pub(super) fn read(leaf: &Leaf, limit_bytes: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    match leaf.kind {
        LeafKind::Symlink => bytes = std::fs::read_link(&leaf.place)?.into_os_string().into_vec(),
        LeafKind::File if leaf.size_bytes <= limit_bytes => {
            open(leaf)?.take(limit_bytes + 1).read_to_end(&mut bytes)?;
        }
        LeafKind::File => return Ok(None),
        LeafKind::Special | LeafKind::Directory => {}
    }
    Ok(Some(bytes).filter(|bytes| bytes.len() as u64 <= limit_bytes))
}

/// When a file was last changed in any way, by the clock that no program of the guest sets on a file.
pub(super) fn changed_unix_ns(leaf: &Leaf) -> Option<i64> {
    let metadata = std::fs::symlink_metadata(&leaf.place).ok()?;
    Some(metadata.ctime().saturating_mul(1_000_000_000).saturating_add(metadata.ctime_nsec()))
}

/// Opens a file for reading; a link or a pipe in its place is not followed and not waited for.
pub(super) fn open(leaf: &Leaf) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    Ok(File::from(rustix::fs::open(&leaf.place, flags, Mode::empty())?))
}

fn same_bytes(mut one: File, mut other: File) -> io::Result<bool> {
    let mut buffers = [vec![0; COMPARED_BYTES], vec![0; COMPARED_BYTES]];
    let [left, right] = &mut buffers;
    loop {
        let count = fill(&mut one, left)?;
        if count != fill(&mut other, right)? || left[..count] != right[..count] {
            return Ok(false);
        }
        if count < COMPARED_BYTES {
            return Ok(true);
        }
    }
}

/// Reads until the buffer is full or the file is over.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}
