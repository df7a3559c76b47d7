//! The place everything is measured in: the program, a cache whose environments are the user's own but whose templates
//! are not, and a state directory that is thrown away.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

/// The environment everything is measured in.
pub(crate) const ENVIRONMENT: &str = "debian:12";

/// See the module.
pub(crate) struct Bed {
    /// How many samples a row takes.
    pub(crate) samples: usize,
    pyro: PathBuf,
    user_cache: PathBuf,
    dir: TempDir,
}

impl Bed {
    /// Finds the program and makes sure that it runs in the environment, warm.
    pub(crate) fn make(samples: usize) -> Result<Self> {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("bench lies in the repository");
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| top.join("target"), |dir| top.join(dir));
        let pyro = std::env::var_os("PYRO_BIN").map_or_else(|| target.join("release/pyro"), PathBuf::from);
        ensure!(pyro.is_file(), "{} is not there: run `cargo build --release -p pyro` first", pyro.display());
        let dir = tempfile::Builder::new().prefix("pyro-bench-").tempdir()?;
        let bed = Self { samples, pyro, user_cache: user_cache()?, dir };
        // The first run makes the template, or says what is missing.
        bed.timed(bed.run(&[], &["true"])).with_context(|| format!("{ENVIRONMENT} must be installed and run"))?;
        Ok(bed)
    }

    /// A call of pyro with the user's own cache.
    pub(crate) fn pyro(&self) -> Command {
        let mut command = Command::new(&self.pyro);
        command.env("PYRO_STATE_DIR", self.dir.path().join("state")).env("PYRO_CACHE_DIR", &self.user_cache);
        command
    }

    /// `pyro run <flags> debian:12 -- <argv>`.
    pub(crate) fn run(&self, flags: &[&str], argv: &[&str]) -> Command {
        let mut command = self.pyro();
        command.args(["run", "--timeout-seconds", "120"]).args(flags).args([ENVIRONMENT, "--"]).args(argv);
        command
    }

    /// A cache that has the user's environments and no templates. Made anew at each call.
    pub(crate) fn cache_without_templates(&self) -> Result<PathBuf> {
        let cache = self.dir.path().join("cache");
        if cache.exists() {
            std::fs::remove_dir_all(&cache).with_context(|| format!("cannot remove {}", cache.display()))?;
        }
        std::fs::create_dir(&cache)?;
        for entry in std::fs::read_dir(&self.user_cache)? {
            let entry = entry?;
            if entry.file_name() != "templates" && entry.file_name() != "staging" && entry.file_name() != "locks" {
                std::os::unix::fs::symlink(entry.path(), cache.join(entry.file_name()))?;
            }
        }
        Ok(cache)
    }

    /// The user's own cache.
    pub(crate) fn user_cache(&self) -> &Path {
        &self.user_cache
    }

    /// A directory for what the rivals need.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// How long the command takes; it must end well.
    pub(crate) fn timed(&self, mut command: Command) -> Result<Duration> {
        let started = Instant::now();
        let output = command.stdin(Stdio::null()).output();
        let elapsed = started.elapsed();
        ended_well(&output.context("it does not start")?)?;
        Ok(elapsed)
    }
}

/// Fails, with what it said, unless a command ended well.
pub(crate) fn ended_well(output: &Output) -> Result<()> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "a measured command failed with {}: {}", output.status, stderr.trim());
    Ok(())
}

fn user_cache() -> Result<PathBuf> {
    let from = |name: &str| std::env::var_os(name).map(PathBuf::from);
    from("PYRO_CACHE_DIR")
        .or_else(|| from("XDG_CACHE_HOME").map(|dir| dir.join("pyro")))
        .or_else(|| from("HOME").map(|dir| dir.join(".cache/pyro")))
        .context("HOME is not set")
}
