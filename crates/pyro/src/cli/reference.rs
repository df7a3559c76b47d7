//! `docs/cli-reference.md`: written from the verb table, and checked against it. `PYRO_UPDATE=1 cargo test -p pyro
//! reference` writes it anew.

use std::fmt::Write as _;
use std::path::Path;

use clap::{Command, CommandFactory};

const HEAD: &str = "# Command-line reference\n\n\
    Written from the program's own help; `cargo xtask references` writes it anew. Exit codes, streams and behaviour that \
    all commands share are described at the end.\n";

const TAIL: &str = include_str!("reference_tail.md");

#[test]
fn the_reference_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli-reference.md");
    let text = reference();
    if update_wanted() {
        std::fs::write(&path, text).unwrap();
        return;
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == text,
        "docs/cli-reference.md is out of date; PYRO_UPDATE=1 cargo test -p pyro reference writes it"
    );
}

#[expect(clippy::disallowed_methods, reason = "a test is told by its environment to write its golden file")]
fn update_wanted() -> bool {
    std::env::var_os("PYRO_UPDATE").is_some()
}

fn reference() -> String {
    let mut text = HEAD.to_owned();
    describe(&mut text, &super::Cli::command(), &["pyro"]);
    text.push('\n');
    text.push_str(TAIL);
    text
}

/// The help of a command as the program prints it, then that of the commands below it.
fn describe(text: &mut String, command: &Command, path: &[&str]) {
    let words = path.iter().chain(&["--help"]);
    let help = super::Cli::command().term_width(100).try_get_matches_from(words).unwrap_err().to_string();
    let lines: Vec<&str> = help.trim_end().lines().map(str::trim_end).collect();
    writeln!(text, "\n## {}\n\n```text\n{}\n```", path.join(" "), lines.join("\n")).unwrap();
    for verb in command.get_subcommands() {
        let path: Vec<&str> = path.iter().copied().chain([verb.get_name()]).collect();
        describe(text, verb, &path);
    }
}
