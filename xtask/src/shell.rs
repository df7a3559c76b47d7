//! Running other programs: said before, checked after.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

/// The repository's top directory.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the repository")
}

/// Where cargo puts what it builds.
#[expect(clippy::disallowed_methods, reason = "xtask obeys cargo's own setting")]
pub(crate) fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// A command in the repository's top directory, with no standard input.
pub(crate) fn command(line: &str) -> Command {
    let mut words = line.split_whitespace();
    let mut command = program(Path::new(words.next().expect("a command has a program")));
    command.args(words);
    command
}

/// The same for a program whose path may hold blanks.
#[expect(clippy::disallowed_methods, reason = "running programs is what xtask is for")]
pub(crate) fn program(path: &Path) -> Command {
    let mut command = Command::new(path);
    command.current_dir(root()).stdin(Stdio::null());
    // What cargo told this program about itself. Passed on, it makes the build scripts that ask for it (ring's) run
    // again, and with them half the tree be compiled again, whenever cargo is started by hand and by xtask in turns.
    let of_this_package = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(of_this_package) {
            command.env_remove(name);
        }
    }
    command
}

/// Whether the command ends well; what it prints is dropped.
pub(crate) fn succeeds(line: &str) -> bool {
    command(line).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Runs a command whose output the person sees.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let started = Instant::now();
    say(command);
    let status = command.status().with_context(|| format!("cannot start {}", name(command)))?;
    eprintln!("    ({:.0} s)", started.elapsed().as_secs_f64());
    ensure!(status.success(), "`{}` failed with {status}", words(command));
    Ok(())
}

/// Runs a command and gives what it prints on standard output.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let output =
        command.stderr(Stdio::inherit()).output().with_context(|| format!("cannot start {}", name(command)))?;
    ensure!(output.status.success(), "`{}` failed with {}", words(command), output.status);
    String::from_utf8(output.stdout).context("output is no UTF-8")
}

/// Runs a command whose output the person sees, and gives the lines of it (both streams) that `keep` wants. `Err`
/// holds them too, in its text, since a failed run's summary is wanted most.
pub(crate) fn run_keeping(command: &mut Command, keep: fn(&str) -> bool) -> Result<Vec<String>> {
    let started = Instant::now();
    say(command);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", name(command)))?;
    let stdout = child.stdout.take().expect("it is piped");
    let stderr = child.stderr.take().expect("it is piped");
    let mut kept = std::thread::scope(|scope| {
        let from_stdout = scope.spawn(|| copy_keeping(stdout, std::io::stdout(), keep));
        let mut kept = copy_keeping(stderr, std::io::stderr(), keep);
        kept.extend(from_stdout.join().expect("copying does not panic"));
        kept
    });
    let status = child.wait()?;
    eprintln!("    ({:.0} s)", started.elapsed().as_secs_f64());
    kept.dedup();
    ensure!(status.success(), "`{}` failed with {status}\n{}", words(command), kept.join("\n"));
    Ok(kept)
}

fn copy_keeping(from: impl std::io::Read, mut to: impl Write, keep: fn(&str) -> bool) -> Vec<String> {
    let mut kept = Vec::new();
    let mut line = Vec::new();
    let mut from = BufReader::new(from);
    while from.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
        // A reader that is gone must not stop the tests.
        drop(to.write_all(&line));
        let text = String::from_utf8_lossy(&line);
        if keep(&text) {
            kept.push(text.trim_end().to_owned());
        }
        line.clear();
    }
    kept
}

fn say(command: &Command) {
    eprintln!("\n==> {}", words(command));
}

fn name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

fn words(command: &Command) -> String {
    let args = command.get_args().map(|word| word.to_string_lossy());
    std::iter::once(command.get_program().to_string_lossy()).chain(args).collect::<Vec<_>>().join(" ")
}
