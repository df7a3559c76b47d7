//! One call of pyro, from its arguments to its end.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::outcome::Outcome;
use crate::running::Running;
use crate::surroundings;

/// How long a call may take when the test names no limit. An emulated guest on a busy machine is slow.
const LIMIT: Duration = Duration::from_secs(120);

/// A call that is being put together.
#[derive(Debug)]
pub struct Pyro {
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) limit: Duration,
    input: Input,
    output: Option<File>,
    through: Vec<String>,
    dir: Option<PathBuf>,
}

/// What the call finds on its standard input.
#[derive(Debug)]
pub(crate) enum Input {
    /// `/dev/null`.
    Nothing,
    /// These bytes, and then the end.
    Bytes(Vec<u8>),
    /// A pipe that stays open and silent.
    Silence,
}

impl Pyro {
    pub(crate) fn new(args: &[&str]) -> Self {
        let args = args.iter().map(|&word| word.to_owned()).collect();
        Self {
            args,
            env: Vec::new(),
            limit: LIMIT,
            input: Input::Nothing,
            output: None,
            through: Vec::new(),
            dir: None,
        }
    }

    /// Further arguments.
    #[must_use]
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|&word| word.to_owned()));
        self
    }

    /// A variable of the environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.into(), value.as_ref().into()));
        self
    }

    /// Bytes on standard input, and then its end.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Input::Bytes(bytes.into());
        self
    }

    /// A standard input that is open and stays silent.
    #[must_use]
    pub fn silent_stdin(mut self) -> Self {
        self.input = Input::Silence;
        self
    }

    /// Standard output goes into this file instead of being kept.
    #[must_use]
    pub fn stdout_to(mut self, file: File) -> Self {
        self.output = Some(file);
        self
    }

    /// Started by this program with these arguments, which end with the call's own words.
    #[must_use]
    pub fn through(mut self, words: &[&str]) -> Self {
        self.through = words.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Started in this directory.
    #[must_use]
    pub fn dir(mut self, dir: &Path) -> Self {
        self.dir = Some(dir.to_owned());
        self
    }

    /// The test fails when the call takes longer.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs it to its end.
    #[track_caller]
    #[must_use]
    pub fn finish(self) -> Outcome {
        self.start().wait()
    }

    /// Starts it.
    #[track_caller]
    #[must_use]
    pub fn start(mut self) -> Running {
        let through: Vec<&str> = self.through.iter().map(String::as_str).collect();
        let mut command = self.command(&through);
        let input = std::mem::replace(&mut self.input, Input::Nothing);
        command.stdin(if matches!(input, Input::Nothing) { Stdio::null() } else { Stdio::piped() });
        command.stdout(self.output.take().map_or_else(Stdio::piped, Stdio::from)).stderr(Stdio::piped());
        Running::start(command, self.args, input, self.limit)
    }

    /// The variable as whoever runs the tests has it.
    pub(crate) fn pass(self, name: &str) -> Self {
        match surroundings::variable(name) {
            Some(value) => self.env(name, value),
            None => self,
        }
    }

    /// The command, started by the program and arguments in `through`, if any.
    #[expect(clippy::disallowed_methods, reason = "the program under test is started here and nowhere else")]
    pub(crate) fn command(&self, through: &[&str]) -> Command {
        let binary = surroundings::pyro_binary().into_os_string();
        let mut words = through.iter().map(OsString::from).chain([binary]).chain(self.args.iter().map(OsString::from));
        let mut command = Command::new(words.next().expect("there is at least the program"));
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        command.args(words).env_clear().envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }
}
