//! All tests: first those that need no guest, then those on real guests, which drive the release binary. Says how many
//! guests were booted; none is a failure.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::shell::{self, command, program, target_dir};

/// The environments the tests on real guests use, installed once into the user's own cache.
const ENVIRONMENTS: [&str; 2] = ["debian:12", "debian:12-build"];

/// Runs all tests.
pub(crate) fn run() -> Result<()> {
    let nextest = shell::succeeds("cargo nextest --version");
    if !nextest {
        eprintln!("cargo-nextest is not installed: plain `cargo test` is used, one guest at a time");
    }
    let mut summary = without_guests(nextest)?;
    let pyro = release_binary()?;
    for environment in ENVIRONMENTS {
        shell::run(program(&pyro).args(["env", "pull", environment]))?;
    }
    let count_file = target_dir().join("vm-tests").join("guests-booted");
    summary.extend(with_guests(nextest, &pyro, &count_file)?);

    let guests = std::fs::metadata(&count_file).map_or(0, |metadata| metadata.len());
    println!("\nunit and golden tests, doc tests, tests on real guests:");
    for line in summary {
        println!("{line}");
    }
    println!("real guests booted: {guests}");
    ensure!(guests > 0, "no test booted a guest, so nothing was proven");
    Ok(())
}

fn without_guests(nextest: bool) -> Result<Vec<String>> {
    let line = if nextest {
        "cargo nextest run --locked --workspace --profile default"
    } else {
        "cargo test --locked --workspace --exclude vm-tests --all-targets --no-fail-fast"
    };
    let mut summary = shell::run_keeping(&mut command(line), is_summary)?;
    if !nextest {
        let library = "cargo test --locked --package vm-tests --lib";
        summary.extend(shell::run_keeping(&mut command(library), is_summary)?);
    }
    summary.extend(shell::run_keeping(&mut command("cargo test --locked --workspace --doc"), is_summary)?);
    Ok(summary)
}

fn with_guests(nextest: bool, pyro: &Path, count_file: &Path) -> Result<Vec<String>> {
    let dir = count_file.parent().expect("it lies in a directory");
    std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    std::fs::write(count_file, b"").with_context(|| format!("cannot write {}", count_file.display()))?;
    let line = if nextest {
        "cargo nextest run --locked --package vm-tests --profile vm"
    } else {
        "cargo test --locked --package vm-tests --no-fail-fast --test * -- --test-threads=1 --skip a_real_"
    };
    let mut tests = command(line);
    tests.env("PYRO_BIN", pyro).env("PYRO_TEST_GUESTS_BOOTED", count_file);
    shell::run_keeping(&mut tests, is_summary)
}

/// Builds the program as it is shipped, and gives its path.
pub(crate) fn release_binary() -> Result<PathBuf> {
    shell::run(&mut command("cargo build --locked --release --package pyro"))?;
    Ok(target_dir().join("release").join("pyro"))
}

/// Whether a line is a test runner's own summary.
fn is_summary(line: &str) -> bool {
    line.trim_start().starts_with("Summary [")
        || (line.starts_with("test result: ") && !line.contains(" 0 passed; 0 failed"))
}
