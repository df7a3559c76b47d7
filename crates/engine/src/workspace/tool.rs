//! Calling a tool of the agent: who can, what may go wrong, and how its answer is read.
//!
//! The operations on a workspace's files are written against [`ToolHost`], so that they know nothing of sockets. What a
//! tool answers comes from the guest: it is read strictly, within limits, and its text is cleaned by whoever shows it.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use pyro_wire::tool::FAILED_CODE;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};

use super::looker::Looker;
use crate::store::crossing_record::Crossing;

pub use pyro_wire::exec::{ExecRequest, Program, Word};
pub use pyro_wire::{Exit, Fault, FaultKind, Tool};

/// Most bytes of an answer that is lines of JSON. A guest that keeps to its own limits never comes near it.
pub const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What a call takes its input from.
pub type ToolInput<'a> = &'a mut (dyn AsyncRead + Unpin + Send);

/// Where the answer of a call goes.
pub type ToolOutput<'a> = &'a mut (dyn AsyncWrite + Unpin + Send);

/// Somebody through whom tools of one workspace's agent can be called.
pub trait ToolHost: Sync {
    /// Runs one tool to its end: feeds it `input`, which without one is empty, and passes what it answers to `output`.
    ///
    /// An answer is whole only when this comes back without an error.
    fn call(
        &self,
        tool: Tool,
        input: Option<ToolInput<'_>>,
        output: ToolOutput<'_>,
    ) -> impl Future<Output = Result<(), ToolError>> + Send;

    /// Somebody who looks for the workspace's secrets; none where it has none.
    ///
    /// # Errors
    /// See [`ToolError`].
    fn looker(&self) -> impl Future<Output = Result<Option<Looker>, ToolError>> + Send;

    /// Writes down that something crosses the border between the workspace and the host.
    ///
    /// # Errors
    /// [`ToolError::Record`], or whoever looks for secrets in its words does not answer.
    fn cross(&self, crossing: Crossing) -> impl Future<Output = Result<(), ToolError>> + Send;
}

