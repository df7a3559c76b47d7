//! Files of JSON lines that are only ever appended to. A line is written in one piece; one that a crash tore is passed over.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest line that is read; a longer one is passed over.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// Adds one entry.
///
/// # Errors
/// As the system calls.
pub fn append(path: &Path, entry: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(entry).map_err(io::Error::other)?;
    line.push(b'\n');
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    // What a crash left of a last line must not swallow this one.
    let length = file.metadata()?.len();
    if length > 0 {
        let mut last = [0];
        file.seek(SeekFrom::Start(length - 1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            line.insert(0, b'\n');
        }
    }
    file.write_all(&line)
}

/// Reads the entries from byte `position` on, and the position after the last whole line. A file that is not there is empty.
///
/// # Errors
/// As the system calls.
pub fn read<T: DeserializeOwned>(path: &Path, position: u64) -> io::Result<(Vec<T>, u64)> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((Vec::new(), position)),
        file => read_open(file?, position),
    }
}

/// The same of an open file.
///
/// # Errors
/// As the system calls.
pub fn read_open<T: DeserializeOwned>(mut file: File, position: u64) -> io::Result<(Vec<T>, u64)> {
    file.seek(SeekFrom::Start(position))?;
    let mut reader = BufReader::new(file);
    let (mut entries, mut position) = (Vec::new(), position);
    let mut line = Vec::new();
    loop {
        line.clear();
        let count = reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        if count == 0 || (line.last() != Some(&b'\n') && (count as u64) < LINE_BYTES_MAX) {
            return Ok((entries, position));
        }
        position += count as u64;
        entries.extend(serde_json::from_slice(&line).ok());
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    #[test]
    fn a_torn_line_harms_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        assert_eq!(super::read::<u32>(&path, 0).unwrap(), (Vec::new(), 0));
        super::append(&path, &1).unwrap();
        let (entries, after_one) = super::read::<u32>(&path, 0).unwrap();
        assert_eq!((entries, after_one), (vec![1], 2));
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"torn").unwrap();
        assert_eq!(super::read::<u32>(&path, after_one).unwrap(), (Vec::new(), after_one));
        super::append(&path, &3).unwrap();
        assert_eq!(super::read::<u32>(&path, after_one).unwrap().0, [3]);
        assert_eq!(super::read::<u32>(&path, 0).unwrap().0, [1, 3]);
    }
}
