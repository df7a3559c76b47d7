//! What verbs take that need only a workspace, and how a verb does one thing with it.

use std::process::ExitCode;

use clap::Args;
use pyro_engine::Settings;

use super::super::Face;
use crate::failure::Failure;
use crate::report::Report;
use crate::{interrupt, report};

/// Arguments of a verb that needs only a workspace.
#[derive(Debug, Args)]
pub(crate) struct OneArgs {
    /// Its id, the beginning of it, or its name
    pub(super) workspace: String,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// Does one thing with a workspace and prints what came of it.
pub(super) fn act<R: Report>(
    face: &Face,
    json: bool,
    work: impl AsyncFnOnce(&Settings) -> Result<R, Failure>,
) -> Result<ExitCode, Failure> {
    let settings = face.settings()?;
    let done = interrupt::block_on(work(&settings))?;
    report::print(&done, json, face.color())?;
    Ok(ExitCode::SUCCESS)
}
