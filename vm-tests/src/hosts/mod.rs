//! The real chat hosts, as programs: each is registered with pyro and started as its user would, on a home of its own, with a
//! model whose words the test says.
//!
//! [`Host`] is what one needs, [`HostUser`] a person who has it, [`Session`] one run of it without a person. What the model is
//! shown goes into a transcript below `target/smoke-hosts/`. Deliberately absent: any network but the loopback, any account.

mod dialect;
mod model;
mod session;
mod transcript;
mod user;

use std::path::Path;
use std::process::Command;

use serde_json::json;

pub use model::Shown;
pub use session::{Ended, Session};
pub use user::HostUser;

use self::dialect::Dialect;

/// A chat host, in one of its ways of working.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// Claude Code, which names tools and loads them when they are asked for.
    ClaudeCode,
    /// Codex with a model that calls functions.
    CodexFunctions,
    /// Codex with a model that writes scripts.
    CodexScripts,
    /// OpenCode.
    Opencode,
}

/// What a session is started with, besides what its host has from its user.
#[derive(Debug, Default)]
pub struct Start {
    /// A call will be given up: by the host's own limit where it has one that holds, or as its user would stop it.
    pub gives_up: bool,
}

/// The limit of a host that gives up, in seconds: there must be time for a command to begin.
const GIVES_UP_SECONDS: u32 = 15;

impl Host {
    /// Its name, for files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ClaudeCode => "claude-code",
            Self::CodexFunctions => "codex-functions",
            Self::CodexScripts => "codex-scripts",
            Self::Opencode => "opencode",
        }
    }

    /// Its name on pyro's command line.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::ClaudeCode => "claude-code",
            Self::CodexFunctions | Self::CodexScripts => "codex",
            Self::Opencode => "opencode",
        }
    }

    /// Whether it tells the model which results are errors.
    #[must_use]
    pub fn tells_errors(self) -> bool {
        matches!(self, Self::ClaudeCode | Self::CodexScripts)
    }

    fn program(self) -> &'static str {
        match self {
            Self::ClaudeCode => "claude",
            Self::CodexFunctions | Self::CodexScripts => "codex",
            Self::Opencode => "opencode",
        }
    }

    fn dialect(self) -> Dialect {
        match self {
            Self::ClaudeCode => Dialect::Messages,
            Self::CodexFunctions | Self::CodexScripts => Dialect::Responses,
            Self::Opencode => Dialect::Chat,
        }
    }

    /// The model that it is told to use: by its name Codex knows how the model calls tools.
    fn model(self) -> &'static str {
        match self {
            Self::ClaudeCode => "sonnet",
            Self::CodexFunctions => "gpt-5.5",
            Self::CodexScripts => "gpt-6.1-sol",
            Self::Opencode => "scripted",
        }
    }

    /// Its variables: where the model is, and that it asks nobody else.
    fn variables(self, model_url: &str) -> Vec<(&'static str, String)> {
        let one = "1".to_owned();
        match self {
            Self::ClaudeCode => vec![
                ("ANTHROPIC_BASE_URL", model_url.to_owned()),
                ("ANTHROPIC_API_KEY", "sk-ant-none".to_owned()),
                ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", one.clone()),
                ("DISABLE_AUTOUPDATER", one.clone()),
                ("DISABLE_TELEMETRY", one.clone()),
                ("DISABLE_ERROR_REPORTING", one),
            ],
            Self::CodexFunctions | Self::CodexScripts => vec![("SCRIPTED_MODEL_KEY", "none".to_owned())],
            Self::Opencode => vec![
                ("OPENCODE_DISABLE_AUTOUPDATE", one.clone()),
                ("OPENCODE_DISABLE_MODELS_FETCH", one.clone()),
                ("OPENCODE_DISABLE_LSP_DOWNLOAD", one.clone()),
                ("OPENCODE_DISABLE_DEFAULT_PLUGINS", one),
            ],
        }
    }

    /// The configuration that its user has before pyro comes, by its path in the home.
    fn configuration(self, model_url: &str) -> Option<(&'static str, String)> {
        match self {
            Self::ClaudeCode => None,
            Self::CodexFunctions | Self::CodexScripts => Some((
                ".codex/config.toml",
                format!(
                    "model = \"{}\"\nmodel_provider = \"scripted\"\ncheck_for_update_on_startup = false\n\n\
                     [analytics]\nenabled = false\n\n[features]\nenable_request_compression = false\n\n\
                     [model_providers.scripted]\nname = \"scripted\"\nbase_url = \"{model_url}/v1\"\n\
                     env_key = \"SCRIPTED_MODEL_KEY\"\nwire_api = \"responses\"\nrequest_max_retries = 0\nstream_max_retries = 0\n",
                    self.model()
                ),
            )),
            Self::Opencode => {
                let model =
                    json!({"name": "Scripted", "tool_call": true, "limit": {"context": 200_000, "output": 8192}});
                let provider = json!({
                    "npm": "@ai-sdk/openai-compatible", "name": "Scripted",
                    "options": {"baseURL": format!("{model_url}/v1"), "apiKey": "none"}, "models": {self.model(): model},
                });
                let whole = json!({
                    "$schema": "https://opencode.ai/config.json", "autoupdate": false, "share": "disabled",
                    "provider": {"scripted": provider},
                });
                Some((".config/opencode/opencode.json", format!("{whole:#}\n")))
            }
        }
    }

    /// The arguments of one run without a person, with the host's own rules about what may be called without asking. Where a
    /// port is told, the work is done by a process that listens there.
    fn arguments(self, prompt: &str, last_words: &Path, port: Option<u16>) -> Vec<String> {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        match self {
            // It asks before every tool of a server, whatever its hints; unattended that is a refusal.
            Self::ClaudeCode => words(&[
                "-p",
                prompt,
                "--output-format",
                "stream-json",
                "--verbose",
                "--model",
                self.model(),
                "--allowedTools",
                "mcp__pyro",
            ]),
            Self::CodexFunctions | Self::CodexScripts => {
                let mut all = words(&["exec", "--json", "--skip-git-repo-check", "-o", &last_words.to_string_lossy()]);
                all.push(prompt.to_owned());
                all
            }
            Self::Opencode => {
                let mut all = words(&["run", "--format", "json", "-m", &format!("scripted/{}", self.model()), prompt]);
                let attach = |port| ["--attach".to_owned(), format!("http://127.0.0.1:{port}")];
                all.extend(port.into_iter().flat_map(attach));
                all
            }
        }
    }

    /// What makes it give calls up early. OpenCode has no limit that our progress would not put off.
    fn limit(self, command: &mut Command) {
        match self {
            Self::ClaudeCode => drop(command.env("MCP_TOOL_TIMEOUT", format!("{GIVES_UP_SECONDS}000"))),
            Self::CodexFunctions | Self::CodexScripts => {
                command.args(["-c", &format!("mcp_servers.pyro.tool_timeout_sec={GIVES_UP_SECONDS}")]);
            }
            Self::Opencode => {}
        }
    }
}
