//! Names in a patch: quoted as git quotes them, so that any bytes survive, and so that no name can pass for a line of the
//! patch or reach a terminal as an escape.

/// `prefix` and the name after it (`a/` and `x` make `a/x`), in C quotes if one of the bytes needs them.
pub(super) fn quoted(prefix: &str, name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(prefix.len() + name.len() + 2);
    if is_plain(name) {
        out.extend_from_slice(prefix.as_bytes());
        out.extend_from_slice(name);
        return out;
    }
    out.push(b'"');
    out.extend_from_slice(prefix.as_bytes());
    for &byte in name {
        quote_byte(byte, &mut out);
    }
    out.push(b'"');
    out
}

/// As [`quoted`], as it stands after `---` and `+++`: a tab tells where a name with spaces ends.
pub(super) fn quoted_with_end(prefix: &str, name: &[u8]) -> Vec<u8> {
    let mut out = quoted(prefix, name);
    if out.first() != Some(&b'"') && out.contains(&b' ') {
        out.push(b'\t');
    }
    out
}

/// UTF-8 without characters that mean something to a reader of the patch or to a terminal.
fn is_plain(name: &[u8]) -> bool {
    std::str::from_utf8(name).is_ok_and(|text| !text.chars().any(|c| matches!(c, '"' | '\\') || is_unseen(c)))
}

/// Control characters, and those that change the direction of text or take no room.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn quote_byte(byte: u8, out: &mut Vec<u8>) {
    let letter = match byte {
        0x07 => b'a',
        0x08 => b'b',
        b'\t' => b't',
        b'\n' => b'n',
        0x0b => b'v',
        0x0c => b'f',
        b'\r' => b'r',
        b'"' => b'"',
        b'\\' => b'\\',
        b' '..=b'~' => return out.push(byte),
        _ => return out.extend([b'\\', b'0' + (byte >> 6), b'0' + (byte >> 3 & 7), b'0' + (byte & 7)]),
    };
    out.extend([b'\\', letter]);
}

#[cfg(test)]
mod tests {
    use super::{quoted, quoted_with_end};

    #[track_caller]
    fn check(name: &[u8], expected: &str) {
        assert_eq!(String::from_utf8_lossy(&quoted("a/", name)), expected);
    }

    #[test]
    fn names_are_quoted_as_git_does() {
        check(b"plain name.txt", "a/plain name.txt");
        check("größe".as_bytes(), "a/größe");
        check(b"tab\tquote\"back\\slash", r#""a/tab\tquote\"back\\slash""#);
        check(b"line\nbreak\x01\x7f", r#""a/line\nbreak\001\177""#);
        check(b"\xff\xfe", r#""a/\377\376""#);
        check("right\u{202e}left".as_bytes(), r#""a/right\342\200\256left""#);
    }

    #[test]
    fn a_name_with_spaces_has_an_end() {
        assert_eq!(quoted_with_end("b/", b"a b"), b"b/a b\t");
        assert_eq!(quoted_with_end("b/", b"ab"), b"b/ab");
        assert_eq!(quoted_with_end("b/", b"a \n"), br#""b/a \n""#);
    }
}
