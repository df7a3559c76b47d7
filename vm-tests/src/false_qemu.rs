//! A QEMU that fails under KVM and is the real one otherwise: hosts with a `/dev/kvm` that is not to be trusted.
//!
//! It is installed below a prefix of its own, as a user's own build would be, because a hypervisor may execute nothing
//! outside of its prefix and the system's libraries.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::surroundings;

/// What it does when it is asked for KVM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnderKvm {
    /// Nothing, for ever.
    Hangs,
    /// Complains and ends, as where KVM is only paravirtual.
    Dies,
}

/// Installs one below `home` and gives its path.
///
/// # Panics
/// QEMU is not installed on this host.
#[must_use]
pub fn install(home: &Path, under_kvm: UnderKvm) -> PathBuf {
    let prefix = home.join("qemu");
    let (bin, lib) = (prefix.join("bin"), prefix.join("lib"));
    for dir in [&bin, &lib] {
        fs::create_dir_all(dir).expect("it is our own directory");
    }
    // A pyro that runs as root starts its machines as somebody else, who must get here too.
    fs::set_permissions(home, fs::Permissions::from_mode(0o755)).expect("it is our own directory");
    // QEMU looks for its firmware relative to where it is.
    symlink("/usr/share", prefix.join("share")).expect("it is our own directory");
    // And for its accelerators, which some distributions build as modules.
    if Path::new("/usr/lib/x86_64-linux-gnu").exists() {
        symlink("/usr/lib/x86_64-linux-gnu", lib.join("x86_64-linux-gnu")).expect("it is our own directory");
    }
    for (program, name) in [("qemu-system-x86_64", "qemu"), ("sh", "sh"), ("sleep", "sleep")] {
        let from = surroundings::program(program).unwrap_or_else(|| panic!("{program} is not installed"));
        fs::copy(from, lib.join(name)).expect("programs are readable");
    }
    let lib = lib.display();
    let action = match under_kvm {
        UnderKvm::Hangs => format!("exec {lib}/sleep 3600"),
        UnderKvm::Dies => "echo 'qemu-system-x86_64: error: failed to set MSR 0x10a to 0x0' >&2; exit 1".to_owned(),
    };
    let script = format!(
        "#!{lib}/sh\nfor word; do\n  case $word in\n    kvm | kvm,*) {action} ;;\n  esac\ndone\nexec {lib}/qemu \"$@\"\n"
    );
    let program = bin.join("qemu-system-x86_64");
    fs::write(&program, script).expect("it is our own directory");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it is our own file");
    program
}
