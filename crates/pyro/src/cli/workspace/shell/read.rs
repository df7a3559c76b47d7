//! `workspace shell read`: what a shell printed, or what is on its screen, at once or when something happened.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use pyro_engine::workspace::shell::plain::PlainText;
use pyro_engine::workspace::shell::{ShellWait, Waited, page, pattern, shell_id};
use pyro_engine::workspace::{Workspace, Workspaces};

use super::super::super::Face;
use crate::failure::{EXIT_REFUSED, EXIT_TIMED_OUT, Failure, Kind};
use crate::report::clean::lines;
use crate::report::shell::{Seen, ShellOutput, Transcript};
use crate::{interrupt, report};

const EXAMPLES: &str = "\
  pyro workspace shell read fix s1                            all that it printed
  pyro workspace shell read fix s1 --cursor 512               what it printed from that byte on
  pyro workspace shell read fix s1 --wait-for '^>>> $'        as soon as this is printed
  pyro workspace shell read fix s1 --wait-for-idle-ms 500     as soon as it printed nothing for so long
  pyro workspace shell read fix s1 --screen                   what a person at its terminal sees

Escapes are passed on as they are only where standard output is no terminal. Whatever is waited for is waited for in
what is printed from the cursor on.

Exit code: 124 when what was waited for did not come in time, 1 when the shell ended before.";

/// Arguments of `workspace shell read`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ReadArgs {
    /// Its id, the beginning of it, or its name
    workspace: String,
    /// The shell, such as s1
    shell: String,
    /// Leave out what it printed before this byte
    #[arg(long, value_name = "BYTE", default_value_t = 0)]
    cursor: u64,
    /// Print no more than this
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(1..=16_777_216))]
    max_chars: u32,
    /// Leave escapes out, and show each line as it was at last
    #[arg(long)]
    plain: bool,
    /// Print what is on the screen
    #[arg(long, conflicts_with_all = ["plain", "max_chars"])]
    screen: bool,
    /// Wait until it has printed nothing for so long
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=600_000))]
    wait_for_idle_ms: Option<u64>,
    /// Wait until this regular expression matches what it printed, without escapes
    #[arg(long, value_name = "REGEX", allow_hyphen_values = true)]
    wait_for: Option<String>,
    /// Wait no longer than this
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout_seconds: u64,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

impl ReadArgs {
    pub(super) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        let settings = face.settings()?;
        let workspaces = Workspaces::new(&settings);
        let shell = shell_id(&self.shell)?;
        let wait = self.wait()?;
        let workspace = workspaces.find(&self.workspace)?;
        let id = workspace.record.id.clone();
        let for_terminal = !self.json && std::io::stdout().is_terminal();
        let (status, waited, screen) = interrupt::block_on(async {
            let (status, waited) = match &wait {
                Some(wait) => {
                    let (status, waited) = workspaces.wait_for_shell(&id, shell, self.cursor, wait).await?;
                    (status, Some(waited))
                }
                None => (workspaces.shell(&id, shell).await?, None),
            };
            let screen = if self.screen { Some(workspaces.shell_screen(&id, shell).await?) } else { None };
            Ok((status, waited, screen))
        })?;
        let code = self.exit_code(waited.as_ref());
        let (seen, bytes) = match screen {
            Some(screen) => {
                let screen = report::shell::Screen::from(screen);
                let text = screen.text().into_bytes();
                (Seen::Screen(screen), text)
            }
            None => self.transcript(&workspace, &status, for_terminal)?,
        };
        let output = ShellOutput::new(id, status, waited, seen);
        if self.json {
            report::print_json(true, &output)?;
        } else {
            report::print_bytes(&bytes)?;
            output.parting_words().iter().for_each(|words| face.say(words));
        }
        Ok(ExitCode::from(code))
    }

    fn wait(&self) -> Result<Option<ShellWait>, Failure> {
        let pattern = self.wait_for.as_deref().map(pattern).transpose().map_err(|error| {
            Failure::new(Kind::Usage, "--wait-for is no regular expression")
                .caused_by(error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: "))
                .hint("escape what is meant literally")
        })?;
        if pattern.is_none() && self.wait_for_idle_ms.is_none() {
            return Ok(None);
        }
        let quiet = self.wait_for_idle_ms.map(Duration::from_millis);
        Ok(Some(ShellWait { pattern, quiet, limit: Duration::from_secs(self.timeout_seconds) }))
    }

    /// What is shown of the transcript, and the bytes for standard output.
    fn transcript(
        &self,
        workspace: &Workspace,
        status: &pyro_engine::supervisor::shell_protocol::ShellStatus,
        for_terminal: bool,
    ) -> Result<(Seen, Vec<u8>), Failure> {
        let part = page(workspace, status, self.cursor, self.max_chars as usize)?;
        let cursor = part.position + part.bytes.len() as u64;
        let bytes = if self.plain || for_terminal {
            let mut plain = PlainText::new(status.record.cols);
            plain.push(&part.bytes);
            plain.text().into_bytes()
        } else {
            part.bytes
        };
        let shown = if for_terminal { lines(&bytes).into_bytes() } else { bytes };
        let output = String::from_utf8_lossy(&shown).into_owned();
        let transcript = Transcript {
            output,
            missing_bytes: Some(part.position.saturating_sub(self.cursor)).filter(|missing| *missing > 0),
            cursor,
            more_bytes: Some(status.printed_bytes.saturating_sub(cursor)).filter(|more| *more > 0),
        };
        Ok((Seen::Transcript(transcript), shown))
    }

    fn exit_code(&self, waited: Option<&Waited>) -> u8 {
        match waited {
            Some(Waited::TimedOut) => EXIT_TIMED_OUT,
            Some(Waited::Ended) if self.wait_for.is_some() => EXIT_REFUSED,
            None | Some(Waited::Matched(_) | Waited::Quiet | Waited::Ended) => 0,
        }
    }
}
