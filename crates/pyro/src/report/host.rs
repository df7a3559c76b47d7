//! The public shapes of what was done to a chat host's configuration, and of what is found in it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::clean::{lines, one_line};
use super::doctor::{Check, check_lines};
use super::{Report, units};

/// What `host install` and `host remove` did, or would do.
#[derive(Debug, Serialize)]
pub(crate) struct HostChangeReport {
    pub(crate) host: &'static str,
    pub(crate) scope: &'static str,
    /// `registered`, `updated`, `unchanged`, `removed` or `absent`.
    pub(crate) outcome: &'static str,
    pub(crate) dry_run: bool,
    /// The configuration files that were changed, or would be.
    pub(crate) changed_files: Vec<PathBuf>,
    /// What the host starts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) command: Vec<String>,
    /// The host's own command that did its part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) own_command: Option<Vec<String>>,
    /// The change as a unified diff.
    pub(crate) diff: String,
    pub(crate) notes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) connection: Option<ConnectionReport>,
    #[serde(skip)]
    pub(crate) title: &'static str,
}

/// Whether the registered command works.
#[derive(Debug, Serialize)]
pub(crate) struct ConnectionReport {
    pub(crate) ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) profile: Option<String>,
    pub(crate) tools: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) answered_ms: Option<u64>,
}

impl ConnectionReport {
    /// In one line, for a person.
    pub(crate) fn words(&self) -> String {
        if let Some(error) = &self.error {
            return one_line(error);
        }
        let word = |text: &Option<String>| one_line(text.as_deref().unwrap_or("?"));
        let took = units::duration(Duration::from_millis(self.answered_ms.unwrap_or_default()));
        let (server, version, profile) = (word(&self.server), word(&self.version), word(&self.profile));
        format!("{server} {version} answers with {} tools ({profile}) after {took}", self.tools.len())
    }
}

impl Report for HostChangeReport {
    fn ok(&self) -> bool {
        self.connection.as_ref().is_none_or(|connection| connection.ok)
    }

    fn text(&self, color: bool) -> String {
        let mut text = String::new();
        if self.dry_run {
            for line in self.diff.lines() {
                let paint = match line.as_bytes().first() {
                    Some(b'+') if color => "\x1b[32m",
                    Some(b'-') if color => "\x1b[31m",
                    _ => "",
                };
                let plain = if paint.is_empty() { "" } else { "\x1b[0m" };
                let _ = writeln!(text, "{paint}{}{plain}", lines(line.as_bytes()));
            }
            if self.diff.is_empty() {
                let _ = writeln!(text, "nothing would change");
            }
            return text;
        }
        let title = self.title;
        let _ = match self.outcome {
            "registered" => writeln!(text, "{title} knows pyro now ({} scope)", self.scope),
            "updated" => writeln!(text, "what {title} knows of pyro was brought up to date ({} scope)", self.scope),
            "unchanged" => writeln!(text, "{title} knows pyro already, nothing was changed ({} scope)", self.scope),
            "removed" => writeln!(text, "{title} does not know pyro any more ({} scope)", self.scope),
            _ => writeln!(text, "{title} did not know pyro, nothing was changed ({} scope)", self.scope),
        };
        for file in &self.changed_files {
            let _ = writeln!(text, "  changed   {}", one_line(&file.to_string_lossy()));
        }
        if let Some(command) = &self.own_command {
            let _ = writeln!(text, "  with      {}", command_line(command));
        }
        if !self.command.is_empty() {
            let _ = writeln!(text, "  command   {}", command_line(&self.command));
        }
        if let Some(connection) = &self.connection {
            let _ = writeln!(text, "  {}  {}", if connection.ok { "answers " } else { "fails   " }, connection.words());
        }
        for note in &self.notes {
            let _ = writeln!(text, "  note      {}", one_line(note));
        }
        text
    }
}

/// What `host print-config` prints.
#[derive(Debug, Serialize)]
pub(crate) struct HostConfigReport {
    pub(crate) host: &'static str,
    pub(crate) command: Vec<String>,
    /// The host's own command that does the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) own_command: Option<Vec<String>>,
    pub(crate) files: Vec<HostConfigFile>,
}

/// What belongs into one file.
#[derive(Debug, Serialize)]
pub(crate) struct HostConfigFile {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

impl Report for HostConfigReport {
    fn text(&self, _: bool) -> String {
        self.files.iter().map(|file| format!("{}\n", file.text.trim_end())).collect()
    }
}

/// What `host status` found.
#[derive(Debug, Serialize)]
pub(crate) struct HostStatusReport {
    pub(crate) hosts: Vec<HostStatus>,
}

/// One host.
#[derive(Debug, Serialize)]
pub(crate) struct HostStatus {
    pub(crate) host: &'static str,
    /// pyro is registered and answers.
    pub(crate) connected: bool,
    /// pyro is registered.
    pub(crate) registered: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) program: Option<PathBuf>,
    pub(crate) entries: Vec<HostEntry>,
    pub(crate) sandbox_only: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) connection: Option<ConnectionReport>,
    pub(crate) checks: Vec<Check>,
}

/// An entry called pyro; the first one is the one that the host heeds.
#[derive(Debug, Serialize)]
pub(crate) struct HostEntry {
    pub(crate) scope: &'static str,
    pub(crate) file: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) command: Option<Vec<String>>,
    pub(crate) enabled: bool,
    pub(crate) this_program: bool,
}

impl Report for HostStatusReport {
    /// What was asked for is connected: the one host, or of all those that know pyro each, and there is one.
    fn ok(&self) -> bool {
        let mut asked = self.hosts.iter().filter(|host| host.registered || self.hosts.len() == 1).peekable();
        asked.peek().is_some() && asked.all(|host| host.connected)
    }

    fn text(&self, color: bool) -> String {
        let blocks: Vec<String> =
            self.hosts.iter().map(|host| format!("{}\n{}", host.host, check_lines(&host.checks, color))).collect();
        blocks.join("\n")
    }
}

/// A command as a person would type it.
pub(crate) fn command_line(words: &[String]) -> String {
    let plain = |word: &str| {
        !word.is_empty() && word.chars().all(|one| one.is_ascii_alphanumeric() || "-_./:=@%+,".contains(one))
    };
    let quoted = words.iter().map(|word| {
        let word = one_line(word);
        if plain(&word) { word } else { format!("'{}'", word.replace('\'', r"'\''")) }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// A path for a person.
pub(crate) fn shown_path(path: &Path) -> String {
    one_line(&path.to_string_lossy())
}
