//! What a command printed, kept on disk: the bytes of both streams as they came in one file, and beside it which of them
//! are of which stream.
//!
//! The second file is a row of *runs*, 4 bytes each, little-endian: the top bit is set for standard error, the rest is
//! how many bytes of that stream come next. So a person reads the first file with any tool, and `--json` can still tell
//! the streams apart. Positions are bytes of the first file.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Bytes kept of one command; what it prints beyond is counted and dropped.
pub const OUTPUT_BYTES_MAX: u64 = 64 << 20;

const STDERR_BIT: u32 = 1 << 31;

/// Writes the output of one command.
#[derive(Debug)]
pub struct OutputWriter {
    bytes: File,
    runs: File,
    kept_bytes: u64,
    total_bytes: u64,
}

impl OutputWriter {
    /// Creates the two files.
    ///
    /// # Errors
    /// As the system calls.
    pub fn create(bytes: &Path, runs: &Path) -> io::Result<Self> {
        if let Some(parent) = bytes.parent() {
            super::home::create_private_dir(parent)?;
        }
        let create = |path: &Path| OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
        Ok(Self { bytes: create(bytes)?, runs: create(runs)?, kept_bytes: 0, total_bytes: 0 })
    }

    /// Adds bytes of one stream. Once the limit is reached they are only counted.
    ///
    /// # Errors
    /// As the system calls.
    pub fn write(&mut self, of_stderr: bool, bytes: &[u8]) -> io::Result<()> {
        self.total_bytes += bytes.len() as u64;
        let room = usize::try_from(OUTPUT_BYTES_MAX - self.kept_bytes).unwrap_or(usize::MAX);
        let bytes = &bytes[..bytes.len().min(room)];
        // Frames are far shorter than a run may be; the loop is for whoever calls with more.
        for piece in bytes.chunks((STDERR_BIT - 1) as usize) {
            let length = u32::try_from(piece.len()).expect("a piece is shorter than the bit");
            let run = if of_stderr { length | STDERR_BIT } else { length };
            self.bytes.write_all(piece)?;
            self.runs.write_all(&run.to_le_bytes())?;
            self.kept_bytes += piece.len() as u64;
        }
        Ok(())
    }

    /// Bytes that are kept.
    #[must_use]
    pub fn kept_bytes(&self) -> u64 {
        self.kept_bytes
    }

    /// Bytes that were printed.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }
}

/// Reads up to `count_max` bytes of both streams from `position` on.
///
/// # Errors
/// As the system calls.
pub fn read(bytes: &Path, position: u64, count_max: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(bytes)?;
    file.seek(SeekFrom::Start(position))?;
    let mut read = Vec::new();
    file.take(count_max).read_to_end(&mut read)?;
    Ok(read)
}

/// How many bytes are kept so far.
///
/// # Errors
/// As the system calls.
pub fn kept_bytes(bytes: &Path) -> io::Result<u64> {
    Ok(std::fs::metadata(bytes)?.len())
}

/// Reads everything that is kept, by stream: standard output, standard error.
///
/// # Errors
/// As the system calls.
pub fn read_streams(bytes: &Path, runs: &Path) -> io::Result<[Vec<u8>; 2]> {
    let all = std::fs::read(bytes)?;
    let mut streams = [Vec::new(), Vec::new()];
    let mut rest = all.as_slice();
    for run in std::fs::read(runs)?.chunks_exact(4) {
        let run = u32::from_le_bytes(run.try_into().expect("chunks of four"));
        let length = usize::try_from(run & !STDERR_BIT).unwrap_or(usize::MAX).min(rest.len());
        let (now, later) = rest.split_at(length);
        streams[usize::from(run & STDERR_BIT != 0)].extend_from_slice(now);
        rest = later;
    }
    // The bytes are written before their run: what a crash left without one is shown, not lost.
    streams[0].extend_from_slice(rest);
    Ok(streams)
}

#[cfg(test)]
mod tests {
    use super::{OUTPUT_BYTES_MAX, OutputWriter, kept_bytes, read, read_streams};

    #[test]
    fn streams_come_back_apart_and_together() {
        let dir = tempfile::tempdir().unwrap();
        let [bytes, runs] = ["commands/1.out", "commands/1.runs"].map(|name| dir.path().join(name));
        let mut output = OutputWriter::create(&bytes, &runs).unwrap();
        output.write(false, b"one ").unwrap();
        output.write(true, b"TWO ").unwrap();
        output.write(false, b"three").unwrap();
        assert_eq!(read(&bytes, 4, 4).unwrap(), b"TWO ");
        assert_eq!(read_streams(&bytes, &runs).unwrap(), [b"one three".to_vec(), b"TWO ".to_vec()]);
        assert_eq!((output.total_bytes(), kept_bytes(&bytes).unwrap()), (13, 13));
    }

    #[test]
    fn no_more_than_the_limit_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let [bytes, runs] = ["out", "runs"].map(|name| dir.path().join(name));
        let mut output = OutputWriter::create(&bytes, &runs).unwrap();
        let mebibyte = vec![b'x'; 1 << 20];
        for _ in 0..65 {
            output.write(false, &mebibyte).unwrap();
        }
        assert_eq!((output.kept_bytes(), output.total_bytes()), (OUTPUT_BYTES_MAX, 65 << 20));
        assert_eq!(kept_bytes(&bytes).unwrap(), OUTPUT_BYTES_MAX);
    }
}
