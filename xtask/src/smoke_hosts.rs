//! The real chat hosts with pyro in them: installs them, and runs `vm-tests/tests/chat_hosts.rs` on a network that has nothing
//! but its loopback. What each model was shown is kept in `target/smoke-hosts/`.

use std::process::Command;

use anyhow::Result;

use crate::shell::{self, command, program, target_dir};
use crate::test::release_binary;

/// Runs what follows it where there is no network but the loopback.
const ALONE: &str = "ip link set lo up && exec \"$@\"";

/// Installs the hosts, once, and runs the tests.
pub(crate) fn run() -> Result<()> {
    shell::run(&mut command("scripts/install-conformance.sh hosts"))?;
    let pyro = release_binary()?;
    shell::run(program(&pyro).args(["env", "pull", "debian:12"]))?;
    let nextest = shell::succeeds("cargo nextest --version");
    let line = if nextest {
        "cargo nextest run --locked --offline --package vm-tests --profile hosts"
    } else {
        "cargo test --locked --offline --package vm-tests --test chat_hosts"
    };
    // Before the network is gone.
    shell::run(&mut command("cargo test --locked --package vm-tests --test chat_hosts --no-run"))?;
    shell::run(without_network(line).env("PYRO_BIN", &pyro))?;
    println!("what the models were shown: {}/smoke-hosts/*/*.md", target_dir().display());
    Ok(())
}

/// The command, on a network of its own where this system lets one have it.
fn without_network(line: &str) -> Command {
    for flags in ["--net", "--user --map-current-user --net --keep-caps"] {
        let mut alone = command(&format!("unshare {flags} sh -c"));
        if alone.args([ALONE, "sh", "true"]).status().is_ok_and(|status| status.success()) {
            let mut alone = command(&format!("unshare {flags} sh -c"));
            alone.args([ALONE, "sh"]).args(line.split_whitespace());
            return alone;
        }
    }
    eprintln!(
        "this system lets nobody have a network of their own: the hosts could reach this one's, and are told not to"
    );
    command(line)
}
