//! Waiting for something in a shell: that it says something, that it is quiet, that it ends.

use std::io;
use std::time::{Duration, Instant};

use regex::{Regex, RegexBuilder};

use super::plain::PlainText;
use super::transcript;
use crate::store::shell_record::ShellId;
use crate::supervisor::shell_protocol::{ShellStatus, WATCH_MS_MAX};
use crate::workspace::{Workspace, WorkspaceError, Workspaces};

/// Most memory in bytes that a pattern may take when it is compiled, and again while it is looked for.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// Bytes of text before the line that is being printed in which a pattern is looked for.
const WINDOW_BYTES_MAX: usize = 64 * 1024;

/// Bytes of a transcript that are looked at at a time.
const READ_BYTES: usize = 64 * 1024;

/// How long it is looked for in what was printed before the waiting began, however short the wait.
const LOOK_AT_LEAST: Duration = Duration::from_secs(5);

/// How often at most something new is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What is waited for; the first that comes true counts.
#[derive(Debug, Clone)]
pub struct ShellWait {
    /// This appears in the plain text of what it prints.
    pub pattern: Option<Regex>,
    /// It has not printed for so long, since the waiting began.
    pub quiet: Option<Duration>,
    /// It is waited for no longer than this.
    pub limit: Duration,
}

/// What came of the waiting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waited {
    /// The pattern appeared: what it matched.
    Matched(String),
    /// It was quiet.
    Quiet,
    /// It ended.
    Ended,
    /// The time was over.
    TimedOut,
}

/// Reads a pattern. `^` and `$` mean the ends of lines; the line that is being printed ends where it is.
///
/// # Errors
/// It is none, or too large.
pub fn pattern(text: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(text).multi_line(true).size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_BYTES_MAX).build()
}

impl Workspaces<'_> {
    /// Waits, reading what a shell prints from `cursor` on.
    ///
    /// # Errors
    /// There is no such shell, or it cannot be read.
    pub async fn wait_for_shell(
        &self,
        workspace: &str,
        shell: ShellId,
        cursor: u64,
        wait: &ShellWait,
    ) -> Result<(ShellStatus, Waited), WorkspaceError> {
        let begun = Instant::now();
        let found = self.find(workspace)?;
        let mut status = self.shell(workspace, shell).await?;
        let mut search = wait.pattern.clone().map(|pattern| Search {
            workspace: found,
            shell,
            pattern,
            text: PlainText::new(status.record.cols),
            position: cursor,
            until: begun + wait.limit.max(LOOK_AT_LEAST),
        });
        loop {
            if let Some(looking) = search.take() {
                let (looked, matched) = looking.look_aside().await?;
                if let Some(matched) = matched {
                    // What matched was printed, also if that was later than it was last asked.
                    status.printed_bytes = status.printed_bytes.max(looked.position);
                    return Ok((status, Waited::Matched(matched)));
                }
                search = Some(looked);
            }
            if status.record.end.is_some() {
                return Ok((status, Waited::Ended));
            }
            let elapsed = begun.elapsed();
            let quiet = Duration::from_millis(status.quiet_ms).min(elapsed);
            if wait.quiet.is_some_and(|enough| quiet >= enough) {
                return Ok((status, Waited::Quiet));
            }
            if elapsed >= wait.limit {
                return Ok((status, Waited::TimedOut));
            }
            let until_quiet = wait.quiet.map_or(Duration::MAX, |enough| enough.saturating_sub(quiet));
            let pause = (wait.limit - elapsed).min(until_quiet).min(Duration::from_millis(WATCH_MS_MAX));
            tokio::time::sleep(LOOK_EVERY.min(pause)).await;
            status = self.watch(workspace, shell, status.printed_bytes, pause).await?;
        }
    }
}

/// Looks for a pattern in what a shell prints.
struct Search {
    workspace: Workspace,
    shell: ShellId,
    pattern: Regex,
    text: PlainText,
    position: u64,
    until: Instant,
}

impl Search {
    /// Looks through what was printed since it looked last, on a thread that nobody waits for: there may be much of it, and a
    /// pattern may take its time.
    async fn look_aside(mut self) -> Result<(Self, Option<String>), WorkspaceError> {
        let path = self.workspace.dir.shell(self.shell);
        let looking = tokio::task::spawn_blocking(move || self.look().map(|matched| (self, matched)));
        let stopped = |error| WorkspaceError::File { what: "read", path, source: io::Error::other(error) };
        looking.await.map_err(stopped)?
    }

    fn look(&mut self) -> Result<Option<String>, WorkspaceError> {
        while Instant::now() < self.until {
            let part = transcript(&self.workspace, self.shell, self.position, READ_BYTES)?;
            if part.bytes.is_empty() {
                break;
            }
            self.position = part.position + part.bytes.len() as u64;
            self.text.push(&part.bytes);
            if let Some(found) = self.pattern.find(&self.text.text()) {
                return Ok(Some(found.as_str().to_owned()));
            }
            self.text.forget_beyond(WINDOW_BYTES_MAX);
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::pattern;

    #[test]
    fn a_pattern_is_bounded_and_knows_lines() {
        assert!(pattern("^>>> $").unwrap().is_match("x = 1\n>>> "));
        assert!(!pattern("^>>> $").unwrap().is_match(">>> x"));
        assert!(pattern("(").is_err() && pattern("(x{1000}){1000}").is_err());
    }
}
