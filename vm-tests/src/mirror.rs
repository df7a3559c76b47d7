//! A user whose only archive is one of tests, served on this machine's loopback.

use std::time::Duration;

use crate::archive::Archive;
use crate::home::Home;
use crate::http::{Fault, Server};
use crate::outcome::Outcome;
use crate::pyro::Pyro;
use crate::running::Running;
use crate::tiny::{self, TINY};

/// A user and the archive that is the only one this user knows. Beside pyro's own catalog there is the environment
/// [`TINY`]. The guest kernel is one that is there already, with no more modules than a boot needs, so that the archive's
/// part is the packages.
#[derive(Debug)]
pub struct Mirror {
    /// The user, who has nothing yet.
    pub home: Home,
    /// Where the archive is served.
    pub server: Server,
    /// The archive.
    pub archive: Archive,
}

impl Mirror {
    /// A user of this archive.
    ///
    /// # Panics
    /// The shared cache has no kernel.
    #[must_use]
    pub fn of(archive: Archive) -> Self {
        let server = Server::start();
        archive.serve(&server, "/debian");
        let home = Home::empty();
        let (keyring, catalog) = (home.path().join("keyring.gpg"), home.path().join("catalog.toml"));
        std::fs::write(&keyring, archive.key.keyring()).expect("our own directory");
        std::fs::write(&catalog, tiny::CATALOG).expect("our own directory");
        let kernel = Home::shared().kernel();
        let config = format!(
            "catalog = \"{}\"\n[kernel]\nimage = \"{}\"\nmodules = \"{}\"\n\
             [debian]\nmirror = \"{}/debian\"\nkeyring = \"{}\"\nsuites = \"release\"\n",
            catalog.display(),
            kernel.display(),
            kernel.with_file_name("init").display(),
            server.url(),
            keyring.display()
        );
        Self { home: home.with_config(&config), server, archive }
    }

    /// A user of an archive that has the smallest system there is.
    #[must_use]
    pub fn tiny() -> Self {
        Self::of(Archive::new("bookworm").with(tiny::package()))
    }

    /// The same, with that system installed.
    #[must_use]
    #[track_caller]
    pub fn with_tiny_installed() -> Self {
        let mirror = Self::tiny();
        mirror.pull(TINY).finish().assert_code(0);
        mirror
    }

    /// `pyro env pull <name>`.
    #[must_use]
    pub fn pull(&self, name: &str) -> Pyro {
        self.home.pyro(&["env", "pull", name])
    }

    /// `pyro run <flags> tiny -- <argv>`.
    #[must_use]
    pub fn run_tiny(&self, flags: &[&str], argv: &[&str]) -> Pyro {
        self.home.pyro(&["run"]).args(flags).args(&[TINY, "--"]).args(argv)
    }

    /// Fails the test if any environment, or anything half-made, is there after this outcome.
    #[track_caller]
    pub fn assert_nothing_installed(&self, outcome: &Outcome) {
        self.home.assert_nothing_left();
        let installed = std::fs::read_dir(self.home.cache().join("environments")).map_or(0, Iterator::count);
        assert_eq!(installed, 0, "half an environment is left after {outcome:?}");
    }

    /// Starts a pull and waits until the archive was asked for this path, which it then does not get for a minute.
    #[must_use]
    #[track_caller]
    pub fn start_and_stall_at(&self, name: &str, path: &str) -> Running {
        self.server.fail(path, Fault::Stall(Duration::from_secs(60)));
        let mut pull = self.pull(name).start();
        while self.server.requests_for(path).is_empty() {
            pull.assert_running();
            std::thread::sleep(Duration::from_millis(20));
        }
        pull
    }

    /// Where the archive keeps the package of this name.
    ///
    /// # Panics
    /// The archive has no such package.
    #[must_use]
    pub fn pool_path(&self, name: &str) -> String {
        let deb = self.archive.debs.iter().find(|deb| deb.name() == name).expect("it is in the archive");
        format!("/debian/{}", deb.pool_path())
    }
}
