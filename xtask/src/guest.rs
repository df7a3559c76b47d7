//! The guest agent: that it builds as one static file, and that it stays small.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::shell::{self, command, target_dir};

/// It goes into every initramfs and is read by every boot. Searching, with regular expressions and the rules of what git
/// ignores, is half of it.
const SIZE_BYTES_MAX: u64 = 5 * 1024 * 1024;

/// Builds it as pyro's own build script does, in the same directory, so that nothing is built twice, and checks it.
pub(crate) fn run() -> Result<()> {
    let dir = target_dir().join("guest-agent");
    let mut build = command("cargo build --locked --package pyro-guest --bin pyro-guest --profile agent");
    build.args(["--target", "x86_64-unknown-linux-gnu", "--target-dir"]).arg(&dir);
    shell::run(build.env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static"))?;
    check(&dir.join("x86_64-unknown-linux-gnu/agent/pyro-guest"))
}

fn check(program: &Path) -> Result<()> {
    let bytes = std::fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    ensure!(!asks_for_an_interpreter(&bytes)?, "{} is linked dynamically", program.display());
    let size_bytes = bytes.len() as u64;
    ensure!(size_bytes <= SIZE_BYTES_MAX, "the guest agent has {size_bytes} bytes, its budget is {SIZE_BYTES_MAX}");
    println!("guest agent: static, {} KiB of {} KiB", size_bytes / 1024, SIZE_BYTES_MAX / 1024);
    Ok(())
}

/// Whether a 64-bit ELF file names a dynamic linker (a `PT_INTERP` program header).
fn asks_for_an_interpreter(elf: &[u8]) -> Result<bool> {
    const PT_INTERP: u32 = 3;
    ensure!(elf.starts_with(b"\x7fELF\x02\x01"), "no 64-bit little-endian ELF file");
    let number = |offset: usize, length: usize| -> Result<usize> {
        let bytes = elf.get(offset..offset + length).context("the ELF file is cut short")?;
        Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | usize::from(*byte)))
    };
    let (table, entry_size, entries) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for entry in 0..entries {
        if number(table + entry * entry_size, 4)? == PT_INTERP as usize {
            return Ok(true);
        }
    }
    Ok(false)
}
