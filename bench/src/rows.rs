//! What can be measured: one row each.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::bed::{Bed, ended_well};
use crate::memory;
use crate::network;
use crate::presence;
use crate::rivals::{self, Rival};
use crate::sample::{Figures, Measured, Unit};
use crate::server;
use crate::snapshots;
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
    Row { name: "warm-start", what: "of it, until the machine takes a command", measure: warm_start },
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
    Row { name: "ping-busy", what: "a ping to it while ten commands run", measure: server::busy_ping },
    Row { name: "server-memory", what: "an idle pyro mcp serve (RSS)", measure: server::memory },
    Row { name: "create", what: "workspace create, empty", measure: workspaces::create },
    Row { name: "create-seeded", what: "workspace create of 10,000 files, 50 MB", measure: workspaces::create_seeded },
    Row { name: "ws-exec", what: "workspace exec -- true, whole process", measure: workspaces::exec },
    Row {
        name: "ws-exec-shell",
        what: "the same beside a shell in which yes runs",
        measure: presence::exec_beside_shell,
    },
    Row { name: "ws-exec-svc", what: "the same beside a service that is yes", measure: presence::exec_beside_service },
    Row { name: "svc-status", what: "service status of such a service", measure: presence::status_beside_service },
    Row { name: "svc-start", what: "service start of a web server, until it is ready", measure: presence::start },
    Row { name: "svc-crash", what: "from a service's crash until service status tells it", measure: presence::crash },
    Row { name: "svc-stop", what: "service stop of one that obeys", measure: presence::stop },
    Row { name: "port-out", what: "256 MiB out of a guest through a published port", measure: presence::port_out },
    Row { name: "port-in", what: "256 MiB into a guest through one", measure: presence::port_in },
    Row { name: "loopback-port", what: "256 MiB over the host's loopback", measure: presence::loopback },
    Row { name: "ws-output", what: "workspace exec printing 3 MB", measure: workspaces::output },
    Row { name: "ws-output-secret", what: "the same where secrets are cut out", measure: workspaces::output_cut },
    Row { name: "ws-reset", what: "workspace reset after 100 MB were written", measure: workspaces::reset },
    Row {
        name: "ws-snapshot-01g",
        what: "snapshot of a disk with 0.1 GiB written",
        measure: |bed| snapshots::take(bed, 102),
    },
    Row { name: "ws-snapshot-1g", what: "with 1 GiB written", measure: |bed| snapshots::take(bed, 1024) },
    Row { name: "ws-snapshot-4g", what: "with 4 GiB written", measure: |bed| snapshots::take(bed, 4096) },
    Row {
        name: "ws-back-01g",
        what: "reset to a snapshot with 0.1 GiB in it",
        measure: |bed| snapshots::reset(bed, 102),
    },
    Row { name: "ws-back-1g", what: "with 1 GiB in it", measure: |bed| snapshots::reset(bed, 1024) },
    Row { name: "ws-back-4g", what: "with 4 GiB in it", measure: |bed| snapshots::reset(bed, 4096) },
    Row { name: "ws-start", what: "workspace start of one that is stopped", measure: snapshots::start },
    Row {
        name: "ws-exec-chain-0",
        what: "workspace exec -- true after 20 changes",
        measure: |bed| snapshots::exec(bed, 0),
    },
    Row {
        name: "ws-exec-chain",
        what: "the same with a snapshot after each change",
        measure: |bed| snapshots::exec(bed, snapshots::CHAIN),
    },
    Row {
        name: "ws-read-chain-0",
        what: "reading 100 MB that the guest has not cached",
        measure: |bed| snapshots::read(bed, 0),
    },
    Row {
        name: "ws-read-chain",
        what: "the same below 20 snapshots",
        measure: |bed| snapshots::read(bed, snapshots::CHAIN),
    },
    Row { name: "ws-diff", what: "workspace diff, one change among 10,000 files", measure: workspaces::diff },
    Row {
        name: "ws-diff-100k",
        what: "workspace diff, one change among 100,000 files",
        measure: workspaces::diff_huge,
    },
    Row { name: "net-stream", what: "64 MiB from the host into a guest", measure: network::stream },
    Row { name: "net-streams", what: "100 at once of 256 KiB each", measure: network::streams },
    Row { name: "net-names", what: "500 names, one after another", measure: network::names },
    Row { name: "loopback-stream", what: "64 MiB over the host's loopback", measure: network::loopback_stream },
    Row { name: "loopback-streams", what: "100 at once of 256 KiB each", measure: network::loopback_streams },
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

/// What `run --json` says of itself.
fn warm_start(bed: &Bed) -> Result<Measured> {
    let sample = || -> Result<f64> {
        let output = bed.run(&["--json"], TRUE).stdin(Stdio::null()).output()?;
        ended_well(&output)?;
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).context("--json is JSON")?;
        answer["start_ms"].as_f64().context("a run says how long its start took")
    };
    let samples = (0..bed.samples).map(|_| sample()).collect::<Result<_>>()?;
    Ok(Measured::Figures(Figures::new(Unit::Milliseconds, samples)))
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
