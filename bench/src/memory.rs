//! What idle machines cost the host: the proportional share of memory (PSS) of pyro and all it started.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::bed::Bed;
use crate::sample::{Figures, Measured, Unit};

/// How many machines the cost of a further one is taken from.
const MACHINES: usize = 8;

/// Time for a guest to come to rest.
const REST: Duration = Duration::from_secs(3);

/// One idle machine.
pub(crate) fn first(bed: &Bed) -> Result<Measured> {
    let samples = (0..bed.samples.min(3)).map(|_| cost(bed, 1)).collect::<Result<_>>()?;
    Ok(Measured::Figures(Figures::new(Unit::Mebibytes, samples)))
}

/// Each machine after the first.
pub(crate) fn next(bed: &Bed) -> Result<Measured> {
    let alone = cost(bed, 1)?;
    let sample = || Ok((cost(bed, MACHINES)? - alone) / (MACHINES - 1) as f64);
    let samples = (0..bed.samples.min(3)).map(|_| sample()).collect::<Result<_>>()?;
    Ok(Measured::Figures(Figures::new(Unit::Mebibytes, samples)))
}

/// PSS in MiB of so many idle machines and their pyros.
fn cost(bed: &Bed, machines: usize) -> Result<f64> {
    let mut idle = (0..machines).map(|_| Idle::start(bed)).collect::<Result<Vec<_>>>()?;
    for machine in &mut idle {
        machine.wait_until_up()?;
    }
    std::thread::sleep(REST);
    let mut total_kib = 0;
    for machine in &idle {
        for pid in with_descendants(machine.0.id()) {
            total_kib += pss_kib(pid)?;
        }
    }
    Ok(total_kib as f64 / 1024.0)
}

/// A machine that does nothing; ended when dropped.
struct Idle(Child);

impl Idle {
    fn start(bed: &Bed) -> Result<Self> {
        let mut command = bed.run(&["-i"], &["sh", "-c", "echo up; exec cat"]);
        Ok(Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?))
    }

    fn wait_until_up(&mut self) -> Result<()> {
        let stdout = self.0.stdout.as_mut().context("it is piped")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        ensure!(line == "up\n", "a machine did not come up");
        Ok(())
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        // The end of its input ends it in order.
        drop(self.0.stdin.take());
        drop(self.0.wait());
    }
}

fn with_descendants(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut at = 0;
    while at < found.len() {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", found[at])).into_iter().flatten().flatten();
        for task in tasks {
            let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
        at += 1;
    }
    found
}

fn pss_kib(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}; is this root?"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).with_context(|| format!("{path} has no Pss"))?;
    line.trim().trim_end_matches(" kB").parse().with_context(|| format!("cannot read {path}"))
}
