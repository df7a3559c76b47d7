//! The benchmark: builds what is measured as it is shipped, and measures it.

use anyhow::Result;

use crate::shell::{self, command, program};
use crate::test::release_binary;

/// Runs `bench` with these arguments; a leading `--` is passed over.
pub(crate) fn run(args: &[&str]) -> Result<()> {
    let args = args.strip_prefix(&["--"]).unwrap_or(args);
    let pyro = release_binary()?;
    shell::run(program(&pyro).args(["env", "pull", "debian:12"]))?;
    let mut bench = command("cargo run --locked --quiet --package bench --");
    shell::run(bench.args(args).env("PYRO_BIN", pyro))
}
