//! `bench choices`: what other arguments would make of an emulated machine, each beside the ones pyro has, in one run.
//!
//! All choices take turns, so that whatever else the host does falls on all of them alike.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::altered::{self, Alteration};
use crate::bed::Bed;
use crate::host;
use crate::sample::{Figures, Unit};

/// Cold runs of each choice.
const COLD_SAMPLES: usize = 3;

/// Warm runs of each choice.
const WARM_SAMPLES: usize = 5;

/// One way of running machines.
struct Choice {
    name: &'static str,
    alterations: &'static [Alteration],
    /// What the warm guest runs.
    argv: &'static [&'static str],
}

const GIT: &[&str] = &["git", "--version"];

/// The same as a shell's last word, after the page cache that came with the template was emptied or left alone.
const GIT_FROM_CACHE: &[&str] = &["sh", "-c", ": >/dev/null; exec git --version"];
const GIT_FROM_DISK: &[&str] = &["sh", "-c", "echo 3 >/proc/sys/vm/drop_caches; exec git --version"];

const fn choice(name: &'static str, alterations: &'static [Alteration]) -> Choice {
    Choice { name, alterations, argv: GIT }
}

/// The argument that names the accelerator, the processor, the machine, and the kernel's parameters.
const ACCEL: &str = "tcg,*";
const CPU: &str = "max";
const MACHINE: &str = "q35,*";
const APPEND: &str = "console=*";

/// All of them; the first is what pyro has.
const CHOICES: &[Choice] = &[
    choice("as it is", &[]),
    choice("cpu max,-avx2", &[(CPU, "max,-avx2")]),
    choice("cpu max,-avx,-avx2", &[(CPU, "max,-avx,-avx2,-f16c,-fma")]),
    choice("cpu Westmere", &[(CPU, "Westmere")]),
    choice("cpu qemu64", &[(CPU, "qemu64")]),
    choice("cpu max,-smap,-smep", &[(CPU, "max,-smap,-smep")]),
    choice("cpu max,-la57", &[(CPU, "max,-la57")]),
    choice("thread=single", &[(ACCEL, "tcg,thread=single")]),
    choice("tb-size=64", &[(ACCEL, "$word,tb-size=64")]),
    choice("tb-size=256", &[(ACCEL, "$word,tb-size=256")]),
    choice("q35 smm=off", &[(MACHINE, "$word,smm=off")]),
    choice("q35 hpet=on", &[(MACHINE, "$word,hpet=on")]),
    choice("quiet", &[(APPEND, "$word quiet")]),
    choice("psi=0", &[(APPEND, "$word psi=0")]),
    choice("fewer LSMs", &[(APPEND, "$word lsm=landlock,yama,bpf")]),
    choice("mitigations=off", &[(APPEND, "$word mitigations=off")]),
    choice("nokaslr", &[(APPEND, "$word nokaslr")]),
    choice("tsc=reliable", &[(APPEND, "$word tsc=reliable")]),
    choice("random.trust_cpu", &[(APPEND, "$word random.trust_cpu=on")]),
    choice("all of these", &[(APPEND, "$word quiet psi=0 lsm=landlock,yama,bpf mitigations=off nokaslr tsc=reliable")]),
    Choice { name: "cache kept", alterations: &[], argv: GIT_FROM_CACHE },
    Choice { name: "cache emptied", alterations: &[], argv: GIT_FROM_DISK },
];

/// A choice that is being measured.
struct Trial<'a> {
    choice: &'a Choice,
    config: PathBuf,
    cold: Vec<f64>,
    warm: Vec<f64>,
    failed: Option<String>,
}

/// Measures all choices and gives the table.
pub(crate) fn run(bed: &Bed) -> Result<String> {
    let cache = bed.cache_without_templates()?;
    let mut trials = CHOICES.iter().map(|choice| begin(bed, choice)).collect::<Result<Vec<_>>>()?;
    let command = |trial: &Trial<'_>, flags: &[&str], argv: &[&str]| -> Command {
        let mut command = bed.run(flags, argv);
        command.env("PYRO_CACHE_DIR", &cache).env("PYRO_CONFIG_DIR", &trial.config).env("PYRO_ACCELERATOR", "tcg");
        command
    };
    for trial in &mut trials {
        eprintln!("making a template of: {} …", trial.choice.name);
        let first = command(trial, &[], trial.choice.argv);
        trial.failed = bed.timed(first).err().map(|error| one_line(&format!("{error:#}")));
    }
    ensure!(trials[0].failed.is_none(), "machines do not start: {}", trials[0].failed.as_deref().unwrap_or_default());
    for round in 0..COLD_SAMPLES.max(WARM_SAMPLES) {
        eprintln!("round {} …", round + 1);
        for trial in trials.iter_mut().filter(|trial| trial.failed.is_none()) {
            if round < COLD_SAMPLES {
                let cold = command(trial, &["--cold"], &["true"]);
                trial.cold.push(bed.timed(cold)?.as_secs_f64() * 1000.0);
            }
            let warm = command(trial, &[], trial.choice.argv);
            trial.warm.push(bed.timed(warm)?.as_secs_f64() * 1000.0);
        }
    }
    table(bed, trials)
}

fn begin<'a>(bed: &Bed, choice: &'a Choice) -> Result<Trial<'a>> {
    let place =
        bed.dir().join(format!("choice-{}", choice.name.replace(|letter: char| !letter.is_alphanumeric(), "-")));
    let qemu = altered::install(&place.join("qemu"), choice.alterations)?;
    std::fs::write(place.join("config.toml"), format!("qemu = \"{}\"\n", qemu.display()))?;
    Ok(Trial { choice, config: place, cold: Vec::new(), warm: Vec::new(), failed: None })
}

fn table(bed: &Bed, trials: Vec<Trial<'_>>) -> Result<String> {
    let mut out = String::new();
    let machine = host::describe(bed)?;
    writeln!(
        out,
        "{}, {} processors, Linux {}; accelerator tcg, QEMU {}, {}, load {}\n\ncold: `run --cold -- true`, warm: `git --version`; \
         medians in ms, and against the first line\n",
        machine.processor, machine.processors, machine.kernel, machine.qemu, machine.pyro, machine.load
    )?;
    writeln!(out, "{:<20} {:>8} {:>8} {:>8} {:>8}", "choice", "cold", "", "warm", "")?;
    let mut first = None;
    for Trial { choice, cold, warm, failed, .. } in trials {
        if let Some(reason) = failed {
            writeln!(out, "{:<20} does not start: {reason}", choice.name)?;
            continue;
        }
        let median = |samples| Figures::new(Unit::Milliseconds, samples).median();
        let (cold, warm) = (median(cold), median(warm));
        let (cold_first, warm_first) = *first.get_or_insert((cold, warm));
        let (cold_ratio, warm_ratio) = (cold / cold_first, warm / warm_first);
        writeln!(out, "{:<20} {cold:>8.0} {cold_ratio:>7.2}x {warm:>8.0} {warm_ratio:>7.2}x", choice.name)?;
    }
    Ok(out)
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join("; ").chars().take(160).collect()
}
