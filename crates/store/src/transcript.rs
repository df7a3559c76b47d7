//! What a terminal printed, kept on disk within a limit: a row of pieces in a directory of its own.
//!
//! A piece is a file named by the position of its first byte, with leading zeros, so that a person reads what is left of a
//! transcript with `cat *.out`. When there is too much of all, the oldest piece goes. Positions count from the first byte
//! ever printed; those that are not kept any more, or never were because the disk was full, are gaps between pieces.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Bytes kept of one transcript; beyond them the oldest go.
pub const TRANSCRIPT_BYTES_MAX: u64 = 16 << 20;

/// Bytes of one piece.
const PIECE_BYTES_MAX: u64 = 2 << 20;

/// Pieces that are kept beside the one that grows.
const PIECES_MAX: usize = (TRANSCRIPT_BYTES_MAX / PIECE_BYTES_MAX) as usize - 1;

/// How often a reader looks again for pieces that went away under it.
const LOOKS_MAX: usize = 4;

const SUFFIX: &str = ".out";

/// Writes a transcript.
#[derive(Debug)]
pub struct TranscriptWriter {
    dir: PathBuf,
    /// The piece that grows, and how long it is.
    piece: Option<(File, u64)>,
    /// Where the whole pieces and the one that grows begin.
    starts: VecDeque<u64>,
    total_bytes: u64,
}

/// A part of a transcript.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TranscriptPart {
    /// Where it begins: later than asked for where bytes are missing.
    pub position: u64,
    /// The bytes; none at the end.
    pub bytes: Vec<u8>,
}

impl TranscriptWriter {
    /// Begins a transcript in a directory that is there.
    #[must_use]
    pub fn begin(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), piece: None, starts: VecDeque::new(), total_bytes: 0 }
    }

    /// Adds bytes. They count also when they cannot be kept.
    ///
    /// # Errors
    /// As the system calls; what comes next is tried again.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = self.append(bytes);
        self.total_bytes += bytes.len() as u64;
        if written.is_err() {
            // How much of it is in the file is unknown, so the next bytes begin a piece where they belong.
            self.piece = None;
        }
        written
    }

    /// Bytes that were printed.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.piece.as_ref().is_none_or(|(_, length)| *length >= PIECE_BYTES_MAX) {
            let path = self.dir.join(file_name(self.total_bytes));
            let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
            self.piece = Some((file, 0));
            self.starts.push_back(self.total_bytes);
            while self.starts.len() > PIECES_MAX + 1
                && let Some(oldest) = self.starts.pop_front()
            {
                // One that cannot be removed goes with the whole.
                drop(std::fs::remove_file(self.dir.join(file_name(oldest))));
            }
        }
        if let Some((file, length)) = &mut self.piece {
            file.write_all(bytes)?;
            *length += bytes.len() as u64;
        }
        Ok(())
    }
}

/// Reads up to `count_max` bytes from `position` on, while more may be written. A position beyond the end is the end.
///
/// # Errors
/// As the system calls.
pub fn read(dir: &Path, position: u64, count_max: usize) -> io::Result<TranscriptPart> {
    let mut looks = 0;
    loop {
        looks += 1;
        match read_once(dir, position, count_max) {
            // The oldest piece may go away at any moment.
            Err(error) if error.kind() == io::ErrorKind::NotFound && looks < LOOKS_MAX && dir.is_dir() => {}
            result => return result,
        }
    }
}

/// Where what is kept begins, and where it ends.
///
/// # Errors
/// As the system calls.
pub fn extent(dir: &Path) -> io::Result<(u64, u64)> {
    let pieces = pieces(dir)?;
    let first = pieces.first().map_or(0, |(start, _)| *start);
    Ok((first, pieces.last().map_or(0, |(start, length)| start + length)))
}

