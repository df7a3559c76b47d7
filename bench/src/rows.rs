//! What can be measured: one row each.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::bed::{Bed, ended_well};
use crate::memory;
use crate::rivals::{self, Rival};
use crate::sample::{Figures, Measured, Unit};
use crate::workspaces;

/// One line of the table.
pub(crate) struct Row {
    /// What it is chosen by.
    pub(crate) name: &'static str,
    /// What it measures.
    pub(crate) what: &'static str,
    /// How.
    pub(crate) measure: fn(&Bed) -> Result<Measured>,
}

/// The row that ratios are taken against.
pub(crate) const YARDSTICK: &str = "cold-true";

/// All rows, in the order they are printed.
pub(crate) const ROWS: &[Row] = &[
    Row { name: "cold-true", what: "pyro run --cold -- true: a whole boot", measure: cold_true },
    Row { name: "warm-true", what: "pyro run -- true", measure: |bed| times(bed, |bed| bed.run(&[], &["true"])) },
    Row { name: "warm-git", what: "pyro run -- git --version", measure: warm_git },
    Row { name: "channel", what: "a line to `cat` in the guest and back", measure: |bed| round_trips(bed, "exec cat") },
    Row { name: "exec", what: "a line to a guest's shell, which runs /bin/true and answers", measure: exec },
    Row { name: "version", what: "pyro --version", measure: version },
    Row { name: "at-once-1", what: "1 machine: pyro run -- true", measure: |bed| at_once(bed, 1) },
    Row { name: "at-once-2", what: "2 at once, until the last is gone", measure: |bed| at_once(bed, 2) },
    Row { name: "at-once-4", what: "4 at once", measure: |bed| at_once(bed, 4) },
    Row { name: "at-once-8", what: "8 at once", measure: |bed| at_once(bed, 8) },
    Row { name: "memory-first", what: "one idle machine, all its processes (PSS)", measure: memory::first },
    Row { name: "memory-next", what: "each further idle machine of the template (PSS)", measure: memory::next },
    Row { name: "template", what: "pyro run -- true with no template there: build, save, start", measure: template },
    Row {
        name: "tools-list",
        what: "pyro mcp serve, from its start to its list of tools",
        measure: workspaces::tools_list,
    },
    Row { name: "create", what: "workspace create, empty", measure: workspaces::create },
    Row { name: "create-seeded", what: "workspace create of 10,000 files, 50 MB", measure: workspaces::create_seeded },
    Row { name: "ws-exec", what: "workspace exec -- true, whole process", measure: workspaces::exec },
    Row { name: "ws-output", what: "workspace exec printing 3 MB", measure: workspaces::output },
    Row { name: "ws-reset", what: "workspace reset after 100 MB were written", measure: workspaces::reset },
    Row { name: "ws-diff", what: "workspace diff, one change among 10,000 files", measure: workspaces::diff },
    Row { name: "bwrap-true", what: "bubblewrap, same files: true", measure: |bed| rival(bed, Rival::Bwrap, TRUE) },
    Row { name: "bwrap-git", what: "bubblewrap: git --version", measure: |bed| rival(bed, Rival::Bwrap, GIT) },
    Row {
        name: "chroot-true",
        what: "unshare + chroot, same files: true",
        measure: |bed| rival(bed, Rival::Chroot, TRUE),
    },
    Row { name: "chroot-git", what: "unshare + chroot: git --version", measure: |bed| rival(bed, Rival::Chroot, GIT) },
    Row { name: "podman-true", what: "podman run, same files: true", measure: |bed| rival(bed, Rival::Podman, TRUE) },
    Row { name: "podman-git", what: "podman run: git --version", measure: |bed| rival(bed, Rival::Podman, GIT) },
];

const TRUE: &[&str] = &["true"];
const GIT: &[&str] = &["git", "--version"];

fn cold_true(bed: &Bed) -> Result<Measured> {
    times(bed, |bed| bed.run(&["--cold"], TRUE))
}

fn warm_git(bed: &Bed) -> Result<Measured> {
    times(bed, |bed| bed.run(&[], GIT))
}

fn version(bed: &Bed) -> Result<Measured> {
    times(bed, |bed| {
        let mut command = bed.pyro();
        command.arg("--version");
        command
    })
}

fn exec(bed: &Bed) -> Result<Measured> {
    round_trips(bed, "while read line; do /bin/true; echo \"$line\"; done")
}

fn rival(bed: &Bed, rival: Rival, argv: &[&str]) -> Result<Measured> {
    match rivals::prepare(bed, rival)? {
        Ok(root) => times(bed, |_| rivals::command(rival, &root, argv)),
        Err(reason) => Ok(Measured::Absent(reason)),
    }
}

/// Samples of whole calls. One call before them warms the host's page cache for everybody alike.
fn times(bed: &Bed, command: impl Fn(&Bed) -> Command) -> Result<Measured> {
    bed.timed(command(bed))?;
    let samples = (0..bed.samples).map(|_| Ok(milliseconds(bed.timed(command(bed))?)));
    Ok(Measured::Figures(Figures::new(Unit::Milliseconds, samples.collect::<Result<_>>()?)))
}

/// Samples of N calls started together.
fn at_once(bed: &Bed, count: usize) -> Result<Measured> {
    let sample = || -> Result<f64> {
        let started = Instant::now();
        let children = (0..count).map(|_| {
            let mut command = bed.run(&[], TRUE);
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
        });
        for child in children.collect::<std::io::Result<Vec<_>>>()? {
            ended_well(&child.wait_with_output()?)?;
        }
        Ok(milliseconds(started.elapsed()))
    };
    let samples = (0..bed.samples).map(|_| sample()).collect::<Result<_>>()?;
    Ok(Measured::Figures(Figures::new(Unit::Milliseconds, samples)))
}

/// Samples of one line sent into a running machine and come back through `script`.
fn round_trips(bed: &Bed, script: &str) -> Result<Measured> {
    let mut command = bed.run(&["-i"], &["sh", "-c", script]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut to = child.stdin.take().context("it is piped")?;
    let mut from = BufReader::new(child.stdout.take().context("it is piped")?);
    let mut once = || -> Result<f64> {
        let started = Instant::now();
        to.write_all(b"ping\n")?;
        let mut line = String::new();
        from.read_line(&mut line)?;
        ensure!(line == "ping\n", "the guest answered {line:?}");
        Ok(milliseconds(started.elapsed()))
    };
    // The first few pay for the translation of code that runs for the first time.
    for _ in 0..5 {
        once()?;
    }
    let samples = (0..bed.samples.max(7) * 3).map(|_| once()).collect::<Result<_>>();
    drop(to);
    child.wait()?;
    Ok(Measured::Figures(Figures::new(Unit::Milliseconds, samples?)))
}

fn template(bed: &Bed) -> Result<Measured> {
    let sample = || -> Result<f64> {
        let cache = bed.cache_without_templates()?;
        let mut command = bed.run(&[], TRUE);
        command.env("PYRO_CACHE_DIR", cache);
        Ok(milliseconds(bed.timed(command)?))
    };
    let samples = (0..bed.samples).map(|_| sample()).collect::<Result<_>>()?;
    Ok(Measured::Figures(Figures::new(Unit::Milliseconds, samples)))
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
