//! pyro under a real KVM, on any machine: an emulated host of pyro's own, in whose KVM pyro runs.
//!
//! The test itself is in `vm-tests/tests/kvm_host.rs`; this provides what it needs. Function is shown, never speed.

use anyhow::{Context, Result};

use crate::shell::{self, command, program, root, target_dir};
use crate::test::release_binary;

/// The environment that the host is a machine of, and the catalog that has it.
const ENVIRONMENT: &str = "kvm-host";
const CATALOG: &str = "vm-tests/kvm-host.toml";

/// Makes the host's environment, once, and runs the test.
pub(crate) fn run() -> Result<()> {
    let pyro = release_binary()?;
    let config = target_dir().join("vm-tests").join("kvm-host");
    std::fs::create_dir_all(&config).with_context(|| format!("cannot create {}", config.display()))?;
    let text = format!("catalog = \"{}\"\n", root().join(CATALOG).display());
    std::fs::write(config.join("config.toml"), text)?;
    shell::run(program(&pyro).args(["env", "pull", ENVIRONMENT]).env("PYRO_CONFIG_DIR", &config))?;
    let line = if shell::succeeds("cargo nextest --version") {
        "cargo nextest run --locked --package vm-tests --profile kvm"
    } else {
        "cargo test --locked --package vm-tests --test kvm_host -- --nocapture"
    };
    shell::run(command(line).env("PYRO_BIN", &pyro))
}
