//! The names in a patch: taken out of their quotes, and of the prefixes that tell old from new.

use pyro_wire::lifecycle::WORKSPACE_MOUNT;

/// A name as it stands in a patch: `None` for `/dev/null`.
pub(super) type Name = Option<Vec<u8>>;

/// Single letters that git puts before a path to say which side it is of: `a/` and `b/`, or with `diff.mnemonicPrefix` those of
/// index, work tree, commit and object.
const PREFIX_LETTERS: &[u8] = b"abiwco12";

/// The name after `--- `, `+++ `, `rename from ` and the like; `None` for one that cannot be read.
pub(super) fn read(text: &[u8]) -> Option<Name> {
    let text = text.trim_ascii_end_line();
    if text.first() == Some(&b'"') {
        let (name, _) = unquote(text)?;
        return Some(Some(name));
    }
    // What follows a tab is the time of a file.
    let mut parts = text.splitn(2, |byte| *byte == b'\t');
    let name = parts.next().unwrap_or_default();
    let is_epoch = |time: &[u8]| time.starts_with(b"1970-01-01") || time.starts_with(b"1969-12-31");
    if name == b"/dev/null" || parts.next().is_some_and(is_epoch) {
        return Some(None);
    }
    (!name.is_empty()).then(|| Some(name.to_vec()))
}

/// The one name of `diff --git a/x b/x`, both prefixes still on it: git leaves other lines out when both are the same.
pub(super) fn read_both(text: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let text = text.trim_ascii_end_line();
    if text.first() == Some(&b'"') {
        let (old, rest) = unquote(text)?;
        let rest = rest.strip_prefix(b" ")?;
        let new = if rest.first() == Some(&b'"') { unquote(rest)?.0 } else { rest.to_vec() };
        return Some((old, new));
    }
    if text.ends_with(b"\"") {
        let at = text.windows(2).position(|pair| pair == b" \"")?;
        return Some((text[..at].to_vec(), unquote(&text[at + 1..])?.0));
    }
    // Names may have spaces: the right one is that after which the two are the same.
    let spaces = text.iter().enumerate().filter(|(_, byte)| **byte == b' ').map(|(at, _)| at);
    spaces.map(|at| (&text[..at], &text[at + 1..])).find_map(|(old, new)| {
        let same = old == new || strip_one(old).is_some_and(|old| Some(old) == strip_one(new));
        same.then(|| (old.to_vec(), new.to_vec()))
    })
}

/// What the two names of a file are without their prefixes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stripped {
    pub(super) old: Name,
    pub(super) new: Name,
    /// The names can be read with one part less, too: whichever is there is meant.
    pub(super) unsure: bool,
}

/// Takes the prefixes off, if they are some.
pub(super) fn strip(old: Name, new: Name) -> Stripped {
    let letter = |name: &Name| match name.as_deref() {
        Some([letter, b'/', _, ..]) if PREFIX_LETTERS.contains(letter) => Some(*letter),
        _ => None,
    };
    let prefixed = match (&old, &new) {
        (Some(before), Some(after)) => {
            let letters = letter(&old).is_some() && letter(&new).is_some() && letter(&old) != letter(&new);
            // Words of somebody's own in their place, `old/x` and `new/x`.
            letters || before != after && strip_one(before).is_some() && strip_one(before) == strip_one(after)
        }
        _ => letter(&old).or(letter(&new)).is_some(),
    };
    let unsure = !prefixed && letter(&old).is_some() && letter(&old) == letter(&new);
    let take = |name: Name| name.map(|name| if prefixed { strip_one(&name).unwrap_or(&name).to_vec() } else { name });
    Stripped { old: take(old).map(relative), new: take(new).map(relative), unsure }
}

/// A name relative to the workspace: models name it by its place in the guest, or from where they stand.
pub(super) fn relative(name: Vec<u8>) -> Vec<u8> {
    let inside = name.strip_prefix(WORKSPACE_MOUNT.as_bytes()).and_then(|rest| rest.strip_prefix(b"/"));
    let mut rest = inside.unwrap_or(&name);
    while let Some(inner) = rest.strip_prefix(b"./") {
        rest = inner;
    }
    rest.to_vec()
}

/// A name without its first part.
pub(super) fn strip_one(name: &[u8]) -> Option<&[u8]> {
    let at = name.iter().position(|byte| *byte == b'/')?;
    Some(&name[at + 1..]).filter(|rest| !rest.is_empty())
}