fn read_once(dir: &Path, position: u64, count_max: usize) -> io::Result<TranscriptPart> {
    let pieces = pieces(dir)?;
    let end = pieces.last().map_or(0, |(start, length)| start + length);
    let mut part = TranscriptPart { position: position.min(end), bytes: Vec::new() };
    for (start, length) in pieces {
        let next = part.position + part.bytes.len() as u64;
        if start + length <= next {
            continue;
        }
        if start > next {
            if !part.bytes.is_empty() {
                break;
            }
            part.position = start;
        }
        let from = start.max(next) - start;
        let room = (count_max - part.bytes.len()) as u64;
        let mut bytes = vec![0; usize::try_from((length - from).min(room)).unwrap_or(usize::MAX)];
        let read = File::open(dir.join(file_name(start)))?.read_at(&mut bytes, from)?;
        bytes.truncate(read);
        part.bytes.append(&mut bytes);
        if part.bytes.len() >= count_max {
            break;
        }
    }
    Ok(part)
}

/// The pieces in order: where each begins, and how long it is.
fn pieces(dir: &Path) -> io::Result<Vec<(u64, u64)>> {
    let mut pieces = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let start = name.to_str().and_then(|name| name.strip_suffix(SUFFIX)?.parse().ok());
        if let Some(start) = start {
            pieces.push((start, entry.metadata()?.len()));
        }
    }
    pieces.sort_unstable();
    Ok(pieces)
}

fn file_name(start: u64) -> String {
    format!("{start:012}{SUFFIX}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{PIECE_BYTES_MAX, TRANSCRIPT_BYTES_MAX, TranscriptWriter, extent, read};

    /// The byte at a position, so that a wrong one is seen.
    fn bytes(from: u64, count: u64) -> Vec<u8> {
        (from..from + count).map(|position| (position % 251) as u8).collect()
    }

    #[test]
    fn the_oldest_goes_and_a_read_says_where_it_begins() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = TranscriptWriter::begin(dir.path());
        assert_eq!(read(dir.path(), 7, 10).unwrap().position, 0, "nothing was printed yet");
        let step = 60_000;
        let total = TRANSCRIPT_BYTES_MAX + 3 * PIECE_BYTES_MAX;
        while writer.total_bytes() < total {
            writer.write(&bytes(writer.total_bytes(), step)).unwrap();
        }
        let (first, end) = extent(dir.path()).unwrap();
        assert_eq!(end, writer.total_bytes());
        assert!(first > 0 && end - first <= TRANSCRIPT_BYTES_MAX + step, "{first} {end}");
        let part = read(dir.path(), 5, 100).unwrap();
        assert_eq!((part.position, part.bytes), (first, bytes(first, 100)));
        let part = read(dir.path(), end - 10, 100).unwrap();
        assert_eq!((part.position, part.bytes), (end - 10, bytes(end - 10, 10)));
        assert_eq!(read(dir.path(), u64::MAX, 100).unwrap().position, end);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        /// However it was written, it is read back as it was from any position on.
        #[test]
        fn what_is_kept_is_read_as_it_came(
            counts in prop::collection::vec(1_u64..900_000, 1..12),
            from in any::<prop::sample::Index>(),
            count_max in 1_usize..3_000_000,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut writer = TranscriptWriter::begin(dir.path());
            for count in counts {
                writer.write(&bytes(writer.total_bytes(), count)).unwrap();
            }
            let total = writer.total_bytes();
            let from = from.index(usize::try_from(total).unwrap()) as u64;
            let part = read(dir.path(), from, count_max).unwrap();
            prop_assert_eq!(part.position, from);
            prop_assert!(part.bytes == bytes(from, (total - from).min(count_max as u64)));
        }
    }

    #[test]
    fn what_a_full_disk_cost_is_a_gap() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = TranscriptWriter::begin(dir.path());
        writer.write(b"one").unwrap();
        // A directory in the way of the next piece stands for a disk that takes nothing.
        writer.piece = None;
        std::fs::create_dir(dir.path().join("000000000003.out")).unwrap();
        writer.write(b"lost").unwrap_err();
        std::fs::remove_dir(dir.path().join("000000000003.out")).unwrap();
        writer.write(b"two").unwrap();
        assert_eq!(read(dir.path(), 0, 99).unwrap().bytes, b"one");
        let part = read(dir.path(), 3, 99).unwrap();
        assert_eq!((part.position, part.bytes.as_slice()), (7, &b"two"[..]));
    }
}
