//! Sparse files as GNU tar writes them into pax archives (versions 0.0, 0.1 and 1.0): where the pieces of a file belong.

use std::io::{self, Read};

/// Pieces of one file.
const SEGMENTS_MAX: usize = 1 << 20;
/// Digits of a number.
const DIGITS_MAX: usize = 20;
const BLOCK_BYTES: u64 = 512;

/// A sparse file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sparse {
    /// Its size when it is unpacked.
    pub(super) size_bytes: u64,
    /// Where its pieces belong and how long they are; `None` when that stands before the pieces.
    map: Option<Vec<(u64, u64)>>,
}

impl Sparse {
    /// What the records of an entry say, if it is sparse.
    pub(super) fn of(records: &[(Vec<u8>, Vec<u8>)]) -> io::Result<Option<Self>> {
        let value = |key: &str| records.iter().find(|(name, _)| name == key.as_bytes()).map(|(_, value)| &value[..]);
        if value("GNU.sparse.major").is_some() {
            let size_bytes = number(value("GNU.sparse.realsize").unwrap_or_default())?;
            return Ok(Some(Self { size_bytes, map: None }));
        }
        let Some(size) = value("GNU.sparse.size") else { return Ok(None) };
        let size_bytes = number(size)?;
        let numbers: Vec<u64> = match value("GNU.sparse.map") {
            Some(b"") => Vec::new(),
            Some(map) => map.split(|byte| *byte == b',').map(number).collect::<io::Result<_>>()?,
            None => {
                let pieces =
                    records.iter().filter(|(name, _)| name == b"GNU.sparse.offset" || name == b"GNU.sparse.numbytes");
                pieces.map(|(_, value)| number(value)).collect::<io::Result<_>>()?
            }
        };
        Ok(Some(Self { size_bytes, map: Some(pairs(&numbers)?) }))
    }

    /// Where the pieces belong that follow in `content`, in their order.
    pub(super) fn segments(self, content: &mut dyn Read) -> io::Result<Vec<(u64, u64)>> {
        let map = match self.map {
            Some(map) => map,
            None => read_map(content)?,
        };
        let mut end = 0;
        for (at, len) in &map {
            if *at < end {
                return Err(malformed());
            }
            end = at.checked_add(*len).filter(|end| *end <= self.size_bytes).ok_or_else(malformed)?;
        }
        Ok(map)
    }
}

/// The map at the beginning of the content: numbers a line, then padding to a block.
fn read_map(content: &mut dyn Read) -> io::Result<Vec<(u64, u64)>> {
    let mut taken = 0;
    let mut line = || -> io::Result<u64> {
        let mut digits = Vec::new();
        loop {
            let mut byte = [0];
            content.read_exact(&mut byte)?;
            taken += 1;
            match byte[0] {
                b'\n' => return number(&digits),
                _ if digits.len() >= DIGITS_MAX => return Err(malformed()),
                digit => digits.push(digit),
            }
        }
    };
    let count = usize::try_from(line()?).ok().filter(|count| *count <= SEGMENTS_MAX).ok_or_else(malformed)?;
    let mut numbers = Vec::new();
    for _ in 0..2 * count {
        numbers.push(line()?);
    }
    let padding = taken_padding(taken);
    io::copy(&mut content.take(padding), &mut io::sink())?;
    pairs(&numbers)
}

fn taken_padding(taken: u64) -> u64 {
    taken.next_multiple_of(BLOCK_BYTES) - taken
}

fn pairs(numbers: &[u64]) -> io::Result<Vec<(u64, u64)>> {
    if !numbers.len().is_multiple_of(2) || numbers.len() > 2 * SEGMENTS_MAX {
        return Err(malformed());
    }
    Ok(numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}

fn number(digits: &[u8]) -> io::Result<u64> {
    let text = std::str::from_utf8(digits).map_err(|_| malformed())?;
    text.parse().map_err(|_| malformed())
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a sparse file's map is malformed")
}

#[cfg(test)]
mod tests {
    use super::Sparse;

    #[track_caller]
    fn check(records: &[(&str, &str)], content: &[u8], expected: Option<&[(u64, u64)]>) {
        let records: Vec<_> =
            records.iter().map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().to_vec())).collect();
        let segments = Sparse::of(&records).and_then(|sparse| sparse.unwrap().segments(&mut &content[..]));
        assert_eq!(segments.ok().as_deref(), expected);
    }

    #[test]
    fn maps_of_all_versions_are_read() {
        let pairs = &[(0, 5), (4096, 1)][..];
        check(&[("GNU.sparse.size", "9000"), ("GNU.sparse.map", "0,5,4096,1")], b"", Some(pairs));
        let old = [
            ("GNU.sparse.size", "9000"),
            ("GNU.sparse.offset", "0"),
            ("GNU.sparse.numbytes", "5"),
            ("GNU.sparse.offset", "4096"),
            ("GNU.sparse.numbytes", "1"),
        ];
        check(&old, b"", Some(pairs));
        let mut content = b"2\n0\n5\n4096\n1\n".to_vec();
        content.resize(512, 0);
        check(&[("GNU.sparse.major", "1"), ("GNU.sparse.realsize", "9000")], &content, Some(pairs));
    }

    #[test]
    fn maps_that_lie_are_refused() {
        check(&[("GNU.sparse.size", "9"), ("GNU.sparse.map", "0,5,4096,1")], b"", None);
        check(&[("GNU.sparse.size", "9"), ("GNU.sparse.map", "5,1,0,1")], b"", None);
        check(&[("GNU.sparse.size", "9"), ("GNU.sparse.map", "1,2,3")], b"", None);
        check(&[("GNU.sparse.size", "-9"), ("GNU.sparse.map", "")], b"", None);
        check(&[("GNU.sparse.major", "1"), ("GNU.sparse.realsize", "9")], b"99999999999999999999999", None);
        check(&[("GNU.sparse.size", "9"), ("GNU.sparse.map", "1,18446744073709551615")], b"", None);
    }
}
