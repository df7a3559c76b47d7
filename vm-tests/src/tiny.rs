//! The smallest system that can be installed and run: a few programs of this host with the libraries they need, and a
//! `dpkg` that finds everything configured. An environment of it is made in seconds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::archive::Deb;
use crate::surroundings;

/// Name of the system's only package, and of the environment that consists of it.
pub const TINY: &str = "tiny";

/// The row that makes it an environment.
pub const CATALOG: &str = "\
[[environment]]
name = \"tiny\"
description = \"a system of tests\"
release = \"bookworm\"
packages = [\"tiny\"]
";

/// What the script that configures packages calls, and what tests do.
const PROGRAMS: [&str; 20] = [
    "cat", "chmod", "date", "dd", "echo", "grep", "head", "id", "ls", "mkdir", "mv", "nproc", "od", "rm", "sh",
    "sleep", "tr", "true", "uname", "wc",
];

/// The package.
///
/// # Panics
/// This host lacks one of the programs.
#[must_use]
pub fn package() -> Deb {
    let mut deb = Deb::new(TINY, "1.0")
        .field("Essential", "yes")
        .file("etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\n")
        .file("etc/group", 0o644, "root:x:0:\n")
        .file("root/.profile", 0o644, "");
    for name in ["dpkg", "dpkg-query"] {
        deb = deb.file(&format!("usr/bin/{name}"), 0o755, "#!/bin/sh\nexit 0\n");
    }
    let mut libraries = BTreeSet::new();
    let mut known: BTreeMap<PathBuf, &str> = BTreeMap::new();
    for name in PROGRAMS {
        let path = surroundings::program(name).unwrap_or_else(|| panic!("{name} is not installed"));
        let file = path.canonicalize().expect("it was just found");
        let place = format!("usr/bin/{name}");
        // Where one file is many programs, it need not come many times.
        if let Some(&first) = known.get(&file) {
            deb = deb.symlink(&place, first);
            continue;
        }
        libraries.extend(libraries_of(&file));
        deb = deb.file(&place, 0o755, std::fs::read(&file).expect("programs are readable"));
        known.insert(file, name);
    }
    libraries.into_iter().fold(deb, |deb, library| {
        let place = library.to_string_lossy().trim_start_matches('/').to_owned();
        deb.file(&place, 0o755, std::fs::read(&library).expect("libraries are readable"))
    })
}

/// The libraries of a program and the loader; none of a static one.
#[expect(clippy::disallowed_methods, reason = "only the loader knows what a program needs")]
fn libraries_of(program: &Path) -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(program).output().expect("ldd comes with every C library");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().filter_map(library_in).collect()
}

/// The path in a line such as `libc.so.6 => /lib/libc.so.6 (0x1)` or `/lib64/ld-linux-x86-64.so.2 (0x1)`.
fn library_in(line: &str) -> Option<PathBuf> {
    let (_, found) = line.split_once("=>").unwrap_or(("", line));
    let path = found.split_whitespace().next()?;
    path.starts_with('/').then(|| path.into())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::library_in;

    #[test]
    fn what_a_program_needs_is_read_from_the_loaders_words() {
        let check = |line, path: Option<&str>| assert_eq!(library_in(line).as_deref(), path.map(Path::new));
        check("\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)", Some("/lib/x86_64-linux-gnu/libc.so.6"));
        check("\t/lib64/ld-linux-x86-64.so.2 (0x00007f)", Some("/lib64/ld-linux-x86-64.so.2"));
        check("\tlinux-vdso.so.1 (0x00007f)", None);
        check("\tstatically linked", None);
    }
}