/// Why a tool has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// The tool refused, or failed.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The tool's process ended in a way no tool ends by itself.
    #[error("the guest's tool was ended: {}", how(*exit))]
    Ended {
        /// How.
        exit: Exit,
    },
    /// It neither takes what it is sent nor answers.
    #[error("the guest's tool has not been heard of for {limit_seconds} s")]
    Silent {
        /// How long it was waited for.
        limit_seconds: u64,
    },
    /// The workspace went away before the answer was whole.
    #[error("the workspace went away before it answered")]
    Lost {
        /// What was seen of it.
        #[source]
        source: io::Error,
    },
    /// What the tool answered is not what such a tool answers.
    #[error("the guest's tool answered something else: {reason}")]
    Garbled {
        /// What is wrong with it.
        reason: String,
    },
    /// The tool answered more than was asked for.
    #[error("the guest's tool answered more than {limit_bytes} bytes")]
    TooLong {
        /// The limit.
        limit_bytes: usize,
    },
    /// What crosses the border of a workspace could not be written down.
    #[error("cannot write down what crosses the border of the workspace")]
    Record {
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The caller's input could not be read.
    #[error("cannot read what is to be sent")]
    Input {
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The caller's output could not be written.
    #[error("cannot write what was received")]
    Output {
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// The command by which the agent runs `tool`.
#[must_use]
pub fn request(tool: Tool, has_input: bool, timeout_ms: Option<u64>) -> ExecRequest {
    ExecRequest {
        program: Program::Tool(Box::new(tool)),
        env: BTreeMap::new(),
        cwd: "/".into(),
        stdin: has_input,
        terminal: None,
        timeout_ms,
        whole: false,
    }
}

/// What the end of a tool's process means. `stderr` is what it wrote there; of it
/// [`pyro_wire::tool::FAULT_BYTES_MAX`] bytes are enough.
///
/// # Errors
/// [`ToolError::Fault`], [`ToolError::Garbled`] or [`ToolError::Ended`].
pub fn conclude(exit: Exit, stderr: &[u8]) -> Result<(), ToolError> {
    match exit {
        Exit::Code(0) => Ok(()),
        Exit::Code(FAILED_CODE) => Err(match serde_json::from_slice(stderr) {
            Ok(fault) => ToolError::Fault(fault),
            Err(_) => ToolError::Garbled { reason: "it failed and did not say why".to_owned() },
        }),
        exit => Err(ToolError::Ended { exit }),
    }
}

/// Calls a tool whose answer fits `limit_bytes`, and waits for all of it.
///
/// # Errors
/// See [`ToolError`].
pub async fn collect(
    host: &impl ToolHost,
    tool: Tool,
    input: Option<ToolInput<'_>>,
    limit_bytes: usize,
) -> Result<Vec<u8>, ToolError> {
    let mut collected = Collected { bytes: Vec::new(), limit_bytes, overflowed: false };
    let result = host.call(tool, input, &mut collected).await;
    if collected.overflowed {
        return Err(ToolError::TooLong { limit_bytes });
    }
    result.map(|()| collected.bytes)
}

/// Reads an answer of lines of JSON.
///
/// # Errors
/// [`ToolError::Garbled`].
pub fn parse_lines<T: DeserializeOwned>(answer: &[u8]) -> Result<Vec<T>, ToolError> {
    let mut lines = Vec::new();
    let mut rest = answer;
    while !rest.is_empty() {
        let (line, after) = parse_line(rest)?;
        lines.push(line);
        rest = after;
    }
    Ok(lines)
}

/// Reads the first line of an answer, and gives what follows it.
///
/// # Errors
/// [`ToolError::Garbled`].
pub fn parse_line<T: DeserializeOwned>(answer: &[u8]) -> Result<(T, &[u8]), ToolError> {
    let end = answer.iter().position(|byte| *byte == b'\n').ok_or_else(|| garbled("a line without an end"))?;
    let line = serde_json::from_slice(&answer[..end]).map_err(|_| garbled("a line that is not of this tool"))?;
    Ok((line, &answer[end + 1..]))
}

/// That an answer is not what its tool answers, and why.
pub fn garbled(reason: &str) -> ToolError {
    ToolError::Garbled { reason: reason.to_owned() }
}

/// A bounded answer in memory.
struct Collected {
    bytes: Vec<u8>,
    limit_bytes: usize,
    overflowed: bool,
}

impl AsyncWrite for Collected {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.len() > self.limit_bytes - self.bytes.len() {
            self.overflowed = true;
            return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()));
        }
        self.bytes.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn how(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("it exited with {code}"),
        Exit::Signal(signal) => format!("signal {signal}"),
        Exit::TimedOut => "it ran past its time".to_owned(),
        Exit::Killed => "it was killed".to_owned(),
    }
}

/// A guest that answers every call with the same words, for tests of what reads them.
#[cfg(test)]
pub(crate) struct CannedHost {
    /// The calls so far, with their input.
    pub(crate) calls: std::sync::Mutex<Vec<(Tool, Vec<u8>)>>,
    /// What each is answered.
    pub(crate) answer: Vec<u8>,
    /// How each ends.
    pub(crate) exit: Exit,
    /// What crossed the border.
    pub(crate) crossed: std::sync::Mutex<Vec<Crossing>>,
    /// The secrets of the workspace.
    pub(crate) secrets: Option<crate::supervisor::secrets::Vault>,
}

#[cfg(test)]
impl CannedHost {
    pub(crate) fn answering(answer: impl Into<Vec<u8>>) -> Self {
        Self {
            calls: std::sync::Mutex::default(),
            answer: answer.into(),
            exit: Exit::Code(0),
            crossed: std::sync::Mutex::default(),
            secrets: None,
        }
    }
}

#[cfg(test)]
impl ToolHost for CannedHost {
    async fn call(&self, tool: Tool, input: Option<ToolInput<'_>>, output: ToolOutput<'_>) -> Result<(), ToolError> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut bytes = Vec::new();
        if let Some(input) = input {
            input.read_to_end(&mut bytes).await.map_err(|source| ToolError::Input { source })?;
        }
        self.calls.lock().unwrap().push((tool, bytes));
        if self.exit == Exit::Code(0) {
            output.write_all(&self.answer).await.map_err(|source| ToolError::Output { source })?;
        }
        conclude(self.exit, &self.answer)
    }

    async fn looker(&self) -> Result<Option<Looker>, ToolError> {
        Ok(self.secrets.clone().map(|vault| Looker::Here { vault, fed: Vec::new() }))
    }

    async fn cross(&self, crossing: Crossing) -> Result<(), ToolError> {
        self.crossed.lock().unwrap().push(crossing);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use pyro_wire::files::List;

    use super::{CannedHost, Exit, FaultKind, Tool, ToolError, collect, conclude, parse_line, parse_lines};

    fn list() -> Tool {
        Tool::List(List { path: "/".into(), recursive: false, entries_max: 1 })
    }

    #[test]
    fn the_end_of_a_process_is_the_end_of_a_tool() {
        assert!(conclude(Exit::Code(0), b"").is_ok());
        let fault = br#"{"kind":"not_found","message":"no /x"}"#;
        assert!(
            matches!(conclude(Exit::Code(1), fault), Err(ToolError::Fault(fault)) if fault.kind == FaultKind::NotFound)
        );
        assert!(matches!(conclude(Exit::Code(1), b"Segmentation fault"), Err(ToolError::Garbled { .. })));
        assert!(matches!(conclude(Exit::Signal(9), fault), Err(ToolError::Ended { exit: Exit::Signal(9) })));
        assert!(matches!(conclude(Exit::Code(2), fault), Err(ToolError::Ended { .. })));
    }

    #[tokio::test]
    async fn an_answer_has_a_limit() {
        let host = CannedHost::answering("12345");
        assert_eq!(collect(&host, list(), None, 5).await.unwrap(), b"12345");
        assert!(matches!(collect(&host, list(), None, 4).await, Err(ToolError::TooLong { limit_bytes: 4 })));
    }

    proptest! {
        #[test]
        fn no_answer_makes_its_reader_panic(answer in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(parse_lines::<pyro_wire::search::SearchLine>(&answer));
            drop(parse_lines::<pyro_wire::files::ListLine>(&answer));
            drop(parse_line::<pyro_wire::files::ReadHead>(&answer));
        }
    }

    #[test]
    fn lines_are_read_to_the_last_byte() {
        assert_eq!(parse_lines::<u8>(b"1\n2\n").unwrap(), [1, 2]);
        assert_eq!(parse_line::<u8>(b"1\nraw").unwrap(), (1, &b"raw"[..]));
        assert!(matches!(parse_lines::<u8>(b"1\n2"), Err(ToolError::Garbled { .. })));
        assert!(matches!(parse_lines::<u8>(b"1\nx\n"), Err(ToolError::Garbled { .. })));
    }
}
