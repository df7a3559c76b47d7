//! What is left out of every environment: documentation and translations, as in Debian's slim images. The same rules
//! are written into the image for the `dpkg` inside, so that packages installed later keep to them.

use super::super::deb::DataKind;

/// Patterns as `dpkg` takes them: `*` matches `/` too. The folders themselves stay, some scripts expect them.
const LEFT_OUT: [&str; 7] = [
    "usr/share/doc/*",
    "usr/share/info/*",
    "usr/share/lintian/*",
    "usr/share/linda/*",
    "usr/share/locale/*",
    "usr/share/man/*/*",
    "usr/share/groff/*",
];
/// Exceptions to them.
const KEPT: [&str; 2] = ["usr/share/doc/*/copyright", "usr/share/locale/locale.alias"];

/// Whether an entry is left out. `path` is relative to the root.
pub(super) fn leaves_out(path: &[u8], kind: &DataKind) -> bool {
    if !LEFT_OUT.iter().any(|pattern| matches(pattern.as_bytes(), path)) {
        return false;
    }
    match kind {
        // The folder of a package is made when a copyright file goes into it. A link in its place leads to one.
        DataKind::Symlink(_) if path.starts_with(b"usr/share/doc/") => {
            path.iter().filter(|byte| **byte == b'/').count() > 3
        }
        _ => !KEPT.iter().any(|pattern| matches(pattern.as_bytes(), path)),
    }
}

/// The rules as a file for `/etc/dpkg/dpkg.cfg.d`.
pub(super) fn dpkg_configuration() -> String {
    let excludes = LEFT_OUT.iter().map(|pattern| format!("path-exclude=/{pattern}\n"));
    let includes = KEPT.iter().map(|pattern| format!("path-include=/{pattern}\n"));
    let head =
        "# Documentation and translations are left out. Remove this file and reinstall a package to get its own.\n";
    std::iter::once(head.to_owned()).chain(excludes).chain(includes).collect()
}

/// Whether the whole text matches a pattern in which `*` stands for any text.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => (0..=text.len()).any(|skip| matches(rest, &text[skip..])),
        Some((byte, rest)) => text.first() == Some(byte) && matches(rest, &text[1..]),
    }
}

#[cfg(test)]
mod tests {
    use super::{DataKind, leaves_out};

    fn check(path: &str, kind: DataKind, expected: bool) {
        assert_eq!(leaves_out(path.as_bytes(), &kind), expected, "{path}");
    }

    #[test]
    fn documentation_goes_and_licences_stay() {
        check("usr/share/doc/git/README.gz", DataKind::File(1), true);
        check("usr/share/doc/git/copyright", DataKind::File(1), false);
        check("usr/share/doc/git/contrib/copyright", DataKind::File(1), false);
        check("usr/share/doc/git", DataKind::Directory, true);
        check("usr/share/doc/libc-bin", DataKind::Symlink(b"libc6".to_vec()), false);
        check("usr/share/doc/git/contrib/x", DataKind::Symlink(b"y".to_vec()), true);
        check("usr/share/man/man1", DataKind::Directory, false);
        check("usr/share/man/man1/git.1.gz", DataKind::File(1), true);
        check("usr/share/locale/locale.alias", DataKind::Symlink(b"/etc/locale.alias".to_vec()), false);
        check("usr/share/locale/de/LC_MESSAGES/git.mo", DataKind::File(1), true);
        check("usr/bin/git", DataKind::File(1), false);
    }
}
