//! Programs of this host that tests make their fixtures with, and judge results by: git, tar, a shell.
#![expect(clippy::disallowed_methods, reason = "the tests' only caller of other programs of the host")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::surroundings;

/// Settings of git that no host has to have.
const GIT_SETTINGS: [&str; 4] =
    ["user.name=Host", "user.email=host@x.example", "protocol.file.allow=always", "init.defaultBranch=main"];

/// Runs git in a directory, which must succeed, and gives what it printed. Nothing of the caller's own settings counts.
#[track_caller]
pub fn git(dir: &Path, words: &[&str]) -> String {
    let settings: Vec<&str> = GIT_SETTINGS.iter().flat_map(|pair| ["-c", pair]).collect();
    let all: Vec<&str> = settings.into_iter().chain(words.iter().copied()).collect();
    String::from_utf8(run(dir, "git", &all, &[])).expect("git was asked for text")
}

/// Runs a shell script in a directory, which must succeed, and gives what it printed.
#[track_caller]
pub fn sh(dir: &Path, script: &str) -> Vec<u8> {
    run(dir, "sh", &["-ec", script], &[])
}

/// Copies a tree with all that can be copied of it.
#[track_caller]
pub fn copy_tree(from: &Path, to: &Path) {
    let (from, to) = (from.to_str().expect("text"), to.to_str().expect("text"));
    drop(run(Path::new("/"), "cp", &["-a", from, to], &[]));
}

/// Unpacks a tar archive into a new directory.
#[track_caller]
pub fn unpack(archive: &[u8], dir: &Path) {
    std::fs::create_dir(dir).expect("it is a new directory");
    drop(run(dir, "tar", &["-xpf", "-"], archive));
}

/// A browser of this host, if there is one.
#[must_use]
pub fn browser() -> Option<PathBuf> {
    ["chromium", "chromium-browser", "google-chrome"].into_iter().find_map(surroundings::program)
}

/// The page at a URL as a browser that nobody looks at has it, after its scripts ran.
#[track_caller]
pub fn browse(browser: &Path, url: &str) -> String {
    let profile = tempfile::tempdir().expect("a temporary directory");
    let profile_flag = format!("--user-data-dir={}", profile.path().display());
    // One that hangs is killed.
    let mut words = vec!["-k", "5", "120", browser.to_str().expect("paths of tests are text"), "--headless"];
    // The page is a test's own; without these flags a browser calls home while it loads it.
    words.extend(["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]);
    words.extend(["--disable-background-networking", "--disable-component-update", &profile_flag, "--dump-dom", url]);
    String::from_utf8_lossy(&run(profile.path(), "timeout", &words, &[])).into_owned()
}

#[track_caller]
fn run(dir: &Path, program: &str, words: &[&str], stdin: &[u8]) -> Vec<u8> {
    let mut command = Command::new(program);
    command.args(words).current_dir(dir).env_clear().env("PATH", surroundings::search_path());
    command.env("HOME", "/nonexistent").env("GIT_CONFIG_NOSYSTEM", "1").env("LC_ALL", "C");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{program} does not start: {error}"));
    crate::leftovers::register(child.id());
    let mut pipe = child.stdin.take().expect("it is piped");
    let output = std::thread::scope(|scope| {
        // A program that does not want it closes the pipe.
        scope.spawn(move || drop(pipe.write_all(stdin)));
        let pid = child.id();
        let output = child.wait_with_output().expect("our own child");
        crate::leftovers::unregister(pid);
        output
    });
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {words:?} in {}: {errors}", dir.display());
    output.stdout
}
