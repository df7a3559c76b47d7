//! `host print-config`: what a chat host's configuration needs, for who writes it by hand.

use std::process::ExitCode;

use clap::Args;

use super::{Face, RegistrationArgs, places};
use crate::failure::Failure;
use crate::host::shown;
use crate::report;
use crate::report::host::{HostConfigFile, HostConfigReport, command_line, shown_path};

/// Arguments of `host print-config`.
#[derive(Debug, Args)]
pub(crate) struct PrintConfigArgs {
    #[command(flatten)]
    registration: RegistrationArgs,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

impl PrintConfigArgs {
    pub(super) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        let wish = self.registration.registration()?;
        let config = shown(&places(face)?, &wish)?;
        let report = HostConfigReport {
            host: wish.host.word(),
            command: config.argv,
            own_command: config.own_command,
            files: config.parts.into_iter().map(|(path, text)| HostConfigFile { path, text }).collect(),
        };
        if !self.json {
            let files: Vec<String> = report.files.iter().map(|file| shown_path(&file.path)).collect();
            face.say(&format!("belongs into {}", files.join(", then ")));
            if let Some(command) = &report.own_command {
                face.say(&format!("or, with its own command: {}", command_line(command)));
            }
        }
        report::print(&report, self.json, face.color())?;
        Ok(ExitCode::SUCCESS)
    }
}
