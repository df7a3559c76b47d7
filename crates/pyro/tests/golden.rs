//! What a person and a script see, word for word: output, errors and exit codes that need no guest.
//!
//! `INSTA_UPDATE=always cargo test -p pyro --test golden` writes the golden files anew.

#![expect(clippy::unwrap_used, reason = "a test that cannot begin may end in any way")]

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// A home of its own, in which nothing is installed and nothing can be found.
struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    #[expect(clippy::disallowed_methods, reason = "the test drives the program itself")]
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pyro"));
        command.args(arguments).env_clear().env("HOME", self.dir.path()).env("PATH", self.dir.path());
        // No archive answers there: what is shown must not depend on a network.
        command.env("PYRO_DEBIAN_MIRROR", "http://127.0.0.1:9/debian");
        command.stdin(Stdio::null());
        command
    }

    /// Exit code, standard output and standard error, with the home's path replaced.
    fn pyro(&self, arguments: &[&str]) -> String {
        self.told(&mut self.command(arguments))
    }

    fn told(&self, command: &mut Command) -> String {
        let output = command.output().unwrap();
        let mut text = format!("exit code: {}\n", output.status.code().unwrap());
        for (name, bytes) in [("stdout", output.stdout), ("stderr", output.stderr)] {
            if !bytes.is_empty() {
                let said = String::from_utf8(bytes).unwrap();
                write!(text, "--- {name}\n{said}").unwrap();
            }
        }
        text.replace(self.dir.path().to_str().unwrap(), "~")
    }

    fn is_untouched(&self) -> bool {
        std::fs::read_dir(self.dir.path()).unwrap().next().is_none()
    }
}

#[track_caller]
fn check(name: &str, arguments: &[&str]) {
    let home = Home::new();
    insta::assert_snapshot!(name, home.pyro(arguments));
    assert!(home.is_untouched(), "something was created");
}

#[test]
fn help() {
    check("help", &["--help"]);
    check("no_words", &[]);
    check("version", &["--version"]);
}

#[test]
fn wrong_words() {
    check("wrong_verb", &["dcotor"]);
    check("wrong_flag", &["doctor", "--jsn"]);
    check("wrong_value", &["doctor", "--color", "blue"]);
    check("wrong_flag_in_json", &["doctor", "--json", "--frob"]);
    check("wrong_shell", &["completions", "tcsh"]);
    check("wrong_network", &["run", "debian:12", "--network", "open", "--", "true"]);
    check("wrong_memory", &["run", "debian:12", "--mem-mib", "64", "--", "true"]);
    check("wrong_variable", &["run", "debian:12", "--env", "X", "--", "true"]);
    check("wrong_processors", &["run", "debian:12", "--vcpu-count", "0", "--", "true"]);
    check("no_command", &["run", "debian:12"]);
    check("command_without_dashes", &["run", "debian:12", "git", "--version"]);
    check("terminal_as_json", &["run", "-t", "--json", "debian:12"]);
}

#[test]
fn environments_that_are_not_there() {
    check("env_list", &["env", "list"]);
    check("env_list_json", &["env", "list", "--json"]);
    check("run_not_installed", &["run", "debian:12", "--", "true"]);
    check("run_unknown", &["run", "debian:13", "--", "true"]);
    check("run_unknown_json", &["run", "--json", "alpine", "--", "true"]);
    check("env_inspect_not_installed", &["env", "inspect", "debian:12-build"]);
    check("env_remove_unknown", &["env", "remove", "nope"]);
    assert_eq!(Home::new().pyro(&["env", "prune", "--dry-run"]), "exit code: 0\n--- stdout\nnothing to remove\n");
}

#[test]
fn files_of_workspaces_that_are_not_there() {
    check("file_read_unknown", &["workspace", "file", "read", "fix", "src/main.rs"]);
    check("file_search_unknown_json", &["ws", "file", "search", "fix", "x", "--json"]);
    check("file_write_nothing", &["workspace", "file", "write", "fix", "f"]);
    check("file_write_twice", &["workspace", "file", "write", "fix", "f", "--text", "-", "--text-file", "-"]);
    check("file_read_line_zero", &["workspace", "file", "read", "fix", "f", "--offset", "0"]);
    check("file_read_too_much", &["workspace", "file", "read", "fix", "f", "--max-bytes", "16777217"]);
    check("file_list_no_path", &["workspace", "file", "list", "fix", ""]);
}

#[test]
fn wrong_settings() {
    let home = Home::new();
    let output = home.command(&["doctor", "--json"]).env("PYRO_ACCELERATOR", "warp").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8(output.stdout).unwrap().contains("PYRO_ACCELERATOR is 'warp', expected auto, kvm or tcg")
    );
}

#[test]
fn colour_only_when_asked() {
    let home = Home::new();
    assert!(!home.pyro(&["doctor"]).contains('\x1b'));
    assert!(home.pyro(&["--color", "always", "doctor"]).contains('\x1b'));
    assert!(home.pyro(&["--color=always", "doctor", "--nope"]).contains("\x1b[1;31merror:"));
    assert!(home.pyro(&["--color", "always", "--help"]).contains('\x1b'));
}

#[test]
fn output_that_nobody_reads_is_no_defect() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let home = Home::new();
    let status = home.command(&["doctor"]).stdout(writer).status().unwrap();
    assert_eq!(status.code(), Some(141));
}

#[test]
fn output_that_does_not_fit_is_told() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let home = Home::new();
    let output = home.command(&["completions", "bash"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.starts_with("error: cannot write to standard output"), "{words}");
}

#[test]
fn words_may_be_no_utf8() {
    let home = Home::new();
    let mut command = home.command(&["completions"]);
    command.arg(OsStr::from_bytes(b"ba\xffsh"));
    assert!(home.told(&mut command).starts_with("exit code: 2\n"));
}

#[test]
fn every_shell_gets_its_completions() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let home = Home::new();
        assert!(home.pyro(&["completions", shell]).starts_with("exit code: 0\n--- stdout\n"), "{shell}");
    }
}

#[test]
fn doctor_always_answers_and_touches_nothing() {
    let home = Home::new();
    let text = home.pyro(&["doctor"]);
    assert!(text.contains("platform"), "{text}");
    assert!(home.is_untouched());
    let nowhere = Path::new("/proc/no-such-place");
    let mut command = home.command(&["doctor"]);
    command.env("PYRO_CACHE_DIR", nowhere).env("PYRO_STATE_DIR", nowhere);
    let text = home.told(&mut command);
    assert!(text.starts_with("exit code: 1\n") && text.contains("fail  cache"), "{text}");
}
