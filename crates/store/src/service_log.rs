//! What a service printed, kept on disk: a row of segments, each as [`super::output`] keeps a command's output, named by the
//! position at which it begins. The newest [`LOG_BYTES_MAX`] or so are kept; the oldest segment goes when a new one begins.
//! Positions count all bytes that the service ever printed, so that a reader can tell that something is gone, and how much.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use super::output::{self, OutputWriter};

/// Bytes after which a segment is followed by another one.
pub const SEGMENT_BYTES: u64 = 2 << 20;

/// Segments that are kept of a service.
pub const SEGMENTS_MAX: usize = 8;

/// About how much is kept of a service's output.
pub const LOG_BYTES_MAX: u64 = SEGMENT_BYTES * SEGMENTS_MAX as u64;

/// Bytes looked through at a time for the beginning of the last lines.
const TAIL_STEP_BYTES: u64 = 64 * 1024;

/// Most bytes that are looked through for it.
const TAIL_BYTES_MAX: u64 = 4 << 20;

/// Writes the log of one service.
#[derive(Debug)]
pub struct ServiceLogWriter {
    dir: PathBuf,
    /// Where each segment begins; the last one is being written.
    starts: VecDeque<u64>,
    output: OutputWriter,
}

impl ServiceLogWriter {
    /// Goes on with the log in `dir`, where an earlier run of the service may have left some.
    ///
    /// # Errors
    /// As the system calls.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let segments = segments(dir)?;
        let start = segments.back().map_or(0, Segment::end);
        // One that nothing was written to is used again.
        let mut starts: VecDeque<u64> =
            segments.iter().map(|segment| segment.start).filter(|other| *other != start).collect();
        starts.push_back(start);
        let mut log = Self { dir: dir.to_owned(), starts, output: create(dir, start)? };
        log.remove_oldest();
        Ok(log)
    }

    /// Where the next byte goes.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.start() + self.output.kept_bytes()
    }

    /// Adds bytes of one stream.
    ///
    /// # Errors
    /// As the system calls.
    pub fn write(&mut self, of_stderr: bool, bytes: &[u8]) -> io::Result<()> {
        if self.output.kept_bytes() >= SEGMENT_BYTES {
            let start = self.position();
            self.output = create(&self.dir, start)?;
            self.starts.push_back(start);
            self.remove_oldest();
        }
        self.output.write(of_stderr, bytes)
    }

    fn start(&self) -> u64 {
        self.starts.back().copied().unwrap_or(0)
    }

    fn remove_oldest(&mut self) {
        while self.starts.len() > SEGMENTS_MAX {
            let Some(start) = self.starts.pop_front() else { return };
            // What cannot be removed now is tried again by the next run.
            drop(std::fs::remove_file(bytes_file(&self.dir, start)));
            drop(std::fs::remove_file(runs_file(&self.dir, start)));
        }
    }
}

/// A piece of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPiece {
    /// Where it begins: later than where was asked for, if that is gone.
    pub position: u64,
    /// The bytes, of both streams as they came.
    pub bytes: Vec<u8>,
}

/// Reads up to `count_max` bytes from `position` on, or from where the log begins; none are the end of it for now.
///
/// # Errors
/// As the system calls.
pub fn read(dir: &Path, position: u64, count_max: u64) -> io::Result<LogPiece> {
    let segments = segments(dir)?;
    let end = segments.back().map_or(0, Segment::end);
    let mut piece = LogPiece { position: position.min(end), bytes: Vec::new() };
    for segment in segments {
        let (next, left) = (piece.end(), count_max - piece.bytes.len() as u64);
        if next >= segment.end() {
            continue;
        }
        if left == 0 {
            break;
        }
        match output::read(&bytes_file(dir, segment.start), next.saturating_sub(segment.start), left) {
            Ok(bytes) if piece.bytes.is_empty() => {
                piece = LogPiece { position: next.max(segment.start), bytes };
            }
            Ok(bytes) => piece.bytes.extend(bytes),
            // It became the oldest one and was removed this moment.
            Err(error) if error.kind() == io::ErrorKind::NotFound && piece.bytes.is_empty() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(piece)
}

/// Where the last `lines` lines begin, not before `from`.
///
/// # Errors
/// As the system calls.
pub fn tail(dir: &Path, from: u64, lines: usize) -> io::Result<u64> {
    let (first, end) = extent(dir)?;
    let first = first.max(from).max(end.saturating_sub(TAIL_BYTES_MAX));
    let (mut start, mut found) = (end, 0);
    while start > first {
        let step_start = start.saturating_sub(TAIL_STEP_BYTES).max(first);
        let LogPiece { position, bytes } = read(dir, step_start, start - step_start)?;
        if position > step_start {
            // The oldest lines went this moment.
            return Ok(position);
        }
        for (at, _) in bytes.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let line_start = step_start + at as u64 + 1;
            // The line feed at the very end ends the last line, and begins none.
            if line_start < end {
                found += 1;
                if found == lines {
                    return Ok(line_start);
                }
            }
        }
        start = step_start;
    }
    Ok(first)
}

/// Where the log begins and where it ends so far.
///
/// # Errors
/// As the system calls.
pub fn extent(dir: &Path) -> io::Result<(u64, u64)> {
    let segments = segments(dir)?;
    let first = segments.front().map_or(0, |segment| segment.start);
    Ok((first, segments.back().map_or(0, Segment::end)))
}

impl LogPiece {
    /// Where the next one begins.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.position + self.bytes.len() as u64
    }
}

