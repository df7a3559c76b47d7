//! What CI checks, cheapest first; the tests on real guests come last, so that the last lines are the tests' own.

use anyhow::{Result, ensure};

use crate::shell::{self, command};
use crate::{guest, licences, test, test_kvm, tidy};

/// Crate edges that must not exist, as `cargo tree` names them: the crate, and what it must never pull in.
const FORBIDDEN_EDGES: [(&str, &str); 5] = [
    ("pyro-guest", "tokio"),
    ("pyro-guest", "pyro-engine"),
    ("pyro-wire", "tokio"),
    ("pyro-engine", "clap"),
    ("vm-tests", "pyro-engine"),
];

/// Runs all of it.
pub(crate) fn run() -> Result<()> {
    shell::run(&mut command("cargo fmt --all --check"))?;
    tidy::run()?;
    licences::run()?;
    forbidden_edges()?;
    if shell::succeeds("shellcheck --version") {
        shell::run(&mut command(
            "shellcheck scripts/install-conformance.sh scripts/install-qemu.sh scripts/kvm-host.sh scripts/try.sh .ci/run",
        ))?;
    }
    if shell::succeeds("typos --version") {
        shell::run(&mut command("typos"))?;
    }
    shell::run(&mut command("cargo clippy --locked --workspace --all-targets -- -D warnings"))?;
    shell::run(
        command("cargo doc --locked --workspace --no-deps --document-private-items")
            .env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private-intra-doc-links"),
    )?;
    guest::run()?;
    test_kvm::run()?;
    test::run()
}

fn forbidden_edges() -> Result<()> {
    for (package, never) in FORBIDDEN_EDGES {
        let mut tree = command("cargo tree --locked --edges normal,build --prefix none");
        let list = shell::read(tree.args(["--package", package]))?;
        let found = list.lines().any(|line| line.split_whitespace().next() == Some(never));
        ensure!(!found, "{package} depends on {never}, which the house forbids (ARCHITECTURE.md, code map)");
    }
    println!("forbidden crate edges: none of {}", FORBIDDEN_EDGES.len());
    Ok(())
}
