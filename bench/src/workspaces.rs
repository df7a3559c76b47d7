//! Rows of workspaces: made, used, reset, seeded, compared; and the server for chat hosts up to its list of tools.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::bed::{Bed, ENVIRONMENT, ended_well};
use crate::sample::{Figures, Measured, Unit};

/// Files of the large seed, and of the very large one.
const SEED_FILES: usize = 10_000;
const HUGE_SEED_FILES: usize = 100_000;

/// Bytes of all files of a seed, however many there are.
const SEED_BYTES: usize = 50_000_000;

/// A workspace that is removed when this is dropped.
pub(crate) struct Workspace<'a> {
    bed: &'a Bed,
    id: String,
}

impl<'a> Workspace<'a> {
    pub(crate) fn create(bed: &'a Bed, seed: Option<&Path>) -> Result<Self> {
        match seed {
            Some(seed) => Self::create_with(bed, &["--seed-path".as_ref(), seed.as_os_str()]),
            None => Self::create_with(bed, &[]),
        }
    }

    pub(crate) fn create_with(bed: &'a Bed, flags: &[&OsStr]) -> Result<Self> {
        let mut command = bed.pyro();
        command.args(["workspace", "create", ENVIRONMENT, "--id-only"]).args(flags);
        let output = command.stdin(Stdio::null()).output()?;
        ended_well(&output)?;
        let id = String::from_utf8(output.stdout).context("an id is text")?.trim().to_owned();
        Ok(Self { bed, id })
    }

    pub(crate) fn verb(&self, verb: &str, rest: &[&str]) -> Command {
        let mut command = self.bed.pyro();
        command.args(["workspace", verb, &self.id]).args(rest);
        command
    }

    pub(crate) fn verb_of(&self, noun: &str, verb: &str, rest: &[&str]) -> Command {
        let mut command = self.bed.pyro();
        command.args(["workspace", noun, verb, &self.id]).args(rest);
        command
    }

    pub(crate) fn exec(&self, script: &str) -> Command {
        self.verb("exec", &["--timeout-seconds", "300", "--", "sh", "-c", script])
    }
}

impl Drop for Workspace<'_> {
    fn drop(&mut self) {
        // What cannot be removed goes with the bed.
        drop(self.bed.timed(self.verb("delete", &["--force"])));
    }
}

/// From nothing to a workspace that takes commands.
pub(crate) fn create(bed: &Bed) -> Result<Measured> {
    creations(bed, None)
}

/// The same with a repository of 10,000 files and 50 MB.
pub(crate) fn create_seeded(bed: &Bed) -> Result<Measured> {
    let seed = seed_of(bed, SEED_FILES)?;
    creations(bed, Some(&seed))
}

fn creations(bed: &Bed, seed: Option<&Path>) -> Result<Measured> {
    drop(Workspace::create(bed, seed)?);
    samples(bed, || {
        let started = Instant::now();
        let workspace = Workspace::create(bed, seed)?;
        let taken = milliseconds(started);
        drop(workspace);
        Ok(taken)
    })
}

/// `workspace exec W -- true`, whole process.
pub(crate) fn exec(bed: &Bed) -> Result<Measured> {
    let workspace = Workspace::create(bed, None)?;
    repeated(bed, || workspace.verb("exec", &["--", "true"]))
}

/// 3 MB from a command's standard output to ours.
pub(crate) fn output(bed: &Bed) -> Result<Measured> {
    let workspace = Workspace::create(bed, None)?;
    repeated(bed, || workspace.exec("head -c 3000000 /dev/zero"))
}

/// The same where each byte is looked at: the workspace has a secret.
pub(crate) fn output_cut(bed: &Bed) -> Result<Measured> {
    let secret = "TOKEN=ghp_0123456789abcdefghijklmnopqrstuvwxyz";
    let workspace = Workspace::create_with(bed, &["--secret".as_ref(), secret.as_ref()])?;
    repeated(bed, || workspace.exec("head -c 3000000 /dev/zero"))
}

/// `workspace reset`, with 100 MB written before each.
pub(crate) fn reset(bed: &Bed) -> Result<Measured> {
    let workspace = Workspace::create(bed, None)?;
    samples(bed, || {
        bed.timed(workspace.exec("head -c 100000000 /dev/zero > /root/large && sync"))?;
        let started = Instant::now();
        bed.timed(workspace.verb("reset", &[]))?;
        Ok(milliseconds(started))
    })
}

/// `workspace diff` after one change among 10,000 files.
pub(crate) fn diff(bed: &Bed) -> Result<Measured> {
    diff_among(bed, SEED_FILES)
}

/// `workspace diff` after one change among 100,000 files.
pub(crate) fn diff_huge(bed: &Bed) -> Result<Measured> {
    diff_among(bed, HUGE_SEED_FILES)
}

fn diff_among(bed: &Bed, files: usize) -> Result<Measured> {
    let seed = seed_of(bed, files)?;
    let workspace = Workspace::create(bed, Some(&seed))?;
    bed.timed(workspace.exec("echo changed >> dir-7/file-7"))?;
    repeated(bed, || workspace.verb("diff", &[]))
}

/// From the start of `pyro mcp serve` to its list of tools.
pub(crate) fn tools_list(bed: &Bed) -> Result<Measured> {
    samples(bed, || {
        let mut command = bed.pyro();
        command.args(["mcp", "serve"]).current_dir(bed.dir());
        let started = Instant::now();
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut to = child.stdin.take().context("it is piped")?;
        let mut from = BufReader::new(child.stdout.take().context("it is piped")?).lines();
        let hello = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}"#;
        writeln!(to, "{hello}")?;
        from.next().context("an answer")??;
        writeln!(to, r#"{{"jsonrpc":"2.0","method":"notifications/initialized"}}"#)?;
        writeln!(to, r#"{{"jsonrpc":"2.0","id":2,"method":"tools/list"}}"#)?;
        let tools = from.next().context("an answer")??;
        let taken = milliseconds(started);
        ensure!(tools.contains("workspace_exec"), "the server answered {tools}");
        drop(to);
        child.wait()?;
        Ok(taken)
    })
}

/// The directory of a seed of so many files, made once.
fn seed_of(bed: &Bed, files: usize) -> Result<PathBuf> {
    let top = bed.dir().join(format!("seed-{files}"));
    if top.exists() {
        return Ok(top);
    }
    let file_bytes = SEED_BYTES / files;
    for dir in 0..files / 100 {
        let dir_path = top.join(format!("dir-{dir}"));
        fs::create_dir_all(&dir_path)?;
        for file in 0..100 {
            let line = format!("line of file {file} in {dir}\n");
            let text = line.repeat(file_bytes / line.len() + 1);
            fs::write(dir_path.join(format!("file-{file}")), &text.as_bytes()[..file_bytes])?;
        }
    }
    Ok(top)
}

pub(crate) fn repeated(bed: &Bed, command: impl Fn() -> Command) -> Result<Measured> {
    bed.timed(command())?;
    samples(bed, || Ok(bed.timed(command())?.as_secs_f64() * 1000.0))
}

pub(crate) fn samples(bed: &Bed, sample: impl FnMut() -> Result<f64>) -> Result<Measured> {
    let samples = std::iter::repeat_with(sample).take(bed.samples).collect::<Result<_>>()?;
    Ok(Measured::Figures(Figures::new(Unit::Milliseconds, samples)))
}

pub(crate) fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}
