//! Kills at random moments, many of them: the test in `vm-tests/tests/chaos.rs`, run for long.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};

use crate::shell::{self, command, program};
use crate::test::release_binary;

/// Kills where nobody says how many.
const COUNT: u64 = 200;

/// Runs the test with a count and a seed, or with a seed that nobody chose.
pub(crate) fn run(args: &[&str]) -> Result<()> {
    ensure!(args.len() <= 2, "chaos takes a count and a seed");
    let number = |at: usize, otherwise: u64| {
        args.get(at).map_or(Ok(otherwise), |word| word.parse().with_context(|| format!("'{word}' is no number")))
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (count, seed) = (number(0, COUNT)?, number(1, now.as_secs())?);
    let pyro = release_binary()?;
    shell::run(program(&pyro).args(["env", "pull", "debian:12"]))?;
    eprintln!("\n{count} kills; the same again: make chaos COUNT={count} SEED={seed}");
    let line = if shell::succeeds("cargo nextest --version") {
        "cargo nextest run --locked --package vm-tests --profile chaos"
    } else {
        "cargo test --locked --package vm-tests --test chaos -- --nocapture"
    };
    let mut test = command(line);
    test.env("PYRO_BIN", pyro).env("PYRO_CHAOS_SEED", seed.to_string()).env("PYRO_CHAOS_COUNT", count.to_string());
    shell::run(&mut test)
}
