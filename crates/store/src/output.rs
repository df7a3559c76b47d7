//! What a command printed, kept on disk: the bytes of both streams as they came in one file, and beside it which of them
//! are of which stream.
//!
//! The second file is a row of *runs*, 4 bytes each, little-endian: the top bit is set for standard error, the rest is
//! how many bytes of that stream come next. So a person reads the first file with any tool, and `--json` can still tell
//! the streams apart. Positions are bytes of the first file.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// Bytes kept of one command; what it prints beyond is counted and dropped.
pub const OUTPUT_BYTES_MAX: u64 = 64 << 20;

/// Bytes kept of all commands of a workspace; beyond them the oldest outputs are removed.
pub const OUTPUTS_BYTES_MAX: u64 = 512 << 20;

/// Commands of a workspace whose output is kept; beyond them the oldest outputs are removed.
pub const OUTPUTS_MAX: usize = 10_000;

/// Bytes of a run.
const RUN_BYTES: usize = 4;

/// Bytes of runs that are read at once.
const RUNS_READ_BYTES: usize = 4096;

const STDERR_BIT: u32 = 1 << 31;

/// Writes the output of one command.
#[derive(Debug)]
pub struct OutputWriter {
    bytes: File,
    runs: File,
    /// Where the next run goes.
    runs_bytes: u64,
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
        Ok(Self { bytes: create(bytes)?, runs: create(runs)?, runs_bytes: 0, kept_bytes: 0, total_bytes: 0 })
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
            // Where they belong: what a full disk took of an earlier piece is written over.
            self.bytes.write_all_at(piece, self.kept_bytes)?;
            self.runs.write_all_at(&run.to_le_bytes(), self.runs_bytes)?;
            self.runs_bytes += RUN_BYTES as u64;
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

/// Reads what is kept from a position on, each stream's bytes apart and in the order in which they came, while more may be
/// written.
#[derive(Debug)]
pub struct OutputReader {
    bytes: File,
    runs: File,
    /// Bytes of runs that were read and are not used up.
    ahead: Vec<u8>,
    runs_position: u64,
    /// The run that the position is in, and how much of it is left.
    of_stderr: bool,
    run_left: u64,
    position: u64,
}

impl OutputReader {
    /// Opens the two files at `position`.
    ///
    /// # Errors
    /// As the system calls.
    pub fn open(bytes: &Path, runs: &Path, position: u64) -> io::Result<Self> {
        let (bytes, runs) = (File::open(bytes)?, File::open(runs)?);
        let mut reader =
            Self { bytes, runs, ahead: Vec::new(), runs_position: 0, of_stderr: false, run_left: 0, position: 0 };
        while reader.position < position && reader.find_run()? {
            let step = reader.run_left.min(position - reader.position);
            reader.advance(step);
        }
        Ok(reader)
    }

    /// The next bytes of one stream, at most `count_max` of them, and whether that is standard error; none, if there are none
    /// for now. When the command `is_over`, what a crash left without its run is shown, not lost.
    ///
    /// # Errors
    /// As the system calls.
    pub fn next(&mut self, count_max: usize, is_over: bool) -> io::Result<Option<(bool, Vec<u8>)>> {
        let (of_stderr, length) = match self.find_run()? {
            true => (self.of_stderr, usize::try_from(self.run_left).unwrap_or(usize::MAX)),
            false if is_over => (false, usize::MAX),
            false => return Ok(None),
        };
        let mut piece = vec![0; length.min(count_max)];
        let read = self.bytes.read_at(&mut piece, self.position)?;
        piece.truncate(read);
        self.advance(read as u64);
        Ok((read > 0).then_some((of_stderr, piece)))
    }

    /// Where it goes on.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    fn advance(&mut self, count: u64) {
        self.position += count;
        self.run_left = self.run_left.saturating_sub(count);
    }

    /// Whether there is a run with bytes left.
    fn find_run(&mut self) -> io::Result<bool> {
        while self.run_left == 0 {
            if self.ahead.len() < RUN_BYTES {
                let mut more = vec![0; RUNS_READ_BYTES];
                let count = self.runs.read_at(&mut more, self.runs_position)?;
                self.runs_position += count as u64;
                self.ahead.extend_from_slice(&more[..count]);
            }
            let Some((run, rest)) = self.ahead.split_first_chunk() else { return Ok(false) };
            let run = u32::from_le_bytes(*run);
            self.ahead = rest.to_vec();
            (self.of_stderr, self.run_left) = (run & STDERR_BIT != 0, u64::from(run & !STDERR_BIT));
        }
        Ok(true)
    }
}

/// What is kept of the commands of a workspace, and what has to go so that it stays within the limits.
#[derive(Debug, Default)]
pub struct Shelf {
    /// Bytes by command.
    kept: BTreeMap<u64, u64>,
    bytes: u64,
}

