//! The forms in which a secret turns up in what programs print: as it is, in base64, in URLs, in hex, in JSON, line by line.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use zeroize::Zeroizing;

/// Shortest secret that is looked for. What is shorter stands in every other line of any text.
pub const SHORTEST_BYTES: usize = 4;

/// Shortest line of a secret of several lines that is looked for by itself.
const LINE_BYTES_MIN: usize = 8;

/// Shortest piece of base64 that is looked for by itself: 36 bits.
const BASE64_PIECE_MIN: usize = 6;

/// After so many characters `base64` and MIME begin a new line, and PEM and OpenSSL.
const BASE64_ROWS: [usize; 2] = [76, 64];

/// What encoders of URLs leave as it is besides letters and digits: the standard's, Python's, JavaScript's two, nothing.
const URL_SAFE_BYTES: [&[u8]; 5] = [b"-_.~", b"-_.~/", b"-_.!~*'()", b"-_.!~*'();/?:@&=+$,#", b""];

/// What HTML forms leave as it is; a space becomes `+`.
const FORM_SAFE_BYTES: &[u8] = b"*-._";

/// All forms that are looked for, wiped when they are dropped; none of a value that is too short.
pub(super) fn forms(value: &[u8]) -> Vec<Zeroizing<Vec<u8>>> {
    if value.len() < SHORTEST_BYTES {
        return Vec::new();
    }
    let mut forms = Vec::new();
    let mut add = |form: Vec<u8>| forms.push(Zeroizing::new(form));
    add(value.to_vec());
    in_lines(value, &mut add);
    in_base64(value, &mut add);
    in_urls(value, &mut add);
    let hex = value.iter().fold(String::new(), |hex, byte| written(hex, *byte, ""));
    add(hex.to_ascii_lowercase().into_bytes());
    add(hex.into_bytes());
    add(json(value).into_bytes());
    forms.retain(|form| form.len() >= SHORTEST_BYTES);
    forms.sort_unstable_by(|one, other| one.as_slice().cmp(other));
    forms.dedup_by(|one, other| one.as_slice() == other.as_slice());
    forms
}

/// A terminal ends lines with two bytes, a patch begins them with a sign.
fn in_lines(value: &[u8], add: &mut impl FnMut(Vec<u8>)) {
    if !value.contains(&b'\n') {
        return;
    }
    let lines = || value.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    add(lines().collect::<Vec<_>>().join(&b"\r\n"[..]));
    add(lines().collect::<Vec<_>>().join(&b"\n"[..]));
    // What marks the beginning and the end of a key stands in keys that are no secrets, too.
    for line in lines().filter(|line| line.len() >= LINE_BYTES_MIN && !line.starts_with(b"-----")) {
        add(line.to_vec());
    }
}

/// Whole, as one would encode it; and what is the same wherever it stands in something longer that is encoded.
fn in_base64(value: &[u8], add: &mut impl FnMut(Vec<u8>)) {
    for engine in [&STANDARD, &URL_SAFE] {
        let whole = engine.encode(value);
        for row in BASE64_ROWS {
            if whole.len() > row {
                let rows = whole.as_bytes().chunks(row).filter(|row| row.len() >= BASE64_PIECE_MIN);
                rows.for_each(|row| add(row.to_vec()));
            }
        }
        add(whole.trim_end_matches('=').as_bytes().to_vec());
        add(whole.into_bytes());
        // Of the characters at either end some bits belong to what stands beside.
        for (before, mixed) in [(0, 0), (1, 2), (2, 3)] {
            let encoded = engine.encode([&vec![0; before][..], value].concat());
            let encoded = encoded.trim_end_matches('=');
            let end = encoded.len() - usize::from(!(before + value.len()).is_multiple_of(3));
            if end >= mixed + BASE64_PIECE_MIN {
                add(encoded.as_bytes()[mixed..end].to_vec());
            }
        }
    }
}

fn in_urls(value: &[u8], add: &mut impl FnMut(Vec<u8>)) {
    let mut encode = |safe: &[u8], space: Option<&str>| {
        let mut text = String::new();
        for byte in value {
            match (byte, space) {
                (b' ', Some(space)) => text.push_str(space),
                (byte, _) if safe.contains(byte) || byte.is_ascii_alphanumeric() && !safe.is_empty() => {
                    text.push(char::from(*byte));
                }
                (byte, _) => text = written(text, *byte, "%"),
            }
        }
        add(lower_escapes(&text));
        add(text.into_bytes());
    };
    URL_SAFE_BYTES.iter().for_each(|safe| encode(safe, None));
    encode(FORM_SAFE_BYTES, Some("+"));
}

/// Adds a byte in hex to a text.
fn written(mut text: String, byte: u8, before: &str) -> String {
    write!(text, "{before}{byte:02X}").expect("a string takes all that is written");
    text
}

/// The same with escapes in small letters.
fn lower_escapes(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    let mut at = 0;
    while let Some(found) = bytes[at..].iter().position(|byte| *byte == b'%') {
        let end = (at + found + 3).min(bytes.len());
        bytes[at + found..end].make_ascii_lowercase();
        at = end;
    }
    bytes
}

/// What stands between the quotes in JSON; nothing for what is no text.
fn json(value: &[u8]) -> String {
    let quoted = std::str::from_utf8(value).ok().and_then(|text| serde_json::to_string(text).ok());
    quoted.map_or_else(String::new, |quoted| quoted[1..quoted.len() - 1].to_owned())
}

#[cfg(test)]
mod tests {
    use super::forms;

    #[track_caller]
    fn check(value: &[u8], expected: &[&str]) {
        let forms = forms(value);
        let texts: Vec<_> = forms.iter().map(|form| String::from_utf8_lossy(form).into_owned()).collect();
        for form in expected {
            assert!(texts.iter().any(|text| text == form), "no {form:?} in {texts:?}");
        }
    }

    #[test]
    fn the_usual_encoders_are_known() {
        check(b"s3cr3t/t0ken", &["s3cr3t/t0ken", "s3cr3t%2Ft0ken", "s3cr3t%2ft0ken", "7333637233742f74306b656e"]);
        check(b"s3cr3t/t0ken", &["czNjcjN0L3Qwa2Vu", "MzY3IzdC90MGtlb", "zM2NyM3QvdDBrZW"]);
        check(b"a b&c\"d", &["a+b%26c%22d", "a%20b%26c%22d", "a%20b&c%22d", "a b&c\\\"d", "%61%20%62%26%63%22%64"]);
        check("größe".as_bytes(), &["gr%C3%B6%C3%9Fe", "gr%c3%b6%c3%9fe", "Z3LDtsOfZQ==", "Z3LDtsOfZQ"]);
        check(b"line one\nline two\nx", &["line one\r\nline two\r\nx", "line two", "line one\\nline two\\nx"]);
        check(&[0xff, 0xfe, 0xfd, 0xfc], &["//79/A==", "__79_A==", "FFFEFDFC", "%FF%FE%FD%FC"]);
        let long = [b'k'; 60];
        check(&long, &[&"a2tr".repeat(19), &"a2tr".repeat(4)]);
    }

    #[test]
    fn what_is_too_short_is_not_looked_for() {
        assert!(forms(b"abc").is_empty() && forms(b"").is_empty());
        assert!(forms(b"abcd").iter().all(|form| form.len() >= 4));
        // The marks of a key are no secret.
        assert!(forms(b"-----BEGIN KEY-----\nabcdefgh\n").iter().all(|form| **form != *b"-----BEGIN KEY-----"));
    }
}
