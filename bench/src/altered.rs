//! A QEMU that is the host's own with some of its arguments altered, for trying what pyro would gain by other ones.
//!
//! It is installed below a prefix of its own, because a hypervisor may execute nothing outside of its prefix and the
//! system's libraries; and because templates are told apart by where their QEMU lies, each alteration gets its own.

use std::fmt::Write as _;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// One argument that is altered: a pattern of the shell, and what stands in its place, where `$word` is what was there.
pub(crate) type Alteration = (&'static str, &'static str);

/// Directories of the system in which QEMU looks for what belongs to it, relative to itself.
const BESIDE: [&str; 2] = ["share", "lib/x86_64-linux-gnu"];

/// Installs a QEMU with these alterations below `prefix` and gives its path.
pub(crate) fn install(prefix: &Path, alterations: &[Alteration]) -> Result<PathBuf> {
    let (bin, lib) = (prefix.join("bin"), prefix.join("lib"));
    for dir in [&bin, &lib] {
        std::fs::create_dir_all(dir)?;
    }
    // A pyro that runs as root starts its machines as somebody else, who must get here too.
    for dir in prefix.ancestors().take(3) {
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755))?;
    }
    for name in BESIDE {
        let from = Path::new("/usr").join(name);
        if from.exists() {
            symlink(from, prefix.join(name))?;
        }
    }
    for (program, name) in [("qemu-system-x86_64", "qemu"), ("sh", "sh")] {
        let from = find(program).with_context(|| format!("{program} is not installed"))?;
        std::fs::copy(&from, lib.join(name)).with_context(|| format!("cannot copy {}", from.display()))?;
    }
    let program = bin.join("qemu-system-x86_64");
    std::fs::write(&program, script(&lib, alterations))?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
    Ok(program)
}

/// Every argument is taken from the front and put back at the end, altered or not.
fn script(lib: &Path, alterations: &[Alteration]) -> String {
    let lib = lib.display();
    let mut cases = String::new();
    for (pattern, instead) in alterations {
        writeln!(cases, "  {pattern}) word=\"{instead}\" ;;").expect("a string takes text");
    }
    format!(
        "#!{lib}/sh\nleft=$#\nwhile [ $left -gt 0 ]; do\n  word=$1\n  shift\n  case $word in\n{cases}  esac\n  \
         set -- \"$@\" \"$word\"\n  left=$((left - 1))\ndone\nexec {lib}/qemu \"$@\"\n"
    )
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use super::script;

    #[test]
    fn only_what_is_meant_is_altered() {
        let dir = tempfile::tempdir().expect("a directory");
        let lib = dir.path();
        std::os::unix::fs::symlink("/bin/sh", lib.join("sh")).expect("our own directory");
        std::fs::write(lib.join("qemu"), "#!/bin/sh\nprintf '%s|' \"$@\"\n").expect("our own directory");
        let program = lib.join("altered");
        let alterations = [("console=*", "$word quiet"), ("max", "qemu64")];
        std::fs::write(&program, script(lib, &alterations)).expect("our own directory");
        for path in [&program, &lib.join("qemu")] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("our own file");
        }
        let output =
            Command::new(&program).args(["-cpu", "max", "-append", "console=ttyS0 a=\"b\"", "", "a b"]).output();
        let text = String::from_utf8(output.expect("it starts").stdout).expect("text");
        assert_eq!(text, "-cpu|qemu64|-append|console=ttyS0 a=\"b\" quiet||a b|");
    }
}
