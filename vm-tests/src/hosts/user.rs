//! A person who has a chat host: a home, a project, and the host's own configuration, into which `pyro host install` puts pyro.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::conformance;
use crate::home::Home;
use crate::leftovers;
use crate::pyro::Pyro;
use crate::surroundings;

use super::model::Model;
use super::session::Session;
use super::transcript::Transcript;
use super::{Host, Start};

/// A user; all that is left of them ends with them.
#[derive(Debug)]
pub struct HostUser {
    pub(super) host: Host,
    pub(super) model: Model,
    /// The directory that the host is started in.
    pub project: PathBuf,
    /// Where transcripts and logs go.
    pub artifacts: PathBuf,
    programs: PathBuf,
    // The last field: what is left ends after everything that could still start something.
    home: Home,
}

impl HostUser {
    /// A user with that host and an empty project, who has not heard of pyro.
    ///
    /// # Panics
    /// The hosts were not installed.
    #[must_use]
    pub fn new(host: Host) -> Self {
        let programs = PathBuf::from(conformance::installed("hosts/bin"));
        let search_path = surroundings::search_path();
        let mut dirs = vec![programs.as_path()];
        dirs.extend(search_path.split(':').map(Path::new));
        let home = Home::shared().with_search_path(&dirs);
        let artifacts = surroundings::target_dir().join("smoke-hosts").join(host.name());
        // What an earlier run left there would be taken for this one's.
        drop(std::fs::remove_dir_all(&artifacts));
        let project = home.path().join("project");
        for dir in [&artifacts, &project, &home.path().join(".cache"), &home.path().join(".local/state")] {
            std::fs::create_dir_all(dir).expect("our own directory");
        }
        // Codex passes on of the environment little more than HOME, so this user's cache and state are where they are by default.
        symlink(home.cache(), home.path().join(".cache/pyro")).expect("our own directory");
        symlink(home.path().join("state"), home.path().join(".local/state/pyro")).expect("our own directory");
        let model = Model::start(host.dialect());
        if let Some((name, text)) = host.configuration(&model.url()) {
            let path = home.path().join(name);
            std::fs::create_dir_all(path.parent().expect("it is in a directory")).expect("our own directory");
            std::fs::write(path, text).expect("our own directory");
        }
        Self { host, model, project, artifacts, programs, home }
    }

    /// A call of pyro by this user.
    #[must_use]
    pub fn pyro(&self, args: &[&str]) -> Pyro {
        self.home.pyro(args).env("XDG_CONFIG_HOME", self.home.path().join(".config"))
    }

    /// Runs the host's program to its end.
    #[must_use]
    pub fn host_program(&self, args: &[&str]) -> Output {
        let mut command = self.command();
        command.args(args).stdin(Stdio::null()).output().expect("the host's program starts")
    }

    /// Starts a session without a person.
    #[must_use]
    pub fn session(&self, title: &str, prompt: &str, start: &Start) -> Session<'_> {
        let name = title.replace(' ', "-");
        let file = |end: &str| self.artifacts.join(format!("{name}.{end}"));
        let mut transcript = Transcript::create(&file("md"), &format!("{}: {title}", self.host.name()));
        transcript.note(&format!("The user: {prompt}"));
        Session::start(self, prompt, start, transcript, &file)
    }

    /// What the host is started as: its program, with little of our environment.
    #[expect(clippy::disallowed_methods, reason = "the hosts are started here and nowhere else")]
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(self.programs.join(self.host.program()));
        command.current_dir(&self.project).env_clear();
        command.env("HOME", self.home.path()).env("PATH", self.home.search_path()).env("TERM", "dumb");
        command
            .env("LANG", "C.UTF-8")
            .env("USER", "user")
            .env("SHELL", "/bin/sh")
            .env("TMPDIR", self.home.path().join("tmp"));
        command.env(leftovers::MARK, self.home.path()).envs(self.host.variables(&self.model.url()));
        command
    }

    /// Fails the test if anything of this user's is left after a moment.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        let look = || {
            let mut left = self.home.leftovers();
            // The hosts keep files of their own in the temporary directory.
            left.retain(
                |one| !matches!(one, leftovers::Leftover::File(path) if path.starts_with(self.home.path().join("tmp"))),
            );
            left
        };
        let left = leftovers::settle(Duration::from_secs(10), look);
        assert!(left.is_empty(), "left behind: {left:#?}");
    }
}
