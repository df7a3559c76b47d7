//! What the tests are told from outside: the program under test, the shared cache, whether to keep homes.
#![expect(clippy::disallowed_methods, reason = "the tests' only reader of the environment")]

use std::path::{Path, PathBuf};

/// The program under test.
///
/// # Panics
/// It was not built.
#[must_use]
pub fn pyro_binary() -> PathBuf {
    let path = match std::env::var_os("PYRO_BIN") {
        Some(path) => PathBuf::from(path),
        None => target_dir().join("release/pyro"),
    };
    assert!(path.is_file(), "{} is not there: run `cargo build --release -p pyro` first", path.display());
    path
}

/// The cache of environments that all tests share; installing them once takes minutes.
pub(crate) fn shared_cache() -> PathBuf {
    let from = |name: &str| std::env::var_os(name).map(PathBuf::from);
    from("PYRO_TEST_CACHE")
        .or_else(|| from("PYRO_CACHE_DIR"))
        .or_else(|| from("XDG_CACHE_HOME").map(|dir| dir.join("pyro")))
        .or_else(|| from("HOME").map(|dir| dir.join(".cache/pyro")))
        .expect("PYRO_TEST_CACHE or HOME is set")
}

/// Whether the homes of tests stay for a look.
pub(crate) fn keeps_homes() -> bool {
    std::env::var_os("PYRO_KEEP").is_some_and(|value| value == "1")
}

/// One byte is appended here for every guest that was seen to run.
pub(crate) fn guest_count_file() -> PathBuf {
    let named = std::env::var_os("PYRO_TEST_GUESTS_BOOTED").map(PathBuf::from);
    named.unwrap_or_else(|| target_dir().join("vm-tests/guests-booted"))
}

/// The search path of whoever runs the tests.
pub(crate) fn search_path() -> String {
    std::env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".to_owned())
}

/// Where a program is on that path.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    search_path().split(':').map(|dir| Path::new(dir).join(name)).find(|path| path.is_file())
}

/// Where cargo puts what it builds, and the tests what is to be looked at.
pub(crate) fn target_dir() -> PathBuf {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("vm-tests lies in the repository");
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| top.join("target"), |dir| top.join(dir))
}

/// A variable of whoever runs the tests.
#[must_use]
pub fn variable(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name)
}

/// How long the long command of the chat hosts' test takes: `PYRO_SMOKE_SECONDS=600` tries ten minutes.
#[must_use]
pub fn long_command_seconds() -> u64 {
    std::env::var("PYRO_SMOKE_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(50)
}
