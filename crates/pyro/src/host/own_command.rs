//! A chat host's own commands: run where they are installed, with a limit, and without their words on our streams.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// Longest wait for a host's own command.
const OWN_COMMAND_LIMIT: Duration = Duration::from_secs(30);

/// Most of what a command says that is passed on, in characters.
const SAID_CHARS_MAX: usize = 300;

/// Runs a host's own command to its end.
///
/// # Errors
/// Why it did not do what it was asked, in words.
pub(super) async fn run(program: &Path, words: &[String], dir: &Path) -> Result<(), String> {
    let mut command = Command::new(program);
    command.args(words).current_dir(dir).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = match tokio::time::timeout(OWN_COMMAND_LIMIT, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err(format!("no answer within {} s", OWN_COMMAND_LIMIT.as_secs())),
    };
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stderr, output.stdout].concat();
    let said: String = String::from_utf8_lossy(&said).trim().chars().take(SAID_CHARS_MAX).collect();
    Err(if said.is_empty() { output.status.to_string() } else { said })
}
