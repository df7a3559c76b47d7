//! Chat hosts and their own configuration: pyro is put into it, seen in it, and taken out of it, and all else in it stays
//! as its user wrote it.
//!
//! A host is data ([`Recipe`]): where its files are, how an entry looks, what its own command for it is called. What is done
//! with that is the same for all: [`registration`] plans and carries out, [`connection`] speaks to what is registered.
//!
//! Deliberately absent: words for people, which are in `report/host.rs`, and anything that a chat host's model could reach.

mod change;
mod claude_code;
mod codex;
mod connection;
mod document;
mod file;
mod opencode;
mod own_command;
mod registration;
mod status;

use std::io;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use pyro_engine::store::home::Home;
use pyro_engine::store::lock::LockError;
use serde_json::Value;

use crate::settings::ChatHostDirs;

use self::change::Edit;
pub(crate) use self::connection::{Answered, Unanswered};
use self::file::ConfigFile;
pub(crate) use self::registration::{Outcome, Registration, install, remove, shown};
pub(crate) use self::status::{EntryFound, HostFound, look};

/// What pyro is called in the configuration of a host, and so in the names of its tools.
pub(crate) const SERVER_NAME: &str = "pyro";

/// A chat host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ChatHost {
    /// Anthropic's Claude Code
    ClaudeCode,
    /// OpenAI's Codex CLI
    Codex,
    /// OpenCode
    Opencode,
}

/// Whose configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scope {
    /// Yours, for all your projects
    #[default]
    User,
    /// That of the project in the working directory, for all who work on it
    Project,
    /// Claude Code has a third one: yours, for this project. pyro looks at it, but puts nothing there.
    #[value(skip)]
    Local,
}

/// Why a configuration was not changed, or not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostError {
    /// Nothing says where the configuration is.
    #[error("HOME is not set, so {title} has no place for its configuration")]
    NoHome { title: &'static str },
    /// The file is there but cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    /// The file is not in its language.
    #[error("{}, line {line}: {reason}", path.display())]
    Syntax { path: PathBuf, line: usize, reason: String },
    /// A value is in the way.
    #[error("'{key}' in {} is not {expected}", path.display())]
    Blocked { path: PathBuf, key: String, expected: &'static str },
    /// The name is taken by something else.
    #[error("{} has another server that is called {SERVER_NAME}", path.display())]
    Foreign { path: PathBuf },
    /// Somebody else wrote to the file.
    #[error("{} was changed by another program just now", path.display())]
    ChangedMeanwhile { path: PathBuf },
    /// The file cannot be written.
    #[error("cannot write {}", path.display())]
    Unwritable { path: PathBuf, source: io::Error },
    /// What is needed to take a change back cannot be read or written.
    #[error("cannot keep the record of what was changed, {}", path.display())]
    Record { path: PathBuf, source: io::Error },
    /// The lock of the records.
    #[error(transparent)]
    Lock(LockError),
    /// The running program does not know where it is.
    #[error("cannot find out where this program is")]
    OwnPath { source: io::Error },
    /// A directory that was to be allowed.
    #[error("{} cannot be allowed", path.display())]
    BadDirectory { path: PathBuf, source: io::Error },
    /// The file of a secret is none.
    #[error("cannot read the secret in {}", path.display())]
    BadSecretFile { path: PathBuf, source: io::Error },
    /// A path that a configuration cannot hold.
    #[error("{} is no UTF-8, which configurations are written in", path.display())]
    NotText { path: PathBuf },
}

/// Where things are.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// Directories of chat hosts, from the environment.
    pub(crate) dirs: ChatHostDirs,
    /// The working directory.
    pub(crate) project: PathBuf,
    /// Where programs are looked for.
    pub(crate) path_dirs: Vec<PathBuf>,
    /// pyro's own files.
    pub(crate) home: Home,
}

