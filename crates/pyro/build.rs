//! Builds the static guest agent with a cargo of its own and hands its path to the program, which embeds it.
//!
//! The agent is always built with the `agent` profile, into one directory that all profiles of the outer build share,
//! so that a debug and a release build of pyro cost one build of the agent. That directory is another one than the
//! outer build's, whose lock this process's parent holds.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The guest is Linux on x86_64 with no C library of its own that the agent could use.
const TARGET: &str = "x86_64-unknown-linux-gnu";
const PROFILE: &str = "agent";

fn main() {
    let root = directory("CARGO_MANIFEST_DIR").join("../..");
    for input in ["crates/guest", "crates/wire", "Cargo.toml", "Cargo.lock", "rust-toolchain.toml"] {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    println!("cargo::rerun-if-changed=build.rs");
    let out_dir = directory("OUT_DIR");
    let target_dir = outer_target_dir(&out_dir).join("guest-agent");
    let status = agent_build(&root, &target_dir).status().expect("cargo is there: it started this program");
    assert!(
        status.success(),
        "the static guest agent did not build; it needs the C library's static archive (libc6-dev on Debian, \
         glibc-static on Fedora)"
    );
    let agent = target_dir.join(TARGET).join(PROFILE).join("pyro-guest");
    // A copy of our own: the shared file may be replaced by another build while this one reads it.
    std::fs::copy(&agent, out_dir.join("agent")).expect("cargo said that it built the agent");
}

#[expect(clippy::disallowed_methods, reason = "a build script is configured by its environment and runs cargo")]
fn agent_build(root: &Path, target_dir: &Path) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").expect("cargo sets it"));
    cargo.current_dir(root);
    cargo.args(["build", "--locked", "--package", "pyro-guest", "--bin", "pyro-guest"]);
    cargo.args(["--profile", PROFILE, "--target", TARGET, "--target-dir"]).arg(target_dir);
    // What the outer build was told must not leak in: the agent is the same under clippy, under a coverage run, and
    // for another target.
    for (name, _) in env::vars_os() {
        if outer_build_only(&name) {
            cargo.env_remove(name);
        }
    }
    cargo.env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    cargo
}

fn outer_build_only(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    matches!(
        &*name,
        "RUSTFLAGS"
            | "RUSTC_WRAPPER"
            | "RUSTC_WORKSPACE_WRAPPER"
            | "CLIPPY_ARGS"
            | "TARGET"
            | "HOST"
            | "PROFILE"
            | "OPT_LEVEL"
    ) || ["CARGO_BUILD_", "CARGO_TARGET_", "CARGO_FEATURE_", "CARGO_CFG_", "CARGO_PKG_", "CARGO_PROFILE_"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

/// The topmost directory that cargo marked as its own.
fn outer_target_dir(out_dir: &Path) -> PathBuf {
    let marked = out_dir.ancestors().filter(|dir| dir.join("CACHEDIR.TAG").exists()).last();
    marked.unwrap_or_else(|| out_dir.ancestors().nth(4).expect("target/profile/build/package/out")).to_owned()
}

#[expect(clippy::disallowed_methods, reason = "a build script is configured by its environment")]
fn directory(variable: &str) -> PathBuf {
    PathBuf::from(env::var_os(variable).expect("cargo sets it"))
}
