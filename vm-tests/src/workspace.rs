//! A workspace of one test's user, driven by the command line.

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

use crate::home::Home;
use crate::outcome::Outcome;
use crate::pyro::Pyro;

/// A workspace. Whatever is left of it ends with its user's home.
#[derive(Debug)]
pub struct Workspace<'a> {
    home: &'a Home,
    /// Its id.
    pub id: String,
}

impl<'a> Workspace<'a> {
    /// Makes one.
    #[track_caller]
    #[must_use]
    pub fn create(home: &'a Home, flags: &[&str]) -> Self {
        let call = home.pyro(&["workspace", "create", crate::DEBIAN, "--id-only"]).args(flags).finish();
        call.assert_code(0);
        let id = call.stdout_text().trim().to_owned();
        assert!(id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "no id in {call:?}");
        crate::guests::count_one();
        Self { home, id }
    }

    /// Makes one that begins with a directory or archive.
    #[track_caller]
    #[must_use]
    pub fn seeded(home: &'a Home, seed: &Path) -> Self {
        Self::create(home, &["--seed-path", seed.to_str().expect("paths of tests are text")])
    }

    /// One that was made in another way.
    #[must_use]
    pub fn known(home: &'a Home, id: &str) -> Self {
        Self { home, id: id.to_owned() }
    }

    /// `pyro workspace <verb> <id> <args>`.
    #[must_use]
    pub fn verb(&self, verb: &str, args: &[&str]) -> Pyro {
        let mut words = vec!["workspace"];
        words.extend(verb.split(' '));
        words.push(&self.id);
        self.home.pyro(&words).args(args)
    }

    /// `pyro workspace exec <id> -- <argv>`.
    #[must_use]
    pub fn exec(&self, argv: &[&str]) -> Pyro {
        self.verb("exec", &["--"]).args(argv)
    }

    /// Runs a shell script in it, which must succeed, and gives what it printed.
    #[track_caller]
    #[must_use]
    pub fn sh(&self, script: &str) -> String {
        let outcome = self.exec(&["sh", "-c", script]).finish();
        outcome.assert_code(0);
        outcome.stdout_text()
    }

    /// What `workspace status --json` tells.
    #[track_caller]
    #[must_use]
    pub fn status(&self) -> serde_json::Value {
        let outcome = self.verb("status", &["--json"]).finish();
        outcome.assert_code(0);
        outcome.json()
    }

    /// Kills one of its processes, by the name that its status has for it.
    #[track_caller]
    pub fn kill(&self, which: &str) {
        let pid = self.status()[which].as_i64().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        kill_process(pid.expect("status tells the process"), Signal::KILL).expect("it is ours");
    }

    /// Removes it, with whatever is in it.
    #[track_caller]
    pub fn delete(self) -> Outcome {
        let outcome = self.verb("delete", &["--force"]).finish();
        outcome.assert_code(0);
        outcome
    }
}