/// What pyro knows of a host.
#[derive(Debug)]
struct Recipe {
    title: &'static str,
    program: &'static str,
    /// Its name at npm.
    package: &'static str,
    servers: ConfigFile,
    /// The keys that lead to the table of servers.
    table: Vec<String>,
    form: CommandForm,
    /// What an entry has besides its command.
    fixed: Vec<(&'static str, Value)>,
    /// The words of its own command that adds a server; the server's command follows.
    own_add: Option<Vec<&'static str>>,
    /// The words of its own command that removes it.
    own_remove: Option<Vec<&'static str>>,
    /// What takes its own tools away.
    restrictions: Vec<(ConfigFile, Edit)>,
    taken: &'static str,
    kept: &'static str,
    hint: &'static str,
    /// Its servers get the host's whole environment, not only a few variables.
    passes_environment: bool,
}

/// How an entry names its command.
#[derive(Debug, Clone, Copy)]
enum CommandForm {
    /// `command`, a word, and `args`, a list.
    Split,
    /// `command`, a list.
    Joined,
}

impl ChatHost {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::ClaudeCode, Self::Codex, Self::Opencode];

    /// Its name on pyro's command line.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::ClaudeCode => "claude-code",
            Self::Codex => "codex",
            Self::Opencode => "opencode",
        }
    }

    fn recipe(self, places: &Places, scope: Scope) -> Result<Recipe, HostError> {
        match self {
            Self::ClaudeCode => claude_code::recipe(places, scope),
            Self::Codex => codex::recipe(places, scope),
            Self::Opencode => opencode::recipe(places, scope),
        }
    }

    /// Whose configurations it reads, the one that wins first.
    fn scopes(self) -> &'static [Scope] {
        match self {
            Self::ClaudeCode => &[Scope::Local, Scope::Project, Scope::User],
            Self::Codex | Self::Opencode => &[Scope::Project, Scope::User],
        }
    }
}

impl Scope {
    /// Its name.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Project => "project",
            Self::Local => "local",
        }
    }
}

impl Places {
    fn claude_dir(&self) -> Result<PathBuf, HostError> {
        self.under("Claude Code", self.dirs.claude.as_ref(), ".claude")
    }

    /// Where Claude Code keeps its servers: beside its directory, unless that was moved.
    fn claude_json(&self) -> Result<PathBuf, HostError> {
        match &self.dirs.claude {
            Some(moved) => Ok(moved.join(".claude.json")),
            None => self.under("Claude Code", None, ".claude.json"),
        }
    }

    fn codex_dir(&self) -> Result<PathBuf, HostError> {
        self.under("Codex", self.dirs.codex.as_ref(), ".codex")
    }

    fn config_dir(&self) -> Result<PathBuf, HostError> {
        self.under("OpenCode", self.dirs.config.as_ref(), ".config")
    }

    fn under(&self, title: &'static str, moved: Option<&PathBuf>, name: &str) -> Result<PathBuf, HostError> {
        if let Some(moved) = moved {
            return Ok(moved.clone());
        }
        self.dirs.home.as_ref().map(|home| home.join(name)).ok_or(HostError::NoHome { title })
    }

    /// Where a program of this name is.
    fn find_program(&self, name: &str) -> Option<PathBuf> {
        self.path_dirs.iter().map(|dir| dir.join(name)).find(|path| is_program(path))
    }
}

impl CommandForm {
    /// The fields of an entry that name the command.
    fn fields(self, argv: &[String]) -> Vec<(&'static str, Value)> {
        let (program, arguments) = argv.split_first().expect("a command has a program");
        match self {
            Self::Split => vec![("command", program.as_str().into()), ("args", arguments.into())],
            Self::Joined => vec![("command", argv.into())],
        }
    }

    /// The command of an entry, if it is one that runs a program.
    fn argv(self, entry: &Value) -> Option<Vec<String>> {
        let list = |value: &Value| -> Option<Vec<String>> {
            value.as_array()?.iter().map(|word| word.as_str().map(str::to_owned)).collect()
        };
        let argv = match self {
            Self::Joined => list(entry.get("command")?)?,
            Self::Split => {
                let mut argv = vec![entry.get("command")?.as_str()?.to_owned()];
                argv.extend(entry.get("args").map_or(Some(Vec::new()), list)?);
                argv
            }
        };
        (!argv.is_empty()).then_some(argv)
    }
}

fn is_program(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

fn keys(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
