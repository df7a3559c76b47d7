//! A QEMU that fails in a way of the test's choice and is the real one otherwise: hosts whose `/dev/kvm` or processor is not
//! to be trusted.
//!
//! It is installed below a prefix of its own, as a user's own build would be, because a hypervisor may execute nothing
//! outside of its prefix and the system's libraries.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, mkfifoat};

use crate::surroundings;

/// What it does when it is asked for KVM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnderKvm {
    /// Nothing, for ever.
    Hangs,
    /// Complains and ends, as where KVM is only paravirtual.
    Dies,
}

/// A line of this to a [`Restarting`] makes its next machine one whose guest restarts itself at once.
const RESTART: &str = "restart\n";

/// And this one as it should be.
const BOOT: &str = "boot\n";

/// A QEMU some of whose guests restart themselves with their first instruction, as where nested virtual machines lose their
/// way. Asked for KVM, it emulates and does not say so.
#[derive(Debug)]
pub struct Restarting {
    /// The program.
    pub program: PathBuf,
    /// Machines read from it what they are to be: a line each, in a pipe, because they may write nowhere.
    lines: File,
}

impl Restarting {
    /// Installs one below `home`, whose next `restarts` machines restart themselves and `boots` after them do not.
    ///
    /// # Panics
    /// QEMU is not installed on this host.
    #[must_use]
    pub fn install(home: &Path, restarts: usize, boots: usize) -> Self {
        let lib = prefix(home).join("lib");
        let next = lib.join("next");
        mkfifoat(CWD, &next, Mode::from_raw_mode(0o644)).expect("it is our own directory");
        let mut lines = File::options().read(true).write(true).open(&next).expect("it is our own pipe");
        fs::write(lib.join("restart"), triple_fault()).expect("it is our own directory");
        let lines_of = RESTART.repeat(restarts) + &BOOT.repeat(boots);
        lines.write_all(lines_of.as_bytes()).expect("a pipe holds 64 KiB");
        let lib = lib.display();
        let script = format!(
            "case \" $* \" in\n  *' -kernel '*) read -r next <{lib}/next ;;\nesac\n\
             for word; do\n  shift\n  case $before,$word in\n    -accel,kvm) new=tcg,thread=multi ;;\n    \
             -cpu,host) new=max ;;\n    -kernel,*) new=$word; [ \"$next\" = restart ] && new={lib}/restart ;;\n    \
             *) new=$word ;;\n  esac\n  before=$word\n  set -- \"$@\" \"$new\"\ndone\n"
        );
        Self { program: install_script(home, &script), lines }
    }

    /// How many machines were not started that were made ready for.
    ///
    /// # Panics
    /// The pipe cannot be read.
    #[must_use]
    pub fn left(&mut self) -> usize {
        self.lines.write_all(b"end\n").expect("a pipe holds 64 KiB");
        BufReader::new(&self.lines).lines().map_while(Result::ok).take_while(|line| line != "end").count()
    }
}

/// A kernel for the multiboot protocol that loads an empty table of interrupts and calls one, which no processor survives.
fn triple_fault() -> Vec<u8> {
    const ADDRESS: u32 = 0x10_0000;
    const CODE_AT: u32 = 0x20;
    const TABLE_AT: u32 = 0x30;
    // Of the header: its mark, that addresses follow, what makes the sum of these three zero.
    let (mark, flags) = (0x1bad_b002_u32, 0x1_0000_u32);
    let sum = 0_u32.wrapping_sub(mark).wrapping_sub(flags);
    // Where the header is to lie, where to load it, up to where (all), what to clear (nothing), where to begin.
    let header = [mark, flags, sum, ADDRESS, ADDRESS, 0, 0, ADDRESS + CODE_AT];
    let mut image: Vec<u8> = header.iter().flat_map(|word| word.to_le_bytes()).collect();
    image.extend([0x0f, 0x01, 0x1d]); // lidt
    image.extend((ADDRESS + TABLE_AT).to_le_bytes());
    image.push(0xcc); // int3
    image.resize(TABLE_AT as usize + 16, 0);
    image
}

/// Installs one below `home` and gives its path.
///
/// # Panics
/// QEMU is not installed on this host.
#[must_use]
pub fn install(home: &Path, under_kvm: UnderKvm) -> PathBuf {
    let lib = prefix(home).join("lib");
    let lib = lib.display();
    let action = match under_kvm {
        UnderKvm::Hangs => format!("exec {lib}/sleep 3600"),
        UnderKvm::Dies => "echo 'qemu-system-x86_64: error: failed to set MSR 0x10a to 0x0' >&2; exit 1".to_owned(),
    };
    install_script(home, &format!("for word; do\n  case $word in\n    kvm | kvm,*) {action} ;;\n  esac\ndone\n"))
}

/// The prefix below `home`, with the real QEMU and what scripts need in its `lib`.
fn prefix(home: &Path) -> PathBuf {
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
    prefix
}

/// The program: a script that ends by becoming the real one.
fn install_script(home: &Path, script: &str) -> PathBuf {
    let prefix = home.join("qemu");
    let lib = prefix.join("lib");
    let program = prefix.join("bin/qemu-system-x86_64");
    let script = format!("#!{lib}/sh\n{script}exec {lib}/qemu \"$@\"\n", lib = lib.display());
    fs::write(&program, script).expect("it is our own directory");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it is our own file");
    program
}