/// Takes a name out of the C quotes that it begins with, and gives what follows them.
fn unquote(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut name = Vec::new();
    let mut rest = text.strip_prefix(b"\"")?;
    loop {
        let (&byte, after) = rest.split_first()?;
        rest = after;
        match byte {
            b'"' => return Some((name, rest)),
            b'\\' => {
                let (&letter, after) = rest.split_first()?;
                rest = after;
                match letter {
                    b'a' => name.push(0x07),
                    b'b' => name.push(0x08),
                    b't' => name.push(b'\t'),
                    b'n' => name.push(b'\n'),
                    b'v' => name.push(0x0b),
                    b'f' => name.push(0x0c),
                    b'r' => name.push(b'\r'),
                    b'"' | b'\\' => name.push(letter),
                    b'0'..=b'3' => {
                        let [two @ b'0'..=b'7', three @ b'0'..=b'7', after @ ..] = rest else { return None };
                        name.push((letter - b'0') << 6 | (two - b'0') << 3 | (three - b'0'));
                        rest = after;
                    }
                    _ => return None,
                }
            }
            _ => name.push(byte),
        }
    }
}

trait TrimEndLine {
    /// Without the line break at its end, be it of this system or another.
    fn trim_ascii_end_line(&self) -> &[u8];
}

impl TrimEndLine for [u8] {
    fn trim_ascii_end_line(&self) -> &[u8] {
        let line = self.strip_suffix(b"\n").unwrap_or(self);
        line.strip_suffix(b"\r").unwrap_or(line)
    }
}

#[cfg(test)]
mod tests {
    use super::{read, read_both, strip};

    #[track_caller]
    fn check_read(text: &str, expected: Option<&[u8]>) {
        assert_eq!(read(text.as_bytes()).map(|name| name.expect("no /dev/null")).as_deref(), expected, "{text}");
    }

    #[test]
    fn names_are_read_as_git_writes_them() {
        check_read("a/x\n", Some(b"a/x"));
        check_read("a/x y\t\r\n", Some(b"a/x y"));
        check_read("x\t2024-01-02 03:04:05", Some(b"x"));
        check_read(r#""a/\"\\\t\n\303\244\377""#, Some(b"a/\"\\\t\n\xc3\xa4\xff"));
        check_read(r#""a/\8""#, None);
        check_read(r#""a/x"#, None);
        check_read("", None);
        for nothing in ["/dev/null\n", "/dev/null\r\n", "x\t1970-01-01 01:00:00 +0100"] {
            assert_eq!(read(nothing.as_bytes()), Some(None));
        }
    }

    #[track_caller]
    fn check_both(text: &str, expected: Option<(&str, &str)>) {
        let found = read_both(text.as_bytes());
        let found =
            found.map(|(old, new)| (String::from_utf8(old).expect("text"), String::from_utf8(new).expect("text")));
        assert_eq!(found.as_ref().map(|(old, new)| (old.as_str(), new.as_str())), expected);
    }

    #[test]
    fn one_name_twice_is_found_among_spaces() {
        check_both("a/x b/x\n", Some(("a/x", "b/x")));
        check_both("a/x y b/x y", Some(("a/x y", "b/x y")));
        check_both("a/x b/x b/x b/x", Some(("a/x b/x", "b/x b/x")));
        check_both("x x", Some(("x", "x")));
        check_both("a/x b/y", None);
        check_both(r#""a/x\ty" "b/x\ty""#, Some(("a/x\ty", "b/x\ty")));
        check_both(r#"a/x "b/\"""#, Some(("a/x", "b/\"")));
    }

    #[track_caller]
    fn check_strip(old: Option<&str>, new: Option<&str>, expected: (Option<&str>, Option<&str>, bool)) {
        let bytes = |name: Option<&str>| name.map(|name| name.as_bytes().to_vec());
        let stripped = strip(bytes(old), bytes(new));
        assert_eq!((stripped.old, stripped.new, stripped.unsure), (bytes(expected.0), bytes(expected.1), expected.2));
    }

    #[test]
    fn prefixes_go_and_folders_stay() {
        check_strip(Some("a/src/x"), Some("b/src/x"), (Some("src/x"), Some("src/x"), false));
        check_strip(Some("src/x"), Some("src/x"), (Some("src/x"), Some("src/x"), false));
        check_strip(Some("a/x"), Some("a/x"), (Some("a/x"), Some("a/x"), true));
        check_strip(None, Some("b/x"), (None, Some("x"), false));
        check_strip(Some("i/x"), None, (Some("x"), None, false));
        check_strip(None, Some("/workspace/src/x"), (None, Some("src/x"), false));
        check_strip(Some("a/./x"), Some("b/./x"), (Some("x"), Some("x"), false));
    }
}
