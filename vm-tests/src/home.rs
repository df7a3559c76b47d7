//! A user of one test: directories of its own, and a cache that is shared or its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::leftovers::{self, Leftover};
use crate::pyro::Pyro;
use crate::surroundings;

/// How long the host may take to finish what a pyro that is gone had started.
const CLEAN_WITHIN: Duration = Duration::from_secs(5);

/// Directories of one test. Removed at its end, with every process that is left of it.
#[derive(Debug)]
pub struct Home {
    dir: TempDir,
    cache: PathBuf,
    search_path: String,
    starter: Vec<String>,
}

impl Home {
    /// A user whose cache is the one all tests share: the curated environments are installed in it.
    #[must_use]
    pub fn shared() -> Self {
        Self::new(|_| surroundings::shared_cache())
    }

    /// A user who has nothing yet.
    #[must_use]
    pub fn empty() -> Self {
        Self::new(|dir| dir.join("cache"))
    }

    /// A user whose cache has the shared environments, but whose templates and verdict on KVM are still to be made.
    ///
    /// # Panics
    /// The shared cache is not there.
    #[must_use]
    pub fn borrowing() -> Self {
        let home = Self::empty();
        std::fs::create_dir(&home.cache).expect("it is a new directory");
        let shared = surroundings::shared_cache();
        for name in ["environments", "kernels", "blank-disks", "downloads", "lists"] {
            let from = shared.join(name);
            if from.exists() {
                std::os::unix::fs::symlink(from, home.cache.join(name)).expect("it is a new directory");
            }
        }
        home
    }

    fn new(cache: impl Fn(&Path) -> PathBuf) -> Self {
        leftovers::adopt_orphans();
        let mut dir = tempfile::Builder::new().prefix("pyro-test-").tempdir().expect("a temporary directory");
        dir.disable_cleanup(surroundings::keeps_homes());
        for name in ["state", "config", "tmp", "run"] {
            std::fs::create_dir(dir.path().join(name)).expect("it is a new directory");
        }
        let cache = cache(dir.path());
        Self { dir, cache, search_path: surroundings::search_path(), starter: Vec::new() }
    }

    /// The same user with another `PATH`.
    #[must_use]
    pub fn with_search_path(mut self, dirs: &[&Path]) -> Self {
        self.search_path = dirs.iter().map(|dir| dir.to_string_lossy()).collect::<Vec<_>>().join(":");
        self
    }

    /// The same user, whose calls are all started by this program with these arguments.
    #[must_use]
    pub fn started_by(mut self, words: &[&str]) -> Self {
        self.starter = words.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// The same user with this text as configuration file.
    #[must_use]
    pub fn with_config(self, text: &str) -> Self {
        let dir = self.dir.path().join("config/pyro");
        std::fs::create_dir_all(&dir).expect("it is our own directory");
        std::fs::write(dir.join("config.toml"), text).expect("it is our own directory");
        self
    }

    /// The top directory of this user.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The cache directory of this user.
    #[must_use]
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// Where this user's programs are looked for.
    pub(crate) fn search_path(&self) -> &str {
        &self.search_path
    }

    /// A guest kernel of this user's cache.
    ///
    /// # Panics
    /// No environment was ever pulled into it.
    #[must_use]
    pub fn kernel(&self) -> PathBuf {
        let kernels = std::fs::read_dir(self.cache.join("kernels")).into_iter().flatten().flatten();
        let images = kernels.map(|entry| entry.path().join("vmlinuz")).find(|path| path.is_file());
        images.expect("the shared cache has a kernel: run `make test`, or `pyro env pull debian:12`")
    }

    /// One call of pyro by this user, with no standard input.
    #[must_use]
    pub fn pyro(&self, args: &[&str]) -> Pyro {
        let dir = self.dir.path();
        let starter: Vec<&str> = self.starter.iter().map(String::as_str).collect();
        let mut pyro = Pyro::new(args)
            .through(&starter)
            .env("HOME", dir)
            .env("PATH", &self.search_path)
            .env("TMPDIR", dir.join("tmp"))
            .env("XDG_RUNTIME_DIR", dir.join("run"))
            .env("XDG_CONFIG_HOME", dir.join("config"))
            .env("PYRO_STATE_DIR", dir.join("state"))
            .env("PYRO_CACHE_DIR", &self.cache)
            .env(leftovers::MARK, dir);
        for name in ["LANG", "TERM", "http_proxy", "https_proxy", "no_proxy", "PYRO_DEBIAN_MIRROR", "PYRO_ACCELERATOR"]
        {
            pyro = pyro.pass(name);
        }
        pyro
    }

    /// `pyro run <debian> -- <argv>`.
    #[must_use]
    pub fn run(&self, argv: &[&str]) -> Pyro {
        self.pyro(&["run", crate::DEBIAN, "--"]).args(argv)
    }

    /// `pyro run <flags> <debian> -- <argv>`.
    #[must_use]
    pub fn run_with(&self, flags: &[&str], argv: &[&str]) -> Pyro {
        self.pyro(&["run"]).args(flags).args(&[crate::DEBIAN, "--"]).args(argv)
    }

    /// What is left of this user's calls right now: processes, sockets, temporary and state files, staged work.
    #[must_use]
    pub fn leftovers(&self) -> Vec<Leftover> {
        let own_cache = self.cache.starts_with(self.dir.path());
        let mut dirs: Vec<PathBuf> = ["state", "tmp", "run"].iter().map(|name| self.dir.path().join(name)).collect();
        if own_cache {
            dirs.push(self.cache.join("staging"));
        }
        leftovers::find(self.dir.path(), &dirs)
    }

    /// Fails the test if anything is left after a moment.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        let left = leftovers::settle(CLEAN_WITHIN, || self.leftovers());
        assert!(left.is_empty(), "left behind: {left:#?}");
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        leftovers::end(&self.leftovers());
    }
}
