//! Reference pages that are generated: written anew here, and compared by golden tests in every test run.

use anyhow::Result;

use crate::shell::{self, command};

/// Writes them anew.
pub(crate) fn run() -> Result<()> {
    shell::run(command("cargo test --locked --package pyro reference").env("PYRO_UPDATE", "1"))
}
