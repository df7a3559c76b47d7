//! Content that is no text, as git's own binary patch: deflated, in base 85, in both directions.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::ZlibEncoder;

/// Deflated bytes on one line.
const LINE_BYTES: usize = 52;

/// The digits of git's base 85.
const DIGITS: &[u8; 85] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~";

/// Appends what turns `old` into `new`, and back.
pub(super) fn patch(old: &[u8], new: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"GIT binary patch\n");
    literal(new, out);
    literal(old, out);
}

fn literal(content: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("literal {}\n", content.len()).as_bytes());
    for line in deflated(content).chunks(LINE_BYTES) {
        out.push(length_letter(line.len()));
        for group in line.chunks(4) {
            encode_group(group, out);
        }
        out.push(b'\n');
    }
    out.push(b'\n');
}

fn deflated(content: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).expect("a vector takes every byte");
    encoder.finish().expect("a vector takes every byte")
}

/// How many bytes a line stands for: `A` to `Z` for 1 to 26, `a` to `z` for 27 to 52.
fn length_letter(length: usize) -> u8 {
    let length = u8::try_from(length).expect("a line is 52 bytes at most");
    if length <= 26 { b'A' + length - 1 } else { b'a' + length - 27 }
}

/// Up to four bytes, as a big-endian number filled up with zeros, in five digits.
fn encode_group(group: &[u8], out: &mut Vec<u8>) {
    let mut bytes = [0; 4];
    bytes[..group.len()].copy_from_slice(group);
    let mut number = u32::from_be_bytes(bytes);
    let mut digits = [0; 5];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[(number % 85) as usize];
        number /= 85;
    }
    out.extend(digits);
}

#[cfg(test)]
mod tests {
    #[test]
    fn digits_are_those_of_git() {
        let encoded = |bytes: &[u8]| {
            let mut out = Vec::new();
            super::encode_group(bytes, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!([&[0x78, 0x9c, 0x03, 0][..], &[0, 0, 0, 1], &[0xff; 4]].map(encoded), ["c$@<O", "00001", "|NsC0"]);
        assert_eq!(encoded(&[1]), encoded(&[1, 0, 0, 0]));
    }

    #[test]
    fn lines_say_their_length() {
        assert_eq!([1, 26, 27, 52].map(super::length_letter), [b'A', b'Z', b'a', b'z']);
    }
}