struct Segment {
    start: u64,
    bytes: u64,
}

impl Segment {
    fn end(&self) -> u64 {
        self.start + self.bytes
    }
}

/// The segments in order.
fn segments(dir: &Path) -> io::Result<VecDeque<Segment>> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(VecDeque::new()),
        result => result?,
    };
    let mut segments = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let Some(start) = name.to_str().and_then(|name| name.strip_suffix(".out")?.parse().ok()) else { continue };
        match entry.metadata() {
            Ok(metadata) => segments.push(Segment { start, bytes: metadata.len() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    segments.sort_by_key(|segment: &Segment| segment.start);
    Ok(segments.into())
}

fn create(dir: &Path, start: u64) -> io::Result<OutputWriter> {
    OutputWriter::create(&bytes_file(dir, start), &runs_file(dir, start))
}

fn bytes_file(dir: &Path, start: u64) -> PathBuf {
    dir.join(format!("{start}.out"))
}

fn runs_file(dir: &Path, start: u64) -> PathBuf {
    dir.join(format!("{start}.runs"))
}

#[cfg(test)]
mod tests {
    use super::{LOG_BYTES_MAX, LogPiece, SEGMENT_BYTES, SEGMENTS_MAX, ServiceLogWriter, extent, read, tail};

    #[test]
    fn a_log_goes_on_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("log");
        assert_eq!((extent(&dir).unwrap(), read(&dir, 0, 9).unwrap().bytes.len()), ((0, 0), 0));
        let mut log = ServiceLogWriter::open(&dir).unwrap();
        log.write(false, b"one\n").unwrap();
        log.write(true, b"two\n").unwrap();
        drop(log);
        drop(ServiceLogWriter::open(&dir).unwrap());
        let mut log = ServiceLogWriter::open(&dir).unwrap();
        assert_eq!(log.position(), 8);
        log.write(false, b"three").unwrap();
        assert_eq!(read(&dir, 2, 100).unwrap(), LogPiece { position: 2, bytes: b"e\ntwo\nthree".to_vec() });
        assert_eq!(read(&dir, 8, 100).unwrap(), LogPiece { position: 8, bytes: b"three".to_vec() });
        assert_eq!(extent(&dir).unwrap(), (0, 13));
        for (from, lines, start) in [(0, 1, 8), (0, 2, 4), (0, 3, 0), (0, 99, 0), (6, 99, 6), (13, 1, 13), (0, 0, 0)] {
            assert_eq!(tail(&dir, from, lines).unwrap(), start, "{lines} lines from {from}");
        }
    }

    #[test]
    fn the_oldest_goes_and_it_shows() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = ServiceLogWriter::open(dir.path()).unwrap();
        let line = [vec![b'x'; 65_535], vec![b'\n']].concat();
        for _ in 0..(LOG_BYTES_MAX + 2 * SEGMENT_BYTES) / 65_536 + 1 {
            log.write(false, &line).unwrap();
        }
        let (first, end) = extent(dir.path()).unwrap();
        assert_eq!((first, end), (3 * SEGMENT_BYTES, log.position()));
        assert!(end - first <= LOG_BYTES_MAX + SEGMENT_BYTES);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2 * SEGMENTS_MAX);
        assert_eq!(read(dir.path(), 5, 10).unwrap(), LogPiece { position: first, bytes: vec![b'x'; 10] });
        // A piece reaches over the border of two segments.
        let across = read(dir.path(), first + SEGMENT_BYTES - 2, 5).unwrap();
        assert_eq!(across, LogPiece { position: first + SEGMENT_BYTES - 2, bytes: b"x\nxxx".to_vec() });
        assert_eq!(read(dir.path(), u64::MAX, 10).unwrap(), LogPiece { position: end, bytes: Vec::new() });
        // The last lines begin in another segment than they end in.
        assert_eq!(tail(dir.path(), 0, 40).unwrap(), end - 40 * 65_536);
        assert_eq!(tail(dir.path(), 0, 10_000).unwrap(), end - (4 << 20));
    }
}