impl Shelf {
    /// What is in a directory of outputs; nothing, if there is none.
    ///
    /// # Errors
    /// As the system calls.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let mut shelf = Self::default();
        let entries = match std::fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(shelf),
            result => result?,
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let sequence = name.to_str().and_then(|name| name.strip_suffix(".out")?.parse().ok());
            if let Some(sequence) = sequence {
                shelf.add(sequence, entry.metadata()?.len());
            }
        }
        Ok(shelf)
    }

    /// A command's output came to be, or grew.
    pub fn add(&mut self, sequence: u64, bytes: u64) {
        *self.kept.entry(sequence).or_default() += bytes;
        self.bytes += bytes;
    }

    /// Takes off what has to go: the oldest first, but none that `is_running`.
    pub fn take_surplus(&mut self, is_running: impl Fn(u64) -> bool) -> Vec<u64> {
        let mut taken = Vec::new();
        while self.bytes > OUTPUTS_BYTES_MAX || self.kept.len() > OUTPUTS_MAX {
            let Some(oldest) = self.kept.keys().copied().find(|sequence| !is_running(*sequence)) else { break };
            self.bytes -= self.kept.remove(&oldest).unwrap_or_default();
            taken.push(oldest);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::{
        OUTPUT_BYTES_MAX, OUTPUTS_BYTES_MAX, OUTPUTS_MAX, OutputReader, OutputWriter, Shelf, kept_bytes, read,
    };

    fn output(dir: &Path) -> ([PathBuf; 2], OutputWriter) {
        let [bytes, runs] = ["commands/1.out", "commands/1.runs"].map(|name| dir.join(name));
        let writer = OutputWriter::create(&bytes, &runs).unwrap();
        ([bytes, runs], writer)
    }

    /// What comes from `position` on, standard error in capital letters.
    fn rest(reader: &mut OutputReader, is_over: bool) -> String {
        let mut text = String::new();
        while let Some((of_stderr, piece)) = reader.next(3, is_over).unwrap() {
            let piece = String::from_utf8(piece).unwrap();
            text.push_str(&if of_stderr { piece.to_uppercase() } else { piece });
        }
        text
    }

    #[test]
    fn streams_come_back_apart_and_together() {
        let dir = tempfile::tempdir().unwrap();
        let ([bytes, runs], mut output) = output(dir.path());
        let mut reader = OutputReader::open(&bytes, &runs, 0).unwrap();
        assert_eq!(rest(&mut reader, false), "");
        output.write(false, b"one ").unwrap();
        output.write(true, b"two ").unwrap();
        assert_eq!((rest(&mut reader, false).as_str(), reader.position()), ("one TWO ", 8));
        output.write(false, b"three").unwrap();
        assert_eq!((rest(&mut reader, true).as_str(), reader.position()), ("three", 13));
        for (position, expected) in
            [(0, "one TWO three"), (2, "e TWO three"), (4, "TWO three"), (6, "O three"), (99, "")]
        {
            assert_eq!(rest(&mut OutputReader::open(&bytes, &runs, position).unwrap(), true), expected);
        }
        assert_eq!(read(&bytes, 4, 4).unwrap(), b"two ");
        assert_eq!((output.total_bytes(), kept_bytes(&bytes).unwrap()), (13, 13));
    }

    #[test]
    fn what_a_crash_left_without_its_run_is_shown_when_it_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let ([bytes, runs], mut output) = output(dir.path());
        output.write(true, b"one ").unwrap();
        std::fs::write(&bytes, "one torn").unwrap();
        let torn = [std::fs::read(&runs).unwrap(), vec![4, 0]].concat();
        std::fs::write(&runs, torn).unwrap();
        let mut reader = OutputReader::open(&bytes, &runs, 0).unwrap();
        assert_eq!([rest(&mut reader, false), rest(&mut reader, true)], ["ONE ", "torn"]);
    }

    #[test]
    fn what_a_full_disk_took_of_a_piece_is_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let ([bytes, runs], mut output) = output(dir.path());
        output.write(false, b"one ").unwrap();
        // As a write leaves it that had room for a part of its bytes, and none for their run.
        std::fs::write(&bytes, "one tw").unwrap();
        output.write(true, b"three").unwrap();
        assert_eq!(rest(&mut OutputReader::open(&bytes, &runs, 0).unwrap(), true), "one THREE");
    }

    #[test]
    fn no_more_than_the_limit_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let ([bytes, _], mut output) = output(dir.path());
        let mebibyte = vec![b'x'; 1 << 20];
        for _ in 0..65 {
            output.write(false, &mebibyte).unwrap();
        }
        assert_eq!((output.kept_bytes(), output.total_bytes()), (OUTPUT_BYTES_MAX, 65 << 20));
        assert_eq!(kept_bytes(&bytes).unwrap(), OUTPUT_BYTES_MAX);
    }

    #[test]
    fn the_oldest_goes_first_and_nothing_that_runs() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Shelf::open(&dir.path().join("none")).unwrap().kept.is_empty());
        for (name, length) in [("1.out", 3), ("1.runs", 9), ("7.out", 4), ("x.out", 5)] {
            std::fs::write(dir.path().join(name), vec![0; length]).unwrap();
        }
        let mut shelf = Shelf::open(dir.path()).unwrap();
        assert_eq!((shelf.kept.len(), shelf.bytes), (2, 7));
        assert!(shelf.take_surplus(|_| false).is_empty());
        shelf.add(8, OUTPUTS_BYTES_MAX - 5);
        assert_eq!(shelf.take_surplus(|sequence| sequence == 1), [7]);
        shelf.add(8, 3);
        assert_eq!(shelf.take_surplus(|sequence| sequence == 1), [8], "what runs stays");
        for sequence in 10..10 + OUTPUTS_MAX as u64 {
            shelf.add(sequence, 0);
        }
        assert_eq!(shelf.take_surplus(|_| false), [1]);
    }
}
